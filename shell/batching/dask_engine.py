"""A Dask cluster: one of this machine's, or one that is there already; GPUs and Blender as resources of its workers."""

from __future__ import annotations

import contextlib
import pkgutil
import time
import warnings
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import KeyliftError, TryAgainError
from .engine import WorkerDied, WorkerUnfit
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
            from distributed.versions import VersionMismatchWarning
        except ImportError as problem:
            raise KeyliftError(MISSING) from problem
        self._out, self._fresh = out, fresh
        self._cluster: Any = None
        self._looked_at = time.monotonic()
        self._unfit: set[str] = set()
        with warnings.catch_warnings():
            # In a table as wide as the screen; what matters of it is looked at below, and said in one line.
            warnings.filterwarnings("ignore", category=VersionMismatchWarning)
            self._client = self._connected(where)
        try:
            self._look_at_workers(where)
        except BaseException:
            self.close()
            raise

    def _look_at_workers(self, where: str) -> None:
        workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if not workers:
            raise TryAgainError(f"The cluster '{where}' has no workers yet. Start some, and run it again.")
        self._threads = sum(worker["nthreads"] for worker in workers)
        self._has = {name for worker in workers for name in (worker.get("resources") or {})}
        self._check_versions()

    def _check_versions(self) -> None:
        """Raise KeyliftError when a worker that is there now is of another version; later ones refuse by themselves."""
        for why in self._why_unfit().values():
            if why:
                raise KeyliftError(why)

    def _why_unfit(self) -> dict[str, str]:
        """By worker, why it is none for this batch; empty for one that is."""
        from .cluster_worker import python_version, versions_here, why_unfit

        # Looked up by Python's own means, which workers of any version have.
        package = __package__.removesuffix(".shell.batching")
        places = {"Keylift": f"{package}:__version__", "Python": "sys:hexversion", "Dask": "distributed:__version__"}
        found = {
            name: self._client.run(pkgutil.resolve_name, place, on_error="return") for name, place in places.items()
        }
        told = {}
        for worker, version in found["Keylift"].items():
            has = {name: answers.get(worker) for name, answers in found.items()}
            if isinstance(version, ImportError | AttributeError):
                told[worker] = f"The Dask worker '{worker}' has no Keylift ({version}). Install it there as well."
            elif not any(answer is None or isinstance(answer, Exception) for answer in has.values()):
                told[worker] = why_unfit(worker, has | {"Python": python_version(has["Python"])}, versions_here())
            # Others have gone meanwhile.
        return told

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
        from distributed.protocol import serialize_bytes

        from .cluster_worker import run_on_worker, versions_here

        self._make_up_for_losses()
        needed = BLENDER if stage == RETARGET and job.needs_blender else GPU if stage != RETARGET else ""
        needed = needed if needed in self._has else ""
        future: Future[StageResult] = Future()
        future.set_running_or_notify_cancel()
        task = self._client.submit(
            run_on_worker, versions_here(), needed, serialize_bytes((job, stage, before, self._fresh)), self._out,
            resources={needed: 1} if needed else None,
            # What was begun comes first.
            priority=STAGES.index(stage),
            pure=False,
            **self._by_those_that_fit(),
        )  # fmt: skip
        task.add_done_callback(lambda done: self._handed_over(done, future))
        return future

    def _by_those_that_fit(self) -> dict[str, Any]:
        """Which workers may be asked, once it is known that some may not; others when those are gone."""
        if not self._unfit:
            return {}
        there = self._client.scheduler_info(n_workers=-1)["workers"]
        return {"workers": [worker for worker in there if worker not in self._unfit], "allow_other_workers": True}

    def _handed_over(self, task: Any, future: Future[StageResult]) -> None:
        try:
            if task.status == "finished":
                future.set_result(task.result())
            elif task.status == "error" and type(task.exception()).__name__ != "KilledWorker":
                future.set_exception(self._meant(task.exception()))
            else:
                future.set_exception(WorkerDied(task.status))
        except Exception as problem:
            future.set_exception(WorkerDied(str(problem)))

    def _meant(self, problem: BaseException) -> BaseException:
        """What to raise for a task's error: no stage raises any, so it may come of a worker of another version."""
        told = self._why_unfit()
        self._unfit |= {worker for worker, why in told.items() if why}
        why = str(problem) if isinstance(problem, WorkerUnfit) else next(filter(None, told.values()), "")
        if not why:
            return problem
        nobody_left = bool(told) and all(told.values())
        return KeyliftError(why) if nobody_left else WorkerUnfit(why)

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
