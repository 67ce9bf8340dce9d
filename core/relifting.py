"""A pose made anew where its keypoints were corrected, and left as it was everywhere else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from .camera_motion import CameraMotion
from .constant_bones import with_constant_bones
from .detector_sites import detector_sites
from .errors import FileFormatError
from .fit.articulated_body import BONE_GROUP, BONE_GROUPS, BodyState, landmarks, local_turns, stature_m
from .fit.fitting import HELD, first_guess, fit_between
from .lift import as_lifted, bridged_body, evidence_of, lift, trusted, with_corrections, with_details
from .lifter.ray_windows import box_of, lifter_points
from .progress import Progress, report, silent
from .rotations import slerp
from .segments import joint_rotations, segment_rotations, segments_from_joint_rotations
from .skeletons import KEYPOINT_LAYOUTS, LANDMARKS_41, mirrored_layout
from .tracks import KeypointTrack, PoseTrack
from .world_alignment import Gravity, floor_height

if TYPE_CHECKING:
    from .lifter.lifting import LiftedBody, RayLifter

# Frames this near to what a change can reach are settled again with it.
_SETTLING_S = 0.2
# With more of the clip to be made anew than this, all of it is: that is as quick, and knows the bones better.
_MOST = 0.7
# A pose further off than this from a body of constant bones did not come from the fit.
_FITTED_WITHIN_M = 0.002
_TIME_TOLERANCE_S = 1e-4
# A pose that misses its keypoints by this part of the body's box, in the median, is not of them.
_COVERED_WITHIN = 0.2
# Sides were exchanged before the pose was lifted where it covers the exchanged keypoints so much better.
_MUCH_BETTER = 0.5
_WORST = 0.3
# Looking at the keypoints again takes about this part of a window's time.
_LOOKING = 0.3
_MIRRORED = mirrored_layout(KEYPOINT_LAYOUTS["lifter21"])


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

    Camera, bones, floor and the world are those of ``previous``, and so is whether it was fitted. The windows join what
    is before and after them without a jump, and every other frame is what it was, bit by bit. When most of the clip is
    concerned, all of it is lifted anew. A pose by an adapted copy of ``lifter`` is taken as the lifter's own: the copy
    is not kept. Raises FileFormatError when ``previous`` is of other footage, weights or camera motion.
    """
    _require_same_frames(track, previous)
    _require_same_weights(lifter, previous)
    _require_covered(track, previous, changed, camera_motion)
    nothing = np.zeros(len(changed), bool)
    if not changed.any():
        return Relifted(previous, nothing)
    anew = affected_frames(changed, track.time_s, lifter)
    shot = _Shot.of(track, previous, lifter, camera_motion)
    if anew.mean() > _MOST:
        pose = lift(
            track,
            camera=previous.camera,
            camera_motion=camera_motion,
            gravity=Gravity(previous.world_from_camera[2, :3]),
            height_m=None if shot.state is None else stature_m(shot.state.lengths_m),
            lifter=lifter,
            fit=shot.state is not None,
            progress=progress,
        )
        return Relifted(pose, ~nothing)
    positions, rotations = previous.positions_m.copy(), previous.rotations_wxyz.copy()
    confidence, contact = previous.confidence.copy(), previous.contact.copy()
    total, done = int(anew.sum()), 0
    for window in _runs(anew):
        size = window.stop - window.start

        def told(share: float, begun: int = done, size: int = size) -> None:
            report(progress, begun + round(share * size), total)

        made = _made_anew(shot, window, told)
        positions[window], rotations[window] = made.positions_m, made.rotations_wxyz
        confidence[window], contact[window] = made.confidence, made.contact
        done += size
        told(1.0)
    pose = replace(previous, positions_m=positions, rotations_wxyz=rotations, confidence=confidence, contact=contact)
    return Relifted(pose, anew)


def sides_checked(
    track: KeypointTrack,
    changed: np.ndarray,
    previous: PoseTrack,
    lifter: RayLifter,
    camera_motion: CameraMotion | None = None,
) -> KeypointTrack:
    """``track`` with its sides checked as far as that concerns what is lifted anew.

    In frames that are not ``changed`` (F,), the pose tells which side is which; in the others, the lifter.
    """
    from .lifter.side_check import check_sides, with_sides_exchanged

    seen_from = affected_frames(affected_frames(changed, track.time_s, lifter), track.time_s, lifter)
    track = with_sides_exchanged(track, _exchanged_before(track, previous, camera_motion) & seen_from & ~changed)
    xy_px, confidence, changes = track.xy_px.copy(), track.confidence.copy(), track.changes.copy()
    for rows in _runs(seen_from):
        part = check_sides(track.of(rows), previous.camera, lifter, settled=~changed[rows])
        xy_px[rows], confidence[rows], changes[rows] = part.xy_px, part.confidence, part.changes
    return replace(track, xy_px=xy_px, confidence=confidence, changes=changes)


