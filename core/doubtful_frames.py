"""Which frames of a pose are worth a look: those that the lifter is less sure of than of the rest of the clip."""

from __future__ import annotations

import numpy as np

# Against the clip's own median: how sure a lifter can be at all depends on the view and on how far away the person is.
DOUBT_BEGINS, DOUBT_ENDS = 0.8, 0.9
# Nobody is sure of a frame below this, whatever the others are like.
_NEVER_SURE = 0.2


def doubtful_frames(confidence: np.ndarray) -> np.ndarray:
    """(F, J) how sure each joint is, 0 to 1 -> (F,) True for frames that are doubtful.

    A run of them begins where the mean over the joints falls below ``DOUBT_BEGINS`` of the clip's median, and ends
    where it is back over ``DOUBT_ENDS``, so that a frame just over the line does not make two runs of one.
    """
    sure = confidence.mean(axis=1)
    if not len(sure):
        return np.zeros(0, bool)
    usual = float(np.median(sure[sure > 0])) if (sure > 0).any() else 1.0
    begins = sure < max(DOUBT_BEGINS * usual, _NEVER_SURE)
    lasts = sure < max(DOUBT_ENDS * usual, _NEVER_SURE)
    doubtful = np.zeros(len(sure), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lasts, [False]]).astype(np.int8)))
    for first, last in edges.reshape(-1, 2):
        started = np.flatnonzero(begins[first:last])
        if len(started):
            doubtful[first + started[0] : last] = True
    return doubtful


def next_doubtful(doubtful: np.ndarray, row: int, step: int) -> int | None:
    """The first frame of the next run after ``row`` (step 1), or of the one before it (step -1); None = there is none.

    doubtful: (F,) of ``doubtful_frames``
    """
    starts = np.flatnonzero(doubtful & ~np.concatenate([[False], doubtful[:-1]]))
    beyond = starts[starts > row] if step > 0 else starts[starts < row][::-1]
    return int(beyond[0]) if len(beyond) else None
