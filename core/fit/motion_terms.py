"""What ties a frame to those around it: accelerations, and feet that stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..skeletons import LANDMARKS_41
from .evidence import Evidence
from .settings import FitSettings
from .terms import FEET, robust

_TRUNK = ("pelvis", "chest", "neck", "head", "l_shoulder", "r_shoulder", "l_hip", "r_hip")
_SMOOTH_NAMES = (
    *_TRUNK, "nose", "l_elbow", "r_elbow", "l_wrist", "r_wrist", "l_knuckle", "r_knuckle", "l_thumb", "r_thumb",
    "l_knee", "r_knee", "l_ankle", "r_ankle", "l_heel", "l_toe_base", "r_heel", "r_toe_base", "l_toe_tip", "r_toe_tip",
)  # fmt: skip
SMOOTH = [LANDMARKS_41.index(name) for name in _SMOOTH_NAMES]
_IS_TRUNK = np.array([name in _TRUNK for name in _SMOOTH_NAMES])
_FEET_AMONG_SMOOTH = [SMOOTH.index(foot) for foot in FEET]


def second_differences(time_s: np.ndarray) -> np.ndarray:
    """(F - 2, 3) coefficients of the second derivative at the frames between, for uneven times too."""
    before, after = np.diff(time_s)[:-1], np.diff(time_s)[1:]
    span = (before + after) / 2
    return np.stack([1 / (before * span), -(1 / (before * span) + 1 / (after * span)), 1 / (after * span)], axis=-1)


@dataclass(frozen=True, eq=False)
class Ties:
    """What binds the landmarks ``SMOOTH`` of frames to each other.

    bands:    (3, F, K) float32: of a frame with itself, with the one after it, and with the one after that
    downhill: (F, K, 3) float32: where they are drawn to
    """

    bands: np.ndarray
    downhill: np.ndarray


def ties(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> Ties:
    """Accelerations are those of people, and feet in contact stay where they are; of landmarks (F, 41, 3)."""
    points = landmarks_m[:, SMOOTH]
    frames = len(points)
    bands = np.zeros((3, frames, len(SMOOTH)))
    downhill = np.zeros_like(points)
    if frames > 2:
        c = second_differences(seen.time_s)
        acceleration = sum(c[:, k, None, None] * points[k : frames - 2 + k] for k in range(3))
        usual = np.where(_IS_TRUNK, settings.trunk_acceleration_m_s2, settings.acceleration_m_s2)
        weight = robust(1 / usual**2, np.linalg.norm(acceleration, axis=-1) / usual)
        for k in range(3):
            downhill[k : frames - 2 + k] -= weight[..., None] * c[:, k, None, None] * acceleration
            for apart in range(3 - k):
                bands[apart, k : frames - 2 + k] += weight * (c[:, k] * c[:, k + apart])[:, None]
    step_s = np.diff(seen.time_s)[:, None]
    velocity = np.diff(points[:, _FEET_AMONG_SMOOTH], axis=0) / step_s[..., None]
    both = np.minimum(seen.contact[1:], seen.contact[:-1])
    standing = np.where(both > 0.5, both, 0.0) ** 2 / settings.foothold_m_s**2
    # A foot that the keypoints carry along in spite of its contact is let go.
    weight = robust(standing, np.linalg.norm(velocity, axis=-1) / (5 * settings.foothold_m_s)) / step_s**2
    pull = weight[..., None] * velocity * step_s[..., None]
    for foot, smooth in enumerate(_FEET_AMONG_SMOOTH):
        bands[0, 1:, smooth] += weight[:, foot]
        bands[0, :-1, smooth] += weight[:, foot]
        bands[1, :-1, smooth] -= weight[:, foot]
        downhill[1:, smooth] -= pull[:, foot]
        downhill[:-1, smooth] += pull[:, foot]
    return Ties(bands.astype(np.float32), downhill.astype(np.float32))
