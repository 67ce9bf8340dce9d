"""The body of the preview figure: a plain mannequin with the proportions of the person, in the T-pose. Only numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..core.rotations import normalised
from ..core.segments import T_POSE_M
from ..core.skeletons import LANDMARKS_41
from ..rig_mapping.own_skeleton import bone_name
from ..rig_mapping.rest_pose import RestPose

_SIDES = (("l", "left", 1.0), ("r", "right", -1.0))
_ROUND = 14
# From the middle of the sole's bones down to the floor, when feet stand flat (core.world_alignment), and a sole to it.
_BALL_HEIGHT_M = 0.051
# Length of thigh and shank of the body that the measures below are of.
_LEG_M = 0.831
_DOME = np.radians([78.0, 50.0, 24.0])
_PRINT_M = (0.165, 0.075)


@dataclass(frozen=True, eq=False)
class Part:
    """A closed piece of the body that turns with one bone.

    look:  which part of the body it is, of those that have a colour each
    verts: (V, 3) metres, armature space
    faces: vertex numbers of each face, seen from outside
    """

    bone: str
    look: str
    verts: np.ndarray
    faces: list[tuple[int, ...]]


# Part of the body -> the landmarks that tell how sure the lifter is of it.
LOOKS: dict[str, tuple[str, ...]] = {
    "head": ("head", "neck"),
    "chest": ("neck", "chest", "spine"),
    "pelvis": ("pelvis", "l_hip", "r_hip"),
} | {
    f"{name} {part}": tuple(f"{side}_{joint}" for joint in joints)
    for side, name, _ in _SIDES
    for part, joints in {
        "upper arm": ("shoulder", "elbow"),
        "forearm": ("elbow", "wrist"),
        "hand": ("wrist", "knuckle"),
        "thigh": ("hip", "knee"),
        "shank": ("knee", "ankle"),
        "foot": ("ankle", "heel", "toe_base"),
    }.items()
}


def body_parts(rest: RestPose) -> list[Part]:
    """The body around the bones of ``rig_mapping.own_skeleton``, which stands upright and faces -y."""
    return [*_trunk(rest), *(part for side, name, out in _SIDES for part in _limbs(rest, side, name, out))]


def footprint() -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """A flat mark as large as a foot needs, around the origin, toes towards +y: (V, 3) metres and one face."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    long, wide = _PRINT_M
    verts = np.stack([np.sin(angle) * -wide, np.cos(angle) * long, np.zeros_like(angle)], axis=-1)
    return verts, [tuple(range(len(angle)))]


class _Joints:
    """Where the bones begin and end, and how much larger the person is than the body of the measures."""

    def __init__(self, rest: RestPose) -> None:
        index = {name: number for number, name in enumerate(rest.names)}
        self._rest, self._index = rest, index
        legs = [self.length(f"{side}_thigh") + self.length(f"{side}_shank") for side, _, _ in _SIDES]
        self.scale = max(float(np.mean(legs)) / _LEG_M, 0.1)

    def head(self, segment: str) -> np.ndarray:
        return self._rest.heads[self._index[bone_name(segment)]]

    def tail(self, segment: str) -> np.ndarray:
        return self._rest.tails[self._index[bone_name(segment)]]

    def length(self, segment: str) -> float:
        return float(self._rest.lengths[self._index[bone_name(segment)]])

    def offset(self, start: str, end: str) -> np.ndarray:
        """From one landmark to another on the body of the measures, at this person's size."""
        x, y, z = T_POSE_M[LANDMARKS_41.index(end)] - T_POSE_M[LANDMARKS_41.index(start)]
        return np.array([x, -z, y]) * self.scale


