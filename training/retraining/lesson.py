"""What a lifter learns from footage, beside what it knows already.

The semi-supervised training of "3D human pose estimation in video with temporal convolutions and semi-supervised
training" (section 4), changed in two places. The place of the root, which a second network learns there, is solved
for. And the footage is learnt from twice: by its back-projection, as in the paper, and by what the fit made of it. The
motion that was fitted is filmed anew by synthetic cameras: a view of it is right by construction, so what people do in
this footage becomes known from every side.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...core.lifter.lifting import RayLifter
from ...core.lifter.losses import batch_mean
from ...core.lifter.network import TemporalLifter
from ...core.lifter.ray_windows import normalise_windows
from ...core.skeletons import LANDMARKS_41
from ..adaptation.adaptation import views_for
from ..adaptation.clip_loss import acceleration_norms, reprojection_misses, torch_detector_sites
from ..motion.motion_set import MotionSet
from ..processes import rank, world_size
from ..views.config import DataSettings, LoopSettings, NetworkSettings, ViewConfig
from ..views.lesson import ViewLesson
from ..views.synthetic_views import ViewBatch, ViewSettings
from .footage_set import FootageSet
from .footage_views import views_like
from .settings import AdaptConfig

_CHILDREN = [joint for joint, parent in enumerate(LANDMARKS_41.parents) if parent >= 0]
_PARENTS = [LANDMARKS_41.parents[joint] for joint in _CHILDREN]
# So much of every batch of windows is drawn from where a pose is known, if there is any such place.
_KNOWN_PART = 0.5
# What was known may move by so little without being called back.
_NO_DRIFT_M = 0.005


@dataclass(frozen=True, eq=False)
class FootageRuns:
    """Runs of neighbouring moments of footage, R of them with N moments each.

    inputs:     (R, N, T, 22, 3) float32 windows
    camera_from_lifter: (R, N, 3, 3) float32
    rays, confidence: (R, N, 21, 2), (R, N, 21) what has to be covered; 0 where unseen
    root_m:     (R, N, 3) float32 about where the pelvis is, camera space
    lengths_m:  (R, 40) of the bones of the body that was fitted
    known_m:    (R, N, 41, 3) about the pelvis, camera axes, where the pose is known; NaN elsewhere
    """

    inputs: np.ndarray
    camera_from_lifter: np.ndarray
    rays: np.ndarray
    confidence: np.ndarray
    root_m: np.ndarray
    lengths_m: np.ndarray
    known_m: np.ndarray


@dataclass(frozen=True, eq=False)
class AdaptBatch:
    """What a step learns from: views by their kind, and runs of the footage."""

    views: dict[str, ViewBatch]
    runs: FootageRuns | None


class RunMaker:
    """Draws runs of footage; batch ``number`` of a ``seed`` is always the same, whatever came before."""

    def __init__(self, footage: FootageSet, lifter: RayLifter, runs: int, frames: int, seed: int) -> None:
        self._footage, self._runs, self._frames, self._seed = footage, runs, frames, seed
        self._offsets = np.arange(lifter.receptive_field) - lifter.output_frame
        self._output_frame = lifter.output_frame
        self._clip_of, self._starts = self._all_starts(footage.learnt)
        known = footage.corrected & footage.learnt
        for clip in footage.clips:
            known[clip.rows] |= np.isfinite(footage.truth_m[clip.rows]).all(axis=(1, 2)) & footage.learnt[clip.rows]
        reach = np.zeros(len(known) + 1, np.int64)
        np.cumsum(known, out=reach[1:])
        self._at_known = np.flatnonzero(reach[self._starts + frames] > reach[self._starts])
        self._known = known

    def __len__(self) -> int:
        """How many runs there are to draw from."""
        return len(self._starts)

    def _all_starts(self, learnt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where runs may start, and in which clip that is."""
        clips, starts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, clip in enumerate(self._footage.clips):
            if clip.length < self._frames:
                continue
            whole = np.lib.stride_tricks.sliding_window_view(learnt[clip.rows], self._frames).all(axis=1)
            found = clip.start + np.flatnonzero(whole)
            starts.append(found)
            clips.append(np.full(len(found), number))
        return np.concatenate(clips), np.concatenate(starts)

    def batch(self, number: int) -> FootageRuns:
        """This process's part of batch ``number``."""
        rng = np.random.default_rng((self._seed, number, 2))
        chosen = rng.integers(0, len(self._starts), self._runs)
        if len(self._at_known):
            known = rng.random(self._runs) < _KNOWN_PART
            chosen[known] = rng.choice(self._at_known, int(known.sum()))
        return self._made(chosen[rank() :: world_size()])

    def _made(self, chosen: np.ndarray) -> FootageRuns:
        footage = self._footage
        rows = self._starts[chosen][:, None] + np.arange(self._frames)
        clips = [footage.clips[number] for number in self._clip_of[chosen]]
        first = np.array([clip.start for clip in clips])[:, None, None]
        last = np.array([clip.start + clip.length - 1 for clip in clips])[:, None, None]
        # The first and last moment of a clip stand in for those beyond it.
        window = np.clip(rows[..., None] + self._offsets, first, last)
        flat = window.reshape(-1, len(self._offsets))
        inputs, camera_from_lifter = normalise_windows(
            footage.rays[flat].astype(float), footage.confidence[flat].astype(float), self._output_frame
        )
        shape = rows.shape
        motion = footage.motion_m[rows].astype(float)
        turn = np.stack([clip.camera_from_motion[:3, :3] for clip in clips])
        move = np.stack([clip.camera_from_motion[:3, 3] for clip in clips])
        in_camera = np.einsum("rij,rnkj->rnki", turn, motion) + move[:, None, None]
        truth = footage.truth_m[rows].astype(float)
        captured = np.isfinite(truth).all(axis=(2, 3), keepdims=True)
        corrected = self._known[rows][..., None, None]
        known = np.where(captured, truth, np.where(corrected, in_camera, np.nan))
        seen = np.isfinite(footage.true_rays[rows]).all(axis=-1)
        return FootageRuns(
            inputs=inputs.reshape(*shape, *inputs.shape[1:]),
            camera_from_lifter=camera_from_lifter.reshape(*shape, 3, 3).astype(np.float32),
            rays=np.where(seen[..., None], footage.true_rays[rows], 0.0).astype(np.float32),
            confidence=np.where(seen, footage.true_confidence[rows], 0.0).astype(np.float32),
            root_m=np.where(captured[..., 0], truth[:, :, 0], in_camera[:, :, 0]).astype(np.float32),
            lengths_m=np.stack([clip.bone_lengths_m[_CHILDREN] for clip in clips]).astype(np.float32),
            known_m=(known - known[:, :, :1]).astype(np.float32),
        )


