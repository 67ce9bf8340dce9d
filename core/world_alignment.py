"""Which way is up and where the floor is, when the camera says nothing: from standing feet and upright bodies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rotations import normalised
from .skeletons import LANDMARKS_41

# Heights of heels and balls over the floor when feet stand flat, from the motion data: a ball lies 26 mm over its heel.
STANDING_HEIGHT_M = np.array([0.025, 0.051, 0.025, 0.051])

_FEET = LANDMARKS_41.indices("l_heel", "l_toe_base", "r_heel", "r_toe_base")

# What is believed before looking: cameras are pitched more than they are rolled.
_PITCH_DEVIATION_RAD, _ROLL_DEVIATION_RAD = np.radians(15), np.radians(6)
_UPRIGHT_DEVIATION_RAD = np.radians(4)
_FOOT_DEVIATION_M = 0.04
_CONTACT_PROBABILITY = 0.5
# How far off the lifter's own word is, in the mean over a clip.
_LIFTED_DEVIATION_RAD = np.radians(8)


@dataclass(frozen=True, eq=False)
class Gravity:
    """How a camera is held, when somebody knows: up (3,) in its space (x right, y down, z forward), length 1."""

    up: np.ndarray

    @classmethod
    def from_angles(cls, pitch_deg: float, roll_deg: float = 0.0) -> Gravity:
        """Of a camera that looks down by ``pitch_deg`` and is turned clockwise by ``roll_deg`` about its own view."""
        pitch, roll = np.radians(pitch_deg), np.radians(roll_deg)
        return cls(np.array([-np.sin(roll) * np.cos(pitch), -np.cos(roll) * np.cos(pitch), -np.sin(pitch)]))


def _uprightness(positions_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean body axis (3,), and how many of the frames (0 to 1) are of a straight standing or walking body."""
    at = {name: positions_m[:, index] for index, name in enumerate(LANDMARKS_41.names)}
    hips, ankles = at["pelvis"], (at["l_ankle"] + at["r_ankle"]) / 2
    trunk, legs = normalised(at["neck"] - hips), normalised(hips - ankles)
    leg_length = np.linalg.norm(at["l_hip"] - at["l_knee"], axis=-1) + np.linalg.norm(
        at["l_knee"] - at["l_ankle"], axis=-1
    )
    stretched = np.linalg.norm(hips - ankles, axis=-1) / np.maximum(leg_length, 1e-6)
    straight = np.clip((np.sum(trunk * legs, axis=-1) - 0.85) / 0.1, 0, 1) * np.clip((stretched - 0.8) / 0.1, 0, 1)
    axis = normalised(at["neck"] - ankles)
    if straight.sum() < 1e-6:
        return np.array([0.0, -1.0, 0.0]), np.array(0.0)
    return normalised((straight[:, None] * axis).sum(axis=0)), straight.mean()


def _standing_points(positions_m: np.ndarray, contact: np.ndarray, time_s: np.ndarray) -> tuple[np.ndarray, ...]:
    """Feet that stand: points (N, 3), rest heights (N,), weights (N,) summing to the number of footholds."""
    feet = positions_m[:, _FEET]
    standing = contact > _CONTACT_PROBABILITY
    weight = np.where(standing, contact, 0.0)
    seconds_per_frame = (time_s[-1] - time_s[0]) / max(len(time_s) - 1, 1)
    # A foot that stands for a second says as much as one that stands for a minute: it is one foothold. Steps take
    # about half a second.
    footholds = min(standing.sum() * seconds_per_frame / 0.5, 100.0)
    total = weight.sum()
    if total > 0:
        weight = weight * (footholds / total)
    heights = np.broadcast_to(STANDING_HEIGHT_M, standing.shape)
    return feet[standing], heights[standing], weight[standing]


