"""Where a batch keeps what: takes in the open, everything else in one hidden folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from ...core.errors import KeyliftError, TryAgainError
from ...core.output_files import explain_write_failure, written_whole
from ...core.outside_text import json_value, text_within
from .job import DETECT, LIFT

HIDDEN, REPORT, MANIFEST_ENDING = ".keylift", "report.html", ".take.json"
ADVICE = "Choose another folder with -o."
DONE_FILE = "done.json"
# What they make is kept by content.
KEPT_STAGES = (DETECT, LIFT)
_MAX_JSON_BYTES = 4 << 20
# On file systems that can't hold locks, somebody may still be at it.
_HALF_DONE_S = 24 * 3600.0


class BusyError(TryAgainError):
    """Another batch works on the same thing right now."""


@dataclass(frozen=True)
class OutFolder:
    """The output folder of a batch."""

    path: Path

    @property
    def hidden(self) -> Path:
        """What nobody needs to look at."""
        return self.path / HIDDEN

    def made_by(self, stage: str, key: str) -> Path:
        """The folder of what a stage made of one content in one way."""
        return self.hidden / stage / key[:2] / key

    def record(self, job: str) -> Path:
        """How a job stands."""
        return self.hidden / "jobs" / f"{job}.json"

    def thumbnail(self, take: str) -> Path:
        """A small picture of a take."""
        return self.hidden / "thumbs" / f"{take}.png"

    def manifest(self, take: str) -> Path:
        """What a take was made of; written last, so a take without one is not finished."""
        return self.path / f"{take}{MANIFEST_ENDING}"

    def work(self, name: str) -> Path:
        """Where files lie before they are whole."""
        return self.hidden / "work" / name

    def sweep(self) -> None:
        """Throw away what a killed run left half-done a day ago or more, and nobody works on.

        The next try of the same thing would, but another version, or another setting, is another thing.
        """
        for old in (self.hidden / "work").glob("*-*"):
            stage, _, key = old.name.partition("-")
            with suppress(KeyliftError, OSError):
                if stage in KEPT_STAGES and time.time() - old.stat().st_mtime > _HALF_DONE_S:
                    with self.held(f"{stage} {key}"):
                        shutil.rmtree(old)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Keep other batches away from ``name``. Raises BusyError when one of them is at it.

        The lock is the operating system's: whoever dies lets go of it.
        """
        place = self.hidden / "locks" / f"{_short(name)}.lock"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(place)
            lock.acquire(timeout=0)
        except Timeout as problem:
            raise BusyError("Another batch is working on it.") from problem
        except OSError as problem:
            raise explain_write_failure(place, problem, ADVICE) from problem
        try:
            yield
        finally:
            lock.release()


def _short(name: str) -> str:
    """Names of takes may be long, and of any letters."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def digest(values: Any) -> str:
    """Of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def read_json(path: Path) -> dict[str, Any] | None:
    """A file that this package wrote; None when there is none, or it is damaged."""
    try:
        found = json_value(text_within(path, _MAX_JSON_BYTES))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write whole or not at all."""
    with written_whole(path, ADVICE) as beside:
        beside.write_text(json.dumps(values, indent=1), encoding="utf-8")


@contextmanager
def made_whole(folder: Path, work: Path) -> Iterator[Path]:
    """Give an empty folder to fill, which becomes ``folder`` when the block ends well.

    What an earlier try left in ``work``, because it was killed, is thrown away.
    """
    try:
        for old in (work, folder):
            if os.path.lexists(old):
                shutil.rmtree(old)
        work.mkdir(parents=True)
        yield work
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(work, folder)
    except OSError as problem:
        raise explain_write_failure(folder, problem, ADVICE) from problem
    finally:
        shutil.rmtree(work, ignore_errors=True)
