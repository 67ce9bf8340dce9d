"""Where the path goes: the hips or the root bone, through the room or in place, on any object and bone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.camera import Camera
from keylift.core.errors import RigError
from keylift.core.rotations import from_rotation_vector, to_matrix
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_map import BoneMap, load_bone_map
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.solve import RetargetOptions, solve
from rig_samples import empty_scene, make_rig
from walker import camera_from_world, filmed, walk

ON_ROOT = RetargetOptions(path_on="root")
IN_PLACE = RetargetOptions(path="in_place")


def walking() -> PoseTrack:
    return filmed(walk(60), Camera.guessed((1280, 720)), camera_from_world())[0]


def rig(name: str = "game_engine") -> tuple[RestPose, BoneMap]:
    empty_scene()
    rest = read_rest_pose(make_rig(name))
    return rest, replace(load_bone_map(name).bound_to(rest), root="Root" if name == "game_engine" else None)


def world(rest: RestPose, motion: BoneMotion) -> np.ndarray:
    return (rest.world_from_armature @ fk(rest, motion))[..., :3, 3]


@pytest.mark.parametrize("turned", [False, True])
def test_the_root_bone_walks_and_the_body_is_where_it_was(turned: bool) -> None:
    rest, bone_map = rig()
    if turned:
        odd = np.eye(4)
        odd[:3, :3] = to_matrix(from_rotation_vector(np.array([0.3, -1.0, 2.0]))) * 0.7
        odd[:3, 3] = [1.0, 2.0, 3.0]
        rest = replace(rest, world_from_armature=odd)
    pose = walking()
    by_hips, by_root = solve(pose, rest, bone_map), solve(pose, rest, bone_map, ON_ROOT)
    root, hips = rest.names.index("Root"), rest.names.index("pelvis")
    assert by_root.moved == (hips, root)
    below = [bone for bone in range(len(rest)) if rest.descends(bone, root)]
    heads = world(rest, by_root)
    assert np.abs(heads[:, below] - world(rest, by_hips)[:, below]).max() < 1e-9
    path = heads[:, root] - heads[0, root]
    assert np.abs(path[:, 2]).max() < 1e-9, "the root stays on the floor"
    middle = heads[:, [rest.names.index(f"thigh_{side}") for side in "lr"]].mean(axis=1)
    assert np.abs((middle - middle[0] - path)[:, :2]).max() < 1e-9
    assert np.linalg.norm(path[-1]) > 0.5


def test_a_rig_without_a_root_bone_says_so() -> None:
    rest, bone_map = rig("mixamo")
    with pytest.raises(RigError, match="no root bone.*'root' in a bone map"):
        solve(walking(), rest, bone_map, ON_ROOT)


def test_in_place_only_goes_up_and_down() -> None:
    rest, bone_map = rig()
    pose = walking()
    walks, stays = solve(pose, rest, bone_map), solve(pose, rest, bone_map, IN_PLACE)
    thighs = [rest.names.index(f"thigh_{side}") for side in "lr"]
    walked, stayed = (world(rest, motion)[:, thighs].mean(axis=1) for motion in (walks, stays))
    assert np.abs(stayed[:, :2]).max() < 1e-9
    assert np.abs(stayed[:, 2] - walked[:, 2]).max() < 1e-9
    assert np.array_equal(stays.rotations_wxyz, walks.rotations_wxyz), "feet step as they do on the way"


def test_locked_axes_of_the_hips_keep_their_value() -> None:
    rest, bone_map = rig()
    locks = rest.locks.copy()
    hips = rest.names.index("pelvis")
    locks[hips, 1] = True
    motion = solve(walking(), replace(rest, locks=locks), bone_map)
    assert motion.root_bone == hips
    assert np.array_equal(motion.root_location[:, 1], np.zeros(len(motion)))
    assert np.ptp(motion.root_location[:, [0, 2]], axis=0).max() > 0.1


@pytest.mark.parametrize("size", [0.5, 2.0])
def test_the_path_is_as_long_as_the_characters_legs(size: float) -> None:
    rest, bone_map = rig()
    pose = walking()
    plain = solve(pose, rest, bone_map)
    sized = rest.world_from_armature.copy()
    sized[:3, :3] *= size
    big_rest = replace(rest, world_from_armature=sized)
    big = solve(pose, big_rest, bone_map)
    assert big.world_scale == pytest.approx(size * plain.world_scale)
    thighs = [rest.names.index(f"thigh_{side}") for side in "lr"]
    assert np.abs(world(big_rest, big)[:, thighs] - size * world(rest, plain)[:, thighs]).max() < 2e-3


def test_wrong_choices_are_refused() -> None:
    for wrong in ({"path": "fly"}, {"path_on": "hand"}, {"limbs": "both"}):
        with pytest.raises(ValueError, match="not one of"):
            RetargetOptions(**wrong)


def test_recognised_rigs_with_a_root_can_carry_the_path_on_it() -> None:
    empty_scene()
    rest = read_rest_pose(make_rig("game_engine"))
    assert len(solve(walking(), rest, recognise(rest), ON_ROOT).moved) == 2
