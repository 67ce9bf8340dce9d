"""Lines between keypoints over the footage, coloured by how sure the detector was, with the people's numbers."""

from __future__ import annotations

import math
from typing import Any

import bpy

from ..core.errors import KeyliftError

_LINE_PX, _RING_PX = 2.0, 7.0
_RING_CORNERS = 12
_CORRECTED = (1.0, 1.0, 1.0, 1.0)
_NUMBER_PX = 22
_handlers: list[Any] = []


def _draw() -> None:
    """Called by Blender after it has drawn the footage and the tracks of a clip editor."""
    context = bpy.context
    space, settings = context.space_data, getattr(context.scene, "keylift", None)
    if settings is None or not settings.show_lines or space.clip is None or space.view != "CLIP":
        return
    from .clip_keypoints import people

    for person in people(space.clip):
        try:
            _draw_person(context, space.clip, person, person == settings.person)
        except KeyliftError:
            # Damaged keypoints are told by whoever is asked to use them; drawing must not fail.
            continue


def _draw_person(context: bpy.types.Context, clip: bpy.types.MovieClip, person: int, chosen: bool) -> None:
    import numpy as np

    from ..core.skeletons import MEDIAPIPE_33_LINES
    from .clip_frames import clip_frame_at
    from .clip_keypoints import MOVED_PX, confidence_colours, detection_of, tracks_of

    detection = detection_of(clip, person)
    frame = clip_frame_at(clip, context.space_data.clip_user.frame_current)
    row = detection.shown_at(frame)
    if row is None:
        return
    points: dict[int, tuple[float, float]] = {}
    corrected: list[int] = []
    to_region = context.region.view2d.view_to_region
    for point, track in enumerate(tracks_of(clip, person)):
        marker = track.markers.find_frame(frame, exact=False) if track is not None else None
        if marker is None or marker.mute:
            continue
        x, y = marker.co[0] + track.offset[0], marker.co[1] + track.offset[1]
        points[point] = to_region(x, y, clip=False)
        if detection.apart_px(np.array([x, y]), detection.co[row, point]) > MOVED_PX or marker.is_keyed:
            corrected.append(point)
    if not points:
        return
    alpha = 1.0 if chosen else 0.45
    sure = detection.track.confidence[detection.rows[row]].copy()
    sure[corrected] = 1.0
    colours = [(*colour, alpha) for colour in confidence_colours(sure)]
    ends, inks = [], []
    if detection.track.layout == "mediapipe33":
        for a, b in MEDIAPIPE_33_LINES:
            if a in points and b in points:
                ends += [points[a], points[b]]
                inks += [colours[a], colours[b]]
    for x, y in (points[point] for point in corrected):
        corners = [2 * math.pi * corner / _RING_CORNERS for corner in range(_RING_CORNERS + 1)]
        ring = [(x + _RING_PX * math.cos(angle), y + _RING_PX * math.sin(angle)) for angle in corners]
        for one, other in zip(ring, ring[1:], strict=False):
            ends += [one, other]
            inks += [_CORRECTED, _CORRECTED]
    _draw_lines(ends, inks)
    top = max(points.values(), key=lambda place: place[1])
    _draw_number(person, (top[0], top[1] + _NUMBER_PX), alpha)


def _draw_lines(ends: list[tuple[float, float]], inks: list[tuple[float, ...]]) -> None:
    import gpu
    from gpu_extras.batch import batch_for_shader

    if not ends:
        return
    shader = gpu.shader.from_builtin("POLYLINE_SMOOTH_COLOR")
    _, _, width, height = gpu.state.viewport_get()
    shader.bind()
    shader.uniform_float("viewportSize", (width, height))
    shader.uniform_float("lineWidth", _LINE_PX * bpy.context.preferences.system.ui_scale)
    gpu.state.blend_set("ALPHA")
    places = [(x, y, 0.0) for x, y in ends]
    batch_for_shader(shader, "LINES", {"pos": places, "color": inks}).draw(shader)
    gpu.state.blend_set("NONE")


def _draw_number(person: int, place: tuple[float, float], alpha: float) -> None:
    import blf

    font = 0
    blf.size(font, _NUMBER_PX * bpy.context.preferences.system.ui_scale)
    blf.enable(font, blf.SHADOW)
    blf.shadow(font, 3, 0.0, 0.0, 0.0, 0.9)
    blf.color(font, 1.0, 1.0, 1.0, alpha)
    blf.position(font, place[0], place[1], 0)
    blf.draw(font, str(person))
    blf.disable(font, blf.SHADOW)


def register_rest() -> None:
    """Draw, where there is something to draw on."""
    if not bpy.app.background:
        _handlers.append(bpy.types.SpaceClipEditor.draw_handler_add(_draw, (), "WINDOW", "POST_PIXEL"))


def unregister_rest() -> None:
    """Draw no more."""
    while _handlers:
        bpy.types.SpaceClipEditor.draw_handler_remove(_handlers.pop(), "WINDOW")


CLASSES: tuple[type, ...] = ()
