"""A rig nobody has seen before read as a body: by how its bones hang together, where they stand, and what they say.

Legs are the mirrored pair of chains that reach the floor, arms the pair that leaves the upper trunk. Which joints of a
chain are hip, knee and ankle is decided by trying all and keeping those most like a person's, so twist halves, helper
bones and fingers find no place. Names help where they mean something and are not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..core.errors import RigError
from ..core.rotations import normalised
from ..core.segments import T_POSE_M
from ..core.skeletons import LANDMARKS_41
from .bone_map import BoneMap
from .bone_names import name_words, side_and_stem
from .rest_pose import RestPose
from .rig_body import rig_body


def _person(a: str, b: str) -> float:
    return float(np.linalg.norm(T_POSE_M[LANDMARKS_41.index(a)] - T_POSE_M[LANDMARKS_41.index(b)]))


_LEG_M = _person("l_hip", "l_knee") + _person("l_knee", "l_ankle")
_TRUNK_TO_LEG = float((T_POSE_M[LANDMARKS_41.index("l_shoulder")] - T_POSE_M[LANDMARKS_41.index("l_hip")])[1]) / _LEG_M
# Words that say which part of a body a bone is. A shoulder may be a collar or an upper arm, a hip a thigh or the hips.
_PART_WORDS = {
    "pelvis": "pelvis hips hip cog root_m",
    "spine": "spine abdomen waist belly lumbar torso back spinelower lowerback",
    "chest": "chest ribs ribcage thorax upperchest spine",
    "neck": "neck cervical",
    "head": "head skull",
    "clavicle": "clavicle collar collarbone scapula shoulder clav",
    "upperarm": "upperarm uparm arm shldr shoulder humerus armupper bicep",
    "forearm": "forearm lowerarm lowarm elbow radius ulna armlower",
    "hand": "hand wrist palm",
    "thigh": "thigh upleg upperleg femur hip legupper upperthigh",
    "shank": "shank shin calf knee lowerleg lowleg leg tibia leglower",
    "foot": "foot ankle feet",
    "toes": "toe toes toebase ball",
}
_PARTS_OF_WORD: dict[str, frozenset[str]] = {}
for _part, _words in _PART_WORDS.items():
    for _word in _words.split():
        _PARTS_OF_WORD[_word] = _PARTS_OF_WORD.get(_word, frozenset()) | {_part}
# What the names of bones say that move others instead of the skin, or mark a chain's end.
_HELPER_WORDS = frozenset(
    "ik mch org pole target tweak vis ctrl control ctl con switch helper socket attach weapon prop pivot goal aim "
    "handle locator follow corrective driver tgt nub".split()
)
_END_WORDS = frozenset("end nub site tip effector".split())
_TWIST_WORDS = frozenset("twist roll twst".split())
# A bone whose mirror image is further away than this share of the rig's height has no partner.
_PARTNER_WITHIN = 0.06
# Eyes are further aside than this.
_CENTRAL = 0.013


@dataclass(frozen=True)
class PartFinding:
    """Why a segment's bones were chosen. ``score``: 0 to 1; ``reason``: for a person to read."""

    score: float
    reason: str


@dataclass(frozen=True, eq=False)
class Anatomy:
    """A body found in a rig. ``bone_map`` is bound to it; ``findings`` has the same segments as its bones."""

    bone_map: BoneMap
    findings: dict[str, PartFinding]
    problems: tuple[str, ...] = ()

    @property
    def score(self) -> float:
        """How sure the whole is, 0 to 1."""
        return float(np.mean([finding.score for finding in self.findings.values()]))


def find_body(rest: RestPose) -> Anatomy:
    """The body in ``rest``, whatever its bones are called.

    Raises RigError that says what was not found when there is none.
    """
    best: Anatomy | None = None
    misfit: RigError | None = None
    tried: set[tuple[int, ...]] = set()
    for bones in _bones_worth_looking_at(rest):
        if len(bones) < _FEWEST_BONES or tuple(bones) in tried:
            continue
        tried.add(tuple(bones))
        try:
            found = _BodySearch(rest, bones).run()
            rig_body(rest, found.bone_map)
        except RigError as problem:
            misfit = misfit or problem
        else:
            if best is None or found.score > best.score + _CLEARLY_BETTER:
                best = found
            if best.score > _GOOD_ENOUGH:
                break
    if best is None:
        raise misfit or _no_body(rest, "it has too few bones")
    return best


_FEWEST_BONES = 9
# No limb has more joints; a rope may.
_LONGEST_LIMB = 64
_CLEARLY_BETTER = 0.1
# Limbs of odd people stay below 3; what is further away than this is none.
_NO_LIMB = 10.0
# Meaningless names leave a perfect body at 0.8.
_GOOD_ENOUGH = 0.6
# All three names of a limb speaking for it lower its penalty by this.
_MOST_FROM_NAMES = 3.0