def affected_frames(changed: np.ndarray, time_s: np.ndarray, lifter: RayLifter) -> np.ndarray:
    """(F,) True for frames whose pose the ``changed`` ones have a say in: those that the lifter sees them from.

    What lies between two such windows goes with them, where it is too short to hold on to.
    """
    behind_s = lifter.output_frame / lifter.fps + _SETTLING_S
    ahead_s = (lifter.receptive_field - 1 - lifter.output_frame) / lifter.fps + _SETTLING_S
    at_s = time_s[changed]
    # A frame looks back by ``behind_s``, so a change reaches as far ahead of itself.
    first = np.searchsorted(time_s, at_s - ahead_s)
    last = np.searchsorted(time_s, at_s + behind_s, side="right")
    edges = np.zeros(len(time_s) + 1, int)
    np.add.at(edges, first, 1)
    np.add.at(edges, last, -1)
    affected = np.cumsum(edges)[:-1] > 0
    for rest in _runs(~affected):
        inside = rest.start > 0 and rest.stop < len(affected)
        if inside and rest.stop - rest.start < 2 * HELD:
            affected[rest] = True
    return np.asarray(affected)


@dataclass(frozen=True, eq=False)
class _Shot:
    """What all windows of a clip have in common.

    rays, confidence:  (F, 21, 2), (F, 21) of the lifter's points
    space_from_camera: (F, 4, 4) leads to the space that the pose is in
    state:             the fitted body; None when the pose was not fitted
    floor:             up (3,) and how far along it the floor is
    """

    track: KeypointTrack
    previous: PoseTrack
    lifter: RayLifter
    rays: np.ndarray
    confidence: np.ndarray
    space_from_camera: np.ndarray
    state: BodyState | None
    floor: tuple[np.ndarray, float]

    @classmethod
    def of(
        cls, track: KeypointTrack, previous: PoseTrack, lifter: RayLifter, camera_motion: CameraMotion | None
    ) -> _Shot:
        state = _state_of(previous)
        if state is None and camera_motion is not None:
            raise FileFormatError(
                "The pose was lifted with --no-fit, and a moving camera needs the fit. Lift without --update."
            )
        up = previous.world_from_camera[2, :3]
        xy_px, confidence = lifter_points(track)
        return cls(
            track,
            previous,
            lifter,
            previous.camera.rays(xy_px),
            confidence,
            _space_from_camera(track.time_s, camera_motion),
            state,
            (up, floor_height(previous.positions_m, previous.contact, previous.time_s, up)),
        )

    def body(self, rows: slice, told: Callable[[float], None]) -> LiftedBody:
        """What the lifter says of ``rows``, in which somebody is seen."""
        from .lifter.lifting import lift_rays

        def looked(done: int, total: int | None) -> bool:
            told(_LOOKING * done / max(total or 1, 1))
            return True

        body = lift_rays(self.lifter, self.rays, self.confidence, self.track.time_s, looked, rows=rows)
        return bridged_body(body, self.track.seen[rows], self.track.time_s[rows])


@dataclass(frozen=True, eq=False)
class _Made:
    """The arrays of a pose, of one window's frames."""

    positions_m: np.ndarray
    rotations_wxyz: np.ndarray
    confidence: np.ndarray
    contact: np.ndarray


def _made_anew(shot: _Shot, window: slice, told: Callable[[float], None]) -> _Made:
    if not shot.track.seen[_with_ends(shot, window)].any():
        return _carried_over(shot, window)
    return _lifted_anew(shot, window, told) if shot.state is None else _fitted_anew(shot, shot.state, window, told)


def _with_ends(shot: _Shot, window: slice) -> slice:
    """``window`` and the frames beside it that it holds on to."""
    return slice(max(window.start - HELD, 0), min(window.stop + HELD, len(shot.track.time_s)))


