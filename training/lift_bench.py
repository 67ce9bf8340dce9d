"""How fast keypoints become a fitted pose, against the time that the footage takes to play."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ..core.camera import Camera
from ..core.detector_sites import detector_sites
from ..core.fit.articulated_body import BONE_GROUPS, FREEDOMS, REST_LENGTHS_M, ROOT, BodyState, landmarks
from ..core.lift import lift
from ..core.lifter.lifting import load_ray_lifter
from ..core.segments import SEGMENT_NAMES
from ..core.skeletons import LIFTER_21_NAMES
from ..core.tracks import KeypointTrack
from ..core.weights import find_weights

_FPS = 30.0
_CAMERA = Camera.guessed((1280, 720))


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
    """Seconds that the default lifter and the fit take for a clip at 30 frames a second; the median of ``rounds``."""
    track = moving_person(frames)
    lifter = load_ray_lifter(find_weights("default"), device)
    lift(moving_person(30), lifter=lifter)
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
    }
