"""Control rigs: the deforming bones do what was solved, by FK and by IK, and measuring a rig leaves no trace on it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

from control_rig_samples import OWN_LIMBS, RIGIFY_LIMBS, generated_rig_file, make_own_rig, own_rig_map, rig_facts
from keylift.addon import control_rigs
from keylift.addon.armature_reading import read_rest_pose
from keylift.addon.control_rigs import property_values, read_controls
from keylift.addon.rigs import animatable
from keylift.addon.takes import RetargetSummary, TakeOptions, bake_take
from keylift.core.camera import Camera
from keylift.core.errors import RigError
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_map import BoneMap, load_bone_map
from keylift.rig_mapping.bone_motion import fk
from keylift.rig_mapping.key_reduction import KeyTolerance
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.solve import RetargetOptions, solve
from rig_samples import empty_scene, evaluated
from walker import camera_from_world, filmed, walk

FRAMES = 40
SLIDE_MM_S = 5.0
# Rigify's IK bones may stretch, and Blender's solver makes use of it by a thousandth: knees are a little off.
RIGIFY_IK_MM, RIGIFY_IK_DEG, ENDS_MM, ENDS_DEG = 30.0, 3.5, 0.5, 0.2
SWITCHES = [f"{limb}_parent.{side}" for limb in ("upper_arm", "thigh") for side in "LR"]


@pytest.fixture(scope="module")
def rigify_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generated_rig_file(tmp_path_factory)


def opened(rigify_file: Path) -> Any:
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file), use_scripts=False)
    return bpy.data.objects["rig"]


@pytest.fixture
def rigify(rigify_file: Path) -> Any:
    return opened(rigify_file)


@pytest.fixture(scope="module")
def plain(rigify_file: Path) -> RestPose:
    """The controls of the generated rig as it was saved, by IK."""
    rig = opened(rigify_file)
    return read_controls(rig, *bound(rig, "rigify_control"), "ik")[0]


@pytest.fixture(scope="module")
def wanted(rigify_file: Path) -> Callable[..., np.ndarray]:
    """What is solved for the generated rig as it was saved, once for each choice of options."""

    @functools.cache
    def found(**options: Any) -> np.ndarray:
        return solved(opened(rigify_file), "rigify_control", RIGIFY_LIMBS, **options)

    return found


@pytest.fixture
def own(tmp_path: Path) -> tuple[Any, str]:
    """The rig of another design, and the path of its map."""
    empty_scene()
    return make_own_rig(), str(own_rig_map(tmp_path / "own.json"))


def walking(frames: int = FRAMES) -> PoseTrack:
    return filmed(walk(frames), Camera.guessed((1280, 720)), camera_from_world())[0]


def bound(rig: Any, bone_map: str) -> tuple[RestPose, BoneMap]:
    rest = read_rest_pose(rig)
    return rest, load_bone_map(bone_map).bound_to(rest)


def bake(
    rig: Any, bone_map: str = "rigify_control", reduce: KeyTolerance | None = None, **options: Any
) -> RetargetSummary:
    pose = walking()
    chosen = TakeOptions(retarget=RetargetOptions(**options), reduce=reduce)
    return bake_take(pose, rig, bone_map=bone_map, name="take", fps=pose.fps, options=chosen)[0]


def solved(rig: Any, bone_map: str, limbs: dict[str, str], **options: Any) -> np.ndarray:
    """(F, L, 4, 4) where FK controls of the limbs should be, world."""
    rest, mapping = bound(rig, bone_map)
    controls, _ = read_controls(rig, rest, mapping, "fk")
    motion = solve(walking(), controls, mapping, RetargetOptions(**options))
    return rest.world_from_armature @ fk(controls, motion, [controls.names.index(bone) for bone in limbs.values()])


def evaluated_limbs(rig: Any, limbs: dict[str, str]) -> np.ndarray:
    return evaluated(rig, np.arange(1.0, FRAMES + 1), tuple(limbs))


def off_mm(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(L,)"""
    return 1000 * np.linalg.norm(a[..., :3, 3] - b[..., :3, 3], axis=-1).max(axis=0)


