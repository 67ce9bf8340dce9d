"""A plain skeleton with the proportions of the person who was filmed: a rig for those who have none yet."""

from __future__ import annotations

import numpy as np

from ..core.rotations import inverse, normalised, rotate
from ..core.segments import SEGMENT_JOINTS, SEGMENTS, T_POSE_M, segments_from_joint_rotations
from ..core.skeletons import LANDMARKS_41
from ..core.tracks import PoseTrack
from .bone_map import BoneMap
from .planted_feet import STANDS
from .rest_pose import RestPose
from .rig_address import SKELETON

_TRUNK = {"pelvis": "Hips", "spine": "Spine", "chest": "Chest", "neck": "Neck", "head": "Head"}
_LIMBS = {
    "clavicle": "Shoulder",
    "upperarm": "Arm",
    "forearm": "ForeArm",
    "hand": "Hand",
    "thigh": "UpLeg",
    "shank": "Leg",
    "foot": "Foot",
    "toes": "ToeBase",
}
# World (z up, facing -y, as characters in Blender do) from T-pose axes.
_WORLD_FROM_BODY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
_SHORTEST_M = 1e-3
_SOLES = ("l_heel", "l_toe_base", "r_heel", "r_toe_base")


def bone_name(segment: str) -> str:
    """What the bone of a segment is called: as in Mixamo's skeletons, which most programs know."""
    side, _, part = segment.partition("_")
    return {"l": "Left", "r": "Right"}[side] + _LIMBS[part] if part else _TRUNK[segment]


def own_skeleton(pose: PoseTrack) -> tuple[RestPose, BoneMap]:
    """The person of ``pose`` (41 landmarks) in the T-pose on the floor, one bone a segment, and their map."""
    places = _own_t_pose_m(pose) @ _WORLD_FROM_BODY.T
    soles = LANDMARKS_41.indices(*_SOLES)
    # Landmarks of the sole lie inside the foot: as high over the floor as where they stand in the take.
    standing = pose.positions_world_m()[:, soles, 2][pose.contact > STANDS]
    places[:, 2] += np.median(standing) - places[soles, 2].mean() if standing.size else -places[soles, 2].min()
    names = tuple(bone_name(segment.name) for segment in SEGMENTS)
    matrices = np.tile(np.eye(4), (len(SEGMENTS), 1, 1))
    lengths = np.empty(len(SEGMENTS))
    for index, segment in enumerate(SEGMENTS):
        head, tip = (places[LANDMARKS_41.index(name)] for name in (segment.joint, segment.tip))
        lengths[index] = max(float(np.linalg.norm(tip - head)), _SHORTEST_M)
        matrices[index, :3, :3] = _bone_axes(tip - head)
        matrices[index, :3, 3] = head
    count = len(SEGMENTS)
    rest = RestPose(
        name="Keylift skeleton",
        names=names,
        parents=tuple(-1 if s.parent is None else names.index(bone_name(s.parent)) for s in SEGMENTS),
        armature_from_bone=matrices,
        lengths=lengths,
        rotation_modes=("QUATERNION",) * count,
        inherit_rotation=np.ones(count, dtype=bool),
        local_location=np.ones(count, dtype=bool),
        locks=np.zeros((count, 3), dtype=bool),
        use_connect=np.zeros(count, dtype=bool),
        basis=np.tile(np.eye(4), (count, 1, 1)),
        world_from_armature=np.eye(4),
    )
    return rest, BoneMap(SKELETON, "Keylift skeleton", {s.name: (bone_name(s.name),) for s in SEGMENTS})


def _own_t_pose_m(pose: PoseTrack) -> np.ndarray:
    """(41, 3) the person's landmarks in the T-pose, in its axes: in each segment's own axes a bone hardly changes."""
    turns = segments_from_joint_rotations(pose.rotations_wxyz)
    carrier = {joint: segment for segment, joint in enumerate(SEGMENT_JOINTS)}
    places = np.zeros_like(T_POSE_M)
    for joint, parent in enumerate(LANDMARKS_41.parents):
        if parent < 0:
            continue
        segment = carrier.setdefault(parent, carrier.get(LANDMARKS_41.parents[parent], 0))
        bones = rotate(inverse(turns[:, segment]), pose.positions_m[:, joint] - pose.positions_m[:, parent])
        places[joint] = places[parent] + np.median(bones, axis=0)
    return places


def _bone_axes(along: np.ndarray) -> np.ndarray:
    """(3, 3) a bone's axes at rest: +y along it, +z as near to the front as can be."""
    y = normalised(along) if np.linalg.norm(along) > 1e-9 else np.array([0.0, 0.0, 1.0])
    front = np.array([0.0, -1.0, 0.0])
    if abs(y @ front) > 0.9:
        front = np.array([0.0, 0.0, 1.0])
    x = normalised(np.cross(y, front))
    return np.stack([x, y, np.cross(x, y)], axis=1)
