"""Every offset tried at once: how well any camera at all could have seen the motion so.

A camera that stands still brings the body's points into the picture by a 3x4 matrix, whatever its lens and place. For
one offset the best matrix is a linear least-squares problem (Abdel-Aziz and Karara's direct linear transformation,
1971); its sums over frames are, for all offsets together, correlations, which the fast Fourier transform gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.fft import next_fast_len

from .camera_fit import CameraFit
from .take_sides import MotionSide, SeenSide

# People's poses change little from one frame to the next at this rate; the fine part of the offset is found later.
_GRID_FPS = 30.0
# How strongly the picture of a body shrinks with depth, 1/m: one over the camera's distance. Held near nothing so far
# as the keypoints don't tell, lest noise be taken for a lens a hand's breadth away.
_PERSPECTIVE_DEVIATION, _NOISE_OF_BOX = 0.3, 0.02
# Errors of frames closer than this are one error.
_INDEPENDENT_S = 0.3
_NUMBERS_OF_A_POSE = 40
_APART_S = 0.2
# Of hours of motion a coarser clock will do, which keeps memory within bounds.
_MOST_TICKS, _SOLVED_AT_ONCE = 60_000, 10_000
_ROWS, _COLUMNS = np.triu_indices(4)


@dataclass(frozen=True, eq=False)
class OffsetScan:
    """What was tried: offsets_s (N,), how far each misses in parts of the box (N,), inf where too little overlaps.

    starts: the cameras that fit best at the best few offsets, the best first
    """

    offsets_s: np.ndarray
    miss_of_box: np.ndarray
    starts: tuple[CameraFit, ...]


def _best_apart(offsets_s: np.ndarray, miss: np.ndarray, count: int) -> list[int]:
    """The ``count`` best offsets none of which is near another."""
    best: list[int] = []
    left = miss.copy()
    while len(best) < count and np.isfinite(left.min(initial=np.inf)):
        best.append(int(np.argmin(left)))
        left[np.abs(offsets_s - offsets_s[best[-1]]) < _APART_S] = np.inf
    return best


@dataclass(frozen=True, eq=False)
class _Ticks:
    """Both sides on one clock of even ticks.

    rays (G, 21, 2), weight (G, 21), box (G,) of the footage; body_m (N, 21, 3) of the motion; shift n, -G < n < N, lets
    frame n of the motion be the footage's first, and is the offset ``offsets_s`` (G + N - 1,) says
    """

    fps: float
    rays: np.ndarray
    weight: np.ndarray
    box: np.ndarray
    body_m: np.ndarray
    offsets_s: np.ndarray


def _ticks(seen: SeenSide, motion: MotionSide, only_s: float | None) -> _Ticks:
    footage_s = float(seen.time_s[-1] - seen.time_s[0])
    fps = min(seen.fps, _GRID_FPS, max(1.0, _MOST_TICKS / (footage_s + motion.length_s)))
    rays, weight, box = _on_grid(seen, fps)
    begin_s, ticks = 0.0, int(motion.length_s * fps) + 1
    if only_s is not None:
        begin_s, ticks = seen.time_s[0] + only_s, len(rays)
    offsets_s = begin_s + np.arange(-(len(rays) - 1), ticks) / fps - seen.time_s[0]
    return _Ticks(fps, rays, weight, box, motion.sites_at(begin_s + np.arange(ticks) / fps), offsets_s)


def _on_grid(seen: SeenSide, fps: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rays (G, 21, 2), weights (G, 21) and boxes (G,) of the frames nearest to a clock of even ticks."""
    ticks = seen.time_s[0] + np.arange(int((seen.time_s[-1] - seen.time_s[0]) * fps + 0.5) + 1) / fps
    after = np.clip(np.searchsorted(seen.time_s, ticks), 1, len(seen.time_s) - 1)
    nearest = np.where(ticks - seen.time_s[after - 1] < seen.time_s[after] - ticks, after - 1, after)
    near = np.abs(seen.time_s[nearest] - ticks) < 0.75 / fps
    return seen.rays[nearest], seen.weight[nearest] * near[:, None], seen.box[nearest]


