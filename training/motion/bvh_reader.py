"""Biovision Hierarchy files: a tree of joints and, frame by frame, how each is turned against its parent.

The format is that of Meredith and Maddock, "Motion Capture File Formats Explained" (2001). A joint below the root may
have position channels too, as Blender and MotionBuilder write them; such a position takes the place of the joint's
offset. Files come from anywhere, so every size is bounded and every number must be finite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from ...core.errors import FileFormatError
from ...core.outside_text import check_ordinary

MAX_FILE_BYTES = 256 << 20
MAX_NODES = 1024
MAX_DEPTH = 128
MAX_FRAMES = 2_000_000
MAX_FRAMES_A_SECOND = 10_000.0
# Nobody writes a number in more letters than this.
_LETTERS_A_VALUE = 64
_LONGEST_HEADER_LINE = 4096
_MOST_EMPTY_LINES = 1000

_AXES = {"X": 0, "Y": 1, "Z": 2}
END_SITE = "_end"


@dataclass(frozen=True)
class Channel:
    """One column of the motion: a position along, or a turn about, axis 0, 1 or 2 of the parent's frame."""

    turns: bool
    axis: int


@dataclass(frozen=True)
class BvhNode:
    """A joint or an end site; ``parent`` is its index, -1 = root. An end site is called ``<joint>_end``."""

    name: str
    parent: int
    offset: tuple[float, float, float]
    channels: tuple[Channel, ...]


@dataclass(frozen=True, eq=False)
class BvhMotion:
    """What a BVH file holds, in its own units and axes.

    nodes:  joints and end sites, parents first
    values: (F, C) the channels' values, column by column in the order of the nodes; degrees for turns
    """

    nodes: tuple[BvhNode, ...]
    values: np.ndarray
    fps: float

    def __len__(self) -> int:
        return len(self.values)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of joints and end sites."""
        return tuple(node.name for node in self.nodes)

    def world(self, frames: slice, offsets: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Forward kinematics: positions (F, J, 3) and turns (F, J, 3, 3) of every node in ``frames``.

        offsets: (J, 3) to use in place of the file's own
        """
        return forward_kinematics(self.nodes, self.values[frames], offsets)

    def zero_pose(self, offsets: np.ndarray | None = None) -> np.ndarray:
        """(J, 3) where every node lies when no joint is turned or moved."""
        own = np.array([node.offset for node in self.nodes]) if offsets is None else offsets
        positions = np.zeros_like(own)
        for index, node in enumerate(self.nodes):
            positions[index] = own[index] + (positions[node.parent] if node.parent >= 0 else 0.0)
        return positions


def _turn_about(axis: int, angle_rad: np.ndarray) -> np.ndarray:
    """(F,) -> (F, 3, 3) for column vectors."""
    matrix = np.zeros((len(angle_rad), 3, 3))
    second, third = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1
    matrix[:, second, second] = matrix[:, third, third] = np.cos(angle_rad)
    matrix[:, third, second] = np.sin(angle_rad)
    matrix[:, second, third] = -matrix[:, third, second]
    return matrix


