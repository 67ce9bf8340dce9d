"""The paper's evaluation: what is weighted by what; and studies that compare many runs by it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from keylift.core.errors import FileFormatError, KeyliftError, OutputError, TryAgainError
from keylift.core.lifter.keypoint_lifter import KeypointLifter
from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.core.skeletons import H36M_17
from keylift.core.weights import write_weights
from keylift.shell import evaluate as shell_evaluate
from keylift.training import evaluate as evaluation
from keylift.training import label_runs
from keylift.training.sequences import synthetic_film
from keylift.training.sequences.config import MocapData
from keylift.training.sequences.label_study import LabelStudy, config_of, draw, runs_of, table
from keylift.training.sequences.protocols import action_of, evaluate
from keylift.training.sequences.sequence import FilmedSequence, SequenceSet
from keylift.training.train import train_from_config
from training_runs import write_motion


def off_by(mm: float, frames: int, action: str, subject: str = "S9") -> FilmedSequence:
    """A sequence that a lifter which always says its keypoint's depth misses by ``mm``."""
    positions = np.random.default_rng(frames).normal(size=(frames, len(H36M_17), 3))
    positions[:, 0] = [1, 2, 5]
    keypoints = np.full((frames, 17, 2), mm / 1000)
    return FilmedSequence(subject, action, "c", keypoints, positions, None, 50.0)


def test_actions_weigh_frames_and_the_total_weighs_actions_alike():
    sequences = [off_by(10, 30, "Walking 1"), off_by(40, 10, "Walking"), off_by(100, 5, "Sitting", "S11")]
    unlabelled = off_by(999, 50, "Sitting").without_labels()
    truths = {sequence.keypoints.tobytes(): sequence.positions_m for sequence in sequences}

    def lift(keypoints: np.ndarray) -> np.ndarray:
        positions = truths[keypoints.tobytes()].copy()
        positions[:, 0] = 0
        return positions + [keypoints[0, 0, 0], 0, 0]

    scores = evaluate([*sequences, unlabelled], lift)
    assert scores.by_action["Walking"]["mpjpe_mm"] == pytest.approx((30 * 10 + 10 * 40) / 40)
    assert scores.by_action["Sitting"]["mpjpe_mm"] == pytest.approx(100)
    assert scores.mean["mpjpe_mm"] == pytest.approx((17.5 + 100) / 2)
    # A constant shift costs nothing in protocol 2 and in the velocity.
    assert scores.mean["p_mpjpe_mm"] < 1e-6 and scores.mean["velocity_mm"] < 1e-6
    assert scores.frames == 45
    assert scores.by_subject["S9"].mean["mpjpe_mm"] == pytest.approx(17.5)
    assert scores.by_subject["S11"].frames == 5


def test_an_action_is_the_text_before_the_first_space():
    assert action_of(off_by(1, 1, "Walking 1 chunk0")) == "Walking"
    assert action_of(off_by(1, 1, "WalkTogether")) == "WalkTogether"


@pytest.fixture
def weights_and_data(monkeypatch: pytest.MonkeyPatch) -> KeypointLifter:
    """Weights of x, y; data with a score, of three people of whom one is called ``all``."""
    network = TemporalLifter(LifterConfig(17, 2, 17, channels=8, widths=(3,))).eval()
    lifter = KeypointLifter(network, None, "h36m17", H36M_17, torch.device("cpu"))
    data = SequenceSet(
        [
            dataclasses.replace(
                sequence, keypoints=np.concatenate([sequence.keypoints, sequence.keypoints[..., :1]], 2)
            )
            for sequence in (off_by(10, 20, "Walk", "S1"), off_by(20, 30, "Walk", "all"), off_by(30, 5, "Sit", "S2"))
        ],
        "h36m17",
        H36M_17,
        {},
    )
    monkeypatch.setattr(evaluation, "load_lifter", lambda *_: lifter)
    monkeypatch.setattr(evaluation, "read_config", lambda _: study())
    monkeypatch.setattr(evaluation, "read_split", lambda *_: data)
    return lifter


