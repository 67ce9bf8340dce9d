"""From a person's pose to the turns of a rig's bones: one solve over all frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import RigError
from ..core.rotations import continuous, from_matrix, multiply, to_matrix
from ..core.segments import SEGMENT_NAMES, segments_from_joint_rotations
from ..core.skeletons import LANDMARKS_41
from ..core.tracks import PoseTrack
from .bone_map import BoneMap
from .bone_motion import BoneMotion, carried_rotation, fk, local_turn, location_axes
from .leg_reach import LegMotion, frames_of, hips_drop_m, reached
from .locked_channels import with_locks
from .loose_limbs import joined, parted
from .planted_feet import STANDS, FootMotion, planted, standing
from .rest_pose import RestPose
from .rig_body import RigBody, rig_body
from .turn_sharing import shared_turns

# Without any contact the floor is where the lowest sole of a frame is, in this part of the frames.
_LOWEST_SHARE = 0.05
_SOLE_LANDMARKS = ("heel", "toe_base")
_FORWARD = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True)
class RetargetOptions:
    """What an animator may choose.

    path:       "keep" walks through the room, "in_place" stays where it is and only goes up and down
    path_on:    "hips" carry the path, or the rig's "root" bone does, with the hips moving about it
    plant_feet: solve the legs so that feet that stand stay put on this rig's proportions
    limbs:      for control rigs: "fk" keys the FK controls, "ik" hands, feet and poles; other rigs have one kind only
    """

    path: str = "keep"
    path_on: str = "hips"
    plant_feet: bool = True
    limbs: str = "fk"

    def __post_init__(self) -> None:
        for name, known in (("path", ("keep", "in_place")), ("path_on", ("hips", "root")), ("limbs", ("fk", "ik"))):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is {getattr(self, name)!r} and not one of {', '.join(known)}.")


def solve(pose: PoseTrack, rest: RestPose, bone_map: BoneMap, options: RetargetOptions | None = None) -> BoneMotion:
    """Make the rig do what the person does.

    Limbs point in space exactly as the person's do, whatever rest pose the rig has; trunk, head, collars and feet are
    turned as the person's are. The hips follow the person's path, enlarged by the ratio of leg lengths, and the whole
    is raised or lowered so that the rig's own soles stand on the floor of the world. Then the legs are solved so that
    feet that stand stay where they are.

    Raises RigError when the map does not fit the rig.
    """
    options = options or RetargetOptions()
    if pose.skeleton.names != LANDMARKS_41.names:
        raise RigError("The pose has other joints than Keylift's 41 landmarks. Lift it again with 'keylift lift'.")
    body = rig_body(rest, bone_map)
    if body.loose:
        whole = joined(rest, body.loose)
        return parted(rest, whole, solve(pose, whole, bone_map, options), sorted(body.loose))
    person_leg_m = _leg_length_m(pose.positions_m)
    world_scale = body.leg_length * rest.scale / person_leg_m if person_leg_m > 0 else 1.0
    root = _root_bone(rest, body)
    stands = standing(pose.contact, pose.fps)

    def keyed(posed: dict[int, np.ndarray], hips_world: np.ndarray) -> BoneMotion:
        bones = tuple(sorted(posed))
        basis = _local_turns(rest, posed)
        still = BoneMotion(
            keyed=bones,
            rotations_wxyz=continuous(np.stack([basis[bone] for bone in bones], axis=1)),
            moved=(root,),
            locations=np.zeros((len(pose.time_s), 1, 3)),
            world_scale=world_scale,
            time_s=pose.time_s,
            frame_index=pose.frame_index,
            fps=pose.fps,
            bone_map=bone_map.name,
            stands=stands,
        )
        return _moved_to(rest, body, still, hips_world)

    posed = _posed_rotations(pose, rest, body)
    hips_world = pose.positions_world_m()[:, LANDMARKS_41.index("pelvis")] * world_scale
    motion = keyed(posed, hips_world)
    soles = {side: _foot(side, rest, body, motion) for side in "lr"}
    raise_m = _floor_correction_m(pose.contact, soles)
    hips_world = hips_world + [0.0, 0.0, raise_m]
    if options.plant_feet and stands.any():
        posed, hips_world = _with_planted_feet(pose, rest, body, motion, posed, hips_world, raise_m)
    motion = keyed(posed, hips_world)
    if options.path == "in_place":
        hips_world = np.concatenate([np.zeros_like(hips_world[:, :2]), hips_world[:, 2:]], axis=1)
        motion = _moved_to(rest, body, motion, hips_world)
    if options.path_on == "root":
        motion = _carried_by_root(rest, body, motion, hips_world)
    return motion


def _leg_length_m(positions_m: np.ndarray) -> float:
    def length(a: str, b: str) -> np.ndarray:
        bone = positions_m[:, LANDMARKS_41.index(a)] - positions_m[:, LANDMARKS_41.index(b)]
        return np.linalg.norm(bone, axis=-1)

    legs = [length(f"{side}_hip", f"{side}_knee") + length(f"{side}_knee", f"{side}_ankle") for side in "lr"]
    return float(np.median(legs))


def _posed_rotations(pose: PoseTrack, rest: RestPose, body: RigBody) -> dict[int, np.ndarray]:
    """Mapped bone -> (F, 3, 3) how it stands in armature space."""
    armature_from_camera = rest.world_from_armature_rotation.T @ pose.world_from_camera[:3, :3]
    camera_from_t_pose = segments_from_joint_rotations(pose.rotations_wxyz)
    armature_from_t_pose = multiply(from_matrix(armature_from_camera), camera_from_t_pose)
    return {
        bone: to_matrix(turn) @ (body.armature_from_body.T @ rest.armature_from_bone[bone, :3, :3])
        for bone, turn in shared_turns(rest, body, armature_from_t_pose).items()
    }


def _local_turns(rest: RestPose, posed: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Mapped bone -> (F, 4) turn against rest in its own axes; bones between mapped ones stay as they are posed now.

    Channels that the rig's author locked keep what they have; what hangs below makes up for it as far as it can.
    """
    frames = len(next(iter(posed.values())))
    standing_so: dict[int, np.ndarray] = {}
    turns: dict[int, np.ndarray] = {}
    for bone in rest.with_ancestors(posed):
        carried = carried_rotation(rest, bone, standing_so.get(rest.parents[bone]))
        if bone not in posed:
            standing_so[bone] = carried @ rest.basis[bone, :3, :3]
            continue
        turns[bone] = local_turn(np.broadcast_to(carried, (frames, 3, 3)), posed[bone])
        standing_so[bone] = posed[bone]
        if rest.rotation_locks[bone].any():
            turns[bone] = with_locks(
                turns[bone], rest.rotation_modes[bone], rest.rotation_locks[bone], from_matrix(rest.basis[bone, :3, :3])
            )
            standing_so[bone] = carried @ to_matrix(turns[bone])
    return turns


