from dataclasses import replace

import av
import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.errors import Cancelled, FileFormatError
from keylift.core.preview import _BRIDGED_INK, _EXCHANGED_INK, _LEFT, _RIGHT, FigureView, draw_keypoints, render_preview
from keylift.core.skeletons import LANDMARKS_41, Skeleton
from keylift.core.tracks import Change
from walker import camera_from_world, filmed, walk


@pytest.fixture(scope="module")
def tracks():
    # Walking towards the camera.
    return filmed(walk(20, heading_rad=0.0), Camera.guessed((640, 480)), camera_from_world())


def _middle_of(picture, colour):
    near = (np.abs(picture.astype(int) - colour).sum(axis=-1) < 40).nonzero()
    return np.array([near[1].mean(), near[0].mean()])


def test_the_figure_is_upright_and_not_mirrored(tracks):
    pose, _ = tracks
    view = FigureView(pose, (480, 480), turn_deg=0)
    picture = view.draw(10)
    # Who faces the camera has the left side on the picture's right.
    assert _middle_of(picture, _LEFT)[0] > _middle_of(picture, _RIGHT)[0] + 5
    at_px, _ = view.project(view.positions_m[10], 10)
    assert at_px[LANDMARKS_41.index("head_top"), 1] < at_px[LANDMARKS_41.index("l_heel"), 1] - 100


def test_the_figure_stays_in_the_picture_and_fills_it_however_far_it_walks():
    pose, _ = filmed(walk(300), Camera.guessed((640, 480)), camera_from_world())
    for turn in (0, 40, 90):
        view = FigureView(pose, (480, 360), turn_deg=turn)
        for frame in range(0, 300, 20):
            at_px, depth = view.project(view.positions_m[frame], frame)
            assert (at_px >= 0).all() and (at_px < [480, 360]).all() and (depth > 0.5).all()
            assert at_px[:, 1].max() - at_px[:, 1].min() > 150


def test_who_is_not_seen_is_not_drawn(tracks):
    pose, _ = tracks
    confidence = pose.confidence.copy()
    confidence[:5] = 0
    view = FigureView(replace(pose, confidence=confidence), (480, 480))
    gone, there = (np.abs(view.draw(frame).astype(int) - _LEFT).sum(axis=-1).min() for frame in (2, 8))
    assert gone > 100 > there


def test_a_preview_without_footage_has_every_frame_at_its_time(tracks, tmp_path):
    pose, _ = tracks
    render_preview(tmp_path / "p.mp4", pose)
    with av.open(str(tmp_path / "p.mp4")) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert np.allclose(times, pose.time_s - pose.time_s[0], atol=1e-3)


def test_a_pose_of_another_skeleton_is_refused(tracks, tmp_path):
    pose = tracks[0]
    other = replace(
        pose,
        positions_m=pose.positions_m[:, :2],
        rotations_wxyz=pose.rotations_wxyz[:, :2],
        confidence=pose.confidence[:, :2],
        skeleton=Skeleton(("a", "b"), (-1, 0), ()),
    )
    with pytest.raises(FileFormatError, match="41 landmarks"):
        render_preview(tmp_path / "p.mp4", other)


def test_a_cancelled_preview_leaves_nothing(tracks, tmp_path):
    with pytest.raises(Cancelled):
        render_preview(tmp_path / "p.mp4", tracks[0], progress=lambda done, total: done < 3)
    assert list(tmp_path.iterdir()) == []


def test_repaired_keypoints_are_ringed_and_told_in_words_where_there_are_any(tracks):
    _, track = tracks

    def drawn(changes):
        picture = np.full((480, 640, 3), 128, np.uint8)
        draw_keypoints(picture, track.xy_px[10], track.confidence[10], track.layout, changes)
        return picture

    def pixels(picture, colour):
        return (np.abs(picture.astype(int) - colour).sum(axis=-1) < 60).nonzero()

    untouched = np.zeros(21, np.uint8)
    plain = drawn(untouched)
    assert np.array_equal(plain, drawn(None))
    assert len(pixels(plain, _EXCHANGED_INK)[0]) == len(pixels(plain, _BRIDGED_INK)[0]) == 0

    changes = untouched.copy()
    changes[9] = Change.OUTLIER_BRIDGED
    bridged = drawn(changes)
    rows, columns = pixels(bridged, _BRIDGED_INK)
    words = rows < 40
    assert words.any() and len(pixels(bridged, _EXCHANGED_INK)[0]) == 0
    ring = np.array([columns[~words].mean(), rows[~words].mean()])
    assert np.abs(ring - track.xy_px[10, 9]).max() < 3
    changes[:9] = Change.BODY_EXCHANGED
    assert len(pixels(drawn(changes), _EXCHANGED_INK)[0]) > len(rows)


@pytest.mark.parametrize("change", [change for change in Change if change != Change.UNTOUCHED])
def test_every_change_has_a_ring_and_words(tracks, change):
    _, track = tracks
    blank = np.full((480, 640, 3), 128, np.uint8)
    changes = np.zeros(21, np.uint8)
    plain, told = blank.copy(), blank.copy()
    draw_keypoints(plain, track.xy_px[10], track.confidence[10], track.layout, changes)
    changes[9] = change
    draw_keypoints(told, track.xy_px[10], track.confidence[10], track.layout, changes)
    different = (plain != told).any(axis=-1)
    assert different[:40].any() and different[40:].any()
