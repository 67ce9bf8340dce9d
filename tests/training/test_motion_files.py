"""The door to motion of any kind, joint maps that are not understood, and clips made ready to learn from."""

from __future__ import annotations

import numpy as np
import pytest

from keylift.core.errors import FileFormatError
from keylift.core.skeletons import LANDMARKS_41
from keylift.training.motion.clips import LandmarkClip, as_motion_set, at_rate, name_and_subject, turn_to_y_up
from keylift.training.motion.files import read_motion_from
from keylift.training.motion.joint_map import NEEDED_LANDMARKS, built_in_joint_maps, read_joint_map
from keylift.training.motion.motion_set import MotionSet
from walker import walk

WHOLE_MAP = 'kind = "bvh"\n[landmarks]\n' + "\n".join(f'{name} = "{name}"' for name in NEEDED_LANDMARKS)


def test_landmark_sets_come_through_the_same_door(tmp_path):
    with pytest.raises(FileFormatError, match="no motion file"):
        read_motion_from(tmp_path / "gone.npz")


def test_a_folder_must_hold_one_kind_of_file(tmp_path):
    with pytest.raises(FileFormatError, match=r"no \.bvh and no \.c3d"):
        read_motion_from(tmp_path)
    for name in ("a.bvh", "b.c3d"):
        (tmp_path / name).touch()
    with pytest.raises(FileFormatError, match="both BVH and C3D"):
        read_motion_from(tmp_path)
    (tmp_path / "b.c3d").unlink()
    (tmp_path / "map.toml").write_text(WHOLE_MAP.replace("bvh", "c3d"))
    with pytest.raises(FileFormatError, match="holds bvh files, but the joint map"):
        read_motion_from(tmp_path, tmp_path / "map.toml")
    with pytest.raises(FileFormatError, match="after leaving out bvh"):
        read_motion_from(tmp_path, leave_out_sources=("bvh",))


def test_the_maps_that_we_ship_are_sound_and_tell_the_dialects_apart():
    maps = built_in_joint_maps("bvh")
    assert len(maps) == 3
    for one in maps:
        assert [other.title for other in maps if not other.missing_from(tuple(one.points))] == [one.title]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("kind", "kinds"), "unknown keys: kinds"),
        (('"bvh"', '"fbx"'), "kind = "),
        (('l_hip = "l_hip"', ""), "lacks l_hip"),
        (('l_hip = "l_hip"', 'l_hip = "l_hip"\nleft_toe = "x"'), "has left_toe"),
        (('l_hip = "l_hip"', "l_hip = 3"), "l_hip must name"),
        (('l_hip = "l_hip"', 'l_hip = { at = ["a", "b"], weights = [1] }'), "list of 2 numbers"),
        (('l_hip = "l_hip"', 'l_hip = { at = ["a", "b"], weights = [1, -1] }'), "add up to nothing"),
        (('l_hip = "l_hip"', 'l_hip = { at = "a", offset_m = [1, nan, 0] }'), "must be a number"),
        (("[landmarks]", "metres_per_unit = 0\n[landmarks]"), "metres_per_unit"),
        (("[landmarks]", 'up = "w"\n[landmarks]'), "up = 'w'"),
        (("[landmarks]", "skip_frames = 1.5\n[landmarks]"), "skip_frames"),
        (("[landmarks]", "offsets.a = [1, 2]\n[landmarks]"), "list of 3 numbers"),
        (("[landmarks]", "pitch_deg.a = true\n[landmarks]"), "must be a number"),
        (("[landmarks]", "landmarks = ["), "can't be read"),
    ],
)
def test_a_map_that_is_not_understood_is_refused(tmp_path, change, says):
    path = tmp_path / "map.toml"
    path.write_text(WHOLE_MAP.replace(*change, 1))
    with pytest.raises(FileFormatError, match=rf"map\.toml.*{says}"):
        read_joint_map(path)
    with pytest.raises(FileFormatError, match="no joint map"):
        read_joint_map(tmp_path / "gone.toml")


@pytest.mark.parametrize("fps", [30.0, 50.0, 100.0, 120.0, 240.0])
def test_another_frame_rate_is_the_same_motion(fps):
    truth = walk(120, 60.0).positions_m
    sampled = walk(int(120 * fps / 60), fps).positions_m
    ours = at_rate(sampled, fps)
    frames = min(len(ours), 119)
    assert frames >= 117
    # The walker works out its way step by step, so that differs; its limbs don't.
    off = (ours - ours[:, :1])[:frames] - (truth - truth[:, :1])[:frames]
    assert np.abs(off).max() < (0.005 if fps < 60 else 0.0005)


def test_an_unknown_landmark_stays_unknown_at_another_rate():
    positions = walk(60, 50.0).positions_m
    positions[:, 7] = np.nan
    ours = at_rate(positions, 50.0)
    assert np.isnan(ours[:, 7]).all() and np.isfinite(np.delete(ours, 7, axis=1)).all()


def test_each_axis_is_stood_up_without_mirroring():
    for up in ("x", "y", "z", "-x", "-y", "-z"):
        turn = turn_to_y_up(up)
        upwards = np.eye(3)["xyz".index(up[-1])] * (-1 if up[0] == "-" else 1)
        np.testing.assert_array_equal(turn @ upwards, [0, 1, 0])
        assert np.linalg.det(turn) == pytest.approx(1)


def test_who_moves_is_told_by_the_name_or_the_folder(tmp_path):
    for path, expected in (
        ("daz_02_01.bvh", ("daz_02_01", "daz_02")),
        ("anna/walk.bvh", ("anna/walk", "anna")),
        ("anna/walk-3.bvh", ("anna/walk-3", "walk")),
        ("Bert Take12.c3d", ("Bert Take12", "Bert")),
    ):
        assert name_and_subject(tmp_path, tmp_path / path) == expected


def clip(tmp_path, positions: np.ndarray, name: str = "a") -> LandmarkClip:
    return LandmarkClip(tmp_path / name, name, "s", positions, 60.0)


def test_units_that_make_giants_are_refused(tmp_path):
    with pytest.raises(FileFormatError, match=r"would be 83.* m long.*metres_per_unit"):
        as_motion_set([clip(tmp_path, walk(60, 60.0).positions_m * 100)], "bvh", "", ())


def test_a_clip_without_half_a_sound_second_is_left_out_and_that_is_said(tmp_path):
    good, bad = walk(60, 60.0).positions_m, walk(60, 60.0).positions_m
    bad[::20, 4] += 1.0
    motion = as_motion_set([clip(tmp_path, good), clip(tmp_path, bad, "b")], "bvh", "", ())
    assert list(motion.clip_name) == ["a"] and motion.notes == ("1 of 2 clips have no sound half second: b.",)
    with pytest.raises(FileFormatError, match="No bvh clip"):
        as_motion_set([clip(tmp_path, bad)], "bvh", "", ())


def test_a_set_says_which_landmark_is_missing_where():
    positions = walk(4, 60.0).positions_m
    positions[2:, LANDMARKS_41.index("nose")] = np.nan
    names = np.array(["first", "second"])
    motion = MotionSet(positions, np.zeros((4, 4), bool), np.array([0, 2, 4]), names, names, names, 60.0, "")
    assert motion.has("l_hip", "r_hip") and motion.lacks("l_hip", "nose") == ["nose"]
    motion.check_has("l_hip")
    with pytest.raises(FileFormatError, match=r"no nose \(clip second for one\)"):
        motion.check_has("l_hip", "nose")
