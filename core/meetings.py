"""People who met, told apart again: whether they swapped places in what was followed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from .people import Person
from .sightings import clothes_apart

# Two people this close meet, and may be taken for each other until they are further apart.
_MEETING = 1.0
# So much better must two people fit when swapped before a swap is believed.
_SWAP_MARGIN = 0.15
# How they looked and walked for this long before a meeting is compared with as long after it.
_ENCOUNTER_MEMORY_S = 1.5
# For about this long people walk straight on.
_COURSE_KEPT_S = 0.7


def untangle(people: list[Person]) -> None:
    """Give back what two people swapped when they met.

    After a meeting, clothes tell who went on as whom; where they are alike, everybody went on as they came.
    """
    for a, b in combinations(people, 2):
        for meeting in _meetings(a, b):
            a_before, b_before = (
                person.within(meeting.since_s - _ENCOUNTER_MEMORY_S, meeting.since_s) for person in (a, b)
            )
            a_after, b_after = (
                person.within(meeting.until_s, meeting.until_s + _ENCOUNTER_MEMORY_S) for person in (a, b)
            )
            if not (a_before.rows and b_before.rows and a_after.rows and b_after.rows):
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
    if not a.rows or not b.rows or a.rows[-1] < b.rows[0] or b.rows[-1] < a.rows[0]:
        return []
    _, of_a, of_b = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    way_px = a.sightings.centres_px()[of_a] - b.sightings.centres_px()[of_b]
    close = np.linalg.norm(way_px, axis=-1) / a.sightings.sizes_px()[of_a] < _MEETING
    # Pictures that show only one of them in between belong to the meeting: the other is covered.
    begins, ends = np.flatnonzero(np.diff(close, prepend=False, append=False)).reshape(-1, 2).T
    return [_Meeting(a.times_s[of_a[first]], a.times_s[of_a[end - 1]]) for first, end in zip(begins, ends, strict=True)]


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
        met = person.within(meeting.since_s, meeting.until_s)
        for row, time_s, centre_px in zip(met.rows, met.times_s, met.sightings.centres_px(), strict=True):
            off_own, off_other = (float(np.linalg.norm(centre_px - way(time_s))) for way in (own, other))
            gains_px[row] = gains_px.get(row, 0.0) + off_own - off_other
    rows = sorted(gains_px)
    gain_from = np.cumsum([gains_px[row] for row in reversed(rows)])[::-1]
    return rows[int(np.argmax(gain_from))]


def _swap_from(a: Person, b: Person, row: int) -> None:
    of_a, of_b = (person.between(bisect_left(person.rows, row), len(person.rows)) for person in (a, b))
    for person, goes_on in ((a, of_b), (b, of_a)):
        person.forget_from(row)
        person.go_on_as(goes_on, row)
