"""A trained lifter with everything multiplied out that stays the same from frame to frame.

In use a batch norm only scales and moves what a convolution gives, so it goes into the convolution's weights. And the
mirror image of the test-time flip is a second lane beside the first: the first convolution reads plain keypoints with
mirrored weights as well, the last one averages both lanes, and no array is ever mirrored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from .network import BlockShape, LifterConfig, TemporalLifter


@dataclass(frozen=True, eq=False)
class Mirror:
    """Which input points (K,) and output joints (J,) take each other's place when left and right are exchanged."""

    points: np.ndarray
    joints: np.ndarray


@dataclass(frozen=True, eq=False)
class FoldedBlock:
    """One residual block: wide (C, C, taps) with bias (C,), ReLU, narrow (C, C) with bias (C,), ReLU."""

    shape: BlockShape
    wide: Tensor
    wide_bias: Tensor
    narrow: Tensor
    narrow_bias: Tensor


@dataclass(frozen=True, eq=False)
class FoldedLifter:
    """The convolutions that are left of a lifter, float32.

    lanes:                    2 with a mirror image beside the keypoints, else 1
    expand (lanes * C, w0 * K * F), expand_bias: on w0 frames of keypoints laid side by side, oldest first
    shrink (3 J, lanes * C), shrink_bias: on both lanes at once
    """

    config: LifterConfig
    lanes: int
    expand: Tensor
    expand_bias: Tensor
    blocks: tuple[FoldedBlock, ...]
    shrink: Tensor
    shrink_bias: Tensor


def _folded(conv: nn.Module, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Weights (C, C_in, taps) and bias (C,), float64, of a convolution and the batch norm behind it."""
    assert isinstance(conv, nn.Conv1d) and isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return conv.weight.double() * scale[:, None, None], norm.bias.double() - norm.running_mean.double() * scale


@torch.no_grad()
def fold(network: TemporalLifter, mirror: Mirror | None = None) -> FoldedLifter:
    """Fold ``network`` as it is now, on the CPU; with ``mirror`` it averages with the un-mirrored mirror image."""
    # Apple's GPUs know no float64.
    network = _on_cpu(network)
    config = network.config
    expand, expand_bias = _folded(network.expand_conv, network.expand_bn)
    shrink, shrink_bias = network.shrink.weight.double()[:, :, 0], network.shrink.bias.double()
    if mirror is not None:
        points = expand.unflatten(1, (config.points_in, config.features_in))[:, mirror.points.tolist()].clone()
        points[:, :, 0] *= -1
        expand = torch.cat([expand, points.flatten(1, 2)])
        expand_bias = torch.cat([expand_bias, expand_bias])
        shrink, shrink_bias = _averaged(shrink, mirror, dim=1), _averaged(shrink_bias[:, None], mirror, dim=None)[:, 0]
    blocks = []
    for index, shape in enumerate(config.blocks):
        wide, wide_bias = _folded(network.layers_conv[2 * index], network.layers_bn[2 * index])
        narrow, narrow_bias = _folded(network.layers_conv[2 * index + 1], network.layers_bn[2 * index + 1])
        blocks.append(FoldedBlock(shape, wide.float(), wide_bias.float(), narrow[:, :, 0].float(), narrow_bias.float()))
    return FoldedLifter(
        config,
        1 if mirror is None else 2,
        expand.transpose(1, 2).flatten(1).float(),
        expand_bias.float(),
        tuple(blocks),
        shrink.float(),
        shrink_bias.float(),
    )


def _on_cpu(network: TemporalLifter) -> TemporalLifter:
    if network.shrink.weight.device.type == "cpu":
        return network
    copy = TemporalLifter(network.config)
    copy.load_state_dict(network.state_dict())
    return copy


def _averaged(shrink: Tensor, mirror: Mirror, dim: int | None) -> Tensor:
    """Rows (3 J, N) and the rows of the un-mirrored mirror image, each half: side by side along ``dim``, or summed."""
    joints = shrink.unflatten(0, (-1, 3))
    mirrored = joints[mirror.joints.tolist()].clone()
    mirrored[:, 0] *= -1
    both = (joints.flatten(0, 1) / 2, mirrored.flatten(0, 1) / 2)
    return both[0] + both[1] if dim is None else torch.cat(both, dim=dim)