def test_somebody_called_all_is_not_everybody(weights_and_data: KeypointLifter) -> None:
    found = evaluation.evaluate_weights(Path("x.safetensors"), Path("x.toml"))
    told = found.as_dict()
    assert told["frames"] == 55 and set(told["by_action"]) == {"Walk", "Sit"}
    assert {name: scores["frames"] for name, scores in told["by_subject"].items()} == {"S1": 20, "all": 30, "S2": 5}
    assert told["by_subject"]["all"]["mean"] != told["mean"]
    lines = shell_evaluate._readable(found, by_subject=True)
    assert [line for line in lines if "frames" in line] == [
        "55 frames of 'test', errors in mm (velocity: mm a frame)",
        "S1: 20 frames",
        "S2: 5 frames",
        "all: 30 frames",
    ]
    assert [line for line in shell_evaluate._readable(found, by_subject=False) if "frames" in line] == lines[:1]


def test_weights_of_x_and_y_leave_a_score_out(weights_and_data: KeypointLifter) -> None:
    found = evaluation.evaluate_weights(Path("x.safetensors"), Path("x.toml"))
    (sequence,) = [s for s in evaluation.read_split().sequences if s.subject == "S1"]
    said = weights_and_data.lift_normalised(sequence.keypoints[..., :2])
    truth = sequence.positions_m * np.where(np.arange(17) == 0, 0, 1)[:, None]
    wanted = 1000 * np.linalg.norm(said - truth, axis=-1).mean()
    assert found.by_subject["S1"].mean["mpjpe_mm"] == pytest.approx(wanted, rel=1e-5)


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
epochs = 2
batch = 32
steps_per_epoch = 4
"""


def study() -> LabelStudy:
    return LabelStudy(
        "s", "label_study", MocapData("mocap", "", "", ""), labelled_parts=(0.01, 0.5, 1.0), ablation_parts=(0.01,)
    )


def test_a_study_compares_what_can_be_compared():
    runs = [run.name for run in runs_of(study()) if run.seed == 1]
    assert runs == [
        "1pc-supervised-seed1",
        "1pc-semi-supervised-seed1",
        "50pc-supervised-seed1",
        "50pc-semi-supervised-seed1",
        "100pc-supervised-seed1",
        "1pc-no-projection-seed1",
        "1pc-no-bone-term-seed1",
        "1pc-bone-weight-0.1-seed1",
    ]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    write_motion(tmp_path / "walk.npz")
    (tmp_path / "study.toml").write_text(STUDY)
    return tmp_path / "study.toml"


class Pool:
    """Stands in for worker processes: keeps how it was made, and breaks at its first work."""

    made: list[tuple[int, tuple[object, ...]]] = []

    def __init__(self, workers: int, context: object, set_up: object, given: tuple[object, ...]) -> None:
        self.made.append((workers, given))

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, *_: object) -> Future[str]:
        future: Future[str] = Future()
        future.set_exception(BrokenProcessPool("killed"))
        return future

    def shutdown(self, cancel_futures: bool) -> None: ...


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> type[Pool]:
    monkeypatch.setattr(label_runs, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(Pool, "made", [])
    monkeypatch.setattr(label_runs, "os", SimpleNamespace(name=os.name, cpu_count=lambda: 400))
    return Pool


def test_a_killed_worker_is_no_riddle(config: Path, tmp_path: Path, pool: type[Pool]) -> None:
    with pytest.raises(TryAgainError, match="memory.*--resume"):
        train_from_config(config, run_folder=tmp_path / "run")


def test_there_are_no_more_processes_than_runs_but_threads_as_for_all_workers(
    config: Path, tmp_path: Path, pool: type[Pool]
) -> None:
    config.write_text(STUDY.replace("workers = 2", "workers = 8"))
    with pytest.raises(TryAgainError):
        train_from_config(config, run_folder=tmp_path / "run")
    ((workers, (_, _, threads)),) = pool.made
    assert workers == 2 and threads == 50


def test_windows_has_no_more_than_61_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    many = dataclasses.replace(study(), workers=100)
    assert label_runs._workers(many) == (61 if os.name == "nt" else 100)
    monkeypatch.setattr(label_runs, "os", SimpleNamespace(name="nt"))
    assert label_runs._workers(many) == 61


def test_guesses_of_the_motion_readers_are_told_by_a_study(
    config: Path, tmp_path: Path, pool: type[Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = synthetic_film.read_motion_from
    monkeypatch.setattr(
        synthetic_film, "read_motion_from", lambda *given: dataclasses.replace(read(*given), notes=("A guess.",))
    )
    told: list[str] = []
    with pytest.raises(TryAgainError):
        train_from_config(config, run_folder=tmp_path / "run", tell=told.append)
    assert told == ["A guess."]


def test_only_runs_with_the_settings_and_data_of_now_are_taken_as_they_are(tmp_path: Path) -> None:
    wanted = config_of(study(), next(iter(runs_of(study()))))
    path = tmp_path / wanted.name / f"{wanted.name}.safetensors"
    assert not label_runs._ended(wanted, tmp_path, {"walk.npz": "1"})
    header = {"training": {"config": wanted.as_dict(), "data_sha256": {"walk.npz": "1"}}}
    write_weights(path, {"a": torch.zeros(1)}, header)
    assert label_runs._ended(wanted, tmp_path, {"walk.npz": "1"})
    assert not label_runs._ended(wanted, tmp_path, {"walk.npz": "2"})
    assert not label_runs._ended(dataclasses.replace(wanted, method="other"), tmp_path, {"walk.npz": "1"})


def test_a_study_is_not_written_over(config: Path, tmp_path: Path, pool: type[Pool]) -> None:
    checkpoint = tmp_path / "run" / "50pc-supervised-seed1" / "checkpoints" / "step-000000001.safetensors"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"")
    with pytest.raises(OutputError, match="holds a run already.*--resume"):
        train_from_config(config, run_folder=tmp_path / "run")
    assert not (tmp_path / "run" / "config.toml").exists() and pool.made == []
    with pytest.raises(TryAgainError):
        train_from_config(config, run_folder=tmp_path / "run", resume=True)


def test_a_study_under_torchrun_is_refused(
    config: Path, tmp_path: Path, pool: type[Pool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(KeyliftError, match="without torchrun"):
        train_from_config(config, run_folder=tmp_path / "run")
    assert not (tmp_path / "run").exists() and pool.made == []


@pytest.mark.slow
def test_a_study_trains_what_is_missing_and_compares_it(config, tmp_path):
    # Two at once are interrupted in shell/test_train.py; each takes seconds to start.
    config.write_text(STUDY.replace("workers = 2", "workers = 1"))
    report = train_from_config(config, run_folder=tmp_path / "run", device="cpu")
    assert "| 50 % |" in report.read_text()
    first = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [result["variant"] for result in first] == ["supervised", "semi-supervised"]
    # A run that ended is not made again; one that is missing is, to the same result.
    kept = tmp_path / "run" / "50pc-supervised-seed1" / "50pc-supervised-seed1.safetensors"
    before = kept.stat().st_mtime_ns
    shutil.rmtree(tmp_path / "run" / "50pc-semi-supervised-seed1")
    train_from_config(config, run_folder=tmp_path / "run", device="cpu", resume=True)
    again = json.loads((tmp_path / "run" / "results.json").read_text())
    assert kept.stat().st_mtime_ns == before
    assert [result["n_mpjpe_mm"] for result in again] == [result["n_mpjpe_mm"] for result in first]
    write_motion(tmp_path / "walk.npz", frames=190)
    with pytest.raises(FileFormatError, match="data of the run .* has changed"):
        train_from_config(config, run_folder=tmp_path / "run", device="cpu", resume=True)


def test_the_report_tells_gains_and_every_seed(tmp_path):
    results = [
        {"part": 0.01, "variant": variant, "seed": seed, "n_mpjpe_mm": error + seed, "p_mpjpe_mm": error / 2}
        for variant, error in (("supervised", 120.0), ("semi-supervised", 100.0))
        for seed in (1, 2)
    ]
    told = table(results)
    assert "| 1 % | **121.5** (121.0 / 122.0) | **101.5** (101.0 / 102.0) | **20.0**, 16 % (20.0 / 20.0) |" in told
    draw(results, tmp_path / "report.png")
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
