"""MediaPipe's own idea of where a body is in space: what a lifter has to be better than."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ...core.errors import DetectorError
from ...core.footage import Frame
from ...core.landmarker import model_bytes, native_chatter_hidden
from ...core.people import SAME_BODY
from ...core.progress import Progress, report, silent
from ...core.sightings import Sighting, apart
from ...core.skeletons import MEDIAPIPE_33_NAMES
from ...core.tracks import KeypointTrack


def detector_world_landmarks(
    frames: Iterable[Frame], track: KeypointTrack, model: Path, progress: Progress = silent
) -> np.ndarray:
    """World landmarks of the person of ``track``, by a landmarker in VIDEO mode that sees nothing but this clip.

    frames:  upright pictures; those of the track (by ``frame_index``), in their order, among perhaps others
    model:   a .task bundle, the one that the track's keypoints are from
    returns: (F, 33, 3) metres in camera axes (x right, y down, z forward) about the middle of the hips; NaN where the
             landmarker saw nobody or somebody else

    MediaPipe looks along the line of sight to the person, so its axes are the camera's where the person is in the
    middle of the picture. Raises DetectorError when the model can't be used.
    """
    world_m = np.full((len(track.time_s), len(MEDIAPIPE_33_NAMES), 3), np.nan)
    rows = {int(index): row for row, index in enumerate(track.frame_index)}
    with native_chatter_hidden():
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model_bytes(model)),
            running_mode=vision.RunningMode.VIDEO,
        )
        try:
            landmarker = vision.PoseLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as problem:
            raise DetectorError(f"The pose model '{model}' can't be used ({problem}). Name another.") from problem
    last_ms = -1
    try:
        for frame in frames:
            row = rows.get(frame.index)
            if row is None:
                continue
            picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, np.ascontiguousarray(frame.rgb))
            last_ms = max(round(frame.time_s * 1000), last_ms + 1)
            with native_chatter_hidden():
                result = landmarker.detect_for_video(picture, last_ms)
            if result.pose_landmarks:
                height, width = frame.rgb.shape[:2]
                seen_px = np.array([(point.x * width, point.y * height) for point in result.pose_landmarks[0]])
                if _is_the_same(seen_px, track, row):
                    world_m[row] = [(point.x, point.y, point.z) for point in result.pose_world_landmarks[0]]
            report(progress, row + 1, len(world_m))
    finally:
        with native_chatter_hidden():
            landmarker.close()
    return world_m


def _is_the_same(seen_px: np.ndarray, track: KeypointTrack, row: int) -> bool:
    followed_px = track.xy_px[row]
    if not np.isfinite(followed_px).all():
        return False
    return apart(seen_px, followed_px, Sighting(followed_px, track.confidence[row]).size_px) < SAME_BODY
