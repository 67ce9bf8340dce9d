"""Several processes, one batch: what ``torchrun`` starts shares the work of every step."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ..core.errors import KeyliftError, TryAgainError
from ..core.lifter.losses import sharing, sum_over_processes

LOST = "Another process of this run has ended, and this one can't go on alone. Start the run again with --resume."


def world_size() -> int:
    """How many processes share the run."""
    return distributed.get_world_size() if sharing() else 1


def rank() -> int:
    """Which of them this is; 0 writes the files and talks."""
    return distributed.get_rank() if sharing() else 0


def is_first() -> bool:
    """True in the process that writes the files, before the others are joined too."""
    return int(os.environ.get("RANK", "0")) == 0


def started_together() -> int:
    """How many processes torchrun started for this run, before they are joined too; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def part_of(chosen: np.ndarray) -> np.ndarray:
    """This process's part of a global batch (B,): every n-th."""
    return chosen[rank() :: world_size()]


def restarts() -> int:
    """How often torchrun started this process again after one of the run had died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def launch_id() -> str | None:
    """What torchrun calls its launch (``none`` unless told by --rdzv-id); None without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


@contextmanager
def joined(device: torch.device) -> Iterator[torch.device]:
    """Join the other processes when started by torchrun; gives the device that this process computes on.

    Raises KeyliftError when several processes can't share the device, and TryAgainError when another one has ended.
    """
    if started_together() < 2:
        yield device
        return
    if device.type == "mps":
        raise KeyliftError("Several processes can't share an Apple GPU. Say --device cpu, or start without torchrun.")
    if device.type == "cuda":
        number = int(os.environ.get("LOCAL_RANK", "0"))
        if number >= torch.cuda.device_count():
            raise KeyliftError(
                f"There are more processes than the {torch.cuda.device_count()} GPUs of this machine. Give torchrun as "
                "many with --nproc-per-node, or say --device cpu."
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    store, number, count = next(distributed.rendezvous("env://"))
    # torchrun keeps one store through all restarts, where the addresses of those who died would be found again.
    attempt = distributed.PrefixStore(f"keylift/{restarts()}/{count}", store)
    distributed.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", store=attempt, rank=number, world_size=count
    )
    try:
        yield device
        # Nobody hangs up while another is still in the middle of something: gloo's threads take that badly.
        distributed.barrier()
    except RuntimeError as problem:
        # Gloo has no kind of error of its own.
        if isinstance(problem, distributed.DistError) or "gloo" in str(problem).lower():
            raise TryAgainError(LOST) from problem
        raise
    finally:
        distributed.destroy_process_group()


def check_agreed(step: int, device: torch.device) -> None:
    """Raise KeyliftError, in every process, when not all of them are about to begin at the same step."""
    if world_size() < 2:
        return
    extremes = torch.tensor([step, -step], device=device)
    distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
    latest, earliest = int(extremes[0]), -int(extremes[1])
    if latest != earliest:
        raise KeyliftError(
            f"The processes found different checkpoints, of step {earliest} and of step {latest}. Give all of them the "
            "same run folder with --run, on a disk that every machine sees."
        )


class SharedBatchNorm(nn.BatchNorm1d):
    """A batch norm whose statistics are those of the whole batch, on any device.

    torch's own SyncBatchNorm asks for CUDA. Parameters and buffers are named as in BatchNorm1d.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x: (N, C) or (N, C, L), N = this process's part of the batch, which may be nothing."""
        if not self.training or world_size() < 2:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None
        assert self.momentum is not None and self.num_batches_tracked is not None
        axes = (0,) if x.ndim == 2 else (0, 2)
        shape = (1, -1) if x.ndim == 2 else (1, -1, 1)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        # Taken about the running mean, which all processes have alike: the mean of squares less the square of the mean
        # would lose its digits where a channel is far from 0.
        pivot = self.running_mean.clone()
        values = values - pivot.view(shape)
        count = values.new_full((1,), values.shape[0] * (values.shape[2] if values.ndim == 3 else 1))
        total, sums, squares = sum_over_processes(
            torch.cat([count, values.sum(axes), (values * values).sum(axes)])
        ).split([1, self.num_features, self.num_features])
        mean = sums / total
        variance = (squares / total - mean * mean).clamp(min=0)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean + pivot, self.momentum)
            self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), self.momentum)
        normalised = (values - mean.view(shape)) * torch.rsqrt(variance.view(shape) + self.eps)
        return (normalised * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype)


def share_batch_norms(module: nn.Module) -> None:
    """Replace every BatchNorm1d below ``module`` by one over the whole batch; nothing to do in a run of one process.

    Parameters and buffers stay the objects that they are, so an optimiser that has them goes on teaching them.
    """
    if world_size() < 2:
        return
    for name, child in module.named_children():
        if type(child) is nn.BatchNorm1d:
            shared = SharedBatchNorm(child.num_features, child.eps, child.momentum)
            shared.weight, shared.bias = child.weight, child.bias
            for buffer, values in child.named_buffers():
                setattr(shared, buffer, values)
            module.add_module(name, shared.train(child.training))
        else:
            share_batch_norms(child)


def shared(lesson: nn.Module) -> nn.Module:
    """``lesson`` with gradients that are means over all processes; itself in a run of one process.

    Its losses and batch norms must be over the whole batch already, see ``sum_over_processes``.
    """
    if world_size() < 2:
        return lesson
    # The kernels of width 1 have two equally good memory layouts.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    # Buffers agree already: every process computes them from the whole batch.
    # All parameters are used. Looking for unused ones keeps gradients in one arrangement: otherwise the second step
    # arranges them anew, later in a resumed run than in one that never stopped, and sums of more than two numbers come
    # out otherwise.
    return DistributedDataParallel(lesson, forward_sync_buffers=False, find_unused_parameters=world_size() > 2)
