"""From a person's pose to the turns of a rig's bones: one solve over all frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.errors import RigError
from ..core.rotations import continuous, from_matrix, inverse, multiply, to_matrix
from ..core.segments import SEGMENT_NAMES, segments_from_joint_rotations
from ..core.skeletons import LANDMARKS_41
from ..core.tracks import PoseTrack
from .bone_map import BoneMap
from .bone_motion import BoneMotion, carried_rotation, fk, local_turn, location_axes
from .rest_pose import RestPose
from .rig_body import RigBody, rig_body

# Contact above this says that a heel or toe stands on something.
_STANDS = 0.5
# Without any contact the floor is where the lowest sole of a frame is, in this part of the frames.
_LOWEST_SHARE = 0.05
_CONTACT_LANDMARKS = ("l_heel", "l_toe_base", "r_heel", "r_toe_base")


def solve(pose: PoseTrack, rest: RestPose, bone_map: BoneMap) -> BoneMotion:
    """Make the rig do what the person does.

    Limbs point in space exactly as the person's do, whatever rest pose the rig has; trunk, head, collars and feet are
    turned as the person's are. The hips follow the person's path, enlarged by the ratio of leg lengths, and the whole
    is raised or lowered so that the rig's own soles stand on the floor of the world.

    Raises RigError when the map does not fit the rig.
    """
    if pose.skeleton.names != LANDMARKS_41.names:
        raise RigError("The pose has other joints than Keylift's 41 landmarks. Lift it again with 'keylift lift'.")
    body = rig_body(rest, bone_map)
    person_leg_m = _leg_length_m(pose.positions_m)
    world_scale = body.leg_length * rest.scale / person_leg_m if person_leg_m > 0 else 1.0

    posed = _posed_rotations(pose, rest, body)
    keyed = tuple(sorted(posed))
    basis = _local_turns(rest, posed)
    root = _root_bone(rest, body)
    still = BoneMotion(
        keyed=keyed,
        rotations_wxyz=continuous(np.stack([basis[bone] for bone in keyed], axis=1)),
        root_bone=root,
        root_location=np.zeros((len(pose.time_s), 3)),
        world_scale=world_scale,
        time_s=pose.time_s,
        frame_index=pose.frame_index,
        fps=pose.fps,
        bone_map=bone_map.name,
    )
    pelvis_world = pose.positions_world_m()[:, LANDMARKS_41.index("pelvis")] * world_scale
    on_path = _moved_to(rest, body, still, pelvis_world)
    raised = pelvis_world + np.array([0.0, 0.0, _floor_correction_m(pose.contact, rest, body, on_path)])
    return _moved_to(rest, body, still, raised)


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
    turns = multiply(from_matrix(armature_from_camera), multiply(camera_from_t_pose, inverse(body.rest_turns)))
    # From the armature at rest to the armature posed, for everything that rides on a segment.
    armature_turns = to_matrix(turns) @ body.armature_from_body.T
    return {
        bone: armature_turns[:, SEGMENT_NAMES.index(segment)] @ rest.armature_from_bone[bone, :3, :3]
        for segment, chain in body.chains.items()
        for bone in chain
    }


def _local_turns(rest: RestPose, posed: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Mapped bone -> (F, 4) turn against rest in its own axes; bones between mapped ones stay as they are posed now."""
    frames = len(next(iter(posed.values())))
    standing: dict[int, np.ndarray] = {}
    turns: dict[int, np.ndarray] = {}
    for bone in rest.with_ancestors(posed):
        carried = carried_rotation(rest, bone, standing.get(rest.parents[bone]))
        if bone in posed:
            standing[bone] = posed[bone]
            turns[bone] = local_turn(np.broadcast_to(carried, (frames, 3, 3)), posed[bone])
        else:
            standing[bone] = carried @ rest.basis[bone, :3, :3]
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
    unmoved = replace(motion, root_location=np.zeros_like(motion.root_location))
    middle = fk(rest, unmoved, thighs)[:, :, :3, 3].mean(axis=1)
    armature_from_world = np.linalg.inv(rest.world_from_armature)
    wanted = hips_world @ armature_from_world[:3, :3].T + armature_from_world[:3, 3]
    parent_rotation = fk(rest, unmoved, [parent])[:, 0, :3, :3] if parent >= 0 else None
    axes = location_axes(rest, motion.root_bone, parent_rotation)
    return replace(motion, root_location=(np.swapaxes(axes, -1, -2) @ (wanted - middle)[..., None])[..., 0])


def _floor_correction_m(contact: np.ndarray, rest: RestPose, body: RigBody, motion: BoneMotion) -> float:
    """How far the world's floor lies above the rig's soles where they should stand on it."""
    heights = np.stack([_sole_height_m(name, rest, body, motion) for name in _CONTACT_LANDMARKS], axis=1)
    standing = heights[contact > _STANDS]
    if standing.size:
        return -float(np.median(standing))
    return -float(np.quantile(heights.min(axis=1), _LOWEST_SHARE))


def _sole_height_m(name: str, rest: RestPose, body: RigBody, motion: BoneMotion) -> np.ndarray:
    """(F,) metres above the world's floor of the point of the sole under a landmark of the foot."""
    under = body.landmark(name).copy()
    under[1] = body.floor
    # The ball of the foot is the sole's, though the toes start there: it must not lift when only the toes bend.
    bone = body.chains[f"{name[0]}_foot"][-1]
    bone_from_armature = np.linalg.inv(rest.armature_from_bone[bone])
    in_bone = bone_from_armature[:3, :3] @ (body.armature_from_body @ under) + bone_from_armature[:3, 3]
    posed = rest.world_from_armature @ fk(rest, motion, [bone])[:, 0]
    return posed[:, 2, :3] @ in_bone + posed[:, 2, 3]
