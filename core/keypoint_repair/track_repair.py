"""One track repaired: sides exchanged back, outliers and short drop-outs bridged, somebody else's frames opened."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..gaps import LONGEST_BRIDGE_S, fill_gaps
from ..tracks import Change, KeypointTrack
from .motion import BodyMotion, body_motion
from .paired_points import PairedPoints
from .sides import find_exchanges
from .strays import (
    DOUBTED_CONFIDENCE,
    bridge,
    find_outliers,
    find_visits,
)

# A gap's bridge hangs on so many frames on each side.
_BRIDGE_ANCHORS = 3

# Below this confidence a keypoint is as good as missing.
_DROPPED = 0.05
# With so many of its pairs exchanged, a body is exchanged as a whole.
_WHOLE_BODY = 0.7


def repair(track: KeypointTrack) -> KeypointTrack:
    """``track`` with what can be told to be wrong put right, and each change noted in ``changes``.

    - Sides that the detector exchanged, of the whole body, of one half of it, or of a limb, are exchanged back. That
      loses nothing: exchanging the keypoints with these codes again gives what was detected.
    - Single keypoints that jump away and come back, or are missing, for at most ``LONGEST_BRIDGE_S`` are put where the
      frames around them say, with falling confidence; where the detector had put them is not kept. Longer outliers stay
      where they are with less confidence, longer gaps stay open.
    - Frames in which the track was on somebody else for a moment are opened, and bridged if they are few.

    Frames bridged before (``filled``) are made anew where what they hang on changed. A track that is fine, and one that
    was repaired before, comes back as it is.
    """
    if track.changes.any() or len(track.time_s) < 3:
        return track
    points = PairedPoints.of_layout(track.layout)
    xy_px, confidence = track.xy_px.copy(), track.confidence.copy()
    changes = track.changes.copy()
    filled = track.filled.copy()

    _open_visits(track, points, xy_px, confidence, changes)
    home = replace(track, xy_px=xy_px, confidence=confidence)
    motion = body_motion(home, points)
    exchanges = find_exchanges(motion, points)
    where = np.zeros((len(xy_px), len(points.left)), bool)
    where[motion.row] = exchanges.pairs
    xy_px, confidence = points.exchanged(xy_px, where), points.exchanged(confidence, where)
    body = np.zeros(len(xy_px), bool)
    # A hand on its own way doesn't make the rest of the body a limb.
    body[motion.row] = exchanges.body & (exchanges.pairs.mean(axis=1) > _WHOLE_BODY)
    for side in (points.left, points.right):
        changes[:, side] = np.where(
            where, np.where(body[:, None], Change.BODY_EXCHANGED, Change.LIMB_EXCHANGED), changes[:, side]
        )

    between = np.zeros(xy_px.shape[:2], bool)
    for side in (points.left, points.right):
        between[np.ix_(motion.row, side)] |= exchanges.between
    _bridge_points(replace(home, xy_px=xy_px, confidence=confidence), points, between, changes)
    repaired = replace(track, xy_px=xy_px, confidence=np.clip(confidence, 0.0, 1.0), changes=changes, filled=filled)
    return _gaps_made_anew(track, repaired) if changes.any() else track


def _open_visits(
    track: KeypointTrack, points: PairedPoints, xy_px: np.ndarray, confidence: np.ndarray, changes: np.ndarray
) -> None:
    motion = body_motion(track, points)
    seen = xy_px[motion.row]
    if len(seen) < 3:
        return
    sizes_px = np.maximum((np.nanmax(seen, axis=1) - np.nanmin(seen, axis=1)).max(axis=1), 1.0)
    rows = motion.row[find_visits(motion, sizes_px)]
    changes[rows] = np.where(np.isfinite(xy_px[rows]).all(axis=-1), np.uint8(Change.SOMEBODY_ELSE), changes[rows])
    xy_px[rows], confidence[rows] = np.nan, 0.0


def _bridge_points(track: KeypointTrack, points: PairedPoints, between: np.ndarray, changes: np.ndarray) -> None:
    """Bridge or doubt single keypoints, in place; ``between`` (F, K) are on the way from one side to the other."""
    xy_px, confidence = track.xy_px, track.confidence
    motion: BodyMotion = body_motion(track, points)
    known = np.isfinite(xy_px).all(axis=-1)
    # Frames without a person are no drop-outs of single points.
    here = known.any(axis=1) & ~track.filled
    outlier = between.copy()
    outlier[motion.row] |= find_outliers(motion, points)
    missing = (~known | (confidence < _DROPPED)) & here[:, None]
    outlier &= known & ~missing
    for point in np.flatnonzero(outlier.any(axis=0) | missing.any(axis=0)):
        good = here & ~outlier[:, point] & ~missing[:, point]
        wanted = (outlier[:, point] | missing[:, point]) & here
        done = bridge(xy_px[:, point], confidence[:, point], good, wanted, track.time_s)
        changes[done, point] = np.where(outlier[done, point], Change.OUTLIER_BRIDGED, Change.DROP_OUT_BRIDGED)
        doubted = outlier[:, point] & ~done
        confidence[doubted, point] *= DOUBTED_CONFIDENCE
        untouched = doubted & (changes[:, point] == Change.UNTOUCHED)
        changes[untouched, point] = Change.DOUBTED


def _gaps_made_anew(track: KeypointTrack, repaired: KeypointTrack) -> KeypointTrack:
    """``repaired`` with gaps bridged again that were opened, or whose neighbours were changed."""
    seen = np.flatnonzero(track.seen & ~track.filled)
    changed = repaired.changes.any(axis=1)
    xy_px, confidence, filled = repaired.xy_px.copy(), repaired.confidence.copy(), repaired.filled.copy()
    bridged = np.flatnonzero(track.filled)
    for row in bridged:
        at = np.searchsorted(seen, row)
        if changed[seen[max(at - _BRIDGE_ANCHORS, 0) : at + _BRIDGE_ANCHORS]].any():
            xy_px[row], confidence[row], filled[row] = np.nan, 0.0, False
    opened = replace(repaired, xy_px=xy_px, confidence=confidence, filled=filled)
    return fill_gaps(opened, LONGEST_BRIDGE_S)


def repair_counts(track: KeypointTrack) -> dict[str, int]:
    """How much was repaired: frames with sides exchanged back, keypoints bridged and doubted, frames of others."""
    codes = track.changes
    exchanged = np.isin(codes, (Change.BODY_EXCHANGED, Change.LIMB_EXCHANGED))
    bridged = np.isin(codes, (Change.OUTLIER_BRIDGED, Change.DROP_OUT_BRIDGED))
    return {
        "frames_exchanged": int(exchanged.any(axis=1).sum()),
        "keypoints_bridged": int(bridged.sum()),
        "keypoints_doubted": int((codes == Change.DOUBTED).sum()),
        "frames_of_somebody_else": int((codes == Change.SOMEBODY_ELSE).any(axis=1).sum()),
    }


def summary(track: KeypointTrack) -> str:
    """What was repaired in one line, empty where nothing was."""

    def told(count: int, what: str, how: str) -> str:
        return f"{count} {what}{'s' * (count != 1)} {how}" if count else ""

    exchanged, bridged, doubted, others = repair_counts(track).values()
    lines = (
        f"sides exchanged back in {exchanged} of {len(track.changes)} frames" if exchanged else "",
        told(bridged, "keypoint", "bridged"),
        told(doubted, "keypoint", "doubted"),
        told(others, "frame", "of somebody else taken out"),
    )
    return ", ".join(line for line in lines if line)
