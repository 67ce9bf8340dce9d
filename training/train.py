"""The training story: motion -> synthetic views -> lifter -> weights with their provenance."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torch.optim import Optimizer

from ..core.errors import FileFormatError
from ..core.lifter.device import choose_device
from ..core.lifter.network import LifterConfig, TemporalLifter
from ..core.lifter.ray_windows import FEATURES_IN, INPUT_LAYOUT, POINTS_IN
from ..core.output_files import written_whole
from ..core.progress import Progress, report, silent
from ..core.skeletons import LANDMARKS_41
from ..core.weights import write_weights
from .config import TrainingConfig, read_config
from .evaluation import evaluate_on_views
from .motion_data import CONTACT_POINTS, MotionSet, read_motion
from .views import LIFTER_FPS, ViewBatch, ViewMaker

RUN_ADVICE = "Choose another folder with --run."
CHECKPOINT_NAME = "checkpoint.safetensors"
_BONE_CHILDREN = [joint for joint, parent in enumerate(LANDMARKS_41.parents) if parent >= 0]
_BONE_PARENTS = [LANDMARKS_41.parents[joint] for joint in _BONE_CHILDREN]
# Uncertainty is learnt as the logarithm of the expected error; half a millimetre to two metres is all that makes sense.
_LOG_ERROR_RANGE = (math.log(0.0005), math.log(2.0))


def views_ahead(maker: ViewMaker, first: int, last: int, size: int, ahead: int = 4) -> Iterator[ViewBatch]:
    """Batches ``first`` to ``last`` - 1, made in a thread while the network works on those before."""
    with ThreadPoolExecutor(1) as maker_thread:
        pending: deque[Future[ViewBatch]] = deque()
        try:
            for number in range(first, last):
                while len(pending) < ahead and number + len(pending) < last:
                    pending.append(maker_thread.submit(maker.batch, number + len(pending), size))
                yield pending.popleft().result()
        finally:
            maker_thread.shutdown(cancel_futures=True)


def lifter_loss(lifter: TemporalLifter, views: ViewBatch, config: TrainingConfig, device: torch.device) -> Tensor:
    """Mean joint distance, bone vectors, the lifter's own estimate of its error, and contacts."""
    loop = config.loop
    positions, extras = lifter.forward_window(torch.from_numpy(views.inputs).to(device))
    assert extras is not None
    predicted, target = positions[:, 0], torch.from_numpy(views.targets_m).to(device)
    distance = torch.linalg.vector_norm(predicted - target, dim=-1)
    bones = (predicted - target)[:, _BONE_CHILDREN] - (predicted - target)[:, _BONE_PARENTS]
    bone = torch.linalg.vector_norm(bones, dim=-1).mean()
    # The error of a joint is taken as exponentially distributed about what the lifter expects; the joint itself is not
    # moved by this term.
    log_error = extras[:, 0, len(CONTACT_POINTS) :].clamp(*_LOG_ERROR_RANGE)
    uncertainty = (distance.detach() * torch.exp(-log_error) + log_error).mean()
    said = extras[:, 0, : len(CONTACT_POINTS)]
    contact = functional.binary_cross_entropy_with_logits(said, torch.from_numpy(views.contact).to(device))
    return (
        distance.mean()
        + loop.bone_weight * bone
        + loop.uncertainty_weight * uncertainty
        + loop.contact_weight * contact
    )


