"""A walker whose truth is known: planted feet, swinging limbs, a camera in front."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from keylift.core.camera import Camera
from keylift.core.detector_sites import detector_sites
from keylift.core.rotations import from_matrix, from_rotation_vector, multiply, to_matrix
from keylift.core.segments import SEGMENT_NAMES, T_POSE_M, joint_rotations, landmarks_from_segments
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.tracks import KeypointTrack, PoseTrack


@dataclass(frozen=True, eq=False)
class Walk:
    """positions_m (F, 41, 3) and turns (F, S, 4) in a y-up world, contact (F, 4), time_s (F,)."""

    positions_m: np.ndarray
    turns: np.ndarray
    contact: np.ndarray
    time_s: np.ndarray


def walk(frames: int = 90, fps: float = 30.0, heading_rad: float = 0.4) -> Walk:
    """Walk forwards, one foot planted at a time."""
    time_s = np.arange(frames) / fps
    phase = 2 * np.pi * time_s / 1.2
    vectors = np.zeros((frames, len(SEGMENT_NAMES), 3))

    def set_turn(name: str, axis: int, angle_rad: np.ndarray | float) -> None:
        vectors[:, SEGMENT_NAMES.index(name), axis] = angle_rad

    # Turning about +x (left) brings what hangs down backwards; the leg that stands sweeps back, nearly straight.
    for side, shift, out in (("l", 0.0, 1.0), ("r", np.pi, -1.0)):
        swing = 0.42 * np.cos(phase + shift)
        bend = 0.12 + 0.7 * np.clip(np.sin(phase + shift + np.pi), 0, 1) ** 2
        set_turn(f"{side}_thigh", 0, -swing)
        set_turn(f"{side}_shank", 0, -swing + bend)
        arms = from_rotation_vector(np.array([0.0, 0.0, -1.25 * out]))
        forward = -0.35 * np.cos(phase + shift + np.pi)
        for name, extra in (("upperarm", 0.0), ("forearm", -0.4), ("hand", -0.4)):
            tilt = from_rotation_vector(np.stack([forward + extra, 0 * phase, 0 * phase], axis=-1))
            vectors_of_arm = multiply(tilt, np.broadcast_to(arms, tilt.shape))
            angle = 2 * np.arccos(np.clip(vectors_of_arm[:, :1], -1, 1))
            sine = np.maximum(np.linalg.norm(vectors_of_arm[:, 1:], axis=-1, keepdims=True), 1e-9)
            vectors[:, SEGMENT_NAMES.index(f"{side}_{name}")] = vectors_of_arm[:, 1:] / sine * angle
    turns = from_rotation_vector(vectors)
    heading = from_rotation_vector(np.array([0.0, heading_rad, 0.0]))
    turns = multiply(np.broadcast_to(heading, turns.shape), turns)
    about_pelvis = landmarks_from_segments(turns, np.zeros((frames, 3)), T_POSE_M)

    ankles = about_pelvis[:, LANDMARKS_41.indices("l_ankle", "r_ankle")]
    # How much of the weight the left foot carries: it changes over smoothly, and a foot counts as planted in between.
    left = np.clip(0.5 + 1.6 * np.sin(phase), 0, 1)
    left = left * left * (3 - 2 * left)
    carries = np.stack([left, 1 - left], axis=-1)
    root = np.zeros((frames, 3))
    root[:, 1] = T_POSE_M[LANDMARKS_41.index("l_ankle"), 1] - (carries * ankles[..., 1]).sum(axis=1)
    step = (carries[1:, :, None] * -np.diff(ankles, axis=0)).sum(axis=1)
    root[1:, [0, 2]] = np.cumsum(step[:, [0, 2]], axis=0)
    positions = about_pelvis + root[:, None]
    contact = (carries > 0.999).repeat(2, axis=1).astype(float)
    return Walk(positions, turns, contact, time_s)


def camera_from_world(pitch_rad: float = 0.15, roll_rad: float = 0.03, distance_m: float = 4.5) -> np.ndarray:
    """(4, 4) camera (x right, y down, z forward) from a y-up world, in front of the origin, looking down by pitch."""
    flip = from_rotation_vector(np.array([np.pi + pitch_rad, 0.0, 0.0]))
    matrix = np.eye(4)
    matrix[:3, :3] = to_matrix(multiply(from_rotation_vector(np.array([0.0, 0.0, roll_rad])), flip))
    matrix[:3, 3] = [0.2, 0.1, distance_m]
    return matrix


def filmed(motion: Walk, camera: Camera, extrinsics: np.ndarray) -> tuple[PoseTrack, KeypointTrack]:
    """The walk as a pose in camera space and as perfect keypoints of the lifter's layout."""
    rotation, translation = extrinsics[:3, :3], extrinsics[:3, 3]
    positions = motion.positions_m @ rotation.T + translation
    turns = multiply(np.broadcast_to(from_matrix(rotation), motion.turns.shape), motion.turns)
    floor_m = np.array([0.0, 0.0, -motion.positions_m[..., 1].min()])
    z_up = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = z_up @ rotation.T
    world_from_camera[:3, 3] = floor_m - z_up @ rotation.T @ translation
    index = np.arange(len(motion.time_s))
    pose = PoseTrack(
        positions_m=positions,
        rotations_wxyz=joint_rotations(turns),
        confidence=np.ones(positions.shape[:2]),
        contact=motion.contact,
        world_from_camera=world_from_camera,
        time_s=motion.time_s,
        frame_index=index,
        fps=float(1 / np.diff(motion.time_s).mean()),
        camera=camera,
        skeleton=LANDMARKS_41,
    )
    xy = camera.project(detector_sites(positions))
    track = KeypointTrack(
        xy_px=xy,
        confidence=np.ones(xy.shape[:2]),
        time_s=motion.time_s,
        frame_index=index,
        layout="lifter21",
        size_px=camera.size_px,
        filled=np.zeros(len(index), bool),
    )
    return pose, track
