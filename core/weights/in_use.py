"""Which weights are used where nobody says which, how that came about, and the way back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import OutputError, WeightsError
from ..output_files import written_whole
from ..outside_text import bytes_within, json_value
from ..skeletons import LANDMARKS_41, LIFTER_21_NAMES
from ..source import sha256_of
from . import SHIPPED_NAMES, file_named, find_weights, read_header, user_folder, weights_files
from .adaptation_record import adaptation_of
from .integrity import verify
from .names import why_no_name

FILE = "in-use.json"
DEFAULT = "default"
MAX_HISTORY = 50
_SCHEMA = 1
_MAX_BYTES = 1 << 16
_MAX_TIME = 40
_ADVICE = "Make the folder writable, or name another one with KEYLIFT_WEIGHTS."
_CHOOSE = "`keylift weights use NAME` chooses others, `keylift weights use default` is content with these."
# What load_ray_lifter asks of weights. It imports torch, which must not be needed to choose some; a test compares.
_CONTACTS = 4
_UP = 3


@dataclass(frozen=True)
class InUse:
    """The weights in use.

    name: theirs
    note: what a person has to know, when others were chosen and can't be used; empty otherwise
    """

    name: str
    note: str = ""


@dataclass(frozen=True)
class Used:
    """Weights that were taken into use.

    before: name of those that were used until then
    note:   what a person has to know; empty as a rule
    """

    name: str
    path: Path
    before: str
    note: str = ""


@dataclass(frozen=True)
class Removed:
    """Weights that are gone.

    was_in_use: True when they were in use; ``DEFAULT`` is now
    """

    name: str
    path: Path
    was_in_use: bool


@dataclass(frozen=True)
class _Choice:
    """Weights that somebody chose: the hash of their file (none for shipped ones), and when, in UTC."""

    name: str
    sha256: str
    at: str


class _Damaged(Exception):
    """The history can't be read, and this says why."""


def weights_in_use() -> str:
    """Name of the weights that are used where nobody says which."""
    return read_in_use().name


def read_in_use() -> InUse:
    """The weights in use, and what a person has to know of them.

    They are the last that were chosen. Where those are gone, damaged or not what they were, and where nothing can be
    read, they are ``DEFAULT``, and the note says so. Never raises.
    """
    try:
        history = _read_history()
    except _Damaged as problem:
        return InUse(DEFAULT, f"{problem} The weights that come with Keylift are used. {_CHOOSE}")
    if not history:
        return InUse(DEFAULT)
    chosen = history[-1]
    if why := _why_lost(chosen):
        return InUse(
            DEFAULT,
            f"The weights '{chosen.name}' were chosen, but {why}. Those that come with Keylift are used. {_CHOOSE}",
        )
    return InUse(chosen.name)


def use_weights(name: str, *, anyway: bool = False) -> Used:
    """Use weights wherever nobody says which, from now on.

    name:   one of ``list_weights``; ``DEFAULT`` are those that come with Keylift
    anyway: even if they did not prove better than those that they were adapted from

    Raises WeightsError, and changes nothing, when they are missing, damaged, can't lift footage or did not prove
    better; OutputError when the choice can't be written.
    """
    path = _own_or_shipped(name)
    name = path.stem
    if why := why_no_name(name):
        raise WeightsError(f"{name!r} can't be in use: {why}. Give the file another name, such as 'studio'.")
    found = verify(path)
    if found.bad:
        raise WeightsError(found.reason)
    header = read_header(path)
    if why := why_not_for_footage(header):
        raise WeightsError(f"'{name}' can't lift footage: {why}. Choose other weights.")
    if not anyway:
        _check_verdict(name, header)
    before = read_in_use()
    choice = _Choice(name, "" if name in SHIPPED_NAMES else sha256_of(path), _now())
    history = _history_or_none()
    if not history or (history[-1].name, history[-1].sha256) != (choice.name, choice.sha256):
        history.append(choice)
    _write_history(history)
    return Used(name, path, before.name)


def _own_or_shipped(name: str) -> Path:
    path = find_weights(name)
    if path not in weights_files().values():
        raise WeightsError(
            f"'{name}' is a file, and only weights with a name can be in use. Put it into {user_folder()} and use it "
            "by its name, or give it with --weights."
        )
    return path


def _check_verdict(name: str, header: Mapping[str, Any]) -> None:
    adaptation = adaptation_of(header)
    if adaptation and not adaptation.better:
        raise WeightsError(
            f"'{name}' did not prove better than '{adaptation.base_name}': {adaptation.reason}. "
            f'`keylift weights use "{name}" --anyway` uses it all the same.'
        )


def use_earlier() -> Used:
    """Go back to the weights that were used before those in use; passing over those that are lost, which is noted.

    Raises WeightsError when there is nothing to go back to, OutputError when the choice can't be written.
    """
    try:
        history = _read_history()
    except _Damaged as problem:
        raise WeightsError(f"{problem} Nobody knows what was used before. {_CHOOSE}") from problem
    if not history:
        raise WeightsError(
            f"'{DEFAULT}' is in use, and nothing was before. Name what to use: `keylift weights use NAME`."
        )
    before = read_in_use().name
    history.pop()
    lost = []
    while history and (why := _why_lost(history[-1])):
        lost.append(f"'{history.pop().name}' is passed over: {why}.")
    _write_history(history)
    name = history[-1].name if history else DEFAULT
    return Used(name, find_weights(name), before, " ".join(lost))


