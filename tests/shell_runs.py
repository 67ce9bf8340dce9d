"""Run ``keylift`` as a person or a program does: in a process of its own, seen through its streams and exit code."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from checkout import dev
from warm_starts import Process, python


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    code: int
    out: str
    err: str


def command(*arguments: object) -> list[str]:
    """The command line of ``keylift``, with this interpreter."""
    return [sys.executable, "-m", "keylift", *(str(argument) for argument in arguments)]


def begun(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, cold: bool = False, own_session: bool = False
) -> Process:
    """``keylift`` on its way in the folder ``cwd``; ``cold`` as ``warm_starts.python`` has it."""
    return python("-m", "keylift", *arguments, cwd=cwd, env=env, cold=cold, own_session=own_session)


def keylift(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, cold: bool = False, timeout_s: float = 300
) -> Run:
    """Run ``keylift`` in the folder ``cwd`` and wait for its end; ``cold`` as ``begun`` has it."""
    process = begun(*arguments, cwd=cwd, env=env, cold=cold)
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Run(process.wait(), out, err)


def clip(name: str) -> Path:
    """A real clip out of the cache, fetched when it isn't there."""
    return dev().demo_clip(name)


def content(folder: Path) -> dict[str, str]:
    """Every file and folder below ``folder`` with the hash of its content: what must not change."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }


def film_empty_room(path: Path, frames: int = 12) -> None:
    """A video with nobody in it: a wall, a floor, and a light that wanders."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height = 320, 240
        stream.pix_fmt = "yuv420p"
        rows, columns = np.mgrid[0:240, 0:320]
        for index in range(frames):
            room = np.where(rows[..., None] < 170, [150, 150, 160], [110, 90, 70]).astype(np.float64)
            room += 30 * np.exp(-((columns - 10 * index) ** 2 + (rows - 80) ** 2) / 2000)[..., None]
            picture = av.VideoFrame.from_ndarray(room.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[None]:
    """A file system of its own at ``folder``. Skips where this user may not mount one."""
    mounted = sys.platform == "linux" and os.geteuid() == 0
    mounted = mounted and subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", folder]).returncode == 0
    if not mounted:
        pytest.skip("a disk that is full, or read-only, is mounted for this test, which takes root on Linux")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)
