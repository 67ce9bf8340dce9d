"""Which footage is meant by files, folders and patterns, and the keypoints in it, found once and kept."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..core.errors import FootageError, NobodyFoundError
from ..core.output_files import written_whole
from .reporting import Reporter

if TYPE_CHECKING:
    from ..core.footage import Footage
    from ..core.tracks import KeypointTrack

VIDEO_ENDINGS = tuple(".mp4 .mov .mkv .avi .webm .m4v .mpg .mpeg .mts .m2ts .ts .wmv .mxf".split())
KEYPOINTS_ENDING = ".keypoints.npz"
MAX_CLIPS = 100_000
_FOLDER = "detected"
_MAX_INDEX_BYTES = 100_000
CACHE_ADVICE = "Set KEYLIFT_CACHE to a folder that can be written."


@dataclass(frozen=True)
class Clip:
    """A clip as it was named: footage, or keypoints that were found before."""

    path: Path

    @property
    def name(self) -> str:
        """What it is called, without its ending."""
        return self.path.name[: -len(KEYPOINTS_ENDING)] if self.holds_keypoints else self.path.stem

    @property
    def holds_keypoints(self) -> bool:
        """Whether nobody needs to look at pictures any more."""
        return self.path.name.lower().endswith(KEYPOINTS_ENDING)


def clips_in(named: Sequence[Path]) -> list[Clip]:
    """Files and patterns as they are; of folders every video and keypoints file below, or the pictures as a sequence.

    Raises FootageError when a folder holds neither, or too much.
    """
    found: dict[Path, Clip] = {}
    for path in named:
        for one in _below(path) if path.is_dir() else [path]:
            found.setdefault(one, Clip(one))
    if len(found) > MAX_CLIPS:
        raise FootageError(f"There are more than {MAX_CLIPS:,} clips. Name fewer of them.")
    return list(found.values())


def _below(folder: Path) -> list[Path]:
    inside = sorted(path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file())
    wanted = [path for path in inside if path.name.lower().endswith((*VIDEO_ENDINGS, KEYPOINTS_ENDING))]
    if wanted:
        return wanted
    if not inside:
        raise FootageError(f"The folder '{folder}' is empty. Name a folder with footage.")
    # A folder of pictures is one clip.
    return [folder]


def keypoints_in(clip: Clip, options: argparse.Namespace, reporter: Reporter) -> list[KeypointTrack]:
    """The people in a clip, largest first, as ``options`` of detection ask; found now, or in an earlier run.

    Raises FootageError and NobodyFoundError.
    """
    from ..core.footage import open_footage
    from ..core.track_files import read_keypoints

    if clip.holds_keypoints:
        return [read_keypoints(clip.path)]
    footage = open_footage(clip.path, options.fps)
    folder, name = _kept_at(footage, options)
    kept = _kept(folder, name)
    if kept is not None:
        return kept
    return _found(footage, folder, name, options, reporter)


def _kept_at(footage: Footage, options: argparse.Namespace) -> tuple[Path, str]:
    """Where keypoints of this very content, found in this very way, are kept."""
    from ..core.pose_model import cache_folder, pose_model
    from ..core.track_files import sha256_of

    way = {
        "source": footage.source().sha256,
        "fps": options.fps,
        "frames": list(options.frames),
        "person": options.person,
        "repair": not options.no_repair,
        "model": sha256_of(pose_model(options.detector_model)),
        "version": __version__,
    }
    name = hashlib.sha256(json.dumps(way, sort_keys=True).encode()).hexdigest()[:32]
    return cache_folder() / _FOLDER, name


def _kept(folder: Path, name: str) -> list[KeypointTrack] | None:
    """Keypoints of an earlier run; None when there are none, or they are damaged."""
    from ..core.errors import FileFormatError
    from ..core.track_files import read_keypoints

    index = folder / f"{name}.json"
    try:
        if index.stat().st_size > _MAX_INDEX_BYTES:
            return None
        count = int(json.loads(index.read_text(encoding="utf-8"))["people"])
        if count == 0:
            raise NobodyFoundError("nobody was found in it")
        return [read_keypoints(folder / f"{name}-{number}{KEYPOINTS_ENDING}") for number in range(1, count + 1)]
    except (OSError, ValueError, KeyError, TypeError, FileFormatError):
        return None


def _found(
    footage: Footage, folder: Path, name: str, options: argparse.Namespace, reporter: Reporter
) -> list[KeypointTrack]:
    from ..core.track_files import write_keypoints
    from .detect import find_people

    try:
        tracks = find_people(footage, options, reporter)
    except NobodyFoundError:
        _note(folder, name, 0)
        raise
    for number, track in enumerate(tracks, 1):
        write_keypoints(folder / f"{name}-{number}{KEYPOINTS_ENDING}", track)
    # Last, so that there is an index only where all of it is.
    _note(folder, name, len(tracks))
    return tracks


def _note(folder: Path, name: str, people: int) -> None:
    with written_whole(folder / f"{name}.json", CACHE_ADVICE) as beside:
        beside.write_text(json.dumps({"people": people}), encoding="utf-8")
