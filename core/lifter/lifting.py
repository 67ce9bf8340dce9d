"""From keypoints to a body about its pelvis: the trained lifter at work."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..errors import WeightsError
from ..progress import Progress, report, silent
from ..skeletons import LANDMARKS_41
from ..source import Source
from ..weights import read_header, read_tensors, weights_source
from .device import choose_device
from .network import LifterConfig, TemporalLifter
from .ray_windows import FEATURES_IN, INPUT_LAYOUT, MIRRORED_POINTS, POINTS_IN, normalise_windows

CHUNK_FRAMES = 512
_CONTACTS = 4
_MIRROR_OUT = LANDMARKS_41.mirrored_order()
_MIRROR_CONTACT = [2, 3, 0, 1]
# Extras are contacts, logarithms of expected errors and, in newer weights, the direction that is up.
_BEFORE_UP = _CONTACTS + len(LANDMARKS_41)


@dataclass(frozen=True, eq=False)
class LiftedBody:
    """What the lifter says, frame by frame.

    positions_m:      (F, 41, 3) against the pelvis, camera axes
    expected_error_m: (F, 41) how far off the lifter expects each landmark to be
    contact:          (F, 4) probability for left heel, left toe, right heel, right toe
    up:               (F, 3) against gravity, camera axes; shorter than 1 where the lifter is in doubt. None when the
                      weights can't tell.
    """

    positions_m: np.ndarray
    expected_error_m: np.ndarray
    contact: np.ndarray
    up: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class RayLifter:
    """A trained network over windows of rays, with the rate that it was trained at."""

    network: TemporalLifter
    fps: float
    source: Source
    device: torch.device

    @property
    def receptive_field(self) -> int:
        """Frames (at ``fps``) that one lifted frame depends on."""
        return self.network.config.receptive_field

    @property
    def output_frame(self) -> int:
        """Index in a window of the frame that is lifted: the last for a causal lifter, the middle for others."""
        return self.receptive_field - 1 if self.network.config.causal else self.receptive_field // 2


def load_ray_lifter(path: Path, device: str = "auto") -> RayLifter:
    """Read weights that look at rays and give the 41 landmarks. Raises WeightsError when they are of another kind."""
    header = read_header(path)
    config = LifterConfig.from_dict(header.get("lifter", {}))
    fps = header.get("fps")
    if not isinstance(fps, int | float) or not 1 <= fps <= 1000:
        raise WeightsError(f"'{path}' does not say the frame rate that it was trained at. Train it again.")
    skeleton = header.get("skeleton")
    named = skeleton.get("names") if isinstance(skeleton, dict) else None
    names = tuple(named) if isinstance(named, list) else ()
    fits = (config.points_in, config.features_in, config.joints_out) == (POINTS_IN, FEATURES_IN, len(LANDMARKS_41))
    if header.get("input_layout") != INPUT_LAYOUT or names != LANDMARKS_41.names or not fits:
        raise WeightsError(
            f"'{path}' takes '{header.get('input_layout')}' keypoints and gives {len(names)} joints; lifting footage "
            f"needs '{INPUT_LAYOUT}' and {len(LANDMARKS_41)}. Use --weights default."
        )
    if config.extras_out not in (_BEFORE_UP, _BEFORE_UP + 3):
        raise WeightsError(f"'{path}' gives no contacts and uncertainty. Use --weights default.")
    # Without room for parameters until they are seen to fit: a header may claim any size.
    with torch.device("meta"):
        network = TemporalLifter(config)
    try:
        found = read_tensors(path)
        # Some files keep halves.
        single = {name: value.float() if value.is_floating_point() else value for name, value in found.items()}
        network.load_state_dict(single, assign=True)
    except RuntimeError as problem:
        raise WeightsError(f"The parameters in '{path}' don't fit its own configuration: {problem}") from problem
    chosen = choose_device(device)
    return RayLifter(network.to(chosen).eval(), float(fps), weights_source(path), chosen)


def sample_windows(values: np.ndarray, time_s: np.ndarray, at_s: np.ndarray) -> np.ndarray:
    """(F, K, C) values read at times (B, T), linearly between frames, ends held; (B, T, K, C).

    Where one of the two neighbours is NaN, the other stands in if it is the nearer one.
    """
    at_s = np.clip(at_s, time_s[0], time_s[-1])
    after = np.clip(np.searchsorted(time_s, at_s), 1, max(len(time_s) - 1, 1))
    if len(time_s) == 1:
        return np.broadcast_to(values[0], (*at_s.shape, *values.shape[1:])).copy()
    before = after - 1
    part = ((at_s - time_s[before]) / (time_s[after] - time_s[before]))[..., None, None]
    low, high = values[before], values[after]
    between = low + part * (high - low)
    low_only = np.isfinite(low) & ((part <= 0) | (~np.isfinite(high) & (part <= 0.5)))
    high_only = np.isfinite(high) & ((part >= 1) | (~np.isfinite(low) & (part >= 0.5)))
    return np.where(low_only, low, np.where(high_only, high, between))


def lift_rays(
    lifter: RayLifter,
    rays: np.ndarray,
    confidence: np.ndarray,
    time_s: np.ndarray,
    progress: Progress = silent,
    test_time_flip: bool = True,
    rows: slice = slice(None),
) -> LiftedBody:
    """Lift every frame (or those of ``rows`` alone) from the window of rays round it.

    rays:           (F, 21, 2) x/z, y/z; NaN = unseen
    confidence:     (F, 21)
    time_s:         (F,) seconds, any frame rate: windows are read at the lifter's own rate
    test_time_flip: average with the mirror image of the mirrored input
    """
    offsets_s = (np.arange(lifter.receptive_field) - lifter.output_frame) / lifter.fps
    wanted_s = time_s[rows]
    frames, tells_up = len(wanted_s), lifter.network.config.extras_out > _BEFORE_UP
    lifted = LiftedBody(
        positions_m=np.empty((frames, len(LANDMARKS_41), 3)),
        expected_error_m=np.empty((frames, len(LANDMARKS_41))),
        contact=np.empty((frames, _CONTACTS)),
        up=np.empty((frames, 3)) if tells_up else None,
    )
    for first in range(0, frames, CHUNK_FRAMES):
        chunk = slice(first, min(first + CHUNK_FRAMES, frames))
        at_s = wanted_s[chunk, None] + offsets_s
        window_rays = sample_windows(rays, time_s, at_s)
        window_confidence = sample_windows(confidence[..., None], time_s, at_s)[..., 0]
        inputs, camera_from_lifter = normalise_windows(window_rays, window_confidence, lifter.output_frame)
        body, extras = _run(lifter, inputs)
        if test_time_flip:
            mirrored = inputs[:, :, MIRRORED_POINTS].copy()
            mirrored[..., 0] *= -1
            other, other_extras = _run(lifter, mirrored)
            body = (body + other[:, _MIRROR_OUT] * np.array([-1, 1, 1])) / 2
            back = np.concatenate([_MIRROR_CONTACT, _CONTACTS + _MIRROR_OUT])
            other_up = other_extras[:, _BEFORE_UP:] * np.array([-1, 1, 1])[: other_extras.shape[1] - _BEFORE_UP]
            extras = (extras + np.concatenate([other_extras[:, back], other_up], axis=1)) / 2
        lifted.positions_m[chunk] = (body - body[:, :1]) @ np.swapaxes(camera_from_lifter, 1, 2)
        lifted.contact[chunk] = 1 / (1 + np.exp(-extras[:, :_CONTACTS]))
        lifted.expected_error_m[chunk] = np.exp(np.clip(extras[:, _CONTACTS:_BEFORE_UP], np.log(0.0005), np.log(2.0)))
        if lifted.up is not None:
            lifted.up[chunk] = np.einsum("fij,fj->fi", camera_from_lifter, extras[:, _BEFORE_UP:])
        report(progress, chunk.stop, frames)
    return lifted


def _run(lifter: RayLifter, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        positions, extras = lifter.network.window_with_extras(torch.from_numpy(inputs).to(lifter.device))
    assert extras is not None
    return positions[:, 0].cpu().numpy().astype(np.float64), extras[:, 0].cpu().numpy().astype(np.float64)
