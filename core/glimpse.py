"""What a picture shows, seen from so far away that only what comes and goes is noticed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# A picture is seen as so many cells a side; somebody a fifth as tall as the picture fills several.
_CELLS = 24
# The mean of about so many pixels a side, spread over a cell, is free of noise.
_PIXELS_A_CELL = 12
# Levels of 255, in any colour: less is noise and the sun behind clouds; in fewer cells, it is no body.
_NOTICED_LEVELS, _NOTICED_CELLS = 8, 4
# Of a followed body's height, beyond its keypoints: what is there may be its hair, clothes and shadow.
_MARGIN = 0.2


@dataclass(frozen=True, eq=False)
class Glimpse:
    """A picture as (C, C, 3) means of cells, the moment in seconds, and which cells (C, C) show who is followed."""

    cells: np.ndarray
    time_s: float
    followed: np.ndarray

    @classmethod
    def of(cls, rgb: np.ndarray, time_s: float, bodies: Sequence[np.ndarray]) -> Glimpse:
        """Of a picture (H, W, 3), in which ``bodies`` (K, 2), pixels, are followed already."""
        import cv2

        height, width = rgb.shape[:2]
        step_down, step_right = (max(1, length // (_CELLS * _PIXELS_A_CELL)) for length in (height, width))
        pixels = np.ascontiguousarray(rgb[::step_down, ::step_right], np.float32)
        cells = cv2.resize(pixels, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
        followed = np.zeros((_CELLS, _CELLS), bool)
        for xy_px in bodies:
            margin = _MARGIN * np.ptp(xy_px, axis=0).max()
            scale = _CELLS / np.array([width, height])
            left, top = np.floor((xy_px.min(axis=0) - margin) * scale).clip(0, _CELLS).astype(int)
            right, bottom = np.ceil((xy_px.max(axis=0) + margin) * scale).clip(0, _CELLS).astype(int)
            followed[top:bottom, left:right] = True
        return cls(cells, time_s, followed)

    def shows_the_same_as(self, other: Glimpse) -> bool:
        """Whether nothing came or went, but where somebody is followed in either."""
        changed = np.abs(self.cells - other.cells).max(axis=-1) > _NOTICED_LEVELS
        return int((changed & ~self.followed & ~other.followed).sum()) < _NOTICED_CELLS
