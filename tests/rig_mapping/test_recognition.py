"""Rigs are told by the names of their bones where these are known and by their anatomy where not, with reasons."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keylift.core.errors import RigError
from keylift.core.segments import SEGMENT_NAMES
from keylift.rig_mapping.bone_map import BoneMap, load_bone_map, save_bone_map
from keylift.rig_mapping.recognition import check_fit, map_rig, recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_body
from rig_samples import PRESET_OF
from rig_skeletons import (
    FAMILIES,
    family_limbs,
    family_rig,
    family_rows,
    family_trunk,
    nameless,
    real_rig,
    renamed,
    rest_from_rows,
    without_bones,
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No maps of whoever runs the tests."""
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))


def all_bones(bone_map: BoneMap) -> list[str]:
    return [bone for chain in bone_map.bones.values() for bone in chain]


@pytest.mark.parametrize("name", [name for name in PRESET_OF if name != "rigify_metarig"])
def test_each_rig_is_known(name: str) -> None:
    rest = real_rig(name)
    found = recognise(rest)
    assert found.name == PRESET_OF[name]
    assert set(all_bones(found)) <= set(rest.names)
    assert len(found.bones) == 21


@pytest.mark.parametrize("preset", list(FAMILIES))
def test_each_family_is_known(preset: str) -> None:
    family = FAMILIES[preset]
    mapping = map_rig(family_rig(preset))
    assert mapping.bone_map.name == preset
    wanted = family_limbs(family)
    assert {segment: mapping.bone_map.bones.get(segment) for segment in wanted} == wanted
    assert {bone for s in ("pelvis", "spine", "chest", "neck") for bone in mapping.bone_map.bones[s]} == family_trunk(
        family
    )
    assert mapping.family == load_bone_map(preset).title
    assert [match.bone for match in mapping.matches] == [
        bone for segment in SEGMENT_NAMES for bone in mapping.bone_map.bones.get(segment, ())
    ]
    assert all(match.score == 1.0 and mapping.family in match.reason for match in mapping.matches)
    assert len(mapping.problems) == 21 - len(mapping.bone_map.bones)
    assert {bone for chain in mapping.bone_map.twist.values() for bone in chain} == {
        named for bone in family.beside for named in (bone, family.right(bone))
    }


def underscored(name: str) -> str:
    return name.replace(".", "_").replace(" ", "_")


@pytest.mark.parametrize(
    "spelling",
    [
        underscored,
        str.lower,
        lambda name: f"Hero:{name}",
        lambda name: f"Hero_rig_{name}",
        lambda name: f"Armature|{name}",
    ],
    ids=["underscores", "lower case", "namespace", "prefix", "pipe"],
)
@pytest.mark.parametrize("preset", list(FAMILIES))
def test_families_spelled_by_other_programs(preset: str, spelling: Callable[[str], str]) -> None:
    mapping = map_rig(renamed(family_rig(preset), spelling))
    assert mapping.bone_map.name == preset
    wanted = family_limbs(FAMILIES[preset])
    assert {s: mapping.bone_map.bones.get(s) for s in wanted} == {
        segment: tuple(spelling(bone) for bone in chain) for segment, chain in wanted.items()
    }


@pytest.mark.parametrize(
    "style",
    ["{stem}.L", "{stem}_l", "L_{stem}", "Left{stem}", "{stem}Left", "left_{stem}", "{stem} L", "{stem}-lt"],
)
def test_sides_written_anywhere(style: str) -> None:
    right = style
    for left_word, right_word in (("Left", "Right"), ("left", "right"), ("lt", "rt"), ("L", "R"), ("_l", "_r")):
        right = right if right != style else right.replace(left_word, right_word)

    def restyled(name: str) -> str:
        stem = re.sub(r"_[lr]$", "", name)
        if stem == name:
            return name
        return (style if name.endswith("_l") else right).format(stem=stem.capitalize())

    mapping = map_rig(renamed(family_rig("game_engine"), restyled))
    assert mapping.bone_map.name == "game_engine"
    assert mapping.bone_map.bones["r_shank"] == (restyled("calf_r"),)
    assert mapping.bone_map.bones["l_upperarm"] == (restyled("upperarm_l"),)
    assert mapping.bone_map.twist["l_upperarm"] == (restyled("upperarm_twist_01_l"),)
    spelled = next(match for match in mapping.matches if match.segment == "r_shank")
    assert "spelled differently" in spelled.reason and spelled.score < 1.0