def _no_body(rest: RestPose, reason: str) -> RigError:
    return RigError(
        f"No body was found in the armature '{rest.name}': {reason}. "
        "Write a bone map for it and give it with --map FILE (see docs/file-formats.md)."
    )


def _bones_worth_looking_at(rest: RestPose) -> Iterator[list[int]]:
    """Sets of bones to look for a body in: those that deform first, then those whose names say nothing against it."""
    said = [set(name_words(name)) for name in rest.names]
    helpers = {bone for bone, words in enumerate(said) if words & _HELPER_WORDS}
    deforming = {bone for bone, words in enumerate(said) if words & {"def", "deform"}}
    every = range(len(rest))
    if not rest.use_deform.all():
        yield [bone for bone in every if rest.use_deform[bone] and bone not in helpers]
    if 0 < len(deforming) < len(rest):
        yield [bone for bone in every if bone in deforming]
    yield [bone for bone in every if bone not in helpers and bone not in deforming]
    yield [bone for bone in every if bone not in helpers]
    yield list(every)


@dataclass(frozen=True)
class _Stance:
    """Which way is up and which way is across. ``centre``: where the plane of symmetry is, along ``across``."""

    up: np.ndarray
    across: np.ndarray
    centre: float


@dataclass(frozen=True, eq=False)
class _Limb:
    """Upper joint, hinge and end of a limb and of its mirror image, and how unlike a person's they are."""

    joints: tuple[int, int, int]
    mirrored: tuple[int, int, int]
    penalty: float


@dataclass(frozen=True)
class _LimbShape:
    """What a limb of a person is like: parts (upper, lower), their ratio, and how sure that is."""

    parts: tuple[str, str, str]
    ratio: float
    ratio_doubt: float


_LEG = _LimbShape(("thigh", "shank", "foot"), _person("l_hip", "l_knee") / _person("l_knee", "l_ankle"), 0.2)
_ARM = _LimbShape(("upperarm", "forearm", "hand"), 1.1, 0.22)


