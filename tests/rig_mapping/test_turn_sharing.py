"""Several bones for one segment: spines bend evenly, limbs twist little by little, and nothing jumps."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.rotations import angle_between_rad, from_rotation_vector, inverse, multiply, rotate
from keylift.core.segments import SEGMENT_NAMES
from keylift.rig_mapping.bone_map import load_bone_map
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import RigBody, rig_body
from keylift.rig_mapping.turn_sharing import shared_turns
from rig_samples import empty_scene, make_rig

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def still(**turned: np.ndarray) -> np.ndarray:
    """(F, S, 4) the T-pose, with the segments named turned by rotation vectors (F, 3)."""
    frames = len(next(iter(turned.values())))
    turns = np.tile(IDENTITY, (frames, len(SEGMENT_NAMES), 1))
    for name, vectors in turned.items():
        turns[:, SEGMENT_NAMES.index(name)] = from_rotation_vector(vectors)
    return turns


def default_rig() -> tuple[RestPose, RigBody]:
    empty_scene()
    rest = read_rest_pose(make_rig("default"))
    return rest, rig_body(rest, recognise(rest))


def from_rest(body: RigBody, shared: dict[int, np.ndarray], segment: str) -> list[np.ndarray]:
    """(F, 4) each: what the bones of a segment are turned by from the T-pose."""
    index = SEGMENT_NAMES.index(segment)
    return [multiply(shared[bone], body.rest_turns[index]) for bone in body.chains[segment]]


def test_a_spine_bends_evenly_from_pelvis_to_chest() -> None:
    rest, body = default_rig()
    bent = np.array([[np.radians(60.0), 0, 0]])
    turns = still(chest=bent, neck=bent, head=bent, spine=bent / 2)
    shared = shared_turns(rest, body, turns)
    trunk = [bone for segment in ("pelvis", "spine", "chest") for bone in body.chains[segment]]
    angles = np.degrees([2 * np.arctan2(shared[bone][0, 1], shared[bone][0, 0]) for bone in trunk])
    assert angles[0] == pytest.approx(0.0, abs=1e-6), "the legs hang on the first bone, which turns as the pelvis"
    assert angles[-1] == pytest.approx(60.0, abs=1e-6), "the arms hang on the last, which turns as the chest"
    steps = np.diff(angles)
    assert (steps > 1.0).all() and steps.max() < 25.0


def test_one_bone_a_segment_turns_as_the_segment() -> None:
    empty_scene()
    rest = read_rest_pose(make_rig("game_engine"))
    body = rig_body(rest, recognise(rest))
    rng = np.random.default_rng(0)
    turns = from_rotation_vector(rng.normal(0, 0.5, (5, len(SEGMENT_NAMES), 3)))
    shared = shared_turns(rest, body, turns)
    single = [segment for segment, chain in body.chains.items() if len(chain) == 1]
    assert {"chest", "neck", "head", "l_upperarm", "l_forearm", "r_thigh", "r_shank"} <= set(single)
    for segment in single:
        (turn,) = from_rest(body, shared, segment)
        assert angle_between_rad(turn, turns[:, SEGMENT_NAMES.index(segment)]).max() < 1e-9


def test_a_forearm_takes_up_the_hands_twist_little_by_little() -> None:
    rest, body = default_rig()
    twist = np.radians(80.0)
    along = np.array([[1.0, 0, 0]])
    shared = shared_turns(rest, body, still(l_hand=along * twist, l_forearm=along * twist / 2))
    angles = [np.degrees(2 * np.arctan2(turn[0, 1], turn[0, 0])) for turn in from_rest(body, shared, "l_forearm")]
    assert angles == pytest.approx([20.0, 60.0], abs=0.5)


def test_an_upper_arm_twists_less_at_the_shoulder_than_at_the_elbow() -> None:
    rest, body = default_rig()
    shared = shared_turns(rest, body, still(l_upperarm=np.array([[np.radians(70.0), 0, 0]])))
    angles = [np.degrees(2 * np.arctan2(turn[0, 1], turn[0, 0])) for turn in from_rest(body, shared, "l_upperarm")]
    assert angles == pytest.approx([35.0, 70.0], abs=0.5)


def test_chains_point_where_their_segment_points() -> None:
    rest, body = default_rig()
    rng = np.random.default_rng(1)
    turns = from_rotation_vector(rng.normal(0, 0.4, (20, len(SEGMENT_NAMES), 3)))
    shared = shared_turns(rest, body, turns)
    for segment, following in (
        ("l_upperarm", "l_forearm"),
        ("r_thigh", "r_shank"),
        ("spine", "chest"),
        ("neck", "head"),
    ):
        chain = body.chains[segment]
        heads = rest.heads[[*chain, body.chains[following][0]]] @ body.armature_from_body
        reached = sum(rotate(shared[bone], step) for bone, step in zip(chain, np.diff(heads, axis=0), strict=True))
        whole = multiply(turns[:, SEGMENT_NAMES.index(segment)], inverse(body.rest_turns[SEGMENT_NAMES.index(segment)]))
        wanted = rotate(whole, heads[-1] - heads[0])
        cross = np.linalg.norm(np.cross(reached, wanted), axis=-1)
        assert np.degrees(np.arctan2(cross, np.sum(reached * wanted, axis=-1))).max() < 1e-6, segment


def test_turning_on_and_on_never_makes_a_shared_turn_jump() -> None:
    """Whole turns about every axis, of every segment: a bone's turn follows in steps as small as the body's, or so."""
    rest, body = default_rig()
    angle = np.linspace(0, 4 * np.pi, 721)[:, None]
    for segment, axis in itertools.product(("head", "chest", "l_hand", "l_upperarm", "r_thigh"), np.eye(3)):
        tilted = axis + [0.05, 0.03, -0.04]
        shared = shared_turns(rest, body, still(**{segment: angle * tilted}))
        steps = [np.degrees(angle_between_rad(turn[1:], turn[:-1])).max() for turn in shared.values()]
        assert max(steps) < 12.0, (segment, axis)


def test_twist_bones_beside_the_limb_take_up_their_share() -> None:
    """An Unreal arm: a bone at the shoulder stays untwisted, one of the forearm follows the hand by where it is."""
    import bpy

    empty_scene()
    armature = make_rig("game_engine")
    rest = read_rest_pose(armature)
    shoulder, elbow, wrist = (rest.heads[rest.names.index(f"{bone}_l")] for bone in ("upperarm", "lowerarm", "hand"))
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for name, parent, start, end, place in (
        ("upperarm_twist_01_l", "upperarm_l", shoulder, elbow, 0.0),
        ("lowerarm_twist_01_l", "lowerarm_l", elbow, wrist, 0.75),
    ):
        bone = armature.data.edit_bones.new(name)
        bone.head = start + (end - start) * place
        bone.tail = start + (end - start) * (place + 0.2)
        bone.parent = armature.data.edit_bones[parent]
    bpy.ops.object.mode_set(mode="OBJECT")
    rest = read_rest_pose(armature)
    plain = load_bone_map("game_engine").bound_to(rest)
    twist = {"l_upperarm": ("upperarm_twist_01_l",), "l_forearm": ("lowerarm_twist_01_l",)}
    body = rig_body(rest, replace(plain, twist=twist))
    along = np.array([[1.0, 0, 0]])
    turns = still(l_upperarm=along * 0.8, l_forearm=along * 1.4, l_hand=along * 2.0)
    shared = shared_turns(rest, body, turns)

    def twisted(bone: str, segment: str) -> float:
        turn = multiply(shared[rest.names.index(bone)], body.rest_turns[SEGMENT_NAMES.index(segment)])
        return float(2 * np.arctan2(turn[0, 1], turn[0, 0]))

    assert twisted("upperarm_twist_01_l", "l_upperarm") == pytest.approx(0.0, abs=0.01)
    assert twisted("upperarm_l", "l_upperarm") == pytest.approx(0.8, abs=1e-6)
    assert twisted("lowerarm_l", "l_forearm") == pytest.approx(1.4, abs=1e-6)
    assert twisted("lowerarm_twist_01_l", "l_forearm") == pytest.approx(1.4 + 0.5 * 0.6, abs=0.01)
