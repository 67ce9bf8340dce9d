"""Left and right exchanged by the detector: of the whole body, or of arms or legs, found frame by frame.

Whether sides are exchanged is a hidden state of each frame. A path of states costs what the motion about the trunk
disagrees with it, what the body's looks say against it (``facing``), and a price for every change of state; the
cheapest path is found exactly, by dynamic programming (Viterbi). On a change a path may leave frames out, at a price:
a detector that changes its mind goes through the middle of the body, for a few frames that belong to neither state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .facing import evidence_against_exchange
from .motion import (
    LONGEST_LINK_S,
    BodyMotion,
    carried,
    disagreement,
    fastest,
    limited,
    tolerance,
)
from .paired_points import PART_NAMES, PairedPoints

# A path may leave out frames for so long, and no more frames than that.
_LONGEST_SKIP_S = 0.3
_MOST_SKIPPED = 20
# Costs are worked out in pieces of so many frames, and so many pieces are kept.
_PIECE, _MOST_KEPT = 4096, 6
# Prices, in the unit of ``disagreement``: half a squared deviation.
_SKIP, _SKIP_PER_S = 2.0, 20.0
_SKIP_MARGIN = 4.0
# Half a body is exchanged more seldom than a whole one.
_BODY_CHANGE, _TWIST_CHANGE, _LIMB_CHANGE = 6.0, 9.0, 4.0
# The detector smooths what moves slowly: after a change of mind hips and legs take so long to arrive.
_SETTLES_S = 0.12
# For each second of exchanged sides: they are rare, and the larger part of a clip is right.
_BODY_PER_S, _TWIST_PER_S, _LIMB_PER_S = 3.0, 7.0, 3.0
# The trunk says how a body is turned; half a step later, a walker's limbs look as if they had changed sides.
_BODY_WEIGHTS = {"face": 1.0, "shoulder": 3.0, "elbow": 0.4, "hand": 0.2, "hip": 3.0, "knee": 0.4, "foot": 0.2}
# Where two limbs lie over each other (in sizes), the detector errs by so many times more.
_OVERLAP, _OVERLAP_BLUR = 0.06, 2.0
# All points may be off by so many times as much as the middles of the pairs are.
_WOBBLE = 3.0
# The first frames are as likely right as any: nothing but a jump, or very clear looks, make them exchanged.
_BEGIN_EXCHANGED = 12.0
# A point that the detector hardly sees counts this much.
_LEAST_WEIGHT = 0.15
_LOWER_BODY = ("hip", "knee", "foot")
# What is exchanged in each state of an arm or a leg, against how the body is.
_ARM_STATES = ((), ("elbow", "hand"), ("hand",))
_LEG_STATES = ((), ("knee", "foot"), ("foot",))
_FACE_STATES = ((), ("face",))
# The longest that a bone looks, in body sizes; one that ends at the other side's limb is longer.
_BONES = (("shoulder", "elbow", 0.21), ("elbow", "hand", 0.18), ("hip", "knee", 0.29), ("knee", "foot", 0.29))
_BONE_SPREAD = 0.03
# How much a bone that is too long costs a second, at most.
_BONE_PER_S = 12.0


@dataclass(frozen=True, eq=False)
class Exchanges:
    """What was exchanged in the N frames of a BodyMotion.

    body:    (N,) True where all sides were exchanged
    limb:    (N, P) True where a pair was exchanged against the body's state
    between: (N, P) True where a pair was on its way from one side to the other, and is nowhere
    """

    body: np.ndarray
    limb: np.ndarray
    between: np.ndarray

    @property
    def pairs(self) -> np.ndarray:
        """(N, P) True where a pair's points must change places."""
        return self.body[:, None] ^ self.limb


