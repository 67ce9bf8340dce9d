"""Sparse keys through dense samples: cubic curves as Blender's Bezier keys draw them, fitted by least squares.

With both handles of every key a third of the way to its neighbours, time runs evenly between keys, and what is left of
the Bezier curve is the cubic that Hermite drew: two values, two slopes.
"""

from __future__ import annotations

import numpy as np

# How strongly a key's slope is drawn to that of a curve with keys on every frame, against the samples' say. Where keys
# follow each other closely, the samples alone would leave slopes undecided.
_PULL = 0.002
_NEGLIGIBLE = 1e-13


def hermite(keys: np.ndarray, values: np.ndarray, slopes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(A, C) what a curve is at the places ``at`` (A,); before its first key and after its last it stays as it is.

    keys: (K,) rising places; values, slopes: (K, C).
    """
    if len(keys) == 1:
        return np.repeat(values, len(at), axis=0)
    at = np.clip(at, keys[0], keys[-1])
    left = np.clip(np.searchsorted(keys, at, side="right") - 1, 0, len(keys) - 2)
    length = keys[left + 1] - keys[left]
    basis = hermite_basis((at - keys[left]) / length, length)
    parts = (values[left], values[left + 1], slopes[left], slopes[left + 1])
    return sum((weight[:, None] * part for weight, part in zip(basis, parts, strict=True)), np.zeros(values.shape[1]))


def hermite_basis(fraction: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The shares of left value, right value, left slope and right slope, at a ``fraction`` of ``length``."""
    rest = 1 - fraction
    right = fraction * fraction * (3 - 2 * fraction)
    return 1 - right, right, length * fraction * rest * rest, -length * fraction * fraction * rest


def straight_between(values: np.ndarray) -> np.ndarray:
    """(F, ...) -> (2 F - 1, ...) with the mean of each two neighbours between them."""
    result = np.empty((2 * len(values) - 1, *values.shape[1:]))
    result[::2] = values
    result[1::2] = (values[1:] + values[:-1]) / 2
    return result


def smooth_slopes(frames: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(F, C) at each of the rising places ``frames`` (F,) that of the parabola through it and its neighbours."""
    return np.gradient(values, frames, axis=0) if len(frames) > 1 else np.zeros_like(values)


def corners(frames: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """(..., F - 1, C) how far from a straight line a curve with slopes (..., F, C) is half-way between two frames."""
    return (slopes[..., :-1, :] - slopes[..., 1:, :]) * np.diff(frames)[:, None] / 8


class KeyedCurves:
    """Many curves through samples of the same times, each with keys of its own at some of the frames.

    times:   (T,) places of the samples: the frames and, between each two of them, another; T = 2 F - 1
    samples: (N, T, C) what the curves should be; keys have exactly these values
    every:   (N, F, C) the slopes of a curve with keys on every frame, which goes through all samples
    keyed:   (N, F) where there are keys; first and last frame always
    slopes:  (N, F, C) of the last fit, a unit of time; of meaning only where there are keys
    curves:  (N, T, C) what the keys make of it, by the last fit
    """

    def __init__(self, times: np.ndarray, samples: np.ndarray, every: np.ndarray, keyed: np.ndarray) -> None:
        self.times, self.samples, self.every = times, samples, every
        self.keyed = keyed.copy()
        self.keyed[:, [0, -1]] = True
        self.slopes = np.zeros((*keyed.shape, samples.shape[2]))
        self.curves = np.zeros_like(samples)

    def fit(self, rows: np.ndarray) -> None:
        """Find the slopes of some curves (n,) anew, and what the curves are with them."""
        samples, keyed = self.samples[rows], self.keyed[rows]
        row, frame = np.nonzero(keyed)
        value, place = samples[row, 2 * frame], self.times[2 * frame]
        interval, opens = _stretches(keyed)
        left = opens[interval]
        span = place[opens + 1] - place[opens]
        length = span[interval]
        fraction = (np.broadcast_to(self.times, keyed.shape[:1] + self.times.shape).ravel() - place[left]) / length
        of_left, of_right, a, b = hermite_basis(fraction, length)
        straight = of_left[:, None] * value[left] + of_right[:, None] * value[left + 1]
        missing = samples.reshape(straight.shape) - straight

        starts = np.flatnonzero(np.diff(interval, prepend=-1))
        diagonal, beside = np.zeros(len(row)), np.zeros(len(row))
        wanted = np.zeros((len(row), samples.shape[2]))
        diagonal[opens] += np.add.reduceat(a * a, starts)
        diagonal[opens + 1] += np.add.reduceat(b * b, starts)
        beside[opens] = np.add.reduceat(a * b, starts)
        wanted[opens] += np.add.reduceat(a[:, None] * missing, starts)
        wanted[opens + 1] += np.add.reduceat(b[:, None] * missing, starts)
        pull = np.zeros(len(row))
        pull[opens] += _PULL * span * span
        pull[opens + 1] += _PULL * span * span
        every = self.every[rows[row], frame]
        slopes = solve_tridiagonal(diagonal + pull, beside[:-1], wanted + pull[:, None] * every)

        self.slopes[rows[row], frame] = slopes
        curves = straight + a[:, None] * slopes[left] + b[:, None] * slopes[left + 1]
        self.curves[rows] = curves.reshape(samples.shape)

    def worst_of_stretch(self, off: np.ndarray) -> np.ndarray:
        """(N, T) the largest of ``off`` (N, T) in the stretch between two keys that each sample lies in."""
        interval, _ = _stretches(self.keyed)
        starts = np.flatnonzero(np.diff(interval, prepend=-1))
        return np.maximum.reduceat(off.ravel(), starts)[interval].reshape(off.shape)


def _stretches(keyed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For keys (n, F) of n curves: (n T,) in which stretch between two keys each sample lies, curve by curve; and (I,)
    with which key, counted through all curves, each stretch begins."""
    samples = 2 * keyed.shape[1] - 1
    row, frame = np.nonzero(keyed)
    opens = np.flatnonzero(row[1:] == row[:-1])
    lengths = np.diff(row[opens] * samples + 2 * frame[opens], append=len(keyed) * samples)
    return np.repeat(np.arange(len(opens)), lengths), opens


def solve_tridiagonal(diagonal: np.ndarray, beside: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(K, C) the solution of a symmetric positive definite system. diagonal (K,), beside (K-1,), right (K, C).

    By reduction of all rows at once: each step couples rows twice as far apart as the one before, ever more weakly.
    """
    lower, upper = np.append(0.0, beside), np.append(beside, 0.0)
    reach = 1
    while reach < len(diagonal) and max(np.abs(lower / diagonal).max(), np.abs(upper / diagonal).max()) > _NEGLIGIBLE:
        above, below = np.zeros_like(diagonal), np.zeros_like(diagonal)
        above[reach:] = -lower[reach:] / diagonal[:-reach]
        below[:-reach] = -upper[:-reach] / diagonal[reach:]
        new_diagonal, new_right = diagonal.copy(), right.copy()
        new_diagonal[reach:] += above[reach:] * upper[:-reach]
        new_diagonal[:-reach] += below[:-reach] * lower[reach:]
        new_right[reach:] += above[reach:, None] * right[:-reach]
        new_right[:-reach] += below[:-reach, None] * right[reach:]
        lower = above * np.append(np.zeros(reach), lower[:-reach])
        upper = below * np.append(upper[reach:], np.zeros(reach))
        diagonal, right, reach = new_diagonal, new_right, 2 * reach
    return right / diagonal[:, None]
