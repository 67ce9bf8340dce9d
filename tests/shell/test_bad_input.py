"""Whatever is wrong with what the shell is given: a clear message, the right exit code, and nothing touched or left."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.track_files import write_keypoints, write_pose
from shell_runs import clip, content, film_empty_room, keylift, small_disk
from walker import camera_from_world, filmed, walk

MAKE_RIGS = """
import sys, bpy
from pathlib import Path
folder = Path(sys.argv[1])

def armature(name, bones):
    thing = bpy.data.objects.new(name, bpy.data.armatures.new(name))
    bpy.context.scene.collection.objects.link(thing)
    bpy.context.view_layer.objects.active = thing
    bpy.ops.object.mode_set(mode="EDIT")
    for place, bone in enumerate(bones):
        made = thing.data.edit_bones.new(bone)
        made.head, made.tail = (0, 0, place), (0, 0, place + 1)
    bpy.ops.object.mode_set(mode="OBJECT")

def save(name, *armatures):
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for each in armatures:
        armature(*each)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / name))

save("no-armature.blend")
save("two.blend", ("Hero", ["a"]), ("Villain", ["b"]))
save("crane.blend", ("Crane", ["jib", "hook", "winch"]))
"""


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of everything that is not what it should be, and one good pose file."""
    folder = tmp_path_factory.mktemp("inputs")
    good = clip("cam03.mp4").read_bytes()
    (folder / "empty.mp4").touch()
    (folder / "truncated.mp4").write_bytes(good[: len(good) // 2])
    (folder / "text.mp4").write_text("This is not a video.\n" * 500)
    (folder / "noise.mp4").write_bytes(random.Random(1).randbytes(200_000))
    # A head like a video's, and garbage for pictures.
    (folder / "corrupt.mp4").write_bytes(good[:64] + random.Random(2).randbytes(len(good) - 64))
    with wave.open(str(folder / "song.wav"), "wb") as song:
        song.setparams((1, 2, 8000, 0, "NONE", ""))
        song.writeframes(random.Random(3).randbytes(16_000))
    film_empty_room(folder / "empty-room.mp4")
    (folder / "no-pictures").mkdir()
    (folder / "no-pictures" / "notes.txt").write_text("nothing to see")

    pose, keypoints = filmed(walk(12), Camera.guessed((640, 480)), camera_from_world())
    write_pose(folder / "good.pose.npz", pose)
    write_keypoints(folder / "good.keypoints.npz", keypoints)
    unseen = replace(
        keypoints, xy_px=np.full_like(keypoints.xy_px, np.nan), confidence=np.zeros_like(keypoints.confidence)
    )
    write_keypoints(folder / "nobody.keypoints.npz", unseen)
    np.savez(folder / "motion.npz", world_from_camera=np.eye(4)[None], time_s=np.zeros(1))
    (folder / "text.npz").write_text("not an archive")
    (folder / "truncated.pose.npz").write_bytes((folder / "good.pose.npz").read_bytes()[:5000])
    (folder / "text.safetensors").write_text("not weights")
    (folder / "unknown-key.toml").write_text("width = 640\nheight = 480\nfx = 500.0\nzoom = 2\n")
    (folder / "other-shape.toml").write_text("width = 480\nheight = 640\nfx = 500.0\n")
    (folder / "text.json").write_text("not JSON")
    (folder / "strange.json").write_text(json.dumps({"format": 1, "bones": {"third_arm": ["arm"]}}))
    (folder / "text.blend").write_text("not a Blender file")
    (folder / "text.task").write_text("not a model")
    subprocess.run([sys.executable, "-c", MAKE_RIGS, str(folder)], check=True, capture_output=True)
    return folder


def check_told(inputs: Path, folder: Path, arguments: list[str], told: list[str], code: int = 1) -> None:
    """Run in ``folder``; the message must hold all of ``told``, and neither inputs nor folder may change."""
    before = content(inputs), content(folder)
    run = keylift(*[argument.replace("{in}", str(inputs)) for argument in arguments], cwd=folder)
    assert run.code == code, run.err
    assert "Traceback" not in run.err and "bug" not in run.err, run.err
    message = run.err.strip().splitlines()[-1]
    assert message.startswith("keylift: "), run.err
    for words in told:
        assert words.replace("{in}", str(inputs)) in message
    assert run.out == ""
    assert (content(inputs), content(folder)) == before


FOOTAGE = [
    ("missing.mp4", ["missing.mp4"]),
    ("empty.mp4", ["empty.mp4", "empty"]),
    ("truncated.mp4", ["truncated.mp4"]),
    ("text.mp4", ["text.mp4"]),
    ("noise.mp4", ["noise.mp4"]),
    ("corrupt.mp4", ["corrupt.mp4"]),
    ("song.wav", ["song.wav", "sound"]),
    ("no-pictures", ["no-pictures", "picture"]),
    ("shot_####.png", ["shot_####.png"]),
]


@pytest.mark.parametrize(("footage", "told"), FOOTAGE, ids=[name for name, _ in FOOTAGE])
def test_footage_that_is_none(footage: str, told: list[str], inputs: Path, tmp_path: Path) -> None:
    check_told(inputs, tmp_path, ["detect", "{in}/" + footage, "-o", "x.keypoints.npz"], told)


@pytest.mark.parametrize(
    "command", [["capture", "-o", "take.blend"], ["lift", "-o", "x.pose.npz"]], ids=["capture", "lift"]
)
def test_footage_that_is_none_is_told_by_every_command(command: list[str], inputs: Path, tmp_path: Path) -> None:
    check_told(inputs, tmp_path, [command[0], "{in}/truncated.mp4", *command[1:]], ["truncated.mp4"])


@pytest.mark.parametrize(
    "command", [["capture", "-o", "take.blend"], ["detect", "-o", "x.npz"]], ids=["capture", "detect"]
)
def test_a_video_with_nobody_in_it(command: list[str], inputs: Path, tmp_path: Path) -> None:
    check_told(inputs, tmp_path, [command[0], "{in}/empty-room.mp4", *command[1:]], ["empty-room.mp4"])


@pytest.mark.parametrize("frames", ["500-600", "90-120", "100-"])
def test_frames_out_of_range(frames: str, inputs: Path, tmp_path: Path) -> None:
    arguments = ["detect", str(clip("cam03.mp4")), "--frames", frames, "-o", "x.npz"]
    check_told(inputs, tmp_path, arguments, ["100 frames", "0 to 99"])


def test_a_person_who_is_not_there(inputs: Path, tmp_path: Path) -> None:
    arguments = ["detect", str(clip("cam03.mp4")), "--frames", "0-9", "--person", "4", "-o", "x.npz"]
    check_told(inputs, tmp_path, arguments, ["4"])


LIFT = ["lift", "{in}/good.keypoints.npz", "-o", "a.npz"]
DETECT = ["detect", "{in}/empty-room.mp4", "-o", "a.npz"]
CAPTURE = ["capture", "{in}/empty-room.mp4", "-o"]

FILES = {
    "a pose that is missing": (["retarget", "{in}/no.pose.npz", "-o", "a.blend"], ["no.pose.npz"]),
    "a pose that is text": (["retarget", "{in}/text.npz", "-o", "a.blend"], ["text.npz"]),
    "a pose cut short": (["retarget", "{in}/truncated.pose.npz", "-o", "a.blend"], ["truncated.pose.npz"]),
    "keypoints for a pose": (["retarget", "{in}/good.keypoints.npz", "-o", "a.blend"], ["not the kind of file"]),
    "a pose for keypoints": (["lift", "{in}/good.pose.npz", "-o", "a.npz"], ["not the kind of file"]),
    "a pose to preview that is text": (["preview", "{in}/text.npz", "-o", "a.mp4"], ["text.npz"]),
    "weights that are missing": ([*LIFT, "--weights", "no.safetensors"], ["no.safetensors"]),
    "weights of no known name": ([*LIFT, "--weights", "magic"], ["magic", "default"]),
    "weights that are text": ([*LIFT, "--weights", "{in}/text.safetensors"], ["text.safetensors"]),
    "a camera with a key that nobody knows": ([*LIFT, "--camera", "{in}/unknown-key.toml"], ["zoom"]),
    "keypoints of nobody, and a lens to be told from them": (
        ["lift", "{in}/nobody.keypoints.npz", "-o", "a.npz", "--estimate-lens"],
        ["hold nobody"],
    ),
    "a camera's roll alone": ([*LIFT, "--camera-roll", "5"], ["--camera-pitch"]),
    "a solved camera, and its lens to be told": (
        [*LIFT, "--camera-motion", "{in}/motion.npz", "--estimate-lens"],
        ["--camera"],
    ),
    "a solved camera without the fit": ([*LIFT, "--camera-motion", "{in}/motion.npz", "--no-fit"], ["--no-fit"]),
    "a camera of another shape": ([*LIFT, "--camera", "{in}/other-shape.toml"], ["480x640"]),
    "a model that is text": ([*DETECT, "--detector-model", "{in}/text.task"], ["text.task"]),
    "a model that is missing": ([*DETECT, "--detector-model", "no.task"], ["no.task"]),
    "a training configuration that is missing": (["train", "{in}/no.toml"], ["no.toml"]),
}


@pytest.mark.parametrize("case", FILES)
def test_files_that_are_not_what_they_should_be(case: str, inputs: Path, tmp_path: Path) -> None:
    check_told(inputs, tmp_path, *FILES[case])


RIGS = {
    "missing": (["--rig", "no-such.blend"], ["no-such.blend"]),
    "no armature": (["--rig", "{in}/no-armature.blend"], ["no-armature.blend", "armature"]),
    "several and none named": (["--rig", "{in}/two.blend"], ["'Hero'", "'Villain'"]),
    "named one that is not there": (["--rig", "{in}/two.blend:Horse"], ["'Horse'", "'Hero'", "'Villain'"]),
    "nothing can be mapped": (["--rig", "{in}/crane.blend"], ["--map"]),
    "a preset that does not fit": (["--rig", "{in}/crane.blend:Crane", "--map", "mixamo"], ["mixamo"]),
    "not a Blender file": (["--rig", "{in}/text.blend"], ["text.blend"]),
    "not a rig's file": (["--rig", "{in}/text.json"], ["text.json"]),
    "a map that is missing": (["--map", "no-such.json"], ["no-such.json"]),
    "a map that is no JSON": (["--map", "{in}/text.json"], ["text.json"]),
    "a map of a strange body": (["--map", "{in}/strange.json"], ["third_arm"]),
}


@pytest.mark.parametrize("case", RIGS)
def test_rigs_that_cant_be_animated(case: str, inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    options, told = RIGS[case]
    check_told(inputs, tmp_path, ["retarget", "{in}/good.pose.npz", *options, "-o", "a.blend"], told)


def test_a_rig_is_looked_at_before_the_footage(inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    before = content(tmp_path)
    run = keylift("capture", clip("cam03.mp4"), "--rig", inputs / "crane.blend", "-o", "a.blend", cwd=tmp_path)
    assert run.code == 1
    assert "Looking for people" not in run.err
    assert content(tmp_path) == before


EVERYBODY = ["--person", "all"]
NUMBERED = {
    "the rig": ["capture", "{in}/empty-room.mp4", *EVERYBODY, "--rig", "duet-2.blend", "-o", "duet.blend"],
    "the footage": ["capture", "walk-1.mp4", *EVERYBODY, "-o", "a.bvh", "--preview", "walk.mp4"],
    "the camera": ["lift", "{in}/empty-room.mp4", *EVERYBODY, "--camera", "duet-3.npz", "-o", "duet.npz"],
}


@pytest.mark.parametrize("case", NUMBERED)
def test_no_number_makes_an_output_an_input(case: str, inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    shutil.copy(inputs / "empty-room.mp4", tmp_path / "walk-1.mp4")
    (tmp_path / "duet-3.npz").write_text("width = 320\nheight = 240\nfx = 300.0\n")
    if case == "the rig":
        make = (
            "import bpy, sys, addon_utils; addon_utils.enable('rigify'); bpy.ops.object.armature_human_metarig_add(); "
            "bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])"
        )
        subprocess.run([sys.executable, "-c", make, tmp_path / "duet-2.blend"], check=True, capture_output=True)
    check_told(inputs, tmp_path, NUMBERED[case], ["is an input"])


LATE = {
    "a camera of another shape": (["--camera", "{in}/other-shape.toml"], "480x640"),
    "a device that is not there": (["--device", "cuda"], "no 'cuda'"),
}


@pytest.mark.parametrize("case", LATE)
@pytest.mark.parametrize("command", [["lift", "-o", "a.npz"], ["capture", "-o", "a.bvh"]], ids=["lift", "capture"])
def test_what_lifting_would_refuse_is_told_before_the_footage_is_gone_through(
    case: str, command: list[str], inputs: Path, tmp_path: Path
) -> None:
    import torch

    if command[0] == "capture":
        pytest.importorskip("bpy")
    options, told = LATE[case]
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("this machine has the device")
    # Nobody is in it: looking for people would end with that.
    check_told(inputs, tmp_path, [command[0], "{in}/empty-room.mp4", *command[1:], *options], [told])


def test_a_run_that_fails_leaves_no_folder(inputs: Path, tmp_path: Path) -> None:
    check_told(inputs, tmp_path, ["detect", "{in}/empty-room.mp4", "-o", "new/dir/a.npz"], ["empty-room.mp4"])


def test_a_pose_is_baked_where_only_blender_and_its_numpy_are(inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    lacking = ["av", "torch", "mediapipe", "cv2", "scipy", "rich", "safetensors", "platformdirs"]
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({lacking}))\n"
        "from keylift.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    arguments = ["retarget", inputs / "good.pose.npz", "-o", "a.bvh", "-o", "b.blend", "--video"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments, inputs / "empty-room.mp4"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(content(tmp_path)) == ["a.bvh", "b.blend"]


def test_without_blender_the_message_says_how_to_get_it(inputs: Path, tmp_path: Path) -> None:
    script = "import sys; sys.modules['bpy'] = None; from keylift.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["retarget", str(inputs / "good.pose.npz"), "-o", str(tmp_path / "a.blend")]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 1
    assert "keylift[blender]" in done.stderr and "blender -c keylift" in done.stderr
    assert "Traceback" not in done.stderr


OUTPUTS = {
    "a folder": (["detect", "{in}/empty-room.mp4", "-o", "."], ["ending"]),
    "a folder with an ending": (["detect", "{in}/empty-room.mp4", "-o", "folder.npz"], ["folder.npz", "folder"]),
    "below a file": (["detect", "{in}/empty-room.mp4", "-o", "file/x.npz"], ["x.npz", "can't be written"]),
    "an unknown ending": ([*CAPTURE, "take.max"], ["take.max", ".blend", ".bvh", ".fbx", ".glb"]),
    "a preview of an unknown ending": ([*CAPTURE, "a.bvh", "--preview", "a.doc"], ["a.doc", ".mp4"]),
    "the input": (["lift", "{in}/good.keypoints.npz", "-o", "{in}/good.keypoints.npz"], ["is an input"]),
    "the same twice": (["retarget", "{in}/good.pose.npz", "-o", "a.bvh", "-o", "a.bvh"], ["twice"]),
    "the footage for the preview": ([*CAPTURE, "a.glb", "--preview", "{in}/empty-room.mp4"], ["is an input"]),
    "a file to keep things in": ([*CAPTURE, "a.glb", "--keep", "file"], ["'file'"]),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_places_that_cant_be_written(case: str, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "file").write_text("in the way")
    check_told(inputs, tmp_path, *OUTPUTS[case])


def test_a_read_only_folder(inputs: Path, tmp_path: Path) -> None:
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o500)
    try:
        (shut / "probe").touch()
    except OSError:
        check_told(
            inputs, tmp_path, ["lift", "{in}/good.keypoints.npz", "-o", "shut/x.npz"], ["x.npz", "can't be written"]
        )
    else:
        pytest.skip("this user may write anywhere")
    finally:
        shut.chmod(0o700)


def test_a_read_only_disk(inputs: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "ro,size=1m"):
        arguments = ["retarget", "{in}/good.pose.npz", "-o", str(disk / "a.blend")]
        check_told(inputs, tmp_path, arguments, ["a.blend", "can't be written"])


@pytest.mark.parametrize("ending", ["blend", "bvh", "fbx", "glb", "gltf"])
def test_a_disk_that_fills_up_while_blender_writes(ending: str, inputs: Path, tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "size=24k"):
        arguments = ["retarget", "{in}/good.pose.npz", "-o", str(disk / f"a.{ending}")]
        check_told(inputs, tmp_path, arguments, ["disk is full"], code=75)


@pytest.mark.parametrize(
    ("command", "name"),
    [("lift {in}/good.keypoints.npz", "a.pose.npz"), ("preview {in}/good.pose.npz", "a.mp4")],
    ids=["lift", "preview"],
)
def test_a_disk_that_is_full(command: str, name: str, inputs: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with small_disk(disk, "size=16k"):
        (disk / "other").write_bytes(bytes(12_000))
        check_told(inputs, tmp_path, [*command.split(), "-o", str(disk / name)], ["disk is full"], code=75)


def test_errors_are_json_for_programs_and_tracebacks_for_the_curious(inputs: Path, tmp_path: Path) -> None:
    run = keylift("--json", "detect", inputs / "empty.mp4", "-o", "x.npz", "--debug", cwd=tmp_path)
    told = json.loads(run.out)
    assert (told["kind"], told["exit_code"], run.code) == ("FootageError", 1, 1)
    assert f"keylift: {told['error']}" in run.err
    assert "Traceback" in run.err and "FootageError" in run.err
