"""The camera that matches the footage: one for each person, in step with the clip, and nobody else's touched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import av
import bpy
from bpy_extras.object_utils import world_to_camera_view

import keylift
from keylift.addon.clip_lens import CameraPath, clip_camera
from keylift.addon.footage_background import BACKGROUND_MARK, camera_on_footage, look_through, show_footage
from keylift.addon.timeline import is_animated
from keylift.core.camera import Camera
from keylift.core.tracks import PoseTrack
from rig_samples import empty_scene
from walker import camera_from_world, filmed, walk

FRAMES = 20
FPS = 24.0
SIZE_PX = (320, 240)
PICTURES = 40


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    return sequence(tmp_path / "shot")


def sequence(folder: Path, size_px: tuple[int, int] = SIZE_PX) -> Any:
    """A clip of pictures from number 1 on."""
    folder.mkdir()
    image = bpy.data.images.new("picture", *size_px)
    image.file_format, image.filepath_raw = "PNG", str(folder / "shot_0001.png")
    image.save()
    for number in range(2, PICTURES + 1):
        (folder / f"shot_{number:04d}.png").write_bytes((folder / "shot_0001.png").read_bytes())
    return bpy.data.movieclips.load(str(folder / "shot_0001.png"))


def walking(camera: Camera | None = None, first_index: int = 0) -> PoseTrack:
    pose, _ = filmed(walk(FRAMES, FPS), camera or Camera.guessed(SIZE_PX), camera_from_world())
    return replace(pose, frame_index=pose.frame_index + first_index, time_s=pose.time_s + first_index / FPS)


def matched(pose: PoseTrack, footage: Any, **options: Any) -> Any:
    options = {"fps": FPS, "first_frame": 1.0 + pose.frame_index[0], **options}
    return camera_on_footage(bpy.context.scene, pose, footage, **options)


def existing_camera() -> Any:
    """An artist's camera, that the scene is seen by."""
    camera = bpy.data.objects.new("Hero shot", bpy.data.cameras.new("Hero shot"))
    camera.location = (1, 2, 3)
    camera.data.lens = 85
    bpy.context.scene.collection.objects.link(camera)
    bpy.context.scene.camera = camera
    return camera


def shown_picture(camera: Any, frame: int) -> int:
    """Number of the picture, counted from 0, that is behind the camera at a frame of the scene."""
    clip = camera.data.background_images[0].clip
    return frame - clip.frame_start + clip.frame_offset


def seen_px(camera: Any, points: np.ndarray) -> np.ndarray:
    from mathutils import Vector

    bpy.context.view_layer.update()
    scene = bpy.context.scene
    views = [world_to_camera_view(scene, camera, Vector(point)) for point in points]
    return np.array([(view.x, 1 - view.y) for view in views]) * [scene.render.resolution_x, scene.render.resolution_y]


def settings_of(thing: Any) -> dict[str, Any]:
    """What of a data-block can be set, as text."""
    return {
        name: str(tuple(getattr(thing, name)) if getattr(described, "is_array", False) else getattr(thing, name))
        for name, described in thing.bl_rna.properties.items()
        if not described.is_readonly
    }


def test_a_scene_without_a_camera_gets_the_matching_one(clip: Any) -> None:
    pose = walking()
    view = matched(pose, clip)
    scene = bpy.context.scene
    assert scene.camera == view.camera and not view.notes
    assert view.camera.name == f"Keylift camera: {clip.name}"
    assert [collection.name for collection in view.camera.users_collection] == ["Keylift"]
    assert (scene.render.resolution_x, scene.render.resolution_y) == SIZE_PX
    wanted = pose.camera.project(pose.positions_m[3])
    assert np.abs(seen_px(view.camera, pose.positions_world_m()[3]) - wanted).max() < 0.02
    background = view.camera.data.background_images[0]
    assert background.clip == clip and view.camera.data.show_background_images
    assert not background.clip_user.use_render_undistorted and background.frame_method == "STRETCH"
    # A larger figure stands in a larger world.
    matched(pose, clip, world_scale=3.0)
    assert np.abs(seen_px(view.camera, pose.positions_world_m()[3] * 3) - wanted).max() < 0.02


