"""BVH as other programs expect it: y up, metres, the rest pose as zero pose, angles that never jump.

Blender's own exporter leaves figures lying on their backs (it writes z up) and leaves out how the object is turned.
"""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import bpy
import numpy as np

from ..core.rotations import from_matrix
from ..rig_mapping.rest_pose import RestPose
from ..rig_mapping.rotation_channels import euler_angles
from .armature_reading import read_rest_pose

_Y_UP_FROM_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# A bone that strays further than this from where its parent carries it gets position channels.
_STRAYS_M = 1e-5


def write_bvh(path: Path, armature_object: bpy.types.Object) -> None:
    """Write what the armature does over the scene's frame range, all bones, as Blender evaluates it."""
    scene = bpy.context.scene
    rest = read_rest_pose(armature_object)
    frames = range(scene.frame_start, scene.frame_end + 1)
    shown = scene.frame_current
    turned, places = _evaluated(armature_object, rest, frames)
    scene.frame_set(shown)

    rest_turned = _Y_UP_FROM_Z_UP @ rest.world_from_armature_rotation @ rest.armature_from_bone[:, :3, :3]
    heads, tails = (_to_y_up(points, rest.world_from_armature) for points in (rest.heads, rest.tails))
    parents = np.array(rest.parents)
    has_parent = (parents >= 0)[:, None]
    offsets = heads - np.where(has_parent, heads[parents], 0.0)
    # How each bone is turned from rest, and the same seen from its parent.
    turns = turned @ np.swapaxes(rest_turned, -1, -2)
    carried = np.where(has_parent[..., None], turns[:, parents], np.eye(3))
    local_turns = np.swapaxes(carried, -1, -2) @ turns
    from_parent = places - np.where(has_parent, places[:, parents], 0.0)
    local_places = (np.swapaxes(carried, -1, -2) @ from_parent[..., None])[..., 0]
    moves = (parents < 0) | (np.abs(local_places - offsets).max(axis=(0, 2)) > _STRAYS_M)

    with open(path, "w", encoding="utf-8", newline="\n") as file:
        order = _write_hierarchy(file, rest, offsets, tails - heads, moves)
        fps = scene.render.fps / scene.render.fps_base
        file.write(f"MOTION\nFrames: {len(frames)}\nFrame Time: {1 / fps:.8f}\n")
        columns = []
        for bone in order:
            if moves[bone]:
                columns.append(local_places[:, bone])
            # "Zrotation Xrotation Yrotation" turns about y first: Blender's order YXZ.
            angles = np.degrees(euler_angles(from_matrix(local_turns[:, bone]), "YXZ"))
            columns.append(angles[:, [2, 0, 1]])
        np.savetxt(file, np.concatenate(columns, axis=1), fmt="%.6f")


def _evaluated(armature_object: bpy.types.Object, rest: RestPose, frames: range) -> tuple[np.ndarray, np.ndarray]:
    """(F, B, 3, 3) and (F, B, 3): how bones stand and where, y up, metres."""
    posed = np.empty((len(frames), len(rest), 4, 4))
    for index, frame in enumerate(frames):
        bpy.context.scene.frame_set(frame)
        evaluated = armature_object.evaluated_get(bpy.context.evaluated_depsgraph_get())
        world_from_armature = np.array(evaluated.matrix_world)
        bones = evaluated.pose.bones
        posed[index] = world_from_armature @ np.array([bones[name].matrix for name in rest.names])
    turned = posed[..., :3, :3] / np.linalg.norm(posed[..., :3, :3], axis=-2, keepdims=True)
    return _Y_UP_FROM_Z_UP @ turned, posed[..., :3, 3] @ _Y_UP_FROM_Z_UP.T


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
