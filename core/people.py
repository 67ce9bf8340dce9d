"""Who is who: keypoints of single pictures joined into people, through crossings and absences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from statistics import median

import numpy as np
from scipy.optimize import linear_sum_assignment

from .errors import NobodyFoundError
from .skeletons import MEDIAPIPE_33_NAMES
from .tracks import KeypointTrack

# Fingers and the points of the face tremble; these say where a body is.
_BODY = np.array(
    [
        MEDIAPIPE_33_NAMES.index(name)
        for name in """nose left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
        left_hip right_hip left_knee right_knee left_ankle right_ankle""".split()
    ]
)
_TORSO = np.array(
    [MEDIAPIPE_33_NAMES.index(name) for name in "left_shoulder right_shoulder right_hip left_hip".split()]
)

# Distances between bodies are counted in body sizes (the longer side of the box around them).
# Nearer than this, two sets of keypoints are on one body.
SAME_BODY = 0.16
# Within this, two bodies are in each other's way, and a follower may slip from one to the other.
IN_THE_WAY = 0.5
# A body may move this far between two pictures, and this much more for each second between them.
_STEP, _STEP_PER_S = 0.12, 4.0
# Someone lost is looked for this far around, and further with each second; a brisk walk is 1 body size a second.
_REACH, _REACH_PER_S = 0.7, 2.0
# From one picture to the next a body does not grow or shrink beyond this; while it is lost it may crouch or get up.
_GROWTH, _GROWTH_WHILE_LOST = 1.7, 2.2
# Colour histograms further apart than this (Hellinger, 0 to 1) are of different clothes, whatever the light.
_OTHER_CLOTHES = 0.75
# It takes a follower up to this long to slip from one body to another in its way.
_SLIP_S = 0.3
# Someone lost may be recognised again for this long; later they are somebody new.
REMEMBERED_S = 4.0
# For so long after somebody vanished, whoever appears on the spot, as large, is the same.
_JUST_LOST_S = 0.5
# Two people this close meet, and may be taken for each other until they are further apart.
_MEETING = 1.0
# So much better must two people fit when swapped before a swap is believed.
_SWAP_MARGIN = 0.15
# How they looked and walked for this long before a meeting is compared with as long after it.
_ENCOUNTER_MEMORY_S = 1.5
# For about this long people walk straight on.
_COURSE_KEPT_S = 0.7


@dataclass(frozen=True, eq=False)
class Sighting:
    """One body in one picture.

    xy_px:      (33, 2) pixels
    confidence: (33,) in [0, 1]
    clothes:    colour histogram of the torso, normalised; None where it was not taken
    """

    xy_px: np.ndarray
    confidence: np.ndarray
    clothes: np.ndarray | None = None

    @cached_property
    def size_px(self) -> float:
        """The longer side of the box around the body."""
        body = self.xy_px[_BODY]
        return max(float(np.max(body.max(axis=0) - body.min(axis=0))), 1.0)

    @property
    def centre_px(self) -> np.ndarray:
        """(2,) the middle of the torso."""
        return self.xy_px[_TORSO].mean(axis=0)

    @property
    def torso_px(self) -> np.ndarray:
        """(4, 2) shoulders and hips, as a ring."""
        return self.xy_px[_TORSO]


def apart(a_xy_px: np.ndarray, b_xy_px: np.ndarray, size_px: float) -> float:
    """How far two (33, 2) sets of keypoints lie from each other, in body sizes; the median, so no one limb decides."""
    way_px = a_xy_px[_BODY] - b_xy_px[_BODY]
    # Several times as fast as numpy's median, in every picture: there is one in the middle, because they are odd.
    return float(np.sqrt(np.sort((way_px * way_px).sum(axis=-1))[len(_BODY) // 2])) / size_px


def clothes_apart(a: np.ndarray | None, b: np.ndarray | None) -> float | None:
    """Hellinger distance of two normalised histograms, 0 to 1; None where either is unknown."""
    if a is None or b is None:
        return None
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(a * b).sum())))


@dataclass(eq=False)
class Person:
    """Somebody followed through the footage.

    rows:      pictures of the range in which this person was seen, growing
    sightings: what was seen in each of them
    """

    rows: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    sightings: list[Sighting] = field(default_factory=list)
    # Median of the last sizes: one bad picture must not change what a step is.
    _recent_sizes_px: list[float] = field(default_factory=list)
    clothes: np.ndarray | None = None
    clothes_seen_s: float = -np.inf

    def see(self, row: int, time_s: float, sighting: Sighting) -> None:
        """Add what was seen in a picture later than all others."""
        self.rows.append(row)
        self.times_s.append(time_s)
        self.sightings.append(sighting)
        self._recent_sizes_px = [*self._recent_sizes_px[-14:], sighting.size_px]
        if sighting.clothes is not None:
            known = self.clothes
            self.clothes = sighting.clothes if known is None else 0.9 * known + 0.1 * sighting.clothes
            self.clothes_seen_s = time_s

    def forget_from(self, row: int) -> None:
        """Take back what was seen from ``row`` on: it was somebody else."""
        while self.rows and self.rows[-1] >= row:
            for record in (self.rows, self.times_s, self.sightings):
                record.pop()
        self._recent_sizes_px = [sighting.size_px for sighting in self.sightings[-15:]]
        if clothes := [sighting.clothes for sighting in self.sightings if sighting.clothes is not None]:
            self.clothes = np.mean(clothes[-10:], axis=0)

    @property
    def last(self) -> Sighting:
        return self.sightings[-1]

    @property
    def size_px(self) -> float:
        return median(self._recent_sizes_px)

    def velocity_px(self) -> np.ndarray:
        """(2,) pixels a second over the last quarter second."""
        newest_s = self.times_s[-1]
        oldest = len(self.rows) - 1
        while oldest > 0 and newest_s - self.times_s[oldest - 1] <= 0.25:
            oldest -= 1
        elapsed_s = newest_s - self.times_s[oldest]
        if elapsed_s <= 0:
            return np.zeros(2)
        return (self.last.centre_px - self.sightings[oldest].centre_px) / elapsed_s

    def expected_px(self, time_s: float) -> np.ndarray:
        """(33, 2) where the keypoints should be: onwards as before, slowing down as that gets less certain."""
        ahead_s = 0.4 * (1.0 - np.exp(-(time_s - self.times_s[-1]) / 0.4))
        return self.last.xy_px + self.velocity_px() * ahead_s

    def apart_from(self, sighting: Sighting, time_s: float) -> float:
        """How far ``sighting`` is from where this person should be or was last, whichever is nearer."""
        stayed = apart(self.last.xy_px, sighting.xy_px, self.size_px)
        return min(stayed, apart(self.expected_px(time_s), sighting.xy_px, self.size_px))

    def _growth_to(self, sighting: Sighting) -> float:
        """How much larger ``sighting`` is than this person in the last picture or the last half second.

        The nearer of both counts: neither one bad picture nor a bad start may decide.
        """
        growths = [sighting.size_px / size_px for size_px in (self.size_px, self.last.size_px)]
        return min(growths, key=lambda growth: abs(np.log(growth)))

    def may_have_moved_to(self, sighting: Sighting, time_s: float) -> bool:
        """Whether the picture after the last may show this person as ``sighting``."""
        step = _STEP + _STEP_PER_S * (time_s - self.times_s[-1])
        if not 1 / _GROWTH < self._growth_to(sighting) < _GROWTH:
            return False
        # Most people are where they were.
        stayed = apart(self.last.xy_px, sighting.xy_px, self.size_px)
        return stayed < step or self.apart_from(sighting, time_s) < step

    def cost_of_return(self, sighting: Sighting, time_s: float) -> float:
        """How little ``sighting`` looks like this person, lost since a while; infinite where it can't be."""
        absent_s = time_s - self.times_s[-1]
        centre_px = self.expected_px(time_s)[_TORSO].mean(axis=0)
        away = float(np.linalg.norm(centre_px - sighting.centre_px)) / self.size_px
        reach = _REACH + _REACH_PER_S * absent_s
        just_lost = absent_s < _JUST_LOST_S
        most_growth = _GROWTH if just_lost else _GROWTH_WHILE_LOST
        other_clothes = clothes_apart(self.clothes, sighting.clothes)
        if just_lost and away < _REACH / 2:
            # Right where they vanished a moment ago: the sun came out, nobody changed.
            other_clothes = None
        if away > reach or not 1 / most_growth < self._growth_to(sighting) < most_growth:
            return np.inf
        if other_clothes is not None and other_clothes > _OTHER_CLOTHES:
            return np.inf
        return away / reach + (0.5 if other_clothes is None else other_clothes)


