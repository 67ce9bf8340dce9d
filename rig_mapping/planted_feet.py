"""Where the feet of a rig must be so that what stands stays put, whatever its proportions.

A person's contacts say when heel and ball of a foot stand on something. On another body the same turns of the legs move
the soles a little while they stand; here each stance is given one place, and the way into and out of it is blended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..core.rotations import between, from_matrix, from_rotation_vector, to_matrix, to_rotation_vector

# Contact above this says that a heel or ball stands on something.
STANDS = 0.5
# Two contacts of one point that are parted by less are one: nobody lifts a foot and puts it back so fast.
_SHORTEST_LIFT_S = 0.06
# How long a correction takes to fade where nothing stands.
_FADE_S = 0.25
# A sole this near to the floor (metres, for a person's size) stands on it; further away it stands on something else.
_ON_THE_FLOOR_M = 0.06
# A foot that stands on the floor by heel and ball is flat; one tilted by more is seen wrongly, or stands on an edge.
_STEEPEST_RAD = np.radians(15.0)


@dataclass(frozen=True, eq=False)
class FootMotion:
    """One foot over time. World space, metres.

    ankles:  (F, 3)
    turned:  (F, 3, 3) world from the foot at rest
    heel, ball: (3,) points of the sole from the ankle, at rest
    """

    ankles: np.ndarray
    turned: np.ndarray
    heel: np.ndarray
    ball: np.ndarray


def standing(contact: np.ndarray, fps: float) -> np.ndarray:
    """(F, N) contact probabilities -> (F, N) True where a point stands, flickers mended."""
    stands = contact > STANDS
    for column in stands.T:
        runs = list(_runs(column))
        for (_, end), (start, _) in zip(runs, runs[1:], strict=False):
            if (start - end) / fps < _SHORTEST_LIFT_S:
                column[end:start] = True
    return stands


def planted(foot: FootMotion, stands: np.ndarray, fps: float, world_scale: float) -> FootMotion:
    """The same foot, still where it stands. stands: (F, 2) heel, ball, as ``standing`` gives it.

    While heel and ball both stand the foot holds its turn, level when that is on the floor; while one stands the foot
    turns about it. Where a stance is
    comes from where its points were in the mean, and at the height of the floor (z = 0) when it is near that.
    """
    if not stands.any():
        return foot
    turned = _held_while_flat(foot, stands.all(axis=1), fps, _ON_THE_FLOOR_M * world_scale)
    points = foot.ankles[:, None] + np.stack([turned @ foot.heel, turned @ foot.ball], axis=1)
    shift = np.zeros_like(foot.ankles)
    for group in _stances(stands):
        _place(group, points, shift, _ON_THE_FLOOR_M * world_scale)
    shift = _faded(shift, stands.any(axis=1), fps)
    return FootMotion(foot.ankles + shift, turned, foot.heel, foot.ball)


def _held_while_flat(foot: FootMotion, flat: np.ndarray, fps: float, near: float) -> np.ndarray:
    """(F, 3, 3) the foot's turns, still wherever heel and ball both stand, and level where that is on the floor."""
    turned = foot.turned
    mend = np.zeros((len(turned), 3))
    for start, end in _runs(flat):
        held = _mean_rotation(turned[start:end])
        ends = foot.ankles[start:end].mean(axis=0)[2] + np.array([held[2] @ foot.heel, held[2] @ foot.ball])
        if np.abs(ends).max() < near:
            held = _levelled(held, foot.ball - foot.heel)
        mend[start:end] = to_rotation_vector(from_matrix(held @ np.swapaxes(turned[start:end], -1, -2)))
    if not flat.any():
        return turned
    return to_matrix(from_rotation_vector(_faded(mend, flat, fps))) @ turned


def _levelled(held: np.ndarray, along: np.ndarray) -> np.ndarray:
    """(3, 3) the foot pitched so that heel and ball are as high as they are at rest; steeper feet stand on an edge."""
    now = held @ along
    level = np.array([now[0], now[1], 0.0])
    level *= np.sqrt(max(along @ along - along[2] ** 2, 0.0)) / max(float(np.linalg.norm(level)), 1e-12)
    turn = between(now, level + [0.0, 0.0, along[2]])
    if np.linalg.norm(to_rotation_vector(turn)) > _STEEPEST_RAD:
        return held
    return to_matrix(turn) @ held


