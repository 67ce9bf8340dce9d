"""Blender's end of the conversation with the worker: starts it, asks, listens, and sees to it that it ends.

Knows nothing of Blender, so that it can be tried without one.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core.errors import Cancelled, KeyliftError, TryAgainError
from ..core.worker_messages import (
    MAX_LINE_BYTES,
    PROTOCOL,
    Cancel,
    Failed,
    Finished,
    FromWorker,
    Ready,
    Request,
    WorkerMessageError,
    decode_event,
    encode,
)

# What would lead another Python's modules into the worker.
_UNWANTED_VARIABLES = ("PYTHON", "VIRTUAL_ENV", "CONDA")
_SILENT_FOR_S = 30.0
_LAST_WORDS = 40
# A worker that was asked to stop and does not answer within this is ended.
PATIENCE_S = 0.3

_running: weakref.WeakSet[Worker] = weakref.WeakSet()


class WorkerError(TryAgainError):
    """The worker could not be started, or ended in the middle of its work. The scene is as it was."""


@dataclass(frozen=True)
class WorkerProgram:
    """What to start.

    python:    the interpreter of the worker's environment
    package:   the folder of Keylift itself, which the worker runs from
    variables: environment variables to add, such as KEYLIFT_CACHE
    bytecode:  a folder for compiled modules, so that nothing is written where the extension lies; None = Python's own
    """

    python: Path
    package: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    bytecode: Path | None = None

    def command(self, *argv: str) -> list[str]:
        """The command line that runs ``keylift argv`` in the environment, which nothing outside it has a say in."""
        options = ["-I", "-X", "utf8"]
        options += ["-B"] if self.bytecode is None else ["-X", f"pycache_prefix={self.bytecode}"]
        return [str(self.python), *options, str(self.package / "addon" / "worker_start.py"), *argv]

    def environment(self) -> dict[str, str]:
        """The environment variables that it runs with."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.upper().startswith(_UNWANTED_VARIABLES)
        }
        return {**inherited, **self.variables}


