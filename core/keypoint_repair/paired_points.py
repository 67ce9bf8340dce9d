"""Which keypoints of a layout belong together: the two of a pair, and the pairs that a detector exchanges together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..skeletons import KEYPOINT_LAYOUTS

# A part of the body moves, and is mistaken for its counterpart, as one.
PARTS: dict[str, tuple[str, ...]] = {
    "face": ("eye_inner", "eye", "eye_outer", "ear", "mouth"),
    "shoulder": ("shoulder",),
    "elbow": ("elbow",),
    "hand": ("wrist", "knuckle", "pinky", "index", "thumb"),
    "hip": ("hip",),
    "knee": ("knee",),
    "foot": ("ankle", "heel", "big_toe", "foot_index"),
}
PART_NAMES = tuple(PARTS)


def _plain(name: str) -> str:
    """``left_x``, ``x_left`` and ``l_x`` are one thing."""
    for side, letter in (("left", "l"), ("right", "r")):
        if name.startswith(f"{side}_"):
            return f"{letter}_{name.removeprefix(f'{side}_')}"
        if name.endswith(f"_{side}"):
            return f"{letter}_{name.removesuffix(f'_{side}')}"
    return name


@dataclass(frozen=True, eq=False)
class PairedPoints:
    """The pairs of a keypoint layout.

    names: (K,) plain names of all points, sides told by ``l_`` and ``r_``
    left:  (P,) index of each pair's left point
    right: (P,) index of its right one
    part:  (P,) index into ``PART_NAMES``; -1 for a pair of no part
    """

    names: tuple[str, ...]
    left: np.ndarray
    right: np.ndarray
    part: np.ndarray

    @staticmethod
    def of_layout(layout: str) -> PairedPoints:
        """The pairs of a name in ``KEYPOINT_LAYOUTS``."""
        names = tuple(_plain(name) for name in KEYPOINT_LAYOUTS[layout])
        bare = [name[2:] for name in names if name.startswith("l_") and f"r_{name[2:]}" in names]
        part_of = {point: PART_NAMES.index(part) for part, points in PARTS.items() for point in points}
        return PairedPoints(
            names,
            np.array([names.index(f"l_{point}") for point in bare], int),
            np.array([names.index(f"r_{point}") for point in bare], int),
            np.array([part_of.get(point, -1) for point in bare], int),
        )

    def index(self, name: str) -> int | None:
        """Where the point of a plain name is, or None."""
        return self.names.index(name) if name in self.names else None

    def part_of_points(self) -> np.ndarray:
        """(K,) part of each point; that of the nose and other unpaired points is -1."""
        part = np.full(len(self.names), -1)
        part[self.left], part[self.right] = self.part, self.part
        return part

    def of_pair(self, values: np.ndarray, pair: int) -> np.ndarray:
        """(F, 2, ...) the left and the right point of a pair, of ``values`` (F, K, ...)."""
        return np.stack([values[:, self.left[pair]], values[:, self.right[pair]]], axis=1)

    def exchanged(self, values: np.ndarray, where: np.ndarray) -> np.ndarray:
        """``values`` (F, K, ...) with left and right exchanged for the pairs of each frame in ``where`` (F, P)."""
        result = values.copy()
        frame, pair = np.nonzero(where)
        result[frame, self.left[pair]] = values[frame, self.right[pair]]
        result[frame, self.right[pair]] = values[frame, self.left[pair]]
        return result
