"""More people than were captured: limbs of one on another, joints turned further, bones of other lengths.

What a lifter has not seen it gets wrong, and captured motion shows few people doing few things. So the bodies of a
batch are recombined and bent before they are filmed, as in "PoseAug: A Differentiable Pose Augmentation Framework for
3D Human Pose Estimation" (Gong, Zhang and Feng, CVPR 2021), but by plain chance.
"""

from __future__ import annotations

import numpy as np

from ...core.skeletons import LANDMARKS_41

_INDEX = {name: index for index, name in enumerate(LANDMARKS_41.names)}
_MIRROR = LANDMARKS_41.mirrored_order()
_PARENTS = np.maximum(np.array(LANDMARKS_41.parents), 0)


def _below(name: str) -> list[int]:
    """Joints that hang on ``name``, without itself."""
    found = {_INDEX[name]}
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent in found:
            found.add(joint)
    return sorted(found - {_INDEX[name]})


_LOWER_BODY = sorted({_INDEX["pelvis"], _INDEX["l_hip"], _INDEX["r_hip"], *_below("l_hip"), *_below("r_hip")})
_UPPER_BODY = [index for index in range(len(LANDMARKS_41)) if index not in _LOWER_BODY]
_ARMS = {side: _below(f"{side}_shoulder") for side in "lr"}

# Joints that are turned further, by how many degrees (standard deviation). Hinges get little: an arm that is straight
# should not bend backwards. Knees get nothing, they would.
_UPPER_TURNS = {"spine": 8, "neck": 10, "l_shoulder": 18, "r_shoulder": 18, "l_elbow": 8, "r_elbow": 8,
                "l_wrist": 12, "r_wrist": 12}  # fmt: skip
_LEG_TURNS = {"l_hip": 12, "r_hip": 12, "l_ankle": 6, "r_ankle": 6}
# While a window lasts, the further turn changes by this part of itself each way.
_DRIFT = 0.3


def _descendants() -> np.ndarray:
    """(J, J) 1 where the column's joint lies on the way from the root to the row's joint, itself included."""
    table = np.zeros((len(LANDMARKS_41),) * 2, np.float32)
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent >= 0:
            table[joint] = table[parent]
        table[joint, joint] = 1
    return table


_FROM_OFFSETS = _descendants()
# Left and right bones share a length.
_BONE_GROUP = np.array([min(index, int(_MIRROR[index])) for index in range(len(LANDMARKS_41))])


