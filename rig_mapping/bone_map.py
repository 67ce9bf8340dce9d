"""Which bones of a rig make up which segment of the body: shipped presets, users' own, and their files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

from ..core.errors import FileFormatError, OutputError, RigError
from ..core.output_files import ELSEWHERE, written_whole
from ..core.outside_text import is_number, text_within
from ..core.segments import SEGMENT_NAMES
from .bone_names import normalised_name, spelled_through, without_common_prefix
from .own_maps import user_folder
from .rest_pose import RestPose

BONE_MAP_FORMAT = 2
MAX_BONE_MAP_BYTES = 1 << 20
PRESET_FOLDER = Path(__file__).parent / "presets"
IK_LIMBS = ("l_hand", "r_hand", "l_foot", "r_foot")
_KEYS_OF_FORMAT = {
    1: {"format", "name", "about", "bones"},
    2: {"format", "name", "about", "bones", "twist", "root", "controls"},
}
# Names under which a map can be saved on every system, and which --map can't take for something else.
_SAVABLE_NAME = re.compile(r"[^\W_][\w .\-]{0,63}(?<![ .])")
_NO_FILE_NAMES = {"auto", "con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


@dataclass(frozen=True)
class Switch:
    """A custom property of a control bone that says whether a limb follows its FK or its IK controls."""

    bone: str
    property: str
    fk: float
    ik: float


@dataclass(frozen=True)
class Setting:
    """A custom property of a control bone that must have this value for the keys to mean what they should."""

    bone: str
    property: str
    value: float


@dataclass(frozen=True)
class IkControl:
    """What places a hand or foot; the pole that its elbow or knee points to; what bends its toes."""

    bone: str
    pole: str | None = None
    toe: str | None = None

    @property
    def names(self) -> list[str]:
        """The bones that it has."""
        return [name for name in (self.bone, self.pole, self.toe) if name is not None]


@dataclass(frozen=True, eq=False)
class Controls:
    """What a control rig has besides its FK controls. ``ik``: keys are l_hand, r_hand, l_foot, r_foot."""

    switches: tuple[Switch, ...] = ()
    settings: tuple[Setting, ...] = ()
    ik: dict[str, IkControl] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class BoneMap:
    """Segment of the body -> the bones that turn with it, the one nearest the pelvis first.

    name:      what ``--map`` calls it: the preset's name, or the file's
    title:     what a person calls the rig
    bones:     keys are names of ``core.segments.SEGMENT_NAMES``; a segment without bones is left out
    twist:     segment -> bones beside its chain that take up a part of its twist, such as ``lowerarm_twist_01_l``
    root:      bone on the floor that carries everything, when the rig has one
    controls:  switches and IK controls of a control rig; None for a rig whose bones are keyed themselves
    is_preset: a preset's names may be written differently in the rig, and bones that it lacks are passed over
    format:    version of the file format
    """

    name: str
    title: str
    bones: dict[str, tuple[str, ...]]
    is_preset: bool = False
    format: int = BONE_MAP_FORMAT
    twist: dict[str, tuple[str, ...]] = field(default_factory=dict)
    root: str | None = None
    controls: Controls | None = None

    def bound_to(self, rest: RestPose) -> BoneMap:
        """The same map with the bone names that ``rest`` has.

        Raises RigError when a user's own map names a bone that is not there.
        """
        if not self.is_preset:
            if missing := [bone for bone in self._every_name() if bone not in set(rest.names)]:
                raise RigError(
                    f"The bone map '{self.name}' names bones that '{rest.name}' does not have: {_listed(missing)}. "
                    "Correct the names in the map, or give the map of this rig with --map."
                )
            return self
        named = _name_finder(rest.names, self._every_name())
        return replace(
            self,
            bones=_bound_chains(self.bones, named),
            twist=_bound_chains(self.twist, named),
            root=named(self.root) if self.root else None,
            controls=_bound_controls(self.controls, named) if self.controls else None,
        )

    def _every_name(self) -> list[str]:
        """Each bone that the map speaks of, once."""
        names = [bone for chains in (self.bones, self.twist) for chain in chains.values() for bone in chain]
        if self.root:
            names.append(self.root)
        if self.controls:
            names += [switch.bone for switch in self.controls.switches]
            names += [setting.bone for setting in self.controls.settings]
            for control in self.controls.ik.values():
                names += control.names
        return list(dict.fromkeys(names))


def _name_finder(names: tuple[str, ...], wanted: Iterable[str]) -> Callable[[str], str | None]:
    """How a rig of bones ``names`` spells a name: exactly so, written differently, or behind a prefix of its own."""
    spellings: list[Callable[[str], str]] = [lambda bone: bone, normalised_name, spelled_through]
    ways = [(spell, {spell(bone): bone for bone in reversed(names)}) for spell in spellings]
    bare, bare_wanted = without_common_prefix(names), without_common_prefix(wanted)
    if any(bare[bone] != bone for bone in names):
        behind = {normalised_name(bare[bone]): bone for bone in reversed(names)}
        ways.append((normalised_name, behind))
        ways.append((lambda bone: normalised_name(bare_wanted.get(bone, bone)), behind))

    def find(bone: str) -> str | None:
        return next((table[spell(bone)] for spell, table in ways if spell(bone) in table), None)

    return find


def _bound_chains(chains: dict[str, tuple[str, ...]], named: Callable[[str], str | None]) -> dict[str, tuple[str, ...]]:
    bound = {}
    for segment, chain in chains.items():
        if found := tuple(dict.fromkeys(name for name in map(named, chain) if name)):
            bound[segment] = found
    return bound


def _bound_controls(controls: Controls, named: Callable[[str], str | None]) -> Controls | None:
    """The controls that the rig has; None when it has none of them."""
    bound = Controls(
        tuple(replace(switch, bone=bone) for switch in controls.switches if (bone := named(switch.bone))),
        tuple(replace(setting, bone=bone) for setting in controls.settings if (bone := named(setting.bone))),
        {
            limb: IkControl(
                bone,
                named(control.pole) if control.pole else None,
                named(control.toe) if control.toe else None,
            )
            for limb, control in controls.ik.items()
            if (bone := named(control.bone))
        },
    )
    return bound if bound.switches or bound.settings or bound.ik else None


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def shipped_names() -> list[str]:
    """Names of the shipped bone maps, which are never written to."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.json"))


