"""Which bone of a rig is which part of a body: by the names of a known family, by its anatomy, or by both together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ..core.errors import RigError
from ..core.segments import SEGMENT_NAMES, SEGMENTS
from .anatomy import Anatomy, find_body
from .bone_map import BoneMap, bone_maps, shipped_names, unreadable_maps
from .rest_pose import RestPose
from .rig_body import NEEDED_SEGMENTS, rig_body, titles

_SAME_NAME, _OTHER_SPELLING = 1.0, 0.9
# A family of which less than this is there says nothing about the rest of the rig.
_HALF_KNOWN = 0.5
# Two readings of a rig agree when they give this share of the segments that both know the same first bone.
_AGREEMENT = 0.75
# No person's upper arm or thigh is this many times as long as what follows it, or the other way round.
_ODD_PROPORTION = 3.0
_ODD_SIDES = 1.5
_HINGED = (("upperarm", "forearm"), ("thigh", "shank"))
_PARENT_SEGMENT = {segment.name: segment.parent for segment in SEGMENTS}
_WITHOUT = {
    "spine": "the trunk bends at the chest alone",
    "chest": "the trunk above the hips turns as one",
    "neck": "the head turns on the chest",
    "head": "the head does not turn by itself",
    "clavicle": "the shoulder stays where the chest carries it",
    "hand": "the hand turns as the forearm does",
    "toes": "the foot turns as one",
}


@dataclass(frozen=True)
class BoneMatch:
    """One bone and the segment that it was given to. ``score``: 0 to 1; ``reason``: why, for a person to read."""

    segment: str
    bone: str
    score: float
    reason: str


@dataclass(frozen=True, eq=False)
class RigMapping:
    """What was made of a rig.

    bone_map: bound to the rig
    family:   title of the family that the rig is of
    matches:  each bone of ``bone_map.bones``, in the order of ``SEGMENT_NAMES``
    problems: what is wrong or missing, and what to do about it
    fits:     False for a given map that makes no body of the rig; the first of the problems says why
    """

    bone_map: BoneMap
    family: str
    matches: tuple[BoneMatch, ...]
    problems: tuple[str, ...]
    fits: bool = True

    @property
    def score(self) -> float:
        """How sure the whole is, 0 to 1."""
        return float(np.mean([match.score for match in self.matches])) if self.matches else 0.0


def recognise(rest: RestPose) -> BoneMap:
    """The bone map of the rig, bound to its own names.

    Raises RigError that says what was not found when the rig is no body that can be animated.
    """
    return map_rig(rest).bone_map


def map_rig(rest: RestPose, bone_map: BoneMap | None = None) -> RigMapping:
    """Map ``rest``, or say how ``bone_map`` fits it.

    A known family is told by the names of its bones and checked by how they hang together. What its names leave open,
    and rigs of no known family, are read by their anatomy.

    Raises RigError when nothing was found that makes a body, or a user's own map names bones that are not there. A
    given map that does not fit otherwise is no error: its problems say so.
    """
    if bone_map is not None:
        return _given(rest, bone_map)
    known = sorted((_Candidate(rest, preset) for preset in bone_maps()), key=lambda known: known.fit, reverse=True)
    misfit: RigError | None = None
    for candidate in known:
        if candidate.is_whole:
            try:
                check_fit(rest, candidate.bound)
            except RigError as problem:
                misfit = misfit or problem
            else:
                return _completed(rest, candidate)
    try:
        found = find_body(rest)
    except RigError as problem:
        raise misfit or _nothing_found(rest, known[0], problem) from problem
    nearest = known[0]
    if nearest.share >= _HALF_KNOWN and not nearest.is_whole and _agree(nearest.bound, found.bone_map):
        merged = _merged(rest, nearest.bound, found, list(SEGMENT_NAMES))
        if merged is not None:
            return _mapping(rest, nearest.preset, merged, f"{nearest.preset.title}, in part told by its anatomy", found)
    return _mapping(rest, None, found.bone_map, found.bone_map.title, found)


def check_fit(rest: RestPose, bone_map: BoneMap) -> None:
    """Raise RigError when the map makes no body of the rig.

    The controls of a control rig follow each other by constraints, so what hangs below what says nothing there.
    """
    bound = bone_map.bound_to(rest)
    if bound.controls is None:
        rig_body(rest, bound)
    else:
        rig_body(_following(rest, bound), replace(bound, twist={}, root=None, controls=None, is_preset=True))


def _following(rest: RestPose, bound: BoneMap) -> RestPose:
    """The mapped controls alone, each carried by the one that a body would have it follow."""
    names: list[str] = []
    parents: list[int] = []
    last: dict[str, int] = {}
    for segment in SEGMENTS:
        above: str | None = segment.parent
        while above is not None and above not in last:
            above = _PARENT_SEGMENT[above]
        carrier = last[above] if above is not None else -1
        for bone in bound.bones.get(segment.name, ()):
            parents.append(carrier)
            names.append(bone)
            # Toes may be side by side; all other bones of a segment carry each other.
            carrier = carrier if segment.name.endswith("toes") else len(names) - 1
            last[segment.name] = len(names) - 1
    picked = [rest.names.index(name) for name in names]
    return replace(
        rest,
        names=tuple(names),
        parents=tuple(parents),
        rotation_modes=tuple(rest.rotation_modes[bone] for bone in picked),
        **_arrays_of(rest, picked),
    )


def _arrays_of(rest: RestPose, picked: list[int]) -> dict[str, Any]:
    """What a rest pose has for each bone, for some of them."""
    arrays = {described.name: getattr(rest, described.name) for described in fields(rest)}
    return {
        name: array[picked]
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and name != "world_from_armature"
    }


class _Candidate:
    """A preset, and what of it the rig has."""

    def __init__(self, rest: RestPose, preset: BoneMap) -> None:
        self.preset = preset
        self.bound = preset.bound_to(rest)
        self.is_whole = all(segment in self.bound.bones for segment in NEEDED_SEGMENTS)
        self.share = len(self.bound.bones) / len(preset.bones)
        names = set(rest.names)
        wanted = [bone for chain in preset.bones.values() for bone in chain]
        beside = [bone for chain in self.bound.twist.values() for bone in chain]
        bones = sum(len(chain) for chain in self.bound.bones.values())
        self.fit = (
            # All that can be had first; then the controls of a rig that has both controls and deforming bones.
            self.is_whole,
            len(self.bound.bones),
            self.bound.controls is not None and bool(self.bound.controls.switches),
            bones + len(beside),
            bones / len(wanted),
            sum(bone in names for bone in wanted),
            preset.name not in shipped_names(),
        )


def _nothing_found(rest: RestPose, nearest: _Candidate, problem: RigError) -> RigError:
    missing = [segment for segment in NEEDED_SEGMENTS if segment not in nearest.bound.bones]
    if len(missing) >= len(NEEDED_SEGMENTS) - 1:
        return problem
    return RigError(
        f"No bone map fits the armature '{rest.name}'. It is most like '{nearest.preset.name}' but has no bone for: "
        f"{titles(*missing) if missing else 'a whole body'}. "
        "Write a bone map for it and give it with --map FILE (see docs/file-formats.md)."
    )


def _given(rest: RestPose, bone_map: BoneMap) -> RigMapping:
    bound = bone_map.bound_to(rest)
    mapping = _mapping(rest, bone_map, bound, bone_map.title, None)
    try:
        check_fit(rest, bound)
    except RigError as problem:
        return replace(mapping, problems=(str(problem), *mapping.problems), fits=False)
    return mapping


def _completed(rest: RestPose, known: _Candidate) -> RigMapping:
    """The family's own bones, and bones of the parts that its names left open."""
    bound = known.bound
    open_segments = [segment for segment in SEGMENT_NAMES if segment not in bound.bones]
    # What a control rig leaves open has no control; the bones below are not for keys.
    if open_segments and bound.controls is None:
        try:
            found = find_body(rest)
        except RigError:
            return _mapping(rest, known.preset, bound, known.preset.title, None)
        if _agree(bound, found.bone_map):
            merged = _merged(rest, bound, found, open_segments)
            if merged is not None:
                return _mapping(rest, known.preset, merged, known.preset.title, found)
    return _mapping(rest, known.preset, bound, known.preset.title, None)