def mix_bodies(rng: np.random.Generator, positions: np.ndarray, output_frame: int, chance: float) -> None:
    """Put the upper body of one window on the legs of another where both hold the pelvis alike.

    positions: (B, T, 41, 3) metres, y up; changed in place
    """
    size = len(positions)
    other = rng.permutation(size)
    pelvis, spine = _INDEX["pelvis"], _INDEX["spine"]

    def heading_and_lean(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        across = p[:, output_frame, _INDEX["l_hip"]] - p[:, output_frame, _INDEX["r_hip"]]
        up = p[:, output_frame, spine] - p[:, output_frame, pelvis]
        return np.arctan2(across[:, 0], across[:, 2]), up / np.linalg.norm(up, axis=-1, keepdims=True)

    heading, lean = heading_and_lean(positions)
    turn = heading - heading[other]
    c, s = np.cos(turn)[:, None, None].astype(np.float32), np.sin(turn)[:, None, None].astype(np.float32)

    def turned(v: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        x, z = v[..., 0], v[..., 2]
        return np.stack([c[rows] * x + s[rows] * z, v[..., 1], c[rows] * z - s[rows] * x], axis=-1)

    agree = np.sum(turned(lean[other][:, None, None])[:, 0, 0] * lean, axis=-1) > np.cos(np.radians(12))
    chosen = np.nonzero(agree & (rng.random(size) < chance))[0]
    upper = positions[other[chosen]][:, :, _UPPER_BODY] - positions[other[chosen]][:, :, [pelvis]]
    mixed = positions[chosen]
    mixed[:, :, _UPPER_BODY] = turned(upper, chosen) + mixed[:, :, [pelvis]]
    positions[chosen] = mixed


def _unit(v: np.ndarray) -> np.ndarray:
    return v / np.maximum(np.sqrt(np.einsum("...i,...i->...", v, v))[..., None], 1e-6)


def _chest_axes(positions: np.ndarray) -> np.ndarray:
    """(B, T, 3, 3) axes of the chest as rows: across the shoulders, up, ahead."""
    across = _unit(positions[..., _INDEX["l_shoulder"], :] - positions[..., _INDEX["r_shoulder"], :])
    ahead = _unit(np.cross(across, positions[..., _INDEX["neck"], :] - positions[..., _INDEX["chest"], :]))
    return np.stack([across, np.cross(ahead, across), ahead], axis=-2)


def mix_arms(rng: np.random.Generator, positions: np.ndarray, chance: float) -> None:
    """Give a window the arm of another, as it moves against the chest there.

    positions: (B, T, 41, 3) metres, y up; changed in place
    """
    before = positions.copy()
    for side, arm in _ARMS.items():
        chosen = np.nonzero(rng.random(len(positions)) < chance)[0]
        other = rng.integers(0, len(positions), len(chosen))
        here, there = _chest_axes(before[chosen]), _chest_axes(before[other])
        shoulder = _INDEX[f"{side}_shoulder"]
        offset = before[other][:, :, arm] - before[other][:, :, [shoulder]]
        turn = np.swapaxes(there, -1, -2) @ here
        mixed = positions[chosen]
        mixed[:, :, arm] = offset @ turn + mixed[:, :, [shoulder]]
        positions[chosen] = mixed


def _rotation_matrices(vectors: np.ndarray) -> np.ndarray:
    """(..., 3) axis times angle in radians -> (..., 3, 3) for row vectors (Rodrigues' formula, transposed)."""
    angle = np.linalg.norm(vectors, axis=-1)
    x, y, z = np.moveaxis(vectors / np.maximum(angle, 1e-9)[..., None], -1, 0)
    c, s = np.cos(angle), np.sin(angle)
    k = 1 - c
    rows = [
        [c + x * x * k, y * x * k + z * s, z * x * k - y * s],
        [x * y * k - z * s, c + y * y * k, z * y * k + x * s],
        [x * z * k + y * s, y * z * k - x * s, c + z * z * k],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def turn_joints(rng: np.random.Generator, positions: np.ndarray, chance: float, leg_chance: float) -> np.ndarray:
    """Turn some joints a little further, changing slowly through the window.

    positions: (B, T, 41, 3) metres, y up; changed in place
    returns:   (B,) True where legs were turned: where their feet stand is not known any more
    """
    size, frames = positions.shape[:2]
    along = np.linspace(-1, 1, frames, dtype=np.float32)[None, :, None]
    legs = rng.random(size) < leg_chance
    for name, degrees in (*_UPPER_TURNS.items(), *_LEG_TURNS.items()):
        chosen = rng.random(size) < chance if name in _UPPER_TURNS else legs & (rng.random(size) < 0.7)
        rows = np.nonzero(chosen)[0]
        vectors = rng.standard_normal((2, len(rows), 1, 3), dtype=np.float32) * np.float32(np.radians(degrees))
        turn = _rotation_matrices(vectors[0] + _DRIFT * vectors[1] * along)
        below, pivot = _below(name), positions[rows][:, :, [_INDEX[name]]]
        turned = positions[rows]
        turned[:, :, below] = (turned[:, :, below] - pivot) @ turn + pivot
        positions[rows] = turned
    return legs


def reshape_bodies(
    rng: np.random.Generator, positions: np.ndarray, bone_deviation: float, height_deviation: float
) -> None:
    """Other bone lengths, the same on both sides, along the tree. positions: (B, T, 41, 3), changed in place."""
    size = len(positions)
    scale = 1 + rng.normal(0, bone_deviation, (size, len(LANDMARKS_41)))
    height = 1 + rng.normal(0, height_deviation, (size, 1))
    scale = np.clip(scale[:, _BONE_GROUP] * height, 0.6, 1.6).astype(np.float32)
    root = positions[:, :, 0].copy()
    offsets = (positions - positions[:, :, _PARENTS]) * scale[:, None, :, None]
    offsets[:, :, 0] = 0
    positions[:] = np.matmul(_FROM_OFFSETS, offsets)
    positions += (root * height[:, :, None].astype(np.float32))[:, :, None]
