"""One correction mends a run of frames: those around go along, less and less, or over to the next correction."""

from __future__ import annotations

import numpy as np

from .clip_keypoints import Detection, Marks


def spread_corrections(detection: Detection, marks: Marks, here: int, points: np.ndarray, reach: int) -> np.ndarray:
    """Move the markers around picture ``here`` along with those of ``points`` there. Returns (S, K) which were moved.

    here:   which of the S pictures that Blender shows
    points: (K,) whose corrections at ``here`` are carried over
    reach:  so many pictures before and after go along, less and less; up to another keyframe within twice as many,
            they go over from one correction to the other, those between that were not seen included
    What lies in between starts from where it was detected, or exchanged to, so that spreading once more, after another
    drag, is as good as spreading once. Keyframes stay where they are, and so does what was disabled by hand.
    """
    count = len(detection.rows)
    base = marks.base(detection)
    disabled = detection.seen & ~marks.seen
    where = np.zeros_like(detection.seen)
    where[here] = points
    for point in np.flatnonzero(points):
        kept = marks.keyed[:, point] & marks.seen[:, point]
        moved = marks.co[:, point] - base[:, point]
        for step in (-1, 1):
            way = np.arange(here + step, count if step > 0 else -1, step)
            other = next((int(row) for row in way[: 2 * reach] if kept[row]), None)
            if other is None:
                way = way[:reach]
                way = way[detection.seen[way, point]]
                towards, span = np.zeros(2), reach + 1
            else:
                way = way[: abs(other - here) - 1]
                towards, span = moved[other], abs(other - here)
            way = way[~disabled[way, point]]
            # As a raised cosine, so that nothing jumps at the ends.
            share = 0.5 + 0.5 * np.cos(np.pi * np.abs(way - here) / span)[:, None]
            marks.co[way, point] = base[way, point] + share * moved[here] + (1 - share) * towards
            marks.seen[way, point] = True
            where[way, point] = True
    return where