class _BodySearch:
    """One search in one set of bones."""

    def __init__(self, rest: RestPose, bones: list[int]) -> None:
        self.rest = rest
        kept = set(bones)
        self.bones = bones
        self.parent = {bone: next((above for above in rest.ancestors(bone)[1:] if above in kept), -1) for bone in bones}
        self.children: dict[int, list[int]] = {bone: [] for bone in bones}
        for bone, parent in self.parent.items():
            if parent >= 0:
                self.children[parent].append(bone)
        self.below = dict.fromkeys(bones, 1)
        for bone in reversed(bones):
            if self.parent[bone] >= 0:
                self.below[self.parent[bone]] += self.below[bone]
        self.depth: dict[int, int] = {}
        for bone in bones:
            self.depth[bone] = self.depth.get(self.parent[bone], -1) + 1
        self.votes = {bone: _parts_said(rest.names[bone]) for bone in bones}

    def line(self, bone: int) -> list[int]:
        """The bone and those that carry it, up to the root."""
        line = []
        while bone >= 0:
            line.append(bone)
            bone = self.parent[bone]
        return line

    def common(self, bones: list[int]) -> int:
        """The lowest bone that carries all of ``bones``, or is one of them; -1 when there is none."""
        shared = set(self.line(bones[0])).intersection(*(self.line(bone) for bone in bones[1:]))
        return max(shared, key=lambda bone: self.depth[bone], default=-1)

    def subtree(self, bone: int) -> list[int]:
        found = [bone]
        for below in found:
            found += self.children[below]
        return found

    def run(self) -> Anatomy:
        """Try every stance that the bones could mean, and read the body in the likeliest."""
        best: tuple[float, _Stance, _Limb, _Limb] | None = None
        reason = "it has no legs: no pair of mirrored chains that reaches the floor"
        for cost, stance in _stances(self.rest, self.bones):
            if best is not None and cost - 2 * _MOST_FROM_NAMES > best[0]:
                continue
            self._stand(stance)
            leg = self._best_leg()
            if leg is None:
                continue
            arm = self._best_arm(leg)
            if arm is None:
                reason = "it has legs but no arms: no pair of mirrored chains that leaves the trunk above the hips"
                continue
            total = cost + leg.penalty + arm.penalty
            if best is None or total < best[0]:
                best = (total, stance, leg, arm)
        if best is None:
            raise _no_body(self.rest, reason)
        _, stance, leg, arm = best
        self._stand(stance)
        return self._described(stance, leg, arm)

    def _stand(self, stance: _Stance) -> None:
        """Measure the bones in this stance: height, way across and way ahead, in shares of the rig's height."""
        heads = self.rest.heads[self.bones]
        height, across = heads @ stance.up, heads @ stance.across - stance.centre
        ahead = heads @ np.cross(stance.across, stance.up)
        size = max(float(np.ptp(height)), 1e-9)
        self.size = size
        self.at = dict(zip(self.bones, np.stack([across, height - height.min(), ahead], axis=1) / size, strict=True))
        self.tail = dict(
            zip(
                self.bones,
                np.stack(
                    [
                        self.rest.tails[self.bones] @ stance.across - stance.centre,
                        self.rest.tails[self.bones] @ stance.up - height.min(),
                        self.rest.tails[self.bones] @ np.cross(stance.across, stance.up),
                    ],
                    axis=1,
                )
                / size,
                strict=True,
            )
        )
        self.partner = self._partners()

    def _partners(self) -> dict[int, int]:
        """Bone -> its mirror image, for bones away from the middle."""
        at = np.array([self.at[bone] for bone in self.bones])
        depth = np.array([self.depth[bone] for bone in self.bones], dtype=float)
        below = np.array([self.below[bone] for bone in self.bones], dtype=float)
        partners = {}
        aside = [place for place in range(len(self.bones)) if at[place, 0] > 1e-3]
        for place in aside:
            gap = np.linalg.norm(at - at[place] * [-1.0, 1.0, 1.0], axis=1)
            # Bones that lie on each other are told apart by what hangs below and above them.
            unlike = gap + 0.005 * np.abs(depth - depth[place]) + 0.005 * np.abs(np.log(below / below[place]))
            unlike[gap > _PARTNER_WITHIN] = np.inf
            unlike[at[:, 0] >= 0] = np.inf
            nearest = int(np.argmin(unlike))
            if np.isfinite(unlike[nearest]):
                partners[self.bones[place]] = self.bones[nearest]
        return partners

    def is_central(self, bone: int) -> bool:
        """In the plane of symmetry, with all that it carries: a collar begins there too, but goes aside."""
        carried = [self.at[below][0] for below in self.subtree(bone)]
        aside = float(np.mean([*carried, self.tail[bone][0]]))
        return abs(float(self.at[bone][0])) < _CENTRAL and abs(aside) < 2 * _CENTRAL

    def _best_leg(self) -> _Limb | None:
        best: _Limb | None = None
        for end in self.partner:
            if self.at[end][1] > 0.3 or self.at[end][0] < 0.01:
                continue
            best = _likelier(best, self._limb_ending_at(end, _LEG, None))
        return best

    def _best_arm(self, leg: _Limb) -> _Limb | None:
        best: _Limb | None = None
        taken = set(self.subtree(leg.joints[0]))
        hips = self.at[leg.joints[0]][1]
        for end in self.partner:
            if end in taken or self.at[end][1] < hips - 0.25:
                continue
            best = _likelier(best, self._limb_ending_at(end, _ARM, leg))
        return best

    def _limb_ending_at(self, end: int, shape: _LimbShape, leg: _Limb | None) -> _Limb | None:
        """The likeliest upper joint and hinge above ``end``."""
        path = [bone for bone in self.line(end) if bone in self.partner]
        mirror_line = self.line(self.partner[end])
        on_mirror_line = set(mirror_line)
        path = [bone for bone in path if self.partner[bone] in on_mirror_line][:_LONGEST_LIMB]
        if len(path) < 3 or path[0] != end:
            return None
        at = np.array([self.at[bone] for bone in path])
        upper, hinge = np.triu_indices(len(path), 1)
        upper, hinge = hinge, upper  # the path goes up: the upper joint comes later in it
        chosen = hinge > 0
        upper, hinge = upper[chosen], hinge[chosen]
        if not len(upper):
            return None
        high, low = at[hinge] - at[upper], at[0] - at[hinge]
        high_length, low_length = np.linalg.norm(high, axis=1), np.linalg.norm(low, axis=1)
        usable = (high_length > 0.02) & (low_length > 0.02)
        if not usable.any():
            return None
        upper, hinge, high, low = upper[usable], hinge[usable], high[usable], low[usable]
        high_length, low_length = high_length[usable], low_length[usable]
        length = high_length + low_length
        penalty = 0.5 * (np.log(high_length / low_length / shape.ratio) / shape.ratio_doubt) ** 2
        penalty += self._name_penalty(path, 0, upper, hinge, shape)
        if leg is None:
            penalty += self._leg_penalty(path, at, upper, length, high, low)
        else:
            penalty += self._arm_penalty(path, at, upper, hinge, length, high, low, leg)
        best = self._straightest(at, upper, hinge, penalty)
        joints = (path[int(upper[best])], path[int(hinge[best])], end)
        left, middle, last = (self.partner[joint] for joint in joints)
        if left == middle or middle == last or left not in mirror_line[1:] or penalty[best] > _NO_LIMB:
            return None
        return _Limb(joints, (left, middle, last), float(penalty[best]))

    def _leg_penalty(
        self, path: list[int], at: np.ndarray, upper: np.ndarray, length: np.ndarray, high: np.ndarray, low: np.ndarray
    ) -> np.ndarray:
        """How unlike a person's leg it is: it goes down from the hips to just above the floor, where it turns ahead."""
        hips = at[upper]
        drop = hips[:, 1] - at[0, 1]
        penalty = 0.5 * (np.log(np.maximum(length, 1e-3) / 0.47) / 0.3) ** 2
        penalty += 0.5 * ((1 - drop / length) / 0.15) ** 2
        penalty += 0.5 * (_angle(high, low) / np.radians(20.0)) ** 2
        penalty += 0.5 * ((at[0, 1] - 0.04) / 0.05) ** 2
        # Beyond the ankle something goes ahead: the next bone, or the foot's own tip.
        beyond = [self.at[below] for below in self.subtree(path[0])[1:]] or [self.tail[path[0]]]
        reach = max((abs(point[2] - at[0, 2]) for point in beyond), default=0.0)
        penalty += 0.5 * ((min(reach, 0.08) - 0.08) / 0.05) ** 2
        penalty += 0.5 * (np.log(np.maximum(hips[:, 0], 1e-3) / 0.055) / 0.6) ** 2
        # The hip is the highest joint beside the middle: one further down is a part of the thigh.
        beside = at[:, 0] > 0.02
        apart = np.linalg.norm(at[:, None] - at[None], axis=-1) > 0.03
        has_higher = np.triu(apart & beside[None], 1).any(axis=1)
        penalty += np.where(has_higher[upper], 1.0, 0.0)
        return penalty

    def _arm_penalty(
        self,
        path: list[int],
        at: np.ndarray,
        upper: np.ndarray,
        hinge: np.ndarray,
        length: np.ndarray,
        high: np.ndarray,
        low: np.ndarray,
        leg: _Limb,
    ) -> np.ndarray:
        """How unlike a person's arm it is: it leaves the trunk above the hips, and ends where fingers begin."""
        hip, knee, ankle = (self.at[joint] for joint in leg.joints)
        leg_length = float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))
        shoulder = at[upper]
        rise = np.maximum(shoulder[:, 1] - hip[1], 0.1 * leg_length)
        # Cartoon people have short legs or long ones: the trunk has a say in how large the body is.
        size = np.sqrt(leg_length * rise / _TRUNK_TO_LEG)
        penalty = 0.5 * (np.log(length / size / 0.61) / 0.25) ** 2
        penalty += 0.5 * (np.log(np.maximum(shoulder[:, 0], 1e-3) / size / 0.21) / 0.4) ** 2
        penalty += 0.5 * (np.log(rise / leg_length / _TRUNK_TO_LEG) / 0.35) ** 2
        penalty += 0.5 * (np.maximum(_angle(high, low) - np.radians(40.0), 0) / np.radians(30.0)) ** 2
        if sum(1 for child in self.children[path[0]] if self.children[child]) < 3:
            penalty += 0.7
        # Where an arm branches, fingers begin: a wrist lies before that, not after.
        branches = np.cumsum([place > 0 and len(self.children[bone]) > 1 for place, bone in enumerate(path)])
        penalty += np.where(branches[hinge - 1] > 0, 1.0, 0.0)
        # What hangs below a wrist reaches no further than a hand does, but for what it may hold.
        beyond = min(self._reach(path[0]), self._reach(self.partner[path[0]])) / size
        penalty += np.minimum(0.5 * (np.maximum(beyond - 0.24, 0.0) / 0.06) ** 2, 2.0)
        return penalty

    def _reach(self, bone: int) -> float:
        """How far the bones below go from ``bone``."""
        carried = np.array([self.at[below] for below in self.subtree(bone)])
        return float(np.linalg.norm(carried - self.at[bone], axis=1).max())

    def _straightest(self, at: np.ndarray, upper: np.ndarray, hinge: np.ndarray, penalty: np.ndarray) -> int:
        """The pair of least penalty when what it passes over counts too; adds that to ``penalty``."""
        best = -1
        for pair in np.argsort(penalty, kind="stable"):
            if best >= 0 and penalty[pair] >= penalty[best]:
                break
            penalty[pair] += _crookedness(at, 0, int(hinge[pair])) + _crookedness(
                at, int(hinge[pair]), int(upper[pair])
            )
            if best < 0 or penalty[pair] < penalty[best]:
                best = int(pair)
        return best

    def _name_penalty(
        self, path: list[int], end: int, upper: np.ndarray, hinge: np.ndarray, shape: _LimbShape
    ) -> np.ndarray:
        """Names that say another part speak against it, names that say this part for it."""
        against = [np.array([self._disagreement(bone, part) for bone in path]) for part in shape.parts]
        return against[0][upper] + against[1][hinge] + against[2][end]

    def _disagreement(self, bone: int, part: str) -> float:
        """0 when the name says nothing, below when it says ``part``, above when it says another part."""
        said = self.votes[bone]
        if not said:
            return 0.0
        return -1.0 if part in said else 2.0

    def _described(self, stance: _Stance, leg: _Limb, arm: _Limb) -> Anatomy:
        return _Description(self, stance, leg, arm).anatomy()


