"""Pictures in which a person was not detected: short gaps are bridged and marked, long ones left open."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from .tracks import KeypointTrack

# Limbs change direction about twice a second; across more than this, what lies between is a guess.
LONGEST_BRIDGE_S = 0.25
# How much of the neighbours' confidence is left in the middle of the longest bridge.
_CONFIDENCE_LEFT = 0.2
# A curve through so many pictures on each side keeps the swing of a limb; more would let noise from afar in.
_ANCHORS = 3


def fill_gaps(track: KeypointTrack, longest_s: float = LONGEST_BRIDGE_S) -> KeypointTrack:
    """``track`` with gaps of up to ``longest_s`` bridged: those pictures are marked in ``filled``.

    A gap is as long as the time between the pictures on both sides of it. Confidence sinks into the gap. Keypoints
    that are missing on one side stay missing. Longer gaps, and those at the start and the end, keep NaN and
    confidence 0. Pictures in which the person was seen are never changed.
    """
    seen = track.seen
    xy_px, confidence, filled = track.xy_px.copy(), track.confidence.copy(), track.filled.copy()
    # Unseen is unseen: no confidence may outlive its keypoint.
    confidence[~np.isfinite(xy_px).all(axis=-1)] = 0.0
    seen_rows = np.flatnonzero(seen)
    for before, after in zip(seen_rows[:-1], seen_rows[1:], strict=True):
        gap_s = track.time_s[after] - track.time_s[before]
        if after == before + 1 or gap_s > longest_s:
            continue
        rows = np.arange(before + 1, after)
        xy_px[rows] = _bridge(track, seen_rows, before, after, rows)
        bridged = np.isfinite(xy_px[rows]).all(axis=-1)
        along = ((track.time_s[rows] - track.time_s[before]) / gap_s)[:, None]
        sides = (1 - along) * confidence[before] + along * confidence[after]
        depth = 4 * along * (1 - along) * min(1.0, gap_s / longest_s)
        confidence[rows] = np.where(bridged, sides * (1 - (1 - _CONFIDENCE_LEFT) * depth), 0.0)
        filled[rows] = bridged.any(axis=-1)
    return replace(track, xy_px=xy_px, confidence=np.clip(confidence, 0.0, 1.0), filled=filled)


def _bridge(
    track: KeypointTrack, seen_rows: np.ndarray, before: np.intp, after: np.intp, rows: np.ndarray
) -> np.ndarray:
    """(rows, K, 2) keypoints in the gap, by a curve that keeps the slopes on both sides and never overshoots."""
    left = seen_rows[seen_rows <= before][-_ANCHORS:]
    right = seen_rows[seen_rows >= after][:_ANCHORS]
    anchors = np.concatenate([left, right])
    bridged = np.full((len(rows), *track.xy_px.shape[1:]), np.nan)
    # A keypoint needs both sides of the gap; anchors further out may lack it.
    for point in np.flatnonzero(np.isfinite(track.xy_px[[before, after]]).all(axis=(0, 2))):
        known = anchors[np.isfinite(track.xy_px[anchors, point]).all(axis=-1)]
        curve = PchipInterpolator(track.time_s[known], track.xy_px[known, point])
        bridged[:, point] = curve(track.time_s[rows])
    return bridged
