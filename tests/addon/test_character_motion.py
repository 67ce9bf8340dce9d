"""Animated characters read back as landmarks: the walk that was baked onto a rig, out of files of every kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

from control_rig_samples import generated_rig_file
from keylift.addon.character_motion import motion_of_armature, read_character_motion
from keylift.addon.scene_export import export
from keylift.addon.takes import TakeOptions, bake_take, set_frame_rate
from keylift.core.camera import Camera
from keylift.core.errors import Cancelled, RigError
from keylift.core.skeletons import LANDMARKS_41
from keylift.rig_mapping.solve import RetargetOptions
from rig_samples import empty_scene, evaluated, make_rig
from walker import camera_from_world, filmed, walk

FRAMES = 40
BONE_OF = {
    "l_hip": "LeftUpLeg",
    "r_knee": "RightLeg",
    "l_ankle": "LeftFoot",
    "r_shoulder": "RightArm",
    "l_elbow": "LeftForeArm",
    "r_wrist": "RightHand",
}
LANDMARKS = LANDMARKS_41.indices(*BONE_OF)
Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def baked(fps: float = 30.0, change: Callable[[Any], None] | None = None) -> tuple[Any, np.ndarray]:
    """A walking armature "Dancer" in an otherwise empty scene, and (F, 6, 3) where Blender has some joints, y up."""
    empty_scene()
    set_frame_rate(bpy.context.scene, fps)
    armature = make_rig("cmu_mb")
    armature.name = "Dancer"
    if change is not None:
        change(armature)
        bpy.context.view_layer.update()
    pose, _ = filmed(walk(FRAMES, fps), Camera.guessed((320, 240)), camera_from_world())
    bake_take(pose, armature, bone_map="auto", name="walk", fps=fps)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, FRAMES
    return armature, joints(armature)


def joints(armature: Any) -> np.ndarray:
    return evaluated(armature, np.arange(FRAMES) + 1.0, tuple(BONE_OF.values()))[..., :3, 3] @ Y_UP.T


def saved(path: Path) -> Path:
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def shrunk_and_turned(armature: Any) -> None:
    armature.scale = (0.5,) * 3
    armature.rotation_euler, armature.location = (0.2, -0.1, 0.7), (1.0, -2.0, 0.5)


def curves_of(action: Any) -> Any:
    if not hasattr(action, "slots"):
        return action.fcurves
    return action.layers[0].strips[0].channelbag(action.slots[0]).fcurves


def state() -> dict[str, Any]:
    """What is open: names of everything, where the armature stands, what it plays and when."""
    held = {
        described.identifier: sorted(thing.name for thing in getattr(bpy.data, described.identifier))
        for described in bpy.types.BlendData.bl_rna.properties
        if described.type == "COLLECTION"
    }
    scene = bpy.context.scene
    playing = {
        thing.name: (thing.animation_data.action.name if thing.animation_data and thing.animation_data.action else None)
        for thing in bpy.data.objects
    }
    bases = [np.array(bone.matrix_basis) for thing in bpy.data.objects if thing.pose for bone in thing.pose.bones]
    return {
        "held": held,
        "scene": scene.name,
        "frame": scene.frame_current,
        "fps": (scene.render.fps, scene.render.fps_base),
        "playing": playing,
        "posed": np.array(bases).round(6).tolist(),
        "window": bpy.context.window.scene.name if bpy.context.window else None,
        "scripts": bpy.context.preferences.filepaths.use_scripts_auto_execute,
    }


@pytest.fixture
def something_open() -> Callable[[], None]:
    """Open a scene of one's own; called afterwards, it sees that nothing has changed in it."""
    empty_scene()
    make_rig("game_engine").name = "Dancer"
    bpy.context.scene.frame_set(7)
    before = state()

    def unchanged() -> None:
        assert state() == before

    return unchanged


@pytest.mark.parametrize("change", [None, shrunk_and_turned])
def test_a_blend_file_reads_back(tmp_path: Path, change: Callable[[Any], None] | None) -> None:
    _, wanted = baked(change=change)
    path = saved(tmp_path / "take.blend")
    empty_scene()
    motion = read_character_motion(path)
    assert motion.armature.startswith("Dancer") and [clip.name for clip in motion.clips] == ["walk"]
    (clip,) = motion.clips
    assert clip.fps == 30 and clip.positions_m.shape == (FRAMES, 41, 3)
    assert np.abs(clip.positions_m[:, LANDMARKS] - wanted).max() < 1e-4
    assert np.isfinite(clip.positions_m).all()


