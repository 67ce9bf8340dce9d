"""How far a pose is from the truth, on (F, J, 3) arrays; units in are units out.

Protocols of "3D human pose estimation in video with temporal convolutions and semi-supervised training", section 5.
"""

from __future__ import annotations

import numpy as np


def mpjpe(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance between joints (protocol 1)."""
    return float(np.linalg.norm(predicted - truth, axis=-1).mean())


def procrustes_aligned(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """``predicted`` (F, J, 3) moved, turned and scaled frame by frame as near to ``truth`` as can be.

    A frame whose joints all coincide can't be scaled; it is only moved.
    """
    predicted_mean, truth_mean = predicted.mean(axis=1, keepdims=True), truth.mean(axis=1, keepdims=True)
    p, t = predicted - predicted_mean, truth - truth_mean
    u, singular, vt = np.linalg.svd(np.swapaxes(t, 1, 2) @ p)
    # A reflection is not a turn: the weakest axis gives way.
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, 2] *= sign[:, None]
    singular[:, 2] *= sign
    square = np.maximum((p**2).sum(axis=(1, 2)), 1e-12)
    scale = (singular.sum(axis=1) / square)[:, None, None]
    return scale * p @ np.swapaxes(u @ vt, 1, 2) + truth_mean


def p_mpjpe(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance after aligning each frame by move, turn and scale (protocol 2)."""
    return mpjpe(procrustes_aligned(predicted, truth), truth)


def n_mpjpe(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean distance after scaling each frame, with no centring (protocol 3)."""
    scale = (truth * predicted).sum(axis=(1, 2)) / np.maximum((predicted**2).sum(axis=(1, 2)), 1e-12)
    return mpjpe(scale[:, None, None] * predicted, truth)


def velocity_error(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean length of the difference between first differences, per frame."""
    return mpjpe(np.diff(predicted, axis=0), np.diff(truth, axis=0))


def weighted_mpjpe(predicted: np.ndarray, truth: np.ndarray, weights: np.ndarray) -> float:
    """Mean of ``weights`` times the distance between joints; weights (F,), (F, 1) or (F, J), not normalised."""
    distance = np.linalg.norm(predicted - truth, axis=-1)
    weights = np.asarray(weights)
    return float((distance * (weights[:, None] if weights.ndim == 1 else weights)).mean())