def _fitted_anew(shot: _Shot, was: BodyState, window: slice, told: Callable[[float], None]) -> _Made:
    """The fit, of the body as it was, between the frames beside the window, which stay."""
    rows = _with_ends(shot, window)
    part, inner = shot.track.of(rows), slice(window.start - rows.start, window.stop - rows.start)
    body = shot.body(rows, told)
    evidence = evidence_of(body, shot.rays[rows], shot.confidence[rows], part, shot.space_from_camera[rows])
    evidence = with_corrections(with_details(evidence, part, shot.previous.camera), part, shot.previous.camera)
    evidence = replace(evidence, floor=shot.floor)
    guess = first_guess(evidence)
    root_m, local = was.root_m[rows].copy(), was.local[rows].copy()
    root_m[inner], local[inner] = guess.root_m[inner], guess.local[inner]

    def settled(done: int, total: int | None) -> bool:
        told(_LOOKING + (1 - _LOOKING) * done / max(total or 1, 1))
        return True

    held = (inner.start, len(part.time_s) - inner.stop)
    fitted = fit_between(BodyState(root_m, local, was.lengths_m), evidence, held, progress=settled)
    return _Made(
        fitted.positions_m[inner],
        joint_rotations(fitted.segments_wxyz[inner]),
        trusted(body, part)[inner],
        body.contact[inner],
    )


def _lifted_anew(shot: _Shot, window: slice, told: Callable[[float], None]) -> _Made:
    """The lifter's word alone, with the bones as they were, faded in and out at the window's ends."""
    time_s, was = shot.track.time_s, shot.previous.positions_m
    # A little more, for what is smoothed over time.
    rows = slice(
        int(np.searchsorted(time_s, time_s[window.start] - _SETTLING_S)),
        int(np.searchsorted(time_s, time_s[window.stop - 1] + _SETTLING_S, side="right")),
    )
    part, inner = shot.track.of(rows), slice(window.start - rows.start, window.stop - rows.start)
    body = shot.body(rows, told)
    lengths = np.median(_bone_lengths(was), axis=0)
    now = as_lifted(body, shot.rays[rows], shot.confidence[rows], part, lengths)[inner]
    share = _faded(time_s, window)[:, None, None]
    positions = with_constant_bones(was[window] + share * (now - was[window]), lengths)
    return _Made(
        positions, joint_rotations(segment_rotations(positions)), trusted(body, part)[inner], body.contact[inner]
    )


def _faded(time_s: np.ndarray, window: slice) -> np.ndarray:
    """(N,) from 0 to 1 at the beginning of the window and back at its end, each where there is something beside it."""
    from_s = time_s[window] - time_s[window.start - 1] if window.start > 0 else np.full(len(time_s[window]), np.inf)
    to_s = time_s[window.stop] - time_s[window] if window.stop < len(time_s) else np.full(len(time_s[window]), np.inf)
    share = np.clip(np.minimum(from_s, to_s) / _SETTLING_S, 0.0, 1.0)
    return np.asarray(share * share * (3 - 2 * share))


def _carried_over(shot: _Shot, window: slice) -> _Made:
    """Nobody is seen any more: from the frame before the window to the one after it, without confidence."""
    was, time_s = shot.previous, shot.track.time_s
    # At an end of the clip, what is at the other side is held. A window without sides would be the whole clip.
    before = window.start - 1 if window.start > 0 else window.stop
    after = window.stop if window.stop < len(time_s) else before
    way_s = max(time_s[after] - time_s[before], 1e-9)
    share = np.clip((time_s[window] - time_s[before]) / way_s, 0.0, 1.0)[:, None, None]
    rotations = slerp(was.rotations_wxyz[before], was.rotations_wxyz[after], share)
    positions = was.positions_m[before] + share * (was.positions_m[after] - was.positions_m[before])
    if shot.state is None:
        positions = with_constant_bones(positions, np.median(_bone_lengths(was.positions_m), axis=0))
    else:
        local = local_turns(segments_from_joint_rotations(rotations))
        positions = landmarks(BodyState(positions[:, 0], local, shot.state.lengths_m))
    return _Made(positions, rotations, np.zeros(positions.shape[:2]), np.zeros((len(positions), 4)))


def _state_of(pose: PoseTrack) -> BodyState | None:
    """The body that the pose is of; None when it is no body of constant bones, as without the fit."""
    bones = _bone_lengths(pose.positions_m)
    lengths = np.array([np.median(bones[:, group == BONE_GROUP]) for group in range(len(BONE_GROUPS))])
    segments = segments_from_joint_rotations(pose.rotations_wxyz)
    state = BodyState(pose.positions_m[:, 0], local_turns(segments), lengths)
    off_m = np.linalg.norm(landmarks(state) - pose.positions_m, axis=-1)
    return state if off_m.max() < _FITTED_WITHIN_M else None


def _bone_lengths(positions_m: np.ndarray) -> np.ndarray:
    """(F, 41) metres from each landmark to its parent, 0 at the root."""
    parents = np.maximum(LANDMARKS_41.parents, 0)
    return np.asarray(np.linalg.norm(positions_m - positions_m[:, parents], axis=-1))


