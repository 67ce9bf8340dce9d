"""A body moved by a motion clip: landmarks by forward kinematics of the body's own bones, skin by linear blending.

Twist runs along limbs piece by piece (no "candy wrapper" at wrists and shoulders), the collarbone takes part of what
the arm does, feet that stand are level, and the floor is where their soles are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.rotations import (
    between,
    from_rotation_vector,
    inverse,
    multiply,
    normalised,
    rotate,
    slerp,
    to_matrix,
    to_rotation_vector,
)
from ...core.segments import SEGMENT_NAMES, SEGMENTS, landmarks_from_segments, segment_rotations
from ...core.skeletons import LANDMARKS_41
from ..motion.motion_set import foot_contacts
from .body import CARRIERS, TWIST_PIECES, TWISTING, Body, carrier_segment

# How much of the upper arm's swing the collarbone takes, and how far it goes at most.
_COLLARBONE_SHARE, _COLLARBONE_MOST_RAD = 0.18, np.radians(25)
# A standing foot is levelled by no more than this: what is farther off is no measure of the sole.
_LEVELLED_MOST_RAD = np.radians(25)
_LEVELLED_FROM_FRAMES = 4
_SOLE_BAND_M = 0.012
_UP = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True, eq=False)
class PosedBody:
    """A body in every frame of a clip, y up, the floor at y = 0.

    landmarks_m:    (F, 41, 3)
    segment_wxyz:   (F, S, 4) from T-pose axes, for each of ``SEGMENTS``
    contact:        (F, 4) left heel, left ball, right heel, right ball stand
    carrier_turns:  (F, C, 3, 3) from the rest pose, for each of ``body.CARRIERS``
    carrier_moves:  (F, C, 3) metres; a point of the rest pose goes to turn @ point + move
    """

    body: Body
    landmarks_m: np.ndarray
    segment_wxyz: np.ndarray
    contact: np.ndarray
    carrier_turns: np.ndarray
    carrier_moves: np.ndarray

    def skinned(self, frame: int, rest_m: np.ndarray | None = None, weights: np.ndarray | None = None) -> np.ndarray:
        """(V, 3) vertices in one frame; of other points than the body's where ``rest_m`` and ``weights`` are given."""
        rest_m = self.body.vertices_m if rest_m is None else rest_m
        weights = self.body.weights if weights is None else weights
        moves = np.concatenate([self.carrier_turns[frame], self.carrier_moves[frame][..., None]], axis=-1)
        blended = (weights @ moves.reshape(len(CARRIERS), 12)).reshape(-1, 3, 4)
        return np.einsum("vij,vj->vi", blended[..., :3], rest_m) + blended[..., 3]


def pose_body(body: Body, positions_m: np.ndarray, contact: np.ndarray, fps: float) -> PosedBody:
    """Move ``body`` as a person of other size moved.

    positions_m: (F, 41, 3) metres, y up, ``LANDMARKS_41``, all known
    contact:     (F, 4) where that person's heels and balls stand
    """
    turns = dict(zip(SEGMENT_NAMES, np.moveaxis(segment_rotations(positions_m), 1, 0), strict=True))
    for column, side in ((0, "l"), (2, "r")):
        turns[f"{side}_clavicle"] = _collarbone(turns, side, body)
        heel, ball = contact[:, column], contact[:, column + 1]
        for part, stands in (("foot", heel & ball), ("toes", ball)):
            turns[f"{side}_{part}"] = _levelled(turns[f"{side}_{part}"], stands)
    segment_wxyz = np.stack([turns[name] for name in SEGMENT_NAMES], axis=1)

    hip, knee, ankle = (positions_m[:, LANDMARKS_41.index(f"l_{name}")] for name in ("hip", "knee", "ankle"))
    leg_m = np.linalg.norm(hip - knee, axis=-1) + np.linalg.norm(knee - ankle, axis=-1)
    root_m = positions_m[:, LANDMARKS_41.index("pelvis")] * (body.leg_m / float(np.median(leg_m)))
    landmarks_m = landmarks_from_segments(segment_wxyz, root_m, body.t_pose_m)
    posed = PosedBody(body, landmarks_m, segment_wxyz, contact, *_carried(body, turns, landmarks_m))
    return _on_floor(posed, fps)


def _collarbone(turns: dict[str, np.ndarray], side: str, body: Body) -> np.ndarray:
    """The chest's turn, and a share of how the upper arm swings away from where it hangs at rest."""
    shoulder, elbow = (body.rest_m[LANDMARKS_41.index(f"{side}_{name}")] for name in ("shoulder", "elbow"))
    out = np.array([1.0 if side == "l" else -1.0, 0.0, 0.0])
    arm = rotate(inverse(turns["chest"]), rotate(turns[f"{side}_upperarm"], out))
    swing = _COLLARBONE_SHARE * to_rotation_vector(between(np.broadcast_to(elbow - shoulder, arm.shape), arm))
    angle = np.linalg.norm(swing, axis=-1, keepdims=True)
    swing = swing * np.minimum(1, _COLLARBONE_MOST_RAD / np.maximum(angle, 1e-9))
    return multiply(turns["chest"], from_rotation_vector(swing))


