"""A body that can only move as bodies do: segments of fixed shape, turned at joints, knees and elbows as hinges.

The state of a clip is where the pelvis is, how every segment is turned against the one that carries it, and how long
the bones are, the same left and right. A small change of the state is a vector of D numbers a frame: three metres of
the root, then one angle in radians for each axis that a joint has. Derivatives are exact: turning a segment about an
axis moves all that hangs on it across that axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..rotations import from_rotation_vector, multiply, normalised, to_matrix, to_rotation_vector
from ..segments import SEGMENT_JOINTS, SEGMENT_NAMES, SEGMENT_PARENTS, T_POSE_M
from ..skeletons import LANDMARKS_41
from ..world_alignment import STANDING_HEIGHT_M

_X, _Y, _Z = np.eye(3)
_HINGES = {"l_shank": _X, "r_shank": _X, "l_forearm": -_Y, "r_forearm": _Y}
# Which way a bone points in the T-pose where a hinge's angle is read off, and which way it goes when it bends.
_ALONG = {"l_shank": (-_Y, -_Z), "r_shank": (-_Y, -_Z), "l_forearm": (_X, _Z), "r_forearm": (-_X, _Z)}


@dataclass(frozen=True)
class Axis:
    """One angle: ``segment`` turned about ``axis``, in the frame of the segment that carries it or in its own."""

    segment: int
    axis: tuple[float, float, float]
    of_parent: bool


def _axes_of(name: str) -> list[tuple[np.ndarray, bool]]:
    part = name.removeprefix("l_").removeprefix("r_")
    if part == "shank":
        return [(_HINGES[name], True)]
    if part == "forearm":
        return [(_HINGES[name], True), (_X, False)]
    if part == "toes":
        return [(_X, False)]
    return [(_X, False), (_Y, False), (_Z, False)]


AXES: tuple[Axis, ...] = tuple(
    Axis(segment, tuple(axis), of_parent)
    for segment, name in enumerate(SEGMENT_NAMES)
    for axis, of_parent in _axes_of(name)
)
ROOT = 3
# The top of the head is 1.65 m over the heels in the motion data, in the median.
_OVER_HEELS = 1 + float(STANDING_HEIGHT_M[0]) / 1.65
FREEDOMS = ROOT + len(AXES)

# Matrices take more room than what they lead to: they are made of so many frames at a time.
_BLOCK = 1024

_MIRROR = LANDMARKS_41.mirrored_order()
_GROUP_OF = np.array([min(joint, int(_MIRROR[joint])) for joint in range(len(LANDMARKS_41))])
# Bones that share a length, named by the landmark at their end (the left one).
BONE_GROUPS = tuple(sorted(set(_GROUP_OF[1:].tolist())))
BONE_GROUP = np.array([-1, *(BONE_GROUPS.index(group) for group in _GROUP_OF[1:])])
_REST_OFFSETS = T_POSE_M - T_POSE_M[np.maximum(LANDMARKS_41.parents, 0)]
_REST_DIRECTIONS = normalised(_REST_OFFSETS)
REST_LENGTHS_M = np.array([np.linalg.norm(_REST_OFFSETS[group]) for group in BONE_GROUPS])


def _carriers() -> np.ndarray:
    """(41,) segment that carries each landmark's bone: the one that starts at its parent, or the nearest above."""
    starting = {joint: segment for segment, joint in enumerate(SEGMENT_JOINTS)}
    carriers = np.zeros(len(LANDMARKS_41), int)
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent >= 0:
            carriers[joint] = starting.setdefault(parent, starting.get(LANDMARKS_41.parents[parent], 0))
    return carriers


def _hangs_on() -> tuple[np.ndarray, np.ndarray]:
    """(41, S) True where a landmark moves when the segment turns; (41, 41) where it moves when the bone grows."""
    under = np.eye(len(SEGMENT_NAMES), dtype=bool)
    for segment, parent in enumerate(SEGMENT_PARENTS):
        if parent >= 0:
            under[segment] |= under[parent]
    bones = np.zeros((len(LANDMARKS_41),) * 2, bool)
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent >= 0:
            bones[joint] = bones[parent]
            bones[joint, joint] = True
    segments = np.zeros((len(LANDMARKS_41), len(SEGMENT_NAMES)), bool)
    for joint in range(1, len(LANDMARKS_41)):
        for bone in np.flatnonzero(bones[joint]):
            segments[joint] |= under[CARRIERS[bone]]
    return segments, bones


