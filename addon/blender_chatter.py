"""Keep what Blender and its exporters print away from our results on stdout and our messages on stderr."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def unheard() -> Iterator[None]:
    """While the block runs, nothing that Blender prints is seen, be it from Python or from Blender's own C.

    With KEYLIFT_DEBUG in the environment it goes to stderr instead. Errors are raised as ever; their tracebacks, which
    Blender likes to print as well, are among what is kept away.
    """
    if os.environ.get("KEYLIFT_DEBUG"):
        with contextlib.redirect_stdout(sys.stderr), _descriptor_led_to(1, lambda: os.dup(2)):
            yield
        return
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        _descriptor_led_to(1, lambda: os.open(os.devnull, os.O_WRONLY)),
        _descriptor_led_to(2, lambda: os.open(os.devnull, os.O_WRONLY)),
    ):
        yield


@contextlib.contextmanager
def _descriptor_led_to(descriptor: int, opened: Callable[[], int]) -> Iterator[None]:
    """Lead a descriptor elsewhere for a while. A process without it (Blender's window on Windows) is left as it is."""
    try:
        for stream in (sys.__stdout__, sys.__stderr__):
            if stream is not None:
                stream.flush()
        kept = os.dup(descriptor)
    except (OSError, ValueError):
        yield
        return
    try:
        elsewhere = opened()
        try:
            os.dup2(elsewhere, descriptor)
        finally:
            os.close(elsewhere)
        yield
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
