"""Quaternions as the channels a bone is keyed with: its rotation mode is the animator's choice and stays."""

from __future__ import annotations

import numpy as np

from ..core.rotations import continuous, multiply, normalised, to_matrix

EULER_ORDERS = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
_EVEN_ORDERS = ("XYZ", "YZX", "ZXY")
# Below this cosine of the middle angle, the other two turn about the same axis and only their sum is known.
_GIMBAL_COSINE = 1e-5
# Below this sine of half the angle a turn has no axis of its own.
_NO_TURN_SINE = 1e-9


def rotation_channels(mode: str, wxyz: np.ndarray) -> tuple[str, np.ndarray]:
    """The property of a pose bone and its values (F, ..., C) for bones of rotation mode ``mode``.

    wxyz: (F, ..., 4) unit quaternions, frames first, then any number of bones. Values never jump from frame to frame:
    Euler angles go beyond 180 degrees rather than wrap.
    """
    if mode == "QUATERNION":
        return "rotation_quaternion", continuous(wxyz)
    if mode == "AXIS_ANGLE":
        return "rotation_axis_angle", axis_angles(wxyz)
    if mode in EULER_ORDERS:
        return "rotation_euler", euler_angles(wxyz, mode)
    raise ValueError(f"Unknown rotation mode {mode}.")


def from_channels(mode: str, values: np.ndarray) -> np.ndarray:
    """(..., 4) wxyz: the turn that Blender makes of channel values (..., C) of rotation mode ``mode``.

    Values between keys need not be of unit length: Blender normalises quaternions and axes, and so does this. An axis
    of no length turns nothing; a quaternion of no length is half a turn about x, as in Blender.
    """
    if mode == "QUATERNION":
        return np.where(values.any(axis=-1, keepdims=True), normalised(values), [0.0, 1.0, 0.0, 0.0])
    if mode == "AXIS_ANGLE":
        half, axis = values[..., :1] / 2, normalised(values[..., 1:])
        turned = np.concatenate([np.cos(half), np.sin(half) * axis], axis=-1)
        return np.where(axis.any(axis=-1, keepdims=True), turned, [1.0, 0.0, 0.0, 0.0])
    if mode in EULER_ORDERS:
        first, second, third = (_turns_about(axis, values[..., axis]) for axis in map("XYZ".index, mode))
        return multiply(third, multiply(second, first))
    raise ValueError(f"Unknown rotation mode {mode}.")


def euler_angles(wxyz: np.ndarray, order: str, before: np.ndarray | None = None) -> np.ndarray:
    """(F, ..., 4) -> (F, ..., 3) radians about x, y, z. In order ``XYZ`` the turn about x comes first, as in Blender.

    before: (..., 3) angles of the frame before the first; None = no turn

    Each rotation has two sets of angles; the one nearer to the frame before is taken.
    """
    first, second, third = ("XYZ".index(axis) for axis in order)
    sign = 1.0 if order in _EVEN_ORDERS else -1.0
    m = to_matrix(wxyz)
    cosine = np.hypot(m[..., first, first], m[..., second, first])
    a = np.arctan2(sign * m[..., third, second], m[..., third, third])
    b = np.arctan2(-sign * m[..., third, first], cosine)
    c = np.arctan2(sign * m[..., second, first], m[..., first, first])
    start = np.zeros((*a.shape[1:], 3)) if before is None else before[..., [first, second, third]]
    locked = cosine < _GIMBAL_COSINE
    if locked.any():
        # Keep the first angle; the third takes what is left of m = third(c) second(b) first(a).
        a = _held(a[..., None], locked, start[..., :1])[..., 0]
        undone = multiply(_turns_about(first, -a[locked]), _turns_about(second, -b[locked]))
        left = m[locked] @ to_matrix(undone)
        c[locked] = np.arctan2(sign * left[..., second, first], left[..., first, first])
    angles = _nearer_of_two(np.stack([a, b, c], axis=-1), start)
    in_xyz = np.empty_like(angles)
    in_xyz[..., [first, second, third]] = angles
    return in_xyz


def _nearer_of_two(angles: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(F, ..., 3) angles a, b, c, or a + pi, pi - b, c + pi, which mean the same: each nearest to the frame before.

    start: (..., 3) what the first frame is near to
    """
    half_turn = np.array([np.pi, 0.0, np.pi])
    from_start = np.concatenate([start[None], angles])
    # To change sets costs the same in either direction, and so does to stay: no frame need know which set is in use.
    stay = _wrapped(np.diff(from_start, axis=0))
    change = stay + half_turn
    change[..., 1] = np.pi - from_start[1:, ..., 1] - from_start[:-1, ..., 1]
    changes = np.abs(_wrapped(change)).sum(axis=-1) < np.abs(stay).sum(axis=-1)
    other = np.cumsum(changes, axis=0) % 2 == 1
    from_start[1:][other] = from_start[1:][other] * [1.0, -1.0, 1.0] + np.pi
    return np.unwrap(from_start, axis=0)[1:]


def _wrapped(angles: np.ndarray) -> np.ndarray:
    """The same directions within half a turn of 0."""
    return angles - 2 * np.pi * np.round(angles / (2 * np.pi))


def _held(values: np.ndarray, missing: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(F, ..., C) values, those that are ``missing`` (F, ...) replaced by the last ones before them.

    before: (C,) or (..., C) what stands for those before the first.
    """
    frames = np.arange(1, len(values) + 1).reshape(-1, *[1] * (missing.ndim - 1))
    last = np.maximum.accumulate(np.where(missing, 0, frames), axis=0)
    start = np.broadcast_to(before, values[:1].shape)
    return np.take_along_axis(np.concatenate([start, values]), last[..., None], axis=0)


def _turns_about(axis: int, angle: np.ndarray) -> np.ndarray:
    """(..., 4) turns by (...) radians about x, y or z."""
    wxyz = np.zeros((*np.shape(angle), 4))
    wxyz[..., 0], wxyz[..., 1 + axis] = np.cos(angle / 2), np.sin(angle / 2)
    return wxyz


def axis_angles(wxyz: np.ndarray) -> np.ndarray:
    """(F, ..., 4) -> (F, ..., 4) angle in radians, then a unit axis that turns as little as possible between frames.

    Where there is no turn the axis of the frame before stays.
    """
    wxyz = continuous(wxyz)
    sine = np.linalg.norm(wxyz[..., 1:], axis=-1)
    start = np.array([0.0, 1.0, 0.0])
    axes = _held(normalised(wxyz[..., 1:]), sine <= _NO_TURN_SINE, start)
    before = np.concatenate([np.broadcast_to(start, axes[:1].shape), axes[:-1]])
    side = np.cumprod(np.where(np.sum(axes * before, axis=-1) < 0, -1.0, 1.0), axis=0)
    turn = side * 2 * np.arctan2(sine, wxyz[..., 0])
    angle = np.unwrap(np.concatenate([np.zeros_like(turn[:1]), turn]), axis=0)[1:]
    return np.concatenate([angle[..., None], side[..., None] * axes], axis=-1)
