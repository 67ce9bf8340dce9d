"""Where a keypoint detector's points sit on a body, against the joints inside it.

A detector marks what it sees: a shoulder's top, the front of a hip, the back of a shoe. Offsets are medians measured
for MediaPipe's heavy model on rendered people with exact truth. The same function makes the synthetic views that the
lifter learns from and places the root path, so that both agree on what a keypoint is.
"""

from __future__ import annotations

import numpy as np

from .skeletons import LANDMARKS_41, LIFTER_21_NAMES

_INDEX = {name: index for index, name in enumerate(LANDMARKS_41.names)}


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.sqrt(np.einsum("...i,...i->...", v, v))[..., None], 1e-6)


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cross product of (..., 3); np.cross takes four times as long on large arrays."""
    ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
    bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
    return np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], axis=-1)


def detector_sites(landmarks_m: np.ndarray) -> np.ndarray:
    """(..., 41, 3) landmarks in any right-handed space -> (..., 21, 3) points of ``LIFTER_21_NAMES``."""

    def at(name: str) -> np.ndarray:
        return landmarks_m[..., _INDEX[name], :]

    def axes(left: np.ndarray, towards_up: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        left = _unit(left)
        forward = _unit(_cross(left, towards_up))
        return left, _cross(forward, left), forward

    sites: dict[str, np.ndarray] = {}
    left, up, forward = axes(at("l_ear") - at("r_ear"), at("head_top") - at("head"))
    sites["nose"] = at("nose") + 0.015 * up - 0.021 * forward
    sites["l_ear"] = at("l_ear") - 0.034 * left + 0.033 * forward
    sites["r_ear"] = at("r_ear") + 0.034 * left + 0.033 * forward
    left, up, _ = axes(at("l_shoulder") - at("r_shoulder"), at("neck") - at("chest"))
    sites["l_shoulder"] = at("l_shoulder") + 0.030 * up - 0.008 * left
    sites["r_shoulder"] = at("r_shoulder") + 0.030 * up + 0.008 * left
    _, _, forward = axes(at("l_hip") - at("r_hip"), at("spine") - at("pelvis"))
    for side in "lr":
        sites[f"{side}_hip"] = at(f"{side}_hip") + 0.035 * forward
        for name in ("elbow", "wrist", "knuckle", "knee"):
            sites[f"{side}_{name}"] = at(f"{side}_{name}")
        sites[f"{side}_ankle"] = at(f"{side}_ankle") + 0.020 * _unit(at(f"{side}_knee") - at(f"{side}_ankle"))
        ahead = _unit(at(f"{side}_toe_base") - at(f"{side}_heel"))
        sites[f"{side}_heel"] = at(f"{side}_heel") + 0.022 * ahead
        sites[f"{side}_big_toe"] = (at(f"{side}_big_toe") + at(f"{side}_toe_tip")) / 2 - 0.010 * ahead
    return np.stack([sites[name] for name in LIFTER_21_NAMES], axis=-2)
