"""The buttons, from footage to keyframes, called as a script calls them: real footage, real worker, one undo step."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

import keylift
from footage_samples import full_model, numbered_pictures, real_clip, write_video
from keylift.addon import scene_jobs
from keylift.addon.worker_client import Worker
from keylift.core.pose_model import BUNDLE_NAMES
from keylift.core.track_files import read_pose
from rig_samples import empty_scene, evaluated, make_rig

FRAMES = 28


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all, so that the footage is looked at once."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "models").mkdir()
    shutil.copyfile(full_model(), folder / "models" / BUNDLE_NAMES["full"])
    return folder


@pytest.fixture(scope="module")
def idle() -> Iterator[list[Worker]]:
    """The worker that a test has left with nothing to do, for the next one: to start one takes seconds."""
    left: list[Worker] = []
    yield left
    for worker in left:
        worker.stop()


@pytest.fixture(autouse=True)
def registered(cache: Path, idle: list[Worker], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("KEYLIFT_CACHE", str(cache))
    queue, start = scene_jobs.queue, scene_jobs.queue._start_worker
    monkeypatch.setattr(queue, "_start_worker", lambda: idle.pop() if idle and idle[0].alive else start())
    empty_scene()
    keylift.register()
    yield
    # Otherwise it would end with the add-on.
    if queue.worker_pid is not None and not queue.jobs:
        assert queue._worker is not None and not idle
        idle.append(queue._worker)
        queue._worker = None
    keylift.unregister()


def settings() -> Any:
    return bpy.context.scene.keylift


@pytest.fixture
def clip() -> Any:
    assert bpy.ops.keylift.open_footage(filepath=str(real_clip("cam03.mp4"))) == {"FINISHED"}
    settings().use_range, settings().first, settings().last = True, 11, 10 + FRAMES
    return settings().clip


def last_words() -> str:
    words = scene_jobs.last_words(bpy.context.scene)
    assert words is not None
    return words[1]


def test_one_button_goes_all_the_way_in_one_undo_step(clip: Any) -> None:
    hero = make_rig("mixamo")
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.keylift.capture("EXEC_DEFAULT", True) == {"FINISHED"}
    scene = bpy.context.scene
    take = settings().takes[0]
    assert take.action == hero.animation_data.action and take.frames == FRAMES and take.clip == clip
    # The scene got the footage's rate, and the take lies where the clip shows it.
    assert scene.render.fps == 60 and (scene.frame_start, scene.frame_end) == (11, 10 + FRAMES)
    assert tuple(hero.animation_data.action.frame_range) == pytest.approx((11, 10 + FRAMES))
    assert scene.camera is not None and scene.camera.data.background_images[0].clip == clip
    moved = evaluated(hero, [11, 10 + FRAMES], ("mixamorig:LeftHand",))
    assert np.abs(moved[1] - moved[0]).max() > 0.01
    from keylift.addon.clip_keypoints import people

    assert people(clip) == [1]
    assert "Keyed" in last_words()
    bpy.ops.ed.undo()
    assert not settings().takes and not len(bpy.data.actions) and people(bpy.data.movieclips[0]) == []
    assert bpy.context.scene.render.fps == 24 and bpy.context.scene.camera is None
    bpy.ops.ed.redo()
    assert settings().takes[0].action is not None and people(bpy.data.movieclips[0]) == [1]


def test_without_an_armature_a_figure_shows_the_motion(clip: Any) -> None:
    assert bpy.ops.keylift.capture() == {"FINISHED"}
    take = settings().takes[0]
    assert take.figure is not None and take.action is None
    hero = make_rig("game_engine")
    assert bpy.ops.keylift.retarget() == {"FINISHED"} and hero.animation_data.action == take.action
    assert bpy.ops.keylift.delete_take() == {"FINISHED"}
    assert not any("figure" in thing.name for thing in bpy.data.objects)


def test_step_by_step_with_a_correction_and_undone(clip: Any) -> None:
    from keylift.addon.clip_keypoints import read_keypoints, tracks_of

    hero = make_rig("mixamo")
    assert bpy.ops.keylift.lift.poll() is False
    assert bpy.ops.keylift.detect() == {"FINISHED"} and "1 person was found" in last_words()
    assert bpy.ops.keylift.lift() == {"FINISHED"} and bpy.ops.keylift.retarget() == {"FINISHED"}
    take = settings().takes[0]
    before = read_pose(Path(take.pose_file))
    assert bpy.ops.keylift.relift() == {"FINISHED"} and "No keypoint has changed" in last_words()
    bpy.ops.ed.undo_push(message="before")
    wrist = next(track for track in tracks_of(clip, 1) if track.name == "left_wrist")
    marker = wrist.markers.find_frame(31)
    marker.co = (marker.co[0] + 0.05, marker.co[1] + 0.02)
    row = int(np.flatnonzero(read_keypoints(clip, 1).corrected.any(axis=1))[0])
    # What is chosen for the next take has no say in this one.
    settings().weights = "causal"
    assert bpy.ops.keylift.relift("EXEC_DEFAULT", True) == {"FINISHED"}
    assert "frames were lifted anew" in last_words()
    take = settings().takes[0]
    after = read_pose(Path(take.pose_file))
    moved_m = np.linalg.norm(after.positions_m - before.positions_m, axis=-1)
    assert moved_m[row].max() > 0.02
    assert take.action == bpy.data.objects[hero.name].animation_data.action and len(settings().takes) == 1
    bpy.ops.ed.undo()
    assert np.allclose(read_pose(Path(settings().takes[0].pose_file)).positions_m, before.positions_m)


def test_keypoints_that_are_there_are_not_looked_for_again(clip: Any) -> None:
    bpy.ops.keylift.detect()
    bpy.ops.keylift.capture()
    took = scene_jobs.queue
    assert took.jobs == [] and len(settings().takes) == 1
    settings().last = 8 + FRAMES
    # Another range is another detection.
    bpy.ops.keylift.capture()
    assert [take.frames for take in settings().takes] == [FRAMES, FRAMES - 2]


def test_what_is_missing_is_said_by_the_greyed_out_button() -> None:
    with pytest.raises(RuntimeError, match="Open footage first"):
        bpy.ops.keylift.capture()
    with pytest.raises(RuntimeError, match="no take is chosen"):
        bpy.ops.keylift.relift()
    with pytest.raises(RuntimeError, match="Nothing runs"):
        bpy.ops.keylift.cancel()


def test_footage_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no film")
    with pytest.raises(RuntimeError, match="Blender can"):
        bpy.ops.keylift.open_footage(filepath=str(tmp_path / "x.mp4"))
    assert settings().clip is None


def test_footage_that_has_gone_is_told_and_the_next_click_works(tmp_path: Path) -> None:
    film = tmp_path / "film.mp4"
    shutil.copyfile(real_clip("cam03.mp4"), film)
    bpy.ops.keylift.open_footage(filepath=str(film))
    settings().use_range, settings().first, settings().last = True, 11, 10 + FRAMES
    film.rename(tmp_path / "moved.mp4")
    with pytest.raises(RuntimeError, match="no longer where it was"):
        bpy.ops.keylift.capture()
    assert "no longer where it was" in last_words() and not settings().takes
    (tmp_path / "moved.mp4").rename(film)
    assert bpy.ops.keylift.capture() == {"FINISHED"}


def test_a_clip_with_nobody_in_it(tmp_path: Path) -> None:
    write_video(tmp_path / "room.mp4", numbered_pictures(12))
    bpy.ops.keylift.open_footage(filepath=str(tmp_path / "room.mp4"))
    with pytest.raises(RuntimeError, match="Nobody was found in 'room.mp4'"):
        bpy.ops.keylift.capture()
    assert not settings().takes and not len(bpy.data.actions)


def test_a_person_who_is_not_there(clip: Any) -> None:
    settings().person = 3
    with pytest.raises(RuntimeError, match="no person 3"):
        bpy.ops.keylift.capture()
    assert not settings().takes


def test_a_rig_that_is_no_body_is_told_before_the_work(clip: Any) -> None:
    from rig_samples import make_armature

    make_armature("lamp", [["a", None, [0, 0, 0], [0, 0, 1], 0.0, False], ["b", "a", [0, 0, 1], [0, 0, 2], 0.0, True]])
    with pytest.raises(RuntimeError, match="lamp"):
        bpy.ops.keylift.capture()
    assert scene_jobs.queue.worker_pid is None, "nothing was begun"


def test_an_armature_deleted_meanwhile_leaves_the_take_on_a_figure(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hero = make_rig("mixamo")
    run = scene_jobs.queue.run_to_its_end

    def run_and_delete(job: Any) -> None:
        run(job)
        bpy.data.objects.remove(bpy.data.objects[hero_name])

    hero_name = hero.name
    monkeypatch.setattr(scene_jobs.queue, "run_to_its_end", run_and_delete)
    assert bpy.ops.keylift.capture() == {"FINISHED"}
    assert settings().takes[0].figure is not None and settings().takes[0].action is None
    assert "was deleted while the job ran" in last_words()


def test_a_scene_or_clip_deleted_meanwhile_is_told(clip: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run = scene_jobs.queue.run_to_its_end
    name = clip.name

    def run_and_delete(job: Any) -> None:
        run(job)
        bpy.data.movieclips.remove(bpy.data.movieclips[name])

    monkeypatch.setattr(scene_jobs.queue, "run_to_its_end", run_and_delete)
    with pytest.raises(RuntimeError, match="was deleted while the job ran"):
        bpy.ops.keylift.capture()
    assert not settings().takes


def test_a_cache_that_cannot_be_written_names_the_preferences(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RuntimeError, match="preferences"):
        bpy.ops.keylift.capture()


def test_two_scenes_keep_to_themselves(clip: Any) -> None:
    first = bpy.context.scene
    second = bpy.data.scenes.new("Second")
    second.keylift.clip = clip
    second.keylift.use_range, second.keylift.first, second.keylift.last = True, 11, 10 + FRAMES
    bpy.ops.keylift.capture()
    assert len(first.keylift.takes) == 1 and not second.keylift.takes
    with bpy.context.temp_override(scene=second, view_layer=second.view_layers[0]):
        bpy.ops.keylift.capture()
    assert len(first.keylift.takes) == 1 and len(second.keylift.takes) == 1
    assert second.keylift.takes[0].figure.name in second.objects
    assert second.keylift.takes[0].figure.name not in first.objects
    assert scene_jobs.owner_of(first) != scene_jobs.owner_of(second)


def test_a_linked_armature_gets_an_override(clip: Any, tmp_path: Path) -> None:
    make_rig("mixamo")
    library = tmp_path / "library.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(library))
    empty_scene()
    with bpy.data.libraries.load(str(library), link=True) as (source, target):
        target.objects = ["mixamo"]
    bpy.context.scene.collection.objects.link(bpy.data.objects["mixamo"])
    bpy.ops.keylift.open_footage(filepath=str(real_clip("cam03.mp4")))
    settings().use_range, settings().first, settings().last = True, 11, 10 + FRAMES
    assert bpy.ops.keylift.capture() == {"FINISHED"}
    armature = settings().takes[0].armature
    assert armature.override_library is not None and armature.animation_data.action == settings().takes[0].action


def test_opening_another_file_ends_the_worker(clip: Any) -> None:
    assert bpy.ops.keylift.self_test() == {"FINISHED"}
    assert scene_jobs.queue.worker_pid is not None
    empty_scene()
    assert scene_jobs.queue.worker_pid is None


def test_the_lens_of_the_clip_is_put_to_use(clip: Any) -> None:
    bpy.ops.keylift.lift.poll()
    bpy.ops.keylift.detect()
    bpy.ops.keylift.lift()
    guessed = read_pose(Path(settings().takes[0].pose_file)).camera
    camera = clip.tracking.camera
    camera.sensor_width, camera.focal_length = 36.0, 50.0
    bpy.ops.keylift.lift()
    told = read_pose(Path(settings().takes[1].pose_file)).camera
    assert told.focal_px[0] == pytest.approx(50 / 36 * clip.size[0], rel=1e-3)
    assert abs(told.focal_px[0] / guessed.focal_px[0] - 1) > 0.05
