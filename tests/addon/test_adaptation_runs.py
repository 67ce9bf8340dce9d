"""Folders of runs, whoever wrote them: which can be gone on with, which are finished, which are none."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from keylift.addon import adaptation_runs
from keylift.addon.adapt_flow import AdaptationJob, AdaptChoice, Adapted, adapting, resuming
from keylift.addon.adaptation_runs import all_runs, checked_name, discard, free_name, mark_free, mark_in_use
from keylift.addon.jobs import State
from keylift.core.errors import KeyliftError
from keylift.core.worker_messages import Progressed
from keylift.shell.command_line import make_parser


def begun(folder: Path, name: str = "studio", steps: int | None = 500) -> Path:
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"name": name, "base": "default"}), encoding="utf-8")
    if steps is not None:
        (folder / "adapt.toml").write_text(f'name = "{name}"\n\n[loop]\nsteps = {steps}\n', encoding="utf-8")
    return folder


def finished(folder: Path, name: str = "studio") -> Path:
    begun(folder, name)
    (folder / "result.json").write_text(json.dumps({"name": name, "verdict": "better"}), encoding="utf-8")
    (folder / "report.html").write_text("<p>", encoding="utf-8")
    return folder


def test_what_is_unfinished_tells_how_far_it_is(tmp_path: Path) -> None:
    folder = begun(tmp_path / "one")
    (folder / "log.json").write_text('[{"step": 0}, {"step": 120}]', encoding="utf-8")
    (run,) = all_runs(tmp_path).unfinished
    assert (run.folder, run.name, run.base, run.step, run.steps, run.elsewhere) == (
        folder,
        "studio",
        "default",
        120,
        500,
        False,
    )


def test_before_the_footage_was_gone_through_nobody_knows_how_many_steps_there_will_be(tmp_path: Path) -> None:
    begun(tmp_path / "one", steps=None)
    (run,) = all_runs(tmp_path).unfinished
    assert (run.name, run.step, run.steps) == ("studio", 0, 0)


def test_what_was_saved_counts_even_if_nothing_was_measured_since(tmp_path: Path) -> None:
    folder = begun(tmp_path / "one")
    (folder / "log.json").write_text('[{"step": 100}]', encoding="utf-8")
    (folder / "checkpoints").mkdir()
    for name in ("step-000000150.safetensors", "step-000000999.damaged", "notes.txt"):
        (folder / "checkpoints" / name).write_bytes(b"")
    assert all_runs(tmp_path).unfinished[0].step == 150


def test_finished_runs_have_a_report_and_are_not_gone_on_with(tmp_path: Path) -> None:
    older = finished(tmp_path / "older")
    newer = finished(tmp_path / "newer")
    os.utime(older, (1, 1))
    runs = all_runs(tmp_path)
    assert not runs.unfinished and [run.folder for run in runs.finished] == [newer, older]
    assert runs.report_of("studio") == newer / "report.html" and runs.report_of("another") is None
    (newer / "report.html").unlink()
    assert all_runs(tmp_path).report_of("studio") == older / "report.html"


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    assert all_runs(tmp_path / "nowhere").unfinished == ()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name, content in (("words", b"no toml ="), ("bytes", b"\xff\xfe"), ("large", b"# " + b"x" * (2 << 20))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapt.toml").write_bytes(content)
        (tmp_path / name / "result.json").write_bytes(content)
    elsewhere = begun(tmp_path.parent / f"{tmp_path.name}-elsewhere")
    (tmp_path / "link").symlink_to(elsewhere, target_is_directory=True)
    runs = all_runs(tmp_path)
    assert runs.unfinished == () and runs.finished == ()


def test_settings_of_strange_kinds_are_no_harm(tmp_path: Path) -> None:
    folder = begun(tmp_path / "one")
    (folder / "request.json").write_text('{"name": 3, "base": []}', encoding="utf-8")
    for settings in ('name = 3\nsteps = "x"\nloop = 1\n', "loop = [1]", "no toml =", "[loop]\nsteps = -1\n"):
        (folder / "adapt.toml").write_text(settings, encoding="utf-8")
        (run,) = all_runs(tmp_path).unfinished
        assert (run.name, run.base, run.steps) == ("one", "", 0)
    (folder / "request.json").write_bytes(b"\xff" * 10)
    assert all_runs(tmp_path).unfinished[0].name == "one"
    (folder / "result.json").write_text("[1, 2", encoding="utf-8")
    assert all_runs(tmp_path) == adaptation_runs.Runs(), "a result that can't be read is none to go on from"


def test_a_sign_of_life_lasts_a_while(tmp_path: Path) -> None:
    folder = begun(tmp_path / "one")
    mark_in_use(folder)
    now = time.time()
    assert all_runs(tmp_path, now).unfinished[0].elsewhere
    assert not all_runs(tmp_path, now + 2 * adaptation_runs.IN_USE_S).unfinished[0].elsewhere
    mark_free(folder)
    assert not all_runs(tmp_path, now).unfinished[0].elsewhere
    mark_free(folder)
    mark_in_use(tmp_path / "gone")


def test_only_runs_are_thrown_away(tmp_path: Path) -> None:
    adaptations = tmp_path / "adaptations"
    folder = begun(adaptations / "one")
    outside = begun(tmp_path / "outside")
    (adaptations / "link").symlink_to(outside, target_is_directory=True)
    for wrong in (outside, adaptations, adaptations / "..", adaptations / "link", adaptations / "nowhere"):
        with pytest.raises(KeyliftError, match="There is no run"):
            discard(wrong, adaptations)
    assert outside.is_dir() and folder.is_dir()
    discard(folder, adaptations)
    assert not folder.exists()


def test_names_are_such_as_a_file_may_have_and_not_given_twice() -> None:
    assert checked_name(" Bühne 2.safetensors ") == "Bühne 2"
    for wrong in ("", " ", "../x", "a/b", "a\\b", ".hidden", "nul", "x" * 101, "dot."):
        with pytest.raises(KeyliftError, match="can't be called"):
            checked_name(wrong)
    assert free_name("a", ["b"]) == "a"
    assert free_name("a", ["A", "a-2"]) == "a-3"


# ---- What the worker is asked ---------------------------------------------------------------------------------------


def test_the_command_names_everything_that_was_chosen(tmp_path: Path) -> None:
    choice = AdaptChoice(
        "-odd name",
        ("/films", "/a.keypoints.npz"),
        minutes=7,
        corrections=(Path("/c.npz"),),
        motion=(Path("/m"),),
        camera=Path("/camera.toml"),
        device="cpu",
        looking=("--detector-model", "full", "--no-repair", "--frames", "2-8", "--person=2"),
    )
    command = next(adapting(choice, tmp_path))
    resumed = next(resuming(tmp_path, "cpu"))
    # The shell's own parser takes them.
    options = make_parser().parse_args(list(command.argv))
    assert options.footage == [Path("/films"), Path("/a.keypoints.npz")] and options.name == "-odd name"
    assert (options.minutes, options.person, options.no_repair, options.run) == (7, "2", True, tmp_path)
    assert make_parser().parse_args(list(resumed.argv)).resume
    assert command.argv[:3] == ("adapt", "/films", "/a.keypoints.npz") and command.stage == "learn"
    for option in ("--name=-odd name", "--minutes=7", "--corrections=/c.npz", "--motion=/m", "--camera=/camera.toml"):
        assert option in command.argv
    assert f"--run={tmp_path}" in command.argv and "--device=cpu" in command.argv
    assert resumed.argv == ("adapt", f"--run={tmp_path}", "--resume", "--device=cpu")


def test_more_clips_than_the_worker_takes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyliftError, match="into a folder"):
        next(adapting(AdaptChoice("x", ("/film.mp4",) * 500), tmp_path))


def test_what_the_command_tells_is_taken_as_it_comes() -> None:
    outcome = Adapted.of({"name": "x", "verdict": "better", "reason": "less error", "weights": "/x.safetensors"})
    assert (outcome.name, outcome.better, outcome.reason, outcome.skipped) == ("x", True, "less error", ())
    assert not Adapted.of({}).better and not Adapted.of({"verdict": "not better"}).better
    many = Adapted.of({"skipped": [{"footage": f"/f/{number}.mp4", "why": "too short"} for number in range(9)]})
    assert many.skipped[0] == "Left out 0.mp4: too short" and many.skipped[-1].startswith("Left out 4 more")
    assert Adapted.of({"skipped": "none", "verdict": 3}).skipped == ()


def test_each_stage_is_counted_by_itself(tmp_path: Path) -> None:
    job = AdaptationJob("Learning", "scene", adapting(AdaptChoice("x", ("/f",)), tmp_path), folder=tmp_path)
    job.state = State.RUNNING
    job.next_command(None)
    job.hear(Progressed(1, "detect", "Looking at a.mp4", 90, 100))
    assert (job.fraction, job.at, job.stage, job.seconds_left) == (0.9, "detect", "Looking at a.mp4", None)
    job.hear(Progressed(1, "detect", "Looking at b.mp4", 0, None))
    assert job.fraction == 0.0
    # A run that is gone on with begins in the middle, and what was done before took no time today.
    job.hear(Progressed(1, "learn", "Learning", 500, 1000))
    job.began -= 10
    job.hear(Progressed(1, "learn", "Learning", 600, 1000))
    assert job.fraction == 0.6 and job.seconds_left == pytest.approx(40, rel=0.05)