def up_direction(
    positions_m: np.ndarray,
    contact: np.ndarray,
    time_s: np.ndarray,
    gravity: Gravity | None = None,
    lifted_up: np.ndarray | None = None,
) -> np.ndarray:
    """(3,) unit vector in camera space that points up, from (F, 41, 3) positions and (F, 4) contacts.

    gravity:   known from elsewhere, and then taken as it is
    lifted_up: (F, 3) what the lifter says in every frame, shorter where it is in doubt

    Weighs beliefs: cameras are held nearly level, straight bodies stand upright, standing feet share a plane, and what
    the lifter says.
    """
    if gravity is not None:
        return normalised(gravity.up)
    level = np.array([0.0, -1.0, 0.0])
    axis, upright = _uprightness(positions_m)
    points, heights, weight = _standing_points(positions_m, contact, time_s)
    up = normalised(level * 0.3 + axis * (0.05 + upright))
    for _ in range(8):
        # Small turns of ``up``: about x (the camera pitches) and about z (it rolls).
        tangent = np.stack([np.cross([1.0, 0.0, 0.0], up), np.cross([0.0, 0.0, 1.0], up)])
        deviation = np.array([_PITCH_DEVIATION_RAD, _ROLL_DEVIATION_RAD])
        matrix = np.diag(1 / deviation**2)
        right = tangent @ (level - up) / deviation**2
        matrix = matrix + upright * tangent @ tangent.T / _UPRIGHT_DEVIATION_RAD**2
        right = right + upright * tangent @ (axis - up) / _UPRIGHT_DEVIATION_RAD**2
        if lifted_up is not None:
            said = lifted_up.mean(axis=0)
            doubt = _LIFTED_DEVIATION_RAD / max(float(np.linalg.norm(said)), 0.05)
            matrix = matrix + tangent @ tangent.T / doubt**2
            right = right + tangent @ (normalised(said) - up) / doubt**2
        if len(points) >= 3 and weight.sum() > 0:
            height = points @ up - heights
            middle = np.average(height, weights=weight)
            robust = weight / np.sqrt(1 + ((height - middle) / _FOOT_DEVIATION_M) ** 2)
            slope = (points - np.average(points, axis=0, weights=robust)) @ tangent.T
            off = height - np.average(height, weights=robust)
            matrix = matrix + (robust[:, None] * slope).T @ slope / _FOOT_DEVIATION_M**2
            right = right - (robust * off) @ slope / _FOOT_DEVIATION_M**2
        up = normalised(up + np.linalg.solve(matrix, right) @ tangent)
    return up


def floor_height(positions_m: np.ndarray, contact: np.ndarray, time_s: np.ndarray, up: np.ndarray) -> float:
    """How far along ``up`` the floor is from the camera (negative = below it), metres."""
    points, heights, weight = _standing_points(positions_m, contact, time_s)
    if len(points):
        # The median foot stands on the floor; half of the rest may hover or sink by noise.
        height = points @ up - heights
        order = np.argsort(height)
        half = np.searchsorted(np.cumsum(weight[order]), weight.sum() / 2)
        return float(height[order][min(half, len(order) - 1)])
    lowest = (positions_m[:, _FEET] @ up - STANDING_HEIGHT_M).min(axis=1)
    return float(np.percentile(lowest, 10))


def align_world(
    positions_m: np.ndarray,
    contact: np.ndarray,
    time_s: np.ndarray,
    gravity: Gravity | None = None,
    lifted_up: np.ndarray | None = None,
) -> np.ndarray:
    """World from camera (4, 4): z up, floor at z = 0, the first pelvis over the origin, the camera looking along +y.

    positions_m: (F, 41, 3) camera space; contact: (F, 4); time_s: (F,); the rest as in ``up_direction``
    """
    up = up_direction(positions_m, contact, time_s, gravity, lifted_up)
    ahead = np.array([0.0, 0.0, 1.0])
    ahead = ahead - up * (ahead @ up)
    if np.linalg.norm(ahead) < 1e-3:  # The camera looks straight down or up: its lower edge stands for ahead.
        ahead = np.array([0.0, -1.0, 0.0]) - up * -up[1]
    ahead = normalised(ahead)
    rotation = np.stack([np.cross(ahead, up), ahead, up])
    start = rotation @ positions_m[0, 0]
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = rotation
    world_from_camera[:3, 3] = [-start[0], -start[1], -floor_height(positions_m, contact, time_s, up)]
    return world_from_camera
