"""Which footage a scene's settings mean, and which armature."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import FootageError
from .capture_flow import FootageChoice

# Set on armatures that Keylift made to be looked at, which are nobody's characters.
FIGURE_MARK = "keylift_figure"
# On clips that were opened for a background alone, and on cameras: what footage.
BACKGROUND_MARK = "keylift_background_of"


def chosen_clip(context: bpy.types.Context, settings: Any) -> bpy.types.MovieClip | None:
    """The scene's footage: the one that was chosen, the one in the clip editor, or the only one there is."""
    if settings.clip is not None:
        return settings.clip
    in_editor = getattr(getattr(context, "space_data", None), "clip", None)
    if isinstance(in_editor, bpy.types.MovieClip):
        return in_editor
    # Keylift opens footage a second time where it has to lie elsewhere on the timeline behind a camera.
    clips = [clip for clip in bpy.data.movieclips if BACKGROUND_MARK not in clip]
    return clips[0] if len(clips) == 1 else None


def chosen_armature(context: bpy.types.Context, settings: Any) -> bpy.types.Object | None:
    """The character: the one that was chosen, the active one, or the only one in the scene. None = show a figure."""
    if settings.armature is not None:
        # A pointer keeps an object that was deleted from every scene.
        return settings.armature if settings.armature.name in settings.id_data.objects else None
    active = context.view_layer.objects.active if context.view_layer is not None else None
    if active is not None and is_character(active):
        return active
    characters = [candidate for candidate in settings.id_data.objects if is_character(candidate)]
    return characters[0] if len(characters) == 1 else None


def is_character(candidate: bpy.types.Object) -> bool:
    """Whether the object is an armature that somebody wants animated."""
    return candidate.type == "ARMATURE" and FIGURE_MARK not in candidate


def footage_of(clip: bpy.types.MovieClip, settings: Any) -> FootageChoice:
    """The clip's frames that the settings ask for. Raises FootageError when its files are gone."""
    path = Path(bpy.path.abspath(clip.filepath, library=clip.library))
    address, fps = str(path), None
    if clip.source == "SEQUENCE":
        address = str(path.with_name(_pattern(path.name)))
        render = settings.id_data.render
        fps = render.fps / render.fps_base
    first = last = None
    if settings.use_range:
        if settings.last < settings.first:
            raise FootageError("The frame range runs backwards. Make its first frame the smaller one.")
        first, last = settings.first - 1, settings.last - 1
    choice = FootageChoice(address, (path,), fps, first, last)
    choice.check()
    return choice


def _pattern(name: str) -> str:
    """``shot_0042.png`` -> ``shot_####.png``"""
    found = re.fullmatch(r"(.*?)(\d+)(\.[^.]*)?", name)
    if found is None:
        return name
    head, digits, ending = found.groups()
    return f"{head}{'#' * len(digits)}{ending or ''}"
