"""A target armature as arrays, and where its bones stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ..core.errors import RigError
from ..core.rotations import from_matrix

_UNEVEN_SCALE = 0.01


@dataclass(frozen=True, eq=False)
class RestPose:
    """What Blender says about an armature, read once. A parent comes before its children.

    name:                the armature object's name
    names:               (B,) bone names
    parents:             (B,) index of the parent, -1 = none
    armature_from_bone:  (B, 4, 4) rest matrices, rigid, armature units; a bone lies along its own +y
    lengths:             (B,) armature units
    rotation_modes:      (B,) QUATERNION, AXIS_ANGLE or an Euler order such as XYZ
    inherit_rotation:    (B,) False where a bone keeps its direction when its parent turns
    local_location:      (B,) False where a bone's location is along the armature's axes, not its own
    locks:               (B, 3) location channels that the rig's author locked
    use_connect:         (B,) True where a bone sits on its parent's tip and can't be moved
    basis:               (B, 4, 4) rigid: how each bone is posed now; bones that get no keys stay so
    world_from_armature: (4, 4) the object's transform, its scale included
    rotation_locks:      (B, 3) rotation channels x, y, z that the rig's author locked; left out: none
    use_deform:          (B,) True where a bone deforms the mesh; left out: all do
    location_axes:       (B, 3, 3) along which each bone is moved by its location at rest, armature space; left out:
                         as ``local_location`` says
    """

    name: str
    names: tuple[str, ...]
    parents: tuple[int, ...]
    armature_from_bone: np.ndarray
    lengths: np.ndarray
    rotation_modes: tuple[str, ...]
    inherit_rotation: np.ndarray
    local_location: np.ndarray
    locks: np.ndarray
    use_connect: np.ndarray
    basis: np.ndarray
    world_from_armature: np.ndarray
    rotation_locks: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), dtype=bool))
    use_deform: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))
    location_axes: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 3)))

    def __post_init__(self) -> None:
        bones = len(self.names)
        if not bones:
            raise RigError(f"The armature '{self.name}' has no bones. Choose another with --rig FILE:Object.")
        if not self.rotation_locks.size:
            object.__setattr__(self, "rotation_locks", np.zeros((bones, 3), dtype=bool))
        if not self.use_deform.size:
            object.__setattr__(self, "use_deform", np.ones(bones, dtype=bool))
        if not self.location_axes.size:
            object.__setattr__(self, "location_axes", self._location_axes())
        for array, shape in (
            (self.armature_from_bone, (bones, 4, 4)),
            (self.basis, (bones, 4, 4)),
            (self.lengths, (bones,)),
            (self.inherit_rotation, (bones,)),
            (self.local_location, (bones,)),
            (self.locks, (bones, 3)),
            (self.use_connect, (bones,)),
            (self.world_from_armature, (4, 4)),
            (self.rotation_locks, (bones, 3)),
            (self.use_deform, (bones,)),
            (self.location_axes, (bones, 3, 3)),
        ):
            if array.shape != shape:
                raise ValueError(f"An array of RestPose has shape {array.shape} instead of {shape}.")
        if any(not -1 <= parent < bone for bone, parent in enumerate(self.parents)):
            raise ValueError("A bone of RestPose comes before its parent.")
        axes = self.world_from_armature[:3, :3]
        scales = np.linalg.norm(axes, axis=0)
        if scales.min() < 1e-9 or scales.max() / scales.min() > 1 + _UNEVEN_SCALE or np.linalg.det(axes) < 0:
            raise RigError(
                f"The armature object '{self.name}' is scaled unevenly or mirrored, so its bones can't be turned "
                "faithfully. Apply its scale in Blender (Object > Apply > Scale) and try again."
            )

    def _location_axes(self) -> np.ndarray:
        """Blender moves a bone along its own axes, or along its parent's, or of a root along the armature's."""
        parents = [self.armature_from_bone[parent, :3, :3] if parent >= 0 else np.eye(3) for parent in self.parents]
        return np.where(self.local_location[:, None, None], self.armature_from_bone[:, :3, :3], np.array(parents))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def scale(self) -> float:
        """World metres per armature unit."""
        return float(np.linalg.norm(self.world_from_armature[:3, :3], axis=0).mean())

    @property
    def world_from_armature_rotation(self) -> np.ndarray:
        """(3, 3) how the object is turned, its scale taken out."""
        return self.world_from_armature[:3, :3] / np.linalg.norm(self.world_from_armature[:3, :3], axis=0)

    @property
    def heads(self) -> np.ndarray:
        """(B, 3) where bones start, armature space."""
        return self.armature_from_bone[:, :3, 3]

    @property
    def tails(self) -> np.ndarray:
        """(B, 3) where bones end, armature space."""
        return self.heads + self.armature_from_bone[:, :3, 1] * self.lengths[:, None]

    @property
    def rest_wxyz(self) -> np.ndarray:
        """(B, 4) rest rotations, armature from bone."""
        return from_matrix(self.armature_from_bone[:, :3, :3])

    def ancestors(self, bone: int) -> list[int]:
        """The bone itself, its parent, and so on up to the root."""
        line = []
        while bone >= 0:
            line.append(bone)
            bone = self.parents[bone]
        return line

    def with_ancestors(self, bones: Iterable[int]) -> list[int]:
        """``bones`` and all that carry them, parents first."""
        return sorted({ancestor for bone in bones for ancestor in self.ancestors(bone)})

    def descends(self, bone: int, ancestor: int) -> bool:
        """True when ``bone`` hangs somewhere below ``ancestor``."""
        return bone != ancestor and ancestor in self.ancestors(bone)
