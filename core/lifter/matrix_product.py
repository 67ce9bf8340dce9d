"""The one operation that lifting consists of, as fast as the processor has it."""

from __future__ import annotations

import platform
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional


class MatrixProduct:
    """rows @ weight.T + bias, with the weights laid out once as the processor likes them. For inference."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None, rows: int | None = None) -> None:
        """weight (N, K), bias (N,); rows: about how many there will be at once"""
        self._weight, self._bias = weight, bias
        self._packed = (
            torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), rows) if onednn_serves(weight) else None
        )

    def __call__(self, rows: Tensor, relu: bool = False) -> Tensor:
        """(R, K) -> (R, N)"""
        if self._packed is not None:
            end = "relu" if relu else "none"
            return torch.ops.mkldnn._linear_pointwise(rows, self._packed, self._bias, end, [], "")
        result = functional.linear(rows, self._weight, self._bias)
        return result.relu_() if relu else result


def learnt_product(rows: Tensor, weight: Tensor) -> Tensor:
    """rows (R, K) @ weight (N, K).T, with gradients for both."""
    plain = rows.dtype != torch.float32 or torch.is_autocast_enabled(rows.device.type)
    if plain or not onednn_serves(weight) or len(rows) < _FEWEST_ROWS:
        return functional.linear(rows, weight)
    return _LearntProduct.apply(rows, weight)


class _LearntProduct(torch.autograd.Function):
    """oneDNN forward and towards the rows; towards the weights it would have to turn both factors and gain nothing."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _unpacked(rows, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        rows, weight = ctx.saved_tensors
        towards_rows, towards_weight = ctx.needs_input_grad
        return (
            _unpacked(gradient.contiguous(), weight.t().contiguous()) if towards_rows else None,
            gradient.t() @ rows if towards_weight else None,
        )


def _unpacked(rows: Tensor, weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight.contiguous(), None, "none", [], "")


# Below, laying the weights out anew each time costs more than it gains.
_FEWEST_ROWS = 64


def onednn_serves(weight: Tensor) -> bool:
    """True where oneDNN can be asked for the product; on AMD it takes a fifth less time than what torch asks by itself.

    It is asked through the operators that torch.compile makes use of. They are not for everyone, so they are tried out
    before they are trusted.
    """
    fits = weight.device.type == "cpu" and weight.dtype in (torch.float32, torch.bfloat16)
    return fits and _onednn_gives_what_it_should()


@cache
def _onednn_gives_what_it_should() -> bool:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    rows, weight, bias = torch.arange(12.0).view(3, 4) - 5, torch.arange(8.0).view(2, 4) - 3, torch.ones(2)
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight, 3)
        said = torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "relu", [], "")
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):
        return False
    return torch.equal(said, functional.linear(rows, weight, bias).relu())