def learning_rate(step: int, config: TrainingConfig) -> float:
    """Straight up during the warm-up, then a cosine down to nothing."""
    loop = config.loop
    if step < loop.warm_up_steps:
        return loop.learning_rate * (step + 1) / loop.warm_up_steps
    done = (step - loop.warm_up_steps) / max(1, loop.steps - loop.warm_up_steps)
    return loop.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def _save_checkpoint(
    path: Path, config: TrainingConfig, step: int, lifter: TemporalLifter, optimiser: Optimizer, log: list[Any]
) -> None:
    """Everything that the next step depends on, as tensors and JSON: a checkpoint holds no code."""
    tensors = {f"lifter.{name}": value for name, value in lifter.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{index}.{name}": value for name, value in state.items()})
    tensors["torch_random"] = torch.get_rng_state()
    with written_whole(path, RUN_ADVICE) as beside:
        save_file(
            {name: value.contiguous() for name, value in tensors.items()},
            str(beside),
            {"step": str(step), "log": json.dumps(log), "config": json.dumps(config.as_dict())},
        )


def _load_checkpoint(
    path: Path, config: TrainingConfig, lifter: TemporalLifter, optimiser: Optimizer
) -> tuple[int, list[Any]]:
    """Put a checkpoint's state back and return its step and log. Raises FileFormatError when it doesn't fit."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        if metadata["config"] != json.dumps(config.as_dict()):
            raise ValueError("it was made with another configuration")
        lifter.load_state_dict({n.removeprefix("lifter."): t for n, t in tensors.items() if n.startswith("lifter.")})
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimiser."):
                _, index, part = name.split(".")
                state.setdefault(int(index), {})[part] = tensor
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
        torch.set_rng_state(tensors["torch_random"])
        return int(metadata["step"]), json.loads(metadata["log"])
    except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as problem:
        raise FileFormatError(
            f"The checkpoint '{path}' does not fit this configuration or is damaged: {problem}. Train without --resume."
        ) from problem


def _header(config: TrainingConfig, lifter: TemporalLifter, data: dict[str, MotionSet], facts: dict[str, Any]) -> dict:
    return {
        "lifter": lifter.config.as_dict(),
        "input_layout": INPUT_LAYOUT,
        "fps": LIFTER_FPS,
        "skeleton": {"names": LANDMARKS_41.names, "parents": LANDMARKS_41.parents},
        "extras": [f"contact {name}" for name in CONTACT_POINTS] + [f"log_error_m {n}" for n in LANDMARKS_41.names],
        "licence": config.data.licence,
        "acknowledgement": config.data.acknowledgement,
        "training": {
            "config": config.as_dict(),
            "data_sha256": {split: motion.sha256 for split, motion in data.items()},
            **facts,
        },
    }


def train(
    config: TrainingConfig,
    base_folder: Path,
    run_folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> Path:
    """Train a lifter as ``config`` says and return its weights file, ``run_folder/NAME.safetensors``.

    base_folder: what the data paths of the configuration are relative to
    resume:      go on from the last checkpoint of ``run_folder``

    Batches depend on the seed and their number alone, so a resumed run sees what an uninterrupted one would have.
    Raises FileFormatError for data that can't be read, and KeyliftErrors of the output.
    """
    chosen = choose_device(device)
    torch.manual_seed(config.loop.seed)
    run_folder.mkdir(parents=True, exist_ok=True)
    leave_out = config.data.leave_out_sources
    data = {
        "train": read_motion(base_folder / config.data.train, leave_out),
        "valid": read_motion(base_folder / config.data.valid),
    }
    network = config.network
    lifter = TemporalLifter(
        LifterConfig(
            points_in=POINTS_IN,
            features_in=FEATURES_IN,
            joints_out=len(LANDMARKS_41),
            extras_out=len(CONTACT_POINTS) + len(LANDMARKS_41),
            channels=network.channels,
            widths=network.widths,
            dropout=network.dropout,
            causal=network.causal,
        )
    ).to(chosen)
    frames = lifter.config.receptive_field
    if (config.views.frames, config.views.output_frame) != (frames, frames - 1 if network.causal else frames // 2):
        raise FileFormatError(
            f"[views] frames and output_frame must fit the network: {frames} frames, "
            f"output_frame {frames - 1 if network.causal else frames // 2}."
        )
    optimiser = torch.optim.AdamW(lifter.parameters(), weight_decay=config.loop.weight_decay)
    step, seconds = 0, 0.0
    log: list[dict[str, float]] = []
    checkpoint = run_folder / CHECKPOINT_NAME
    if resume and checkpoint.exists():
        step, log = _load_checkpoint(checkpoint, config, lifter, optimiser)
        seconds = log[-1]["seconds"] if log else 0.0

    maker = ViewMaker(data["train"], config.views, config.loop.seed)
    started, losses = time.monotonic() - seconds, []
    for views in views_ahead(maker, step, config.loop.steps, config.loop.batch):
        lifter.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, config)
        # Running statistics settle as the learning rate does, as in the paper.
        lifter.set_batch_norm_momentum(0.1 * 0.01 ** (step / config.loop.steps))
        optimiser.zero_grad(set_to_none=True)
        loss = lifter_loss(lifter, views, config, chosen)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
        step += 1
        report(progress, step, config.loop.steps)
        last = step == config.loop.steps
        if step % config.loop.validate_every == 0 or last:
            scores = evaluate_on_views(lifter, data["valid"], config.views, config.loop.validation_windows, 99, chosen)
            entry = {"step": step, "seconds": time.monotonic() - started, "loss": float(np.mean(losses)), **scores}
            log.append({key: float(value) for key, value in entry.items()})
            losses = []
            with written_whole(run_folder / "log.json", RUN_ADVICE) as beside:
                beside.write_text(json.dumps(log, indent=1), encoding="utf-8")
        if step % config.loop.checkpoint_every == 0 or last:
            _save_checkpoint(checkpoint, config, step, lifter, optimiser, log)

    data["test"] = read_motion(base_folder / config.data.test)
    held_out = evaluate_on_views(lifter, data["test"], config.views, config.loop.test_windows, 7, chosen)
    facts = {"seconds": log[-1]["seconds"] if log else 0.0, "torch": torch.__version__, "valid": log[-1], "log": log}
    header = _header(config, lifter, data, facts)
    header["metrics"] = {"mocap-test, synthetic views with detector noise": held_out}
    weights = run_folder / f"{config.name}.safetensors"
    write_weights(weights, lifter.state_dict(), header, RUN_ADVICE)
    return weights


def train_from_config(
    path: Path,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
) -> Path:
    """``train`` for a configuration file; its data paths are relative to the file, its run folder is ``runs/NAME``."""
    config = read_config(path)
    folder = run_folder or Path("runs") / config.name
    return train(config, path.parent, folder, resume=resume, device=device, progress=progress)
