"""The clip's own camera: its lens as Blender bends pictures, and its way as Blender solves and places it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import av
import bpy

from keylift.addon.clip_frames import picture_from_clip, picture_turn
from keylift.addon.clip_lens import (
    BLENDER_CAMERA_FROM_CAMERA,
    CameraPath,
    camera_motion_of,
    clip_camera,
    clip_lens,
    is_lens_of,
    lens_source,
    read_camera_path,
    write_camera_file,
    write_camera_motion,
    write_lens_files,
)
from keylift.core.camera import Camera
from keylift.core.camera_motion import read_camera_motion
from keylift.core.errors import FileFormatError, FootageError, OutputError
from rig_samples import empty_scene

SIZE_PX = (640, 480)
FRAMES = 24
FOCAL_PX = 700.0


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    return sequence(tmp_path)


def sequence(folder: Path, frames: int = 1, size_px: tuple[int, int] = SIZE_PX) -> Any:
    """A clip of empty pictures. Only its size matters."""
    image = bpy.data.images.new("picture", *size_px)
    image.file_format = "PNG"
    for number in range(1, frames + 1):
        image.filepath_raw = str(folder / f"shot_{number:04d}.png")
        image.save()
    return bpy.data.movieclips.load(str(folder / "shot_0001.png"))


def straightened_by_blender(clip: Any, bent_px: np.ndarray) -> np.ndarray:
    """(N, 2) where Blender puts points of the upright picture (square pixels, y down) once the lens is undone.

    A Follow Track constraint is where Python can see it.
    """
    scene, (width, height) = bpy.context.scene, clip.size
    scene.render.resolution_x, scene.render.resolution_y = width, height
    camera = bpy.data.objects.new("Camera", bpy.data.cameras.new("Camera"))
    camera.data.sensor_width = camera.data.lens = 36.0
    follower = bpy.data.objects.new("Follower", None)
    follower.location = (0, 0, -5)
    for thing in (camera, follower):
        scene.collection.objects.link(thing)
    track = clip.tracking.tracks.new(name="track", frame=1)
    # The constraint wants markers counted in square pixels, whatever the clip's pixels are, and none outside the clip.
    lens = clip.tracking.camera
    enlarged = max(lens.pixel_aspect, 1.0)
    tall = height / lens.pixel_aspect
    for frame, (x, y) in enumerate(bent_px / enlarged, start=1):
        track.markers.insert_frame(frame, co=(x / width, (tall - y) / height))
    constraint = follower.constraints.new("FOLLOW_TRACK")
    constraint.use_active_clip, constraint.clip, constraint.track = False, clip, track.name
    constraint.camera, constraint.use_undistorted_position, constraint.frame_method = camera, True, "STRETCH"
    found = []
    for frame in range(1, len(bent_px) + 1):
        scene.frame_set(frame)
        place = follower.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world.translation
        found.append((place.x / -place.z * width + width / 2, tall - (place.y / -place.z * width + height / 2)))
    return np.array(found) * enlarged


def points_in(size_px: tuple[int, int]) -> np.ndarray:
    """(20, 2) pixels all over the picture, of a tall one over its lower part."""
    points = np.random.default_rng(0).uniform(0.04, 0.96, (20, 2)) * (size_px[0], min(size_px[1], SIZE_PX[1]))
    return points + [0, max(0, size_px[1] - SIZE_PX[1])]


def straightened_by_us(camera: Camera, bent_px: np.ndarray) -> np.ndarray:
    return camera.rays(bent_px) * camera.focal_px + camera.centre_px


LENSES: dict[str, tuple[str, dict[str, float], float]] = {
    # name -> model, coefficients, and by how many pixels our lens may differ
    "none": ("POLYNOMIAL", {}, 1e-3),
    "polynomial": ("POLYNOMIAL", {"k1": -0.1, "k2": 0.03, "k3": 0.01}, 1e-3),
    "brown": (
        "BROWN",
        {"brown_k1": -0.1, "brown_k2": 0.03, "brown_k3": 0.01, "brown_p1": 0.01, "brown_p2": -0.02},
        2e-3,
    ),
    "brown of four": ("BROWN", {"brown_k1": -0.1, "brown_k4": 0.05, "brown_p1": 0.01, "brown_p2": -0.004}, 0.6),
    "division": ("DIVISION", {"division_k1": 0.1, "division_k2": 0.02}, 0.3),
    "nuke": ("NUKE", {"nuke_k1": -0.1, "nuke_k2": 0.02}, 0.6),
    "nuke that squeezes": ("NUKE", {"nuke_k1": -0.05, "nuke_p1": 0.004, "nuke_p2": -0.006}, 1.5),
}


@pytest.mark.parametrize("pixel_aspect", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("lens", LENSES)
def test_the_lens_bends_as_blenders_own(clip: Any, lens: str, pixel_aspect: float) -> None:
    model, coefficients, tolerance_px = LENSES[lens]
    own = clip.tracking.camera
    if not all(hasattr(own, name) for name in coefficients):
        pytest.skip("this Blender has no such coefficient")
    own.pixel_aspect = pixel_aspect
    own.distortion_model = model
    own.focal_length_pixels = 600.0
    own.principal_point_pixels = (330, 250)
    for name, value in coefficients.items():
        setattr(own, name, value)
    found = clip_lens(clip)
    width, height = SIZE_PX
    assert (
        found.camera.size_px
        == {
            1.0: (width, height),
            2.0: (2 * width, height),
            0.5: (width, 2 * height),
        }[pixel_aspect]
    )
    bent_px = points_in(found.camera.size_px)
    wanted_px = straightened_by_blender(clip, bent_px)
    if coefficients:
        assert np.abs(wanted_px - bent_px).max() > 3
    scale = max(pixel_aspect, 1.0)
    assert np.abs(straightened_by_us(found.camera, bent_px) - wanted_px).max() < tolerance_px * scale
    exact = lens in ("none", "polynomial", "brown")
    assert (found.error_px == 0) == exact
    # What is said of the error is true of the picture that the lens makes.
    rays = (wanted_px - found.camera.centre_px) / found.camera.focal_px
    again_px = found.camera.project(np.concatenate([rays, np.ones((len(rays), 1))], axis=-1))
    assert np.linalg.norm(again_px - bent_px, axis=-1).max() < found.error_px + 0.01
    assert bool(found.notes) == (found.error_px > 0.5)
    assert not found.notes or f"{found.error_px:.1f} pixels" in found.notes[0]


def test_the_lens_of_footage_that_lies_on_its_side_stands_upright(tmp_path: Path) -> None:
    """As phones write portrait footage, and Blender before 4.4 shows it; keypoints count in the upright picture."""
    if bpy.app.version >= (4, 4):
        pytest.skip("this Blender turns footage upright")
    film = tmp_path / "phone.mp4"
    with av.open(str(film), "w") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        stream.set_display_rotation(-90)
        picture = np.full((SIZE_PX[1], SIZE_PX[0], 3), 90, np.uint8)
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    clip = bpy.data.movieclips.load(str(film))
    own = clip.tracking.camera
    own.focal_length_pixels, own.principal_point_pixels, own.distortion_model = 600.0, (330, 250), "BROWN"
    own.brown_k1, own.brown_p1, own.brown_p2 = -0.1, 0.01, -0.02
    camera = clip_camera(clip)
    upright = (SIZE_PX[1], SIZE_PX[0])
    assert camera.size_px == upright
    turn, _ = picture_turn(clip, upright)
    lying_px = points_in(SIZE_PX)
    wanted_px = straightened_by_blender(clip, lying_px)

    def stood_up(xy_px: np.ndarray) -> np.ndarray:
        return picture_from_clip(xy_px / SIZE_PX * [1, -1] + [0, 1], upright, turn)

    found_px = straightened_by_us(camera, stood_up(lying_px))
    assert np.abs(found_px - stood_up(wanted_px)).max() < 5e-3


def test_the_principal_point_counts_from_below(clip: Any) -> None:
    clip.tracking.camera.principal_point_pixels = (330, 260)
    assert clip_camera(clip).centre_px == pytest.approx((330, 220), abs=1e-3)


def test_millimetres_are_those_of_the_sensor(clip: Any) -> None:
    clip.tracking.camera.sensor_width = 36.0
    clip.tracking.camera.focal_length = 50.0
    assert clip_camera(clip).focal_px == pytest.approx((50 / 36 * 640,) * 2)


def test_a_clip_just_opened_says_nothing_of_the_lens(clip: Any) -> None:
    assert not lens_source(clip).known
    # The shape of its pixels is no word about the lens.
    clip.tracking.camera.pixel_aspect = 2.0
    assert lens_source(clip).kind == "unknown"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("focal_length", 35.0),
        ("sensor_width", 23.5),
        ("k1", -0.01),
        ("brown_p2", 0.01),
        ("principal_point", (0.01, 0.0)),
    ],
)
def test_a_lens_that_somebody_set_is_known(clip: Any, name: str, value: Any) -> None:
    setattr(clip.tracking.camera, name, value)
    source = lens_source(clip)
    assert (source.kind, source.known) == ("set by hand", True)
    assert f"{clip.tracking.camera.focal_length:.1f} mm" in source.words


def test_a_clip_that_blender_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    clip = bpy.data.movieclips.load(str(tmp_path / "film.mp4"))
    assert not lens_source(clip).known and "can't be read" in lens_source(clip).words
    with pytest.raises(FootageError, match="can't be read"):
        clip_camera(clip)


def test_the_camera_file_is_read_back_to_the_last_bit(tmp_path: Path) -> None:
    camera = Camera((1280, 720), (1 / 3 * 3000, 999.1), (640.123456789, 359.5), (-0.1, 0.03, 1e-17, -0.002, 0.4))
    write_camera_file(tmp_path / "lens.toml", camera)
    again = Camera.from_toml(tmp_path / "lens.toml")
    assert vars(again) == vars(camera)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Elsewhere, please"):
        write_camera_file(tmp_path / "file" / "lens.toml", camera, "Elsewhere, please.")


def test_a_lens_is_known_to_be_the_clips_own(clip: Any) -> None:
    clip.tracking.camera.focal_length_pixels = 600.0
    clip.tracking.camera.k1 = -0.1
    own = clip_camera(clip)
    assert is_lens_of(clip, own)
    assert is_lens_of(clip, own.resized((1280, 960)))
    assert not is_lens_of(clip, Camera(own.size_px, own.focal_px, own.centre_px))
    assert not is_lens_of(clip, Camera((480, 640), own.focal_px, own.centre_px, own.distortion))


# ---- A camera that moves --------------------------------------------------------------------------------------------


def true_path() -> np.ndarray:
    """(F, 4, 4) world from camera of a hand that walks past, z up."""
    part = np.linspace(-0.5, 0.5, FRAMES)
    ahead = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    path = np.tile(np.eye(4), (FRAMES, 1, 1))
    for frame, t in enumerate(part):
        c, s = np.cos(0.3 * t), np.sin(0.3 * t)
        down = np.array([[1, 0, 0], [0, np.cos(0.1), np.sin(0.1)], [0, -np.sin(0.1), np.cos(0.1)]])
        path[frame, :3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ down @ ahead
        path[frame, :3, 3] = [2 * t, 0.4 * t, 1.5 + 0.3 * t]
    return path


def solved(folder: Path, *, pixel_aspect: float = 1.0, **lens: float) -> Any:
    """A clip that Blender itself solves, from points that the lens of ``clip_camera`` sees on ``true_path``."""
    clip = sequence(folder, FRAMES)
    own = clip.tracking.camera
    own.focal_length_pixels, own.pixel_aspect = FOCAL_PX, pixel_aspect
    for name, value in lens.items():
        setattr(own, name, value)
    camera = clip_camera(clip)
    points_m = np.random.default_rng(1).uniform(-1, 1, (20, 3)) * [1.2, 1.2, 0.5] + [0, 6, 1.0]
    camera_from_world = np.linalg.inv(true_path())
    seen_m = points_m @ camera_from_world[:, :3, :3].swapaxes(1, 2) + camera_from_world[:, None, :3, 3]
    seen = camera.project(seen_m) / camera.size_px
    for index in range(len(points_m)):
        track = clip.tracking.tracks.new(name=f"point {index}", frame=1)
        for frame in range(FRAMES):
            x, y = seen[frame, index]
            track.markers.insert_frame(frame + 1, co=(x, 1 - y))
    subject = clip.tracking.objects[0]
    subject.keyframe_a, subject.keyframe_b = 1, FRAMES
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    area.type = "CLIP_EDITOR"
    area.spaces.active.clip = clip
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.clip.solve_camera()
    assert subject.reconstruction.is_valid
    return clip


def follow(clip: Any, *, scale: float = 1.0, parent: bool = False) -> Any:
    """The scene's camera, moved by the solve, and placed as an animator would."""
    scene = bpy.context.scene
    camera = bpy.data.objects.new("Filming", bpy.data.cameras.new("Filming"))
    scene.collection.objects.link(camera)
    camera.location, camera.rotation_euler, camera.scale = (0.5, -1.0, 1.2), (1.4, 0.1, 0.7), (scale,) * 3
    if parent:
        carrier = bpy.data.objects.new("Carrier", None)
        scene.collection.objects.link(carrier)
        carrier.location, carrier.rotation_euler = (1.0, 2.0, 0.0), (0.0, 0.0, 0.5)
        camera.parent = carrier
    constraint = camera.constraints.new("CAMERA_SOLVER")
    constraint.use_active_clip, constraint.clip = False, clip
    scene.camera = camera
    bpy.context.view_layer.update()
    return camera


