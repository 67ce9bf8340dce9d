"""Control rigs: what their switches must say, and how their controls follow each other, measured in Blender itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..rig_mapping.bone_map import BoneMap, Controls
from ..rig_mapping.control_following import following
from ..rig_mapping.rest_pose import RestPose

# Large enough to be told from single precision, about an axis that no rig has, and small enough that a leg on IK can
# still follow: at the end of its reach it would go along in part.
_TEST_TURN = Matrix.Rotation(0.2, 4, (0.3, 0.8, 0.5))
_LIMB_PARTS = ("upperarm", "forearm", "hand", "thigh", "shank", "foot", "toes")
_CHANNELS = ("location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle", "scale")

PropertyValues = dict[tuple[str, str], float]


def property_values(armature_object: bpy.types.Object, controls: Controls, limbs: str) -> PropertyValues:
    """(bone, custom property) -> the value that it must have for limbs keyed as "fk" or "ik", where the rig has it."""
    wanted = {(switch.bone, switch.property): getattr(switch, limbs) for switch in controls.switches}
    wanted |= {(setting.bone, setting.property): setting.value for setting in controls.settings}
    bones = armature_object.pose.bones
    return {(bone, name): value for (bone, name), value in wanted.items() if bone in bones and name in bones[bone]}


def read_controls(
    armature_object: bpy.types.Object, rest: RestPose, bone_map: BoneMap, limbs: str
) -> tuple[RestPose, list[str]]:
    """The controls of a rig alone, with the one that really carries each as its parent; and what to warn of.

    rest:     the whole rig, as read
    bone_map: bound to the rig, with ``controls``
    limbs:    "fk" or "ik"; for "ik" the IK controls are among the bones too, which hang on controls outside the limbs
    """
    controls = bone_map.controls or Controls()
    fk_names = [bone for chain in (*bone_map.bones.values(), *bone_map.twist.values()) for bone in chain]
    if bone_map.root is not None and bone_map.root not in fk_names:
        fk_names.insert(0, bone_map.root)
    with _undisturbed(armature_object):
        names, measured, warnings = _measured(
            armature_object, fk_names, property_values(armature_object, controls, "fk")
        )
        if limbs == "ik":
            ik_names = [name for control in controls.ik.values() for name in control.names]
            limb_names = {b for segment, chain in bone_map.bones.items() if segment[2:] in _LIMB_PARTS for b in chain}
            trunk = [name for name in names if name not in limb_names]
            both, ik_measured, more = _measured(
                armature_object,
                [*trunk, *(name for name in ik_names if name in armature_object.pose.bones)],
                property_values(armature_object, controls, "ik"),
            )
            for name in both:
                if name not in names:
                    names.append(name)
                    measured[name] = ik_measured[name]
            warnings += more
    return _as_rest_pose(rest, names, measured), warnings


@dataclass(frozen=True, eq=False)
class MeasuredControl:
    """One control: what carries it, whether it is turned along, its matrix at rest, the axes that it moves by."""

    parent: str | None
    inherits: bool
    at_rest: np.ndarray
    moves_along: np.ndarray


Measured = dict[str, MeasuredControl]


def _measured(
    armature_object: bpy.types.Object, names: Sequence[str], values: PropertyValues
) -> tuple[list[str], Measured, list[str]]:
    """Names, parents first; what each does; warnings."""
    bones = [armature_object.pose.bones[name] for name in names]
    for bone in bones:
        bone.matrix_basis = Matrix()
    for (bone_name, name), value in values.items():
        _set_property(armature_object, bone_name, name, value)
    at_rest = _matrices(armature_object, names)
    turned = np.empty((len(bones), len(bones), 4, 4))
    # A step as large as the rig: small ones drown in single precision.
    step = max(float(np.ptp(at_rest[:, :3, 3], axis=0).max()), 1e-6)
    axes = np.empty((len(bones), 3, 3))
    for index, bone in enumerate(bones):
        bone.matrix_basis = _TEST_TURN
        turned[index] = _matrices(armature_object, names)
        for axis in range(3):
            bone.matrix_basis = Matrix.Translation(np.eye(3)[axis] * step)
            axes[index, :, axis] = (_matrices(armature_object, [names[index]])[0] - at_rest[index])[:3, 3] / step
        bone.matrix_basis = Matrix()
    told = following(at_rest, turned)
    measured = {
        name: MeasuredControl(
            parent=names[told.parents[i]] if told.parents[i] >= 0 else None,
            inherits=bool(told.inherits[i]),
            at_rest=at_rest[i],
            moves_along=_rotation_near(axes[i]) if np.abs(axes[i]).max() > 0.5 else at_rest[i, :3, :3],
        )
        for i, name in enumerate(names)
    }
    warnings = [
        f"'{names[follower]}' follows '{names[control]}' only in part, so its keys may be off. Set the property of the "
        "rig that says how much it follows to all or nothing."
        for follower, control in told.in_part
    ]
    return [names[index] for index in told.order], measured, warnings


def _matrices(armature_object: bpy.types.Object, names: Sequence[str]) -> np.ndarray:
    """(N, 4, 4) where the bones are now, armature space, without scale."""
    armature_object.update_tag()
    bpy.context.view_layer.update()
    bones = armature_object.evaluated_get(bpy.context.evaluated_depsgraph_get()).pose.bones
    matrices = np.array([bones[name].matrix for name in names], dtype=float)
    matrices[:, :3, :3] = _rotation_near(matrices[:, :3, :3])
    return matrices


def _rotation_near(matrices: np.ndarray) -> np.ndarray:
    """(..., 3, 3) without scale."""
    u, _, vt = np.linalg.svd(matrices)
    return u @ vt


def _set_property(armature_object: bpy.types.Object, bone: str, name: str, value: float) -> None:
    pose_bone = armature_object.pose.bones[bone]
    # A boolean or whole number stays what it is: Blender refuses to animate one that changed its kind.
    pose_bone[name] = type(pose_bone[name])(value)


def _as_rest_pose(rest: RestPose, names: Sequence[str], measured: Measured) -> RestPose:
    index = [rest.names.index(name) for name in names]
    parents = [measured[name].parent for name in names]
    return RestPose(
        name=rest.name,
        names=tuple(names),
        parents=tuple(-1 if parent is None else list(names).index(parent) for parent in parents),
        armature_from_bone=np.array([measured[name].at_rest for name in names]),
        lengths=rest.lengths[index],
        rotation_modes=tuple(rest.rotation_modes[i] for i in index),
        inherit_rotation=np.array([measured[name].inherits for name in names]),
        local_location=rest.local_location[index],
        locks=rest.locks[index],
        use_connect=rest.use_connect[index],
        basis=rest.basis[index],
        world_from_armature=rest.world_from_armature,
        rotation_locks=rest.rotation_locks[index],
        use_deform=rest.use_deform[index],
        location_axes=np.array([measured[name].moves_along for name in names]),
    )


@contextmanager
def _undisturbed(armature_object: bpy.types.Object) -> Iterator[None]:
    """Whatever the block does to the pose, its custom properties and the playing animation is taken back after it."""
    bones = armature_object.pose.bones
    poses = [[tuple(getattr(bone, channel)) for channel in _CHANNELS] for bone in bones]
    properties: list[tuple[Any, str, Any]] = [
        (bone, name, value) for bone in bones for name, value in bone.items() if isinstance(value, (bool, int, float))
    ]
    data = armature_object.animation_data
    playing = data.action if data else None
    slot = data.action_slot if data and hasattr(data, "action_slot") else None
    layered = data.use_nla if data else False
    if data:
        # Else the next evaluation would put the old animation over what is measured.
        data.action, data.use_nla = None, False
    try:
        yield
    finally:
        for bone, channels in zip(bones, poses, strict=True):
            for channel, value in zip(_CHANNELS, channels, strict=True):
                if tuple(getattr(bone, channel)) != value:
                    setattr(bone, channel, value)
        for bone, name, value in properties:
            if bone[name] != value:
                bone[name] = value
        if data:
            data.use_nla = layered
            data.action = playing
            if slot is not None:
                data.action_slot = slot
        armature_object.update_tag()
        bpy.context.view_layer.update()
