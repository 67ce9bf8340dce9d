"""Rigs are told by the names of their bones, and not taken for what they are not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.errors import RigError
from keylift.rig_mapping.bone_map import BoneMap, load_bone_map
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_body
from rig_samples import PRESET_OF, empty_scene, make_rig


def rest_of(name: str) -> RestPose:
    empty_scene()
    return read_rest_pose(make_rig(name))


def renamed(rest: RestPose, new_name) -> RestPose:
    return replace(rest, names=tuple(new_name(name) for name in rest.names))


@pytest.mark.parametrize("name", list(PRESET_OF))
def test_each_rig_is_known(name: str) -> None:
    rest = rest_of(name)
    found = recognise(rest)
    assert found.name == PRESET_OF[name]
    assert all(bone in rest.names for chain in found.bones.values() for bone in chain)
    assert len(found.bones) == 21


@pytest.mark.parametrize("prefix", ["", "mixamorig1:", "Hero:mixamorig:", "mixamorig_"])
def test_mixamo_under_any_prefix(prefix: str) -> None:
    rest = renamed(rest_of("mixamo"), lambda name: name.replace("mixamorig:", prefix))
    found = recognise(rest)
    assert found.name == "mixamo"
    assert found.bones["l_thigh"] == (f"{prefix}LeftUpLeg",)


def test_unreal_names_of_any_case() -> None:
    rest = renamed(rest_of("game_engine"), str.upper)
    assert recognise(rest).bones["r_shank"] == ("CALF_R",)


def test_a_metarig_exported_with_underscores() -> None:
    rest = renamed(rest_of("rigify_metarig"), lambda name: name.replace(".", "_"))
    assert recognise(rest).bones["chest"] == ("spine_003",)


def test_unknown_names_say_what_to_do() -> None:
    rest = renamed(rest_of("cmu_mb"), lambda name: f"x{name[::-1]}")
    with pytest.raises(RigError, match=r"No bone map fits.*None of its 31 bones.*--map FILE"):
        recognise(rest)


def test_missing_parts_are_named() -> None:
    rest = renamed(rest_of("cmu_mb"), lambda name: name.replace("LeftForeArm", "claw").replace("RightLeg", "peg"))
    with pytest.raises(RigError, match="no bone for: right lower leg and left forearm"):
        recognise(rest)


def test_a_rig_without_hands_toes_neck_and_collars_is_a_body() -> None:
    def without(name: str) -> str:
        extra = ("Hand", "ToeBase", "Neck", "Shoulder")
        return f"x{name}" if name.endswith(extra) or name == "Neck1" else name

    found = recognise(renamed(rest_of("cmu_mb"), without))
    assert "l_hand" not in found.bones and "neck" not in found.bones
    assert found.bones["l_upperarm"] == ("LeftArm",)


def test_exchanged_sides_are_noticed() -> None:
    rest = rest_of("cmu_mb")
    wrong = load_bone_map("cmu_mb").bound_to(rest).bones
    swapped = {
        {"l": "r", "r": "l"}.get(key[0], key[0]) + key[1:] if key[1] == "_" else key: v for key, v in wrong.items()
    }
    with pytest.raises(RigError, match="left and right seem"):
        rig_body(rest, BoneMap("own.json", "own", swapped))


def test_exchanged_legs_alone_are_noticed() -> None:
    rest = rest_of("cmu_mb")
    bones = dict(load_bone_map("cmu_mb").bound_to(rest).bones)
    for part in ("thigh", "shank", "foot", "toes"):
        bones[f"l_{part}"], bones[f"r_{part}"] = bones[f"r_{part}"], bones[f"l_{part}"]
    with pytest.raises(RigError, match="disagree"):
        rig_body(rest, BoneMap("own.json", "own", bones))


def test_a_map_that_hangs_together_wrongly_is_noticed() -> None:
    rest = rest_of("cmu_mb")
    bones = dict(load_bone_map("cmu_mb").bound_to(rest).bones)
    bones["l_forearm"], bones["r_forearm"] = bones["r_forearm"], bones["l_forearm"]
    with pytest.raises(RigError, match="'RightForeArm' .left forearm. does not hang below 'LeftArm'"):
        rig_body(rest, BoneMap("own.json", "own", bones))


def test_body_axes_follow_the_rig_wherever_it_faces() -> None:
    rest = rest_of("mixamo")
    preset = load_bone_map("mixamo")
    assert np.array_equal(rig_body(rest, preset).armature_from_body, [[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    # A rig made y-up, looking along z, as importers leave it when they don't convert.
    y_up = np.eye(4)
    y_up[:3, :3] = [[1, 0, 0], [0, 0, 1], [0, -1, 0]]
    turned = replace(rest, armature_from_bone=y_up @ rest.armature_from_bone)
    assert np.array_equal(rig_body(turned, preset).armature_from_body, np.eye(3))
