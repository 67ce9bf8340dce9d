"""A Blender camera that sees what the filming camera saw, with the footage behind the scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..core.camera import Camera
from ..core.errors import FootageError
from ..core.picture_sequence import sequence_at
from ..core.rotations import continuous, from_matrix
from ..core.tracks import PoseTrack
from .action_writing import AnimatedCurves, drop_action
from .clip_frames import clip_frame_at, clip_frames, clip_path, first_clip_frame, picture_turn, shown_rate
from .clip_lens import BLENDER_CAMERA_FROM_CAMERA, CameraPath, is_lens_of
from .footage_choice import BACKGROUND_MARK, FIGURE_MARK
from .keyframe_writing import frame_numbers
from .own_collection import own_collection

CAMERA_NAME = "Footage camera"
_OWN_CAMERA_NAME = "Keylift camera"
# On cameras that Keylift made for footage: which person's pose they match. Poses of several people have each its world.
_PERSON_MARK = "keylift_camera_of_person"
_SENSOR_WIDTH_MM = 36.0
_WORTH_AN_ASPECT = 1e-3
_WORTH_A_BEND_PX = 1.0
# Frames that footage and motion may be apart at the end of a take, and rates that are the same but for rounding.
_APART_FRAMES, _SAME_RATE = 0.5, 1e-3
# Where the camera of a new file stands, which nobody put there.
_FACTORY_PLACE = (7.358891, -6.925791, 4.958309)


@dataclass(frozen=True, eq=False)
class FootageView:
    """A camera on the footage. notes: what is worth telling"""

    camera: bpy.types.Object
    notes: tuple[str, ...]


def camera_on_footage(
    scene: bpy.types.Scene,
    pose: PoseTrack,
    footage: bpy.types.MovieClip | Path | None,
    *,
    fps: float,
    first_frame: float,
    world_scale: float = 1.0,
    person: int = 1,
    motion: CameraPath | None = None,
    takes_over: str = "AUTO",
) -> FootageView:
    """A camera in the scene that sees ``pose`` where the footage shows the person, with the footage behind it.

    footage:     a clip of this file, or where a film or a picture sequence lies; None = no background
    fps:         frames a second that the scene's keys are written for
    first_frame: frame of the scene that the pose's first one belongs to
    world_scale: how much larger the scene is than the pose's world (``BoneMotion.world_scale``)
    person:      whose pose it is; each has a camera of its own
    motion:      the camera's way that the pose was lifted with; None = it stood still
    takes_over:  TAKE makes it the scene's camera, and gives the scene the footage's picture size; LEAVE leaves both as
                 they are; AUTO takes over from no camera, from another of Keylift's and from the one of a new file

    Called again for the same footage and person, it changes the camera that it made. Other cameras stay as they are.
    """
    camera = own_camera(scene, footage, person) or _new_camera(scene, footage, person)
    notes: list[str] = []
    taken = takes_over == "TAKE" or (takes_over == "AUTO" and _may_take_over(scene, camera))
    if taken:
        take_over(scene, camera, pose.camera)
    elif scene.camera is not None:
        notes.append(
            f"'{scene.camera.name}' is still the scene's camera; look through '{camera.name}' for the footage."
        )
    _set_lens(camera.data, pose.camera, world_scale)
    if not _sees_square_pixels_as_filmed(scene, pose.camera):
        notes.append("The scene's pixels have another shape than the footage's, so the figure is off at the edges.")
    frames, places = _way(pose, motion, fps, first_frame)
    _place(camera, frames, places, world_scale)
    if footage is not None:
        notes += _with_footage(scene, camera, pose, footage, fps, first_frame)
    return FootageView(camera, tuple(notes))


def add_footage_camera(pose: PoseTrack, world_scale: float) -> bpy.types.Object:
    """Make the camera of the context's scene match the one of ``pose``: lens, place, and the size of the picture.

    world_scale: how much larger the scene is than the pose's world (``BoneMotion.world_scale``)
    """
    scene = bpy.context.scene
    camera = bpy.data.objects.new(CAMERA_NAME, bpy.data.cameras.new(CAMERA_NAME))
    scene.collection.objects.link(camera)
    _set_lens(camera.data, pose.camera, world_scale)
    _place(camera, np.zeros(1), pose.world_from_camera[None], world_scale)
    take_over(scene, camera, pose.camera)
    return camera


def show_footage(
    camera: bpy.types.Object, footage: Path | bpy.types.MovieClip, pose: PoseTrack, first_frame: float = 1.0
) -> bool:
    """Put the footage behind what ``camera`` sees. False when Blender can't read it; the animation is whole still.

    first_frame: frame of the scene that the pose's first one belongs to
    """
    return _put_behind(camera, footage, pose, first_frame) is not None


def film_rate(footage: Path, pose: PoseTrack) -> float | None:
    """Frames a second at which a scene keeps step with the footage of ``pose``; None when Blender can't read it."""
    picture = _first_picture(footage)
    clip = None if picture is None else _opened(picture.resolve())
    if clip is None:
        return None
    try:
        return shown_rate(clip, pose.time_s, pose.frame_index)
    finally:
        bpy.data.movieclips.remove(clip)


