"""The 41 landmarks of a rig's body however it is posed: what an animated character has to teach."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from ..core.errors import RigError
from ..core.skeletons import LANDMARKS_41
from .bone_map import BoneMap
from .recognition import map_rig
from .rest_pose import RestPose
from .rig_body import rig_body


@dataclass(frozen=True, eq=False)
class ReadableBody:
    """The bones of a rig that show how its body is posed, whichever controls moved it.

    rest:     those bones alone
    bone_map: bound to them
    """

    rest: RestPose
    bone_map: BoneMap


def readable_body(rest: RestPose, bone_map: BoneMap | None = None) -> ReadableBody:
    """The bones to read a body's motion from.

    bone_map: which bones make up the body; recognised when None

    A control rig has the same body several times over, and only the bones that deform the mesh go where any of the
    others lead; so a rig is recognised by those alone where they make a body. Raises RigError when nothing does.
    """
    if bone_map is not None:
        return ReadableBody(rest, _checked(rest, bone_map))
    if not rest.use_deform.all() and rest.use_deform.any():
        deforming = _deforming(rest)
        try:
            return ReadableBody(deforming, _checked(deforming, map_rig(deforming).bone_map))
        except RigError:
            # Some rigs deform by bones that hang beside those of the body; then the body is what all bones show.
            pass
    return ReadableBody(rest, _checked(rest, map_rig(rest).bone_map))


def _checked(rest: RestPose, bone_map: BoneMap) -> BoneMap:
    rig_body(rest, bone_map)
    return bone_map


def _deforming(rest: RestPose) -> RestPose:
    """The deforming bones, each carried by the nearest one above it."""
    picked = np.flatnonzero(rest.use_deform).tolist()
    place = {bone: index for index, bone in enumerate(picked)}
    parents = [next((place[above] for above in rest.ancestors(bone)[1:] if above in place), -1) for bone in picked]
    arrays = {described.name: getattr(rest, described.name) for described in fields(rest)}
    own = {
        name: array[picked]
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and name != "world_from_armature"
    }
    return replace(
        rest,
        names=tuple(rest.names[bone] for bone in picked),
        parents=tuple(parents),
        rotation_modes=tuple(rest.rotation_modes[bone] for bone in picked),
        **own,
    )


def landmarks_of(rest: RestPose, bone_map: BoneMap, armature_from_bone: np.ndarray) -> np.ndarray:
    """Where the landmarks of a posed rig are.

    armature_from_bone: (F, B, 4, 4) how each bone of ``rest`` is posed, armature space; its scale is kept
    returns:            (F, 41, 3) ``LANDMARKS_41``, armature space and units

    Joints are where bones start. Each landmark rides on the bone that carries it from where it is at rest: what the rig
    has no bone for (face, heels, tips of toes and fingers, perhaps a neck) sits where a person of its size has it.
    Raises RigError when the map makes no body of the rig.
    """
    bones = len(rest)
    if armature_from_bone.shape[1:] != (bones, 4, 4):
        raise ValueError(f"armature_from_bone must have shape (frames, {bones}, 4, 4), not {armature_from_bone.shape}.")
    body = rig_body(rest, bone_map)
    at_rest = body.landmarks @ body.armature_from_body.T
    carriers = body.carriers
    bone_from_armature = np.linalg.inv(rest.armature_from_bone[carriers])
    in_bone = np.einsum("kij,kj->ki", bone_from_armature[:, :3, :3], at_rest) + bone_from_armature[:, :3, 3]
    posed = armature_from_bone[:, carriers]
    landmarks = np.einsum("fkij,kj->fki", posed[..., :3, :3], in_bone) + posed[..., :3, 3]
    # Between its ends a pelvis may be built in any way; the landmark is the middle of the hips.
    hips = LANDMARKS_41.indices("l_hip", "r_hip")
    landmarks[:, LANDMARKS_41.index("pelvis")] = landmarks[:, hips].mean(axis=1)
    return np.asarray(landmarks)
