"""Adapt to My Footage: asked, paused, gone on with, cancelled; with a worker that keeps what the command promises."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

import keylift
import learning_double
from clip_samples import film, keypoints
from keylift.addon import adapt_operators, adaptation_watch, scene_jobs
from keylift.addon.adaptation_watch import adaptations_folder, known_runs, watch
from keylift.addon.jobs import State
from keylift.addon.preferences import worker_variables
from keylift.addon.worker_client import WorkerProgram
from rig_samples import empty_scene

DOUBLE = Path(learning_double.__file__)


@dataclass(frozen=True)
class DoubleProgram(WorkerProgram):
    """The double, in place of the worker."""

    def command(self, *argv: str) -> list[str]:
        return [str(self.python), str(DOUBLE)]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(
        adaptation_watch,
        "worker_program",
        lambda: DoubleProgram(Path(sys.executable), tmp_path, worker_variables(bpy.context)),
    )
    empty_scene()
    keylift.register()
    yield
    keylift.unregister()


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """How the worker is to go on."""
    return lambda **how: monkeypatch.setenv("KEYLIFT_DOUBLE", json.dumps(how))


@pytest.fixture
def clip(tmp_path: Path) -> Any:
    assert bpy.ops.keylift.open_footage(filepath=str(film(tmp_path / "dance.mp4", 12))) == {"FINISHED"}
    return settings().clip


def settings() -> Any:
    return bpy.context.scene.keylift


def choices() -> Any:
    return settings().adaptation


def asked() -> list[str]:
    """The arguments of the newest run."""
    newest = max(adaptations_folder().glob("*/asked.json"), key=lambda path: path.stat().st_mtime)
    return json.loads(newest.read_text(encoding="utf-8"))


def footage_asked() -> list[str]:
    """What it was to learn from."""
    return list(itertools.takewhile(lambda word: not word.startswith("--"), asked()[1:]))


def begin() -> None:
    """As the button does it in a window, where nobody waits."""
    operator = adapt_operators.KEYLIFT_OT_adapt_to_footage
    flow, folder, warnings = operator.begin(operator, bpy.context)  # type: ignore[arg-type]
    watch.begin(bpy.context.scene, flow, folder, "Learning", adapt_operators.apply_outcome, warnings)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, (watch.job, watch.words)
        watch.tick()
        time.sleep(0.005)


def is_learning() -> bool:
    return watch.job is not None and watch.job.at == "learn" and watch.job.fraction > 0.1


def unfinished() -> list[str]:
    adaptation_watch.forget_runs()
    return [run.name for run in known_runs().unfinished]


def test_better_weights_are_used_from_then_on_as_one_undo_step(clip: Any) -> None:
    choices().minutes = 5
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.keylift.adapt_to_footage("EXEC_DEFAULT", True) == {"FINISHED"}
    assert settings().weights == "my-footage"
    icon, words = watch.words or ("", "")
    assert icon == "CHECKMARK" and "is better, and 'Scene' is lifted with it from now on: 5.9 %" in words
    assert "Left out empty.mp4: nobody is seen" in words
    assert asked()[0] == "adapt" and footage_asked() == [bpy.path.abspath(clip.filepath)]
    assert {"--base=default", "--name=my-footage", "--minutes=5", "--person=1"} <= set(asked())
    bpy.ops.ed.undo()
    assert settings().weights == "default"
    bpy.ops.ed.redo()
    assert settings().weights == "my-footage" and unfinished() == []


def test_weights_that_are_not_better_leave_the_scene_as_it_was(clip: Any, double: Callable[..., None]) -> None:
    double(better=False)
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    assert settings().weights == "default"
    icon, words = watch.words or ("", "")
    assert icon == "INFO" and "is not better, and the scene keeps 'default': 1.2 %" in words
    assert "my-footage" in {row.name for row in bpy.context.window_manager.keylift_weights.rows}


def test_a_name_is_not_given_twice(clip: Any) -> None:
    for name in ("my-footage", "my-footage-2"):
        assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
        assert settings().weights == name
    choices().name = "../elsewhere"
    with pytest.raises(RuntimeError, match="can't be called"):
        bpy.ops.keylift.adapt_to_footage()


def test_paused_it_goes_on_even_in_another_blender(clip: Any, double: Callable[..., None]) -> None:
    double(step_s=0.1)
    begin()
    until(is_learning)
    assert not bpy.ops.keylift.adapt_to_footage.poll()
    with pytest.raises(RuntimeError, match="learns from footage already"):
        bpy.ops.keylift.adapt_to_footage()
    assert bpy.ops.keylift.pause_adaptation() == {"FINISHED"}
    until(lambda: watch.job is None)
    assert "Paused" in (watch.words or ("", ""))[1] and settings().weights == "default"
    keylift.unregister()
    empty_scene()
    keylift.register()
    (run,) = known_runs().unfinished
    assert (run.name, run.base, run.steps, run.elsewhere) == ("my-footage", "default", 20, False) and run.step > 0
    double()
    assert bpy.ops.keylift.resume_adaptation(run=run.folder.name) == {"FINISHED"}
    log = json.loads((run.folder / "log.json").read_text(encoding="utf-8"))
    assert [entry["step"] for entry in log] == list(range(21)), "nothing was learnt twice"
    assert settings().weights == "my-footage" and unfinished() == []


def test_cancelled_it_leaves_nothing(clip: Any, double: Callable[..., None]) -> None:
    double(step_s=0.1, deaf=True)
    begin()
    until(is_learning)
    assert bpy.ops.keylift.cancel_adaptation() == {"FINISHED"}
    began = time.monotonic()
    until(lambda: watch.job is None)
    assert time.monotonic() - began < 2, "a worker that does not listen is ended"
    assert "Nothing of it is kept" in (watch.words or ("", ""))[1]
    assert list(adaptations_folder().iterdir()) == [] and watch.queue.worker_pid is None


def test_a_pause_waits_for_what_is_being_written(
    clip: Any, double: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    double(step_s=1.5)
    begin()
    until(lambda: watch.job is not None and watch.job.at == "learn")
    bpy.ops.keylift.pause_adaptation()
    until(lambda: watch.job is None)
    (run,) = known_runs().unfinished
    log = json.loads((run.folder / "log.json").read_text(encoding="utf-8"))
    assert [entry["step"] for entry in log] == [0, 1] and "Paused" in (watch.words or ("", ""))[1], (
        "the step was brought to its end"
    )


def test_a_killed_worker_loses_no_more_than_since_the_last_save(clip: Any, double: Callable[..., None]) -> None:
    double(step_s=0.1)
    begin()
    until(is_learning)
    pid = watch.queue.worker_pid
    assert pid is not None
    os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    until(lambda: watch.job is None)
    icon, words = watch.words or ("", "")
    assert icon == "ERROR" and "Resume goes on" in words and unfinished() == ["my-footage"]


def test_what_failed_for_good_before_anything_was_learnt_is_cleared_away(
    clip: Any, double: Callable[..., None]
) -> None:
    double(fails="Nobody is seen in any of the footage. Choose other clips.")
    with pytest.raises(RuntimeError, match="Nobody is seen"):
        bpy.ops.keylift.adapt_to_footage()
    assert list(adaptations_folder().iterdir()) == []
    double(fails="The disk is full.", exit_code=75)
    with pytest.raises(RuntimeError, match="The disk is full"):
        bpy.ops.keylift.adapt_to_footage()
    assert unfinished() == ["my-footage"], "a retry may help"
    assert bpy.ops.keylift.discard_adaptation() == {"FINISHED"} and unfinished() == []


def test_a_run_that_another_blender_is_at_is_left_alone(clip: Any, double: Callable[..., None]) -> None:
    double(fails="The disk is full.", exit_code=75)
    with pytest.raises(RuntimeError):
        bpy.ops.keylift.adapt_to_footage()
    (run,) = known_runs().unfinished
    (run.folder / "in-use").touch()
    for operator in (bpy.ops.keylift.resume_adaptation, bpy.ops.keylift.discard_adaptation):
        with pytest.raises(RuntimeError, match="Another Blender"):
            operator(run=run.folder.name)
    assert run.folder.is_dir()


def test_another_file_is_opened_meanwhile(clip: Any, double: Callable[..., None]) -> None:
    double(step_s=0.05)
    begin()
    until(is_learning)
    empty_scene()
    assert watch.job is not None and watch.job.state is State.RUNNING, "it is of no file"
    until(lambda: watch.job is None)
    assert settings().weights == "default", "this scene did not ask for it"
    assert "choose it in the list" in (watch.words or ("", ""))[1]


def test_footage_can_be_captured_meanwhile(clip: Any, double: Callable[..., None]) -> None:
    double(step_s=0.05)
    begin()
    until(is_learning)
    assert bpy.ops.keylift.detect.poll() and scene_jobs.job_of(bpy.context.scene) is None
    assert watch.queue is not scene_jobs.queue


def test_what_is_edited_is_not_disturbed(clip: Any) -> None:
    bpy.ops.mesh.primitive_cube_add()
    begin()
    bpy.ops.object.mode_set(mode="EDIT")
    until(lambda: watch.job is not None and watch.job.over)
    watch.tick()
    assert watch.job is not None and settings().weights == "default"
    bpy.ops.object.mode_set(mode="OBJECT")
    watch.tick()
    assert watch.job is None and settings().weights == "my-footage"


def test_corrections_travel_beside_what_was_detected(clip: Any) -> None:
    from keylift.addon.clip_keypoints import tracks_of, write_everybody
    from keylift.core.track_files import read_keypoints

    write_everybody(clip, [keypoints(12), keypoints(12, person=2)])
    marker = next(track for track in tracks_of(clip, 2) if track.name == "left_wrist").markers.find_frame(5)
    marker.co = (marker.co[0] + 0.1, marker.co[1])
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    footage = [Path(word) for word in footage_asked()]
    corrections = [Path(word.partition("=")[2]) for word in asked() if word.startswith("--corrections=")]
    assert len(set(footage)) == 2 and len(corrections) == 1, "the chosen person, and whoever was corrected"
    before, after = read_keypoints(footage[1]), read_keypoints(corrections[0])
    assert before.person == after.person and before.source.sha256 == after.source.sha256 != ""
    moved = np.linalg.norm(after.xy_px - before.xy_px, axis=-1) > 1
    assert moved.sum() == 1 and after.corrected[moved].all() and not before.corrected.any()
    choices().use_corrections = False
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    assert not any(word.startswith("--corrections") for word in asked())
    assert len(footage_asked()) == 1


def test_the_choices_of_the_scene_are_about_its_own_clip(clip: Any) -> None:
    settings().use_range, settings().first, settings().last = True, 3, 9
    settings().person, settings().repair = 2, False
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    assert "--no-repair --frames 2-8 --person=2" in " ".join(asked())
    choices().source = "ALL"
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    assert "--no-repair" in asked() and "--frames" not in asked() and "--person=2" not in asked()


def test_the_lens_of_the_clip_travels_along(clip: Any) -> None:
    clip.tracking.camera.sensor_width, clip.tracking.camera.focal_length = 36.0, 50.0
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    (camera,) = (word.partition("=")[2] for word in asked() if word.startswith("--camera="))
    assert Path(camera).is_file() and Path(camera).parent.name == "inputs"
    settings().lens = "ESTIMATE"
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    assert not any(word.startswith("--camera") for word in asked())


def test_a_folder_of_films(clip: Any, tmp_path: Path) -> None:
    choices().source = "FOLDER"
    with pytest.raises(RuntimeError, match="Choose the folder"):
        bpy.ops.keylift.adapt_to_footage()
    choices().folder = str(tmp_path / "nowhere")
    with pytest.raises(RuntimeError, match="There is no folder"):
        bpy.ops.keylift.adapt_to_footage()
    assert not adaptations_folder().exists() or not list(adaptations_folder().iterdir())
    choices().folder = str(tmp_path)
    choices().motion = str(tmp_path / "dance.mp4")
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    assert footage_asked() == [str(tmp_path.resolve())] and f"--motion={tmp_path / 'dance.mp4'}" in asked()


def test_characters_are_refused_before_the_work_where_nobody_can_read_them(
    clip: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Managed:
        environment, device = "MANAGED", "cpu"

    (tmp_path / "motion" / "deep").mkdir(parents=True)
    choices().motion = str(tmp_path / "motion")
    monkeypatch.setattr(adapt_operators, "preferences_of", lambda context: Managed)
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    (tmp_path / "motion" / "deep" / "hero.FBX").write_bytes(b"")
    with pytest.raises(RuntimeError, match=r"'hero.FBX' holds an animated character"):
        bpy.ops.keylift.adapt_to_footage()
    Managed.environment = "OWN"
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}


def test_all_clips_but_those_that_cannot_be_learnt_from(clip: Any, tmp_path: Path) -> None:
    gone = film(tmp_path / "gone.mp4", 3)
    bpy.data.movieclips.load(str(gone))
    gone.unlink()
    choices().source = "ALL"
    assert bpy.ops.keylift.adapt_to_footage() == {"FINISHED"}
    assert footage_asked() == [str((tmp_path / "dance.mp4").resolve())]
    assert "Left out gone.mp4: its film is no longer" in (watch.words or ("", ""))[1]


def test_what_is_missing_is_said_by_the_greyed_out_button() -> None:
    with pytest.raises(RuntimeError, match="Open footage first"):
        bpy.ops.keylift.adapt_to_footage()
    with pytest.raises(RuntimeError, match="Nothing is being learnt"):
        bpy.ops.keylift.pause_adaptation()
    with pytest.raises(RuntimeError, match="No run was left unfinished"):
        bpy.ops.keylift.resume_adaptation()


def test_the_extension_can_be_disabled_while_it_learns(clip: Any, double: Callable[..., None]) -> None:
    double(step_s=0.1)
    begin()
    until(is_learning)
    pid = watch.queue.worker_pid
    keylift.unregister()
    assert pid is not None and not Path(f"/proc/{pid}").exists()
    keylift.register()
    assert unfinished() == ["my-footage"] and not known_runs().unfinished[0].elsewhere
