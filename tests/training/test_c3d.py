"""C3D files: a walker whose truth is known is given markers, written by ezc3d, and read back."""

from __future__ import annotations

import numpy as np
import pytest

from keylift.core.errors import FileFormatError
from keylift.core.skeletons import LANDMARKS_41
from keylift.training.motion.files import read_motion_from
from marker_samples import plug_in_gait_markers, write_c3d
from walker import walk


@pytest.fixture(scope="module")
def walker():
    return walk(240, 120.0)


@pytest.fixture
def markers(walker):
    return plug_in_gait_markers(walker)


def errors_mm(motion, walker) -> dict[str, float]:
    """Mean distance of each landmark from the truth, pelvis on pelvis."""
    truth = walker.positions_m[::2]
    off = (motion.positions_m - motion.positions_m[:, :1]) - (truth - truth[:, :1])
    return dict(zip(LANDMARKS_41.names, np.linalg.norm(off, axis=-1).mean(axis=0) * 1000, strict=True))


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"unit": "m"},
        {"up": "y"},
        {"says_up": False},
        {"unit": "", "says_up": False, "prefix": ""},
    ],
)
def test_the_walker_comes_back_whatever_the_units_and_axes(tmp_path, walker, markers, how):
    write_c3d(tmp_path / "walker_01.c3d", markers, 120.0, **how)
    motion = read_motion_from(tmp_path)
    errors = errors_mm(motion, walker)
    known = {name: error for name, error in errors.items() if np.isfinite(error)}
    assert max(known.values()) < 5, known
    assert motion.lacks(*LANDMARKS_41.names) == ["l_fingertip", "l_thumb", "r_fingertip", "r_thumb"]
    assert motion.fps == 60 and list(motion.subject) == ["walker"] and set(motion.source) == {"c3d"}
    assert bool(motion.notes) == (not how.get("says_up", True))
    lowest = motion.positions_m[:, LANDMARKS_41.indices("l_heel", "r_heel", "l_toe_base", "r_toe_base"), 1].min(axis=1)
    assert np.abs(lowest).max() < 0.05


def test_a_gap_cuts_the_clip(tmp_path, markers):
    markers["LKNE"][130:133] = np.nan
    write_c3d(tmp_path / "walker_01.c3d", markers, 120.0)
    motion = read_motion_from(tmp_path)
    assert list(motion.clip_name) == ["walker_01#0", "walker_01#1"]
    assert list(motion.clip_lengths) == [65, 54]
    assert motion.has("l_knee", "r_knee")


def test_a_jump_cuts_the_clip_and_a_bone_that_grows_ends_it(tmp_path, markers):
    for place in markers.values():
        place[100:] += [0.5, 0, 0]
    for label in ("RWRA", "RWRB"):
        markers[label][200:] += [0, 0.2, 0]
    write_c3d(tmp_path / "walker_01.c3d", markers, 120.0)
    assert list(read_motion_from(tmp_path).clip_lengths) == [50, 50]


def test_labels_that_are_missing_are_named_with_those_that_are_there(tmp_path, markers):
    del markers["LASI"], markers["T10"]
    write_c3d(tmp_path / "walker_01.c3d", markers, 120.0)
    with pytest.raises(FileFormatError, match=r"(?s)LASI, T10 are missing. Its labels are: C7, CLAV, LANK.*joint map"):
        read_motion_from(tmp_path)


def test_a_sacrum_marker_stands_in_for_two(tmp_path, walker, markers):
    markers["SACR"] = (markers.pop("LPSI") + markers.pop("RPSI")) / 2
    write_c3d(tmp_path / "walker_01.c3d", markers, 120.0)
    assert errors_mm(read_motion_from(tmp_path), walker)["l_hip"] < 5


def test_two_people_in_one_file_are_refused(tmp_path, markers):
    both = markers | {f"Other:{label}": place + 1 for label, place in markers.items()}
    write_c3d(tmp_path / "pair.c3d", both, 120.0, prefix="")
    with pytest.raises(FileFormatError, match="several people"):
        read_motion_from(tmp_path)


MAP = """
kind = "c3d"
[landmarks]
neck = { at = ["C7", "CLAV"], weights = [1, 1] }
head = ["LFHD", "RFHD", "LBHD", "RBHD"]
"""
ONE_SIDE = """
{ours}_hip = {{ at = ["{theirs}ASI", "{theirs}PSI"], weights = [3, 1] }}
{ours}_knee = "{theirs}KNE"
{ours}_ankle = "{theirs}ANK"
{ours}_toe_base = "{theirs}TOE"
{ours}_shoulder = "{theirs}SHO"
{ours}_elbow = "{theirs}ELB"
{ours}_wrist = ["{theirs}WRA", "{theirs}WRB"]
"""


def test_a_map_names_labels_with_weights(tmp_path, markers):
    (tmp_path / "clips").mkdir()
    write_c3d(tmp_path / "clips" / "a.c3d", markers, 120.0)
    path = tmp_path / "map.toml"
    path.write_text(MAP + ONE_SIDE.format(ours="l", theirs="L") + ONE_SIDE.format(ours="r", theirs="R"))
    motion = read_motion_from(tmp_path / "clips", path)
    at = {name: motion.positions_m[:, index].astype(float) for index, name in enumerate(LANDMARKS_41.names)}
    expected = (3 * markers["LASI"] + markers["LPSI"])[::2] / 4 - markers["LKNE"][::2]
    np.testing.assert_allclose(at["l_hip"] - at["l_knee"], expected, atol=1e-5)
    assert list(motion.subject) == ["clips"] and not motion.has("nose")
    path.write_text(path.read_text().replace("LKNE", "KneeLeft"))
    with pytest.raises(FileFormatError, match=r"no label KneeLeft.*Its labels are: C7"):
        read_motion_from(tmp_path / "clips", path)


def test_a_mirrored_map_is_refused(tmp_path, markers):
    (tmp_path / "clips").mkdir()
    write_c3d(tmp_path / "clips" / "a.c3d", markers, 120.0)
    path = tmp_path / "map.toml"
    path.write_text(MAP + ONE_SIDE.format(ours="l", theirs="R") + ONE_SIDE.format(ours="r", theirs="L"))
    with pytest.raises(FileFormatError, match="toes point backwards"):
        read_motion_from(tmp_path / "clips", path)


@pytest.mark.parametrize("part", [0.0, 0.02, 0.05, 0.3, 0.9, 0.99])
def test_a_file_that_is_cut_off_is_refused(tmp_path, markers, part):
    # Cut off among its parameters, ezc3d alone would read for ever.
    write_c3d(tmp_path / "a.c3d", markers, 120.0)
    whole = (tmp_path / "a.c3d").read_bytes()
    (tmp_path / "a.c3d").write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(FileFormatError, match=r"a\.c3d' is not a C3D file, or it is damaged"):
        read_motion_from(tmp_path)


def test_parameters_that_run_into_each_other_are_refused(tmp_path, markers):
    # ezc3d alone takes Python down with it.
    write_c3d(tmp_path / "a.c3d", markers, 120.0)
    whole = bytearray((tmp_path / "a.c3d").read_bytes())
    labels = whole.index(b"LABELS")
    for place, value in ((labels + 7, 0x7F), (labels + 8, 3), (labels + 10, 0xFF), (labels + 9, 200)):
        damaged = bytearray(whole)
        damaged[place] = value
        (tmp_path / "a.c3d").write_bytes(damaged)
        with pytest.raises(FileFormatError, match="run into each other"):
            read_motion_from(tmp_path)
