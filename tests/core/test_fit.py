"""The fit: derivatives, hinges, constant bones, planted feet, gaps, seams, and what it makes of a walker."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d

from keylift.core.detector_sites import detector_sites
from keylift.core.errors import Cancelled
from keylift.core.fit import fitting
from keylift.core.fit.articulated_body import (
    BONE_GROUP,
    BONE_GROUPS,
    FREEDOMS,
    REST_LENGTHS_M,
    BodyState,
    as_hinged,
    hinge_angles,
    landmarks,
    local_turns,
    pose,
    stature_m,
)
from keylift.core.fit.evidence import Evidence, disagreement
from keylift.core.fit.fitting import first_guess, fit_between, fit_body
from keylift.core.fit.least_squares import solve_over_time
from keylift.core.fit.normal_equations import NormalEquations
from keylift.core.fit.settings import FitSettings
from keylift.core.metrics import p_mpjpe
from keylift.core.segments import SEGMENT_NAMES, T_POSE_M, landmarks_from_segments, segment_rotations
from keylift.core.skeletons import LANDMARKS_41, LIFTER_21_NAMES
from keylift.core.world_alignment import STANDING_HEIGHT_M
from walker import camera_from_world, walk

FEET = LANDMARKS_41.indices("l_heel", "l_toe_base", "r_heel", "r_toe_base")


def random_state(seed: int, frames: int = 7, size: float = 0.5) -> BodyState:
    rng = np.random.default_rng(seed)
    local = np.tile([1.0, 0, 0, 0], (frames, len(SEGMENT_NAMES), 1))
    at_rest = BodyState(rng.normal(size=(frames, 3)), local, REST_LENGTHS_M)
    return at_rest.moved(rng.normal(size=(frames, FREEDOMS)) * size, np.zeros(len(BONE_GROUPS)))


def seen_walk(
    frames: int = 120, noise_m: float = 0.05, keypoint_noise: float = 0.004, seed: int = 0, raised_m: float = 0.0
):
    """Evidence of a walker whose truth (F, 41, 3), camera space, comes with it.

    raised_m: of the floor that the last third is walked on
    """
    motion = walk(frames, 30.0, heading_rad=1.4)
    view = camera_from_world(0.1, 0.02, 8.0)
    walked_m = motion.positions_m.copy()
    walked_m[2 * frames // 3 :, :, 1] += raised_m
    truth = walked_m @ view[:3, :3].T + view[:3, 3]
    rng = np.random.default_rng(seed)
    lifted = truth - truth[:, :1]
    wrong = gaussian_filter1d(rng.normal(size=lifted.shape), 6, axis=0)
    lifted = lifted + (0 if noise_m == 0 else noise_m * wrong / wrong.std())
    sites = detector_sites(truth)
    rays = sites[..., :2] / sites[..., 2:] + rng.normal(size=(frames, 21, 2)) * keypoint_noise
    evidence = Evidence(
        rays=rays,
        confidence=np.ones((frames, 21)),
        lifted_m=lifted,
        expected_error_m=np.full(lifted.shape[:2], max(noise_m, 0.01) * 1.6),
        contact=motion.contact,
        time_s=motion.time_s,
        camera_from_space=np.tile(np.eye(4)[:3], (frames, 1, 1)),
    )
    up = view[:3, :3] @ np.array([0, 1.0, 0])
    floor_m = float((motion.positions_m[:, FEET] @ np.array([0, 1.0, 0]) - STANDING_HEIGHT_M).min() + view[:3, 3] @ up)
    return evidence, truth, (up, floor_m)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_derivatives_say_where_landmarks_go(seed):
    state = random_state(seed)
    rng = np.random.default_rng(seed + 1)
    body = pose(state)
    change, growth = rng.normal(size=(7, FREEDOMS)) * 1e-5, rng.normal(size=len(BONE_GROUPS)) * 1e-5
    moved = np.einsum("fkid,fd->fki", body.by_change(), change) + body.by_growth() @ growth
    foreseen = body.landmarks_m + moved
    assert np.abs(landmarks(state.moved(change, growth)) - foreseen).max() < 2e-8


def test_it_is_the_same_body_as_the_rest_of_keylift_has():
    state = random_state(3)
    again = landmarks_from_segments(state.segments(), state.root_m, T_POSE_M)
    assert np.abs(landmarks(state) - again).max() < 1e-12
    assert np.abs(np.abs(np.sum(local_turns(state.segments()) * state.local, axis=-1)) - 1).max() < 1e-9


def test_knees_and_elbows_of_a_walker_are_hinges_that_bend_the_right_way():
    motion = walk(60)
    local = as_hinged(local_turns(segment_rotations(motion.positions_m)))
    angles = hinge_angles(local)
    assert len(angles) == 4
    for angle in angles.values():
        assert angle.min() > -1e-6 and 0.1 < angle.max() < 2.0
    rebuilt = landmarks(BodyState(motion.positions_m[:, 0], local, REST_LENGTHS_M))
    joints = LANDMARKS_41.indices("l_knee", "r_ankle", "l_elbow", "r_wrist", "r_toe_base")
    assert np.abs(rebuilt - motion.positions_m)[:, joints].max() < 1e-6


def test_the_banded_solve_is_the_dense_one():
    rng = np.random.default_rng(0)
    blocks = rng.normal(size=(9, FREEDOMS, FREEDOMS))
    own = blocks @ blocks.swapaxes(1, 2) + 200 * np.eye(FREEDOMS)
    left = np.concatenate([own, blocks, 0.5 * blocks.swapaxes(1, 2)], axis=2)
    left[-1, :, FREEDOMS:] = left[-2, :, 2 * FREEDOMS :] = 0
    found = NormalEquations(left.copy(), rng.normal(size=(9, FREEDOMS)))
    size = 9 * FREEDOMS
    dense = np.zeros((size, size))
    for apart in range(3):
        for frame in range(9 - apart):
            a, b = slice(frame * FREEDOMS, (frame + 1) * FREEDOMS), frame + apart
            b = slice(b * FREEDOMS, (b + 1) * FREEDOMS)
            dense[a, b] = left[frame, :, apart * FREEDOMS : (apart + 1) * FREEDOMS]
            dense[b, a] = dense[a, b].T
    dense[np.diag_indices(size)] = (dense[np.diag_indices(size)] + 1) * (1 + 3e-6)
    expected = np.linalg.solve(dense, found.right.reshape(-1))
    assert np.allclose(solve_over_time(found, 0).reshape(-1), expected, atol=1e-9)
    held = solve_over_time(NormalEquations(left.copy(), found.right), 3)
    assert np.abs(held[:3]).max() < 1e-6 and np.abs(held[3:]).max() > 1e-4


def test_a_noisy_lift_is_pulled_to_the_truth_with_constant_bones():
    evidence, truth, floor = seen_walk()
    fitted = fit_body(evidence, floor_of=lambda _: floor)
    before = p_mpjpe(evidence.lifted_m, truth)
    assert p_mpjpe(fitted.positions_m, truth) < 0.65 * before
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent >= 0:
            length = np.linalg.norm(fitted.positions_m[:, joint] - fitted.positions_m[:, parent], axis=-1)
            assert np.ptp(length) < 1e-9 and length[0] == pytest.approx(fitted.lengths_m[BONE_GROUP[joint]])
    assert disagreement(fitted.positions_m, evidence, FitSettings()) < disagreement(
        landmarks(first_guess(evidence)), evidence, FitSettings()
    )


def test_planted_feet_stay_planted_on_the_floor():
    evidence, _, (up, floor_m) = seen_walk()
    standing = evidence.contact > 0.5
    both = standing[1:] & standing[:-1]

    def slide_m_s(positions):
        return np.linalg.norm(np.diff(positions[:, FEET], axis=0), axis=-1)[both].mean() * 30

    free = fit_body(replace(evidence, contact=np.zeros_like(evidence.contact)))
    planted = fit_body(evidence, floor_of=lambda _: (up, floor_m))
    assert slide_m_s(planted.positions_m) < 0.02 < slide_m_s(free.positions_m)
    height = planted.positions_m[:, FEET] @ up - floor_m - STANDING_HEIGHT_M
    assert np.abs(height[standing]).mean() < 0.02


@pytest.mark.parametrize("raised_m", [0.17, -0.17, 0.4, -0.4])
def test_who_steps_onto_another_floor_is_not_dragged_to_the_first(raised_m):
    """A kerb must not cost depth: before feet on it were let go, 0.5 to 1.5 m."""
    evidence, truth, floor = seen_walk(raised_m=raised_m)
    there = slice(95, None)
    off_m = np.linalg.norm((fit_body(evidence, floor_of=lambda _: floor).positions_m - truth)[there, 0], axis=-1).mean()
    free_m = np.linalg.norm((fit_body(evidence).positions_m - truth)[there, 0], axis=-1).mean()
    assert off_m < free_m + 0.06


def test_no_knee_and_no_elbow_bends_backwards():
    evidence, truth, floor = seen_walk(noise_m=0.12)
    fitted = fit_body(evidence, floor_of=lambda _: floor)
    for angle in hinge_angles(local_turns(fitted.segments_wxyz)).values():
        assert np.degrees(angle.min()) > -5


def test_a_gap_is_carried_and_a_swap_of_legs_is_shrugged_off():
    evidence, truth, floor = seen_walk(90, noise_m=0.03)
    confidence, rays = evidence.confidence.copy(), evidence.rays.copy()
    confidence[40:46] = 0
    legs = [(13, 14), (15, 16), (17, 18), (19, 20)]
    for left, right in legs:
        rays[60:63, [left, right]] = rays[60:63, [right, left]]
    fitted = fit_body(replace(evidence, rays=rays, confidence=confidence), floor_of=lambda _: floor)
    error = np.linalg.norm(fitted.positions_m - truth, axis=-1)
    about_pelvis = np.linalg.norm((fitted.positions_m - fitted.positions_m[:, :1]) - (truth - truth[:, :1]), axis=-1)
    assert np.isfinite(error).all() and about_pelvis[40:46].mean() < 0.08 and about_pelvis[60:63].mean() < 0.1


def test_windows_leave_no_seam(monkeypatch):
    evidence, truth, floor = seen_walk(200, noise_m=0.03)
    whole = fit_body(evidence, floor_of=lambda _: floor)
    monkeypatch.setattr(fitting, "WINDOW", 80)
    pieces = fit_body(evidence, floor_of=lambda _: floor)
    apart = pieces.positions_m - whole.positions_m
    # Eight metres away: a little depth, and no jump.
    assert np.abs(apart).max() < 0.04 and np.abs(np.diff(apart, axis=0)).max() < 0.01
    jump = np.linalg.norm(np.diff(pieces.positions_m, n=2, axis=0), axis=-1).max(axis=1)
    usual = np.linalg.norm(np.diff(whole.positions_m, n=2, axis=0), axis=-1).max(axis=1)
    assert (jump < 1.5 * usual.max()).all()


@pytest.mark.parametrize("frames", [60, 75, 140])
def test_a_stretch_of_any_length_holds_on_to_both_its_ends(frames, monkeypatch):
    # Of 75 frames, those that are held at the end begin in the window before.
    monkeypatch.setattr(fitting, "WINDOW", 64)
    evidence, _, _ = seen_walk(frames)
    before = first_guess(evidence)
    whole = fit_between(before, evidence, (8, 8))
    held = np.r_[0:8, frames - 8 : frames]
    was_m = landmarks(before)
    assert np.abs(whole.positions_m[held] - was_m[held]).max() < 1e-4
    assert np.abs(whole.positions_m[8:-8] - was_m[8:-8]).max() > 0.05
    assert (whole.lengths_m == before.lengths_m).all()


def test_what_an_artist_put_is_covered_to_a_pixel_however_far_off():
    evidence, _, _ = seen_walk(60, noise_m=0.02, keypoint_noise=0.0)
    wrist, rows = LIFTER_21_NAMES.index("l_wrist"), slice(28, 34)
    rays = evidence.rays.copy()
    rays[rows, wrist] += 0.012
    pinned = np.zeros(rays.shape[:2], bool)
    pinned[rows, wrist] = True

    def off_m(seen: Evidence) -> float:
        site = detector_sites(fit_body(seen).positions_m)[rows, wrist]
        return float(np.linalg.norm(site[:, :2] - rays[rows, wrist] * site[:, 2:], axis=-1).mean())

    moved = replace(evidence, rays=rays)
    detected, put = off_m(moved), off_m(replace(moved, pinned=pinned))
    # From eight metres with a pixel of 2 cm, nobody can point at half a centimetre.
    coarse = off_m(replace(moved, pinned=pinned, pixel=0.02 / 8))
    assert put < 0.3 * detected and 1.3 * put < coarse < detected


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_the_shortest_clips_fit(frames):
    evidence, truth, floor = seen_walk(frames, noise_m=0.02)
    fitted = fit_body(evidence, floor_of=lambda _: floor)
    assert fitted.positions_m.shape == (frames, 41, 3) and p_mpjpe(fitted.positions_m, truth) < 0.06


def test_a_moving_camera_is_taken_out():
    evidence, truth, floor = seen_walk(60, noise_m=0.02)
    # The camera pans and travels: the same person through another camera in each frame.
    angle = np.linspace(0, 0.5, 60)
    turn = np.tile(np.eye(3), (60, 1, 1))
    turn[:, 0, 0] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 0, 2], turn[:, 2, 0] = -np.sin(angle), np.sin(angle)
    move = np.stack([angle, 0 * angle, angle], axis=-1)
    sites = detector_sites(truth) @ turn.swapaxes(1, 2) + move[:, None]
    through = np.concatenate([turn, move[..., None]], axis=2)
    moving = replace(evidence, rays=sites[..., :2] / sites[..., 2:], camera_from_space=through)
    fitted = fit_body(moving, floor_of=lambda _: floor)
    assert np.linalg.norm(fitted.positions_m - truth, axis=-1).mean() < 0.12


def test_a_known_height_sets_the_size_of_body_and_path():
    evidence, truth, floor = seen_walk(60, noise_m=0.02)
    tall, small = (fit_body(evidence, height_m=height) for height in (2.0, 1.0))
    assert stature_m(tall.lengths_m) == pytest.approx(2.0) and stature_m(small.lengths_m) == pytest.approx(1.0)
    assert np.median(tall.positions_m[:, 0, 2] / small.positions_m[:, 0, 2]) == pytest.approx(2.0, rel=0.05)
    assert stature_m(REST_LENGTHS_M) == pytest.approx(1.74, abs=0.08)


def test_it_can_be_stopped():
    evidence, _, floor = seen_walk(20)
    with pytest.raises(Cancelled):
        fit_body(evidence, floor_of=lambda _: floor, progress=lambda done, total: False)
