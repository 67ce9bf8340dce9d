"""The lifting story: keypoints -> rays -> body -> fitted body, moving in front of the camera -> world -> rotations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .camera import Camera
from .camera_motion import CameraMotion
from .constant_bones import bone_lengths, with_constant_bones
from .detail_points import detail_points
from .detector_sites import detector_sites
from .errors import FileFormatError, NobodyFoundError
from .fit.evidence import Evidence
from .fit.fitting import fit_body
from .frame_rate import frame_rate
from .progress import Progress, report, silent
from .root_path import solve_root_path
from .segments import joint_rotations, segment_rotations
from .skeletons import LANDMARKS_41
from .tracks import KeypointTrack, PoseTrack
from .world_alignment import Gravity, align_world, floor_height, up_direction

if TYPE_CHECKING:
    from .lifter.lifting import LiftedBody, RayLifter

# Noise of the lifter from frame to frame is faster than people; this much of a blur takes it out and leaves a punch.
SMOOTHING_S = 0.04
# A landmark expected to be this far off is worth a third.
_CONFIDENCE_ERROR_M = 0.10
_FILLED_CONFIDENCE = 0.5
NOBODY_SEEN = "The keypoints hold nobody in any frame. Detect another range or person."
# What is carried over frames in which nobody was seen counts this much.
_UNSEEN_ERROR = 10.0


def _smoothed(values: np.ndarray, trust: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """(F, ..., C) blurred over time, each frame with the weight (F, ...) it is trusted with."""
    if len(time_s) < 2:
        return values
    frames = SMOOTHING_S / float(np.median(np.diff(time_s)))
    weight = gaussian_filter1d(trust, frames, axis=0, mode="nearest")
    return gaussian_filter1d(values * trust[..., None], frames, axis=0, mode="nearest") / weight[..., None]


def _bridged(values: np.ndarray, known: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """(F, ...) with the frames that are not ``known`` interpolated in time; the ends are held."""
    if known.all():
        return values
    flat = values.reshape(len(values), -1).copy()
    for column in flat.T:
        column[~known] = np.interp(time_s[~known], time_s[known], column[known])
    return flat.reshape(values.shape)


def lift(
    track: KeypointTrack,
    *,
    camera: Camera | None = None,
    camera_motion: CameraMotion | None = None,
    gravity: Gravity | None = None,
    height_m: float | None = None,
    weights: str = "default",
    lifter: RayLifter | None = None,
    device: str = "auto",
    fit: bool = True,
    progress: Progress = silent,
) -> PoseTrack:
    """Lift one person's keypoints to a pose in space.

    camera:        the lens; guessed from the picture's shape when None
    camera_motion: how the camera moves, when it was solved; None = it stands still
    gravity:       how the camera is held, when it is known; None = told from standing feet and upright bodies
    height_m:      how tall the person stands, when it is known; needs the fit
    weights:       a name or a .safetensors file, see ``core.weights``
    lifter:        a lifter that is loaded already, instead of ``weights``
    fit:           make one skeleton with constant bones, hinges and planted feet agree with it all (``core.fit``);
                   False = the lifter's word, smoothed

    Every frame gets a pose; in frames where the person was not seen it is carried over from the neighbours with
    confidence 0. Positions are in the camera's space, of a moving camera in that of the first frame. Raises
    NobodyFoundError when no frame has keypoints, WeightsError for weights that don't fit.
    """
    from .lifter.lifting import load_ray_lifter
    from .weights import find_weights

    if not track.seen.any():
        raise NobodyFoundError(NOBODY_SEEN)
    if lifter is None:
        lifter = load_ray_lifter(find_weights(weights), device)
    camera = Camera.guessed(track.size_px) if camera is None else camera.resized(track.size_px)
    if not fit and (camera_motion is not None or height_m is not None):
        raise FileFormatError("A moving camera and a known height need the fit. Leave --no-fit out.")
    motion = None if camera_motion is None else camera_motion.at(track.time_s)
    moving = _moving(track, lifter, camera, motion, gravity, height_m, fit, progress)
    report(progress, len(track.time_s), len(track.time_s))

    return PoseTrack(
        positions_m=moving.positions_m,
        rotations_wxyz=joint_rotations(moving.segments_wxyz),
        confidence=moving.confidence,
        contact=moving.contact,
        world_from_camera=moving.world_from_camera,
        time_s=track.time_s,
        frame_index=track.frame_index,
        fps=frame_rate(track.time_s),
        camera=camera,
        skeleton=LANDMARKS_41,
        weights=lifter.source,
        source=track.source,
    )


@dataclass(frozen=True, eq=False)
class _MovingBody:
    """A body moving in camera space, and where that is in the world.

    positions_m:       (F, 41, 3)
    segments_wxyz:     (F, S, 4) each segment's turn in camera space
    confidence:        (F, 41) in [0, 1]
    contact:           (F, 4) probability for left heel, left toe, right heel, right toe
    world_from_camera: (4, 4)
    """

    positions_m: np.ndarray
    segments_wxyz: np.ndarray
    confidence: np.ndarray
    contact: np.ndarray
    world_from_camera: np.ndarray


def _moving(
    track: KeypointTrack,
    lifter: RayLifter,
    camera: Camera,
    motion: np.ndarray | None,
    gravity: Gravity | None,
    height_m: float | None,
    fit: bool,
    progress: Progress,
) -> _MovingBody:
    """What the keypoints say; of an hour of them, all that it takes to find out is let go of here."""
    from .lifter.lifting import lift_rays
    from .lifter.ray_windows import lifter_points

    xy_px, confidence = lifter_points(track)
    if not np.isfinite(xy_px).all(axis=-1).any():
        raise FileFormatError(f"The keypoint layout '{track.layout}' has none of the points that the lifter looks at.")
    rays = camera.rays(xy_px)
    known = track.seen
    share = 0.3 if fit else 1.0

    def first_part(done: int, total: int | None) -> bool:
        return progress(round(share * done), len(known)) is not False

    body = lift_rays(lifter, rays, confidence, track.time_s, first_part)
    body = bridged_body(body, known, track.time_s)
    if fit:

        def second_part(done: int, total: int | None) -> bool:
            part = share + (1 - share) * done / max(total or 1, 1)
            return progress(round(part * len(known)), len(known)) is not False

        positions, turns, world_from_camera = _fitted(
            body, camera, rays, confidence, track, motion, gravity, height_m, second_part
        )
    else:
        positions = as_lifted(body, rays, confidence, track)
        turns = segment_rotations(positions)
        world_from_camera = align_world(positions, body.contact, track.time_s, gravity, body.up)
    return _MovingBody(positions, turns, trusted(body, track), body.contact, world_from_camera)


def trusted(body: LiftedBody, track: KeypointTrack) -> np.ndarray:
    """(F, 41) how sure each landmark is, 0 to 1, by what the lifter expects of itself and by what was seen."""
    seen = np.where(track.seen, np.where(track.filled, _FILLED_CONFIDENCE, 1.0), 0.0)
    return np.asarray(np.clip(np.exp(-body.expected_error_m / _CONFIDENCE_ERROR_M) * seen[:, None], 0.0, 1.0))


def pinned_points(track: KeypointTrack) -> np.ndarray | None:
    """(F, 21) True for the lifter's points that an artist put where they are; None where nobody put any.

    What an artist exchanged with its counterpart is as sure as the detector was of it, and is weighed like all others.
    """
    put = track.corrected & (track.confidence >= 1)
    if not put.any():
        return None
    from .lifter.ray_windows import lifter_points

    return np.asarray(lifter_points(replace(track, confidence=put.astype(float)))[1] > 0.5)


def evidence_of(
    body: LiftedBody,
    rays: np.ndarray,
    confidence: np.ndarray,
    track: KeypointTrack,
    space_from_camera: np.ndarray | None = None,
) -> Evidence:
    """What the fit has to agree with, in the space that ``space_from_camera`` (F, 4, 4) leads to.

    Without it, that is camera space.
    """
    seen = np.isfinite(rays).all(axis=-1)
    lifted_m, camera_from_space = body.positions_m, np.broadcast_to(np.eye(4)[:3], (len(rays), 3, 4))
    if space_from_camera is not None:
        lifted_m = lifted_m @ space_from_camera[:, :3, :3].swapaxes(1, 2)
        camera_from_space = np.linalg.inv(space_from_camera)[:, :3]
    return Evidence(
        rays=np.where(seen[..., None], rays, 0.0),
        confidence=np.where(seen, confidence, 0.0),
        lifted_m=lifted_m,
        expected_error_m=body.expected_error_m * np.where(track.seen, 1.0, _UNSEEN_ERROR)[:, None],
        contact=body.contact,
        time_s=track.time_s,
        camera_from_space=camera_from_space,
    )


def with_corrections(evidence: Evidence, track: KeypointTrack, camera: Camera) -> Evidence:
    """``evidence`` that takes an artist's word for where keypoints are."""
    return replace(evidence, pinned=pinned_points(track), pixel=1 / min(camera.focal_px))


