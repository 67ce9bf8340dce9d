"""A store of sightings is what a list of them would be."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.sightings import Sighting, Sightings, apart, clothes_apart
from people_samples import BLUE_COAT, RED_COAT, sighting


@settings(deadline=None)
@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4), st.floats(0.05, 20))
def test_distance_counts_in_body_sizes(a, b, size):
    first, second = sighting(a, size=size), sighting(b, size=size)
    expected = abs(a - b) / first.size_px
    assert np.isclose(apart(first.xy_px, second.xy_px, first.size_px), expected, atol=1e-6)


def test_clothes_are_the_same_or_not():
    assert clothes_apart(BLUE_COAT, BLUE_COAT) < 1e-6
    assert clothes_apart(BLUE_COAT, RED_COAT) > 0.7
    assert clothes_apart(BLUE_COAT, None) is None


def test_one_wild_limb_does_not_move_a_body():
    flailing = sighting(0)
    flailing.xy_px[15] += 500
    assert apart(flailing.xy_px, sighting(0).xy_px, 200) == 0


def numbered(number, dressed):
    clothes = np.linspace(0, number, 8) if dressed else None
    return Sighting(np.full((33, 2), float(number)) + [0, 0.5], np.full(33, 1 / (1 + number)), clothes)


def alike(stored, listed):
    return (
        np.array_equal(stored.xy_px, listed.xy_px)
        and np.array_equal(stored.confidence, listed.confidence)
        and (stored.clothes is None) == (listed.clothes is None)
        and (stored.clothes is None or np.allclose(stored.clothes, listed.clothes, atol=1e-7))
    )


steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 600)),
        st.tuples(st.just("cut"), st.floats(0, 1)),
        st.tuples(st.just("extend"), st.tuples(st.floats(0, 1), st.floats(0, 1))),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=40)
@given(steps)
def test_a_store_is_a_list(steps):
    stored, listed, number = Sightings(), [], 0
    for step, how in steps:
        if step == "append":
            for _ in range(how):
                number += 1
                stored.append(numbered(number, number % 7 == 0))
                listed.append(numbered(number, number % 7 == 0))
        elif step == "cut":
            stored.cut_off(int(how * len(listed)))
            del listed[int(how * len(listed)) :]
        elif len(listed) < 5000:
            first, end = sorted(int(share * len(listed)) for share in how)
            stored.extend(stored[first:end])
            listed.extend(listed[first:end])
    assert len(stored) == len(listed)
    assert all(alike(a, b) for a, b in zip(stored, listed, strict=True))
    xy_px = [xy_px for some, _ in stored.bodies() for xy_px in some]
    assert all(np.array_equal(a, b.xy_px) for a, b in zip(xy_px, listed, strict=True))
    assert np.array_equal(stored.sizes_px(), [one.size_px for one in listed])
    assert np.allclose(stored.centres_px(), np.reshape([one.centre_px for one in listed], (-1, 2)))
    assert len(stored.last_clothes(5)) == len([one for one in listed if one.clothes is not None][-5:])
    if listed:
        assert alike(stored[-1], listed[-1]) and alike(stored[0], listed[0])


def test_what_was_taken_out_is_not_changed_by_what_comes_after():
    stored = Sightings(numbered(number, True) for number in range(10))
    kept = stored[5]
    stored.cut_off(3)
    for number in range(100, 110):
        stored.append(numbered(number, False))
    assert kept.xy_px[0, 0] == 5 and stored[5].xy_px[0, 0] == 102 and stored[5].clothes is None


@pytest.mark.parametrize("which", [3, -4])
def test_there_is_nothing_beyond_the_ends(which):
    with pytest.raises(IndexError, match="3"):
        Sightings(numbered(number, False) for number in range(3))[which]


def test_a_sighting_takes_little_more_than_its_numbers():
    tracemalloc.start()
    stored = Sightings(numbered(number, False) for number in range(5120))
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(stored) == 5120 and used < 1.1 * 5120 * 33 * 3 * 8
