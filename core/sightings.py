"""Bodies in single pictures, and a store that keeps an hour of them in little room."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from .skeletons import MEDIAPIPE_33_NAMES

# Fingers and the points of the face tremble; these say where a body is.
_BODY = np.array(
    [
        MEDIAPIPE_33_NAMES.index(name)
        for name in """nose left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
        left_hip right_hip left_knee right_knee left_ankle right_ankle""".split()
    ]
)
_TORSO = np.array(
    [MEDIAPIPE_33_NAMES.index(name) for name in "left_shoulder right_shoulder right_hip left_hip".split()]
)
# So many rows are kept in one piece of memory.
_PIECE = 256


@dataclass(frozen=True, eq=False)
class Sighting:
    """One body in one picture.

    xy_px:      (33, 2) pixels
    confidence: (33,) in [0, 1]
    clothes:    colour histogram of the torso, normalised; None where it was not taken
    """

    xy_px: np.ndarray
    confidence: np.ndarray
    clothes: np.ndarray | None = None

    @cached_property
    def size_px(self) -> float:
        """The longer side of the box around the body."""
        return float(sizes_px(self.xy_px))

    @property
    def centre_px(self) -> np.ndarray:
        """(2,) the middle of the torso."""
        return centres_px(self.xy_px)

    @property
    def torso_px(self) -> np.ndarray:
        """(4, 2) shoulders and hips, as a ring."""
        return self.xy_px[_TORSO]


def sizes_px(xy_px: np.ndarray) -> np.ndarray:
    """(...,) the longer sides of the boxes around bodies (..., 33, 2), at least 1 pixel."""
    body = xy_px[..., _BODY, :]
    return np.maximum((body.max(axis=-2) - body.min(axis=-2)).max(axis=-1), 1.0)


def centres_px(xy_px: np.ndarray) -> np.ndarray:
    """(..., 2) the middles of the torsos of bodies (..., 33, 2)."""
    return xy_px[..., _TORSO, :].mean(axis=-2)


def apart(a_xy_px: np.ndarray, b_xy_px: np.ndarray, size_px: float) -> float:
    """How far two (33, 2) sets of keypoints lie from each other, in body sizes; the median, so no one limb decides."""
    way_px = a_xy_px[_BODY] - b_xy_px[_BODY]
    # Several times as fast as numpy's median, in every picture: there is one in the middle, because they are odd.
    return float(np.sqrt(np.sort((way_px * way_px).sum(axis=-1))[len(_BODY) // 2])) / size_px


def clothes_apart(a: np.ndarray | None, b: np.ndarray | None) -> float | None:
    """Hellinger distance of two normalised histograms, 0 to 1; None where either is unknown."""
    if a is None or b is None:
        return None
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(a * b).sum())))


class _Rows:
    """Rows of as many numbers each, in a few large pieces of memory."""

    def __init__(self, dtype: type[np.floating]) -> None:
        self._dtype = dtype
        self._pieces: list[np.ndarray] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, at: int) -> np.ndarray:
        piece: np.ndarray = self._pieces[at // _PIECE]
        return piece[at % _PIECE]

    def add(self, length: int) -> np.ndarray:
        """One more row of this length, to be filled."""
        if self._count == len(self._pieces) * _PIECE:
            self._pieces.append(np.empty((_PIECE, length), self._dtype))
        self._count += 1
        return self[self._count - 1]

    def add_all(self, rows: np.ndarray) -> None:
        """Add rows (N, length)."""
        while len(rows):
            self.add(rows.shape[1])
            begins = (self._count - 1) % _PIECE
            added = min(_PIECE - begins, len(rows))
            self._pieces[-1][begins : begins + added] = rows[:added]
            self._count += added - 1
            rows = rows[added:]

    def cut_off(self, count: int) -> None:
        """Keep the first ``count``."""
        self._count = count
        del self._pieces[-(-count // _PIECE) :]

    def pieces(self, start: int, stop: int) -> Iterator[np.ndarray]:
        """Rows ``start`` to before ``stop``, as they lie."""
        while start < stop:
            begins = start % _PIECE
            piece = self._pieces[start // _PIECE][begins : begins + stop - start]
            yield piece
            start += len(piece)


class Sightings(Sequence[Sighting]):
    """Sightings in a row, kept in a few large pieces of memory; clothes in single precision.

    As small arrays of their own they would lie scattered among the pictures that come and go, and each would keep a
    hole as large as a picture from being used again.
    """

    def __init__(self, sightings: Iterable[Sighting] = ()) -> None:
        self._bodies = _Rows(np.float64)
        # Histograms, and the sighting that each belongs to.
        self._clothes, self._clothed = _Rows(np.float32), array("q")
        self._newest: Sighting | None = None
        for sighting in sightings:
            self.append(sighting)

    def __len__(self) -> int:
        return len(self._bodies)

    def append(self, sighting: Sighting) -> None:
        body = self._bodies.add(sighting.xy_px.size + sighting.confidence.size)
        body[: sighting.xy_px.size], body[sighting.xy_px.size :] = sighting.xy_px.ravel(), sighting.confidence
        if sighting.clothes is not None:
            self._clothes.add(len(sighting.clothes))[:] = sighting.clothes
            self._clothed.append(len(self) - 1)
        self._newest = sighting

    def extend(self, others: Sightings) -> None:
        """Add those of another store."""
        shift = len(self)
        for bodies in others._bodies.pieces(0, len(others)):
            self._bodies.add_all(bodies)
        for clothes in others._clothes.pieces(0, len(others._clothes)):
            self._clothes.add_all(clothes)
        self._clothed.extend([at + shift for at in others._clothed])
        self._newest = others._newest if len(others) else self._newest

    def cut_off(self, count: int) -> None:
        """Keep the first ``count``."""
        if count >= len(self):
            return
        self._bodies.cut_off(count)
        del self._clothed[bisect_left(self._clothed, count) :]
        self._clothes.cut_off(len(self._clothed))
        self._newest = None

    @overload
    def __getitem__(self, which: int) -> Sighting: ...
    @overload
    def __getitem__(self, which: slice) -> Sightings: ...
    def __getitem__(self, which: int | slice) -> Sighting | Sightings:
        """One sighting, or a store of those in a row (a slice without a step)."""
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            if step != 1:
                raise ValueError("Sightings are taken in a row.")
            return self._between(start, max(start, stop))
        at = which + len(self) if which < 0 else which
        if not 0 <= at < len(self):
            raise IndexError(f"There is no sighting {which} of {len(self)}.")
        if at == len(self) - 1 and self._newest is not None:
            return self._newest
        # Copied: after a cut, others are written where this was.
        body = self._bodies[at].copy()
        coordinates = len(body) // 3 * 2
        return Sighting(body[:coordinates].reshape(-1, 2), body[coordinates:], self._clothes_at(at))

    def bodies(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """xy_px (N, 33, 2) and confidence (N, 33) of all in turn, some hundred at a time; not to be changed."""
        for piece in self._bodies.pieces(0, len(self)):
            coordinates = piece.shape[1] // 3 * 2
            shown = piece.view()
            shown.flags.writeable = False
            yield shown[:, :coordinates].reshape(len(shown), -1, 2), shown[:, coordinates:]

    def sizes_px(self) -> np.ndarray:
        """(N,) of each."""
        return np.concatenate([np.zeros(0), *(sizes_px(xy_px) for xy_px, _ in self.bodies())])

    def centres_px(self) -> np.ndarray:
        """(N, 2) of each."""
        return np.concatenate([np.zeros((0, 2)), *(centres_px(xy_px) for xy_px, _ in self.bodies())])

    def last_clothes(self, count: int) -> np.ndarray:
        """(C, K) histograms of the last ``count`` that were taken, in turn; fewer where there are fewer."""
        known = len(self._clothes)
        pieces = self._clothes.pieces(max(known - count, 0), known)
        return np.concatenate([np.zeros((0, 0)) if known == 0 else np.zeros((0, len(self._clothes[0]))), *pieces])

    def _between(self, start: int, stop: int) -> Sightings:
        part = Sightings()
        for bodies in self._bodies.pieces(start, stop):
            part._bodies.add_all(bodies)
        first, end = bisect_left(self._clothed, start), bisect_left(self._clothed, stop)
        for clothes in self._clothes.pieces(first, end):
            part._clothes.add_all(clothes)
        part._clothed.extend(at - start for at in self._clothed[first:end])
        return part

    def _clothes_at(self, at: int) -> np.ndarray | None:
        known = bisect_left(self._clothed, at)
        if known == len(self._clothed) or self._clothed[known] != at:
            return None
        return self._clothes[known].astype(float)
