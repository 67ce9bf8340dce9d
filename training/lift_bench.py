"""How fast keypoints become a fitted pose, against the time that the footage takes to play."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..core.camera import Camera
from ..core.detector_sites import detector_sites
from ..core.fit import fitting
from ..core.fit.articulated_body import BONE_GROUPS, FREEDOMS, REST_LENGTHS_M, ROOT, BodyState, landmarks
from ..core.fit.evidence import ROOTED
from ..core.fit.motion_terms import SMOOTH
from ..core.fit.normal_equations import NormalEquations
from ..core.fit.terms import FEET, SHORT
from ..core.lift import lift
from ..core.lifter.lifting import load_ray_lifter
from ..core.segments import SEGMENT_NAMES
from ..core.skeletons import LIFTER_21_NAMES
from ..core.tracks import KeypointTrack
from ..core.weights import find_weights

_FPS = 30.0
_CAMERA = Camera.guessed((1280, 720))
# Of a frame in a round of the fit: what it has to agree with by itself, what ties it to those around, and its part of a
# banded Cholesky factorisation, whose band is three frames wide.
_ROWS = 2 * len(LIFTER_21_NAMES) + 3 * (len(ROOTED) + len(SHORT)) + len(FEET)
_OPERATIONS = FREEDOMS**2 * (2 * _ROWS + 3 * 2 * 3 * len(SMOOTH) + 9 * FREEDOMS)


def moving_person(frames: int, seed: int = 0) -> KeypointTrack:
    """Keypoints of somebody who moves every joint a little, about as fast as people do, with a detector's jitter."""
    rng = np.random.default_rng(seed)
    change = gaussian_filter1d(rng.normal(size=(frames, FREEDOMS)), _FPS / 5, axis=0, mode="reflect")
    change *= 0.25 / max(float(change.std()), 1e-9)
    change[:, :ROOT] += [0.0, 0.0, 4.0]
    # Half a turn about x: y up to y down.
    local = np.tile([1.0, 0.0, 0.0, 0.0], (frames, len(SEGMENT_NAMES), 1))
    local[:, 0] = [0.0, 1.0, 0.0, 0.0]
    body = BodyState(np.zeros((frames, 3)), local, REST_LENGTHS_M).moved(change, np.zeros(len(BONE_GROUPS)))
    xy_px = _CAMERA.project(detector_sites(landmarks(body))) + rng.normal(size=(frames, len(LIFTER_21_NAMES), 2))
    return KeypointTrack(
        xy_px=xy_px,
        confidence=np.ones(xy_px.shape[:2]),
        time_s=np.arange(frames) / _FPS,
        frame_index=np.arange(frames),
        layout="lifter21",
        size_px=_CAMERA.size_px,
        filled=np.zeros(frames, bool),
    )


def measure_lift(frames: int, rounds: int, device: str) -> dict[str, Any]:
    """Seconds that the default lifter and the fit take for a clip at 30 frames a second; the median of ``rounds``.

    fit_gflop: floating-point operations of the fit's products and factorisations, in units of 10^9
    """
    track = moving_person(frames)
    lifter = load_ray_lifter(find_weights("default"), device)
    lift(moving_person(30), lifter=lifter)
    with _rounds_counted() as solved:
        lift(track, camera=_CAMERA, lifter=lifter)
    lifted: list[float] = []
    fitted: list[float] = []
    for _ in range(rounds):
        for fit, seconds in ((False, lifted), (True, fitted)):
            began = time.perf_counter()
            lift(track, camera=_CAMERA, lifter=lifter, fit=fit)
            seconds.append(time.perf_counter() - began)
    whole = statistics.median(fitted)
    return {
        "frames": frames,
        "seconds": whole,
        "without_fit_seconds": statistics.median(lifted),
        "fit_vs_realtime": frames / _FPS / whole,
        "fit_gflop": sum(solved) * _OPERATIONS / 1e9,
    }


@contextmanager
def _rounds_counted() -> Iterator[list[int]]:
    """How many frames each round of the fit solves meanwhile."""
    solved: list[int] = []
    solve = fitting.solve_over_time

    def counting(equations: NormalEquations, *held: int) -> np.ndarray:
        solved.append(len(equations.right))
        return solve(equations, *held)

    with patch.object(fitting, "solve_over_time", counting):
        yield solved
