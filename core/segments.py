"""The turning parts of a body: where each starts, where it points, and how it is turned in space.

A segment's rotation says how it is turned from a standing T-pose in axes x left, y up, z forward, palms down and thumbs
forward. ``T_POSE_M`` is that pose: the mean, made symmetric and straight, of the people in our motion data.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rotations import (
    IDENTITY,
    between,
    from_matrix,
    from_rotation_vector,
    inverse,
    multiply,
    normalised,
    rotate,
    to_matrix,
)
from .skeletons import LANDMARKS_41


@dataclass(frozen=True)
class Segment:
    """A part of the body that turns as one.

    joint:  landmark that it starts at
    tip:    landmark that it points to
    parent: segment that carries it, None for the pelvis
    """

    name: str
    joint: str
    tip: str
    parent: str | None


def _side(side: str) -> tuple[Segment, ...]:
    arm = (
        ("clavicle", "clavicle", "shoulder", "chest"),
        ("upperarm", "shoulder", "elbow", f"{side}_clavicle"),
        ("forearm", "elbow", "wrist", f"{side}_upperarm"),
        ("hand", "wrist", "knuckle", f"{side}_forearm"),
    )
    leg = (
        ("thigh", "hip", "knee", "pelvis"),
        ("shank", "knee", "ankle", f"{side}_thigh"),
        ("foot", "ankle", "toe_base", f"{side}_shank"),
        ("toes", "toe_base", "toe_tip", f"{side}_foot"),
    )
    return tuple(
        Segment(f"{side}_{name}", f"{side}_{joint}", f"{side}_{tip}", parent) for name, joint, tip, parent in arm + leg
    )


SEGMENTS: tuple[Segment, ...] = (
    Segment("pelvis", "pelvis", "spine", None),
    Segment("spine", "spine", "chest", "pelvis"),
    Segment("chest", "chest", "neck", "spine"),
    Segment("neck", "neck", "head", "chest"),
    Segment("head", "head", "head_top", "neck"),
    *_side("l"),
    *_side("r"),
)
SEGMENT_NAMES = tuple(segment.name for segment in SEGMENTS)
SEGMENT_PARENTS = tuple(-1 if s.parent is None else SEGMENT_NAMES.index(s.parent) for s in SEGMENTS)
SEGMENT_JOINTS = tuple(LANDMARKS_41.index(segment.joint) for segment in SEGMENTS)

# A hinge (elbow, knee) tells how the bone above is twisted once it is bent by a few degrees; between these two sines of
# the bend its word gains weight.
_HINGE_SILENT, _HINGE_CERTAIN = 0.10, 0.35


def _t_pose() -> np.ndarray:
    """(41, 3) metres, pelvis at the origin."""
    offsets_mm = {
        "pelvis": (0, 0, 0),
        "spine": (0, 195, -5),
        "chest": (0, 119, 0),
        "neck": (0, 183, -12),
        "head": (0, 150, 47),
        "head_top": (0, 107, -5),
        "nose": (0, -30, 110),
        "l_eye": (32, 5, 88),
        "l_ear": (74, 0, 0),
        "l_clavicle": (20, 164, -29),
        "l_shoulder": (166, 10, 12),
        "l_elbow": (282, 0, 0),
        "l_wrist": (242, 0, 0),
        "l_knuckle": (88, 0, 0),
        "l_fingertip": (53, -8, 0),
        "l_thumb": (86, -28, 32),
        "l_hip": (85, 0, 0),
        "l_knee": (0, -386, 0),
        "l_ankle": (0, -445, 0),
        "l_heel": (0, -65, -50),
        "l_toe_base": (7, -35, 126),
        "l_toe_tip": (0, -8, 64),
        "l_big_toe": (-25, -8, 64),
        "l_small_toe": (35, -8, 29),
    }
    mirror = np.array([-1.0, 1.0, 1.0])
    positions = np.zeros((len(LANDMARKS_41), 3))
    for joint, (name, parent) in enumerate(zip(LANDMARKS_41.names, LANDMARKS_41.parents, strict=True)):
        right = name.startswith("r_")
        offset = np.array(offsets_mm["l_" + name[2:] if right else name]) / 1000.0
        positions[joint] = (mirror if right else 1.0) * offset + (positions[parent] if parent >= 0 else 0.0)
    return positions


T_POSE_M = _t_pose()


def _frame(primary: np.ndarray, secondary: np.ndarray) -> np.ndarray:
    """(..., 3, 3) axes as columns: the first along ``primary``, the second as near to ``secondary`` as can be."""
    x = normalised(primary)
    z = np.cross(x, secondary)
    # No secondary direction left (parallel or zero): any direction across will do, so long as it is a rotation.
    lost = np.linalg.norm(z, axis=-1, keepdims=True) < 1e-9
    z = normalised(np.where(lost, np.cross(x, np.eye(3)[np.argmin(np.abs(x), axis=-1)]), z))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _turn(observed: tuple[np.ndarray, np.ndarray], at_rest: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """(F, 4) turn that brings the primary direction at rest exactly, the secondary nearly, onto the observed ones."""
    return from_matrix(_frame(*observed) @ np.swapaxes(_frame(*at_rest), -1, -2))


def _best_turn(observed: np.ndarray, at_rest: np.ndarray) -> np.ndarray:
    """(F, 4) turn that brings (K, 3) vectors at rest onto (F, K, 3) observed ones with the least squared error.

    Kabsch, "A solution for the best rotation to relate two sets of vectors", 1976.
    """
    u, _, vt = np.linalg.svd(np.einsum("fki,kj->fij", observed, at_rest))
    u[..., :, 2] *= np.sign(np.linalg.det(u @ vt))[..., None]
    return from_matrix(u @ vt)


def _hinge_axis(upper: np.ndarray, lower: np.ndarray, fallback: np.ndarray, one_way: bool) -> np.ndarray:
    """(F, 3) axis of an elbow or knee: across both bones when it is bent, ``fallback`` when it is straight.

    one_way: the axis is never more than a right angle from ``fallback`` (a knee); what bends the other way is then
             noise about a straight leg, not a leg twisted half round.
    """
    normal = np.cross(normalised(upper), normalised(lower))
    sine = np.linalg.norm(normal, axis=-1, keepdims=True)
    against = np.sum(normal * fallback, axis=-1, keepdims=True) < 0
    if one_way:
        normal = np.where(against, -normal, normal)
    # A slightly over-stretched elbow is likelier than an arm twisted half round, so that needs a clearer bend.
    doubt = 0.0 if one_way else np.where(against, _HINGE_CERTAIN, 0.0)
    trust = np.clip((sine - _HINGE_SILENT - doubt) / (_HINGE_CERTAIN - _HINGE_SILENT), 0.0, 1.0)
    trust = trust * trust * (3 - 2 * trust)
    return trust * normalised(normal) + (1 - trust) * normalised(fallback)


def _twist_about(turn: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """(F,) radians in (-pi, pi]: how far ``turn`` (F, 4) twists about a unit ``axis`` (F, 3)."""
    angle = 2 * np.arctan2(np.sum(turn[..., 1:] * axis, axis=-1), turn[..., 0])
    return (angle + np.pi) % (2 * np.pi) - np.pi


def segment_rotations(positions_m: np.ndarray, template_m: np.ndarray = T_POSE_M) -> np.ndarray:
    """How every segment is turned, from landmark positions alone.

    positions_m: (F, 41, 3) in any right-handed space
    template_m:  (41, 3) the same person's landmarks in the T-pose, in T-pose axes (other rest poses do too)
    returns:     (F, S, 4) wxyz, that space from T-pose axes, in the order of ``SEGMENTS``

    Limb segments point exactly from joint to joint. Their twist comes from the hinge below when it is bent and from the
    neighbours when it is straight; half of the hand's pronation is given to the forearm.
    """
    names = LANDMARKS_41.names
    now = {name: positions_m[:, index] for index, name in enumerate(names)}
    rest = {name: template_m[index] for index, name in enumerate(names)}

    def vectors(start: str, end: str) -> tuple[np.ndarray, np.ndarray]:
        return now[end] - now[start], rest[end] - rest[start]

    def rigid(origin: str, *ends: str) -> np.ndarray:
        pairs = [vectors(origin, end) for end in ends]
        return _best_turn(np.stack([pair[0] for pair in pairs], axis=1), np.stack([pair[1] for pair in pairs]))

    def aimed(start: str, end: str, across: np.ndarray, across_at_rest: np.ndarray) -> np.ndarray:
        aim, aim_at_rest = vectors(start, end)
        return _turn((aim, across), (aim_at_rest, across_at_rest))

    hips, hips_at_rest = vectors("r_hip", "l_hip")
    shoulders, shoulders_at_rest = vectors("r_shoulder", "l_shoulder")
    turn: dict[str, np.ndarray] = {}
    trunk, trunk_at_rest = vectors("pelvis", "spine")
    turn["pelvis"] = _turn((hips, trunk), (hips_at_rest, trunk_at_rest))
    turn["chest"] = aimed("chest", "neck", shoulders, shoulders_at_rest)
    turn["head"] = rigid("head", "head_top", "nose", "l_eye", "r_eye", "l_ear", "r_ear")
    ears, ears_at_rest = vectors("r_ear", "l_ear")
    turn["spine"] = aimed(
        "spine",
        "chest",
        normalised(hips) + normalised(shoulders),
        normalised(hips_at_rest) + normalised(shoulders_at_rest),
    )
    turn["neck"] = aimed(
        "neck",
        "head",
        normalised(shoulders) + normalised(ears),
        normalised(shoulders_at_rest) + normalised(ears_at_rest),
    )

    left = np.array([1.0, 0.0, 0.0])
    for side, elbow_axis in (("l", np.array([0.0, -1.0, 0.0])), ("r", np.array([0.0, 1.0, 0.0]))):
        collar, collar_at_rest = vectors(f"{side}_clavicle", f"{side}_shoulder")
        carried = rotate(turn["chest"], collar_at_rest)
        turn[f"{side}_clavicle"] = multiply(between(carried, collar), turn["chest"])

        upper, upper_at_rest = vectors(f"{side}_shoulder", f"{side}_elbow")
        lower, lower_at_rest = vectors(f"{side}_elbow", f"{side}_wrist")
        untwisted = multiply(between(rotate(turn["chest"], upper_at_rest), upper), turn["chest"])
        axis = _hinge_axis(upper, lower, rotate(untwisted, elbow_axis), one_way=False)
        turn[f"{side}_upperarm"] = _turn((upper, axis), (upper_at_rest, elbow_axis))
        palm, palm_at_rest = vectors(f"{side}_wrist", f"{side}_thumb")
        turn[f"{side}_hand"] = aimed(f"{side}_wrist", f"{side}_knuckle", palm, palm_at_rest)
        # The forearm as the elbow leaves it, then half of the twist that the hand has against it.
        bent = turn[f"{side}_upperarm"]
        bent = multiply(between(rotate(bent, lower_at_rest), lower), bent)
        along = normalised(lower)
        pronation = _twist_about(multiply(turn[f"{side}_hand"], inverse(bent)), along)
        turn[f"{side}_forearm"] = multiply(from_rotation_vector(along * (pronation / 2)[:, None]), bent)

        turn[f"{side}_foot"] = rigid(f"{side}_heel", f"{side}_toe_base", f"{side}_ankle")
        thigh, thigh_at_rest = vectors(f"{side}_hip", f"{side}_knee")
        shank, shank_at_rest = vectors(f"{side}_knee", f"{side}_ankle")
        pelvic = multiply(between(rotate(turn["pelvis"], thigh_at_rest), thigh), turn["pelvis"])
        straight = rotate(pelvic, left) + rotate(turn[f"{side}_foot"], left)
        axis = _hinge_axis(thigh, shank, straight, one_way=True)
        turn[f"{side}_thigh"] = _turn((thigh, axis), (thigh_at_rest, left))
        turn[f"{side}_shank"] = _turn((shank, axis), (shank_at_rest, left))
        toes, toes_at_rest = vectors(f"{side}_toe_base", f"{side}_toe_tip")
        foot = turn[f"{side}_foot"]
        turn[f"{side}_toes"] = multiply(between(rotate(foot, toes_at_rest), toes), foot)

    return np.stack([turn[name] for name in SEGMENT_NAMES], axis=1)


def joint_rotations(segment_wxyz: np.ndarray) -> np.ndarray:
    """(F, S, 4) absolute per segment -> (F, 41, 4) against the parent segment, at the joint where a segment starts."""
    local = np.tile(IDENTITY, (len(segment_wxyz), len(LANDMARKS_41), 1))
    for segment, (joint, parent) in enumerate(zip(SEGMENT_JOINTS, SEGMENT_PARENTS, strict=True)):
        turn = segment_wxyz[:, segment]
        local[:, joint] = turn if parent < 0 else multiply(inverse(segment_wxyz[:, parent]), turn)
    return local


def segments_from_joint_rotations(rotations_wxyz: np.ndarray) -> np.ndarray:
    """(F, 41, 4) as in ``PoseTrack.rotations_wxyz`` -> (F, S, 4) absolute per segment; undoes ``joint_rotations``."""
    turns = np.empty((len(rotations_wxyz), len(SEGMENTS), 4))
    for segment, (joint, parent) in enumerate(zip(SEGMENT_JOINTS, SEGMENT_PARENTS, strict=True)):
        local = rotations_wxyz[:, joint]
        turns[:, segment] = local if parent < 0 else multiply(turns[:, parent], local)
    return turns


def landmarks_from_segments(segment_wxyz: np.ndarray, root_m: np.ndarray, template_m: np.ndarray) -> np.ndarray:
    """Forward kinematics: (F, S, 4) turns and (F, 3) pelvis positions -> (F, 41, 3) landmarks.

    template_m: (41, 3) the person in the T-pose. A landmark rides on the segment that starts at its parent, or at the
                nearest joint above where one starts (a finger tip rides on the hand).
    """
    carrier = {joint: segment for segment, joint in enumerate(SEGMENT_JOINTS)}
    matrices = to_matrix(segment_wxyz)
    positions = np.empty((len(root_m), len(LANDMARKS_41), 3))
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent < 0:
            positions[:, joint] = root_m
            continue
        segment = carrier.setdefault(parent, carrier.get(LANDMARKS_41.parents[parent], 0))
        offset = template_m[joint] - template_m[parent]
        positions[:, joint] = positions[:, parent] + matrices[:, segment] @ offset
    return positions
