"""Write a motion into a new action, in bulk: a key at a time takes minutes where this takes a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import bpy
import numpy as np

from ..core.errors import RigError
from ..core.progress import Progress, report, silent
from ..core.tracks import PoseTrack
from ..rig_mapping.bone_motion import BoneMotion
from ..rig_mapping.key_reduction import SparseChannel
from ..rig_mapping.rest_pose import RestPose
from ..rig_mapping.rotation_channels import rotation_channels
from .action_writing import BEZIER, AnimatedCurves, in_turn

# Clocks of whole milliseconds, as Matroska's, are off by up to half of one on the first picture and on any other.
_CLOCK_TICK_S = 0.001
# A value of Blender's enumeration, which foreach_set writes as an integer.
_ALIGNED = 3


def frame_numbers(motion: BoneMotion | PoseTrack, fps: float, first_frame: float = 1.0) -> np.ndarray:
    """(F,) where on Blender's timeline each frame of the footage lies; fractions when the frame rate varies."""
    frames = first_frame + (motion.time_s - motion.time_s[0]) * fps
    # A steady frame rate gives whole frames but for the rounding of presentation times.
    rounding = np.clip(1.05 * _CLOCK_TICK_S * fps, 0.02, 0.25)
    whole = np.round(frames)
    # Pictures in quick succession are of a varying rate, and no two of them may share a frame.
    steps = np.diff(frames, prepend=-np.inf, append=np.inf)
    alone = np.minimum(steps[:-1], steps[1:]) >= 0.5
    return np.where(alone & (np.abs(frames - whole) < rounding), whole, frames)


@dataclass(frozen=True, eq=False)
class WrittenKeys:
    """What goes into an action besides the motion itself.

    properties: (bone, custom property) -> the value that it holds throughout, such as an IK/FK switch
    sparse:     keys that ``rig_mapping.key_reduction`` left; None: a key on every frame
    assigned:   whether the armature is to play the new action; one that it doesn't play stays in the file unused
    """

    properties: Mapping[tuple[str, str], float] = field(default_factory=dict)
    sparse: Sequence[SparseChannel] | None = None
    assigned: bool = True


def write_keyframes(
    armature_object: bpy.types.Object,
    rest: RestPose,
    motion: BoneMotion,
    action_name: str,
    *,
    fps: float,
    first_frame: float = 1.0,
    keys: WrittenKeys | None = None,
    progress: Progress = silent,
) -> bpy.types.Action:
    """Put ``motion`` into a new action on the armature. An action it had stays in the file, untouched.

    Only mapped bones are keyed, in the rotation mode that they have, and of those no channel that is locked.
    Raises RigError when the object can't be animated.
    """
    if armature_object.library is not None:
        raise RigError(
            f"'{armature_object.name}' is linked from another file and can't be animated here. "
            "Make a library override of it first (Object > Library Override > Make)."
        )
    keys = keys or WrittenKeys()
    frames = frame_numbers(motion, fps, first_frame)
    data = armature_object.animation_data or armature_object.animation_data_create()
    if data.use_tweak_mode:
        raise RigError(f"An NLA strip of '{armature_object.name}' is being tweaked. Leave tweak mode (Tab) first.")
    action = bpy.data.actions.new(action_name)
    try:
        curves = AnimatedCurves(action, armature_object)
        channels: Iterable[_DenseChannel | SparseChannel] = (
            _dense_channels(rest, motion) if keys.sparse is None else keys.sparse
        )
        for index, channel in enumerate(channels):
            report(progress, index, len(motion.keyed) + len(motion.moved))
            pose_bone = armature_object.pose.bones[rest.names[channel.bone]]
            free = _unlocked(rest, channel)
            if isinstance(channel, SparseChannel):
                _write_sparse(curves, pose_bone, channel, frames, free)
            else:
                _write_dense(curves, pose_bone, channel, frames, free)
        for (bone_name, name), value in keys.properties.items():
            _write_property(curves, armature_object.pose.bones[bone_name], name, float(frames[0]), value)
    except BaseException:
        # Stopped half way: a half-made action must not stay behind.
        bpy.data.actions.remove(action)
        raise
    if keys.assigned:
        _assign(armature_object, curves)
    else:
        action.use_fake_user = True
    report(progress, len(motion.keyed) + len(motion.moved), len(motion.keyed) + len(motion.moved))
    return action


