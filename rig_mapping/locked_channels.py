"""Rotation channels that a rig's author locked keep their value, and the rest of the turn does what it can."""

from __future__ import annotations

import numpy as np

from ..core.rotations import continuous
from .rotation_channels import EULER_ORDERS, euler_angles, from_channels

_AXES = np.eye(3)


def with_locks(wxyz: np.ndarray, mode: str, locks: np.ndarray, now_wxyz: np.ndarray) -> np.ndarray:
    """(F, 4) turns as near to ``wxyz`` as locked channels allow.

    mode:     rotation mode of the bone; quaternion and axis-angle bones are locked as Blender locks them, by their
              Euler angles in the order XYZ
    locks:    (3,) True where the channel x, y or z is locked
    now_wxyz: (4,) how the bone is turned now, which is what locked channels keep
    """
    if locks.all():
        return np.tile(now_wxyz, (len(wxyz), 1))
    order = mode if mode in EULER_ORDERS else "XYZ"
    if locks.sum() == 2 and np.allclose(np.abs(now_wxyz[0]), 1.0):
        # One axis left: the turn about it that comes nearest, which is the twist of the whole turn.
        axis = _AXES[int(np.flatnonzero(~locks)[0])]
        twist = np.concatenate([wxyz[:, :1], (wxyz[:, 1:] @ axis)[:, None] * axis], axis=1)
        length = np.linalg.norm(twist, axis=1, keepdims=True)
        # A half turn about another axis has no twist at all.
        return np.where(length > 1e-6, twist / np.maximum(length, 1e-6), [1.0, 0.0, 0.0, 0.0])
    kept = euler_angles(now_wxyz[None], order)[0]
    angles = euler_angles(continuous(wxyz), order)
    angles[:, locks] = kept[locks]
    return from_channels(order, angles)
