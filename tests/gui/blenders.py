"""The Blender whose window is opened: one that the user names, or one in a folder with a small Debian."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from .debian_blender import SUITES, NoBlenderError, debian_blender


class Blender(Protocol):
    """How processes of one Blender are started.

    name:          for people
    version:       such as (4, 3)
    worker_python: the checkout's own interpreter, under the name by which this Blender can start it
    """

    name: str
    version: tuple[int, int]
    worker_python: Path

    def command(self, *arguments: str) -> list[str]:
        """The command line of Blender with these arguments."""

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """What its process needs in the environment, ``variables`` included."""


def chosen_blender(suite: str, work: Path, timeout_s: float, install: bool) -> Blender:
    """The one that KEYLIFT_BLENDER names; without, that of a Debian suite, made where it is missing.

    work:    a folder that Blender sees under the same path as we do
    install: whether programs that are missing on this machine may be installed
    Raises NoBlenderError where there is none.
    """
    named = os.environ.get("KEYLIFT_BLENDER")
    if not named:
        return FolderBlender(debian_blender(suite, timeout_s, install), SUITES[suite], work)
    program = shutil.which(named)
    if program is None:
        raise NoBlenderError(f"KEYLIFT_BLENDER names '{named}', and there is no such program")
    return InstalledBlender(Path(program))


class InstalledBlender:
    """A Blender as somebody installed it."""

    def __init__(self, program: Path) -> None:
        self._program = program
        self.worker_python = Path(sys.executable)
        self.version = _version(self.command("--version"), self.environment({}))
        self.name = "Blender {}.{}".format(*self.version)

    def command(self, *arguments: str) -> list[str]:
        """The program itself."""
        return [str(self._program), *arguments]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """That of this process."""
        return {**os.environ, **variables}


# The mounts lie in a namespace of their own: they are gone with the process, however it ends.
_ENTER = """
set -e
root=$1; work=$2; shift 2
mkdir -p "$root/host" "$root/var/cache/mesa"
mount --rbind / "$root/host"
mount -t tmpfs none "$root/tmp"
mkdir -p "$root$work"
for folder in /dev /proc /sys "$work"; do mount --rbind "$folder" "$root$folder"; done
exec chroot "$root" "$@"
"""
_INSIDE = {
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    "LC_ALL": "C.UTF-8",
    # Drawn by the processor: there is no graphics card to count on. Compiled shaders are kept, for 10 s a start.
    "LIBGL_ALWAYS_SOFTWARE": "1",
    "GALLIUM_DRIVER": "llvmpipe",
    "MESA_SHADER_CACHE_DIR": "/var/cache/mesa",
}


class FolderBlender:
    """A Blender in a folder with a small Debian, which is all of its world.

    The machine lies in /host of that world, so that the checkout's own Python can run the worker: it is started with
    /host for its root, and sees the working folder under the same path as Blender does.
    """

    def __init__(self, root: Path, name: str, work: Path) -> None:
        self._enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _ENTER, "sh", str(root), str(work)]
        entered = subprocess.run([*self._enter, "true"], capture_output=True, text=True)
        if entered.returncode != 0:
            raise NoBlenderError(f"this machine does not allow mounts ({entered.stderr.strip()[-200:]})")
        self.worker_python = work / "python-of-the-checkout"
        self.worker_python.write_text(f'#!/bin/sh\nexec chroot /host {shlex.quote(sys.executable)} "$@"\n')
        self.worker_python.chmod(0o755)
        self.version = _version(self.command("--version"), self.environment({}))
        self.name = name

    def command(self, *arguments: str) -> list[str]:
        """The program in the folder, with the folder for its root."""
        return [*self._enter, "/usr/bin/blender", *arguments]

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Nothing of this process's."""
        return {**_INSIDE, **variables}


def _version(command: Sequence[str], environment: Mapping[str, str]) -> tuple[int, int]:
    answer = subprocess.run(command, capture_output=True, text=True, errors="replace", env=dict(environment))
    words = answer.stdout.split()
    if answer.returncode != 0 or words[:1] != ["Blender"]:
        raise NoBlenderError(f"'{command[-2]}' does not start: {(answer.stderr or answer.stdout).strip()[-400:]}")
    major, minor = words[1].split(".")[:2]
    return int(major), int(minor)
