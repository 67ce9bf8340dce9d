"""What the bones of a rig do over time, and where that puts them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.rotations import continuous, from_matrix, to_matrix
from .rest_pose import RestPose


@dataclass(frozen=True, eq=False)
class BoneMotion:
    """A performance on one armature.

    keyed:          (K,) bones that get rotation keys, as indices into ``RestPose.names``
    rotations_wxyz: (F, K, 4) their turn against rest, in their own axes, as ``pose_bone.rotation_quaternion``;
                    signs without jumps
    moved:          (M,) bones that get location keys, as indices; the first carries the body along its path
    locations:      (F, M, 3) armature units, as ``pose_bone.location``
    world_scale:    the rig's leg length over the person's: the world of the pose is this much larger around the rig
    time_s:         (F,) seconds
    frame_index:    (F,) frame number in the footage
    fps:            frames a second of the footage
    bone_map:       name of the map that was used
    stands:         (F, 4) True while left heel, left ball, right heel, right ball stand on something; left out: never
    """

    keyed: tuple[int, ...]
    rotations_wxyz: np.ndarray
    moved: tuple[int, ...]
    locations: np.ndarray
    world_scale: float
    time_s: np.ndarray
    frame_index: np.ndarray
    fps: float
    bone_map: str
    stands: np.ndarray = field(default_factory=lambda: np.zeros((0, 4), dtype=bool))

    def __post_init__(self) -> None:
        if not len(self.stands):
            object.__setattr__(self, "stands", np.zeros((len(self.time_s), 4), dtype=bool))
        frames, keyed, moved = len(self.time_s), len(self.keyed), len(self.moved)
        if self.rotations_wxyz.shape != (frames, keyed, 4) or self.locations.shape != (frames, moved, 3):
            raise ValueError("BoneMotion needs rotations (F, K, 4) and locations (F, M, 3).")
        if self.stands.shape != (frames, 4):
            raise ValueError("BoneMotion needs contacts (F, 4).")
        if not moved:
            raise ValueError("BoneMotion needs a bone that is moved along the path.")
        if not (np.isfinite(self.rotations_wxyz).all() and np.isfinite(self.locations).all()):
            raise ValueError("BoneMotion must be finite.")

    def __len__(self) -> int:
        return len(self.time_s)

    def of(self, rows: slice) -> BoneMotion:
        """Some of the frames, one at least."""
        return replace(
            self,
            rotations_wxyz=self.rotations_wxyz[rows],
            locations=self.locations[rows],
            time_s=self.time_s[rows],
            frame_index=self.frame_index[rows],
            stands=self.stands[rows],
        )

    @property
    def root_bone(self) -> int:
        """The bone that carries the body along its path."""
        return self.moved[0]

    @property
    def root_location(self) -> np.ndarray:
        """(F, 3) of ``root_bone``, armature units, as ``pose_bone.location``."""
        return self.locations[:, 0]


def rekeyed(motion: BoneMotion, turns: dict[int, np.ndarray], moves: dict[int, np.ndarray]) -> BoneMotion:
    """The same performance by other keys: bone -> (F, 4) turns, and bone -> (F, 3) locations, the root's first."""
    bones = tuple(sorted(turns))
    return replace(
        motion,
        keyed=bones,
        rotations_wxyz=continuous(np.stack([turns[bone] for bone in bones], axis=1)),
        moved=tuple(moves),
        locations=np.stack(list(moves.values()), axis=1),
    )


def carried_rotation(rest: RestPose, bone: int, parent_rotation: np.ndarray | None) -> np.ndarray:
    """(..., 3, 3) how ``bone`` stands, armature space, before its own turn, given its parent's posed rotation."""
    parent = rest.parents[bone]
    own = rest.armature_from_bone[bone, :3, :3]
    if parent_rotation is None or not rest.inherit_rotation[bone]:
        return own
    return parent_rotation @ (rest.armature_from_bone[parent, :3, :3].T @ own)


def fk(rest: RestPose, motion: BoneMotion, bones: Sequence[int] | None = None) -> np.ndarray:
    """Where the bones go, as Blender does it: (F, B, 4, 4) armature space, for all bones or those named by index."""
    frames = len(motion)
    column = {bone: index for index, bone in enumerate(motion.keyed)}
    wanted = range(len(rest)) if bones is None else bones
    turns: dict[int, np.ndarray] = {}
    places: dict[int, np.ndarray] = {}
    for bone in rest.with_ancestors(wanted):
        parent = rest.parents[bone]
        if bone in column:
            basis = to_matrix(motion.rotations_wxyz[:, column[bone]])
        else:
            basis = np.broadcast_to(rest.basis[bone, :3, :3], (frames, 3, 3))
        turns[bone] = carried_rotation(rest, bone, turns.get(parent)) @ basis
        location = motion.locations[:, motion.moved.index(bone)] if bone in motion.moved else rest.basis[bone, :3, 3]
        places[bone] = _moved(rest, bone, turns.get(parent), places.get(parent), location)
    posed = np.zeros((frames, len(wanted), 4, 4))
    posed[..., 3, 3] = 1.0
    for index, bone in enumerate(wanted):
        posed[:, index, :3, :3] = turns[bone]
        posed[:, index, :3, 3] = places[bone]
    return posed


def location_axes(rest: RestPose, bone: int, parent_rotation: np.ndarray | None) -> np.ndarray:
    """(..., 3, 3) the axes, armature space, along which Blender moves ``bone`` by its location."""
    if parent_rotation is None:
        return rest.location_axes[bone]
    # A bone that keeps its direction is still moved along the axes that its parent gives it.
    parent = rest.parents[bone]
    return parent_rotation @ (rest.armature_from_bone[parent, :3, :3].T @ rest.location_axes[bone])


def location_at(rest: RestPose, bone: int, above: np.ndarray | None, place: np.ndarray) -> np.ndarray:
    """(F, 3) the location channel that puts the bone's head at ``place`` (F, 3), armature space.

    above: (F, 4, 4) its parent as posed, armature space; None for a bone without one
    """
    if above is None:
        shift, axes = place - rest.heads[bone], location_axes(rest, bone, None)
    else:
        from_parent = rest.armature_from_bone[rest.parents[bone]]
        offset = from_parent[:3, :3].T @ (rest.heads[bone] - from_parent[:3, 3])
        shift = place - (above[:, :3, 3] + above[:, :3, :3] @ offset)
        axes = location_axes(rest, bone, above[:, :3, :3])
    return (np.swapaxes(np.broadcast_to(axes, (len(place), 3, 3)), -1, -2) @ shift[..., None])[..., 0]


def _moved(
    rest: RestPose,
    bone: int,
    parent_rotation: np.ndarray | None,
    parent_place: np.ndarray | None,
    location: np.ndarray,
) -> np.ndarray:
    shift = (location_axes(rest, bone, parent_rotation) @ location[..., None])[..., 0]
    if parent_rotation is None or parent_place is None:
        return rest.heads[bone] + shift
    parent = rest.parents[bone]
    offset = rest.armature_from_bone[parent, :3, :3].T @ (rest.heads[bone] - rest.heads[parent])
    return parent_place + parent_rotation @ offset + shift


def local_turn(carried: np.ndarray, posed: np.ndarray) -> np.ndarray:
    """(F, 4) the turn of its own that brings a bone from how it is carried to how it is posed, both (F, 3, 3)."""
    return from_matrix(np.swapaxes(carried, -1, -2) @ posed)
