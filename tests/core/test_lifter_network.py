import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from keylift.core.errors import WeightsError
from keylift.core.lifter.network import LifterConfig, TemporalLifter, batch_norm_momentum


def lifter(widths=(3, 3, 3), channels=16, causal=False, **more) -> TemporalLifter:
    torch.manual_seed(0)
    net = TemporalLifter(LifterConfig(17, 2, 17, channels=channels, widths=widths, causal=causal, **more))
    for norm in (net.expand_bn, *net.layers_bn):
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize(
    ("widths", "joints_out", "parameters"),
    [((3, 3, 3), 17, 8_555_571), ((3,) * 4, 17, 12_753_971), ((3,) * 5, 17, 16_952_371), ((3,) * 5, 1, 16_903_171)],
)
def test_parameter_counts_are_the_papers(widths, joints_out, parameters):
    net = TemporalLifter(LifterConfig(17, 2, joints_out, widths=widths))
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_state_dict_has_the_papers_names_and_shapes():
    shapes = {name: tuple(t.shape) for name, t in TemporalLifter(LifterConfig(17, 2, 17)).state_dict().items()}
    assert shapes["expand_conv.weight"] == (1024, 34, 3)
    assert shapes["layers_conv.6.weight"] == (1024, 1024, 3) and shapes["layers_conv.7.weight"] == (1024, 1024, 1)
    assert shapes["layers_bn.7.running_var"] == (1024,)
    assert shapes["shrink.weight"] == (51, 1024, 1) and shapes["shrink.bias"] == (51,)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [(3, 3, 3), (3, 5), (1, 3, 3), (5,)])
def test_the_window_form_gives_the_frame_of_the_dense_form(widths, causal):
    net = lifter(widths, causal=causal, extras_out=5)
    field = net.config.receptive_field
    x = torch.randn(2, field + 6, 17, 2)
    with torch.no_grad():
        dense, dense_extras = net.with_extras(x)
        assert dense.shape == (2, 7, 17, 3)
        for frame in (0, 3, 6):
            one, extras = net.window_with_extras(x[:, frame : frame + field])
            assert torch.allclose(one[:, 0], dense[:, frame], atol=1e-6)
            assert torch.allclose(extras[:, 0], dense_extras[:, frame], atol=1e-6)


