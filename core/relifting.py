"""A pose made anew where its keypoints were corrected, and left as it was everywhere else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .camera_motion import CameraMotion
from .errors import FileFormatError
from .fit.articulated_body import BONE_GROUP, BONE_GROUPS, BodyState, landmarks, local_turns, stature_m
from .fit.fitting import HELD, first_guess, fit_between
from .lift import bridged_body, evidence_of, lift, trusted, with_details
from .progress import Progress, silent
from .segments import joint_rotations, segments_from_joint_rotations
from .skeletons import LANDMARKS_41
from .tracks import KeypointTrack, PoseTrack
from .world_alignment import Gravity

if TYPE_CHECKING:
    from .lifter.lifting import RayLifter

# Frames this near to what a change can reach are settled again with it.
_SETTLING_S = 0.2
# With more of the clip to be made anew than this, all of it is: that is as quick, and knows the bones better.
_MOST = 0.7
# A pose further off than this from a body of constant bones did not come from the fit.
_FITTED_WITHIN_M = 0.002
_TIME_TOLERANCE_S = 1e-4


@dataclass(frozen=True, eq=False)
class Relifted:
    """A pose that agrees with corrected keypoints.

    frames: (F,) True for those that were made anew
    """

    pose: PoseTrack
    frames: np.ndarray


def changed_frames(track: KeypointTrack, previous: PoseTrack) -> np.ndarray:
    """(F,) True where ``track`` has other keypoints than those that ``previous`` was lifted from.

    Where the pose does not know what it was lifted from, those that an artist corrected. Raises FileFormatError when
    the two are not of the same frames.
    """
    _require_same_frames(track, previous)
    if len(previous.lifted_from):
        return np.asarray(track.fingerprints() != previous.lifted_from)
    return np.asarray(track.corrected.any(axis=1))


def relift(
    track: KeypointTrack,
    previous: PoseTrack,
    changed: np.ndarray,
    *,
    lifter: RayLifter,
    camera_motion: CameraMotion | None = None,
    progress: Progress = silent,
) -> Relifted:
    """Lift anew the frames that the ``changed`` ones (F,) have a say in, as far as the lifter looks.

    Camera, bones, floor and the world are those of ``previous``; the frames beside the windows hold their ends, so
    that nothing jumps, and every other frame is what it was, bit by bit. When most of the clip is concerned, when
    ``previous`` was lifted by other weights, or never fitted, everything is lifted anew. Raises FileFormatError when
    ``previous`` is of other footage.
    """
    _require_same_frames(track, previous)
    nothing = np.zeros(len(changed), bool)
    if not changed.any():
        return Relifted(previous, nothing)
    state = _state_of(previous)
    anew = affected_frames(changed, track.time_s, lifter)
    if state is None or anew.mean() > _MOST or previous.weights.sha256 != lifter.source.sha256:
        pose = lift(
            track,
            camera=previous.camera,
            camera_motion=camera_motion,
            gravity=Gravity(previous.world_from_camera[2, :3]),
            height_m=None if state is None else stature_m(state.lengths_m),
            lifter=lifter,
            progress=progress,
        )
        return Relifted(pose, ~nothing)
    positions, rotations = previous.positions_m.copy(), previous.rotations_wxyz.copy()
    confidence, contact = previous.confidence.copy(), previous.contact.copy()
    total, done = int(anew.sum()), 0
    for window in _runs(anew):
        begun = done

        def told(settled: int, _total: int | None, begun: int = begun) -> bool:
            return progress(min(begun + settled, total), total) is not False

        stretch = _Stretch.around(window, len(changed))
        made = _lifted_stretch(track, previous, state, stretch, lifter, camera_motion, told)
        if made is not None:
            positions[window], rotations[window], confidence[window], contact[window] = made
        done += window.stop - window.start
    pose = replace(
        previous,
        positions_m=positions,
        rotations_wxyz=rotations,
        confidence=confidence,
        contact=contact,
    )
    return Relifted(pose, anew)


def sides_checked(track: KeypointTrack, changed: np.ndarray, previous: PoseTrack, lifter: RayLifter) -> KeypointTrack:
    """``track`` with its sides checked by the lifter as far as that concerns what is lifted anew."""
    from .lifter.side_check import check_sides

    seen_from = affected_frames(affected_frames(changed, track.time_s, lifter), track.time_s, lifter)
    xy_px, confidence, changes = track.xy_px.copy(), track.confidence.copy(), track.changes.copy()
    for rows in _runs(seen_from):
        part = check_sides(track.of(rows), previous.camera, lifter)
        xy_px[rows], confidence[rows], changes[rows] = part.xy_px, part.confidence, part.changes
    return replace(track, xy_px=xy_px, confidence=confidence, changes=changes)


def affected_frames(changed: np.ndarray, time_s: np.ndarray, lifter: RayLifter) -> np.ndarray:
    """(F,) True for frames whose pose the ``changed`` ones have a say in: those that the lifter sees them from."""
    behind_s = lifter.output_frame / lifter.fps + _SETTLING_S
    ahead_s = (lifter.receptive_field - 1 - lifter.output_frame) / lifter.fps + _SETTLING_S
    at_s = time_s[changed]
    # A frame looks back by ``behind_s``, so a change reaches as far ahead of itself.
    first = np.searchsorted(time_s, at_s - ahead_s)
    last = np.searchsorted(time_s, at_s + behind_s, side="right")
    edges = np.zeros(len(time_s) + 1, int)
    np.add.at(edges, first, 1)
    np.add.at(edges, last, -1)
    return np.asarray(np.cumsum(edges)[:-1] > 0)


@dataclass(frozen=True)
class _Stretch:
    """Frames to make anew, and those at both ends that hold on to what was there."""

    rows: slice
    held: tuple[int, int]

    @classmethod
    def around(cls, window: slice, frames: int) -> _Stretch:
        first, last = max(window.start - HELD, 0), min(window.stop + HELD, frames)
        return cls(slice(first, last), (window.start - first, last - window.stop))

    @property
    def inner(self) -> slice:
        """The frames to make anew, counted from the stretch's first."""
        return slice(self.held[0], self.rows.stop - self.rows.start - self.held[1])


