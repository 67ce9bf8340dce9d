"""All that the fit has to agree with, gathered as normal equations of a small change of the body."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .articulated_body import FREEDOMS, BodyState, pose
from .evidence import Evidence
from .motion_terms import SMOOTH, Ties, ties
from .settings import FitSettings
from .terms import Term, add_habits, own_terms

# Derivatives of so many frames stay in a core's own cache until they are used up.
_BLOCK = 16


@dataclass(eq=False)
class NormalEquations:
    """Of the change of each frame and the changes of the two frames after it.

    left:  (F, D, 3 D) against itself, the frame after, and the one after that; what lies beyond the last frame is 0
    right: (F, D) downhill
    """

    left: np.ndarray
    right: np.ndarray

    @classmethod
    def room_for(cls, frames: int) -> NormalEquations:
        """Room that ``gather`` fills, as often as one likes: getting so much of it takes as long as filling it."""
        return cls(np.zeros((frames, FREEDOMS, 3 * FREEDOMS)), np.zeros((frames, FREEDOMS)))


@dataclass(eq=False)
class BoneEquations:
    """Of the change of each frame by itself and of the growth of the bones that all frames share.

    own (F, D, D), right (F, D); cross (F, D, G); bones (G, G), bones_right (G,)
    """

    own: np.ndarray
    right: np.ndarray
    cross: np.ndarray
    bones: np.ndarray
    bones_right: np.ndarray


def gather(state: BodyState, seen: Evidence, settings: FitSettings, found: NormalEquations) -> None:
    """Fill ``found``, made for so many frames, with the normal equations round ``state``."""
    body, frames = pose(state), len(seen.time_s)
    terms = _Terms.of(own_terms(body.landmarks_m, seen, settings, details=True))
    tied = ties(body.landmarks_m, seen, settings) if frames > 1 else None
    for rows in _blocks(frames):
        # The last frames of a block are tied to the first two of the next.
        moved = body.by_change(slice(rows.start, rows.stop + 2))
        count = rows.stop - rows.start
        jacobian, weighted = terms.jacobian(moved[:count], rows)
        found.left[rows, :, :FREEDOMS] = weighted @ jacobian
        found.right[rows] = -(weighted @ terms.miss[rows, :, None])[..., 0]
        if tied is not None:
            _add_ties(found, rows, moved, tied)
    add_habits(found.left, found.right, state)


def gather_with_bones(state: BodyState, seen: Evidence, settings: FitSettings) -> BoneEquations:
    """Normal equations round ``state`` of frames that know nothing of each other, and of the bones that they share."""
    body = pose(state)
    terms = _Terms.of(own_terms(body.landmarks_m, seen, settings, details=False))
    everywhere = slice(0, len(seen.time_s))
    jacobian, weighted = terms.jacobian(body.by_change(), everywhere)
    growth, weighted_growth = terms.jacobian(body.by_growth(), everywhere)
    miss = terms.miss[..., None]
    found = BoneEquations(
        own=(weighted @ jacobian).astype(np.float64),
        right=-(weighted @ miss)[..., 0].astype(np.float64),
        cross=(weighted @ growth).astype(np.float64),
        bones=(weighted_growth @ growth).sum(axis=0, dtype=np.float64),
        bones_right=-(weighted_growth @ miss)[..., 0].sum(axis=0, dtype=np.float64),
    )
    add_habits(found.own, found.right, state)
    return found


def _blocks(frames: int) -> list[slice]:
    return [slice(first, min(first + _BLOCK, frames)) for first in range(0, frames, _BLOCK)]


@dataclass(frozen=True, eq=False)
class _Terms:
    """Terms one under the other."""

    terms: list[Term]
    miss: np.ndarray
    weight: np.ndarray

    @classmethod
    def of(cls, terms: list[Term]) -> _Terms:
        return cls(
            terms, np.concatenate([term.miss for term in terms], 1), np.concatenate([term.weight for term in terms], 1)
        )

    def jacobian(self, moved: np.ndarray, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Of derivatives (f, 41, 3, X) of the frames ``rows``: those of all terms (f, R, X); (f, X, R) by weight."""
        jacobian = np.concatenate([term.rows(moved, rows) for term in self.terms], 1)
        return jacobian, (jacobian * self.weight[rows, :, None]).swapaxes(1, 2)


def _add_ties(found: NormalEquations, where: slice, moved: np.ndarray, tied: Ties) -> None:
    """What the frames ``where`` have to agree with because of those around.

    moved: (f, 41, 3, D) derivatives of their landmarks, and of those of the two frames after them
    """
    count = where.stop - where.start
    jacobian = moved[:, SMOOTH].reshape(len(moved), -1, FREEDOMS)
    downhill = tied.downhill[where].reshape(count, 1, -1)
    found.right[where] += (downhill @ jacobian[:count])[:, 0]
    for apart in range(3):
        # The last frames have none after them.
        known = min(count, len(jacobian) - apart)
        weight = np.repeat(tied.bands[apart, where][:known], 3, axis=1)
        weighted = (jacobian[:known] * weight[..., None]).swapaxes(1, 2)
        into = found.left[where, :, apart * FREEDOMS : (apart + 1) * FREEDOMS]
        if apart == 0:
            into += weighted @ jacobian[:known]
        else:
            into[:known] = weighted @ jacobian[apart : apart + known]
            into[known:] = 0
