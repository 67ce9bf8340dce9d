"""A performance onto an armature: in the open scene, or from file to files."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import bpy
import numpy as np

from ..core.progress import Progress, report, silent
from ..core.tracks import PoseTrack
from ..rig_mapping.bone_map import BoneMap, load_bone_map
from ..rig_mapping.bone_motion import BoneMotion
from ..rig_mapping.ik_controls import with_ik_controls
from ..rig_mapping.key_reduction import KeyTolerance, SparseChannel, largest_errors, reduce_keys, share_of_keys
from ..rig_mapping.own_skeleton import own_skeleton
from ..rig_mapping.recognition import recognise
from ..rig_mapping.rest_pose import RestPose
from ..rig_mapping.rig_address import SKELETON
from ..rig_mapping.rig_body import rig_body
from ..rig_mapping.solve import RetargetOptions, path_carrier, solve
from .armature_reading import read_rest_pose
from .blender_chatter import unheard
from .contact_markers import write_contact_markers
from .control_rigs import PropertyValues, property_values, read_controls
from .footage_background import add_footage_camera, film_rate, rate_notes, show_footage
from .keyframe_writing import WrittenKeys, frame_numbers, write_keyframes
from .rigs import animatable, fresh_scene, open_rig
from .scene_export import export, exporter
from .skeleton_armature import make_armature

FIRST_FRAME = 1
MAX_FPS = 32767


@dataclass(frozen=True)
class TakeOptions:
    """What an animator may choose about a take.

    retarget:      how the rig is solved
    also_in_place: write a second action without the path, "... in place", which the armature doesn't play
    reduce:        keep only the keys that this bound needs; None: a key on every frame
    markers:       mark on the timeline where feet come down and lift off
    """

    retarget: RetargetOptions = field(default_factory=RetargetOptions)
    also_in_place: bool = False
    reduce: KeyTolerance | None = None
    markers: bool = True


@dataclass(frozen=True)
class RetargetSummary:
    """What was done, in words and numbers that a person or a program may want to see.

    keyed_bones:  how many bones got keys
    frames:       how many frames were keyed
    world_scale:  size of the rig over that of the person
    share_of_keys: of the keys that a key on every frame would be
    largest_errors: degrees and millimetres that the reduced keys are off at most; zeros without reduction
    warnings:     what may make the result differ from what was meant
    """

    armature: str
    bone_map: str
    action: str
    keyed_bones: int
    frames: int
    world_scale: float
    share_of_keys: float
    largest_errors: tuple[float, float]
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.frames} frames on {self.keyed_bones} bones of '{self.armature}' ({self.bone_map})"
        if self.share_of_keys < 1:
            degrees, millimetres = self.largest_errors
            text += (
                f", {self.share_of_keys:.0%} of the keys, at most {degrees:.2g} degrees and {millimetres:.2g} mm off"
            )
        return text


def bake_take(
    pose: PoseTrack,
    armature_object: bpy.types.Object,
    *,
    bone_map: str | BoneMap,
    name: str,
    fps: float,
    first_frame: float = FIRST_FRAME,
    options: TakeOptions | None = None,
    progress: Progress = silent,
) -> tuple[RetargetSummary, BoneMotion]:
    """Key ``pose`` onto an armature of the context's scene, in a new action ``name``.

    bone_map:    a preset's name, a file's path, "auto", or a bone map
    first_frame: where on the timeline the first frame of the pose lies
    Raises RigError or FileFormatError when nothing can be mapped, or the armature can't be animated.
    """
    options = options or TakeOptions()
    armature_object = animatable(armature_object)
    rest = read_rest_pose(armature_object)
    mapping = _mapping(rest, bone_map)
    rest, properties, warnings = _controls(armature_object, rest, mapping, options.retarget)
    motion = _solved(pose, rest, mapping, options.retarget)
    frames = frame_numbers(motion, fps, first_frame)
    sparse = _reduced(rest, mapping, motion, frames, options.reduce, progress)

    def write(moving: BoneMotion, keys: WrittenKeys, action_name: str) -> bpy.types.Action:
        return write_keyframes(
            armature_object, rest, moving, action_name, fps=fps, first_frame=first_frame, keys=keys, progress=progress
        )

    if options.also_in_place:
        still = _solved(pose, rest, mapping, replace(options.retarget, path="in_place"))
        kept = _reduced(rest, mapping, still, frames, options.reduce, progress)
        write(still, WrittenKeys(properties, kept, assigned=False), f"{name} in place")
    action = write(motion, WrittenKeys(properties, sparse), name)
    if options.markers:
        write_contact_markers(bpy.context.scene, armature_object, motion, frames)
    if mapping.controls is None:
        warnings += _constrained(armature_object, rest, motion)
    summary = RetargetSummary(
        armature=armature_object.name,
        bone_map=mapping.name,
        action=action.name,
        keyed_bones=len(motion.keyed),
        frames=len(motion),
        world_scale=motion.world_scale,
        share_of_keys=1.0 if sparse is None else share_of_keys(sparse, frames),
        largest_errors=(0.0, 0.0) if sparse is None else largest_errors(rest, motion, frames, sparse),
        warnings=tuple(warnings),
    )
    return summary, motion


def _mapping(rest: RestPose, bone_map: str | BoneMap) -> BoneMap:
    if bone_map == "auto":
        return recognise(rest)
    return (bone_map if isinstance(bone_map, BoneMap) else load_bone_map(bone_map)).bound_to(rest)


def _solved(pose: PoseTrack, rest: RestPose, mapping: BoneMap, options: RetargetOptions) -> BoneMotion:
    motion = solve(pose, rest, mapping, options)
    if options.limbs == "ik" and mapping.controls is not None:
        return with_ik_controls(rest, rig_body(rest, mapping), motion, mapping.controls)
    return motion


def _reduced(
    rest: RestPose,
    mapping: BoneMap,
    motion: BoneMotion,
    frames: np.ndarray,
    tolerance: KeyTolerance | None,
    progress: Progress,
) -> list[SparseChannel] | None:
    """The keys worth keeping, those at which a foot comes down or lifts off among them."""
    if tolerance is None:
        return None
    body = rig_body(rest, mapping)
    changes = np.zeros(len(motion), dtype=bool)
    changes[1:] = (motion.stands[1:] != motion.stands[:-1]).any(axis=1)
    # The last frame of a contact as well as the first one after it.
    changes[:-1] |= changes[1:]
    planted: dict[int, np.ndarray] = {}
    for side, columns in (("l", slice(0, 2)), ("r", slice(2, 4))):
        feet = list(body.chains[f"{side}_foot"])
        control = mapping.controls.ik.get(f"{side}_foot") if mapping.controls is not None else None
        if control is not None and control.bone in rest.names:
            # Keyed in place of the foot itself, where limbs are keyed by IK.
            feet.append(rest.names.index(control.bone))
        planted |= {bone: motion.stands[:, columns].any(axis=1) for bone in feet}
    return reduce_keys(rest, motion, frames, tolerance, kept=changes, planted=planted, progress=_stoppable(progress))


def retarget_to_files(
    pose: PoseTrack,
    *,
    rig: str,
    bone_map: str,
    outputs: list[Path],
    footage: Path | None,
    options: TakeOptions | None = None,
    progress: Progress = silent,
) -> RetargetSummary:
    """Open ``rig`` in a fresh scene, key ``pose`` onto it, and write the result to every output, by its ending.

    The scene gets the frame rate and picture size of the footage, a camera that matches the filming one, and behind it
    the footage itself where there is any. Input files are not changed. Raises RigError, OutputError or
    FileFormatError that says what to do.
    """
    steps = 2 + len(outputs)
    for output in outputs:
        exporter(output)
    armature_object, mapped_by = _opened(rig, bone_map, pose)
    report(progress, 1, steps)
    scene = bpy.context.scene
    # Only a Blender file shows the footage; in others a scene's rate is best that of the pictures.
    beside = footage if any(output.suffix.lower() == ".blend" for output in outputs) else None
    rate = None if beside is None else film_rate(beside, pose)
    fps = set_frame_rate(scene, rate or pose.fps)
    summary, motion = bake_take(
        pose,
        armature_object,
        bone_map=mapped_by,
        name=_take_name(pose, outputs),
        fps=fps,
        options=options,
        progress=_stoppable(progress),
    )
    armature_object.data.pose_position = "POSE"
    armature_object.show_in_front = True
    frames = frame_numbers(motion, fps, FIRST_FRAME)
    scene.frame_start, scene.frame_end = FIRST_FRAME, max(FIRST_FRAME, round(float(frames[-1])))
    camera = add_footage_camera(pose, motion.world_scale)
    if beside is not None and rate is not None:
        summary = replace(summary, warnings=(*summary.warnings, *rate_notes(beside.name, rate, pose)))
    if footage is not None and not show_footage(camera, footage, pose):
        unseen = f"Blender can't show '{footage.name}', so the camera has no footage behind it. The keys are complete."
        summary = replace(summary, warnings=(*summary.warnings, unseen))
    scene.frame_set(FIRST_FRAME)
    report(progress, 2, steps)
    # Saved elsewhere, the paths of a user's file would no longer lead to its textures and libraries.
    if bpy.data.filepath:
        with unheard():
            bpy.ops.file.make_paths_absolute()
    for done, output in enumerate(outputs):
        export(output, armature_object)
        report(progress, 3 + done, steps)
    return summary


def check_armature(armature_object: bpy.types.Object, bone_map: str | BoneMap, options: TakeOptions) -> None:
    """Raise KeyliftError when a take can't go onto the armature. The scene is left as it is."""
    rest = read_rest_pose(armature_object)
    mapping = _mapping(rest, bone_map)
    rest, _, _ = _controls(armature_object, rest, mapping, options.retarget)
    body = rig_body(rest, mapping)
    if options.retarget.path_on == "root":
        path_carrier(rest, body)