def _root_bone(rest: RestPose, body: RigBody) -> int:
    """The hips, or the first bone above them that can be moved."""
    line = rest.ancestors(body.hips)
    for bone in line:
        if not rest.use_connect[bone] and not rest.locks[bone].all():
            return bone
    return line[-1]


def _moved_to(rest: RestPose, body: RigBody, motion: BoneMotion, hips_world: np.ndarray) -> BoneMotion:
    """The same turns, with the middle of the thighs' heads on the path ``hips_world`` (F, 3) metres."""
    thighs = [body.chains[f"{side}_thigh"][0] for side in "lr"]
    parent = rest.parents[motion.root_bone]
    unmoved = replace(motion, locations=np.concatenate([0 * motion.locations[:, :1], motion.locations[:, 1:]], axis=1))
    middle = fk(rest, unmoved, thighs)[:, :, :3, 3].mean(axis=1)
    armature_from_world = np.linalg.inv(rest.world_from_armature)
    wanted = hips_world @ armature_from_world[:3, :3].T + armature_from_world[:3, 3]
    parent_rotation = fk(rest, unmoved, [parent])[:, 0, :3, :3] if parent >= 0 else None
    axes = location_axes(rest, motion.root_bone, parent_rotation)
    location = (np.swapaxes(axes, -1, -2) @ (wanted - middle)[..., None])[..., 0]
    locked = rest.locks[motion.root_bone]
    location[:, locked] = rest.basis[motion.root_bone, :3, 3][locked]
    return replace(motion, locations=np.concatenate([location[:, None], motion.locations[:, 1:]], axis=1))


def path_carrier(rest: RestPose, body: RigBody) -> int:
    """The root bone that can carry the path. Raises RigError when there is none apart from what moves the hips."""
    root = body.root
    if root is None or root == _root_bone(rest, body) or rest.use_connect[root] or rest.locks[root].all():
        raise RigError(
            f"'{rest.name}' has no root bone apart from its hips that could carry the path. Name it as 'root' in a "
            "bone map, or let the hips carry the path."
        )
    return root


def _carried_by_root(rest: RestPose, body: RigBody, motion: BoneMotion, hips_world: np.ndarray) -> BoneMotion:
    """The rig's root bone takes the path on the floor, and what moved the hips only moves them about it."""
    root = path_carrier(rest, body)
    ground_world = (hips_world - hips_world[:1]) * [1.0, 1.0, 0.0]
    ground = ground_world @ np.linalg.inv(rest.world_from_armature)[:3, :3].T
    unmoved = replace(motion, locations=np.zeros_like(motion.locations))
    parent = rest.parents[root]
    parent_rotation = fk(rest, unmoved, [parent])[:, 0, :3, :3] if parent >= 0 else None
    axes = np.broadcast_to(location_axes(rest, root, parent_rotation), (len(motion), 3, 3))
    along_floor = (np.swapaxes(axes, -1, -2) @ ground[..., None])[..., 0] + rest.basis[root, :3, 3]
    both = replace(
        motion,
        moved=(motion.root_bone, root, *motion.moved[1:]),
        locations=np.concatenate([motion.locations[:, :1], along_floor[:, None], motion.locations[:, 1:]], axis=1),
    )
    return _moved_to(rest, body, both, hips_world)