def _trunk(rest: RestPose) -> Iterator[Part]:
    joints = _Joints(rest)
    s = joints.scale
    pelvis, spine, chest = joints.head("pelvis"), joints.head("spine"), joints.head("chest")
    neck, head, top = joints.head("neck"), joints.head("head"), joints.tail("head")

    def stack(rows: list[tuple[float, float, float]], start: np.ndarray, end: np.ndarray) -> _Rings:
        """Rings of (part of the way up from start to end, half width, half depth)."""
        at, wide, deep = np.array(rows).T
        centres = start + (end - start) * at[:, None]
        return _Rings(
            centres, np.outer(wide * s, [1.0, 0, 0]), np.outer(deep * s, [0, 1.0, 0]), corners=np.full(len(rows), 2.5)
        )

    yield _part(
        bone_name("pelvis"),
        "pelvis",
        stack(
            [(-0.44, 0.05, 0.05), (-0.36, 0.11, 0.085), (-0.15, 0.158, 0.105), (0.1, 0.168, 0.108)]
            + [(0.45, 0.15, 0.1), (0.8, 0.132, 0.092), (1.0, 0.124, 0.086)],
            pelvis,
            spine,
        ),
    )
    yield _part(
        bone_name("spine"),
        "chest",
        stack([(-0.25, 0.1, 0.07), (-0.1, 0.126, 0.088), (0.4, 0.13, 0.09), (1.1, 0.14, 0.094)], spine, chest),
    )
    yield _part(
        bone_name("chest"),
        "chest",
        stack(
            [(-0.12, 0.11, 0.08), (0.0, 0.142, 0.096), (0.35, 0.158, 0.106), (0.65, 0.162, 0.1), (0.88, 0.135, 0.08)]
            + [(1.02, 0.07, 0.056)],
            chest,
            neck,
        ),
    )
    yield _part(bone_name("neck"), "head", _tube(neck, head, 0.053 * s, 0.05 * s))
    up = top - head
    size = float(np.linalg.norm(up)) / 0.107
    yield _part(bone_name("head"), "head", _ball(head + 0.03 * up, np.array([0.078, 0.098, 0.116]) * size))
    # The nose tells which way the person looks.
    nose = head + joints.offset("head", "nose") * size / s * 0.88
    yield _part(bone_name("head"), "head", _ball(nose, np.array([0.014, 0.02, 0.022]) * size))


def _limbs(rest: RestPose, side: str, name: str, out: float) -> Iterator[Part]:
    joints = _Joints(rest)
    s = joints.scale

    def tube(segment: str, look: str, *radii: float) -> Part:
        start, end = joints.head(f"{side}_{segment}"), joints.tail(f"{side}_{segment}")
        return _part(bone_name(f"{side}_{segment}"), look, _tube(start, end, *(radius * s for radius in radii)))

    yield tube("clavicle", "chest", 0.04, 0.054)
    yield tube("upperarm", f"{name} upper arm", 0.054, 0.048, 0.042)
    yield tube("forearm", f"{name} forearm", 0.043, 0.042, 0.034, 0.029)
    yield tube("thigh", f"{name} thigh", 0.086, 0.084, 0.07, 0.056)
    yield tube("shank", f"{name} shank", 0.055, 0.058, 0.048, 0.038)

    wrist, knuckle = joints.head(f"{side}_hand"), joints.tail(f"{side}_hand")
    along = knuckle - wrist
    at = np.array([0.0, 0.35, 1.0, 1.45, 1.75])
    thumbwards = np.outer(np.array([0.024, 0.038, 0.042, 0.036, 0.018]) * s, [0, 1.0, 0])
    thick = np.outer(np.array([0.02, 0.017, 0.014, 0.011, 0.007]) * s, [0, 0, 1.0])
    look = f"{name} hand"
    yield _part(
        bone_name(f"{side}_hand"),
        look,
        _Rings(wrist + np.outer(at, along), thumbwards, thick, corners=np.full(len(at), 3.0)),
    )
    reach = joints.offset(f"{side}_wrist", f"{side}_thumb") * [1, 1.3, 1]
    yield _part(bone_name(f"{side}_hand"), look, _tube(wrist + 0.3 * reach, wrist + reach, 0.016 * s, 0.012 * s))
    yield from _foot(joints, side, f"{name} foot")


