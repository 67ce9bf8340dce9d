"""From jobs to takes: what is ordered when, tried again, and given up. Whoever runs it is an engine's concern.

Only a few jobs are in hand at a time, so memory does not grow with their number, and a clip that was begun is brought
to its end before many others are begun.
"""

from __future__ import annotations

import queue
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from ...core.errors import EXIT_DONE, EXIT_FAILED, EXIT_TRY_AGAIN, Cancelled, KeyliftError
from .engine import Engine, WorkerDied, WorkerUnfit
from .job import STAGES, Job
from .out_folder import OutFolder
from .stage_result import BUSY, DONE, FAILED, RETRY, Failure, StageResult
from .standing import failed_before, is_done, write_failed

# What was busy or failed for now is tried again after so long, twice as long each time, up to the last.
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
# Another batch works on it: look again soon, as often as it takes.
_BUSY_WAIT_S = 0.5
# A process that dies may have been somebody's victim. One that always dies on the same job is its doing.
_MOST_DEATHS = 8
_DIED = "The process that worked on it ended in the middle of it {times} times: killed, out of memory, or crashed."

# Hears of every job that has ended, and asks whether to go on.
Heard = Callable[[Job, StageResult], None]


@dataclass
class Tally:
    """What became of the jobs.

    done:    made now; there: were done before and are unchanged; failed: for good; retry: later it may work
    seconds: of computing by stage, whoever computed at the same time
    """

    done: int = 0
    there: int = 0
    failed: int = 0
    retry: int = 0
    takes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def ended(self) -> int:
        """Jobs that nobody works on any more."""
        return self.done + self.there + self.failed + self.retry

    @property
    def exit_code(self) -> int:
        """For whoever started the batch: trying again is worth it as long as it may help."""
        if self.retry:
            return EXIT_TRY_AGAIN
        return EXIT_FAILED if self.failed else EXIT_DONE


@dataclass
class _Errand:
    """A job on its way: the stage that is next, what came of the one before, and how often something went wrong."""

    job: Job
    stage: str = STAGES[0]
    before: StageResult | None = None
    attempts: int = 0
    deaths: int = 0
    ready_at: float = 0.0


class Coordination:
    """Brings jobs through their stages.

    last_stage: nothing is done beyond it
    retries:    how often what failed for now is tried again
    resume:     leave alone what is done, or failed for good, and unchanged
    """

    def __init__(
        self, engine: Engine, out: OutFolder, *, last_stage: str = STAGES[-1], retries: int = 3, resume: bool = True
    ) -> None:
        self._engine, self._out = engine, out
        self._stages = STAGES[: STAGES.index(last_stage) + 1]
        self._retries, self._resume = retries, resume
        self._ended: queue.SimpleQueue[tuple[_Errand, Future[StageResult]]] = queue.SimpleQueue()
        self._in_hand: deque[_Errand] = deque()
        self._running = 0
        self.tally = Tally()

    def run(
        self, jobs: Iterable[Job], heard: Heard = lambda job, result: None, go_on: Callable[[], bool] = lambda: True
    ) -> Tally:
        """Bring all jobs to their end; failures of some don't stop the others. Raises Cancelled when told to end."""
        still = self._to_do(jobs, heard)
        # More than can run, so that nobody waits for us, and takes may wait for Blender.
        most = 2 * self._engine.slots + 2
        while True:
            while len(self._in_hand) + self._running < most and (errand := next(still, None)) is not None:
                self._in_hand.append(errand)
            if not self._in_hand and not self._running:
                return self.tally
            self._order_what_is_ready()
            self._hear(heard)
            if not go_on():
                self._engine.stop()
                raise Cancelled("Stopped on request. Run it again to go on.")

    def _to_do(self, jobs: Iterable[Job], heard: Heard) -> Iterator[_Errand]:
        for job in jobs:
            if self._resume and is_done(job, self._out):
                self.tally.there += 1
                heard(job, StageResult(job.name, self._stages[-1], DONE, reused=True))
            elif self._resume and (failure := failed_before(job, self._out)) is not None:
                self.tally.failed += 1
                heard(job, StageResult(job.name, failure.stage, FAILED, reused=True, failure=failure))
            else:
                yield _Errand(job)

    def _order_what_is_ready(self) -> None:
        now = time.monotonic()
        for errand in [errand for errand in self._in_hand if errand.ready_at <= now]:
            self._in_hand.remove(errand)
            self._running += 1
            future = self._engine.order(errand.job, errand.stage, errand.before)
            future.add_done_callback(partial(self._note_end, errand))

    def _note_end(self, errand: _Errand, future: Future[StageResult]) -> None:
        """Called by whatever thread an engine has; everything else happens in ours."""
        self._ended.put((errand, future))

    def _hear(self, heard: Heard) -> None:
        """Wait a moment for stages that have ended, and see to what comes next."""
        wait_s = 0.2
        while True:
            try:
                errand, future = self._ended.get(timeout=wait_s)
            except queue.Empty:
                return
            wait_s = 0.001
            self._running -= 1
            self._see_to(errand, self._outcome(errand, future), heard)

    def _outcome(self, errand: _Errand, future: Future[StageResult]) -> StageResult:
        try:
            return future.result()
        except WorkerDied:
            errand.deaths += 1
            # Not one of the attempts, until it is always this job that is worked on when a process dies.
            errand.attempts -= 1
            message = _DIED.format(times=errand.deaths)
            failure = Failure(errand.stage, message, "WorkerDied", EXIT_TRY_AGAIN)
            if errand.deaths >= _MOST_DEATHS:
                errand.attempts = self._retries
            return StageResult(errand.job.name, errand.stage, RETRY, failure=failure)
        except WorkerUnfit as problem:
            # Nothing was tried. Somebody else will do it: the engine sees to it that there is somebody.
            errand.attempts -= 1
            failure = Failure(errand.stage, str(problem), "WorkerUnfit", EXIT_TRY_AGAIN)
            return StageResult(errand.job.name, errand.stage, RETRY, failure=failure)

    def _see_to(self, errand: _Errand, result: StageResult, heard: Heard) -> None:
        if result.status == BUSY:
            errand.ready_at = time.monotonic() + _BUSY_WAIT_S
            self._in_hand.append(errand)
            return
        if not result.reused:
            self.tally.seconds[result.stage] += result.seconds
        if result.status == DONE and result.stage != self._stages[-1]:
            following = self._stages[self._stages.index(result.stage) + 1]
            # What was begun comes first.
            self._in_hand.appendleft(replace(errand, stage=following, before=result, attempts=0, ready_at=0.0))
            return
        if result.status == RETRY and errand.attempts < self._retries:
            wait_s = min(_FIRST_WAIT_S * 2 ** max(errand.attempts, 0), _LONGEST_WAIT_S)
            errand.attempts += 1
            errand.ready_at = time.monotonic() + (0.0 if errand.deaths else wait_s)
            self._in_hand.append(errand)
            return
        self._count(errand, result)
        heard(errand.job, result)

    def _count(self, errand: _Errand, result: StageResult) -> None:
        tally = self.tally
        if result.status == DONE:
            # Another batch may have been at it, or only a time stamp had changed.
            tally.there += result.reused
            tally.done += not result.reused
            tally.takes += len(result.takes)
            return
        if result.status == FAILED:
            tally.failed += 1
        else:
            tally.retry += 1
        assert result.failure is not None
        # On a disk that is full there is no room for that either; whoever listens hears of it all the same.
        with suppress(KeyliftError):
            write_failed(errand.job, self._out, result.status, result.failure, errand.attempts + 1)
