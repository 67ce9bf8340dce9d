"""Clips below a folder, and what keeps a file from being one; footage is not decoded here."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import FootageError
from ...core.picture_sequence import PICTURE_ENDINGS, sequence_at
from ..footage_list import MAX_CLIPS, VIDEO_ENDINGS
from .job import KEYPOINTS_ENDING

# What FFmpeg reads besides what is looked for in folders.
_RARE_ENDINGS = tuple(".3gp .f4v .flv .gif .mpe .mpv .ogv .vob .y4m".split())
CLIP_ENDINGS = (*VIDEO_ENDINGS, *_RARE_ENDINGS, KEYPOINTS_ENDING)


def why_no_clip(clip: str) -> str:
    """What keeps ``clip`` from being footage or keypoints, as far as that can be told without decoding; or empty."""
    try:
        found = os.stat(clip)
    except FileNotFoundError:
        return _why_no_sequence(clip) or ""
    except (OSError, ValueError) as problem:
        return f"'{clip}' can't be read: {getattr(problem, 'strerror', None) or problem}."
    if stat.S_ISDIR(found.st_mode):
        why = _why_no_sequence(clip)
        return why and f'{why} All clips below a folder are named by clips = "FOLDER/**/*".'
    if not stat.S_ISREG(found.st_mode):
        return f"'{clip}' is neither a file nor a folder."
    if not clip.lower().endswith((*CLIP_ENDINGS, *PICTURE_ENDINGS)):
        return f"'{clip}' has no ending of footage, nor {KEYPOINTS_ENDING}."
    if found.st_size == 0:
        return f"'{clip}' is empty (0 bytes). Copy or export it again."
    return _why_unreadable(clip)


def _why_no_sequence(clip: str) -> str:
    try:
        pictures = sequence_at(Path(clip))
    except FootageError as problem:
        return str(problem)
    except OSError as problem:
        return f"'{clip}' can't be read: {problem.strerror or problem}."
    if pictures is None:
        return f"There is no clip '{clip}'. Check the path."
    return _why_unreadable(str(pictures[0]))


def _why_unreadable(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError as problem:
        return f"'{file}' can't be read: {problem.strerror or problem}."
    return ""


class ClipPattern:
    """A pattern such as ``shots/**/*.mp4``, followed folder by folder.

    Places are where in it one stands: the numbers of its parts that names below a folder may be like.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self.end = len(parts)
        self._likes = [None if part == "**" else _like(part) for part in parts]
        self._hidden_too = [part.startswith(".") for part in parts]

    def reached(self, places: Iterable[int]) -> frozenset[int]:
        """With those that are reached because ``**`` may stand for no folder at all."""
        reached = set(places)
        for place in tuple(reached):
            while place < self.end and self._likes[place] is None:
                place += 1
                reached.add(place)
        return frozenset(reached)

    def after(self, places: Iterable[int], name: str) -> set[int]:
        """Where one stands behind something called ``name``."""
        hidden, name = name.startswith("."), os.path.normcase(name)
        behind = set()
        for place in places:
            if place == self.end or hidden and not self._hidden_too[place]:
                continue
            like = self._likes[place]
            if like is None:
                behind.add(place)
            elif like(name):
                behind.add(place + 1)
        return behind


def _like(part: str) -> Callable[[str], Any]:
    return re.compile(fnmatch.translate(os.path.normcase(part))).match


class ClipSearch:
    """Looks for clips: in no hidden folder, not where takes go, and in each folder once however links go round."""

    def __init__(self, output: str, told: Callable[[str], None]) -> None:
        self._output, self._told = output, told
        self._pictures = self._others = 0
        self._passed_output = False

    def matching(self, root: str, parts: Sequence[str], *, sequences: bool) -> list[str]:
        """Absolute paths of clips below ``root`` that are like a pattern of ``parts``, sorted; at most one too many.

        sequences: folders of pictures are clips as well. Without, a folder that an earlier batch wrote is left out.
        """
        pattern = ClipPattern(parts)
        found: set[str] = set()
        seen: set[tuple[int, int, frozenset[int]]] = set()
        # Links wait for last: what can be reached without them is called by its own name.
        waiting: deque[tuple[str, frozenset[int]]] = deque([(root, pattern.reached([0]))])
        linked: deque[tuple[str, frozenset[int]]] = deque()
        while waiting or linked:
            folder, places = (waiting or linked).popleft()
            entries = self._entries(folder, places, seen)
            if not sequences and folder != root and any(entry.name == ".keylift" for entry in entries):
                continue
            for entry in entries:
                behind = pattern.after(places, entry.name)
                if _is_folder(entry):
                    if pattern.end in behind and sequences and self.pictures_in(entry.path):
                        found.add(entry.path)
                    if below := pattern.reached(behind) - {pattern.end}:
                        (linked if entry.is_symlink() else waiting).append((entry.path, below))
                elif pattern.end in pattern.reached(behind) and self._is_clip(entry.name):
                    found.add(entry.path)
                    if len(found) > MAX_CLIPS:
                        return sorted(found)
        return sorted(found, key=lambda path: path.split(os.sep))

    def _entries(
        self, folder: str, places: frozenset[int], seen: set[tuple[int, int, frozenset[int]]]
    ) -> list[os.DirEntry[str]]:
        """What is in a folder, sorted; nothing where it was looked at before."""
        try:
            about = os.stat(folder)
            known = (about.st_dev, about.st_ino, places)
            if known in seen:
                return []
            seen.add(known)
            if os.path.realpath(folder) == self._output:
                self._passed_output = True
                return []
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as problem:
            self._told(f"the folder '{folder}' can't be read: {problem.strerror or problem}.")
            return []

    def _is_clip(self, name: str) -> bool:
        if name.lower().endswith(CLIP_ENDINGS):
            return True
        if os.path.splitext(name)[1].lower() in PICTURE_ENDINGS:
            self._pictures += 1
        else:
            self._others += 1
        return False

    def pictures_in(self, folder: str) -> bool:
        """Whether there are pictures right in it."""
        try:
            with os.scandir(folder) as entries:
                return any(
                    os.path.splitext(entry.name)[1].lower() in PICTURE_ENDINGS and not entry.name.startswith(".")
                    for entry in entries
                )
        except OSError:
            # Told when it is looked into.
            return False

    def instead(self) -> str:
        """What there was in place of clips."""
        if self._passed_output:
            return " What is in the folder where takes go does not count; choose another folder with -o."
        if self._pictures:
            return (
                f" {self._pictures:,} pictures do: name the folder that holds a sequence, or write "
                'clip = "FOLDER/shot_####.png".'
            )
        return f" {self._others:,} other files do." if self._others else " Check the path."


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself, and the like: told when it is opened.
        return False
