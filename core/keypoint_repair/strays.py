"""Keypoints that jump away and come back, that vanish for a moment, or that lie on somebody else's body."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import median_filter

from ..gaps import LONGEST_BRIDGE_S
from .motion import BodyMotion, tolerance
from .paired_points import PART_NAMES, PairedPoints

# A run of outliers that is longer than can be bridged is still found within this, and doubted.
_LONGEST_RUN_S = 0.5
_MOST_LAGS = 30
# Price of leaving a run out, the same for every length but for this; a link costs at most the cap.
_LEAVE_OUT, _LEAVE_OUT_PER_S = 5.0, 6.0
_LINK_CAP = 6.0
# Points jitter more than the parts of the body that ``tolerance`` is about.
_EXTRA_NOISE = 0.008
# Part of a fast limb's way in one frame by which it may miss what was expected.
_SPEED_SHARE = 0.5
_SPEED_WINDOW_S = 0.4
_CENTRE_WINDOW_S = 0.3
# Bridges hang on keypoints that are surer than this.
_SURE = 0.2
# What is left of a doubted point's confidence.
DOUBTED_CONFIDENCE = 0.3
# Somebody else: the trunk's middle jumps by this many sizes, or the size by this factor, and both jump back.
_AWAY, _AWAY_PER_S, _GROWN = 0.2, 2.0, 1.35
_LONGEST_VISIT_S = 1.0
# Anchors of a bridge on each side.
_ANCHORS = 3


def find_visits(motion: BodyMotion, sizes_px: np.ndarray) -> np.ndarray:
    """(N,) True in short runs of frames in which the track was on somebody else.

    sizes_px: (N,) longer side of the box in each frame alone
    """
    frames = len(motion.row)
    away = np.zeros(frames, bool)
    if frames < 3:
        return away
    step_s = np.diff(motion.time_s)
    typical = np.minimum(motion.size_px[1:], motion.size_px[:-1])
    moved = np.linalg.norm(np.diff(motion.centre_px, axis=0), axis=-1) / typical
    grown = np.abs(np.diff(np.log(sizes_px)))
    jumps = np.flatnonzero((moved > _AWAY + _AWAY_PER_S * step_s) | (grown > np.log(_GROWN) + step_s))
    # A jump away and the next one back, with the body where it was before: the frames between are somebody else's.
    for first, second in zip(jumps[:-1], jumps[1:], strict=True):
        before, inside, after = first, first + 1, second + 1
        gap_s = motion.time_s[after] - motion.time_s[before]
        if gap_s > _LONGEST_VISIT_S:
            continue
        home = np.linalg.norm(motion.centre_px[after] - motion.centre_px[before]) / motion.size_px[before]
        same_size = abs(np.log(sizes_px[after] / sizes_px[before])) < np.log(_GROWN)
        far = np.linalg.norm(motion.centre_px[inside:after] - motion.centre_px[before], axis=-1)
        other_size = np.abs(np.log(sizes_px[inside:after] / sizes_px[before])) > np.log(_GROWN)
        elsewhere = (far > _AWAY * motion.size_px[before]) | other_size
        if home < _AWAY / 2 + _AWAY_PER_S * gap_s / 2 and same_size and elsewhere.all():
            away[inside:after] = True
    return away


def find_outliers(motion: BodyMotion, points: PairedPoints) -> np.ndarray:
    """(N, K) True where a keypoint is off the way that it takes before and after.

    The way of each point is the cheapest path through its frames: it pays for what disagrees with the motion so far,
    and a price for each run of frames that it leaves out. Found by dynamic programming, only around frames in which
    something disagrees at all.
    """
    frames, count = motion.xy.shape[:2]
    outlier = np.zeros((frames, count), bool)
    known = np.isfinite(motion.xy).all(axis=-1)
    if frames < 4:
        return outlier
    # One wrong corner of the trunk must not move everything else.
    window = min(2 * int(_CENTRE_WINDOW_S / motion.period_s / 2) + 1, 2 * frames + 1)
    steady = median_filter(motion.centre_px, (window, 1), mode="nearest")
    places = motion.xy + ((motion.centre_px - steady) / motion.size_px[:, None])[:, None]
    part = points.part_of_points()
    part = np.where(part < 0, PART_NAMES.index("face"), part)
    lags = int(np.clip(np.ceil(_LONGEST_RUN_S / motion.period_s), 2, _MOST_LAGS))
    for point in range(count):
        rows = np.flatnonzero(known[:, point])
        if len(rows) < 4:
            continue
        xy, time_s = places[rows, point], motion.time_s[rows]
        noise = _Way(xy, time_s, part[point], motion.period_s)
        suspicious = np.flatnonzero(noise.link_cost(1) > _LINK_CAP / 3)
        for first, last in _neighbourhoods(suspicious, lags, len(rows)):
            outlier[rows[first:last], point] = noise.left_out(first, last, lags)
    return outlier


class _Way:
    """One point's places over time, and how far it may be from where it was expected."""

    def __init__(self, xy: np.ndarray, time_s: np.ndarray, part: int, period_s: float) -> None:
        self.xy, self.time_s, self.part = xy, time_s, part
        step_s = np.diff(time_s)
        speed = np.linalg.norm(np.diff(xy, axis=0), axis=-1) / step_s
        window = 2 * int(_SPEED_WINDOW_S / period_s / 2) + 1
        # The median: a jump there and back is no speed, a kick of many frames is.
        usual = median_filter(np.concatenate([speed, speed[-1:]]), min(window, 2 * len(speed) + 1), mode="nearest")
        self.slack = usual * period_s * _SPEED_SHARE + _EXTRA_NOISE
        self.before, self.after = np.zeros_like(xy), np.zeros_like(xy)
        self.before[1:] = self.after[:-1] = np.diff(xy, axis=0) / step_s[:, None]

    def link_cost(self, lag: int, first: int = 0, last: int | None = None) -> np.ndarray:
        """(n,) cost of going from frame i - lag to i, for i from ``first`` to ``last``; 0 where there is no i - lag."""
        last = len(self.xy) if last is None else last
        cost = np.zeros(last - first)
        to = np.arange(max(first, lag), last)
        if len(to) == 0:
            return cost
        start = to - lag
        gap_s = self.time_s[to] - self.time_s[start]
        within = tolerance(np.array([self.part]), gap_s)[:, 0] + np.maximum(self.slack[to], self.slack[start])
        step = self.xy[to] - self.xy[start]
        # Right beside an outlier a point's speed is not its own: staying where it was will do as well.
        off = np.minimum(
            np.minimum(
                np.linalg.norm(step - self.before[start] * gap_s[:, None], axis=-1),
                np.linalg.norm(step - self.after[to] * gap_s[:, None], axis=-1),
            ),
            np.linalg.norm(step, axis=-1),
        )
        cost[to - first] = np.minimum(np.maximum((off / within) ** 2 / 2 - 1, 0), _LINK_CAP)
        return cost

    def left_out(self, first: int, last: int, lags: int) -> np.ndarray:
        """(last - first,) True for the frames that the cheapest path leaves out."""
        frames = last - first
        lags = min(lags, frames - 1)
        costs = np.stack([self.link_cost(lag, first, last) for lag in range(1, lags + 1)])
        time_s = self.time_s[first:last]
        best, origin = np.zeros(frames), np.zeros(frames, np.int64)
        for frame in range(1, frames):
            reach = np.arange(1, min(lags, frame) + 1)
            span_s = time_s[frame] - time_s[frame - reach]
            price = np.where(reach > 1, _LEAVE_OUT + _LEAVE_OUT_PER_S * span_s, 0.0)
            total = best[frame - reach] + costs[reach - 1, frame] + price
            choice = int(total.argmin())
            best[frame], origin[frame] = total[choice], reach[choice]
        out = np.ones(frames, bool)
        frame = frames - 1
        while frame > 0:
            out[frame] = False
            frame -= int(origin[frame])
        out[0] = False
        return out


