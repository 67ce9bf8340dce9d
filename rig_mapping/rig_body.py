"""The target rig seen as a body: which way it faces, where its landmarks are, how it differs from a T-pose at rest."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..core.errors import RigError
from ..core.rotations import IDENTITY, between, from_rotation_vector, inverse, multiply, normalised, rotate
from ..core.segments import SEGMENT_JOINTS, SEGMENT_NAMES, SEGMENTS, T_POSE_M
from ..core.skeletons import LANDMARKS_41
from .bone_map import BoneMap
from .rest_pose import RestPose

# Without these a body can't be told from other rigs; all other segments may lack bones.
NEEDED_SEGMENTS = (
    "pelvis l_thigh l_shank r_thigh r_shank l_upperarm l_forearm r_upperarm r_forearm l_foot r_foot".split()
)
_PARENT_SEGMENT = {segment.name: segment.parent for segment in SEGMENTS}
_STARTS_AT = {joint: segment for segment, joint in enumerate(SEGMENT_JOINTS)}
_TWISTING = ("upperarm", "forearm", "thigh", "shank")
_MAY_BE_LOOSE = ("clavicle", "upperarm", "thigh")
_LIMBS = ("upperarm", "forearm", "hand", "thigh", "shank")
_UP = np.array([0.0, 1.0, 0.0])
_AHEAD = np.array([0.0, 0.0, 1.0])
# The thumb is to one side of the fingers at least by this cosine, else it doesn't tell which side is which.
_THUMB_ASIDE = 0.2
# A rig's author means an axis when a body direction lies this near to it.
_SNAP_COSINE = np.cos(np.radians(20.0))
# A hand or toe bone that points further away than this from where hand or foot go has a meaningless tip (FBX imports).
_SANE_TIP_COSINE = np.cos(np.radians(70.0))
# A rig whose feet end between its origin and this part of its leg length above stands on its origin.
_STANDS_ON_ORIGIN = 0.10


@dataclass(frozen=True, eq=False)
class RigBody:
    """A bound bone map in numbers. Body axes are those of the T-pose: x left, y up, z forward.

    chains:             segment name -> bones of the rig that turn with it
    armature_from_body: (3, 3) rotation
    landmarks:          (41, 3) at rest, body axes, armature units
    carriers:           (41,) bone that carries each landmark
    rest_turns:         (S, 4) how each segment of the rest pose is turned from the T-pose, body axes
    leg_length:         hip to ankle, armature units
    floor:              height of the floor that the rest pose stands on, along the body's up, armature units
    twist:              limb segment -> bones beside its chain that take up a part of its twist
    root:               bone on the floor that carries everything, when the map names one
    loose:              bone that starts a limb without being carried by the body -> the bone that it should go with
    """

    chains: dict[str, tuple[int, ...]]
    armature_from_body: np.ndarray
    landmarks: np.ndarray
    carriers: np.ndarray
    rest_turns: np.ndarray
    leg_length: float
    floor: float
    twist: dict[str, tuple[int, ...]] = field(default_factory=dict)
    root: int | None = None
    loose: dict[int, int] = field(default_factory=dict)

    @property
    def hips(self) -> int:
        """The bone that carries the whole body."""
        return self.chains["pelvis"][0]

    def landmark(self, name: str) -> np.ndarray:
        """(3,) one landmark at rest, body axes, armature units."""
        return self.landmarks[LANDMARKS_41.index(name)]


def titles(*segments: str) -> str:
    """Segments as a person reads them: "hips, left thigh and right foot"."""
    said = {"pelvis": "hips", "l": "left ", "r": "right ", "upperarm": "upper arm", "shank": "lower leg", "": ""}
    words = []
    for segment in segments:
        side, _, part = segment.partition("_")
        words.append(said.get(side, side) + said.get(part, part))
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def rig_body(rest: RestPose, bone_map: BoneMap) -> RigBody:
    """Bind ``bone_map`` to ``rest``, check that it makes a body, and measure that body.

    Raises RigError when needed parts have no bone, hang together wrongly, or have their sides exchanged.
    """
    bound = bone_map.bound_to(rest)
    if missing := [segment for segment in NEEDED_SEGMENTS if segment not in bound.bones]:
        raise RigError(
            f"The bone map '{bone_map.name}' has no bone on '{rest.name}' for: {titles(*missing)}. "
            "Write a bone map for this rig and give it with --map FILE (see docs/file-formats.md)."
        )
    chains = {
        segment: tuple(rest.names.index(bone) for bone in bound.bones[segment])
        for segment in SEGMENT_NAMES
        if segment in bound.bones
    }
    loose = _loose_limbs(rest, chains, bone_map.name)
    armature_from_body = _body_axes(rest, chains, bone_map.name)
    known = _bone_landmarks(rest, chains, rest.heads @ armature_from_body, rest.tails @ armature_from_body)
    palms = {
        side: across for side in "lr" if (across := across_palm(rest, chains, side, armature_from_body)) is not None
    }
    turns = _rest_turns(known, palms)
    leg_length = float(
        np.mean(
            [
                np.linalg.norm(known[f"{side}_{a}"] - known[f"{side}_{b}"])
                for side in "lr"
                for a, b in (("hip", "knee"), ("knee", "ankle"))
            ]
        )
        * 2
    )
    if leg_length < 1e-6:
        raise RigError(f"The legs of '{rest.name}' have no length; it is not a body that can be animated.")
    heights = np.concatenate([rest.heads, rest.tails]) @ armature_from_body[:, 1]
    feet = [
        bone for bone in range(len(rest)) if any(chains[f"{side}_foot"][0] in rest.ancestors(bone) for side in "lr")
    ]
    lowest = float(min(heights[feet].min(), heights[np.array(feet) + len(rest)].min()))
    stands_on_origin = -1e-3 * leg_length <= lowest <= _STANDS_ON_ORIGIN * leg_length
    landmarks = np.empty((len(LANDMARKS_41), 3))
    carriers = np.empty(len(LANDMARKS_41), dtype=int)
    person_leg = float(np.linalg.norm(T_POSE_M[LANDMARKS_41.index("l_hip")] - T_POSE_M[LANDMARKS_41.index("l_ankle")]))
    for joint, (name, parent) in enumerate(zip(LANDMARKS_41.names, LANDMARKS_41.parents, strict=True)):
        carriers[joint] = _carrier(joint, chains)
        if name in known:
            landmarks[joint] = known[name]
            continue
        offset = (T_POSE_M[joint] - T_POSE_M[parent]) * (leg_length / person_leg)
        landmarks[joint] = landmarks[parent] + rotate(turns[_segment_below(joint)], offset)
    return RigBody(
        chains=chains,
        armature_from_body=armature_from_body,
        landmarks=landmarks,
        carriers=carriers,
        rest_turns=turns,
        leg_length=leg_length,
        floor=0.0 if stands_on_origin else lowest,
        twist=_twist_bones(rest, bound, chains),
        root=_floor_bone(rest, bound, chains),
        loose=loose,
    )


def _twist_bones(rest: RestPose, bound: BoneMap, chains: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Twist bones of the limbs that have bones of their own; one that hangs elsewhere would be torn off."""
    twist = {
        segment: tuple(rest.names.index(bone) for bone in bones if bone in rest.names)
        for segment, bones in bound.twist.items()
        if segment in chains and segment[2:] in _TWISTING
    }
    return {
        segment: tuple(bone for bone in bones if rest.descends(bone, chains[segment][0]))
        for segment, bones in twist.items()
    }


