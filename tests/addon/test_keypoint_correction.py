"""Keypoints corrected as an artist does it, on a real clip: found, swapped, disabled, spread, restored, exported."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import av
import bpy

import keylift
from keylift.addon.clip_keypoints import detection_of, read_keypoints, tracks_of, write_everybody
from keylift.core.skeletons import MEDIAPIPE_33_NAMES, mirrored_layout
from keylift.core.track_files import read_keypoints as read_file
from keylift.core.tracks import Change, KeypointTrack, Source
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
    along = np.arange(FRAMES)[:, None] / FRAMES
    spread = np.arange(33)[None] / 33
    xy_px = np.stack([10 + 40 * spread + 10 * along + 20 * person, 5 + 50 * spread + 0 * along], axis=-1)
    confidence = np.full((FRAMES, 33), 0.9)
    confidence[8:11], confidence[18:20] = 0.3, 0.3
    return KeypointTrack(
        xy_px=xy_px,
        confidence=confidence,
        time_s=np.arange(FRAMES) / 25,
        frame_index=np.arange(FRAMES),
        layout="mediapipe33",
        size_px=(96, 64),
        filled=np.zeros(FRAMES, bool),
        source=Source("film.mp4", "0" * 64),
        person=person,
    )


def write_film(path: Path) -> None:
    """So many grey pictures, 25 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(FRAMES):
            picture = av.VideoFrame.from_ndarray(np.full((64, 96, 3), 128, np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    write_film(tmp_path / "film.mp4")
    clip = bpy.data.movieclips.load(str(tmp_path / "film.mp4"))
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
    """As the mouse does: markers count from 0 to 1, up."""
    marker = tracks_of(clip, 1)[point].markers.find_frame(row + 1)
    marker.co = (marker.co[0] + x_px / 96, marker.co[1] - y_px / 64)


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
