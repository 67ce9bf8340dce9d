"""The screen that a window opens on: one that nobody sits in front of (Xvfb), else the desktop."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np

from .debian_blender import NoBlenderError

_STOP_S = 20


class Desktop:
    """The screen in front of whoever runs the tests: hands off while they run.

    variables: what Blender needs in its environment to find the screen
    """

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}

    def picture(self) -> np.ndarray | None:
        """None: what is on it, only Blender knows."""
        return None

    def close(self) -> None:
        """Leave it on."""

    def __enter__(self) -> Desktop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class VirtualScreen(Desktop):
    """An X server that keeps its picture in a file: Blender itself can't tell what it drew by software OpenGL."""

    def __init__(self, program: str, width: int, height: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="keylift-screen-")
        told, tell = os.pipe()
        # It picks a free number itself and tells it, so that several may start at once.
        command = [program, "-displayfd", str(tell), "-screen", "0", f"{width}x{height}x24"]
        log = Path(self._folder.name) / "log"
        with log.open("w") as words:
            self._server = subprocess.Popen(
                [*command, "-nocursor", "-nolisten", "tcp", "-fbdir", self._folder.name],
                pass_fds=(tell,),
                stdout=words,
                stderr=words,
            )
        os.close(tell)
        with os.fdopen(told) as numbers:
            number = numbers.readline().strip()
        if not number:
            problem = log.read_text(errors="replace").strip()[-400:]
            self.close()
            raise NoBlenderError(f"Xvfb did not start: {problem}")
        self.variables = {"DISPLAY": f":{number}"}

    def picture(self) -> np.ndarray:
        """What is on it now: (height, width, 3) uint8, RGB, row 0 on top."""
        return read_xwd((Path(self._folder.name) / "Xvfb_screen0").read_bytes())

    def close(self) -> None:
        """Switch it off."""
        self._server.terminate()
        try:
            self._server.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._folder.cleanup()


def screen_for(width: int, height: int) -> Desktop:
    """A screen for a window of that size. Raises NoBlenderError where there is none."""
    if not sys.platform.startswith("linux"):
        return Desktop()
    program = shutil.which("Xvfb")
    if program is not None:
        return VirtualScreen(program, width, height)
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return Desktop()
    raise NoBlenderError("there is no screen to open a window on; install the package xvfb")


def read_xwd(dump: bytes) -> np.ndarray:
    """The picture of an X window dump with 32 bits a pixel, as Xvfb keeps it: (H, W, 3) uint8, RGB."""
    header = struct.unpack(">25I", dump[:100])
    header_size, width, height, byte_order = header[0], header[4], header[5], header[7]
    bits_per_pixel, bytes_per_line, colours = header[11], header[12], header[19]
    if bits_per_pixel != 32:
        raise ValueError(f"a dump with {bits_per_pixel} bits a pixel can't be read")
    # The header ends with a name and is followed by a colour map of 12 bytes each.
    start = header_size + colours * 12
    lines = np.frombuffer(dump, np.uint8, height * bytes_per_line, start).reshape(height, bytes_per_line)
    pixels = lines[:, : width * 4].reshape(height, width, 4)
    return np.ascontiguousarray(pixels[..., 2::-1] if byte_order == 0 else pixels[..., 1:])