def returns(lost: list[Person], sightings: list[Sighting], time_s: float) -> list[tuple[int, int]]:
    """(person, sighting) pairs: who of the lost is who of the found, best for all together."""
    if not lost or not sightings:
        return []
    cost = np.array([[person.cost_of_return(sighting, time_s) for sighting in sightings] for person in lost])
    impossible = ~np.isfinite(cost)
    # The solver wants numbers; one impossible pair costs more than all possible ones together.
    rows, columns = linear_sum_assignment(np.where(impossible, 1e3, cost))
    return [(int(r), int(c)) for r, c in zip(rows, columns, strict=True) if not impossible[r, c]]


def impostor(a: Person, b: Person, clothes: np.ndarray | None) -> tuple[Person, int]:
    """Of two people followed on one body with ``clothes``: who does not belong there, and since which picture.

    The body belongs to whom its clothes fit, or, where clothes say nothing, to whose way led there.
    """
    pictures_of_b = dict(zip(b.rows, b.sightings, strict=True))
    since = a.rows[-1]
    # The slip began before the two met: that way over is nobody's, either.
    for row, time_s, sighting in zip(reversed(a.rows), reversed(a.times_s), reversed(a.sightings), strict=True):
        other = pictures_of_b.get(row)
        if other is None or apart(sighting.xy_px, other.xy_px, a.size_px) > IN_THE_WAY:
            break
        if a.times_s[-1] - time_s > _SLIP_S and apart(sighting.xy_px, other.xy_px, a.size_px) > SAME_BODY:
            break
        since = row
    misfits = []
    for person in (a, b):
        before = Person()
        for row, time_s, sighting in zip(person.rows, person.times_s, person.sightings, strict=True):
            if row < since:
                before.see(row, time_s, sighting)
        if not before.rows:
            # Followed onto this body from the first picture on: a newcomer has no claim.
            misfits.append(np.inf)
            continue
        fit = clothes_apart(before.clothes, clothes)
        way = apart(before.expected_px(person.times_s[-1]), person.last.xy_px, before.size_px)
        misfits.append((1.0 if fit is None else 2 * fit) + min(way, 1.0))
    if misfits[0] == misfits[1]:
        return (a, since) if len(a.rows) < len(b.rows) else (b, since)
    return (a, since) if misfits[0] > misfits[1] else (b, since)


