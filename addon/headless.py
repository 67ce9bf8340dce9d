"""``blender -c keylift ...``: the shell's commands inside Blender, without a window.

Blender's Python has none of the libraries that look at footage and lift; what needs them runs in the worker's
environment, and only what needs Blender runs in it. An environment that has everything (bpy beside torch) needs none.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import bpy

from ..core.errors import KeyliftError

if TYPE_CHECKING:
    import argparse

    from ..shell.reporting import Reporter
    from .worker_client import WorkerProgram

COMMAND = "keylift"
_LIBRARIES = ("torch", "mediapipe", "cv2", "av", "scipy", "safetensors")
# These need Blender and nothing else, or nothing at all.
_BLENDERS_OWN = ("retarget", "rig", "worker", "--help", "-h", "--version")


def run_command(argv: list[str]) -> int:
    """Run the command line and return its exit code."""
    from ..shell import main

    if _has_everything() or not argv or "--help" in argv or "-h" in argv or _command(argv) in _BLENDERS_OWN:
        return main(argv)
    try:
        program = _program()
    except KeyliftError as problem:
        sys.stderr.write(f"keylift: {problem}\n")
        return problem.exit_code
    if _command(argv) == "capture":
        return main(argv, {"capture": partial(_capture, program=program)})
    return _run_elsewhere(program, argv)


def _has_everything() -> bool:
    return all(
        sys.modules[name] is not None if name in sys.modules else importlib.util.find_spec(name) is not None
        for name in _LIBRARIES
    )


def _command(argv: list[str]) -> str:
    return next((word for word in argv if not word.startswith("-")), argv[0])


def _program() -> WorkerProgram:
    """The worker's environment. Raises KeyliftError that says how to get it."""
    from .scene_jobs import worker_program

    return worker_program()


def _capture(options: argparse.Namespace, reporter: Reporter, program: WorkerProgram) -> int:
    from ..shell import capture_by_worker
    from .worker_client import Worker

    return capture_by_worker.run(options, reporter, partial(Worker, program))


def _run_elsewhere(program: WorkerProgram, argv: list[str]) -> int:
    """The same command line in the worker's environment, on the same terminal."""
    # A batch comes back to this Blender for its takes.
    environment = {**program.environment(), "KEYLIFT_BATCH_BLENDER": bpy.app.binary_path}
    process = subprocess.Popen(program.command(*argv), env=environment)
    while True:
        # Ctrl-C reaches both; the one that works tidies up, and this one waits for it.
        with suppress(KeyboardInterrupt):
            return process.wait()