def _lifted_stretch(
    track: KeypointTrack,
    previous: PoseTrack,
    state: BodyState,
    stretch: _Stretch,
    lifter: RayLifter,
    camera_motion: CameraMotion | None,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None:
    """Positions, rotations, confidence and contacts of the frames to make anew; None where nobody was seen in any."""
    from .lifter.lifting import lift_rays
    from .lifter.ray_windows import lifter_points

    part = track.of(stretch.rows)
    if not part.seen.any():
        return None
    xy_px, confidence = lifter_points(track)
    rays = previous.camera.rays(xy_px)
    body = bridged_body(lift_rays(lifter, rays, confidence, track.time_s, rows=stretch.rows), part.seen, part.time_s)
    space_from_camera = np.tile(np.eye(4), (len(part.time_s), 1, 1))
    if camera_motion is not None:
        motion = camera_motion.at(track.time_s)
        space_from_camera = np.linalg.inv(motion[0]) @ motion[stretch.rows]
    evidence = with_details(
        evidence_of(body, rays[stretch.rows], confidence[stretch.rows], part, space_from_camera), part, previous.camera
    )
    evidence = replace(evidence, floor=_floor_of(previous))
    guess = first_guess(evidence)
    root_m, local = state.root_m[stretch.rows].copy(), state.local[stretch.rows].copy()
    root_m[stretch.inner], local[stretch.inner] = guess.root_m[stretch.inner], guess.local[stretch.inner]
    fitted = fit_between(BodyState(root_m, local, state.lengths_m), evidence, stretch.held, progress=progress)
    inner = stretch.inner
    return (
        fitted.positions_m[inner],
        joint_rotations(fitted.segments_wxyz[inner]),
        trusted(body, part)[inner],
        body.contact[inner],
    )


def _state_of(pose: PoseTrack) -> BodyState | None:
    """The body that the pose is of; None when it is no body of constant bones."""
    if pose.skeleton is not LANDMARKS_41:
        return None
    lengths = np.zeros(len(BONE_GROUPS))
    bones = np.linalg.norm(pose.positions_m - pose.positions_m[:, np.maximum(LANDMARKS_41.parents, 0)], axis=-1)
    for group in range(len(BONE_GROUPS)):
        lengths[group] = np.median(bones[:, group == BONE_GROUP])
    segments = segments_from_joint_rotations(pose.rotations_wxyz)
    state = BodyState(pose.positions_m[:, 0], local_turns(segments), lengths)
    off_m = np.linalg.norm(landmarks(state) - pose.positions_m, axis=-1)
    return state if off_m.max() < _FITTED_WITHIN_M else None


def _floor_of(pose: PoseTrack) -> tuple[np.ndarray, float]:
    """Up, and how far along it the floor is, in the space that the pose's positions are in."""
    return pose.world_from_camera[2, :3], -float(pose.world_from_camera[2, 3])


def _require_same_frames(track: KeypointTrack, previous: PoseTrack) -> None:
    if len(track.time_s) != len(previous.time_s) or np.abs(track.time_s - previous.time_s).max() > _TIME_TOLERANCE_S:
        raise FileFormatError(
            f"The pose has {len(previous.time_s)} frames and the keypoints have {len(track.time_s)}, or they lie at "
            "other times: it was not lifted from these. Lift the keypoints without --update."
        )


def _runs(flags: np.ndarray) -> list[slice]:
    """Where ``flags`` (F,) is True, run by run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [slice(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
