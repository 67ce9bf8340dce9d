"""Solving for all frames of a clip at once: frames are tied to the two before and after, bones to every frame."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solveh_banded

from .articulated_body import FREEDOMS
from .normal_equations import BoneEquations, NormalEquations

# What nothing speaks of stays where it is.
_INERTIA = 1.0
# Derivatives are reckoned in float32, so sums of terms as stiff as footholds are good to about this part of themselves.
_ROUNDING = 3e-6


def solve_over_time(equations: NormalEquations, held: int, held_after: int = 0) -> np.ndarray:
    """(F, D) change that all frames agree on. The first ``held`` frames don't change, nor the last ``held_after``.

    The room of ``equations`` is used up.
    """
    frames, left = len(equations.right), equations.left
    own = left[:, np.arange(FREEDOMS), np.arange(FREEDOMS)]
    own = (own + _INERTIA) * (1 + _ROUNDING)
    kept = np.ones(frames, bool)
    kept[held : frames - held_after] = False
    own[kept] += 1e9
    left[:, np.arange(FREEDOMS), np.arange(FREEDOMS)] = own
    # Each unknown's row from the diagonal on; turned round, that is the lower band as LAPACK wants it.
    for freedom in range(1, FREEDOMS):
        left[:, freedom, : 3 * FREEDOMS - freedom] = left[:, freedom, freedom:]
        left[:, freedom, 3 * FREEDOMS - freedom :] = 0
    lower = left.reshape(frames * FREEDOMS, -1).T
    right = np.where(kept[:, None], 0.0, equations.right)
    return solveh_banded(lower, right.reshape(-1), overwrite_ab=True, lower=True, check_finite=False).reshape(
        frames, FREEDOMS
    )


def solve_with_bones(
    equations: BoneEquations, growth_weight: np.ndarray, grown: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Changes (F, D) of frames that know nothing of each other, and the growth (G,) of the bones that they share.

    growth_weight: (G,) how sure the lengths are that the bones began with; grown: (G,) how far they are from those

    The frames are eliminated first (Schur complement), which leaves as many unknowns as there are bones.
    """
    own = equations.own + _INERTIA * np.eye(FREEDOMS)
    solved = np.linalg.solve(own, np.concatenate([equations.cross, equations.right[..., None]], axis=2))
    to_bones = equations.cross.swapaxes(1, 2)
    reduced = (to_bones @ solved).sum(axis=0)
    matrix = equations.bones + np.diag(growth_weight) - reduced[:, :-1]
    right = equations.bones_right - growth_weight * grown - reduced[:, -1]
    growth = np.linalg.solve(matrix, right)
    return solved[..., -1] - solved[..., :-1] @ growth, growth
