"""What the default lifter learns from synthetic views: joints, bones, its own error, foot contacts, and gravity."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...core.errors import FileFormatError
from ...core.lifter.losses import batch_mean
from ...core.lifter.network import LifterConfig, TemporalLifter
from ...core.lifter.ray_windows import FEATURES_IN, INPUT_LAYOUT, POINTS_IN
from ...core.skeletons import LANDMARKS_41
from ..motion.motion_set import CONTACT_POINTS, MotionSet
from ..processes import rank, world_size
from .config import ViewConfig
from .synthetic_views import LIFTER_FPS, ViewBatch, ViewMaker
from .view_pool import ViewPool

_BONE_CHILDREN = [joint for joint, parent in enumerate(LANDMARKS_41.parents) if parent >= 0]
_BONE_PARENTS = [LANDMARKS_41.parents[joint] for joint in _BONE_CHILDREN]
# Uncertainty is learnt as the logarithm of the expected error; half a millimetre to two metres is all that makes sense.
_LOG_ERROR_RANGE = (math.log(0.0005), math.log(2.0))
# Values that say which way is up.
_UP = 3


def learning_rate(step: int, config: ViewConfig) -> float:
    """Straight up during the warm-up, then a cosine down to nothing."""
    loop = config.loop
    if step < loop.warm_up_steps:
        return loop.learning_rate * (step + 1) / loop.warm_up_steps
    done = (step - loop.warm_up_steps) / max(1, loop.steps - loop.warm_up_steps)
    return loop.learning_rate * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


class ViewLesson(nn.Module):
    """Network, batches and loss of a run over views. Raises FileFormatError when [views] doesn't fit the network."""

    def __init__(self, config: ViewConfig, motion: MotionSet) -> None:
        super().__init__()
        self.config = config
        network = config.network
        self.lifter = TemporalLifter(
            LifterConfig(
                POINTS_IN,
                FEATURES_IN,
                len(LANDMARKS_41),
                extras_out=len(CONTACT_POINTS) + len(LANDMARKS_41) + _UP,
                channels=network.channels,
                widths=network.widths,
                dropout=network.dropout,
                causal=network.causal,
            )
        )
        frames = self.lifter.config.receptive_field
        output_frame = frames - 1 if network.causal else frames // 2
        if (config.views.frames, config.views.output_frame) != (frames, output_frame):
            raise FileFormatError(
                f"[views] frames and output_frame must fit the network: {frames} frames, output_frame {output_frame}."
            )
        maker = ViewMaker(motion, config.views, config.loop.seed)
        self._pool = ViewPool(maker, config.loop.batch, config.loop.view_uses, config.loop.pool_blocks)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.loop.steps

    def make_optimiser(self) -> torch.optim.Optimizer:
        """AdamW over all parameters."""
        return torch.optim.AdamW(self.parameters(), weight_decay=self.config.loop.weight_decay)

    def prepare_step(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        """Learning rate and batch norm momentum of ``step``."""
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, self.config)
        # Running statistics settle as the learning rate does, as in the paper.
        self.lifter.set_batch_norm_momentum(0.1 * 0.01 ** (step / self.config.loop.steps))

    def batch(self, step: int) -> ViewBatch:
        """What step ``step`` learns from; depends on nothing else."""
        return self._pool.batch(step).of(slice(rank(), None, world_size()))

    def forward(self, views: ViewBatch) -> dict[str, Tensor]:
        """The loss under ``loss``, and its parts, weighted, by name."""
        device = self.lifter.shrink.weight.device
        positions, extras = self.lifter.window_with_extras(torch.from_numpy(views.inputs).to(device))
        assert extras is not None
        return self.losses(positions[:, 0].float(), extras[:, 0].float(), views)

    def losses(self, predicted: Tensor, extras: Tensor, views: ViewBatch) -> dict[str, Tensor]:
        """What ``forward`` gives, of the network's answers (B, 41, 3) and (B, 48) to ``views``."""
        loop, device = self.config.loop, predicted.device
        target = torch.from_numpy(views.targets_m).to(device)
        distance = torch.linalg.vector_norm(predicted - target, dim=-1)
        bones = (predicted - target)[:, _BONE_CHILDREN] - (predicted - target)[:, _BONE_PARENTS]
        bone = torch.linalg.vector_norm(bones, dim=-1)
        # The error of a joint is taken as exponentially distributed about what the lifter expects; the joint itself is
        # not moved by this term.
        contacts, log_error, up = extras.split([len(CONTACT_POINTS), len(LANDMARKS_41), _UP], dim=1)
        log_error = log_error.clamp(*_LOG_ERROR_RANGE)
        uncertainty = distance.detach() * torch.exp(-log_error) + log_error
        known = torch.from_numpy(views.contact).to(device)
        # Where nobody knows whether a foot stands there is nothing to learn.
        contact = functional.binary_cross_entropy_with_logits(
            contacts, known.nan_to_num(), weight=known.isfinite().float(), reduction="none"
        )
        off_up = torch.linalg.vector_norm(up - torch.from_numpy(views.up).to(device), dim=-1)
        parts = {
            "joints": batch_mean(distance, (0, 1)),
            "bones": loop.bone_weight * batch_mean(bone, (0, 1)),
            "uncertainty": loop.uncertainty_weight * batch_mean(uncertainty, (0, 1)),
            "contact": loop.contact_weight * batch_mean(contact, (0, 1)),
            "up": loop.up_weight * batch_mean(off_up, (0,)),
        }
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def header(self) -> dict[str, Any]:
        """What the weights are, for their file."""
        return {
            "lifter": self.lifter.config.as_dict(),
            "input_layout": INPUT_LAYOUT,
            "fps": LIFTER_FPS,
            "skeleton": {"names": LANDMARKS_41.names, "parents": LANDMARKS_41.parents},
            "extras": [f"contact {name}" for name in CONTACT_POINTS]
            + [f"log_error_m {name}" for name in LANDMARKS_41.names]
            + [f"up {axis}" for axis in "xyz"],
        }