@pytest.mark.parametrize("ending", [".fbx", ".glb", ".bvh"])
def test_other_files_read_back_and_leave_nothing(
    tmp_path: Path, ending: str, something_open: Callable[[], None]
) -> None:
    armature, wanted = baked()
    export(tmp_path / f"take{ending}", armature)
    empty_scene()
    make_rig("game_engine").name = "Dancer"
    bpy.context.scene.frame_set(7)
    (clip,) = read_character_motion(tmp_path / f"take{ending}").clips
    something_open()
    times_s = np.arange(len(clip.positions_m)) / clip.fps
    found = clip.positions_m[:, LANDMARKS]
    at = np.arange(FRAMES) / 30
    drawn = np.stack(
        [[np.interp(at, times_s, found[:, j, k]) for k in range(3)] for j in range(len(LANDMARKS))]
    ).transpose(2, 0, 1)
    # A walk that takes as long, and goes as far.
    assert abs(times_s[-1] - at[-1]) < 0.04
    assert np.linalg.norm(drawn - wanted, axis=-1).max() < 0.02


def test_a_blend_file_leaves_nothing(tmp_path: Path, something_open: Callable[[], None]) -> None:
    baked()
    path = saved(tmp_path / "take.blend")
    empty_scene()
    make_rig("game_engine").name = "Dancer"
    bpy.context.scene.frame_set(7)
    assert len(read_character_motion(path, "Dancer").clips) == 1
    something_open()
    with pytest.raises(Cancelled):
        read_character_motion(path, progress=lambda done, total: done < 5)
    something_open()


def test_the_open_armature_is_read_where_it_stands(tmp_path: Path) -> None:
    armature, wanted = baked()
    bpy.context.scene.frame_set(3)
    before = state()
    (clip,) = motion_of_armature(armature).clips
    assert np.abs(clip.positions_m[:, LANDMARKS] - wanted).max() < 1e-4
    assert state() == before
    path = saved(tmp_path / "open.blend")
    before = state()
    assert len(read_character_motion(path).clips) == 1
    assert state() == before


def test_frame_rate_and_units_are_the_scenes(tmp_path: Path) -> None:
    armature, wanted = baked(fps=24000 / 1001)
    bpy.context.scene.unit_settings.scale_length = 0.01
    (clip,) = motion_of_armature(armature).clips
    assert clip.fps == pytest.approx(24000 / 1001)
    assert np.abs(clip.positions_m[:, LANDMARKS] - wanted * 0.01).max() < 1e-5
    bpy.context.scene.unit_settings.system = "NONE"
    assert np.abs(motion_of_armature(armature).clips[0].positions_m[:, LANDMARKS] - wanted).max() < 1e-4


def test_constraints_count() -> None:
    armature, _ = baked()
    target = bpy.data.objects.new("target", None)
    bpy.context.scene.collection.objects.link(target)
    target.location = (0.3, -0.5, 1.2)
    ik = armature.pose.bones["LeftForeArm"].constraints.new("IK")
    ik.target, ik.chain_count = target, 2
    wanted = joints(armature)
    (clip,) = motion_of_armature(armature).clips
    assert np.abs(clip.positions_m[:, LANDMARKS] - wanted).max() < 1e-4
    # And so do those that lead a bone to another of the same armature.
    ik.mute = True
    follows = armature.pose.bones["RightHand"].constraints.new("COPY_LOCATION")
    follows.target, follows.subtarget = armature, "LeftFoot"
    wanted = joints(armature)
    (clip,) = motion_of_armature(armature).clips
    assert np.abs(clip.positions_m[:, LANDMARKS] - wanted).max() < 1e-4


def test_every_action_is_a_clip_and_poses_are_not() -> None:
    armature, wanted = baked()
    walking = armature.animation_data.action
    pose, _ = filmed(walk(FRAMES, heading_rad=2.0), Camera.guessed((320, 240)), camera_from_world())
    bake_take(pose, armature, bone_map="auto", name="walk the other way", fps=30.0)
    still = walking.copy()
    still.name = "still"
    curves = (
        still.fcurves if hasattr(still, "fcurves") else still.layers[0].strips[0].channelbag(still.slots[0]).fcurves
    )
    for curve in curves:
        for key in curve.keyframe_points:
            key.co[1] = curve.keyframe_points[0].co[1]
        curve.update()
    somebody_elses = walking.copy()
    somebody_elses.name, somebody_elses.use_fake_user = "somebody else's", True
    for curve in curves_of(somebody_elses):
        curve.data_path = curve.data_path.replace('pose.bones["', 'pose.bones["Wing')
    motion = motion_of_armature(armature)
    assert [clip.name for clip in motion.clips] == ["walk", "walk the other way"]
    assert motion.notes == ("'still' is passed over: it is a pose and no motion.",)
    assert np.abs(motion.clips[0].positions_m[:, LANDMARKS] - wanted).max() < 1e-4
    assert np.abs(motion.clips[1].positions_m[:, LANDMARKS] - wanted).max() > 0.1


