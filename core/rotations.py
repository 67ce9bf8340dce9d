"""Quaternions (wxyz) and rotation matrices, broadcast over any leading axes."""

from __future__ import annotations

import numpy as np

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def normalised(vectors: np.ndarray, eps: float = 1e-12) -> np.ndarray:
    """(..., N) vectors at length 1; a vector of length 0 stays 0."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), eps)


def multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product of (..., 4) wxyz: first turn by ``b``, then by ``a``."""
    aw, ax, ay, az = np.moveaxis(a, -1, 0)
    bw, bx, by, bz = np.moveaxis(b, -1, 0)
    w = aw * bw - ax * bx - ay * by - az * bz
    # Filled in place: much the faster way where thousands of frames are turned by one call.
    product = np.empty((*w.shape, 4), dtype=w.dtype)
    product[..., 0] = w
    product[..., 1] = aw * bx + ax * bw + ay * bz - az * by
    product[..., 2] = aw * by - ax * bz + ay * bw + az * bx
    product[..., 3] = aw * bz + ax * by - ay * bx + az * bw
    return product


def inverse(q: np.ndarray) -> np.ndarray:
    """Inverse of (..., 4) unit quaternions."""
    return q * np.array([1.0, -1.0, -1.0, -1.0])


def rotate(q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Turn (..., 3) vectors by (..., 4) unit quaternions."""
    w, xyz = q[..., :1], q[..., 1:]
    xyz, v = np.broadcast_arrays(xyz, v)
    t = 2.0 * np.cross(xyz, v)
    return v + w * t + np.cross(xyz, t)


def to_matrix(q: np.ndarray) -> np.ndarray:
    """(..., 4) unit wxyz -> (..., 3, 3)."""
    w, x, y, z = np.moveaxis(q, -1, 0)
    xx, yy, zz = 2 * x * x, 2 * y * y, 2 * z * z
    xy, xz, yz = 2 * x * y, 2 * x * z, 2 * y * z
    wx, wy, wz = 2 * w * x, 2 * w * y, 2 * w * z
    matrix = np.empty((*w.shape, 3, 3), dtype=xx.dtype)
    matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 0, 2] = 1 - (yy + zz), xy - wz, xz + wy
    matrix[..., 1, 0], matrix[..., 1, 1], matrix[..., 1, 2] = xy + wz, 1 - (xx + zz), yz - wx
    matrix[..., 2, 0], matrix[..., 2, 1], matrix[..., 2, 2] = xz - wy, yz + wx, 1 - (xx + yy)
    return matrix


def from_matrix(m: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotations -> (..., 4) unit wxyz with w >= 0, stable at half turns.

    Each of the four ways to solve for the quaternion has a divisor that can vanish; the largest one never does.
    """
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    d, e, f = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    ways = (
        (1 + m00 + m11 + m22, a, b, c),
        (a, 1 + m00 - m11 - m22, d, e),
        (b, d, 1 - m00 + m11 - m22, f),
        (c, e, f, 1 - m00 - m11 + m22),
    )
    # Each way gives the quaternion times four of its components, so on the diagonal stand four times their squares.
    best = np.argmax(np.stack([way[component] for component, way in enumerate(ways)]), axis=0)
    q = np.empty((*best.shape, 4), dtype=np.result_type(m, np.float16))
    for component in range(4):
        q[..., component] = np.choose(best, [way[component] for way in ways])
    length = np.sqrt(np.einsum("...i,...i->...", q, q))
    q /= np.where(q[..., 0] < 0, -length, length)[..., None]
    return q


def from_rotation_vector(v: np.ndarray) -> np.ndarray:
    """(..., 3) axis times angle in radians -> (..., 4) wxyz; no turn gives the identity."""
    half = np.linalg.norm(v, axis=-1, keepdims=True) / 2
    return np.concatenate([np.cos(half), 0.5 * np.sinc(half / np.pi) * v], axis=-1)


def to_rotation_vector(q: np.ndarray) -> np.ndarray:
    """(..., 4) unit wxyz -> (..., 3) axis times angle in [0, pi] radians."""
    q = np.where(q[..., :1] < 0, -q, q)
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    return q[..., 1:] * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 2.0)


def between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest turn that brings (..., 3) ``a`` onto the direction of ``b``, as (..., 4) wxyz.

    Opposite directions have no smallest turn: half a turn about any axis across ``a`` is taken.
    """
    a, b = np.broadcast_arrays(normalised(a), normalised(b))
    q = np.concatenate([1 + np.sum(a * b, axis=-1, keepdims=True), np.cross(a, b)], axis=-1)
    across = np.cross(a, np.eye(3)[np.argmin(np.abs(a), axis=-1)])
    half_turn = np.concatenate([np.zeros_like(across[..., :1]), normalised(across)], axis=-1)
    return normalised(np.where(np.linalg.norm(q, axis=-1, keepdims=True) < 1e-7, half_turn, q))


def angle_between_rad(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle of the turn between (..., 4) unit quaternions, radians in [0, pi]."""
    difference = multiply(inverse(a), b)
    return 2 * np.arctan2(np.linalg.norm(difference[..., 1:], axis=-1), np.abs(difference[..., 0]))


def continuous(q: np.ndarray) -> np.ndarray:
    """(F, ..., 4) with signs chosen so that no quaternion jumps to its negative from one frame to the next."""
    flips = np.where(np.sum(q[1:] * q[:-1], axis=-1, keepdims=True) < 0, -1.0, 1.0)
    return np.concatenate([q[:1], q[1:] * np.cumprod(flips, axis=0)], axis=0)


def slerp(a: np.ndarray, b: np.ndarray, fraction: np.ndarray | float) -> np.ndarray:
    """(..., 4) from ``a`` (fraction 0) to ``b`` (fraction 1) on the shorter way."""
    return multiply(a, from_rotation_vector(to_rotation_vector(multiply(inverse(a), b)) * fraction))
