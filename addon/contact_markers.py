"""Where feet come down and lift off, as markers on the timeline: an animator moves and retimes by them."""

from __future__ import annotations

import bpy
import numpy as np

from ..rig_mapping.bone_motion import BoneMotion

_SIDES = (("left", slice(0, 2)), ("right", slice(2, 4)))


def write_contact_markers(
    scene: bpy.types.Scene, armature_object: bpy.types.Object, motion: BoneMotion, frames: np.ndarray
) -> int:
    """Mark on the timeline when feet of the armature come down and lift off, and return how many markers that took.

    frames: (F,) where on the timeline each frame of the motion lies
    Markers of an earlier take on the same armature go; those of others stay.
    """
    remove_contact_markers(scene, armature_object.name)
    written = 0
    for side, columns in _SIDES:
        stands = motion.stands[:, columns].any(axis=1)
        for index in np.flatnonzero(np.diff(stands.astype(np.int8))) + 1:
            what = "down" if stands[index] else "up"
            scene.timeline_markers.new(f"{armature_object.name}: {side} foot {what}", frame=round(float(frames[index])))
            written += 1
    return written


def remove_contact_markers(scene: bpy.types.Scene, name: str) -> None:
    """Take away the marks of an armature that is or was called ``name``."""
    names = {f"{name}: {side} foot {what}" for side, _ in _SIDES for what in ("down", "up")}
    for marker in [marker for marker in scene.timeline_markers if marker.name in names]:
        scene.timeline_markers.remove(marker)
