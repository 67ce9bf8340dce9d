import numpy as np
import pytest

from keylift.core.meetings import untangle
from keylift.core.people import Person
from people_samples import BLUE_COAT, FPS, RED_COAT, person_at, sighting


def crossing(swap_at):
    """Two walk through each other; from row ``swap_at`` on each is taken for the other."""
    to_the_right, to_the_left = 10.0 * np.arange(60), 590 - 10.0 * np.arange(60)
    blue = [sighting(x, BLUE_COAT) for x in to_the_right]
    red = [sighting(x, RED_COAT) for x in to_the_left]
    a, b = Person(), Person()
    for row in range(60):
        mine, theirs = (blue[row], red[row]) if row < swap_at else (red[row], blue[row])
        a.see(row, row / FPS, mine)
        b.see(row, row / FPS, theirs)
    return a, b


@pytest.mark.parametrize("swap_at", [29, 30, 60])
def test_a_swap_at_a_meeting_is_undone_and_a_true_crossing_is_left(swap_at):
    a, b = crossing(swap_at)
    untangle([a, b])
    outside_of_the_meeting = [row for row in range(60) if abs(row - 29.5) > 6]
    assert all(np.argmax(a.sightings[row].clothes) == 1 for row in outside_of_the_meeting)
    assert all(np.argmax(b.sightings[row].clothes) == 5 for row in outside_of_the_meeting)
    assert a.rows == b.rows == list(range(60))


def test_people_who_never_met_are_left():
    first, later = person_at(np.zeros(20), BLUE_COAT), person_at(np.zeros(20), RED_COAT, first_row=30)
    untangle([first, later])
    assert first.rows == list(range(20)) and later.rows == list(range(30, 50))
    assert np.argmax(first.last.clothes) == 1 and np.argmax(later.last.clothes) == 5
