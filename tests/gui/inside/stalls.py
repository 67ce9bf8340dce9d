"""For how long Blender's window hung: no event handled, nothing drawn."""

from __future__ import annotations

import sys
import threading
import time
from types import FrameType
from typing import Any

# Shorter ones nobody notices.
_WORTH_TELLING_S = 0.02
_LOOK_S = 0.005


class StallWatch:
    """Measures the time between two calls of ``seen`` by the main thread, and how much of it was Keylift's.

    Drawn by the processor, on a machine that also runs the worker, a picture alone takes longer than an artist would
    put up with. So a second thread looks at what the main thread is doing: Keylift's own is the time, at a stretch,
    with code of Keylift on the stack.
    """

    def __init__(self) -> None:
        self._main = threading.main_thread().ident
        self._lock = threading.Lock()
        self._expected = time.monotonic()
        self._watching = False
        self._stalls: list[dict[str, Any]] = []
        self._own_since: float | None = None
        self._own_s, self._own_where = 0.0, ""
        threading.Thread(target=self._look_on, name="stalls", daemon=True).start()

    def start(self) -> None:
        """Forget what was, and begin."""
        with self._lock:
            self._stalls = []
            self._own_s, self._own_where = 0.0, ""
            self._expected, self._watching = time.monotonic(), True

    def seen(self, pause_s: float) -> None:
        """The main thread is alive, and wants to be heard of again after ``pause_s``."""
        now = time.monotonic()
        with self._lock:
            late = now - self._expected
            if self._watching and late > _WORTH_TELLING_S:
                stall = {"ms": round(late * 1000), "own_ms": round(self._own_s * 1000), "where": self._own_where}
                self._stalls.append(stall)
            self._expected = now + pause_s
            self._own_since, self._own_s, self._own_where = None, 0.0, ""

    def stop(self) -> list[dict[str, Any]]:
        """The stalls since ``start``, in order: ms, own_ms of Keylift's code at a stretch, and where that ended."""
        with self._lock:
            self._watching = False
            return self._stalls

    def _look_on(self) -> None:
        while True:
            time.sleep(_LOOK_S)
            assert self._main is not None
            where = keylift_line(sys._current_frames().get(self._main))
            now = time.monotonic()
            with self._lock:
                if where is None:
                    self._own_since = None
                    continue
                if self._own_since is None:
                    self._own_since = now
                if now - self._own_since > self._own_s:
                    self._own_s, self._own_where = now - self._own_since, where


def keylift_line(frame: FrameType | None) -> str | None:
    """The innermost line of the add-on on a stack, such as "addon.panel:98 draw"; None when there is none."""
    while frame is not None:
        package, _, module = frame.f_globals.get("__name__", "").partition(".keylift.")
        if module and package.startswith("bl_ext."):
            return f"{module}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return None