@dataclass(frozen=True, eq=False)
class _DenseChannel:
    """One property of one bone on every frame. values: (F, C)"""

    bone: int
    path: str
    values: np.ndarray


def _dense_channels(rest: RestPose, motion: BoneMotion) -> Iterator[_DenseChannel]:
    for index, bone in enumerate(motion.keyed):
        yield _DenseChannel(bone, *rotation_channels(rest.rotation_modes[bone], motion.rotations_wxyz[:, index]))
    for index, bone in enumerate(motion.moved):
        yield _DenseChannel(bone, "location", motion.locations[:, index])


def _unlocked(rest: RestPose, channel: _DenseChannel | SparseChannel) -> list[int]:
    """Components to key. A locked one keeps its value by itself; quaternions and axis-angles hang together."""
    if channel.path == "location":
        return [axis for axis in range(3) if not rest.locks[channel.bone, axis]]
    if channel.path == "rotation_euler":
        return [axis for axis in range(3) if not rest.rotation_locks[channel.bone, axis]]
    return list(range(channel.values.shape[1]))


def _assign(armature_object: bpy.types.Object, curves: AnimatedCurves) -> None:
    old = armature_object.animation_data.action
    if old is not None:
        # With its last user gone, Blender would drop the old action when the file is saved.
        old.use_fake_user = True
    curves.assign()


def _write_dense(
    curves: AnimatedCurves, pose_bone: bpy.types.PoseBone, channel: _DenseChannel, frames: np.ndarray, free: list[int]
) -> None:
    path = pose_bone.path_from_id(channel.path)
    for component in free:
        curves.write(path, component, pose_bone.name, frames, channel.values[:, component])


def _write_sparse(
    curves: AnimatedCurves, pose_bone: bpy.types.PoseBone, channel: SparseChannel, frames: np.ndarray, free: list[int]
) -> None:
    """Bezier keys. Handles a third of the way to the neighbouring keys make the curve a cubic of time, as reduced."""
    path = pose_bone.path_from_id(channel.path)
    at = frames[channel.keys]
    count = len(at)
    gaps = np.diff(at)
    third_before = np.concatenate([gaps[:1], gaps])[:count] / 3 if count > 1 else np.ones(1)
    third_after = np.concatenate([gaps, gaps[-1:]])[:count] / 3 if count > 1 else np.ones(1)
    bezier = np.full(count, BEZIER, dtype=np.int32)
    aligned = np.full(count, _ALIGNED, dtype=np.int32)
    for component in free:
        values, slopes = channel.values[:, component], channel.slopes[:, component]
        curve = curves.new(path, component, pose_bone.name)
        points = curve.keyframe_points
        points.add(count)
        points.foreach_set("co", in_turn(at, values))
        points.foreach_set("interpolation", bezier)
        points.foreach_set("handle_left_type", aligned)
        points.foreach_set("handle_right_type", aligned)
        points.foreach_set("handle_left", in_turn(at - third_before, values - slopes * third_before))
        points.foreach_set("handle_right", in_turn(at + third_after, values + slopes * third_after))
        curve.update()


def _write_property(
    curves: AnimatedCurves, pose_bone: bpy.types.PoseBone, name: str, frame: float, value: float
) -> None:
    """One key for a custom property that stays as it is."""
    curve = curves.new(f'{pose_bone.path_from_id()}["{bpy.utils.escape_identifier(name)}"]', 0, pose_bone.name)
    curve.keyframe_points.add(1)
    curve.keyframe_points[0].co = (frame, value)
    curve.keyframe_points[0].interpolation = "CONSTANT"
    curve.update()