def rate_notes(name: str, rate: float, pose: PoseTrack) -> list[str]:
    """What is worth telling where a scene has to run at another ``rate`` than its footage ``name`` has pictures."""
    if abs(rate / pose.fps - 1) < _SAME_RATE:
        return []
    return [
        f"'{name}' has about {pose.fps:.4g} pictures a second, and Blender shows it at {rate:.4g} frames a second. The "
        "scene got that rate, so that footage and motion keep step."
    ]


def take_over(scene: bpy.types.Scene, camera: bpy.types.Object, lens: Camera) -> None:
    """Make ``camera`` the scene's, and the picture that of ``lens``."""
    scene.camera = camera
    scene.render.resolution_x, scene.render.resolution_y = lens.size_px
    scene.render.resolution_percentage = 100
    aspect = lens.focal_px[0] / lens.focal_px[1]
    tall_pixels = abs(aspect - 1) > _WORTH_AN_ASPECT
    scene.render.pixel_aspect_x = max(1.0, 1 / aspect) if tall_pixels else 1.0
    scene.render.pixel_aspect_y = max(1.0, aspect) if tall_pixels else 1.0


def look_through(context: bpy.types.Context, camera: bpy.types.Object) -> bool:
    """Let a 3D view look through ``camera``: the one the mouse is in, else the largest. False where there is none.

    The scene's camera stays the one it is; a view may look through another.
    """
    area = context.area if context.area is not None and context.area.type == "VIEW_3D" else None
    if area is None and context.window is not None:
        views = [candidate for candidate in context.window.screen.areas if candidate.type == "VIEW_3D"]
        area = max(views, key=lambda view: view.width * view.height, default=None)
    if area is None:
        return False
    view: Any = area.spaces.active
    own = context.scene.camera != camera
    view.use_local_camera = own
    if own:
        view.camera = camera
    view.region_3d.view_perspective = "CAMERA"
    return True


# ---- The camera -----------------------------------------------------------------------------------------------------


def _name_of(footage: bpy.types.MovieClip | Path | None) -> str:
    return "" if footage is None else footage.name


def own_camera(
    scene: bpy.types.Scene, footage: bpy.types.MovieClip | Path | None, person: int
) -> bpy.types.Object | None:
    """The camera that was made for this footage and person before. A clip is known again whatever it is called now."""
    mark = footage if isinstance(footage, bpy.types.MovieClip) else str(footage)
    for candidate in scene.objects:
        ours = candidate.type == "CAMERA" and candidate.get(_PERSON_MARK) == person and candidate.library is None
        if ours and candidate.get(BACKGROUND_MARK) == mark:
            return candidate
    return None


