"""The loop that every lesson goes through: batches, steps, validation, checkpoints, and how it is taken up again."""

from __future__ import annotations

import hashlib
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.errors import Cancelled
from ..core.progress import Progress, report, silent
from . import checkpoints, run_folder
from .processes import check_agreed, rank, share_batch_norms, shared

AHEAD = 4

Batch = TypeVar("Batch")


class Lesson(Protocol):
    """What is learnt, and from what; also a torch module whose parameters are the networks'.

    Batches, learning rate and momentum depend on the number of the step alone: that is what makes a resumed run the
    same as one that never stopped.
    """

    @property
    def steps(self) -> int: ...
    def batch(self, step: int) -> Any: ...
    def make_optimiser(self) -> Optimizer: ...
    def prepare_step(self, step: int, optimiser: Optimizer) -> None: ...
    def __call__(self, batch: Any) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class LoopPlan:
    """When what is done.

    checkpoint_every_s, checkpoint_every: seconds, or steps, from one checkpoint to the next; 0 = not by this measure
    validate_every:                       steps
    precision:                            auto, float32 or bfloat16
    """

    seed: int
    validate_every: int
    checkpoint_every: int = 0
    checkpoint_every_s: float = 0.0
    precision: str = "float32"


def batches_ahead(make: Callable[[int], Batch], first: int, last: int) -> Iterator[Batch]:
    """``make(first)`` to ``make(last - 1)``, made in a thread while the network works on those before."""
    with ThreadPoolExecutor(1) as maker:
        pending: deque[Future[Batch]] = deque()
        try:
            for number in range(first, last):
                while len(pending) < AHEAD and number + len(pending) < last:
                    pending.append(maker.submit(make, number + len(pending)))
                yield pending.popleft().result()
        finally:
            maker.shutdown(cancel_futures=True)


def seed_step(seed: int, step: int) -> None:
    """Make dropout depend on the seed, the step and the process alone."""
    digest = hashlib.sha256(f"{seed} {step} {rank()}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little", signed=True))


def computed_in(precision: str, device: torch.device) -> Any:
    """A context in which ``precision`` holds: auto means bfloat16 on a CUDA device that is made for it."""
    half = precision == "bfloat16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    )
    return torch.autocast(device.type, torch.bfloat16) if half else nullcontext()


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """A block whose sums come out alike every time: torch takes its deterministic algorithms, where it has them."""
    if device.type == "cuda":
        # Must be there before the first matrix product; https://docs.nvidia.com/cuda/cublas, "Results reproducibility".
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    enabled, warn_only = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled


def averages(pending: Mapping[str, list[float]]) -> dict[str, float]:
    """Means of the losses of several steps; the total is called ``loss``, its parts ``loss_NAME``."""
    return {name if name == "loss" else f"loss_{name}": float(np.mean(values)) for name, values in pending.items()}


def _taken_up(
    folder: Path,
    config: Mapping[str, Any],
    lesson: nn.Module,
    optimiser: Optimizer,
    device: torch.device,
    tell: Callable[[str], None],
) -> checkpoints.Standing:
    """Where the run in ``folder`` stands, with the networks and the optimiser put back."""
    standing, sentences = checkpoints.load(folder, config, lesson, optimiser)
    check_agreed(standing.step if standing else 0, device)
    for sentence in sentences:
        tell(sentence)
    if standing is None:
        tell(f"There is no checkpoint in '{folder}' yet; starting from the beginning.")
        return checkpoints.Standing()
    return standing


def learn(
    lesson: Any,
    plan: LoopPlan,
    config: Mapping[str, Any],
    folder: Path,
    device: torch.device,
    validate: Callable[[], dict[str, float]],
    *,
    resume: bool = False,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
    first_entry: Mapping[str, float] | None = None,
) -> checkpoints.Standing:
    """Take ``lesson`` (a Lesson and a torch module on ``device``) through all its steps.

    When ``progress`` asks to stop, a checkpoint of that moment is written first.

    validate: gives errors to log; the lesson is in evaluation mode while it runs
    resume:   go on from the newest sound checkpoint of ``folder``
    tell:     hears what a person should know
    first_entry: errors before the first step, where the log is to begin with them
    Raises FileFormatError when a checkpoint doesn't fit, KeyliftErrors of the output, and Cancelled.
    """
    share_batch_norms(lesson)
    optimiser = lesson.make_optimiser()
    if resume:
        standing = _taken_up(folder, config, lesson, optimiser, device, tell)
    else:
        run_folder.check_new(folder)
        standing = checkpoints.Standing()
    step, log, pending = standing.step, standing.log, standing.pending
    module = shared(lesson)
    writes = rank() == 0
    began, saved_at, saved_step = time.monotonic() - standing.seconds, time.monotonic(), step

    def save() -> None:
        nonlocal saved_at, saved_step
        if writes and saved_step != step:
            now = checkpoints.Standing(step, time.monotonic() - began, log, pending)
            checkpoints.save(folder, config, now, lesson, optimiser)
            saved_at, saved_step = time.monotonic(), step

    record = run_folder.RunFolder(folder if writes else None, config, step, tell, log)
    with record, reproducible(device):
        if first_entry is not None and not log:
            log.append({"step": 0.0, "seconds": 0.0, **first_entry})
            record.add(log)
        report(progress, step, lesson.steps)
        for batch in batches_ahead(lesson.batch, step, lesson.steps):
            lesson.train()
            lesson.prepare_step(step, optimiser)
            seed_step(plan.seed, step)
            optimiser.zero_grad(set_to_none=True)
            with computed_in(plan.precision, device):
                parts = module(batch)
            parts["loss"].backward()
            optimiser.step()
            for name, value in parts.items():
                pending.setdefault(name, []).append(float(value.detach()))
            step += 1
            last = step == lesson.steps
            if step % plan.validate_every == 0 or last:
                lesson.eval()
                entry = {"step": step, "seconds": time.monotonic() - began, **averages(pending), **validate()}
                log.append({name: float(value) for name, value in entry.items()})
                pending = {}
                record.add(log)
            due = bool(plan.checkpoint_every) and step % plan.checkpoint_every == 0
            due = due or (plan.checkpoint_every_s > 0 and time.monotonic() - saved_at >= plan.checkpoint_every_s)
            if due or last:
                save()
            try:
                report(progress, step, lesson.steps)
            except Cancelled:
                save()
                tell(f"Stopped after step {step} of {lesson.steps}. --resume goes on from there.")
                raise
    lesson.eval()
    return checkpoints.Standing(step, time.monotonic() - began, log)
