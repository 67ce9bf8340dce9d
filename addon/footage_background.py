"""A Blender camera that sees what the filming camera saw, with the footage behind the scene."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
from mathutils import Matrix

from ..core.errors import FootageError
from ..core.picture_sequence import sequence_at
from ..core.tracks import PoseTrack

CAMERA_NAME = "Footage camera"
_SENSOR_WIDTH_MM = 36.0
# Camera space is y down and z forward; a Blender camera looks down its own -z with +y up.
_CAMERA_FROM_BLENDER_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])
_WORTH_AN_ASPECT = 1e-3


def add_footage_camera(pose: PoseTrack, world_scale: float) -> bpy.types.Object:
    """Make the scene's camera match the one of ``pose``: lens, place, and the size of the picture.

    world_scale: how much larger the scene is than the pose's world (``BoneMotion.world_scale``)
    """
    scene = bpy.context.scene
    lens = pose.camera
    data = bpy.data.cameras.new(CAMERA_NAME)
    camera = bpy.data.objects.new(CAMERA_NAME, data)
    scene.collection.objects.link(camera)
    width, height = lens.size_px
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = _SENSOR_WIDTH_MM
    data.lens = lens.focal_px[0] / width * _SENSOR_WIDTH_MM
    # Shifts count in widths of the picture.
    data.shift_x = (width / 2 - lens.centre_px[0]) / width
    data.shift_y = (lens.centre_px[1] - height / 2) / width * lens.focal_px[0] / lens.focal_px[1]
    data.clip_end = max(data.clip_end, 1000.0 * world_scale)

    world_from_camera = pose.world_from_camera.copy()
    world_from_camera[:3, 3] *= world_scale
    camera.matrix_world = Matrix(world_from_camera @ _CAMERA_FROM_BLENDER_CAMERA)
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = width, height
    scene.render.resolution_percentage = 100
    aspect = lens.focal_px[0] / lens.focal_px[1]
    tall_pixels = abs(aspect - 1) > _WORTH_AN_ASPECT
    scene.render.pixel_aspect_x = max(1.0, 1 / aspect) if tall_pixels else 1.0
    scene.render.pixel_aspect_y = max(1.0, aspect) if tall_pixels else 1.0
    return camera


def show_footage(camera: bpy.types.Object, footage: Path, first_index: int) -> bool:
    """Put the footage behind what ``camera`` sees. False when Blender can't read it; the animation is whole still.

    first_index: number of the picture, counted from 0, that belongs to frame 1 of the scene
    """
    picture = _first_picture(footage)
    if picture is None:
        return False
    try:
        clip = bpy.data.movieclips.load(str(picture.resolve()))
    except RuntimeError:
        return False
    # What Blender can't decode it loads all the same, as a film without pictures.
    if clip.frame_duration < 1:
        bpy.data.movieclips.remove(clip)
        return False
    clip.name = footage.name
    clip.frame_start = 1
    clip.frame_offset = first_index
    data = camera.data
    data.show_background_images = True
    background = data.background_images.new()
    background.source = "MOVIE_CLIP"
    background.clip = clip
    background.alpha = 1.0
    background.frame_method = "FIT"
    background.clip_user.use_render_undistorted = False
    return True


def _first_picture(footage: Path) -> Path | None:
    """The file to give Blender: the film itself, or the first picture of a sequence, from which it finds the rest."""
    # As in core.footage: a real file may have # or % in its name.
    if footage.is_file():
        return footage
    try:
        pictures = sequence_at(footage)
    except FootageError:
        return None
    return pictures[0] if pictures else None
