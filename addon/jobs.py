"""Work that runs in the worker while an artist goes on working, one job after the other.

A job is a flow: a generator that yields commands for the worker, is sent what came of each, and returns the outcome.
Nothing here waits and nothing here touches a scene; whoever started a job applies its outcome.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple

from ..core.errors import EXIT_INTERRUPTED, Cancelled, KeyliftError
from ..core.worker_messages import Failed, Finished, FromWorker, Noted, Progressed
from .worker_client import Worker, failure_of

# A worker that nobody asked anything for so long gives its memory back.
IDLE_S = 300.0
# Below this share of the work, time left is a guess that only alarms.
_WORTH_AN_ESTIMATE = 0.03


class Command(NamedTuple):
    """One command of the shell for the worker.

    argv:  its arguments
    share: of the whole job's time, 0 to 1
    stage: the stage whose progress counts; others, such as fetching a model, are named only
    """

    argv: tuple[str, ...]
    share: float
    stage: str


Flow = Generator[Command, Mapping[str, Any], Any]


class State(Enum):
    """Where a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(eq=False)
class Job:
    """One piece of work of one scene.

    title:    what it does, for a person
    owner:    whose it is, such as a scene's name; nobody else gets its outcome
    flow:     the work itself
    fraction: of the work that is done, 0 to 1
    stage:    what it is at, for a person
    outcome:  what the flow returned, once it is DONE
    problem:  why there is none, once it FAILED
    notes:    what is worth knowing besides
    """

    title: str
    owner: str
    flow: Flow
    state: State = State.WAITING
    fraction: float = 0.0
    stage: str = ""
    outcome: Any = None
    problem: KeyliftError | None = None
    notes: list[str] = field(default_factory=list)
    began: float = 0.0
    _command: Command | None = None
    _before: float = 0.0

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in (State.DONE, State.FAILED, State.STOPPED)

    @property
    def seconds_left(self) -> float | None:
        """How long it will take at the pace so far; None while nobody can tell."""
        if self.state is not State.RUNNING or self.fraction < _WORTH_AN_ESTIMATE:
            return None
        return (time.monotonic() - self.began) / self.fraction * (1 - self.fraction)

    def next_command(self, values: Mapping[str, Any] | None) -> Command | None:
        """Go on with what came of the last command (None at first); None when the flow is through."""
        if self._command is not None:
            self._before += self._command.share
            self.fraction = min(self._before, 1.0)
        try:
            self._command = next(self.flow) if values is None else self.flow.send(values)
        except StopIteration as end:
            self.outcome, self.fraction, self.state = end.value, 1.0, State.DONE
            return None
        except KeyliftError as problem:
            self.fail(problem)
            return None
        return self._command

    def hear(self, event: FromWorker) -> None:
        """Take note of how far the command is."""
        if isinstance(event, Noted):
            self.notes.append(event.text)
        if isinstance(event, Progressed):
            self.stage = event.title
            if self._command is not None and event.stage == self._command.stage and event.total:
                part = min(event.done / event.total, 1.0)
                self.fraction = min(self._before + self._command.share * part, 1.0)

    def fail(self, problem: KeyliftError) -> None:
        """End without an outcome."""
        stopped = isinstance(problem, Cancelled) or problem.exit_code == EXIT_INTERRUPTED
        self.state, self.problem = State.STOPPED if stopped else State.FAILED, problem
        self.flow.close()


class JobQueue:
    """All jobs of this Blender, and the one worker that they share: its memory is had once, its libraries load once."""

    def __init__(self, start_worker: Callable[[], Worker]) -> None:
        self._start_worker = start_worker
        self._worker: Worker | None = None
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._number = 0
        self._last_used = time.monotonic()

    def add(self, job: Job) -> None:
        """Take a job on. It begins when those before it are over."""
        self._waiting.append(job)

    @property
    def jobs(self) -> list[Job]:
        """The job that runs, and those that wait, in order."""
        return [*([self._running] if self._running is not None else []), *self._waiting]

    def of(self, owner: str) -> Job | None:
        """The first job of ``owner`` that is not over."""
        return next((job for job in self.jobs if job.owner == owner), None)

    @property
    def worker_pid(self) -> int | None:
        """The worker's process, while there is one."""
        return self._worker.pid if self._worker is not None and self._worker.alive else None

    def tick(self) -> None:
        """Hear what the worker has to say, and go on. To be called a few times a second."""
        if self._running is None and self._waiting:
            self._begin(self._waiting.popleft())
        if self._running is None:
            self._let_an_idle_worker_go()
            return
        self._last_used = time.monotonic()
        assert self._worker is not None
        try:
            events = self._worker.poll()
        except KeyliftError as problem:
            self._worker = None
            self._end(problem)
            return
        for event in events:
            if self._running is None:
                return
            if getattr(event, "job", self._number) != self._number:
                continue
            if isinstance(event, Failed):
                self._end(failure_of(event))
            elif isinstance(event, Finished):
                self._go_on(event.values)
            else:
                self._running.hear(event)

    def cancel(self, job: Job) -> None:
        """Stop a job, whether it runs or waits. It is over within half a second of ticks."""
        if job is self._running and self._worker is not None:
            self._worker.cancel(self._number)
        elif job in self._waiting:
            self._waiting.remove(job)
            job.fail(Cancelled("Stopped on request."))

    def close(self) -> None:
        """Stop everything: the file is closed, or Blender ends."""
        for job in self.jobs:
            job.fail(Cancelled("Stopped: the file was closed."))
        self._running = None
        self._waiting.clear()
        if self._worker is not None:
            self._worker.stop()
            self._worker = None

    def _begin(self, job: Job) -> None:
        job.state, job.began = State.RUNNING, time.monotonic()
        job.stage = "Starting the worker" if self._worker is None else job.title
        self._running = job
        self._go_on(None)

    def _go_on(self, values: Mapping[str, Any] | None) -> None:
        job = self._running
        assert job is not None
        command = job.next_command(values)
        if command is None:
            self._running = None
            return
        try:
            if self._worker is None or not self._worker.alive:
                self._worker = self._start_worker()
            self._number = self._worker.request(command.argv)
        except KeyliftError as problem:
            self._worker = None
            self._end(problem)

    def _end(self, problem: KeyliftError) -> None:
        job, self._running = self._running, None
        if job is not None:
            job.fail(problem)

    def _let_an_idle_worker_go(self) -> None:
        if self._worker is not None and time.monotonic() - self._last_used > IDLE_S:
            self._worker.stop()
            self._worker = None

    def run_to_its_end(self, job: Job, told: Callable[[Job], None] | None = None) -> None:
        """Wait for one job: for scripts, and for Blender without a window."""
        self.add(job)
        with contextlib.ExitStack() as on_the_way_out:
            # Ctrl-C in a terminal: the worker must not go on for nobody.
            on_the_way_out.callback(lambda: None if job.over else self.cancel(job))
            while not job.over:
                self.tick()
                if told is not None:
                    told(job)
                time.sleep(0.02)
