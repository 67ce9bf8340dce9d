"""``keylift worker``: the shell's commands for Blender, which has none of the libraries that they need."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import queue
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any, BinaryIO

from .. import __version__
from ..core.errors import EXIT_DONE, EXIT_INTERRUPTED, EXIT_TRY_AGAIN, EXIT_USAGE, DeviceError
from ..core.worker_messages import (
    MAX_LINE_BYTES,
    PROTOCOL,
    Cancel,
    Failed,
    Finished,
    FromWorker,
    Noted,
    Progressed,
    Ready,
    Request,
    WorkerMessageError,
    decode_request,
    encode,
)
from .reporting import Reporter, Show

SUMMARY = "run commands for Blender, as lines of JSON on standard input and output"
EXAMPLES = """  keylift worker
        started by the Blender extension; ends when its standard input does
"""
# More would only be work for whoever draws it.
_SECONDS_BETWEEN_REPORTS = 0.05
# A person who works in Blender meanwhile comes first.
_NICENESS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything is asked on standard input."""


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Serve until standard input ends."""
    line = _Line(sys.stdin.buffer)
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    line.say(Ready(PROTOCOL, __version__, platform.python_version()))
    while (request := line.next_request()) is not None:
        if not _serve(request, line):
            # Not by way of the interpreter's end, which the thread that listens would be in the way of.
            os._exit(EXIT_TRY_AGAIN)
    return EXIT_DONE


def _serve(request: Request, line: _Line) -> bool:
    """Run one command and say how it ended; False when this process is good for nothing more."""
    from .command_line import run_command

    with line.working_on(request.job) as reporter:
        if reporter.stop_wanted:
            reporter.failure("Stopped on request.", "Cancelled", EXIT_INTERRUPTED)
            return True
        if request.argv[:1] == ("worker",):
            reporter.failure("A worker runs no other worker.", "usage", EXIT_USAGE)
            return True
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = run_command(request.argv, reporter)
        sys.stderr.write(said.getvalue())
        sys.stderr.flush()
        if not reporter.ended:
            # A usage error, which argparse has told on stderr; or a command that had nothing to say.
            told = said.getvalue().strip().splitlines() or ["The command gave no result."]
            if code == EXIT_DONE:
                reporter.result("", {})
            else:
                reporter.failure(told[-1], "usage" if code == EXIT_USAGE else "silent", code)
        # A GPU that failed stays so for a process; the next worker finds it well again.
        return reporter.failed_as != DeviceError.__name__


class EventReporter(Reporter):
    """Tells Blender what the shell would show to a person."""

    def __init__(self, job: int, line: _Line) -> None:
        super().__init__(as_json=True)
        self.job = job
        self.ended = False
        self.failed_as = ""
        self._line = line

    def __enter__(self) -> EventReporter:
        return self

    def _show(self, name: str, title: str) -> Show:
        last = 0.0
        self._line.say(Progressed(self.job, name, title, 0, None))

        def show(done: int, total: int | None) -> None:
            nonlocal last
            now = time.monotonic()
            if now - last >= _SECONDS_BETWEEN_REPORTS or done == total:
                last = now
                self._line.say(Progressed(self.job, name, title, done, total))

        return show

    def note(self, text: str) -> None:
        self._line.say(Noted(self.job, text))

    def result(self, text: str, values: dict[str, Any]) -> None:
        self._end(Finished(self.job, values))

    def failure(self, message: str, kind: str, exit_code: int) -> None:
        self.failed_as = kind
        self._end(Failed(self.job, message, kind, exit_code))

    def _end(self, event: FromWorker) -> None:
        self.ended = True
        self._line.say(event)


class _Line:
    """The conversation with Blender. A thread listens, so that a request to stop is heard while a job runs."""

    def __init__(self, incoming: BinaryIO) -> None:
        # Whatever native code prints to descriptor 1 must not get into the conversation.
        sys.stdout.flush()
        self._out = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._incoming = incoming
        self._talking = threading.Lock()
        self._requests: queue.Queue[Request | None] = queue.Queue()
        self._unwanted: set[int] = set()
        self._reporter: EventReporter | None = None
        threading.Thread(target=self._listen, name="keylift-worker-listens", daemon=True).start()

    def say(self, event: FromWorker) -> None:
        """Send one message. Who is gone hears nothing, and the listener ends the process."""
        with self._talking, contextlib.suppress(BrokenPipeError, ValueError, OSError):
            self._out.write(encode(event))
            self._out.flush()

    def next_request(self) -> Request | None:
        """Wait for work; None when there will be no more."""
        # Without a limit Windows hears no ctrl-C while it waits.
        while True:
            with contextlib.suppress(queue.Empty):
                return self._requests.get(timeout=0.5)

    @contextlib.contextmanager
    def working_on(self, job: int) -> Any:
        """The reporter of a job, which is told when somebody wants it stopped."""
        self._reporter = EventReporter(job, self)
        self._reporter.stop_wanted = job in self._unwanted
        try:
            yield self._reporter
        finally:
            self._reporter = None
            self._unwanted.discard(job)

    def _listen(self) -> None:
        while line := self._incoming.readline(MAX_LINE_BYTES + 1):
            try:
                message = decode_request(line)
            except WorkerMessageError as problem:
                self.say(Failed(-1, str(problem), "WorkerMessageError", 1))
                continue
            if isinstance(message, Cancel):
                self._unwanted.add(message.job)
                reporter = self._reporter
                if reporter is not None and reporter.job == message.job:
                    reporter.stop_wanted = True
            else:
                self._requests.put(message)
        # Blender is gone, whatever it was doing: nobody is left to work for. Files are written beside their place and
        # renamed, so nothing half-done stays.
        os._exit(EXIT_DONE)


def conversation(argv: Sequence[str], job: int = 1) -> bytes:
    """A request as it is sent, for whoever tries the worker by hand or in a test."""
    return encode(Request(job, tuple(argv)))