def check_rig(rig: str, bone_map: str, options: TakeOptions) -> None:
    """Open ``rig`` in a fresh scene and raise KeyliftError when a take can't go onto it, before hours of work do."""
    if rig == SKELETON:
        return
    # A user's own map first: it is read faster than the rig.
    own_map = bone_map if bone_map == "auto" else load_bone_map(bone_map)
    check_armature(open_rig(rig), own_map, options)


def _opened(rig: str, bone_map: str, pose: PoseTrack) -> tuple[bpy.types.Object, str | BoneMap]:
    """The rig in a fresh scene, and by which bone map it is keyed."""
    if rig != SKELETON:
        return open_rig(rig), bone_map
    fresh_scene()
    rest, own_map = own_skeleton(pose)
    return make_armature(rest), own_map


def set_frame_rate(scene: bpy.types.Scene, fps: float) -> float:
    """Give the scene a frame rate, 29.97 and the like included, and return the one it took."""
    whole = min(MAX_FPS, max(1, round(fps)))
    scene.render.fps = whole
    scene.render.fps_base = whole / fps if abs(whole - fps) > 1e-4 else 1.0
    return scene.render.fps / scene.render.fps_base


def _take_name(pose: PoseTrack, outputs: list[Path]) -> str:
    return outputs[0].stem if outputs else Path(pose.source.name).stem or "take"


