"""A Dask cluster: one of this machine's, or one that is there already; GPUs and Blender as resources of its workers."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import KeyliftError, TryAgainError
from .engine import WorkerDied
from .job import RETARGET, STAGES, Job
from .stage_result import StageResult

if TYPE_CHECKING:
    from distributed import Client

# What workers may say they have: `dask worker --resources "GPU=1"`, `dask worker --resources "blender=1"`.
GPU, BLENDER = "GPU", "blender"
_SECONDS_TO_ANSWER = 10
_STARTS = 3
_SECONDS_BETWEEN_LOOKS = 10.0
_SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
MISSING = (
    'Dask is not installed. Install it with `pip install "keylift[farm]"`, or leave out --workers dask: the '
    "processes of this machine need none."
)


def names_a_cluster(workers: str) -> bool:
    """Whether ``--workers`` names a cluster and not a number of processes."""
    return workers == "dask" or workers.startswith(("dask:", *_SCHEMES)) or workers.lower().endswith(".json")


class DaskEngine:
    """Stages as tasks of a cluster; files travel by the output folder, which all of its workers must see.

    where: ``dask`` or ``dask:N``: N workers on this machine; ``dask://host:port``; or a scheduler file (.json)
    """

    def __init__(self, where: str, out: str, fresh: bool = False) -> None:
        try:
            import distributed  # noqa: F401  (whether it is there is the question)
        except ImportError as problem:
            raise KeyliftError(MISSING) from problem
        self._out, self._fresh = out, fresh
        self._cluster: Any = None
        self._looked_at = time.monotonic()
        self._client = self._connected(where)
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if not workers:
            raise TryAgainError(f"The cluster '{where}' has no workers yet. Start some, and run it again.")
        self._threads = sum(worker["nthreads"] for worker in workers)
        self._has = {name for worker in workers for name in (worker.get("resources") or {})}

    def _connected(self, where: str) -> Client:
        from distributed import Client

        if where == "dask" or where.startswith("dask:") and not where.startswith("dask://"):
            return self._of_this_machine(int(where.partition(":")[2] or 0))
        try:
            if where.lower().endswith(".json"):
                if not Path(where).is_file():
                    raise KeyliftError(f"There is no scheduler file '{where}'. Check its path.")
                return Client(scheduler_file=where, timeout=_SECONDS_TO_ANSWER)
            return Client(where.replace("dask://", "tcp://", 1), timeout=_SECONDS_TO_ANSWER)
        except (OSError, TimeoutError, ValueError) as problem:
            raise TryAgainError(
                f"The Dask scheduler '{where}' does not answer ({problem}). Check that it runs, and its address."
            ) from problem

    def _of_this_machine(self, workers: int) -> Client:
        from distributed import Client, LocalCluster

        from .local_engine import processes_that_fit

        for left in reversed(range(_STARTS)):
            try:
                self._cluster = LocalCluster(
                    n_workers=processes_that_fit(workers or None),
                    threads_per_worker=1,
                    resources={BLENDER: 1},
                    # Any free port will do where the usual one is taken.
                    dashboard_address="127.0.0.1:8787",
                )
                return Client(self._cluster)
            except RuntimeError as problem:
                # A worker that dies while the cluster is made takes the cluster along.
                if left == 0:
                    raise TryAgainError(f"No Dask cluster could be started here: {problem} Run it again.") from problem
        raise AssertionError("unreachable")

    @property
    def slots(self) -> int:
        """Threads of all workers that were there at the start."""
        return int(self._threads)

    @property
    def dashboard(self) -> str:
        """Where to watch it in a browser."""
        return str(self._client.dashboard_link)

    def order(self, job: Job, stage: str, before: StageResult | None) -> Future[StageResult]:
        """As a task that is tried on another worker when its own one dies."""
        from .cluster_worker import run_on_worker

        self._make_up_for_losses()
        needed = BLENDER if stage == RETARGET and job.needs_blender else GPU if stage != RETARGET else ""
        resources = {needed: 1} if needed in self._has else None
        future: Future[StageResult] = Future()
        future.set_running_or_notify_cancel()
        task = self._client.submit(
            run_on_worker, job, stage, before, self._out, self._fresh,
            resources=resources,
            # What was begun comes first.
            priority=STAGES.index(stage),
            pure=False,
        )  # fmt: skip
        task.add_done_callback(lambda done: _handed_over(done, future))
        return future

    def _make_up_for_losses(self) -> None:
        """Have workers of our own cluster that are gone replaced.

        One that dies is started again by its nanny, but one that dies while it starts is given up.
        """
        now = time.monotonic()
        if self._cluster is not None and now - self._looked_at > _SECONDS_BETWEEN_LOOKS:
            self._looked_at = now
            self._cluster.scale(self._threads)

    def stop(self) -> None:
        """Tasks that wait are forgotten; those that run are asked to end at their next sign of progress."""
        from .cluster_worker import ask_to_stop

        with contextlib.suppress(Exception):
            self._client.run(ask_to_stop, self._out)

    def close(self) -> None:
        """Leave the cluster; one of our own ends."""
        self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def _handed_over(task: Any, future: Future[StageResult]) -> None:
    try:
        if task.status == "finished":
            future.set_result(task.result())
        elif task.status == "error" and type(task.exception()).__name__ != "KilledWorker":
            future.set_exception(task.exception())
        else:
            future.set_exception(WorkerDied(task.status))
    except Exception as problem:
        future.set_exception(WorkerDied(str(problem)))
