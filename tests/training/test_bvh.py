"""BVH files: forward kinematics against arithmetic done by hand, three dialects against our landmark sets, damage."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from checkout import ROOT
from keylift.core.errors import FileFormatError
from keylift.core.metrics import p_mpjpe
from keylift.core.skeletons import LANDMARKS_41
from keylift.training.motion.bvh_reader import MAX_DEPTH, read_bvh
from keylift.training.motion.files import read_motion_from
from keylift.training.motion.joint_map import NEEDED_LANDMARKS
from keylift.training.motion.motion_set import read_motion

SHARED = ROOT.parent / "shared" / "data"
SAMPLES = SHARED / "bvh_samples"
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="the sample clips are not here")

ARM = """HIERARCHY
ROOT hip
{
  OFFSET 0 1 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT arm
  {
    OFFSET 0 2 0
    CHANNELS %s
    End Site
    {
      OFFSET 3 0 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
%s
"""
TURNS = "3 Zrotation Xrotation Yrotation"
STILL = "0 1 0 0 0 0 0 0 0"
WITH_POSITIONS = "6 Xposition Yposition Zposition Zrotation Xrotation Yrotation"


def bvh(path: Path, channels: str = TURNS, frames: str = f"{STILL}\n{STILL}") -> Path:
    path.write_text(ARM % (channels, frames))
    return path


def test_turns_are_carried_down_the_tree_in_the_order_of_their_channels(tmp_path):
    motion = read_bvh(bvh(tmp_path / "a.bvh", frames=f"{STILL}\n5 1 0 90 0 0 0 90 90"))
    positions, turns = motion.world(slice(None))
    assert motion.names == ("hip", "arm", "arm_end") and motion.fps == 30.0
    np.testing.assert_allclose(positions[0], [[0, 1, 0], [0, 3, 0], [3, 3, 0]])
    # Hip: z by 90 brings y to -x. Arm: y by 90 brings x to -z, x by 90 that to y; the hip brings that to -x.
    np.testing.assert_allclose(positions[1], [[5, 1, 0], [3, 1, 0], [0, 1, 0]], atol=1e-12)
    np.testing.assert_allclose(turns[1, 0] @ [0, 1, 0], [-1, 0, 0], atol=1e-12)


def test_positions_of_inner_joints_replace_their_offsets_as_blender_writes_them(tmp_path):
    frames = "0 1 0 0 0 0 0 2 0 0 0 0\n0 1 0 90 0 0 7 2 0 0 0 0"
    positions, _ = read_bvh(bvh(tmp_path / "a.bvh", WITH_POSITIONS, frames)).world(slice(None))
    np.testing.assert_allclose(positions[0, 1], [0, 3, 0])
    np.testing.assert_allclose(positions[1, 1], [-2, 8, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda text: text[:-12], "9 channels"),
        (lambda text: text[: text.rindex(STILL)], "ends after 1 of 2 frames"),
        (lambda text: text + STILL, "line 21: there are more frames"),
        (lambda text: text[: text.index("End")], "cut off"),
        (lambda text: "", "cut off or not a BVH"),
        (lambda text: "\x00\x01" * 5000, "longer than any line"),
        (lambda text: text.replace("3 Zrot", "2 Zrot"), "line 9: CHANNELS says 2 but 3"),
        (lambda text: text.replace("Xrotation Yrotation\n    End", "Xrotation Xrotation\n    End"), "line 9.*twice"),
        (lambda text: text.replace("Zrotation", "Wrotation"), "line 5: 'Wrotation'"),
        (lambda text: text.replace("OFFSET 0 2 0", "OFFSET 0 nan 0"), "line 8: 'nan' is not a finite"),
        (lambda text: text.replace("OFFSET 0 2 0", ""), "'arm' has no OFFSET"),
        (lambda text: text.replace("0 0 0 0 0", "0 0 inf 0 0", 1), "line 19: a value is not a finite"),
        (lambda text: text.replace("0 0 0 0 0", "0 0 x 0 0", 1), "line 19: 'x' is not a number"),
        (lambda text: text.replace("Frames: 2", "Frames: 99999999999999"), "1 to 2000000 frames"),
        (lambda text: text.replace("Frames: 2", "Frames: -2"), "line 17: 'Frames:"),
        (lambda text: text.replace("0.0333333", "0"), "a frame can't take 0 s"),
        (lambda text: text.replace("JOINT arm", "JOINT hip"), "two joints called 'hip'"),
        (lambda text: text.replace("}\nMOTION", "}\nROOT b\n{\n}\nMOTION"), "second root"),
        (lambda text: text.replace("}\nMOTION", "MOTION"), "'}' may be missing"),
        (lambda text: text.replace("MOTION", "}\nMOTION"), "closes nothing"),
        (lambda text: text.replace("  JOINT arm\n", "  OOPS\n"), "line 6: 'OOPS' has no place"),
        (lambda text: text.replace("HIERARCHY", "HIERARCHY\n" + "ROOT a\n{\n" + "JOINT\n"), "no name"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path, change, says):
    path = bvh(tmp_path / "a.bvh")
    path.write_text(change(path.read_text()))
    with pytest.raises(FileFormatError, match=rf"(?s)a\.bvh.*{says}"):
        read_bvh(path)


def test_a_hierarchy_that_goes_down_for_ever_is_refused(tmp_path):
    joint = "JOINT j%d\n{\nOFFSET 0 1 0\nCHANNELS 3 Zrotation Xrotation Yrotation\n"
    path = tmp_path / "deep.bvh"
    path.write_text("HIERARCHY\nROOT r\n{\nOFFSET 0 0 0\n" + "".join(joint % number for number in range(MAX_DEPTH + 1)))
    with pytest.raises(FileFormatError, match="nested deeper"):
        read_bvh(path)


@needs_samples
@pytest.mark.parametrize("name", ["daz_02_01", "mb_02_01", "iclone_002_01"])
def test_every_dialect_is_posed_as_another_reader_poses_it(name):
    pybvh = pytest.importorskip("pybvh")
    other = pybvh.read_bvh_file(SAMPLES / f"{name}.bvh", world_up="+y")
    ours, _ = read_bvh(SAMPLES / f"{name}.bvh").world(slice(None))
    np.testing.assert_allclose(ours, pybvh.frames_to_node_positions(other), atol=1e-9)


def copied(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copyfile(SAMPLES / f"{name}.bvh", folder / f"{name}.bvh")
    return folder


def clip_of(motion, name: str) -> np.ndarray:
    clip = list(motion.clip_name).index(name)
    return motion.positions_m[motion.clip_start[clip] : motion.clip_start[clip + 1]]


@needs_samples
def test_daz_clips_come_out_as_in_our_landmark_set(tmp_path):
    motion = read_motion_from(copied(tmp_path / "clips", "daz_06_09", "daz_13_11"))
    known = read_motion(SHARED / "mocap" / "mocap_train_60fps.npz")
    for name in ("06_09", "13_11"):
        ours, theirs = clip_of(motion, f"daz_{name}").astype(float), clip_of(known, name).astype(float)
        assert len(ours) == len(theirs)
        # 0.25 mm is the step of that file; derived landmarks are scaled by the size of the body here.
        assert np.abs((ours - ours[:, :1]) - (theirs - theirs[:, :1])).max() < 0.003
    assert motion.has(*LANDMARKS_41.names) and set(motion.subject) == {"daz_06", "daz_13"}
    assert motion.fps == 60 and set(motion.source) == {"bvh"} and len(motion.sha256) == 64


@needs_samples
@pytest.mark.parametrize(
    ("name", "known_name", "worst_mm"), [("mb_02_01", "02_01", 25), ("iclone_002_01", "02_01", 42)]
)
def test_other_dialects_move_as_the_same_take_of_cmu(tmp_path, name, known_name, worst_mm):
    # On other bodies: the mb sample has another subject's bones, and iClone's is its own, so only roughly.
    motion = read_motion_from(copied(tmp_path / "clips", name))
    known = clip_of(read_motion(SHARED / "mocap" / "mocap_test_60fps.npz"), known_name).astype(float)
    ours = clip_of(motion, name).astype(float)
    frames = min(len(ours), len(known))
    assert p_mpjpe(ours[:frames], known[:frames]) * 1000 < worst_mm
    assert motion.has(*LANDMARKS_41.names)


@needs_samples
@pytest.mark.parametrize("name", ["daz_08_01", "mb_02_01", "iclone_002_01"])
def test_bodies_stand_on_the_floor_and_face_where_their_toes_point(tmp_path, name):
    motion = read_motion_from(copied(tmp_path / "clips", name))
    at = {joint: motion.positions_m[:, index] for index, joint in enumerate(LANDMARKS_41.names)}
    forward = np.cross(at["l_hip"] - at["r_hip"], at["neck"] - at["pelvis"])
    for ahead in (at["nose"] - at["head"], at["l_toe_tip"] - at["l_heel"], at["r_big_toe"] - at["r_heel"]):
        assert ((forward * ahead).sum(axis=1) > 0).mean() > 0.95
    feet = np.minimum.reduce([at[f"{side}_{part}"][:, 1] for side in "lr" for part in ("heel", "toe_base")])
    assert feet.min() > -0.06 and 0 < np.median(feet) < 0.06
    # What is left of the face is left of the body, and a standing head is upright.
    assert ((at["l_ear"] - at["r_ear"]) * (at["l_shoulder"] - at["r_shoulder"])).sum(axis=1).min() > 0
    assert (at["head_top"] - at["head"])[:, 1].mean() > 0.09


OWN_MAP = """
kind = "bvh"
[landmarks]
"""


def own_map(path: Path, exchanged: bool = False) -> Path:
    """A map of the MotionBuilder dialect as a user would write it, knowing neither unit nor axis."""
    names = {"hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "toe_base": "ToeBase"}
    names |= {"shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand"}
    sides = {"l": "Right", "r": "Left"} if exchanged else {"l": "Left", "r": "Right"}
    lines = [f'{side}_{ours} = "{word}{theirs}"' for side, word in sides.items() for ours, theirs in names.items()]
    path.write_text(OWN_MAP + "\n".join([*lines, 'neck = "Neck"', 'head = "Head"']))
    return path


@needs_samples
def test_another_rig_is_read_by_a_map_and_what_is_guessed_is_said(tmp_path):
    folder = copied(tmp_path / "clips", "mb_02_01")
    known = read_motion_from(folder)
    motion = read_motion_from(folder, own_map(tmp_path / "map.toml"))
    assert any("CMU's inches" in note for note in motion.notes)
    legs = LANDMARKS_41.indices("l_hip", "l_knee", "l_ankle", "l_heel", "r_big_toe")
    np.testing.assert_allclose(motion.positions_m[:, legs], known.positions_m[:, legs], atol=1e-3)
    assert motion.lacks("nose", "spine", "chest") == ["spine", "chest"]
    with pytest.raises(FileFormatError, match=r"no spine, chest \(clip mb_02_01"):
        motion.check_has("nose", "spine", "chest")


@needs_samples
def test_a_rig_with_z_upwards_is_stood_up(tmp_path):
    folder = copied(tmp_path / "clips", "mb_02_01")
    upright = read_motion_from(folder, own_map(tmp_path / "map.toml"))
    # The same clip as a z-up program writes it: a root above all that lies on its back.
    text = (folder / "mb_02_01.bvh").read_text()
    head, values = text.split("MOTION")
    head = head.replace("ROOT Hips", "ROOT Above\n{\nOFFSET 0 0 0\nCHANNELS 1 Xrotation\nJOINT Hips", 1) + "}\n"
    lines = values.strip().splitlines()
    turned = "\n".join(["MOTION", *lines[:2], *("90 " + line for line in lines[2:])])
    (folder / "mb_02_01.bvh").write_text(head + turned)
    motion = read_motion_from(folder, own_map(tmp_path / "map.toml"))
    assert any("z upwards" in note for note in motion.notes)
    off = np.abs(motion.positions_m - upright.positions_m)
    assert off[:, LANDMARKS_41.indices(*NEEDED_LANDMARKS, "l_toe_base", "r_toe_base")].max() < 1e-3
    # The zero pose now lies down, so head and feet are told by how they are held in motion, which is nearly the same.
    assert 0 < np.nanmax(off) < 0.04


@needs_samples
def test_a_map_that_exchanges_left_and_right_is_refused(tmp_path):
    folder = copied(tmp_path / "clips", "mb_02_01")
    with pytest.raises(FileFormatError, match="mirrored: its toes point backwards"):
        read_motion_from(folder, own_map(tmp_path / "map.toml", exchanged=True))
    half = own_map(tmp_path / "half.toml")
    arms = half.read_text().replace("LeftArm", "x").replace("RightArm", "LeftArm").replace('"x"', '"RightArm"')
    half.write_text(arms)
    with pytest.raises(FileFormatError, match="exchanged at the hips"):
        read_motion_from(folder, half)


@needs_samples
def test_a_rig_that_nobody_knows_is_told_its_joints(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    bvh(folder / "a.bvh")
    with pytest.raises(FileFormatError, match=r"(?s)not known by itself.*joint map.*hip, arm, arm_end"):
        read_motion_from(folder)
    with pytest.raises(FileFormatError, match=r"(?s)no joint Head, LeftArm"):
        read_motion_from(folder, own_map(tmp_path / "map.toml"))
