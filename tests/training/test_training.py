"""The trainer on a walker: it learns, resumes bit for bit, and its weights say what they are."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from keylift.core.errors import Cancelled, FileFormatError, OutputError, WeightsError
from keylift.core.lifter.lifting import load_ray_lifter
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.weights import MAX_HEADER_BYTES, find_weights, list_weights, read_header, read_tensors, write_weights
from keylift.training.config import read_config
from keylift.training.motion.motion_set import foot_contacts, read_motion
from keylift.training.train import train_from_config
from keylift.training.views.config import ViewConfig
from keylift.training.views.lesson import learning_rate
from keylift.training.views.run import train_on_views
from keylift.training.views.synthetic_views import ViewMaker, ViewSettings
from training_runs import write_motion
from walker import walk

CONFIG = """
name = "tiny"
[data]
train = "walk.npz"
valid = "walk.npz"
test = "walk.npz"
[network]
widths = [3, 3]
channels = 32
[loop]
steps = 12
batch = 32
warm_up_steps = 2
checkpoint_every = 4
validate_every = 6
validation_windows = 256
test_windows = 256
[views]
frames = 9
output_frame = 4
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_motion(folder / "walk.npz", frames=240)
    (folder / "tiny.toml").write_text(CONFIG)
    return folder


def test_contacts_are_found_in_motion(folder):
    motion = read_motion(folder / "walk.npz")
    truth = np.concatenate([walk(240, 60.0, heading).contact for heading in (0.0, 1.0)]) > 0.5
    assert (motion.contact[:, [0, 2]] == truth[:, [0, 2]]).mean() > 0.8
    assert read_motion(folder / "walk.npz", ("other",)).clip_name.tolist() == ["a"]
    with pytest.raises(FileFormatError, match="Nothing is left"):
        read_motion(folder / "walk.npz", ("other", "walker"))


def test_feet_stand_on_higher_ground_too():
    """Somebody who goes on walking on a platform stands on it, though the floor is far below; a lifted foot doesn't."""
    flat = walk(240, 60.0)
    climbed = flat.positions_m.copy()
    climbed[120:, :, 1] += 0.4
    above, below = foot_contacts(climbed, 60.0)[160:], foot_contacts(flat.positions_m, 60.0)[160:]
    assert below.mean() > 0.2 and (above == below).mean() > 0.9
    climbed[120:, LANDMARKS_41.indices("l_heel", "l_toe_base"), 1] += 0.3
    assert not foot_contacts(climbed, 60.0)[160:, :2].any()


def test_a_batch_depends_on_its_number_alone(folder):
    motion = read_motion(folder / "walk.npz")
    maker = ViewMaker(motion, ViewSettings(frames=9, output_frame=4), seed=3)
    third = maker.batch(3, 16)
    again = ViewMaker(motion, ViewSettings(frames=9, output_frame=4), seed=3).batch(3, 16)
    assert np.array_equal(third.inputs, again.inputs) and np.array_equal(third.targets_m, again.targets_m)
    assert not np.array_equal(third.inputs, maker.batch(4, 16).inputs)
    assert np.isfinite(third.inputs).all() and np.abs(third.targets_m[:, 0]).max() == 0


def test_views_show_what_their_targets_say(folder):
    """Without noise, the lifter's own box and rays must be the projection of the target."""
    motion = read_motion(folder / "walk.npz")
    calm = dataclasses.replace(ViewSettings().noise, scale=0, hidden_chance=0, burst_chance=0, body_swap_chance=0,
                               limb_swap_chance=0, cut_chance=0, missing_chance=0)  # fmt: skip
    settings = ViewSettings(frames=9, output_frame=4, focal_error=0.0, noise=calm, distance_m=(30, 40))
    views = ViewMaker(motion, settings, 0).batch(0, 64)
    knees = LANDMARKS_41.indices("l_knee", "r_knee", "l_wrist", "r_wrist")
    seen = views.inputs[:, 4, [13, 14, 7, 8], :2]
    bone = views.targets_m[:, knees, :2]
    # From far off, the picture is the target scaled and moved (bursts' shove is off: scale 0 leaves the truth).
    for sample in range(64):
        s, b = seen[sample] - seen[sample].mean(axis=0), bone[sample] - bone[sample].mean(axis=0)
        scale = (s * b).sum() / (b * b).sum()
        assert scale > 0 and np.abs(s - scale * b).max() < 0.03


def test_training_begins_with_weights_that_are_there_and_fit(folder, tmp_path):
    trained = train_from_config(folder / "tiny.toml", run_folder=tmp_path / "first", device="cpu")
    (folder / "start.safetensors").write_bytes(trained.read_bytes())
    text = CONFIG.replace("steps = 12", 'start_from = "start.safetensors"\nlearning_rate = 1e-12\nsteps = 12')
    (folder / "on.toml").write_text(text)
    told = []
    on = train_from_config(folder / "on.toml", run_folder=tmp_path / "on", device="cpu", tell=told.append)
    before, after = read_tensors(trained), read_tensors(on)
    # Nothing is learnt at such a pace, so what comes out is what went in.
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in before if "weight" in name)
    assert any("start.safetensors" in line for line in told)

    (folder / "wide.toml").write_text(text.replace("channels = 32", "channels = 48"))
    with pytest.raises(WeightsError, match="start_from"):
        train_from_config(folder / "wide.toml", run_folder=tmp_path / "wide", device="cpu")


