"""Which side is which, by what the lifter thinks of both answers.

Seen from afar, a body with left and right exchanged is the same body reversed in depth, whose knees and elbows bend the
wrong way. Keypoints alone hardly tell the two apart; a lifter that knows how people hold themselves expects to be
further off on the wrong one. So both are lifted and compared, frame by frame, and the cheapest way through the clip is
taken: changing sides is cheap where left and right lie on each other, as in a view from the side, and dear elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..camera import Camera
from ..skeletons import KEYPOINT_LAYOUTS, mirrored_layout
from ..tracks import Change, KeypointTrack
from .lifting import RayLifter, lift_rays
from .ray_windows import box_of, lifter_points

_NEVER = 1e6


@dataclass(frozen=True)
class SideCheckSettings:
    """What the evidence counts, chosen on motion capture of people who were neither trained on nor reported.

    trust:      nats for each unit of the logarithm of the expected error and each second
    exchanged:  nats a second that exchanged sides cost, for detectors are right more often than not
    change:     nats that a change of sides costs
    jump:       nats for each part of the body's box that keypoints would jump by a change, above those they jump anyway
    """

    trust: float = 40.0
    exchanged: float = 3.0
    change: float = 0.5
    jump: float = 40.0


def check_sides(
    track: KeypointTrack,
    camera: Camera | None,
    lifter: RayLifter,
    settings: SideCheckSettings | None = None,
    settled: np.ndarray | None = None,
) -> KeypointTrack:
    """``track`` with all of its sides exchanged where the lifter is surer of that, and noted in ``changes``.

    camera:  the lens; guessed when None
    settled: (F,) True for frames whose sides are known to be right; None = of none

    A track that is right comes back as it is. So do frames in which an artist put, or took away, a keypoint that has a
    counterpart.
    """
    settings = settings or SideCheckSettings()
    camera = Camera.guessed(track.size_px) if camera is None else camera.resized(track.size_px)
    order = mirrored_layout(KEYPOINT_LAYOUTS[track.layout])
    other = replace(track, xy_px=track.xy_px[:, order], confidence=track.confidence[:, order])
    asked = np.flatnonzero(track.seen if settled is None else track.seen & ~settled)
    if len(asked) == 0:
        return track
    rows = slice(int(asked[0]), int(asked[-1]) + 1)
    doubt = np.zeros(len(track.time_s))
    doubt[rows] = _doubt(other, camera, lifter, rows) - _doubt(track, camera, lifter, rows)
    seconds = np.gradient(track.time_s) if len(track.time_s) > 1 else np.array([1 / 30])
    # What speaks for exchanged sides is negative.
    stay_exchanged = np.where(track.seen, (settings.trust * doubt + settings.exchanged) * seconds, 0.0)
    # An artist who touched a frame saw which side is which.
    paired = order != np.arange(len(order))
    stay_exchanged[(track.corrected & paired).any(axis=1)] = _NEVER
    if settled is not None:
        stay_exchanged[settled] = _NEVER
    exchanged = _cheapest(stay_exchanged, settings.change + settings.jump * _jumps(track, camera))
    if not exchanged.any():
        return track
    return with_sides_exchanged(track, exchanged)


def _doubt(track: KeypointTrack, camera: Camera, lifter: RayLifter, rows: slice) -> np.ndarray:
    """(N,) mean logarithm of the error that the lifter expects in ``rows``."""
    xy_px, confidence = lifter_points(track)
    body = lift_rays(lifter, camera.rays(xy_px), confidence, track.time_s, rows=rows)
    return np.log(body.expected_error_m[:, 1:]).mean(axis=1)


def _jumps(track: KeypointTrack, camera: Camera) -> np.ndarray:
    """(F - 1,) how much further keypoints jump if sides change between two frames than if they don't, in boxes.

    Keypoints that were bridged have no say: a bridge is smooth whatever the sides on its banks.
    """
    bridged = np.isin(track.changes, (Change.OUTLIER_BRIDGED, Change.DROP_OUT_BRIDGED))
    xy_px, confidence = lifter_points(replace(track, confidence=np.where(bridged, 0.0, track.confidence)))
    rays = camera.rays(xy_px)
    order = mirrored_layout(KEYPOINT_LAYOUTS["lifter21"])
    seen = np.isfinite(rays[..., 0])
    _, box = box_of(rays, seen)
    rays = np.where(seen[..., None], rays, 0.0)
    both = seen[1:] & seen[:-1] & seen[:-1][:, order] & (order != np.arange(len(order)))
    weight = np.where(both, np.minimum(confidence[1:], confidence[:-1]), 0.0)
    as_is = np.linalg.norm(rays[1:] - rays[:-1], axis=-1)
    crossed = np.linalg.norm(rays[1:] - rays[:-1][:, order], axis=-1)
    further = (weight * (crossed - as_is)).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-6)
    known = weight.sum(axis=1) > 1
    return np.where(known, further / np.minimum(box[1:], box[:-1]), 0.0)


def _cheapest(exchanged_cost: np.ndarray, change_cost: np.ndarray) -> np.ndarray:
    """(F,) True where the cheapest way through (F,) costs and (F - 1,) changes is exchanged (Viterbi)."""
    frames = len(exchanged_cost)
    best = np.array([0.0, exchanged_cost[0]])
    came_from = np.zeros((frames, 2), int)
    for frame in range(1, frames):
        # Where keypoints jump as they are, a change that undoes it may even pay.
        change = max(change_cost[frame - 1], -20.0)
        candidates = best[:, None] + np.array([[0.0, change], [change, 0.0]])
        came_from[frame] = candidates.argmin(axis=0)
        best = candidates.min(axis=0) + np.array([0.0, exchanged_cost[frame]])
    state = np.zeros(frames, int)
    state[-1] = int(best[1] < best[0])
    for frame in range(frames - 1, 0, -1):
        state[frame - 1] = came_from[frame, state[frame]]
    return state == 1


def with_sides_exchanged(track: KeypointTrack, rows: np.ndarray) -> KeypointTrack:
    """``track`` with left and right exchanged in ``rows`` (F,), and noted in ``changes``."""
    order = mirrored_layout(KEYPOINT_LAYOUTS[track.layout])
    xy_px, confidence, changes = track.xy_px.copy(), track.confidence.copy(), track.changes.copy()
    xy_px[rows], confidence[rows] = xy_px[rows][:, order], confidence[rows][:, order]
    codes = changes[rows][:, order]
    paired = order != np.arange(len(order))
    # Exchanged twice is as detected, so the codes still tell how to undo it all.
    undone = np.where((codes == Change.BODY_EXCHANGED) | (codes == Change.LIMB_EXCHANGED), Change.UNTOUCHED, codes)
    changes[rows] = np.where((codes == Change.UNTOUCHED) & paired, Change.BODY_EXCHANGED, undone)
    return replace(track, xy_px=xy_px, confidence=confidence, changes=changes)
