"""Blender's window, and somebody to press its buttons."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .blenders import Blender
from .virtual_screen import Desktop

INSIDE = Path(__file__).with_name("inside")
SIZE_PX = (1600, 900)
_FIRST_START_S = 120
# How long after the last drawing the screen may show it.
_ON_SCREEN_S = 0.1
_LAST_WORDS = 40
_LONG_LINE = 300


class StepFailed(AssertionError):
    """A step did not go as it should; the message is what Blender said."""


class BlenderWindow:
    """One Blender with its window open, and a mouse and a keyboard that are ours.

    stalls:         when the window hung during the last step, for how long, and in whose code (inside/stalls.py)
    longest_stalls: a line of text for each step
    """

    def __init__(self, blender: Blender, screen: Desktop, work: Path, pictures: Path) -> None:
        self.stalls: list[dict[str, Any]] = []
        self.longest_stalls = ["   ms   own  step, and where Keylift's own was"]
        self._screen, self._work, self._pictures = screen, work, pictures
        self._taken = 0
        self._log = work / "blender.log"
        shutil.copytree(INSIDE, work / "inside", dirs_exist_ok=True)
        with socket.create_server(("127.0.0.1", 0)) as server:
            variables = {**own_settings(work), **screen.variables}
            variables["KEYLIFT_GUI_PORT"] = str(server.getsockname()[1])
            size = [str(pixels) for pixels in SIZE_PX]
            backend = ("--gpu-backend", "opengl") if sys.platform.startswith("linux") else ()
            command = blender.command(
                *("--enable-event-simulate", *backend, "--window-geometry", "0", "0", *size),
                *("--python-exit-code", "7", "--python", str(work / "inside" / "driver.py")),
            )
            with self._log.open("a", encoding="utf-8") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=blender.environment(variables)
                )
            self._connection = self._driver_of(server)
        self._answers = self._connection.makefile("r", encoding="utf-8")

    def _driver_of(self, server: socket.socket) -> socket.socket:
        server.settimeout(1)
        deadline = time.monotonic() + _FIRST_START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                return server.accept()[0]
            except TimeoutError:
                continue
        self._process.kill()
        raise StepFailed(f"Blender did not open its window:\n{self.last_words()}")

    @property
    def log(self) -> str:
        """All that Blender printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def last_words(self) -> str:
        """The end of it. Long lines are cut: Blender tells the thousand icons that there are, where one is not."""
        lines = self.log.splitlines()[-_LAST_WORDS:]
        return "\n".join(line if len(line) < _LONG_LINE else line[:_LONG_LINE] + " ..." for line in lines)

    def do(self, step: str, /, timeout_s: float = 30, **arguments: Any) -> Any:
        """Take a step of inside/steps.py and return what it returns. Raises StepFailed when it fails or hangs."""
        request = {"step": step, "arguments": arguments, "timeout_s": timeout_s}
        self._connection.settimeout(timeout_s + 15)
        try:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            line = self._answers.readline()
        except OSError:
            line = ""
        if not line:
            raise StepFailed(f"Blender hangs or has ended in '{step}':\n{self.last_words()}")
        answer = json.loads(line)
        self.stalls = answer["stalls"]
        longest = max(self.stalls, key=lambda stall: stall["own_ms"], default=None)
        if longest is not None:
            everybodys = max(stall["ms"] for stall in self.stalls)
            self.longest_stalls.append(f"{everybodys:5} {longest['own_ms']:5}  {step}  {longest['where']}")
        if "problem" in answer:
            raise StepFailed(f"{step}: {answer['problem']}")
        return answer["value"]

    def picture(self, name: str, editor: str | None = None, part: str | None = None) -> np.ndarray:
        """Save what is to be seen, of the whole window or of an editor, and return it: (H, W, 3) uint8, RGB."""
        self.do("redraw")
        x, y, width, height = self.do("place_of", editor=editor, part=part)
        time.sleep(_ON_SCREEN_S)
        seen = self._screen.picture()
        if seen is None:
            self.do("photograph", path=str(self._work / "window.png"))
            seen = np.asarray(Image.open(self._work / "window.png").convert("RGB"))
        top = self.do("place_of")[3] - y - height
        shown = seen[top : top + height, x : x + width]
        self._taken += 1
        self._pictures.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shown).save(self._pictures / f"{self._taken:02}-{name}.png")
        return shown

    @property
    def alive(self) -> bool:
        """Whether Blender runs."""
        return self._process.poll() is None

    def close(self) -> int:
        """End Blender as by its menu, and return its exit code; a second time, that is all."""
        if self._process.poll() is not None:
            return self._process.returncode
        self._answers.close()
        self._connection.close()
        try:
            return self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def own_settings(work: Path) -> dict[str, str]:
    """The variables that keep a Blender's settings and files apart from those of whoever runs the tests."""
    folders = {
        "HOME": "home",
        "BLENDER_USER_RESOURCES": "resources",
        "XDG_RUNTIME_DIR": "runtime",
        "TMPDIR": "temporary",
    }
    for folder in folders.values():
        (work / folder).mkdir(exist_ok=True, mode=0o700)
    return {name: str(work / folder) for name, folder in folders.items()}


def install_extension(blender: Blender, archive: Path, work: Path) -> str:
    """Install the zip as Blender's own command does, enabled, and return what that said."""
    copied = shutil.copy2(archive, work)
    install = ("--command", "extension", "install-file", "-r", "user_default", "--enable", str(copied))
    done = subprocess.run(
        blender.command(*install),
        capture_output=True,
        text=True,
        errors="replace",
        env=blender.environment(own_settings(work)),
    )
    told = (done.stdout + done.stderr).strip()
    if done.returncode != 0:
        raise StepFailed(f"Blender did not install {archive.name}:\n{told}")
    return told
