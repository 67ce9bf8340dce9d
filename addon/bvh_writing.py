"""BVH of what an armature does, as Blender evaluates it.

Blender's own exporter leaves figures lying on their backs (it writes z up) and leaves out how the object is turned.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..rig_mapping.bvh_writing import write_bvh_here
from ..rig_mapping.rest_pose import RestPose
from .armature_reading import read_rest_pose


def write_bvh(path: Path, armature_object: bpy.types.Object) -> None:
    """Write what the armature does over the scene's frame range, all bones, constraints included.

    The scene shows the same frame afterwards.
    """
    scene = bpy.context.scene
    rest = read_rest_pose(armature_object)

    def posed_at(rows: slice) -> np.ndarray:
        return np.stack(
            [_posed(armature_object, rest, scene.frame_start + row) for row in range(rows.start, rows.stop)]
        )

    shown, between = scene.frame_current, scene.frame_subframe
    try:
        frames = scene.frame_end + 1 - scene.frame_start
        write_bvh_here(path, rest, frames, posed_at, scene.render.fps / scene.render.fps_base)
    finally:
        scene.frame_set(shown, subframe=between)


def _posed(armature_object: bpy.types.Object, rest: RestPose, frame: int) -> np.ndarray:
    """(B, 4, 4) world space."""
    bpy.context.scene.frame_set(frame)
    evaluated = armature_object.evaluated_get(bpy.context.evaluated_depsgraph_get())
    bones = evaluated.pose.bones
    posed: np.ndarray = np.array(evaluated.matrix_world) @ np.array([bones[name].matrix for name in rest.names])
    return posed