@pytest.mark.parametrize("prefix", ["", "mixamorig1:", "Hero:mixamorig:", "mixamorig_", "mixamorig"])
def test_mixamo_under_any_prefix(prefix: str) -> None:
    rest = renamed(real_rig("mixamo"), lambda name: name.replace("mixamorig:", prefix))
    found = recognise(rest)
    assert found.name == "mixamo"
    assert found.bones["l_thigh"] == (f"{prefix}LeftUpLeg",)


@pytest.mark.parametrize("preset", ["mixamo", "unreal_5", "auto_rig_pro"])
def test_duplicates_for_ik_mechanism_and_deformation_do_not_confuse(preset: str) -> None:
    rows = family_rows(FAMILIES[preset])
    doubled = list(rows)
    for copy in ("IK_{}", "MCH-{}", "ORG-{}", "{}_target"):
        doubled += [(copy.format(name), copy.format(p) if p else None, h, t) for name, p, h, t in rows]
    mapping = map_rig(rest_from_rows("Rig", doubled))
    assert mapping.bone_map.name == preset
    assert mapping.bone_map.bones == map_rig(family_rig(preset)).bone_map.bones


def test_an_unknown_rig_is_mapped_by_its_anatomy() -> None:
    rest, old_name = nameless(real_rig("mixamo"))
    mapping = map_rig(rest)
    assert mapping.bone_map.name == "auto" and "anatomy" in mapping.family
    assert old_name[mapping.bone_map.bones["l_forearm"][0]] == "mixamorig:LeftForeArm"
    assert all(0.5 < match.score < 1.0 and match.reason for match in mapping.matches)
    assert not mapping.problems


def test_parts_of_a_known_rig_with_names_of_their_own_are_told_by_their_place() -> None:
    rest = renamed(real_rig("cmu_mb"), lambda name: name.replace("LeftForeArm", "claw").replace("RightLeg", "peg"))
    mapping = map_rig(rest)
    assert mapping.bone_map.bones["l_forearm"] == ("claw",) and mapping.bone_map.bones["r_shank"] == ("peg",)
    assert mapping.bone_map.name == "cmu_mb" and "in part told by its anatomy" in mapping.family
    by_bone = {match.bone: match for match in mapping.matches}
    assert "middle of the arm" in by_bone["claw"].reason and by_bone["claw"].score < by_bone["LeftArm"].score == 1.0


def test_parts_that_a_body_can_do_without_are_completed_too() -> None:
    rest = renamed(real_rig("cmu_mb"), lambda name: {"LeftToeBase": "flipper", "Neck": "gooseneck"}.get(name, name))
    mapping = map_rig(rest)
    assert mapping.family == "CMU motion capture"
    assert mapping.bone_map.bones["l_toes"] == ("flipper",)
    assert mapping.bone_map.bones["neck"] == ("Neck1",)


def test_parts_that_are_not_there_are_listed_with_what_to_do() -> None:
    gone = ("Hand", "Toe", "Shoulder", "Thumb", "Finger")
    mapping = map_rig(without_bones(real_rig("cmu_mb"), lambda name: any(part in name for part in gone)))
    assert mapping.bone_map.bones["l_upperarm"] == ("LeftArm",)
    assert (
        "The left toes have no bone: the foot turns as one. Name it under 'l_toes' in a bone map if there is one."
        in (mapping.problems)
    )
    assert len(mapping.problems) == 6