def preset_names() -> list[str]:
    """Names of all bone maps at hand: the shipped ones and the user's own that can be read."""
    own, _ = _own_maps()
    return sorted({*shipped_names(), *own})


def unreadable_maps() -> list[str]:
    """What is wrong with each of the user's own saved maps that can't be read."""
    return _own_maps()[1]


def _own_maps() -> tuple[dict[str, BoneMap], list[str]]:
    folder = user_folder()
    maps: dict[str, BoneMap] = {}
    problems = []
    if folder is not None and folder.is_dir():
        for path in sorted(folder.glob("*.json")):
            try:
                maps[path.stem] = _parsed(path, is_preset=True)
            except FileFormatError as problem:
                # One bad file must not take all other maps along.
                problems.append(str(problem))
    return maps, problems


def bone_maps() -> list[BoneMap]:
    """All bone maps at hand, by name; users' own win over shipped namesakes."""
    maps = {name: _parsed(PRESET_FOLDER / f"{name}.json", is_preset=True) for name in shipped_names()}
    maps.update(_own_maps()[0])
    return [maps[name] for name in sorted(maps)]


def load_bone_map(name_or_path: str) -> BoneMap:
    """A preset or a user's saved map by name, or a file by path.

    Raises FileFormatError when the file is not a bone map, RigError when there is no such preset or file.
    """
    folder = user_folder()
    own = folder / f"{name_or_path}.json" if folder is not None else None
    if own is not None and _SAVABLE_NAME.fullmatch(name_or_path) and own.is_file():
        return _parsed(own, is_preset=True)
    if name_or_path in shipped_names():
        return _parsed(PRESET_FOLDER / f"{name_or_path}.json", is_preset=True)
    path = Path(name_or_path)
    if not path.is_file():
        raise RigError(
            f"There is no bone map '{name_or_path}'. Give the path of a JSON file, 'auto', or one of: "
            f"{', '.join(preset_names())}."
        )
    return _parsed(path, is_preset=False)


def save_bone_map(name: str, bone_map: BoneMap) -> Path:
    """Keep a map under ``name`` in the user's folder, for --map and for recognising rigs; return its file.

    Raises OutputError when the name is that of a shipped map, can't be one, or nothing can be written.
    """
    path = own_map_file(name)
    write_bone_map(path, bone_map, advice="Set KEYLIFT_DATA to a folder that can be written.")
    return path