def placed_by_blender(camera: Any, frames: list[int]) -> np.ndarray:
    """(N, 4, 4) the evaluated camera, in our axes."""
    found = []
    for frame in frames:
        bpy.context.scene.frame_set(frame)
        now = camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
        found.append(np.array(now.matrix_world))
    return np.array(found)


def assert_same_but_for_placing(found: np.ndarray, truth: np.ndarray) -> None:
    """The same way but for where it begins and how large its world is, which no solve can tell."""
    found, truth = (np.linalg.inv(way[0]) @ way for way in (found, truth))
    assert np.abs(found[:, :3, :3] - truth[:, :3, :3]).max() < 1e-3
    steps, wanted = found[:, :3, 3], truth[:, :3, 3]
    scale = (steps * wanted).sum() / (steps * steps).sum()
    assert np.abs(steps * scale - wanted).max() < 2e-3


@pytest.mark.parametrize(
    "lens",
    [
        {},
        {"pixel_aspect": 2.0, "k1": -0.08, "k2": 0.02},
        {"principal_point": (0.1, -0.08), "k1": -0.05},
    ],
)
def test_a_camera_that_blender_solved_goes_the_true_way(tmp_path: Path, lens: dict[str, Any]) -> None:
    clip = solved(tmp_path, **lens)
    # Points that our lens projected are the same to Blender's, distortion, pixel shape and all.
    assert clip.tracking.objects[0].reconstruction.average_error < 1e-3
    found = camera_motion_of(clip, bpy.context.scene)
    assert_same_but_for_placing(found.world_from_camera, true_path())
    assert found.clip_frames.tolist() == list(range(1, FRAMES + 1))
    source = lens_source(clip)
    assert source.kind == "solved" and "700" not in source.words and "mm" in source.words


