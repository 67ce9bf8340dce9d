"""Which bones of a rig make up which segment of the body: shipped presets and users' own files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import FileFormatError, RigError
from ..core.segments import SEGMENT_NAMES
from .rest_pose import RestPose

BONE_MAP_FORMAT = 1
MAX_BONE_MAP_BYTES = 1 << 20
PRESET_FOLDER = Path(__file__).parent / "presets"
_KEYS = {"format", "name", "about", "bones"}


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
    """The control that places a hand or foot, and the pole that its elbow or knee points to; no pole: None."""

    bone: str
    pole: str | None = None


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
            wanted = [bone for chain in self.bones.values() for bone in chain]
            if missing := [bone for bone in wanted if bone not in rest.names]:
                raise RigError(
                    f"The bone map '{self.name}' names bones that '{rest.name}' does not have: {_listed(missing)}. "
                    "Correct the names in the map, or give the map of this rig with --map."
                )
            return self
        named = {normalised_name(bone): bone for bone in reversed(rest.names)}
        found = {
            segment: tuple(
                bone if bone in rest.names else named[normalised_name(bone)]
                for bone in chain
                if bone in rest.names or normalised_name(bone) in named
            )
            for segment, chain in self.bones.items()
        }
        return BoneMap(self.name, self.title, {segment: chain for segment, chain in found.items() if chain}, True)


def _listed(names: list[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{name}'" for name in names[:most]) + more


def normalised_name(bone: str) -> str:
    """A bone's name without what exporters change: namespace, Mixamo's prefix, separators, upper case.

    The number after a separator counts without leading zeros, so ``spine.001`` and ``spine_1`` are the same.
    """
    name = bone.casefold().rpartition(":")[2]
    name = re.sub(r"^mixamorig\d*(?=.)", "", name)
    parts = [part.lstrip("0") or "0" if part.isdigit() else part for part in re.split(r"[ ._\-]+", name) if part]
    return "".join(parts)


def preset_names() -> list[str]:
    """Names of the shipped bone maps."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.json"))


def load_bone_map(name_or_path: str) -> BoneMap:
    """A shipped preset by name, or a user's own file by path.

    Raises FileFormatError when the file is not a bone map, RigError when there is no such preset or file.
    """
    if name_or_path in preset_names():
        return _parsed(PRESET_FOLDER / f"{name_or_path}.json", is_preset=True)
    path = Path(name_or_path)
    if not path.is_file():
        raise RigError(
            f"There is no bone map '{name_or_path}'. Give the path of a JSON file, 'auto', or one of: "
            f"{', '.join(preset_names())}."
        )
    return _parsed(path, is_preset=False)


def _parsed(path: Path, is_preset: bool) -> BoneMap:
    def refuse(reason: str) -> FileFormatError:
        return FileFormatError(f"The bone map '{path}' {reason}. See docs/file-formats.md for an example.")

    try:
        if path.stat().st_size > MAX_BONE_MAP_BYTES:
            raise refuse("is far too large for a bone map")
        table = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_doubles)
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as problem:
        raise refuse(f"can't be read: {problem}") from problem
    if not isinstance(table, dict):
        raise refuse("must be a JSON object")
    if unknown := sorted(set(table) - _KEYS):
        raise refuse(f"has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(_KEYS))}")
    version = table.get("format")
    if version != BONE_MAP_FORMAT or isinstance(version, bool):
        raise refuse(f"has format {version!r}; this Keylift reads format {BONE_MAP_FORMAT}")
    bones = table.get("bones")
    if not isinstance(bones, dict) or not bones:
        raise refuse("needs 'bones': an object of segments and their bones")
    if unknown := sorted(set(bones) - set(SEGMENT_NAMES)):
        raise refuse(f"has unknown segments: {', '.join(unknown)}; known are {', '.join(SEGMENT_NAMES)}")
    chains: dict[str, tuple[str, ...]] = {}
    for segment, value in bones.items():
        chain = [value] if isinstance(value, str) else value
        if not isinstance(chain, list) or not chain or not all(isinstance(bone, str) and bone for bone in chain):
            raise refuse(f"must give '{segment}' a bone name or a list of bone names")
        chains[segment] = tuple(chain)
    every = [bone for chain in chains.values() for bone in chain]
    if twice := sorted({bone for bone in every if every.count(bone) > 1}):
        raise refuse(f"uses a bone twice: {_listed(twice)}")
    title = table.get("name", path.stem)
    if not isinstance(title, str):
        raise refuse("must have a text as 'name'")
    return BoneMap(path.stem if is_preset else path.name, title, chains, is_preset)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a key appear twice and keeps the last; here that is a slip worth telling."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError(f"a key appears twice among {', '.join(key for key, _ in pairs)}")
    return table
