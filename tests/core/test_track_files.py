import zipfile
from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.errors import FileFormatError, OutputError
from keylift.core.skeletons import LANDMARKS_41, Skeleton
from keylift.core.track_files import read_keypoints, read_pose, write_keypoints, write_pose
from keylift.core.tracks import Change, KeypointTrack
from walker import camera_from_world, filmed, walk


@pytest.fixture
def tracks():
    return filmed(walk(12), Camera.guessed((640, 480)), camera_from_world())


def test_keypoints_come_back(tmp_path, tracks):
    _, track = tracks
    track.xy_px[3] = np.nan
    track.confidence[3] = 0
    path = tmp_path / "a.keypoints.npz"
    write_keypoints(path, track)
    back = read_keypoints(path)
    assert np.allclose(back.xy_px, track.xy_px, atol=1e-3, equal_nan=True)
    assert back.layout == track.layout and back.size_px == track.size_px
    assert np.array_equal(back.time_s, track.time_s) and not back.seen[3] and back.seen[2]


def test_what_was_repaired_comes_back(tmp_path, tracks):
    changes = tracks[1].changes.copy()
    changes[2], changes[5, 3] = Change.BODY_EXCHANGED, Change.OUTLIER_BRIDGED
    write_keypoints(tmp_path / "a.keypoints.npz", replace(tracks[1], changes=changes))
    back = read_keypoints(tmp_path / "a.keypoints.npz")
    assert np.array_equal(back.changes, changes) and back.changes.dtype == np.uint8


def keypoint_arrays(path, track):
    write_keypoints(path, track)
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def test_keypoints_of_the_first_schema_are_read_as_untouched(tmp_path, tracks):
    path = tmp_path / "a.keypoints.npz"
    arrays = keypoint_arrays(path, tracks[1])
    del arrays["changes"]
    np.savez(path, **{**arrays, "schema_version": 1})
    back = read_keypoints(path)
    assert back.changes.shape == back.confidence.shape and not back.changes.any()
    np.savez(path, **{**arrays, "schema_version": 2})
    with pytest.raises(FileFormatError, match="changes"):
        read_keypoints(path)


def test_poses_of_the_first_schema_do_not_know_what_they_were_lifted_from(tmp_path, tracks):
    pose, track = tracks
    path = tmp_path / "a.pose.npz"
    write_pose(path, replace(pose, lifted_from=track.fingerprints()))
    assert np.array_equal(read_pose(path).lifted_from, track.fingerprints())
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    del arrays["lifted_from"]
    np.savez(path, **{**arrays, "schema_version": 1})
    assert read_pose(path).lifted_from.shape == (0,)
    np.savez(path, **{**arrays, "schema_version": 2})
    with pytest.raises(FileFormatError, match="lifted_from"):
        read_pose(path)


def test_fingerprints_tell_frames_with_other_keypoints_and_survive_files(tmp_path, tracks):
    _, track = tracks
    track.xy_px[3], track.confidence[3] = np.nan, 0
    write_keypoints(tmp_path / "a.keypoints.npz", track)
    fingerprints = track.fingerprints()
    assert np.array_equal(read_keypoints(tmp_path / "a.keypoints.npz").fingerprints(), fingerprints)
    moved, doubted, seen = track.xy_px.copy(), track.confidence.copy(), track.xy_px.copy()
    moved[5, 4, 0] += 0.1
    doubted[6, 4] = 0.9
    seen[3, 4] = 100.0
    for row, other in ((5, {"xy_px": moved}), (6, {"confidence": doubted}), (3, {"xy_px": seen})):
        assert np.flatnonzero(replace(track, **other).fingerprints() != fingerprints).tolist() == [row]


