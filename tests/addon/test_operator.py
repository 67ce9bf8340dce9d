"""The operator and the panel, as the extension registers them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

import keylift
from keylift.core.camera import Camera
from keylift.core.track_files import write_pose
from rig_samples import empty_scene, evaluated, make_rig
from walker import camera_from_world, filmed, walk


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    empty_scene()
    keylift.register()
    yield
    keylift.unregister()


@pytest.fixture
def pose_file(tmp_path: Path) -> Path:
    path = tmp_path / "stroll.pose.npz"
    write_pose(path, filmed(walk(10), Camera.guessed((1280, 720)), camera_from_world())[0])
    return path


def test_it_bakes_onto_the_active_armature(pose_file: Path) -> None:
    armature = make_rig("mixamo")
    still = evaluated(armature, [1, 5], ("mixamorig:LeftFoot",))
    assert bpy.ops.keylift.import_take(filepath=str(pose_file)) == {"FINISHED"}
    action = armature.animation_data.action
    assert action.name == "stroll"
    # The scene keeps its own frame rate; ten frames at 30 a second take 0.3 s.
    assert tuple(action.frame_range) == pytest.approx((1.0, 1.0 + 0.3 * bpy.context.scene.render.fps), abs=1e-3)
    assert np.abs(evaluated(armature, [1, 5], ("mixamorig:LeftFoot",)) - still).max() > 0.05


def test_a_wrong_choice_of_bone_map_is_reported_and_nothing_is_keyed(pose_file: Path) -> None:
    armature = make_rig("mixamo")
    with pytest.raises(RuntimeError, match="no bone on 'mixamo' for: hips"):
        bpy.ops.keylift.import_take(filepath=str(pose_file), bone_map="mpfb_default")
    assert armature.animation_data is None or armature.animation_data.action is None


def test_a_file_that_is_no_pose_is_reported(tmp_path: Path) -> None:
    make_rig("mixamo")
    (tmp_path / "x.pose.npz").write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="damaged"):
        bpy.ops.keylift.import_take(filepath=str(tmp_path / "x.pose.npz"))


def test_it_is_greyed_out_without_an_armature(pose_file: Path) -> None:
    assert not bpy.ops.keylift.import_take.poll()
    bpy.ops.mesh.primitive_cube_add()
    assert not bpy.ops.keylift.import_take.poll()
    with pytest.raises(RuntimeError, match="Select the armature"):
        bpy.ops.keylift.import_take(filepath=str(pose_file))
    make_rig("mixamo")
    assert bpy.ops.keylift.import_take.poll()
    bpy.ops.object.mode_set(mode="EDIT")
    assert not bpy.ops.keylift.import_take.poll()
    bpy.ops.object.mode_set(mode="POSE")
    assert bpy.ops.keylift.import_take.poll()


def test_every_preset_can_be_chosen() -> None:
    from keylift.addon.retarget_choices import bone_map_items
    from keylift.rig_mapping.bone_map import load_bone_map, preset_names, save_bone_map

    def choices() -> list[str]:
        return [identifier for identifier, *_ in bone_map_items(None, bpy.context)]

    assert choices() == ["auto", *preset_names()]
    own = save_bone_map("my hero", load_bone_map("mixamo"))
    try:
        assert "my hero" in choices(), "a map that was saved meanwhile"
    finally:
        own.unlink()


def test_the_take_is_one_undo_step(pose_file: Path) -> None:
    armature = make_rig("mixamo")
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.keylift.import_take("EXEC_DEFAULT", True, filepath=str(pose_file), path="both") == {"FINISHED"}
    assert {action.name for action in bpy.data.actions} == {"stroll", "stroll in place"}
    assert len(bpy.context.scene.timeline_markers)
    bpy.ops.ed.undo()
    armature = bpy.data.objects["mixamo"]
    assert not len(bpy.data.actions) and not len(bpy.context.scene.timeline_markers)
    assert armature.animation_data is None or armature.animation_data.action is None
    bpy.ops.ed.redo()
    assert bpy.data.objects["mixamo"].animation_data.action.name == "stroll"


def test_its_settings_reach_the_take(pose_file: Path) -> None:
    armature = make_rig("mixamo")
    bpy.ops.keylift.import_take(filepath=str(pose_file), reduce=True, markers=False, path="in_place")
    bag = armature.animation_data.action
    curves = bag.fcurves if hasattr(bag, "fcurves") else bag.layers[0].strips[0].channelbags[0].fcurves
    assert min(len(curve.keyframe_points) for curve in curves) < 10
    assert not len(bpy.context.scene.timeline_markers)
    hips = evaluated(armature, [1, 5], ("mixamorig:Hips",))[:, 0, :2, 3]
    assert np.abs(hips[1] - hips[0]).max() < 0.02


def test_one_undo_step_takes_it_back(pose_file: Path) -> None:
    make_rig("mixamo")
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.keylift.import_take(filepath=str(pose_file))
    bpy.ops.ed.undo_push(message="after")
    assert "stroll" in bpy.data.actions
    bpy.ops.ed.undo()
    assert "stroll" not in bpy.data.actions


def test_the_panel_is_in_the_sidebar() -> None:
    panel = bpy.types.KEYLIFT_PT_view_main
    assert (panel.bl_space_type, panel.bl_region_type, panel.bl_category) == ("VIEW_3D", "UI", "Keylift")


def test_registering_again_and_again() -> None:
    for _ in range(3):
        keylift.unregister()
        assert not hasattr(bpy.types, "KEYLIFT_PT_view_main")
        keylift.register()
        assert hasattr(bpy.types, "KEYLIFT_OT_import_take")