@pytest.mark.parametrize(("scale", "parent"), [(1.0, False), (2.5, False), (1.0, True)])
def test_the_way_is_where_the_scenes_camera_is(tmp_path: Path, scale: float, parent: bool) -> None:
    clip = solved(tmp_path)
    clip.frame_start, clip.frame_offset = 11, 3
    camera = follow(clip, scale=scale, parent=parent)
    found = camera_motion_of(clip, bpy.context.scene)
    picked = [0, 7, FRAMES - 1]
    evaluated = placed_by_blender(camera, [11 + frame for frame in picked])
    assert np.allclose(found.world_from_camera[picked, :3, 3], evaluated[:, :3, 3], atol=1e-4)
    axes = evaluated[:, :3, :3] / scale @ BLENDER_CAMERA_FROM_CAMERA[:3, :3]
    assert np.allclose(found.world_from_camera[picked, :3, :3], axes, atol=1e-5)
    assert [note for note in found.notes if "scale 2.5" in note] if scale != 1 else not found.notes
    # Clip frame 1 shows the fourth picture; a sequence has the rate of the scene.
    assert found.time_s[:2] == pytest.approx([3 / 24, 4 / 24])
    # The lifter takes it.
    write_camera_motion(tmp_path / "motion.npz", found)
    read = read_camera_motion(tmp_path / "motion.npz")
    between_s = np.array([-1.0, 0.13, 0.2777, 0.9, 99.0])
    assert np.allclose(read.at(between_s), found.at(between_s), atol=1e-6)
    again = read_camera_path(tmp_path / "motion.npz")
    assert np.array_equal(again.at(between_s), found.at(between_s))


