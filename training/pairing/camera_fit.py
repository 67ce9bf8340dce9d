"""Where the camera stands, how long its lens is and how far the clocks are apart, by what it saw of a known motion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.rotations import from_rotation_vector, to_matrix
from .take_sides import MotionSide, SeenSide

# Keypoints lie about so far off, in parts of the box; one that misses by a few times that has gone astray.
_KEYPOINT_DEVIATION, _ASTRAY = 0.02, 2.0
# Lenses on people are within about a third of the usual one.
_USUAL_DEVIATION = 0.3
# Errors of frames closer than this are one error.
_INDEPENDENT_S = 1.0
_NEAREST_M = 0.2
# An offset stays within reach of where the scan found it, and a lens within what lenses are.
_OFFSET_REACH_S, _LENS_REACH = 0.3, 1.2
_GAIN_TO_GO_ON = 1e-5


@dataclass(frozen=True, eq=False)
class CameraFit:
    """A standing camera and a clock.

    turn:     (3, 3) camera from world
    move_m:   (3,) so that a point is turn @ X + move_m in camera space
    longer:   how many times as long the lens is as the one that the rays were made with
    offset_s: motion time is footage time and this
    """

    turn: np.ndarray
    move_m: np.ndarray
    longer: float
    offset_s: float

    def sees(self, sites_m: np.ndarray) -> np.ndarray:
        """(..., 3) world -> (..., 2) rays as the keypoints have them."""
        seen = sites_m @ self.turn.T + self.move_m
        return self.longer * seen[..., :2] / np.maximum(seen[..., 2:], _NEAREST_M)


@dataclass(frozen=True)
class Known:
    """What is known already and stays: the lens, the place of the camera, the clock."""

    lens: bool = False
    place: bool = False
    offset: bool = False


def misses_of_box(fit: CameraFit, seen: SeenSide, motion: MotionSide) -> np.ndarray:
    """(F, 21) how far keypoints lie from where they should, in parts of the box; NaN where either is unknown."""
    off = fit.sees(motion.sites_at(seen.time_s + fit.offset_s)) - seen.rays
    return np.where(seen.weight > 0, np.linalg.norm(off, axis=-1), np.nan) / seen.box[:, None]


@dataclass(frozen=True, eq=False)
class _Evidence:
    """Keypoints of some frames, and how much each counts."""

    seen: SeenSide
    motion: MotionSide
    scale: np.ndarray
    worth: float

    def bodies_at(self, offset_s: float) -> tuple[np.ndarray, np.ndarray]:
        """(F, 21, 3) sites, and how they move with a later motion, m/s."""
        times, half_s = self.seen.time_s + offset_s, 0.5 / self.motion.fps
        before, now, after = (self.motion.sites_at(times + step) for step in (-half_s, 0.0, half_s))
        return now, np.nan_to_num((after - before) / (2 * half_s))


def _evidence(seen: SeenSide, motion: MotionSide, offset_s: float, most_frames: int) -> _Evidence:
    known = np.isfinite(motion.sites_at(seen.time_s + offset_s)).all(axis=-1) & (seen.weight > 0)
    rows = np.flatnonzero(known.any(axis=1))
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most_frames, len(rows))).round().astype(int))]
    some = seen.of(rows)
    span_s = float(np.ptp(some.time_s)) if len(rows) else 0.0
    worth = max(span_s, _INDEPENDENT_S) / _INDEPENDENT_S / max(len(rows), 1)
    return _Evidence(some, motion, np.sqrt(some.weight) / some.box[:, None] / _KEYPOINT_DEVIATION, min(1.0, worth))


@dataclass(frozen=True, eq=False)
class _Look:
    """How well a camera does: what it costs, and the way to a better one as normal equations."""

    cost: float
    normal: np.ndarray
    slope: np.ndarray


def _cost(off: np.ndarray, evidence: _Evidence, longer: float) -> float:
    squared = (off * off).sum(axis=-1)
    straying = float(np.log1p(squared / _ASTRAY**2).sum()) * _ASTRAY**2 * evidence.worth
    return straying + (np.log(longer) / _USUAL_DEVIATION) ** 2


def _off(fit: CameraFit, sites_m: np.ndarray, evidence: _Evidence) -> np.ndarray:
    off = (fit.sees(sites_m) - evidence.seen.rays) * evidence.scale[..., None]
    return np.where(np.isfinite(off), off, 0.0)


def _look(
    fit: CameraFit, sites_m: np.ndarray, speed_m_s: np.ndarray, evidence: _Evidence, middle_m: np.ndarray
) -> _Look:
    """Derivatives by: turn (3), the middle's place across (2) and along the line of sight, lens, clock."""
    off = _off(fit, sites_m, evidence)
    about = (sites_m - middle_m) @ fit.turn.T
    middle = fit.turn @ middle_m + fit.move_m
    point = about + middle
    depth = np.maximum(point[..., 2:], _NEAREST_M)
    moves = np.zeros((*sites_m.shape[:-1], 8, 3))
    x, y, z = about[..., 0], about[..., 1], about[..., 2]
    moves[..., 0, 1], moves[..., 0, 2] = -z, y
    moves[..., 1, 0], moves[..., 1, 2] = z, -x
    moves[..., 2, 0], moves[..., 2, 1] = -y, x
    moves[..., 3, 0] = moves[..., 4, 1] = middle[2]
    moves[..., 5, :] = middle
    moves[..., 7, :] = speed_m_s @ fit.turn.T
    ray = point[..., :2] / depth
    pictured = fit.longer * (moves[..., :2] - ray[..., None, :] * moves[..., 2:]) / depth[..., None]
    pictured[..., 6, :] = fit.longer * ray
    jacobian = np.where(np.isfinite(pictured), pictured, 0.0) * evidence.scale[..., None, None]
    believed = evidence.worth / (1 + (off * off).sum(axis=-1) / _ASTRAY**2)
    rows = jacobian.transpose(0, 1, 3, 2).reshape(-1, 8)
    weighted = rows * np.repeat(believed.ravel(), 2)[:, None]
    normal, slope = weighted.T @ rows, weighted.T @ off.ravel()
    normal[6, 6] += 1 / _USUAL_DEVIATION**2
    slope[6] += np.log(fit.longer) / _USUAL_DEVIATION**2
    return _Look(_cost(off, evidence, fit.longer), normal, slope)


