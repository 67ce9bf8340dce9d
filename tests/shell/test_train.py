"""``keylift train`` as a person sees it: what it says, how it stops, and how it goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shell_runs import begun, command
from training_runs import (
    STEPS,
    WEIGHTS,
    checkpoint_names,
    finished,
    log_of,
    same_weights,
    started,
    wait_until,
    write_motion,
    write_run,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without checkpoints by time: those that there are come from a stop."""
    return write_run(tmp_path_factory.mktemp("config"), ("checkpoint_every_s = 0.001", "checkpoint_every_s = 0.0"))


@pytest.mark.skipif(os.name == "nt", reason="Windows sends ctrl-C to a whole console")
def test_a_stopped_run_loses_nothing_and_says_how_to_go_on(config: Path, tmp_path: Path) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    finished(started(config, whole, cold=True))
    process = started(config, run)
    wait_until((run / "log.json").exists, process)
    process.send_signal(signal.SIGINT)
    _, said = finished(process, code=130)
    assert "--resume goes on from there" in said and "keylift: Stopped" in said and "Traceback" not in said
    (checkpoint,) = checkpoint_names(run)
    assert f"Stopped after step {int(checkpoint[5:14])} of {STEPS}" in said
    assert not (run / WEIGHTS).exists() and not list(run.rglob(".keylift-*"))
    out, _ = finished(started(config, run, "--resume"))
    assert out == f"{run / WEIGHTS}: trained\n"
    assert same_weights(run, whole) and log_of(run) == log_of(whole)


STUDY = """
name = "study"
method = "label_study"
labelled_parts = [0.5]
ablation_parts = []
seeds = [1]
workers = 2
[data]
kind = "mocap"
train = "walk.npz"
valid = "walk.npz"
test = "walk.npz"
[network]
widths = [3, 3]
channels = 16
[loop]
epochs = 8
batch = 32
steps_per_epoch = 25
checkpoint_every_s = 0.0
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends ctrl-C to a whole console")
def test_ctrl_c_in_a_study_loses_nothing(tmp_path: Path) -> None:
    """A terminal sends it to the workers too."""
    write_motion(tmp_path / "walk.npz")
    study, run = tmp_path / "study.toml", tmp_path / "run"
    study.write_text(STUDY)
    process = begun(
        "train", study, "--run", run, "--device", "cpu", cwd=tmp_path, env={"OMP_NUM_THREADS": "1"}, own_session=True
    )
    wait_until(lambda: len(list(run.glob("*/log.json"))) == 2, process)
    os.killpg(process.pid, signal.SIGINT)
    _, said = finished(process, code=130)
    assert "Traceback" not in said and "--resume goes on" in said
    folders = sorted(path for path in run.iterdir() if path.is_dir())
    stopped_at = [int(checkpoint_names(folder)[-1][5:14]) for folder in folders]
    assert len(stopped_at) == 2 and all(0 < step < 200 for step in stopped_at)
    finished(started(study, run, "--resume"))
    for folder in folders:
        steps = [entry["step"] for entry in log_of(folder)]
        # Nothing was learnt twice, and nothing left out.
        assert steps == list(range(25, 201, 25))
        before = json.loads((folder / "log.json").read_text())
        assert all(one["seconds"] < other["seconds"] for one, other in zip(before, before[1:], strict=False))


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