def _new_camera(scene: bpy.types.Scene, footage: bpy.types.MovieClip | Path | None, person: int) -> bpy.types.Object:
    name = f"{_OWN_CAMERA_NAME}: {_name_of(footage)}" if footage is not None else _OWN_CAMERA_NAME
    name = name if person == 1 else f"{name} (person {person})"
    camera = bpy.data.objects.new(name, bpy.data.cameras.new(name))
    camera[_PERSON_MARK] = person
    camera[BACKGROUND_MARK] = footage if isinstance(footage, bpy.types.MovieClip) else str(footage)
    # A moving one is no animation of the artist's.
    camera[FIGURE_MARK] = True
    own_collection(scene).objects.link(camera)
    return camera


def _may_take_over(scene: bpy.types.Scene, camera: bpy.types.Object) -> bool:
    present = scene.camera
    if present is None or present == camera or _PERSON_MARK in present:
        return True
    untouched = present.animation_data is None and present.parent is None and not len(present.constraints)
    return untouched and np.allclose(present.location, _FACTORY_PLACE, atol=1e-4)


def _set_lens(data: Any, lens: Camera, world_scale: float) -> None:
    width, height = lens.size_px
    data.type = "PERSP"
    data.sensor_fit = "HORIZONTAL"
    data.sensor_width = _SENSOR_WIDTH_MM
    data.lens = lens.focal_px[0] / width * _SENSOR_WIDTH_MM
    # Shifts count in widths of the picture.
    data.shift_x = (width / 2 - lens.centre_px[0]) / width
    data.shift_y = (lens.centre_px[1] - height / 2) / width * lens.focal_px[0] / lens.focal_px[1]
    data.clip_end = max(data.clip_end, 1000.0 * world_scale)


def _sees_square_pixels_as_filmed(scene: bpy.types.Scene, lens: Camera) -> bool:
    shape = scene.render.pixel_aspect_y / scene.render.pixel_aspect_x
    return abs(shape * lens.focal_px[1] / lens.focal_px[0] - 1) < 2 * _WORTH_AN_ASPECT


def _way(pose: PoseTrack, motion: CameraPath | None, fps: float, first_frame: float) -> tuple[np.ndarray, np.ndarray]:
    """(N,) frames of the scene and (N, 4, 4) where in the pose's world the camera then is."""
    if motion is None:
        return np.array([first_frame]), pose.world_from_camera[None]
    frames = frame_numbers(pose, fps, first_frame)
    start_s, end_s = pose.time_s[0], pose.time_s[-1]
    # The footage goes on before and after the pose.
    before_s = motion.time_s[motion.time_s < start_s - 0.5 / pose.fps]
    after_s = motion.time_s[motion.time_s > end_s + 0.5 / pose.fps]
    times_s = np.concatenate([before_s, pose.time_s, after_s])
    frames = np.concatenate([first_frame + (before_s - start_s) * fps, frames, frames[-1] + (after_s - end_s) * fps])
    # The pose is in the space of its first frame's camera, whatever has become of the world since it was lifted.
    start_from_world = np.linalg.inv(motion.at(pose.time_s[:1])[0])
    return frames, pose.world_from_camera @ start_from_world @ motion.at(times_s)


def _place(camera: bpy.types.Object, frames: np.ndarray, world_from_camera: np.ndarray, world_scale: float) -> None:
    """Put the camera where it is at (N,) ``frames``, by keys if there are several."""
    drop_action(camera)
    places = world_from_camera @ BLENDER_CAMERA_FROM_CAMERA
    places[:, :3, 3] *= world_scale
    if len(frames) == 1:
        camera.rotation_mode = "XYZ"
        camera.matrix_world = Matrix(places[0])
        return
    camera.rotation_mode = "QUATERNION"
    camera.matrix_world = Matrix(places[0])
    curves = AnimatedCurves(bpy.data.actions.new(camera.name), camera)
    channels = {"location": places[:, :3, 3], "rotation_quaternion": continuous(from_matrix(places[:, :3, :3]))}
    for path, values in channels.items():
        for component in range(values.shape[1]):
            curves.write(path, component, "Object Transforms", frames, values[:, component])
    curves.assign()


