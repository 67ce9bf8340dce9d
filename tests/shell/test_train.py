"""``keylift train`` as a person sees it: what it says, how it stops, and how it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shell_runs import command
from training_runs import (
    STEPS,
    WEIGHTS,
    checkpoint_names,
    finished,
    log_of,
    same_weights,
    started,
    wait_until,
    write_run,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without checkpoints by time: those that there are come from a stop."""
    return write_run(tmp_path_factory.mktemp("config"), ("checkpoint_every_s = 0.001", "checkpoint_every_s = 0.0"))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends ctrl-C to a whole console")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_loses_nothing_and_says_how_to_go_on(number: int, config: Path, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    finished(started(config, whole))
    process = started(config, run)
    wait_until((run / "log.json").exists, process)
    process.send_signal(number)
    _, said = finished(process, code=130)
    assert "--resume goes on from there" in said and "keylift: Stopped" in said and "Traceback" not in said
    (checkpoint,) = checkpoint_names(run)
    assert f"Stopped after step {int(checkpoint[5:14])} of {STEPS}" in said
    assert not (run / WEIGHTS).exists() and not list(run.rglob(".keylift-*"))
    out, _ = finished(started(config, run, "--resume"))
    assert out == f"{run / WEIGHTS}: trained\n"
    assert same_weights(run, whole) and log_of(run) == log_of(whole)


def test_a_run_is_not_written_over_by_accident(config: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "step-000000001.safetensors").write_bytes(b"")
    _, said = finished(started(config, run), code=1)
    assert said.splitlines()[-1].startswith("keylift: ") and "--resume" in said and "--run" in said
    _, said = finished(started(config, run, "--resume"), code=1)
    assert "Every checkpoint" in said and "Traceback" not in said


def test_help_tells_of_resuming_and_of_several_processes(tmp_path: Path) -> None:
    said = subprocess.run(command("train", "--help"), capture_output=True, text=True, check=True).stdout
    assert "--resume" in said and "torchrun" in said and "--run-folder" in said


def test_the_command_needs_no_torch_to_say_that_a_file_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command("train", tmp_path / "none.toml")[1:]],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "none.toml" in done.stderr.splitlines()[-1]
    assert " torch\n" not in done.stderr
