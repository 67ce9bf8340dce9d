"""How well a lifter does while it learns, read from the log of its run and drawn as a small picture.

Knows nothing of Blender. The log is written by somebody else, may be of any length, and is trusted in nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.outside_text import json_value, text_within

MAX_LOG_BYTES = 1 << 20
_MARGIN = 0.08
# Half the width of a line, as a share of the picture.
_THICK, _THIN = 0.009, 0.005
_DASHES = 16
# Dark in every theme, so that the lines can be seen in every theme.
_GROUND, _LINE, _BEGINNING = (0.09, 0.09, 0.1, 1.0), (0.25, 0.62, 0.95, 1.0), (0.95, 0.62, 0.2, 1.0)
# A curve that is as good as flat is not stretched until its noise fills the picture.
_LEAST_RANGE = 0.04


@dataclass(frozen=True, eq=False)
class LearningCurve:
    """What was measured on held-out footage while it learnt.

    step:        (N,) growing, how many steps were done
    held_out_mm: (N,) error then; the first is that of the weights that were begun with, where step is 0
    latest_step: of the last entry, measured or not
    """

    step: np.ndarray
    held_out_mm: np.ndarray
    latest_step: int = 0

    @property
    def base_mm(self) -> float | None:
        """The error that it began with; None when that is not known."""
        return float(self.held_out_mm[0]) if len(self.step) and self.step[0] == 0 else None

    @property
    def latest_mm(self) -> float | None:
        """The error that was measured last; None before the first."""
        return float(self.held_out_mm[-1]) if len(self.step) else None


def read_curve(log: Path) -> LearningCurve:
    """The curve in a ``log.json``; an empty one when there is none, or none that can be read."""
    try:
        entries = json_value(text_within(log, MAX_LOG_BYTES))
    except (OSError, ValueError):
        return LearningCurve(np.zeros(0), np.zeros(0))
    measured: dict[float, float] = {}
    latest = 0.0
    for entry in entries if isinstance(entries, list) else ():
        step = _number(entry, "step")
        if step is None:
            continue
        latest = max(latest, step)
        error_mm = _number(entry, "held_out_mm")
        if error_mm is not None:
            measured[step] = error_mm
    steps = sorted(measured)
    return LearningCurve(np.array(steps, float), np.array([measured[step] for step in steps], float), int(latest))


def _number(entry: Any, name: str) -> float | None:
    value = entry.get(name) if isinstance(entry, dict) else None
    # True is a number to Python; beyond a billion nothing is a step or an error.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        return None
    return float(value) if math.isfinite(value) else None


def draw_curve(curve: LearningCurve, size_px: int, last_step: int = 0) -> np.ndarray:
    """(size, size, 4) float32 RGBA, rows from the bottom up as Blender has them: error over steps, less is lower.

    The error that was begun with is a dashed line.

    last_step: where the right edge is; 0 = at the last entry
    """
    picture = np.empty((size_px, size_px, 4), np.float32)
    picture[:] = _GROUND
    if not len(curve.step):
        return picture
    at = (np.arange(size_px) + 0.5) / size_px
    low, high = _bounds(curve.held_out_mm)
    height = _MARGIN + (1 - 2 * _MARGIN) * (curve.held_out_mm - low) / (high - low)
    right = max(float(curve.step[-1]), float(last_step), 1.0)
    across = _MARGIN + (1 - 2 * _MARGIN) * curve.step / right
    if curve.base_mm is not None:
        dashed = (at * _DASHES) % 1 < 0.6
        line = np.where(dashed & (at > _MARGIN) & (at < 1 - _MARGIN), height[0], np.nan)
        _lay(picture, _covered(at, line, _THIN), _BEGINNING)
    line = np.interp(at, across, height)
    line[(at < across[0] - _THICK) | (at > across[-1] + _THICK)] = np.nan
    _lay(picture, _covered(at, line, _THICK), _LINE)
    return picture


def _bounds(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    lacking = max(_LEAST_RANGE * max(high, 1e-6) - (high - low), 0.0)
    return low - lacking / 2, high + lacking / 2


def _covered(at: np.ndarray, line: np.ndarray, half: float) -> np.ndarray:
    """(R, C) how much of each pixel a line covers whose height at each column is ``line``; NaN where there is none."""
    # Between two columns a steep line passes through all heights from the one to the other.
    beside = np.stack([line, (line + np.roll(line, 1)) / 2, (line + np.roll(line, -1)) / 2])
    beside[1, 0], beside[2, -1] = line[0], line[-1]
    beside = np.where(np.isfinite(beside), beside, line)
    low, high = beside.min(axis=0), beside.max(axis=0)
    away = np.maximum(np.maximum(low - at[:, None], at[:, None] - high), 0.0)
    cover = np.clip((half - away) * len(at) + 0.5, 0.0, 1.0)
    return np.nan_to_num(cover)


def _lay(picture: np.ndarray, cover: np.ndarray, colour: tuple[float, float, float, float]) -> None:
    picture += cover[..., None] * (np.array(colour, np.float32) - picture)