def untangle(people: list[Person]) -> None:
    """Give back what two people swapped when they met.

    After a meeting, clothes tell who went on as whom; where they are alike, everybody went on as they came.
    """
    for a, b in combinations(people, 2):
        for meeting in _meetings(a, b):
            a_before, b_before = (_before(person, meeting.since_s) for person in (a, b))
            a_after, b_after = (_after(person, meeting.until_s) for person in (a, b))
            if a_before is None or b_before is None or a_after is None or b_after is None:
                continue
            kept = _unlike(a_before, a_after) + _unlike(b_before, b_after)
            swapped = _unlike(a_before, b_after) + _unlike(b_before, a_after)
            if swapped + _SWAP_MARGIN < kept:
                ways = (_way(a_before, b_after), _way(b_before, a_after))
                _swap_from(a, b, _best_row_to_swap(a, b, ways, meeting))


@dataclass(frozen=True)
class _Meeting:
    """Two people in each other's way, from ``since_s`` to ``until_s``."""

    since_s: float
    until_s: float


def _meetings(a: Person, b: Person) -> list[_Meeting]:
    pictures_of_b = dict(zip(b.rows, b.sightings, strict=True))
    together = [
        (time_s, float(np.linalg.norm(mine.centre_px - pictures_of_b[row].centre_px)) / mine.size_px)
        for row, time_s, mine in zip(a.rows, a.times_s, a.sightings, strict=True)
        if row in pictures_of_b
    ]
    meetings: list[_Meeting] = []
    close_s: list[float] = []
    # Pictures that show only one of them in between belong to the meeting: the other is covered.
    for time_s, distance in [*together, (np.inf, np.inf)]:
        if distance < _MEETING:
            close_s.append(time_s)
        elif close_s:
            meetings.append(_Meeting(close_s[0], close_s[-1]))
            close_s = []
    return meetings