def _floor_bone(rest: RestPose, bound: BoneMap, chains: dict[str, tuple[int, ...]]) -> int | None:
    if bound.root is None or bound.root not in rest.names:
        return None
    root = rest.names.index(bound.root)
    return root if rest.descends(chains["pelvis"][0], root) else None


def rig_landmarks(rest: RestPose, bone_map: BoneMap) -> np.ndarray:
    """(41, 3) metres: the rig's own body put into the T-pose, hips at the origin, T-pose axes.

    It is the template with which ``core.segments.segment_rotations`` reads the rig's own joints back exactly. Landmarks
    that the rig has no bone for sit where a person of its size has them.
    """
    body = rig_body(rest, bone_map)
    straight = np.zeros((len(LANDMARKS_41), 3))
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent >= 0:
            offset = body.landmarks[joint] - body.landmarks[parent]
            straight[joint] = straight[parent] + rotate(inverse(body.rest_turns[_segment_below(joint)]), offset)
    return straight * rest.scale


def _segment_below(joint: int) -> int:
    """The segment that a landmark rides on: the one that starts at its nearest ancestor where one does."""
    joint = LANDMARKS_41.parents[joint]
    while joint not in _STARTS_AT:
        joint = LANDMARKS_41.parents[joint]
    return _STARTS_AT[joint]


def _carrier(joint: int, chains: dict[str, tuple[int, ...]]) -> int:
    if joint in _STARTS_AT and SEGMENT_NAMES[_STARTS_AT[joint]] in chains:
        return chains[SEGMENT_NAMES[_STARTS_AT[joint]]][0]
    segment: str | None = SEGMENT_NAMES[_segment_below(joint)]
    while segment is not None and segment not in chains:
        segment = _PARENT_SEGMENT[segment]
    return chains[segment or "pelvis"][-1]