@dataclass
class _Description:
    """From the four limbs to a bone map: trunk, neck, hands and feet, twist bones, and the reasons."""

    search: _BodySearch
    stance: _Stance
    leg: _Limb
    arm: _Limb
    bones: dict[str, list[int]] = field(default_factory=dict)
    findings: dict[str, PartFinding] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def anatomy(self) -> Anatomy:
        search, rest = self.search, self.search.rest
        left_is_positive = self._left_is_positive()
        sides = {True: "l", False: "r"}
        self.legs = {
            sides[left_is_positive]: self.leg.joints,
            sides[not left_is_positive]: self.leg.mirrored,
        }
        self.arms = {
            sides[left_is_positive]: self.arm.joints,
            sides[not left_is_positive]: self.arm.mirrored,
        }
        hip, knee, ankle = (search.at[joint] for joint in self.leg.joints)
        self.leg_length = float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))
        self._trunk()
        for side in "lr":
            self._leg(side)
            self._arm(side)
        twist = self._twist_bones()
        named = {
            segment: tuple(rest.names[bone] for bone in self.bones[segment])
            for segment in _SEGMENT_ORDER
            if self.bones.get(segment)
        }
        bone_map = BoneMap(
            "auto",
            "Unknown rig, read by its anatomy",
            named,
            is_preset=True,
            twist={segment: tuple(rest.names[bone] for bone in chain) for segment, chain in twist.items()},
            root=self._root(),
        )
        return Anatomy(bone_map, {segment: self.findings[segment] for segment in named}, tuple(self.problems))

    def _left_is_positive(self) -> bool:
        """Feet point ahead, and left is to the left of that. Names decide when feet say nothing."""
        search = self.search
        ahead = 0.0
        for joint in (self.leg.joints[2], self.leg.mirrored[2]):
            below = [search.at[bone] for bone in search.subtree(joint)[1:]]
            reach = [point[2] - search.at[joint][2] for point in below] or [search.tail[joint][2] - search.at[joint][2]]
            ahead += max(reach, key=abs)
        said = 0
        for ours, theirs in zip(
            (*self.leg.joints, *self.arm.joints), (*self.leg.mirrored, *self.arm.mirrored), strict=True
        ):
            said += {"l": 1, "r": -1, "": 0}[side_and_stem(search.rest.names[ours])[0]]
            said -= {"l": 1, "r": -1, "": 0}[side_and_stem(search.rest.names[theirs])[0]]
        # ``ahead`` is measured along across x up; a body's left is up x ahead, which is across itself when it is ahead.
        by_feet = ahead > 0
        if abs(ahead) < 0.02 and said:
            return said > 0
        if said and (said > 0) != by_feet:
            self.problems.append(
                "The names of the bones exchange left and right: the feet point the other way. The sides were told by "
                "the feet; exchange them in a bone map of your own if that is wrong."
            )
        if abs(ahead) < 0.02 and not said:
            self.problems.append(
                "Neither feet nor names tell which way the rig faces, so left and right may be exchanged. Try a clip, "
                "and exchange the sides in a bone map of your own if they are."
            )
        return by_feet

    def _trunk(self) -> None:
        search, rest = self.search, self.search.rest
        hips = [limb[0] for limb in self.legs.values()]
        shoulders = [limb[0] for limb in self.arms.values()]
        base = search.common(hips + shoulders)
        if base < 0:
            raise _no_body(
                rest,
                "its arms and legs hang from no common bone. Give them one in Blender (the hips) and try again; else",
            )
        legs_base = search.common(hips)
        pelvis = [bone for bone in reversed(search.line(legs_base)) if base in search.line(bone)]
        if legs_base in hips:
            pelvis = [base]
        chest_top = search.common(shoulders)
        trunk = [bone for bone in reversed(search.line(chest_top)) if base in search.line(bone) and bone != base]
        trunk = [bone for bone in trunk if bone not in shoulders]
        hip_height = float(np.mean([search.at[bone][1] for bone in hips]))
        shoulder_height = float(np.mean([search.at[bone][1] for bone in shoulders]))
        # The neck begins a little above the shoulders.
        span = max(shoulder_height + 0.1 * self.leg_length - hip_height, 1e-6)
        share = {bone: (search.at[bone][1] - hip_height) / span for bone in trunk}
        spine: list[int] = []
        chest: list[int] = []
        for bone in trunk:
            if bone == trunk[-1] or share[bone] >= 0.4 or chest:
                chest.append(bone)
            else:
                spine.append(bone)
        while len(spine) > 1 and share[spine[0]] < 0.2 and pelvis[-1] in search.line(spine[0]):
            pelvis.append(spine.pop(0))
        if not spine and len(chest) > 2:
            spine.append(chest.pop(0))
        self._found("pelvis", pelvis, 1.0, "carries both legs and the trunk")
        if spine:
            self._found("spine", spine, 0.9, "between the hips and the chest")
        if chest:
            self._found("chest", chest, 0.9, "both arms hang from it")
        self._neck_and_head(chest_top if chest else base, shoulder_height, shoulder_height - hip_height)

    def _neck_and_head(self, chest_top: int, shoulder_height: float, trunk_height: float) -> None:
        search = self.search
        arms = {bone for limb in self.arms.values() for bone in search.subtree(self._arm_top(limb, chest_top))}
        arms |= {bone for limb in self.legs.values() for bone in search.subtree(limb[0])}

        def top(bone: int) -> float:
            return max(float(search.at[below][1]) for below in search.subtree(bone))

        def rising(bone: int) -> list[int]:
            return [
                child
                for child in search.children[bone]
                if child not in arms
                and search.is_central(child)
                and search.at[child][1] > search.at[bone][1] - 0.005
                and top(child) > shoulder_height - 0.02
            ]

        path: list[int] = []
        bone = chest_top
        while choices := rising(bone):
            bone = max(choices, key=lambda choice: (self.search.votes[choice] & {"neck", "head"} != set(), top(choice)))
            path.append(bone)
            carried = [child for child in search.children[bone] if child not in rising(bone)]
            if "head" in search.votes[bone] or len(carried) >= 2:
                break
        # A head begins below this; what comes higher marks its top.
        crown = shoulder_height + 0.53 * trunk_height
        while len(path) > 1 and (search.at[path[-1]][1] > crown or self._says(path[-1], _END_WORDS)):
            path.pop()
        # Bones that lie on each other at the top are one joint: the first carries the rest, a face for one.
        while len(path) > 1 and np.linalg.norm(search.at[path[-1]] - search.at[path[-2]]) < 0.005:
            path.pop()
        # Where names say which is the head, they know best.
        named = [place for place, bone in enumerate(path) if "head" in search.votes[bone]]
        if named:
            path = path[: named[0] + 1]
        if not path:
            return
        if len(path) == 1 and "neck" in search.votes[path[0]] and "head" not in search.votes[path[0]]:
            self._found("neck", path, 0.8, "rises from the chest")
            return
        if path[:-1]:
            self._found("neck", path[:-1], 0.9, "between the chest and the head")
        self._found("head", path[-1:], 0.9, "on top of the trunk")

    def _says(self, bone: int, words: frozenset[str]) -> bool:
        return bool(set(name_words(self.search.rest.names[bone])) & words)

    def _arm_top(self, limb: tuple[int, ...], chest_top: int) -> int:
        """The bone that carries the whole arm, collar included."""
        line = self.search.line(limb[0])
        below_chest = line[: line.index(chest_top)] if chest_top in line else line[:1]
        return below_chest[-1] if below_chest else limb[0]

    def _between(self, top: int, end: int) -> list[int]:
        """Bones from ``top`` down to the one that carries ``end``."""
        line = self.search.line(end)
        return list(reversed(line[1 : line.index(top) + 1]))

    def _leg(self, side: str) -> None:
        hip, knee, ankle = self.legs[side]
        likeness = _likeness(self.leg)
        self._found(f"{side}_thigh", self._between(hip, knee), likeness, "where the leg leaves the hips")
        self._found(f"{side}_shank", self._between(knee, ankle), likeness, "the joint nearest the middle of the leg")
        foot, toes = self._foot_and_toes(ankle)
        self._found(f"{side}_foot", foot, likeness, "the joint just above the floor")
        if toes:
            self._found(f"{side}_toes", toes, 0.85, "ahead of the ankle, where the foot bends")

    def _foot_and_toes(self, ankle: int) -> tuple[list[int], list[int]]:
        search = self.search
        ahead = 1.0 if self.leg_reach() > 0 else -1.0
        foot = [ankle]
        while True:
            begin = search.at[ankle]
            steps = {
                child: float((search.at[child][2] - begin[2]) * ahead) / self.leg_length
                for child in search.children[foot[-1]]
                if not self._says(child, _END_WORDS) and not self._says(child, _HELPER_WORDS)
            }
            toes = [
                child
                for child, step in steps.items()
                if step > 0.06 and search.at[child][1] < begin[1] + 0.01 and not self._is_tip(child, step)
            ]
            if toes:
                near = min(steps[toe] for toe in toes)
                # From the big toe to the small one.
                return foot, sorted(
                    (toe for toe in toes if steps[toe] < near + 0.08), key=lambda toe: abs(search.at[toe][0])
                )
            inline = [
                child
                for child in search.children[foot[-1]]
                if search.children[child] and np.linalg.norm(search.at[child] - begin) < 0.06 * self.leg_length
            ]
            if len(inline) != 1:
                return foot, []
            foot.append(inline[0])

    def _is_tip(self, bone: int, step: float) -> bool:
        """A bone without children as far ahead as the tips of the toes are marks where the foot ends."""
        return not self.search.children[bone] and step > 0.205 and "toes" not in self.search.votes[bone]

    def leg_reach(self) -> float:
        """How far the feet go ahead, with the sign of the axis."""
        search = self.search
        reach = 0.0
        for joint in (self.leg.joints[2], self.leg.mirrored[2]):
            below = [search.at[bone] for bone in search.subtree(joint)[1:]] or [search.tail[joint]]
            reach += max((float(point[2] - search.at[joint][2]) for point in below), key=abs)
        return reach

    def _arm(self, side: str) -> None:
        search = self.search
        shoulder, elbow, wrist = self.arms[side]
        likeness = _likeness(self.arm)
        top = self.bones["chest"][-1] if self.bones.get("chest") else self.bones["pelvis"][0]
        line = search.line(shoulder)
        clavicle = list(reversed(line[1 : line.index(top)])) if top in line else []
        if clavicle:
            self._found(f"{side}_clavicle", clavicle, 0.9, "between the chest and the arm")
        self._found(f"{side}_upperarm", self._between(shoulder, elbow), likeness, "where the arm leaves the trunk")
        self._found(f"{side}_forearm", self._between(elbow, wrist), likeness, "the joint nearest the middle of the arm")
        fingers = sum(1 for child in search.children[wrist] if search.children[child])
        reason = "the end of the arm, where the fingers begin" if fingers >= 3 else "the end of the arm"
        self._found(f"{side}_hand", [wrist], likeness, reason)

    def _found(self, segment: str, bones: list[int], likeness: float, reason: str) -> None:
        """Note a part, and whether the name of its bone agrees."""
        part = segment.partition("_")[2] or segment
        name = self.search.rest.names[bones[0]]
        said = frozenset().union(*(self.search.votes[bone] for bone in bones))
        score = 0.3 + 0.5 * min(likeness, 1.0)
        if part in said:
            score += 0.2
            reason += f"; its name, '{name}', says so too"
        elif said:
            score -= 0.2
            reason += f"; its name, '{name}', says something else"
        self.bones[segment] = list(bones)
        self.findings[segment] = PartFinding(round(max(0.0, min(score, 1.0)), 2), reason)

    def _twist_bones(self) -> dict[str, list[int]]:
        """Bones beside a limb's chain that lie on its line: they take up a part of its twist."""
        search = self.search
        used = {bone for chain in self.bones.values() for bone in chain}
        twist: dict[str, list[int]] = {}
        for side in "lr":
            for part, following in (
                ("upperarm", "forearm"),
                ("forearm", "hand"),
                ("thigh", "shank"),
                ("shank", "foot"),
            ):
                chain = self.bones[f"{side}_{part}"]
                begin, end = search.at[chain[0]], search.at[self.bones[f"{side}_{following}"][0]]
                along = end - begin
                length = max(float(np.linalg.norm(along)), 1e-6)
                found = []
                for bone in [child for link in chain for child in search.children[link]]:
                    if bone in used or self._says(bone, _HELPER_WORDS | _END_WORDS):
                        continue
                    t = float((search.at[bone] - begin) @ along) / length**2
                    off = float(np.linalg.norm(np.cross(search.at[bone] - begin, along / length))) / length
                    lies_along = float(normalised(search.tail[bone] - search.at[bone]) @ along) / length > 0.9
                    if self._says(bone, _TWIST_WORDS):
                        fits = -0.1 < t < 1.1 and off < 0.2
                    else:
                        fits = -0.01 < t < 0.95 and off < 0.02 and lies_along and search.below[bone] == 1
                    if fits:
                        found.append((t, bone))
                if found:
                    twist[f"{side}_{part}"] = [bone for _, bone in sorted(found)]
        return twist

    def _root(self) -> str | None:
        """The topmost bone that carries the hips, when it stands on the floor."""
        rest, stance = self.search.rest, self.stance
        line = rest.ancestors(self.bones["pelvis"][0])
        ankles = [float(rest.heads[limb[2]] @ stance.up) for limb in self.legs.values()]
        if len(line) > 1 and float(rest.heads[line[-1]] @ stance.up) < max(ankles):
            return rest.names[line[-1]]
        return None


