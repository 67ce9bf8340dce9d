"""The network of "3D human pose estimation in video with temporal convolutions and semi-supervised training".

Pavllo, Feichtenhofer, Grangier and Auli, CVPR 2019, sections 3 and 4. Two forms share one set of parameters: the dense
one gives a frame for every frame of a sequence, the strided one gives the one frame in the middle of a window and does
none of the work for its neighbours.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from ..errors import WeightsError
from .dropout import Dropout
from .matrix_product import learnt_product

MAX_RECEPTIVE_FIELD = 1 << 16
MAX_CHANNELS = 8192
MAX_BLOCKS = 64
MAX_POINTS = 4096
# As many float32 numbers as a weights file may hold bytes of.
MAX_PARAMETERS = 1 << 28


@dataclass(frozen=True)
class BlockShape:
    """What one residual block looks at.

    width:    frames that the block of the strided form makes one of
    kernel:   taps of the first convolution
    dilation: frames between two of its taps
    pad:      frames that the block takes off each end of the sequence
    shift:    frames that the residual lies later than the middle of the taps (causal: the last tap)
    """

    width: int
    kernel: int
    dilation: int
    pad: int
    shift: int

    def residual_of(self, frames: int) -> slice:
        """The frames, of ``frames`` that go in, which the block's outputs are added to."""
        return slice(self.pad + self.shift, frames - self.pad + self.shift)