def _foot(joints: _Joints, side: str, look: str) -> Iterator[Part]:
    """A wedge with a flat sole, bent where the toes begin."""
    s = joints.scale
    ankle, ball, tip = joints.head(f"{side}_foot"), joints.tail(f"{side}_foot"), joints.tail(f"{side}_toes")
    floor = ball[2] - _BALL_HEIGHT_M
    ahead = normalised((ball - ankle) * [1.0, 1.0, 0.0])
    across = np.cross(ahead, [0.0, 0.0, 1.0])
    instep = ankle[2] - floor

    def wedge(places: np.ndarray, wide: np.ndarray, high: np.ndarray) -> _Rings:
        """Rings at (R, 3) places, of half widths (R,), from the floor up to ``high`` (R,)."""
        centres = places * [1.0, 1.0, 0.0] + np.outer(floor + high / 2, [0, 0, 1.0])
        return _Rings(
            centres, np.outer(wide * s, across), np.outer(high / 2, [0, 0, 1.0]), corners=np.full(len(wide), 3.5)
        )

    to_ball = (ball - ankle) @ ahead
    at = np.array([-0.078 * s, -0.065 * s, -0.02 * s, 0.35 * to_ball, 0.7 * to_ball, to_ball])
    high = np.array([0.035 * s, 0.06 * s, instep, 0.86 * instep, 0.068 * s, 0.055 * s])
    wide = np.array([0.02, 0.033, 0.036, 0.038, 0.044, 0.048])
    yield _part(bone_name(f"{side}_foot"), look, wedge(ankle + np.outer(at, ahead), wide, high))
    to_tip = (tip - ball) @ ahead + 0.012 * s
    at = np.array([-0.012 * s, 0.4 * to_tip, 0.8 * to_tip, to_tip])
    high = np.array([0.055, 0.043, 0.03, 0.018]) * s
    yield _part(
        bone_name(f"{side}_toes"), look, wedge(ball + np.outer(at, ahead), np.array([0.048, 0.047, 0.036, 0.02]), high)
    )


# ---- Pieces ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rings:
    """Slices of a closed piece, from one end to the other.

    centres: (R, 3) metres
    across:  (R, 3) from the middle to the edge, one way ...
    along:   (R, 3) ... and the other
    corners: (R,) 2 for round, more for more like a box
    """

    centres: np.ndarray
    across: np.ndarray
    along: np.ndarray
    corners: np.ndarray


def _part(bone: str, look: str, rings: _Rings) -> Part:
    angle = np.linspace(0, 2 * np.pi, _ROUND, endpoint=False)
    power = 2 / rings.corners[:, None, None]

    def rounded(wave: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        value = wave(angle)[None, :, None]
        return np.sign(value) * np.abs(value) ** power

    ring = rings.centres[:, None] + rings.across[:, None] * rounded(np.cos) + rings.along[:, None] * rounded(np.sin)
    count = len(rings.centres)
    verts = np.concatenate([ring.reshape(-1, 3), rings.centres[:1], rings.centres[-1:]])
    start, end = count * _ROUND, count * _ROUND + 1
    here = np.arange(_ROUND)
    after = np.roll(here, -1)
    faces: list[tuple[int, ...]] = []
    for row in range(count - 1):
        low, high = row * _ROUND, (row + 1) * _ROUND
        faces += zip(low + here, low + after, high + after, high + here, strict=True)
    last = (count - 1) * _ROUND
    faces += [(int(b), int(a), start) for a, b in zip(here, after, strict=True)]
    faces += [(int(last + a), int(last + b), end) for a, b in zip(here, after, strict=True)]
    upwards = rings.centres[-1] - rings.centres[0]
    if np.cross(rings.across.mean(axis=0), rings.along.mean(axis=0)) @ upwards < 0:
        faces = [tuple(reversed(face)) for face in faces]
    return Part(bone, look, verts, [tuple(int(vertex) for vertex in face) for face in faces])


def _tube(start: np.ndarray, end: np.ndarray, *radii: float) -> _Rings:
    """A limb of the given radii, evenly spaced from ``start`` to ``end``, with round ends beyond both."""
    length = float(np.linalg.norm(end - start))
    along = (end - start) / length if length > 1e-9 else np.array([0.0, 0.0, 1.0])
    first, last = radii[0], radii[-1]
    at = np.concatenate(
        [-np.sin(_DOME) * first, np.linspace(0, length, len(radii)), length + np.sin(_DOME[::-1]) * last]
    )
    radius = np.concatenate([np.cos(_DOME) * first, radii, np.cos(_DOME[::-1]) * last])
    other = np.array([0.0, 1.0, 0.0]) if abs(along[1]) < 0.9 else np.array([1.0, 0.0, 0.0])
    u = normalised(np.cross(other, along))
    v = np.cross(along, u)
    return _Rings(start + np.outer(at, along), np.outer(radius, u), np.outer(radius, v), np.full(len(at), 2.0))


def _ball(centre: np.ndarray, half: np.ndarray) -> _Rings:
    """An upright egg with half axes x, y, z."""
    angle = np.radians(np.linspace(-84, 84, 11))
    centres = centre + np.outer(np.sin(angle) * half[2], [0, 0, 1.0])
    wide, deep = np.outer(np.cos(angle) * half[0], [1.0, 0, 0]), np.outer(np.cos(angle) * half[1], [0, 1.0, 0])
    return _Rings(centres, wide, deep, np.full(len(angle), 2.0))
