"""Shots of the walker: keypoints that are perfect, or off by as much as is wanted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from keylift.core.camera import Camera
from keylift.core.segments import segments_from_joint_rotations
from keylift.core.skeletons import LANDMARKS_41, MEDIAPIPE_33_NAMES
from keylift.core.source import Source
from keylift.training.shots.shot import Shot
from walker import camera_from_world, filmed, walk

LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


def world_landmarks(positions_m: np.ndarray) -> np.ndarray:
    """(F, 33, 3): the limb joints of (F, 41, 3) in MediaPipe's places, about the middle of the hips; else NaN."""
    points = np.full((len(positions_m), 33, 3), np.nan)
    for side in ("left", "right"):
        for limb in LIMBS:
            joint = LANDMARKS_41.index(f"{side[0]}_{limb}")
            points[:, MEDIAPIPE_33_NAMES.index(f"{side}_{limb}")] = positions_m[:, joint]
    hips = positions_m[:, LANDMARKS_41.indices("l_hip", "r_hip")].mean(axis=1)
    return points - hips[:, None]


def walking_shot(frames: int = 60, fps: float = 30.0, noise_px: float = 0.0) -> Shot:
    """The walker as filmed, with keypoints of the lifter's layout for two models."""
    pose, track = filmed(walk(frames, fps), Camera.guessed((1280, 720)), camera_from_world())
    noise = np.random.default_rng(5).normal(0, noise_px, track.xy_px.shape)
    track = replace(track, xy_px=track.xy_px + noise, source=Source("walk.mp4", "0" * 64), detector="perfect eyes")
    return Shot(
        name="walk",
        keypoints={"full": track, "heavy": track},
        detector_world_m={"heavy": world_landmarks(pose.positions_m)},
        camera=pose.camera,
        truth_m=pose.positions_m,
        truth_rotations_wxyz=segments_from_joint_rotations(pose.rotations_wxyz),
        truth_contact=pose.contact,
        world_from_camera=pose.world_from_camera,
        time_s=pose.time_s,
        fps=fps,
        source="made up",
    )