def _before(person: Person, time_s: float) -> Person | None:
    """The person as known up to a meeting."""
    return _stretch(person, time_s - _ENCOUNTER_MEMORY_S, time_s)


def _after(person: Person, time_s: float) -> Person | None:
    """The person as known from a meeting on."""
    return _stretch(person, time_s, time_s + _ENCOUNTER_MEMORY_S)


def _stretch(person: Person, since_s: float, until_s: float) -> Person | None:
    part = Person()
    for row, time_s, sighting in zip(person.rows, person.times_s, person.sightings, strict=True):
        if since_s <= time_s <= until_s:
            part.see(row, time_s, sighting)
    return part if part.rows else None


def _unlike(before: Person, after: Person) -> float:
    """How little ``after`` looks like ``before`` going on: by clothes, and by way while that counts."""
    other_clothes = clothes_apart(before.clothes, after.clothes)
    elapsed_s = after.times_s[0] - before.times_s[-1]
    expected_px = before.last.centre_px + before.velocity_px() * elapsed_s
    off_course = float(np.linalg.norm(expected_px - after.sightings[0].centre_px)) / before.size_px
    weight = float(np.exp(-elapsed_s / _COURSE_KEPT_S))
    return (1.0 if other_clothes is None else 2 * other_clothes) + weight * min(off_course, 1.0)


def _way(before: Person, after: Person) -> Callable[[float], np.ndarray]:
    """Where somebody was between ``before`` and ``after``, at any time: on the straight line."""
    start_s, end_s = before.times_s[-1], after.times_s[0]
    start_px, end_px = before.last.centre_px, after.sightings[0].centre_px

    def at(time_s: float) -> np.ndarray:
        return start_px + (end_px - start_px) * (time_s - start_s) / max(end_s - start_s, 1e-6)

    return at


def _best_row_to_swap(
    a: Person, b: Person, ways: tuple[Callable[[float], np.ndarray], Callable[[float], np.ndarray]], meeting: _Meeting
) -> int:
    """The row of the meeting from which on what each has seen lies on the other's way rather than on their own."""
    # What swapping a row gains, in pixels; it counts for that row and all later ones.
    gains_px: dict[int, float] = {}
    for person, own, other in ((a, *ways), (b, ways[1], ways[0])):
        for row, time_s, sighting in zip(person.rows, person.times_s, person.sightings, strict=True):
            if meeting.since_s <= time_s <= meeting.until_s:
                off_own, off_other = (float(np.linalg.norm(sighting.centre_px - way(time_s))) for way in (own, other))
                gains_px[row] = gains_px.get(row, 0.0) + off_own - off_other
    rows = sorted(gains_px)
    gain_from = np.cumsum([gains_px[row] for row in reversed(rows)])[::-1]
    return rows[int(np.argmax(gain_from))]


def _swap_from(a: Person, b: Person, row: int) -> None:
    cut_a, cut_b = int(np.searchsorted(a.rows, row)), int(np.searchsorted(b.rows, row))
    a.rows[cut_a:], b.rows[cut_b:] = b.rows[cut_b:], a.rows[cut_a:]
    a.times_s[cut_a:], b.times_s[cut_b:] = b.times_s[cut_b:], a.times_s[cut_a:]
    a.sightings[cut_a:], b.sightings[cut_b:] = b.sightings[cut_b:], a.sightings[cut_a:]


def pick_people(tracks: list[KeypointTrack], which: str) -> list[KeypointTrack]:
    """The ones wanted out of ``tracks`` (largest first): "largest", "all", or the number of one, from "1".

    Raises NobodyFoundError when there are fewer people than that.
    """
    if not tracks:
        raise NobodyFoundError("Nobody was found in the footage.")
    if which == "all":
        return list(tracks)
    number = 1 if which == "largest" else int(which) if which.isdecimal() else 0
    if not 1 <= number <= len(tracks):
        found = "1 person was" if len(tracks) == 1 else f"{len(tracks)} people were"
        raise NobodyFoundError(
            f"Person {which} is not in the footage: {found} found. "
            f"Choose --person largest, all, or a number from 1 to {len(tracks)}."
        )
    return [tracks[number - 1]]
