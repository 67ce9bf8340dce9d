"""How long it takes until something happens: the command's help, and the extension in Blender."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import Any

from ...core.errors import KeyliftError
from ...core.progress import Progress, report, silent

# In a process of its own, where nothing of Keylift is loaded; Blender itself is not what is measured.
_ENABLE = """
import importlib, sys, time
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
began = time.perf_counter()
extension = importlib.import_module(sys.argv[1])
extension.register()
print(1000 * (time.perf_counter() - began))
"""
_LONGEST_S = 120


def measure_start(rounds: int, blender: bool, progress: Progress = silent) -> dict[str, Any]:
    """Medians of ``rounds``; ``extension_enable_ms`` is None where Python has no Blender.

    cli_help_s:          from the command to its end, Python's own start included
    python_s:            of that, a Python that does nothing
    extension_enable_ms: the extension imported and registered, once its bytecode is there
    """
    sides = {
        "cli_help_s": ["-m", __package__.partition(".")[0], "--help"],
        "python_s": ["-c", ""],
    }
    taken: dict[str, list[float]] = {name: [] for name in sides}
    enabled: list[float] = []
    for done in range(rounds + 1):
        report(progress, done, rounds + 1)
        for name, arguments in sides.items():
            began = time.perf_counter()
            _run(arguments)
            taken[name].append(time.perf_counter() - began)
        if blender:
            enabled.append(float(_run(["-c", _ENABLE, __package__.partition(".")[0]]).split()[-1]))
    report(progress, rounds + 1, rounds + 1)
    # The first round finds files that nobody has read yet.
    medians: dict[str, Any] = {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}
    return {**medians, "extension_enable_ms": statistics.median(enabled[1:]) if blender else None}


def _run(arguments: list[str]) -> str:
    answer = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, errors="replace", timeout=_LONGEST_S
    )
    if answer.returncode != 0:
        raise KeyliftError(f"'{' '.join(arguments[:2])}' could not be timed: {answer.stderr.strip()[-500:]}")
    return answer.stdout