def test_a_solve_that_no_camera_follows_begins_level(tmp_path: Path) -> None:
    clip = solved(tmp_path)
    found = camera_motion_of(clip, bpy.context.scene)
    ahead, down = found.world_from_camera[0, :3, 2], found.world_from_camera[0, :3, 1]
    assert np.allclose(ahead, [0, 1, 0], atol=1e-6) and np.allclose(down, [0, 0, -1], atol=1e-6)
    assert len(found.notes) == 1 and "No camera" in found.notes[0]
    # A camera of another clip is none of this one's.
    other = bpy.data.movieclips.load(clip.filepath)
    follow(other)
    assert "No camera" in camera_motion_of(clip, bpy.context.scene).notes[0]
    bpy.context.scene.camera.constraints[0].use_active_clip = True
    bpy.context.scene.active_clip = clip
    assert not camera_motion_of(clip, bpy.context.scene).notes


def test_a_camera_that_can_be_no_real_one_is_refused_or_told(tmp_path: Path) -> None:
    clip = solved(tmp_path)
    camera = follow(clip)
    camera.constraints.new("LIMIT_LOCATION")
    camera.scale = (1, 1, 2)
    notes = camera_motion_of(clip, bpy.context.scene).notes
    assert "another scale on each axis" in notes[0] and "Limit Location" in notes[1]
    camera.scale = (1, 1, -1)
    with pytest.raises(FootageError, match="positive scale"):
        camera_motion_of(clip, bpy.context.scene)


