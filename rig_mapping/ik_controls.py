"""Limbs keyed by their IK controls: where hand and foot controls and poles must be for the limbs to stand as solved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..core.rotations import from_rotation_vector, normalised, rotate
from .bone_map import Controls
from .bone_motion import BoneMotion, carried_rotation, fk, local_turn, location_at, rekeyed
from .leg_reach import LegMotion
from .rest_pose import RestPose
from .rig_body import RigBody

# Where the middle joint is so far off the limb's line, as a share of the limb, it says as much about where the limb
# bends as the frames before and after do; the more it is bent, the more its own word counts, by far.
_TELLS_ITS_BEND = 0.005
# The word of the hinge, heard where no frame nearby says more. A limb bent by noise of a third of the share above
# says less than that: words against each other would cancel out, and leave a pole that jumps.
_HINGE_SAYS = 0.02
_SURE = 1e8
# At rest, a limb straighter than this share of its length bends towards its pole.
_STRAIGHT_AT_REST = 0.002
_LIMBS = {"hand": ("upperarm", "forearm", "hand"), "foot": ("thigh", "shank", "foot")}


def with_ik_controls(rest: RestPose, body: RigBody, motion: BoneMotion, controls: Controls) -> BoneMotion:
    """The same motion, with IK controls keyed instead of the FK controls of every limb that has them.

    rest: the controls alone, as ``addon.control_rigs`` reads them, IK controls among them; a control or pole that is
          not there is passed over
    """
    posed = dict(enumerate(np.moveaxis(fk(rest, motion), 1, 0)))
    dropped: set[int] = set()
    wanted: dict[int, np.ndarray] = {}
    poles: dict[int, np.ndarray] = {}
    for end, control in controls.ik.items():
        side, _, part = end.partition("_")
        segments = [f"{side}_{name}" for name in _LIMBS[part]]
        chains = [body.chains[segment] for segment in segments if segment in body.chains]
        if control.bone not in rest.names or len(chains) < 2:
            continue
        dropped.update(bone for chain in chains for bone in chain)
        dropped.update(bone for segment in segments for bone in body.twist.get(segment, ()))
        bones = [chain[0] for chain in chains]
        # Without a hand or foot of its own the control rides on the forearm or lower leg.
        placed = _want(wanted, rest, posed, bones[-1], control.bone)
        toes = body.chains.get(f"{side}_toes") if part == "foot" else None
        if control.toe is not None and toes is not None and control.toe in rest.names:
            dropped.update(toes)
            _want(wanted, rest, posed, toes[0], control.toe)
        if control.pole is not None and control.pole in rest.names:
            tip = bones[2] if len(bones) > 2 else placed
            joints = np.stack([posed[bones[0]], posed[bones[1]], {**posed, **wanted}[tip]])[..., :3, 3]
            poles[rest.names.index(control.pole)] = _pole_place(
                LegMotion(joints[0], joints[1], joints[2], np.zeros_like(joints[0])),
                rest.heads[[bones[0], bones[1], tip]],
                rest.heads[rest.names.index(control.pole)],
                posed[bones[0]][:, :3, :3] @ rest.armature_from_bone[bones[0], :3, :3].T,
            )
    return _keyed_with(rest, motion, posed, dropped, wanted, poles) if wanted else motion


def _want(wanted: dict[int, np.ndarray], rest: RestPose, posed: dict[int, np.ndarray], bone: int, name: str) -> int:
    """A control goes along with the bone that it stands for as if it were fixed to it; which one it is."""
    control = rest.names.index(name)
    wanted[control] = posed[bone] @ np.linalg.inv(rest.armature_from_bone[bone]) @ rest.armature_from_bone[control]
    return control


def _pole_place(limb: LegMotion, at_rest: np.ndarray, pole_at_rest: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """(F, 3) armature space: as far from the limb's hinge as the pole is at rest, and about the limb's line from hip or
    shoulder to ankle or wrist as far from where the hinge bends as it is at rest.

    at_rest: (3, 3) the limb's joints at rest
    upper:   (F, 3, 3) how its upper part is turned against rest
    """
    to_pole = pole_at_rest - at_rest[1]
    limb = replace(limb, forward=upper @ to_pole)
    limb_at_rest = LegMotion(at_rest[None, 0], at_rest[None, 1], at_rest[None, 2], to_pole[None])
    line_at_rest = normalised(limb_at_rest.ankles - limb_at_rest.hips)[0]
    bend_at_rest = normalised(limb_at_rest.bend(_STRAIGHT_AT_REST))[0]
    off = np.arctan2(np.cross(bend_at_rest, to_pole) @ line_at_rest, bend_at_rest @ to_pole)
    line = normalised(limb.ankles - limb.hips)
    bend = _steady_bend(limb, upper)
    return limb.knees + rotate(from_rotation_vector(off * line), bend) * np.linalg.norm(to_pole)


def _steady_bend(limb: LegMotion, upper: np.ndarray) -> np.ndarray:
    """(F, 3) unit vectors across the limb's line: where its hinge bends.

    A limb all but straight bends anywhere, by noise, and a pole would swing wildly about it: there the bend goes
    steadily, as seen from the limb's upper part, from where the limb last told it to where it tells it next.
    """
    line = normalised(limb.ankles - limb.hips)
    off = _across(limb.knees - limb.hips, line)
    bent = np.linalg.norm(off, axis=-1) / np.maximum(limb.thigh_m + limb.shank_m, 1e-12)
    sure = np.minimum((bent / _TELLS_ITS_BEND) ** 4, _SURE)
    hinge = normalised(_across(limb.forward, line))
    into_upper = np.swapaxes(upper, -1, -2)
    told = (into_upper @ normalised(off)[..., None])[..., 0]
    hinge_told = (into_upper @ hinge[..., None])[..., 0]
    steady = _drawn_through(told, sure, hinge_told, _HINGE_SAYS)
    across = _across((upper @ steady[..., None])[..., 0], line)
    return normalised(across)


def _across(vectors: np.ndarray, line: np.ndarray) -> np.ndarray:
    return vectors - line * np.sum(vectors * line, axis=-1, keepdims=True)


def _drawn_through(values: np.ndarray, weights: np.ndarray, prior: np.ndarray, prior_weight: float) -> np.ndarray:
    """(F, C) the path that goes by ``values`` (F, C) as ``weights`` (F,) say and changes least from frame to frame.

    One pass down and one up the band of the normal equations.
    """
    frames = len(values)
    right = weights[:, None] * values + prior_weight * prior
    middle = weights + prior_weight + 2.0
    middle[[0, -1]] -= 1.0
    if frames == 1:
        return right / (weights + prior_weight)[:, None]
    beside = np.empty(frames)
    path = right.copy()
    beside[0] = -1.0 / middle[0]
    path[0] /= middle[0]
    for frame in range(1, frames):
        pivot = middle[frame] + beside[frame - 1]
        beside[frame] = -1.0 / pivot
        path[frame] = (path[frame] + path[frame - 1]) / pivot
    for frame in range(frames - 2, -1, -1):
        path[frame] -= beside[frame] * path[frame + 1]
    return path


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
            moved[bone] = location_at(rest, bone, above, place)
    return rekeyed(motion, keyed, moved)