def test_an_artists_camera_stays_as_it_is_unless_asked(clip: Any) -> None:
    hero, scene = existing_camera(), bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = 1920, 1080
    before = settings_of(hero), settings_of(hero.data), settings_of(scene.render)
    view = matched(walking(), clip)
    assert scene.camera == hero and (settings_of(hero), settings_of(hero.data), settings_of(scene.render)) == before
    assert len(view.notes) == 1 and "'Hero shot'" in view.notes[0]
    again = matched(walking(), clip, takes_over="TAKE")
    assert scene.camera == view.camera == again.camera and not again.notes
    assert (settings_of(hero), settings_of(hero.data)) == before[:2]
    assert scene.render.resolution_x == SIZE_PX[0]
    scene.camera = None
    matched(walking(), clip, takes_over="LEAVE")
    assert scene.camera is None


def test_the_camera_of_a_new_file_makes_way(tmp_path: Path) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=False)
    scene, clip = bpy.context.scene, sequence(tmp_path / "shot")
    start = scene.camera
    view = matched(walking(), clip)
    assert scene.camera == view.camera != start
    # Moved, it is somebody's.
    scene.camera = start
    start.location.x += 0.01
    assert matched(walking(), clip).notes and scene.camera == start


@pytest.mark.parametrize(
    ("resolution", "method"), [((1920, 1080), "CROP"), ((1080, 1920), "FIT"), ((640, 480), "STRETCH")]
)
def test_beside_another_picture_size_the_footage_keeps_its_width(
    clip: Any, resolution: tuple[int, int], method: str
) -> None:
    """Then what is seen lies over the footage, though the frame shows more or less of its height."""
    existing_camera()
    scene = bpy.context.scene
    scene.render.resolution_x, scene.render.resolution_y = resolution
    pose = walking()
    camera = matched(pose, clip).camera
    assert camera.data.background_images[0].frame_method == method
    width, height = resolution
    # The footage as wide as the frame, in its middle.
    size = width / SIZE_PX[0]
    wanted = pose.camera.project(pose.positions_m[3]) * size
    wanted[:, 1] += height / 2 - SIZE_PX[1] * size / 2
    assert np.abs(seen_px(camera, pose.positions_world_m()[3]) - wanted).max() < 0.1


def test_the_same_clip_and_person_change_the_same_camera(clip: Any) -> None:
    first = matched(walking(), clip).camera
    own = first.data.background_images.new()
    own.image = bpy.data.images.new("Notes", 8, 8)
    clip.name, first.name = "renamed", "also renamed"
    other_lens = Camera.guessed(SIZE_PX, 30.0)
    second = matched(walking(other_lens), clip).camera
    assert second == first and len(bpy.data.cameras) == 1
    assert len(first.data.background_images) == 2
    assert first.data.lens == pytest.approx(other_lens.focal_px[0] / SIZE_PX[0] * 36)
    bob = matched(walking(), clip, person=2).camera
    assert bob != first and bob.name.endswith("(person 2)") and bpy.context.scene.camera == bob
    other_clip = bpy.data.movieclips.load(clip.filepath)
    assert matched(walking(), other_clip).camera not in (first, bob)


def test_another_scene_has_a_camera_of_its_own(clip: Any) -> None:
    here = matched(walking(), clip).camera
    other = bpy.data.scenes.new("Other")
    there = camera_on_footage(other, walking(), clip, fps=FPS, first_frame=1.0).camera
    assert there != here and there.users_scene == (other,) and other.camera == there
    assert bpy.context.scene.camera == here


