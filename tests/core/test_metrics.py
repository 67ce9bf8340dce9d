"""Metrics against their definitions, written out one frame at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core import rotations
from keylift.core.metrics import mpjpe, n_mpjpe, p_mpjpe, procrustes_aligned, velocity_error, weighted_mpjpe


def poses(seed: int, frames: int = 5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(frames, 17, 3)), rng.normal(size=(frames, 17, 3))


def test_mpjpe_is_the_mean_distance_in_the_unit_of_the_input():
    predicted, truth = poses(0)
    by_hand = sum(
        sum((predicted[f, j, k] - truth[f, j, k]) ** 2 for k in range(3)) ** 0.5 for f in range(5) for j in range(17)
    )
    assert mpjpe(predicted, truth) == pytest.approx(by_hand / 85)
    assert mpjpe(1000 * predicted, 1000 * truth) == pytest.approx(1000 * by_hand / 85)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10))
def test_procrustes_forgives_move_turn_and_scale_frame_by_frame(seed, scale):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(4, 17, 3))
    turns = rotations.from_rotation_vector(rng.normal(0, 2, (4, 1, 3)))
    moved = scale * rotations.rotate(turns, truth) + rng.normal(size=(4, 1, 3))
    assert p_mpjpe(moved, truth) < 1e-9
    assert p_mpjpe(moved + rng.normal(0, 0.01, truth.shape), truth) > 1e-4


def test_procrustes_does_not_forgive_a_mirror_image():
    truth = poses(1)[1]
    assert p_mpjpe(truth * [-1, 1, 1], truth) > 0.3


def test_procrustes_is_the_best_of_many_similarities_tried():
    predicted, truth = poses(2, frames=1)
    squares = ((procrustes_aligned(predicted, truth) - truth) ** 2).sum()
    assert p_mpjpe(predicted, truth) == pytest.approx(mpjpe(procrustes_aligned(predicted, truth), truth))
    rng = np.random.default_rng(3)
    p, t = predicted[0] - predicted[0].mean(0), truth[0] - truth[0].mean(0)
    for _ in range(2000):
        turned = rotations.rotate(rotations.from_rotation_vector(rng.normal(0, 2, 3)), p)
        scale = (turned * t).sum() / (turned**2).sum()
        assert squares <= ((scale * turned - t) ** 2).sum() + 1e-9


def test_n_mpjpe_forgives_scale_alone():
    predicted, truth = poses(4)
    by_hand = []
    for p, t in zip(predicted, truth, strict=True):
        by_hand.append(np.linalg.norm((p * t).sum() / (p * p).sum() * p - t, axis=-1).mean())
    assert n_mpjpe(predicted, truth) == pytest.approx(np.mean(by_hand))
    assert n_mpjpe(3 * truth, truth) < 1e-12
    assert n_mpjpe(truth + 0.1, truth) > 0.01


def test_velocity_error_is_that_of_first_differences():
    predicted, truth = poses(5)
    by_hand = [
        np.linalg.norm((predicted[f + 1] - predicted[f]) - (truth[f + 1] - truth[f]), axis=-1).mean() for f in range(4)
    ]
    assert velocity_error(predicted, truth) == pytest.approx(np.mean(by_hand))
    assert velocity_error(truth + [1, 2, 3], truth) < 1e-12


@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 17), (5, 1, 1), (5, 17, 1)])
def test_weights_multiply_and_are_not_normalised(shape):
    predicted, truth = poses(6)
    weights = np.random.default_rng(7).uniform(0, 3, shape)
    distance = np.linalg.norm(predicted - truth, axis=-1)
    each = np.broadcast_to(weights.reshape(5, -1), (5, 17))
    assert weighted_mpjpe(predicted, truth, weights) == pytest.approx((each * distance).mean())
    assert weighted_mpjpe(predicted, truth, np.ones(5)) == pytest.approx(mpjpe(predicted, truth))


def test_a_body_that_collapsed_into_a_point_is_no_division_by_zero():
    _, truth = poses(8)
    assert np.isfinite(p_mpjpe(np.zeros_like(truth), truth)) and np.isfinite(n_mpjpe(np.zeros_like(truth), truth))


@pytest.mark.parametrize("shape", [(), (1,), (17,), (4,), (1, 17), (5, 3), (5, 17, 3), (1, 5, 17)])
def test_weights_of_another_form_are_refused(shape):
    with pytest.raises(ValueError, match=r"Weights of .*\(5, 17, 3\)"):
        weighted_mpjpe(*poses(9), np.ones(shape))
    with pytest.raises(ValueError, match="Weights of"):
        weighted_mpjpe(np.zeros((2, 5, 17, 3)), np.zeros((2, 5, 17, 3)), np.ones(2))


@pytest.mark.parametrize("measure", [mpjpe, p_mpjpe, n_mpjpe])
def test_any_leading_axes_are_so_many_frames(measure):
    predicted, truth = poses(10, frames=6)
    each = measure(predicted, truth)
    stacked = (2, 3, 17, 3)
    assert measure(predicted.reshape(stacked), truth.reshape(stacked)) == pytest.approx(each, rel=1e-12)
    alone = [measure(p, t) for p, t in zip(predicted, truth, strict=True)]
    assert np.mean(alone) == pytest.approx(each, rel=1e-12)


def test_velocities_of_several_takes_are_each_ones_own():
    predicted, truth = poses(11, frames=6)
    several = velocity_error(predicted.reshape(2, 3, 17, 3), truth.reshape(2, 3, 17, 3))
    each = [velocity_error(predicted[part], truth[part]) for part in (slice(3), slice(3, 6))]
    assert several == pytest.approx(np.mean(each))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("frames", [0, 1])
def test_a_single_frame_has_no_velocity(frames):
    assert velocity_error(*poses(12, frames=frames)) == 0.0


ALL = [mpjpe, procrustes_aligned, p_mpjpe, n_mpjpe, velocity_error, lambda p, t: weighted_mpjpe(p, t, np.ones(len(p)))]


@pytest.mark.parametrize("measure", ALL)
def test_lists_and_half_numbers_are_measured_as_arrays_are(measure):
    predicted, truth = (one.astype(np.float32) for one in poses(13))
    wanted = measure(predicted.astype(float), truth.astype(float))
    assert np.array_equal(measure(predicted.tolist(), truth.tolist()), wanted)
    assert np.array_equal(measure(predicted, truth), wanted)
    assert np.asarray(measure(predicted, truth)).dtype == np.float64


@pytest.mark.parametrize("measure", ALL)
@pytest.mark.parametrize("shape", [(5, 16, 3), (17, 3), (1, 17, 3), (5, 1, 3), (5, 17, 2)])
def test_poses_of_another_shape_are_refused_with_both(measure, shape):
    with pytest.raises(ValueError, match=r"\(5, 17, 3\).*{}|{}.*\(5, 17, 3\)".format(*2 * [str(shape)[1:-1]])):
        measure(np.zeros((5, 17, 3)), np.zeros(shape))


@pytest.mark.parametrize("measure", ALL)
def test_what_is_no_pose_is_refused(measure):
    with pytest.raises(ValueError, match=r"\(5, 17, 2\)"):
        measure(np.zeros((5, 17, 2)), np.zeros((5, 17, 2)))


def test_one_point_is_no_body_and_one_body_no_motion():
    for measure in (p_mpjpe, n_mpjpe):
        with pytest.raises(ValueError, match=r"\(3,\)"):
            measure(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"\(17, 3\)"):
        velocity_error(np.zeros((17, 3)), np.zeros((17, 3)))
