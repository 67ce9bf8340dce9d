"""Motion to learn from, whatever it comes as: landmark sets, BVH and C3D, or characters that Blender reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import FileFormatError

if TYPE_CHECKING:
    from ..training.motion.motion_set import MotionSet

CHARACTER_ENDINGS = (".blend", ".fbx", ".glb", ".gltf")
MOTION_ENDINGS = (".bvh", ".c3d", ".npz")


def read_motions(
    paths: Sequence[Path], joint_map: Path | None, tell: Callable[[str], None] = lambda _: None
) -> list[MotionSet]:
    """A set for each file or folder. Raises FileFormatError for what can't be read, RigError for characters without a
    bone map."""
    found = []
    for path in paths:
        for one in _read(path, joint_map):
            for note in one.notes:
                tell(f"{path.name}: {note}")
            found.append(one)
    return found


def _read(path: Path, joint_map: Path | None) -> list[MotionSet]:
    from ..training.motion.files import read_motion_from

    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        characters = [file for file in inside if file.suffix.lower() in CHARACTER_ENDINGS]
        sets = [_characters(file) for file in characters]
        if any(file.suffix.lower() in MOTION_ENDINGS[:2] for file in inside):
            sets.append(read_motion_from(path, joint_map))
        if not sets:
            raise FileFormatError(
                f"'{path}' holds no motion. Put {', '.join((*MOTION_ENDINGS, *CHARACTER_ENDINGS))} files into it."
            )
        return sets
    if path.suffix.lower() in CHARACTER_ENDINGS:
        return [_characters(path)]
    return [read_motion_from(path, joint_map)]


def _characters(path: Path) -> MotionSet:
    """Every action of the animated characters in a file."""
    from ..addon.character_motion import read_character_motion
    from ..training.motion.landmark_sets import motion_set_of

    return motion_set_of(read_character_motion(path).clips, path.name)
