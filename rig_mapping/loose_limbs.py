"""Limbs that no bone of the body carries: solved as if it did, and then moved along by location keys of their own."""

from __future__ import annotations

import numpy as np

from .bone_motion import BoneMotion, carried_rotation, fk, local_turn, location_at, rekeyed
from .rest_pose import RestPose


def joined(rest: RestPose, parents: dict[int, int]) -> RestPose:
    """The same bones where they are, with other parents for some: bone -> parent. Parents first, as ever."""
    wanted = [parents.get(bone, parent) for bone, parent in enumerate(rest.parents)]
    order: list[int] = []
    placed: set[int] = set()
    for start in range(len(rest)):
        line = []
        bone = start
        while bone >= 0 and bone not in placed:
            line.append(bone)
            placed.add(bone)
            bone = wanted[bone]
        order += reversed(line)
    place = {bone: index for index, bone in enumerate(order)}
    return RestPose(
        name=rest.name,
        names=tuple(rest.names[bone] for bone in order),
        parents=tuple(place[wanted[bone]] if wanted[bone] >= 0 else -1 for bone in order),
        armature_from_bone=rest.armature_from_bone[order],
        lengths=rest.lengths[order],
        rotation_modes=tuple(rest.rotation_modes[bone] for bone in order),
        inherit_rotation=rest.inherit_rotation[order],
        local_location=rest.local_location[order],
        locks=rest.locks[order],
        use_connect=rest.use_connect[order],
        basis=rest.basis[order],
        world_from_armature=rest.world_from_armature,
        rotation_locks=rest.rotation_locks[order],
        use_deform=rest.use_deform[order],
    )


def parted(rest: RestPose, whole: RestPose, motion: BoneMotion, loose: list[int]) -> BoneMotion:
    """A motion of the ``joined`` rig ``whole`` as one of ``rest``, whose ``loose`` bones get location keys as well."""
    own = [rest.names.index(name) for name in whole.names]
    turns = {own[bone]: motion.rotations_wxyz[:, index] for index, bone in enumerate(motion.keyed)}
    moves = {own[bone]: motion.locations[:, index] for index, bone in enumerate(motion.moved)}
    posed = fk(whole, motion, [whole.names.index(rest.names[bone]) for bone in loose])

    for index, bone in enumerate(loose):
        parent = rest.parents[bone]
        above = fk(rest, rekeyed(motion, turns, moves), [parent])[:, 0] if parent >= 0 else None
        carried = carried_rotation(rest, bone, above[:, :3, :3] if above is not None else None)
        turns[bone] = local_turn(np.broadcast_to(carried, (len(motion), 3, 3)), posed[:, index, :3, :3])
        moves[bone] = location_at(rest, bone, above, posed[:, index, :3, 3])
    return rekeyed(motion, turns, moves)
