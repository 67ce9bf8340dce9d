"""Bodies are found in rigs whose bones say nothing: by how they hang together and where they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from keylift.core.errors import RigError
from keylift.rig_mapping.anatomy import Anatomy, find_body
from keylift.rig_mapping.bone_map import load_bone_map
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_body
from rig_skeletons import (
    ARMS_BELOW_LEVEL_DEG,
    FAMILIES,
    Row,
    family_limbs,
    family_rows,
    family_trunk,
    nameless,
    real_rig,
    renamed,
    rest_from_rows,
    without_bones,
)

REAL_RIGS = {
    "default": "mpfb_default",
    "default_no_toes": "mpfb_default",
    "game_engine": "game_engine",
    "cmu_mb": "cmu_mb",
    "mixamo": "mixamo",
}
# Differ in how many bones a segment has, in twist bones, sockets, roots and doubled hips.
UNLIKE = ["mixamo", "mpfb_default", "unreal_5", "daz_genesis_8", "cmu_mb", "character_creator"]
Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


def about_z(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def moved(rows: list[Row], where: Callable[[np.ndarray], np.ndarray]) -> list[Row]:
    return [(name, parent, where(head), where(tail)) for name, parent, head, tail in rows]


def found_in(rest: RestPose, seed: int = 0) -> tuple[Anatomy, dict[str, tuple[str, ...]]]:
    """What is found when the names are taken away, in the names that the bones had."""
    bare, old_name = nameless(rest, seed)
    found = find_body(bare)
    rig_body(bare, found.bone_map)
    return found, {segment: tuple(old_name[bone] for bone in chain) for segment, chain in found.bone_map.bones.items()}


def assert_limbs(rest: RestPose, preset: str) -> None:
    _, bones = found_in(rest)
    wanted = family_limbs(FAMILIES[preset])
    assert {segment: bones.get(segment) for segment in wanted} == wanted


@pytest.mark.parametrize("arms", list(ARMS_BELOW_LEVEL_DEG))
@pytest.mark.parametrize("preset", list(FAMILIES))
def test_every_family_without_its_names(preset: str, arms: str) -> None:
    family = FAMILIES[preset]
    rest = rest_from_rows(preset, family_rows(family, arms))
    _, bones = found_in(rest, seed=len(preset))
    wanted = family_limbs(family)
    assert {segment: bones.get(segment) for segment in wanted} == wanted
    trunk = [bone for segment in ("pelvis", "spine", "chest", "neck") for bone in bones.get(segment, ())]
    assert set(trunk) == family_trunk(family)


@pytest.mark.parametrize("name", list(REAL_RIGS))
def test_real_rigs_without_their_names(name: str) -> None:
    rest = real_rig(name)
    wanted = load_bone_map(REAL_RIGS[name]).bound_to(rest).bones
    _, bones = found_in(rest)
    assert set(bones) == set(wanted)
    for segment, chain in wanted.items():
        if segment in ("pelvis", "spine", "chest"):
            # Where the hips end and the spine begins is a matter of taste.
            assert len(set(bones[segment]) ^ set(chain)) <= 1
        else:
            assert bones[segment] == chain


@pytest.mark.parametrize("preset", UNLIKE)
@pytest.mark.parametrize("degrees", [180, 37])
def test_rigs_that_face_anywhere(preset: str, degrees: float) -> None:
    rows = moved(family_rows(FAMILIES[preset], "a"), lambda point: about_z(degrees) @ point)
    assert_limbs(rest_from_rows(preset, rows), preset)


@pytest.mark.parametrize("preset", UNLIKE)
def test_rigs_in_centimetres_under_a_scaled_and_turned_object(preset: str) -> None:
    world = np.eye(4)
    world[:3, :3] = about_z(70) * 0.01
    rows = moved(family_rows(FAMILIES[preset]), lambda point: point * 100)
    assert_limbs(rest_from_rows(preset, rows, world_from_armature=world), preset)


@pytest.mark.parametrize("preset", UNLIKE)
@pytest.mark.parametrize("object_stands_it_up", [True, False])
def test_rigs_made_y_up(preset: str, object_stands_it_up: bool) -> None:
    world = np.eye(4)
    if object_stands_it_up:
        world[:3, :3] = Y_UP.T
    rows = moved(family_rows(FAMILIES[preset]), lambda point: Y_UP @ point)
    assert_limbs(rest_from_rows(preset, rows, world_from_armature=world), preset)


@pytest.mark.parametrize("preset", UNLIKE)
@pytest.mark.parametrize("seed", range(3))
def test_rigs_whose_sides_are_not_quite_alike(preset: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shift: dict[tuple[float, ...], np.ndarray] = {}

    def astray(point: np.ndarray) -> np.ndarray:
        # A tip and the head that sits on it stay together.
        return point + shift.setdefault(tuple(np.round(point, 4)), rng.normal(0.0, 0.008, 3))

    arms = list(ARMS_BELOW_LEVEL_DEG)[seed % 3]
    assert_limbs(rest_from_rows(preset, moved(family_rows(FAMILIES[preset], arms), astray)), preset)


@pytest.mark.parametrize("preset", UNLIKE)
@pytest.mark.parametrize(
    ("legs", "arms"), [(0.55, 1.0), (1.4, 1.0), (1.0, 0.65), (1.0, 1.35)], ids=["dwarf", "stork", "penguin", "ape"]
)
def test_bodies_of_odd_proportions(preset: str, legs: float, arms: float) -> None:
    hips = 0.9

    def odd(point: np.ndarray) -> np.ndarray:
        height = point[2] * legs if point[2] < hips else hips * legs + point[2] - hips
        return np.array([point[0] * arms, point[1], height])

    assert_limbs(rest_from_rows(preset, moved(family_rows(FAMILIES[preset]), odd)), preset)


SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "bvh_samples"


@pytest.mark.parametrize("spec", ["rigify_metarig", SAMPLES / "daz_02_01.bvh", SAMPLES / "mb_02_01.bvh"])
def test_rigs_out_of_blender_without_their_names(spec: str | Path) -> None:
    pytest.importorskip("bpy")
    from keylift.addon.armature_reading import read_rest_pose
    from keylift.addon.rigs import open_rig

    if isinstance(spec, Path) and not spec.is_file():
        pytest.skip("the samples of motion capture files are not here")
    rest = read_rest_pose(open_rig(str(spec)))
    wanted = recognise(rest)
    assert wanted.name != "auto"
    assert found_in(rest)[1] == wanted.bones


def test_skirts_hair_tails_wings_and_swords_are_no_limbs() -> None:
    family = FAMILIES["mixamo"]
    rows = family_rows(family, "a")

    def grow(name: str, parent: str, begin: tuple[float, ...], end: tuple[float, ...], bones: int) -> None:
        for joint in range(bones):
            a, b = (np.array(begin) + (np.array(end) - begin) * step / bones for step in (joint, joint + 1))
            rows.append((f"{name}{joint}", parent, a, b))
            parent = f"{name}{joint}"

    for side in (1.0, -1.0):
        grow(f"skirt{side}front", family.hips, (0.12 * side, -0.15, 0.95), (0.25 * side, -0.2, 0.35), 4)
        grow(f"skirt{side}back", family.hips, (0.12 * side, 0.15, 0.95), (0.25 * side, 0.2, 0.35), 4)
        grow(f"hair{side}", family.head, (0.06 * side, 0.08, 1.65), (0.1 * side, 0.15, 1.1), 5)
        grow(f"wing{side}", "mixamorig:Spine2", (0.05 * side, 0.1, 1.35), (1.3 * side, 0.4, 1.7), 4)
    grow("tail", family.hips, (0.0, 0.1, 0.95), (0.0, 0.8, 0.5), 6)
    grow("sword", "mixamorig:RightHand", (-0.6, -0.1, 1.0), (-0.6, -0.9, 1.0), 2)
    assert_limbs(rest_from_rows("Fairy", rows), "mixamo")


def test_bodies_without_collars_hands_toes_and_neck() -> None:
    rest = real_rig("cmu_mb")
    bare = without_bones(
        rest,
        lambda name: any(part in name for part in ("Shoulder", "Hand", "Toe", "Neck", "Finger", "Thumb", "HipJoint")),
    )
    # The hands are gone, so their wrists must be told by where the forearms' bones end: there is no arm to be read.
    with pytest.raises(RigError, match="no arms"):
        find_body(nameless(bare)[0])
    bare = without_bones(rest, lambda name: any(part in name for part in ("Shoulder", "Toe", "Neck", "HipJoint")))
    _, bones = found_in(bare)
    assert not {"l_clavicle", "l_toes", "neck"} & set(bones)
    assert bones["l_upperarm"] == ("LeftArm",) and bones["head"] == ("Head",) and bones["r_foot"] == ("RightFoot",)


def test_twist_bones_beside_a_limb_are_found_with_and_without_names() -> None:
    family = FAMILIES["unreal_5"]
    rest = rest_from_rows("unreal_5", family_rows(family))
    assert find_body(rest).bone_map.twist["l_shank"] == ("calf_twist_01_l",)
    bare, old_name = nameless(rest)
    found = find_body(bare)
    twist = {segment: {old_name[bone] for bone in chain} for segment, chain in found.bone_map.twist.items()}
    assert twist["r_forearm"] == {"lowerarm_twist_01_r", "lowerarm_twist_02_r"}
    assert set(twist) == {f"{side}_{part}" for side in "lr" for part in ("forearm", "shank")}
    assert old_name[found.bone_map.root or ""] == "root"


def test_deforming_bones_alone_are_a_body_among_helpers_on_top_of_them() -> None:
    rows = family_rows(FAMILIES["mixamo"])
    doubled = [
        (f"{copy}{name}", f"{copy}{parent}" if parent else None, head, tail)
        for copy in ("a", "b", "c")
        for name, parent, head, tail in rows
    ]
    rest = rest_from_rows("Rig", doubled, deform=lambda name: name.startswith("b"))
    _, bones = found_in(rest)
    assert all(bone.startswith("bmixamorig") for chain in bones.values() for bone in chain)
    assert bones["l_forearm"] == ("bmixamorig:LeftForeArm",)


@pytest.mark.parametrize("helper", ["IK_", "MCH-", "ORG-", "tweak_", "CTRL "])
def test_helpers_are_told_by_their_names(helper: str) -> None:
    rows = family_rows(FAMILIES["mixamo"])
    # The helpers come first, so that nothing but their names speaks against them.
    rows = [(f"{helper}{name}", f"{helper}{p}" if p else None, head, tail) for name, p, head, tail in rows] + rows
    # Nothing else that the names say is known.
    rest = renamed(rest_from_rows("Rig", rows), lambda name: name.replace("mixamorig:", "q"))
    found = find_body(rest)
    assert not [bone for chain in found.bone_map.bones.values() for bone in chain if bone.startswith(helper)]


def test_names_are_worth_something() -> None:
    rest = rest_from_rows("vrm", family_rows(FAMILIES["vrm"]))
    named, bare = find_body(rest), found_in(rest)[0]
    assert bare.score > 0.6 and named.score > bare.score + 0.1
    assert "its name, 'J_Bip_L_UpperLeg', says so too" in named.findings["l_thigh"].reason
    assert "name" not in bare.findings["l_thigh"].reason


def test_feet_tell_the_sides_and_names_that_exchange_them_are_reported() -> None:
    rest = rest_from_rows("smpl", family_rows(FAMILIES["smpl"]))
    exchanged = renamed(rest, lambda name: name.replace("left", "x").replace("right", "left").replace("x", "right", 1))
    found = find_body(exchanged)
    assert found.bone_map.bones["l_thigh"] == ("right_hip",)
    assert any("exchange left and right" in problem for problem in found.problems)
    assert not find_body(rest).problems


@pytest.mark.parametrize(
    ("gone", "reason"), [("Leg", "no legs"), ("Arm", "no arms"), ("Hips", "hang from no common bone")]
)
def test_what_is_no_body_says_what_was_not_found(gone: str, reason: str) -> None:
    rest = without_bones(real_rig("mixamo"), lambda name: gone in name and not name.endswith("UpLeg"))
    with pytest.raises(RigError, match=f"{reason}.*--map FILE"):
        find_body(nameless(rest)[0])


def test_a_rope_is_no_body() -> None:
    rope = [(f"rope{n}", f"rope{n - 1}" if n else None, [0, 0, n], [0, 0, n + 1]) for n in range(40)]
    with pytest.raises(RigError, match="No body was found"):
        find_body(rest_from_rows("Rope", rope))
