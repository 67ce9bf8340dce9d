"""How far a pose is from the truth, on (..., J, 3) arrays; units in are units out.

Protocols of "3D human pose estimation in video with temporal convolutions and semi-supervised training", section 5.

All take anything that NumPy makes arrays of, reckon in float64, and raise ValueError when the two poses differ in shape
or are no poses.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def _checked(predicted: ArrayLike, truth: ArrayLike, *axes: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 arrays of one shape, (..., *axes, 3)."""
    ours, real = np.asarray(predicted, float), np.asarray(truth, float)
    if ours.shape != real.shape or ours.ndim <= len(axes) or ours.shape[-1] != 3:
        form = ", ".join(["...", *axes, "3"])
        raise ValueError(f"Poses of {ours.shape} don't compare with a truth of {real.shape}: both must be ({form}).")
    return ours, real


def _distances(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(..., 3) points -> (...)."""
    return np.asarray(np.linalg.norm(predicted - truth, axis=-1))


def mpjpe(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean distance between joints (protocol 1); both (..., 3)."""
    return float(_distances(*_checked(predicted, truth)).mean())


def procrustes_aligned(predicted: ArrayLike, truth: ArrayLike) -> np.ndarray:
    """``predicted`` (..., J, 3) moved, turned and scaled frame by frame as near to ``truth`` as can be.

    A frame whose joints all coincide can't be scaled; it is only moved.
    """
    predicted, truth = _checked(predicted, truth, "J")
    predicted_mean, truth_mean = predicted.mean(axis=-2, keepdims=True), truth.mean(axis=-2, keepdims=True)
    p, t = predicted - predicted_mean, truth - truth_mean
    u, singular, vt = np.linalg.svd(np.swapaxes(t, -1, -2) @ p)
    # A reflection is not a turn: the weakest axis gives way.
    sign = np.sign(np.linalg.det(u @ vt))
    u[..., 2] *= sign[..., None]
    singular[..., 2] *= sign
    scale = singular.sum(axis=-1) / np.maximum((p**2).sum(axis=(-2, -1)), 1e-12)
    return np.asarray(scale[..., None, None] * p @ np.swapaxes(u @ vt, -1, -2) + truth_mean)


def p_mpjpe(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean distance after aligning each frame by move, turn and scale (protocol 2); both (..., J, 3)."""
    return float(_distances(procrustes_aligned(predicted, truth), np.asarray(truth, float)).mean())


def n_mpjpe(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean distance after scaling each frame, with no centring (protocol 3); both (..., J, 3)."""
    predicted, truth = _checked(predicted, truth, "J")
    scale = (truth * predicted).sum(axis=(-2, -1)) / np.maximum((predicted**2).sum(axis=(-2, -1)), 1e-12)
    return float(_distances(scale[..., None, None] * predicted, truth).mean())


def velocity_error(predicted: ArrayLike, truth: ArrayLike) -> float:
    """Mean length of the difference between first differences, per frame; both (..., F, J, 3). 0 for a single frame."""
    predicted, truth = _checked(predicted, truth, "F", "J")
    if predicted.shape[-3] < 2:
        return 0.0
    return float(_distances(np.diff(predicted, axis=-3), np.diff(truth, axis=-3)).mean())


def weighted_mpjpe(predicted: ArrayLike, truth: ArrayLike, weights: ArrayLike) -> float:
    """Mean of ``weights`` times the distance between joints.

    predicted, truth: (F, J, 3)
    weights:          one a frame, (F,), (F, 1) or (F, 1, 1), or one a joint, (F, J) or (F, J, 1); not normalised
    """
    distance = _distances(*_checked(predicted, truth, "F", "J"))
    return float((_checked_weights(weights, distance.shape) * distance).mean())


def _checked_weights(weights: ArrayLike, shape: tuple[int, ...]) -> np.ndarray:
    """(F, 1) or (F, J) weights for distances of ``shape``."""
    found, frames = np.asarray(weights, float), shape[:1]
    if len(shape) != 2 or found.shape not in (frames, (*frames, 1), (*frames, 1, 1), shape, (*shape, 1)):
        raise ValueError(
            f"Weights of {found.shape} don't go with poses of {(*shape, 3)}: give (F,) or (F, J) for poses (F, J, 3)."
        )
    return found.reshape(shape[0], -1)
