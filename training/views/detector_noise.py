"""Keypoints as a detector would have seen them: its errors, its confidence, its swaps.

Sizes are those measured for MediaPipe's heavy model on rendered people with exact truth, in parts of the longer side of
the person's box: a constant per clip and joint, smooth noise that forgets itself in 5 to 8 frames, a little jitter,
bursts of gross error that the confidence half admits, and left/right swaps of limbs or of the whole body.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.skeletons import LIFTER_21_NAMES, pairs_by_prefix

_PAIRS = pairs_by_prefix(LIFTER_21_NAMES, "l_", "r_")
_LIMBS = {
    "arms": ("elbow", "wrist", "knuckle"),
    "forearms": ("wrist", "knuckle"),
    "legs": ("hip", "knee", "ankle", "heel", "big_toe"),
    "shanks": ("ankle", "heel", "big_toe"),
}
_ALWAYS_SURE = [LIFTER_21_NAMES.index(name) for name in ("l_shoulder", "r_shoulder", "l_hip", "r_hip")]

# Per joint: constant within a clip, smooth part, jitter; parts of the box.
_SIZES = {
    "nose": (0.011, 0.0065, 0.0014),
    "ear": (0.011, 0.0065, 0.0014),
    "shoulder": (0.012, 0.0075, 0.0014),
    "elbow": (0.008, 0.009, 0.0020),
    "wrist": (0.008, 0.010, 0.0022),
    "knuckle": (0.013, 0.012, 0.0024),
    "hip": (0.014, 0.007, 0.0012),
    "knee": (0.007, 0.006, 0.0012),
    "ankle": (0.007, 0.005, 0.0009),
    "heel": (0.009, 0.006, 0.0011),
    "big_toe": (0.011, 0.008, 0.0015),
}
_JOINT_SIZES = np.array([_SIZES[name.removeprefix("l_").removeprefix("r_")] for name in LIFTER_21_NAMES], np.float32)


@dataclass(frozen=True)
class NoiseSettings:
    """How bad the detector is. Chances are per window; ``scale`` multiplies every error size."""

    scale: float = 1.0
    hidden_chance: float = 0.10
    burst_chance: float = 0.25
    body_swap_chance: float = 0.06
    limb_swap_chance: float = 0.08
    cut_chance: float = 0.10
    missing_chance: float = 0.03


def _smooth_noise(rng: np.random.Generator, batch: int, frames: int, points: int, keep: float) -> np.ndarray:
    """(B, T, K, 2) unit-variance noise whose autocorrelation falls by ``keep`` a frame."""
    white = rng.standard_normal((frames, batch, points, 2), dtype=np.float32)
    fresh = np.float32(np.sqrt(1 - keep * keep))
    for frame in range(1, frames):
        white[frame] *= fresh
        white[frame] += np.float32(keep) * white[frame - 1]
    return white.swapaxes(0, 1)


def _runs(rng: np.random.Generator, shape: tuple[int, ...], frames: int, low: int, high: int) -> np.ndarray:
    """(*shape, frames) True during one run of ``low`` to ``high`` frames placed at random, partly outside perhaps."""
    length = rng.integers(low, high + 1, size=shape)
    start = rng.integers(-high // 2, frames, size=shape)
    frame = np.arange(frames)
    return (frame >= start[..., None]) & (frame < (start + length)[..., None])


def observe(
    rng: np.random.Generator, rays: np.ndarray, depth_m: np.ndarray, box: np.ndarray, settings: NoiseSettings
) -> tuple[np.ndarray, np.ndarray]:
    """What the detector makes of true rays.

    rays:    (B, T, 21, 2) x/z, y/z of the detector's sites; changed in place
    depth_m: (B, T, 21) how far each site is behind the middle of the body; what is behind is hidden more often
    box:     (B,) longer side of the person's box, same unit as rays
    returns: observed rays (B, T, 21, 2), NaN where missing, and confidence (B, T, 21)
    """
    batch, frames, points = rays.shape[:3]
    spread = np.exp(rng.normal(0, 0.4, (batch, 1, 1))).astype(np.float32) * np.float32(settings.scale)
    constant, smooth, jitter = (_JOINT_SIZES[:, part] for part in range(3))

    # Hidden points: runs of low confidence and larger error, likelier behind the body.
    behind = 1 / (1 + np.exp(-(depth_m.mean(axis=1) - 0.05) / 0.06))
    hidden = rng.random((batch, points)) < settings.hidden_chance * (0.4 + 2.2 * behind)
    hidden_now = (hidden[:, None] & (_runs(rng, (batch, points), frames, 3, 30).swapaxes(1, 2))).astype(np.float32)
    doubt = hidden_now * rng.uniform(0.15, 1.0, (batch, 1, points)).astype(np.float32)

    # Part of the body outside the picture: the detector guesses and says so.
    cut = rng.random(batch) < settings.cut_chance
    level = rng.uniform(-0.35, 0.5, batch).astype(np.float32) * box
    sideways = rng.random(batch) < 0.3
    along = np.where(sideways[:, None, None], rays[..., 0], rays[..., 1])
    middle = along.mean(axis=(1, 2), keepdims=True)
    sign = np.where(sideways & (rng.random(batch) < 0.5), -1, 1).astype(np.float32)[:, None, None]
    outside = (cut[:, None, None] & (sign * (along - middle) > level[:, None, None])).astype(np.float32)
    doubt = np.maximum(doubt, outside * rng.uniform(0.6, 1.0, (batch, 1, points)).astype(np.float32))

    burst = rng.random((batch, points)) < settings.burst_chance * np.array([0.35] * points) / 3
    burst_now = (burst[:, None] & _runs(rng, (batch, points), frames, 2, 24).swapaxes(1, 2)).astype(np.float32)
    admits = rng.uniform(0.0, 0.8, (batch, 1, points)).astype(np.float32)

    error = _smooth_noise(rng, batch, frames, points, 0.86) * (smooth * (1 + 3.0 * doubt + 6.0 * burst_now))[..., None]
    error += rng.standard_normal((batch, 1, points, 2), dtype=np.float32) * (constant * (1 + doubt * 1.5))[..., None]
    error += rng.standard_normal((batch, frames, points, 2), dtype=np.float32) * jitter[:, None]
    shove = rng.standard_normal((batch, 1, points, 2), dtype=np.float32) * np.float32(0.08)
    error += shove * burst_now[..., None]
    rays += error * (spread * box[:, None, None])[..., None]

    confidence = 1 - np.maximum(doubt, admits * burst_now)
    confidence -= np.abs(rng.standard_normal(confidence.shape, dtype=np.float32)) * 0.04
    confidence[:, :, _ALWAYS_SURE] = np.maximum(
        confidence[:, :, _ALWAYS_SURE], np.where(outside[:, :, _ALWAYS_SURE] > 0, 0, 0.97)
    )
    confidence = np.clip(confidence, 0.01, 1.0)

    _swap_sides(rng, rays, confidence, settings)
    missing = (rng.random((batch, 1)) < settings.missing_chance) & _runs(rng, (batch,), frames, 2, 12)
    missing[:, frames // 2] = False
    rays[missing] = np.nan
    confidence[missing] = 0
    return rays, confidence.astype(np.float32)


def _swap_sides(rng: np.random.Generator, rays: np.ndarray, confidence: np.ndarray, settings: NoiseSettings) -> None:
    """Exchange left and right in runs of frames, of the whole body or of one kind of limb."""
    batch, frames = rays.shape[:2]

    def exchange(chosen: np.ndarray, longest: int, pairs: list[tuple[int, int]]) -> None:
        rows = np.nonzero(chosen)[0]
        when = _runs(rng, (len(rows),), frames, 1, longest)
        sample, frame = np.nonzero(when)
        sample = rows[sample]
        for left, right in pairs:
            for array in (rays, confidence):
                held = array[sample, frame, left].copy()
                array[sample, frame, left] = array[sample, frame, right]
                array[sample, frame, right] = held

    exchange(rng.random(batch) < settings.body_swap_chance, frames, [pair for pair in _PAIRS if pair != _PAIRS[0]])
    for parts in _LIMBS.values():
        pairs = [(LIFTER_21_NAMES.index(f"l_{part}"), LIFTER_21_NAMES.index(f"r_{part}")) for part in parts]
        exchange(rng.random(batch) < settings.limb_swap_chance / len(_LIMBS), frames // 2, pairs)
