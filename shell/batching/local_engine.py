"""The processes of this machine: each works alone, and is started anew when it dies or has worked for long."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing.connection import wait
from typing import Any

import psutil

from ...core.errors import DeviceError
from .engine import WorkerDied
from .job import RETARGET, STAGES, Job
from .stage_result import StageResult

# What a process takes that detects and lifts, and one that has Blender in it: measured peaks, and some more.
BYTES_PER_PROCESS = 1_600 << 20
# Native libraries let memory go in part only: a process starts afresh when it has grown, and now and then in any case.
# Starting costs some seconds.
STAGES_PER_PROCESS = 1000
# More than this many bytes stay free for whoever else works on the machine, before another stage begins.
BYTES_LEFT_FREE = 1_000 << 20
_THREAD_LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_SECONDS_TO_STOP = 10.0


def processes_that_fit(wanted: int | None = None) -> int:
    """As many as there are cores (or are wanted), as far as there is memory for them."""
    fit = int((psutil.virtual_memory().available - BYTES_LEFT_FREE) // BYTES_PER_PROCESS)
    return max(1, min(wanted or os.cpu_count() or 1, fit))


class LocalEngine:
    """So many processes that detect and lift, and one beside them that has Blender in it.

    They are spawned, never forked; each is an executor of its own, so that one that dies takes nobody along.
    """

    def __init__(self, processes: int, out: str, fresh: bool = False) -> None:
        self._out, self._fresh = out, fresh
        context = multiprocessing.get_context("spawn")
        self._stop = context.Event()
        self._context = context
        self._slots = [self._executor() for _ in range(processes)]
        # Started when somebody needs it: a skeleton as BVH asks for no Blender.
        self._blender: ProcessPoolExecutor | None = None
        self._free = deque(range(processes))
        self._waiting: deque[tuple[Future[StageResult], Job, str, StageResult | None]] = deque()
        self._blender_busy = False
        self._blender_waiting: deque[tuple[Future[StageResult], Job, str, StageResult | None]] = deque()
        self._lock = threading.RLock()

    @property
    def slots(self) -> int:
        """Of those that detect and lift."""
        return len(self._slots)

    def _executor(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=1,
            mp_context=self._context,
            initializer=prepare_process,
            initargs=(self._stop,),
            max_tasks_per_child=STAGES_PER_PROCESS,
        )

    def order(self, job: Job, stage: str, before: StageResult | None) -> Future[StageResult]:
        """Begun as soon as a process is free, and there is memory for it."""
        future: Future[StageResult] = Future()
        future.set_running_or_notify_cancel()
        waiting = self._blender_waiting if stage == RETARGET and job.needs_blender else self._waiting
        with self._lock:
            # What was begun comes first.
            (waiting.append if stage == STAGES[0] else waiting.appendleft)((future, job, stage, before))
        self._begin_what_may()
        return future

    def _begin_what_may(self) -> None:
        with self._lock:
            while self._waiting and self._free and self._has_memory():
                self._begin(self._free.popleft(), *self._waiting.popleft())
            if self._blender_waiting and not self._blender_busy:
                if self._blender is None:
                    self._blender = self._executor()
                self._blender_busy = True
                self._begin(None, *self._blender_waiting.popleft())

    def _has_memory(self) -> bool:
        """Whether another stage may begin; one may always."""
        alone = len(self._free) == len(self._slots)
        return alone or psutil.virtual_memory().available > BYTES_LEFT_FREE

    def _begin(
        self, slot: int | None, future: Future[StageResult], job: Job, stage: str, before: StageResult | None
    ) -> None:
        from .stage_running import run_stage

        executor = self._blender if slot is None else self._slots[slot]
        assert executor is not None
        try:
            inner = executor.submit(run_stage, job, stage, before, self._out, self._fresh)
        except BrokenProcessPool:
            # It died while it had nothing to do.
            self._renew(slot)
            self._begin(slot, future, job, stage, before)
            return
        except RuntimeError as closed:
            future.set_exception(closed)
            return
        inner.add_done_callback(lambda done: self._ended(slot, future, done))

    def _has_grown(self, slot: int | None) -> bool:
        """Whether a process holds more than was reckoned with, though it has nothing to do."""
        executor = self._blender if slot is None else self._slots[slot]
        with suppress(psutil.Error):
            return any(one.memory_info().rss > BYTES_PER_PROCESS for one in _processes(executor))
        return False

    def _renew(self, slot: int | None) -> None:
        executor, old = self._executor(), self._blender if slot is None else self._slots[slot]
        if old is not None:
            old.shutdown(wait=False)
        if slot is None:
            self._blender = executor
        else:
            self._slots[slot] = executor

    def _ended(self, slot: int | None, future: Future[StageResult], inner: Future[StageResult]) -> None:
        problem = inner.exception()
        with self._lock:
            if isinstance(problem, BrokenProcessPool) or _lost_its_gpu(inner) or self._has_grown(slot):
                self._renew(slot)
            if slot is None:
                self._blender_busy = False
            else:
                self._free.append(slot)
        if problem is None:
            future.set_result(inner.result())
        else:
            future.set_exception(WorkerDied(str(problem)) if isinstance(problem, BrokenProcessPool) else problem)
        self._begin_what_may()

    def stop(self) -> None:
        """Ask at the next sign of progress; who shows none in some seconds is ended."""
        self._stop.set()
        with self._lock:
            for future, *_ in [*self._waiting, *self._blender_waiting]:
                future.set_exception(WorkerDied("Stopped on request."))
            self._waiting.clear()
            self._blender_waiting.clear()
        given_up_at = time.monotonic() + _SECONDS_TO_STOP
        while self._busy() and time.monotonic() < given_up_at:
            time.sleep(0.1)
        for executor in self._executors():
            end_processes(executor)

    def _busy(self) -> bool:
        with self._lock:
            return self._blender_busy or len(self._free) < len(self._slots)

    def _executors(self) -> list[ProcessPoolExecutor]:
        return [*self._slots, *([] if self._blender is None else [self._blender])]

    def close(self) -> None:
        """Every process ends."""
        for executor in self._executors():
            executor.shutdown(wait=True, cancel_futures=True)


def _lost_its_gpu(inner: Future[StageResult]) -> bool:
    """Whether a process is good for nothing more: a GPU that failed stays so for it, and not for the next one."""
    if inner.exception() is not None:
        return False
    failure = inner.result().failure
    return failure is not None and failure.kind == DeviceError.__name__


def _processes(executor: ProcessPoolExecutor | None) -> list[psutil.Process]:
    found = []
    for pid in list(getattr(executor, "_processes", None) or {}):
        with suppress(psutil.Error):
            found.append(psutil.Process(pid))
    return found


def end_processes(executor: ProcessPoolExecutor) -> None:
    """End what works for an executor, whatever it is at."""
    for process in _processes(executor):
        with suppress(psutil.Error):
            process.kill()


def prepare_process(stop: Any) -> None:
    """Make a process one that works for a batch: on one core, deaf to ctrl-C, and gone when its batch is gone."""
    from . import stage_running

    stage_running.stop_wanted = stop
    # Whoever began the batch hears ctrl-C and tells this process in its own way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for name in _THREAD_LIMITS:
        os.environ[name] = "1"
    _find_blender_as_if_nobody_had_loaded_it()
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _find_blender_as_if_nobody_had_loaded_it() -> None:
    """Leave out the folders that Blender put on the path of whoever began this process.

    Python would find in them what Blender has for itself under the name ``bpy``, which can't be loaded without it.
    """
    sys.path[:] = [folder for folder in sys.path if not os.path.isfile(os.path.join(folder, "bpy", "__init__.py"))]


def _end_with(sentinel: Any) -> None:
    """End this process when its parent has ended, however it did; nothing half-written is ever looked at."""
    wait([sentinel])
    os._exit(1)