_SEGMENT_ORDER = (
    "pelvis spine chest neck head "
    "l_clavicle l_upperarm l_forearm l_hand l_thigh l_shank l_foot l_toes "
    "r_clavicle r_upperarm r_forearm r_hand r_thigh r_shank r_foot r_toes"
).split()


def _likeness(limb: _Limb) -> float:
    """0 to 1"""
    return float(np.exp(-0.15 * max(limb.penalty, 0.0)))


def _likelier(one: _Limb | None, other: _Limb | None) -> _Limb | None:
    if one is None or other is None:
        return other or one
    # Of bones that lie on each other the first found, nearest the root, stays.
    return other if other.penalty < one.penalty - 1e-6 else one


def _crookedness(at: np.ndarray, first: int, last: int) -> float:
    """How far the joints between two chosen ones lie beside the straight line that joins these."""
    between = at[first + 1 : last]
    if not len(between):
        return 0.0
    along = at[last] - at[first]
    length = max(float(np.linalg.norm(along)), 1e-6)
    off = np.linalg.norm(np.cross(between - at[first], along / length), axis=1) / length
    past = (between - at[first]) @ along / length**2
    outside = np.maximum(np.maximum(-past, past - 1), 0)
    return 0.5 * float(((off / 0.06) ** 2 + (outside / 0.06) ** 2).max())


