"""Read an armature out of Blender, once."""

from __future__ import annotations

import bpy
import numpy as np

from ..rig_mapping.rest_pose import RestPose


def read_rest_pose(armature_object: bpy.types.Object) -> RestPose:
    """The armature as arrays. Nothing in the scene is changed, not even the mode."""
    bones = list(armature_object.data.bones)
    pose_bones = [armature_object.pose.bones[bone.name] for bone in bones]
    order = _parents_first(bones)
    bones = [bones[index] for index in order]
    pose_bones = [pose_bones[index] for index in order]
    position = {bone.name: index for index, bone in enumerate(bones)}
    connected = np.array([bone.use_connect and bone.parent is not None for bone in bones], dtype=bool)
    return RestPose(
        name=armature_object.name,
        names=tuple(bone.name for bone in bones),
        parents=tuple(position[bone.parent.name] if bone.parent else -1 for bone in bones),
        armature_from_bone=_rigid(np.array([bone.matrix_local for bone in bones], dtype=float).reshape(-1, 4, 4)),
        lengths=np.array([bone.length for bone in bones], dtype=float),
        rotation_modes=tuple(bone.rotation_mode for bone in pose_bones),
        inherit_rotation=np.array([bone.use_inherit_rotation for bone in bones], dtype=bool),
        local_location=np.array([bone.use_local_location for bone in bones], dtype=bool),
        locks=np.array([tuple(bone.lock_location) for bone in pose_bones], dtype=bool).reshape(-1, 3),
        use_connect=connected,
        basis=_basis(pose_bones, connected),
        world_from_armature=np.array(armature_object.matrix_world, dtype=float),
        rotation_locks=np.array([tuple(bone.lock_rotation) for bone in pose_bones], dtype=bool).reshape(-1, 3),
        use_deform=np.array([bone.use_deform for bone in bones], dtype=bool),
    )


def _parents_first(bones: list[bpy.types.Bone]) -> list[int]:
    depth = [len(bone.parent_recursive) for bone in bones]
    return sorted(range(len(bones)), key=lambda index: depth[index])


def _rigid(matrices: np.ndarray) -> np.ndarray:
    """Blender keeps single precision; the turns are made orthonormal again in double."""
    u, _, vt = np.linalg.svd(matrices[:, :3, :3])
    rigid = matrices.copy()
    rigid[:, :3, :3] = u @ vt
    return rigid


def _basis(pose_bones: list[bpy.types.PoseBone], connected: np.ndarray) -> np.ndarray:
    """(B, 4, 4) how the bones are posed now, without scale; a connected bone's location has no effect."""
    basis = np.array([bone.matrix_basis for bone in pose_bones], dtype=float).reshape(-1, 4, 4)
    lengths = np.linalg.norm(basis[:, :3, :3], axis=1)
    basis[:, :3, :3] /= np.where(lengths > 1e-9, lengths, 1.0)[:, None, :]
    collapsed = (lengths <= 1e-9).any(axis=1)
    basis[collapsed, :3, :3] = np.eye(3)
    basis[connected, :3, 3] = 0.0
    return _rigid(basis)