class _Links:
    """What it costs each part of the body to go on from an earlier frame."""

    def __init__(self, motion: BodyMotion, points: PairedPoints, pairs: np.ndarray) -> None:
        self._time_s, self._part = motion.time_s, points.part[pairs]
        sides = np.stack([motion.xy[:, points.left[pairs]], motion.xy[:, points.right[pairs]]], axis=2)
        known = np.isfinite(sides).all(axis=(2, 3))
        sure = np.minimum(motion.confidence[:, points.left[pairs]], motion.confidence[:, points.right[pairs]])
        self._weight = np.where(known, _LEAST_WEIGHT + (1 - _LEAST_WEIGHT) * np.clip(sure, 0, 1), 0.0)
        self._sides = sides = np.where(known[..., None, None], sides, 0.0)
        self._is_limb = np.array([PART_NAMES[part] not in ("face", "shoulder", "hip") for part in self._part])
        overlap = np.exp(-((sides[:, :, 0] - sides[:, :, 1]) ** 2).sum(axis=-1) / (2 * _OVERLAP**2))
        self._blur = 1 + _OVERLAP_BLUR * np.where(known & self._is_limb, overlap, 0.0)
        self._before, self._after = _velocities(sides, known, motion.time_s, fastest(self._part))
        self._members = np.zeros((len(pairs), len(PART_NAMES)))
        self._members[np.arange(len(pairs)), self._part] = 1 / np.bincount(self._part)[self._part]
        # Each part of the body asks again; a clip of usual length is worked out once.
        self._kept: dict[tuple[int, int], np.ndarray] = {}
        most = min(_MOST_SKIPPED, len(motion.row) - 1)
        self.lags = int(np.clip(np.ceil(_LONGEST_SKIP_S / motion.period_s), 1, most))

    def cost(self, first: int, last: int) -> np.ndarray:
        """(lags, last - first, parts, 2) from frame n - lag to n with sides as they are, and exchanged.

        n goes from ``first`` to ``last``; 0 where nothing is known. Not to be changed.
        """
        if (first, last) in self._kept:
            return self._kept[first, last]
        cost = np.zeros((self.lags, last - first, len(PART_NAMES), 2))
        for lag in range(1, self.lags + 1):
            start = max(first, lag)
            if start < last:
                cost[lag - 1, start - first :] = self._cost_of_lag(lag, start, last)
        if len(self._kept) < _MOST_KEPT:
            self._kept[first, last] = cost
        return cost

    def _cost_of_lag(self, lag: int, first: int, last: int) -> np.ndarray:
        to, start = slice(first, last), slice(first - lag, last - lag)
        now, then = self._sides[to], self._sides[start]
        gap_s = self._time_s[to] - self._time_s[start]
        reach = carried(gap_s)[:, None, None, None]
        from_before = then + self._before[start] * reach
        from_after = now - self._after[to] * reach
        both = np.minimum(self._weight[start], self._weight[to]) * (gap_s < LONGEST_LINK_S)[:, None]
        within = tolerance(self._part, gap_s) * np.maximum(self._blur[start], self._blur[to])
        # Where the middle of a pair goes is the same whichever side is which: what it does tells a tumbling body, or
        # one that is found wrongly, from one whose sides were exchanged.
        middle = np.linalg.norm((now - from_before + from_after - then).mean(axis=2) / 2, axis=-1)
        wobble = (middle * both).sum(axis=1) / np.maximum(both.sum(axis=1), 1e-9)
        within = np.sqrt(within**2 + middle**2 + (_WOBBLE * wobble[:, None]) ** 2)[..., None]
        cost = np.zeros((last - first, len(PART_NAMES), 2))
        for flip in (0, 1):
            now_is = now[:, :, ::-1] if flip else now
            then_was = then[:, :, ::-1] if flip else then
            # A trunk may as well stop: right after a change of mind, what looks like its speed is the detector's.
            still = disagreement(now_is - then, within)
            still[:, self._is_limb] = np.inf
            off = np.minimum(disagreement(now_is - from_before, within), still)
            off += np.minimum(disagreement(then_was - from_after, within), still[..., ::-1] if flip else still)
            cost[..., flip] = (off.sum(axis=-1) / 4 * both) @ self._members
        return cost