CARRIERS = _carriers()
_MOVED_BY_SEGMENT, _MOVED_BY_BONE = _hangs_on()
_AXIS_SEGMENTS = np.array([axis.segment for axis in AXES])
_AXIS_FRAMES = np.array([SEGMENT_PARENTS[axis.segment] if axis.of_parent else axis.segment for axis in AXES])
_AXIS_VECTORS = np.array([axis.axis for axis in AXES])
_AXIS_JOINTS = np.array(SEGMENT_JOINTS)[_AXIS_SEGMENTS]
# (41, A) 1 where a landmark moves when its segment is turned about an axis.
_MOVED_BY_AXIS = _MOVED_BY_SEGMENT[:, _AXIS_SEGMENTS].astype(np.float32)


@dataclass(frozen=True, eq=False)
class BodyState:
    """How a body is built and how it is held, for every frame of a clip.

    root_m:    (F, 3) pelvis
    local:     (F, S, 4) wxyz, each segment's turn against the one that carries it; the pelvis against space
    lengths_m: (G,) of ``BONE_GROUPS``
    """

    root_m: np.ndarray
    local: np.ndarray
    lengths_m: np.ndarray

    def of(self, rows: slice | np.ndarray) -> BodyState:
        """Some of the frames."""
        return BodyState(self.root_m[rows], self.local[rows], self.lengths_m)

    def segments(self) -> np.ndarray:
        """(F, S, 4) each segment's turn in space."""
        turns = np.empty_like(self.local)
        for segment, parent in enumerate(SEGMENT_PARENTS):
            here = self.local[:, segment]
            turns[:, segment] = here if parent < 0 else multiply(turns[:, parent], here)
        return turns

    def moved(self, change: np.ndarray, growth_m: np.ndarray) -> BodyState:
        """The state after a small change (F, D) and a growth (G,) of the bones."""
        local = self.local.copy()
        for segment in range(len(SEGMENT_NAMES)):
            mine = np.flatnonzero(segment == _AXIS_SEGMENTS)
            for of_parent in (True, False):
                which = [axis for axis in mine if AXES[axis].of_parent == of_parent]
                if not which:
                    continue
                turn = from_rotation_vector(change[:, [ROOT + axis for axis in which]] @ _AXIS_VECTORS[which])
                here = local[:, segment]
                local[:, segment] = multiply(turn, here) if of_parent else multiply(here, turn)
        lengths = np.maximum(self.lengths_m + growth_m, 0.2 * REST_LENGTHS_M)
        return BodyState(self.root_m + change[:, :ROOT], normalised(local), lengths)


@dataclass(frozen=True, eq=False)
class PosedBody:
    """Where the landmarks of a state are, and what says how they move with it.

    landmarks_m: (F, 41, 3)
    axes:        (F, D - 3, 3) float32, of ``AXES`` in space
    directions:  (F, 41, 3) of the bones, unit
    """

    landmarks_m: np.ndarray
    axes: np.ndarray
    directions: np.ndarray

    def by_change(self, rows: slice = slice(None)) -> np.ndarray:
        """(f, 41, 3, D) derivatives of some frames' landmarks by the change, float32: they only say where to go."""
        near, axes = self.landmarks_m[rows].astype(np.float32), self.axes[rows]
        moved = np.zeros((*near.shape, FREEDOMS), np.float32)
        moved[:, :, [0, 1, 2], [0, 1, 2]] = 1.0
        pivots = near[:, _AXIS_JOINTS]
        # From each axis to each landmark, whether it hangs there or not: large arrays beat small loops.
        arm = [near[:, :, None, i] - pivots[:, None, :, i] for i in range(3)]
        along = [axes[:, None, :, i] * _MOVED_BY_AXIS for i in range(3)]
        for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
            across = moved[:, :, i, ROOT:]
            np.multiply(along[j], arm[k], out=across)
            across -= along[k] * arm[j]
        return moved

    def by_growth(self, rows: slice = slice(None)) -> np.ndarray:
        """(f, 41, 3, G) derivatives by the lengths of bones, float32."""
        directions = self.directions[rows].astype(np.float32)
        moved = np.zeros((*directions.shape, len(BONE_GROUPS)), np.float32)
        for bone in range(1, len(LANDMARKS_41)):
            longer = np.flatnonzero(_MOVED_BY_BONE[:, bone])
            moved[:, longer, :, BONE_GROUP[bone]] += directions[None, :, bone]
        return moved