def off_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(L,) between the directions that bones point in."""
    u, v = a[..., :3, 1], b[..., :3, 1]
    angle = np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), np.sum(u * v, axis=-1))
    return np.degrees(angle).max(axis=0)


def check_limbs(
    found: np.ndarray, expected: np.ndarray, limbs: dict[str, str], exact: bool, scale: float = 1.0
) -> None:
    mm, deg = off_mm(found, expected) / scale, off_deg(found, expected)
    ends = np.array([any(part in bone for part in ("hand", "foot", "toe")) for bone in limbs])
    starts = np.array([any(part in bone for part in ("arm", "thigh")) and "fore" not in bone for bone in limbs])
    # Of a rig a hundred times as large in its own units, single precision keeps less.
    rounding = 0.1 if scale == 1.0 else 0.5
    if exact:
        assert mm.max() < rounding and deg.max() < 0.05
        return
    assert mm[ends].max() < ENDS_MM and mm[starts].max() < rounding and mm.max() < RIGIFY_IK_MM
    assert deg[ends].max() < ENDS_DEG and deg.max() < RIGIFY_IK_DEG


def slide_mm_s(rig: Any, feet: dict[str, tuple[str, str]]) -> float:
    """Fastest that heel or ball of a standing foot moves, told by its deforming bones."""
    pose = walking()
    worst = 0.0
    for side, (foot, toe) in feet.items():
        posed = evaluated(rig, np.arange(1.0, FRAMES + 1), (foot, toe))[..., :3, 3]
        stands = pose.contact[:, slice(0, 2) if side == "l" else slice(2, 4)] > 0.5
        speed = np.linalg.norm(np.diff(posed, axis=0), axis=-1) * pose.fps * 1000
        both = (stands[1:] & stands[:-1]).all(axis=1)
        worst = max(worst, float(speed[both].max()))
    return worst


def curves(action: Any) -> dict[str, Any]:
    bags = [action]
    if hasattr(action, "layers"):
        bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    return {f"{curve.data_path}[{curve.array_index}]": curve for bag in bags for curve in bag.fcurves}


# --- Rigify ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limbs", ["fk", "ik"])
def test_a_generated_rig_does_what_was_solved(rigify_file: Path, wanted: Any, limbs: str) -> None:
    expected = wanted()
    rigify = opened(rigify_file)
    summary = bake(rigify, limbs=limbs)
    assert not summary.warnings
    check_limbs(evaluated_limbs(rigify, RIGIFY_LIMBS), expected, RIGIFY_LIMBS, exact=limbs == "fk")
    feet = {"l": ("DEF-foot.L", "DEF-toe.L"), "r": ("DEF-foot.R", "DEF-toe.R")}
    assert slide_mm_s(rigify, feet) <= SLIDE_MM_S
    keyed = curves(rigify.animation_data.action)
    for bone in SWITCHES:
        for name, values in (("IK_FK", {"fk": 1.0, "ik": 0.0}), ("pole_vector", {"fk": 0.0, "ik": 1.0})):
            curve = keyed[f'pose.bones["{bone}"]["{name}"][0]']
            assert [tuple(point.co) for point in curve.keyframe_points] == [(1.0, values[limbs])]
    assert ('pose.bones["hand_ik.L"].location[0]' in keyed) == (limbs == "ik")
    assert ('pose.bones["forearm_fk.L"].rotation_quaternion[0]' in keyed) == (limbs == "fk")


@pytest.mark.slow
@pytest.mark.parametrize("limbs", ["fk", "ik"])
@pytest.mark.parametrize("options", [{"path_on": "root"}, {"path": "in_place"}])
def test_a_path_on_the_root_and_in_place(rigify_file: Path, wanted: Any, limbs: str, options: dict[str, str]) -> None:
    expected = wanted(**options)
    rigify = opened(rigify_file)
    bake(rigify, limbs=limbs, **options)
    check_limbs(evaluated_limbs(rigify, RIGIFY_LIMBS), expected, RIGIFY_LIMBS, exact=limbs == "fk")
    keyed = curves(rigify.animation_data.action)
    assert ('pose.bones["root"].location[0]' in keyed) == ("path_on" in options)


@pytest.mark.slow
@pytest.mark.parametrize("limbs", ["fk", "ik"])
def test_small_and_turned_objects(rigify: Any, limbs: str) -> None:
    rigify.scale, rigify.rotation_euler, rigify.location = (0.01,) * 3, (0.3, -0.2, 2.0), (1.0, -2.0, 0.5)
    bpy.context.view_layer.update()
    expected = solved(rigify, "rigify_control", RIGIFY_LIMBS)
    bake(rigify, limbs=limbs)
    check_limbs(evaluated_limbs(rigify, RIGIFY_LIMBS), expected, RIGIFY_LIMBS, exact=limbs == "fk", scale=0.01)


@pytest.mark.slow
def test_fewer_keys_on_ik_controls(rigify: Any) -> None:
    bake(rigify, limbs="ik")
    full = evaluated_limbs(rigify, RIGIFY_LIMBS)
    summary = bake(rigify, limbs="ik", reduce=KeyTolerance(0.5, 5.0))
    reduced = evaluated_limbs(rigify, RIGIFY_LIMBS)
    assert summary.share_of_keys < 0.7
    ends = [index for index, bone in enumerate(RIGIFY_LIMBS) if "hand" in bone or "foot" in bone]
    assert off_mm(full, reduced)[ends].max() < 6.0


@pytest.mark.slow
@pytest.mark.parametrize("limbs", ["fk", "ik"])
def test_a_library_override_of_the_generated_rig(rigify_file: Path, limbs: str) -> None:
    empty_scene()
    with bpy.data.libraries.load(str(rigify_file), link=True) as (_, into):
        into.objects = ["rig"]
    bpy.context.scene.collection.objects.link(into.objects[0])
    rig = animatable(into.objects[0])
    assert rig.override_library is not None
    before = rig_facts(rig)
    expected = solved(rig, "rigify_control", RIGIFY_LIMBS)
    assert rig_facts(rig) == before
    bake(rig, limbs=limbs)
    check_limbs(evaluated_limbs(rig, RIGIFY_LIMBS), expected, RIGIFY_LIMBS, exact=limbs == "fk")


def animated(rig: Any) -> None:
    """As an animator may leave it: posed controls, an action with changes not keyed yet, a slot, NLA strips."""
    scene = bpy.context.scene
    bones = rig.pose.bones
    for frame, shift in ((1, 0.0), (30, 0.5)):
        bones["torso"].location = (0, shift, 0.1)
        bones["torso"].keyframe_insert("location", frame=frame)
        bones["thigh_parent.L"]["IK_FK"] = shift
        bones["thigh_parent.L"].keyframe_insert('["IK_FK"]', frame=frame)
    data = rig.animation_data
    strip = data.nla_tracks.new().strips.new("old", 1, data.action)
    strip.blend_type = "ADD"
    scene.frame_set(12)
    bones["torso"].location = (0.3, 0.2, 0.1)
    bones["chest"].rotation_mode = "XYZ"
    bones["chest"].rotation_euler = (0.1, 0.2, 0.05)
    bones["jaw_master"].rotation_quaternion = (0.9, 0.1, 0.0, 0.1)
    bones["torso"]["neck_follow"] = 0.25
    bpy.context.view_layer.update()


@pytest.mark.parametrize("limbs", ["fk", "ik"])
def test_measuring_leaves_an_animated_rig_as_it_was(rigify: Any, limbs: str) -> None:
    animated(rigify)
    before = rig_facts(rigify)
    rest, mapping = bound(rigify, "rigify_control")
    read_controls(rigify, rest, mapping, limbs)
    property_values(rigify, mapping.controls, limbs)
    assert rig_facts(rigify) == before


def test_measuring_that_fails_leaves_the_rig_as_it_was(rigify: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    animated(rigify)
    rigify.hide_viewport = True
    rigify.data.pose_position = "REST"
    bpy.context.view_layer.update()
    before = rig_facts(rigify)

    def fail(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(control_rigs, "following", fail)
    with pytest.raises(MemoryError):
        read_controls(rigify, *bound(rigify, "rigify_control"), "ik")
    assert rig_facts(rigify) == before


@pytest.mark.slow
@pytest.mark.parametrize("limbs", ["fk", "ik"])
def test_an_animated_rig_does_what_was_solved(rigify: Any, limbs: str) -> None:
    animated(rigify)
    rigify.animation_data.nla_tracks[0].mute = True
    if limbs == "ik":
        # Posed, it would carry the arms' FK controls away from the IK controls, which is told of below.
        rigify.pose.bones["chest"].rotation_euler = (0.0, 0.0, 0.0)
    expected = solved(rigify, "rigify_control", RIGIFY_LIMBS)
    old = rigify.animation_data.action
    summary = bake(rigify, limbs=limbs)
    assert not summary.warnings
    assert rigify.animation_data.action is not old and old.use_fake_user
    check_limbs(evaluated_limbs(rigify, RIGIFY_LIMBS), expected, RIGIFY_LIMBS, exact=limbs == "fk")


@pytest.mark.slow
@pytest.mark.parametrize("state", ["eye", "viewport", "collection", "pose mode", "rest position"])
def test_rigs_that_are_hidden_posed_or_at_rest_are_measured_alike(
    plain: RestPose, rigify_file: Path, state: str
) -> None:
    rigify = opened(rigify_file)
    rest, mapping = bound(rigify, "rigify_control")
    if state == "eye":
        rigify.hide_set(True)
    elif state == "viewport":
        rigify.hide_viewport = True
    elif state == "collection":
        hidden = bpy.data.collections.new("hidden")
        bpy.context.scene.collection.children.link(hidden)
        hidden.objects.link(rigify)
        bpy.context.scene.collection.objects.unlink(rigify)
        bpy.context.view_layer.layer_collection.children["hidden"].hide_viewport = True
        hidden.hide_viewport = True
    elif state == "pose mode":
        bpy.context.view_layer.objects.active = rigify
        bpy.ops.object.mode_set(mode="POSE")
    else:
        rigify.data.pose_position = "REST"
    bpy.context.view_layer.update()
    before = rig_facts(rigify)
    controls, warnings = read_controls(rigify, rest, mapping, "ik")
    assert rig_facts(rigify) == before
    assert not warnings
    assert (controls.names, controls.parents) == (plain.names, plain.parents)
    assert np.abs(controls.armature_from_bone - plain.armature_from_bone).max() < 1e-5


def test_a_rig_in_edit_mode_or_in_a_tweaked_strip_says_so(rigify: Any) -> None:
    rest, mapping = bound(rigify, "rigify_control")
    bpy.context.view_layer.objects.active = rigify
    bpy.ops.object.mode_set(mode="EDIT")
    with pytest.raises(RigError, match="edit mode"):
        read_controls(rigify, rest, mapping, "fk")
    bpy.ops.object.mode_set(mode="OBJECT")
    rigify.pose.bones["torso"].keyframe_insert("location", frame=1)
    data = rigify.animation_data
    track = data.nla_tracks.new()
    strip = track.strips.new("old", 1, data.action)
    data.action = None
    data.nla_tracks.active, track.select, strip.select = track, True, True
    data.use_tweak_mode = True
    with pytest.raises(RigError, match="tweak"):
        read_controls(rigify, rest, mapping, "fk")


@pytest.mark.slow
def test_a_neck_that_follows_in_part_is_told_of_with_what_to_set(rigify: Any) -> None:
    rest, mapping = bound(rigify, "rigify_control")
    assert mapping.controls is not None
    unset = replace(mapping, controls=replace(mapping.controls, settings=()))
    _, warnings = read_controls(rigify, rest, unset, "fk")
    told = [warning for warning in warnings if "only in part" in warning]
    assert told and all("'neck_follow of torso'" in warning for warning in told)


@pytest.mark.slow
@pytest.mark.parametrize("control", ["foot_heel_ik.L", "chest"])
def test_controls_left_posed_that_lead_ik_astray_are_told_of(rigify: Any, control: str) -> None:
    rigify.pose.bones[control].rotation_mode = "XYZ"
    rigify.pose.bones[control].rotation_euler = (0.4, 0.0, 0.0)
    bpy.context.view_layer.update()
    _, warnings = read_controls(rigify, *bound(rigify, "rigify_control"), "ik")
    assert any("IK controls at rest" in warning for warning in warnings)


@pytest.mark.slow
def test_a_limb_without_ik_control_keeps_its_switches_on_fk(rigify_file: Path, wanted: Any) -> None:
    expected = wanted()
    rigify = opened(rigify_file)
    rest, mapping = bound(rigify, "rigify_control")
    assert mapping.controls is not None
    ik = {limb: control for limb, control in mapping.controls.ik.items() if limb != "r_hand"}
    armless = replace(mapping, controls=replace(mapping.controls, ik=ik))
    values = property_values(rigify, armless.controls, "ik")
    for bone in SWITCHES:
        on_ik = bone != "upper_arm_parent.R"
        assert (values[bone, "IK_FK"], values[bone, "pole_vector"]) == ((0.0, 1.0) if on_ik else (1.0, 0.0))
    pose = walking()
    options = TakeOptions(retarget=RetargetOptions(limbs="ik"))
    summary, _ = bake_take(pose, rigify, bone_map=armless, name="take", fps=pose.fps, options=options)
    assert [warning for warning in summary.warnings if "right hand" in warning]
    found = evaluated_limbs(rigify, RIGIFY_LIMBS)
    check_limbs(found, expected, RIGIFY_LIMBS, exact=False)
    arm = [index for index, bone in enumerate(RIGIFY_LIMBS) if bone.endswith("arm.R")]
    assert off_mm(found, expected)[arm].max() < 0.1


# --- a rig of another design, by a user's own map --------------------------------------------------------------------


@pytest.mark.parametrize("limbs", ["fk", "ik"])
def test_a_rig_of_another_design_does_what_was_solved(own: tuple[Any, str], limbs: str) -> None:
    rig, bone_map = own
    expected = solved(rig, bone_map, OWN_LIMBS)
    summary = bake(rig, bone_map, limbs=limbs)
    assert not summary.warnings
    check_limbs(evaluated_limbs(rig, OWN_LIMBS), expected, OWN_LIMBS, exact=True)
    assert slide_mm_s(rig, {side: (f"foot.{side}", f"toes.{side}") for side in "lr"}) <= SLIDE_MM_S
    for limb in ("hand", "foot"):
        curve = curves(rig.animation_data.action)[f'pose.bones["c_{limb}_ik.l"]["ik_fk_switch"][0]']
        assert curve.keyframe_points[0].co[1] == (1.0 if limbs == "fk" else 0.0)


def test_a_switch_that_is_not_there_is_told_of(own: tuple[Any, str], tmp_path: Path) -> None:
    rig, _ = own
    switch = {"bone": "c_hand_ik.l", "property": "FK_IK", "fk": 1.0, "ik": 0.0}
    rig.pose.bones["c_hand_ik.r"]["ik_fk_switch"] = "a text"
    other = {"bone": "c_hand_ik.r", "property": "ik_fk_switch", "fk": 1.0, "ik": 0.0}
    bone_map = str(own_rig_map(tmp_path / "other.json", switches=[switch, other]))
    _, warnings = read_controls(rig, *bound(rig, bone_map), "fk")
    assert any(
        "'FK_IK of c_hand_ik.l'" in warning and "'ik_fk_switch of c_hand_ik.r'" in warning for warning in warnings
    )
    # Nothing puts the limbs on their FK controls, and that is told of as well.
    assert any("will not show" in warning and "'c_thigh_fk.l'" in warning for warning in warnings)
    assert bake(rig, bone_map).keyed_bones > 10


def test_drivers_that_may_not_run_are_told_of(own: tuple[Any, str], tmp_path: Path) -> None:
    rig, bone_map = own
    for curve in rig.animation_data.drivers:
        if "arm.l" in curve.data_path:
            curve.driver.expression = "switch * __import__('math').pi"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "rig.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "rig.blend"), use_scripts=False)
    rig = bpy.data.objects["own"]
    before = rig_facts(rig)
    _, warnings = read_controls(rig, *bound(rig, bone_map), "ik")
    assert any("drivers" in warning and "arm.l" in warning for warning in warnings)
    assert rig_facts(rig) == before
