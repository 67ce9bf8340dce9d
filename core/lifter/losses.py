"""What the lifter is trained to make small.

"3D human pose estimation in video with temporal convolutions and semi-supervised training", sections 4 and 5.3. When
several processes train on parts of one batch, means are taken over the whole batch; see ``batch_mean``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, distributed
from torch.distributed.nn import functional as shared


def sharing() -> bool:
    """True while several processes train on parts of one batch."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum of every process's ``value``; gradients flow back to all of them."""
    return shared.all_reduce(value) if sharing() else value


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
