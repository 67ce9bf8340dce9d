"""What longer clips cost: time should grow with their length, and memory hardly."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from ...core.progress import Progress, report, silent

FPS = 30
FULL_MINUTES: tuple[float, ...] = (1, 10, 60)
QUICK_MINUTES: tuple[float, ...] = (0.02, 0.04)


def measure_length(minutes: tuple[float, ...], progress: Progress = silent) -> list[dict[str, float]]:
    """Seconds and peak memory of lifting and fitting keypoints of so many minutes at 30 frames a second."""
    measured = []
    for done, length in enumerate(minutes):
        report(progress, done, len(minutes))
        measured.append(in_a_fresh_process(_lift, round(60 * FPS * length)))
    report(progress, len(minutes), len(minutes))
    return measured


def in_a_fresh_process(work: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """What ``work`` returns; its memory's peak is then nobody else's."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(work, *arguments).result()


def _lift(frames: int) -> dict[str, float]:
    from ...core.camera import Camera
    from ...core.lift import lift
    from ...core.lifter.lifting import load_ray_lifter
    from ...core.weights import find_weights
    from ...training.bench import peak_memory_bytes
    from ...training.lift_bench import moving_person

    lifter = load_ray_lifter(find_weights("default"))
    track = moving_person(frames)
    lift(moving_person(30), lifter=lifter)
    before = peak_memory_bytes()
    began = time.perf_counter()
    lift(track, camera=Camera.guessed(track.size_px), lifter=lifter)
    return cost(frames, began, before, peak_memory_bytes())


def cost(frames: int, began: float, before: int, peak: int) -> dict[str, float]:
    """What ``frames`` cost since ``began`` (time.perf_counter), with the peaks of memory before and after in bytes."""
    seconds = time.perf_counter() - began
    return {
        "frames": frames,
        "seconds": seconds,
        "ms_per_frame": 1000 * seconds / frames,
        "peak_mb": peak / 1e6,
        "before_mb": before / 1e6,
    }
