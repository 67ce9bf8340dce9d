"""What the worker found becomes part of a scene: keypoints on the footage, a figure, keyframes, a take in the list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import FileFormatError, RigError
from .timeline import place_on_timeline

_ENDING_OF_POSES = ".pose.npz"
# Kept on the clip: which detection its keypoints are of.
DETECTION_MARK = "keylift_detection"


@contextmanager
def working_in(scene: bpy.types.Scene) -> Iterator[None]:
    """Make ``scene`` the context's scene, whichever one the window shows meanwhile."""
    if bpy.context.scene == scene:
        yield
        return
    with bpy.context.temp_override(scene=scene, view_layer=scene.view_layers[0]):
        yield


def show_keypoints(clip: bpy.types.MovieClip, files: Sequence[Path], detection: str) -> list[str]:
    """Make what was detected tracks of the clip, a person each. Returns what is worth telling."""
    from ..core.track_files import read_keypoints
    from .clip_keypoints import show_person, write_everybody

    told = write_everybody(clip, [read_keypoints(file) for file in files])
    show_person(clip, 1)
    clip[DETECTION_MARK] = detection
    return [*told, f"{len(files)} people were found; choose one under Detect."] if len(files) > 1 else told


def add_take(
    scene: bpy.types.Scene,
    clip: bpy.types.MovieClip | None,
    pose_file: Path,
    person: int,
    name: str,
    motion_file: Path | None = None,
) -> Any:
    """A new entry of the scene's list of takes, chosen. motion_file: the camera's way that it was lifted with"""
    settings = scene.keylift  # type: ignore[attr-defined]
    take = settings.takes.add()
    take.name = _free_name(name, {other.name for other in settings.takes[:-1]})
    take.clip, take.person, take.pose_file = clip, person, str(pose_file)
    take.motion_file = "" if motion_file is None else str(motion_file)
    settings.active_take = len(settings.takes) - 1
    return take


def pose_of(take: Any) -> Any:
    """The take's pose. Raises FileFormatError that says what to do when it is gone."""
    from ..core.track_files import read_pose

    path = Path(bpy.path.abspath(take.pose_file))
    if not path.is_file():
        raise FileFormatError(
            f"The pose of take '{take.name}' is no longer in the cache. Lift its footage again; keypoints and "
            "corrections are kept with the clip."
        )
    return read_pose(path)


def show_take(scene: bpy.types.Scene, take: Any, armature: bpy.types.Object | None) -> list[str]:
    """Put a take into the scene: onto the armature, or onto a figure, seen by a camera that matches the footage.

    Returns what was done and what is worth telling, the summary first. Raises KeyliftError; the scene is then as it
    was but for what Blender's undo takes back.
    """
    from ..core.doubtful_frames import doubtful_frames

    settings = scene.keylift  # type: ignore[attr-defined]
    pose = pose_of(take)
    take.frames = len(pose.time_s)
    take.doubtful = int(doubtful_frames(pose.confidence).sum())
    told: list[str] = []
    with working_in(scene):
        fps, first_frame = place_on_timeline(scene, take.clip, pose, settings.match_scene)
        scale = 1.0
        if armature is not None:
            summary, scale = _onto_armature(take, pose, armature, settings, fps, first_frame)
            told += [f"Keyed {summary}", *summary.warnings]
        if armature is None or settings.show_figure or take.figure is not None:
            # An armature has markers of its own.
            _onto_figure(take, pose, scene, fps, first_frame, markers=armature is None)
            told = told or [f"{take.frames} frames lifted, shown on a figure. Choose an armature to retarget them."]
        if settings.match_camera:
            told += _seen_by_camera(take, pose, scene, fps, first_frame, scale)
    return told


def retarget(scene: bpy.types.Scene, take: Any, armature: bpy.types.Object) -> list[str]:
    """Key a take onto an armature, by the scene's choices. Returns the summary, then what is worth telling."""
    settings = scene.keylift  # type: ignore[attr-defined]
    pose = pose_of(take)
    with working_in(scene):
        fps, first_frame = place_on_timeline(scene, take.clip, pose, "SCENE")
        summary, _ = _onto_armature(take, pose, armature, settings, fps, first_frame)
    return [f"Keyed {summary}", *summary.warnings]


def _onto_armature(
    take: Any, pose: Any, armature: bpy.types.Object, settings: Any, fps: float, first_frame: float
) -> tuple[Any, float]:
    from .retarget_choices import take_options
    from .rig_list import edited_bone_map
    from .takes import bake_take

    if armature.mode == "EDIT":
        raise RigError(f"'{armature.name}' is in Edit Mode. Leave it (Tab) and press Retarget.")
    summary, motion = bake_take(
        pose,
        armature,
        bone_map=edited_bone_map(settings, armature) or settings.bone_map,
        name=take.name,
        fps=fps,
        first_frame=first_frame,
        options=take_options(settings),
    )
    take.armature = bpy.data.objects.get(summary.armature, armature)
    take.action = bpy.data.actions.get(summary.action)
    return summary, motion.world_scale


def _onto_figure(take: Any, pose: Any, scene: bpy.types.Scene, fps: float, first_frame: float, markers: bool) -> None:
    from . import preview_figure

    if take.figure is not None and take.figure.name in scene.objects:
        preview_figure.update_figure(take.figure, pose, fps=fps, first_frame=first_frame, markers=markers)
    else:
        take.figure = preview_figure.make_figure(
            pose, name=f"{take.name} figure", fps=fps, first_frame=first_frame, scene=scene, markers=markers
        )


def _seen_by_camera(
    take: Any, pose: Any, scene: bpy.types.Scene, fps: float, first_frame: float, scale: float
) -> list[str]:
    """A camera on the footage; what is worth telling of it."""
    from .clip_lens import read_camera_path
    from .footage_background import camera_on_footage

    motion = Path(bpy.path.abspath(take.motion_file)) if take.motion_file else None
    view = camera_on_footage(
        scene,
        pose,
        take.clip,
        fps=fps,
        first_frame=first_frame,
        world_scale=scale,
        person=take.person,
        motion=read_camera_path(motion) if motion is not None and motion.is_file() else None,
    )
    return list(view.notes)


def _free_name(wanted: str, taken: set[str]) -> str:
    name, number = wanted, 1
    while name in taken:
        number += 1
        name = f"{wanted} {number}"
    return name
