"""Memory that is free, given back to the system.

Pictures come and go by the hundred megabytes a second, in threads that come and go as well. Linux's C library gives
threads heaps of their own and keeps in each what was once used there: over an hour of footage, a gigabyte that nobody
uses. Windows and macOS give large pieces back by themselves.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time

# As glibc's malloc.h has it.
_M_ARENA_MAX = -8
# One a core, as many threads as are at work; measured with two.
_HEAPS = max(2, os.cpu_count() or 1)
_SECONDS_BETWEEN = 5.0


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    try:
        library = ctypes.CDLL(None)
        library.mallopt.argtypes, library.malloc_trim.argtypes = [ctypes.c_int, ctypes.c_int], [ctypes.c_size_t]
    except (OSError, AttributeError):
        # Another C library, such as musl, which does not keep heaps.
        return None
    return library


class FreedMemory:
    """Gives back what is free, now and then, and lets new threads share heaps, where there are not many already."""

    def __init__(self) -> None:
        self._library = _glibc()
        self._next_s = time.monotonic() + _SECONDS_BETWEEN
        if self._library is not None:
            self._library.mallopt(_M_ARENA_MAX, _HEAPS)

    def give_back_now_and_then(self) -> None:
        """To be called often; every five seconds, a hundredth of one is spent."""
        if self._library is not None and time.monotonic() >= self._next_s:
            self._library.malloc_trim(0)
            self._next_s = time.monotonic() + _SECONDS_BETWEEN
