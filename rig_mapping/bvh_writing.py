"""BVH as other programs expect it: y up, metres, the rest pose as zero pose, angles that never jump.

A BVH has one frame time for all its frames, so a take whose pictures came unevenly is written at a steady rate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np

from ..core.errors import OutputError
from ..core.output_files import written_whole
from ..core.rotations import from_matrix, slerp
from .bone_motion import BoneMotion, fk
from .rest_pose import RestPose
from .rotation_channels import euler_angles

_Y_UP_FROM_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# A bone that strays further than this from where its parent carries it gets position channels.
_STRAYS_M = 1e-5
# Presentation times of whole milliseconds, as Matroska's, are steady but for this much.
_CLOCK_TICK_S = 0.001
# Twelve hours at 48 frames a second; beyond that time stamps are broken rather than a take long.
_MAX_FRAMES = 2_000_000
# So many frames are worked on at a time.
_BLOCK = 256
_CHANNEL = np.dtype("<f8")


PosedAt = Callable[[slice], np.ndarray]


def write_bvh(
    path: Path, rest: RestPose, world_from_bone: np.ndarray, fps: float, time_s: np.ndarray | None = None
) -> None:
    """Write ``path``, whole or not at all, for what all bones of a rig do.

    world_from_bone: (F, B, 4, 4) world space, z up, metres; scale in it is ignored
    fps:             frames a second of the file
    time_s:          (F,) when each frame is, growing; left out: steadily, ``fps`` a second. Uneven ones are resampled.
    Raises OutputError when the file can't be written or would be endless, TryAgainError when the disk is full.
    """
    with written_whole(path) as beside:
        write_bvh_here(beside, rest, len(world_from_bone), lambda rows: world_from_bone[rows], fps, time_s)


def write_motion_bvh(path: Path, rest: RestPose, motion: BoneMotion) -> None:
    """Write what ``motion`` does to the rig as BVH, without any Blender. Raises as ``write_bvh``."""

    def posed_at(rows: slice) -> np.ndarray:
        posed: np.ndarray = rest.world_from_armature @ fk(rest, motion.of(rows))
        return posed

    with written_whole(path) as beside:
        write_bvh_here(beside, rest, len(motion), posed_at, motion.fps, motion.time_s)


def write_bvh_here(
    path: Path, rest: RestPose, frames: int, posed_at: PosedAt, fps: float, time_s: np.ndarray | None = None
) -> None:
    """``write_bvh`` of bones that are asked for a few frames at a time, straight to ``path``.

    posed_at: gives (f, B, 4, 4) of some frames, asked for in their order, those at uneven times here and there twice.
              An hour of a large rig at once would take more memory than there is.
    """
    if frames < 1 or not (np.isfinite(fps) and fps > 0):
        raise ValueError("Frame rate must be finite and above 0, and there must be a frame.")
    heads, tails = (_to_y_up(points, rest.world_from_armature) for points in (rest.heads, rest.tails))
    parents = np.array(rest.parents)
    offsets = heads - np.where((parents >= 0)[:, None], heads[parents], 0.0)
    moves, angles_before, written = parents < 0, None, 0
    # Which bones move stands at the top of the file, and is known at the end.
    with tempfile.TemporaryFile(dir=path.parent) as channels, open(path, "w", encoding="utf-8", newline="\n") as file:
        for local_wxyz, local_places in _blocks(rest, frames, posed_at, fps, time_s):
            moves |= np.abs(local_places - offsets).max(axis=(0, 2)) > _STRAYS_M
            # "Zrotation Xrotation Yrotation" turns about y first: Blender's order YXZ.
            angles = euler_angles(local_wxyz, "YXZ", angles_before)
            angles_before = angles[-1]
            block = np.concatenate([local_places, np.degrees(angles[..., [2, 0, 1]])], axis=-1)
            channels.write(block.astype(_CHANNEL).tobytes())
            written += len(block)

        order = _write_hierarchy(file, rest, offsets, tails - heads, moves)
        file.write(f"MOTION\nFrames: {written}\nFrame Time: {1 / fps:.8f}\n")
        shown = np.concatenate([6 * bone + np.arange(0 if moves[bone] else 3, 6) for bone in order])
        channels.seek(0)
        width = 6 * len(rest)
        while packed := channels.read(_BLOCK * width * _CHANNEL.itemsize):
            np.savetxt(file, np.frombuffer(packed, _CHANNEL).reshape(-1, width)[:, shown], fmt="%.6f")


def _blocks(
    rest: RestPose, frames: int, posed_at: PosedAt, fps: float, time_s: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What ``_seen_from_parents`` gives, for some frames of the file at a time."""

    def seen_from_parents(rows: slice) -> tuple[np.ndarray, np.ndarray]:
        posed = posed_at(rows)
        if posed.shape != (rows.stop - rows.start, len(rest), 4, 4):
            raise ValueError(f"Bones must be (F, {len(rest)}, 4, 4); these are {posed.shape}.")
        if not np.isfinite(posed).all():
            raise ValueError("Bones must be finite.")
        return _seen_from_parents(rest, posed)

    steps = None if time_s is None else _steps(time_s, frames, fps)
    count = frames if steps is None else len(steps[0])
    first = 0
    while first < count:
        block = slice(first, min(first + _BLOCK, count))
        if steps is None:
            yield seen_from_parents(block)
            first = block.stop
            continue
        # Where frames lie dense, fewer of the file's are made of as many.
        dense = int(np.searchsorted(steps[0], steps[0][first] + _BLOCK, "right"))
        block = slice(first, min(block.stop, max(dense, first + 1)))
        first = block.stop
        before, fraction = steps[0][block], steps[1][block, None, None]
        rows = slice(int(before[0]), int(before[-1]) + 2)
        wxyz, places = seen_from_parents(rows)
        at = before - rows.start
        yield (
            slerp(wxyz[at], wxyz[at + 1], fraction),
            places[at] + fraction * (places[at + 1] - places[at]),
        )


