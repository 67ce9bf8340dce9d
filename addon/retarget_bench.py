"""How fast a performance gets onto a rig, against ``keyframe_insert`` for every bone and frame.

The walk and the rigs are made of numbers alone, so the same is measured everywhere. Seconds are medians of rounds in
which all that is compared takes its turn. Unlike everything else here this module keys bones one by one: it is what
the bulk writer is compared with.
"""

from __future__ import annotations

import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import bpy
import numpy as np

from ..core.progress import Progress, report, silent
from ..core.tracks import PoseTrack
from ..rig_mapping.bone_map import BoneMap
from ..rig_mapping.bone_motion import BoneMotion
from ..rig_mapping.key_reduction import KeyTolerance
from ..rig_mapping.rest_pose import RestPose
from ..rig_mapping.rotation_channels import rotation_channels
from ..rig_mapping.solve import RetargetOptions, solve
from ..rig_mapping.synthetic_rigs import rig_of_22_bones, rig_of_60_bones
from ..rig_mapping.synthetic_walk import FPS, synthetic_walk
from .armature_reading import read_rest_pose
from .keyframe_writing import write_keyframes
from .rigs import fresh_scene
from .skeleton_armature import make_armature
from .takes import TakeOptions, bake_take

# What the goals are about; a quick run keeps these too, so that its figures have the right names.
_MANY_BONES_FRAMES, _MIXAMO_FRAMES = 3000, 1000


@dataclass(frozen=True)
class RetargetBenchSizes:
    """What is measured beside the two takes that the goals name.

    rounds:          times that everything but the reduced keys is timed, after one that doesn't count
    inserted_frames: frames that ``keyframe_insert`` and ours both key
    memory_frames:   rising lengths of takes whose memory is compared
    reduced_frames:  frames of the take whose keys are reduced
    """

    rounds: int = 5
    inserted_frames: int = 300
    memory_frames: tuple[int, ...] = (1500, 3000, 6000)
    reduced_frames: int = 3000


FULL = RetargetBenchSizes()
QUICK = RetargetBenchSizes(1, 20, (100, 200, 400), 60)


@dataclass(frozen=True, eq=False)
class _Case:
    """A performance and the rig that it goes onto. Feet are planted, as they are by default."""

    armature_object: bpy.types.Object
    rest: RestPose
    bone_map: BoneMap
    pose: PoseTrack

    def solved(self) -> BoneMotion:
        return solve(self.pose, self.rest, self.bone_map, RetargetOptions(plant_feet=True))

    def written(self, motion: BoneMotion) -> bpy.types.Action:
        return write_keyframes(self.armature_object, self.rest, motion, "bench", fps=FPS)


@dataclass(frozen=True)
class _Timing:
    """Seconds of one round."""

    solve: float
    write: float

    @property
    def both(self) -> float:
        return self.solve + self.write


def run_retarget_bench(sizes: RetargetBenchSizes = FULL, progress: Progress = silent) -> dict[str, Any]:
    """Measure everything; plain values, for a report. Whatever scene is open is closed unsaved.

    ``keyframe_insert_ratio`` counts our solve as well as our writing; the other side is handed the solved motion.
    """
    fresh_scene()
    stages: list[Callable[[], Any]] = [
        lambda: _timed_take(rig_of_60_bones(), _MANY_BONES_FRAMES, sizes.rounds),
        lambda: _timed_take(rig_of_22_bones(), _MIXAMO_FRAMES, sizes.rounds),
        lambda: _timed_take(rig_of_60_bones("XYZ"), _MANY_BONES_FRAMES, sizes.rounds),
        lambda: _against_single_keys(sizes),
        lambda: _memory(sizes),
        lambda: _reduced_take(sizes),
    ]
    results = []
    for done, stage in enumerate(stages):
        report(progress, done, len(stages))
        results.append(stage())
    report(progress, len(stages), len(stages))
    many, mixamo, euler, inserted, memory, reduced = results
    return {
        "seconds_60_bones_3000_frames": many["seconds"],
        "seconds_22_bones_1000_frames": mixamo["seconds"],
        "keyframe_insert_ratio": inserted["ratio"],
        "keyframe_insert_ratio_write_alone": inserted["ratio_write_alone"],
        "memory_bytes_per_frame": memory["bytes_per_frame"][-1],
        "memory_ratio": memory["ratio"],
        "blender": bpy.app.version_string,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "cores": os.cpu_count(),
        "rounds": sizes.rounds,
        "takes": [many, mixamo, euler],
        "keyframe_insert": inserted,
        "memory": memory,
        "reduced": reduced,
    }


