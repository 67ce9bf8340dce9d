"""A lifter that learns from the user's footage, as a command for the worker. Knows nothing of Blender."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import KeyliftError
from ..core.worker_messages import FromWorker, Progressed
from .jobs import Command, Flow, Job, State

# The worker takes a thousand arguments; a clip may need two.
_MOST_FILES = 450
_MOST_SKIPPED_TOLD = 5


class AdaptChoice(NamedTuple):
    """What is learnt from, and what the outcome is called; each as the shell's option of that name.

    footage:     films, folders, pictures or keypoints files
    looking:     the shell's options on how people are looked for in it
    corrections: keypoints files with an artist's corrections, of footage that is given as well
    motion:      files or folders of motion capture or animation
    camera:      the lens that filmed all of it
    """

    name: str
    footage: tuple[str, ...]
    base: str = "default"
    looking: tuple[str, ...] = ()
    minutes: float = 30.0
    corrections: tuple[Path, ...] = ()
    motion: tuple[Path, ...] = ()
    camera: Path | None = None
    device: str = "auto"

    def argv(self, run: Path) -> tuple[str, ...]:
        """The command that begins the run in the folder ``run``. Raises KeyliftError when it is too long."""
        if len(self.footage) + len(self.corrections) > _MOST_FILES:
            raise KeyliftError(
                f"That are more than {_MOST_FILES} clips. Put their films into a folder, and choose the folder."
            )
        # With the sign of equality, so that no name passes for an option.
        return (
            "adapt",
            *self.footage,
            f"--base={self.base}",
            f"--name={self.name}",
            f"--run={run}",
            f"--minutes={self.minutes:g}",
            *(f"--motion={path}" for path in self.motion),
            *(f"--corrections={path}" for path in self.corrections),
            *([] if self.camera is None else [f"--camera={self.camera}"]),
            f"--device={self.device}",
            *self.looking,
        )


class Adapted(NamedTuple):
    """What came of a run.

    reason:  why the weights count as better or not, for a person
    skipped: footage that was left out, each with the reason
    """

    name: str
    better: bool
    reason: str
    weights: str
    skipped: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Adapted:
        """As the command tells it."""
        listed = values.get("skipped")
        skipped = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
        told = [f"Left out {Path(str(one.get('footage'))).name}: {one.get('why')}" for one in skipped]
        if len(told) > _MOST_SKIPPED_TOLD:
            told[_MOST_SKIPPED_TOLD:] = [f"Left out {len(told) - _MOST_SKIPPED_TOLD} more; the report lists them."]
        return cls(
            name=str(values.get("name", "")),
            better=values.get("verdict") == "better",
            reason=str(values.get("reason", "")),
            weights=str(values.get("weights", "")),
            skipped=tuple(told),
        )


def adapting(choice: AdaptChoice, run: Path) -> Flow:
    """Learn from the beginning. Returns ``Adapted``."""
    return _learning(choice.argv(run))


def resuming(run: Path, device: str = "auto") -> Flow:
    """Go on with a run that was paused, or whose Blender has gone. Returns ``Adapted``."""
    return _learning(("adapt", f"--run={run}", "--resume", f"--device={device}"))


def _learning(argv: tuple[str, ...]) -> Flow:
    return Adapted.of((yield Command(argv, 1.0, "learn")))


@dataclass(eq=False)
class AdaptationJob(Job):
    """A job that counts each of its stages by itself: how long footage takes says nothing about how long learning does.

    folder: of the run
    at:     the stage that it is at, as the shell calls it
    """

    folder: Path = field(kw_only=True)
    at: str = field(default="", kw_only=True)
    _first: float | None = field(default=None, kw_only=True)

    @property
    def seconds_left(self) -> float | None:
        """How long the stage will take at the pace so far; None while nobody can tell."""
        if self.state is not State.RUNNING or self._first is None:
            return None
        # A run that is gone on with has a part of it done already.
        done = self.fraction - self._first
        if done < 0.01 * (1 - self._first):
            return None
        return (time.monotonic() - self.began) / done * (1 - self.fraction)

    def hear(self, event: FromWorker) -> None:
        """Take note of how far the stage is."""
        super().hear(event)
        if not isinstance(event, Progressed):
            return
        fraction = min(event.done / event.total, 1.0) if event.total else 0.0
        # The next clip is of the same stage, and begins anew.
        if event.stage != self.at or fraction < self.fraction:
            self.at, self._first = event.stage, None
        if self._first is None and event.total:
            self._first, self.began = fraction, time.monotonic()
        self.fraction = fraction
