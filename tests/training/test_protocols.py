"""The paper's evaluation: what is weighted by what."""

from __future__ import annotations

import numpy as np
import pytest

from keylift.core.skeletons import H36M_17
from keylift.training.sequences.config import MocapData
from keylift.training.sequences.label_study import LabelStudy, draw, runs_of, table
from keylift.training.sequences.protocols import action_of, evaluate
from keylift.training.sequences.sequence import FilmedSequence


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


def study() -> LabelStudy:
    return LabelStudy(
        "s", "label_study", MocapData("mocap", "", "", ""), labelled_parts=(0.01, 0.5, 1.0), ablation_parts=(0.01,)
    )


def test_a_study_compares_what_can_be_compared():
    runs = [run.name for run in runs_of(study()) if run.seed == 1]
    assert runs == [
        "1pc-supervised-seed1",
        "1pc-semi-supervised-seed1",
        "1pc-no-projection-seed1",
        "1pc-no-bone-term-seed1",
        "50pc-supervised-seed1",
        "50pc-semi-supervised-seed1",
        "100pc-supervised-seed1",
    ]


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
