"""Motion to learn from, whatever it comes as: landmark sets, BVH and C3D, or characters that Blender reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import FileFormatError, RigError

if TYPE_CHECKING:
    from ..addon.character_motion import CharacterMotion
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


def read_character(path: Path) -> CharacterMotion:
    """All that the animated character in a file does. Raises RigError; also where there is no Blender to read it."""
    try:
        from ..addon.character_motion import read_character_motion
    except ImportError as problem:
        raise RigError(
            f"'{path.name}' is a character's motion, which Blender reads, and there is none here ({problem}). Run: pip "
            "install bpy==5.0.1, or export the motion as BVH."
        ) from problem
    return read_character_motion(path)


def _characters(path: Path) -> MotionSet:
    """Every action of the animated character in a file."""
    from ..training.motion.landmark_sets import motion_set_of

    found = read_character(path)
    motion = motion_set_of(found.clips, path.name)
    return replace(motion, notes=(*found.notes, *motion.notes))
