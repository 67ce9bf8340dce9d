"""Landmarks read off characters become a set to learn from: units told, bad parts cut out and said, files read back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from checkout import ROOT
from keylift.core.errors import FileFormatError, OutputError
from keylift.core.skeletons import LANDMARKS_41
from keylift.training.motion.anchor import read_anchor
from keylift.training.motion.files import read_motion_from
from keylift.training.motion.landmark_sets import motion_set_of, write_motion
from keylift.training.motion.motion_set import read_motion
from walker import walk

SAMPLES = ROOT.parent / "shared" / "data" / "bvh_samples"


@dataclass(frozen=True, eq=False)
class Take:
    name: str
    positions_m: np.ndarray
    fps: float = 60.0


def walking(frames: int = 120, fps: float = 60.0) -> np.ndarray:
    return walk(frames, fps).positions_m


def test_a_take_comes_out_as_it_went_in():
    motion = motion_set_of([Take("a", walking()), Take("b", walking(60, 30.0), 30.0)], "dancer.blend")
    assert motion.fps == 60 and list(motion.clip_name) == ["a", "b"] and set(motion.source) == {"dancer.blend"}
    assert motion.notes == () and len(motion.sha256) == 64
    kept, truth = motion.positions_m[:120], walking()
    assert np.abs((kept - kept[:, :1]) - (truth - truth[:, :1])).max() < 1e-5
    again = motion_set_of([Take("a", walking()), Take("b", walking(60, 30.0), 30.0)], "dancer.blend")
    assert again.sha256 == motion.sha256
    assert motion_set_of([Take("a", walking() * 1.001)], "dancer.blend").sha256 != motion.sha256


@pytest.mark.parametrize(
    ("unit", "metres"), [("centimetres", 0.01), ("inches", 0.0254), ("millimetres", 0.001), ("feet", 0.3048)]
)
def test_other_units_are_brought_to_metres_and_said(unit, metres):
    motion = motion_set_of([Take("a", walking() / metres), Take("b", walking())], "dancer.fbx")
    assert motion.notes == (f"'a': taken to be in {unit}, going by the length of the legs.",)
    assert np.abs(motion.positions_m[:120] - motion.positions_m[120:]).max() < 1e-4


def test_what_is_unknown_or_jumps_is_cut_out_and_said():
    positions = walking(240)
    positions[100:112] = np.nan
    positions[200:] += 1.0
    positions[220, 5] = np.inf
    motion = motion_set_of([Take("a", positions)], "dancer.fbx")
    assert list(motion.clip_name) == ["a#0", "a#1"]
    assert motion.notes == ("Left out where landmarks are unknown, jump or change a bone: 'a' (0.9 of 4.0 s).",)
    assert np.isfinite(motion.positions_m).all()


def test_what_is_no_person_is_refused():
    with pytest.raises(FileFormatError, match="has no clip"):
        motion_set_of([], "dancer.fbx")
    with pytest.raises(FileFormatError, match="shape"):
        motion_set_of([Take("a", walking()[:, :17])], "dancer.fbx")
    with pytest.raises(FileFormatError, match="frames a second"):
        motion_set_of([Take("a", walking(), float("nan"))], "dancer.fbx")
    legless = walking()
    legless[:, LANDMARKS_41.index("l_knee")] = np.nan
    with pytest.raises(FileFormatError, match="lacks a hip, knee or ankle"):
        motion_set_of([Take("a", legless)], "dancer.fbx")
    with pytest.raises(FileFormatError, match="no person's size"):
        motion_set_of([Take("a", walking() * 1e-5)], "dancer.fbx")
    mirrored = walking() * np.array([-1.0, 1.0, 1.0])
    with pytest.raises(FileFormatError, match="mirrored"):
        motion_set_of([Take("a", mirrored)], "dancer.fbx")
    with pytest.raises(FileFormatError, match="half a second"):
        motion_set_of([Take("a", walking(20))], "dancer.fbx")


def test_a_written_set_is_read(tmp_path):
    motion = motion_set_of([Take("a", walking()), Take("b", walking(90))], "dancer.blend")
    write_motion(tmp_path / "set.npz", motion)
    found = read_motion(tmp_path / "set.npz")
    assert np.abs(found.positions_m - motion.positions_m).max() <= 0.0003
    for name in ("clip_start", "clip_name", "subject", "source", "contact"):
        assert np.array_equal(getattr(found, name), getattr(motion, name)), name
    assert found.fps == 60
    write_motion(tmp_path / "anchor.npz", read_anchor())
    assert np.abs(read_motion(tmp_path / "anchor.npz").positions_m - read_anchor().positions_m).max() < 1e-5


def test_a_long_way_and_a_missing_landmark(tmp_path):
    far = walking(240) + np.linspace(0, 1, 240)[:, None, None] * np.array([20.0, 0, 0])
    motion = motion_set_of([Take("a", far)], "runner")
    assert motion.positions_m[-1, 0, 0] > 17
    write_motion(tmp_path / "far.npz", motion)
    assert np.abs(read_motion(tmp_path / "far.npz").positions_m - motion.positions_m).max() <= 0.0003
    blind = walking()
    blind[:, LANDMARKS_41.index("nose")] = np.nan
    with pytest.raises(FileFormatError, match="has no nose"):
        write_motion(tmp_path / "blind.npz", motion_set_of([Take("a", blind)], "dancer"))
    assert not (tmp_path / "blind.npz").exists()
    (tmp_path / "in the way").touch()
    with pytest.raises(OutputError):
        write_motion(tmp_path / "in the way" / "far.npz", motion)


@pytest.mark.skipif(not SAMPLES.exists(), reason="the sample clips are not here")
def test_a_file_alone_is_as_good_as_a_folder(tmp_path):
    sample = SAMPLES / "daz_02_01.bvh"
    alone = read_motion_from(sample)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / sample.name).write_bytes(sample.read_bytes())
    within = read_motion_from(tmp_path / "folder")
    assert np.array_equal(alone.positions_m, within.positions_m, equal_nan=True)
    assert list(alone.clip_name) == list(within.clip_name) == ["daz_02_01"]
    with pytest.raises(FileFormatError, match="no motion file"):
        read_motion_from(tmp_path / "gone.bvh")
    (tmp_path / "map.toml").write_text("kind = 'c3d'")
    with pytest.raises(FileFormatError):
        read_motion_from(sample, tmp_path / "map.toml")
