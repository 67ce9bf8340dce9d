"""Folders in which lifters learn from the user's footage: begun, paused, finished, thrown away.

Knows nothing of Blender. A folder outlives the Blender that began it, by intention or by a crash; what is in it is
written by the worker, or by whoever put it there, and is trusted in nothing.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import KeyliftError
from ..core.outside_text import json_value, text_within, toml_table
from .learning_curve import MAX_LOG_BYTES, read_curve

# What was asked for is there from the beginning; the settings once the footage was gone through.
REQUEST, SETTINGS = "request.json", "adapt.toml"
LOG, RESULT, REPORT = "log.json", "result.json", "report.html"
_CHECKPOINT = re.compile(r"step-(\d{9})\.safetensors")
# Touched by the Blender that is at it, so that another one keeps its hands off.
_IN_USE = "in-use"
IN_USE_S = 90.0
_MAX_SETTINGS_BYTES = 1 << 20
_MOST_FOLDERS = 200


class UnfinishedRun(NamedTuple):
    """A run that can be gone on with.

    name:      of the weights that it is to give
    base:      what it began with
    step:      how far it is, ...
    steps:     ... of how many; 0 = not known
    elsewhere: another Blender seems to be at it
    """

    folder: Path
    name: str
    base: str
    step: int
    steps: int
    elsewhere: bool


class FinishedRun(NamedTuple):
    """A run that gave weights. report: what it says of them; None when it is gone"""

    folder: Path
    name: str
    report: Path | None


class Runs(NamedTuple):
    """All runs of a folder, the newest first."""

    unfinished: tuple[UnfinishedRun, ...] = ()
    finished: tuple[FinishedRun, ...] = ()

    def report_of(self, name: str) -> Path | None:
        """The newest report on weights of that name, or None."""
        return next((run.report for run in self.finished if run.name == name and run.report is not None), None)


def new_run_folder(adaptations: Path, name: str) -> Path:
    """Where the next run goes. Nothing is made yet."""
    return adaptations / f"{name}-{uuid.uuid4().hex[:8]}"


def checked_name(name: str) -> str:
    """A name for weights. Raises KeyliftError when no file can be called so."""
    # Not with the extension, whose start it would delay.
    from ..core.weights.names import why_no_name

    name = name.strip().removesuffix(".safetensors")
    if why := why_no_name(name):
        raise KeyliftError(f"The new weights can't be called '{name}': {why}. Choose another name.")
    return name


def free_name(name: str, taken: Iterable[str]) -> str:
    """``my-footage``, or ``my-footage-2`` and so on where some disk takes it for one that is taken already."""
    from ..core.weights.names import alike

    names = {alike(other) for other in taken}
    number, free = 1, name
    while alike(free) in names:
        number += 1
        free = f"{name}-{number}"
    return free


def all_runs(adaptations: Path, now: float | None = None) -> Runs:
    """The runs in a folder; what is no run, and what can't be read, is left out.

    now: seconds since the epoch; None = now
    """
    unfinished, finished = [], []
    for folder in _folders(adaptations):
        # One that may not be looked into is none.
        with suppress(OSError):
            result = _read_json(folder / RESULT)
            if is_resumable(folder):
                unfinished.append(_unfinished(folder, time.time() if now is None else now))
            elif isinstance(result, dict) and _text(result, "name"):
                report = folder / REPORT
                finished.append(FinishedRun(folder, _text(result, "name"), report if report.is_file() else None))
    return Runs(tuple(unfinished), tuple(finished))


def _folders(adaptations: Path) -> list[Path]:
    try:
        found = [(path.stat().st_mtime, path) for path in adaptations.iterdir() if _is_own(path, adaptations)]
    except OSError:
        return []
    return [path for _, path in sorted(found, reverse=True)[:_MOST_FOLDERS]]


def _is_own(folder: Path, adaptations: Path) -> bool:
    """Whether it is a folder right inside, and no link that leads elsewhere."""
    inside = folder.parent == adaptations and folder.name != ".."
    return inside and folder.is_dir() and not folder.is_symlink()


def _unfinished(folder: Path, now: float) -> UnfinishedRun:
    asked, settings = _read_json(folder / REQUEST), settings_of(folder) or {}
    asked = asked if isinstance(asked, dict) else {}
    return UnfinishedRun(
        folder,
        _text(asked, "name") or _text(settings, "name") or _shown(folder.name),
        _text(asked, "base") or _text(settings, "base"),
        steps_done(folder),
        steps_of(settings),
        _is_in_use(folder, now),
    )


def steps_done(folder: Path) -> int:
    """How many steps were learnt and kept; 0 where there are none."""
    try:
        saved = [_CHECKPOINT.fullmatch(path.name) for path in (folder / "checkpoints").iterdir()]
    except OSError:
        saved = []
    return max([read_curve(folder / LOG).latest_step, *(int(found[1]) for found in saved if found is not None)])


def settings_of(folder: Path) -> dict[str, Any] | None:
    """What the run was begun with; None when that is not there, or can't be read."""
    try:
        return toml_table(text_within(folder / SETTINGS, _MAX_SETTINGS_BYTES))
    except (OSError, ValueError):
        return None


def steps_of(settings: dict[str, Any]) -> int:
    """How many steps the run takes; 0 where that is not said."""
    loop = settings.get("loop")
    steps = loop.get("steps") if isinstance(loop, dict) else None
    return steps if isinstance(steps, int) and 0 < steps < 10**9 else 0


def is_resumable(folder: Path) -> bool:
    """Whether the worker can go on with it."""
    return (folder / REQUEST).is_file() and not (folder / RESULT).exists()


def _read_json(file: Path) -> Any:
    """What a file holds; None when it is not there, and an empty list when it is no JSON."""
    try:
        return json_value(text_within(file, MAX_LOG_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return []


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name)
    return _shown(value) if isinstance(value, str) else ""


def _shown(text: str) -> str:
    """As far as Blender can show it: half letters, which JSON and names of folders may have, it can't."""
    return "".join(letter for letter in text[:200] if letter.isprintable())


# ---- Who is at it ---------------------------------------------------------------------------------------------------


def mark_in_use(folder: Path) -> None:
    """Give a sign of life. To be called more often than every ``IN_USE_S`` seconds."""
    # A disk that is full, or a folder that somebody took away, is for the worker to tell of.
    with suppress(OSError):
        (folder / _IN_USE).touch()


def mark_free(folder: Path) -> None:
    """Nobody is at it any more."""
    with suppress(OSError):
        (folder / _IN_USE).unlink()


def _is_in_use(folder: Path, now: float) -> bool:
    try:
        return abs(now - (folder / _IN_USE).stat().st_mtime) < IN_USE_S
    except OSError:
        return False


# ---- Throwing away --------------------------------------------------------------------------------------------------


def discard(folder: Path, adaptations: Path) -> None:
    """Remove a run with all that is in it. Raises KeyliftError when it is none of ours, or can't be removed."""
    if not _is_own(folder, adaptations):
        raise KeyliftError(f"There is no run '{folder.name}' any more.")
    # Without what was asked for it is no run, even if not all of it can be removed at once.
    with suppress(OSError):
        (folder / REQUEST).unlink()
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        raise KeyliftError(f"Not all of '{folder}' could be removed. Close what has its files open, and remove it.")