def test_a_half_known_rig_that_is_no_body_says_what_is_missing() -> None:
    rest = without_bones(real_rig("cmu_mb"), lambda name: name in ("LeftForeArm", "LeftHand", "RightLeg", "RightFoot"))
    with pytest.raises(RigError, match=r"most like 'cmu_mb'.*no bone for: .*right lower leg.*left forearm.*--map FILE"):
        recognise(rest)


def test_nothing_like_a_body_says_so() -> None:
    rope = [(f"rope{n}", f"rope{n - 1}" if n else None, [0, 0, n], [0, 0, n + 1]) for n in range(40)]
    with pytest.raises(RigError, match=r"No body was found.*'Rope'.*--map FILE"):
        recognise(rest_from_rows("Rope", rope))


def test_a_wrong_bone_in_the_middle_of_a_limb_is_pointed_out() -> None:
    rest = real_rig("default")
    bones = dict(load_bone_map("mpfb_default").bound_to(rest).bones)
    bones["l_upperarm"], bones["l_forearm"] = ("upperarm01.L",), ("upperarm02.L",)
    mapping = map_rig(rest, BoneMap("own.json", "Own", bones))
    assert any(
        "left upper arm and the left forearm" in problem and "'upperarm02.L'" in problem for problem in mapping.problems
    )
    assert any("left forearm and the right forearm" in problem for problem in mapping.problems)


def test_a_given_map_that_does_not_fit_says_so_first() -> None:
    rest = real_rig("cmu_mb")
    bones = dict(load_bone_map("cmu_mb").bound_to(rest).bones)
    bones["l_forearm"], bones["r_forearm"] = bones["r_forearm"], bones["l_forearm"]
    mapping = map_rig(rest, BoneMap("own.json", "Own", bones))
    assert "does not hang below" in mapping.problems[0]
    assert mapping.family == "Own" and "'own.json' says so" in mapping.matches[0].reason


def test_users_own_saved_maps_recognise_their_rigs() -> None:
    rest, _ = nameless(real_rig("mixamo"))
    rest = renamed(rest, lambda name: f"blob_{name}")
    found = recognise(rest)
    save_bone_map("blob", replace(found, title="Blob"))
    mapping = map_rig(rest)
    assert mapping.bone_map.name == "blob" and mapping.family == "Blob"
    assert mapping.bone_map.bones == found.bones


