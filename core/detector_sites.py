"""Where a keypoint detector's points sit on a body, against the joints inside it.

A detector marks what it sees: a shoulder's top, the front of a hip, the back of a shoe. Offsets are those of
MediaPipe's points on rendered people with exact truth, validation side, by robust least squares. Of heads, hands and
feet they are against the true turn of the segment, whose landmarks sit elsewhere on other bodies: were they against
landmarks, feet that stand flat would seem to point their toes down. The same function makes the synthetic views that
the lifter learns from and places the root path, so that both agree on what a keypoint is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .skeletons import LANDMARKS_41, LIFTER_21_NAMES

_INDEX = {name: index for index, name in enumerate(LANDMARKS_41.names)}


def _unit(v: Any) -> Any:
    # Sums over a last axis of three take several times as long.
    x, y, z = v[..., 0], v[..., 1], v[..., 2]
    return v / ((x * x + y * y + z * z + 1e-12) ** 0.5)[..., None]


def detector_sites(landmarks_m: np.ndarray) -> np.ndarray:
    """(..., 41, 3) landmarks in any right-handed space -> (..., 21, 3) points of ``LIFTER_21_NAMES``."""
    return np.asarray(sites_of(landmarks_m, np.stack))


def sites_of(landmarks_m: Any, stack: Callable[[Sequence[Any], int], Any]) -> Any:
    """``detector_sites`` of any kind of array that has arithmetic, such as a tensor with gradients.

    stack: makes one array of several along a new axis, as ``numpy.stack`` and ``torch.stack`` do
    """

    def cross(a: Any, b: Any) -> Any:
        # numpy.cross takes four times as long on large arrays.
        ax, ay, az = a[..., 0], a[..., 1], a[..., 2]
        bx, by, bz = b[..., 0], b[..., 1], b[..., 2]
        return stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx], -1)

    def at(name: str) -> Any:
        return landmarks_m[..., _INDEX[name], :]

    def axes(left: Any, towards_up: Any) -> tuple[Any, Any, Any]:
        left = _unit(left)
        forward = _unit(cross(left, towards_up))
        return left, cross(forward, left), forward

    sites: dict[str, Any] = {}
    left, up, forward = axes(at("l_ear") - at("r_ear"), at("head_top") - at("head"))
    sites["nose"] = at("nose") + 0.041 * up - 0.012 * forward
    sites["l_ear"] = at("l_ear") - 0.029 * left + 0.016 * up + 0.037 * forward
    sites["r_ear"] = at("r_ear") + 0.029 * left + 0.016 * up + 0.037 * forward
    left, up, _ = axes(at("l_shoulder") - at("r_shoulder"), at("neck") - at("chest"))
    sites["l_shoulder"] = at("l_shoulder") + 0.030 * up - 0.008 * left
    sites["r_shoulder"] = at("r_shoulder") + 0.030 * up + 0.008 * left
    _, _, forward = axes(at("l_hip") - at("r_hip"), at("spine") - at("pelvis"))
    for side, outward in (("l", 1.0), ("r", -1.0)):
        sites[f"{side}_hip"] = at(f"{side}_hip") + 0.035 * forward
        for name in ("elbow", "wrist", "knee"):
            sites[f"{side}_{name}"] = at(f"{side}_{name}")
        hand = at(f"{side}_knuckle") - at(f"{side}_wrist")
        back = outward * _unit(cross(at(f"{side}_thumb") - at(f"{side}_wrist"), hand))
        sites[f"{side}_knuckle"] = at(f"{side}_knuckle") - 0.007 * _unit(hand) - 0.015 * back
        sites[f"{side}_ankle"] = at(f"{side}_ankle") + 0.028 * _unit(at(f"{side}_knee") - at(f"{side}_ankle"))
        ahead, ankle = _unit(at(f"{side}_toe_base") - at(f"{side}_heel")), at(f"{side}_ankle") - at(f"{side}_heel")
        up = _unit(ankle - (ankle * ahead).sum(-1)[..., None] * ahead)
        sites[f"{side}_heel"] = at(f"{side}_heel") + 0.025 * ahead + 0.031 * up
        sites[f"{side}_big_toe"] = (at(f"{side}_big_toe") + at(f"{side}_toe_tip")) / 2 - 0.022 * ahead + 0.003 * up
    return stack([sites[name] for name in LIFTER_21_NAMES], -2)