def test_the_window_form_trains_like_strided_convolutions():
    net = lifter().train()
    x = torch.randn(8, 27, 17, 2)
    plain = x.flatten(2).transpose(1, 2)
    state = {name: value.clone() for name, value in net.state_dict().items()}

    def norm(index):
        layer = nn.BatchNorm1d(16)
        prefix = "expand_bn" if index is None else f"layers_bn.{index}"
        layer.load_state_dict({k.rsplit(".", 1)[1]: v for k, v in state.items() if k.startswith(prefix + ".")})
        return layer

    net.drop.p = 0
    plain = functional.relu(norm(None)(functional.conv1d(plain, state["expand_conv.weight"], stride=3)))
    for block in range(2):
        residual = plain[:, :, 1::3]
        plain = functional.conv1d(plain, state[f"layers_conv.{2 * block}.weight"], stride=3)
        plain = functional.relu(norm(2 * block)(plain))
        plain = functional.conv1d(plain, state[f"layers_conv.{2 * block + 1}.weight"])
        plain = residual + functional.relu(norm(2 * block + 1)(plain))
    plain = functional.conv1d(plain, state["shrink.weight"], state["shrink.bias"])
    mine = net.forward_window(x)
    assert torch.allclose(mine.flatten(2).transpose(1, 2), plain, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_a_frame_depends_on_its_receptive_field_and_a_causal_one_on_no_later_frame(causal):
    net = lifter(causal=causal)
    x = torch.randn(1, 27, 17, 2)
    with torch.no_grad():
        base = net(x)
        for frame in (0, 13, 26):
            changed = x.clone()
            changed[:, frame] += 5
            assert not torch.allclose(net(changed), base)
    # The residual of a causal net is the last frame of the window: with all else silenced it passes just that on.
    for conv in net.layers_conv:
        conv.weight.data.zero_()
    for norm in net.layers_bn:
        norm.bias.data.fill_(-1)
        norm.running_mean.zero_()
    with torch.no_grad():
        base = net(x)
        for frame in range(27):
            changed = x.clone()
            changed[:, frame] += 5
            reaches = not torch.allclose(net(changed), base)
            assert reaches == (frame >= 24 if causal else 12 <= frame <= 14)


@pytest.mark.parametrize(
    "values",
    [{"widths": [2]}, {"widths": []}, {"channels": 0}, {"widths": [9999]}, {"joints_out": 0}, {"surprise": 1}],
)
def test_a_configuration_that_makes_no_sense_is_refused(values):
    good = LifterConfig(17, 2, 17).as_dict()
    with pytest.raises(WeightsError):
        LifterConfig.from_dict({**good, **values})


def test_a_configuration_comes_back():
    config = LifterConfig(22, 3, 41, 45, 512, (3, 3, 3), 0.1, True)
    assert LifterConfig.from_dict(config.as_dict()) == config
    assert np.prod(config.widths) == config.receptive_field == 27


@pytest.mark.parametrize(("widths", "millions"), [((3,) * 3, 17.09), ((3,) * 4, 25.48), ((3,) * 5, 33.87)])
def test_flops_per_frame_are_the_papers(widths, millions):
    assert round(LifterConfig(17, 2, 17, widths=widths).flops_per_frame / 1e6, 2) == millions


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("widths", [(3, 3, 3), (3, 5, 1), (5, 3)])
def test_every_frame_is_a_tap_in_the_dense_ablation(widths, causal):
    net = lifter(widths, channels=8, causal=causal, dense=True)
    pads = [block.pad for block in net.config.blocks]
    kernels = [net.layers_conv[2 * block].weight.shape[2] for block in range(len(pads))]
    assert kernels == [2 * pad + 1 for pad in pads]
    assert net.layers_conv[0].weight.shape == (8, 8, widths[0] * (widths[1] - 1) + 1)
    field = net.config.receptive_field
    x = torch.randn(2, field + 3, 17, 2)
    with torch.no_grad():
        dense = net(x)
        one = net.forward_window(x[:, 2 : 2 + field])
    assert dense.shape == (2, 4, 17, 3)
    assert torch.allclose(one[:, 0], dense[:, 2], atol=1e-6)


def test_the_dense_ablation_with_only_the_dilated_taps_is_the_dilated_network():
    net, dilated = lifter(channels=8, causal=True, dense=True), lifter(channels=8, causal=True)
    state = net.state_dict()
    for name, value in dilated.state_dict().items():
        if value.shape == state[name].shape:
            state[name] = value
        else:
            block = dilated.config.blocks[int(name.split(".")[1]) // 2]
            state[name].zero_()
            state[name][:, :, :: block.dilation] = value
    net.load_state_dict(state)
    x = torch.randn(1, 33, 17, 2)
    with torch.no_grad():
        assert torch.allclose(net(x), dilated(x), atol=1e-6)


def test_headers_from_before_the_dense_ablation_are_read():
    old = LifterConfig(17, 2, 17).as_dict()
    del old["dense"]
    assert LifterConfig.from_dict(old) == LifterConfig(17, 2, 17)


@pytest.mark.parametrize(
    "values",
    [
        {"channels": "many"},
        {"channels": 8.5},
        {"points_in": True},
        {"widths": "33"},
        {"dropout": 1.5},
        {"points_in": 10**6},
        {"channels": 8192, "widths": [3] * 7},
        {"dense": True, "widths": [3, 1365]},
    ],
)
def test_a_configuration_that_would_fill_the_memory_or_is_of_another_kind_is_refused(values):
    with pytest.raises(WeightsError):
        LifterConfig.from_dict({**LifterConfig(17, 2, 17).as_dict(), **values})


def test_the_momentum_of_the_batch_norms_falls_from_a_tenth_to_a_thousandth():
    assert batch_norm_momentum(1, 60) == 0.1
    assert batch_norm_momentum(2, 60) == pytest.approx(0.1 * 0.01 ** (1 / 60))
    assert batch_norm_momentum(61, 60) == pytest.approx(0.001)
    net = lifter()
    net.set_batch_norm_momentum(batch_norm_momentum(31, 60))
    assert all(norm.momentum == pytest.approx(0.01) for norm in (net.expand_bn, *net.layers_bn))
