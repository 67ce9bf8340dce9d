"""``keylift bench`` runs through and compares like with like."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from keylift.core.lifter.dense_inference import DenseLifter
from keylift.core.lifter.folding import fold
from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.training.bench import _MIRROR, PlainLifter, compared, in_turn, peak_memory_bytes
from shell_runs import keylift


def test_a_quick_bench_measures_everything(tmp_path: Path) -> None:
    run = keylift("bench", "--quick", "--json", "--device", "cpu", cwd=tmp_path)
    assert run.code == 0, run.err
    measured = json.loads(run.out.splitlines()[-1])
    assert measured["quick"] and measured["device"] == "cpu"
    figures = [measured["inference"]["float32"], *measured["training"]]
    assert all(figure["ratio"] > 0 and math.isfinite(figure["ratio"]) for figure in figures)
    assert measured["inference"]["float32"]["largest_difference_m"] < 1e-5
    assert measured["streaming"]["receptive_fields"] == [9, 27]
    assert measured["memory"]["frames"] == [100, 1000] and min(measured["memory"]["peak_mb"]) > 20
    assert measured["memory"]["more_mb"] < 300
    assert measured["views"]["channels"] == 16 and 0 < measured["views"]["making_share"] < 1
    (lifted,) = measured["lift"]
    assert lifted["frames"] == 40 and lifted["fit_vs_realtime"] == pytest.approx(40 / 30 / lifted["seconds"])


def test_the_plain_network_is_the_same_network() -> None:
    torch.manual_seed(0)
    network = TemporalLifter(LifterConfig(17, 2, 17, channels=16, widths=(3, 5, 3))).eval()
    plain, strided = PlainLifter((3, 5, 3), 16).eval(), PlainLifter((3, 5, 3), 16, strided=True).eval()
    for one in (plain, strided):
        one.load_state_dict(network.state_dict())
    keypoints = np.random.default_rng(0).uniform(-1, 1, (60, 17, 2)).astype(np.float32)
    lifted = plain.lift(keypoints)
    np.testing.assert_allclose(lifted, DenseLifter(fold(network, _MIRROR), torch.device("cpu"))(keypoints), atol=1e-6)
    window = torch.from_numpy(keypoints[None, :45])
    with torch.no_grad():
        np.testing.assert_allclose(strided(window), network.forward_window(window), atol=1e-6)


def test_sides_are_timed_in_turn_and_compared_round_by_round() -> None:
    told: list[str] = []
    seconds = in_turn(lambda: told.append("a"), lambda: told.append("b"), rounds=2)
    assert told == ["a", "b"] * 3 and [len(taken) for taken in seconds] == [2, 2]
    assert compared([1.0, 2.0, 1.0], [2.0, 6.0, 2.5])["ratio"] == pytest.approx(2.5)


def test_memory_that_was_used_is_seen() -> None:
    before = peak_memory_bytes()
    used = np.ones(30_000_000)
    assert peak_memory_bytes() > before + used.nbytes // 4 or before > 1e9
