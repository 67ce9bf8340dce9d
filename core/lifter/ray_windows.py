"""What the default lifter looks at: windows of keypoint rays, seen by a camera turned towards the person.

A person at the edge of a wide picture is seen from another side than one in its middle. So each window's rays are
turned until the person's box in the output frame lies on the optical axis (as in Yu et al., "PCLs: Geometry-aware
Neural Reconstruction of 3D Pose with Perspective Crop Layers", CVPR 2021), and divided by the box size. The lifter's
answer is turned back. Where the box was and how large it was goes in as one more point.
"""

from __future__ import annotations

import numpy as np

from ..skeletons import KEYPOINT_LAYOUTS, LIFTER_21_NAMES, MEDIAPIPE_33_NAMES, mirrored_layout
from ..tracks import KeypointTrack

POINTS_IN = len(LIFTER_21_NAMES) + 1
FEATURES_IN = 3
INPUT_LAYOUT = "rays21"
# What a mirror exchanges in a window: the points of both sides; the box stays.
MIRRORED_POINTS = np.append(mirrored_layout(LIFTER_21_NAMES), len(LIFTER_21_NAMES))

_SHORT = {"l": "left", "r": "right"}


def _sources(name: str) -> list[int]:
    """Indices of MediaPipe's points whose mean is the lifter's point ``name``."""
    side, _, part = name.partition("_")
    if not part:
        return [MEDIAPIPE_33_NAMES.index(name)]
    parts = {"knuckle": ("index", "pinky"), "big_toe": ("foot_index",)}.get(part, (part,))
    return [MEDIAPIPE_33_NAMES.index(f"{_SHORT[side]}_{part}") for part in parts]


def lifter_points(track: KeypointTrack) -> tuple[np.ndarray, np.ndarray]:
    """The 21 points that the lifter knows: (F, 21, 2) pixels and (F, 21) confidence.

    Points that the track's layout lacks are NaN with confidence 0.
    """
    if track.layout == "lifter21":
        return track.xy_px, track.confidence
    frames = len(track.time_s)
    if track.layout == "mediapipe33":
        sources = [_sources(name) for name in LIFTER_21_NAMES]
        xy = np.stack([track.xy_px[:, source].mean(axis=1) for source in sources], axis=1)
        confidence = np.stack([track.confidence[:, source].min(axis=1) for source in sources], axis=1)
        return xy, confidence
    names = KEYPOINT_LAYOUTS[track.layout]
    xy = np.full((frames, len(LIFTER_21_NAMES), 2), np.nan)
    confidence = np.zeros((frames, len(LIFTER_21_NAMES)))
    for index, name in enumerate(LIFTER_21_NAMES):
        side, _, part = name.partition("_")
        wanted = f"{_SHORT[side]}_{part}" if part else name
        if wanted in names:
            xy[:, index] = track.xy_px[:, names.index(wanted)]
            confidence[:, index] = track.confidence[:, names.index(wanted)]
    return xy, confidence


def _towards(centre: np.ndarray) -> np.ndarray:
    """(B, 3, 3) smallest rotations that bring the rays (B, 2) onto the optical axis."""
    x, y = centre[:, 0], centre[:, 1]
    norm = np.sqrt(x * x + y * y + 1)
    x, y, z = x / norm, y / norm, 1 / norm
    k = 1 / (1 + z)
    rows = [[1 - x * x * k, -x * y * k, -x], [-x * y * k, 1 - y * y * k, -y], [x, y, z]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def box_of(rays: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre (B, 2) and longer side (B,) of the box round the seen rays (B, 21, 2)."""
    low = np.where(seen[..., None], rays, np.inf).min(axis=1)
    high = np.where(seen[..., None], rays, -np.inf).max(axis=1)
    nobody = ~seen.any(axis=1)
    low[nobody], high[nobody] = -0.1, 0.1
    return (low + high) / 2, np.maximum((high - low).max(axis=1), 1e-3)


def normalise_windows(rays: np.ndarray, confidence: np.ndarray, output_frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn, centre and scale windows of rays for the lifter.

    rays:         (B, T, 21, 2) x/z, y/z in camera space; NaN = unseen
    confidence:   (B, T, 21)
    output_frame: index in the window of the frame that is lifted
    returns:      inputs (B, T, 22, 3) float32 and camera_from_lifter (B, 3, 3)
    """
    seen = np.isfinite(rays[..., 0])
    centre, _ = box_of(rays[:, output_frame], seen[:, output_frame])
    lifter_from_camera = _towards(centre)
    m = lifter_from_camera[:, None, None]
    x, y = rays[..., 0], rays[..., 1]
    depth = np.maximum(m[..., 2, 0] * x + m[..., 2, 1] * y + m[..., 2, 2], 1e-3)
    turned = np.stack(
        [
            (m[..., 0, 0] * x + m[..., 0, 1] * y + m[..., 0, 2]) / depth,
            (m[..., 1, 0] * x + m[..., 1, 1] * y + m[..., 1, 2]) / depth,
        ],
        axis=-1,
    )
    _, size = box_of(turned[:, output_frame], seen[:, output_frame])
    inputs = np.zeros((*rays.shape[:2], POINTS_IN, FEATURES_IN), np.float32)
    # A point that strays far off the body says nothing more by straying further.
    inputs[:, :, :-1, :2] = np.where(seen[..., None], np.clip(turned / size[:, None, None, None], -4, 4), 0)
    inputs[:, :, :-1, 2] = np.where(seen, confidence, 0)
    inputs[:, :, -1, :2] = centre[:, None]
    inputs[:, :, -1, 2] = np.log(size)[:, None]
    return inputs, np.swapaxes(lifter_from_camera, -1, -2)
