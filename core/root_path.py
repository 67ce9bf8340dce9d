"""Where the pelvis is in front of the camera: the path whose bodies cover the keypoints best, moving smoothly."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

# A keypoint lies about this far from where a right pose would put it, at the depth of the body.
KEYPOINT_DEVIATION_M = 0.03
# People push their pelvis about with this acceleration.
PELVIS_ACCELERATION_M_S2 = 4.0
_ROBUST_ROUNDS = 6
_NEAREST_M = 0.3
# What is asked of each frame by itself is worked out for so many at a time: an hour of them needs little room.
_BLOCK = 2048


def _normal_equations(sites_m: np.ndarray, rays: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F, 3, 3) and (F, 3) of the least squares for the root: (x + rx) = u (z + rz), (y + ry) = v (z + rz)."""
    u, v = rays[..., 0], rays[..., 1]
    matrix = np.zeros((len(rays), 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = weight.sum(axis=1)
    matrix[:, 0, 2] = matrix[:, 2, 0] = -(weight * u).sum(axis=1)
    matrix[:, 1, 2] = matrix[:, 2, 1] = -(weight * v).sum(axis=1)
    matrix[:, 2, 2] = (weight * (u * u + v * v)).sum(axis=1)
    ex, ey = u * sites_m[..., 2] - sites_m[..., 0], v * sites_m[..., 2] - sites_m[..., 1]
    right = np.stack(
        [(weight * ex).sum(axis=1), (weight * ey).sum(axis=1), -(weight * (u * ex + v * ey)).sum(axis=1)], axis=-1
    )
    return matrix, right


def _smoothness_band(time_s: np.ndarray) -> np.ndarray:
    """(3, F) bands (main, first, second) of the squared second derivative, in seconds, for uneven times too."""
    frames = len(time_s)
    bands = np.zeros((3, frames))
    if frames < 3:
        return bands
    before, after = np.diff(time_s)[:-1], np.diff(time_s)[1:]
    span = (before + after) / 2
    a, c = 1 / (before * span), 1 / (after * span)
    b = -(a + c)
    for k, left in enumerate((a, b, c)):
        for offset, right in enumerate((a, b, c)[k:]):
            bands[offset, k : k + frames - 2] += left * right
    return bands


def _smooth_path(matrix: np.ndarray, right: np.ndarray, smoothness: np.ndarray) -> np.ndarray:
    """Solve all frames at once: (F, 3, 3) data terms on the diagonal, ``smoothness`` between frames."""
    frames = len(matrix)
    # Unknowns in the order x0 y0 z0 x1 ...: frames two apart are six apart, so seven upper bands hold everything.
    upper = np.zeros((7, frames * 3), order="F")
    for axis in range(3):
        upper[6, axis::3] = matrix[:, axis, axis] + smoothness[0]
        for offset in (1, 2):
            upper[6 - 3 * offset, axis + 3 * offset :: 3] += smoothness[offset, : frames - offset]
    upper[5, 1::3] += matrix[:, 0, 1]
    upper[5, 2::3] += matrix[:, 1, 2]
    upper[4, 2::3] += matrix[:, 0, 2]
    return solveh_banded(upper, right.reshape(-1), overwrite_ab=True).reshape(frames, 3)


def solve_root_path(sites_m: np.ndarray, rays: np.ndarray, confidence: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """The root's path from reprojection, robust and smooth.

    sites_m:    (F, K, 3) detector sites against the pelvis, camera axes
    rays:       (F, K, 2) observed x/z, y/z; NaN = unseen
    confidence: (F, K) in [0, 1]
    time_s:     (F,)
    returns:    (F, 3) pelvis in camera space, metres. Frames with nothing seen are carried by the smoothness.
    """
    frames = len(rays)
    smoothness = _smoothness_band(time_s) / PELVIS_ACCELERATION_M_S2**2
    # A breath of a prior at four metres keeps a clip with hardly anything seen solvable.
    far_away = np.array([0.0, 0.0, 4.0])
    matrix, right = np.empty((frames, 3, 3)), np.empty((frames, 3))
    root = np.empty((frames, 3))
    for done in range(_ROBUST_ROUNDS):
        for rows in (slice(first, first + _BLOCK) for first in range(0, frames, _BLOCK)):
            seen = np.isfinite(rays[rows, :, 0]) & (confidence[rows] > 0)
            seen_rays = np.where(seen[..., None], rays[rows], 0.0)
            weight = np.where(seen, confidence[rows] ** 2, 0.0) / KEYPOINT_DEVIATION_M**2
            if done > 0:
                placed = sites_m[rows] + root[rows, None]
                # Pseudo-Huber: what is far off has a say, but no vote by the square.
                miss = np.linalg.norm(placed[..., :2] - seen_rays * placed[..., 2:], axis=-1) / KEYPOINT_DEVIATION_M
                weight = weight / np.sqrt(1 + miss**2)
            matrix[rows], right[rows] = _normal_equations(sites_m[rows], seen_rays, weight)
        root = _smooth_path(matrix + 1e-3 * np.eye(3), right + 1e-3 * far_away, smoothness)
        root[:, 2] = np.maximum(root[:, 2], _NEAREST_M)
    return root
