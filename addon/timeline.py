"""Where on a scene's timeline the frames of its footage lie."""

from __future__ import annotations

from typing import Any

import bpy

from .footage_choice import FIGURE_MARK


def place_on_timeline(scene: bpy.types.Scene, clip: Any, pose: Any, match: str) -> tuple[float, float]:
    """Frames a second that keys are written for, and the frame of the scene that the pose's first frame belongs to.

    match: FOOTAGE gives the scene the footage's range and the rate that Blender shows it at, SCENE leaves it as it is,
           AUTO leaves it as it is when something in it is animated already
    """
    from .clip_frames import shown_rate
    from .takes import set_frame_rate

    first = _first_scene_frame(clip, pose)
    if match == "FOOTAGE" or (match == "AUTO" and not is_animated(scene)):
        rate = None if clip is None else shown_rate(clip, pose.time_s, pose.frame_index)
        fps = set_frame_rate(scene, rate or pose.fps)
        last = first + (pose.time_s[-1] - pose.time_s[0]) * fps
        scene.frame_start, scene.frame_end = max(0, round(first)), max(1, round(float(last)))
        return fps, first
    return scene.render.fps / scene.render.fps_base, first


def _first_scene_frame(clip: Any, pose: Any) -> float:
    """The frame of the scene at which the pose's first picture begins in the clip."""
    if clip is None:
        return 1.0
    from .clip_frames import first_clip_frame, scene_frame_at

    return float(scene_frame_at(clip, first_clip_frame(clip, pose.time_s, pose.frame_index)))


def is_animated(scene: bpy.types.Scene) -> bool:
    """Whether something in the scene moves that Keylift did not make."""
    own = {take.action for take in scene.keylift.takes if take.action is not None}  # type: ignore[attr-defined]
    for candidate in scene.objects:
        data = candidate.animation_data
        if data is None or FIGURE_MARK in candidate:
            continue
        if len(data.nla_tracks) or (data.action is not None and data.action not in own):
            return True
    return False