def test_training_learns_resumes_bit_for_bit_and_says_what_it_made(folder, tmp_path):
    whole = train_from_config(folder / "tiny.toml", run_folder=tmp_path / "whole", device="cpu")

    def stop_at_seven(done, total):
        return done < 7

    with pytest.raises(Cancelled):
        train_from_config(folder / "tiny.toml", run_folder=tmp_path / "parts", device="cpu", progress=stop_at_seven)
    parts = train_from_config(folder / "tiny.toml", run_folder=tmp_path / "parts", device="cpu", resume=True)
    a, b = read_tensors(whole), read_tensors(parts)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)

    header = read_header(whole)
    assert header["training"]["config"]["name"] == "tiny" and header["training"]["config"]["loop"]["seed"] == 1
    assert header["skeleton"]["names"] == list(LANDMARKS_41.names)
    log = json.loads((tmp_path / "whole" / "log.json").read_text())
    assert [entry["step"] for entry in log] == [6, 12]
    lifter = load_ray_lifter(whole, "cpu")
    assert lifter.receptive_field == 9 and lifter.output_frame == 4


def test_a_run_is_not_resumed_with_another_configuration(folder, tmp_path):
    config = read_config(folder / "tiny.toml")
    train_on_views(config, folder, tmp_path / "run", device="cpu")
    other = dataclasses.replace(config, loop=dataclasses.replace(config.loop, learning_rate=1e-4))
    with pytest.raises(FileFormatError, match="another configuration"):
        train_on_views(other, folder, tmp_path / "run", device="cpu", resume=True)


def test_a_run_folder_that_cannot_be_written_is_explained(folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").write_text("in the way")
    with pytest.raises(OutputError, match="--run"):
        train_on_views(read_config(folder / "tiny.toml"), folder, tmp_path / "run", device="cpu")


def test_training_lowers_the_error(folder, tmp_path):
    config = read_config(folder / "tiny.toml")
    longer = dataclasses.replace(config, loop=dataclasses.replace(config.loop, steps=150, validate_every=30))
    train_on_views(longer, folder, tmp_path / "run", device="cpu")
    log = json.loads((tmp_path / "run" / "log.json").read_text())
    assert log[-1]["p_mpjpe_mm"] < 0.8 * log[0]["p_mpjpe_mm"]


def test_the_learning_rate_warms_up_and_comes_to_rest():
    config = ViewConfig("x", None)
    rates = [learning_rate(step, config) for step in range(config.loop.steps)]
    assert rates[0] < rates[299] == max(rates) and rates[-1] < 1e-8


@pytest.mark.parametrize(
    "change",
    [
        ("seed", "sead"),
        ("[loop]", "[loops]"),
        ("frames = 9", "frames = 27"),
        ("name", "nam"),
        ("batch = 32", "batch = 'x'"),
        ("widths = [3, 3]", "widths = 3"),
        ("widths = [3, 3]", "widths = [3, 2]"),
        ("batch = 32", "batch = 1"),
        ("steps = 12", "steps = 0"),
        ("validate_every = 6", "validate_every = 0"),
        ("checkpoint_every = 4", "checkpoint_every = -1"),
        ("batch = 32", "batch = 32\nlearning_rate = inf"),
        ("batch = 32", "batch = 32\nprecision = 'float16'"),
    ],
)
def test_a_configuration_that_is_not_understood_is_refused(folder, tmp_path, change):
    path = folder / "bad.toml"
    path.write_text(CONFIG.replace("steps = 12", "steps = 12\nseed = 1").replace(*change))
    with pytest.raises(FileFormatError):
        train_from_config(path, run_folder=tmp_path / "run")


def test_weights_are_found_by_name_or_path_and_bad_ones_explained(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path))
    assert "default" in list_weights()
    with pytest.raises(WeightsError, match="default"):
        find_weights("none-such")
    with pytest.raises(WeightsError, match="--weights"):
        find_weights(str(tmp_path / "gone.safetensors"))
    bad = tmp_path / "bad.safetensors"
    for content in (b"", b"\xff" * 64, b"\x10\0\0\0\0\0\0\0" + b'{"__metadata__":1}'):
        bad.write_bytes(content)
        with pytest.raises(WeightsError):
            read_header(bad)


def test_weights_that_nobody_could_read_are_not_written(tmp_path, monkeypatch):
    path, tensors = tmp_path / "made" / "x.safetensors", {"a": torch.zeros(100)}
    write_weights(path, tensors, {"licence": "x" * (MAX_HEADER_BYTES - 1000)})
    assert len(read_header(path)["licence"]) == MAX_HEADER_BYTES - 1000
    before = path.read_bytes()
    with pytest.raises(OutputError, match=r"x\.safetensors' was not written: what it says of itself"):
        write_weights(path, tensors, {"licence": "x" * MAX_HEADER_BYTES})
    monkeypatch.setattr("keylift.core.weights.MAX_WEIGHTS_BYTES", 400)
    with pytest.raises(OutputError, match="was not written: it would take"):
        write_weights(path, tensors, {})
    assert path.read_bytes() == before and [file.name for file in path.parent.iterdir()] == ["x.safetensors"]