def _stoppable(progress: Progress) -> Progress:
    """Ask whether to stop, without counting: the bones are a part of one step."""
    return lambda _done, _total: progress(1, None)


def _controls(
    armature_object: bpy.types.Object, rest: RestPose, mapping: BoneMap, options: RetargetOptions
) -> tuple[RestPose, PropertyValues, list[str]]:
    """What is to be solved and keyed: of a control rig its controls, and what its switches must say."""
    if mapping.controls is None:
        if options.limbs == "ik":
            missing = (
                f"'{rest.name}' has no IK controls that its bone map knows, so the limbs' own bones are keyed. "
                "Name the controls in a bone map (see docs/file-formats.md), or leave out the choice of IK."
            )
            return rest, {}, [missing]
        return rest, {}, []
    controls, warnings = read_controls(armature_object, rest, mapping, options.limbs)
    return controls, property_values(armature_object, mapping.controls, options.limbs), warnings


def _constrained(armature_object: bpy.types.Object, rest: RestPose, motion: BoneMotion) -> list[str]:
    held = [
        rest.names[bone]
        for bone in motion.keyed
        if any(
            not constraint.mute and constraint.influence > 0
            for constraint in armature_object.pose.bones[rest.names[bone]].constraints
        )
    ]
    if not held:
        return []
    return [
        f"{len(held)} keyed bones of '{armature_object.name}' have constraints, which may overrule the keys: "
        f"{', '.join(held[:5])}{' ...' if len(held) > 5 else ''}."
    ]