def find_exchanges(motion: BodyMotion, points: PairedPoints) -> Exchanges:
    """Where ``motion`` has left and right exchanged."""
    pairs = np.flatnonzero(points.part >= 0)
    frames = len(motion.row)
    nothing = np.zeros((frames, len(points.left)), bool)
    if frames < 2 or len(pairs) == 0:
        return Exchanges(np.zeros(frames, bool), nothing, nothing)
    step_s = np.clip(np.diff(motion.time_s, append=motion.time_s[-1] + motion.period_s), 0, 4 * motion.period_s)
    links = _Links(motion, points, pairs)

    weights = np.array([_BODY_WEIGHTS[part] for part in PART_NAMES])
    lower = np.isin(PART_NAMES, _LOWER_BODY)
    # States are whether the upper body is exchanged, and whether the lower one is.
    halves = np.array([(0, 0), (1, 1), (0, 1), (1, 0)])
    pattern = np.array([[2 * (a[0] ^ b[0]) + (a[1] ^ b[1]) for b in halves] for a in halves])

    def body_cost(first: int, last: int) -> np.ndarray:
        cost = links.cost(first, last) * weights[:, None]
        above, below = cost[:, :, ~lower].sum(axis=2), cost[:, :, lower].sum(axis=2)
        return np.stack([above[..., flip >> 1] + below[..., flip & 1] for flip in range(4)], axis=-1)

    whole = evidence_against_exchange(motion, points) + _BODY_PER_S
    # A body twisted within itself is rarer than either, whichever half is the right one.
    twisted = np.maximum(whole, 0) + _TWIST_PER_S
    state_cost = np.stack([0 * whole, whole, 0 * whole + _TWIST_PER_S, twisted], axis=-1) * step_s[:, None]
    state_cost[0, 1:] += _BEGIN_EXCHANGED
    change = np.where(pattern == 3, _BODY_CHANGE, np.where(pattern == 0, 0.0, _TWIST_CHANGE))
    state, skipped = _cheapest_path(links.lags, body_cost, pattern, state_cost, change, motion.time_s)
    body = halves[state, 0] == 1
    between = nothing.copy()
    for first, last in _runs(_around_changes(state, skipped)):
        moved = halves[state[max(first - 1, 0)]] != halves[state[min(last, frames - 1)]]
        between[first:last] |= np.where(lower[points.part], moved[1], moved[0])

    exchanged = halves[state][:, lower.astype(int)] == 1

    def cost_left(first: int, last: int) -> np.ndarray:
        """As ``links.cost``, for what is left to be found after these exchanges."""
        cost = links.cost(first, last).copy()
        for lag in range(1, links.lags + 1):
            rows = np.arange(max(first, lag), last)
            frame, part = np.nonzero(exchanged[rows] ^ exchanged[rows - lag])
            at = rows[frame] - first
            cost[lag - 1, at, part] = cost[lag - 1, at, part, ::-1]
        return cost

    limb = exchanged[:, points.part] ^ body[:, None]
    xy = points.exchanged(motion.xy, body[:, None] ^ limb)
    too_long = _too_long_bones(xy, motion.confidence, points)
    for states in (_ARM_STATES, _LEG_STATES, _FACE_STATES):
        used = sorted({PART_NAMES.index(part) for parts in states for part in parts})
        bits = np.array([[PART_NAMES[part] in parts for part in used] for parts in states])
        # A change of state exchanges some of the parts; which of those are there, and which one each change makes.
        changes = bits[:, None] ^ bits[None]
        distinct, which = np.unique(changes.reshape(-1, len(used)), axis=0, return_inverse=True)

        def limb_cost(first: int, last: int, used: list[int] = used, distinct: np.ndarray = distinct) -> np.ndarray:
            cost = cost_left(first, last)[:, :, used]
            return np.stack(
                [np.where(flipped[:, None], cost[..., 1:], cost[..., :1]).sum(axis=(2, 3)) for flipped in distinct],
                axis=-1,
            )

        per_s = np.array([0.0 if not parts else _LIMB_PER_S for parts in states])
        unary = (per_s + _bone_cost(too_long, states)) * step_s[:, None]
        change = _LIMB_CHANGE * (1 - np.eye(len(states)))
        which = which.reshape(len(states), len(states))
        state, skipped = _cheapest_path(links.lags, limb_cost, which, unary, change, motion.time_s)
        exchanged_part = np.zeros((frames, len(PART_NAMES)), bool)
        exchanged_part[:, used] = bits[state]
        limb[:, pairs] ^= exchanged_part[:, points.part[pairs]]
        for first, last in _runs(_around_changes(state, skipped)):
            moved = bits[state[max(first - 1, 0)]] != bits[state[min(last, frames - 1)]]
            parts_moved = [part for part, yes in zip(used, moved, strict=True) if yes]
            between[first:last, np.isin(points.part, parts_moved)] = True
    exchanged_pairs, between = _sorted_out(motion, points, body[:, None] ^ limb, between)
    between |= _unsettled(motion, points, exchanged_pairs, between)
    return Exchanges(body, exchanged_pairs ^ body[:, None], between)


