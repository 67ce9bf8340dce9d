"""People found in parts of the footage, each part looked at by itself, put together again.

A part begins some pictures before its seam, and so both sides know what is to be seen there.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import numpy as np
from scipy.optimize import linear_sum_assignment

from .people import REMEMBERED_S, SAME_BODY, Person, returns
from .sightings import Sighting, apart

# Over so many pictures before the seam, one side's keypoints become the other's.
BLENDED_FRAMES = 8


def join_spans(parts: Iterable[list[Person]], seams: list[int]) -> list[Person]:
    """Everybody in ``parts``, who went on from one part to the next as one person.

    seams: the row from which on each part but the first is believed; it may know some rows before
    """
    following_parts = iter(parts)
    everybody = next(following_parts)
    for following, seam in zip(following_parts, seams, strict=True):
        everybody = _joined(everybody, following, seam)
    return everybody


def _joined(before: list[Person], after: list[Person], seam: int) -> list[Person]:
    goes_on = _same_bodies(before, after)
    newcomers = []
    for person in after:
        if person in goes_on:
            _go_on(goes_on[person], person, seam)
            continue
        own = Person()
        own.go_on_as(person, seam)
        if own.rows:
            newcomers.append(own)
    return [*before, *_come_back(before, newcomers)]


def _same_bodies(before: list[Person], after: list[Person]) -> dict[Person, Person]:
    """Of each in ``after`` who it is in ``before``, where both were seen in the same pictures."""
    if not before or not after:
        return {}
    distance = np.array([[_apart_in_common(a, b) for b in before] for a in after])
    rows, columns = linear_sum_assignment(np.minimum(distance, 1e3))
    return {
        after[row]: before[column]
        for row, column in zip(rows, columns, strict=True)
        if distance[row, column] < SAME_BODY
    }


def _apart_in_common(a: Person, b: Person) -> float:
    """How far two people are apart in the last pictures that show both; infinite where none does."""
    if not a.rows or not b.rows or b.rows[-1] < a.rows[0]:
        return np.inf
    together = []
    for at in range(bisect_right(a.rows, b.rows[-1]) - 1, -1, -1):
        other, sighting = b.seen_in(a.rows[at]), a.sightings[at]
        if other is not None:
            together.append(apart(sighting.xy_px, other.xy_px, sighting.size_px))
        if len(together) == BLENDED_FRAMES:
            break
    return float(np.median(together)) if together else np.inf


def _go_on(person: Person, later: Person, seam: int) -> None:
    """Let ``person`` be ``later`` from the seam on, and change over before it."""
    blends_from = seam - BLENDED_FRAMES
    mine, theirs = (_seen_between(one, blends_from, seam) for one in (person, later))
    person.forget_from(blends_from)
    for row in sorted(mine | theirs):
        time_s, sighting = mine.get(row) or theirs[row]
        if row in mine and row in theirs:
            share = (row - blends_from + 1) / (BLENDED_FRAMES + 1)
            sighting = _blended(sighting, theirs[row][1], share)
        person.see(row, time_s, sighting)
    person.go_on_as(later, seam)


def _seen_between(person: Person, first: int, end: int) -> dict[int, tuple[float, Sighting]]:
    part = person.between(bisect_left(person.rows, first), bisect_left(person.rows, end))
    return dict(zip(part.rows, zip(part.times_s, part.sightings, strict=True), strict=True))


def _blended(a: Sighting, b: Sighting, share: float) -> Sighting:
    return Sighting(
        (1 - share) * a.xy_px + share * b.xy_px,
        (1 - share) * a.confidence + share * b.confidence,
        a.clothes if a.clothes is not None else b.clothes,
    )


def _come_back(before: list[Person], newcomers: list[Person]) -> list[Person]:
    """Who of the newcomers is nobody known; those who were lost when the seam came are themselves again."""
    unknown = []
    for newcomer in sorted(newcomers, key=lambda person: person.rows[0]):
        time_s = newcomer.times_s[0]
        lost = [
            person
            for person in before
            if person.rows and person.rows[-1] < newcomer.rows[0] and time_s - person.times_s[-1] <= REMEMBERED_S
        ]
        back = returns(lost, [newcomer.sightings[0]], time_s)
        if back:
            lost[back[0][0]].go_on_as(newcomer, newcomer.rows[0])
        else:
            unknown.append(newcomer)
    return unknown
