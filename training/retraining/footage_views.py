"""Synthetic views as the footage's own cameras would have them, beside those that cameras usually have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..views.synthetic_views import ViewSettings
from .footage_set import FASTEST, FootageSet, SetClip


def camera_angles_deg(clip: SetClip) -> tuple[float, float]:
    """How far the clip's camera looks down, and how far it is rolled, as the lifted pose tells."""
    up = clip.camera_from_motion[:3, 1]
    pitch = np.degrees(np.arcsin(np.clip(-up[2], -1, 1)))
    roll = np.degrees(np.arctan2(-up[0], -up[1]))
    return float(pitch), float(roll)


def views_like(footage: FootageSet, usual: ViewSettings) -> ViewSettings:
    """``usual`` views, widened until the footage's cameras are among them."""
    weight = np.array([clip.length for clip in footage.clips], float)
    angles = np.array([camera_angles_deg(clip) for clip in footage.clips])
    pitch, roll = angles.T
    level, mean = usual.pitch_deg[0], float(np.average(pitch, weights=weight))
    spread = float(np.sqrt(np.average((pitch - mean) ** 2, weights=weight)))
    rolled = float(np.sqrt(np.average(np.minimum(np.abs(roll), 60.0) ** 2, weights=weight)))
    # Half way from what is usual to what is here: the lifted pose's word on the camera is not certain.
    depth = np.concatenate([[_depth(footage, clip, part) for clip in footage.clips] for part in (10, 90)])
    fields = [_field_of_view_deg(clip) for clip in footage.clips]
    return replace(
        usual,
        speed=(usual.speed[0], FASTEST),
        pitch_deg=((level + mean) / 2, max(usual.pitch_deg[1], spread, abs(mean - level) / 2)),
        roll_deg=max(usual.roll_deg, rolled),
        distance_m=(
            float(np.clip(depth.min(), 0.8, usual.distance_m[0])),
            float(np.clip(depth.max(), usual.distance_m[1], 30.0)),
        ),
        field_of_view_deg=(
            min(usual.field_of_view_deg[0], *fields),
            float(min(max(usual.field_of_view_deg[1], *fields), 130.0)),
        ),
    )


def _depth(footage: FootageSet, clip: SetClip, percent: float) -> float:
    root = footage.motion_m[clip.rows][:, 0].astype(float)
    depth = root @ clip.camera_from_motion[2, :3] + clip.camera_from_motion[2, 3]
    return float(np.percentile(depth, percent))


def _field_of_view_deg(clip: SetClip) -> float:
    width, focal = clip.camera.size_px[0], clip.camera.focal_px[0]
    return float(np.degrees(2 * np.arctan(width / (2 * focal))))