def _angle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.arccos(np.clip(np.sum(normalised(a) * normalised(b), axis=-1), -1.0, 1.0))


def _parts_said(name: str) -> frozenset[str]:
    """The parts of a body that a name could mean; none for names that mean nothing, and for fingers."""
    _, words = side_and_stem(name)
    words = tuple(word for word in words if not word.isdecimal())
    said: frozenset[str] = frozenset()
    for pair in [*zip(words, words[1:], strict=False), *((word,) for word in words)]:
        joined = "".join(pair)
        for candidate in (joined, joined[1:] if joined[:1] in "lr" else joined):
            if candidate in _PARTS_OF_WORD:
                # The longer word knows better: an upper arm is no arm, and a toe base no base.
                return _PARTS_OF_WORD[candidate]
    return said


def _stances(rest: RestPose, bones: list[int]) -> list[tuple[float, _Stance]]:
    """Which ways up and across the rig could stand, the likeliest first, with what speaks against each."""
    heads = rest.heads[bones]
    world_up = rest.world_from_armature_rotation.T @ np.array([0.0, 0.0, 1.0])
    own = _paired_direction(rest, bones)
    sideways = [np.eye(3)[axis] for axis in range(3)]
    if own is not None and np.abs(own).max() < np.cos(np.radians(5.0)):
        sideways.insert(0, own)
    stances = []
    for across in sideways:
        centre = _plane_of_symmetry(heads, across)
        unlike = _asymmetry(heads, across, centre)
        for preference, up in enumerate(
            (world_up, *(sign * np.eye(3)[axis] for axis in (1, 2, 0) for sign in (1, -1)))
        ):
            flat = up - across * (up @ across)
            if np.linalg.norm(flat) < 0.7:
                continue
            # Which way the object stands in the world is a strong hint: people look at their characters upright.
            cost = 40.0 * unlike + (0.0 if preference == 0 else 4.0)
            stances.append((cost, _Stance(normalised(flat), across, centre)))
    return sorted(stances, key=lambda entry: entry[0])