def _case(rig: tuple[RestPose, BoneMap], frames: int) -> _Case:
    made, bone_map = rig
    armature_object = make_armature(made)
    return _Case(armature_object, read_rest_pose(armature_object), bone_map, synthetic_walk(frames))


def _timed_round(case: _Case) -> _Timing:
    began = time.perf_counter()
    motion = case.solved()
    solved = time.perf_counter()
    action = case.written(motion)
    written = time.perf_counter()
    bpy.data.actions.remove(action)
    return _Timing(solved - began, written - solved)


def _timed_take(rig: tuple[RestPose, BoneMap], frames: int, rounds: int) -> dict[str, Any]:
    """Solved and written, and what it was."""
    case = _case(rig, frames)
    motion = case.solved()
    action = case.written(motion)
    described = {
        "rig": case.rest.name,
        "bones": len(case.rest),
        "bone_map": case.bone_map.name,
        "rotation_mode": case.rest.rotation_modes[0],
        "keyed_bones": len(motion.keyed),
        "curves": len(_curves(action)),
        "keys": sum(len(curve.keyframe_points) for curve in _curves(action)),
        "frames": frames,
        "world_scale": motion.world_scale,
        "share_of_frames_with_contact": float(motion.stands.any(axis=1).mean()),
    }
    bpy.data.actions.remove(action)
    timings = [_timed_round(case) for _ in range(rounds)]
    _forget(case)
    return {
        **described,
        "seconds": statistics.median(timing.both for timing in timings),
        "seconds_lowest": min(timing.both for timing in timings),
        "seconds_highest": max(timing.both for timing in timings),
        "solve_seconds": statistics.median(timing.solve for timing in timings),
        "write_seconds": statistics.median(timing.write for timing in timings),
    }


def _against_single_keys(sizes: RetargetBenchSizes) -> dict[str, Any]:
    """The same channels of the same motion, once in bulk and once a bone and a frame at a time."""
    case = _case(rig_of_60_bones(), sizes.inserted_frames)
    motion = case.solved()
    action = case.written(motion)
    ours = _values(action)
    bpy.data.actions.remove(action)
    timings, inserting = [], []
    for _ in range(sizes.rounds):
        timings.append(_timed_round(case))
        seconds, action = _timed_inserts(case, motion)
        theirs = _values(action)
        bpy.data.actions.remove(action)
        inserting.append(seconds)
    _forget(case)
    return {
        "rig": case.rest.name,
        "keyed_bones": len(motion.keyed),
        "curves": len(theirs),
        "frames": sizes.inserted_frames,
        "seconds": statistics.median(inserting),
        "our_seconds": statistics.median(timing.both for timing in timings),
        "our_write_seconds": statistics.median(timing.write for timing in timings),
        "ratio": statistics.median(slow / timing.both for slow, timing in zip(inserting, timings, strict=True)),
        "ratio_write_alone": statistics.median(
            slow / timing.write for slow, timing in zip(inserting, timings, strict=True)
        ),
        "largest_difference": _largest_difference(ours, theirs),
    }