def with_details(evidence: Evidence, track: KeypointTrack, camera: Camera) -> Evidence:
    """``evidence`` with the points of hands and faces, where the detector gives them."""
    details = detail_points(track)
    if details is None:
        return evidence
    rays = camera.rays(details[0])
    seen = np.isfinite(rays).all(axis=-1)
    return replace(
        evidence,
        detail_rays=np.where(seen[..., None], rays, 0.0),
        detail_confidence=np.where(seen, details[1], 0.0),
    )


def bridged_body(body: LiftedBody, known: np.ndarray, time_s: np.ndarray) -> LiftedBody:
    """``body`` with frames that are not ``known`` (F,) carried over from those around, without contacts."""
    return replace(
        body,
        positions_m=_bridged(body.positions_m, known, time_s),
        expected_error_m=_bridged(body.expected_error_m, known, time_s),
        contact=np.where(known[:, None], body.contact, 0.0),
        up=None if body.up is None else _bridged(body.up, known, time_s),
    )


def as_lifted(
    body: LiftedBody,
    rays: np.ndarray,
    confidence: np.ndarray,
    track: KeypointTrack,
    lengths_m: np.ndarray | None = None,
) -> np.ndarray:
    """(F, 41, 3) camera space: what the lifter says, smoothed, with constant bones, where it covers the keypoints.

    lengths_m: (41,) of the bones, where they are known
    """
    trust = 1 / np.maximum(body.expected_error_m, 0.005) * np.where(track.seen, 1.0, 0.1)[:, None]
    positions = _smoothed(body.positions_m, trust, track.time_s)
    positions = with_constant_bones(positions, bone_lengths(positions, trust) if lengths_m is None else lengths_m)
    root = solve_root_path(detector_sites(positions), rays, confidence, track.time_s)
    return positions + root[:, None]