def _plane_of_symmetry(heads: np.ndarray, across: np.ndarray) -> float:
    along = heads @ across
    candidates = (0.0, float(np.median(along)), float((along.min() + along.max()) / 2), float(along[0]))
    return min(candidates, key=lambda centre: _asymmetry(heads, across, centre) + (0 if centre == 0.0 else 1e-4))


def _asymmetry(heads: np.ndarray, across: np.ndarray, centre: float) -> float:
    """(0 .. 1) how far the typical bone's mirror image is from any bone, in shares of the rig's size."""
    size = max(float(np.ptp(heads, axis=0).max()), 1e-9)
    some = heads[:: max(1, len(heads) // 200)]
    mirrored = some - 2 * ((some @ across) - centre)[:, None] * across
    gaps = np.linalg.norm(mirrored[:, None] - heads[None], axis=-1).min(axis=1) / size
    spread = float(np.std(heads @ across)) / size
    # A plane that everything lies in mirrors it too, but no body lies in a plane seen from the front.
    return float(np.minimum(gaps, 0.1).mean()) + max(0.0, 0.05 - spread)


def _paired_direction(rest: RestPose, bones: list[int]) -> np.ndarray | None:
    """(3,) the direction between siblings that carry equally many bones: across the body, however it is turned."""
    children: dict[int, list[int]] = {}
    below = np.ones(len(rest), dtype=int)
    for bone in reversed(range(len(rest))):
        if rest.parents[bone] >= 0:
            below[rest.parents[bone]] += below[bone]
    for bone in bones:
        children.setdefault(rest.parents[bone], []).append(bone)
    spread = np.zeros((3, 3))
    for siblings in children.values():
        for place, one in enumerate(siblings):
            for other in siblings[place + 1 :]:
                if below[one] == below[other] > 2 and len(siblings) <= 8:
                    apart = rest.heads[one] - rest.heads[other]
                    spread += below[one] * np.outer(apart, apart)
    if np.trace(spread) < 1e-12:
        return None
    return np.linalg.eigh(spread)[1][:, -1]
