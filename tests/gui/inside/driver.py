"""Runs inside Blender: hears which step to take, takes it a redraw at a time, and tells how it went.

Started by ``blender --python driver.py``. A step is a generator of steps.py. Whenever it yields, Blender handles its
events and draws before the step goes on; with ``yield 0.01`` at least so many seconds pass meanwhile.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import bpy

sys.path.insert(0, str(Path(__file__).resolve().parent))

import steps
from stalls import StallWatch

_AT_ONCE_S = 0.001
_BETWEEN_STEPS_S = 0.02


class Driver:
    """Takes one step after the other, as it is asked for over a connection to the tests.

    A request is a line of JSON: step, arguments, timeout_s. So is the answer: value or problem, and the stalls
    meanwhile.
    """

    def __init__(self, port: int) -> None:
        self._connection = socket.create_connection(("127.0.0.1", port))
        self._connection.setblocking(False)
        self._heard = b""
        self._step: Generator[float | None, None, Any] | None = None
        self._deadline = 0.0
        self._timeout_s = 0.0
        self._watch = StallWatch()

    def tick(self) -> float:
        """Go on a little, and say when to come again; called by Blender's timer."""
        pause = self._begin() if self._step is None else self._go_on()
        self._watch.seen(pause)
        return pause

    def _begin(self) -> float:
        request = self._asked()
        if request is None:
            return _BETWEEN_STEPS_S
        self._timeout_s = request["timeout_s"]
        self._deadline = time.monotonic() + self._timeout_s
        self._watch.start()
        self._step = _step(request["step"], request["arguments"])
        return _AT_ONCE_S

    def _asked(self) -> dict[str, Any] | None:
        try:
            arrived = self._connection.recv(65536)
        except BlockingIOError:
            return None
        if not arrived:
            # The tests are over, or were stopped; nobody is there to be asked whether to save.
            bpy.ops.wm.quit_blender()
        self._heard += arrived
        line, end, rest = self._heard.partition(b"\n")
        if not end:
            return None
        self._heard = rest
        asked: dict[str, Any] = json.loads(line)
        return asked

    def _go_on(self) -> float:
        assert self._step is not None
        try:
            if time.monotonic() > self._deadline:
                self._step.throw(TimeoutError(f"not done within {self._timeout_s:.0f} s"))
            return next(self._step) or _AT_ONCE_S
        except StopIteration as end:
            self._answer({"value": end.value})
        except Exception:
            self._answer({"problem": traceback.format_exc()})
        return _AT_ONCE_S

    def _answer(self, answer: dict[str, Any]) -> None:
        self._step = None
        answer["stalls"] = self._watch.stop()
        self._connection.setblocking(True)
        self._connection.sendall(json.dumps(answer, default=repr).encode() + b"\n")
        self._connection.setblocking(False)


def _step(name: str, arguments: dict[str, Any]) -> Generator[float | None, None, Any]:
    """The step itself. One that is not there, or wants other arguments, fails like any other."""
    return (yield from getattr(steps, name)(**arguments))


def keep_quiet() -> None:
    """Let nothing pop up over what is to be pressed, and nothing ask a question when the tests end."""
    preferences = bpy.context.preferences
    preferences.view.show_splash = False
    preferences.view.show_tooltips = False
    preferences.view.use_save_prompt = False
    # A file browser takes the place of the editors, rather than a window that nobody places.
    preferences.view.filebrowser_display_type = "SCREEN"
    preferences.use_preferences_save = False


keep_quiet()
# Opening another file ends no test.
bpy.app.timers.register(Driver(int(os.environ["KEYLIFT_GUI_PORT"])).tick, first_interval=0.5, persistent=True)