class AdaptLesson(nn.Module):
    """The network, its batches and its losses.

    lifter:   what is begun with; its network is taken over and taught
    anchor:   motion that must not be forgotten
    footage:  what is to be learnt
    labelled: the studio's own motion, or None
    """

    def __init__(
        self,
        config: AdaptConfig,
        lifter: RayLifter,
        anchor: MotionSet,
        footage: FootageSet,
        labelled: MotionSet | None,
    ) -> None:
        super().__init__()
        self.config = config
        mix, views = config.mix, views_for(lifter)
        like = views_like(footage, views)
        self.lifter: TemporalLifter = lifter.network
        # In a list, so that it is no part of what is taught or kept in checkpoints.
        self._begun_with = [deepcopy(lifter.network).eval().requires_grad_(False)]
        self._kinds: dict[str, tuple[int, ViewLesson]] = {}
        for number, (kind, count, motion, seen) in enumerate(
            (
                ("anchor", mix.anchor_views, anchor, views),
                ("footage", mix.footage_views, footage.stretches, like),
                ("labelled", mix.labelled_views, labelled, like),
            )
        ):
            if motion is not None and count:
                lesson = _view_lesson(config, lifter, motion, seen, count, config.loop.seed + 1000 * number)
                self._kinds[kind] = count, lesson
        maker = RunMaker(footage, lifter, mix.runs, mix.run_frames, config.loop.seed) if mix.runs else None
        self._runs = maker if maker is not None and len(maker) else None

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.config.loop.steps

    def train(self, mode: bool = True) -> AdaptLesson:
        """Statistics of batch norms stay those of the weights that are begun with, and nothing is dropped."""
        super().train(False)
        return self

    def make_optimiser(self) -> torch.optim.Optimizer:
        """AdamW over all parameters, which are not drawn towards 0: they are good already."""
        return torch.optim.AdamW(self.parameters(), weight_decay=0.0)

    def prepare_step(self, step: int, optimiser: torch.optim.Optimizer) -> None:
        """The learning rate of ``step``: a short warm-up and a cosine down to nothing."""
        loop = self.config.loop
        done = max(0, step - loop.warm_up_steps) / max(1, loop.steps - loop.warm_up_steps)
        warm = min(1.0, (step + 1) / max(1, loop.warm_up_steps))
        for group in optimiser.param_groups:
            group["lr"] = loop.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    def batch(self, step: int) -> AdaptBatch:
        """What step ``step`` learns from; depends on nothing else."""
        return AdaptBatch(
            {kind: lesson.batch(step) for kind, (_, lesson) in self._kinds.items()},
            None if self._runs is None else self._runs.batch(step),
        )

    def forward(self, batch: AdaptBatch) -> dict[str, Tensor]:
        """The loss under ``loss``, and its parts, weighted, by name."""
        device = self.lifter.shrink.weight.device
        inputs = [views.inputs for views in batch.views.values()]
        if batch.runs is not None:
            inputs.append(batch.runs.inputs.reshape(-1, *batch.runs.inputs.shape[2:]))
        # One pass for everything: many small ones take half as long again.
        positions, extras = self.lifter.window_with_extras(torch.from_numpy(np.concatenate(inputs)).to(device))
        assert extras is not None
        answers = positions[:, 0].float().split([len(part) for part in inputs])
        more = extras[:, 0].float().split([len(part) for part in inputs])

        total = sum(count for count, _ in self._kinds.values())
        parts = {}
        for answer, extra, (kind, (count, lesson)) in zip(answers, more, self._kinds.items(), strict=False):
            parts[kind] = lesson.losses(answer, extra, batch.views[kind])["loss"] * (count / total)
            if kind == "anchor" and self.config.mix.keep_weight:
                parts["keep"] = self.config.mix.keep_weight * self._drift(answer, batch.views[kind])
        if batch.runs is not None:
            parts |= self._footage_terms(answers[-1], batch.runs)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def _drift(self, now: Tensor, views: ViewBatch) -> Tensor:
        """How far what is said of known motion has moved from what was said of it at first, metres."""
        with torch.no_grad():
            before = self._begun_with[0].to(now.device).forward_window(torch.from_numpy(views.inputs).to(now.device))
        # Rounded at the bottom: where nothing has moved yet the gradient of a distance points anywhere.
        squared = (now - before[:, 0].float()).square().sum(dim=-1)
        return batch_mean(torch.sqrt(squared + _NO_DRIFT_M**2) - _NO_DRIFT_M, (0, 1))

    def _footage_terms(self, positions: Tensor, runs: FootageRuns) -> dict[str, Tensor]:
        """Terms of the footage itself; positions: (R * N, 41, 3) the network's answers to its windows."""
        mix, device = self.config.mix, positions.device

        def there(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values)).to(device)

        positions = positions.unflatten(0, runs.inputs.shape[:2])
        in_camera = (positions - positions[:, :, :1]) @ there(runs.camera_from_lifter).mT
        sites = torch_detector_sites(in_camera).flatten(0, 1)
        misses = reprojection_misses(
            sites,
            there(runs.rays).flatten(0, 1),
            there(runs.confidence).flatten(0, 1),
            there(runs.root_m).flatten(0, 1),
        )
        lengths = torch.linalg.vector_norm(in_camera[:, :, _CHILDREN] - in_camera[:, :, _PARENTS], dim=-1)
        off_length = (lengths - there(runs.lengths_m)[:, None]).abs()
        known = there(runs.known_m)
        where = known.isfinite().all(dim=-1)
        off = torch.linalg.vector_norm(in_camera - known.nan_to_num(), dim=-1) * where
        return {
            "reprojection": mix.reprojection_weight * batch_mean(misses),
            "bones": mix.bone_weight * batch_mean(off_length, (0, 1, 2)),
            "acceleration": mix.acceleration_weight * batch_mean(acceleration_norms(in_camera), (0, 1, 2)),
            "pose": mix.pose_weight * batch_mean(off, (0, 1, 2)),
        }

    def header(self) -> dict[str, Any]:
        """What the weights are, for their file."""
        _, lesson = next(iter(self._kinds.values()))
        return lesson.header()


def _view_lesson(
    config: AdaptConfig, lifter: RayLifter, motion: MotionSet, views: ViewSettings, count: int, seed: int
) -> ViewLesson:
    """The lesson of the default weights, taught to this lifter on ``count`` views in a step."""
    network = lifter.network.config
    lesson = ViewLesson(
        ViewConfig(
            name=config.name,
            data=DataSettings("", "", ""),
            network=NetworkSettings(network.widths, network.channels, 0.0, network.causal),
            loop=replace(
                LoopSettings(),
                batch=count,
                seed=seed,
                view_uses=config.mix.view_uses,
                pool_blocks=config.mix.pool_blocks,
                contact_weight=0.05,
                up_weight=0.03,
            ),
            views=views,
        ),
        motion,
    )
    lesson.lifter = lifter.network
    # One network, several lessons: its parameters are the outer module's alone.
    lesson.eval()
    return lesson
