"""Motion from whatever holds it: a landmark set, a BVH or C3D file, a folder of BVH files, a folder of C3D files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ...core.errors import FileFormatError
from ...core.source import sha256_of
from .bvh_motion import read_bvh_clips
from .c3d_motion import read_c3d_clips
from .clips import as_motion_set, motion_files_in
from .joint_map import JointMap, read_joint_map
from .motion_set import MotionSet, read_motion


def _sha256_of_folder(folder: Path, files: list[Path]) -> str:
    """SHA-256 over the files' names and contents, the same on every machine; of a file alone, over its content."""
    if files == [folder]:
        return sha256_of(folder)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0{sha256_of(path)}\n".encode())
    return digest.hexdigest()


def _kind_of_folder(folder: Path, given: JointMap | None) -> tuple[str, list[Path]]:
    held = {kind: motion_files_in(folder, f".{kind}") for kind in ("bvh", "c3d")}
    kinds = [kind for kind, files in held.items() if files]
    if given is not None and kinds and given.kind not in kinds:
        raise FileFormatError(
            f"'{folder}' holds {kinds[0]} files, but the joint map '{given.title}' is for {given.kind}."
        )
    if len(kinds) == 2 and given is None:
        raise FileFormatError(f"'{folder}' holds both BVH and C3D files. Put each kind in a folder of its own.")
    if not kinds:
        raise FileFormatError(
            f"'{folder}' holds no .bvh and no .c3d files. Check [data] in the training configuration."
        )
    kind = given.kind if given is not None else kinds[0]
    return kind, held[kind]


def read_motion_from(path: Path, joint_map: Path | None = None, leave_out_sources: tuple[str, ...] = ()) -> MotionSet:
    """Motion of a landmark set (.npz), of a .bvh or .c3d file, or of a folder of either, subfolders included.

    joint_map:         TOML file that says which joint or label is which landmark; for rigs and marker sets that are not
                       known by themselves
    leave_out_sources: collections to leave out; those of .bvh and .c3d files are called bvh and c3d

    Landmarks that a rig or marker set can't tell are NaN: ask ``MotionSet.check_has`` before counting on one.
    Raises FileFormatError when something is missing, damaged or not understood.
    """
    if not path.is_dir() and path.suffix.lower() not in (".bvh", ".c3d"):
        return read_motion(path, leave_out_sources)
    if not path.exists():
        raise FileFormatError(f"There is no motion file '{path}'. Check the path.")
    given = read_joint_map(joint_map) if joint_map is not None else None
    kind, files = _kind_of_folder(path, given)
    if kind in leave_out_sources:
        raise FileFormatError(f"Nothing is left of '{path}' after leaving out {kind}.")
    read_clips = read_bvh_clips if kind == "bvh" else read_c3d_clips
    clips, notes = read_clips(path, given)
    return as_motion_set(clips, kind, _sha256_of_folder(path, files), notes)
