"""How the turns of a body's segments are shared among the bones of a rig, which may have more of them than the body.

A spine of five bones bends a little at each; of an upper arm in two halves the one at the shoulder twists less than the
one at the elbow; a forearm takes up the hand's twist little by little.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.rotations import between, from_rotation_vector, inverse, multiply, normalised, rotate, to_rotation_vector
from ..core.segments import SEGMENT_NAMES, SEGMENTS, T_POSE_M
from ..core.skeletons import LANDMARKS_41
from .rest_pose import RestPose
from .rig_body import RigBody

_TRUNK_BELOW = {"spine": "pelvis", "neck": "chest"}
_TRUNK_ABOVE = {"pelvis": "spine", "spine": "chest", "neck": "head"}
# Segment -> the one that starts where it ends; together their bones must point there however the turn is shared.
_ENDS_AT = {
    "spine": "chest",
    "neck": "head",
    **{
        f"{side}_{part}": f"{side}_{following}"
        for side in "lr"
        for part, following in (("upperarm", "forearm"), ("forearm", "hand"), ("thigh", "shank"), ("shank", "foot"))
    },
}
# What a limb's twist is counted against: at its near end, and at its far end where that differs from its own.
_TWIST_FROM = {"upperarm": "clavicle", "forearm": "upperarm", "thigh": "pelvis"}
_TWIST_TO = {"forearm": "hand"}
# Two neighbours turned against each other by half a turn have no way between them; nearing that, nothing is shared.
_SHARED_WHOLLY_RAD, _NOT_SHARED_RAD = np.radians(110.0), np.radians(170.0)
# Twist is counted from the middle of where a limb can go, in T-pose axes for the left side: what lies opposite, where a
# twist can't be told, is out of its reach.
_MIDDLE_OF_REACH = {
    "upperarm": np.array([1.0, -0.5, 0.7]),
    "forearm": np.array([0.3, 0.0, 1.0]),
    "thigh": np.array([0.2, -0.7, 0.7]),
}
# A limb folded back on itself has no twist: below this cosine of half its swing what there is of it counts less.
_SWING_COSINE = 0.4
_TWIST_WHOLLY_RAD = np.radians(110.0)


def shared_turns(rest: RestPose, body: RigBody, turns: np.ndarray) -> dict[int, np.ndarray]:
    """Mapped bone -> (F, 4) how its part of the rest pose is turned, from body axes at rest to the space of ``turns``.

    turns: (F, S, 4) for each segment, that space from the T-pose
    """
    shared: dict[int, np.ndarray] = {}
    for segment, chain in body.chains.items():
        share = _sharing(segment, chain, rest, body, turns)
        from_rest = inverse(body.rest_turns[SEGMENT_NAMES.index(segment)])
        of_bones = [multiply(share(place), from_rest) for place in range(len(chain))]
        if len(chain) > 1 and _ENDS_AT.get(segment) in body.chains:
            whole = multiply(turns[:, SEGMENT_NAMES.index(segment)], from_rest)
            of_bones = _pointing_as_one(rest, body, chain, body.chains[_ENDS_AT[segment]][0], of_bones, whole)
        shared.update(zip(chain, of_bones, strict=True))
    for segment, bones in body.twist.items():
        from_rest = inverse(body.rest_turns[SEGMENT_NAMES.index(segment)])
        own = turns[:, SEGMENT_NAMES.index(segment)]
        # A knee doesn't twist, so a lower leg has nothing to share.
        twisted = _limb_share(segment, turns) if segment[2:] in _TWIST_FROM else None
        for bone in bones:
            turn = own if twisted is None else twisted(_place_along(rest, body, segment, bone))
            shared[bone] = multiply(turn, from_rest)
    return shared


def _sharing(
    segment: str, chain: tuple[int, ...], rest: RestPose, body: RigBody, turns: np.ndarray
) -> Callable[[int], np.ndarray]:
    """Place in the chain -> (F, 4) the turn of that bone, from the T-pose."""
    own = turns[:, SEGMENT_NAMES.index(segment)]
    count, part = len(chain), segment[2:]
    in_line = all(rest.parents[bone] == above for above, bone in zip(chain, chain[1:], strict=False))
    if count == 1 or not in_line:
        return lambda place: own
    if part in _TWIST_TO:
        twisted = _limb_share(segment, turns)
        return lambda place: twisted((place + 0.5) / count)
    if part in _TWIST_FROM:
        twisted = _limb_share(segment, turns)
        return lambda place: twisted((place + 1) / count)
    if segment in ("pelvis", "spine", "chest", "neck"):
        return _trunk_share(segment, count, body, turns)
    return lambda place: own


def _trunk_share(segment: str, count: int, body: RigBody, turns: np.ndarray) -> Callable[[int], np.ndarray]:
    """A trunk bends evenly: bones near a neighbouring segment turn partly as that one does.

    The first bone of the pelvis, which carries the legs, and the last of the chest, which carries the arms, do not.
    """

    def turn(name: str | None) -> np.ndarray:
        return turns[:, SEGMENT_NAMES.index(name if name in body.chains else segment)]

    own = turns[:, SEGMENT_NAMES.index(segment)]
    below, above = turn(_TRUNK_BELOW.get(segment)), turn(_TRUNK_ABOVE.get(segment))
    if segment == "pelvis":
        return lambda place: _leaning(own, above, place / count)
    if segment == "chest":
        spine = turn("spine")
        return lambda place: _leaning(own, spine, 1.0 - (place + 1) / count)

    def share(place: int) -> np.ndarray:
        off_middle = (place + 0.5) / count - 0.5
        return _leaning(own, above if off_middle > 0 else below, abs(off_middle))

    return share


def _leaning(own: np.ndarray, towards: np.ndarray, share: float) -> np.ndarray:
    """(F, 4) ``own`` turned by a share of what parts it from ``towards``."""
    between_them = to_rotation_vector(multiply(inverse(own), towards))
    apart = np.linalg.norm(between_them, axis=-1, keepdims=True)
    trust = np.clip((_NOT_SHARED_RAD - apart) / (_NOT_SHARED_RAD - _SHARED_WHOLLY_RAD), 0.0, 1.0)
    return multiply(own, from_rotation_vector(share * trust * between_them))


def _limb_share(segment: str, turns: np.ndarray) -> Callable[[float], np.ndarray]:
    """Place along a limb's segment (0 where it starts, 1 where it ends) -> (F, 4) turn there, from the T-pose."""
    side, _, part = segment.partition("_")
    own = turns[:, SEGMENT_NAMES.index(segment)]
    shape = SEGMENTS[SEGMENT_NAMES.index(segment)]
    along = normalised(T_POSE_M[LANDMARKS_41.index(shape.tip)] - T_POSE_M[LANDMARKS_41.index(shape.joint)])

    def turn(name: str) -> np.ndarray:
        return turns[:, SEGMENT_NAMES.index(name if name == "pelvis" else f"{side}_{name}")]

    middle = normalised(_MIDDLE_OF_REACH[part] * [1.0 if side == "l" else -1.0, 1.0, 1.0])
    since_start = _twist(multiply(inverse(turn(_TWIST_FROM[part])), own), along, middle)
    to_end = _twist(multiply(inverse(own), turn(_TWIST_TO[part])), along, along) if part in _TWIST_TO else None

    def share(place: float) -> np.ndarray:
        if to_end is None:
            further = (place - 1.0) * since_start
        else:
            # The fitted segment has half of the twist that there is between its ends.
            further = (2 * place - 1.0) * (since_start if place < 0.5 else to_end)
        return multiply(own, from_rotation_vector(further[:, None] * along))

    return share


