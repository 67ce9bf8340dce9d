"""Shots: checked at birth, and the same after a trip through their file."""

from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.errors import FileFormatError
from keylift.training.shots.shot import SHOT_ENDING, Shot, read_shot, read_shots, write_shot
from shot_samples import walking_shot


@pytest.fixture
def shot() -> Shot:
    return walking_shot(frames=12)


def test_a_shot_comes_back(tmp_path, shot):
    path = tmp_path / f"walk{SHOT_ENDING}"
    shot.truth_m[3, 5] = np.nan
    write_shot(path, shot)
    back = read_shot(path)
    assert (back.name, back.source, back.fps) == (shot.name, shot.source, shot.fps)
    assert back.camera.focal_px == shot.camera.focal_px and back.camera.size_px == shot.camera.size_px
    assert np.allclose(back.truth_m, shot.truth_m, atol=1e-6, equal_nan=True) and np.isnan(back.truth_m[3, 5]).all()
    for name in ("truth_rotations_wxyz", "truth_contact", "world_from_camera", "time_s"):
        assert np.allclose(getattr(back, name), getattr(shot, name), atol=1e-6), name
    assert set(back.keypoints) == {"full", "heavy"} and set(back.detector_world_m) == {"heavy"}
    for model, track in shot.keypoints.items():
        found = back.keypoints[model]
        assert np.allclose(found.xy_px, track.xy_px, atol=1e-3, equal_nan=True) and found.layout == track.layout
        assert found.source.name == track.source.name and found.detector == track.detector
    assert np.allclose(back.detector_world_m["heavy"], shot.detector_world_m["heavy"], atol=1e-6, equal_nan=True)
    assert [found.name for found in read_shots(tmp_path)] == [shot.name]


def test_what_nobody_knows_stays_unknown(tmp_path, shot):
    path = tmp_path / f"a{SHOT_ENDING}"
    write_shot(path, replace(shot, truth_rotations_wxyz=None, truth_contact=None, world_from_camera=None))
    back = read_shot(path)
    assert back.truth_rotations_wxyz is None and back.truth_contact is None and back.world_from_camera is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "../walk"}, "file's name"),
        ({"keypoints": {}}, "at least one model"),
        ({"truth_m": np.zeros((12, 17, 3))}, "truth_m must have shape"),
        ({"truth_m": np.full((12, 41, 3), np.nan)}, "knows no landmark"),
        ({"truth_contact": np.full((12, 4), 1.5)}, "truth_contact"),
        ({"truth_rotations_wxyz": np.zeros((12, 21, 4))}, "length 1"),
        ({"world_from_camera": np.diag([1.0, 1.0, -1.0, 1.0])}, "turn and a move"),
        ({"time_s": np.arange(12) / 25.0}, "other times"),
        ({"camera": Camera.guessed((100, 100))}, "picture size"),
        ({"detector_world_m": {"lite": np.zeros((12, 33, 3))}}, "no keypoints"),
        ({"detector_world_m": {"full": np.zeros((11, 33, 3))}}, "World landmarks"),
        ({"fps": 0.0}, "fps"),
    ],
)
def test_a_shot_that_can_not_be_is_never_born(shot, change, said):
    with pytest.raises(FileFormatError, match=said):
        replace(shot, **change)


def test_damage_is_told(tmp_path, shot):
    path = tmp_path / f"a{SHOT_ENDING}"
    write_shot(path, shot)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="not a shot file, or it is damaged"):
        read_shot(path)
    with np.load(_written(path, whole), allow_pickle=False) as archive:
        arrays = dict(archive)
    for name in ("full_xy_px", "truth_m", "camera_is_elsewhere"):
        fewer = {key: value for key, value in arrays.items() if key != name}
        np.savez(path, **fewer)
        if name in arrays:
            with pytest.raises(FileFormatError, match=f"lacks '{name}'"):
                read_shot(path)
    np.savez(path, **{**arrays, "full_xy_px": arrays["full_xy_px"][:5]})
    with pytest.raises(FileFormatError):
        read_shot(path)
    np.savez(path, **{**arrays, "schema_version": 99})
    with pytest.raises(FileFormatError, match="newer Keylift"):
        read_shot(path)
    np.savez(path, **{**arrays, "name": np.array([{}], dtype=object)})
    with pytest.raises(FileFormatError, match="damaged"):
        read_shot(path)


def _written(path, content):
    path.write_bytes(content)
    return path


def test_a_folder_without_shots_is_told(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileFormatError, match=r"no \*.shot.npz"):
            read_shots(folder)
