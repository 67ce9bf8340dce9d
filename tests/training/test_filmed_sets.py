"""The field's files become sequences, or are refused with both names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from filmed_samples import (
    COCO_SYMMETRY,
    H36M_LENGTHS,
    H36M_SYMMETRY,
    Human36m,
    write_human36m,
    write_humaneva,
    write_keypoints,
    write_poses,
)
from keylift.core.camera import project_screen
from keylift.core.errors import FileFormatError
from keylift.core.skeletons import H36M_17, HUMANEVA_15, KEYPOINT_LAYOUTS
from keylift.training.sequences.camera_files import read_cameras
from keylift.training.sequences.config import FilmedData
from keylift.training.sequences.filmed_sets import read_filmed
from keylift.training.sequences.npz_sets import _sides, read_keypoint_set, read_pose_set
from keylift.training.sequences.sequence import FilmedSequence, subset_frames

H36M = FilmedData(
    "human36m",
    keypoints="data_2d_h36m_gt.npz",
    poses="data_3d_h36m.npz",
    cameras="metadata.xml",
    train_subjects=("S1", "S5"),
    valid_subjects=("S9",),
)
HUMANEVA = FilmedData(
    "humaneva",
    keypoints="data_2d_humaneva15_gt.npz",
    poses="data_3d_humaneva15.npz",
    cameras="cameras.toml",
    train_subjects=("Train/S1", "Train/S2"),
    valid_subjects=("Validate/S1",),
)


@pytest.fixture
def human36m(tmp_path: Path) -> Human36m:
    return write_human36m(tmp_path)


def projected(sequence: FilmedSequence) -> np.ndarray:
    assert sequence.positions_m is not None and sequence.intrinsics is not None
    positions = sequence.positions_m.astype(float)
    positions[:, 1:] += positions[:, :1]
    return project_screen(positions, sequence.intrinsics)


def test_every_camera_of_human36m_sees_the_poses_where_the_keypoints_are(human36m: Human36m) -> None:
    read = read_filmed(H36M, human36m.folder, "train")
    assert read.layout == "h36m17" and read.skeleton is H36M_17
    assert set(read.sha256) == {"data_2d_h36m_gt.npz", "data_3d_h36m.npz", "metadata.xml"}
    names = [(sequence.subject, sequence.action, sequence.camera) for sequence in read.sequences]
    cameras = ("54138969", "55011271", "58860488", "60457274")
    assert names == [(who, what, eye) for who in ("S1", "S5") for what in H36M_LENGTHS for eye in cameras]
    for sequence in read.sequences:
        assert len(sequence) == H36M_LENGTHS[sequence.action] and sequence.fps == 50
        assert np.abs(projected(sequence) - sequence.keypoints).max() < 1e-5
        lens = human36m.lenses[sequence.subject][cameras.index(sequence.camera)]
        truth = lens.before(human36m.world_m[sequence.subject][sequence.action])
        assert np.allclose(sequence.positions_m[:, 0], truth[:, 0], atol=1e-5)
        assert np.allclose(sequence.positions_m[:, 1:], truth[:, 1:] - truth[:, :1], atol=1e-5)


def test_screen_units_depend_on_each_camera(human36m: Human36m) -> None:
    first, second = read_filmed(H36M, human36m.folder, "valid").sequences[:2]
    for sequence, height in ((first, 1002), (second, 1000)):
        index = 0 if sequence is first else 1
        pixels = human36m.pixels["S9"][sequence.action][index][: len(sequence)]
        assert np.allclose(sequence.keypoints[..., 0], pixels[..., 0] / 500 - 1, atol=1e-6)
        assert np.allclose(sequence.keypoints[..., 1], pixels[..., 1] / 500 - height / 1000, atol=1e-6)


def test_subset_is_for_labelled_training_and_downsampling_for_all(human36m: Human36m) -> None:
    data = replace(H36M, subset=0.5, downsample=2, unlabelled_subjects=("S9",))
    for sequence in read_filmed(data, human36m.folder, "train").sequences:
        assert len(sequence) == len(
            range(H36M_LENGTHS[sequence.action])[subset_frames(H36M_LENGTHS[sequence.action], 0.5, 2)]
        )
        assert sequence.fps == 25
    for sequence in read_filmed(data, human36m.folder, "valid").sequences:
        assert len(sequence) == (H36M_LENGTHS[sequence.action] + 1) // 2
    unlabelled = read_filmed(data, human36m.folder, "unlabelled").sequences
    assert len(unlabelled) == 12
    for sequence in unlabelled:
        assert sequence.positions_m is None and sequence.intrinsics is not None
        assert len(sequence) == (H36M_LENGTHS[sequence.action] + 1) // 2


def test_actions_are_told_by_the_text_before_the_space(human36m: Human36m) -> None:
    read = read_filmed(replace(H36M, actions=("Walking",)), human36m.folder, "valid")
    assert {sequence.action for sequence in read.sequences} == {"Walking 1", "Walking"}


def test_nothing_is_read_for_nobody(tmp_path: Path) -> None:
    assert read_filmed(H36M, tmp_path, "test").sequences == []
    assert read_filmed(H36M, tmp_path, "unlabelled").sequences == []


def test_subjects_without_published_places_have_lenses(human36m: Human36m) -> None:
    cameras = [camera for camera in read_cameras(human36m.folder / "metadata.xml") if camera.subject == "S2"]
    assert len(cameras) == 4
    assert all(camera.orientation_wxyz is None and np.isfinite(camera.intrinsics).all() for camera in cameras)


def test_humaneva(tmp_path: Path) -> None:
    world = write_humaneva(tmp_path)
    read = read_filmed(HUMANEVA, tmp_path, "train")
    assert read.layout == "humaneva15" and read.skeleton is HUMANEVA_15
    assert len(read.sequences) == 2 * 3 * 3 and read.sequences[1].name == "Train/S1/Walking 1 chunk0/C2"
    for sequence in read.sequences:
        assert len(sequence) == len(world[sequence.subject][sequence.action]) and sequence.fps == 60
        assert np.abs(projected(sequence) - sequence.keypoints).max() < 1e-5


def test_layouts_have_the_sides_that_files_tell() -> None:
    assert tuple(map(sorted, _sides("coco17"))) == tuple(COCO_SYMMETRY)
    assert tuple(map(sorted, _sides("h36m17"))) == tuple(H36M_SYMMETRY)
    assert tuple(map(sorted, _sides("mpii16"))) == ([3, 4, 5, 13, 14, 15], [0, 1, 2, 10, 11, 12])
    assert tuple(map(sorted, _sides("humaneva15"))) == ([2, 3, 4, 8, 9, 10], [5, 6, 7, 11, 12, 13])


def custom(path: Path, frames: int = 12) -> Path:
    rng = np.random.default_rng(1)
    videos = {name: {"custom": [rng.uniform(100, 900, (frames, 17, 2))]} for name in ("a.mp4", "b.mp4")}
    sizes = {"a.mp4": {"w": 1000, "h": 500}, "b.mp4": {"w": 720, "h": 1280}}
    write_keypoints(
        path, videos, layout_name="coco", num_joints=17, keypoints_symmetry=COCO_SYMMETRY, video_metadata=sizes
    )
    return path


def test_videos_of_ones_own_are_unlabelled_and_their_lens_is_guessed(tmp_path: Path) -> None:
    custom(tmp_path / "data_2d_custom_mine.npz")
    data = FilmedData("custom", keypoints="data_2d_custom_mine.npz")
    read = read_filmed(data, tmp_path, "unlabelled")
    assert read.layout == "coco17" and [sequence.subject for sequence in read.sequences] == ["a.mp4", "b.mp4"]
    wide, tall = read.sequences
    assert wide.positions_m is None and wide.action == "custom"
    assert np.allclose(wide.intrinsics[:4], [np.sqrt(3), np.sqrt(3), 0, 0])
    assert np.allclose(tall.intrinsics[0], np.sqrt(3) * 1280 / 720)
    with pytest.raises(FileFormatError, match="no file of poses"):
        read_filmed(replace(data, train_subjects=("a.mp4",)), tmp_path, "train")


def test_videos_of_ones_own_with_a_camera(tmp_path: Path) -> None:
    custom(tmp_path / "mine.npz")
    data = FilmedData("custom", keypoints="mine.npz", cameras="cameras.toml", unlabelled_subjects=("a.mp4",))
    (tmp_path / "cameras.toml").write_text("[[camera]]\nsize_px = [1000, 500]\nfocal_px = [900, 900.0]\n")
    (sequence,) = read_filmed(data, tmp_path, "unlabelled").sequences
    assert np.allclose(sequence.intrinsics, [1.8, 1.8, 0, 0, 0, 0, 0, 0, 0])
    with pytest.raises(FileFormatError, match=r"720x1280.*1000x500"):
        read_filmed(replace(data, unlabelled_subjects=("b.mp4",)), tmp_path, "unlabelled")


def test_further_keypoints_to_learn_from(human36m: Human36m) -> None:
    video = human36m.pixels["S1"]["Sitting"][0]
    path = human36m.folder / "more.npz"
    write_keypoints(
        path, {"x.mp4": {"custom": [video]}}, layout_name="h36m", video_metadata={"x.mp4": {"w": 9, "h": 9}}
    )
    data = replace(H36M, unlabelled_keypoints=("more.npz",), unlabelled_subjects=("S9",))
    read = read_filmed(data, human36m.folder, "unlabelled")
    assert [sequence.subject for sequence in read.sequences] == 12 * ["S9"] + ["x.mp4"]
    assert len(read.sequences[-1]) == len(video) and "more.npz" in read.sha256
    custom(path)
    with pytest.raises(FileFormatError, match=r"more\.npz' are 'coco17'.*'h36m17'"):
        read_filmed(data, human36m.folder, "unlabelled")


def test_further_keypoints_of_other_points(human36m: Human36m) -> None:
    path = human36m.folder / "more.npz"
    video = human36m.pixels["S1"]["Sitting"][0]
    size = {"x.mp4": {"w": 1000, "h": 1000}}
    data = replace(H36M, unlabelled_keypoints=("more.npz",))
    for seen in (video[:, :14], np.concatenate([video, video[:, :4]], axis=1)):
        write_keypoints(path, {"x.mp4": {"custom": [seen]}}, video_metadata=size)
        told = rf"more\.npz' are of {seen.shape[1]} points.*data_2d_h36m_gt\.npz' of 17 \('h36m17'\)"
        with pytest.raises(FileFormatError, match=told):
            read_filmed(data, human36m.folder, "unlabelled")
    write_keypoints(path, {"x.mp4": {"custom": [video]}}, video_metadata=size)
    assert len(read_filmed(data, human36m.folder, "unlabelled").sequences) == 1


def with_values(pixels: dict[str, dict[str, list[np.ndarray]]], count: int) -> dict[str, dict[str, list[np.ndarray]]]:
    """The same keypoints with ``count`` values each: a score of 0.75, then what no lifter looks at."""
    more = np.array([0.75, np.nan, -1.0])[: count - 2]
    return {
        who: {
            what: [np.concatenate([xy, np.broadcast_to(more, (*xy.shape[:2], count - 2))], axis=2) for xy in seen]
            for what, seen in actions.items()
        }
        for who, actions in pixels.items()
    }


@pytest.mark.parametrize("values", [3, 4, 5])
def test_scores_are_taken_when_asked_for_and_what_is_beyond_them_never(values: int, human36m: Human36m) -> None:
    plain = read_filmed(H36M, human36m.folder, "train").sequences
    write_keypoints(
        human36m.folder / "data_2d_h36m_gt.npz", with_values(human36m.pixels, values), keypoints_symmetry=H36M_SYMMETRY
    )
    for score, count in ((False, 2), (True, 3)):
        found = read_filmed(replace(H36M, score=score), str(human36m.folder), "train").sequences
        assert {sequence.keypoints.shape[2] for sequence in found} == {count}
        for one, other in zip(found, plain, strict=True):
            assert np.array_equal(one.keypoints[..., :2], other.keypoints)
            assert (one.keypoints[..., 2:] == 0.75).all()


def test_scores_that_are_not_there(human36m: Human36m) -> None:
    with pytest.raises(FileFormatError, match=r"score is true.*data_2d_h36m_gt\.npz' has no score.*S1/"):
        read_filmed(replace(H36M, score=True), human36m.folder, "train")


@pytest.mark.parametrize("scored", ["labelled", "further"])
def test_files_with_and_without_scores_go_together_without_them(scored: str, human36m: Human36m) -> None:
    first, more = human36m.folder / "data_2d_h36m_gt.npz", human36m.folder / "more.npz"
    further = {"x.mp4": {"custom": [human36m.pixels["S1"]["Sitting"][0]]}}
    size = {"x.mp4": {"w": 1000, "h": 1000}}
    count = 3 if scored == "labelled" else 2
    write_keypoints(first, with_values(human36m.pixels, count), layout_name="h36m")
    write_keypoints(more, with_values(further, 5 - count), layout_name="h36m", video_metadata=size)
    data = replace(H36M, unlabelled_keypoints=("more.npz",), unlabelled_subjects=("S9",))
    found = read_filmed(data, human36m.folder, "unlabelled").sequences
    assert len(found) == 13 and {sequence.keypoints.shape[2] for sequence in found} == {2}
    lacking = {"labelled": r"more\.npz' has no score", "further": r"gt\.npz' has no score"}[scored]
    with pytest.raises(FileFormatError, match=lacking):
        read_filmed(replace(data, score=True), human36m.folder, "unlabelled")


def test_keypoints_need_an_x_and_a_y(human36m: Human36m) -> None:
    path = human36m.folder / "data_2d_h36m_gt.npz"
    write_keypoints(path, {"S1": {"Sitting": [np.zeros((5, 17, 1))]}}, layout_name="h36m")
    with pytest.raises(FileFormatError, match=r"gt\.npz' has keypoints of 1 values in S1/Sitting"):
        read_keypoint_set(path)


def test_files_by_their_names(human36m: Human36m) -> None:
    keypoints = read_keypoint_set(str(human36m.folder / "data_2d_h36m_gt.npz"))
    assert (keypoints.points, keypoints.layout) == (17, "h36m17")
    poses = read_pose_set(str(human36m.folder / "data_3d_h36m.npz"))
    assert keypoints.path.name == "data_2d_h36m_gt.npz" and poses.path.name == "data_3d_h36m.npz"


def test_a_layout_of_other_points_than_the_file_has(human36m: Human36m) -> None:
    path = human36m.folder / "data_2d_h36m_gt.npz"
    write_keypoints(path, human36m.pixels)
    with pytest.raises(FileFormatError, match=r"'mpii16', 16 points.*gt\.npz' have 17"):
        read_filmed(replace(H36M, keypoint_layout="mpii16"), human36m.folder, "train")


def test_a_layout_that_the_configuration_calls_otherwise(human36m: Human36m) -> None:
    with pytest.raises(FileFormatError, match=r"keypoint_layout is 'coco17'.*'h36m17'"):
        read_filmed(replace(H36M, keypoint_layout="coco17"), human36m.folder, "train")


def test_a_layout_that_the_file_itself_calls_otherwise(human36m: Human36m) -> None:
    path = human36m.folder / "data_2d_h36m_gt.npz"
    write_keypoints(path, human36m.pixels, layout_name="coco", num_joints=17, keypoints_symmetry=H36M_SYMMETRY)
    with pytest.raises(FileFormatError, match=r"'coco17'.*'h36m17'"):
        read_filmed(H36M, human36m.folder, "train")


def test_keypoints_that_nobody_could_have_seen_there(human36m: Human36m) -> None:
    path = human36m.folder / "data_2d_h36m_gt.npz"
    write_keypoints(path, human36m.pixels)
    assert read_keypoint_set(path).layout == ""
    assert read_filmed(replace(H36M, keypoint_layout="h36m17"), human36m.folder, "train").layout == "h36m17"
    with pytest.raises(FileFormatError, match="doesn't tell the layout"):
        read_filmed(H36M, human36m.folder, "train")
    assert len(KEYPOINT_LAYOUTS["coco17"]) == 17
    with pytest.raises(FileFormatError, match=r"'coco17' are not where the cameras see the joints 'h36m17'"):
        read_filmed(replace(H36M, keypoint_layout="coco17"), human36m.folder, "train")


def test_cameras_of_another_set(human36m: Human36m) -> None:
    path = human36m.folder / "data_2d_h36m_gt.npz"
    shuffled = {
        who: {what: seen[1:] + seen[:1] for what, seen in human36m.pixels[who].items()} for who in human36m.pixels
    }
    write_keypoints(path, shuffled, layout_name="h36m")
    with pytest.raises(FileFormatError, match="cameras are not those of this set"):
        read_filmed(H36M, human36m.folder, "train")


def test_a_skeleton_of_other_joints(human36m: Human36m) -> None:
    with pytest.raises(FileFormatError, match=r"32 joints.*'humaneva15' has 15"):
        read_filmed(replace(H36M, skeleton="humaneva15"), human36m.folder, "train")
    write_poses(human36m.folder / "data_3d_h36m.npz", human36m.world_m)
    assert len(read_filmed(H36M, human36m.folder, "valid").sequences) == 12


def test_films_that_end_before_the_poses_do(tmp_path: Path) -> None:
    write_human36m(tmp_path, beyond=-2)
    with pytest.raises(FileFormatError, match="40 poses but keypoints in 38"):
        read_filmed(H36M, tmp_path, "train")


def test_what_is_missing_is_named(human36m: Human36m) -> None:
    folder = human36m.folder
    for data, told in (
        (replace(H36M, valid_subjects=("S8",)), "no subject 'S8'"),
        (replace(H36M, cameras=""), "metadata.xml"),
        (replace(H36M, cameras="none.xml"), "no file"),
        (replace(H36M, keypoints="data_3d_h36m.npz"), "positions_2d"),
        (replace(H36M, poses="data_2d_h36m_gt.npz"), "positions_3d"),
        (replace(H36M, kind="human37m"), "human36m, humaneva, custom"),
    ):
        with pytest.raises(FileFormatError, match=told):
            read_filmed(data, folder, "valid")
    del human36m.pixels["S9"]["Sitting"]
    write_keypoints(folder / "data_2d_h36m_gt.npz", human36m.pixels, layout_name="h36m")
    with pytest.raises(FileFormatError, match="S9/Sitting"):
        read_filmed(H36M, folder, "valid")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "camera = 3",
        "[[camera]]\nsize_px = [1, 1]\n",
        "[[camera]]\nsize_px = [1, 1]\nfocal_px = [1]\n",
        "[[camera]]\nsize_px = [1, 1]\nfocal_px = [1, -1]\n",
        "[[camera]]\nsize_px = [1, 1]\nfocal_px = [1, nan]\n",
        "[[camera]]\nsize_px = [1, 1]\nfocal_px = [1, 1]\nzoom = 3\n",
        "[[camera]]\nsize_px = [1, 1]\nfocal_px = [1, 1]\norientation_wxyz = [1, 0, 0, 0]\n",
        "[[camera]]\nsize_px = [1, 1]\nfocal_px = [1, 1]\norientation_wxyz = [1, 1, 0, 0]\n"
        "translation_mm = [0, 0, 0]\n",
        "a = " + 5000 * "[",
    ],
)
def test_cameras_that_are_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cameras.toml"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"cameras\.toml"):
        read_cameras(path)


@pytest.mark.parametrize("text", ["", "<w0>[1 2 3]</w0>", "<w0>[a b]</w0>", "<w0>[" + 300 * "nan " + "]</w0>"])
def test_metadata_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "metadata.xml").write_text(text)
    with pytest.raises(FileFormatError, match=r"metadata\.xml"):
        read_cameras(tmp_path / "metadata.xml")