# ---- The footage behind it ------------------------------------------------------------------------------------------


def _with_footage(
    scene: bpy.types.Scene,
    camera: bpy.types.Object,
    pose: PoseTrack,
    footage: bpy.types.MovieClip | Path,
    fps: float,
    first_frame: float,
) -> list[str]:
    """Show the footage, and say what of it can't be as it should."""
    background = _put_behind(camera, footage, pose, first_frame)
    if background is None:
        return [f"Blender can't show '{_name_of(footage)}', so the camera has no footage behind it."]
    shown = background.clip
    notes = []
    turned = _turn_upright(background, shown, pose.camera)
    if not turned:
        background.frame_method = _frame_method(scene, pose.camera)
    # Blender's camera has no distortion. The clip's own camera is where Blender knows of one that it can take out of
    # the picture; of a lens from elsewhere it knows nothing, and the footage stays as it was filmed.
    if _largest_bend_px(pose.camera) > _WORTH_A_BEND_PX:
        known = not turned and is_lens_of(shown, pose.camera)
        background.clip_user.use_render_undistorted = known
        if not known:
            notes.append(
                f"The lens bends the picture by up to {_largest_bend_px(pose.camera):.0f} pixels, which Blender can't "
                f"undo for '{_name_of(footage)}': the figure is off by as much at the edges. Set the lens in the clip."
            )
    rate = shown_rate(shown, pose.time_s, pose.frame_index) or pose.fps
    if abs(fps / rate - 1) * rate * (pose.time_s[-1] - pose.time_s[0]) > _APART_FRAMES:
        notes.append(
            f"The scene has {fps:.5g} frames a second, and Blender shows the footage at {rate:.5g}: a picture each "
            "frame, so the footage behind the scene runs away from the motion. Give the scene the footage's rate."
        )
    else:
        notes += rate_notes(_name_of(footage), rate, pose)
    return notes + _unseen_end(shown, pose)


def _unseen_end(clip: bpy.types.MovieClip, pose: PoseTrack) -> list[str]:
    """Blender shows a film by its stamps and no longer than the file claims; joined recordings start theirs again."""
    last = int(clip_frames(clip, pose.time_s, pose.frame_index)[-1]) + clip.frame_offset
    if clip.source != "MOVIE" or last <= clip.frame_duration + max(clip.fps, 1):
        return []
    return [
        f"Blender shows only the first {clip.frame_duration} frames of '{clip_path(clip).name}', of {last}: its time "
        "stamps start again, or its length is wrong. The motion is complete. Convert the film to see all of it."
    ]


def _put_behind(
    camera: bpy.types.Object, footage: Path | bpy.types.MovieClip, pose: PoseTrack, first_frame: float
) -> Any:
    """The camera's background image, showing the footage; None when Blender can't read it."""
    shown = _clip_showing(camera, footage, pose, round(first_frame))
    if shown is None:
        return None
    camera.data.show_background_images = True
    background = _background_of(camera.data, shown)
    background.show_background_image = True
    background.source = "MOVIE_CLIP"
    background.alpha = 1.0
    background.display_depth = "BACK"
    background.frame_method = "FIT"
    background.clip_user.use_render_undistorted = False
    return background


