"""How a body's keypoints move about its trunk, in parts of its size: what tells a jump from a step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from ..tracks import KeypointTrack
from .paired_points import PART_NAMES, PairedPoints

# For each part: noise (sizes), hardest acceleration (sizes/s2) and usual speed (sizes/s) about the trunk.
_OF_PARTS = {
    "face": (0.012, 6.0, 0.4),
    "shoulder": (0.012, 4.0, 0.25),
    "elbow": (0.018, 20.0, 0.8),
    "hand": (0.022, 45.0, 1.5),
    "hip": (0.012, 4.0, 0.25),
    "knee": (0.014, 14.0, 0.7),
    "foot": (0.018, 32.0, 1.3),
}
_NOISE, _ACCELERATION, _SPEED = (np.array([_OF_PARTS[part][n] for part in PART_NAMES]) for n in range(3))
# Limbs keep their speed for about this long.
_KEPT_S = 0.15
# Faster than this many times the usual, a difference of two frames is an error and no speed.
_FASTEST = 6.0
# Trunk, shoulders to hips, as part of a standing person's box.
_TRUNK = 0.3
_SIZE_WINDOW_S = 1.0
# Across a longer gap nothing can be foretold.
LONGEST_LINK_S = 0.6
# What is usual costs nothing, or a path that leaves frames out would be cheaper for having fewer of them.
_FOR_NOTHING = 1.0
# A disagreement costs no more than this, however gross.
COST_CAP = 5.0


@dataclass(frozen=True, eq=False)
class BodyMotion:
    """Keypoints of the N frames in which the person was detected, about the middle of the trunk.

    row:        (N,) frame in the track
    time_s:     (N,)
    xy:         (N, K, 2) in parts of the body's size, NaN = unseen
    confidence: (N, K)
    centre_px:  (N, 2) middle of the trunk, which no exchange of sides moves
    size_px:    (N,) longer side of the person's box, slowly changing
    """

    row: np.ndarray
    time_s: np.ndarray
    xy: np.ndarray
    confidence: np.ndarray
    centre_px: np.ndarray
    size_px: np.ndarray

    @property
    def period_s(self) -> float:
        """Usual time between two frames."""
        return float(np.median(np.diff(self.time_s))) if len(self.time_s) > 1 else 1 / 30


def body_motion(track: KeypointTrack, points: PairedPoints) -> BodyMotion:
    """What ``track`` has of detected frames; those bridged before and those without a trunk are left out."""
    xy = track.xy_px
    known = np.isfinite(xy).all(axis=-1) & ~track.filled[:, None]
    trunk = [points.names.index(name) for name in ("l_shoulder", "r_shoulder", "l_hip", "r_hip")]
    corners = np.where(known[:, trunk, None], xy[:, trunk], np.nan)
    row = np.flatnonzero(np.isfinite(corners).all(axis=(1, 2)))
    if len(row) == 0:
        empty = np.zeros((0, len(points.names)))
        return BodyMotion(row, track.time_s[row], np.zeros((*empty.shape, 2)), empty, np.zeros((0, 2)), np.zeros(0))
    corners = corners[row]
    seen = np.where(known[row, :, None], xy[row], np.nan)
    box = (np.nanmax(seen, axis=1) - np.nanmin(seen, axis=1)).max(axis=1)
    trunk_px = np.linalg.norm(corners[:, :2].mean(axis=1) - corners[:, 2:].mean(axis=1), axis=-1)
    size = np.maximum(np.maximum(box, trunk_px / _TRUNK), 1.0)
    time_s = track.time_s[row]
    period = float(np.median(np.diff(time_s))) if len(row) > 1 else 1.0
    window = min(2 * int(_SIZE_WINDOW_S / period / 2) + 1, 2 * len(row) + 1, 301)
    size = median_filter(size, window, mode="nearest")
    centre = corners.mean(axis=1)
    return BodyMotion(row, time_s, (seen - centre[:, None]) / size[:, None, None], track.confidence[row], centre, size)


def tolerance(part: np.ndarray, gap_s: np.ndarray) -> np.ndarray:
    """(..., P) how far points of ``part`` (P,) may be from where they were expected after ``gap_s`` (...,)."""
    gap = gap_s[..., None]
    return _NOISE[part] + np.minimum(_ACCELERATION[part] * gap * gap / 2, _SPEED[part] * gap)


def fastest(part: np.ndarray) -> np.ndarray:
    """(P,) sizes/s beyond which a difference of two frames is no speed."""
    return _FASTEST * _SPEED[part]


def carried(gap_s: np.ndarray) -> np.ndarray:
    """Seconds' worth of the present speed that a limb goes on within ``gap_s``."""
    return _KEPT_S * (1 - np.exp(-gap_s / _KEPT_S))


def limited(velocity: np.ndarray, most: np.ndarray) -> np.ndarray:
    """``velocity`` (..., P, 2) shortened to at most ``most`` (P,)."""
    speed = np.sqrt(np.einsum("...i,...i->...", velocity, velocity))
    return velocity * np.minimum(1.0, most / np.maximum(speed, 1e-9))[..., None]


def disagreement(off: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Cost of being ``off`` (..., 2) where ``within`` (...) would be usual: nothing, then quadratic, then capped."""
    squared = np.einsum("...i,...i->...", off, off) / (2 * within * within)
    return np.minimum(np.maximum(squared - _FOR_NOTHING, 0.0), COST_CAP)