class Worker:
    """A process that runs the shell's commands one after the other.

    Nothing here waits: ``poll`` gives what has arrived. Used from one thread.
    """

    def __init__(self, program: WorkerProgram) -> None:
        self.program = program
        self._arrived: queue.Queue[FromWorker | None] = queue.Queue()
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS)
        self._next_job = 1
        self._cancelled_at: dict[int, float] = {}
        self._ready = False
        self._over = False
        self._began = time.monotonic()
        self._process = self._started()
        for listen in (self._listen, self._hear_complaints):
            threading.Thread(target=listen, name="keylift-worker", daemon=True).start()
        _running.add(self)

    def _started(self) -> subprocess.Popen[bytes]:
        hidden: dict[str, Any] = {}
        if sys.platform == "win32":
            # Without, a console window pops up over Blender.
            hidden["creationflags"] = subprocess.CREATE_NO_WINDOW | subprocess.BELOW_NORMAL_PRIORITY_CLASS
        try:
            return subprocess.Popen(
                self.program.command("worker"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.program.environment(),
                cwd=self.program.package,
                **hidden,
            )
        except OSError as problem:
            raise WorkerError(
                f"The worker's Python '{self.program.python}' can't be started ({problem.strerror or problem}). "
                "Set the worker up again in the add-on's preferences."
            ) from problem

    @property
    def alive(self) -> bool:
        """Whether requests can be sent."""
        return not self._over and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's number, for whoever looks at it from outside."""
        return self._process.pid

    def request(self, argv: Sequence[str]) -> int:
        """Ask for ``keylift argv`` and return the job's number. Raises WorkerError when the worker is gone."""
        job = self._next_job
        self._next_job += 1
        self._say(encode(Request(job, tuple(argv))))
        return job

    def cancel(self, job: int) -> None:
        """Ask the worker to stop a job. One that does not answer soon is ended by ``poll``."""
        self._cancelled_at.setdefault(job, time.monotonic())
        with contextlib.suppress(WorkerError):
            self._say(encode(Cancel(job)))

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except (OSError, ValueError):
            raise WorkerError(self._obituary()) from None

    def poll(self) -> list[FromWorker]:
        """Everything that arrived since. Raises WorkerError once the worker is gone, silent, or of another version."""
        events: list[FromWorker] = []
        while True:
            try:
                event = self._arrived.get_nowait()
            except queue.Empty:
                break
            if event is None:
                self.stop()
                if events:
                    # What it said before it ended comes first; its end is told the next time.
                    self._arrived.put(None)
                    return events
                raise WorkerError(self._obituary())
            if isinstance(event, Ready):
                self._welcome(event)
            elif not self._is_stale(event):
                events.append(event)
        self._look_at_the_clock()
        return events

    def _is_stale(self, event: FromWorker) -> bool:
        """Whether it is progress of a job that was cancelled; that such a job has ended is worth hearing."""
        job = getattr(event, "job", None)
        if job not in self._cancelled_at:
            return False
        if isinstance(event, Finished | Failed):
            del self._cancelled_at[job]
            return False
        return True

    def _welcome(self, ready: Ready) -> None:
        if ready.protocol != PROTOCOL:
            self.stop()
            raise WorkerError(
                f"The worker is of another version (it speaks {ready.protocol}, this add-on {PROTOCOL}). "
                "Set it up again in the add-on's preferences."
            )
        self._ready = True

    def _look_at_the_clock(self) -> None:
        now = time.monotonic()
        if not self._ready and now - self._began > _SILENT_FOR_S:
            self.stop()
            raise WorkerError("The worker did not start in half a minute. " + self._complaint())
        if any(now - asked > PATIENCE_S for asked in self._cancelled_at.values()):
            self.stop()
            self._cancelled_at.clear()
            raise Cancelled("Stopped on request.")

    def stop(self) -> None:
        """End the process, whatever it is doing. Files are renamed into place, so none is left half-done."""
        self._over = True
        _running.discard(self)
        with contextlib.suppress(OSError):
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._process.poll() is None:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(MAX_LINE_BYTES + 1):
            try:
                self._arrived.put(decode_event(line))
            except WorkerMessageError as problem:
                self._last_words.append(str(problem))
        self._arrived.put(None)

    def _hear_complaints(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._last_words.append(line.decode("utf-8", "replace").rstrip())

    def _complaint(self) -> str:
        words = [line for line in self._last_words if line.strip()]
        return f"It said: {words[-1]}" if words else "It said nothing. Set it up again in the add-on's preferences."

    def _obituary(self) -> str:
        code = self._process.poll()
        killed = code is not None and (code < 0 or code in (137, 0xC0000017))
        if not self._ready:
            return f"The worker could not start. {self._complaint()}"
        if killed:
            return (
                "The worker was ended from outside, most likely because the memory ran out. The scene is as it was. "
                "Close other programs or take a shorter range, and try again."
            )
        return f"The worker ended unexpectedly. The scene is as it was; try again. {self._complaint()}"


def run_to_its_end(
    worker: Worker, argv: Sequence[str], heard: Callable[[FromWorker], bool | None] | None = None
) -> Mapping[str, Any]:
    """Run one command and wait for it: for scripts and for Blender without a window. Returns the result's values.

    heard: called with each event; False asks the job to stop
    Raises KeyliftError with the worker's message and exit code when the command fails.
    """
    job = worker.request(argv)
    while True:
        for event in worker.poll():
            if getattr(event, "job", job) != job:
                continue
            if isinstance(event, Failed):
                raise failure_of(event)
            if isinstance(event, Finished):
                return event.values
            if heard is not None and heard(event) is False:
                worker.cancel(job)
        time.sleep(0.02)


def failure_of(event: Failed) -> KeyliftError:
    """The error that a failed job stands for, with its exit code."""
    problem = KeyliftError(event.message)
    problem.exit_code = event.exit_code
    return problem


@atexit.register
def _end_all() -> None:
    """However Blender ends, its workers end as well; those of a Blender that crashed end with their standard input."""
    for worker in list(_running):
        worker.stop()