def _mean_rotation(turned: np.ndarray) -> np.ndarray:
    u, _, vt = np.linalg.svd(turned.sum(axis=0))
    u[:, 2] *= np.sign(np.linalg.det(u @ vt))
    return u @ vt


_Run = tuple[int, int]


def _runs(mask: np.ndarray) -> Iterator[_Run]:
    """First frame and the frame after the last of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _stances(stands: np.ndarray) -> Iterator[list[tuple[int, _Run]]]:
    """Runs of heel (0) and ball (1), in groups whose runs overlap or follow at once: the foot doesn't jump in them."""
    runs = sorted((run, point) for point in (0, 1) for run in _runs(stands[:, point]))
    group: list[tuple[int, _Run]] = []
    until = -1
    for run, point in runs:
        if group and run[0] > until:
            yield group
            group = []
        group.append((point, run))
        until = max(until, run[1])
    if group:
        yield group


def _place(group: list[tuple[int, _Run]], points: np.ndarray, shift: np.ndarray, near: float) -> None:
    """Fill in ``shift`` (F, 3) for the frames of a stance: what brings its standing points to where they stay.

    The places of a stance's runs hang together rigidly: where both points stand, their distance is the foot's.
    """
    places = {0: np.zeros(3)}
    for index in range(1, len(group)):
        point, (start, end) = group[index]
        # The run that reaches furthest into this one; the foot doesn't turn while both stand.
        partner = max(range(index), key=lambda other: group[other][1][1])
        other, (_, other_end) = group[partner]
        both = slice(start, max(min(end, other_end), start + 1))
        places[index] = places[partner] + (points[both, point] - points[both, other]).mean(axis=0)
    weights = [end - start for _, (start, end) in group]
    means = np.array([points[start:end, point].mean(axis=0) for point, (start, end) in group])
    offsets = np.array([places[index] for index in range(len(group))])
    origin = np.average(means - offsets, axis=0, weights=weights)
    height = float(np.average(origin[2] + offsets[:, 2], weights=weights))
    if abs(height) < near:
        origin[2] -= height
    for index, (point, (start, end)) in enumerate(group):
        shift[start:end] = origin + places[index] - points[start:end, point]


def _faded(values: np.ndarray, fixed: np.ndarray, fps: float) -> np.ndarray:
    """(F, C) values that hold where ``fixed``, and in between leave and return with their own slope, fading to zero."""
    result = np.where(fixed[:, None], values, 0.0)
    runs = list(_runs(fixed))
    reach = max(2, round(_FADE_S * fps))
    frames = len(values)
    for (start, end), (next_start, next_end) in zip(runs, runs[1:], strict=False):
        gap = next_start - end + 1
        leaving, coming = _slope(values, start, end, last=True), _slope(values, next_start, next_end, last=False)
        if gap <= 2 * reach:
            result[end:next_start] = _hermite(values[end - 1], leaving, values[next_start], coming, gap)
        else:
            result[end : end + reach - 1] = _hermite(values[end - 1], leaving, 0.0, 0.0, reach)
            result[next_start - reach + 1 : next_start] = _hermite(0.0, 0.0, values[next_start], coming, reach)
    start, end = runs[0]
    before = min(reach, start + 1)
    ahead = _hermite(0.0, 0.0, values[start], _slope(values, start, end, last=False), reach)
    result[start - before + 1 : start] = ahead[len(ahead) - (before - 1) :]
    start, end = runs[-1]
    after = min(reach - 1, frames - end)
    result[end : end + after] = _hermite(values[end - 1], _slope(values, start, end, last=True), 0.0, 0.0, reach)[
        :after
    ]
    return result


def _slope(values: np.ndarray, start: int, end: int, *, last: bool) -> np.ndarray:
    """(C,) change per frame at an end of a run; of runs too short to tell, none."""
    if end - start < 3:
        return np.zeros(values.shape[1])
    return values[end - 1] - values[end - 2] if last else values[start + 1] - values[start]


def _hermite(
    a: np.ndarray | float, slope_a: np.ndarray | float, b: np.ndarray | float, slope_b: np.ndarray | float, steps: int
) -> np.ndarray:
    """(steps - 1, C) the cubic from ``a`` to ``b``, both left out."""
    t = (np.arange(1, steps) / steps)[:, None]
    squared, cubed = t * t, t * t * t
    from_a = (2 * cubed - 3 * squared + 1) * a + (cubed - 2 * squared + t) * steps * np.asarray(slope_a)
    return from_a + (3 * squared - 2 * cubed) * b + (cubed - squared) * steps * np.asarray(slope_b)