@dataclass(frozen=True)
class LifterConfig:
    """Sizes of a lifter.

    points_in, features_in: K and C of the input (B, T, K, C)
    joints_out:             J of the output (B, T', J, 3)
    extras_out:             further values a frame, from a second head (contacts, uncertainty); 0 = the paper's network
    widths:                 odd kernel widths; their product is the receptive field in frames
    causal:                 True if no frame looks at later ones
    dense:                  the paper's ablation: every frame under a block's span is a tap, not ``width`` of them
    """

    points_in: int
    features_in: int
    joints_out: int
    extras_out: int = 0
    channels: int = 1024
    widths: tuple[int, ...] = (3, 3, 3, 3, 3)
    dropout: float = 0.25
    causal: bool = False
    dense: bool = False

    def __post_init__(self) -> None:
        if len(self.widths) > MAX_BLOCKS:
            raise WeightsError(f"A lifter of {len(self.widths)} blocks can't be real: check the file's configuration.")
        sizes = (self.points_in, self.features_in, self.joints_out, self.extras_out, self.channels, *self.widths)
        if any(type(size) is not int for size in sizes):
            raise WeightsError("A lifter's sizes must be whole numbers: check the file's configuration.")
        if not self.widths or any(width < 1 or width % 2 == 0 for width in self.widths):
            raise WeightsError(f"A lifter's widths must be odd and positive, not {self.widths}.")
        if min(self.points_in, self.features_in, self.joints_out) < 1 or self.extras_out < 0:
            raise WeightsError("A lifter needs at least one input point, one feature and one joint.")
        points = max(self.points_in, self.features_in, self.joints_out, self.extras_out)
        if self.receptive_field > MAX_RECEPTIVE_FIELD:
            raise WeightsError(f"A lifter that looks at {self.receptive_field} frames can't be real; check its widths.")
        if not 0 < self.channels <= MAX_CHANNELS or points > MAX_POINTS:
            raise WeightsError("A lifter of this size can't be real: check the file's configuration.")
        if self.flops_per_frame > 2 * MAX_PARAMETERS:
            raise WeightsError("A lifter of this size can't be real: check the file's configuration.")
        if not 0 <= self.dropout < 1:
            raise WeightsError(f"A lifter's dropout must be at least 0 and below 1, not {self.dropout}.")

    @property
    def receptive_field(self) -> int:
        """Frames that one output frame depends on."""
        return prod(self.widths)

    @property
    def blocks(self) -> tuple[BlockShape, ...]:
        """The residual blocks, from the input up."""
        shapes = []
        span = self.widths[0]
        for width in self.widths[1:]:
            pad = (width - 1) * span // 2
            kernel, dilation = (2 * pad + 1, 1) if self.dense else (width, span)
            shapes.append(BlockShape(width, kernel, dilation, pad, width // 2 * span if self.causal else 0))
            span *= width
        return tuple(shapes)

    @property
    def padding(self) -> tuple[int, int]:
        """Copies of the first and of the last frame that make the dense form give a frame for every frame."""
        around = self.receptive_field - 1
        return (around, 0) if self.causal else (around // 2, around // 2)

    @property
    def flops_per_frame(self) -> int:
        """Multiplications and additions that one further frame of the dense form costs, in its convolutions."""
        taps = sum(block.kernel + 1 for block in self.blocks)
        first = self.points_in * self.features_in * self.widths[0]
        last = 3 * self.joints_out + self.extras_out
        return 2 * self.channels * (first + taps * self.channels + last)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a file's header."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LifterConfig:
        """Undo ``as_dict``; what older files don't say is as it was then. Raises WeightsError for unknown keys."""
        try:
            return cls(**{**values, "widths": tuple(values["widths"])})
        except (TypeError, KeyError, ValueError) as problem:
            raise WeightsError(f"The configuration of the lifter is not understood: {problem}") from problem


class TemporalLifter(nn.Module):
    """Dilated temporal convolutions over keypoints, (B, T, K, C) -> (B, T', J, 3).

    Parameter names and shapes are the paper's, so published weights load. ``extras`` is the second head, if any.
    """

    def __init__(self, config: LifterConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        self.expand_conv = nn.Conv1d(config.points_in * config.features_in, channels, config.widths[0], bias=False)
        self.expand_bn = nn.BatchNorm1d(channels)
        kernels = [kernel for block in config.blocks for kernel in (block.kernel, 1)]
        self.layers_conv = nn.ModuleList(nn.Conv1d(channels, channels, kernel, bias=False) for kernel in kernels)
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(channels) for _ in kernels)
        self.shrink = nn.Conv1d(channels, config.joints_out * 3, 1)
        self.extras = nn.Conv1d(channels, config.extras_out, 1) if config.extras_out else None
        self.drop = Dropout(config.dropout)

    def forward(self, keypoints: Tensor) -> Tensor:
        """Dense form. keypoints (B, T, K, C) -> positions (B, T - RF + 1, J, 3)."""
        return self.with_extras(keypoints)[0]

    def forward_window(self, window: Tensor) -> Tensor:
        """Strided form. window (B, RF, K, C) -> positions (B, 1, J, 3)."""
        return self.window_with_extras(window)[0]

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x: (B, C, T') -> positions (B, T', J, 3), extras (B, T', E)."""
        positions = self.shrink(x).transpose(1, 2).unflatten(2, (self.config.joints_out, 3))
        return positions, None if self.extras is None else self.extras(x).transpose(1, 2)

    def with_extras(self, keypoints: Tensor) -> tuple[Tensor, Tensor | None]:
        """Dense form with both heads: (B, T, K, C) -> positions (B, T - RF + 1, J, 3), extras (B, T - RF + 1, E)."""
        x = keypoints.flatten(2).transpose(1, 2)
        x = self.drop(functional.relu(self.expand_bn(self.expand_conv(x))))
        for index, block in enumerate(self.config.blocks):
            residual = x[:, :, block.residual_of(x.shape[2])]
            wide, narrow = self.layers_conv[2 * index], self.layers_conv[2 * index + 1]
            x = functional.conv1d(x, wide.weight, dilation=block.dilation)
            x = self.drop(functional.relu(self.layers_bn[2 * index](x)))
            x = residual + self.drop(functional.relu(self.layers_bn[2 * index + 1](narrow(x))))
        return self._heads(x)

    def window_with_extras(self, window: Tensor) -> tuple[Tensor, Tensor | None]:
        """Strided form with both heads: (B, RF, K, C) -> positions (B, 1, J, 3), extras (B, 1, E).

        The dense ablation has no such form: its taps overlap, so the window goes through the dense form.

        A convolution whose stride is its width is a matrix product on neighbouring frames laid side by side, which is
        several times faster on a processor than a strided convolution.
        """
        if window.shape[1] != self.config.receptive_field:
            raise ValueError(f"The window has {window.shape[1]} frames, not {self.config.receptive_field}.")
        if self.config.dense:
            return self.with_extras(window)

        def merged(x: Tensor, conv: nn.Module, norm: nn.Module, width: int) -> Tensor:
            batch, frames, channels = x.shape
            weight = conv.weight.permute(0, 2, 1).flatten(1)
            x = learnt_product(x.reshape(batch * frames // width, width * channels), weight)
            return self.drop(functional.relu(norm(x))).view(batch, frames // width, conv.weight.shape[0])

        x = merged(window.flatten(2), self.expand_conv, self.expand_bn, self.config.widths[0])
        for block, width in enumerate(self.config.widths[1:]):
            residual = x[:, (width - 1 if self.config.causal else width // 2) :: width]
            x = merged(x, self.layers_conv[2 * block], self.layers_bn[2 * block], width)
            x = residual + merged(x, self.layers_conv[2 * block + 1], self.layers_bn[2 * block + 1], 1)
        return self._heads(x.transpose(1, 2))

    def set_batch_norm_momentum(self, momentum: float) -> None:
        """How fast running statistics follow the batches, in every batch norm."""
        for norm in (self.expand_bn, *self.layers_bn):
            assert isinstance(norm, nn.BatchNorm1d)
            norm.momentum = momentum


def batch_norm_momentum(epoch: int, epochs: int) -> float:
    """Momentum of the batch norms in epoch ``epoch``, counted from 1, of ``epochs``: 0.1 in the first, 0.001 at last.

    It falls after every epoch, so the value for ``epochs + 1`` is what the last epoch ends with.
    """
    return 0.1 * 0.01 ** ((epoch - 1) / epochs)
