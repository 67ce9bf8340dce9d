"""Points that a detector marks on hands and faces, which tell how these are turned.

Of a hand the lifter looks at wrist and knuckle, which say nothing of its turn about its own length, and of a head at
nose and ears. The other points are near each other, and what they are off by they mostly have in common: one by one
15 mm in the picture, against each other 5 to 12 mm. So differences between them are compared, and where they are as a
whole is left to others. Offsets and deviations are those of MediaPipe's points on rendered people, validation side,
against the true turn of hand and head: robust least squares over all views, heavy and full.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .segments import T_POSE_M
from .skeletons import KEYPOINT_LAYOUTS, LANDMARKS_41
from .tracks import KeypointTrack


@dataclass(frozen=True)
class _Solid:
    """Points on one segment, which keep their places on it.

    joints:     three landmarks of the segment that are not in line; the first is where offsets begin
    offsets_mm: of each keypoint, in axes of the T-pose (left, up, ahead)
    pairs:      differences that are compared, as weights of keypoints that sum up to 0, and their deviations in metres
    """

    joints: tuple[str, str, str]
    offsets_mm: Mapping[str, tuple[float, float, float]]
    pairs: tuple[tuple[Mapping[str, float], float], ...]


def _hand(side: str, full: str, outward: float) -> _Solid:
    wrist, index, pinky, thumb = (f"{full}_{name}" for name in ("wrist", "index", "pinky", "thumb"))
    return _Solid(
        (f"{side}_wrist", f"{side}_knuckle", f"{side}_thumb"),
        {
            wrist: (0.0, 0.0, 0.0),
            index: (83.0 * outward, -13.0, 0.0),
            pinky: (77.0 * outward, -16.0, -18.0),
            thumb: (60.0 * outward, -12.0, 13.0),
        },
        (
            ({index: 0.5, pinky: 0.5, wrist: -1.0}, 0.012),
            ({index: 1.0, pinky: -1.0}, 0.012),
            ({thumb: 1.0, index: -0.5, pinky: -0.5}, 0.012),
        ),
    )


_EYES = {"left_eye_outer": 0.5, "right_eye_outer": 0.5}
_MOUTH = {"mouth_left": 0.5, "mouth_right": 0.5}
_EARS = {"left_ear": 0.5, "right_ear": 0.5}


def _less(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {**one, **{name: -part for name, part in other.items()}}


_HEAD = _Solid(
    ("head", "nose", "l_ear"),
    {
        "nose": (0.0, 10.0, 97.0),
        "left_eye_outer": (32.0, 34.0, 69.0),
        "right_eye_outer": (-32.0, 34.0, 69.0),
        "mouth_left": (14.0, -24.0, 90.0),
        "mouth_right": (-14.0, -24.0, 90.0),
        "left_ear": (45.0, 15.0, 36.0),
        "right_ear": (-45.0, 15.0, 36.0),
    },
    (
        (_less(_MOUTH, _EYES), 0.010),
        (_less(_EYES, _EARS), 0.016),
        (_less({"nose": 1.0}, {name: part / 2 for name, part in {**_EYES, **_MOUTH}.items()}), 0.007),
        ({"left_eye_outer": 1.0, "right_eye_outer": -1.0}, 0.016),
        ({"mouth_left": 1.0, "mouth_right": -1.0}, 0.010),
    ),
)
_SOLIDS = (_hand("l", "left", 1.0), _hand("r", "right", -1.0), _HEAD)

# Keypoints whose differences are looked at, by their names in MediaPipe's layout.
DETAIL_POINTS = tuple(name for solid in _SOLIDS for name in solid.offsets_mm)
_ORIGINS, _FIRST, _SECOND = (
    [LANDMARKS_41.index(solid.joints[corner]) for solid in _SOLIDS for _ in solid.offsets_mm] for corner in range(3)
)


def _parts() -> np.ndarray:
    """(K, 3) where each point is: parts of the ways from the first landmark to the others, metres off their plane."""
    parts = []
    for solid in _SOLIDS:
        origin, first, second = (T_POSE_M[LANDMARKS_41.index(name)] for name in solid.joints)
        normal = np.cross(first - origin, second - origin)
        axes = np.stack([first - origin, second - origin, normal / np.linalg.norm(normal)], axis=-1)
        parts.append(np.linalg.solve(axes, np.array(list(solid.offsets_mm.values())).T / 1000).T)
    return np.concatenate(parts)


def _pairs() -> tuple[np.ndarray, np.ndarray]:
    rows, deviations = [], []
    for solid in _SOLIDS:
        for weights, deviation_m in solid.pairs:
            rows.append([weights.get(name, 0.0) for name in DETAIL_POINTS])
            deviations.append(deviation_m)
    return np.array(rows), np.array(deviations)


_PARTS = _parts()
# (P, K) differences that are compared, and (P,) how far off they usually are, metres.
DETAIL_PAIRS, DETAIL_DEVIATIONS_M = _pairs()


def detail_points(track: KeypointTrack) -> tuple[np.ndarray, np.ndarray] | None:
    """(F, K, 2) pixels and (F, K) confidence of ``DETAIL_POINTS``; None where the keypoints' layout lacks some."""
    names = KEYPOINT_LAYOUTS[track.layout]
    if not set(DETAIL_POINTS) <= set(names):
        return None
    columns = [names.index(name) for name in DETAIL_POINTS]
    return track.xy_px[:, columns], track.confidence[:, columns]


def detail_sites(landmarks_m: np.ndarray) -> np.ndarray:
    """(F, 41, 3) landmarks in any right-handed space -> (F, K, 3) places of ``DETAIL_POINTS``."""
    origin, first, second = _corners(landmarks_m)
    normal = np.cross(first, second)
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-9)
    ways = np.stack([first, second, normal], axis=2)
    return np.asarray(origin + np.einsum("ki,fkix->fkx", _PARTS, ways))


def detail_sites_by_change(landmarks_m: np.ndarray, by_change: np.ndarray) -> np.ndarray:
    """(F, K, 3, D) derivatives of the places, given those of the landmarks (F, 41, 3, D); segments keep their shape."""
    _, first, second = _corners(landmarks_m)
    area = np.maximum(np.linalg.norm(np.cross(first, second), axis=-1), 1e-9)
    moved = by_change[:, _ORIGINS]
    moved_first, moved_second = by_change[:, _FIRST] - moved, by_change[:, _SECOND] - moved
    turned = _crossed(first, moved_second) - _crossed(second, moved_first)
    parts = _PARTS.astype(by_change.dtype)
    along, across, off = (parts[:, i, None, None] for i in range(3))
    return np.asarray(moved + along * moved_first + across * moved_second + off / area[..., None, None] * turned)


def _corners(landmarks_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each point's segment begins, and the ways from there to its two other landmarks, each (F, K, 3)."""
    origin = landmarks_m[:, _ORIGINS]
    return origin, landmarks_m[:, _FIRST] - origin, landmarks_m[:, _SECOND] - origin


def _crossed(vector: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(F, K, 3) x (F, K, 3, D), column by column."""
    x, y, z = (vector[..., i, None] for i in range(3))
    cx, cy, cz = (columns[..., i, :] for i in range(3))
    return np.stack([y * cz - z * cy, z * cx - x * cz, x * cy - y * cx], axis=-2)