def _loose_limbs(rest: RestPose, chains: dict[str, tuple[int, ...]], map_name: str) -> dict[int, int]:
    """Bone that starts a limb and hangs below no mapped bone at all -> the bone that it should go along with.

    Exports of deforming bones alone (Rigify's, for one) leave limbs without their parents. Raises RigError when a bone
    hangs below another part of the body than its own.
    """
    mapped = {bone for chain in chains.values() for bone in chain}
    loose: dict[int, int] = {}
    for segment, chain in chains.items():
        parent = _PARENT_SEGMENT[segment]
        while parent is not None and parent not in chains:
            parent = _PARENT_SEGMENT[parent]
        above = chains["pelvis"][0] if segment == "pelvis" or parent is None else chains[parent][0]
        for bone in chain:
            if bone == chains["pelvis"][0] or rest.descends(bone, above):
                continue
            if bone == chain[0] and segment[2:] in _MAY_BE_LOOSE and not mapped & set(rest.ancestors(bone)[1:]):
                # The first bone of the pelvis carries the legs, the last of every other part what follows it.
                loose[bone] = above if parent == "pelvis" else chains[parent or "pelvis"][-1]
            elif not loose.keys() & set(rest.ancestors(bone)):
                raise RigError(
                    f"The bone map '{map_name}' does not fit '{rest.name}': '{rest.names[bone]}' "
                    f"({titles(segment)}) does not hang below '{rest.names[above]}'. "
                    "Correct the map, or give the map of this rig with --map."
                )
    return loose


def _body_axes(rest: RestPose, chains: dict[str, tuple[int, ...]], map_name: str) -> np.ndarray:
    """(3, 3) armature from body: columns left, up, forward."""

    def head(segment: str) -> np.ndarray:
        return rest.heads[chains[segment][0]]

    left = normalised(head("l_thigh") - head("r_thigh")) + normalised(head("l_upperarm") - head("r_upperarm"))
    if np.linalg.norm(left) < 0.5:
        raise RigError(
            f"The bone map '{map_name}' does not fit '{rest.name}': left and right of arms and legs disagree. "
            "Exchange the sides of one of them in the map."
        )
    up = head("l_upperarm") + head("r_upperarm") - head("l_thigh") - head("r_thigh")
    left = normalised(left)
    up = normalised(up - left * (up @ left))
    axes = np.stack([left, up, np.cross(left, up)], axis=1)
    snapped = np.zeros((3, 3))
    snapped[np.argmax(np.abs(axes), axis=0), range(3)] = 1.0
    snapped *= np.sign(axes)
    if (np.abs(axes).max(axis=0) > _SNAP_COSINE).all() and np.linalg.det(snapped) > 0.5:
        axes = snapped
    ahead = sum(rest.tails[chains[f"{side}_foot"][-1]] - head(f"{side}_shank") for side in "lr")
    toes = [segment for segment in ("l_toes", "r_toes") if segment in chains]
    if toes:
        ahead = sum(head(segment) - head(segment.replace("toes", "foot")) for segment in toes)
    if ahead @ axes[:, 2] < 0 and abs(ahead @ axes[:, 2]) > abs(ahead @ axes[:, 0]):
        raise RigError(
            f"The bone map '{map_name}' does not fit '{rest.name}': its feet point backwards, so left and right seem "
            "to be exchanged. Exchange the sides in the map."
        )
    return axes


def _bone_landmarks(
    rest: RestPose, chains: dict[str, tuple[int, ...]], heads: np.ndarray, tails: np.ndarray
) -> dict[str, np.ndarray]:
    """The landmarks that the rig's own bones show, body axes."""
    known = {
        segment.joint: heads[chains[segment.name][0]]
        for segment in SEGMENTS
        if segment.name in chains and segment.name != "pelvis"
    }
    known["pelvis"] = (known["l_hip"] + known["r_hip"]) / 2
    for side in "lr":
        toes = chains.get(f"{side}_toes", ())
        # Toes may be one bone after another or five side by side; the ball is where they leave the foot.
        first_toes = [toe for toe in toes if not any(rest.descends(toe, other) for other in toes)]
        if toes:
            known[f"{side}_toe_base"] = heads[first_toes].mean(axis=0)
        foot = chains[f"{side}_foot"]
        ankle = known[f"{side}_ankle"]
        if not toes and _points_along(tails[foot[-1]] - ankle, np.array([0.0, -0.3, 1.0])):
            known[f"{side}_toe_base"] = tails[foot[-1]]
        if toes:
            last_toes = [toe for toe in toes if not any(rest.descends(other, toe) for other in toes)]
            ball, tip = known[f"{side}_toe_base"], tails[last_toes].mean(axis=0)
            if _points_along(tip - ball, ball - ankle):
                known[f"{side}_toe_tip"] = tip
        if f"{side}_hand" in chains:
            hand = chains[f"{side}_hand"][-1]
            wrist, along = known[f"{side}_wrist"], known[f"{side}_wrist"] - known[f"{side}_elbow"]
            fingers = [bone for bone in range(len(rest)) if rest.descends(bone, hand)]
            if _points_along(tails[hand] - wrist, along):
                known[f"{side}_knuckle"] = tails[hand]
            elif fingers and _points_along(heads[fingers].mean(axis=0) - wrist, along):
                known[f"{side}_knuckle"] = heads[fingers].mean(axis=0)
    return known