def _agree(one: BoneMap, other: BoneMap) -> bool:
    shared = [segment for segment in one.bones if segment in other.bones and segment in NEEDED_SEGMENTS]
    same = sum(bool(set(one.bones[segment]) & set(other.bones[segment])) for segment in shared)
    return bool(shared) and same >= _AGREEMENT * len(shared)


def _merged(rest: RestPose, named: BoneMap, found: Anatomy, segments: list[str]) -> BoneMap | None:
    """``named`` with bones of ``found`` where it has none; None when the two make no body together."""
    used = {bone for chains in (named.bones, named.twist) for chain in chains.values() for bone in chain}
    bones = dict(named.bones)
    for segment in segments:
        chain = found.bone_map.bones.get(segment, ())
        if segment not in bones and chain and not used & set(chain):
            bones[segment] = chain
            used |= set(chain)
    twist = {
        segment: tuple(bone for bone in chain if bone not in used)
        for segment, chain in (found.bone_map.twist | named.twist).items()
    }
    twist = {segment: chain for segment, chain in twist.items() if chain} | named.twist
    merged = replace(named, bones=bones, twist=twist, root=named.root or found.bone_map.root)
    try:
        rig_body(rest, merged)
    except RigError:
        return None
    return merged


def _mapping(rest: RestPose, named: BoneMap | None, bound: BoneMap, family: str, found: Anatomy | None) -> RigMapping:
    """What is to be told of ``bound``, whose bones were told by the names of ``named`` or else by ``found``."""
    by_name = named.bound_to(rest).bones if named is not None else {}
    matches = tuple(
        match
        for segment in SEGMENT_NAMES
        if segment in bound.bones
        for match in (
            _matches_by_name(segment, named, bound.bones[segment])
            if named is not None and segment in by_name
            else _matches_by_place(segment, found, bound.bones[segment])
        )
    )
    problems = [*_missing(bound), *_odd(rest, bound)]
    if found is not None and named is None:
        problems = [*found.problems, *_controls_beside(rest, bound), *problems]
    return RigMapping(bound, family, matches, (*problems, *unreadable_maps()))


