"""What a lifter learns from sequences: labelled chunks, and unlabelled ones by back-projection.

"3D human pose estimation in video with temporal convolutions and semi-supervised training", sections 3 to 5. Two
networks see the same keypoints: one gives the pose about the root, the other where the root is. Where nobody knows the
joints, the pose at its place is projected into the picture and compared with the keypoints it was lifted from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.camera import project_screen, project_screen_linear
from ...core.errors import FileFormatError
from ...core.lifter.losses import bone_length_loss, mpjpe_loss, trajectory_loss
from ...core.lifter.network import LifterConfig, TemporalLifter, batch_norm_momentum
from ...core.skeletons import KEYPOINT_LAYOUTS, Skeleton, joints_in_both, mirrored_layout
from ..processes import part_of
from .chunks import ChunkBatch, ChunkSet, ShuffledOrder, Windows
from .config import SequenceConfig
from .sequence import FilmedSequence

_LABELLED_SEED, _UNLABELLED_SEED = 1234, 4321


@dataclass(frozen=True, eq=False)
class LessonBatch:
    """One step's chunks, those without labels None during warm-up and in supervised runs."""

    labelled: ChunkBatch
    unlabelled: ChunkBatch | None


class SequenceLesson(nn.Module):
    """Networks, batches and losses of a run over sequences.

    labelled, unlabelled: what is learnt from; with ``unlabelled`` empty the run is supervised
    layout, skeleton:     names of the keypoints and the joints to learn
    Raises FileFormatError when the sequences don't fit the settings.
    """

    def __init__(
        self,
        config: SequenceConfig,
        labelled: Sequence[FilmedSequence],
        unlabelled: Sequence[FilmedSequence],
        layout: str,
        skeleton: Skeleton,
    ) -> None:
        super().__init__()
        self.config, self.layout, self.skeleton = config, layout, skeleton
        names = KEYPOINT_LAYOUTS[layout]
        network, loop = config.network, config.loop
        self.semi_supervised = config.semi_supervised.enabled
        if self.semi_supervised and not unlabelled:
            raise FileFormatError("[semi_supervised] is enabled but there is no unlabelled sequence. Check [data].")

        def lifter(joints: int) -> TemporalLifter:
            features = labelled[0].keypoints.shape[2] if labelled else 2
            return TemporalLifter(
                LifterConfig(
                    len(names),
                    features,
                    joints,
                    channels=network.channels,
                    widths=network.widths,
                    dropout=network.dropout,
                    causal=network.causal,
                    dense=network.dense,
                )
            )

        self._fps = labelled[0].fps if labelled else 0.0
        self.lifter = lifter(len(skeleton))
        self.trajectory = lifter(1) if self.semi_supervised else None
        self.windows = Windows(self.lifter.config.receptive_field, network.causal, loop.stride)
        mirrors = mirrored_layout(names), skeleton.mirrored_order()
        self.labelled = ChunkSet(labelled, self.windows, *mirrors, loop.flip)
        self.order = ShuffledOrder(len(self.labelled), self._chunks_in_batch, _LABELLED_SEED)
        if len(self.labelled) < 2:
            raise FileFormatError(
                "There is but one labelled chunk to learn from. Check the subjects and subset in [data]."
            )
        if self.semi_supervised:
            if any(sequence.intrinsics is None for sequence in unlabelled):
                raise FileFormatError("Unlabelled sequences need a camera to be projected into. Check [data] cameras.")
            kinds = labelled[0].keypoints.shape[1:], unlabelled[0].keypoints.shape[1:]
            if kinds[0] != kinds[1]:
                raise FileFormatError(
                    f"Labelled keypoints are {kinds[0][0]} points of {kinds[0][1]} values ({labelled[0].name}), "
                    f"unlabelled ones {kinds[1][0]} of {kinds[1][1]} ({unlabelled[0].name}). They must be alike to be "
                    "learnt together: check keypoint_layout, score and unlabelled_keypoints in [data]."
                )
            self.unlabelled = ChunkSet(unlabelled, self.windows, *mirrors, loop.flip)
            self.unlabelled_order = ShuffledOrder(len(self.unlabelled), self._chunks_in_batch, _UNLABELLED_SEED)
            self._seen = joints_in_both(skeleton.names, names)
            if not self._seen:
                raise FileFormatError(
                    f"The joints learnt and the keypoints '{layout}' have none in common, so nothing can be projected."
                )

    @property
    def _chunks_in_batch(self) -> int:
        return max(1, self.config.loop.batch // self.config.loop.stride)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch: as many as there are labelled batches, unless the settings say otherwise."""
        return self.config.loop.steps_per_epoch or self.order.batches_per_pass

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_per_epoch * self.config.loop.epochs

    def make_optimiser(self) -> torch.optim.Optimizer:
        """One Adam with amsgrad over all parameters."""
        # The fused form does in one pass over memory what the plain one does in ten.
        return torch.optim.Adam(self.parameters(), lr=self.config.loop.learning_rate, amsgrad=True, fused=True)

    def prepare_step(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        """Learning rate and batch norm momentum of the epoch that ``step`` is in."""
        epoch = step // self.steps_per_epoch
        for group in optimiser.param_groups:
            group["lr"] = self.config.loop.learning_rate * self.config.loop.learning_rate_decay**epoch
        momentum = batch_norm_momentum(epoch + 1, self.config.loop.epochs)
        for network in (self.lifter, self.trajectory):
            if network is not None:
                network.set_batch_norm_momentum(momentum)

    def batch(self, step: int) -> LessonBatch:
        """What step ``step`` learns from; depends on nothing else."""
        labelled = self.labelled.batch(part_of(self.order.batch(step)))
        warm_up = self.config.semi_supervised.warm_up_epochs * self.steps_per_epoch
        if not self.semi_supervised or step < warm_up:
            return LessonBatch(labelled, None)
        return LessonBatch(labelled, self.unlabelled.batch(part_of(self.unlabelled_order.batch(step - warm_up))))

    def _run(self, network: TemporalLifter, keypoints: Tensor) -> Tensor:
        """(B, T, K, C) -> (B, stride, J, 3)"""
        form = network.forward_window if self.windows.stride == 1 else network.forward
        return form(keypoints)

    def forward(self, batch: LessonBatch) -> dict[str, Tensor]:
        """The loss under ``loss``, and its parts by name."""
        device = self.lifter.shrink.weight.device

        def on_device(values: np.ndarray) -> Tensor:
            return torch.from_numpy(values).to(device, non_blocking=True)

        labelled, unlabelled = batch.labelled, batch.unlabelled
        assert labelled.positions_m is not None
        keypoints = on_device(labelled.keypoints)
        if unlabelled is not None:
            # In one batch, so that both are normalised by the same statistics.
            unlabelled_keypoints = on_device(unlabelled.keypoints)
            keypoints = torch.cat([keypoints, unlabelled_keypoints])
        count = len(labelled)
        positions = self._run(self.lifter, keypoints).float()
        target = on_device(labelled.positions_m)
        root = target[:, :, :1]
        # The root stays in the mean, so that the network learns to put it at 0.
        target = torch.cat([torch.zeros_like(root), target[:, :, 1:]], dim=2)
        losses = {"pose": mpjpe_loss(positions[:count], target)}
        if self.trajectory is not None:
            roots = self._run(self.trajectory, keypoints).float()
            losses["trajectory"] = trajectory_loss(roots[:count, :, 0], root[:, :, 0])
        if unlabelled is not None:
            assert unlabelled.intrinsics is not None and self.trajectory is not None
            settings = self.config.semi_supervised
            if settings.projection:
                lens = on_device(unlabelled.intrinsics)
                joints = [joint for joint, _ in self._seen]
                project = project_screen_linear if settings.linear_projection else project_screen
                picture = project(positions[count:, :, joints] + roots[count:], lens)
                seen = unlabelled_keypoints[:, self.windows.output, [point for _, point in self._seen], :2]
                losses["projection"] = mpjpe_loss(picture, seen)
            if settings.bone_term:
                bones = bone_length_loss(positions[:count], positions[count:], self.skeleton.parents)
                losses["bones"] = settings.bone_weight * bones
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def tensors(self) -> dict[str, Tensor]:
        """The parameters as a weights file has them: the lifter's by their own names, ``trajectory.`` before others."""
        tensors = dict(self.lifter.state_dict())
        if self.trajectory is not None:
            tensors.update({f"trajectory.{name}": value for name, value in self.trajectory.state_dict().items()})
        return tensors

    def header(self) -> dict[str, Any]:
        """What the weights are, for their file."""
        header = {
            "lifter": self.lifter.config.as_dict(),
            "input_layout": self.layout,
            "skeleton": {"names": self.skeleton.names, "parents": self.skeleton.parents},
            "fps": self._fps,
        }
        return header | ({"trajectory": self.trajectory.config.as_dict()} if self.trajectory is not None else {})

    def facts(self) -> dict[str, Any]:
        """How much was learnt from."""
        unlabelled = len(self.unlabelled) if self.semi_supervised else 0
        return {"chunks": len(self.labelled), "unlabelled_chunks": unlabelled, "steps": self.steps}
