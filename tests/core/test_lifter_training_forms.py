"""What makes training fast changes nothing about what is learnt."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from keylift.core.lifter import matrix_product
from keylift.core.lifter.dropout import Dropout
from keylift.core.lifter.matrix_product import learnt_product
from keylift.core.lifter.network import LifterConfig, TemporalLifter


def gradients(net: TemporalLifter, windows: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a loss that every output enters."""
    net.zero_grad()
    positions = net.forward_window(windows)
    (positions * torch.arange(positions.numel()).view(positions.shape).to(positions).cos()).sum().backward()
    return {name: value.grad for name, value in net.named_parameters()}


@pytest.mark.parametrize("causal", [False, True])
def test_gradients_are_those_of_double_precision(causal):
    torch.manual_seed(0)
    net = TemporalLifter(LifterConfig(17, 2, 17, channels=24, widths=(3, 5, 3), dropout=0.0, causal=causal)).train()
    exact = TemporalLifter(net.config).double().train()
    exact.load_state_dict(net.state_dict())
    windows = torch.randn(96, 45, 17, 2)
    truth = gradients(exact, windows.double())
    for name, value in gradients(net, windows).items():
        assert torch.allclose(value.double(), truth[name], atol=1e-4 * truth[name].abs().max().item()), name


@pytest.mark.parametrize("rows", [1, 63, 64, 200])
@pytest.mark.parametrize("served", [True, False])
def test_a_learnt_product_is_a_product(rows, served, monkeypatch):
    if not served:
        monkeypatch.setattr(matrix_product, "onednn_serves", lambda weight: False)
    x = torch.randn(rows, 12, requires_grad=True)
    weight = torch.randn(10, 12, requires_grad=True)
    towards = torch.randn(rows, 10)
    y = learnt_product(x, weight)
    y.backward(towards)
    assert torch.allclose(y, functional.linear(x, weight), atol=1e-5)
    assert torch.allclose(x.grad, towards @ weight, atol=1e-5)
    assert torch.allclose(weight.grad, towards.t() @ x, atol=1e-4)


def test_mixed_precision_reaches_the_products():
    with torch.autocast("cpu", torch.bfloat16):
        assert learnt_product(torch.randn(100, 8), torch.randn(4, 8)).dtype == torch.bfloat16


@pytest.mark.parametrize("part", [0.1, 0.25, 0.5])
def test_dropout_drops_its_part_and_keeps_the_mean(part):
    torch.manual_seed(0)
    x = torch.ones(401, 999, requires_grad=True)
    y = Dropout(part)(x)
    assert (y == 0).float().mean().item() == pytest.approx(part, abs=0.003)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert y.max().item() == pytest.approx(1 / (1 - part))
    y.sum().backward()
    assert torch.equal(x.grad, y)
    # Neighbours are dropped independently: pairs are as rare as they should be.
    dropped = (y == 0).float()
    assert (dropped[:, 1:] * dropped[:, :-1]).mean().item() == pytest.approx(part**2, abs=0.003)


def test_dropout_follows_the_seed_and_rests_outside_training():
    x = torch.randn(50, 7)
    drop = Dropout(0.25)
    torch.manual_seed(3)
    first = drop(x)
    torch.manual_seed(3)
    assert torch.equal(drop(x), first) and not torch.equal(drop(x), first)
    assert torch.equal(drop.eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert isinstance(drop, nn.Dropout)