def _neighbourhoods(frames: np.ndarray, reach: int, count: int) -> list[tuple[int, int]]:
    """Stretches (first, one past the last) of ``reach`` around ``frames``, joined where they meet."""
    stretches: list[tuple[int, int]] = []
    for frame in frames.tolist():
        first, last = max(frame - reach - 2, 0), min(frame + reach + 3, count)
        if stretches and first <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], last)
        else:
            stretches.append((first, last))
    return stretches


def bridge(
    xy: np.ndarray, confidence: np.ndarray, good: np.ndarray, wanted: np.ndarray, time_s: np.ndarray
) -> np.ndarray:
    """Fill the frames of one point that are ``wanted`` (F,) from those that are ``good`` (F,), where that is close by.

    xy:         (F, 2) and confidence (F,), both changed in place
    returns:    (F,) True where it was bridged: between two good frames that are at most LONGEST_BRIDGE_S apart
    """
    done = np.zeros(len(xy), bool)
    rows = np.flatnonzero(good)
    if len(rows) < 2 or not wanted.any():
        return done
    for before, after in zip(rows[:-1], rows[1:], strict=True):
        inside = np.arange(before + 1, after)
        gap_s = time_s[after] - time_s[before]
        if len(inside) == 0 or gap_s > LONGEST_BRIDGE_S or not wanted[inside].any():
            continue
        if min(confidence[before], confidence[after]) < _SURE:
            continue
        at = np.searchsorted(rows, before)
        anchors = rows[max(at - _ANCHORS + 1, 0) : at + 1 + _ANCHORS]
        anchors = anchors[np.abs(time_s[anchors] - time_s[before]) < 4 * LONGEST_BRIDGE_S]
        fill = inside[wanted[inside]]
        xy[fill] = PchipInterpolator(time_s[anchors], xy[anchors])(time_s[fill])
        along = (time_s[fill] - time_s[before]) / gap_s
        sides = (1 - along) * confidence[before] + along * confidence[after]
        depth = 4 * along * (1 - along) * gap_s / LONGEST_BRIDGE_S
        confidence[fill] = sides * (1 - 0.8 * depth)
        done[fill] = True
    return done
