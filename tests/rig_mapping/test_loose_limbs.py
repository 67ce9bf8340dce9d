"""Rigs whose limbs hang on nothing, as exports of deforming bones alone leave them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.errors import RigError
from keylift.core.track_files import read_pose
from keylift.rig_mapping.bone_map import BoneMap, load_bone_map
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.key_reduction import KeyTolerance, largest_errors, reduce_keys
from keylift.rig_mapping.loose_limbs import joined
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_body
from keylift.rig_mapping.solve import RetargetOptions, solve
from rig_samples import empty_scene, make_rig

POSE = read_pose(Path(__file__).parents[1] / "golden" / "cam03.pose.npz")
LOOSE = ("clavicle_l", "clavicle_r", "thigh_l", "thigh_r")


def rig() -> tuple[RestPose, BoneMap]:
    empty_scene()
    rest = read_rest_pose(make_rig("game_engine"))
    return rest, replace(load_bone_map("game_engine").bound_to(rest), root="Root")


def torn(rest: RestPose, parent: int) -> RestPose:
    """The same rig with collars and thighs under another bone, or under none."""
    return joined(rest, {rest.names.index(name): parent for name in LOOSE})


def places(rest: RestPose, motion: BoneMotion, names: tuple[str, ...]) -> np.ndarray:
    order = [rest.names.index(name) for name in names]
    return (rest.world_from_armature @ fk(rest, motion))[:, order]


@pytest.mark.parametrize("under_root", [False, True])
@pytest.mark.parametrize("options", [RetargetOptions(), RetargetOptions(plant_feet=False, path_on="root")])
def test_they_move_as_if_they_were_carried(under_root: bool, options: RetargetOptions) -> None:
    rest, bone_map = rig()
    loose = torn(rest, rest.names.index("Root") if under_root else -1)
    body = rig_body(loose, bone_map)
    assert {loose.names[bone] for bone in body.loose} == set(LOOSE)
    assert {loose.names[bone] for bone in body.loose.values()} == {"pelvis", "spine_03"}
    motion, whole = solve(POSE, loose, bone_map, options), solve(POSE, rest, bone_map, options)
    assert {loose.names[bone] for bone in motion.moved} >= set(LOOSE) | {"pelvis"}
    names = tuple(name for name in rest.names if name != "Root" or under_root)
    assert np.abs(places(loose, motion, names) - places(rest, whole, names)).max() < 1e-6


def test_their_keys_can_be_reduced() -> None:
    rest, bone_map = rig()
    loose = torn(rest, -1)
    motion = solve(POSE, loose, bone_map)
    frames = np.arange(len(motion), dtype=float)
    sparse = reduce_keys(loose, motion, frames, KeyTolerance())
    degrees, millimetres = largest_errors(loose, motion, frames, sparse)
    assert degrees <= 0.5 and millimetres <= 5.0


def test_a_limb_under_another_limb_is_a_mistake_still() -> None:
    rest, bone_map = rig()
    wrong = joined(rest, {rest.names.index("upperarm_l"): rest.names.index("thigh_r")})
    with pytest.raises(RigError, match="'upperarm_l' .left upper arm. does not hang below 'clavicle_l'"):
        rig_body(wrong, bone_map)


def test_whole_rigs_have_no_loose_limbs() -> None:
    rest, bone_map = rig()
    assert not rig_body(rest, bone_map).loose
