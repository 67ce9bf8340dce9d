"""What a worker of a cluster does with a stage."""

from __future__ import annotations

import threading

from .job import Job
from .stage_result import StageResult

_stops: dict[str, threading.Event] = {}
# Native libraries and what they print belong to the process, not to a thread: one stage at a time.
_at_work = threading.Lock()


def run_on_worker(job: Job, stage: str, before: StageResult | None, out: str, fresh: bool) -> StageResult:
    """Run a stage in this process."""
    from . import stage_running

    with _at_work:
        stage_running.stop_wanted = _stops.setdefault(out, threading.Event())
        return stage_running.run_stage(job, stage, before, out, fresh)


def ask_to_stop(out: str) -> None:
    """End what works for this output folder, at its next sign of progress."""
    _stops.setdefault(out, threading.Event()).set()
    _stops.pop(out, None)
