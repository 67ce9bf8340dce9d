"""One clip as a lifter sees it: a window of rays for each frame, and which frames are held out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.camera import Camera
from ...core.lifter.lifting import RayLifter, sample_windows
from ...core.lifter.ray_windows import lifter_points, normalise_windows
from ...core.tracks import KeypointTrack


@dataclass(frozen=True, eq=False)
class ClipWindows:
    """Moments of one clip at the lifter's own rate.

    inputs:             (M, T, 22, 3) float32 windows
    camera_from_lifter: (M, 3, 3) float32
    rays:               (M, 21, 2) float32 x/z, y/z of the moment's keypoints, camera axes; 0 where unseen
    confidence:         (M, 21) float32 in [0, 1], 0 = unseen
    time_s:             (M,)
    """

    inputs: np.ndarray
    camera_from_lifter: np.ndarray
    rays: np.ndarray
    confidence: np.ndarray
    time_s: np.ndarray


def observed_rays(track: KeypointTrack, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """(F, 21, 2) rays of the lifter's points, NaN = unseen, and (F, 21) confidence."""
    xy_px, confidence = lifter_points(track)
    return camera.resized(track.size_px).rays(xy_px), confidence


def windows_of_clip(lifter: RayLifter, rays: np.ndarray, confidence: np.ndarray, time_s: np.ndarray) -> ClipWindows:
    """Windows round every moment of a clip, a frame of the lifter apart, whatever rate the clip has.

    rays: (F, 21, 2), NaN = unseen; confidence (F, 21); time_s (F,)
    """
    moments = time_s[0] + np.arange(int((time_s[-1] - time_s[0]) * lifter.fps + 1e-6) + 1) / lifter.fps
    offsets_s = (np.arange(lifter.receptive_field) - lifter.output_frame) / lifter.fps
    at_s = moments[:, None] + offsets_s
    window_rays = sample_windows(rays, time_s, at_s)
    window_confidence = sample_windows(confidence[..., None], time_s, at_s)[..., 0]
    inputs, camera_from_lifter = normalise_windows(window_rays, window_confidence, lifter.output_frame)
    here, sure = window_rays[:, lifter.output_frame], window_confidence[:, lifter.output_frame]
    seen = np.isfinite(here).all(axis=-1)
    return ClipWindows(
        inputs=inputs,
        camera_from_lifter=camera_from_lifter.astype(np.float32),
        rays=np.where(seen[..., None], here, 0.0).astype(np.float32),
        confidence=np.where(seen, sure, 0.0).astype(np.float32),
        time_s=moments,
    )


def best_seen_part(confidence: np.ndarray, time_s: np.ndarray, longest_s: float) -> slice:
    """Neighbouring frames of at most ``longest_s`` in which most of the keypoints, confidence (F, K), is seen."""
    ends = np.searchsorted(time_s, time_s + longest_s, side="right")
    seen = np.append(0.0, np.cumsum(confidence.sum(axis=1)))
    first = int(np.argmax(seen[ends] - seen[:-1]))
    return slice(first, int(ends[first]))


def held_out_at(
    time_s: np.ndarray, span_s: tuple[float, float], block_s: float, part: float, margin_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Blocks in time that nothing is learnt from, the same for all moments of a clip.

    time_s: (N,) moments; span_s: the clip's first and last
    returns: (N,) True in a block, and (N,) True where frames may be learnt from: in no block and ``margin_s`` from each
    """
    length = span_s[1] - span_s[0]
    blocks = max(1, round(length * part / block_s))
    block_s = min(block_s, length * part)
    centres = span_s[0] + (np.arange(blocks) + 0.5) * length / blocks
    away = np.abs(time_s[:, None] - centres).min(axis=1)
    return away <= block_s / 2, away > block_s / 2 + margin_s
