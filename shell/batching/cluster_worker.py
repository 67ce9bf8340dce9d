"""What a worker of a cluster does with a stage."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from ... import __version__
from .engine import WorkerUnfit
from .stage_result import StageResult

_stops: dict[str, threading.Event] = {}
# Native libraries and what they print belong to the process, not to a thread: one stage at a time.
_at_work = threading.Lock()
_ADVICE = "Install the same versions for the batch and on all workers, start the workers again, and run it again."


def versions_here() -> dict[str, str]:
    """Of what a batch and its workers must have alike."""
    import sys

    import distributed

    return {"Keylift": __version__, "Python": python_version(sys.hexversion), "Dask": distributed.__version__}


def python_version(hexversion: int) -> str:
    """``3.11``, as far as it makes a difference."""
    return f"{hexversion >> 24}.{hexversion >> 16 & 0xFF}"


def why_unfit(worker: str, has: Mapping[str, str], wanted: Mapping[str, str]) -> str:
    """What a person is told of a worker of other versions; empty when it has the same."""
    other = [f"{name} {has.get(name, '')}" for name in wanted if has.get(name) != wanted[name]]
    if not other:
        return ""
    ours = ", ".join(f"{name} {wanted[name]}" for name in wanted if has.get(name) != wanted[name])
    return f"The Dask worker '{worker}' has {', '.join(other)}, and this batch {ours}. {_ADVICE}"


def run_on_worker(versions: Mapping[str, str], needed: str, order: bytes, out: str) -> StageResult:
    """Run a stage in this process. Raises WorkerUnfit when it is of another version than the batch, or lacks something.

    needed: what this worker must have said that it has; empty = nothing
    order:  job, stage, how the stage before ended, and whether it is done though it was done before; packed as Dask
            packs them, but unpacked only here, because another version may have other types for them
    """
    from distributed import get_worker
    from distributed.protocol import deserialize_bytes

    worker = get_worker()
    if why := why_unfit(worker.address, versions_here(), versions):
        raise WorkerUnfit(why)
    if needed and not worker.state.total_resources.get(needed):
        raise WorkerUnfit(f"The Dask worker '{worker.address}' has no {needed}. Start one that has, and run it again.")
    from . import stage_running

    job, stage, before, fresh = deserialize_bytes(order)
    with _at_work:
        stage_running.stop_wanted = _stops.setdefault(out, threading.Event())
        return stage_running.run_stage(job, stage, before, out, fresh)


def ask_to_stop(out: str) -> None:
    """End what works for this output folder, at its next sign of progress."""
    _stops.setdefault(out, threading.Event()).set()
    _stops.pop(out, None)
