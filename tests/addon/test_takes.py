"""From a pose to files: scene, camera, footage, exports, and what happens when something is wrong."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import av
import bpy
from bpy_extras.object_utils import world_to_camera_view

from keylift.addon.takes import retarget_to_files
from keylift.core.camera import Camera
from keylift.core.errors import Cancelled, FileFormatError, OutputError, RigError
from keylift.core.track_files import write_pose
from keylift.core.tracks import PoseTrack
from rig_samples import empty_scene, evaluated, make_armature, make_rig
from walker import camera_from_world, filmed, walk

FRAMES = 20
SIZE_PX = (320, 240)
JOINTS = ("Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "RightArm", "RightForeArm", "RightHand", "Head")


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A video that is longer than the take in it."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        picture = np.full((SIZE_PX[1], SIZE_PX[0], 3), 90, np.uint8)
        for _ in range(FRAMES + 5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def walking(camera: Camera | None = None) -> PoseTrack:
    pose, _ = filmed(walk(FRAMES), camera or Camera.guessed(SIZE_PX), camera_from_world())
    return replace(pose, frame_index=pose.frame_index + 5, time_s=pose.time_s + 5 / pose.fps)


def rig_file(folder: Path, rig: str = "cmu_mb") -> Path:
    make_rig(rig)
    path = folder / "rig.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def take(pose: PoseTrack, *outputs: Path, rig: str = "rigify_metarig", **options: Any) -> Any:
    options = {"bone_map": "auto", "footage": None, **options}
    return retarget_to_files(pose, rig=rig, outputs=list(outputs), **options)


def opened(path: Path) -> Any:
    """The armature of a .blend that was made."""
    bpy.ops.wm.open_mainfile(filepath=str(path))
    return next(thing for thing in bpy.context.scene.objects if thing.type == "ARMATURE")


def joints_m(armature: Any, names: tuple[str, ...] = JOINTS) -> np.ndarray:
    """(F, N, 3) world."""
    return evaluated(armature, np.arange(FRAMES) + 1.0, names)[..., :3, 3]


def test_a_blend_has_all_that_an_animator_needs(tmp_path: Path, film: Path) -> None:
    pose = walking()
    output = tmp_path / "take.blend"
    summary = take(pose, output, footage=film)
    assert (summary.frames, summary.bone_map, summary.armature) == (FRAMES, "rigify_metarig", "metarig")
    assert f"{FRAMES} frames" in str(summary)

    armature = opened(output)
    scene = bpy.context.scene
    assert armature.animation_data.action.name == "take"
    assert armature.show_in_front
    assert (scene.frame_start, scene.frame_end, scene.frame_current) == (1, FRAMES, 1)
    assert scene.render.fps / scene.render.fps_base == pytest.approx(pose.fps)
    assert (scene.render.resolution_x, scene.render.resolution_y) == SIZE_PX
    background = scene.camera.data.background_images[0]
    assert scene.camera.data.show_background_images
    assert tuple(background.clip.size) == SIZE_PX
    assert background.clip.frame_offset == 5
    assert Path(background.clip.filepath) == film.resolve()


def test_a_folder_and_a_pattern_of_pictures_as_footage(tmp_path: Path) -> None:
    folder = tmp_path / "shot"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a picture")
    for index in range(3):
        image = bpy.data.images.new(f"p{index}", *SIZE_PX)
        image.filepath_raw, image.file_format = str(folder / f"shot_{index:04d}.png"), "PNG"
        image.save()
    for footage in (folder, folder / "shot_####.png", folder / "shot_%04d.png"):
        output = tmp_path / "take.blend"
        take(walking(), output, footage=footage)
        opened(output)
        clip = bpy.context.scene.camera.data.background_images[0].clip
        assert clip.source == "SEQUENCE"
        assert tuple(clip.size) == SIZE_PX


def test_footage_that_blender_cannot_read_is_left_out_and_told(tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"no film")
    (tmp_path / "notes").mkdir()
    for footage in (tmp_path / "film.mp4", tmp_path / "notes", tmp_path / "nowhere.mp4"):
        summary = take(walking(), tmp_path / "take.blend", footage=footage)
        assert len(summary.warnings) == 1 and f"'{footage.name}'" in summary.warnings[0]
    assert opened(tmp_path / "take.blend").animation_data.action is not None


@pytest.mark.parametrize("pattern", ["shot [1]_#.png", "shot [1]_%d.png"])
def test_a_sequence_behind_the_camera_begins_with_its_lowest_number(tmp_path: Path, pattern: str) -> None:
    for index in range(9, 12):
        image = bpy.data.images.new("picture", *SIZE_PX)
        image.filepath_raw, image.file_format = str(tmp_path / f"shot [1]_{index}.png"), "PNG"
        image.save()
    (tmp_path / "shot 1_1.png").write_bytes((tmp_path / "shot [1]_9.png").read_bytes())
    assert not take(walking(), tmp_path / "take.blend", footage=tmp_path / pattern).warnings
    opened(tmp_path / "take.blend")
    clip = bpy.context.scene.camera.data.background_images[0].clip
    assert Path(clip.filepath).name == "shot [1]_9.png"


@pytest.mark.parametrize(
    "camera",
    [
        Camera.guessed(SIZE_PX),
        Camera.guessed((240, 320)),
        Camera(SIZE_PX, (300.0, 300.0), (190.0, 90.0)),
        Camera((240, 320), (400.0, 420.0), (100.0, 200.0)),
        Camera(SIZE_PX, (330.0, 300.0), (150.0, 130.0)),
    ],
)
def test_blenders_camera_sees_what_the_lens_saw(tmp_path: Path, camera: Camera) -> None:
    pose = walking(camera)
    summary = take(pose, tmp_path / "take.blend")
    opened(tmp_path / "take.blend")
    scene = bpy.context.scene
    points = pose.positions_world_m()[::5].reshape(-1, 3)
    wanted = camera.project(pose.positions_m[::5].reshape(-1, 3))
    bpy.context.view_layer.update()
    from mathutils import Vector

    seen = [world_to_camera_view(scene, scene.camera, Vector(point * summary.world_scale)) for point in points]
    width, height = camera.size_px
    seen_px = np.array([(x * width, (1 - y) * height) for x, y, _ in seen])
    assert np.abs(seen_px - wanted).max() < 0.05


def test_the_hips_sit_on_the_person_in_the_picture(tmp_path: Path) -> None:
    pose = walking()
    take(pose, tmp_path / "take.blend")
    armature = opened(tmp_path / "take.blend")
    scene = bpy.context.scene
    from mathutils import Vector

    from keylift.core.skeletons import LANDMARKS_41

    hips = joints_m(armature, ("thigh.L", "thigh.R")).mean(axis=1)
    seen = np.array([world_to_camera_view(scene, scene.camera, Vector(point)) for point in hips])[:, :2]
    seen_px = seen * SIZE_PX
    seen_px[:, 1] = SIZE_PX[1] - seen_px[:, 1]
    wanted = pose.camera.project(pose.positions_m[:, LANDMARKS_41.index("pelvis")])
    # The rig's soles stand on the floor by the rig's own proportions; that is the few pixels of difference.
    assert np.abs(seen_px - wanted).max() < 5


def test_a_hidden_rig_with_a_mesh_is_exported_and_stays_hidden(tmp_path: Path) -> None:
    armature = make_rig("cmu_mb")
    bpy.ops.mesh.primitive_cube_add()
    cube = bpy.context.object
    cube.parent = armature
    cube.modifiers.new("Armature", "ARMATURE").object = armature
    bpy.ops.mesh.primitive_cube_add()
    bpy.context.object.name = "Bystander"
    armature.hide_set(True)
    cube.hide_viewport = True
    rig = tmp_path / "rig.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(rig))
    take(walking(), tmp_path / "take.glb", tmp_path / "take.blend", rig=str(rig))
    assert opened(tmp_path / "take.blend").hide_get()
    assert bpy.data.objects["Cube"].hide_viewport
    empty_scene()
    bpy.ops.import_scene.gltf(filepath=str(tmp_path / "take.glb"))
    assert bpy.data.objects.get("Cube") and not bpy.data.objects.get("Bystander")


def test_inputs_are_not_touched(tmp_path: Path, film: Path) -> None:
    rig = rig_file(tmp_path)
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in (rig, film)}
    names = {path.name for path in tmp_path.iterdir()}
    take(walking(), tmp_path / "take.blend", tmp_path / "take.fbx", rig=str(rig), footage=film)
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in before} == before
    assert {path.name for path in tmp_path.iterdir()} == names | {"take.blend", "take.fbx"}


def test_textures_of_a_rig_are_found_from_elsewhere(tmp_path: Path) -> None:
    make_rig("cmu_mb")
    skin = tmp_path / "skin.png"
    image = bpy.data.images.new("skin", 4, 4)
    image.filepath_raw, image.file_format = str(skin), "PNG"
    image.save()
    bpy.data.images.remove(image)
    rig = tmp_path / "rig.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(rig))
    bpy.data.images.load("//skin.png").use_fake_user = True
    bpy.ops.wm.save_as_mainfile(filepath=str(rig))
    output = tmp_path / "elsewhere" / "take.blend"
    take(walking(), output, rig=str(rig))
    opened(output)
    assert Path(bpy.path.abspath(bpy.data.images["skin.png"].filepath)) == skin.resolve()


def test_an_unknown_ending_is_refused_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"\.bvh, \.fbx, \.glb, \.gltf"):
        take(walking(), tmp_path / "take.blend", tmp_path / "take.obj", rig="nowhere.blend")
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for ending in ("blend", "bvh", "glb", "gltf", "fbx"):
        with pytest.raises(OutputError, match="can't be written|could not write"):
            take(walking(), tmp_path / "file" / f"take.{ending}")
    (tmp_path / "take.blend").mkdir()
    with pytest.raises(OutputError):
        take(walking(), tmp_path / "take.blend")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "take.blend"}


def test_a_rig_that_nothing_can_be_mapped_on(tmp_path: Path) -> None:
    make_armature(
        "crane", [["base", "", [0, 0, 0], [0, 0, 1], 0.0, False], ["jib", "base", [0, 0, 1], [2, 0, 1], 0.0, True]]
    )
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    with pytest.raises(RigError, match="--map FILE"):
        take(walking(), tmp_path / "take.blend", rig=str(tmp_path / "rig.blend"))
    assert not (tmp_path / "take.blend").exists()


def test_a_rig_whose_names_say_nothing_is_mapped_by_its_shape(tmp_path: Path) -> None:
    armature = make_rig("cmu_mb")
    for index, bone in enumerate(armature.data.bones):
        bone.name = f"Bone.{index:03d}"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    summary = take(walking(), tmp_path / "take.blend", rig=str(tmp_path / "rig.blend"))
    assert summary.keyed_bones >= 21


def test_an_own_map_makes_it_work(tmp_path: Path) -> None:
    armature = make_rig("cmu_mb")
    preset = json.loads((Path(sys.modules["keylift"].__file__).parent / "rig_mapping/presets/cmu_mb.json").read_text())
    for bone in armature.data.bones:
        bone.name = f"x{bone.name[::-1]}"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    own = {"format": 1, "bones": {k: [f"x{bone[::-1]}" for bone in v] for k, v in preset["bones"].items()}}
    (tmp_path / "own.json").write_text(json.dumps(own))
    summary = take(
        walking(),
        tmp_path / "take.blend",
        rig=str(tmp_path / "rig.blend"),
        bone_map=str(tmp_path / "own.json"),
    )
    assert (summary.bone_map, summary.keyed_bones) == ("own.json", 23)
    (tmp_path / "own.json").write_text("{}")
    with pytest.raises(FileFormatError):
        take(walking(), tmp_path / "b.blend", rig=str(tmp_path / "rig.blend"), bone_map=str(tmp_path / "own.json"))


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    calls = []

    def stop_later(done: int, total: int | None) -> bool:
        calls.append((done, total))
        return len(calls) < 8

    with pytest.raises(Cancelled):
        take(walking(), tmp_path / "take.blend", progress=stop_later)
    assert not list(tmp_path.iterdir())


def test_progress_grows_to_its_total(tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []

    def listen(done: int, total: int | None) -> bool:
        told.append((done, total))
        return True

    take(walking(), tmp_path / "take.blend", tmp_path / "take.bvh", progress=listen)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1] == 4


@pytest.mark.parametrize("rig", ["rigify_metarig", "rig.blend"])
def test_nothing_of_blender_reaches_stdout(tmp_path: Path, rig: str) -> None:
    rig_file(tmp_path)
    write_pose(tmp_path / "walk.pose.npz", walking())
    script = (
        "import sys; from pathlib import Path\n"
        "from keylift.core.track_files import read_pose\n"
        "from keylift.addon.blender_chatter import unheard\n"
        "with unheard():\n"
        "    from keylift.addon.takes import retarget_to_files\n"
        "folder = Path(sys.argv[1])\n"
        "outputs = [folder / f'take.{ending}' for ending in ('blend', 'bvh', 'fbx', 'glb', 'gltf')]\n"
        "rig = str(folder / 'rig.blend') if sys.argv[2] == 'rig.blend' else sys.argv[2]\n"
        "retarget_to_files(read_pose(folder / 'walk.pose.npz'), rig=rig, bone_map='auto',"
        " outputs=outputs, footage=None)\n"
        "print('ours', flush=True)\n"
        # Blender 4.2 as a module crashes when a process that enabled Rigify ends by itself.
        "__import__('os')._exit(0)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), rig]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "ours\n"
    assert answer.stderr == ""
