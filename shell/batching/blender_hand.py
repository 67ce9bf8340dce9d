"""An installed Blender that retargets for processes which have none: one of it, for many takes, then a fresh one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...addon.worker_client import Worker, WorkerProgram, run_to_its_end
from ...core.worker_messages import FromWorker, Noted
from .rig_opening import asking

if TYPE_CHECKING:
    from .stage_reporter import StageReporter

# Where the Blender is, for every process of a batch; hosts of a farm may each have their own.
VARIABLE = "KEYLIFT_BATCH_BLENDER"
# Blender keeps some of what every take needed.
_TAKES_PER_BLENDER = 50


def installed_blender() -> str:
    """The Blender that somebody named; nothing where this process is to do it itself."""
    return os.environ.get(VARIABLE, "")


def own_version() -> str:
    """Of the Blender in this process; empty where there is none."""
    bpy = sys.modules.get("bpy")
    return "" if bpy is None else str(bpy.app.version_string)


@dataclass(frozen=True)
class BlenderProgram(WorkerProgram):
    """``blender -c keylift worker``, in place of the worker's own environment."""

    def command(self, *argv: str) -> list[str]:
        """The command line that runs ``keylift argv`` inside Blender."""
        return [str(self.python), "--background", "--command", "keylift", *argv]


class BlenderHand:
    """Runs commands in a Blender that is kept.

    version: of the Blender that ran the last one
    """

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._takes = 0
        self.version = ""

    def run(self, blender: str, argv: Sequence[str], said: StageReporter) -> None:
        """Run ``keylift argv`` there; ``said`` hears of it. Raises KeyliftError when it fails or can't be started."""
        worker = self.start(blender, said)
        self._takes += 1
        said.result("", dict(self._asked(worker, argv, said)))

    def start(self, blender: str, said: StageReporter) -> Worker:
        """See to it that it runs, and knows its ``version``. Raises KeyliftError when it can't be started."""
        if self._worker is not None and (not self._worker.alive or self._takes >= _TAKES_PER_BLENDER):
            self.close()
        if self._worker is None:
            self._takes, self.version = 0, ""
            self._worker = Worker(BlenderProgram(Path(blender), Path(__file__).parents[2]))
        if not self.version:
            self.version = str(self._asked(self._worker, asking(), said).get("blender", ""))
        return self._worker

    @staticmethod
    def _asked(worker: Worker, argv: Sequence[str], said: StageReporter) -> Mapping[str, Any]:
        def heard(event: FromWorker) -> bool:
            if isinstance(event, Noted):
                said.note(event.text)
            return not said.wanted_to_stop()

        return run_to_its_end(worker, argv, heard)

    def close(self) -> None:
        """End it."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


hand = BlenderHand()
