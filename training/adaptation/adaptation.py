"""The adapting story: look at the clip, learn from it beside synthetic views, and keep it only if it proves better."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...core.camera import Camera
from ...core.detector_sites import detector_sites
from ...core.lifter.lifting import RayLifter, lift_rays
from ...core.progress import Progress, report, silent
from ...core.root_path import solve_root_path
from ...core.skeletons import LANDMARKS_41
from ...core.source import Source
from ...core.tracks import KeypointTrack
from ..motion.anchor import read_anchor
from ..motion.motion_set import CONTACT_POINTS, MotionSet
from ..views.config import DataSettings, LoopSettings, NetworkSettings, ViewConfig
from ..views.evaluation import evaluate_on_views
from ..views.lesson import ViewLesson
from ..views.synthetic_views import ViewSettings
from .clip_loss import (
    acceleration_loss,
    bone_loss,
    constancy_loss,
    reprojection_loss,
    reprojection_mm,
    torch_detector_sites,
)
from .clip_windows import ClipWindows, best_seen_part, held_out_at, observed_rays, windows_of_clip
from .settings import AdaptSettings

BUDGET_S = 45.0
# Every so many pieces of motion one is kept for the guard.
_GUARD_EVERY = 5
_GUARD_SEED = 99
_LOOK_EVERY = 60
EXTRAS = len(CONTACT_POINTS) + len(LANDMARKS_41) + 3


@dataclass(frozen=True, eq=False)
class Figures:
    """Before and after: what the gate looked at. Millimetres.

    held_out_mm:  reprojection of frames that were not learnt from
    learnt_mm:    and of those that were
    views_mm, views_aligned_mm: error on synthetic views that were not learnt from, plain and after Procrustes
    steps:        taken
    """

    held_out_mm: tuple[float, float]
    learnt_mm: tuple[float, float]
    views_mm: tuple[float, float]
    views_aligned_mm: tuple[float, float]
    steps: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The lifter to go on with, and why.

    lifter:  adapted to the clip, or the one that was given
    adapted: which of the two
    reason:  in words
    figures: None when it was not even tried
    """

    lifter: RayLifter
    adapted: bool
    reason: str
    figures: Figures | None = None


@dataclass(frozen=True, eq=False)
class _Look:
    """What the whole clip looks like to a lifter: root (F, 3), and reprojection errors in millimetres."""

    root_m: np.ndarray
    held_out_mm: float
    learnt_mm: float


def views_for(lifter: RayLifter) -> ViewSettings:
    """The views that the default lifter learns from, in windows of ``lifter``'s length."""
    return ViewSettings(
        frames=lifter.receptive_field,
        output_frame=lifter.output_frame,
        arm_mix_chance=0.3,
        turn_chance=0.3,
        leg_turn_chance=0.4,
        focal_error=0.1,
    )


def parts_of(motion: MotionSet) -> tuple[MotionSet, MotionSet]:
    """The clips to learn from and those for the guard."""
    guard = np.arange(len(motion.clip_lengths)) % _GUARD_EVERY == _GUARD_EVERY - 1
    if not guard.any():
        guard[-1] = True
    return motion.clips(np.flatnonzero(~guard)), motion.clips(np.flatnonzero(guard))


