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

MAX_RECEPTIVE_FIELD = 4095
MAX_CHANNELS = 8192


@dataclass(frozen=True)
class LifterConfig:
    """Sizes of a lifter.

    points_in, features_in: K and C of the input (B, T, K, C)
    joints_out:             J of the output (B, T', J, 3)
    extras_out:             further values a frame, from a second head (contacts, uncertainty); 0 = the paper's network
    widths:                 odd kernel widths; their product is the receptive field in frames
    causal:                 True if no frame looks at later ones
    """

    points_in: int
    features_in: int
    joints_out: int
    extras_out: int = 0
    channels: int = 1024
    widths: tuple[int, ...] = (3, 3, 3, 3, 3)
    dropout: float = 0.25
    causal: bool = False

    def __post_init__(self) -> None:
        if not self.widths or any(width < 1 or width % 2 == 0 for width in self.widths):
            raise WeightsError(f"A lifter's widths must be odd and positive, not {self.widths}.")
        if self.receptive_field > MAX_RECEPTIVE_FIELD or not 0 < self.channels <= MAX_CHANNELS:
            raise WeightsError("A lifter of this size can't be real: check the file's configuration.")
        if min(self.points_in, self.features_in, self.joints_out) < 1 or self.extras_out < 0:
            raise WeightsError("A lifter needs at least one input point, one feature and one joint.")

    @property
    def receptive_field(self) -> int:
        """Frames that one output frame depends on."""
        return prod(self.widths)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a file's header."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LifterConfig:
        """Undo ``as_dict``. Raises WeightsError for unknown or missing keys."""
        try:
            return cls(**{**values, "widths": tuple(int(width) for width in values["widths"])})
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
        first, *rest = config.widths
        self.expand_conv = nn.Conv1d(config.points_in * config.features_in, channels, first, bias=False)
        self.expand_bn = nn.BatchNorm1d(channels)
        kernels = [kernel for width in rest for kernel in (width, 1)]
        self.layers_conv = nn.ModuleList(nn.Conv1d(channels, channels, kernel, bias=False) for kernel in kernels)
        self.layers_bn = nn.ModuleList(nn.BatchNorm1d(channels) for _ in kernels)
        self.shrink = nn.Conv1d(channels, config.joints_out * 3, 1)
        self.extras = nn.Conv1d(channels, config.extras_out, 1) if config.extras_out else None
        self.drop = nn.Dropout(config.dropout)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """x: (B, C, T') -> positions (B, T', J, 3), extras (B, T', E)."""
        positions = self.shrink(x).transpose(1, 2).unflatten(2, (self.config.joints_out, 3))
        return positions, None if self.extras is None else self.extras(x).transpose(1, 2)

    def forward(self, keypoints: Tensor) -> tuple[Tensor, Tensor | None]:
        """Dense form. keypoints (B, T, K, C) -> positions (B, T - RF + 1, J, 3) and extras (B, T - RF + 1, E)."""
        x = keypoints.flatten(2).transpose(1, 2)
        x = self.drop(functional.relu(self.expand_bn(self.expand_conv(x))))
        dilation = self.config.widths[0]
        for block, width in enumerate(self.config.widths[1:]):
            pad = (width - 1) * dilation // 2
            shift = width // 2 * dilation if self.config.causal else 0
            residual = x[:, :, pad + shift : x.shape[2] - pad + shift]
            wide, narrow = self.layers_conv[2 * block], self.layers_conv[2 * block + 1]
            x = functional.conv1d(x, wide.weight, dilation=dilation)
            x = self.drop(functional.relu(self.layers_bn[2 * block](x)))
            x = residual + self.drop(functional.relu(self.layers_bn[2 * block + 1](narrow(x))))
            dilation *= width
        return self._heads(x)

    def forward_window(self, window: Tensor) -> tuple[Tensor, Tensor | None]:
        """Strided form. window (B, RF, K, C) -> positions (B, 1, J, 3) and extras (B, 1, E).

        A convolution whose stride is its width is a matrix product on neighbouring frames laid side by side, which is
        several times faster on a processor than a strided convolution.
        """
        if window.shape[1] != self.config.receptive_field:
            raise ValueError(f"The window has {window.shape[1]} frames, not {self.config.receptive_field}.")

        def merged(x: Tensor, conv: nn.Module, norm: nn.Module, width: int) -> Tensor:
            batch, frames, channels = x.shape
            weight = conv.weight.permute(0, 2, 1).flatten(1)
            x = functional.linear(x.reshape(batch * frames // width, width * channels), weight)
            return self.drop(functional.relu(norm(x))).view(batch, frames // width, -1)

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