def own_map_file(name: str) -> Path:
    """The file that ``save_bone_map`` writes. Raises OutputError when ``name`` can't be that of a user's own map."""
    if not _SAVABLE_NAME.fullmatch(name) or name.casefold() in _NO_FILE_NAMES or name.casefold().endswith(".json"):
        raise OutputError(
            f"'{name}' can't be the name of a bone map. Use up to 64 letters, digits, spaces, points, dashes and "
            "underscores, beginning with a letter or digit."
        )
    if name.casefold() in {shipped.casefold() for shipped in shipped_names()}:
        raise OutputError(f"'{name}' is a bone map that comes with Keylift and stays as it is. Choose another name.")
    folder = user_folder()
    if folder is None:
        raise OutputError(
            f"There is no folder for bone maps of your own here. Set KEYLIFT_DATA to one to save '{name}'."
        )
    return folder / f"{name}.json"


def write_bone_map(path: Path, bone_map: BoneMap, advice: str = ELSEWHERE) -> None:
    """Write a map as a file of the current format, whole or not at all.

    advice: what to do when ``path`` can't be written
    """
    table: dict[str, Any] = {"format": BONE_MAP_FORMAT, "name": bone_map.title}
    table["bones"] = {segment: list(bone_map.bones[segment]) for segment in SEGMENT_NAMES if segment in bone_map.bones}
    if bone_map.twist:
        table["twist"] = {s: list(bone_map.twist[s]) for s in SEGMENT_NAMES if s in bone_map.twist}
    if bone_map.root:
        table["root"] = bone_map.root
    if bone_map.controls:
        controls = bone_map.controls
        table["controls"] = {
            "switches": [{"bone": s.bone, "property": s.property, "fk": s.fk, "ik": s.ik} for s in controls.switches],
            "settings": [{"bone": s.bone, "property": s.property, "value": s.value} for s in controls.settings],
            "ik": {
                limb: {key: name for key, name in asdict(control).items() if name is not None}
                for limb, control in controls.ik.items()
            },
        }
    with written_whole(path, advice) as beside:
        beside.write_text(_readable_json(table) + "\n", encoding="utf-8")


def _readable_json(value: Any, indent: str = "") -> str:
    """JSON as a person writes a map: a line for each segment."""
    if isinstance(value, dict) and any(isinstance(inner, (dict, list)) for inner in value.values()):
        lines = [
            f"{indent}  {json.dumps(key, ensure_ascii=False)}: {_readable_json(inner, indent + '  ')}"
            for key, inner in value.items()
        ]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(inner, (dict, list)) for inner in value):
        return (
            "[\n" + ",\n".join(f"{indent}  {_readable_json(inner, indent + '  ')}" for inner in value) + f"\n{indent}]"
        )
    return json.dumps(value, ensure_ascii=False)


