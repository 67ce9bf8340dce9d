"""Train on a set in Human3.6M's own files, semi-supervised, and evaluate what comes out, through real processes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from filmed_samples import write_human36m, write_humaneva
from keylift.core.lifter import load_lifter
from keylift.core.metrics import n_mpjpe, p_mpjpe
from keylift.core.weights import read_header
from keylift.training.sequences.config import FilmedData
from keylift.training.sequences.data import read_split
from shell_runs import keylift

HUMAN36M = """
name = "tiny"
method = "sequences"
[data]
kind = "human36m"
poses = "data_3d_h36m.npz"
keypoints = "data_2d_h36m_gt.npz"
cameras = "metadata.xml"
train_subjects = ["S1"]
unlabelled_subjects = ["S5"]
test_subjects = ["S9"]
[network]
widths = [3, 3]
channels = 32
dropout = 0.0
[loop]
epochs = 4
batch = 64
[semi_supervised]
enabled = true
"""
HUMANEVA = """
name = "eva"
method = "sequences"
[data]
kind = "humaneva"
poses = "data_3d_humaneva15.npz"
keypoints = "data_2d_humaneva15_gt.npz"
cameras = "cameras.toml"
test_subjects = ["Validate/S1"]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("h36m")
    write_human36m(folder)
    (folder / "tiny.toml").write_text(HUMAN36M)
    done = keylift("train", "tiny.toml", "--run", "run", "--device", "cpu", cwd=folder)
    assert done.code == 0, done.err
    return folder


def test_training_leaves_weights_that_say_where_they_come_from(trained: Path) -> None:
    header = read_header(trained / "run" / "tiny.safetensors")
    assert header["input_layout"] == "h36m17" and header["skeleton"]["names"][3] == "right_ankle"
    assert header["training"]["config"]["semi_supervised"]["enabled"] and "test" in header["metrics"]
    assert set(header["training"]["data_sha256"]) == {"data_3d_h36m.npz", "data_2d_h36m_gt.npz", "metadata.xml"}
    lifter = load_lifter(trained / "run" / "tiny.safetensors")
    assert lifter.trajectory is not None and lifter.receptive_field == 9
    for name in ("config.toml", "config.json", "log.json", "curves.png"):
        assert (trained / "run" / name).stat().st_size > 0


def test_protocols_are_told_by_action_and_in_the_mean(trained: Path) -> None:
    done = keylift("evaluate", "run/tiny.safetensors", "tiny.toml", "--json", "--by-subject", cwd=trained, cold=True)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    header = read_header(trained / "run" / "tiny.safetensors")
    assert told["mean"]["mpjpe_mm"] == pytest.approx(header["metrics"]["test"]["mpjpe_mm"], rel=1e-3)
    assert set(told["by_subject"]) == {"S9"} and told["by_subject"]["S9"]["mean"] == told["mean"]

    # The same by hand, from the definition.
    data = FilmedData("human36m", "data_2d_h36m_gt.npz", "data_3d_h36m.npz", "metadata.xml", test_subjects=("S9",))
    lifter = load_lifter(trained / "run" / "tiny.safetensors")
    frames: dict[str, int] = {}
    sums: dict[str, np.ndarray] = {}
    for sequence in read_split(data, trained, "test").sequences:
        assert sequence.positions_m is not None
        truth = sequence.positions_m.copy()
        truth[:, 0] = 0
        said = lifter.lift_normalised(sequence.keypoints)
        action = sequence.action.split(" ")[0]
        errors = 1000 * len(said) * np.array([p_mpjpe(said, truth), n_mpjpe(said, truth)])
        sums[action] = sums.get(action, 0) + errors
        frames[action] = frames.get(action, 0) + len(said)
    assert set(told["by_action"]) == set(sums) and len(sums) > 1
    for action, errors in sums.items():
        found = told["by_action"][action]
        assert [found["p_mpjpe_mm"], found["n_mpjpe_mm"]] == pytest.approx(errors / frames[action], rel=1e-4)

    table = keylift("evaluate", "run/tiny.safetensors", "tiny.toml", cwd=trained).out
    assert "mean over actions" in table and f"{told['mean']['mpjpe_mm']:.1f}" in table
    assert f"{told['mean']['velocity_mm']:.2f}" in table


def test_weights_and_data_that_do_not_fit_are_both_named(trained: Path) -> None:
    write_humaneva(trained)
    (trained / "eva.toml").write_text(HUMANEVA)
    done = keylift("evaluate", "run/tiny.safetensors", "eva.toml", cwd=trained)
    assert done.code == 1 and "h36m17" in done.err and "humaneva15" in done.err
    rays = keylift("evaluate", "default", "tiny.toml", cwd=trained)
    assert rays.code == 1 and "rays21" in rays.err and "h36m17" in rays.err


def test_a_part_of_the_data_that_nobody_is_in(trained: Path) -> None:
    done = keylift("evaluate", "run/tiny.safetensors", "tiny.toml", "--split", "valid", cwd=trained)
    assert done.code == 1 and "valid_subjects" in done.err
