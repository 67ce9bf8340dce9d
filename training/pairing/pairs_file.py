"""PAIRS.toml: which motion belongs to which footage, and what is known about when and from where it was filmed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.outside_text import is_number, text_within, toml_table
from ...core.progress import Progress, silent
from ...core.skeletons import LANDMARKS_41
from ...core.tracks import KeypointTrack
from ..motion.bvh_motion import read_bvh_clips
from ..motion.bvh_reader import read_bvh
from ..motion.c3d_motion import read_c3d_clips
from ..motion.clips import LandmarkClip
from ..motion.joint_map import read_joint_map
from ..motion.landmark_sets import NamedMotion, clip_in_metres
from ..motion.motion_set import read_motion
from .pairing import Pairing, pair

MAX_PAIRS_BYTES = 4 << 20
MAX_PAIRS = 10_000
CHARACTER_ENDINGS = (".blend", ".fbx", ".glb", ".gltf")

_KEYS = ("footage", "motion", "offset_s", "camera", "camera_from_world", "fps", "joint_map", "clip")
# Reads the takes of an animated character; only Blender can.
CharacterReader = Callable[[Path], Sequence[NamedMotion]]


@dataclass(frozen=True, eq=False)
class PairEntry:
    """One pair. What is None is to be found, or is as the files say.

    offset_s:          motion time minus footage time; the motion's first frame is at 0
    camera:            camera.toml of the lens
    camera_from_world: (4, 4) where the camera stands, in the motion's world with y up, metres
    fps:               the motion's true frames a second
    joint_map:         for rigs and marker sets that are not known by themselves
    clip:              which clip of a landmark set, or which action of a character, where there are several
    """

    footage: Path
    motion: Path
    offset_s: float | None = None
    camera: Path | None = None
    camera_from_world: np.ndarray | None = None
    fps: float | None = None
    joint_map: Path | None = None
    clip: str | None = None


def read_pairs(path: Path) -> list[PairEntry]:
    """The pairs of a PAIRS.toml (docs/file-formats.md); paths in it are relative to it.

    Raises FileFormatError for anything that is not understood, and for files that are not there.
    """
    try:
        table = toml_table(text_within(path, MAX_PAIRS_BYTES))
    except FileNotFoundError:
        raise FileFormatError(f"There is no list of pairs '{path}'. Check the path.") from None
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"The list of pairs '{path}' can't be read: {problem}") from problem
    if unknown := sorted(set(table) - {"pair"}):
        raise FileFormatError(f"'{path}' has unknown keys: {', '.join(unknown)}. It holds [[pair]] tables alone.")
    rows = table.get("pair", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise FileFormatError(f"'{path}' has no [[pair]]. See docs/file-formats.md for an example.")
    if len(rows) > MAX_PAIRS:
        raise FileFormatError(f"'{path}' has {len(rows)} pairs, more than {MAX_PAIRS}. Split it.")
    entries = [_entry(row, f"Pair {number} of '{path}'", path.parent) for number, row in enumerate(rows, 1)]
    seen: set[Path] = set()
    for entry in entries:
        if entry.footage.resolve() in seen:
            raise FileFormatError(f"'{path}' pairs '{entry.footage.name}' twice, so its labels would contradict.")
        seen.add(entry.footage.resolve())
    return entries


def _entry(row: dict[str, Any], where: str, folder: Path) -> PairEntry:
    if unknown := sorted(set(row) - set(_KEYS)):
        raise FileFormatError(f"{where} has unknown keys: {', '.join(unknown)}. Known are {', '.join(_KEYS)}.")

    def file(key: str) -> Path | None:
        value = row.get(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value or "\0" in value:
            raise FileFormatError(f"{where}: {key} must be the path of a file, not {value!r}.")
        path = folder / value
        if not _is_file(path):
            raise FileFormatError(f"{where}: there is no {key} '{path}'. Paths are relative to the list of pairs.")
        return path

    def number(key: str, low: float, high: float) -> float | None:
        value = row.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise FileFormatError(f"{where}: {key} must be a number from {low:g} to {high:g}, not {value!r}.")
        return float(value)

    footage, motion = file("footage"), file("motion")
    if footage is None or motion is None:
        raise FileFormatError(f"{where} lacks {'footage' if footage is None else 'motion'}.")
    clip = row.get("clip")
    if clip is not None and (not isinstance(clip, str) or not clip):
        raise FileFormatError(f"{where}: clip must be a name, not {clip!r}.")
    return PairEntry(
        footage=footage,
        motion=motion,
        offset_s=number("offset_s", -1e6, 1e6),
        camera=file("camera"),
        camera_from_world=_matrix(row.get("camera_from_world"), where),
        fps=number("fps", 1, 2000),
        joint_map=file("joint_map"),
        clip=clip,
    )


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        # A name may be longer than any file's.
        return False


def _matrix(value: object, where: str) -> np.ndarray | None:
    if value is None:
        return None
    rows = value if isinstance(value, list) and len(value) == 4 else []
    numbers = [number for row in rows if isinstance(row, list) and len(row) == 4 for number in row]
    plain = [number for number in numbers if is_number(number)]
    if len(plain) != 16:
        raise FileFormatError(f"{where}: camera_from_world must be four rows of four numbers.")
    return np.array(plain, float).reshape(4, 4)


def read_truth(
    entry: PairEntry,
    track: KeypointTrack,
    camera: Camera | None = None,
    read_character: CharacterReader | None = None,
    progress: Progress = silent,
) -> Pairing:
    """Pair what was seen in an entry's footage with its motion; frames that disagree get no truth.

    camera:         the lens, where the entry names none but somebody knows it
    read_character: reads .blend, .fbx and .glb; None: such motion is refused

    Raises FileFormatError when the motion can't be read, or as ``pair`` does.
    """
    clip = _motion_of(entry, read_character)
    lens = Camera.from_toml(entry.camera) if entry.camera is not None else camera
    found = pair(
        track,
        clip.positions_m,
        entry.fps or clip.fps,
        camera=lens,
        camera_from_world=entry.camera_from_world,
        offset_s=entry.offset_s,
        progress=progress,
    )
    return replace(found, truth_m=np.where(found.agreed[:, None, None], found.truth_m, np.nan))


def _motion_of(entry: PairEntry, read_character: CharacterReader | None) -> LandmarkClip:
    """The entry's one clip, whole: nothing is cut out, lest its time go astray."""
    ending = entry.motion.suffix.lower()
    given = read_joint_map(entry.joint_map) if entry.joint_map is not None else None
    if ending == ".bvh":
        clips, _ = read_bvh_clips(entry.motion, given)
        return _from_first_frame(clips[0], len(read_bvh(entry.motion)) - len(clips[0].positions_m))
    if ending == ".c3d":
        clips, _ = read_c3d_clips(entry.motion, given)
        return _from_first_frame(clips[0], given.skip_frames if given is not None else 0)
    if ending in CHARACTER_ENDINGS and read_character is not None:
        takes = {take.name: take for take in read_character(entry.motion)}
        take = takes[_one_of(list(takes), entry)]
        read = LandmarkClip(entry.motion, take.name, entry.motion.name, np.asarray(take.positions_m, float), take.fps)
        return clip_in_metres(read)[0]
    if ending != ".npz":
        raise FileFormatError(
            f"'{entry.motion}' can't be paired here. Give motion as .bvh, .c3d or a landmark set (.npz)."
        )
    motion = read_motion(entry.motion)
    name = _one_of([str(name) for name in motion.clip_name], entry)
    place = [str(name) for name in motion.clip_name].index(name)
    rows = slice(int(motion.clip_start[place]), int(motion.clip_start[place + 1]))
    return LandmarkClip(
        entry.motion, name, str(motion.subject[place]), motion.positions_m[rows].astype(float), motion.fps
    )


def _one_of(names: list[str], entry: PairEntry) -> str:
    if entry.clip is not None and entry.clip in names:
        return entry.clip
    held = ", ".join(f"'{name}'" for name in names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    if entry.clip is not None:
        raise FileFormatError(f"'{entry.motion}' has no clip '{entry.clip}'; it has {held}.")
    if len(names) > 1:
        raise FileFormatError(f"'{entry.motion}' has several clips: {held}. Name the one that was filmed as clip.")
    return names[0]


def _from_first_frame(clip: LandmarkClip, left_out: int) -> LandmarkClip:
    """Frames that a joint map leaves out (a T-pose before the take) count in the file's time, as unknown ones."""
    unknown = np.full((left_out, len(LANDMARKS_41), 3), np.nan)
    return replace(clip, positions_m=np.concatenate([unknown, clip.positions_m]))
