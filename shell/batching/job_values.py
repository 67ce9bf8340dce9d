"""What the settings of a job mean: words of the command line for each stage, checked as there."""

from __future__ import annotations

import argparse
import difflib
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...core.errors import Cancelled, KeyliftError, TryAgainError
from ...rig_mapping.rig_address import RIG_ENDINGS, SKELETON, split_rig_address
from ..arguments import (
    FrameRange,
    add_detection_options,
    add_lifting_options,
    add_rig_options,
    add_take_options,
)
from ..reporting import Reporter
from ..retarget import SCENE_ENDINGS
from .job import DETECT, EVERYBODY, KEPT_ENDINGS, LIFT, RETARGET, USUAL_ENDINGS, USUAL_RIG, StageOrder
from .rig_opening import Rig

METARIG = "rigify_metarig"
_DECLARED_BY: dict[str, tuple[Callable[[argparse.ArgumentParser], None], ...]] = {
    DETECT: (add_detection_options,),
    LIFT: (add_lifting_options,),
    RETARGET: (add_rig_options, add_take_options),
}
# Whoever doesn't want keypoints repaired doesn't want their sides checked while they are lifted either.
_ALSO_OF_LIFTING = "no_repair"
_FORMATS = (*SCENE_ENDINGS, *KEPT_ENDINGS)
_MAX_SHOWN = 80
# How rig files begin, as far as that can be told without Blender. A .blend may be packed.
_BEGINNINGS = {
    ".blend": (b"BLENDER", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"),
    ".fbx": (b"Kaydara FBX Binary", b";"),
    ".glb": (b"glTF",),
    ".bvh": (b"HIERARCHY",),
}


class WrongValueError(KeyliftError):
    """A value that can't be what its key wants."""


def shown(value: Any) -> str:
    """A key or value out of a file as it may be shown: on one line, not too long, without commands to terminals."""
    text = str(value[: 10 * _MAX_SHOWN] if isinstance(value, str) else value)
    line = printable(text)
    return line if len(line) <= _MAX_SHOWN else line[: _MAX_SHOWN - 3] + "..."


def printable(line: str) -> str:
    """Without what would command a terminal, or can't be encoded."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in line)


def meant(wrong: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` when something known is much like ``wrong``; else empty."""
    close = difflib.get_close_matches(wrong[:_MAX_SHOWN].lower(), list(known), n=1)
    return f" Did you mean '{close[0]}'?" if close else ""


def why_no_path(text: str) -> str:
    """What keeps ``text`` from being a path that can be written down for others; empty when nothing does."""
    if "\0" in text:
        return "it has a NUL character in it"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    return ""


# ---- One option ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Value:
    """What was given for one option.

    value: as argparse has it
    word:  on a command line; empty for the usual value
    files: that it makes a stage read
    """

    value: Any
    word: str = ""
    files: tuple[str, ...] = ()


def _declared(stage: str) -> dict[str, argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    for declare in _DECLARED_BY[stage]:
        declare(parser)
    return {action.dest: action for action in parser._actions}


class ValueReader:
    """Reads values of options, each distinct one once. Paths in them are relative to ``base``."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self.actions = {stage: _declared(stage) for stage in _DECLARED_BY}
        self._by_key = {key: action for actions in self.actions.values() for key, action in actions.items()}
        self._read: dict[tuple[str, type, str], Value | WrongValueError] = {}
        self._file_readers: dict[str, Callable[[str], tuple[str, tuple[str, ...]]]] = {
            "camera": self._camera,
            "camera_motion": self._camera_motion,
            "weights": self._weights,
            "detector_model": self._detector_model,
            "rig": self._rig,
            "map": self._map,
        }

    @property
    def keys(self) -> list[str]:
        """Of all options."""
        return list(self._by_key)

    def read(self, key: str, given: Any) -> Value:
        """The value of the option ``key``. Raises WrongValueError."""
        known = (key, type(given), repr(given) if isinstance(given, str | int | float | None) else "")
        if known not in self._read:
            try:
                self._read[known] = self._checked(self._by_key[key], given)
            except (Cancelled, TryAgainError):
                raise
            except KeyliftError as problem:
                self._read[known] = WrongValueError(f"{key}: {problem}")
        found = self._read[known]
        if isinstance(found, WrongValueError):
            raise WrongValueError(str(found))
        return found

    def usual(self, key: str) -> Value:
        """What an option is that nobody gives."""
        return Value(self._by_key[key].default)

    def path(self, text: str) -> str:
        """Absolute."""
        return os.path.abspath(os.path.join(self._base, text))

    def _checked(self, action: argparse.Action, given: Any) -> Value:
        if given is False and action.default is None:
            # Takes back what [defaults] say.
            return self.usual(action.dest)
        if action.nargs == 0:
            if not isinstance(given, bool):
                raise WrongValueError(f"{_kind(given)} is given, but it is a switch; write true or false.")
            return self._written(action, given)
        if given is True and action.nargs == "?":
            return self._written(action, action.const)
        text = _one_word(given)
        files: tuple[str, ...] = ()
        if action.dest in self._file_readers:
            text, files = self._file_readers[action.dest](text)
        return self._written(action, _parsed(action, text), files)

    @staticmethod
    def _written(action: argparse.Action, value: Any, files: tuple[str, ...] = ()) -> Value:
        if isinstance(value, FrameRange) and value.last is None and not value.first:
            value = action.default
        return Value(value, _word(action, value), files)

    # Each of these gives the word with its path made absolute, and the files that it stands for.

    def _camera(self, text: str) -> tuple[str, tuple[str, ...]]:
        path = self.path(text)
        _ask(lambda: _camera_file(path))
        return path, (path,)

    def _camera_motion(self, text: str) -> tuple[str, tuple[str, ...]]:
        path = self.path(text)
        _ask(lambda: _camera_motion_file(path))
        return path, (path,)

    def _weights(self, text: str) -> tuple[str, tuple[str, ...]]:
        from ...core.weights import SHIPPED_FOLDER, SHIPPED_NAMES, find_weights

        path = _ask(lambda: find_weights(self.path(text) if text.endswith(".safetensors") else text))
        _ask(lambda: _check_lifter(path))
        # What Keylift comes with is everywhere, in folders of all kinds, and belongs to its version; what somebody made
        # is found by its path alone.
        if text in SHIPPED_NAMES and path.parent == SHIPPED_FOLDER:
            return text, ()
        file = os.path.abspath(path)
        return file, (file,)

    def _detector_model(self, text: str) -> tuple[str, tuple[str, ...]]:
        from ...core.pose_model import BUNDLE_NAMES, find_pose_model, pose_model

        if text in BUNDLE_NAMES:
            # "full" comes by itself when it is wanted; of the others this says where to get them.
            if text != "full":
                _ask(lambda: pose_model(text))
            return text, ()
        path = self.path(text)
        found = _ask(lambda: find_pose_model(path))
        return path, (str(found),)

    def _rig(self, text: str) -> tuple[str, tuple[str, ...]]:
        if text in (SKELETON, METARIG):
            return text, ()
        address = split_rig_address(text)
        if address is None:
            raise WrongValueError(
                f"'{shown(text)}' is not a rig; give {SKELETON}, {METARIG}, or a file ({' '.join(RIG_ENDINGS)}), with "
                f":Object after it when it has several armatures.{meant(text, (SKELETON, METARIG))}"
            )
        path = self.path(str(address[0]))
        _ask(lambda: _check_rig_file(Path(path)))
        return path if address[1] is None else f"{path}:{address[1]}", (path,)

    def _map(self, text: str) -> tuple[str, tuple[str, ...]]:
        if text == "auto":
            return text, ()
        from ...rig_mapping.bone_map import load_bone_map, shipped_names
        from ...rig_mapping.own_maps import user_folder

        own = user_folder()
        named = None if own is None or Path(text).name != text else own / f"{text}.json"
        if text in shipped_names() or named is not None and named.is_file():
            _ask(lambda: load_bone_map(text))
            return text, () if text in shipped_names() or named is None else (os.path.abspath(named),)
        path = self.path(text)
        # Said of the word as it was written: it may be a preset's name with a letter wrong.
        _ask(lambda: load_bone_map(path if os.path.exists(path) else text))
        return path, (path,)


def _word(action: argparse.Action, value: Any) -> str:
    """As ``argv_of`` writes it, which makes a parser each time: too slow for ten thousand ranges of frames."""
    flag = action.option_strings[-1]
    if value == action.default:
        return ""
    if action.nargs == 0:
        return flag
    if isinstance(value, FrameRange):
        return f"{flag}={value.first}-{'' if value.last is None else value.last}"
    return f"{flag}={','.join(map(str, value)) if isinstance(value, tuple) else value}"


def _one_word(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise WrongValueError(f"{_kind(given)} is given; write one word or number.")
    text = str(given)
    if not text.strip():
        raise WrongValueError("it is empty; leave it out, or write false where [defaults] are not wanted.")
    if why := why_no_path(text):
        raise WrongValueError(f"'{shown(text)}': {why}.")
    return text


def _kind(given: Any) -> str:
    kinds = {bool: "true or false", list: "a list", dict: "a table", str: "a text", int: "a number", float: "a number"}
    return kinds.get(type(given), "a date or time")


@lru_cache(maxsize=100)
def _parser_of(action: argparse.Action) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser._add_action(action)
    return parser


def _parsed(action: argparse.Action, text: str) -> Any:
    try:
        return getattr(_parser_of(action).parse_args([f"{action.option_strings[-1]}={text}"]), action.dest)
    except argparse.ArgumentError as problem:
        raise WrongValueError(f"{shown(problem.message) if len(text) > _MAX_SHOWN else problem.message}.") from problem


def _ask(question: Callable[[], Any]) -> Any:
    """The answer. Raises KeyliftError, also for what the operating system says of a file."""
    try:
        return question()
    except OSError as problem:
        raise WrongValueError(
            f"'{shown(problem.filename or '')}' can't be read: {problem.strerror or problem}."
        ) from problem
    except ImportError as problem:
        if (problem.name or "").partition(".")[0] != "scipy":
            raise
        # An installed Blender lacks it. Whoever lifts looks again.
        return None


def _camera_file(path: str) -> None:
    from ...core.camera import Camera

    Camera.from_toml(path)


def _camera_motion_file(path: str) -> None:
    from ...core.camera_motion import read_camera_motion

    read_camera_motion(Path(path))


def _check_lifter(path: Path) -> None:
    """Raise WeightsError when a weights file can't lift footage, as far as its header tells."""
    from ...core.weights import read_header
    from ...core.weights.in_use import why_not_for_footage

    if why := why_not_for_footage(read_header(path)):
        raise WrongValueError(f"'{path}' can't lift footage: {why}.")


def _check_rig_file(path: Path) -> None:
    """Raise WrongValueError when it is not there, or not what its ending says."""
    if not path.is_file():
        raise WrongValueError(f"There is no rig file '{path}'. Check the path.")
    with open(path, "rb") as file:
        beginning = file.read(1000)
    wanted = _BEGINNINGS.get(path.suffix.lower())
    begins_well = wanted is None or beginning.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(wanted)
    # What a skeleton in a BVH hangs from stands in its second line.
    if not begins_well or path.suffix.lower() == ".bvh" and b"ROOT" not in beginning:
        raise WrongValueError(f"'{path}' is not a {path.suffix} file, or it is damaged. Save it again.")


# ---- Formats and people ---------------------------------------------------------------------------------------------


def read_formats(given: Any) -> tuple[str, ...]:
    """Endings of files that are wanted, each once. Raises WrongValueError."""
    asked = [given] if isinstance(given, str) else given
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked) or not asked:
        raise WrongValueError('formats: write a list of endings, as [".blend", ".bvh"].')
    endings: dict[str, None] = {}
    for one in asked:
        ending = one.lower() if one.startswith(".") else f".{one.lower()}"
        if ending not in _FORMATS:
            raise WrongValueError(
                f"formats: '{shown(one)}' can't be written; choose of {' '.join(_FORMATS)}.{meant(ending, _FORMATS)}"
            )
        endings[ending] = None
    return tuple(endings)


def read_people(given: Any) -> tuple[str, ...]:
    """Names for people, each another. Raises WrongValueError."""
    from ...core.tracks import MAX_PEOPLE
    from ...core.weights.names import alike, why_no_name

    asked = [given] if isinstance(given, str) else given
    if not isinstance(asked, list) or not all(isinstance(one, str) for one in asked):
        raise WrongValueError('people: write a list of names, largest person first, as ["anna", "ben"].')
    if len(asked) > MAX_PEOPLE:
        raise WrongValueError(f"people: {len(asked)} names, and at most {MAX_PEOPLE} people are followed.")
    names = [unicodedata.normalize("NFC", one) for one in asked]
    for place, name in enumerate(names):
        if why := why_no_name(name):
            raise WrongValueError(f"people: '{shown(name)}' can't be part of a file's name: {why}.")
        if alike(name) in map(alike, names[:place]):
            raise WrongValueError(f"people: two of them are called '{shown(name)}'.")
    return tuple(names)


# ---- All settings of a job ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What is to become of a clip, whichever it is.

    problems: what contradicts itself
    rig_seen: what a rig is opened with to see whether it will do; None where nothing needs to be opened
    """

    endings: tuple[str, ...]
    people: tuple[str, ...]
    detect: StageOrder
    lift: StageOrder
    retarget: StageOrder
    problems: tuple[str, ...] = ()
    rig_seen: Rig | None = None

    @property
    def everybody(self) -> bool:
        """Whether every person in the clip is a take of its own."""
        return EVERYBODY in self.detect.options


class SettingsReader:
    """Puts values together, each distinct set of them once."""

    def __init__(self, base: Path, reporter: Reporter) -> None:
        self._values, self._reporter = ValueReader(base), reporter
        self._settled: dict[tuple[Any, ...], Settings] = {}
        self._orders: dict[tuple[Any, ...], StageOrder] = {}
        self._in_use: Value | None = None

    @property
    def keys(self) -> list[str]:
        """Everything that may be set."""
        return [*self._values.keys, "formats", "people"]

    def read(self, given: Mapping[str, Any], told: Callable[[str], None]) -> dict[str, Any]:
        """Values of all keys that are settings, without those that are wrong, which are ``told``."""
        read: dict[str, Any] = {}
        for key, value in given.items():
            try:
                if value is None:
                    # JSON's word for what is as usual, whatever [defaults] say.
                    read[key] = None
                elif key == "formats":
                    read[key] = read_formats(value)
                elif key == "people":
                    read[key] = read_people(value)
                else:
                    read[key] = self._values.read(key, value)
            except WrongValueError as problem:
                told(str(problem))
        return read

    def settled(self, values: Mapping[str, Any]) -> Settings:
        """What values of ``read`` come to, together with what is usual."""
        # Everything in them that counts can be told from words, names and endings.
        known = tuple((key, getattr(value, "word", value)) for key, value in sorted(values.items()))
        if known not in self._settled:
            self._settled[known] = self._put_together(values)
        return self._settled[known]

    def _put_together(self, values: Mapping[str, Any]) -> Settings:
        options: dict[str, Value] = {
            key: value for key, value in values.items() if isinstance(value, Value) and (value.word or key == "rig")
        }
        options.setdefault("rig", self._values.read("rig", USUAL_RIG))
        problems = []
        if "weights" not in options:
            try:
                options["weights"] = self._weights_in_use()
            except WrongValueError as problem:
                problems.append(str(problem))
        endings, people = values.get("formats") or USUAL_ENDINGS, values.get("people") or ()
        detect, lift, retarget = (self._order(stage, options) for stage in (DETECT, LIFT, RETARGET))
        problems += self._contradictions(options)
        if len(people) > 1 and EVERYBODY not in detect.options:
            problems.append(f'people: {len(people)} names for one person. Write person = "all", or one name.')
        rig_seen = None
        if any(ending not in KEPT_ENDINGS for ending in endings) and options["rig"].value != SKELETON:
            rig, bone_map, path_on, limbs = (
                str(self._of(options, key).value) for key in ("rig", "map", "path_on", "limbs")
            )
            rig_seen = (rig, bone_map, path_on, limbs)
        return Settings(endings, people, detect, lift, retarget, tuple(problems), rig_seen)

    def _of(self, options: Mapping[str, Value], key: str) -> Value:
        return options.get(key) or self._values.usual(key)

    def _order(self, stage: str, options: Mapping[str, Value]) -> StageOrder:
        keys = [key for key in self._values.actions[stage] if key in options]
        if stage == LIFT and _ALSO_OF_LIFTING in options:
            keys.append(_ALSO_OF_LIFTING)
        given = tuple(options[key] for key in keys)
        return StageOrder(
            tuple(value.word for value in given if value.word), tuple(file for value in given for file in value.files)
        )

    def _contradictions(self, options: Mapping[str, Value]) -> list[str]:
        from ..lift import check_cameras

        names = self._values.actions[LIFT]
        lifting = argparse.Namespace(**{key: self._of(options, key).value for key in names})
        try:
            _ask(lambda: check_cameras(lifting))
        except (Cancelled, TryAgainError):
            raise
        except KeyliftError as problem:
            return [str(problem)]
        return []

    def _weights_in_use(self) -> Value:
        """Those that nobody names, told once, so that all of a batch takes the same whatever is chosen meanwhile."""
        if self._in_use is None:
            from ..weights import settle_weights

            asked = argparse.Namespace(weights=None)
            settle_weights(asked, self._reporter)
            self._in_use = self._values.read("weights", asked.weights)
        return self._in_use
