"""Two bones that reach where they should, in the plane that they had."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.rotations import normalised
from keylift.rig_mapping.leg_reach import LegMotion, frames_of, hips_drop_m, reached

THIGH, SHANK = 0.45, 0.42


def leg(frames: int, seed: int, bend: tuple[float, float] = (0.1, 2.0)) -> LegMotion:
    """Legs in all directions, bent by so many radians, knees to where ``forward`` says."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(frames, 3, 3)))[0]
    along, forward = axes[..., 0], axes[..., 1]
    angle = rng.uniform(*bend, (frames, 1))
    hips = rng.normal(size=(frames, 3))
    half = angle * SHANK / (THIGH + SHANK)
    knees = hips + THIGH * (np.cos(half) * along + np.sin(half) * forward)
    ankles = knees + SHANK * (np.cos(angle - half) * along - np.sin(angle - half) * forward)
    return LegMotion(hips, knees, ankles, forward)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), shift_m=st.floats(0, 0.1))
def test_ankles_reach_their_targets_and_bones_keep_their_lengths(seed: int, shift_m: float) -> None:
    start = leg(6, seed, bend=(0.5, 2.0))
    target = start.ankles + normalised(np.random.default_rng(seed + 1).normal(size=(6, 3))) * shift_m
    new = reached(start, target)
    off = np.linalg.norm(new.ankles - target, axis=-1)
    short = np.maximum(np.linalg.norm(target - start.hips, axis=-1) - start.longest_m(), 0.0)
    assert np.abs(off - short).max() < 1e-6
    assert np.abs(new.thigh_m - start.thigh_m).max() < 1e-9
    assert np.abs(new.shank_m - start.shank_m).max() < 1e-6


def test_a_target_where_the_ankle_is_changes_nothing() -> None:
    start = leg(50, seed=1)
    new = reached(start, start.ankles)
    assert np.abs(new.knees - start.knees).max() < 1e-7
    for now, was in zip(frames_of(new), frames_of(start), strict=True):
        assert np.abs(now - was).max() < 1e-6


def test_the_knee_stays_on_its_side_of_the_leg() -> None:
    start = leg(200, seed=2, bend=(0.0, 0.3))
    new = reached(start, start.hips + 0.8 * (start.ankles - start.hips))
    line = normalised(new.ankles - new.hips)
    out = new.knees - new.hips
    out = out - line * np.sum(out * line, axis=-1, keepdims=True)
    assert (np.sum(normalised(out) * start.forward, axis=-1) > 0.99).all()


def test_hips_come_down_smoothly_and_far_enough() -> None:
    frames = 60
    hips = np.tile([0.0, 0.0, 0.86], (frames, 1))
    ankles = np.zeros((frames, 3))
    knees = (hips * SHANK + ankles * THIGH) / (THIGH + SHANK) + [0.0, -0.06, 0.0]
    start = LegMotion(hips, knees, ankles, np.tile([0.0, -1.0, 0.0], (frames, 1)))
    target = ankles.copy()
    target[25:35] += [0.0, 0.3, 0.0]
    drop = hips_drop_m([start], [target], fps=30.0)
    lowered = hips - [0, 0, 1] * drop[:, None]
    assert (np.linalg.norm(lowered - target, axis=-1) <= start.longest_m() + 1e-9).all()
    assert drop[25:35].min() > 0.03
    assert drop[0] == 0.0 and drop[-1] == 0.0
    assert np.abs(np.diff(drop, 2)).max() < 0.01


def test_legs_that_reach_leave_the_hips_alone() -> None:
    start = leg(20, seed=3, bend=(0.8, 1.5))
    assert not hips_drop_m([start], [start.ankles], fps=30.0).any()


def test_a_target_out_of_reach_stretches_the_leg_towards_it() -> None:
    start = leg(10, seed=4)
    target = start.hips + 2.0 * normalised(start.ankles - start.hips)
    new = reached(start, target)
    assert np.linalg.norm(new.ankles - new.hips, axis=-1) == pytest.approx(start.longest_m(), rel=1e-6)
    assert np.isfinite(new.knees).all()
