"""Keypoints as a detector would have seen them: its errors, its confidence, its swaps.

Sizes are those measured for MediaPipe's heavy and full models on rendered people with exact truth (``keylift
render-people`` writes them beside its clips), in parts of the longer side of the person's box: a constant per clip and
joint, smooth noise that forgets itself in 5 to 8 frames, a little jitter, whole limbs gone astray for a while, which
the confidence half admits, doubt about points that are well seen, and left/right swaps of limbs or of the whole body.
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
# What goes astray together, and how far each point of it, next to the wrist or the ankle.
_LOST_LIMBS = [
    {LIFTER_21_NAMES.index(f"{side}_{name}"): np.float32(part) for name, part in limb.items()}
    for side in "lr"
    for limb in (
        {"elbow": 0.5, "wrist": 1.0, "knuckle": 1.1},
        {"knee": 0.6, "ankle": 1.0, "heel": 1.05, "big_toe": 1.1},
    )
]
# Deviation along each axis, parts of the box.
_LOST_SIZE = np.float32(0.10)
_ALWAYS_SURE = [LIFTER_21_NAMES.index(name) for name in ("l_shoulder", "r_shoulder", "l_hip", "r_hip")]

# Per joint: constant within a clip, smooth part, jitter, in parts of the box; and how likely gross error is, next to a
# wrist's. Ends of limbs are lost often, the trunk and the head hardly ever.
_SIZES = {
    "nose": (0.011, 0.0070, 0.0017, 0.04),
    "ear": (0.012, 0.0070, 0.0016, 0.04),
    "shoulder": (0.012, 0.0070, 0.0016, 0.35),
    "elbow": (0.014, 0.0100, 0.0024, 0.55),
    "wrist": (0.009, 0.0090, 0.0026, 1.00),
    "knuckle": (0.011, 0.0110, 0.0032, 1.20),
    "hip": (0.016, 0.0090, 0.0016, 0.25),
    "knee": (0.010, 0.0080, 0.0026, 0.95),
    "ankle": (0.008, 0.0075, 0.0027, 0.80),
    "heel": (0.013, 0.0100, 0.0034, 1.05),
    "big_toe": (0.013, 0.0120, 0.0044, 1.25),
}
_JOINT_SIZES = np.array([_SIZES[name.removeprefix("l_").removeprefix("r_")] for name in LIFTER_21_NAMES], np.float32)


@dataclass(frozen=True)
class NoiseSettings:
    """How bad the detector is. Chances are per window and, but for the last four, per point or limb.

    scale:         multiplies every error size but that of gross error
    hidden_chance: of low confidence with larger error, nearer to three times that behind the body
    doubt_chance:  of low confidence without larger error
    burst_chance:  that a limb is lost for a few frames; a quarter of it for single points
    """

    scale: float = 1.0
    hidden_chance: float = 0.12
    doubt_chance: float = 0.35
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
    constant, smooth, jitter, gross = (_JOINT_SIZES[:, part] for part in range(4))

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

    # A limb is lost at one go: the farther out a point, the farther it is put from where it belongs.
    lost = rng.random((batch, len(_LOST_LIMBS))) < settings.burst_chance
    lost_now = _runs(rng, lost.shape, frames, 2, 18) & lost[..., None]
    towards = rng.standard_normal((batch, len(_LOST_LIMBS), 1, 2), dtype=np.float32) * np.float32(_LOST_SIZE)
    shove = np.zeros((batch, frames, points, 2), np.float32)
    gross_now = np.zeros((batch, frames, points), bool)
    for limb, reach in enumerate(_LOST_LIMBS):
        for point, part in reach.items():
            shove[:, :, point] += part * towards[:, limb] * lost_now[:, limb, :, None]
            gross_now[:, :, point] |= lost_now[:, limb]
    alone = (rng.random((batch, points)) < settings.burst_chance * 0.25 * gross)[..., None]
    alone_now = (alone & _runs(rng, (batch, points), frames, 1, 10)).swapaxes(1, 2)
    shove += rng.standard_normal((batch, 1, points, 2), dtype=np.float32) * _LOST_SIZE * alone_now[..., None]
    gross_now |= alone_now
    admits = rng.uniform(0.0, 0.9, (batch, 1, points)).astype(np.float32)

    wider = 1 + 2.5 * doubt * (0.4 + gross) + np.float32(2.0) * gross_now
    error = _smooth_noise(rng, batch, frames, points, 0.86) * (smooth * wider)[..., None]
    offset = constant * (1 + doubt * 3.0 * (0.2 + gross))
    error += rng.standard_normal((batch, 1, points, 2), dtype=np.float32) * offset[..., None]
    error += rng.standard_normal((batch, frames, points, 2), dtype=np.float32) * jitter[:, None]
    rays += (error * spread[..., None] + shove) * box[:, None, None, None]

    # The detector doubts many points that it sees well.
    most = np.float32(0.5) * np.minimum(1, 0.3 + gross) * (rng.random((batch, points)) < settings.doubt_chance)
    groundless = most[:, None] * rng.random((batch, 1, points), dtype=np.float32)
    confidence = 1 - np.maximum(np.maximum(doubt, admits * gross_now), groundless)
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
