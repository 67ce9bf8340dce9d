"""Whole clips and streams through a lifter, against the network itself used as its definition says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from keylift.core.errors import FileFormatError, KeyliftError, WeightsError
from keylift.core.lifter import StreamingLifter, load_lifter, matrix_product
from keylift.core.lifter.dense_inference import DenseLifter
from keylift.core.lifter.folding import Mirror, fold
from keylift.core.lifter.minimal_filters import filtered_frames, transform_frames, transformed_taps
from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.core.skeletons import COCO_17_NAMES, H36M_17, mirrored_layout
from keylift.core.weights import SHIPPED_FOLDER, write_weights

CPU = torch.device("cpu")
MIRROR = Mirror(mirrored_layout(COCO_17_NAMES), H36M_17.mirrored_order())
SIZES = {"points_in": 17, "features_in": 2, "joints_out": 17, "channels": 16}


def trained(seed: int = 0, **sizes) -> TemporalLifter:
    """A network whose every parameter matters."""
    torch.manual_seed(seed)
    net = TemporalLifter(LifterConfig(**{**SIZES, **sizes}))
    for norm in (net.expand_bn, *net.layers_bn):
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.data.uniform_(0.5, 1.5)
        norm.bias.data.normal_(0, 0.2)
    return net.eval()


def clip(frames: int, features: int = 2, points: int = 17) -> np.ndarray:
    return np.random.default_rng(frames).uniform(-1, 1, (frames, points, features)).astype(np.float32)


def by_definition(net: TemporalLifter, keypoints: np.ndarray, mirror: Mirror | None = None) -> np.ndarray:
    """The dense form on the padded clip, in float64; with ``mirror`` averaged with the un-mirrored mirror image."""
    net = _double(net)
    around = net.config.receptive_field - 1
    before = around if net.config.causal else around // 2
    padded = np.pad(keypoints.astype(np.float64), ((before, around - before), (0, 0), (0, 0)), "edge")

    def lifted(values: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.from_numpy(values)[None])[0].numpy()

    plain = lifted(padded)
    if mirror is None:
        return plain
    mirrored = padded[:, mirror.points].copy()
    mirrored[..., 0] *= -1
    back = lifted(mirrored)[:, mirror.joints] * np.array([-1, 1, 1])
    return (plain + back) / 2


def _double(net: TemporalLifter) -> TemporalLifter:
    copy = TemporalLifter(net.config).double()
    copy.load_state_dict(net.state_dict())
    return copy.eval()


def write(
    path: Path, net: TemporalLifter, trajectory: TemporalLifter | None = None, header: dict | None = None
) -> Path:
    tensors = dict(net.state_dict())
    said = {
        "lifter": net.config.as_dict(),
        "input_layout": "coco17",
        "skeleton": {"names": H36M_17.names, "parents": H36M_17.parents},
    }
    if trajectory is not None:
        tensors |= {f"trajectory.{name}": value for name, value in trajectory.state_dict().items()}
        said["trajectory"] = trajectory.config.as_dict()
    write_weights(path, tensors, {**said, **(header or {})})
    return path


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("widths", "more"),
    [
        ((3, 3, 3), {}),
        ((3, 3, 3), {"dense": True}),
        ((3, 5), {}),
        ((5, 7, 1), {}),
        ((1, 3, 3), {}),
        ((9,), {}),
        ((3, 3), {"features_in": 3}),
        ((3, 3), {"channels": 5, "joints_out": 17, "extras_out": 4}),
    ],
)
@pytest.mark.parametrize("frames", [1, 40, 137])
def test_a_clip_is_lifted_as_the_definition_says(widths, more, causal, frames):
    net = trained(widths=widths, causal=causal, **more)
    keypoints = clip(frames, net.config.features_in)
    for mirror in (None, MIRROR):
        said = DenseLifter(fold(net, mirror), CPU)(keypoints)
        assert said.dtype == np.float32 and said.shape == (frames, 17, 3)
        np.testing.assert_allclose(said, by_definition(net, keypoints, mirror), atol=2e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("chunk_frames", [1, 7, 36, 100, 5000])
def test_cutting_a_clip_into_pieces_changes_nothing(chunk_frames, causal):
    net = trained(causal=causal)
    lift, keypoints = DenseLifter(fold(net, MIRROR), CPU), clip(300)
    np.testing.assert_allclose(lift(keypoints, chunk_frames), lift(keypoints, 300), atol=1e-6)


def test_the_papers_network_is_lifted_to_float32():
    net = trained(channels=256, widths=(3,) * 5)
    keypoints = clip(700)
    said = DenseLifter(fold(net, MIRROR), CPU)(keypoints)
    np.testing.assert_allclose(said, by_definition(net, keypoints, MIRROR), atol=2e-6)


def test_bfloat16_is_off_by_little_and_only_on_request():
    net = trained(channels=128)
    keypoints = clip(200)
    truth = by_definition(net, keypoints)
    error = np.abs(DenseLifter(fold(net), CPU, "bfloat16")(keypoints) - truth)
    assert 1e-5 < error.max() < 0.05 * np.abs(truth).max()
    with pytest.raises(KeyliftError, match="float32"):
        DenseLifter(fold(net), CPU, "float8")


def test_without_onednn_it_is_the_same(monkeypatch):
    net, keypoints = trained(), clip(60)
    with_it = DenseLifter(fold(net, MIRROR), CPU)(keypoints)
    monkeypatch.setattr(matrix_product, "onednn_serves", lambda weight: False)
    np.testing.assert_allclose(DenseLifter(fold(net, MIRROR), CPU)(keypoints), with_it, atol=1e-6)


def test_a_minimal_filter_filters():
    torch.manual_seed(0)
    frames, taps = torch.randn(6, 5, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    factors, said = torch.empty_like(frames), torch.empty(4, 5, dtype=torch.float64)
    transform_frames(list(frames), list(factors))
    filtered_frames(list(factors * transformed_taps(taps)[:, None]), list(said))
    for column in range(5):
        np.testing.assert_allclose(said[:, column], np.correlate(frames[:, column], taps, "valid"), atol=1e-12)


def test_a_loaded_lifter_says_what_it_is_and_lifts(tmp_path):
    net = trained()
    lifter = load_lifter(write(tmp_path / "x.safetensors", net))
    assert (lifter.input_layout, lifter.causal, lifter.receptive_field, lifter.features_in) == ("coco17", False, 243, 2)
    assert lifter.skeleton.names == H36M_17.names and lifter.skeleton.parents == H36M_17.parents
    assert np.array_equal(lifter.skeleton.mirrored_order(), H36M_17.mirrored_order())
    assert not lifter.network.training and lifter.trajectory is None
    keypoints = clip(50)
    np.testing.assert_allclose(lifter.lift_normalised(keypoints), by_definition(net, keypoints, MIRROR), atol=2e-6)
    plain = lifter.lift_normalised(keypoints.astype(np.float64), test_time_flip=False)
    np.testing.assert_allclose(plain, by_definition(net, keypoints), atol=2e-6)
    assert plain.dtype == np.float32
    with pytest.raises(WeightsError, match="trajectory"):
        lifter.lift_trajectory_normalised(keypoints)


def test_the_mirror_image_of_the_keypoints_gives_the_mirror_image_of_the_pose(tmp_path):
    lifter = load_lifter(write(tmp_path / "x.safetensors", trained()))
    keypoints = clip(30)
    mirrored = keypoints[:, mirrored_layout(COCO_17_NAMES)] * np.array([-1, 1])
    expected = lifter.lift_normalised(keypoints)[:, H36M_17.mirrored_order()] * np.array([-1, 1, 1])
    np.testing.assert_allclose(lifter.lift_normalised(mirrored), expected, atol=1e-6)


def test_the_trajectory_comes_with_the_pose(tmp_path):
    net, path_net = trained(), trained(1, joints_out=1)
    lifter = load_lifter(write(tmp_path / "x.safetensors", net, path_net))
    keypoints = clip(30)
    truth = by_definition(path_net, keypoints, Mirror(MIRROR.points, np.zeros(1, int)))[:, 0]
    np.testing.assert_allclose(lifter.lift_trajectory_normalised(keypoints), truth, atol=2e-6)
    assert lifter.trajectory.config.joints_out == 1


def test_missing_counters_and_halves_are_read(tmp_path):
    net = trained()
    tensors = {name: value.half() for name, value in net.state_dict().items() if "num_batches" not in name}
    header = {
        "lifter": {key: value for key, value in net.config.as_dict().items() if key != "dense"},
        "input_layout": "coco17",
        "skeleton": {"names": H36M_17.names, "parents": H36M_17.parents},
    }
    write_weights(tmp_path / "x.safetensors", tensors, header)
    lifter = load_lifter(tmp_path / "x.safetensors")
    assert lifter.network.shrink.weight.dtype == torch.float32
    assert all(value.device == CPU for value in lifter.network.state_dict().values())
    keypoints = clip(30)
    np.testing.assert_allclose(lifter.lift_normalised(keypoints), by_definition(net, keypoints, MIRROR), atol=5e-3)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ({"input_layout": "dots99"}, "dots99.*coco17"),
        ({"input_layout": None}, "None.*coco17"),
        ({"input_layout": "mpii16"}, "mpii16.*16 points.*takes 17"),
        ({"skeleton": {"names": ["a"], "parents": [-1]}}, "1 joints.*gives 17"),
        ({"skeleton": {"names": "abc"}}, "skeleton"),
        ({"skeleton": {"names": ["a", "b"], "parents": [1, 0]}}, "skeleton"),
        ({"skeleton": {"names": [1] * 17, "parents": [-1] * 17}}, "skeleton"),
        ({"lifter": "none"}, "what network"),
        ({"lifter": {**SIZES, "channels": 17, "widths": [3, 3, 3]}}, "don't fit"),
        ({"lifter": {**SIZES, "channels": 4096, "widths": [3, 3, 3]}}, "don't fit"),
        ({"trajectory": LifterConfig(**SIZES).as_dict()}, "trajectory"),
        ({"trajectory": LifterConfig(**{**SIZES, "joints_out": 1}).as_dict()}, "don't fit"),
    ],
)
def test_weights_that_contradict_themselves_are_refused(header, told, tmp_path):
    path = write(tmp_path / "x.safetensors", trained(), header=header)
    with pytest.raises(WeightsError, match=told):
        load_lifter(path)


@pytest.mark.parametrize("shape", [(5, 16, 2), (5, 17, 3), (17, 2), (0, 17, 2)])
def test_keypoints_of_another_layout_are_refused_naming_both(shape, tmp_path):
    lifter = load_lifter(write(tmp_path / "x.safetensors", trained()))
    with pytest.raises(WeightsError, match=r"'coco17' keypoints, \(frames, 17, 2\).*" + str(shape[-2])):
        lifter.lift_normalised(np.zeros(shape, np.float32))


@pytest.mark.parametrize("nothing", [np.nan, np.inf])
def test_missing_keypoints_are_refused_with_their_name(nothing, tmp_path):
    lifter = load_lifter(write(tmp_path / "x.safetensors", trained()))
    keypoints = clip(5)
    keypoints[3, 9, 1] = nothing
    with pytest.raises(FileFormatError, match="'left_wrist' is missing in frame 3"):
        lifter.lift_normalised(keypoints)


def test_the_default_weights_load_but_take_rays():
    lifter = load_lifter(SHIPPED_FOLDER / "default.safetensors")
    assert lifter.input_layout == "rays21" and len(lifter.skeleton) == 41
    with pytest.raises(WeightsError, match="keylift lift"):
        lifter.lift_normalised(np.zeros((5, 22, 3), np.float32))


@pytest.mark.parametrize("test_time_flip", [True, False])
@pytest.mark.parametrize(
    ("widths", "more"), [((3, 3, 3), {}), ((3, 5), {}), ((1, 3, 3), {}), ((3, 3), {"dense": True})]
)
def test_a_stream_gives_what_the_whole_clip_gives(widths, more, test_time_flip, tmp_path):
    lifter = load_lifter(write(tmp_path / "x.safetensors", trained(widths=widths, causal=True, **more)))
    keypoints = clip(90)
    whole = lifter.lift_normalised(keypoints, test_time_flip)
    stream = StreamingLifter(lifter, test_time_flip)
    np.testing.assert_allclose([stream.push(frame) for frame in keypoints], whole, atol=1e-5)
    stream.reset()
    reused = np.empty_like(keypoints[0])
    again = []
    for frame in keypoints[40:]:
        reused[:] = frame
        again.append(stream.push(reused))
    np.testing.assert_allclose(again, lifter.lift_normalised(keypoints[40:], test_time_flip), atol=1e-5)


def test_a_refused_frame_leaves_the_stream_as_it_was(tmp_path):
    lifter = load_lifter(write(tmp_path / "x.safetensors", trained(causal=True)))
    stream, keypoints = StreamingLifter(lifter), clip(40)
    said = [stream.push(frame) for frame in keypoints[:20]]
    with pytest.raises(FileFormatError):
        stream.push(np.full((17, 2), np.nan))
    said += [stream.push(frame) for frame in keypoints[20:]]
    np.testing.assert_allclose(said, lifter.lift_normalised(keypoints), atol=1e-5)


def test_only_causal_lifters_can_stream(tmp_path):
    with pytest.raises(WeightsError, match="causal"):
        StreamingLifter(load_lifter(write(tmp_path / "x.safetensors", trained())))
