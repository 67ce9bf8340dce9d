"""Synthetic views as the footage's own cameras would have them, beside those that cameras usually have."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..views.synthetic_views import ViewSettings
from .footage_set import FASTEST, FootageSet, SetClip

# How far off lifted poses are in telling a camera's tilt.
_PITCH_DOUBT_DEG, _ROLL_DOUBT_DEG = 10.0, 8.0


def camera_angles_deg(clip: SetClip) -> tuple[float, float]:
    """How far the clip's camera looks down, and how far it is rolled, as the lifted pose tells."""
    up = clip.camera_from_motion[:3, 1]
    pitch = np.degrees(np.arcsin(np.clip(-up[2], -1, 1)))
    roll = np.degrees(np.arctan2(-up[0], -up[1]))
    return float(pitch), float(roll)


@dataclass(frozen=True)
class _Habits:
    """How the footage was filmed, all of it: degrees, and metres from lens to pelvis. Deviations are of clips."""

    pitch_deg: tuple[float, float]
    roll_deg: float
    distance_m: tuple[float, float]
    field_deg: tuple[float, float]

    @classmethod
    def of(cls, footage: FootageSet) -> _Habits:
        weight = np.array([clip.length for clip in footage.clips], float)
        pitch, roll = np.array([camera_angles_deg(clip) for clip in footage.clips]).T
        mean = float(np.average(pitch, weights=weight))
        depth = [_depth(footage, clip, percent) for clip in footage.clips for percent in (10, 90)]
        fields = [_field_of_view_deg(clip) for clip in footage.clips]
        return cls(
            pitch_deg=(mean, float(np.sqrt(np.average((pitch - mean) ** 2, weights=weight)))),
            roll_deg=float(np.sqrt(np.average(np.minimum(np.abs(roll), 60.0) ** 2, weights=weight))),
            distance_m=(min(depth), max(depth)),
            field_deg=(min(fields), max(fields)),
        )


def views_by(footage: FootageSet, usual: ViewSettings) -> ViewSettings:
    """Views by cameras such as filmed the footage, and no others; everything else is as in ``usual`` views.

    Tilt is told by lifted poses, to some degrees; lenses are known as well as the footage's are.
    """
    habits = _Habits.of(footage)
    nearest = float(np.clip(habits.distance_m[0], 0.8, 20.0))
    narrowest = float(np.clip(0.95 * habits.field_deg[0], 5.0, 150.0))
    return replace(
        usual,
        pitch_deg=(habits.pitch_deg[0], max(_PITCH_DOUBT_DEG, habits.pitch_deg[1])),
        steep_chance=0.0,
        roll_deg=max(_ROLL_DOUBT_DEG, habits.roll_deg),
        distance_m=(nearest, float(np.clip(habits.distance_m[1], 1.2 * nearest, 40.0))),
        field_of_view_deg=(narrowest, float(np.clip(1.05 * habits.field_deg[1], narrowest + 1.0, 160.0))),
    )


def views_like(footage: FootageSet, usual: ViewSettings) -> ViewSettings:
    """``usual`` views, widened half way to the footage's cameras: for motion that was lifted from it."""
    habits, level = _Habits.of(footage), usual.pitch_deg[0]
    mean, spread = habits.pitch_deg
    return replace(
        usual,
        speed=(usual.speed[0], FASTEST),
        pitch_deg=((level + mean) / 2, max(usual.pitch_deg[1], spread, abs(mean - level) / 2)),
        roll_deg=max(usual.roll_deg, habits.roll_deg),
        distance_m=(
            float(np.clip(habits.distance_m[0], 0.8, usual.distance_m[0])),
            float(np.clip(habits.distance_m[1], usual.distance_m[1], 30.0)),
        ),
        field_of_view_deg=(
            min(usual.field_of_view_deg[0], habits.field_deg[0]),
            float(min(max(usual.field_of_view_deg[1], habits.field_deg[1]), 130.0)),
        ),
    )


def _depth(footage: FootageSet, clip: SetClip, percent: float) -> float:
    root = footage.motion_m[clip.rows][:, 0].astype(float)
    depth = root @ clip.camera_from_motion[2, :3] + clip.camera_from_motion[2, 3]
    return float(np.percentile(depth, percent))


def _field_of_view_deg(clip: SetClip) -> float:
    width, focal = clip.camera.size_px[0], clip.camera.focal_px[0]
    return float(np.degrees(2 * np.arctan(width / (2 * focal))))