@pytest.mark.parametrize(
    ("frame_start", "frame_offset", "first_index"), [(1, 0, 0), (11, 0, 0), (11, 4, 6), (-5, 2, 7)]
)
def test_a_range_that_begins_later_shows_its_own_pictures(
    clip: Any, frame_start: int, frame_offset: int, first_index: int
) -> None:
    clip.frame_start, clip.frame_offset = frame_start, frame_offset
    first_frame = frame_start - frame_offset + first_index
    camera = matched(walking(first_index=first_index), clip, first_frame=first_frame).camera
    assert camera.data.background_images[0].clip == clip
    assert (clip.frame_start, clip.frame_offset) == (frame_start, frame_offset)
    assert shown_picture(camera, first_frame) == first_index


def test_a_pose_elsewhere_on_the_timeline_leaves_the_artists_clip_in_its_place(clip: Any) -> None:
    clip.tracking.camera.focal_length_pixels = 300.0
    clip.tracking.camera.k1 = -0.1
    pose = walking(clip_camera(clip), first_index=6)
    for first_frame in (101.0, 201.4, 201.4):
        camera = matched(pose, clip, first_frame=first_frame).camera
        shown = camera.data.background_images[0].clip
        assert shown_picture(camera, round(first_frame)) == 6
        assert shown != clip and BACKGROUND_MARK in shown
        assert (clip.frame_start, clip.frame_offset) == (1, 0)
        assert len(bpy.data.movieclips) == 2 and len(camera.data.background_images) == 1
        assert camera.data.background_images[0].clip_user.use_render_undistorted
    # Back in step, it is the clip itself again, and the other one is gone.
    camera = matched(pose, clip, first_frame=7).camera
    assert camera.data.background_images[0].clip == clip and len(bpy.data.movieclips) == 1


def test_footage_by_its_path(clip: Any) -> None:
    folder = Path(clip.filepath).parent
    bpy.data.movieclips.remove(clip)
    for first_frame in (1.0, 51.0):
        view = matched(walking(first_index=6), folder, first_frame=first_frame)
        assert not view.notes and len(bpy.data.movieclips) == 1 and len(bpy.data.cameras) == 1
        assert shown_picture(view.camera, round(first_frame)) == 6
    gone = matched(walking(), folder / "nowhere.mp4")
    assert len(gone.notes) == 1 and "'nowhere.mp4'" in gone.notes[0]
    assert not show_footage(gone.camera, folder / "nowhere.mp4", walking())


def test_distortion_is_taken_out_of_the_picture_where_blender_knows_of_it(clip: Any) -> None:
    clip.tracking.camera.focal_length_pixels = 300.0
    clip.tracking.camera.k1 = -0.2
    bent = clip_camera(clip)
    view = matched(walking(bent), clip)
    assert view.camera.data.background_images[0].clip_user.use_render_undistorted and not view.notes
    # A lens from a file, of which the clip says nothing.
    clip.tracking.camera.k1 = 0.0
    view = matched(walking(bent), clip)
    assert not view.camera.data.background_images[0].clip_user.use_render_undistorted
    assert len(view.notes) == 1 and "bends the picture" in view.notes[0]
    # None at all.
    view = matched(walking(), clip)
    assert not view.camera.data.background_images[0].clip_user.use_render_undistorted and not view.notes


def test_rates_that_differ_are_told(clip: Any) -> None:
    assert "24 frames" not in str(matched(walking(), clip).notes)
    (note,) = matched(walking(), clip, fps=30.0).notes
    assert "30 frames" in note and "24" in note


def path() -> CameraPath:
    frames = 30
    place = np.tile(np.eye(4), (frames, 1, 1))
    angle = np.linspace(0, 7, frames)
    place[:, 0, 0] = place[:, 1, 1] = np.cos(angle)
    place[:, 0, 1] = -np.sin(angle)
    place[:, 1, 0] = np.sin(angle)
    place[:, 2, 3] = np.arange(frames)
    return CameraPath(place, np.arange(frames) / FPS, np.arange(frames) + 1)