def _timed_inserts(case: _Case, motion: BoneMotion) -> tuple[float, bpy.types.Action]:
    """Seconds of keying as most scripts do it, the values at hand as plain lists, and the action that it makes."""
    bones, rest = case.armature_object.pose.bones, case.rest
    channels = [
        (bones[rest.names[bone]], *rotation_channels(rest.rotation_modes[bone], motion.rotations_wxyz[:, column]))
        for column, bone in enumerate(motion.keyed)
    ]
    channels += [
        (bones[rest.names[bone]], "location", motion.locations[:, column]) for column, bone in enumerate(motion.moved)
    ]
    listed = [(pose_bone, path, values.tolist()) for pose_bone, path, values in channels]
    began = time.perf_counter()
    for frame in range(len(motion)):
        for pose_bone, path, values in listed:
            setattr(pose_bone, path, values[frame])
            pose_bone.keyframe_insert(path, frame=frame + 1)
    seconds = time.perf_counter() - began
    return seconds, case.armature_object.animation_data.action


def _memory(sizes: RetargetBenchSizes) -> dict[str, Any]:
    """The most that solving and writing hold at a time, for short and long takes; Blender's own curves don't count."""
    peaks = []
    for frames in sizes.memory_frames:
        case = _case(rig_of_60_bones(), frames)
        peaks.append(_peak_bytes(case))
        _forget(case)
    per_frame = [peak / frames for peak, frames in zip(peaks, sizes.memory_frames, strict=True)]
    return {
        "frames": list(sizes.memory_frames),
        "peak_mb": [peak / 1e6 for peak in peaks],
        "bytes_per_frame": per_frame,
        # 1 where memory is linear; twice the memory a frame for a long take as for a short one would be 2.
        "ratio": per_frame[-1] / per_frame[0],
    }


def _peak_bytes(case: _Case) -> int:
    """The most memory that Python and numpy hold meanwhile, what was there before left out."""
    was_tracing = tracemalloc.is_tracing()
    if not was_tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        bpy.data.actions.remove(case.written(case.solved()))
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        if not was_tracing:
            tracemalloc.stop()


def _reduced_take(sizes: RetargetBenchSizes) -> dict[str, Any]:
    """A whole take with as few keys as the bound allows: rig read, solved, reduced, written, errors measured."""
    case = _case(rig_of_60_bones(), sizes.reduced_frames)
    tolerance = KeyTolerance()
    began = time.perf_counter()
    summary, _ = bake_take(
        case.pose,
        case.armature_object,
        bone_map=case.bone_map,
        name="bench",
        fps=FPS,
        options=TakeOptions(reduce=tolerance, markers=False),
    )
    seconds = time.perf_counter() - began
    bpy.data.actions.remove(bpy.data.actions[summary.action])
    _forget(case)
    return {
        "rig": case.rest.name,
        "keyed_bones": summary.keyed_bones,
        "frames": sizes.reduced_frames,
        "tolerance": asdict(tolerance),
        "seconds": seconds,
        "share_of_keys": summary.share_of_keys,
        "largest_errors": list(summary.largest_errors),
    }


def _forget(case: _Case) -> None:
    """Take the rig out again: Blender would evaluate it along with the next one."""
    bpy.data.armatures.remove(case.armature_object.data)


def _curves(action: bpy.types.Action) -> list[bpy.types.FCurve]:
    if not hasattr(action, "layers"):
        return list(action.fcurves)
    bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return [curve for bag in bags for curve in bag.fcurves]


def _values(action: bpy.types.Action) -> dict[tuple[str, int], np.ndarray]:
    """(data path, component) -> (F, 2) frame and value of each key."""
    values = {}
    for curve in _curves(action):
        keys = np.empty(2 * len(curve.keyframe_points), dtype=np.float32)
        curve.keyframe_points.foreach_get("co", keys)
        values[curve.data_path, curve.array_index] = keys.reshape(-1, 2)
    return values


def _largest_difference(
    ours: dict[tuple[str, int], np.ndarray], theirs: dict[tuple[str, int], np.ndarray]
) -> float | None:
    """Between keys of the same curve and frame; None where one side has keys that the other lacks."""
    if ours.keys() != theirs.keys() or any(ours[curve].shape != theirs[curve].shape for curve in ours):
        return None
    return max(float(np.abs(ours[curve] - theirs[curve]).max()) for curve in ours)
