"""Takes in their list, and bones in theirs: run again, renamed, pushed to the NLA, deleted, corrected, undone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bpy")

import bpy

import keylift
from keylift.addon.results import add_take
from keylift.core.camera import Camera
from keylift.core.track_files import write_pose
from rig_samples import empty_scene, make_rig
from walker import camera_from_world, filmed, walk


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    empty_scene()
    keylift.register()
    yield
    keylift.unregister()


@pytest.fixture
def take(tmp_path: Path) -> Any:
    path = tmp_path / "stroll.pose.npz"
    write_pose(path, filmed(walk(10), Camera.guessed((1280, 720)), camera_from_world())[0])
    return add_take(bpy.context.scene, None, path, 1, "stroll")


def settings() -> Any:
    return bpy.context.scene.keylift


def test_a_take_goes_onto_the_armature_by_the_settings_as_they_are(take: Any) -> None:
    hero = make_rig("mixamo")
    assert bpy.ops.keylift.retarget() == {"FINISHED"}
    first = hero.animation_data.action
    assert take.action == first and take.armature == hero and first.name == "stroll"
    settings().reduce = True
    assert bpy.ops.keylift.retarget() == {"FINISHED"}
    again = hero.animation_data.action
    assert again != first and take.action == again
    # What an artist did to the first action is not lost.
    assert first.name in bpy.data.actions and first.use_fake_user


def test_names_are_not_given_twice(take: Any, tmp_path: Path) -> None:
    other = add_take(bpy.context.scene, None, tmp_path / "x.pose.npz", 1, "stroll")
    assert [entry.name for entry in settings().takes] == ["stroll", "stroll 2"] and settings().active_take == 1
    assert other.name == "stroll 2"


def test_without_take_or_armature_it_says_what_is_missing(take: Any) -> None:
    assert not bpy.ops.keylift.retarget.poll()
    with pytest.raises(RuntimeError, match="Choose the armature"):
        bpy.ops.keylift.retarget()
    hero = make_rig("mixamo")
    assert bpy.ops.keylift.retarget.poll()
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RuntimeError, match="Leave Edit Mode"):
        bpy.ops.keylift.retarget()
    bpy.ops.object.mode_set(mode="OBJECT")
    settings().takes.clear()
    with pytest.raises(RuntimeError, match="no take is chosen"):
        bpy.ops.keylift.retarget()
    assert hero.animation_data is None


def test_a_pose_that_left_the_cache_is_said_to_be_gone(take: Any) -> None:
    make_rig("mixamo")
    Path(take.pose_file).unlink()
    with pytest.raises(RuntimeError, match="Lift its footage again; keypoints and"):
        bpy.ops.keylift.retarget()


def test_an_armature_that_was_deleted_is_not_the_target(take: Any) -> None:
    hero = make_rig("mixamo")
    settings().armature = hero
    bpy.data.objects.remove(hero)
    assert settings().armature is None
    other = make_rig("game_engine")
    settings().armature = other
    # Deleted with X, an object stays in memory as long as something points to it.
    bpy.context.scene.collection.objects.unlink(other)
    assert settings().armature is not None
    assert not bpy.ops.keylift.retarget.poll()


def test_renaming_takes_the_action_along(take: Any) -> None:
    make_rig("mixamo")
    bpy.ops.keylift.retarget()
    assert bpy.ops.keylift.rename_take(name="Hero walks") == {"FINISHED"}
    assert take.name == take.action.name == "Hero walks"
    with pytest.raises(RuntimeError, match="needs a name"):
        bpy.ops.keylift.rename_take(name="  ")


def test_pushed_to_the_nla_it_plays_as_a_strip(take: Any) -> None:
    hero = make_rig("mixamo")
    with pytest.raises(RuntimeError, match="Retarget the take first"):
        bpy.ops.keylift.push_take_to_nla()
    bpy.ops.keylift.retarget()
    bpy.context.scene.frame_set(5)
    keyed = [bone.matrix.copy() for bone in hero.pose.bones]
    assert bpy.ops.keylift.push_take_to_nla() == {"FINISHED"}
    data = hero.animation_data
    assert data.action is None and data.nla_tracks[0].strips[0].action == take.action
    bpy.context.scene.frame_set(1)
    bpy.context.scene.frame_set(5)
    for bone, before in zip(hero.pose.bones, keyed, strict=True):
        assert max(abs(bone.matrix[i][j] - before[i][j]) for i in range(4) for j in range(4)) < 1e-4, bone.name


def test_deleted_it_leaves_nothing_but_what_others_use(take: Any, tmp_path: Path) -> None:
    hero = make_rig("mixamo")
    bpy.ops.keylift.retarget()
    assert bpy.ops.keylift.delete_take() == {"FINISHED"}
    assert not settings().takes and not len(bpy.data.actions) and hero.animation_data.action is None
    path = tmp_path / "stroll.pose.npz"
    add_take(bpy.context.scene, None, path, 1, "stroll")
    bpy.ops.keylift.retarget()
    bpy.ops.keylift.push_take_to_nla()
    bpy.ops.keylift.delete_take()
    assert hero.animation_data.nla_tracks[0].strips[0].action is not None, "a strip plays it"


def test_each_is_one_undo_step(take: Any) -> None:
    make_rig("mixamo")
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.keylift.retarget("EXEC_DEFAULT", True) == {"FINISHED"}
    assert bpy.ops.keylift.delete_take("EXEC_DEFAULT", True) == {"FINISHED"}
    assert not settings().takes
    bpy.ops.ed.undo()
    assert settings().takes[0].action.name == "stroll"
    bpy.ops.ed.undo()
    assert settings().takes[0].action is None and not len(bpy.data.actions)
    bpy.ops.ed.redo()
    assert settings().takes[0].action.name == "stroll"


def test_what_was_recognised_is_listed_with_its_scores() -> None:
    hero = make_rig("mixamo")
    assert bpy.ops.keylift.recognise_rig() == {"FINISHED"}
    bones = {row.segment: row.bone for row in settings().bones}
    assert bones["l_upperarm"] == "mixamorig:LeftArm" and bones["head"] == "mixamorig:Head"
    assert all(0 < row.score <= 1 and row.reason for row in settings().bones)
    assert settings().mapping_family and settings().mapped_armature == hero.name
    assert bpy.ops.keylift.clear_mapping() == {"FINISHED"} and not settings().bones
    assert not bpy.ops.keylift.clear_mapping.poll()


def test_what_was_corrected_in_the_list_is_what_is_keyed(take: Any) -> None:
    hero = make_rig("mixamo")
    bpy.ops.keylift.recognise_rig()
    for row in settings().bones:
        if row.segment == "head":
            row.bone = ""
    bpy.ops.keylift.retarget()
    action = hero.animation_data.action
    bag = action if hasattr(action, "fcurves") else action.layers[0].strips[0].channelbags[0]
    keyed = {curve.data_path.split('"')[1] for curve in bag.fcurves}
    assert "mixamorig:LeftArm" in keyed and "mixamorig:Head" not in keyed
    settings().bones[0].bone = "no such bone"
    with pytest.raises(RuntimeError, match="names a bone 'no such bone'"):
        bpy.ops.keylift.retarget()


def test_a_list_of_another_armature_has_no_say(take: Any) -> None:
    make_rig("mixamo")
    bpy.ops.keylift.recognise_rig()
    other = make_rig("game_engine")
    settings().bones[0].bone = "no such bone"
    bpy.context.view_layer.objects.active = other
    assert bpy.ops.keylift.retarget() == {"FINISHED"}
    assert take.armature == other


def test_choosing_another_armature_forgets_the_list() -> None:
    make_rig("mixamo")
    bpy.ops.keylift.recognise_rig()
    settings().armature = make_rig("game_engine")
    assert not settings().bones


def test_a_corrected_list_can_be_kept_and_chosen(take: Any) -> None:
    from keylift.rig_mapping.bone_map import load_bone_map
    from keylift.rig_mapping.own_maps import user_folder

    make_rig("mixamo")
    with pytest.raises(RuntimeError, match="Press Recognise first"):
        bpy.ops.keylift.save_bone_map(name="my hero")
    bpy.ops.keylift.recognise_rig()
    assert bpy.ops.keylift.save_bone_map(name="my hero") == {"FINISHED"}
    try:
        assert settings().bone_map == "my hero"
        assert load_bone_map("my hero").bones["head"] == ("mixamorig:Head",)
        settings().bones.clear()
        assert bpy.ops.keylift.retarget() == {"FINISHED"}
    finally:
        folder = user_folder()
        assert folder is not None
        (folder / "my hero.json").unlink()


def test_the_chosen_map_keeps_its_place_when_others_come_and_go() -> None:
    from keylift.rig_mapping.bone_map import load_bone_map, save_bone_map

    settings().bone_map = "mixamo"
    own = save_bone_map("aaa first of all", load_bone_map("mixamo"))
    try:
        assert settings().bone_map == "mixamo"
    finally:
        own.unlink()
    assert settings().bone_map == "mixamo"


def test_shipped_presets_set_what_they_say() -> None:
    folder = Path(keylift.addon.__file__).parent / "presets" / "keylift" / "retarget"
    presets = sorted(folder.glob("*.py"))
    assert len(presets) >= 5
    for preset in presets:
        settings().path, settings().limbs = "in_place", "ik"
        bpy.ops.script.execute_preset(filepath=str(preset), menu_idname="KEYLIFT_MT_retarget_presets")
        assert settings().path in ("keep", "both"), preset.name
    bpy.ops.script.execute_preset(
        filepath=str(folder / "game_root_motion.py"), menu_idname="KEYLIFT_MT_retarget_presets"
    )
    assert (settings().path, settings().path_on, settings().markers) == ("both", "root", False)
