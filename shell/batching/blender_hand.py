"""An installed Blender that retargets for processes which have none: one of it, for many takes, then a fresh one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...addon.worker_client import Worker, WorkerProgram, run_to_its_end
from ...core.worker_messages import FromWorker, Noted

if TYPE_CHECKING:
    from .stage_reporter import StageReporter

# Where the Blender is, for every process of a batch; hosts of a farm may each have their own.
VARIABLE = "KEYLIFT_BATCH_BLENDER"
# Blender keeps some of what every take needed.
_TAKES_PER_BLENDER = 50


def installed_blender() -> str:
    """The Blender that somebody named; nothing where this process is to do it itself."""
    return os.environ.get(VARIABLE, "")


@dataclass(frozen=True)
class BlenderProgram(WorkerProgram):
    """``blender -c keylift worker``, in place of the worker's own environment."""

    def command(self, *argv: str) -> list[str]:
        """The command line that runs ``keylift argv`` inside Blender."""
        return [str(self.python), "--background", "--command", "keylift", *argv]


class BlenderHand:
    """Runs commands in a Blender that is kept."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._takes = 0

    def run(self, blender: str, argv: Sequence[str], said: StageReporter) -> None:
        """Run ``keylift argv`` there; ``said`` hears of it. Raises KeyliftError when it fails or can't be started."""
        worker = self._at_hand(blender)

        def heard(event: FromWorker) -> bool:
            if isinstance(event, Noted):
                said.note(event.text)
            return not said.wanted_to_stop()

        self._takes += 1
        values: Mapping[str, Any] = run_to_its_end(worker, argv, heard)
        said.result("", dict(values))

    def _at_hand(self, blender: str) -> Worker:
        if self._worker is not None and (not self._worker.alive or self._takes >= _TAKES_PER_BLENDER):
            self._worker.stop()
            self._worker = None
        if self._worker is None:
            self._takes = 0
            self._worker = Worker(BlenderProgram(Path(blender), Path(__file__).parents[2]))
        return self._worker


hand = BlenderHand()
