"""Keypoints corrected as an artist does it, on a real clip: found, swapped, disabled, spread, restored, exported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

import clip_samples
import keylift
from keylift.addon.clip_keypoints import detection_of, read_keypoints, tracks_of, write_everybody
from keylift.core.skeletons import MEDIAPIPE_33_NAMES, mirrored_layout
from keylift.core.track_files import read_keypoints as read_file
from keylift.core.tracks import Change, KeypointTrack
from rig_samples import empty_scene

FRAMES = 24
WRIST, ELBOW = (MEDIAPIPE_33_NAMES.index(f"left_{name}") for name in ("wrist", "elbow"))
START = 101


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    empty_scene()
    keylift.register()
    yield
    keylift.unregister()


def keypoints(person: int) -> KeypointTrack:
    track = clip_samples.keypoints(FRAMES, person=person)
    track.confidence[8:11], track.confidence[18:20] = 0.3, 0.3
    return track


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    clip = bpy.data.movieclips.load(str(clip_samples.film(tmp_path / "film.mp4", FRAMES)))
    clip.frame_start = START
    write_everybody(clip, [keypoints(1), keypoints(2)])
    settings = bpy.context.scene.keylift
    settings.clip = clip
    bpy.context.scene.frame_set(START)
    return clip


def select(clip: Any, *points: int, person: int = 1) -> None:
    for point, track in enumerate(tracks_of(clip, person)):
        track.select = point in points


def drag(clip: Any, point: int, row: int, x_px: float, y_px: float) -> None:
    """As the mouse does: markers count from 0 to 1, up, and one that was moved is enabled, and a keyframe."""
    marker = tracks_of(clip, 1)[point].markers.find_frame(row + 1)
    marker.co = (marker.co[0] + x_px / 96, marker.co[1] - y_px / 64)
    marker.mute, marker.is_keyed = False, True


def test_doubtful_frames_are_gone_to_stretch_by_stretch(clip: Any) -> None:
    visited = []
    for _ in range(3):
        assert bpy.ops.keylift.next_doubtful_frame() == {"FINISHED"}
        visited.append(bpy.context.scene.frame_current - START)
    assert visited == [8, 18, 18], "and stays at the last"
    bpy.ops.keylift.next_doubtful_frame(backwards=True)
    assert bpy.context.scene.frame_current - START == 8


def test_sides_are_exchanged_where_asked_and_nowhere_else(clip: Any) -> None:
    before = keypoints(1).xy_px
    order = mirrored_layout(MEDIAPIPE_33_NAMES)
    bpy.ops.ed.undo_push(message="before")
    frames = {"first": START + 4, "last": START + 6}
    assert bpy.ops.keylift.swap_sides("EXEC_DEFAULT", True, part="ARMS", **frames) == {"FINISHED"}
    track = read_keypoints(bpy.data.movieclips[0], 1)
    arms = [
        point
        for point, name in enumerate(MEDIAPIPE_33_NAMES)
        if name.split("_")[-1] in ("shoulder", "elbow", "wrist", "pinky", "index", "thumb") and "foot" not in name
    ]
    assert np.allclose(track.xy_px[4:7][:, arms], before[4:7][:, order][:, arms], atol=0.05)
    others = [point for point in range(33) if point not in arms]
    assert np.allclose(track.xy_px[:, others], before[:, others], atol=0.05)
    assert (track.changes[4:7][:, arms] == Change.CORRECTED).all() and not track.changes[:4].any()
    assert not read_keypoints(bpy.data.movieclips[0], 2).changes.any()
    bpy.ops.ed.undo()
    assert not read_keypoints(bpy.data.movieclips[0], 1).changes.any()
    bpy.ops.ed.redo()
    assert read_keypoints(bpy.data.movieclips[0], 1).changes.any()


def test_the_frame_that_is_shown_is_meant_without_being_told(clip: Any) -> None:
    bpy.context.scene.frame_set(START + 12)
    bpy.ops.keylift.swap_sides()
    assert np.flatnonzero(read_keypoints(clip, 1).changes.any(axis=1)).tolist() == [12]
    with pytest.raises(RuntimeError, match="have no keypoints"):
        bpy.ops.keylift.swap_sides(first=1, last=20)


def test_what_cannot_be_seen_is_disabled_and_enabled_again(clip: Any) -> None:
    with pytest.raises(RuntimeError, match="No keypoint of this person is selected"):
        select(clip)
        bpy.ops.keylift.disable_keypoints()
    select(clip, WRIST)
    bpy.ops.keylift.disable_keypoints(first=START + 2, last=START + 3)
    track = read_keypoints(clip, 1)
    assert np.isnan(track.xy_px[2:4, WRIST]).all() and (track.confidence[2:4, WRIST] == 0).all()
    assert (track.changes[2:4, WRIST] == Change.CORRECTED).all() and track.changes.sum() == 2 * Change.CORRECTED
    bpy.ops.keylift.disable_keypoints(first=START + 2, last=START + 3, enable=True)
    assert np.isfinite(read_keypoints(clip, 1).xy_px).all()


def test_a_dragged_keypoint_is_sure_and_can_be_restored(clip: Any) -> None:
    drag(clip, WRIST, 9, 6.0, -4.0)
    track = read_keypoints(clip, 1)
    assert np.allclose(track.xy_px[9, WRIST] - keypoints(1).xy_px[9, WRIST], [6.0, -4.0], atol=0.05)
    assert track.confidence[9, WRIST] == 1.0 and track.changes[9, WRIST] == Change.CORRECTED
    assert track.changes.sum() == Change.CORRECTED
    select(clip, WRIST)
    bpy.ops.keylift.restore_keypoints(first=START, last=START + FRAMES)
    assert not read_keypoints(clip, 1).changes.any()


def test_one_drag_mends_a_run(clip: Any) -> None:
    drag(clip, WRIST, 9, 8.0, 0.0)
    select(clip, WRIST, ELBOW)
    bpy.context.scene.frame_set(START + 9)
    bpy.ops.keylift.spread_correction(frames=4)
    moved = read_keypoints(clip, 1).xy_px[:, WRIST, 0] - keypoints(1).xy_px[:, WRIST, 0]
    assert moved[9] == pytest.approx(8, abs=0.05)
    assert (np.diff(moved[5:10]) > 0).all() and (np.diff(moved[9:14]) < 0).all()
    assert np.abs(moved[[4, 14]]).max() < 0.05
    assert not read_keypoints(clip, 1).changes[:, ELBOW].any(), "it was selected, but not corrected"


def moved_x_px(clip: Any) -> np.ndarray:
    """(F,) how far the wrist is from where it was detected."""
    return read_keypoints(clip, 1).xy_px[:, WRIST, 0] - keypoints(1).xy_px[:, WRIST, 0]


def fading(reach: int) -> np.ndarray:
    """What share of a correction the frames around it get."""
    return (1 + np.cos(np.pi * np.arange(-reach, reach + 1) / (reach + 1))) / 2


def test_between_two_corrections_one_goes_over_to_the_other(clip: Any) -> None:
    drag(clip, WRIST, 5, 8.0, 0.0)
    drag(clip, WRIST, 13, 4.0, 0.0)
    select(clip, WRIST)
    bpy.context.scene.frame_set(START + 5)
    bpy.ops.keylift.spread_correction(frames=4)
    moved = moved_x_px(clip)
    assert moved[5:14] == pytest.approx(4 + 2 * (1 + np.cos(np.pi * np.arange(9) / 8)), abs=0.05)
    assert moved[0] == pytest.approx(0, abs=0.05) and moved[14:] == pytest.approx(np.zeros(10), abs=0.05)


def test_spreading_once_more_is_as_good_as_once(clip: Any) -> None:
    drag(clip, WRIST, 9, 20.0, 0.0)
    select(clip, WRIST)
    bpy.context.scene.frame_set(START + 9)
    bpy.ops.keylift.spread_correction(frames=4)
    drag(clip, WRIST, 9, -12.0, 0.0)
    bpy.ops.keylift.spread_correction(frames=4)
    assert moved_x_px(clip)[5:14] == pytest.approx(8 * fading(4), abs=0.05)


def test_what_was_not_seen_is_filled_between_corrections_and_nowhere_else(clip: Any) -> None:
    seen = np.ones((FRAMES, 33), bool)
    seen[4:16, WRIST] = False
    write_everybody(clip, [clip_samples.seen_only(keypoints(1), seen)])
    for row in (6, 10):
        drag(clip, WRIST, row, 3.0, 0.0)
    select(clip, WRIST)
    bpy.context.scene.frame_set(START + 6)
    bpy.ops.keylift.spread_correction(frames=4)
    there = np.isfinite(read_keypoints(clip, 1).xy_px[:, WRIST, 0])
    assert np.flatnonzero(~there).tolist() == [4, 5, 11, 12, 13, 14, 15]
    assert moved_x_px(clip)[6:11] == pytest.approx(np.full(5, 3), abs=0.05), "on the line between before and after"


def test_spreading_leaves_alone_what_was_disabled(clip: Any) -> None:
    drag(clip, WRIST, 9, 8.0, 0.0)
    select(clip, WRIST)
    bpy.ops.keylift.disable_keypoints(first=START + 10, last=START + 11)
    bpy.context.scene.frame_set(START + 9)
    bpy.ops.keylift.spread_correction(frames=4)
    moved = moved_x_px(clip)
    assert np.isnan(moved[10:12]).all() and moved[12] > 1


def test_exchanged_sides_stay_exchanged_where_a_correction_is_spread(clip: Any) -> None:
    bpy.ops.keylift.swap_sides(part="ARMS", first=START + 7, last=START + 11)
    exchanged = read_keypoints(clip, 1).xy_px[:, WRIST, 0].copy()
    select(clip, WRIST)
    bpy.context.scene.frame_set(START + 9)
    for more in (6.0, 4.0, -4.0):
        drag(clip, WRIST, 9, more, 0.0)
        bpy.ops.keylift.spread_correction(frames=4)
    moved = read_keypoints(clip, 1).xy_px[:, WRIST, 0] - exchanged
    assert moved[5:14] == pytest.approx(6 * fading(4), abs=0.05)
    # Detected again with the same mistake, it goes on from there.
    write_everybody(clip, [keypoints(1), keypoints(2)])
    drag(clip, WRIST, 9, 2.0, 0.0)
    bpy.ops.keylift.spread_correction(frames=4)
    moved = read_keypoints(clip, 1).xy_px[:, WRIST, 0] - exchanged
    assert moved[5:14] == pytest.approx(8 * fading(4), abs=0.05)


def test_what_was_looked_after_is_doubtful_no_more(clip: Any) -> None:
    drag(clip, WRIST, 8, 6.0, 0.0)
    bpy.ops.keylift.next_doubtful_frame()
    assert bpy.context.scene.frame_current - START == 18, "8 to 10 were looked at"


@pytest.mark.parametrize(
    ("part", "side", "extend", "expected"),
    [
        ("ARMS", "LEFT", False, [f"left_{name}" for name in "shoulder elbow wrist pinky index thumb".split()]),
        ("LEGS", "RIGHT", True, ["nose", *(f"right_{name}" for name in "hip knee ankle heel foot_index".split())]),
        ("BODY", "BOTH", False, MEDIAPIPE_33_NAMES),
    ],
)
def test_parts_of_the_body_are_selected(clip: Any, part: str, side: str, extend: bool, expected: Sequence[str]) -> None:
    select(clip, MEDIAPIPE_33_NAMES.index("nose"))
    assert bpy.ops.keylift.select_keypoints(part=part, side=side, extend=extend) == {"FINISHED"}
    assert {track.name for track in tracks_of(clip, 1) if track.select} == set(expected)


@pytest.mark.parametrize("operator", ["swap_sides", "disable_keypoints", "restore_keypoints", "spread_correction"])
def test_each_correction_is_one_step_to_take_back_and_to_do_again(clip: Any, operator: str) -> None:
    drag(clip, WRIST, 9, 6.0, -4.0)
    select(clip, WRIST)
    bpy.context.scene.frame_set(START + 9)
    bpy.ops.ed.undo_push(message="before")
    before = read_keypoints(clip, 1)
    assert getattr(bpy.ops.keylift, operator)("EXEC_DEFAULT", True) == {"FINISHED"}
    after = read_keypoints(bpy.data.movieclips[0], 1)
    bpy.ops.ed.undo()
    undone = read_keypoints(bpy.data.movieclips[0], 1)
    bpy.ops.ed.redo()
    redone = read_keypoints(bpy.data.movieclips[0], 1)
    assert not np.array_equal(before.xy_px, after.xy_px, equal_nan=True)
    assert np.array_equal(before.xy_px, undone.xy_px, equal_nan=True)
    assert np.array_equal(after.xy_px, redone.xy_px, equal_nan=True)


def test_spreading_stops_at_what_was_corrected_by_hand(clip: Any) -> None:
    drag(clip, WRIST, 9, 8.0, 0.0)
    drag(clip, WRIST, 11, -5.0, 0.0)
    select(clip, WRIST)
    bpy.context.scene.frame_set(START + 9)
    bpy.ops.keylift.spread_correction(frames=6)
    moved = read_keypoints(clip, 1).xy_px[:, WRIST, 0] - keypoints(1).xy_px[:, WRIST, 0]
    assert moved[11] == pytest.approx(-5, abs=0.05)
    bpy.context.scene.frame_set(START + 20)
    with pytest.raises(RuntimeError, match="Drag a keypoint first"):
        bpy.ops.keylift.spread_correction()


def test_corrections_go_out_as_training_data(clip: Any, tmp_path: Path) -> None:
    drag(clip, WRIST, 9, 6.0, -4.0)
    for name in ("a.keypoints.npz", "b.npz"):
        assert bpy.ops.keylift.export_corrections(filepath=str(tmp_path / name)) == {"FINISHED"}
    written = read_file(tmp_path / "b.keypoints.npz")
    assert written.changes[9, WRIST] == Change.CORRECTED and written.confidence[9, WRIST] == 1.0
    assert written.source.sha256 == "0" * 64
    (tmp_path / "folder.keypoints.npz").mkdir()
    with pytest.raises(RuntimeError, match="can't be written"):
        bpy.ops.keylift.export_corrections(filepath=str(tmp_path / "folder.keypoints.npz"))


def test_the_chosen_persons_tracks_are_shown(clip: Any) -> None:
    bpy.context.scene.keylift.person = 2
    assert bpy.ops.keylift.show_person() == {"FINISHED"}
    assert clip.tracking.objects.active.name == detection_of(clip, 2).object
    bpy.context.scene.keylift.person = 3
    with pytest.raises(RuntimeError, match="no keypoints of this person"):
        bpy.ops.keylift.show_person()


def test_corrections_outlive_the_file_and_a_second_detection(clip: Any, tmp_path: Path) -> None:
    drag(clip, WRIST, 9, 6.0, -4.0)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "work.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "work.blend"))
    loaded = bpy.data.movieclips[0]
    assert read_keypoints(loaded, 1).changes[9, WRIST] == Change.CORRECTED
    told = write_everybody(loaded, [keypoints(1), keypoints(2)])
    assert read_keypoints(loaded, 1).changes[9, WRIST] == Change.CORRECTED
    assert any("1 corrections of person 1 were kept" in line for line in told)


def test_the_artists_own_tracks_stay_as_they_are(clip: Any) -> None:
    camera = next(owner for owner in clip.tracking.objects if owner.is_camera)
    mine = camera.tracks.new(name="left_wrist", frame=1)
    mine.markers.insert_frame(5, co=(0.2, 0.3))
    write_everybody(clip, [keypoints(2), keypoints(1)])
    assert [track.name for track in camera.tracks] == ["left_wrist"]
    assert tuple(camera.tracks[0].markers.find_frame(5).co) == pytest.approx((0.2, 0.3))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04nonsense", b"\x80\x04."])
def test_a_hostile_file_is_told_and_nothing_runs(clip: Any, content: bytes) -> None:
    from keylift.addon.clip_keypoints import people
    from keylift.core.errors import KeyliftError

    kept = clip["keylift_person_1"].to_dict()
    clip["keylift_person_1"] = {**kept, "keypoints": content, "stamp": "other"}
    assert people(clip) == [1, 2]
    with pytest.raises(KeyliftError):
        read_keypoints(clip, 1)
    with pytest.raises(RuntimeError):
        bpy.ops.keylift.swap_sides()
    clip["keylift_person_1"] = 5
    with pytest.raises(KeyliftError):
        read_keypoints(clip, 1)