def _correlated(footage: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Sums over points and ticks of footage times motion, for each shift of one against the other.

    footage: (A, 21, G), motion: (B, 21, N)
    returns: (G + N - 1, A, B)
    """
    length = footage.shape[-1] + motion.shape[-1] - 1
    size = next_fast_len(length, real=True)
    total = np.zeros((len(footage), len(motion), size // 2 + 1), complex)
    for point in range(footage.shape[1]):
        spectrum = np.fft.rfft(motion[:, point], size)
        total += np.conj(np.fft.rfft(footage[:, point], size))[:, None] * spectrum
    order = np.arange(-(footage.shape[-1] - 1), motion.shape[-1]) % size
    return np.moveaxis(np.fft.irfft(total, size)[..., order], -1, 0)


def _overlap_s(ticks: _Ticks, known: np.ndarray) -> np.ndarray:
    """(S,) for how long the motion is known while the person is seen, by the share of points."""
    there = (ticks.weight > 0).T[None] / ticks.weight.shape[1]
    return _correlated(there, known.T[None].astype(float))[:, 0, 0] / ticks.fps


def _moments(ticks: _Ticks, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S, 4, 4, 4) weighted sums of X X^T times 1, x, y, x^2 + y^2 over squared boxes, X homogeneous; (S,) weights."""
    whole = np.where(known[..., None], ticks.body_m, 0.0)
    homogeneous = np.concatenate([whole, known[..., None].astype(float)], axis=-1)
    products = np.moveaxis(homogeneous[..., _ROWS] * homogeneous[..., _COLUMNS], (2, 1), (0, 1))
    per_box = ticks.weight / (ticks.box * ticks.box)[:, None]
    x, y = ticks.rays[..., 0], ticks.rays[..., 1]
    signals = np.stack([per_box, per_box * x, per_box * y, per_box * (x * x + y * y), ticks.weight])
    sums = _correlated(signals.swapaxes(1, 2), products)
    matrices = np.empty((len(sums), 4, 4, 4))
    for place, (row, column) in enumerate(zip(_ROWS, _COLUMNS, strict=True)):
        matrices[:, :, row, column] = matrices[:, :, column, row] = sums[:, :4, place]
    return matrices, sums[:, 4, -1]


def _fits(moments: np.ndarray, weights: np.ndarray, span_s: np.ndarray) -> tuple[np.ndarray, ...]:
    """For each shift: misses (N,), solutions (N, 11) a1 b1 a2 b2 q, and the middles (N, 3) that they are about."""
    middle = moments[:, 0, :3, 3] / np.maximum(moments[:, 0, 3, 3], 1e-9)[:, None]
    shift = np.tile(np.eye(4), (len(middle), 1, 1))
    shift[:, :3, 3] = -middle
    plain, x, y, squares = np.moveaxis(shift[:, None] @ moments @ shift[:, None].swapaxes(-1, -2), 1, 0)
    normal = np.zeros((len(middle), 11, 11))
    normal[:, 0:4, 0:4] = normal[:, 4:8, 4:8] = plain
    normal[:, 0:4, 8:] = -x[:, :, :3]
    normal[:, 4:8, 8:] = -y[:, :, :3]
    normal[:, 8:, 0:4], normal[:, 8:, 4:8] = -x[:, :3], -y[:, :3]
    normal[:, 8:, 8:] = squares[:, :3, :3]
    wanted = np.concatenate([x[:, :, 3], y[:, :, 3], -squares[:, :3, 3]], axis=1)
    hold = (_NOISE_OF_BOX / _PERSPECTIVE_DEVIATION) ** 2 * weights
    normal[:, range(8, 11), range(8, 11)] += hold[:, None]
    scale = np.maximum(plain[:, 3, 3], 1e-9)
    normal[:, range(8), range(8)] += 1e-9 * scale[:, None]
    solution = np.linalg.solve(normal, wanted[..., None])[..., 0]
    left = np.maximum(squares[:, 3, 3] - (wanted * solution).sum(axis=1), 0.0)
    # Eleven numbers fit a short stretch better than a long one.
    independent = _NUMBERS_OF_A_POSE * span_s / _INDEPENDENT_S
    left = left / np.maximum(weights, 1e-9) / np.maximum(1 - 11 / np.maximum(independent, 12), 0.1)
    return np.sqrt(left), solution, middle


def _start(offset_s: float, solution: np.ndarray, middle_m: np.ndarray) -> CameraFit:
    """The undistorted camera nearest to rays (a . X + b) / (1 + q . X), X from the middle, by the lens of the rays."""
    fitted, perspective = np.stack([solution[0:3], solution[4:7]]), solution[8:]
    at = solution[[3, 7]]
    along = fitted
    for _ in range(3):
        left, sizes, right = np.linalg.svd(along, full_matrices=False)
        two = left @ right
        turn = np.vstack([two, np.cross(two[0], two[1])])
        distance_m = 2 / max(float(sizes.sum()), 1e-6)
        # What the matrix gave too little of to depth, it gave to the picture's plane.
        along = fitted + at[:, None] * (turn[2] / distance_m - perspective)
    return CameraFit(turn, distance_m * np.append(at, 1.0) - turn @ middle_m, 1.0, offset_s)


def scan_offsets(
    seen: SeenSide, motion: MotionSide, *, at_least_s: float, count: int, only_s: float | None = None
) -> OffsetScan:
    """How well the motion fits the footage at each offset, seen by whatever camera fits best there.

    at_least_s: so much of the motion must lie in the frames in which the person is seen
    count:      how many starts to give
    only_s:     the only offset to try
    """
    ticks = _ticks(seen, motion, only_s)
    known = np.isfinite(ticks.body_m).all(axis=-1)
    overlap_s = _overlap_s(ticks, known)
    miss = np.full(len(overlap_s), np.inf)
    tried = _tried(ticks, overlap_s, at_least_s, only_s)
    moments, weights = _moments(ticks, known)
    parts = [tried[first : first + _SOLVED_AT_ONCE] for first in range(0, len(tried), _SOLVED_AT_ONCE)]
    for part in parts:
        miss[part], _, _ = _fits(moments[part], weights[part], overlap_s[part])
    best = _best_apart(ticks.offsets_s, miss, count)
    _, solutions, middles = _fits(moments[best], weights[best], overlap_s[best])
    starts = zip(ticks.offsets_s[best], solutions, middles, strict=True)
    return OffsetScan(ticks.offsets_s, miss, tuple(_start(float(at), own, middle) for at, own, middle in starts))


def scan_offsets_of_camera(
    place: CameraFit,
    lens_known: bool,
    seen: SeenSide,
    motion: MotionSide,
    *,
    at_least_s: float,
    count: int,
    only_s: float | None = None,
) -> OffsetScan:
    """The same for a camera whose place is known; the lens is as long as fits best where that is not known."""
    ticks = _ticks(seen, motion, only_s)
    in_front = (ticks.body_m @ place.turn.T + place.move_m)[..., 2] > 0
    known = np.isfinite(ticks.body_m).all(axis=-1) & in_front
    overlap_s = _overlap_s(ticks, known)
    pictured = np.where(known[..., None], place.sees(ticks.body_m), 0.0)
    per_box = ticks.weight / (ticks.box * ticks.box)[:, None]
    signals = np.stack([per_box, *np.moveaxis(per_box[..., None] * ticks.rays, -1, 0), ticks.weight])
    signals = np.append(signals, (per_box * (ticks.rays**2).sum(axis=-1))[None], axis=0).swapaxes(1, 2)
    looks = np.stack([known, *np.moveaxis(pictured, -1, 0), (pictured**2).sum(axis=-1)]).swapaxes(1, 2)
    sums = _correlated(signals, looks)
    seen_2, both, pictured_2 = sums[:, 4, 0], sums[:, 1, 1] + sums[:, 2, 2], sums[:, 0, 3]
    longer = np.ones(len(sums)) if lens_known else np.clip(both / np.maximum(pictured_2, 1e-9), 0.1, 10)
    squared = (seen_2 - 2 * longer * both + longer**2 * pictured_2) / np.maximum(sums[:, 3, 0], 1e-9)
    miss = np.full(len(sums), np.inf)
    tried = _tried(ticks, overlap_s, at_least_s, only_s)
    miss[tried] = np.sqrt(np.maximum(squared[tried], 0))
    best = _best_apart(ticks.offsets_s, miss, count)
    starts = [
        replace(place, longer=place.longer * float(longer[row]), offset_s=float(ticks.offsets_s[row])) for row in best
    ]
    return OffsetScan(ticks.offsets_s, miss, tuple(starts))


def _tried(ticks: _Ticks, overlap_s: np.ndarray, at_least_s: float, only_s: float | None) -> np.ndarray:
    enough = overlap_s > at_least_s - 0.5 / ticks.fps
    if only_s is not None:
        enough &= np.arange(len(overlap_s)) == len(ticks.rays) - 1
    return np.flatnonzero(enough)
