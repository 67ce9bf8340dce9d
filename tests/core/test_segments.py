import numpy as np

from keylift.core.rotations import angle_between_rad, from_rotation_vector, rotate
from keylift.core.segments import (
    SEGMENT_NAMES,
    SEGMENTS,
    T_POSE_M,
    joint_rotations,
    landmarks_from_segments,
    segment_rotations,
    segments_from_joint_rotations,
)
from keylift.core.skeletons import LANDMARKS_41
from walker import walk


def test_the_t_pose_is_not_turned():
    assert np.degrees(angle_between_rad(segment_rotations(T_POSE_M[None]), np.array([1.0, 0, 0, 0]))).max() < 0.01


def test_the_t_pose_is_symmetric_and_stands_upright():
    mirrored = T_POSE_M[LANDMARKS_41.mirrored_order()] * np.array([-1.0, 1.0, 1.0])
    assert np.allclose(mirrored, T_POSE_M)
    height = T_POSE_M[:, 1].max() - T_POSE_M[:, 1].min()
    assert 1.5 < height < 1.85
    assert T_POSE_M[LANDMARKS_41.index("nose"), 2] > 0.05


def test_the_whole_body_turned_turns_every_segment():
    turn = from_rotation_vector(np.array([0.4, -1.1, 0.8]))
    found = segment_rotations(rotate(turn, T_POSE_M)[None])
    assert np.degrees(angle_between_rad(found, turn)).max() < 0.01


def test_a_walk_is_read_back_from_its_landmarks():
    motion = walk(60)
    found = segment_rotations(motion.positions_m)
    again = landmarks_from_segments(found, motion.positions_m[:, 0], T_POSE_M)
    assert np.abs(again - motion.positions_m).max() < 1e-6
    angle = np.degrees(angle_between_rad(found, motion.turns)).max(axis=0)
    by_name = dict(zip(SEGMENT_NAMES, angle, strict=True))
    # The walker's elbows are no pure hinges, so its arms may differ by a little twist; all else is exact.
    assert max(value for name, value in by_name.items() if "arm" not in name) < 0.01, by_name
    assert max(value for name, value in by_name.items() if "arm" in name) < 20, by_name


def test_limb_segments_point_from_joint_to_joint():
    rng = np.random.default_rng(3)
    turns = from_rotation_vector(rng.normal(0, 0.5, (40, len(SEGMENTS), 3)))
    positions = landmarks_from_segments(turns, rng.normal(size=(40, 3)), T_POSE_M)
    found = segment_rotations(positions)
    for index, segment in enumerate(SEGMENTS):
        if segment.name[2:] in ("upperarm", "forearm", "hand", "thigh", "shank"):
            joint, tip = LANDMARKS_41.index(segment.joint), LANDMARKS_41.index(segment.tip)
            pointed = rotate(found[:, index], T_POSE_M[tip] - T_POSE_M[joint])
            assert np.allclose(pointed, positions[:, tip] - positions[:, joint], atol=1e-9), segment.name


def test_joint_rotations_undo():
    turns = from_rotation_vector(np.random.default_rng(0).normal(size=(9, len(SEGMENTS), 3)))
    back = segments_from_joint_rotations(joint_rotations(turns))
    assert angle_between_rad(back, turns).max() < 1e-7


def test_a_straight_leg_with_noise_does_not_twist_half_round():
    rng = np.random.default_rng(1)
    standing = np.broadcast_to(T_POSE_M, (200, 41, 3)) + rng.normal(0, 0.01, (200, 41, 3))
    thigh = segment_rotations(standing)[:, SEGMENT_NAMES.index("l_thigh")]
    assert np.degrees(angle_between_rad(thigh, np.array([1.0, 0, 0, 0]))).max() < 60
