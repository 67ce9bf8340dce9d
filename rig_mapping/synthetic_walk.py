"""Somebody who walks as long as one likes: a performance made of numbers alone, always the same."""

from __future__ import annotations

import numpy as np

from ..core.camera import Camera
from ..core.rotations import from_matrix, from_rotation_vector, multiply
from ..core.segments import SEGMENT_NAMES, T_POSE_M, joint_rotations, landmarks_from_segments
from ..core.skeletons import LANDMARKS_41
from ..core.source import Source
from ..core.tracks import PoseTrack

FPS = 30.0
_STRIDE_S = 1.2
# World (z up) from T-pose axes (x left, y up, z forward); the camera looks at the walker from in front.
_WORLD_FROM_BODY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_WORLD_FROM_CAMERA = np.array([[1.0, 0, 0, 0.3], [0, 0, 1, -5.0], [0, -1, 0, 1.4], [0, 0, 0, 1]])
_TWO_SIDES = (("l", 1.0, 0.0), ("r", -1.0, np.pi))


def synthetic_walk(frames: int, template_m: np.ndarray = T_POSE_M) -> PoseTrack:
    """A walk on a winding way, (frames,) at 30 a second; the foot that carries the weight stands on the floor.

    template_m: (41, 3) the walker in the T-pose, in its axes
    """
    time_s = np.arange(frames) / FPS
    phase = 2 * np.pi * time_s / _STRIDE_S
    turns = _segment_turns(time_s, phase)
    # How much of the weight is on the left foot: it changes over smoothly, and only who has all of it stands.
    left = np.clip(0.5 + 1.6 * np.sin(phase), 0.0, 1.0)
    left = left * left * (3 - 2 * left)
    weight = np.stack([left, 1.0 - left], axis=1)
    positions = landmarks_from_segments(turns, _carried_along(turns, weight, template_m), template_m)
    in_world = positions @ _WORLD_FROM_BODY.T
    rotation = _WORLD_FROM_CAMERA[:3, :3]
    camera_from_body = from_matrix(rotation.T @ _WORLD_FROM_BODY)
    return PoseTrack(
        positions_m=(in_world - _WORLD_FROM_CAMERA[:3, 3]) @ rotation,
        rotations_wxyz=joint_rotations(multiply(camera_from_body, turns)),
        confidence=np.ones(positions.shape[:2]),
        contact=np.repeat(weight > 0.999, 2, axis=1).astype(float),
        world_from_camera=_WORLD_FROM_CAMERA,
        time_s=time_s,
        frame_index=np.arange(frames),
        fps=FPS,
        camera=Camera.guessed((1280, 720)),
        skeleton=LANDMARKS_41,
        source=Source("synthetic walk", ""),
    )


def _segment_turns(time_s: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """(F, S, 4) each segment from the T-pose, in axes x left, y up, z forward."""
    nothing = np.zeros_like(phase)

    def about(x: np.ndarray | float, y: np.ndarray | float, z: np.ndarray | float) -> np.ndarray:
        return from_rotation_vector(np.stack([nothing + x, nothing + y, nothing + z], axis=-1))

    turn = {"pelvis": multiply(about(0, 0.8 * np.sin(0.21 * time_s), 0), about(0.03, 0.1 * np.cos(phase), 0.04))}
    # The trunk winds against the hips; the head looks about, slower than the steps and never twice alike.
    turn["spine"] = multiply(turn["pelvis"], about(0.05 * np.sin(2 * phase), -0.08 * np.cos(phase), 0))
    turn["chest"] = multiply(turn["spine"], about(0.05, -0.12 * np.cos(phase), 0.05 * np.sin(phase)))
    turn["neck"] = multiply(turn["chest"], about(0.1 * np.sin(0.9 * time_s), 0.2 * np.sin(0.37 * time_s), 0))
    turn["head"] = multiply(turn["neck"], about(0.1 * np.sin(1.3 * time_s), 0.3 * np.sin(0.37 * time_s), 0))
    for side, out, shift in _TWO_SIDES:
        swing, bend = 0.42 * np.cos(phase + shift), 0.12 + 0.7 * np.clip(-np.sin(phase + shift), 0, 1) ** 2
        # Turning about x brings backwards what hangs down.
        turn[f"{side}_thigh"] = multiply(turn["pelvis"], about(-swing, 0, 0.03 * out))
        turn[f"{side}_shank"] = multiply(turn[f"{side}_thigh"], about(bend, 0, 0))
        turn[f"{side}_foot"] = multiply(about(0, 0.8 * np.sin(0.21 * time_s), 0), about(0.4 * bend - 0.05, 0, 0))
        turn[f"{side}_toes"] = turn[f"{side}_foot"]
        turn[f"{side}_clavicle"] = multiply(turn["chest"], about(0, 0, 0.05 * out * np.sin(phase)))
        hanging = multiply(about(0.35 * np.cos(phase + shift), 0, 0), about(0, 0, -1.25 * out))
        turn[f"{side}_upperarm"] = multiply(turn["chest"], hanging)
        elbow, twist = 0.5 + 0.25 * np.cos(phase + shift), 0.6 * np.sin(0.7 * time_s + shift)
        turn[f"{side}_forearm"] = multiply(turn[f"{side}_upperarm"], about(0, -out * elbow, 0))
        turn[f"{side}_hand"] = multiply(turn[f"{side}_forearm"], about(twist / 2, 0.1 * out, 0.1))
        turn[f"{side}_forearm"] = multiply(turn[f"{side}_forearm"], about(twist / 4, 0, 0))
    return np.stack([turn[name] for name in SEGMENT_NAMES], axis=1)


def _carried_along(turns: np.ndarray, weight: np.ndarray, template_m: np.ndarray) -> np.ndarray:
    """(F, 3) the way of the pelvis on which the foot with the weight, (F, 2) left and right, stays where it is."""
    still = landmarks_from_segments(turns, np.zeros((len(turns), 3)), template_m)
    ankles = still[:, LANDMARKS_41.indices("l_ankle", "r_ankle")]
    soles = still[:, LANDMARKS_41.indices("l_heel", "r_heel")]
    root = np.zeros((len(turns), 3))
    root[:, 1] = -(weight * soles[..., 1]).sum(axis=1)
    step = (weight[1:, :, None] * -np.diff(ankles, axis=0)).sum(axis=1)
    root[1:, [0, 2]] = np.cumsum(step[:, [0, 2]], axis=0)
    return root
