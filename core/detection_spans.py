"""Which parts of the footage are looked at side by side.

The parts depend on the footage alone, never on the machine: what is found is the same on one core and on many.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np

# Footage of no more frames than this is looked at in one go; parts are about as long, up to twice as long.
SHORTEST_CUT = 300
# More parts than this keep no more cores busy, and each is one more seam.
_MOST_PARTS = 32
# The landmarker is shown so many pictures before it is believed: it smooths, and takes a while to settle.
WARM_UP_FRAMES = 15
# A cut may move by this share of a part, to where no pictures must be decoded in vain.
_SHIFT = 0.1
# Each reader holds pictures: beyond so many, memory is the limit and not the machine's cores.
_MOST_AT_ONCE = 8


@dataclass(frozen=True)
class Span:
    """Frames ``seam`` to ``last``, looked at from ``first`` on (as numbers of frames in the footage)."""

    first: int
    seam: int
    last: int

    def __len__(self) -> int:
        return self.last + 1 - self.first


def spans_of(first: int, last: int, starts: np.ndarray) -> list[Span]:
    """Parts of the frames ``first`` to ``last``: a power of two of them, so that 2, 4 and 8 cores share them evenly.

    starts: frames at which reading may begin without decoding others, growing
    """
    count = last + 1 - first
    parts = 1
    while parts < _MOST_PARTS and count > SHORTEST_CUT * (parts if parts == 1 else 2 * parts):
        parts *= 2
    length = count / parts
    seams = [first]
    for number in range(1, parts):
        begins = first + round(number * length) - WARM_UP_FRAMES
        near = starts[np.abs(starts - begins) <= _SHIFT * length]
        if len(near):
            begins = int(near[np.argmin(np.abs(near - begins))])
        seams.append(begins + WARM_UP_FRAMES)
    ends = [*(seam - 1 for seam in seams[1:]), last]
    return [
        Span(max(seam - WARM_UP_FRAMES, first), seam, end) if seam > first else Span(first, first, end)
        for seam, end in zip(seams, ends, strict=True)
    ]


def looked_at_once(spans: int) -> int:
    """How many parts this process may look at at a time: as many as it has cores, or OMP_NUM_THREADS says."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    if allowed.isdecimal() and int(allowed) > 0:
        cores = min(cores, int(allowed))
    return max(1, min(spans, cores, _MOST_AT_ONCE))