def _twist(turn: np.ndarray, along: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """(F,) radians, without jumps: how far ``turn`` (F, 4) twists a limb that lies along a unit ``along`` (3,) before.

    middle: (3,) unit direction of the limb that is taken to be reached without any twist, on the shortest way
    It fades where it can't be told: towards half a turn, and in a limb that points away from the middle.
    """
    from_middle = multiply(turn, inverse(between(along, middle)))
    about = from_middle[:, 1:] @ middle
    twist = (2 * np.arctan2(about, from_middle[:, 0]) + np.pi) % (2 * np.pi) - np.pi
    trust = np.clip((np.pi - np.abs(twist)) / (np.pi - _TWIST_WHOLLY_RAD), 0.0, 1.0)
    return twist * trust * np.clip(np.hypot(about, from_middle[:, 0]) / _SWING_COSINE, 0.0, 1.0)


def _pointing_as_one(
    rest: RestPose, body: RigBody, chain: tuple[int, ...], end: int, own: list[np.ndarray], whole: np.ndarray
) -> list[np.ndarray]:
    """Bones of one segment turned a little more, all alike, so that it ends in the direction that it should."""
    heads = rest.heads[[*chain, end]] @ body.armature_from_body
    steps = np.diff(heads, axis=0)
    reached = np.asarray(sum(rotate(turn, step) for turn, step in zip(own, steps, strict=True)))
    mend = between(reached, rotate(whole, heads[-1] - heads[0]))
    return [multiply(mend, turn) for turn in own]


def _place_along(rest: RestPose, body: RigBody, segment: str, bone: int) -> float:
    """Where along its segment a twist bone starts, 0 to 1."""
    start = rest.heads[body.chains[segment][0]]
    following = body.chains.get(_ENDS_AT[segment])
    end = rest.heads[following[0]] if following else rest.tails[body.chains[segment][-1]]
    along = end - start
    return float(np.clip((rest.heads[bone] - start) @ along / max(float(along @ along), 1e-12), 0.0, 1.0))
