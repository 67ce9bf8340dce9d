"""Rigs made of numbers alone, with as many bones as one likes: what speed is measured on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..core.segments import SEGMENT_NAMES, T_POSE_M
from ..core.skeletons import LANDMARKS_41
from .bone_map import BoneMap, load_bone_map
from .own_skeleton import own_skeleton
from .rest_pose import RestPose
from .synthetic_walk import synthetic_walk

# How many bones in line each part of the body has, and how many twist bones beside them; parts left out have one.
_IN_LINE_60 = {"spine": 4, "chest": 3, "neck": 3, "clavicle": 2, "upperarm": 4, "forearm": 4, "hand": 2}
_IN_LINE_60 |= {"thigh": 4, "shank": 4}
_TWIST_60 = {"upperarm": 1, "forearm": 1}
_MIXAMO_CHEST = ("Spine1", "Spine2")


def rig_of_60_bones(mode: str = "QUATERNION") -> tuple[RestPose, BoneMap]:
    """Spine, neck and limbs of several bones in line, twist bones, and the map by which all 60 are keyed.

    mode: rotation mode of all bones
    """
    return _many_boned("Rig of 60 bones", _IN_LINE_60, _TWIST_60, mode)


def rig_of_22_bones(mode: str = "QUATERNION") -> tuple[RestPose, BoneMap]:
    """The 22 bones that a Mixamo character has without its fingers, and the shipped map for it."""
    rest, own_map = _many_boned("Mixamo-like rig", {"chest": 2}, {}, mode)
    renamed = dict(zip(own_map.bones["chest"], _MIXAMO_CHEST, strict=True))
    names = tuple(f"mixamorig:{renamed.get(name, name)}" for name in rest.names)
    return replace(rest, name="Mixamo-like rig", names=names), load_bone_map("mixamo")


def _many_boned(name: str, in_line: Mapping[str, int], twist: Mapping[str, int], mode: str) -> tuple[RestPose, BoneMap]:
    """A body in the T-pose; in_line, twist: part of the body without its side -> how many bones it gets."""
    whole, own_map = own_skeleton(synthetic_walk(2, _long_legged_m()))
    names: list[str] = []
    parents: list[int] = []
    matrices: list[np.ndarray] = []
    lengths: list[float] = []
    chains: dict[str, tuple[str, ...]] = {}
    twists: dict[str, tuple[str, ...]] = {}
    last_of: dict[int, int] = {-1: -1}

    def add(bone_name: str, parent: int, bone: int, along: float, length: float) -> None:
        matrix = whole.armature_from_bone[bone].copy()
        matrix[:3, 3] += matrix[:3, 1] * along
        names.append(bone_name)
        parents.append(parent)
        matrices.append(matrix)
        lengths.append(length)

    for bone, segment in enumerate(SEGMENT_NAMES):
        part = segment[2:] if segment[:2] in ("l_", "r_") else segment
        own, first = own_map.bones[segment][0], len(names)
        count, beside = in_line.get(part, 1), twist.get(part, 0)
        step = float(whole.lengths[bone]) / count
        for place in range(count):
            parent = last_of[whole.parents[bone]] if place == 0 else len(names) - 1
            add(own if place == 0 else f"{own}{place + 1}", parent, bone, place * step, step)
        last_of[bone] = len(names) - 1
        chains[segment] = tuple(names[first:])
        for number in range(beside):
            middle = float(whole.lengths[bone]) * (number + 1) / (beside + 1)
            add(f"{own}Twist{number + 1}", first, bone, middle, step)
        if beside:
            twists[segment] = tuple(names[-beside:])
    total = len(names)
    rest = RestPose(
        name=name,
        names=tuple(names),
        parents=tuple(parents),
        armature_from_bone=np.array(matrices),
        lengths=np.array(lengths),
        rotation_modes=(mode,) * total,
        inherit_rotation=np.ones(total, dtype=bool),
        local_location=np.ones(total, dtype=bool),
        locks=np.zeros((total, 3), dtype=bool),
        use_connect=np.zeros(total, dtype=bool),
        basis=np.tile(np.eye(4), (total, 1, 1)),
        world_from_armature=np.eye(4),
    )
    return rest, BoneMap(name, name, chains, twist=twists)


def _long_legged_m() -> np.ndarray:
    """(41, 3) the T-pose of somebody else than the walker: all larger, the thighs and forearms most."""
    longer = {"knee": 1.25, "wrist": 1.2, "ankle": 1.05}
    places = np.zeros_like(T_POSE_M)
    for joint, (name, parent) in enumerate(zip(LANDMARKS_41.names, LANDMARKS_41.parents, strict=True)):
        if parent >= 0:
            offset = T_POSE_M[joint] - T_POSE_M[parent]
            places[joint] = places[parent] + 1.1 * longer.get(name[2:], 1.0) * offset
    return places
