"""Keypoints as tracks of a clip: on the picture they belong to, read back as the artist left them, never lost."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

from clip_samples import SIZE_PX, decoded_times, dot_in, film, keypoints, numbers_shown, seen_only, shown_at
from keylift.addon import clip_frames
from keylift.addon.clip_keypoints import (
    corrected_keypoints,
    corrected_rows,
    detection_of,
    people,
    read_keypoints,
    remove_keypoints,
    show_person,
    tracking_object,
    tracks_of,
    write_everybody,
    write_keypoints,
)
from keylift.core.errors import FileFormatError, KeyliftError, NobodyFoundError
from keylift.core.footage import open_footage
from keylift.core.skeletons import MEDIAPIPE_33_NAMES, mirrored_layout
from keylift.core.source import Source
from keylift.core.tracks import Change, KeypointTrack
from rig_samples import empty_scene

FRAMES = 24
WRIST, OTHER_WRIST, ELBOW = (MEDIAPIPE_33_NAMES.index(name) for name in ("left_wrist", "right_wrist", "left_elbow"))


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    return bpy.data.movieclips.load(str(film(tmp_path / "film.mp4", FRAMES)))


def marker(clip: Any, point: int, clip_frame: int, person: int = 1) -> Any:
    return tracks_of(clip, person)[point].markers.find_frame(clip_frame)


def drag(clip: Any, point: int, clip_frame: int, x_px: float, y_px: float, person: int = 1) -> None:
    """As the mouse does it: markers count from 0 to 1, up, and what a hand has moved is a keyframe."""
    dragged = marker(clip, point, clip_frame, person)
    dragged.co = (dragged.co[0] + x_px / SIZE_PX[0], dragged.co[1] - y_px / SIZE_PX[1])
    dragged.is_keyed = True


def same(track: KeypointTrack, other: KeypointTrack) -> bool:
    return bool(
        np.allclose(track.xy_px, other.xy_px, atol=1e-4, equal_nan=True)
        and np.allclose(track.confidence, other.confidence)
        and np.array_equal(track.changes, other.changes)
    )


# ---- Frames ---------------------------------------------------------------------------------------------------------

UNEVEN_MS = [40 * i for i in range(8)] + [320 + 80 * i for i in range(8)] + [960 + 20 * i for i in range(8)]
PHONE_MS = np.round(np.arange(FRAMES) * 1000 / 30 + np.random.default_rng(0).uniform(0, 16, FRAMES)).astype(int)


@pytest.mark.parametrize(
    ("name", "fps", "ticks_ms"),
    [
        ("even.mp4", 25, None),
        ("uneven.mp4", 25, UNEVEN_MS),
        ("uneven.mkv", 25, UNEVEN_MS),
        ("phone.mp4", 30, list(PHONE_MS)),
        ("late.mkv", 25, [1000 + 40 * i for i in range(FRAMES)]),
        ("ntsc.mkv", 30, [round(i * 1001 / 30) for i in range(FRAMES)]),
    ],
)
def test_a_picture_has_the_frame_that_blender_shows_it_at(
    tmp_path: Path, name: str, fps: int, ticks_ms: list[int] | None
) -> None:
    path = film(tmp_path / name, FRAMES, fps=fps, ticks_ms=ticks_ms)
    clip = bpy.data.movieclips.load(str(path))
    track = replace(keypoints(FRAMES), time_s=decoded_times(path))
    frames = clip_frames.clip_frames(clip, track.time_s, track.frame_index)
    asked = range(1, clip.frame_duration + 1)
    shown = clip_frames.is_shown(frames)
    expected = [int(np.flatnonzero(shown & (frames <= frame))[-1]) for frame in asked]
    assert numbers_shown(clip, asked, FRAMES, tmp_path) == expected


def test_offset_and_start_move_pictures_as_blender_does(tmp_path: Path, clip: Any) -> None:
    clip.frame_offset, clip.frame_start = 5, 101
    track = keypoints(FRAMES)
    frames = clip_frames.clip_frames(clip, track.time_s, track.frame_index)
    (at_7,) = np.flatnonzero(frames == 7)
    assert numbers_shown(clip, [7], FRAMES, tmp_path) == [at_7] == [11]
    assert clip_frames.scene_frame_at(clip, 7) == 107 and clip_frames.clip_frame_at(clip, 107) == 7


def test_pictures_of_a_sequence_are_told_by_their_number(tmp_path: Path) -> None:
    for number in (98, 99, 100, 103, 104):
        image = bpy.data.images.new(f"p{number}", *SIZE_PX)
        image.filepath_raw, image.file_format = str(tmp_path / f"shot_{number}.png"), "PNG"
        image.save()
    # Opened from its second picture on; keypoints were detected in all of them.
    clip = bpy.data.movieclips.load(str(tmp_path / "shot_99.png"))
    time_s = np.array([0, 1, 2, 5, 6]) / 24
    assert clip_frames.clip_frames(clip, time_s, np.arange(5)).tolist() == [0, 1, 2, 5, 6]
    assert clip_frames.clip_frames(clip, time_s[2:], np.arange(2, 5)).tolist() == [2, 5, 6]
    for number in (98, 99, 100, 103, 104):
        (tmp_path / f"shot_{number}.png").unlink()
    assert clip_frames.clip_frames(clip, time_s, np.arange(5)).tolist() == [1, 2, 3, 6, 7], "by time, without files"


@pytest.mark.parametrize("turned_deg", [0, 90, 180, 270])
def test_turned_footage_has_its_keypoints_where_blender_shows_them(tmp_path: Path, turned_deg: int) -> None:
    """Before 4.4 Blender shows it as it is stored."""
    path = film(tmp_path / "film.mp4", 2, turned_deg=turned_deg, dot=(20, 50))
    first = next(iter(open_footage(path).frames()))
    dot = dot_in(first.rgb.mean(axis=-1))
    track = keypoints(2, size_px=(first.rgb.shape[1], first.rgb.shape[0]))
    track.xy_px[:, WRIST] = dot
    clip = bpy.data.movieclips.load(str(path))
    write_keypoints(clip, track, 1)
    (shown,) = shown_at(clip, [1], tmp_path)
    x, y = dot_in(shown)
    height, width = shown.shape
    assert tuple(marker(clip, WRIST, 1).co) == pytest.approx((x / width, 1 - y / height), abs=0.5 / height)
    assert same(read_keypoints(clip, 1), track)


# ---- Written and read back ------------------------------------------------------------------------------------------


def test_what_nobody_touched_comes_back_as_it_was_detected(clip: Any) -> None:
    seen = np.random.default_rng(0).uniform(size=(FRAMES, 33)) > 0.3
    seen[5:9], seen[:, 7] = False, False
    track = seen_only(keypoints(FRAMES), seen)
    assert write_keypoints(clip, track, 1) == []
    back = corrected_keypoints(clip, 1)
    assert same(back.track, track) and back.warnings == ()
    assert not back.corrected.any() and not corrected_rows(clip, 1).any()
    assert (back.track.source.sha256, back.track.layout, back.track.size_px) == ("0" * 64, "mediapipe33", SIZE_PX)
    markers = tracks_of(clip, 1)[3].markers
    assert [mark.mute for mark in markers] == (~seen[:, 3]).tolist()
    assert not any(mark.is_keyed for mark in markers)
    assert people(clip) == [1]
    with pytest.raises(NobodyFoundError, match="Press Detect"):
        read_keypoints(clip, 2)


def test_each_layout_can_be_written(clip: Any) -> None:
    track = keypoints(FRAMES, layout="coco17")
    write_keypoints(clip, track, 1)
    assert same(read_keypoints(clip, 1), track)
    assert len(tracking_object(clip, 1).tracks) == 17


def test_sure_keypoints_are_blue_and_doubtful_ones_red(clip: Any) -> None:
    track = keypoints(FRAMES)
    track.confidence[:, WRIST] = 0.05
    write_keypoints(clip, track, 1)
    doubtful, sure = (tracks_of(clip, 1)[point] for point in (WRIST, ELBOW))
    assert doubtful.use_custom_color and sure.use_custom_color
    assert doubtful.color[0] > 0.8 > 0.3 > doubtful.color[2]
    assert sure.color[2] > 0.8 > 0.3 > sure.color[0]


@pytest.mark.parametrize(("moved_px", "counts"), [(0.2, False), (0.5, True)])
def test_a_moved_marker_is_a_correction_when_it_moved_far_enough(clip: Any, moved_px: float, counts: bool) -> None:
    track = keypoints(FRAMES)
    write_keypoints(clip, track, 1)
    moved = marker(clip, WRIST, 8)
    moved.co = (moved.co[0] + moved_px / SIZE_PX[0], moved.co[1])
    back = read_keypoints(clip, 1)
    assert corrected_rows(clip, 1).tolist() == [counts and row == 7 for row in range(FRAMES)]
    if counts:
        assert back.xy_px[7, WRIST] - track.xy_px[7, WRIST] == pytest.approx([moved_px, 0], abs=1e-3)
        assert back.confidence[7, WRIST] == 1 and back.changes[7, WRIST] == Change.CORRECTED
    else:
        assert same(back, track)


def test_a_disabled_or_deleted_marker_is_gone_and_an_enabled_one_is_there(clip: Any) -> None:
    track = keypoints(FRAMES)
    seen = np.ones((FRAMES, 33), bool)
    seen[10:13, WRIST] = False
    write_keypoints(clip, seen_only(track, seen), 1)
    marker(clip, ELBOW, 4).mute = True
    tracks_of(clip, 1)[ELBOW].markers.delete_frame(6)
    marker(clip, WRIST, 12).mute = False
    back = read_keypoints(clip, 1)
    for row, point in ((3, ELBOW), (5, ELBOW)):
        assert np.isnan(back.xy_px[row, point]).all() and back.confidence[row, point] == 0
        assert back.changes[row, point] == Change.CORRECTED
    # It was waiting between the frames before and after.
    assert back.xy_px[11, WRIST] == pytest.approx(track.xy_px[11, WRIST], abs=0.01)
    assert back.confidence[11, WRIST] == 1 and np.isnan(back.xy_px[10, WRIST]).all()
    assert np.count_nonzero(back.changes == Change.CORRECTED) == 3


def test_a_keyframe_says_that_a_doubtful_keypoint_is_right(clip: Any) -> None:
    track = keypoints(FRAMES)
    track.confidence[:] = 0.3
    write_keypoints(clip, track, 1)
    marker(clip, WRIST, 8).is_keyed = True
    back = read_keypoints(clip, 1)
    assert back.confidence[7, WRIST] == 1 and back.changes[7, WRIST] == Change.CORRECTED
    assert back.xy_px[7, WRIST] == pytest.approx(track.xy_px[7, WRIST], abs=1e-3)
    assert back.confidence[8, WRIST] == pytest.approx(0.3)


def test_exchanged_markers_are_as_sure_as_the_detector_was(clip: Any) -> None:
    track = keypoints(FRAMES)
    track.confidence[:, WRIST], track.confidence[:, OTHER_WRIST] = 0.8, 0.4
    write_keypoints(clip, track, 1)
    one, other = marker(clip, WRIST, 5), marker(clip, OTHER_WRIST, 5)
    one.co, other.co = tuple(other.co), tuple(one.co)
    back = read_keypoints(clip, 1)
    assert back.confidence[4, [WRIST, OTHER_WRIST]].tolist() == pytest.approx([0.4, 0.8])
    assert (back.changes[4, [WRIST, OTHER_WRIST]] == Change.CORRECTED).all()
    order = mirrored_layout(MEDIAPIPE_33_NAMES)
    assert np.allclose(back.xy_px[4, WRIST], track.xy_px[4, order[WRIST]], atol=1e-3)


def test_an_offset_of_a_track_moves_all_of_its_keypoints(clip: Any) -> None:
    track = keypoints(FRAMES)
    write_keypoints(clip, track, 1)
    tracks_of(clip, 1)[WRIST].offset = (2 / SIZE_PX[0], 0)
    back = read_keypoints(clip, 1)
    assert np.allclose(back.xy_px[:, WRIST] - track.xy_px[:, WRIST], [2, 0], atol=1e-3)
    assert corrected_rows(clip, 1).all()


def test_a_picture_that_stays_may_be_corrected_on_any_of_its_frames(tmp_path: Path) -> None:
    ticks_ms = [40 * i for i in range(8)] + [520 + 40 * i for i in range(8)]
    path = film(tmp_path / "held.mkv", 16, ticks_ms=ticks_ms)
    clip = bpy.data.movieclips.load(str(path))
    track = replace(keypoints(16), time_s=decoded_times(path))
    write_keypoints(clip, track, 1)
    first = int(detection_of(clip, 1).frames[7])
    assert first + 4 < detection_of(clip, 1).frames[8], "picture 7 stays for several frames"
    # As the mouse does it on a frame without a marker: Blender makes one there.
    held = tracks_of(clip, 1)[WRIST].markers.insert_frame(first + 3, co=tuple(marker(clip, WRIST, first).co))
    assert same(read_keypoints(clip, 1), track) or held.is_keyed
    held.co, held.is_keyed = (0.5, 0.25), True
    back = read_keypoints(clip, 1)
    assert back.xy_px[7, WRIST] == pytest.approx([0.5 * SIZE_PX[0], 0.75 * SIZE_PX[1]], abs=1e-3)
    assert np.flatnonzero(corrected_rows(clip, 1)).tolist() == [7]


def test_a_picture_that_is_never_shown_goes_along_with_the_one_that_is(tmp_path: Path) -> None:
    path = film(tmp_path / "dense.mkv", 24, ticks_ms=UNEVEN_MS)
    clip = bpy.data.movieclips.load(str(path))
    track = replace(keypoints(24), time_s=decoded_times(path))
    write_keypoints(clip, track, 1)
    detection = detection_of(clip, 1)
    hidden = int(np.setdiff1d(np.arange(24), detection.rows)[0])
    frame = int(detection.frames[hidden])
    drag(clip, WRIST, frame, 5, 2)
    back = read_keypoints(clip, 1)
    assert np.flatnonzero(corrected_rows(clip, 1)).tolist() == [hidden, hidden + 1]
    moved = back.xy_px[[hidden, hidden + 1], WRIST] - track.xy_px[[hidden, hidden + 1], WRIST]
    assert np.allclose(moved, [5, 2], atol=1e-3)


def test_broken_markers_are_not_seen(clip: Any) -> None:
    write_keypoints(clip, keypoints(FRAMES), 1)
    marker(clip, WRIST, 8).co = (float("nan"), 0.5)
    marker(clip, ELBOW, 8).co = (float("inf"), 0.5)
    back = read_keypoints(clip, 1)
    assert np.isnan(back.xy_px[7, [WRIST, ELBOW]]).all() and not back.confidence[7, [WRIST, ELBOW]].any()


# ---- Whose tracks ---------------------------------------------------------------------------------------------------


def test_renamed_tracks_and_objects_are_found(clip: Any) -> None:
    write_everybody(clip, [keypoints(FRAMES), keypoints(FRAMES, person=2)])
    drag(clip, WRIST, 8, 6, 0, person=2)
    tracking_object(clip, 2).name = "Villain"
    for point in (WRIST, ELBOW):
        tracks_of(clip, 2)[point].name = f"arm {point}"
    assert tracking_object(clip, 2).name == "Villain"
    found = corrected_keypoints(clip, 2)
    assert found.warnings == () and np.argwhere(found.corrected).tolist() == [[7, WRIST]]
    assert not corrected_rows(clip, 1).any()
    # And they keep their names when it is detected again.
    write_everybody(clip, [keypoints(FRAMES), keypoints(FRAMES, person=2)])
    assert tracking_object(clip, 2).name == "Villain" and tracks_of(clip, 2)[WRIST].name == f"arm {WRIST}"
    assert np.argwhere(corrected_keypoints(clip, 2).corrected).tolist() == [[7, WRIST]]


def test_deleted_tracks_are_as_detected_and_told(clip: Any) -> None:
    track = keypoints(FRAMES)
    write_everybody(clip, [track, keypoints(FRAMES, person=2)])
    drag(clip, WRIST, 8, 6, 0)
    delete_track(clip, tracking_object(clip, 1), MEDIAPIPE_33_NAMES[ELBOW])
    found = corrected_keypoints(clip, 1)
    assert np.argwhere(found.corrected).tolist() == [[7, WRIST]]
    assert found.warnings == ("Tracks of person 1 were deleted, and are taken as they were detected: left_elbow.",)
    clip.tracking.objects.remove(tracking_object(clip, 1))
    found = corrected_keypoints(clip, 1)
    assert same(found.track, track) and "were deleted; the keypoints are taken" in found.warnings[0]
    assert not show_person(clip, 1) and show_person(clip, 2)
    # Detected again, they are back.
    write_everybody(clip, [track, keypoints(FRAMES, person=2)])
    assert show_person(clip, 1) and corrected_keypoints(clip, 1).warnings == ()


def delete_track(clip: Any, owner: Any, name: str) -> None:
    """As the artist does it, in a clip editor."""
    window = bpy.context.window_manager.windows[0]
    area = window.screen.areas[0]
    area.type = "CLIP_EDITOR"
    area.spaces.active.clip = clip
    clip.tracking.objects.active = owner
    for track in owner.tracks:
        track.select = track.name == name
    region = next(region for region in area.regions if region.type == "WINDOW")
    with bpy.context.temp_override(window=window, area=area, region=region):
        bpy.ops.clip.delete_track()
    assert name not in owner.tracks


def test_a_copy_of_the_clip_goes_its_own_way(clip: Any) -> None:
    write_keypoints(clip, keypoints(FRAMES), 1)
    drag(clip, WRIST, 8, 6, 0)
    copy = clip.copy()
    drag(copy, WRIST, 9, 6, 0)
    assert np.flatnonzero(corrected_rows(clip, 1)).tolist() == [7]
    assert np.flatnonzero(corrected_rows(copy, 1)).tolist() == [7, 8]


def test_a_file_and_undo_keep_keypoints_and_corrections(clip: Any, tmp_path: Path) -> None:
    track = keypoints(FRAMES)
    write_keypoints(clip, track, 1)
    bpy.ops.ed.undo_push(message="written")
    drag(clip, WRIST, 8, 6, 0)
    bpy.ops.ed.undo_push(message="dragged")
    bpy.ops.ed.undo()
    assert same(read_keypoints(bpy.data.movieclips[0], 1), track)
    bpy.ops.ed.redo()
    assert np.flatnonzero(corrected_rows(bpy.data.movieclips[0], 1)).tolist() == [7]
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "work.blend"))
    empty_scene()
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "work.blend"))
    (loaded,) = bpy.data.movieclips
    assert np.flatnonzero(corrected_rows(loaded, 1)).tolist() == [7]
    assert same(read_keypoints(loaded, 1), replace_row(track, loaded))


def replace_row(track: KeypointTrack, clip: Any) -> KeypointTrack:
    """The track with what was dragged above."""
    xy_px, confidence, changes = track.xy_px.copy(), track.confidence.copy(), track.changes.copy()
    xy_px[7, WRIST, 0] += 6
    confidence[7, WRIST], changes[7, WRIST] = 1, Change.CORRECTED
    return replace(track, xy_px=xy_px, confidence=confidence, changes=changes)


# ---- Detected again -------------------------------------------------------------------------------------------------


def test_corrections_outlive_a_better_detection(clip: Any) -> None:
    write_keypoints(clip, keypoints(FRAMES), 1)
    drag(clip, WRIST, 8, 6, 0)
    marker(clip, ELBOW, 3).mute = True
    where = read_keypoints(clip, 1).xy_px[7, WRIST]
    better = keypoints(FRAMES)
    better.xy_px[:] += 0.7
    told = write_keypoints(clip, better, 1)
    assert told == ["2 corrections of person 1 were kept"]
    back = read_keypoints(clip, 1)
    assert back.xy_px[7, WRIST] == pytest.approx(where, abs=1e-3), "where the artist put it"
    assert np.isnan(back.xy_px[2, ELBOW]).all()
    assert np.argwhere(back.changes == Change.CORRECTED).tolist() == [[2, ELBOW], [7, WRIST]]
    assert np.allclose(back.xy_px[8], better.xy_px[8], atol=1e-3)
    assert [owner.name for owner in clip.tracking.objects] == ["Camera", "Keylift person 1"]


def test_corrections_follow_the_person_however_people_are_counted(clip: Any) -> None:
    hero, villain = keypoints(FRAMES), keypoints(FRAMES, person=2)
    write_everybody(clip, [hero, villain])
    drag(clip, WRIST, 8, 6, 0, person=1)
    write_everybody(clip, [villain, hero])
    assert not corrected_rows(clip, 1).any()
    assert np.flatnonzero(corrected_rows(clip, 2)).tolist() == [7]
    assert len(clip.tracking.objects) == 3
    told = write_everybody(clip, [hero])
    assert people(clip) == [1] and np.flatnonzero(corrected_rows(clip, 1)).tolist() == [7]
    assert len(clip.tracking.objects) == 2, told


@pytest.mark.parametrize(
    "change",
    [
        lambda track: replace(track, source=Source("other.mp4", "1" * 64)),
        lambda track: keypoints(FRAMES, layout="coco17"),
        lambda track: replace(track, xy_px=track.xy_px + 40.0),
        lambda track: replace(track, frame_index=track.frame_index + 12, time_s=track.time_s + 12 / 25),
    ],
    ids=["footage", "layout", "person", "range"],
)
def test_corrections_that_find_no_place_stay_as_tracks_of_their_own(
    clip: Any, change: Callable[[KeypointTrack], KeypointTrack]
) -> None:
    track = keypoints(FRAMES)
    write_keypoints(clip, track, 1)
    drag(clip, WRIST, 8, 6, 0)
    other = change(track)
    (told,) = write_keypoints(clip, other, 1)
    assert "1 corrections have no place" in told
    assert same(read_keypoints(clip, 1), other)
    aside = clip.tracking.objects["Keylift person 1 (before)"]
    assert aside.tracks["left_wrist"].markers.find_frame(8).is_keyed
    # Without corrections nothing is left over.
    write_keypoints(clip, track, 1)
    write_keypoints(clip, other, 1)
    assert [owner.name for owner in clip.tracking.objects if not owner.is_camera].count("Keylift person 1") == 1
    assert len(clip.tracking.objects) == 3


def test_tracks_that_the_artist_put_beside_ours_stay(clip: Any) -> None:
    write_keypoints(clip, keypoints(FRAMES), 1)
    sword = tracking_object(clip, 1).tracks.new(name="sword", frame=1)
    sword.markers.insert_frame(5, co=(0.2, 0.3))
    write_keypoints(clip, keypoints(FRAMES), 1)
    assert tuple(tracking_object(clip, 1).tracks["sword"].markers.find_frame(5).co) == pytest.approx((0.2, 0.3))
    remove_keypoints(clip, 1)
    assert people(clip) == []
    assert "sword" in clip.tracking.objects["Keylift person 1 (before)"].tracks


def test_people_can_be_taken_out(clip: Any) -> None:
    write_everybody(clip, [keypoints(FRAMES), keypoints(FRAMES, person=2)])
    assert remove_keypoints(clip, 1) == []
    assert people(clip) == [2] and len(clip.tracking.objects) == 2


def test_the_active_tracking_object_stays_active(clip: Any) -> None:
    write_everybody(clip, [keypoints(FRAMES)])
    assert clip.tracking.objects.active.is_camera
    assert show_person(clip, 1) and clip.tracking.objects.active == tracking_object(clip, 1)


def test_three_thousand_frames_take_no_time(clip: Any) -> None:
    """0.6 s to write, 0.05 s to read where nothing else runs."""
    track = keypoints(3000)
    began = time.perf_counter()
    write_keypoints(clip, track, 1)
    wrote = time.perf_counter()
    read_keypoints(clip, 1)
    read = time.perf_counter()
    assert wrote - began < 3 and read - wrote < 1


# ---- Hostile files --------------------------------------------------------------------------------------------------


def damaged(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda kept: {**kept, "stamp": "other", **changes}


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: 5,
        lambda kept: b"nonsense",
        lambda kept: {},
        lambda kept: {**kept, "stamp": 3},
        damaged(keypoints=b"PK\x03\x04nonsense"),
        damaged(keypoints="words"),
        damaged(keypoints=b""),
        damaged(frames=[1, 2, 3]),
        damaged(frames=list(range(FRAMES))[::-1]),
        damaged(frames=[0.5] * FRAMES),
        damaged(frames="words"),
        damaged(turn=[1, 1, 1, 1]),
        damaged(turn=[1, 0, 0]),
        damaged(object=7),
    ],
)
def test_a_file_from_anywhere_is_not_trusted(clip: Any, damage: Callable[[dict[str, Any]], Any]) -> None:
    write_keypoints(clip, keypoints(FRAMES), 1)
    clip["keylift_person_1"] = damage(clip["keylift_person_1"].to_dict())
    assert people(clip) == [1]
    for read in (read_keypoints, corrected_rows):
        with pytest.raises(FileFormatError, match="damaged.*Press Detect"):
            read(clip, 1)
    # Detecting again is the way out.
    write_everybody(clip, [keypoints(FRAMES)])
    assert same(read_keypoints(clip, 1), keypoints(FRAMES))


def test_what_would_fill_the_memory_is_not_unpacked(clip: Any) -> None:
    write_keypoints(clip, keypoints(FRAMES), 1)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "abc":
            archive.writestr(f"{name}.npy", bytes(100 << 20))
    clip["keylift_person_1"] = damaged(keypoints=packed.getvalue())(clip["keylift_person_1"].to_dict())
    with pytest.raises(FileFormatError, match="far larger than keypoints ever are"):
        read_keypoints(clip, 1)


def test_a_linked_clip_is_told(clip: Any, tmp_path: Path) -> None:
    clip.use_fake_user = True
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    empty_scene()
    with bpy.data.libraries.load(str(tmp_path / "library.blend"), link=True) as (_, linked):
        linked.movieclips = ["film.mp4"]
    with pytest.raises(KeyliftError, match="linked from another file"):
        write_keypoints(bpy.data.movieclips[0], keypoints(FRAMES), 1)
