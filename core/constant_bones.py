"""One body for the whole clip: bones that keep their length, the same on both sides."""

from __future__ import annotations

import numpy as np

from .rotations import normalised
from .skeletons import LANDMARKS_41


def bone_lengths(positions_m: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(41,) metres, 0 at the root: weighted median of each landmark's distance to its parent, the same left and right.

    positions_m: (F, 41, 3)
    weight:      (F, 41) how far each landmark is trusted
    """
    lengths = np.zeros(len(LANDMARKS_41))
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent < 0:
            continue
        distance = np.linalg.norm(positions_m[:, joint] - positions_m[:, parent], axis=-1)
        trust = np.minimum(weight[:, joint], weight[:, parent]) + 1e-6
        order = np.argsort(distance)
        middle = np.searchsorted(np.cumsum(trust[order]), trust.sum() / 2)
        lengths[joint] = distance[order][min(middle, len(order) - 1)]
    for left, right in LANDMARKS_41.left_right_pairs:
        lengths[left] = lengths[right] = (lengths[left] + lengths[right]) / 2
    return lengths


def with_constant_bones(positions_m: np.ndarray, lengths_m: np.ndarray) -> np.ndarray:
    """(F, 41, 3) with every bone's direction kept and its length set to ``lengths_m``, from the pelvis outwards."""
    result = positions_m.copy()
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent >= 0:
            direction = normalised(positions_m[:, joint] - positions_m[:, parent])
            result[:, joint] = result[:, parent] + direction * lengths_m[joint]
    return result