def _parsed(path: Path, is_preset: bool) -> BoneMap:
    try:
        text = text_within(path, MAX_BONE_MAP_BYTES, "utf-8-sig")
        table = json.loads(text, object_pairs_hook=_without_doubles)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as problem:
        _refuse(path, f"can't be read: {problem}", problem)
    if not isinstance(table, dict):
        _refuse(path, "must be a JSON object")
    version = table.get("format")
    if type(version) is not int or version not in _KEYS_OF_FORMAT:
        _refuse(path, f"has format {version!r}; this Keylift reads formats 1 to {BONE_MAP_FORMAT}")
    known = _KEYS_OF_FORMAT[version]
    if newer := sorted((set(table) - known) & _KEYS_OF_FORMAT[BONE_MAP_FORMAT]):
        _refuse(path, f'has keys of a newer format: {", ".join(newer)}; write "format": {BONE_MAP_FORMAT}')
    if unknown := sorted(set(table) - known):
        _refuse(path, f"has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    if not isinstance(table.get("bones"), dict) or not table["bones"]:
        _refuse(path, "needs 'bones': an object of segments and their bones")
    bones, twist = _chains(path, table["bones"]), _chains(path, table.get("twist", {}))
    root = table.get("root")
    if root is not None and not _is_name(root):
        _refuse(path, "must have a bone name as 'root'")
    every = [bone for chains in (bones, twist) for chain in chains.values() for bone in chain]
    every += [root] if root else []
    if twice := sorted(bone for bone, times in Counter(every).items() if times > 1):
        _refuse(path, f"uses a bone twice: {_listed(twice)}")
    title = table.get("name", path.stem)
    if not isinstance(title, str):
        _refuse(path, "must have a text as 'name'")
    controls = _controls(path, table["controls"]) if table.get("controls") is not None else None
    return BoneMap(path.stem if is_preset else path.name, title, bones, is_preset, version, twist, root, controls)


def _refuse(path: Path, reason: str, cause: Exception | None = None) -> NoReturn:
    raise FileFormatError(f"The bone map '{path}' {reason}. See docs/file-formats.md for an example.") from cause


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _chains(path: Path, table: object) -> dict[str, tuple[str, ...]]:
    """Segment -> bones, of ``bones`` and ``twist``."""
    if not isinstance(table, dict):
        _refuse(path, "needs 'twist' to be an object of segments and their bones")
    if unknown := sorted(set(table) - set(SEGMENT_NAMES)):
        _refuse(path, f"has unknown segments: {', '.join(unknown)}; known are {', '.join(SEGMENT_NAMES)}")
    chains: dict[str, tuple[str, ...]] = {}
    for segment, value in table.items():
        chain = [value] if isinstance(value, str) else value
        if not isinstance(chain, list) or not chain or not all(_is_name(bone) for bone in chain):
            _refuse(path, f"must give '{segment}' a bone name or a list of bone names")
        chains[segment] = tuple(chain)
    return chains


def _controls(path: Path, table: object) -> Controls:
    table = _record(path, "controls", table, {"switches", "settings", "ik"})
    switches = []
    for entry in _entries(path, table, "switches"):
        said = _record(path, "a switch", entry, {"bone", "property", "fk", "ik"}, all_needed=True)
        name, prop = _names(path, "a switch", said)
        switches.append(Switch(name, prop, _number(path, "fk", said), _number(path, "ik", said)))
    settings = []
    for entry in _entries(path, table, "settings"):
        said = _record(path, "a setting", entry, {"bone", "property", "value"}, all_needed=True)
        name, prop = _names(path, "a setting", said)
        settings.append(Setting(name, prop, _number(path, "value", said)))
    ik = {}
    for limb, entry in _record(path, "ik", table.get("ik", {}), set(IK_LIMBS)).items():
        said = _record(path, f"'{limb}' of ik", entry, {"bone", "pole", "toe"})
        if not _is_name(said.get("bone")) or not all(
            said.get(key) is None or _is_name(said[key]) for key in ("pole", "toe")
        ):
            _refuse(path, f"must give '{limb}' of ik a 'bone', and a 'pole' and a 'toe' where there is one")
        ik[limb] = IkControl(said["bone"], said.get("pole"), said.get("toe"))
    return Controls(tuple(switches), tuple(settings), ik)


def _record(path: Path, what: str, value: object, keys: set[str], all_needed: bool = False) -> dict[str, Any]:
    """A JSON object with these keys and no others."""
    if not isinstance(value, dict):
        _refuse(path, f"needs {what} to be an object with {', '.join(sorted(keys))}")
    if unknown := sorted(set(value) - keys):
        _refuse(path, f"has unknown keys in {what}: {', '.join(unknown)}; known are {', '.join(sorted(keys))}")
    if all_needed and (missing := sorted(keys - set(value))):
        _refuse(path, f"lacks {', '.join(missing)} in {what}")
    return value


def _entries(path: Path, table: dict[str, Any], key: str) -> list[Any]:
    entries = table.get(key, [])
    if not isinstance(entries, list):
        _refuse(path, f"needs '{key}' of controls to be a list")
    return entries


def _names(path: Path, what: str, said: dict[str, Any]) -> tuple[str, str]:
    if not _is_name(said["bone"]) or not _is_name(said["property"]):
        _refuse(path, f"must give {what} names as 'bone' and 'property'")
    return said["bone"], said["property"]


def _number(path: Path, key: str, said: dict[str, Any]) -> float:
    value = said[key]
    if not is_number(value):
        _refuse(path, f"must give '{key}' of '{said['property']}' a number")
    return float(value)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a key appear twice and keeps the last; here that is a slip worth telling."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(f"a key appears twice among {', '.join(key for key, _ in pairs)}")
    return table
