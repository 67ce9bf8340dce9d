"""From one person's keypoints to what can be learnt from them: lifted, fitted, and looked at with suspicion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.camera import Camera
from ...core.detector_sites import detector_sites
from ...core.errors import KeyliftError
from ...core.lift import lift
from ...core.lifter.lifting import RayLifter, lift_rays, sample_windows
from ...core.lifter.side_check import check_sides
from ...core.metrics import procrustes_aligned
from ...core.motion_metrics import LIMB_JOINTS
from ...core.progress import Progress, silent
from ...core.tracks import KeypointTrack, PoseTrack
from ...core.world_alignment import Gravity
from ..adaptation.clip_windows import observed_rays
from ..motion.motion_set import foot_contacts
from .footage_part import FootagePart
from .settings import PreparingSettings

# World is z up, motion is y up.
_MOTION_FROM_WORLD = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
# Fewer keypoints than this in a frame say nothing about how well a pose covers them.
_FEWEST_POINTS = 8


class NotUsable(KeyliftError):
    """Nothing can be learnt from this person in this clip; the message says why."""


@dataclass(frozen=True, eq=False)
class FilmedPerson:
    """What is known of one person in one clip.

    detected:          keypoints as the detector (and their repair) gave them
    corrected:         the same after an artist's corrections; None when nobody corrected any
    camera:            the lens; None = guessed from the picture's shape
    gravity:           how the camera is held, where somebody knows
    truth_m:           (F, 41, 3) camera space at the track's frames, captured beside the film; NaN where unknown
    world_from_camera: (4, 4) where the camera stands among others that filmed the same
    """

    detected: KeypointTrack
    corrected: KeypointTrack | None = None
    camera: Camera | None = None
    gravity: Gravity | None = None
    truth_m: np.ndarray | None = None
    world_from_camera: np.ndarray | None = None


def check_usable(track: KeypointTrack, settings: PreparingSettings) -> None:
    """Raise NotUsable, with the reason in words, when the keypoints are too few or too short to learn from."""
    if not track.seen.any():
        raise NotUsable("nobody is seen in it")
    at = np.flatnonzero(track.seen)
    seen_s = float(len(at) * np.median(np.diff(track.time_s))) if len(track.time_s) > 1 else 0.0
    if seen_s < settings.shortest_s:
        raise NotUsable(
            f"the person is seen for {seen_s:.1f} s ({len(at)} frames); {settings.shortest_s:g} s is the least"
        )
    _, confidence = observed_rays(track, Camera.guessed(track.size_px))
    part = float((confidence[at] > 0).mean())
    if part < settings.fewest_seen:
        raise NotUsable(f"too little of the person is seen ({part:.0%} of the keypoints)")


def prepare(
    person: FilmedPerson, lifter: RayLifter, settings: PreparingSettings, progress: Progress = silent
) -> FootagePart:
    """Lift and fit one person and lay down what can be learnt, at the lifter's own rate.

    Raises NotUsable with the reason in words.
    """
    check_usable(person.detected, settings)
    camera = person.camera or Camera.guessed(person.detected.size_px)
    camera = camera.resized(person.detected.size_px)
    detected = check_sides(person.detected, camera, lifter)
    true = detected if person.corrected is None else _with_sides_of(person.corrected, camera, lifter)
    pose = lift(true, camera=camera, gravity=person.gravity, lifter=lifter, progress=progress)
    part = _at_moments(person, detected, true, pose, camera, lifter, settings)
    if not (part.covered.any() or np.isfinite(part.truth_m).any()):
        raise NotUsable("the lifted pose covers the keypoints nowhere: they may be of several people in turn")
    return part


def _with_sides_of(corrected: KeypointTrack, camera: Camera, lifter: RayLifter) -> KeypointTrack:
    """The artist has the last word on sides too: what is corrected stays as it is."""
    checked = check_sides(corrected, camera, lifter)
    by_hand = corrected.corrected
    return replace(
        checked,
        xy_px=np.where(by_hand[..., None], corrected.xy_px, checked.xy_px),
        confidence=np.where(by_hand, corrected.confidence, checked.confidence),
        changes=np.where(by_hand, corrected.changes, checked.changes),
    )


def _at_moments(
    person: FilmedPerson,
    detected: KeypointTrack,
    true: KeypointTrack,
    pose: PoseTrack,
    camera: Camera,
    lifter: RayLifter,
    settings: PreparingSettings,
) -> FootagePart:
    time_s = detected.time_s
    moments = time_s[0] + np.arange(int((time_s[-1] - time_s[0]) * lifter.fps + 1e-6) + 1) / lifter.fps

    def there(values: np.ndarray) -> np.ndarray:
        """(F, K, C) at the moments; NaN stays NaN."""
        return sample_windows(values, time_s, moments[:, None])[:, 0]

    rays, confidence = observed_rays(detected, camera)
    true_rays, true_confidence = observed_rays(true, camera)
    motion_from_camera = _MOTION_FROM_WORLD @ pose.world_from_camera
    in_motion = pose.positions_m @ motion_from_camera[:3, :3].T + motion_from_camera[:3, 3]
    motion_m = there(in_motion)
    truth_m = np.full_like(pose.positions_m, np.nan) if person.truth_m is None else person.truth_m
    nearest = np.abs(time_s[:, None] - moments).argmin(axis=0) if len(time_s) < 2 else _nearest(time_s, moments)
    covered = _covered(pose, true_rays, true_confidence, settings.covered_within) & true.seen & ~true.filled
    # An artist knows better than the lifter.
    covered &= _agreed(pose, lifter, rays, confidence, time_s, settings.agreed_within_m) | true.corrected.any(axis=1)
    return FootagePart(
        source=detected.source,
        person=max(1, detected.person),
        camera=camera,
        time_s=moments,
        rays=there(rays),
        confidence=np.where(np.isfinite(there(rays)).all(axis=-1), there(confidence[..., None])[..., 0], 0.0),
        true_rays=there(true_rays),
        true_confidence=np.where(
            np.isfinite(there(true_rays)).all(axis=-1), there(true_confidence[..., None])[..., 0], 0.0
        ),
        corrected=true.corrected.any(axis=1)[nearest],
        motion_m=motion_m,
        contact=foot_contacts(motion_m, lifter.fps),
        covered=covered[nearest],
        camera_from_motion=np.linalg.inv(motion_from_camera),
        truth_m=there(truth_m),
        world_from_camera=person.world_from_camera,
    )


def _nearest(time_s: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """(M,) the frame that is nearest to each moment."""
    after = np.clip(np.searchsorted(time_s, moments), 1, len(time_s) - 1)
    return np.where(moments - time_s[after - 1] <= time_s[after] - moments, after - 1, after)


def _agreed(
    pose: PoseTrack,
    lifter: RayLifter,
    rays: np.ndarray,
    confidence: np.ndarray,
    time_s: np.ndarray,
    within_m: float,
) -> np.ndarray:
    """(F,) True where the fitted pose is about what the lifter itself says.

    A body can be bent until it covers its keypoints whatever it does in depth. Where it had to be bent far from what
    the lifter thinks, one of the two is wrong, and nothing says which.
    """
    said = lift_rays(lifter, rays, confidence, time_s).positions_m[:, LIMB_JOINTS]
    fitted = procrustes_aligned(pose.positions_m[:, LIMB_JOINTS], said)
    return np.asarray(np.linalg.norm(fitted - said, axis=-1).mean(axis=1) <= within_m)


def _covered(pose: PoseTrack, rays: np.ndarray, confidence: np.ndarray, within: float) -> np.ndarray:
    """(F,) True where the pose's sites lie on the keypoints, by the body's box in the median over keypoints."""
    sites = detector_sites(pose.positions_m)
    placed = sites[..., :2] / np.maximum(sites[..., 2:], 0.1)
    seen = np.isfinite(rays).all(axis=-1) & (confidence > 0)
    off = np.where(seen, np.linalg.norm(placed - np.where(seen[..., None], rays, 0.0), axis=-1), np.nan)
    box = np.ptp(placed, axis=1).max(axis=-1)
    enough = seen.sum(axis=1) >= _FEWEST_POINTS
    median = np.full(len(off), np.inf)
    if enough.any():
        median[enough] = np.nanmedian(off[enough], axis=1)
    return median <= within * box
