"""A run that is killed goes on, when asked to, as if nothing had happened: to the last bit of its weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from training_runs import (
    STEPS,
    checkpoint_names,
    finished,
    log_of,
    same_weights,
    scalars_of,
    started,
    wait_until,
    write_run,
)

pytestmark = pytest.mark.slow

Moment = Callable[[Path], bool]


def from_step(step: int) -> Moment:
    """Once a checkpoint of ``step`` or a later one is there."""
    return lambda run: any(name >= f"step-{step:09d}" for name in checkpoint_names(run) if name.startswith("step-"))


def while_writing_after(step: int) -> Moment:
    """While a checkpoint after ``step`` is being written."""

    def happened(run: Path) -> bool:
        return from_step(step)(run) and any(name.startswith(".keylift-") for name in checkpoint_names(run))

    return happened


def killed(config: Path, run: Path, when: Moment, *options: str) -> None:
    """Start a run and kill it (SIGKILL; Windows has one way to end a process) when its moment has come."""
    process = started(config, run, *options)
    wait_until(lambda: when(run), process)
    process.kill()
    process.communicate()


def assert_the_same(run: Path, whole: Path) -> None:
    """Weights, log and scalars of a run are those of the one that never stopped."""
    assert same_weights(run, whole)
    assert log_of(run) == log_of(whole)
    scalars = scalars_of(run)
    assert scalars == scalars_of(whole)
    assert [step for step, _ in scalars["loss"]] == [entry["step"] for entry in log_of(run)]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that never stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    finished(started(config, run, cold=True))
    assert checkpoint_names(run)[-1] == f"step-{STEPS:09d}.safetensors"
    return run


def test_a_run_killed_again_and_again_ends_as_one_that_never_stopped(config: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    killed(config, run, from_step(1))
    # Within the warm-up, beyond it, and when only the final weights are missing.
    killed(config, run, while_writing_after(3), "--resume")
    killed(config, run, from_step(14), "--resume")
    killed(config, run, while_writing_after(20), "--resume")
    killed(config, run, from_step(STEPS), "--resume")
    finished(started(config, run, "--resume"))
    assert_the_same(run, whole)
    # Nothing half-written stays.
    assert not list(run.rglob(".keylift-*"))


def test_what_was_logged_beyond_the_checkpoint_is_not_logged_twice(config: Path, whole: Path, tmp_path: Path) -> None:
    run, earlier = tmp_path / "run", tmp_path / "earlier"
    killed(config, run, from_step(8))
    shutil.copytree(run / "checkpoints", earlier)
    killed(config, run, from_step(20), "--resume")
    back_at = int(max(checkpoint_names(tmp_path, "earlier"))[5:14])
    assert log_of(run)[-1]["step"] > back_at
    # As if no checkpoint had been due since.
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(earlier, run / "checkpoints")
    finished(started(config, run, "--resume"))
    assert_the_same(run, whole)


def test_a_run_killed_before_its_first_checkpoint_starts_anew(config: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    killed(config, run, lambda run: (run / "config.json").exists())
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
    _, said = finished(started(config, run, "--resume"))
    assert "There is no checkpoint" in said and "starting from the beginning" in said
    assert_the_same(run, whole)