def test_strips_of_the_nla_are_a_clip() -> None:
    armature, wanted = baked()
    data = armature.animation_data
    action = data.action
    track = data.nla_tracks.new()
    track.strips.new("walk", 11, action)
    data.action = None
    motion = motion_of_armature(armature)
    clips = {clip.name: clip for clip in motion.clips}
    assert set(clips) == {"walk", "NLA"}
    assert np.abs(clips["NLA"].positions_m[:FRAMES, LANDMARKS] - wanted).max() < 1e-4


def test_what_a_file_lacks_is_told(tmp_path: Path) -> None:
    baked()
    make_rig("game_engine").name = "Other"
    path = saved(tmp_path / "two.blend")
    empty_scene()
    with pytest.raises(RigError, match="several armatures: 'Dancer', 'Other'"):
        read_character_motion(path)
    with pytest.raises(RigError, match="no armature 'Nobody'; it has 'Dancer', 'Other'"):
        read_character_motion(path, "Nobody")
    assert len(read_character_motion(path, "Dancer", "cmu_mb").clips) == 1
    with pytest.raises(RigError, match="'Other' of '.*two.blend' "):
        read_character_motion(path, "Other")
    with pytest.raises(RigError, match="no bone map|no preset|There is no"):
        read_character_motion(path, "Dancer", "unheard_of")
    saved(tmp_path / "empty.blend")
    empty_scene()
    with pytest.raises(RigError, match="no armature, so no character"):
        read_character_motion(tmp_path / "empty.blend")
    with pytest.raises(RigError, match="There is no file"):
        read_character_motion(tmp_path / "missing.fbx")
    with pytest.raises(RigError, match="holds no character"):
        read_character_motion(tmp_path / "clip.mp4")
    before = state()
    for ending in (".blend", ".fbx", ".glb", ".bvh"):
        (tmp_path / f"damaged{ending}").write_bytes(b"BLENDER-v405" + bytes(range(256)) * 8)
        with pytest.raises(RigError, match="can't be read|no armature"):
            read_character_motion(tmp_path / f"damaged{ending}")
    assert state() == before


def test_no_script_of_a_file_runs(tmp_path: Path) -> None:
    armature, _ = baked()
    witness = tmp_path / "ran"
    text = bpy.data.texts.new("hello.py")
    text.write(f"open({str(witness)!r}, 'w').close()")
    text.use_module = True
    curve = armature.driver_add("location", 0)
    curve.driver.expression = f"open({str(witness)!r}, 'w') and 0.0"
    path = saved(tmp_path / "scripts.blend")
    empty_scene()
    bpy.context.preferences.filepaths.use_scripts_auto_execute = True
    witness.unlink(missing_ok=True)
    try:
        assert len(read_character_motion(path).clips) == 1
        assert bpy.context.preferences.filepaths.use_scripts_auto_execute
    finally:
        bpy.context.preferences.filepaths.use_scripts_auto_execute = False
    assert not witness.exists()


@pytest.mark.slow
def test_a_control_rig_is_read_off_what_deforms(tmp_path_factory: pytest.TempPathFactory) -> None:
    bpy.ops.wm.open_mainfile(filepath=str(generated_rig_file(tmp_path_factory)), use_scripts=False)
    rig = bpy.data.objects["rig"]
    set_frame_rate(bpy.context.scene, 30.0)
    pose, _ = filmed(walk(FRAMES), Camera.guessed((320, 240)), camera_from_world())
    for name, options in (("fk", TakeOptions()), ("ik", TakeOptions(RetargetOptions(limbs="ik")))):
        bake_take(pose, rig, bone_map="auto", name=name, fps=30.0, options=options)
        bones = ("DEF-thigh.L", "DEF-shin.R", "DEF-foot.L", "DEF-upper_arm.R", "DEF-forearm.L", "DEF-hand.R")
        wanted = evaluated(rig, np.arange(FRAMES) + 1.0, bones)[..., :3, 3] @ Y_UP.T
        clips = {clip.name: clip for clip in motion_of_armature(rig).clips}
        assert np.abs(clips[name].positions_m[:, LANDMARKS] - wanted).max() < 1e-3
