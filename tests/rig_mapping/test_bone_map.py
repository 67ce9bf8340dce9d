"""Bone maps: shipped ones are sound, users' own are checked strictly."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keylift.core.errors import FileFormatError, OutputError, RigError
from keylift.core.segments import SEGMENT_NAMES
from keylift.rig_mapping import own_maps
from keylift.rig_mapping.bone_map import (
    IK_LIMBS,
    BoneMap,
    Controls,
    IkControl,
    Setting,
    Switch,
    bone_maps,
    load_bone_map,
    preset_names,
    save_bone_map,
    shipped_names,
    unreadable_maps,
    user_folder,
    write_bone_map,
)
from keylift.rig_mapping.bone_names import normalised_name, side_and_stem, without_common_prefix
from keylift.rig_mapping.own_maps import keep_own_maps_in
from keylift.rig_mapping.rest_pose import RestPose
from rig_skeletons import FAMILIES


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


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "bone_maps"


@pytest.mark.parametrize("name", shipped_names())
def test_presets_map_the_whole_body(name: str) -> None:
    preset = load_bone_map(name)
    assert set(preset.bones) == set(SEGMENT_NAMES)
    assert preset.name == name and preset.title and preset.is_preset
    for chains in (preset.bones, preset.twist):
        for segment, chain in chains.items():
            if segment.startswith("l_"):
                assert len(chain) == len(chains["r_" + segment[2:]])
                assert not set(chain) & set(chains["r_" + segment[2:]])
    assert preset.format == 2


def test_every_family_has_a_preset() -> None:
    assert set(shipped_names()) == {*FAMILIES, "rigify_control"}


def test_no_two_presets_are_alike() -> None:
    every = [frozenset(map(normalised_name, sum(load_bone_map(name).bones.values(), ()))) for name in shipped_names()]
    assert len(set(every)) == len(every)


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
        ("mixamorigHips", "Hips"),
        ("Bip001 L UpperArm", "Bip01 L Upperarm"),
        ("m_avg_L_Hip", "left_hip"),
        ("upperarm_l", "UpperArm.L"),
        ("LeftForeArm", "forearm.l"),
        ("L_ForeArm", "ForeArm_Left"),
        ("LEFTFOREARM", "left_fore_arm"),
        ("lShldrBend", "shldr-bend.L"),
        ("CC_Base_R_Thigh", "cc_base_thigh_r"),
        ("LHipJoint", "hip_joint.L"),
        ("upperarm_twist_01_r", "R_UpperArmTwist1"),
    ],
)
def test_names_that_mean_the_same(written_as: str, same: str) -> None:
    assert normalised_name(written_as) == normalised_name(same)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Spine", "Spine1"),
        ("thigh.L", "thigh.R"),
        ("neck01", "neck02"),
        ("finger1-1", "finger11"),
        ("leftarm", "rightarm"),
        ("Clavicle", "avicle.L"),
        ("DEF-thigh.L", "thigh.L"),
    ],
)
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


def test_sides_are_read_wherever_they_stand() -> None:
    assert side_and_stem("upper_arm.L.001") == ("l", ("upper", "arm", "1"))
    assert side_and_stem("Bip01 R Toe0") == ("r", ("toe", "0"))
    assert side_and_stem("L") == ("", ("l",))
    assert side_and_stem("shoulder") == ("", ("shoulder",))


def test_a_prefix_of_the_whole_rig_is_taken_off_but_no_side() -> None:
    bare = without_common_prefix(["hero_l_arm", "hero_l_leg", "hero_r_arm", "root"])
    assert bare == {"hero_l_arm": "l_arm", "hero_l_leg": "l_leg", "hero_r_arm": "r_arm", "root": "root"}
    assert without_common_prefix(["l_arm", "l_leg"]) == {"l_arm": "l_arm", "l_leg": "l_leg"}


CONTROL_MAP = {
    "format": 2,
    "bones": {"pelvis": "Hip", "l_thigh": ["Thigh"]},
    "twist": {"l_thigh": "Twist"},
    "root": "Root",
    "controls": {
        "switches": [{"bone": "Switch", "property": "IK_FK", "fk": 1, "ik": 0.0}],
        "settings": [{"bone": "Hip", "property": "follow", "value": 0.5}],
        "ik": {"l_foot": {"bone": "Foot IK", "pole": "Pole"}, "r_foot": {"bone": "Foot IK R"}},
    },
}


def test_format_2_has_twist_bones_a_root_and_controls(tmp_path: Path) -> None:
    own = load_bone_map(written(tmp_path, CONTROL_MAP))
    assert own.twist == {"l_thigh": ("Twist",)} and own.root == "Root" and own.format == 2
    assert own.controls is not None
    assert own.controls.switches == (Switch("Switch", "IK_FK", 1.0, 0.0),)
    assert own.controls.settings == (Setting("Hip", "follow", 0.5),)
    assert own.controls.ik == {"l_foot": IkControl("Foot IK", "Pole"), "r_foot": IkControl("Foot IK R")}
    names = ("Root", "Hip", "Thigh", "Twist", "Switch", "Foot IK", "Pole", "Foot IK R")
    bound = own.bound_to(rest_pose(*names))
    assert (bound.twist, bound.root, bound.controls) == (own.twist, own.root, own.controls)


@pytest.mark.parametrize("missing", ["Root", "Twist", "Switch", "Pole", "Foot IK R"])
def test_an_own_map_needs_its_twist_root_and_control_bones_too(tmp_path: Path, missing: str) -> None:
    own = load_bone_map(written(tmp_path, CONTROL_MAP))
    names = {"Root", "Hip", "Thigh", "Twist", "Switch", "Foot IK", "Pole", "Foot IK R"} - {missing}
    with pytest.raises(RigError, match=f"does not have: '{missing}'"):
        own.bound_to(rest_pose(*sorted(names)))


def test_a_preset_passes_over_what_the_rig_lacks(tmp_path: Path, own_folder: Path) -> None:
    own_folder.mkdir(parents=True)
    (own_folder / "mine.json").write_text(json.dumps(CONTROL_MAP), encoding="utf-8")
    bound = load_bone_map("mine").bound_to(rest_pose("HIP", "thigh", "foot_ik"))
    assert bound.bones == {"pelvis": ("HIP",), "l_thigh": ("thigh",)}
    assert bound.twist == {} and bound.root is None
    assert bound.controls is not None and not bound.controls.switches
    assert bound.controls.settings == (Setting("HIP", "follow", 0.5),)
    assert bound.controls.ik == {"l_foot": IkControl("foot_ik")}
    assert load_bone_map("rigify_control").bound_to(rest_pose("torso.001")).controls is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 1}, "keys of a newer format: controls, root, twist"),
        ({"root": 3}, "'root'"),
        ({"root": "Hip"}, "twice: 'Hip'"),
        ({"twist": []}, "'twist'"),
        ({"twist": {"tail": "Twist"}}, "unknown segments: tail"),
        ({"twist": {"l_thigh": "Thigh"}}, "twice: 'Thigh'"),
        ({"controls": []}, "controls to be an object"),
        ({"controls": {"knobs": []}}, "unknown keys in controls: knobs"),
        ({"controls": {"switches": {}}}, "'switches' of controls to be a list"),
        ({"controls": {"switches": [{"bone": "a"}]}}, "lacks fk, ik, property in a switch"),
        ({"controls": {"switches": [{"bone": "a", "property": "b", "fk": True, "ik": 0}]}}, "'fk' of 'b' a number"),
        ({"controls": {"settings": [{"bone": "a", "property": "b", "value": float("nan")}]}}, "'value' of 'b'"),
        ({"controls": {"settings": [{"bone": "", "property": "b", "value": 1}]}}, "names as 'bone'"),
        ({"controls": {"ik": {"tail": {"bone": "a"}}}}, "unknown keys in ik: tail"),
        ({"controls": {"ik": {"l_hand": {}}}}, "'l_hand' of ik a 'bone'"),
        ({"controls": {"ik": {"l_hand": {"bone": "a", "pole": 1}}}}, "'l_hand' of ik"),
    ],
)
def test_wrong_parts_of_format_2_say_why(tmp_path: Path, change: dict[str, object], reason: str) -> None:
    with pytest.raises(FileFormatError, match=reason):
        load_bone_map(written(tmp_path, {**CONTROL_MAP, **change}))


NAMES = st.text(min_size=1, max_size=12)


@st.composite
def any_map(draw: st.DrawFn) -> BoneMap:
    names = iter(draw(st.lists(NAMES, min_size=60, max_size=60, unique=True)))

    def chains() -> dict[str, tuple[str, ...]]:
        return {
            segment: tuple(next(names) for _ in range(draw(st.integers(1, 3))))
            for segment in draw(st.lists(st.sampled_from(SEGMENT_NAMES), min_size=1, max_size=6, unique=True))
        }

    numbers = st.floats(allow_nan=False, allow_infinity=False)
    switches = st.builds(Switch, NAMES, NAMES, numbers, numbers)
    controls = st.builds(
        Controls,
        st.lists(switches, max_size=2).map(tuple),
        st.lists(st.builds(Setting, NAMES, NAMES, numbers), max_size=2).map(tuple),
        st.dictionaries(st.sampled_from(IK_LIMBS), st.builds(IkControl, NAMES, st.none() | NAMES)),
    )
    root = next(names) if draw(st.booleans()) else None
    return BoneMap("x.json", draw(st.text()), chains(), twist=chains(), root=root, controls=draw(st.none() | controls))


@given(any_map())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, own: BoneMap) -> None:
    path = tmp_path_factory.mktemp("maps") / "x.json"
    write_bone_map(path, own)
    read = load_bone_map(str(path))
    for field in ("name", "title", "bones", "twist", "root", "format"):
        assert getattr(read, field) == getattr(own, field)
    assert (read.controls is None) == (own.controls is None)
    if own.controls and read.controls:
        assert vars(read.controls) == vars(own.controls)


def test_a_written_map_has_a_line_for_each_segment(tmp_path: Path) -> None:
    path = tmp_path / "own.json"
    write_bone_map(path, load_bone_map(written(tmp_path, CONTROL_MAP)))
    assert '    "l_thigh": ["Thigh"]' in path.read_text(encoding="utf-8").splitlines()


def test_saved_maps_join_the_shipped_ones(own_folder: Path) -> None:
    assert preset_names() == shipped_names()
    saved = save_bone_map("My hero-2", load_bone_map("mixamo"))
    assert saved == own_folder / "My hero-2.json"
    assert set(preset_names()) == {*shipped_names(), "My hero-2"}
    own = load_bone_map("My hero-2")
    assert own.is_preset and own.name == "My hero-2" and own.bones == load_bone_map("mixamo").bones
    assert "My hero-2" in [known.name for known in bone_maps()]
    # Given by its path it is taken at its word.
    assert not load_bone_map(str(saved)).is_preset


@pytest.mark.parametrize("name", ["mixamo", "Mixamo"])
def test_shipped_maps_are_not_written_over(name: str, own_folder: Path) -> None:
    with pytest.raises(OutputError, match="comes with Keylift"):
        save_bone_map(name, load_bone_map("mixamo"))
    assert not own_folder.exists()


@pytest.mark.parametrize("name", ["", "auto", "../up", "a/b", "C:\\x", "CON", "lpt1", "x.json", "end.", "-o", "x" * 65])
def test_names_that_no_file_should_have(name: str) -> None:
    with pytest.raises(OutputError, match="can't be the name"):
        save_bone_map(name, load_bone_map("mixamo"))


def test_one_damaged_map_does_not_hide_the_others(own_folder: Path) -> None:
    save_bone_map("good", load_bone_map("mixamo"))
    (own_folder / "bad.json").write_text("{", encoding="utf-8")
    assert "good" in preset_names() and "bad" not in preset_names()
    (problem,) = unreadable_maps()
    assert "bad.json" in problem
    with pytest.raises(FileFormatError, match="bad.json"):
        load_bone_map("bad")


def test_where_own_maps_live(tmp_path: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert user_folder() == own_folder
    monkeypatch.delenv("KEYLIFT_DATA")
    assert user_folder() is not None and user_folder() != own_folder
    # As inside Blender, whose Python has no platformdirs.
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert user_folder() is None and preset_names() == shipped_names()
    with pytest.raises(OutputError, match="KEYLIFT_DATA"):
        save_bone_map("mine", load_bone_map("mixamo"))
    monkeypatch.setattr(own_maps, "_addons_folder", None)
    keep_own_maps_in(tmp_path / "extension")
    save_bone_map("mine", load_bone_map("mixamo"))
    assert (tmp_path / "extension" / "mine.json").is_file() and "mine" in preset_names()
    keep_own_maps_in(None)
