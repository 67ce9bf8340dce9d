"""Frames of footage one at a time, whatever the footage is kept in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from .errors import FootageError
from .source import Source


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    rgb:    (H, W, 3) uint8, upright, square pixels
    time_s: presentation time in seconds; 0 is where the file begins, which is its first picture. Only where a file
            begins between key frames, and nobody can decode its first pictures, the first to be seen comes later.
    index:  number of the picture in the footage, counted from 0
    """

    rgb: np.ndarray
    time_s: float
    index: int


class Footage(ABC):
    """Footage that can be read from its start as often as wanted. Only the path is held; files open on iteration.

    size_px:     (width, height) of the upright picture with square pixels
    fps:         mean frame rate
    frame_count: as the file claims; None where it claims nothing. Only reading to the end tells for sure.
    notes:       what is worth telling about its clock
    """

    notes: tuple[str, ...] = ()

    def __init__(self, path: Path, size_px: tuple[int, int], fps: float, frame_count: int | None) -> None:
        self.path = path
        self.size_px = size_px
        self.fps = fps
        self.frame_count = frame_count

    def __enter__(self) -> Footage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open between iterations; ``with`` merely bounds the footage's use."""

    @abstractmethod
    def source(self) -> Source:
        """The footage's name and the SHA-256 of its content (of all pictures in order, for a sequence)."""

    @abstractmethod
    def _all_frames(self, first: int, last: int | None) -> Iterator[Frame]:
        """Frames from ``first`` on, until ``last`` or the end. May go on after ``last``."""

    def frames(self, first: int | None = None, last: int | None = None) -> Iterator[Frame]:
        """Frames ``first`` to ``last``, both included, counted from 0; without limits, all of them.

        Raises FootageError when the range is not within the footage, and when the footage is damaged inside the range
        (or before it, as what follows can no longer be counted). Footage that breaks off gives its good frames first;
        the error names the last of them, so that a range ending there can be asked for.
        """
        if first is not None and first < 0 or last is not None and last < (first or 0):
            raise FootageError(
                f"Frames {first or 0} to {last} are not a range. Frames count from 0; write the smaller number first."
            )
        return self._checked_range(first or 0, last)

    @abstractmethod
    def _most_frames(self, at_least: int) -> int | None:
        """A number that the footage surely has no more frames than, if it may have fewer than ``at_least``."""

    def _checked_range(self, first: int, last: int | None) -> Iterator[Frame]:
        wanted = max(first, last or 0) + 1
        most = self._most_frames(wanted)
        # Told before an hour's work rather than after it.
        if most is not None and most < wanted:
            raise self._outside(first, last, most)
        newest = -1
        for frame in self._all_frames(first, last):
            newest = frame.index
            yield frame
            if frame.index == last:
                return
        # Reading ended by itself: either all was wanted, or the claim about the number of frames was wrong.
        if newest + 1 < wanted:
            raise self._outside(first, last, newest + 1)

    def _outside(self, first: int, last: int | None, count: int) -> FootageError:
        asked = f"frame {first} and later were" if last is None else f"frames {first} to {last} were"
        return FootageError(
            f"'{self.path.name}' has {count} frames (0 to {count - 1}), but {asked} asked for. "
            "Choose --frames within them."
        )
