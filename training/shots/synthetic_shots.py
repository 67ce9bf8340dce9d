"""Shots made of motion alone: whole clips before a synthetic camera, seen by a detector as imperfect as a real one.

What the lifter trains on are windows; these are clips with a path, floor and feet, for the whole way to a pose.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.camera import Camera
from ...core.detector_sites import detector_sites
from ...core.rotations import from_rotation_vector, to_matrix
from ...core.segments import segment_rotations
from ...core.source import Source
from ...core.tracks import KeypointTrack
from ..motion.motion_set import MotionSet
from ..views.detector_noise import NoiseSettings, observe
from .shot import Shot

SYNTHETIC_MODEL = "synthetic"
FPS = 30.0
LONGEST_S = 4.0
SIZE_PX = (1280, 720)

# Chances of hidden limbs, bursts and exchanges are per window of so many frames.
_WINDOW_FRAMES = 27
_SHORTEST_FRAMES = 15


@dataclass(frozen=True)
class CameraHabits:
    """How cameras are held: degrees of pitch (mean, deviation), roll (deviation), and width (from, to)."""

    pitch_deg: tuple[float, float] = (5.0, 12.0)
    roll_deg: float = 6.0
    field_deg: tuple[float, float] = (40.0, 75.0)


CAMERA_HABITS = {"usual": CameraHabits(), "steep": CameraHabits((45.0, 10.0), 20.0, (70.0, 100.0))}

_Z_UP_FROM_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def make_synthetic_shots(motion: MotionSet, count: int, seed: int, noise: NoiseSettings | None = None) -> list[Shot]:
    """``count`` shots of up to four seconds at 30 frames a second, spread evenly over the people who moved.

    noise: how bad the detector is; as for training when None

    A shot of a seed is always the same. Fewer come out where there are not as many clips of half a second.
    """
    rng = np.random.default_rng(seed)
    shots = []
    for number, clip in enumerate(_spread_clips(motion, count, rng)):
        shots.append(_shot(motion, clip, f"clip-{number + 1:02}", rng, noise or NoiseSettings()))
    return shots


def film_whole_clips(
    motion: MotionSet, views: int, seed: int, cameras: str = "usual", longest_s: float = 60.0
) -> list[Shot]:
    """Every clip of half a second and more, each by ``views`` cameras all around; ``cameras`` of ``CAMERA_HABITS``.

    A shot of a seed is always the same.
    """
    rng = np.random.default_rng(seed)
    step = max(1, round(motion.fps / FPS))
    long = np.flatnonzero(motion.clip_lengths // step >= _SHORTEST_FRAMES)
    return [
        _shot(motion, int(clip), f"clip-{clip:03}-{view}", rng, NoiseSettings(), longest_s, CAMERA_HABITS[cameras])
        for clip in long
        for view in range(views)
    ]


def _spread_clips(motion: MotionSet, count: int, rng: np.random.Generator) -> list[int]:
    """Clips in random order, one of each person in turn."""
    step = max(1, round(motion.fps / FPS))
    whole = [
        np.isfinite(motion.positions_m[start : start + length]).all() and length // step >= _SHORTEST_FRAMES
        for start, length in zip(motion.clip_start, motion.clip_lengths, strict=False)
    ]
    queues = {
        name: list(rng.permutation(np.flatnonzero((motion.subject == name) & whole)))
        for name in sorted(set(motion.subject))
    }
    chosen: list[int] = []
    while len(chosen) < count and any(queues.values()):
        for queue in queues.values():
            if queue and len(chosen) < count:
                chosen.append(int(queue.pop()))
    return chosen


def _shot(
    motion: MotionSet,
    clip: int,
    name: str,
    rng: np.random.Generator,
    noise: NoiseSettings,
    longest_s: float = LONGEST_S,
    habits: CameraHabits = CAMERA_HABITS["usual"],
) -> Shot:
    step = max(1, round(motion.fps / FPS))
    frames = min(int(motion.clip_lengths[clip]) // step, int(longest_s * FPS))
    first = int(motion.clip_start[clip]) + int(rng.integers(0, motion.clip_lengths[clip] - frames * step + 1))
    rows = first + step * np.arange(frames)
    body_m, contact = motion.positions_m[rows].astype(float), motion.contact[rows].astype(float)
    camera = Camera.guessed(SIZE_PX, float(rng.uniform(*habits.field_deg)))
    turn, move_m = _stand_camera(body_m, camera, habits, rng)
    truth_m = body_m @ turn.T + move_m

    sites = detector_sites(truth_m)
    rays = (sites[..., :2] / sites[..., 2:]).astype(np.float32)
    box = np.array([np.median(np.ptp(rays, axis=1).max(axis=-1))], np.float32)
    behind_m = (sites[..., 2] - sites[..., 2].mean(axis=1, keepdims=True)).astype(np.float32)
    longer = frames / _WINDOW_FRAMES
    per_clip = replace(
        noise,
        hidden_chance=min(1.0, noise.hidden_chance * longer),
        burst_chance=noise.burst_chance * longer,
        body_swap_chance=min(1.0, noise.body_swap_chance * longer),
        limb_swap_chance=noise.limb_swap_chance * longer,
        missing_chance=min(1.0, noise.missing_chance * longer),
    )
    seen, confidence = observe(rng, rays[None].copy(), behind_m[None], box, per_clip)
    xy_px = seen[0].astype(float) * np.array(camera.focal_px) + np.array(camera.centre_px)
    time_s = np.arange(frames) * step / motion.fps
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = _Z_UP_FROM_Y_UP @ turn.T
    world_from_camera[:3, 3] = -_Z_UP_FROM_Y_UP @ turn.T @ move_m
    return Shot(
        name=name,
        keypoints={
            SYNTHETIC_MODEL: KeypointTrack(
                xy_px=xy_px,
                confidence=confidence[0].astype(float),
                time_s=time_s,
                frame_index=np.arange(frames),
                layout="lifter21",
                size_px=SIZE_PX,
                filled=np.zeros(frames, bool),
                source=Source(str(motion.clip_name[clip]), motion.sha256),
                detector="synthetic noise",
            )
        },
        detector_world_m={},
        camera=camera,
        truth_m=truth_m,
        truth_rotations_wxyz=segment_rotations(truth_m),
        truth_contact=contact,
        world_from_camera=world_from_camera,
        time_s=time_s,
        fps=motion.fps / step,
        source=f"{motion.source[clip]}, {motion.clip_name[clip]}",
    )


def _stand_camera(
    body_m: np.ndarray, camera: Camera, habits: CameraHabits, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A turn (3, 3) and a move (3,) from y-up motion to a camera that has all of the path in its picture.

    Cameras stand all around and are held as ``habits`` say; the person fills a third to all
    of the picture.
    """
    lo, hi = body_m.min(axis=(0, 1)), body_m.max(axis=(0, 1))
    middle = (lo + hi) / 2
    yaw, pitch, roll = (
        rng.uniform(-np.pi, np.pi),
        np.radians(rng.normal(*habits.pitch_deg)),
        np.radians(rng.normal(0, habits.roll_deg)),
    )
    angles = ((0.0, 0.0, roll), (np.pi + pitch, 0.0, 0.0), (0.0, yaw, 0.0))
    about_z, about_x, about_y = (to_matrix(from_rotation_vector(np.array(angle))) for angle in angles)
    turn = about_z @ about_x @ about_y
    relative = (body_m - middle) @ turn.T
    half = np.array(SIZE_PX) / 2 / np.array(camera.focal_px)
    # As far away as the outermost point asks for, plus some.
    depth = (np.abs(relative[..., :2]) / half - relative[..., 2:]).max()
    distance_m = max(1.5, float(depth) * float(rng.uniform(1.05, 2.2)))
    return turn, np.array([0.0, 0.0, distance_m]) - turn @ middle
