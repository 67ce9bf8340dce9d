"""The machine that figures belong to, and the most that it could do."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil

_PACKAGES = ("torch", "numpy", "scipy", "mediapipe", "av", "bpy")
_ROUNDS = 5
# Far beyond any cache, and a product that takes a core some tenths of a second.
_COPIED_BYTES = 256 << 20
_MATRIX = 2048


def describe_machine() -> dict[str, Any]:
    """What it is and what runs on it; nothing that names its owner."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES if _version(name)},
        "busy_before": round(psutil.cpu_percent(interval=1.0) / 100, 2),
    }


def _processor() -> str:
    if sys.platform.startswith("linux"):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def measure_limits() -> dict[str, float]:
    """What could be reached at most: products of large matrices, and memory that is copied.

    gflops:       floating-point operations a second in float32, in units of 10^9, all threads of torch
    gflops_exact: likewise in float64, one thread of numpy
    copy_gb_s:    bytes read and written a second by one thread, in units of 10^9
    """
    import torch
    from threadpoolctl import threadpool_limits

    matrix = torch.rand(_MATRIX, _MATRIX)
    product_s = _median_seconds(lambda: matrix @ matrix)
    exact = np.ones((_MATRIX // 2, _MATRIX // 2))
    with threadpool_limits(1, user_api="blas"):
        exact_s = _median_seconds(lambda: exact @ exact)
    source = np.ones(_COPIED_BYTES, np.uint8)
    target = np.empty_like(source)
    copy_s = _median_seconds(lambda: np.copyto(target, source))
    return {
        "gflops": 2 * _MATRIX**3 / product_s / 1e9,
        "gflops_exact": 2 * (_MATRIX // 2) ** 3 / exact_s / 1e9,
        "copy_gb_s": 2 * _COPIED_BYTES / copy_s / 1e9,
    }


def _median_seconds(work: Any) -> float:
    taken = []
    for _ in range(_ROUNDS + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    # The first pays for what is made only once.
    return statistics.median(taken[1:])
