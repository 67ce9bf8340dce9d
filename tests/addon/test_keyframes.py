"""Keys in Blender: the evaluated armature does what was solved, and nothing else of it has changed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

from keylift.addon.armature_reading import read_rest_pose
from keylift.addon.keyframe_writing import frame_numbers, write_keyframes
from keylift.addon.takes import TakeOptions, bake_take, set_frame_rate
from keylift.core.camera import Camera
from keylift.core.errors import Cancelled, RigError
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.key_reduction import KeyTolerance
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rotation_channels import EULER_ORDERS
from keylift.rig_mapping.solve import solve
from rig_samples import (
    PRESET_OF,
    Performance,
    empty_scene,
    evaluated,
    make_rig,
    plausible_turns,
)
from walker import camera_from_world, filmed, walk

FRAMES = 8
MODES = ("QUATERNION", "AXIS_ANGLE", *EULER_ORDERS)


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


def walking(frames: int = FRAMES) -> PoseTrack:
    return filmed(walk(frames), Camera.guessed((1280, 720)), camera_from_world())[0]


def keyed(armature: Any, pose: PoseTrack) -> tuple[np.ndarray, np.ndarray]:
    """Blender's evaluated bones and our own forward kinematics: (F, B, 4, 4) each, world space."""
    rest = read_rest_pose(armature)
    motion = solve(pose, rest, recognise(rest))
    write_keyframes(armature, rest, motion, "take", fps=pose.fps)
    found = evaluated(armature, frame_numbers(motion, pose.fps), rest.names)
    return found, rest.world_from_armature @ fk(rest, motion)