def _levelled(turn: np.ndarray, stands: np.ndarray) -> np.ndarray:
    """The turn of a foot, put right by what makes it level, on the average, while it stands."""
    if stands.sum() < _LEVELLED_FROM_FRAMES:
        return turn
    up = normalised(rotate(inverse(turn[stands]), _UP).mean(axis=0))
    correction = to_rotation_vector(between(_UP, up))
    angle = float(np.linalg.norm(correction))
    if angle > _LEVELLED_MOST_RAD:
        correction = correction * (_LEVELLED_MOST_RAD / angle)
    return multiply(turn, from_rotation_vector(correction))


def _twist_rad(turn: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(F,) how far (F, 4) turns twist about (F, 3) axes, without jumps from frame to frame."""
    angle = np.unwrap(2 * np.arctan2(np.sum(turn[..., 1:] * axis, axis=-1), turn[..., 0]))
    return np.asarray(angle - 2 * np.pi * np.round(np.median(angle) / (2 * np.pi)))


def _carried(body: Body, turns: dict[str, np.ndarray], landmarks_m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns and moves of all carriers from the rest pose."""
    straighten = dict(zip(SEGMENT_NAMES, body.to_t_pose, strict=True))
    from_rest = {name: multiply(turn, straighten[name]) for name, turn in turns.items()}
    carrier_turns: dict[str, np.ndarray] = {"lumbar": slerp(turns["pelvis"], turns["spine"], 0.5)}
    for name, turn in from_rest.items():
        limb = name.split("_")[-1]
        if limb not in TWISTING:
            carrier_turns[name] = turn
            continue
        segment = SEGMENTS[SEGMENT_NAMES.index(name)]
        start, end = LANDMARKS_41.index(segment.joint), LANDMARKS_41.index(segment.tip)
        along = normalised(landmarks_m[:, end] - landmarks_m[:, start])
        at_start, at_end = _twists(name, limb, turn, from_rest, along, body.rest_m[end] - body.rest_m[start])
        for piece in range(TWIST_PIECES):
            share = piece / (TWIST_PIECES - 1)
            angle = (1 - share) * at_start + share * at_end
            carrier_turns[f"{name}.{piece}"] = multiply(from_rotation_vector(along * angle[:, None]), turn)

    matrices = np.stack([to_matrix(carrier_turns[name]) for name in CARRIERS], axis=1)
    pivots = [_pivot(name) for name in CARRIERS]
    moves = landmarks_m[:, pivots] - np.einsum("fcij,cj->fci", matrices, body.rest_m[pivots])
    return matrices, moves


def _twists(
    name: str, limb: str, turn: np.ndarray, from_rest: dict[str, np.ndarray], along: np.ndarray, at_rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(F,), (F,) radians about the limb by which its skin is turned against it, at its start and at its end.

    At the start it goes with the segment above, at the end with the one below.
    """
    side = name[0]
    none = np.zeros(len(turn))

    def against(other: np.ndarray) -> np.ndarray:
        """How far ``other``, swung so that it points along the limb, is twisted against it."""
        swung = multiply(between(rotate(other, at_rest), along), other)
        return _twist_rad(multiply(swung, inverse(turn)), along)

    if limb == "upperarm":
        return against(from_rest[f"{side}_clavicle"]), none
    if limb == "thigh":
        return against(from_rest["pelvis"]), none
    if limb == "forearm":
        return against(from_rest[f"{side}_upperarm"]), against(from_rest[f"{side}_hand"])
    return none, against(from_rest[f"{side}_foot"])


def _pivot(carrier: str) -> int:
    name = carrier_segment(carrier)
    return LANDMARKS_41.index(SEGMENTS[SEGMENT_NAMES.index(name)].joint)


def _on_floor(posed: PosedBody, fps: float) -> PosedBody:
    """The same, moved up or down until the soles of standing feet are on the floor."""
    body = posed.body
    feet = [CARRIERS.index(f"{side}_{part}") for side in "lr" for part in ("foot", "toes")]
    low = body.vertices_m[:, 1] < body.vertices_m[body.layer == 0, 1].min() + _SOLE_BAND_M
    soles = np.flatnonzero(low & (body.layer == 0) & (body.weights[:, feet].sum(axis=1) > 0.9))
    heights = np.array(
        [
            posed.skinned(frame, body.vertices_m[soles], body.weights[soles])[:, 1].min()
            for frame in range(len(posed.contact))
        ]
    )
    stands = posed.contact.any(axis=1)
    floor_m = float(np.median(heights[stands]) if stands.sum() >= _LEVELLED_FROM_FRAMES else heights.min())
    down = np.array([0.0, floor_m, 0.0])
    landmarks_m = posed.landmarks_m - down
    return PosedBody(
        body=body,
        landmarks_m=landmarks_m,
        segment_wxyz=posed.segment_wxyz,
        contact=foot_contacts(landmarks_m, fps),
        carrier_turns=posed.carrier_turns,
        carrier_moves=posed.carrier_moves - down,
    )
