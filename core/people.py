"""Who is who: keypoints of single pictures joined into people, through absences and when followers slip."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from statistics import median

import numpy as np
from scipy.optimize import linear_sum_assignment

from .errors import NobodyFoundError
from .sightings import Sighting, Sightings, apart, centres_px, clothes_apart
from .tracks import KeypointTrack

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
# Sizes of so many pictures tell how large somebody is.
_RECENT = 15
# Of what clothes looked like before the last so many looks, less than a thousandth counts.
_CLOTHES_REMEMBERED = 70
# Someone lost may be recognised again for this long; later they are somebody new.
REMEMBERED_S = 4.0
# For so long after somebody vanished, whoever appears on the spot, as large, is the same.
_JUST_LOST_S = 0.5


@dataclass(eq=False)
class Person:
    """Somebody followed through the footage.

    rows:      pictures of the range in which this person was seen, growing
    sightings: what was seen in each of them
    """

    rows: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    sightings: Sightings = field(default_factory=Sightings)
    # Their median counts: one bad picture must not change what a step is.
    _recent_sizes_px: list[float] = field(default_factory=list)
    clothes: np.ndarray | None = None
    clothes_seen_s: float = -np.inf

    def see(self, row: int, time_s: float, sighting: Sighting) -> None:
        """Add what was seen in a picture later than all others."""
        self.rows.append(row)
        self.times_s.append(time_s)
        self.sightings.append(sighting)
        self._recent_sizes_px = [*self._recent_sizes_px[1 - _RECENT :], sighting.size_px]
        if sighting.clothes is not None:
            self._wear(sighting.clothes)
            self.clothes_seen_s = time_s

    def go_on_as(self, other: Person, since: int) -> None:
        """Add all that ``other`` has seen from row ``since`` on, later than all of this person's."""
        part = other.between(bisect_left(other.rows, since), len(other.rows))
        self.rows += part.rows
        self.times_s += part.times_s
        self.sightings.extend(part.sightings)
        self._recent_sizes_px = [*self._recent_sizes_px, *part._recent_sizes_px][-_RECENT:]
        for clothes in part.sightings.last_clothes(_CLOTHES_REMEMBERED):
            self._wear(clothes)

    def between(self, start: int, stop: int) -> Person:
        """Somebody who has seen nothing but entries ``start`` to before ``stop`` of this one's."""
        part = Person(self.rows[start:stop], self.times_s[start:stop], self.sightings[start:stop])
        part._recent_sizes_px = [sighting.size_px for sighting in part.sightings[-_RECENT:]]
        for clothes in part.sightings.last_clothes(_CLOTHES_REMEMBERED):
            part._wear(clothes)
        return part

    def within(self, since_s: float, until_s: float) -> Person:
        """Somebody who has seen nothing but what this one saw from ``since_s`` to ``until_s``."""
        return self.between(bisect_left(self.times_s, since_s), bisect_right(self.times_s, until_s))

    def forget_from(self, row: int) -> None:
        """Take back what was seen from ``row`` on: it was somebody else."""
        count = bisect_left(self.rows, row)
        del self.rows[count:], self.times_s[count:]
        self.sightings.cut_off(count)
        self._recent_sizes_px = [sighting.size_px for sighting in self.sightings[-_RECENT:]]
        if len(clothes := self.sightings.last_clothes(10)):
            self.clothes = clothes.mean(axis=0)

    def _wear(self, clothes: np.ndarray) -> None:
        self.clothes = clothes if self.clothes is None else 0.9 * self.clothes + 0.1 * clothes

    def seen_in(self, row: int) -> Sighting | None:
        at = bisect_left(self.rows, row)
        return self.sightings[at] if at < len(self.rows) and self.rows[at] == row else None

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
        centre_px = centres_px(self.expected_px(time_s))
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
    since = a.rows[-1]
    # The slip began before the two met: that way over is nobody's, either.
    for at in range(len(a.rows) - 1, -1, -1):
        row, time_s, sighting = a.rows[at], a.times_s[at], a.sightings[at]
        other = b.seen_in(row)
        if other is None or apart(sighting.xy_px, other.xy_px, a.size_px) > IN_THE_WAY:
            break
        if a.times_s[-1] - time_s > _SLIP_S and apart(sighting.xy_px, other.xy_px, a.size_px) > SAME_BODY:
            break
        since = row
    misfits = []
    for person in (a, b):
        before = person.between(0, bisect_left(person.rows, since))
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
