import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keylift.core.people import Person
from keylift.core.span_joining import BLENDED_FRAMES, join_spans
from people_samples import BLUE_COAT, FPS, RED_COAT, person_at, sighting

SEAM, WARM = 60, 15


def xs(person):
    return {row: float(seen.xy_px[0, 0]) for row, seen in zip(person.rows, person.sightings, strict=True)}


def walker(start, step, rows, clothes=None):
    return person_at([start + step * row for row in rows], clothes, rows[0])


def test_two_who_go_on_are_told_apart_whatever_their_order():
    left, right = walker(0, 2, range(SEAM)), walker(900, -2, range(SEAM))
    after = [walker(900, -2, range(SEAM - WARM, 120)), walker(0, 2, range(SEAM - WARM, 120))]
    joined = join_spans([[left, right], after], [SEAM])
    assert len(joined) == 2
    for person, start, step in zip(joined, (0, 900), (2, -2), strict=True):
        assert person.rows == list(range(120))
        assert np.allclose([xs(person)[row] for row in range(120)], [start - 30 + step * row for row in range(120)])
        assert np.allclose(person.times_s, np.arange(120) / FPS)


@given(st.floats(-8, 8), st.integers(2, 5))
def test_one_sides_keypoints_become_the_others_without_a_jump(off_px, parts):
    pieces = [
        [walker(off_px * (number % 2), 1, range(max(0, number * SEAM - WARM), (number + 1) * SEAM))]
        for number in range(parts)
    ]
    seams = [number * SEAM for number in range(1, parts)]
    (person,) = join_spans(pieces, seams)
    assert person.rows == list(range(parts * SEAM))
    steps = np.diff([xs(person)[row] for row in person.rows]) - 1
    assert np.abs(steps).max() <= abs(off_px) / BLENDED_FRAMES + 1e-6
    assert np.isclose(xs(person)[SEAM], off_px - 30 + SEAM)


def test_who_was_seen_only_by_the_part_that_is_not_believed_there_is_nobody():
    joined = join_spans(
        [[walker(0, 1, range(SEAM))], [walker(0, 1, range(SEAM - WARM, 90)), walker(700, 0, range(50, 58))]], [SEAM]
    )
    assert len(joined) == 1


def test_a_newcomer_begins_at_the_seam():
    joined = join_spans(
        [[walker(0, 1, range(SEAM))], [walker(0, 1, range(SEAM - WARM, 90)), walker(700, 0, range(50, 90))]], [SEAM]
    )
    assert [person.rows[0] for person in joined] == [0, SEAM]


def test_who_was_lost_at_the_seam_comes_back_as_themselves():
    lost = walker(0, 2, range(40), BLUE_COAT)
    back = walker(0, 2, range(80, 120), BLUE_COAT)
    (person,) = join_spans([[lost], [back]], [SEAM])
    assert person.rows == [*range(40), *range(80, 120)]
    other = walker(0, 2, range(80, 120), RED_COAT)
    assert len(join_spans([[walker(0, 2, range(40), BLUE_COAT)], [other]], [SEAM])) == 2
    late = walker(0, 0, range(400, 420), BLUE_COAT)
    assert len(join_spans([[walker(0, 0, range(40), BLUE_COAT)], [late]], [SEAM])) == 2


def test_nobody_on_one_side_or_both():
    assert join_spans([[], []], [SEAM]) == []
    assert len(join_spans([[], [walker(0, 1, range(50, 90))]], [SEAM])) == 1
    (gone,) = join_spans([[walker(0, 1, range(SEAM))], []], [SEAM])
    assert gone.rows[-1] == SEAM - 1


def test_somebody_first_seen_while_sides_change_over():
    before = walker(0, 1, range(SEAM - 4, SEAM))
    (person,) = join_spans([[before], [walker(0, 1, range(SEAM - 10, 90))]], [SEAM])
    assert person.rows == list(range(SEAM - BLENDED_FRAMES, 90))
    assert isinstance(person, Person) and sighting(0).size_px == person.size_px