def forward_kinematics(
    nodes: tuple[BvhNode, ...], values: np.ndarray, offsets: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Positions (F, J, 3) and turns (F, J, 3, 3), file's axes from each node's, of channel values (F, C) in degrees."""
    frames = len(values)
    positions = np.empty((frames, len(nodes), 3))
    turns = np.empty((frames, len(nodes), 3, 3))
    column = 0
    for index, node in enumerate(nodes):
        local = np.broadcast_to(node.offset if offsets is None else offsets[index], (frames, 3)).copy()
        turn = np.broadcast_to(np.eye(3), (frames, 3, 3))
        for channel in node.channels:
            if channel.turns:
                turn = turn @ _turn_about(channel.axis, np.radians(values[:, column]))
            else:
                local[:, channel.axis] = values[:, column]
            column += 1
        if node.parent < 0:
            positions[:, index], turns[:, index] = local, turn
        else:
            parent_turn = turns[:, node.parent]
            positions[:, index] = positions[:, node.parent] + np.einsum("fij,fj->fi", parent_turn, local)
            turns[:, index] = parent_turn @ turn
    return positions, turns


class _Lines:
    """The words of each line that has any, and which line that was."""

    def __init__(self, path: Path, file: TextIO) -> None:
        self.path, self._file, self.number = path, file, 0

    def error(self, problem: str) -> FileFormatError:
        return FileFormatError(f"'{self.path}', line {self.number}: {problem}. Export it again, or leave it out.")

    def next_words(self, longest: int = _LONGEST_HEADER_LINE) -> list[str]:
        """Words of the next line that is not empty; [] at the end of the file."""
        empty = 0
        while line := self._file.readline(longest + 1):
            self.number += 1
            if len(line) > longest:
                raise self.error("this line is longer than any line here can be")
            if words := line.split():
                return words
            empty += 1
            if empty > _MOST_EMPTY_LINES:
                raise self.error("there are far too many empty lines")
        return []

    def number_in(self, text: str) -> float:
        """A finite number."""
        try:
            value = float(text)
        except ValueError:
            raise self.error(f"'{text[:40]}' is not a number") from None
        if not np.isfinite(value):
            raise self.error(f"'{text[:40]}' is not a finite number")
        return value


def _channels(lines: _Lines, words: list[str]) -> tuple[Channel, ...]:
    names = words[2:]
    if len(words) < 2 or words[1] != str(len(names)):
        raise lines.error(f"CHANNELS says {' '.join(words[1:2])} but {len(names)} follow")
    channels = []
    for name in names:
        kind = name[1:].lower()
        if name[:1].upper() not in _AXES or kind not in ("position", "rotation"):
            raise lines.error(f"'{name[:40]}' is not a channel; Xposition or Zrotation would be")
        channels.append(Channel(kind == "rotation", _AXES[name[0].upper()]))
    if len(set(channels)) != len(channels):
        raise lines.error("a channel is there twice")
    return tuple(channels)


def _words_of_hierarchy(lines: _Lines) -> Iterator[list[str]]:
    """Statement by statement up to MOTION; a brace at the end of another statement counts as one of its own."""
    while words := lines.next_words():
        if words[0].upper() == "MOTION":
            return
        if len(words) > 1 and words[-1] == "{":
            yield words[:-1]
            words = ["{"]
        yield words
    raise lines.error("the file ends before its MOTION section; it is cut off or not a BVH file")


class _Hierarchy:
    """The tree as it is read, one statement at a time."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._names: list[str] = []
        self._parents: list[int] = []
        self._offsets: list[tuple[float, float, float] | None] = []
        self._channels: list[tuple[Channel, ...]] = []
        # Blocks that are open, innermost last.
        self._open: list[int] = []
        self._announced = False

    def _begin(self, name: str) -> None:
        lines = self._lines
        if not self._open and self._names:
            raise lines.error("there is a second root; only files of one person can be read")
        if self._announced:
            raise lines.error("a '{' is missing before this")
        if len(self._names) >= MAX_NODES or len(self._open) >= MAX_DEPTH:
            raise lines.error(f"there are more than {MAX_NODES} joints, or joints nested deeper than {MAX_DEPTH}")
        if name in self._names:
            raise lines.error(f"there are two joints called '{name}'")
        self._names.append(name)
        self._parents.append(self._open[-1] if self._open else -1)
        self._offsets.append(None)
        self._channels.append(())
        self._announced = True

    def _end_site_name(self) -> str:
        name = self._names[self._open[-1]] + END_SITE
        count = sum(taken == name or taken.startswith(name + "_") for taken in self._names)
        return name if count == 0 else f"{name}_{count + 1}"

    def take(self, words: list[str]) -> None:
        """Read one statement."""
        lines, word = self._lines, words[0].upper()
        if word == "{":
            if not self._announced:
                raise lines.error("this '{' belongs to no joint")
            self._open.append(len(self._names) - 1)
            self._announced = False
        elif word == "}":
            if not self._open:
                raise lines.error("this '}' closes nothing")
            self._open.pop()
        elif word == "ROOT" or (word == "JOINT" and self._open):
            if len(words) < 2:
                raise lines.error("this joint has no name")
            self._begin(" ".join(words[1:]))
        elif word == "END" and self._open:
            self._begin(self._end_site_name())
        elif word == "OFFSET" and self._open and len(words) == 4:
            x, y, z = (lines.number_in(value) for value in words[1:])
            self._offsets[self._open[-1]] = (x, y, z)
        elif word == "CHANNELS" and self._open:
            self._channels[self._open[-1]] = _channels(lines, words)
        elif not (word == "HIERARCHY" and not self._names):
            raise lines.error(f"'{' '.join(words)[:40]}' has no place here")

    def finished(self) -> tuple[BvhNode, ...]:
        """The whole tree; raises FileFormatError when it is not whole."""
        if self._open or self._announced or not self._names:
            raise self._lines.error("MOTION begins before the hierarchy is finished; a '}' may be missing")
        nodes = []
        for name, parent, offset, channels in zip(
            self._names, self._parents, self._offsets, self._channels, strict=True
        ):
            if offset is None:
                raise self._lines.error(f"joint '{name}' has no OFFSET")
            nodes.append(BvhNode(name, parent, offset, channels))
        return tuple(nodes)


def _frame_count_and_rate(lines: _Lines) -> tuple[int, float]:
    words = lines.next_words()
    if len(words) != 2 or words[0].lower() != "frames:" or not words[1].isdecimal():
        raise lines.error("'Frames: <number>' should stand here")
    # So many digits make no number of frames, and a number of ten thousand digits takes long to read.
    count = int(words[1]) if len(words[1]) < 10 else MAX_FRAMES + 1
    if not 0 < count <= MAX_FRAMES:
        raise lines.error(f"a clip has 1 to {MAX_FRAMES} frames, not {words[1][:20]}")
    words = lines.next_words()
    if [word.lower() for word in words[:2]] != ["frame", "time:"] or len(words) != 3:
        raise lines.error("'Frame Time: <seconds>' should stand here")
    seconds = lines.number_in(words[2])
    if not 1 / MAX_FRAMES_A_SECOND <= seconds <= 10:
        raise lines.error(f"a frame can't take {words[2]} s")
    rate = 1 / seconds
    # 0.0333333 means 30 frames a second.
    return count, float(round(rate)) if abs(rate - round(rate)) < 0.005 * rate else rate


def _values(lines: _Lines, frames: int, columns: int) -> np.ndarray:
    longest = _LETTERS_A_VALUE * (columns + 1)
    # Grown as lines come, so that a file of one line that claims a million frames takes no room.
    rows: list[np.ndarray] = []
    while words := lines.next_words(longest):
        if len(rows) == frames:
            raise lines.error(f"there are more frames than the {frames} that the file says it has")
        if len(words) != columns:
            raise lines.error(f"this frame has {len(words)} values, but the joints have {columns} channels")
        try:
            row = np.array(words, dtype=np.float64)
        except ValueError:
            row = np.array([lines.number_in(word) for word in words])
        if not np.isfinite(row).all():
            raise lines.error("a value is not a finite number")
        rows.append(row)
    if len(rows) < frames:
        raise lines.error(f"the file ends after {len(rows)} of {frames} frames; it is cut off")
    return np.stack(rows)


def read_bvh(path: Path) -> BvhMotion:
    """Read a BVH file. Raises FileFormatError, with the line, when it is damaged, endless or not one."""
    try:
        check_ordinary(path)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FileFormatError(f"'{path}' is larger than {MAX_FILE_BYTES >> 20} MB. Split it into shorter clips.")
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            lines = _Lines(path, file)
            hierarchy = _Hierarchy(lines)
            # Each joint has at most six statements, so a hierarchy that goes on longer than this is none.
            for words in islice(_words_of_hierarchy(lines), 8 * MAX_NODES):
                hierarchy.take(words)
            nodes = hierarchy.finished()
            columns = sum(len(node.channels) for node in nodes)
            if columns == 0:
                raise lines.error("no joint has channels, so nothing moves")
            frames, fps = _frame_count_and_rate(lines)
            return BvhMotion(nodes, _values(lines, frames, columns), fps)
    except FileNotFoundError:
        raise FileFormatError(f"There is no file '{path}'. Check the path.") from None
    except OSError as problem:
        raise FileFormatError(f"'{path}' can't be read: {problem.strerror or problem}.") from problem
