"""An armature out of a rest pose that Keylift made itself, for people who have no character yet."""

from __future__ import annotations

import bpy
from mathutils import Matrix, Vector

from ..rig_mapping.rest_pose import RestPose


def make_armature(rest: RestPose) -> bpy.types.Object:
    """Add the bones of ``rest`` to the open scene as a new armature object, and make it the active one."""
    armature_object = unplaced_armature(rest)
    bpy.context.scene.collection.objects.link(armature_object)
    bpy.context.view_layer.objects.active = armature_object
    return armature_object


def unplaced_armature(rest: RestPose) -> bpy.types.Object:
    """The bones of ``rest`` as an armature object that is in no scene yet.

    Bones can only be made in edit mode. It is entered in a scene of its own, so that whatever is selected, active,
    posed or edited stays so.
    """
    data = bpy.data.armatures.new(rest.name)
    armature_object = bpy.data.objects.new(rest.name, data)
    workshop = bpy.data.scenes.new("Keylift workshop")
    try:
        workshop.collection.objects.link(armature_object)
        layer = workshop.view_layers[0]
        layer.objects.active = armature_object
        with bpy.context.temp_override(
            scene=workshop, view_layer=layer, active_object=armature_object, object=armature_object
        ):
            bpy.ops.object.mode_set(mode="EDIT")
            try:
                _make_bones(data, rest)
            finally:
                bpy.ops.object.mode_set(mode="OBJECT")
        for index, name in enumerate(rest.names):
            armature_object.pose.bones[name].rotation_mode = rest.rotation_modes[index]
    finally:
        bpy.data.scenes.remove(workshop)
    return armature_object


def _make_bones(data: bpy.types.Armature, rest: RestPose) -> None:
    for index, name in enumerate(rest.names):
        bone = data.edit_bones.new(name)
        bone.head, bone.tail = Vector(rest.heads[index]), Vector(rest.tails[index])
        # Sets the roll; the head and the direction are those that it already has.
        bone.matrix = Matrix(rest.armature_from_bone[index].tolist())
        if rest.parents[index] >= 0:
            bone.parent = data.edit_bones[rest.names[rest.parents[index]]]
