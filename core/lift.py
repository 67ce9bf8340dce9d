"""The lifting story: keypoints -> rays -> body -> path in front of the camera -> world -> rotations."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .camera import Camera
from .constant_bones import bone_lengths, with_constant_bones
from .detector_sites import detector_sites
from .errors import FileFormatError, NobodyFoundError
from .progress import Progress, silent
from .root_path import solve_root_path
from .segments import joint_rotations, segment_rotations
from .skeletons import LANDMARKS_41
from .tracks import KeypointTrack, PoseTrack
from .world_alignment import align_world

# Noise of the lifter from frame to frame is faster than people; this much of a blur takes it out and leaves a punch.
SMOOTHING_S = 0.04
# A landmark expected to be this far off is worth a third.
_CONFIDENCE_ERROR_M = 0.10
_FILLED_CONFIDENCE = 0.5
# Film, PAL, NTSC and their multiples.
_USUAL_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60000 / 1001, 60.0, 100.0, 120.0, 240.0)


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


def frame_rate(time_s: np.ndarray) -> float:
    """Frames a second of (F,) presentation times; 30 for a single frame.

    Clocks that count milliseconds round every time, so one difference says little and the whole clip says it well.
    Pauses and dropped frames count as the frames that would have been there.
    """
    steps = np.diff(time_s)
    if len(steps) == 0:
        return 30.0
    periods = np.maximum(np.round(steps / np.median(steps)), 1)
    measured = periods.sum() / (time_s[-1] - time_s[0])
    nearest = min(_USUAL_RATES, key=lambda rate: abs(rate - measured))
    # As near as millisecond clocks can tell over this clip.
    return float(nearest if abs(nearest - measured) * (time_s[-1] - time_s[0]) < 0.001 * nearest + 1e-6 else measured)


def lift(
    track: KeypointTrack,
    *,
    camera: Camera | None = None,
    weights: str = "default",
    device: str = "auto",
    progress: Progress = silent,
) -> PoseTrack:
    """Lift one person's keypoints to a pose in space.

    camera:  the lens; guessed from the picture's shape when None
    weights: a name or a .safetensors file, see ``core.weights``

    Every frame gets a pose; in frames where the person was not seen it is carried over from the neighbours with
    confidence 0. Raises NobodyFoundError when no frame has keypoints, WeightsError for weights that don't fit.
    """
    from .lifter.lifting import lift_rays, load_ray_lifter
    from .lifter.ray_windows import lifter_points
    from .weights import find_weights

    if not track.seen.any():
        raise NobodyFoundError("The keypoints hold nobody in any frame. Detect another range or person.")
    lifter = load_ray_lifter(find_weights(weights), device)
    camera = Camera.guessed(track.size_px) if camera is None else camera.resized(track.size_px)
    xy_px, confidence = lifter_points(track)
    if not np.isfinite(xy_px).all(axis=-1).any():
        raise FileFormatError(f"The keypoint layout '{track.layout}' has none of the points that the lifter looks at.")
    rays = camera.rays(xy_px)
    known = track.seen
    body = lift_rays(lifter, rays, confidence, track.time_s, progress)

    positions = _bridged(body.positions_m, known, track.time_s)
    expected_error = _bridged(body.expected_error_m, known, track.time_s)
    trust = 1 / np.maximum(expected_error, 0.005) * np.where(known, 1.0, 0.1)[:, None]
    positions = _smoothed(positions, trust, track.time_s)
    positions = with_constant_bones(positions, bone_lengths(positions, trust))
    root = solve_root_path(detector_sites(positions), rays, confidence, track.time_s)
    positions = positions + root[:, None]

    contact = np.where(known[:, None], body.contact, 0.0)
    trusted = np.exp(-expected_error / _CONFIDENCE_ERROR_M)
    trusted = trusted * np.where(known, np.where(track.filled, _FILLED_CONFIDENCE, 1.0), 0.0)[:, None]
    turns = segment_rotations(positions)
    return PoseTrack(
        positions_m=positions,
        rotations_wxyz=joint_rotations(turns),
        confidence=np.clip(trusted, 0.0, 1.0),
        contact=contact,
        world_from_camera=align_world(positions, contact, track.time_s),
        time_s=track.time_s,
        frame_index=track.frame_index,
        fps=frame_rate(track.time_s),
        camera=camera,
        skeleton=LANDMARKS_41,
        weights=lifter.source,
        source=track.source,
    )
