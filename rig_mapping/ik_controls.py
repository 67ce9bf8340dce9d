"""Limbs keyed by their IK controls: where hand and foot controls and poles must be for the limbs to stand as solved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.rotations import continuous, from_rotation_vector, normalised, rotate
from .bone_map import Controls, IkControl
from .bone_motion import BoneMotion, carried_rotation, fk, local_turn, location_axes
from .leg_reach import LegMotion
from .rest_pose import RestPose
from .rig_body import RigBody

# A pole swings wildly about a straight limb; below this share of its length the limb counts as straight.
_STRAIGHT = 0.002
_LIMBS = {"hand": ("upperarm", "forearm", "hand"), "foot": ("thigh", "shank", "foot")}


def with_ik_controls(rest: RestPose, body: RigBody, motion: BoneMotion, controls: Controls) -> BoneMotion:
    """The same motion, with IK controls keyed instead of the FK controls of every limb that has them."""
    posed = dict(enumerate(np.moveaxis(fk(rest, motion), 1, 0)))
    dropped: set[int] = set()
    wanted: dict[int, np.ndarray] = {}
    poles: dict[int, np.ndarray] = {}
    for end, control in controls.ik.items():
        side, _, part = end.partition("_")
        chains = [body.chains.get(f"{side}_{name}") for name in _LIMBS[part]]
        if control.bone not in rest.names or any(chain is None for chain in chains):
            continue
        bones = [chain[0] for chain in chains if chain]
        dropped.update(bone for chain in chains if chain for bone in chain)
        _want(wanted, rest, posed, bones[-1], control.bone)
        toes = body.chains.get(f"{side}_toes") if part == "foot" else None
        if control.toe is not None and toes is not None and control.toe in rest.names:
            dropped.update(toes)
            _want(wanted, rest, posed, toes[0], control.toe)
        if control.pole is not None and control.pole in rest.names:
            poles[rest.names.index(control.pole)] = _pole_place(rest, posed, bones, control)
    return _keyed_with(rest, motion, posed, dropped, wanted, poles)


def _want(wanted: dict[int, np.ndarray], rest: RestPose, posed: dict[int, np.ndarray], bone: int, name: str) -> None:
    """A control goes along with the bone that it stands for as if it were fixed to it."""
    control = rest.names.index(name)
    wanted[control] = posed[bone] @ np.linalg.inv(rest.armature_from_bone[bone]) @ rest.armature_from_bone[control]


def _pole_place(rest: RestPose, posed: dict[int, np.ndarray], bones: list[int], control: IkControl) -> np.ndarray:
    """(F, 3) armature space: as far from the limb's hinge as the pole is at rest, and about the limb's line from hip or
    shoulder to ankle or wrist as far from where the hinge bends as it is at rest."""
    pole = rest.names.index(str(control.pole))
    joints_at_rest = [rest.heads[bone][None] for bone in bones]
    to_pole = rest.heads[pole] - rest.heads[bones[1]]
    upper = posed[bones[0]][:, :3, :3] @ rest.armature_from_bone[bones[0], :3, :3].T
    joints = [posed[bone][:, :3, 3] for bone in bones]
    limb = LegMotion(joints[0], joints[1], joints[2], upper @ to_pole)
    limb_at_rest = LegMotion(*joints_at_rest, to_pole[None])
    line_at_rest = normalised(limb_at_rest.ankles - limb_at_rest.hips)[0]
    bend_at_rest = normalised(limb_at_rest.bend(_STRAIGHT))[0]
    off = np.arctan2(np.cross(bend_at_rest, to_pole) @ line_at_rest, bend_at_rest @ to_pole)
    line = normalised(limb.ankles - limb.hips)
    return joints[1] + rotate(from_rotation_vector(off * line), normalised(limb.bend(_STRAIGHT))) * np.linalg.norm(
        to_pole
    )


def _keyed_with(
    rest: RestPose,
    motion: BoneMotion,
    posed: dict[int, np.ndarray],
    dropped: set[int],
    wanted: dict[int, np.ndarray],
    poles: dict[int, np.ndarray],
) -> BoneMotion:
    keyed = {bone: motion.rotations_wxyz[:, index] for index, bone in enumerate(motion.keyed) if bone not in dropped}
    moved = {bone: motion.locations[:, index] for index, bone in enumerate(motion.moved)}
    posed = {**posed, **wanted}
    for bone in sorted({*wanted, *poles}):
        parent = rest.parents[bone]
        above = posed[parent] if parent >= 0 else None
        above_turn = above[:, :3, :3] if above is not None else None
        frames = len(motion)
        if bone in wanted:
            carried = np.broadcast_to(carried_rotation(rest, bone, above_turn), (frames, 3, 3))
            keyed[bone] = local_turn(carried, wanted[bone][:, :3, :3])
            place = wanted[bone][:, :3, 3]
        else:
            place = poles[bone]
        if bone in poles or not (rest.use_connect[bone] or rest.locks[bone].all()):
            moved[bone] = _location(rest, bone, above, place)
    bones = tuple(sorted(keyed))
    return replace(
        motion,
        keyed=bones,
        rotations_wxyz=continuous(np.stack([keyed[bone] for bone in bones], axis=1)),
        moved=tuple(moved),
        locations=np.stack(list(moved.values()), axis=1),
    )


def _location(rest: RestPose, bone: int, above: np.ndarray | None, place: np.ndarray) -> np.ndarray:
    """(F, 3) the bone's location channel that puts its head at ``place``, armature space."""
    if above is None:
        shift, axes = place - rest.heads[bone], location_axes(rest, bone, None)
    else:
        from_parent = rest.armature_from_bone[rest.parents[bone]]
        offset = from_parent[:3, :3].T @ (rest.heads[bone] - from_parent[:3, 3])
        shift = place - (above[:, :3, 3] + above[:, :3, :3] @ offset)
        axes = location_axes(rest, bone, above[:, :3, :3])
    return (np.swapaxes(np.broadcast_to(axes, (len(place), 3, 3)), -1, -2) @ shift[..., None])[..., 0]