def _seen_from_parents(rest: RestPose, world_from_bone: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(F, B, 4) how each bone is turned from rest, and (F, B, 3) where it is, as its parent sees it; y up, metres."""
    axes = world_from_bone[..., :3, :3]
    turned = _Y_UP_FROM_Z_UP @ (axes / np.linalg.norm(axes, axis=-2, keepdims=True))
    places = world_from_bone[..., :3, 3] @ _Y_UP_FROM_Z_UP.T
    rest_turned = _Y_UP_FROM_Z_UP @ rest.world_from_armature_rotation @ rest.armature_from_bone[:, :3, :3]
    parents = np.array(rest.parents)
    has_parent = (parents >= 0)[:, None]
    turns = turned @ np.swapaxes(rest_turned, -1, -2)
    carried = np.where(has_parent[..., None], turns[:, parents], np.eye(3))
    local_turns = np.swapaxes(carried, -1, -2) @ turns
    from_parent = places - np.where(has_parent, places[:, parents], 0.0)
    return from_matrix(local_turns), (np.swapaxes(carried, -1, -2) @ from_parent[..., None])[..., 0]


def _steps(time_s: np.ndarray, frames: int, fps: float) -> tuple[np.ndarray, np.ndarray] | None:
    """For each frame of a file of ``fps``, the frame at or before it and how far it is to the next one (0 to 1).

    None when the times are steady already.
    """
    since_s = np.asarray(time_s, dtype=float) - time_s[0]
    if len(since_s) != frames or not np.isfinite(since_s).all() or (np.diff(since_s) <= 0).any():
        raise ValueError("Times must be as many as frames, finite, and grow.")
    if np.abs(since_s - np.arange(len(since_s)) / fps).max() <= 1.05 * _CLOCK_TICK_S:
        return None
    lasts = since_s[-1] * fps
    if lasts > _MAX_FRAMES:
        raise OutputError(
            f"The take lasts {since_s[-1]:.0f} s, which at {fps:g} frames a second makes more than {_MAX_FRAMES} "
            "frames. Its time stamps may be broken: capture the footage again, or a part of it."
        )
    wanted_s = np.minimum(np.arange(round(float(lasts)) + 1) / fps, since_s[-1])
    before = np.clip(np.searchsorted(since_s, wanted_s, side="right") - 1, 0, len(since_s) - 2)
    return before, (wanted_s - since_s[before]) / (since_s[before + 1] - since_s[before])


def _to_y_up(points: np.ndarray, world_from_armature: np.ndarray) -> np.ndarray:
    return (points @ world_from_armature[:3, :3].T + world_from_armature[:3, 3]) @ _Y_UP_FROM_Z_UP.T


def _write_hierarchy(
    file: TextIO, rest: RestPose, offsets: np.ndarray, along: np.ndarray, moves: np.ndarray
) -> list[int]:
    """Write the tree of joints and return the bones in the order of its lines."""
    children: dict[int, list[int]] = {bone: [] for bone in range(-1, len(rest))}
    for bone, parent in enumerate(rest.parents):
        children[parent].append(bone)
    order: list[int] = []
    file.write("HIERARCHY\n")

    def write_joint(bone: int, depth: int) -> None:
        order.append(bone)
        tab = "\t" * depth
        positions = "6 Xposition Yposition Zposition" if moves[bone] else "3"
        file.write(f"{tab}{'JOINT' if depth else 'ROOT'} {_bvh_name(rest.names[bone])}\n{tab}{{\n")
        file.write(f"{tab}\tOFFSET {_numbers(offsets[bone])}\n")
        file.write(f"{tab}\tCHANNELS {positions} Zrotation Xrotation Yrotation\n")
        for child in children[bone]:
            write_joint(child, depth + 1)
        if not children[bone]:
            file.write(f"{tab}\tEnd Site\n{tab}\t{{\n{tab}\t\tOFFSET {_numbers(along[bone])}\n{tab}\t}}\n")
        file.write(f"{tab}}}\n")

    if len(children[-1]) == 1:
        write_joint(children[-1][0], 0)
        return order
    # Most programs read one root only.
    name = _bvh_name(rest.name)
    while name in rest.names:
        name += "_root"
    file.write(f"ROOT {name}\n{{\n\tOFFSET {_numbers(np.zeros(3))}\n\tCHANNELS 0\n")
    for root in children[-1]:
        write_joint(root, 1)
    file.write("}\n")
    return order


def _bvh_name(name: str) -> str:
    """Names are parted by blanks in the file."""
    return "_".join(name.split()) or "_"


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in values)