def _points_along(direction: np.ndarray, expected: np.ndarray) -> bool:
    return bool(normalised(direction) @ normalised(expected) > _SANE_TIP_COSINE)


def across_palm(
    rest: RestPose, chains: dict[str, tuple[int, ...]], side: str, armature_from_body: np.ndarray
) -> np.ndarray | None:
    """(3,) body axes: across the palm towards the index finger, told by the fingers; None where they don't tell."""
    if f"{side}_hand" not in chains:
        return None
    hand = chains[f"{side}_hand"][-1]
    wrist = rest.heads[hand]
    fingers = []
    for child in (bone for bone, parent in enumerate(rest.parents) if parent == hand):
        bones = [bone for bone in range(len(rest)) if bone == child or rest.descends(bone, child)]
        # The middle of a whole finger: its first bone may be one in the palm, its last an end without length.
        fingers.append(np.concatenate([rest.heads[bones], rest.tails[bones]]).mean(axis=0) - wrist)
    if len(fingers) < 4:
        return None
    middles = np.array(fingers) @ armature_from_body
    along = normalised(middles.mean(axis=0))
    reach = middles @ along
    thumb = int(np.argmin(reach))
    others = np.delete(middles, thumb, axis=0)
    flat = others - others.mean(axis=0)
    flat -= (flat @ along)[:, None] * along
    _, sizes, axes = np.linalg.svd(flat)
    # Fingers side by side make a line; a claw, or feathers, do not.
    if sizes[0] < 2 * sizes[1] or sizes[0] < 0.05 * reach.max():
        return None
    to_thumb = middles[thumb] - others.mean(axis=0)
    across = axes[0] * np.sign(axes[0] @ to_thumb)
    return normalised(across) if abs(across @ normalised(to_thumb)) > _THUMB_ASIDE else None


def _rest_turns(known: dict[str, np.ndarray], palms: dict[str, np.ndarray]) -> np.ndarray:
    """(S, 4) T-pose -> rest pose for each segment, body axes.

    Trunk, head and collars are taken to stand as a person's do. A limb gets the smallest further turn, from what
    carries it, that makes it point as the rig's does; a hand is also twisted as its fingers lie, which in the T-pose
    are side by side with the index finger ahead. A foot only differs by where its toes point: both stand flat.
    """
    turns = np.tile(IDENTITY, (len(SEGMENTS), 1))
    for index, segment in enumerate(SEGMENTS):
        side, _, part = segment.name.partition("_")
        joint, tip = LANDMARKS_41.index(segment.joint), LANDMARKS_41.index(segment.tip)
        at_t = T_POSE_M[tip] - T_POSE_M[joint]
        carried = turns[SEGMENT_NAMES.index(segment.parent)] if segment.parent else IDENTITY
        if part in _LIMBS:
            turns[index] = carried
            if segment.joint in known and segment.tip in known:
                along = known[segment.tip] - known[segment.joint]
                turns[index] = multiply(between(rotate(carried, at_t), along), carried)
                if part == "hand" and side in palms:
                    turns[index] = multiply(_twist_onto(along, rotate(turns[index], _AHEAD), palms[side]), turns[index])
        elif part == "foot":
            if f"{side}_toe_base" in known:
                along = known[f"{side}_toe_base"] - known[f"{side}_ankle"]
                yaw = np.arctan2(along[0], along[2]) - np.arctan2(at_t[0], at_t[2])
                turns[index] = from_rotation_vector(_UP * yaw)
        elif part == "toes":
            turns[index] = carried
    return turns


def _twist_onto(axis: np.ndarray, direction: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """(4,) the turn about ``axis`` (3,) that brings ``direction`` as near to ``wanted`` as it can."""
    axis = normalised(axis)
    return from_rotation_vector(
        axis * np.arctan2(np.cross(direction, wanted) @ axis, direction @ wanted - (direction @ axis) * (wanted @ axis))
    )