def test_a_moving_camera_is_keyed_and_a_still_one_is_not(clip: Any) -> None:
    pose = replace(walking(), world_from_camera=path().world_from_camera[0])
    camera = matched(pose, clip, motion=path()).camera
    scene = bpy.context.scene
    for frame in (1, 10, 30):
        scene.frame_set(frame)
        now = np.array(camera.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world)
        wanted = path().world_from_camera[frame - 1] @ np.diag([1, -1, -1, 1])
        assert np.abs(now - wanted).max() < 1e-5
    # Nor does it spin the long way round between two frames.
    for frame in range(1, 30):
        scene.frame_set(frame, subframe=0.5)
        now = np.array(camera.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world)
        wanted = path().at(np.array([(frame - 0.5) / FPS]))[0] @ np.diag([1, -1, -1, 1])
        assert np.abs(now - wanted).max() < 2e-2
    assert len(bpy.data.actions) == 1
    assert matched(pose, clip, motion=path()).camera == camera and len(bpy.data.actions) == 1
    still = walking()
    matched(still, clip)
    assert camera.animation_data.action is None and not len(bpy.data.actions)
    wanted = still.camera.project(still.positions_m[3])
    assert np.abs(seen_px(camera, still.positions_world_m()[3]) - wanted).max() < 0.02


def test_a_world_that_was_turned_since_is_still_the_poses_own(clip: Any) -> None:
    """The way counts from the pose's first frame: somebody may have set another floor after the lift."""
    turned = np.diag([-1.0, -1.0, 1.0, 1.0])
    pose = replace(walking(first_index=4), world_from_camera=turned @ path().world_from_camera[4])
    camera = matched(pose, clip, motion=path()).camera
    bpy.context.scene.frame_set(12)
    now = np.array(camera.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world)
    assert np.abs(now - turned @ path().world_from_camera[11] @ np.diag([1, -1, -1, 1])).max() < 1e-5


def test_our_moving_camera_is_no_animation_of_the_artists(clip: Any) -> None:
    keylift.register()
    try:
        matched(walking(), clip, motion=path())
        assert not is_animated(bpy.context.scene)
    finally:
        keylift.unregister()


def test_a_view_looks_through_the_camera(clip: Any) -> None:
    hero = existing_camera()
    camera = matched(walking(), clip).camera
    window = bpy.context.window_manager.windows[0]
    areas = [area for area in window.screen.areas if area.type == "VIEW_3D"]
    with bpy.context.temp_override(window=window):
        assert look_through(bpy.context, camera)
        space: Any = areas[0].spaces.active
        assert (space.use_local_camera, space.camera) == (True, camera)
        assert space.region_3d.view_perspective == "CAMERA"
        bpy.context.scene.camera = camera
        assert look_through(bpy.context, camera) and not space.use_local_camera
        for area in areas:
            area.type = "CONSOLE"
        assert not look_through(bpy.context, camera)
    assert hero.data.lens == 85


def test_footage_that_lies_on_its_side_in_blender_is_turned_upright(tmp_path: Path) -> None:
    """As phones write portrait footage. From 4.4 on Blender turns it by itself."""
    film = tmp_path / "phone.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        stream.set_display_rotation(-90)
        for _ in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(np.full((90, 160, 3), 90, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    clip = bpy.data.movieclips.load(str(film))
    lies = tuple(clip.size) == (160, 90)
    assert lies == (bpy.app.version < (4, 4))
    view = matched(walking(Camera.guessed((90, 160))), clip)
    background = view.camera.data.background_images[0]
    assert not view.notes
    # A quarter turn clockwise, and as long as the frame is high; looked at in a window of 4.3.
    assert background.rotation == pytest.approx(np.pi / 2 if lies else 0.0)
    assert background.scale == pytest.approx(160 / 90 if lies else 1.0)
    assert background.frame_method == ("FIT" if lies else "STRETCH")
