"""Bone maps: shipped ones are sound, users' own are checked strictly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from keylift.core.errors import FileFormatError, RigError
from keylift.core.segments import SEGMENT_NAMES
from keylift.rig_mapping.bone_map import load_bone_map, preset_names
from keylift.rig_mapping.bone_names import normalised_name
from keylift.rig_mapping.rest_pose import RestPose


def rest_pose(*names: str) -> RestPose:
    """Bones in a row, one hanging from the other."""
    bones = len(names)
    return RestPose(
        name="Rig",
        names=names,
        parents=tuple(range(-1, bones - 1)),
        armature_from_bone=np.tile(np.eye(4), (bones, 1, 1)),
        lengths=np.ones(bones),
        rotation_modes=("QUATERNION",) * bones,
        inherit_rotation=np.ones(bones, bool),
        local_location=np.ones(bones, bool),
        locks=np.zeros((bones, 3), bool),
        use_connect=np.zeros(bones, bool),
        basis=np.tile(np.eye(4), (bones, 1, 1)),
        world_from_armature=np.eye(4),
    )


def written(folder: Path, content: object) -> str:
    path = folder / "own.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", preset_names())
def test_presets_map_the_whole_body(name: str) -> None:
    preset = load_bone_map(name)
    assert set(preset.bones) == set(SEGMENT_NAMES)
    assert preset.name == name and preset.title and preset.is_preset
    for segment, chain in preset.bones.items():
        if segment.startswith("l_"):
            assert len(chain) == len(preset.bones["r_" + segment[2:]])


def test_the_five_rigs_of_the_issue_have_presets() -> None:
    assert set(preset_names()) >= {"rigify_metarig", "mixamo", "mpfb_default", "game_engine", "cmu_mb"}


@pytest.mark.parametrize(
    ("written_as", "same"),
    [
        ("mixamorig:LeftUpLeg", "LeftUpLeg"),
        ("mixamorig1:LeftUpLeg", "mixamorig:LeftUpLeg"),
        ("mixamorig_LeftUpLeg", "LeftUpLeg"),
        ("Pelvis", "pelvis"),
        ("spine_01", "spine.001"),
        ("upper_arm_L", "upper_arm.L"),
        ("Hero:mixamorig:Hips", "Hips"),
    ],
)
def test_names_that_mean_the_same(written_as: str, same: str) -> None:
    assert normalised_name(written_as) == normalised_name(same)


@pytest.mark.parametrize(("one", "other"), [("Spine", "Spine1"), ("thigh.L", "thigh.R"), ("neck01", "neck02")])
def test_names_that_differ(one: str, other: str) -> None:
    assert normalised_name(one) != normalised_name(other)


def test_a_name_that_is_nothing_but_a_prefix_stays_a_name() -> None:
    assert normalised_name("mixamorig")
    assert normalised_name("000") == "0"


def test_an_own_map_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, {"format": 1, "bones": {"pelvis": "Hip", "spine": ["Belly", "Ribs"]}})
    own = load_bone_map(path)
    assert own.bones == {"pelvis": ("Hip",), "spine": ("Belly", "Ribs")}
    assert own.bound_to(rest_pose("Hip", "Belly", "Ribs")).bones == own.bones


def test_bones_that_the_rig_lacks_are_named(tmp_path: Path) -> None:
    own = load_bone_map(written(tmp_path, {"format": 1, "bones": {"pelvis": "Hip", "spine": ["Belly", "Ribs"]}}))
    with pytest.raises(RigError, match=r"'own\.json'.*'Rig'.*'Belly', 'Ribs'"):
        own.bound_to(rest_pose("Hip", "belly"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "can't be read"),
        ("{", "can't be read"),
        ("[1]", "must be a JSON object"),
        ({"bones": {"pelvis": "Hip"}}, "format None"),
        ({"format": 3, "bones": {"pelvis": "Hip"}}, "format 3"),
        ({"format": True, "bones": {"pelvis": "Hip"}}, "format True"),
        ({"format": 1}, "needs 'bones'"),
        ({"format": 1, "bones": {}}, "needs 'bones'"),
        ({"format": 1, "bones": {"hips": "Hip"}}, "unknown segments: hips; known are pelvis, spine"),
        ({"format": 1, "bonez": {}, "bones": {"pelvis": "Hip"}}, "unknown keys: bonez"),
        ({"format": 1, "bones": {"pelvis": []}}, "'pelvis'"),
        ({"format": 1, "bones": {"pelvis": [3]}}, "'pelvis'"),
        ({"format": 1, "bones": {"pelvis": ""}}, "'pelvis'"),
        ({"format": 1, "bones": {"pelvis": "Hip", "spine": "Hip"}}, "twice: 'Hip'"),
        ({"format": 1, "name": 3, "bones": {"pelvis": "Hip"}}, "'name'"),
        ('{"format": 1, "bones": {"pelvis": "Hip", "pelvis": "Pelvis"}}', "appears twice"),
        ("[" * 100_000, "can't be read"),
    ],
)
def test_a_map_that_is_none_says_why(tmp_path: Path, content: object, reason: str) -> None:
    with pytest.raises(FileFormatError, match=reason):
        load_bone_map(written(tmp_path, content))


def test_no_such_map_lists_the_presets() -> None:
    with pytest.raises(RigError, match="rigify_metarig"):
        load_bone_map("nowhere.json")


def test_a_binary_file_is_not_a_map(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    path.write_bytes(b"\xff\xfe\x00\x00BLENDER")
    with pytest.raises(FileFormatError, match="can't be read"):
        load_bone_map(str(path))