# --- feet ------------------------------------------------------------------------------------------------------------


def _foot(side: str, rest: RestPose, body: RigBody, motion: BoneMotion) -> FootMotion:
    """One foot of the rig, with the points of its sole under heel and ball."""
    # The ball of the foot is the sole's, though the toes start there: it must not lift when only the toes bend.
    bone = body.chains[f"{side}_foot"][-1]
    posed = rest.world_from_armature @ fk(rest, motion, [bone])[:, 0]
    at_rest = rest.world_from_armature @ rest.armature_from_bone[bone]
    points = []
    for name in _SOLE_LANDMARKS:
        under = body.landmark(f"{side}_{name}").copy()
        under[1] = body.floor
        in_world = rest.world_from_armature[:3, :3] @ body.armature_from_body @ under + rest.world_from_armature[:3, 3]
        points.append(in_world - at_rest[:3, 3])
    turned = posed[:, :3, :3] @ at_rest[:3, :3].T / rest.scale**2
    return FootMotion(posed[:, :3, 3], turned, points[0], points[1])


def _floor_correction_m(contact: np.ndarray, soles: dict[str, FootMotion]) -> float:
    """How far the world's floor lies above the rig's soles where they should stand on it."""
    heights = np.stack(
        [foot.ankles[:, 2] + foot.turned[:, 2] @ point for foot in soles.values() for point in (foot.heel, foot.ball)],
        axis=1,
    )
    on_something = heights[contact > STANDS]
    if on_something.size:
        return -float(np.median(on_something))
    return -float(np.quantile(heights.min(axis=1), _LOWEST_SHARE))


def _with_planted_feet(
    pose: PoseTrack,
    rest: RestPose,
    body: RigBody,
    motion: BoneMotion,
    posed: dict[int, np.ndarray],
    hips_world: np.ndarray,
    raise_m: float,
) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Legs, feet and hips such that standing feet stay put: posed rotations and the path of the hips."""
    up = np.array([0.0, 0.0, raise_m])
    feet, legs, targets = {}, {}, {}
    for side, columns in (("l", slice(0, 2)), ("r", slice(2, 4))):
        foot, stands = _foot(side, rest, body, motion), motion.stands
        feet[side] = replace(foot, ankles=foot.ankles + up)
        legs[side] = _leg(side, rest, body, motion, posed, up)
        targets[side] = planted(feet[side], stands[:, columns], pose.fps, motion.world_scale)
    # The bone that turns with the foot need not start at the ankle; what it should reach is told from there.
    ankles = {
        side: legs[side].ankles
        + targets[side].ankles
        - feet[side].ankles
        + _pivot_shift(side, rest, body, feet, targets)
        for side in "lr"
    }
    drop = hips_drop_m([*legs.values()], [*ankles.values()], pose.fps)
    down = drop[:, None] * [0.0, 0.0, -1.0]
    result = dict(posed)
    armature_from_world = rest.world_from_armature_rotation.T
    for side in "lr":
        leg = legs[side]
        lowered = replace(leg, hips=leg.hips + down, knees=leg.knees + down, ankles=leg.ankles + down)
        new = reached(lowered, ankles[side])
        turns = {
            part: now @ np.swapaxes(was, -1, -2)
            for part, now, was in zip(("thigh", "shank"), frames_of(new), frames_of(lowered), strict=True)
        }
        turns["foot"] = turns["toes"] = targets[side].turned @ np.swapaxes(feet[side].turned, -1, -2)
        for part, turn in turns.items():
            in_armature = armature_from_world @ turn @ armature_from_world.T
            segment = f"{side}_{part}"
            for bone in (*body.chains.get(segment, ()), *body.twist.get(segment, ())):
                result[bone] = in_armature @ posed[bone]
    return result, hips_world + down


def _leg(
    side: str, rest: RestPose, body: RigBody, motion: BoneMotion, posed: dict[int, np.ndarray], up: np.ndarray
) -> LegMotion:
    bones = [body.chains[f"{side}_{part}"][0] for part in ("thigh", "shank", "foot")]
    joints = (rest.world_from_armature @ fk(rest, motion, bones))[..., :3, 3] + up
    thigh = bones[0]
    at_rest = to_matrix(body.rest_turns[SEGMENT_NAMES.index(f"{side}_thigh")]) @ _FORWARD
    in_bone = rest.armature_from_bone[thigh, :3, :3].T @ (body.armature_from_body @ at_rest)
    forward = posed[thigh] @ in_bone @ rest.world_from_armature_rotation.T
    return LegMotion(joints[:, 0], joints[:, 1], joints[:, 2], forward)


def _pivot_shift(
    side: str, rest: RestPose, body: RigBody, feet: dict[str, FootMotion], targets: dict[str, FootMotion]
) -> np.ndarray:
    """(F, 3) how the head of the foot's first bone moves when the foot is turned about the head of its last."""
    first, last = body.chains[f"{side}_foot"][0], body.chains[f"{side}_foot"][-1]
    between_heads = rest.world_from_armature[:3, :3] @ (rest.heads[first] - rest.heads[last])
    return (targets[side].turned - feet[side].turned) @ between_heads
