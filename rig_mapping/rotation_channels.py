"""Quaternions as the channels a bone is keyed with: its rotation mode is the animator's choice and stays."""

from __future__ import annotations

import math

import numpy as np

from ..core.rotations import continuous, to_matrix

EULER_ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
_EVEN_ORDERS = ("XYZ", "YZX", "ZXY")
# Below this cosine of the middle angle, the other two turn about the same axis and only their sum is known.
_GIMBAL_COSINE = 1e-5


def rotation_channels(mode: str, wxyz: np.ndarray) -> tuple[str, np.ndarray]:
    """The property of a pose bone and its values (F, C) for a bone of rotation mode ``mode``.

    wxyz: (F, 4) unit quaternions. Values never jump: Euler angles go beyond 180 degrees rather than wrap.
    """
    if mode == "QUATERNION":
        return "rotation_quaternion", continuous(wxyz)
    if mode == "AXIS_ANGLE":
        return "rotation_axis_angle", axis_angles(wxyz)
    if mode in EULER_ORDERS:
        return "rotation_euler", euler_angles(wxyz, mode)
    raise ValueError(f"Unknown rotation mode {mode}.")


def euler_angles(wxyz: np.ndarray, order: str) -> np.ndarray:
    """(F, 4) -> (F, 3) radians about x, y, z. In order ``XYZ`` the turn about x comes first, as in Blender.

    Each rotation has two sets of angles; the one nearer to the frame before is taken.
    """
    first, second, third = ("XYZ".index(axis) for axis in order)
    sign = 1.0 if order in _EVEN_ORDERS else -1.0
    m = to_matrix(wxyz)
    cosine = np.hypot(m[:, first, first], m[:, second, first])
    angles = np.empty((len(wxyz), 3))
    angles[:, 0] = np.arctan2(sign * m[:, third, second], m[:, third, third])
    angles[:, 1] = np.arctan2(-sign * m[:, third, first], cosine)
    angles[:, 2] = np.arctan2(sign * m[:, second, first], m[:, first, first])

    before = np.zeros(3)
    for frame, (a, b, c) in enumerate(angles.tolist()):
        if cosine[frame] < _GIMBAL_COSINE:
            # Keep the first angle; the third takes what is left of m = third(c) second(b) first(a).
            a = float(before[0])
            held = m[frame] @ _turn_about(first, -a) @ _turn_about(second, -b)
            c = math.atan2(sign * held[second, first], held[first, first])
        candidates = [_nearest(angle, before) for angle in ((a, b, c), (a + math.pi, math.pi - b, c + math.pi))]
        before = min(candidates, key=lambda candidate: float(np.abs(candidate - before).sum()))
        angles[frame] = before
    in_xyz = np.empty_like(angles)
    in_xyz[:, [first, second, third]] = angles
    return in_xyz


def _nearest(angles: tuple[float, float, float], before: np.ndarray) -> np.ndarray:
    """The same directions, in the turn of the circle nearest to ``before``."""
    exact = np.array(angles)
    return exact + 2 * np.pi * np.round((before - exact) / (2 * np.pi))


def _turn_about(axis: int, angle: float) -> np.ndarray:
    quaternion = np.zeros(4)
    quaternion[0], quaternion[1 + axis] = math.cos(angle / 2), math.sin(angle / 2)
    return to_matrix(quaternion)


def axis_angles(wxyz: np.ndarray) -> np.ndarray:
    """(F, 4) -> (F, 4) angle in radians, then a unit axis that turns as little as possible from frame to frame."""
    wxyz = continuous(wxyz)
    sine = np.linalg.norm(wxyz[:, 1:], axis=1)
    result = np.empty((len(wxyz), 4))
    axis, angle = np.array([0.0, 1.0, 0.0]), 0.0
    for frame, (quaternion, length) in enumerate(zip(wxyz, sine, strict=True)):
        half = math.atan2(length, quaternion[0])
        if length > 1e-9:
            found = quaternion[1:] / length
            if found @ axis < 0:
                found, half = -found, -half
            axis = found
        turn = 2 * half
        angle = turn + 2 * math.pi * round((angle - turn) / (2 * math.pi))
        result[frame] = [angle, *axis]
    return result
