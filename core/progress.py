"""How long work tells how far it is and hears that it should stop."""

from __future__ import annotations

from typing import Protocol

from .errors import Cancelled


class Progress(Protocol):
    """Called as work goes on. ``total`` is None while it isn't known. Returning False asks the work to stop."""

    def __call__(self, done: int, total: int | None) -> bool: ...


def silent(done: int, total: int | None) -> bool:
    """Progress for callers who don't want to know."""
    return True


def report(progress: Progress, done: int, total: int | None) -> None:
    """Tell ``progress`` and raise Cancelled when it answers False."""
    if progress(done, total) is False:
        raise Cancelled("Stopped on request.")