def _clip_showing(
    camera: bpy.types.Object, footage: Path | bpy.types.MovieClip, pose: PoseTrack, first_frame: int
) -> bpy.types.MovieClip | None:
    """A clip that shows the pose's first picture at ``first_frame``. An artist's clip stays where it is."""
    if isinstance(footage, bpy.types.MovieClip):
        if not _shows_something(footage):
            return None
        if clip_frame_at(footage, first_frame) == first_clip_frame(footage, pose.time_s, pose.frame_index):
            return footage
        picture, name = clip_path(footage), f"{footage.name} behind {camera.name}"
    else:
        found = _first_picture(footage)
        if found is None:
            return None
        picture, name = found.resolve(), footage.name
    clip = _own_clip(camera, picture) or _opened(picture)
    if clip is None:
        return None
    clip.name = name
    clip[BACKGROUND_MARK] = camera.name
    begins = first_clip_frame(clip, pose.time_s, pose.frame_index) - 1 + clip.frame_offset
    clip.frame_start, clip.frame_offset = first_frame, begins
    if isinstance(footage, bpy.types.MovieClip):
        _copy_lens(footage, clip)
    return clip


def _own_clip(camera: bpy.types.Object, picture: Path) -> bpy.types.MovieClip | None:
    """The clip that was opened for this camera's background before."""
    for background in camera.data.background_images:
        clip = background.clip
        if clip is not None and BACKGROUND_MARK in clip and clip_path(clip) == picture:
            return clip
    return None


def _opened(picture: Path) -> bpy.types.MovieClip | None:
    try:
        clip = bpy.data.movieclips.load(str(picture))
    except RuntimeError:
        return None
    if not _shows_something(clip):
        bpy.data.movieclips.remove(clip)
        return None
    return clip


def _shows_something(clip: bpy.types.MovieClip) -> bool:
    """What Blender can't decode it opens all the same, as a film without pictures."""
    return clip.frame_duration > 0


def _copy_lens(source: bpy.types.MovieClip, target: bpy.types.MovieClip) -> None:
    """So that Blender takes the same distortion out of both."""
    lens = source.tracking.camera
    for name, described in lens.bl_rna.properties.items():
        # The rest are other words for these.
        if not described.is_readonly and name not in ("focal_length", "principal_point_pixels"):
            setattr(target.tracking.camera, name, getattr(lens, name))


def _background_of(data: Any, clip: bpy.types.MovieClip) -> Any:
    """The camera's background with ``clip``, in place of the one with the same footage; an artist's others stay."""
    for background in data.background_images:
        before = background.clip
        if before is not None and (BACKGROUND_MARK in before or clip_path(before) == clip_path(clip)):
            background.clip = clip
            if before != clip and BACKGROUND_MARK in before and not before.users:
                bpy.data.movieclips.remove(before)
            return background
    background = data.background_images.new()
    background.source = "MOVIE_CLIP"
    background.clip = clip
    return background


def _frame_method(scene: bpy.types.Scene, lens: Camera) -> str:
    """How to lay the footage into the camera's frame so that its width is the frame's: that is what the lens fits."""
    render = scene.render
    width = render.resolution_x * render.pixel_aspect_x
    height = render.resolution_y * render.pixel_aspect_y
    frame, picture = width / height, lens.size_px[0] / lens.size_px[1]
    if abs(frame / picture - 1) < _WORTH_AN_ASPECT:
        # Whatever shape Blender thinks that the footage's pixels have.
        return "STRETCH"
    return "FIT" if picture > frame else "CROP"


def _turn_upright(background: Any, clip: bpy.types.MovieClip, lens: Camera) -> bool:
    """Turn footage that Blender shows lying on its side (before 4.4). Whether it had to be turned."""
    (a, b, _, _), _ = picture_turn(clip, lens.size_px)
    background.rotation = float(np.arctan2(b, a))
    lies = a == 0
    width, height = lens.size_px
    background.scale = height / width if lies else 1.0
    if lies:
        background.frame_method = "FIT"
    return lies


def _largest_bend_px(lens: Camera) -> float:
    """How far the distortion moves what would be at the edge of the picture."""
    width, height = lens.size_px
    edge = np.array([(x * width, y * height) for x in (0, 0.5, 1) for y in (0, 0.5, 1)])
    rays = np.concatenate([(edge - lens.centre_px) / lens.focal_px, np.ones((len(edge), 1))], axis=-1)
    return float(np.linalg.norm(lens.project(rays) - edge, axis=-1).max())


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