@pytest.mark.parametrize(
    "changes", [np.full((12, 21), 77, np.uint8), np.zeros((12, 5), np.uint8), np.zeros((12, 21), float)]
)
def test_changes_that_mean_nothing_are_refused(tmp_path, tracks, changes):
    path = tmp_path / "a.keypoints.npz"
    np.savez(path, **{**keypoint_arrays(path, tracks[1]), "changes": changes})
    with pytest.raises(FileFormatError):
        read_keypoints(path)


def test_a_pose_comes_back(tmp_path, tracks):
    pose, _ = tracks
    path = tmp_path / "a.pose.npz"
    write_pose(path, pose)
    back = read_pose(path)
    assert back.skeleton is LANDMARKS_41
    assert np.allclose(back.positions_m, pose.positions_m, atol=1e-5)
    assert np.allclose(back.positions_world_m(), pose.positions_world_m(), atol=1e-5)
    assert back.camera.focal_px == pose.camera.focal_px
    assert [path.name for path in tmp_path.iterdir()] == ["a.pose.npz"]


def test_one_kind_of_file_is_not_taken_for_the_other(tmp_path, tracks):
    write_pose(tmp_path / "a.npz", tracks[0])
    with pytest.raises(FileFormatError, match="lacks"):
        read_keypoints(tmp_path / "a.npz")


def test_a_pickle_inside_is_not_run(tmp_path, tracks):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    with open(tmp_path / "bomb.npz", "wb") as file:
        np.savez(file, xy_px=np.array([Bomb()], dtype=object), schema_version=1)
    (tmp_path / "ran").unlink(missing_ok=True)
    with pytest.raises(FileFormatError):
        read_keypoints(tmp_path / "bomb.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "truncated", "newer"])
def test_a_damaged_file_is_explained(tmp_path, tracks, damage):
    path = tmp_path / "a.pose.npz"
    if damage not in ("missing", "newer"):
        write_pose(path, tracks[0])
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "text": b"hello", "truncated": whole[: len(whole) // 2]}[damage])
    if damage == "newer":
        with open(path, "wb") as file:
            np.savez(file, schema_version=99)
    with pytest.raises(FileFormatError):
        read_pose(path)


def test_a_file_with_any_byte_wrong_is_explained_or_read(tmp_path, tracks):
    path = tmp_path / "a.pose.npz"
    write_pose(path, tracks[0])
    whole = path.read_bytes()
    refused = 0
    for at in range(5, len(whole), len(whole) // 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read_pose(path)
        except FileFormatError:
            refused += 1
    assert refused > 40


def test_a_zip_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("xy_px.npy", "w", force_zip64=True) as f,
    ):
        for _ in range(2100):
            f.write(bytes(1 << 20))
    assert path.stat().st_size < 12 << 20
    with pytest.raises(FileFormatError, match="far more"):
        read_keypoints(path)


def test_writing_where_nothing_can_be_written_is_explained(tmp_path, tracks):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="-o"):
        write_pose(tmp_path / "file" / "a.pose.npz", tracks[0])


def test_a_track_is_checked_at_birth(tracks):
    _, track = tracks
    values = {name: getattr(track, name) for name in KeypointTrack.__dataclass_fields__}
    for bad in (
        {"confidence": track.confidence + 1},
        {"xy_px": track.xy_px[:, :5]},
        {"time_s": track.time_s[::-1]},
        {"layout": "openpose25"},
        {"size_px": (0, 5)},
    ):
        with pytest.raises(FileFormatError):
            KeypointTrack(**{**values, **bad})


def test_a_skeleton_whose_parents_go_in_circles_is_refused():
    with pytest.raises(FileFormatError):
        Skeleton(("a", "b"), (1, 0), ())


def test_a_point_light_years_outside_the_picture_is_refused(tmp_path, tracks):
    far = tracks[1].xy_px.copy()
    far[2, 4] = [3e7, 5.0]
    write_keypoints(tmp_path / "far.keypoints.npz", replace(tracks[1], xy_px=far))
    with pytest.raises(FileFormatError, match="outside any picture"):
        read_keypoints(tmp_path / "far.keypoints.npz")
