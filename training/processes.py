"""Several processes, one batch: what ``torchrun`` starts shares the work of every step."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, distributed, nn

from ..core.errors import KeyliftError
from ..core.lifter.losses import sum_over_processes


def world_size() -> int:
    """How many processes share the run."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is; 0 writes the files and talks."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """True in the process that writes the files, before the others are joined too."""
    return int(os.environ.get("RANK", "0")) == 0


def part_of(chosen: np.ndarray) -> np.ndarray:
    """This process's part of a global batch (B,): every n-th."""
    return chosen[rank() :: world_size()]


def restarted() -> bool:
    """True when torchrun started this process again after one of the run had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes when started by torchrun; gives the device that this process computes on."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield device
        return
    if device.type == "mps":
        raise KeyliftError("Several processes can't share an Apple GPU. Say --device cpu, or start without torchrun.")
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


class SharedBatchNorm(nn.BatchNorm1d):
    """A batch norm whose statistics are those of the whole batch, on any device.

    torch's own SyncBatchNorm asks for CUDA. Parameters and buffers are named as in BatchNorm1d.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C) or (N, C, L)"""
        if not self.training or world_size() < 2:
            return super().forward(x)
        axes = (0,) if x.ndim == 2 else (0, 2)
        shape = (1, -1) if x.ndim == 2 else (1, -1, 1)
        x32 = x.float()
        count = torch.full((1,), x32.numel() / x32.shape[1], device=x.device)
        sums = sum_over_processes(torch.cat([x32.sum(axes), (x32 * x32).sum(axes), count]))
        total = sums[-1]
        mean = sums[: x32.shape[1]] / total
        variance = (sums[x32.shape[1] : -1] / total - mean * mean).clamp(min=0)
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None
            assert self.momentum is not None and self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1), self.momentum)
        x32 = (x32 - mean.view(shape)) * torch.rsqrt(variance.view(shape) + self.eps)
        return (x32 * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def share_batch_norms(module: nn.Module) -> None:
    """Replace every BatchNorm1d below ``module`` by one over the whole batch, with the same values."""
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.load_state_dict(child.state_dict())
            module.add_module(name, shared.to(child.weight.device))
        else:
            share_batch_norms(child)
