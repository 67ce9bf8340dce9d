"""The two sides of a pair on clocks of their own: what a detector saw in the footage, and where the body really was."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import median_filter

from ...core.camera import Camera
from ...core.detector_sites import detector_sites
from ...core.lifter.ray_windows import lifter_points
from ...core.skeletons import LANDMARKS_41, LIFTER_21_NAMES, mirrored_layout
from ...core.tracks import KeypointTrack

# Points that a detector doubts more than this say nothing about how large the person is in the picture.
_SURE = 0.3
_BOX_SMOOTHED_S = 1.0
_FEWEST_POINTS = 6
MIRRORED = mirrored_layout(LIFTER_21_NAMES)


@dataclass(frozen=True, eq=False)
class SeenSide:
    """Keypoints as the rays of a lens.

    rays:   (F, 21, 2) x/z and y/z, 0 where unseen
    weight: (F, 21) in [0, 1], 0 where unseen
    box:    (F,) longer side of the person's box, as rays; that of the neighbours where nobody was seen
    time_s: (F,)
    """

    rays: np.ndarray
    weight: np.ndarray
    box: np.ndarray
    time_s: np.ndarray

    @property
    def fps(self) -> float:
        """Frames a second, as most of them follow each other."""
        return float(1 / np.median(np.diff(self.time_s)))

    def of(self, rows: np.ndarray) -> SeenSide:
        """Some of the frames."""
        return SeenSide(self.rays[rows], self.weight[rows], self.box[rows], self.time_s[rows])

    def thinned(self, most: int) -> SeenSide:
        """At most so many frames, spread evenly over those in which the person is seen; all where there are fewer."""
        rows = np.flatnonzero((self.weight > 0).any(axis=1))
        if len(rows) <= most:
            return self
        return self.of(rows[np.linspace(0, len(rows) - 1, most).round().astype(int)])

    def exchanged(self, rows: np.ndarray) -> SeenSide:
        """Left and right of frames ``rows`` (F,) bool taken for each other."""
        rays, weight = self.rays.copy(), self.weight.copy()
        rays[rows], weight[rows] = rays[rows][:, MIRRORED], weight[rows][:, MIRRORED]
        return replace(self, rays=rays, weight=weight)

    def between_sides(self) -> SeenSide:
        """The middle of each pair of points in place of both: the same whichever is called left."""
        weight = np.minimum(self.weight, self.weight[:, MIRRORED])
        return replace(self, rays=(self.rays + self.rays[:, MIRRORED]) / 2, weight=weight)


def seen_side(track: KeypointTrack, camera: Camera) -> SeenSide:
    """What ``track`` shows through ``camera``. Frames with hardly a keypoint count as unseen."""
    xy_px, confidence = lifter_points(track)
    there = np.isfinite(xy_px).all(axis=-1) & (confidence > 0)
    there &= (there.sum(axis=1) >= _FEWEST_POINTS)[:, None]
    rays = np.where(there[..., None], camera.rays(np.where(there[..., None], xy_px, 0.0)), 0.0)
    return SeenSide(rays, np.where(there, confidence, 0.0), _boxes(rays, there, confidence, track.time_s), track.time_s)


def _boxes(rays: np.ndarray, there: np.ndarray, confidence: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    sure = there & (confidence > _SURE)
    sure[sure.sum(axis=1) < _FEWEST_POINTS] = False
    if not (rows := np.flatnonzero(sure.any(axis=1))).size:
        return np.ones(len(rays))
    low = np.where(sure[rows, :, None], rays[rows], np.inf).min(axis=1)
    high = np.where(sure[rows, :, None], rays[rows], -np.inf).max(axis=1)
    span = 2 * round(_BOX_SMOOTHED_S / 2 / float(np.median(np.diff(time_s)))) + 1
    smooth = median_filter((high - low).max(axis=1), span, mode="nearest")
    return np.maximum(np.interp(time_s, time_s[rows], smooth), 1e-6)


@dataclass(frozen=True, eq=False)
class MotionSide:
    """A captured motion.

    positions_m: (M, 41, 3) world, metres, NaN where unknown
    sites_m:     (M, 21, 3) where a detector marks that body
    fps:         frames a second
    """

    positions_m: np.ndarray
    sites_m: np.ndarray
    fps: float

    @property
    def length_s(self) -> float:
        return (len(self.positions_m) - 1) / self.fps

    def between_sides(self) -> MotionSide:
        """The middle of each pair of sites in place of both."""
        return replace(self, sites_m=(self.sites_m + self.sites_m[:, MIRRORED]) / 2)

    def mirrored(self) -> MotionSide:
        """What a mirror shows of it: another person who does the same with the other hand."""
        return replace(self, sites_m=self.sites_m[:, MIRRORED] * np.array([-1.0, 1.0, 1.0]))

    def sites_at(self, time_s: np.ndarray) -> np.ndarray:
        """(F, 21, 3) at (F,) seconds from its first frame; NaN before and after it."""
        return drawn_between(self.sites_m, time_s * self.fps)

    def positions_at(self, time_s: np.ndarray) -> np.ndarray:
        """(F, 41, 3) at (F,) seconds from its first frame; NaN before and after it."""
        return drawn_between(self.positions_m, time_s * self.fps)


def motion_side(positions_m: np.ndarray, fps: float) -> MotionSide:
    """The motion with what a detector would mark of it.

    Where a landmark is unknown that a mark is measured from, the joint of the mark's name itself stands in for it.
    """
    positions_m = np.asarray(positions_m, float)
    sites = detector_sites(positions_m)
    plain = positions_m[:, LANDMARKS_41.indices(*LIFTER_21_NAMES)]
    return MotionSide(positions_m, np.where(np.isfinite(sites), sites, plain), float(fps))


def drawn_between(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(M, ...) values at (F,) rows that lie between theirs, by a cubic through the four nearest (Catmull-Rom).

    A straight line where one of the outer two is unknown; NaN where an inner one is, or where there is none.
    """
    last = len(values) - 1
    # A row that is outside by rounding alone is inside.
    inside = (rows >= -1e-6) & (rows <= last + 1e-6)
    rows = np.clip(rows, 0, last)
    first = np.minimum(rows.astype(int), max(last - 1, 0))
    u = (rows - first).reshape(-1, *[1] * (values.ndim - 1))
    a, b = values[first], values[np.minimum(first + 1, last)]
    before, after = values[np.maximum(first - 1, 0)], values[np.minimum(first + 2, last)]
    at_end = ((first == 0) | (first + 2 > last)).reshape(u.shape)
    line = np.where(u == 0, a, np.where(u == 1, b, (1 - u) * a + u * b))
    slope_a, slope_b = (b - before) / 2, (after - a) / 2
    curve = line + u * (1 - u) * ((1 - u) * (slope_a - (b - a)) + u * ((b - a) - slope_b))
    drawn = np.where(at_end | ~np.isfinite(curve), line, curve)
    drawn[~inside] = np.nan
    return drawn