def _space_from_camera(time_s: np.ndarray, camera_motion: CameraMotion | None) -> np.ndarray:
    """(F, 4, 4) into the space that stands still: the camera's own, or that of a moving camera's first frame."""
    if camera_motion is None:
        return np.tile(np.eye(4), (len(time_s), 1, 1))
    motion = camera_motion.at(time_s)
    return np.asarray(np.linalg.inv(motion[0]) @ motion)


def _shown_px(pose: PoseTrack, camera_motion: CameraMotion | None) -> np.ndarray:
    """(F, 21, 2) where the pose's sites would be seen; infinitely far off behind the camera."""
    camera_from_space = np.linalg.inv(_space_from_camera(pose.time_s, camera_motion))
    turn, move = camera_from_space[:, :3, :3], camera_from_space[:, :3, 3]
    sites = detector_sites(pose.positions_m) @ turn.swapaxes(1, 2) + move[:, None]
    shown_px = pose.camera.project(sites)
    return np.where(np.isfinite(shown_px), shown_px, np.inf)


def _exchanged_before(track: KeypointTrack, previous: PoseTrack, camera_motion: CameraMotion | None) -> np.ndarray:
    """(F,) True where ``previous`` was clearly lifted from keypoints whose sides are exchanged in ``track``."""
    shown_px = _shown_px(previous, camera_motion)
    xy_px, _ = lifter_points(track)
    seen = np.isfinite(xy_px).all(axis=-1)
    both = seen & seen[:, _MIRRORED] & (np.arange(len(_MIRRORED)) != _MIRRORED)
    _, size_px = box_of(xy_px, seen)

    def off(points_px: np.ndarray) -> np.ndarray:
        apart = np.linalg.norm(np.where(both[..., None], points_px - shown_px, 0.0), axis=-1) / size_px[:, None]
        return np.asarray(np.minimum(apart, _WORST).sum(axis=1))

    return np.asarray(off(xy_px[:, _MIRRORED]) < _MUCH_BETTER * off(xy_px))


def _require_same_frames(track: KeypointTrack, previous: PoseTrack) -> None:
    if previous.skeleton is not LANDMARKS_41:
        raise FileFormatError("The pose has other joints than Keylift's own. Lift the keypoints without --update.")
    if len(track.time_s) != len(previous.time_s) or np.abs(track.time_s - previous.time_s).max() > _TIME_TOLERANCE_S:
        raise FileFormatError(
            f"The pose has {len(previous.time_s)} frames and the keypoints have {len(track.time_s)}, or they lie at "
            "other times: it was not lifted from these. Lift the keypoints without --update."
        )
    one, other = track.source, previous.source
    if one.sha256 and other.sha256 and one.sha256 != other.sha256:
        raise FileFormatError(
            f"The pose is of '{other.name}' and the keypoints are of '{one.name}', or the footage has changed since. "
            "Lift the keypoints without --update."
        )


def _require_same_weights(lifter: RayLifter, previous: PoseTrack) -> None:
    one, other = lifter.source, previous.weights
    if one.sha256 == other.sha256 or other.name == f"{one.name}+adapted":
        return
    if one.name == other.name:
        raise FileFormatError(
            f"The pose was lifted with another version of the weights '{other.name}'. Lift without --update."
        )
    raise FileFormatError(
        f"The pose was lifted with the weights '{other.name}', not with '{one.name}'. Give the same (--weights), or "
        "lift all of it with these, without --update."
    )


def _require_covered(
    track: KeypointTrack, previous: PoseTrack, changed: np.ndarray, camera_motion: CameraMotion | None
) -> None:
    """Raise FileFormatError when the pose lies elsewhere in the picture than the keypoints that it was lifted from."""
    xy_px, _ = lifter_points(track)
    seen = np.isfinite(xy_px).all(axis=-1)
    _, size_px = box_of(xy_px, seen)
    # The middle of a pair is where it is, whichever side is which.
    middle_px, shown_px = ((px + px[:, _MIRRORED]) / 2 for px in (xy_px, _shown_px(previous, camera_motion)))
    off = np.linalg.norm(middle_px - shown_px, axis=-1) / size_px[:, None]
    known = seen & seen[:, _MIRRORED]
    of_old = known & ~changed[:, None]
    counted = of_old if of_old.any() else known
    if counted.any() and np.median(off[counted]) > _COVERED_WITHIN:
        other = "a --camera-motion" if camera_motion is None else "another --camera-motion, or none"
        raise FileFormatError(
            f"The pose does not lie over the keypoints. It is of somebody else, or was lifted with {other}: name what "
            "it was lifted with, or lift without --update."
        )


def _runs(flags: np.ndarray) -> list[slice]:
    """Where ``flags`` (F,) is True, run by run."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [slice(int(first), int(last)) for first, last in edges.reshape(-1, 2)]
