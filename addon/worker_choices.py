"""What the panel's settings mean for the worker, as files and options that it understands."""

from __future__ import annotations

import uuid
from math import degrees
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import KeyliftError, NobodyFoundError
from .capture_flow import CACHE_ADVICE, DetectChoice, LiftChoice, new_keypoints_file


def detect_choice(settings: Any) -> DetectChoice:
    """How people are to be found. Raises KeyliftError when a file of one's own is asked for and not named."""
    if settings.quality != "FILE":
        return DetectChoice(settings.quality, settings.repair)
    path = Path(bpy.path.abspath(settings.detector_file))
    if not path.is_file():
        raise KeyliftError("Choose the detector's model file, or another quality than File, under Detect.")
    return DetectChoice(str(path), settings.repair)


def lift_choice(context: bpy.types.Context, clip: bpy.types.MovieClip, cache: Path) -> LiftChoice:
    """How keypoints are to be lifted. Raises KeyliftError for a lens that can't be had."""
    from .clip_lens import lens_source, write_lens_files
    from .preferences import device

    settings = context.scene.keylift
    camera = motion = None
    notes: tuple[str, ...] = ()
    if settings.lens == "FILE":
        camera = Path(bpy.path.abspath(settings.lens_file))
        if not camera.is_file():
            raise KeyliftError("Choose the camera file (camera.toml), or another lens, under Footage.")
    elif settings.lens == "CLIP" or (settings.lens == "AUTO" and lens_source(clip).known):
        told = write_lens_files(clip, context.scene, cache / "poses", uuid.uuid4().hex)
        camera, motion, notes = told.camera, told.motion, told.notes
    if motion is not None and not settings.fit:
        raise KeyliftError("A moving camera needs the fit. Switch Fit on under Lift, or choose another lens.")
    tilted = settings.use_tilt and motion is None
    return LiftChoice(
        weights=settings.weights or "default",
        device=device(context),
        camera=camera,
        camera_motion=motion,
        estimate_lens=settings.lens == "ESTIMATE",
        camera_pitch=degrees(settings.pitch) if tilted else None,
        camera_roll=degrees(settings.roll) if tilted else None,
        height=settings.height if settings.use_height and settings.fit else None,
        fit=settings.fit,
        adapt=settings.adapt,
        repair=settings.repair,
        notes=notes,
    )


def writable_cache(context: bpy.types.Context) -> Path:
    """Where the worker's files go. Raises KeyliftError when nothing can be written there."""
    from ..core.output_files import check_writable
    from .preferences import cache_folder

    folder = cache_folder(context)
    check_writable(folder / "written-by-keylift", CACHE_ADVICE)
    return folder


def keypoints_file(clip: bpy.types.MovieClip, person: int, cache: Path) -> Path:
    """The clip's keypoints, corrections included, as a file for the worker."""
    from ..core.track_files import write_keypoints
    from .clip_keypoints import people, read_keypoints

    if person not in people(clip):
        raise NobodyFoundError(f"'{clip.name}' has no person {person}. Choose another under Detect.")
    file = new_keypoints_file(cache)
    write_keypoints(file, read_keypoints(clip, person))
    return file


def check_target(settings: Any, armature: bpy.types.Object | None) -> None:
    """Raise RigError now rather than after minutes of work when the take can't go onto the armature."""
    if armature is None:
        return
    from .retarget_choices import take_options
    from .rig_list import edited_bone_map
    from .takes import check_armature

    bone_map = edited_bone_map(settings, armature) or settings.bone_map
    check_armature(armature, bone_map, take_options(settings))
