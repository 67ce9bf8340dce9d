"""Keypoints as a detector gives them, for sequences: what it gets wrong stays wrong for a while."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class KeypointNoise:
    """Error sizes in parts of the person's longer side.

    constant: off by the same throughout a clip, joint by joint
    smooth:   wandering error that forgets itself in about ``memory_frames``
    jitter:   new in every frame
    """

    constant: float = 0.008
    smooth: float = 0.008
    jitter: float = 0.002
    memory_frames: float = 6.0


def detected(rng: np.random.Generator, keypoints: np.ndarray, noise: KeypointNoise) -> np.ndarray:
    """True keypoints (F, K, 2) as a detector would have found them."""
    frames, points = keypoints.shape[:2]
    size = np.median((keypoints.max(axis=1) - keypoints.min(axis=1)).max(axis=-1))
    keep = np.exp(-1 / max(noise.memory_frames, 1e-3))
    smooth = rng.standard_normal((frames, points, 2))
    for frame in range(1, frames):
        smooth[frame] = keep * smooth[frame - 1] + np.sqrt(1 - keep * keep) * smooth[frame]
    error = noise.constant * rng.standard_normal((1, points, 2)) + noise.smooth * smooth
    error += noise.jitter * rng.standard_normal((frames, points, 2))
    return keypoints + size * error
