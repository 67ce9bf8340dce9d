"""The solve on odd rigs: other sizes, turned objects, other rest poses, floors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.errors import RigError
from keylift.core.rotations import from_rotation_vector, to_matrix
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_map import load_bone_map
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.solve import RetargetOptions, solve
from rig_samples import PRESET_OF, empty_scene, make_rig, standing_pose
from walker import camera_from_world, filmed, walk

LIMBS = ["l_upperarm", "l_forearm", "r_upperarm", "r_forearm", "l_thigh", "l_shank", "r_thigh", "r_shank"]


def rest_of(name: str) -> RestPose:
    empty_scene()
    return read_rest_pose(make_rig(name))


def walking(frames: int = 40) -> PoseTrack:
    from keylift.core.camera import Camera

    return filmed(walk(frames), Camera.guessed((1280, 720)), camera_from_world())[0]


def world_heads(rest: RestPose, motion: BoneMotion) -> np.ndarray:
    return (rest.world_from_armature @ fk(rest, motion))[..., :3, 3]


def limb_directions(rest: RestPose, motion: BoneMotion) -> np.ndarray:
    """(F, L, 3) unit directions in the world, by the heads of the bones of neighbouring segments."""
    chains = load_bone_map(motion.bone_map).bound_to(rest).bones
    heads = world_heads(rest, motion)
    after = {"upperarm": "forearm", "forearm": "hand", "thigh": "shank", "shank": "foot"}

    def head(segment: str) -> np.ndarray:
        return heads[:, rest.names.index(chains[segment][0])]

    vectors = np.stack([head(f"{name[:2]}{after[name[2:]]}") - head(name) for name in LIMBS], axis=1)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def hips_path(rest: RestPose, motion: BoneMotion) -> np.ndarray:
    chains = load_bone_map(motion.bone_map).bound_to(rest).bones
    thighs = [rest.names.index(chains[f"{side}_thigh"][0]) for side in "lr"]
    return world_heads(rest, motion)[:, thighs].mean(axis=1)


def test_t_pose_and_a_pose_rigs_do_the_same() -> None:
    pose = walking()
    directions = []
    for name in PRESET_OF:
        rest = rest_of(name)
        as_they_move = RetargetOptions(plant_feet=False)
        directions.append(limb_directions(rest, solve(pose, rest, recognise(rest), as_they_move)))
    for other in directions[1:]:
        assert np.abs(other - directions[0]).max() < 1e-5


def test_bone_rolls_do_not_matter() -> None:
    rest = rest_of("mixamo")
    pose = walking()
    rng = np.random.default_rng(3)
    roll = np.zeros((len(rest), 3))
    roll[:, 1] = rng.uniform(-np.pi, np.pi, len(rest))
    rolled_bones = rest.armature_from_bone.copy()
    rolled_bones[:, :3, :3] = rolled_bones[:, :3, :3] @ to_matrix(from_rotation_vector(roll))
    rolled = replace(rest, armature_from_bone=rolled_bones)
    expected, found = (world_heads(r, solve(pose, r, recognise(r))) for r in (rest, rolled))
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("scale", [0.01, 1.0, 3.0])
def test_a_turned_scaled_and_moved_object_walks_the_same_path(scale: float) -> None:
    rest = rest_of("game_engine")
    pose = walking()
    turned = np.eye(4)
    turned[:3, :3] = to_matrix(from_rotation_vector(np.array([0.3, -1.0, 2.0]))) * scale
    turned[:3, 3] = [5.0, -2.0, 1.0]
    # The same character, modelled in other units.
    other_units = rest.armature_from_bone.copy()
    other_units[:, :3, 3] /= scale
    moved = replace(rest, world_from_armature=turned, armature_from_bone=other_units, lengths=rest.lengths / scale)
    plain, odd = solve(pose, rest, recognise(rest)), solve(pose, moved, recognise(moved))
    assert odd.world_scale == pytest.approx(plain.world_scale)
    assert np.abs(limb_directions(moved, odd) - limb_directions(rest, plain)).max() < 1e-5
    assert np.abs(hips_path(moved, odd) - hips_path(rest, plain)).max() < 1e-4


def test_a_bigger_rig_takes_bigger_steps() -> None:
    rest = rest_of("mixamo")
    bones = rest.armature_from_bone.copy()
    bones[:, :3, 3] *= 2
    giant = replace(rest, armature_from_bone=bones, lengths=rest.lengths * 2)
    pose = walking()
    small, big = solve(pose, rest, recognise(rest)), solve(pose, giant, recognise(giant))
    assert big.world_scale == pytest.approx(2 * small.world_scale)
    assert np.abs(hips_path(giant, big) - 2 * hips_path(rest, small)).max() < 1e-4


@pytest.mark.parametrize("name", list(PRESET_OF))
@pytest.mark.parametrize("contact", [0.0, 1.0])
def test_standing_soles_are_on_the_floor(name: str, contact: float) -> None:
    rest = rest_of(name)
    pose = standing_pose()
    motion = solve(replace(pose, contact=np.full_like(pose.contact, contact)), rest, recognise(rest))
    chains = load_bone_map(motion.bone_map).bound_to(rest).bones
    feet = [rest.names.index(chains[f"{side}_foot"][0]) for side in "lr"]
    lowest_at_rest = min(
        min(rest.heads[bone, 2], rest.tails[bone, 2])
        for bone in range(len(rest))
        if set(rest.ancestors(bone)) & set(feet)
    )
    # A rig modelled round its middle has its floor at its lowest bone; one on the ground has it at zero.
    floor = lowest_at_rest if lowest_at_rest < 0 else 0.0
    ankles = world_heads(rest, motion)[:, feet, 2]
    # The sample of Mixamo's rig is not quite symmetric: a foot of it is 0.15 mm longer than the other.
    assert np.abs(ankles - (rest.heads[feet, 2] - floor)).max() < 3e-4


def test_contact_sets_the_height_of_the_floor() -> None:
    rest = rest_of("rigify_metarig")
    pose = walking()
    heads = world_heads(rest, solve(pose, rest, recognise(rest)))
    balls = heads[:, [rest.names.index("toe.L"), rest.names.index("toe.R")], 2]
    stands = pose.contact[:, [1, 3]] > 0.5
    assert stands.any()
    at_rest = rest.heads[rest.names.index("toe.L"), 2]
    assert abs(np.median(balls[stands]) - at_rest) < 0.02


def test_bones_in_between_stay_as_they_are_posed() -> None:
    rest = rest_of("game_engine")
    basis = rest.basis.copy()
    root = rest.names.index("Root")
    basis[root, :3, :3] = to_matrix(from_rotation_vector(np.array([0.2, 0.4, -0.3])))
    basis[root, :3, 3] = [0.1, -0.3, 0.2]
    posed = replace(rest, basis=basis)
    pose = walking()
    plain, odd = solve(pose, rest, recognise(rest)), solve(pose, posed, recognise(posed))
    below = [bone for bone in range(len(rest)) if rest.descends(bone, root)]
    assert np.abs(world_heads(posed, odd)[:, below] - world_heads(rest, plain)[:, below]).max() < 1e-5


def test_bones_that_do_not_inherit_rotation() -> None:
    rest = rest_of("mixamo")
    inherits = rest.inherit_rotation.copy()
    for bone in ("mixamorig:Head", "mixamorig:LeftArm", "mixamorig:RightUpLeg"):
        inherits[rest.names.index(bone)] = False
    pose = walking()
    free = replace(rest, inherit_rotation=inherits)
    plain, odd = solve(pose, rest, recognise(rest)), solve(pose, free, recognise(free))
    assert np.abs(world_heads(free, odd) - world_heads(rest, plain)).max() < 1e-5


def test_hips_that_cannot_be_moved_are_carried() -> None:
    rest = rest_of("game_engine")
    hips, root = rest.names.index("pelvis"), rest.names.index("Root")
    connected, locks = rest.use_connect.copy(), rest.locks.copy()
    connected[hips] = True
    locks[hips] = True
    pose = walking()
    for held in (replace(rest, use_connect=connected), replace(rest, locks=locks)):
        motion = solve(pose, held, recognise(held))
        assert motion.root_bone == root
        plain = solve(pose, rest, recognise(rest))
        assert np.abs(hips_path(held, motion) - hips_path(rest, plain)).max() < 1e-5


def test_a_single_frame() -> None:
    rest = rest_of("mixamo")
    motion = solve(standing_pose(1), rest, recognise(rest))
    assert len(motion) == 1
    assert motion.rotations_wxyz.shape == (1, len(motion.keyed), 4)


def test_a_mirrored_or_squashed_object_is_refused() -> None:
    rest = rest_of("mixamo")
    for scale in ([-1, 1, 1], [1, 1, 2], [0, 0, 0]):
        with pytest.raises(RigError, match="Apply its scale"):
            replace(rest, world_from_armature=np.diag([*map(float, scale), 1.0]))


def test_another_skeleton_is_refused() -> None:
    from keylift.core.skeletons import Skeleton

    names = tuple(f"joint{i}" for i in range(len(LANDMARKS_41)))
    pose = replace(standing_pose(), skeleton=Skeleton(names, LANDMARKS_41.parents, ()))
    rest = rest_of("mixamo")
    with pytest.raises(RigError, match="41 landmarks"):
        solve(pose, rest, recognise(rest))