def test_a_damaged_map_of_the_user_is_reported_and_takes_nothing_along(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "bone_maps"
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{", encoding="utf-8")
    mapping = map_rig(real_rig("mixamo"))
    assert mapping.bone_map.name == "mixamo"
    assert len(mapping.problems) == 1 and "broken.json" in mapping.problems[0]


def control_rig() -> RestPose:
    """As generated rigs are: FK limbs hang beside the collar that moves them, deforming bones lie under all."""
    rows = family_rows(FAMILIES["rigify_def"])
    names = {
        "DEF-spine.002": "spine_fk.002",
        "DEF-spine.003": "spine_fk.003",
        "DEF-spine.004": "neck",
        "DEF-spine.006": "head",
        "DEF-spine": "torso",
    }
    controls = []
    for name, _, head, tail in rows:
        plain = name.removeprefix("DEF-")
        limb = re.fullmatch(r"(upper_arm|forearm|hand|thigh|shin|foot|toe)\.([LR])", plain)
        called = names.get(name) or (f"{limb[1]}_fk.{limb[2]}" if limb else plain if "shoulder" in plain else None)
        if called:
            controls.append((called, "root", head, tail))
            controls.append((f"MCH-{plain}", "root", head, tail))
            controls.append((f"ORG-{plain}", "root", head, tail))
    for side in "LR":
        controls += [
            (f"{bone}.{side}", "root", np.zeros(3), np.array([0.0, 0.1, 0.0]))
            for bone in ("upper_arm_parent", "thigh_parent", "hand_ik", "foot_ik", "upper_arm_ik_target")
        ]
    return rest_from_rows("rig", rows + controls, deform=lambda name: name.startswith("DEF-"))


def test_a_generated_rig_is_keyed_by_its_controls() -> None:
    found = recognise(control_rig())
    assert found.name == "rigify_control" and found.controls is not None
    assert found.bones["l_upperarm"] == ("upper_arm_fk.L",)
    assert found.controls.ik["l_hand"].bone == "hand_ik.L"
    assert found.controls.ik["l_foot"].pole is None
    check_fit(control_rig(), found)


def test_the_deforming_bones_alone_are_known_as_such() -> None:
    rest = without_bones(control_rig(), lambda name: not name.startswith("DEF-"))
    assert recognise(rest).name == "rigify_def"


@pytest.mark.slow
def test_rigifys_own_rigs_are_known(tmp_path: Path) -> None:
    bpy = pytest.importorskip("bpy")
    import addon_utils

    from keylift.addon.armature_reading import read_rest_pose
    from rig_samples import empty_scene

    empty_scene()
    addon_utils.enable("rigify", default_set=True)
    try:
        bpy.ops.object.armature_human_metarig_add()
        metarig = bpy.context.active_object
        assert recognise(read_rest_pose(metarig)).name == "rigify_metarig"
        bpy.ops.pose.rigify_generate()
        generated = next(o for o in bpy.data.objects if o.type == "ARMATURE" and o is not metarig)
        mapping = map_rig(read_rest_pose(generated))
    finally:
        addon_utils.disable("rigify", default_set=True)
    assert mapping.bone_map.name == "rigify_control"
    assert all(match.score == 1.0 for match in mapping.matches)
    assert mapping.bone_map.controls is not None and set(mapping.bone_map.controls.ik) == {
        "l_hand",
        "r_hand",
        "l_foot",
        "r_foot",
    }


def test_exchanged_sides_are_noticed() -> None:
    rest = real_rig("cmu_mb")
    wrong = load_bone_map("cmu_mb").bound_to(rest).bones
    swapped = {
        {"l": "r", "r": "l"}.get(key[0], key[0]) + key[1:] if key[1] == "_" else key: v for key, v in wrong.items()
    }
    with pytest.raises(RigError, match="left and right seem"):
        rig_body(rest, BoneMap("own.json", "own", swapped))


def test_exchanged_legs_alone_are_noticed() -> None:
    rest = real_rig("cmu_mb")
    bones = dict(load_bone_map("cmu_mb").bound_to(rest).bones)
    for part in ("thigh", "shank", "foot", "toes"):
        bones[f"l_{part}"], bones[f"r_{part}"] = bones[f"r_{part}"], bones[f"l_{part}"]
    with pytest.raises(RigError, match="disagree"):
        rig_body(rest, BoneMap("own.json", "own", bones))


def test_a_map_that_hangs_together_wrongly_is_noticed() -> None:
    rest = real_rig("cmu_mb")
    bones = dict(load_bone_map("cmu_mb").bound_to(rest).bones)
    bones["l_forearm"], bones["r_forearm"] = bones["r_forearm"], bones["l_forearm"]
    with pytest.raises(RigError, match="'RightForeArm' .left forearm. does not hang below 'LeftArm'"):
        rig_body(rest, BoneMap("own.json", "own", bones))


def test_body_axes_follow_the_rig_wherever_it_faces() -> None:
    rest = real_rig("mixamo")
    preset = load_bone_map("mixamo")
    assert np.array_equal(rig_body(rest, preset).armature_from_body, [[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    # A rig made y-up, looking along z, as importers leave it when they don't convert.
    y_up = np.eye(4)
    y_up[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    turned = replace(rest, armature_from_bone=y_up @ rest.armature_from_bone)
    assert np.array_equal(rig_body(turned, preset).armature_from_body, np.eye(3))
