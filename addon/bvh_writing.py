"""BVH of what an armature does, as Blender evaluates it.

Blender's own exporter leaves figures lying on their backs (it writes z up) and leaves out how the object is turned.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..rig_mapping.bvh_writing import write_bvh_text
from ..rig_mapping.rest_pose import RestPose
from .armature_reading import read_rest_pose


def write_bvh(path: Path, armature_object: bpy.types.Object) -> None:
    """Write what the armature does over the scene's frame range, all bones, constraints included."""
    scene = bpy.context.scene
    rest = read_rest_pose(armature_object)
    posed = _evaluated(armature_object, rest, range(scene.frame_start, scene.frame_end + 1))
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        write_bvh_text(file, rest, posed, scene.render.fps / scene.render.fps_base)


def _evaluated(armature_object: bpy.types.Object, rest: RestPose, frames: range) -> np.ndarray:
    """(F, B, 4, 4) world space; the scene shows the same frame afterwards."""
    scene = bpy.context.scene
    shown, between = scene.frame_current, scene.frame_subframe
    posed = np.empty((len(frames), len(rest), 4, 4))
    try:
        for index, frame in enumerate(frames):
            scene.frame_set(frame)
            evaluated = armature_object.evaluated_get(bpy.context.evaluated_depsgraph_get())
            bones = evaluated.pose.bones
            posed[index] = np.array(evaluated.matrix_world) @ np.array([bones[name].matrix for name in rest.names])
    finally:
        scene.frame_set(shown, subframe=between)
    return posed
