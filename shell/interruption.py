"""Ctrl-C at any moment: the work stops, cleans up after itself, and says so."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from .reporting import Reporter

# What asks a program to stop: ctrl-C; a job scheduler; ctrl-Break on Windows.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))


@contextmanager
def listening(reporter: Reporter) -> Iterator[None]:
    """While the block runs, a request to stop raises KeyboardInterrupt in it.

    Native code that calls back into Python may swallow that exception; ``reporter`` is told as well, and stops the work
    at its next sign of life. Outside the main thread (nobody can press a key there) nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        pressed_before, reporter.stop_wanted = reporter.stop_wanted, True
        if pressed_before or not (reporter.stop_waits or _loading("torch")):
            raise KeyboardInterrupt

    before: dict[int, Any] = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number, handler in before.items():
        # Whoever ignores ctrl-C (nohup) keeps ignoring it.
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            # None: set by somebody who is not Python, and nothing that Python could set again.
            if handler is not None:
                signal.signal(number, handler)


def _loading(name: str) -> bool:
    """True while a module is being imported; torch aborts the process when an exception comes up in its native part."""
    return bool(getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False))


@contextmanager
def unbroken(reporter: Reporter) -> Iterator[None]:
    """A request to stop waits until the block is done, or until progress is reported in it; a second one does not.

    For Blender, which crashes when an exception comes up while it starts, and takes one in an exporter for the
    exporter's own.
    """
    reporter.stop_waits = True
    try:
        yield
    finally:
        reporter.stop_waits = False
    if reporter.stop_wanted:
        raise KeyboardInterrupt


def let_go() -> None:
    """From here on ctrl-C ends the process at once: the work is done, only the interpreter is still tidying up."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
