"""Bodies recombined and bent: still bodies."""

from __future__ import annotations

import numpy as np
import pytest

from keylift.core.skeletons import LANDMARKS_41
from keylift.training.motion.motion_set import read_motion
from keylift.training.views.body_variation import mix_arms, mix_bodies, reshape_bodies, turn_joints
from keylift.training.views.synthetic_views import ViewMaker, ViewSettings
from keylift.training.views.view_pool import ViewPool
from training_runs import write_motion
from walker import walk

ARM = LANDMARKS_41.indices("l_elbow", "l_wrist", "l_knuckle", "l_fingertip", "l_thumb")
LEGS = LANDMARKS_41.indices("l_knee", "l_ankle", "l_heel", "l_toe_tip", "r_knee", "r_ankle", "r_heel", "r_toe_tip")


def windows(count: int = 12, frames: int = 9) -> np.ndarray:
    """(B, T, 41, 3) of walkers who go different ways at different moments of their step."""
    walks = [walk(60, 30.0, heading).positions_m for heading in np.linspace(0, 6, count)]
    starts = np.linspace(0, 60 - frames, count).astype(int)
    return np.stack([w[s : s + frames] for w, s in zip(walks, starts, strict=True)]).astype(np.float32)


def bone_lengths(positions: np.ndarray) -> np.ndarray:
    return np.linalg.norm(positions - positions[..., np.maximum(LANDMARKS_41.parents, 0), :], axis=-1)


@pytest.mark.parametrize(
    "vary",
    [
        lambda rng, p: mix_bodies(rng, p, 4, 1.0),
        lambda rng, p: mix_arms(rng, p, 1.0),
        lambda rng, p: turn_joints(rng, p, 1.0, 1.0),
    ],
)
def test_bones_keep_their_lengths_and_something_changes(vary):
    before = windows()
    after = before.copy()
    vary(np.random.default_rng(0), after)
    # All walkers have the same body, so whatever is put together has it too.
    assert np.abs(bone_lengths(after) - bone_lengths(before)).max() < 1e-4
    assert np.abs(after - before).max() > 0.02


def test_an_arm_moves_against_the_chest_as_it_did_where_it_came_from():
    before = windows(2)
    # The same walk, once turned: against the chest both arms are alike at the same moment.
    turn = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)
    before[1] = before[0] @ turn.T
    after = before.copy()
    mix_arms(np.random.default_rng(1), after, 1.0)
    assert np.abs(after - before).max() < 1e-4


def test_turned_legs_are_told_and_others_stay():
    before = windows()
    after = before.copy()
    legs = turn_joints(np.random.default_rng(0), after, 0.0, 0.5)
    moved = np.abs(after - before)[:, :, LEGS].max(axis=(1, 2, 3)) > 1e-4
    assert 0 < legs.sum() < len(legs) and not moved[~legs].any() and moved[legs].mean() > 0.6
    assert np.abs(after - before)[:, :, ARM].max() == 0


def test_other_bodies_are_alike_on_both_sides():
    positions = windows()
    reshape_bodies(np.random.default_rng(0), positions, 0.1, 0.1)
    lengths = bone_lengths(positions)
    for left, right in LANDMARKS_41.left_right_pairs:
        assert np.allclose(lengths[..., left], lengths[..., right], atol=1e-4)
    assert np.ptp(lengths[:, 0].sum(axis=-1)) > 0.1


def test_a_pool_gives_the_same_batch_whatever_came_before_and_uses_views_as_often_as_told(tmp_path):
    write_motion(tmp_path / "walk.npz")
    maker = ViewMaker(read_motion(tmp_path / "walk.npz"), ViewSettings(frames=9, output_frame=4), seed=3)
    straight, late = (ViewPool(maker, batch=16, uses=4, blocks=3) for _ in range(2))
    batches = [straight.batch(number) for number in range(24)]
    for number in (13, 22):
        again = late.batch(number)
        assert np.array_equal(again.inputs, batches[number].inputs)
        assert np.array_equal(again.targets_m, batches[number].targets_m)
        assert np.array_equal(again.up, batches[number].up)
    assert not np.array_equal(batches[0].inputs, batches[1].inputs)
    # Depths tell views apart; a mirror leaves them.
    drawn = np.concatenate([batch.targets_m[..., 2].sum(axis=1) for batch in batches[8:20]])
    _, times = np.unique(drawn.round(4), return_counts=True)
    assert 1.5 < times.mean() < 4.5


def test_a_mirrored_batch_is_mirrored_twice_back(tmp_path):
    write_motion(tmp_path / "walk.npz")
    views = ViewMaker(read_motion(tmp_path / "walk.npz"), ViewSettings(frames=9, output_frame=4), seed=3).batch(0, 8)
    rows = np.array([1, 4])
    once = views.mirrored(rows)
    assert not np.array_equal(once.inputs[rows], views.inputs[rows]) and np.array_equal(once.inputs[0], views.inputs[0])
    twice = once.mirrored(rows)
    for name in ("inputs", "targets_m", "contact", "up"):
        assert np.array_equal(getattr(twice, name), getattr(views, name))
    # What is up stays up, and what is left of the middle goes right.
    assert np.array_equal(once.up[rows][:, 1], views.up[rows][:, 1])
    assert np.array_equal(once.up[rows][:, 0], -views.up[rows][:, 0])