def _moved(fit: CameraFit, step: np.ndarray, start: CameraFit, middle_m: np.ndarray) -> CameraFit:
    middle = fit.turn @ middle_m + fit.move_m
    turn = to_matrix(from_rotation_vector(step[:3])) @ fit.turn
    depth = max(middle[2] * np.exp(np.clip(step[5], -1, 1)), 2 * _NEAREST_M)
    place = np.append((middle[:2] / middle[2] + step[3:5]) * depth, depth)
    longer = np.exp(np.clip(np.log(fit.longer) + step[6], -_LENS_REACH, _LENS_REACH))
    offset_s = start.offset_s + np.clip(fit.offset_s - start.offset_s + step[7], -_OFFSET_REACH_S, _OFFSET_REACH_S)
    return CameraFit(turn, place - turn @ middle_m, float(longer), float(offset_s))


def fit_camera(
    start: CameraFit, seen: SeenSide, motion: MotionSide, known: Known, most_frames: int, steps: int
) -> CameraFit:
    """The camera and clock near ``start`` by which the motion misses the keypoints least.

    Levenberg's and Marquardt's least squares, in which keypoints that have gone astray count less and less (Cauchy's
    weights). What is ``known`` stays as it is in ``start``.
    """
    free = [*([] if known.place else range(6)), *([] if known.lens else [6]), *([] if known.offset else [7])]
    evidence = _evidence(seen, motion, start.offset_s, most_frames)
    if not free or not len(evidence.seen.time_s):
        return start
    sites, speed = evidence.bodies_at(start.offset_s)
    middle_m = np.nanmean(sites, axis=(0, 1))
    fit, damping = start, 1e-3
    if (fit.turn @ middle_m + fit.move_m)[2] < 2 * _NEAREST_M:
        return start
    look = _look(fit, sites, speed, evidence, middle_m)
    for _ in range(steps):
        normal = look.normal[np.ix_(free, free)]
        step = np.zeros(8)
        step[free] = -np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), look.slope[free])
        other = _moved(fit, step, start, middle_m)
        if known.place:
            other = replace(other, turn=start.turn, move_m=start.move_m)
        moved, moved_speed = (sites, speed) if known.offset else evidence.bodies_at(other.offset_s)
        cost = _cost(_off(other, moved, evidence), evidence, other.longer)
        if cost < look.cost:
            gain = look.cost - cost
            fit, sites, speed, damping = other, moved, moved_speed, damping / 5
            if gain < _GAIN_TO_GO_ON * cost:
                break
            look = _look(fit, sites, speed, evidence, middle_m)
        else:
            damping *= 4
            if damping > 1e6:
                break
    return fit
