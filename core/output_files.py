"""Results appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from .errors import OutputError, TryAgainError

ELSEWHERE = "Choose another place with -o."
_BESIDE = ".keylift-"
# In the folder beside, held by whoever writes there: the system lets go of it when that process ends, however it does.
_HOLD = ".at-work"
# Between the making of that file and the holding of it lies a moment.
_YOUNG_S = 1.0
_swept: set[Path] = set()
_FULL = {errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC}


def explain_write_failure(path: Path, problem: OSError, advice: str = ELSEWHERE) -> OutputError | TryAgainError:
    """The error to raise when ``path`` can't be written because of ``problem``; ``advice`` says what to do."""
    if problem.errno in _FULL:
        return TryAgainError(f"The disk is full: '{path}' was not written. Free some space and run it again.")
    reason = problem.strerror or str(problem)
    return OutputError(f"'{path}' can't be written: {reason}. {advice}")


def check_writable(path: Path, advice: str = ELSEWHERE) -> None:
    """Raise OutputError now rather than after an hour's work when ``path`` can't be written. Leaves nothing behind."""
    if path.is_dir():
        raise OutputError(f"'{path}' is a folder. Give the name of a file after -o.")
    with written_whole(path, advice) as beside:
        beside.touch()
        raise _Discard


class _Discard(Exception):
    """Leave ``written_whole`` without a result."""


@contextmanager
def written_whole(path: Path, advice: str = ELSEWHERE) -> Iterator[Path]:
    """Give a path beside ``path`` (same ending) to write to; rename it into place when the block ends well.

    Folders are made when missing. When the block fails, nothing is left, folders included. Raises OutputError with
    ``advice`` when the place can't be written, TryAgainError when the disk is full.
    """
    path = Path(path)
    missing = [folder for folder in path.parents if not os.path.lexists(folder)]
    try:
        with _removed_unless_used(missing), _beside(path) as beside:
            yield beside
    except _Discard:
        return
    except OSError as problem:
        raise explain_write_failure(path, problem, advice) from problem


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path.parent)
    with (
        tempfile.TemporaryDirectory(prefix=_BESIDE, dir=path.parent, ignore_cleanup_errors=True) as folder,
        open(Path(folder) / _HOLD, "wb") as hold,
    ):
        # Some network disks can't hold a file; whoever sweeps there can't either, and leaves it alone.
        with suppress(OSError):
            _take_hold(hold)
        beside = Path(folder) / path.name
        yield beside
        os.replace(beside, path)


def _sweep(folder: Path) -> None:
    """Remove what processes that were killed had half written in ``folder``; once a process, since it lists it."""
    if folder in _swept:
        return
    _swept.add(folder)
    for left in folder.glob(f"{_BESIDE}*"):
        with suppress(OSError):
            if _is_young(left):
                # Looked at again with the next file.
                _swept.discard(folder)
            elif not os.path.lexists(left / _HOLD):
                # Killed before it could hold it. What has something else in it is none of ours, and stays.
                left.rmdir()
            elif _is_left_behind(left):
                shutil.rmtree(left, ignore_errors=True)


def _is_young(beside: Path) -> bool:
    hold = beside / _HOLD
    made_s = (hold if os.path.lexists(hold) else beside).stat().st_mtime
    return abs(time.time() - made_s) < _YOUNG_S


def _is_left_behind(beside: Path) -> bool:
    """Whether nobody writes in a folder of ours any more. Raises OSError when somebody does."""
    with open(beside / _HOLD, "r+b") as hold:
        _take_hold(hold)
    return True


def _take_hold(file: IO[bytes]) -> None:
    """Keep other processes from holding ``file`` until it is closed. Raises OSError when one holds it already."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def _removed_unless_used(folders: list[Path]) -> Iterator[None]:
    """Remove ``folders`` (inner ones first) when the block fails, as far as nobody else has put something there."""
    try:
        yield
    except BaseException:
        for folder in folders:
            with suppress(OSError):
                folder.rmdir()
        raise