def _fitted(
    body: LiftedBody,
    camera: Camera,
    rays: np.ndarray,
    confidence: np.ndarray,
    track: KeypointTrack,
    motion: np.ndarray | None,
    gravity: Gravity | None,
    height_m: float | None,
    progress: Progress,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (F, 41, 3) and segment turns (F, S, 4) in camera space, and world from camera (4, 4).

    motion: (F, 4, 4) world from camera, of a moving camera
    """
    # The space that is solved in stands still: the camera's own, or that of a moving camera's first frame.
    space_from_camera = None if motion is None else np.linalg.inv(motion[0]) @ motion
    evidence = with_details(evidence_of(body, rays, confidence, track, space_from_camera), track, camera)
    evidence = with_corrections(evidence, track, camera)
    lifted_up = body.up
    if lifted_up is not None and space_from_camera is not None:
        lifted_up = np.einsum("fij,fj->fi", space_from_camera[:, :3, :3], lifted_up)
    if motion is not None:
        gravity = Gravity(motion[0, 2, :3])

    def floor_of(positions_m: np.ndarray) -> tuple[np.ndarray, float]:
        up = up_direction(positions_m, body.contact, track.time_s, gravity, lifted_up)
        return up, floor_height(positions_m, body.contact, track.time_s, up)

    found = fit_body(evidence, floor_of=floor_of, height_m=height_m, progress=progress)
    if motion is None:
        world = align_world(found.positions_m, body.contact, track.time_s, gravity, lifted_up)
    else:
        world = motion[0]
    return found.positions_m, found.segments_wxyz, world