def _sorted_out(
    motion: BodyMotion, points: PairedPoints, exchanged: np.ndarray, between: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Frames on the way, pair by pair: which has arrived, which has not started, and which is really between.

    exchanged, between: (N, P); returns both as they are then
    """
    xy = points.exchanged(motion.xy, exchanged)
    exchanged, lost = exchanged.copy(), between.copy()
    for pair in np.flatnonzero(between.any(axis=0)):
        sides, raw = points.of_pair(xy, pair), points.of_pair(motion.xy, pair)
        within = tolerance(points.part[[pair]], np.array([motion.period_s]))[0, 0]
        for first, last in _runs(between[:, pair]):
            if first == 0 or last == len(between):
                continue
            rows = np.arange(first, last)
            expected = _on_the_way(sides, motion.time_s, first - 1, last, rows)
            both_ways = np.stack([raw[rows], raw[rows, ::-1]], axis=1)
            off = np.linalg.norm(both_ways - expected[:, None], axis=-1).max(axis=-1)
            found = off.min(axis=1) < within
            exchanged[rows[found], pair] = off[found, 1] < off[found, 0]
            lost[rows, pair] = ~found
    return exchanged, lost


def _on_the_way(sides: np.ndarray, time_s: np.ndarray, start: int, end: int, rows: np.ndarray) -> np.ndarray:
    """(rows, 2, 2) where a pair (N, 2, 2) would be if it went straight from frame ``start`` to ``end``."""
    along = ((time_s[rows] - time_s[start]) / (time_s[end] - time_s[start]))[:, None, None]
    return (1 - along) * sides[start] + along * sides[end]


def _unsettled(motion: BodyMotion, points: PairedPoints, exchanged: np.ndarray, between: np.ndarray) -> np.ndarray:
    """(N, P) True for pairs that have not arrived yet, in the first frames after they changed sides."""
    xy = points.exchanged(motion.xy, exchanged)
    result = np.zeros_like(exchanged)
    changed = exchanged[1:] != exchanged[:-1]
    for pair in np.flatnonzero(changed.any(axis=0)):
        sides = points.of_pair(xy, pair)
        within = tolerance(points.part[[pair]], np.array([motion.period_s]))[0, 0]
        for frame in np.flatnonzero(changed[:, pair]):
            start = int(frame)
            while start > 0 and between[start, pair]:
                start -= 1
            end = int(np.searchsorted(motion.time_s, motion.time_s[frame + 1] + _SETTLES_S))
            end = min(end, len(motion.row) - 1)
            span_s = motion.time_s[end] - motion.time_s[start]
            if end < start + 2 or span_s > LONGEST_LINK_S or between[[start, end], pair].any():
                continue
            rows = np.arange(start + 1, end)
            expected = _on_the_way(sides, motion.time_s, start, end, rows)
            off = np.linalg.norm(sides[rows] - expected, axis=-1).max(axis=-1)
            result[rows, pair] |= off > 2 * within
    return result


def _velocities(
    sides: np.ndarray, known: np.ndarray, time_s: np.ndarray, most: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, P, 2, 2) sizes/s of each point against the frame before, and the frame after, whichever side it was there."""
    before, after = np.zeros_like(sides), np.zeros_like(sides)
    for first in range(0, len(sides) - 1, _PIECE):
        last = min(first + _PIECE, len(sides) - 1)
        then, now = slice(first, last), slice(first + 1, last + 1)
        step_s = np.diff(time_s[first : last + 1])[:, None, None, None]
        straight = sides[now] - sides[then]
        crossed = sides[now] - sides[then, :, ::-1]
        is_crossed = (crossed**2).sum(axis=(-1, -2)) < (straight**2).sum(axis=(-1, -2))
        usable = known[now] & known[then] & (step_s[..., 0, 0] < LONGEST_LINK_S)

        def speed(step: np.ndarray, step_s: np.ndarray = step_s, usable: np.ndarray = usable) -> np.ndarray:
            return limited(np.where(usable[..., None, None], step / step_s, 0.0), most[:, None])

        before[now] = speed(np.where(is_crossed[..., None, None], crossed, straight))
        after[then] = speed(np.where(is_crossed[..., None, None], sides[now, :, ::-1] - sides[then], straight))
    return before, after


def _cheapest_path(
    lags: int,
    link_cost: Callable[[int, int], np.ndarray],
    pattern: np.ndarray,
    state_cost: np.ndarray,
    change: np.ndarray,
    time_s: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The states of all frames that together cost least.

    link_cost:  gives (lags, n, patterns) for frames from a first to one past a last; the first pattern is no change
    pattern:    (S, S) which pattern a change from one state to another makes
    state_cost: (N, S)
    change:     (S, S) price of going from one state to another
    returns:    (N,) states, those of skipped frames taken from the nearer end; (N,) True where a frame is skipped
    """
    frames, states = state_cost.shape
    best = np.full((frames, states), np.inf)
    origin = np.zeros((frames, states), np.int64)
    best[0] = state_cost[0]
    same = np.arange(states)
    # In pieces, so that an hour takes no more memory than a few minutes.
    for first in range(1, frames, _PIECE):
        last = min(first + _PIECE, frames)
        cost = link_cost(first, last)
        # A body that turns fast has changed sides a moment later, a detector that changed its mind has the old pose.
        cost[1:] += np.maximum(_SKIP_MARGIN - (cost[1:, :, :1] - cost[1:]), 0.0)
        # Laid out so that for each frame one addition and one search of the minimum do.
        total = cost[:, :, pattern.ravel()].reshape(lags, last - first, states, states) + change
        for lag in range(2, lags + 1):
            rows = np.arange(max(first, lag), last)
            left_out_s = np.minimum(time_s[rows - 1] - time_s[rows - lag], LONGEST_LINK_S)
            total[lag - 1, rows - first] += (_SKIP + _SKIP_PER_S * left_out_s)[:, None, None]
        # Frames are left out on the way to another state only: over a longer time even a jump looks like a step.
        total[1:, :, same, same] = np.inf
        for frame in range(first, last):
            reach = min(lags, frame)
            earlier = best[frame - reach : frame][::-1]
            candidates = (total[:reach, frame - first] + earlier[:, :, None]).reshape(reach * states, states)
            choice = candidates.argmin(axis=0)
            origin[frame] = choice
            best[frame] = candidates[choice, same] + state_cost[frame]
    path = np.zeros(frames, np.int64)
    skipped = np.zeros(frames, bool)
    frame, state = frames - 1, int(best[-1].argmin())
    path[frame] = state
    while frame > 0:
        lag, previous = divmod(int(origin[frame, state]), states)
        earlier_frame = frame - lag - 1
        if lag:
            rows = np.arange(earlier_frame + 1, frame)
            skipped[rows] = True
            nearer_end = time_s[rows] - time_s[earlier_frame] > time_s[frame] - time_s[rows]
            path[rows] = np.where(nearer_end, state, previous)
        frame, state = earlier_frame, previous
        path[frame] = state
    return path, skipped


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and one past the last of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _around_changes(state: np.ndarray, skipped: np.ndarray) -> np.ndarray:
    """(N,) True for skipped frames in which the state changes."""
    result = np.zeros(len(state), bool)
    for first, last in _runs(skipped):
        if state[max(first - 1, 0)] != state[min(last, len(state) - 1)]:
            result[first:last] = True
    return result


def _too_long_bones(xy: np.ndarray, confidence: np.ndarray, points: PairedPoints) -> dict[str, np.ndarray]:
    """(N, 2) for the end of each bone: how far it is too long, as it stands and with the ends exchanged."""
    first = {PART_NAMES[part]: np.flatnonzero(points.part == part)[0] for part in set(points.part.tolist()) - {-1}}
    result = {}
    for start, end, longest in _BONES:
        if start not in first or end not in first:
            continue
        a, b = first[start], first[end]
        starts = xy[:, [points.left[a], points.right[a]]]
        ends = xy[:, [points.left[b], points.right[b]]]
        sure = confidence[:, [points.left[b], points.right[b]]].min(axis=-1)

        def excess(tips: np.ndarray, starts: np.ndarray = starts, longest: float = longest) -> np.ndarray:
            length = np.linalg.norm(tips - starts, axis=-1)
            over = np.maximum(np.nan_to_num(length) - longest, 0) / _BONE_SPREAD
            return np.minimum(over * over, 4.0).sum(axis=-1)

        result[end] = np.stack([excess(ends), excess(ends[:, ::-1])], axis=-1) * sure[:, None] / 8
    return result


def _bone_cost(too_long: dict[str, np.ndarray], states: tuple[tuple[str, ...], ...]) -> np.ndarray:
    """(N, S) cost a second of bones that are too long in each state."""
    columns = []
    for exchanged in states:
        cost: np.ndarray | float = 0.0
        for start, end, _ in _BONES:
            if end in too_long and any(end in parts for parts in states):
                cost = cost + too_long[end][:, int((start in exchanged) != (end in exchanged))]
        columns.append(cost)
    frames = len(next(iter(too_long.values()))) if too_long else 1
    return _BONE_PER_S * np.stack([np.broadcast_to(column, (frames,)) for column in columns], axis=-1)