def assert_same(found: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> None:
    assert np.abs(found[..., :3, 3] - expected[..., :3, 3]).max() < 1e-4 * max(scale, 1)
    assert np.abs(found[..., :3, :3] - expected[..., :3, :3]).max() < 1e-4 * scale


@pytest.mark.parametrize("name", list(PRESET_OF))
def test_blender_evaluates_the_solved_pose(name: str) -> None:
    armature = make_rig(name)
    assert_same(*keyed(armature, walking()))


@pytest.mark.parametrize("name", list(PRESET_OF))
def test_blender_gives_the_known_performance_back(name: str) -> None:
    armature = make_rig(name)
    rest = read_rest_pose(armature)
    path = np.random.default_rng(1).normal([0, 0, 1], 0.2, (FRAMES, 3))
    known = Performance(rest, PRESET_OF[name], plausible_turns(FRAMES, seed=4), path)
    found, _ = keyed(armature, known.pose)
    mapped = [rest.names.index(bone) for chain in known.chains.values() for bone in chain]
    off = found[:, mapped][..., :3, 3] - known.heads[:, mapped]
    off[..., 2] -= np.median(off[..., 2])  # the floor is the rig's own affair
    assert np.linalg.norm(off, axis=-1).max() < 1e-3
    along, known_along = found[:, mapped][..., :3, 1], known.turned[:, mapped][..., 1]
    cross = np.linalg.norm(np.cross(along, known_along), axis=-1)
    assert np.degrees(np.arctan2(cross, np.sum(along * known_along, axis=-1))).max() < 0.1


def test_every_rotation_mode_is_kept_and_obeyed() -> None:
    armature = make_rig("mixamo")
    for index, bone in enumerate(armature.pose.bones):
        bone.rotation_mode = MODES[index % len(MODES)]
    modes = [bone.rotation_mode for bone in armature.pose.bones]
    assert_same(*keyed(armature, walking()))
    assert [bone.rotation_mode for bone in armature.pose.bones] == modes


def test_odd_objects_and_odd_bones() -> None:
    armature = make_rig("game_engine")
    armature.scale = (0.01, 0.01, 0.01)
    armature.rotation_euler = (0.4, -0.2, 2.0)
    armature.location = (3.0, 1.0, -2.0)
    bones = armature.data.bones
    bones["pelvis"].use_local_location = False
    bones["head"].use_inherit_rotation = False
    bones["upperarm_l"].use_inherit_rotation = False
    root, finger = armature.pose.bones["Root"], armature.pose.bones["index_01_l"]
    root.location, root.rotation_mode, root.rotation_euler = (0.3, 0.1, -0.2), "XYZ", (0.3, 0.2, 0.1)
    finger.rotation_quaternion = (0.9, 0.1, 0.3, 0.0)
    bpy.context.view_layer.update()
    assert_same(*keyed(armature, walking()), scale=0.01)


def test_hips_below_a_posed_and_turned_root_without_local_location() -> None:
    armature = make_rig("game_engine")
    armature.data.bones["Root"].use_local_location = False
    armature.data.bones["pelvis"].use_inherit_rotation = False
    armature.pose.bones["Root"].rotation_mode = "XYZ"
    armature.pose.bones["Root"].rotation_euler = (0.5, -0.4, 1.0)
    armature.pose.bones["Root"].location = (0.2, 0.0, 0.1)
    bpy.context.view_layer.update()
    assert_same(*keyed(armature, walking()))


def fingerprint(armature: Any) -> str:
    """All that a take must leave alone: rest bones, modes, locks, object transform, bones without keys."""
    digest = hashlib.sha256()
    for bone in armature.data.bones:
        facts = (bone.name, bone.matrix_local, bone.length, bone.use_connect, bone.use_inherit_rotation, bone.parent)
        digest.update(repr(facts).encode())
    for bone in armature.pose.bones:
        digest.update(repr((bone.rotation_mode, bone.lock_location[:], bone.lock_rotation[:], bone.scale[:])).encode())
    digest.update(repr((armature.matrix_world, armature.name, armature.data.name)).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("name", list(PRESET_OF))
def test_the_rig_itself_is_left_alone(name: str) -> None:
    armature = make_rig(name)
    before = fingerprint(armature)
    keyed(armature, walking())
    assert fingerprint(armature) == before


def curves_of(action: Any) -> list[Any]:
    if not hasattr(action, "layers"):
        return list(action.fcurves)
    return [
        curve for layer in action.layers for strip in layer.strips for bag in strip.channelbags for curve in bag.fcurves
    ]


def test_only_mapped_bones_are_keyed_and_only_hips_are_moved() -> None:
    armature = make_rig("rigify_metarig")
    summary, motion = bake_take(walking(), armature, bone_map="auto", name="walk", fps=30.0)
    rest = read_rest_pose(armature)
    curves = curves_of(bpy.data.actions[summary.action])
    bones = {curve.data_path.split('"')[1] for curve in curves}
    assert bones == {rest.names[bone] for bone in motion.keyed}
    assert {curve.data_path for curve in curves if curve.data_path.endswith("location")} == {
        'pose.bones["spine"].location'
    }
    assert all(len(curve.keyframe_points) == FRAMES for curve in curves)
    assert all(curve.group is not None and curve.group.name in curve.data_path for curve in curves)


def test_an_old_action_stays_in_the_file(tmp_path: Any) -> None:
    armature = make_rig("mixamo")
    rest = read_rest_pose(armature)
    motion = solve(walking(), rest, recognise(rest))
    old = write_keyframes(armature, rest, motion, "old", fps=30.0)
    before = [tuple(point.co) for curve in curves_of(old) for point in curve.keyframe_points]
    new = write_keyframes(armature, rest, motion, "old", fps=24.0)
    assert armature.animation_data.action == new != old
    assert new.name == "old.001"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "both.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "both.blend"))
    kept = bpy.data.actions["old"]
    assert [tuple(point.co) for curve in curves_of(kept) for point in curve.keyframe_points] == before


def test_frames_follow_the_clock_of_the_footage() -> None:
    pose = walking(6)
    uneven = replace(pose, time_s=np.array([1.0, 1.04, 1.08, 1.2, 1.24, 1.3]))
    armature = make_rig("mixamo")
    rest = read_rest_pose(armature)
    motion = solve(uneven, rest, recognise(rest))
    assert np.allclose(frame_numbers(motion, 25.0), [1, 2, 3, 6, 7, 8.5])
    write_keyframes(armature, rest, motion, "uneven", fps=25.0)
    found = evaluated(armature, [8.5], rest.names)
    assert np.abs(found[0] - (rest.world_from_armature @ fk(rest, motion))[-1]).max() < 1e-4


@pytest.mark.parametrize("fps", [24.0, 30000 / 1001, 60000 / 1001, 60.0, 120.0, 240.0])
@pytest.mark.parametrize("started_s", [0.0, 0.0104])
def test_a_clock_of_whole_milliseconds_still_gives_whole_frames(fps: float, started_s: float) -> None:
    motion = counted(np.round(started_s + np.arange(500) / fps, 3))
    assert np.array_equal(frame_numbers(motion, fps), np.arange(1, 501))


def test_pictures_in_quick_succession_keep_frames_of_their_own() -> None:
    frames = frame_numbers(counted(np.array([0.0, 0.0090, 0.0110, 0.02])), 100.0)
    assert np.allclose(frames, [1, 1.9, 2.1, 3])


def counted(time_s: np.ndarray) -> BoneMotion:
    """A motion with these presentation times."""
    rest = read_rest_pose(make_rig("mixamo"))
    motion = solve(walking(), rest, recognise(rest))
    return replace(
        motion,
        rotations_wxyz=np.resize(motion.rotations_wxyz, (len(time_s), len(motion.keyed), 4)),
        locations=np.resize(motion.locations, (len(time_s), 1, 3)),
        time_s=time_s,
        frame_index=np.arange(len(time_s)),
        stands=np.zeros((len(time_s), 4), dtype=bool),
    )


@pytest.mark.parametrize("fps", [24.0, 25.0, 30000 / 1001, 60.0, 59.94, 23.976, 0.5, 240.0, 12.5])
def test_any_frame_rate(fps: float) -> None:
    assert set_frame_rate(bpy.context.scene, fps) == pytest.approx(fps, rel=1e-6)


def test_stopping_leaves_the_old_action_in_place() -> None:
    armature = make_rig("mixamo")
    rest = read_rest_pose(armature)
    motion = solve(walking(), rest, recognise(rest))
    old = write_keyframes(armature, rest, motion, "old", fps=30.0)
    with pytest.raises(Cancelled):
        write_keyframes(armature, rest, motion, "new", fps=30.0, progress=lambda done, total: done < 5)
    assert armature.animation_data.action == old
    assert [action.name for action in bpy.data.actions] == ["old"]


def linked_rig(library: str) -> Any:
    """Mixamo's rig, linked into an empty scene from a file that is made for it."""
    make_rig("mixamo")
    bpy.ops.wm.save_as_mainfile(filepath=library)
    empty_scene()
    with bpy.data.libraries.load(library, link=True) as (_, wanted):
        wanted.objects = ["mixamo"]
    linked = bpy.data.objects["mixamo"]
    bpy.context.scene.collection.objects.link(linked)
    return linked


def test_a_linked_armature_gets_an_override_and_its_library_stays(tmp_path: Any) -> None:
    library = tmp_path / "library.blend"
    linked = linked_rig(str(library))
    before = hashlib.sha256(library.read_bytes()).hexdigest()
    summary, motion = bake_take(walking(), linked, bone_map="auto", name="take", fps=30.0)
    override = next(thing for thing in bpy.context.scene.objects if thing.override_library is not None)
    rest = read_rest_pose(override)
    found = evaluated(override, frame_numbers(motion, 30.0), rest.names)
    assert_same(found, rest.world_from_armature @ fk(rest, motion))
    assert summary.frames == FRAMES
    assert hashlib.sha256(library.read_bytes()).hexdigest() == before


def test_keys_are_not_written_onto_a_linked_armature(tmp_path: Any) -> None:
    linked = linked_rig(str(tmp_path / "library.blend"))
    rest = read_rest_pose(linked)
    with pytest.raises(RigError, match="library override"):
        write_keyframes(linked, rest, solve(walking(), rest, recognise(rest)), "take", fps=30.0)


def test_a_library_override_can_be_keyed(tmp_path: Any) -> None:
    linked = linked_rig(str(tmp_path / "library.blend"))
    override = linked.override_create(remap_local_usages=True)
    assert_same(*keyed(override, walking()))


def test_locked_channels_keep_their_value_and_get_no_keys() -> None:
    armature = make_rig("mixamo")
    knee, wrist, hips = (armature.pose.bones[f"mixamorig:{name}"] for name in ("LeftLeg", "RightHand", "Hips"))
    knee.rotation_mode = "XYZ"
    knee.lock_rotation = (False, True, True)
    wrist.lock_rotation = (True, True, True)
    wrist.rotation_quaternion = (0.9, 0.1, 0.3, 0.3)
    hips.lock_location = (True, False, False)
    kept = wrist.rotation_quaternion.normalized().copy()
    summary, motion = bake_take(walking(), armature, bone_map="auto", name="take", fps=30.0)
    curves = {(curve.data_path, curve.array_index) for curve in curves_of(bpy.data.actions[summary.action])}
    assert {index for path, index in curves if path == knee.path_from_id("rotation_euler")} == {0}
    assert {index for path, index in curves if path == hips.path_from_id("location")} == {1, 2}
    rest = read_rest_pose(armature)
    found = evaluated(armature, frame_numbers(motion, 30.0), rest.names)
    assert_same(found, rest.world_from_armature @ fk(rest, motion))
    assert knee.rotation_euler[1:] == (0.0, 0.0)
    assert abs(wrist.rotation_quaternion.dot(kept)) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("mode", ["QUATERNION", "XYZ", "AXIS_ANGLE"])
def test_fewer_keys_do_the_same_within_the_bound_as_blender_evaluates_them(mode: str) -> None:
    armature = make_rig("mixamo")
    for bone in armature.pose.bones:
        bone.rotation_mode = mode
    pose = walking(60)
    summary, motion = bake_take(
        pose, armature, bone_map="auto", name="take", fps=pose.fps, options=TakeOptions(reduce=KeyTolerance(0.5, 5.0))
    )
    assert summary.share_of_keys < 0.4  # a walk of two seconds whose contacts alone ask for a fifth of the keys
    assert summary.largest_errors[0] <= 0.5 and summary.largest_errors[1] <= 5.0
    rest = read_rest_pose(armature)
    found = evaluated(armature, frame_numbers(motion, pose.fps), rest.names)
    expected = rest.world_from_armature @ fk(rest, motion)
    below = [bone for bone in range(len(rest)) if motion.root_bone in rest.ancestors(bone)]
    off = np.linalg.norm(found[:, below, :3, 3] - expected[:, below, :3, 3], axis=-1)
    assert 1e-6 < off[:, [below.index(bone) for bone in motion.keyed]].max() <= 5.1e-3
    changes = np.flatnonzero((motion.stands[1:] != motion.stands[:-1]).any(axis=1)) + 1
    assert len(changes)
    for curve in curves_of(bpy.data.actions[summary.action]):
        keyed = {round(point.co[0]) - 1 for point in curve.keyframe_points}
        assert set(changes.tolist()) <= keyed, "a contact begins or ends without a key"


def test_contacts_become_markers_and_a_second_take_replaces_them() -> None:
    armature = make_rig("mixamo")
    scene = bpy.context.scene
    scene.timeline_markers.new("mine", frame=7)
    pose = walking(60)
    for _ in range(2):
        _, motion = bake_take(pose, armature, bone_map="auto", name="take", fps=pose.fps)
        marks = {(marker.name, marker.frame) for marker in scene.timeline_markers}
        assert ("mine", 7) in marks
        left = motion.stands[:, :2].any(axis=1).astype(int)
        downs = {int(index) + 2 for index in np.flatnonzero(np.diff(left) == 1)}
        assert downs and {frame for name, frame in marks if name == "mixamo: left foot down"} == downs
        assert len(marks) == len(scene.timeline_markers)
    bake_take(pose, armature, bone_map="auto", name="take", fps=pose.fps, options=TakeOptions(markers=False))
    assert len(marks) == len(scene.timeline_markers)


def test_in_place_comes_as_a_second_action_that_is_not_played(tmp_path: Any) -> None:
    armature = make_rig("mixamo")
    pose = walking(40)
    summary, _ = bake_take(
        pose, armature, bone_map="auto", name="walk", fps=pose.fps, options=TakeOptions(also_in_place=True)
    )
    assert armature.animation_data.action.name == summary.action == "walk"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "both.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "both.blend"))
    armature = bpy.data.objects["mixamo"]
    spans = []
    for name in ("walk", "walk in place"):
        armature.animation_data.action = bpy.data.actions[name]
        if hasattr(armature.animation_data, "action_slot"):
            armature.animation_data.action_slot = bpy.data.actions[name].slots[0]
        hips = evaluated(armature, [1.0, 20.0, 40.0], ("mixamorig:Hips",))[:, 0, :3, 3]
        spans.append(np.ptp(hips[:, :2], axis=0).max())
    assert spans[0] > 0.3 and spans[1] < 0.05


def everything_else(armature: Any) -> str:
    """A hash of the whole file's data but for actions, markers, and what keyed bones show at the moment."""
    digest = hashlib.sha256()
    volatile = {"location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle", "matrix", "matrix_basis"}
    volatile |= {"matrix_channel", "head", "tail", "center", "x_axis", "y_axis", "z_axis", "vector", "length"}

    def take(label: str, thing: Any, skip: set[str]) -> None:
        for prop in sorted(thing.bl_rna.properties, key=lambda prop: prop.identifier):
            if prop.identifier in skip or prop.type in ("POINTER", "COLLECTION"):
                continue
            value = getattr(thing, prop.identifier, None)
            value = tuple(value) if getattr(prop, "is_array", False) else value
            digest.update(f"{label}.{prop.identifier}={value!r}\n".encode())

    for thing in sorted(bpy.data.objects, key=lambda thing: thing.name):
        take(thing.name, thing, {"mode"})
    for bone in armature.data.bones:
        take(bone.name, bone, set())
        digest.update(repr([tuple(row) for row in bone.matrix_local]).encode())
    for bone in armature.pose.bones:
        take(bone.name, bone, volatile)
        digest.update(repr(sorted((key, str(value)) for key, value in bone.items())).encode())
        for constraint in bone.constraints:
            take(constraint.name, constraint, set())
    data = armature.animation_data
    for track in data.nla_tracks:
        take(track.name, track, set())
        for strip in track.strips:
            take(strip.name, strip, set())
    for action in bpy.data.actions:
        if action.name in ("old", "layer"):
            for curve in curves_of(action):
                digest.update(repr([(curve.data_path, tuple(p.co)) for p in curve.keyframe_points]).encode())
    return digest.hexdigest()


def test_all_that_is_not_the_take_is_as_before() -> None:
    """An old action, the NLA, unkeyed bones, constraints, custom properties, other objects: a hash over all of them."""
    armature = make_rig("game_engine")
    pose = walking()
    rest = read_rest_pose(armature)
    motion = solve(pose, rest, recognise(rest))
    layer = write_keyframes(armature, rest, motion, "layer", fps=30.0)
    track = armature.animation_data.nla_tracks.new()
    strip = track.strips.new("layer", 1, layer)
    if hasattr(strip, "action_slot"):
        strip.action_slot = layer.slots[0]
    write_keyframes(armature, rest, motion, "old", fps=30.0)
    armature.pose.bones["head"].constraints.new("LIMIT_ROTATION")
    armature.pose.bones["pelvis"]["mine"] = 0.5
    armature.pose.bones["spine_01"].rotation_mode = "ZYX"
    armature.scale = (0.5, 0.5, 0.5)
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Bystander", None))
    bpy.context.view_layer.update()
    before = everything_else(armature)
    summary, _ = bake_take(pose, armature, bone_map="auto", name="take", fps=30.0)
    assert everything_else(armature) == before
    assert armature.animation_data.action.name == summary.action == "take"
    armature.pose.bones["head"].constraints[0].influence = 0.9
    assert everything_else(armature) != before, "the hash sees a change"


def test_constraints_on_keyed_bones_are_told() -> None:
    armature = make_rig("mixamo")
    armature.pose.bones["mixamorig:LeftLeg"].constraints.new("IK")
    muted = armature.pose.bones["mixamorig:RightLeg"].constraints.new("IK")
    muted.mute = True
    summary, _ = bake_take(walking(), armature, bone_map="mixamo", name="take", fps=30.0)
    assert len(summary.warnings) == 1
    assert "1 keyed bones" in summary.warnings[0] and "LeftLeg" in summary.warnings[0]


@pytest.mark.alone
def test_a_long_take_is_written_in_bulk() -> None:
    import time

    armature = make_rig("default")
    rest = read_rest_pose(armature)
    motion = solve(walking(), rest, recognise(rest))
    frames = 3000
    long = replace(
        motion,
        rotations_wxyz=np.resize(motion.rotations_wxyz, (frames, len(motion.keyed), 4)),
        locations=np.resize(motion.locations, (frames, 1, 3)),
        time_s=np.arange(frames) / 30,
        frame_index=np.arange(frames),
        stands=np.zeros((frames, 4), dtype=bool),
    )
    started = time.perf_counter()
    write_keyframes(armature, rest, long, "long", fps=30.0)
    # A key at a time takes minutes.
    assert time.perf_counter() - started < 20
