"""What the lifter is trained to make small.

"3D human pose estimation in video with temporal convolutions and semi-supervised training", sections 4 and 5.3. When
several processes train on parts of one batch, means are taken over the whole batch; see ``batch_mean``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, distributed


def sharing() -> bool:
    """True while several processes train on parts of one batch."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a value that every process has one of; what is wanted of the sum is wanted of each of them."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        # Every process goes on from its own copy of the sum, and all these copies ask something of this value.
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum of every process's ``value``; gradients flow back to all of them.

    Where each process takes the same loss of the sum, gradients are those of the sum of these losses: as many times too
    large as there are processes. Their mean over processes, which DistributedDataParallel takes, is the loss's own.
    """
    return _SumOverProcesses.apply(value) if sharing() else value  # type: ignore[no-untyped-call]


def batch_mean(values: Tensor, sizes: Sequence[int] = (0,)) -> Tensor:
    """Mean over the axes ``sizes`` (the batch first) of the whole batch, of which ``values`` is this process's part.

    Processes may hold parts of different size, or an empty one.
    """
    if not sharing():
        return values.mean(dim=tuple(sizes))
    count = torch.tensor(float(torch.Size(values.shape[axis] for axis in sizes).numel()), device=values.device)
    distributed.all_reduce(count)
    return sum_over_processes(values.sum(dim=tuple(sizes))) / count


def mpjpe_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance between joints; (B, T, J, D) in the unit of the input, D = 2 or 3."""
    return batch_mean(torch.linalg.vector_norm(predicted - target, dim=-1), (0, 1, 2))


def trajectory_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean distance of the root, weighted by one over its true depth; (B, T, 3) metres in camera space.

    A root far away is allowed a larger error (section 4, "semi-supervised approach").
    """
    distance = torch.linalg.vector_norm(predicted - target, dim=-1)
    return batch_mean(distance / target[..., 2], (0, 1))


def bone_length_loss(labelled: Tensor, unlabelled: Tensor, parents: Sequence[int]) -> Tensor:
    """How far mean bone lengths of unlabelled predictions are from those of labelled ones; (B, T, J, 3) metres.

    Mean over bones of the absolute difference of means; gradients flow through both.
    """
    children = [joint for joint, parent in enumerate(parents) if parent >= 0]
    roots = [parents[joint] for joint in children]

    def mean_lengths(positions: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(positions[:, :, children] - positions[:, :, roots], dim=-1)
        return batch_mean(lengths, (0, 1))

    return (mean_lengths(labelled) - mean_lengths(unlabelled)).abs().mean()
