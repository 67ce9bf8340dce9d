"""Made-up rigs of every family people bring: its names and its hierarchy on one plain body, without Blender."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from keylift.core.segments import T_POSE_M
from keylift.core.skeletons import LANDMARKS_41
from keylift.rig_mapping.rest_pose import RestPose

RIG_FOLDER = Path(__file__).parent / "rigs"
# World (z up) from T-pose axes for someone who faces -y.
_WORLD_FROM_BODY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
ARMS_BELOW_LEVEL_DEG = {"t": 0.0, "a": 45.0, "down": 82.0}
Row = tuple[str, "str | None", np.ndarray, np.ndarray]


def body_joints(arms: str = "t") -> dict[str, np.ndarray]:
    """Landmark -> (3,) metres of a person who stands on the floor and faces -y."""
    lifted = T_POSE_M - [0.0, T_POSE_M[:, 1].min(), 0.0]
    at = {name: _WORLD_FROM_BODY @ point for name, point in zip(LANDMARKS_41.names, lifted, strict=True)}
    angle = np.radians(ARMS_BELOW_LEVEL_DEG[arms])
    for side, sign in (("l", 1.0), ("r", -1.0)):
        turn = np.array(
            [
                [np.cos(angle), 0.0, sign * np.sin(angle)],
                [0.0, 1.0, 0.0],
                [-sign * np.sin(angle), 0.0, np.cos(angle)],
            ]
        )
        shoulder = at[f"{side}_shoulder"].copy()
        for name in ("elbow", "wrist", "knuckle", "fingertip", "thumb"):
            at[f"{side}_{name}"] = shoulder + turn @ (at[f"{side}_{name}"] - shoulder)
    return at


@dataclass(frozen=True)
class Family:
    """What the bones of a family are called, left side given. Words are bones; "+" joins those of one segment.

    hips, trunk, neck: from the lowest up; ``head``: the head
    arm:       collar, upper arm, forearm, hand; "-" where there is none
    leg:       thigh, shank, foot, toes
    mirror:    what to put for what, to get from left to right
    root:      a bone on the floor that carries all
    legs_from: which bone the legs hang from, when not from the last of the hips
    socket:    a bone in the middle that carries the thigh
    beside:    bone -> the bone of its limb that it hangs beside of, as twist bones do
    """

    hips: str
    trunk: str
    neck: str
    head: str
    arm: str
    leg: str
    mirror: tuple[str, str]
    root: str | None = None
    legs_from: str | None = None
    socket: str | None = None
    beside: dict[str, str] = field(default_factory=dict)

    def right(self, name: str) -> str:
        """The name of the bone on the other side."""
        return re.sub(*self.mirror, name)


_UNREAL_ARM = "clavicle_l upperarm_l lowerarm_l hand_l"
_UNREAL_LEG = "thigh_l calf_l foot_l ball_l"
_MIXAMO_ARM = "LeftShoulder LeftArm LeftForeArm LeftHand"
_MIXAMO_LEG = "LeftUpLeg LeftLeg LeftFoot LeftToeBase"
# Preset -> its family.
FAMILIES = {
    "rigify_metarig": Family(
        "spine",
        "spine.001 spine.002 spine.003",
        "spine.004 spine.005",
        "spine.006",
        "shoulder.L upper_arm.L forearm.L hand.L",
        "thigh.L shin.L foot.L toe.L",
        (r"\.L$", ".R"),
    ),
    "rigify_def": Family(
        "DEF-spine",
        "DEF-spine.001 DEF-spine.002 DEF-spine.003",
        "DEF-spine.004 DEF-spine.005",
        "DEF-spine.006",
        "DEF-shoulder.L DEF-upper_arm.L+DEF-upper_arm.L.001 DEF-forearm.L+DEF-forearm.L.001 DEF-hand.L",
        "DEF-thigh.L+DEF-thigh.L.001 DEF-shin.L+DEF-shin.L.001 DEF-foot.L DEF-toe.L",
        (r"\.L\b", ".R"),
        root="root",
    ),
    "mixamo": Family(
        "mixamorig:Hips",
        "mixamorig:Spine mixamorig:Spine1 mixamorig:Spine2",
        "mixamorig:Neck",
        "mixamorig:Head",
        re.sub("Left", "mixamorig:Left", _MIXAMO_ARM),
        re.sub("Left", "mixamorig:Left", _MIXAMO_LEG),
        ("Left", "Right"),
    ),
    "game_engine": Family(
        "pelvis",
        "spine_01 spine_02 spine_03",
        "neck_01",
        "head",
        _UNREAL_ARM,
        _UNREAL_LEG,
        ("_l$", "_r"),
        root="root",
        beside={
            "upperarm_twist_01_l": "upperarm_l",
            "lowerarm_twist_01_l": "lowerarm_l",
            "thigh_twist_01_l": "thigh_l",
        },
    ),
    "unreal_5": Family(
        "pelvis",
        "spine_01 spine_02 spine_03 spine_04 spine_05",
        "neck_01 neck_02",
        "head",
        _UNREAL_ARM,
        _UNREAL_LEG,
        ("_l$", "_r"),
        root="root",
        beside={"lowerarm_twist_02_l": "lowerarm_l", "lowerarm_twist_01_l": "lowerarm_l", "calf_twist_01_l": "calf_l"},
    ),
    "mpfb_default": Family(
        "root",
        "spine05 spine04 spine03 spine02 spine01",
        "neck01 neck02 neck03",
        "head",
        "clavicle.L+shoulder01.L upperarm01.L+upperarm02.L lowerarm01.L+lowerarm02.L wrist.L",
        "upperleg01.L+upperleg02.L lowerleg01.L+lowerleg02.L foot.L toe1-1.L",
        (r"\.L$", ".R"),
        socket="pelvis.L",
    ),
    "auto_rig_pro_control": Family(
        "c_root_master.x",
        "c_spine_01.x c_spine_02.x",
        "c_neck.x",
        "c_head.x",
        "c_shoulder.l c_arm_fk.l c_forearm_fk.l c_hand_fk.l",
        "c_thigh_fk.l c_leg_fk.l c_foot_fk.l c_toes_fk.l",
        (r"\.l$", ".r"),
        root="c_traj",
    ),
    "auto_rig_pro": Family(
        "root.x",
        "spine_01.x spine_02.x spine_03.x",
        "neck.x",
        "head.x",
        "shoulder.l arm_stretch.l forearm_stretch.l hand.l",
        "thigh_stretch.l leg_stretch.l foot.l toes_01.l",
        (r"\.l$", ".r"),
        beside={"arm_twist.l": "arm_stretch.l", "forearm_twist.l": "forearm_stretch.l"},
    ),
    "cmu_mb": Family(
        "Hips",
        "LowerBack Spine Spine1",
        "Neck Neck1",
        "Head",
        _MIXAMO_ARM,
        _MIXAMO_LEG,
        ("^L(?:eft)?", lambda found: {"L": "R", "Left": "Right"}[found[0]]),  # type: ignore[arg-type]
        socket="LHipJoint",
    ),
    "daz_bvh": Family(
        "hip", "abdomen chest", "neck", "head", "lCollar lShldr lForeArm lHand", "lThigh lShin lFoot -", ("^l", "r")
    ),
    "daz_genesis_8": Family(
        "hip pelvis",
        "abdomenLower abdomenUpper chestLower chestUpper",
        "neckLower neckUpper",
        "head",
        "lCollar lShldrBend+lShldrTwist lForearmBend+lForearmTwist lHand",
        "lThighBend+lThighTwist lShin lFoot lToe",
        ("^l", "r"),
    ),
    "daz_genesis_9": Family(
        "hip pelvis",
        "spine1 spine2 spine3 spine4",
        "neck1 neck2",
        "head",
        "l_shoulder l_upperarm l_forearm l_hand",
        "l_thigh l_shin l_foot l_toes",
        ("^l_", "r_"),
        beside={"l_upperarmtwist1": "l_upperarm", "l_forearmtwist1": "l_forearm", "l_thightwist1": "l_thigh"},
    ),
    "character_creator": Family(
        "CC_Base_Hip CC_Base_Pelvis",
        "CC_Base_Waist CC_Base_Spine01 CC_Base_Spine02",
        "CC_Base_NeckTwist01 CC_Base_NeckTwist02",
        "CC_Base_Head",
        "CC_Base_L_Clavicle CC_Base_L_Upperarm CC_Base_L_Forearm CC_Base_L_Hand",
        "CC_Base_L_Thigh CC_Base_L_Calf CC_Base_L_Foot CC_Base_L_ToeBase",
        ("_L_", "_R_"),
        root="RL_BoneRoot",
        beside={"CC_Base_L_UpperarmTwist01": "CC_Base_L_Upperarm", "CC_Base_L_CalfTwist01": "CC_Base_L_Calf"},
    ),
    "vrm": Family(
        "J_Bip_C_Hips",
        "J_Bip_C_Spine J_Bip_C_Chest J_Bip_C_UpperChest",
        "J_Bip_C_Neck",
        "J_Bip_C_Head",
        "J_Bip_L_Shoulder J_Bip_L_UpperArm J_Bip_L_LowerArm J_Bip_L_Hand",
        "J_Bip_L_UpperLeg J_Bip_L_LowerLeg J_Bip_L_Foot J_Bip_L_ToeBase",
        ("_L_", "_R_"),
        root="Root",
    ),
    "unity_humanoid": Family(
        "Hips",
        "Spine Chest UpperChest",
        "Neck",
        "Head",
        "LeftShoulder LeftUpperArm LeftLowerArm LeftHand",
        "LeftUpperLeg LeftLowerLeg LeftFoot LeftToes",
        ("Left", "Right"),
    ),
    "smpl": Family(
        "pelvis",
        "spine1 spine2 spine3",
        "neck",
        "head",
        "left_collar left_shoulder left_elbow left_wrist",
        "left_hip left_knee left_ankle left_foot",
        ("left", "right"),
    ),
    "biped": Family(
        "Bip01 Pelvis",
        "Bip01 Spine;Bip01 Spine1;Bip01 Spine2",
        "Bip01 Neck",
        "Bip01 Head",
        "Bip01 L Clavicle;Bip01 L UpperArm;Bip01 L Forearm;Bip01 L Hand",
        "Bip01 L Thigh;Bip01 L Calf;Bip01 L Foot;Bip01 L Toe0",
        (" L ", " R "),
        root="Bip01",
        beside={"Bip01 L ForeTwist": "Bip01 L Forearm"},
    ),
    "advanced_skeleton": Family(
        "Root_M",
        "Spine1_M Spine2_M Chest_M",
        "Neck_M",
        "Head_M",
        "Scapula_L Shoulder_L+ShoulderPart1_L Elbow_L+ElbowPart1_L Wrist_L",
        "Hip_L+HipPart1_L Knee_L Ankle_L Toes_L",
        ("_L$", "_R"),
    ),
    "mhr": Family(
        "root",
        "c_spine0 c_spine1 c_spine2 c_spine3",
        "c_neck",
        "c_head",
        "l_clavicle l_uparm l_lowarm l_wrist",
        "l_upleg l_lowleg l_foot l_ball",
        ("^l_", "r_"),
        root="body_world",
    ),
}


def _words(text: str) -> list[str]:
    """Bones in a row. Names with spaces stand between semicolons."""
    spaced = ";" in text or text.startswith("Bip")
    return text.split(";") if spaced else text.split()


def family_limbs(family: Family) -> dict[str, tuple[str, ...]]:
    """Segment -> bones of arms, legs and head: what a mapping must find exactly."""
    limbs: dict[str, tuple[str, ...]] = {"head": (family.head,)}
    for parts, text in (
        (("clavicle", "upperarm", "forearm", "hand"), family.arm),
        (("thigh", "shank", "foot", "toes"), family.leg),
    ):
        for part, bones in zip(parts, _words(text), strict=True):
            if bones != "-":
                chain = tuple(bones.split("+"))
                limbs[f"l_{part}"] = chain
                limbs[f"r_{part}"] = tuple(family.right(bone) for bone in chain)
    return limbs


def family_trunk(family: Family) -> set[str]:
    """The bones that hips, spine, chest and neck share among them."""
    return {bone for text in (family.hips, family.trunk, family.neck) for bone in _words(text)}


def family_rows(family: Family, arms: str = "t", fingers: bool = True) -> list[Row]:
    """The rig as rows of bone, parent, head, tail; fingers and ends of chains besides."""
    at = body_joints(arms)
    rows: list[Row] = []

    def chain(names: Sequence[str], parent: str | None, begin: np.ndarray, end: np.ndarray) -> str:
        """Bones of equal length from one point to another, each carrying the next; return the last."""
        for place, name in enumerate(names):
            head = begin + (end - begin) * place / len(names)
            tail = begin + (end - begin) * (place + 1) / len(names)
            rows.append((name, parent, head, tail))
            parent = name
        return names[-1]

    parent: str | None = None
    if family.root:
        parent = chain([family.root], None, np.zeros(3), np.array([0.0, -0.2, 0.0]))
    hips_line = _words(family.hips)
    low = at["pelvis"] + [0.0, 0.02, 0.02]
    # Bones of the hips lie on each other: the last carries the legs, the first the trunk.
    for name in hips_line:
        rows.append((name, parent, low, low + [0.0, 0.0, 0.1]))
        parent = name
    neck_base = at["neck"]
    trunk_top = chain(_words(family.trunk), hips_line[0], at["pelvis"] + [0.0, 0.02, 0.08], neck_base)
    neck_top = chain(_words(family.neck), trunk_top, neck_base, at["head"])
    chain([family.head], neck_top, at["head"], at["head_top"] + [0.0, 0.0, 0.08])
    rows.append((f"{family.head}_end", family.head, at["head_top"] + [0.0, 0.0, 0.08], at["head_top"] + [0, 0, 0.1]))
    for side in "lr":
        _limbs(family, side, at, rows, chain, trunk_top, family.legs_from or hips_line[-1], fingers)
    return rows


def _limbs(
    family: Family,
    side: str,
    at: dict[str, np.ndarray],
    rows: list[Row],
    chain: Callable[[Sequence[str], str | None, np.ndarray, np.ndarray], str],
    trunk_top: str,
    legs_from: str,
    fingers: bool,
) -> None:
    def named(bones: str) -> list[str]:
        return [family.right(bone) if side == "r" else bone for bone in bones.split("+")]

    collar, upper, fore, hand = _words(family.arm)
    parent = trunk_top
    if collar != "-":
        parent = chain(named(collar), parent, at[f"{side}_clavicle"], at[f"{side}_shoulder"])
    parent = chain(named(upper), parent, at[f"{side}_shoulder"], at[f"{side}_elbow"])
    parent = chain(named(fore), parent, at[f"{side}_elbow"], at[f"{side}_wrist"])
    if hand != "-":
        hand_bone = chain(named(hand), parent, at[f"{side}_wrist"], at[f"{side}_knuckle"])
        if fingers:
            _fingers(hand_bone, side, at, chain)
    thigh, shank, foot, toes = _words(family.leg)
    parent = legs_from
    if family.socket:
        parent = chain(named(family.socket), parent, at["pelvis"] + [0.0, 0.01, 0.01], at[f"{side}_hip"])
    parent = chain(named(thigh), parent, at[f"{side}_hip"], at[f"{side}_knee"])
    parent = chain(named(shank), parent, at[f"{side}_knee"], at[f"{side}_ankle"])
    parent = chain(named(foot), parent, at[f"{side}_ankle"], at[f"{side}_toe_base"])
    if toes != "-":
        parent = chain(named(toes), parent, at[f"{side}_toe_base"], at[f"{side}_toe_tip"])
    rows.append((f"{parent}_end", parent, at[f"{side}_toe_tip"], at[f"{side}_toe_tip"] + [0.0, -0.02, 0.0]))
    limb_end = {row[0]: row for row in rows}
    for beside, limb in family.beside.items():
        (name,), (carrier,) = named(beside), named(limb)
        _, _, begin, end = limb_end[carrier]
        rows.append((name, carrier, begin + 0.5 * (end - begin), begin + 0.7 * (end - begin)))


def _fingers(
    hand: str,
    side: str,
    at: dict[str, np.ndarray],
    chain: Callable[[Sequence[str], str | None, np.ndarray, np.ndarray], str],
) -> None:
    along = at[f"{side}_fingertip"] - at[f"{side}_knuckle"]
    for place, finger in enumerate(("Index", "Middle", "Ring", "Pinky")):
        aside = np.array([0.0, 0.02 * (place - 1.5), 0.0])
        begin = at[f"{side}_knuckle"] + aside
        chain([f"{hand}{finger}{joint}" for joint in (1, 2, 3)], hand, begin, begin + along * 1.2)
    begin = at[f"{side}_wrist"] + 0.3 * (at[f"{side}_thumb"] - at[f"{side}_wrist"])
    chain([f"{hand}Thumb{joint}" for joint in (1, 2, 3)], hand, begin, at[f"{side}_thumb"])


def rest_from_rows(
    name: str,
    rows: Sequence[Sequence[Any]],
    deform: Callable[[str], bool] = lambda bone: True,
    world_from_armature: np.ndarray | None = None,
) -> RestPose:
    """Rows of bone, parent, head, tail (and more, which is passed over) as a rest pose; parents are put first."""
    waiting, ordered, known = list(rows), [], {""}
    while waiting:
        ready = [row for row in waiting if (row[1] or "") in known]
        assert ready, "a parent is missing"
        ordered += ready
        known |= {row[0] for row in ready}
        waiting = [row for row in waiting if row[0] not in known]
    heads = np.array([row[2] for row in ordered], dtype=float)
    along = np.array([row[3] for row in ordered], dtype=float) - heads
    lengths = np.linalg.norm(along, axis=1)
    matrices = np.tile(np.eye(4), (len(ordered), 1, 1))
    for bone, (direction, length) in enumerate(zip(along, lengths, strict=True)):
        y = direction / length
        x = np.cross(y, np.eye(3)[int(np.argmin(np.abs(y)))])
        x /= np.linalg.norm(x)
        matrices[bone, :3, :3] = np.stack([x, y, np.cross(x, y)], axis=1)
        matrices[bone, :3, 3] = heads[bone]
    place = {row[0]: index for index, row in enumerate(ordered)}
    bones = len(ordered)
    return RestPose(
        name=name,
        names=tuple(row[0] for row in ordered),
        parents=tuple(place[row[1]] if row[1] else -1 for row in ordered),
        armature_from_bone=matrices,
        lengths=lengths,
        rotation_modes=("QUATERNION",) * bones,
        inherit_rotation=np.ones(bones, bool),
        local_location=np.ones(bones, bool),
        locks=np.zeros((bones, 3), bool),
        use_connect=np.zeros(bones, bool),
        basis=np.tile(np.eye(4), (bones, 1, 1)),
        world_from_armature=np.eye(4) if world_from_armature is None else world_from_armature,
        use_deform=np.array([deform(row[0]) for row in ordered]),
    )


def family_rig(preset: str, arms: str = "t", fingers: bool = True) -> RestPose:
    """A made-up rig of a family."""
    return rest_from_rows(preset, family_rows(FAMILIES[preset], arms, fingers))


def real_rig(name: str) -> RestPose:
    """One of the rigs in ``tests/rigs``."""
    return rest_from_rows(name, json.loads((RIG_FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def _arrays_of(rest: RestPose, picked: np.ndarray) -> dict[str, np.ndarray]:
    """What a rest pose has for each bone, for the picked ones."""
    arrays = {described.name: getattr(rest, described.name) for described in fields(rest)}
    return {
        name: array[picked]
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and name != "world_from_armature"
    }


def nameless(rest: RestPose, seed: int = 0) -> tuple[RestPose, dict[str, str]]:
    """The rig with its bones in another order and without meaningful names, and new name -> old name."""
    rng = np.random.default_rng(seed)
    depth = [len(rest.ancestors(bone)) for bone in range(len(rest))]
    order = sorted(range(len(rest)), key=lambda bone: (depth[bone], rng.random()))
    new = [f"b{number}" for number in rng.permutation(len(rest))]
    place = {old: index for index, old in enumerate(order)}
    picked = np.array(order)
    rows = _arrays_of(rest, picked)
    shuffled = replace(
        rest,
        names=tuple(new),
        parents=tuple(place[rest.parents[old]] if rest.parents[old] >= 0 else -1 for old in order),
        rotation_modes=tuple(rest.rotation_modes[old] for old in order),
        **rows,
    )
    return shuffled, {new[index]: rest.names[old] for index, old in enumerate(order)}


def renamed(rest: RestPose, new_name: Callable[[str], str]) -> RestPose:
    """The same rig, its bones called otherwise."""
    return replace(rest, names=tuple(new_name(name) for name in rest.names))


def without_bones(rest: RestPose, gone: Callable[[str], bool]) -> RestPose:
    """The rig without some bones and all that hangs below only them; what is left moves up to the next bone above."""
    kept = [bone for bone, name in enumerate(rest.names) if not gone(name)]
    place = {old: new for new, old in enumerate(kept)}
    picked = np.array(kept)

    def above(bone: int) -> int:
        return next((place[line] for line in rest.ancestors(bone)[1:] if line in place), -1)

    rows = _arrays_of(rest, picked)
    return replace(
        rest,
        names=tuple(rest.names[bone] for bone in kept),
        parents=tuple(above(bone) for bone in kept),
        rotation_modes=tuple(rest.rotation_modes[bone] for bone in kept),
        **rows,
    )