def test_a_clip_without_a_solve_has_no_way(clip: Any) -> None:
    with pytest.raises(FootageError, match="Track and solve"):
        camera_motion_of(clip, bpy.context.scene)


def test_files_for_the_worker(tmp_path: Path) -> None:
    clip = solved(tmp_path)
    files = write_lens_files(clip, bpy.context.scene, tmp_path / "cache", "shot")
    assert Camera.from_toml(files.camera).focal_px == pytest.approx((FOCAL_PX,) * 2)
    assert files.motion is not None and len(read_camera_motion(files.motion).time_s) == FRAMES
    assert len(files.notes) == 1
    other = bpy.data.movieclips.load(clip.filepath)
    assert write_lens_files(other, bpy.context.scene, tmp_path / "cache", "other").motion is None


def test_a_way_of_one_frame_stands_still() -> None:
    place = true_path()[:1]
    path = CameraPath(place, np.array([2.0]), np.array([1]))
    assert np.allclose(path.at(np.array([0.0, 2.0, 5.0])), place, atol=1e-12)


def test_a_damaged_way_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", world_from_camera=np.eye(4))
    np.savez(tmp_path / "b.npz", world_from_camera=np.tile(np.eye(4), (2, 1, 1)), time_s=np.zeros(2))
    for name in ("a.npz", "b.npz", "nowhere.npz"):
        with pytest.raises(FileFormatError):
            read_camera_path(tmp_path / name)