def remove_weights(name: str) -> Removed:
    """Remove weights of the user's own; if they are in use, ``DEFAULT`` is from now on.

    Raises WeightsError when there are none of that name or Keylift came with them, OutputError when the file can't be
    removed.
    """
    if name in SHIPPED_NAMES:
        raise WeightsError(f"'{name}' comes with Keylift and stays. `keylift weights list` tells which are your own.")
    path = file_named(name)
    if path is None:
        own = ", ".join(other for other in weights_files() if other not in SHIPPED_NAMES) or "none"
        raise WeightsError(f"There are no weights of your own named '{name}'. Your own: {own}.")
    name = path.stem
    was_in_use = read_in_use().name == name
    # First, so that nothing in use is ever missing.
    _forget(name)
    try:
        path.unlink()
    except OSError as problem:
        raise OutputError(
            f"'{path}' can't be removed: {problem.strerror}. Close what uses it, and try again."
        ) from problem
    return Removed(name, path, was_in_use)


def _forget(name: str) -> None:
    history = _history_or_none()
    kept = [choice for choice in history if choice.name != name]
    if history and history[-1].name == name and kept and kept[-1].name != DEFAULT:
        kept.append(_Choice(DEFAULT, "", _now()))
    if kept != history:
        _write_history(kept)


def why_not_for_footage(header: Mapping[str, Any]) -> str:
    """What keeps a lifter from lifting footage, as its header tells; empty when nothing does."""
    sizes, skeleton, fps = (header.get(key) for key in ("lifter", "skeleton", "fps"))
    names = skeleton.get("names") if isinstance(skeleton, dict) else None
    if header.get("input_layout") != "rays21":
        return f"it takes {header.get('input_layout')!r} keypoints, where rays of footage ('rays21') are needed"
    if not isinstance(names, list) or tuple(names) != LANDMARKS_41.names or not isinstance(sizes, dict):
        return f"it does not give the {len(LANDMARKS_41)} landmarks"
    wanted = (len(LIFTER_21_NAMES) + 1, 3, len(LANDMARKS_41))
    if tuple(sizes.get(key) for key in ("points_in", "features_in", "joints_out")) != wanted:
        return "its sizes are those of another lifter"
    told = _CONTACTS + len(LANDMARKS_41)
    if sizes.get("extras_out") not in (told, told + _UP):
        return "it gives no contacts and uncertainty"
    if not isinstance(fps, int | float) or not 1 <= fps <= 1000:
        return "it does not say the frame rate that it was trained at"
    return ""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _why_lost(choice: _Choice) -> str:
    """What keeps a choice from being used; empty when nothing does."""
    path = file_named(choice.name)
    if path is None:
        return "their file is gone"
    if choice.name in SHIPPED_NAMES:
        return ""
    try:
        state = path.stat()
        same = _sha256(path, state.st_size, state.st_mtime_ns) == choice.sha256
    except OSError as problem:
        return f"their file can't be read ({problem.strerror})"
    if same:
        return ""
    found = verify(path)
    return "their file is damaged" if found.bad else "their file is another one now than the one that was chosen"


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _mtime_ns: int) -> str:
    # A program that runs for long asks over and over; a file that stays the same is read once.
    return sha256_of(path)


def _history_or_none() -> list[_Choice]:
    """What was chosen, oldest first; nothing where it can't be read: whoever chooses anew puts that right."""
    try:
        return _read_history()
    except _Damaged:
        return []


def _read_history() -> list[_Choice]:
    """What was chosen, oldest first. Raises _Damaged when it can't be read."""
    path = user_folder() / FILE
    try:
        said = json_value(bytes_within(path, _MAX_BYTES))
        if said["schema_version"] != _SCHEMA:
            raise ValueError("another Keylift wrote it")
        return [_choice(entry) for entry in _checked(said["history"])]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as problem:
        raise _Damaged(f"'{path}' can't be read: {problem.strerror}.") from problem
    except (ValueError, KeyError, TypeError) as problem:
        raise _Damaged(f"'{path}' says which weights are in use, and is damaged: {problem}.") from problem


def _checked(history: Any) -> list[Any]:
    if not isinstance(history, list) or len(history) > MAX_HISTORY:
        raise ValueError("its history is none")
    return history


def _choice(entry: Any) -> _Choice:
    """One entry of the history. Raises ValueError, KeyError or TypeError for what is none."""
    choice = _Choice(**{key: entry[key] for key in ("name", "sha256", "at")})
    if not all(isinstance(value, str) for value in (choice.name, choice.sha256, choice.at)):
        raise ValueError("its history has no names")
    if why_no_name(choice.name) or len(choice.sha256) > 64 or len(choice.at) > _MAX_TIME:
        raise ValueError("its history has names that can't be")
    return choice


def _write_history(history: list[_Choice]) -> None:
    values = {"schema_version": _SCHEMA, "history": [asdict(choice) for choice in history[-MAX_HISTORY:]]}
    with written_whole(user_folder() / FILE, _ADVICE) as beside:
        beside.write_text(json.dumps(values, indent=1), encoding="utf-8")