def adapt_to_clip(
    lifter: RayLifter,
    track: KeypointTrack,
    camera: Camera | None = None,
    *,
    seed: int = 0,
    budget_s: float = BUDGET_S,
    settings: AdaptSettings | None = None,
    motion: MotionSet | None = None,
    progress: Progress = silent,
) -> Adaptation:
    """Fine-tune a copy of ``lifter`` on one clip alone and keep it if it proves better.

    The semi-supervised training of "3D human pose estimation in video with temporal convolutions and semi-supervised
    training" (section 4) with one clip as the footage without labels and synthetic views as the labelled data: the
    lifted poses must cover the keypoints and keep the lengths of bones. Running statistics of batch norms stay as they
    are. The copy is kept when it covers frames better that it did not learn from, and has not become worse on synthetic
    views that it did not learn from.

    Of long clips, the part in which most is seen speaks for all.

    camera:   the lens; guessed from the picture's shape when None
    budget_s: seconds after which no further step is taken. The result depends on the steps taken, which ``Figures``
              tells, and on the seed; not on the clock otherwise.
    motion:   what synthetic views are made of; the motion that travels with Keylift when None

    ``lifter`` itself is never changed. Raises Cancelled when ``progress`` asks to stop.
    """
    started = time.monotonic()
    settings = settings or AdaptSettings()
    rays, confidence = observed_rays(track, camera or Camera.guessed(track.size_px))
    rows = best_seen_part(confidence, track.time_s, settings.longest_s)
    rays, confidence, time_s = rays[rows], confidence[rows], track.time_s[rows]
    if refusal := _refusal(lifter, rays, time_s, settings):
        return Adaptation(lifter, False, refusal)
    to_learn, for_guard = parts_of(motion if motion is not None else read_anchor())
    clip = _Clip(lifter, rays, confidence, time_s, settings)
    guard = _guard(for_guard, views_for(lifter), settings)

    copy = replace(lifter, network=deepcopy(lifter.network).eval())
    before, guard_before = clip.look(lifter), guard(lifter)
    best, best_state, steps = before, None, 0
    for taken, look in _learnt(copy, clip, to_learn, before, settings, seed, started + budget_s, progress):
        steps = taken
        if look is None:
            return Adaptation(lifter, False, "learning from this clip ran astray", None)
        if look.held_out_mm < best.held_out_mm:
            best, best_state = look, deepcopy(copy.network.state_dict())
    if best_state is not None:
        copy.network.load_state_dict(best_state)
    guard_after = guard(copy) if best_state is not None else guard_before
    figures = Figures(
        held_out_mm=(before.held_out_mm, best.held_out_mm),
        learnt_mm=(before.learnt_mm, best.learnt_mm),
        views_mm=(guard_before["mpjpe_mm"], guard_after["mpjpe_mm"]),
        views_aligned_mm=(guard_before["p_mpjpe_mm"], guard_after["p_mpjpe_mm"]),
        steps=steps,
        seconds=time.monotonic() - started,
    )
    kept, reason = verdict(figures, settings)
    if not kept:
        return Adaptation(lifter, False, reason, figures)
    source = Source(f"{lifter.source.name}+adapted", _sha256_of_state(copy))
    return Adaptation(replace(copy, source=source), True, reason, figures)


def verdict(figures: Figures, settings: AdaptSettings) -> tuple[bool, str]:
    """Whether the adapted lifter is to be kept, and why, in words."""
    (held_before, held_after), (plain, plain_after) = figures.held_out_mm, figures.views_mm
    aligned, aligned_after = figures.views_aligned_mm
    told = f"frames held out are missed by {held_after:.1f} mm instead of {held_before:.1f}"
    if not all(map(math.isfinite, (held_after, plain_after, aligned_after))):
        return False, "learning from this clip ran astray"
    if held_after > held_before * (1 - settings.least_gain):
        return False, f"{told}, which is no gain"
    for before, after in ((plain, plain_after), (aligned, aligned_after)):
        if after > before * (1 + settings.most_loss):
            return False, f"{told}, but known motion by {after:.1f} mm instead of {before:.1f}"
    return True, f"{told}, known motion by {plain_after:.1f} instead of {plain:.1f}"


def _refusal(lifter: RayLifter, rays: np.ndarray, time_s: np.ndarray, settings: AdaptSettings) -> str:
    """Why this clip is not adapted to, in words; empty when it is."""
    length_s = float(time_s[-1] - time_s[0]) if len(time_s) > 1 else 0.0
    seen = float(np.isfinite(rays).all(axis=-1).mean())
    if lifter.network.config.extras_out != EXTRAS:
        return "these weights are of an older kind"
    if length_s < settings.shortest_s:
        return f"the clip is too short to learn from ({length_s:.1f} s)"
    if seen < settings.fewest_seen:
        return f"too little of the person is seen to learn from ({seen:.0%} of the keypoints)"
    return ""


class _Clip:
    """A clip to learn from and to look at."""

    def __init__(
        self,
        lifter: RayLifter,
        rays: np.ndarray,
        confidence: np.ndarray,
        time_s: np.ndarray,
        settings: AdaptSettings,
    ) -> None:
        self.rays, self.confidence, self.time_s = rays, confidence, time_s
        self.windows: ClipWindows = windows_of_clip(lifter, rays, confidence, time_s)
        rule = (settings.block_s, settings.held_out_part, settings.margin_s)
        span_s = (float(time_s[0]), float(time_s[-1]))
        self.held_out, self._learnt = held_out_at(time_s, span_s, *rule)
        _, learnt = held_out_at(self.windows.time_s, span_s, *rule)
        run = np.lib.stride_tricks.sliding_window_view(learnt, min(settings.run_frames, len(learnt)))
        self.run_starts = np.flatnonzero(run.all(axis=1))
        if not len(self.run_starts):
            self.run_starts = np.arange(len(run))

    def look(self, lifter: RayLifter) -> _Look:
        """Lift all of it and find the path that covers the keypoints best."""
        body = lift_rays(lifter, self.rays, self.confidence, self.time_s)
        sites = detector_sites(body.positions_m)
        root = solve_root_path(sites, self.rays, self.confidence, self.time_s)

        def missed(rows: np.ndarray) -> float:
            return reprojection_mm(sites[rows], root[rows], self.rays[rows], self.confidence[rows])

        return _Look(root, missed(self.held_out), missed(self._learnt))

    def path_at_moments(self, look: _Look) -> np.ndarray:
        """(M, 3) float32 root path at the moments of the windows."""
        path = [np.interp(self.windows.time_s, self.time_s, axis) for axis in look.root_m.T]
        return np.stack(path, axis=-1).astype(np.float32)


