"""Points of hands and faces: both sides alike, carried along, and able to tell how a palm and a head are turned."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.detail_points import (
    DETAIL_PAIRS,
    DETAIL_POINTS,
    detail_points,
    detail_sites,
    detail_sites_by_change,
)
from keylift.core.detector_sites import detector_sites
from keylift.core.fit.articulated_body import BONE_GROUPS, FREEDOMS, REST_LENGTHS_M, BodyState, landmarks, pose
from keylift.core.fit.evidence import Evidence
from keylift.core.fit.fitting import fit_body
from keylift.core.rotations import angle_between_rad, from_matrix, from_rotation_vector, multiply
from keylift.core.segments import SEGMENT_NAMES, T_POSE_M, landmarks_from_segments
from keylift.core.skeletons import LANDMARKS_41, LIFTER_21_NAMES, MEDIAPIPE_33_NAMES
from keylift.core.tracks import KeypointTrack
from walker import camera_from_world, walk


def random_state(seed, frames=5):
    rng = np.random.default_rng(seed)
    local = np.tile([1.0, 0, 0, 0], (frames, len(SEGMENT_NAMES), 1))
    at_rest = BodyState(rng.normal(size=(frames, 3)), local, REST_LENGTHS_M)
    return at_rest.moved(rng.normal(size=(frames, FREEDOMS)) * 0.5, np.zeros(len(BONE_GROUPS)))


def test_a_palm_looks_down_in_the_t_pose_with_the_thumb_ahead():
    sites = dict(zip(DETAIL_POINTS, detail_sites(T_POSE_M[None])[0], strict=True))
    for side, outward in (("left", 1), ("right", -1)):
        wrist = sites[f"{side}_wrist"]
        np.testing.assert_allclose(wrist, T_POSE_M[LANDMARKS_41.index(f"{side[0]}_wrist")])
        for name, offset_mm in (("index", (83, -13, 0)), ("pinky", (77, -16, -18)), ("thumb", (60, -12, 13))):
            offset = (sites[f"{side}_{name}"] - wrist) * 1000
            np.testing.assert_allclose(offset * [outward, 1, 1], offset_mm, atol=1e-6)


def test_a_face_looks_ahead_in_the_t_pose_with_its_mouth_under_its_eyes():
    sites = dict(zip(DETAIL_POINTS, detail_sites(T_POSE_M[None])[0], strict=True))
    left, up, ahead = 0, 1, 2
    for side, outward in (("left", 1), ("right", -1)):
        eye, mouth, ear = (sites[name] for name in (f"{side}_eye_outer", f"mouth_{side}", f"{side}_ear"))
        assert all(outward * point[left] > 0.01 for point in (eye, mouth, ear))
        assert mouth[up] < sites["nose"][up] < eye[up] and ear[ahead] < eye[ahead] < sites["nose"][ahead]


def test_a_difference_is_none_where_all_points_are_one():
    np.testing.assert_allclose(DETAIL_PAIRS.sum(axis=1), 0, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_derivatives_say_where_the_points_go(seed):
    state, body = random_state(seed), pose(random_state(seed))
    change = np.random.default_rng(seed + 1).normal(size=(5, FREEDOMS)) * 1e-5
    moved = np.einsum("fkid,fd->fki", detail_sites_by_change(body.landmarks_m, body.by_change()), change)
    after = landmarks(state.moved(change, np.zeros(len(BONE_GROUPS))))
    assert np.abs(detail_sites(after) - detail_sites(body.landmarks_m) - moved).max() < 3e-8


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_a_mirrored_body_has_mirrored_hands_and_face(seed):
    body = landmarks(random_state(seed))
    mirrored = body[:, LANDMARKS_41.mirrored_order()] * [-1, 1, 1]
    other = {"left": "right", "right": "left"}
    partners = ["_".join(other.get(word, word) for word in name.split("_")) for name in DETAIL_POINTS]
    expected = detail_sites(body)[:, [DETAIL_POINTS.index(name) for name in partners]] * [-1, 1, 1]
    np.testing.assert_allclose(detail_sites(mirrored), expected, atol=1e-9)


def track_of(layout, names):
    xy = np.arange(3 * len(names) * 2, dtype=float).reshape(3, len(names), 2)
    shape = xy.shape[:2]
    return KeypointTrack(xy, np.ones(shape), np.arange(3) / 30, np.arange(3), layout, (640, 480), np.zeros(3, bool))


def test_points_are_found_by_name_where_the_layout_has_them():
    track = track_of("mediapipe33", MEDIAPIPE_33_NAMES)
    xy, confidence = detail_points(track)
    assert xy.shape == (3, len(DETAIL_POINTS), 2) and confidence.shape == xy.shape[:2]
    for column, name in enumerate(DETAIL_POINTS):
        np.testing.assert_array_equal(xy[:, column], track.xy_px[:, MEDIAPIPE_33_NAMES.index(name)])
    assert detail_points(track_of("lifter21", LIFTER_21_NAMES)) is None


TURNED_DEG = {"l_hand": (50.0, 0, 0), "r_hand": (50.0, 0, 0), "head": (0, 40.0, 0)}


@pytest.mark.parametrize("segment", TURNED_DEG)
def test_the_fit_turns_palms_and_heads_as_the_points_say(segment):
    """Somebody walks with one palm, or the head, turned; what the lifter says knows nothing of it."""
    motion = walk(60, 30.0, heading_rad=0.3)
    turns = motion.turns.copy()
    turned = SEGMENT_NAMES.index(segment)
    turn = from_rotation_vector(np.radians(TURNED_DEG[segment]))
    turns[:, turned] = multiply(turns[:, turned], np.broadcast_to(turn, turns[:, 0].shape))
    truth, guess = (landmarks_from_segments(t, motion.positions_m[:, 0], T_POSE_M) for t in (turns, motion.turns))
    view = camera_from_world(0.1, 0.02, 5.0)
    truth, guess = (points @ view[:3, :3].T + view[:3, 3] for points in (truth, guess))
    sites, seen = detail_sites(truth), detector_sites(truth)
    blind = Evidence(
        rays=seen[..., :2] / seen[..., 2:],
        confidence=np.ones(seen.shape[:2]),
        lifted_m=guess - guess[:, :1],
        expected_error_m=np.full(guess.shape[:2], 0.05),
        contact=np.zeros((60, 4)),
        time_s=motion.time_s,
        camera_from_space=np.tile(np.eye(4)[:3], (60, 1, 1)),
    )
    looking = replace(blind, detail_rays=sites[..., :2] / sites[..., 2:], detail_confidence=np.ones(sites.shape[:2]))
    truly = multiply(np.broadcast_to(from_matrix(view[:3, :3]), turns.shape), turns)
    off = {
        kind: np.degrees(angle_between_rad(fit_body(evidence).segments_wxyz, truly)).mean(axis=0)
        for kind, evidence in (("blind", blind), ("looking", looking))
    }
    assert off["blind"][turned] > 15 and off["looking"][turned] < 0.75 * off["blind"][turned]
    others = [index for index, name in enumerate(SEGMENT_NAMES) if name in TURNED_DEG and index != turned]
    assert (off["looking"][others] < off["blind"][others] + 3).all()


def test_points_that_are_not_seen_say_nothing():
    motion = walk(30, 30.0)
    view = camera_from_world(0.1, 0.02, 5.0)
    body = motion.positions_m @ view[:3, :3].T + view[:3, 3]
    seen = detector_sites(body)
    evidence = Evidence(
        rays=seen[..., :2] / seen[..., 2:],
        confidence=np.ones(seen.shape[:2]),
        lifted_m=body - body[:, :1],
        expected_error_m=np.full(body.shape[:2], 0.05),
        contact=np.zeros((30, 4)),
        time_s=motion.time_s,
        camera_from_space=np.tile(np.eye(4)[:3], (30, 1, 1)),
    )
    unseen = (30, len(DETAIL_POINTS))
    with_nothing = replace(evidence, detail_rays=np.zeros((*unseen, 2)), detail_confidence=np.zeros(unseen))
    np.testing.assert_allclose(fit_body(with_nothing).positions_m, fit_body(evidence).positions_m, atol=1e-4)
