"""The paper's evaluation: what is weighted by what."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from keylift.core.skeletons import H36M_17
from keylift.training.sequences.config import MocapData
from keylift.training.sequences.label_study import LabelStudy, draw, runs_of, table
from keylift.training.sequences.protocols import action_of, evaluate
from keylift.training.sequences.sequence import FilmedSequence
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
        "1pc-bone-weight-1-seed1",
    ]


@pytest.mark.slow
def test_a_study_trains_what_is_missing_and_compares_it(tmp_path):
    write_motion(tmp_path / "walk.npz")
    (tmp_path / "study.toml").write_text(STUDY)
    config = tmp_path / "study.toml"
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