def _guard(motion: MotionSet, views: ViewSettings, settings: AdaptSettings) -> Callable[[RayLifter], dict[str, float]]:
    def measure(lifter: RayLifter) -> dict[str, float]:
        return evaluate_on_views(lifter.network, motion, views, settings.guard_views, _GUARD_SEED, lifter.device)

    return measure


def _lesson(copy: RayLifter, motion: MotionSet, settings: AdaptSettings, seed: int) -> ViewLesson:
    """The default lifter's own lesson, about the copy."""
    network = copy.network.config
    config = ViewConfig(
        name="adaptation",
        data=DataSettings("", "", ""),
        network=NetworkSettings(network.widths, 1, 0.0, network.causal),
        loop=LoopSettings(
            steps=settings.steps,
            batch=settings.views,
            contact_weight=0.05,
            up_weight=0.03,
            view_uses=4,
            pool_blocks=8,
            seed=seed,
        ),
        views=views_for(copy),
    )
    lesson = ViewLesson(config, motion)
    lesson.lifter = copy.network
    return lesson.eval()


def _learnt(
    copy: RayLifter,
    clip: _Clip,
    motion: MotionSet,
    look: _Look,
    settings: AdaptSettings,
    seed: int,
    deadline: float,
    progress: Progress,
) -> Iterator[tuple[int, _Look | None]]:
    """Take the copy through its steps; now and then yields how many there were and what the clip looks like now.

    Yields None for the look when losses are not finite any more.
    """
    lesson = _lesson(copy, motion, settings, seed)
    optimiser = torch.optim.AdamW(copy.network.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    windows, device = clip.windows, copy.device
    path = clip.path_at_moments(look)
    frames = min(settings.run_frames, len(windows.time_s))
    for step in range(settings.steps):
        report(progress, step, settings.steps)
        rng = np.random.default_rng((seed, step, 2))
        starts = rng.choice(clip.run_starts, settings.runs)
        rows = (starts[:, None] + np.arange(frames)).ravel()
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * _pace(step, settings.steps)
        loss = _clip_terms(copy, windows, rows, path, frames, lesson, step, settings, device)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(copy.network.parameters(), 1.0)
        if not torch.isfinite(loss):
            yield step + 1, None
            return
        optimiser.step()
        late = time.monotonic() > deadline
        if (step + 1) % _LOOK_EVERY == 0 or step + 1 == settings.steps or late:
            look = clip.look(copy)
            path = clip.path_at_moments(look)
            yield step + 1, look
        if late:
            return


def _pace(step: int, steps: int) -> float:
    """A short warm-up and a cosine down."""
    return min(1.0, (step + 1) / 20) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _clip_terms(
    copy: RayLifter,
    windows: ClipWindows,
    rows: np.ndarray,
    path: np.ndarray,
    frames: int,
    lesson: ViewLesson,
    step: int,
    settings: AdaptSettings,
    device: torch.device,
) -> Tensor:
    def there(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(device)

    # Only half of a step's windows are mirrored views, so the clip's own are too: mirrored ones cost nothing more.
    views = lesson.batch(step)
    supervised = lesson(views)["loss"]
    positions = copy.network.forward_window(there(windows.inputs[rows]))[:, 0].float()
    about_pelvis = positions - positions[:, :1]
    in_camera = about_pelvis @ there(windows.camera_from_lifter[rows]).mT
    loss = supervised
    loss = loss + settings.reprojection_weight * reprojection_loss(
        torch_detector_sites(in_camera), there(windows.rays[rows]), there(windows.confidence[rows]), there(path[rows])
    )
    if settings.bone_weight:
        synthetic = copy.network.forward_window(there(views.inputs))[:, 0].float()
        loss = loss + settings.bone_weight * bone_loss(synthetic, positions)
    loss = loss + settings.constancy_weight * constancy_loss(in_camera)
    runs = in_camera.unflatten(0, (-1, frames))
    return loss + settings.acceleration_weight * acceleration_loss(runs)


def _sha256_of_state(lifter: RayLifter) -> str:
    """Over names and values of all parameters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(lifter.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