def _matches_by_place(segment: str, found: Anatomy | None, chain: tuple[str, ...]) -> list[BoneMatch]:
    if found is None:
        return [BoneMatch(segment, bone, 0.0, "nothing speaks for it") for bone in chain]
    finding = found.findings[segment]
    return [
        BoneMatch(segment, bone, finding.score, finding.reason if place == 0 else f"carries on from '{chain[0]}'")
        for place, bone in enumerate(chain)
    ]


def _matches_by_name(segment: str, named: BoneMap, chain: tuple[str, ...]) -> list[BoneMatch]:
    return [_match_by_name(segment, bone, named.bones[segment], named) for bone in chain]


def _match_by_name(segment: str, bone: str, wanted: tuple[str, ...], named: BoneMap) -> BoneMatch:
    if not named.is_preset:
        return BoneMatch(segment, bone, _SAME_NAME, f"the bone map '{named.name}' says so")
    if bone in wanted:
        return BoneMatch(segment, bone, _SAME_NAME, f"named as in '{named.title}'")
    return BoneMatch(segment, bone, _OTHER_SPELLING, f"named as in '{named.title}', spelled differently")


def _missing(bound: BoneMap) -> list[str]:
    texts = []
    for segment in SEGMENT_NAMES:
        if segment in bound.bones or segment in NEEDED_SEGMENTS:
            continue
        part = segment.partition("_")[2] or segment
        verb = "have" if part == "toes" else "has"
        texts.append(
            f"The {titles(segment)} {verb} no bone: {_WITHOUT[part]}. "
            f"Name it under '{segment}' in a bone map if there is one."
        )
    return texts


def _odd(rest: RestPose, bound: BoneMap) -> list[str]:
    """Parts of unlike length, and sides of unlike build: signs that a bone is in the wrong place."""
    place = {name: bone for bone, name in enumerate(rest.names)}
    lengths: dict[str, float] = {}
    for side in "lr":
        for limb in (("upperarm", "forearm", "hand"), ("thigh", "shank", "foot")):
            parts = [f"{side}_{part}" for part in limb if f"{side}_{part}" in bound.bones]
            heads = [rest.heads[place[bound.bones[part][0]]] for part in parts]
            for part, begin, end in zip(parts, heads, heads[1:], strict=False):
                lengths[part] = float(np.linalg.norm(end - begin))
    texts = []
    for part, other, ratio in (
        *((f"{side}_{upper}", f"{side}_{lower}", _ODD_PROPORTION) for side in "lr" for upper, lower in _HINGED),
        *((f"l_{part}", f"r_{part}", _ODD_SIDES) for pair in _HINGED for part in pair),
    ):
        if part in lengths and other in lengths:
            longer, shorter = sorted((lengths[part], lengths[other]), reverse=True)
            if shorter * ratio < longer:
                texts.append(
                    f"The {titles(part)} and the {titles(other)} are of very unlike length. See whether "
                    f"'{bound.bones[part][0]}' and '{bound.bones[other][0]}' begin where these parts do, and name the "
                    "right bones in a bone map if not."
                )
    for segment in SEGMENT_NAMES:
        other = f"r_{segment[2:]}"
        if segment.startswith("l_") and segment in bound.bones and other in bound.bones:
            counts = len(bound.bones[segment]), len(bound.bones[other])
            if counts[0] != counts[1]:
                texts.append(
                    f"The {titles(segment)} has {counts[0]} bones and the {titles(other)} {counts[1]}. "
                    "Give both the same in a bone map."
                )
    return texts


def _controls_beside(rest: RestPose, bound: BoneMap) -> list[str]:
    """A rig of no known family that deforms with some bones only is likely moved by the others."""
    if rest.use_deform.all():
        return []
    place = {name: bone for bone, name in enumerate(rest.names)}
    mapped = [place[bone] for chain in bound.bones.values() for bone in chain]
    if not rest.use_deform[mapped].mean() > _HALF_KNOWN:
        return []
    return [
        f"{int((~rest.use_deform).sum())} bones of the rig deform nothing and may be its controls. If the mapped bones "
        "don't turn when they are keyed, name the controls in a bone map instead."
    ]