def pose(state: BodyState) -> PosedBody:
    """Landmarks of ``state`` and what their derivatives are made of."""
    matrices = to_matrix(state.segments())
    directions = _bone_directions(matrices)
    points = _chained(state.root_m, directions, state.lengths_m)
    axes = np.einsum("fdij,dj->fdi", matrices[:, _AXIS_FRAMES], _AXIS_VECTORS).astype(np.float32)
    return PosedBody(points, axes, directions)


def landmarks(state: BodyState) -> np.ndarray:
    """(F, 41, 3) metres: forward kinematics."""
    found = np.empty((len(state.root_m), len(LANDMARKS_41), 3))
    for first in range(0, len(found), _BLOCK):
        rows = slice(first, first + _BLOCK)
        part = state.of(rows)
        found[rows] = _chained(part.root_m, _bone_directions(to_matrix(part.segments())), part.lengths_m)
    return found


def _bone_directions(matrices: np.ndarray) -> np.ndarray:
    return np.einsum("fkij,kj->fki", matrices[:, CARRIERS], _REST_DIRECTIONS)


def _chained(root_m: np.ndarray, directions: np.ndarray, lengths_m: np.ndarray) -> np.ndarray:
    bones = directions * np.append(lengths_m, 0.0)[BONE_GROUP][:, None]
    bones[:, 0] = root_m
    path = _MOVED_BY_BONE.astype(float)
    path[:, 0] = 1.0
    return np.matmul(path, bones)


def stature_m(lengths_m: np.ndarray) -> float:
    """How tall a body with bones of these lengths (G,) stands, from under its heels to the top of its head."""
    bones = _REST_DIRECTIONS * np.append(lengths_m, 0.0)[BONE_GROUP][:, None]
    standing = _MOVED_BY_BONE.astype(float) @ bones
    over_heels = standing[LANDMARKS_41.index("head_top"), 1] - standing[LANDMARKS_41.index("l_heel"), 1]
    return float(over_heels) * _OVER_HEELS


def hinge_angles(local: np.ndarray) -> dict[int, np.ndarray]:
    """Radians (F,) that elbows and knees are bent by, by their row among ``AXES``; below 0 the wrong way."""
    angles = {}
    for row, axis in enumerate(AXES):
        name = SEGMENT_NAMES[axis.segment]
        if name in _HINGES and axis.of_parent:
            along, bent = _ALONG[name]
            now = np.einsum("fij,j->fi", to_matrix(local[:, axis.segment]), along)
            angles[row] = np.arctan2(now @ bent, now @ along)
    return angles


def turned_from_rest(local: np.ndarray) -> np.ndarray:
    """(F, S, 3) radians: rotation vectors of each segment against the one that carries it."""
    return to_rotation_vector(local)


def as_hinged(local: np.ndarray) -> np.ndarray:
    """(F, S, 4) with knees and elbows made to hinges that bend the right way only (and forearms twisted)."""
    result = local.copy()
    for row, angle in hinge_angles(local).items():
        segment = AXES[row].segment
        hinge = from_rotation_vector(np.maximum(angle, 0.0)[:, None] * _AXIS_VECTORS[row])
        if SEGMENT_NAMES[segment].endswith("forearm"):
            # What is left after the hinge is undone is the twist about the bone and the error of the lift.
            rest = multiply(hinge * np.array([1, -1, -1, -1]), local[:, segment])
            twist = normalised(rest * np.array([1, 1, 0, 0]))
            hinge = multiply(hinge, twist)
        result[:, segment] = hinge
    for name in ("l_toes", "r_toes"):
        segment = SEGMENT_NAMES.index(name)
        result[:, segment] = normalised(local[:, segment] * np.array([1, 1, 0, 0]))
    return result


def local_turns(segments: np.ndarray) -> np.ndarray:
    """(F, S, 4) turns in space -> each against the segment that carries it."""
    result = np.empty_like(segments)
    for segment, parent in enumerate(SEGMENT_PARENTS):
        turn = segments[:, segment]
        result[:, segment] = turn if parent < 0 else multiply(segments[:, parent] * np.array([1, -1, -1, -1]), turn)
    return result
