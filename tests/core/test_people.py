from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.errors import NobodyFoundError
from keylift.core.people import impostor, pick_people, returns
from people_samples import BLUE_COAT, FPS, RED_COAT, person_at, sighting
from walker import camera_from_world, filmed, walk


def test_somebody_walking_is_expected_ahead():
    walker = person_at(np.arange(10) * 6.0)
    assert np.isclose(walker.velocity_px()[0], 180, rtol=1e-6)
    ahead = walker.expected_px(10 / FPS)[:, 0] - walker.last.xy_px[:, 0]
    assert np.all((ahead > 5) & (ahead < 6.01))
    assert walker.may_have_moved_to(sighting(60), 10 / FPS)
    assert not walker.may_have_moved_to(sighting(300), 10 / FPS)
    assert not walker.may_have_moved_to(sighting(60, size=0.4), 10 / FPS)


def test_somebody_seen_once_is_expected_where_they_were():
    still = person_at([50.0])
    assert np.array_equal(still.expected_px(3.0), still.last.xy_px)


def test_two_who_return_are_told_apart_by_place_and_clothes():
    left, right = person_at([0.0] * 10, BLUE_COAT), person_at([400.0] * 10, RED_COAT)
    later_s = 10 / FPS + 0.7
    assert set(returns([left, right], [sighting(380, RED_COAT), sighting(30, BLUE_COAT)], later_s)) == {(0, 1), (1, 0)}
    # Changed places while nobody could see them: the coats went along.
    assert set(returns([left, right], [sighting(380, BLUE_COAT), sighting(30, RED_COAT)], later_s + 1)) == {
        (0, 0),
        (1, 1),
    }


def test_a_stranger_is_not_taken_for_somebody_lost():
    lost = person_at([0.0] * 10, BLUE_COAT)
    assert returns([lost], [sighting(60, RED_COAT)], 10 / FPS + 1.5) == []
    assert returns([lost], [sighting(2000, BLUE_COAT)], 10 / FPS + 0.2) == []
    assert returns([], [sighting(0)], 1.0) == [] == returns([lost], [], 1.0)


@pytest.mark.parametrize("clothes", [(BLUE_COAT, RED_COAT), (None, None)], ids=["by clothes", "by way"])
def test_of_two_on_one_body_the_one_who_slipped_there_is_found(clothes):
    walks = 200 - 8.0 * np.arange(20)
    stays = person_at(walks, clothes[0])
    # Came from the left, and at row 14 turned back with the body it met.
    slips = person_at(np.concatenate([8.0 * np.arange(14) - 40, walks[14:] + 2]), clothes[1])
    for a, b in ((stays, slips), (slips, stays)):
        who, since = impostor(a, b, clothes[0])
        assert who is slips and 8 <= since <= 14
    slips.forget_from(since)
    assert slips.rows[-1] == since - 1 and len(slips.times_s) == len(slips.sightings) == len(slips.rows)


def test_a_newcomer_has_no_claim_to_a_followed_body():
    known, newcomer = person_at(np.zeros(30)), person_at(np.zeros(3), first_row=27)
    who, since = impostor(known, newcomer, None)
    assert who is newcomer and since == 27
    newcomer.forget_from(since)
    assert newcomer.rows == []


# ---- Picking --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tracks():
    _, track = filmed(walk(5), Camera.guessed((640, 480)), camera_from_world())
    return [replace(track, person=number) for number in (1, 2, 3)]


@pytest.mark.parametrize("which, expected", [("largest", [1]), ("1", [1]), ("3", [3]), ("all", [1, 2, 3])])
def test_people_are_picked_by_size_and_number(tracks, which, expected):
    assert [track.person for track in pick_people(tracks, which)] == expected


@pytest.mark.parametrize("which", ["0", "4", "-1", "the tall one"])
def test_asking_for_somebody_who_is_not_there_says_who_is(tracks, which):
    with pytest.raises(NobodyFoundError, match="3 people were found"):
        pick_people(tracks, which)


def test_nobody_can_be_picked_from_nobody():
    with pytest.raises(NobodyFoundError):
        pick_people([], "all")
