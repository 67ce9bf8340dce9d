"""Glimpses: what comes into a picture is noticed, noise, the light and whoever is followed are not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.glimpse import Glimpse


def room(seed: int = 0, height: int = 480, width: int = 640) -> np.ndarray:
    """A picture with large things in it."""
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(40, 200, (12, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)[:height, :width]


def with_body(rgb: np.ndarray, left: int, top: int, colour: tuple[int, int, int] = (250, 20, 20)) -> np.ndarray:
    seen = rgb.copy()
    seen[top : top + 100, left : left + 40] = colour
    return seen


def noisy(rgb: np.ndarray, seed: int, light: float = 1.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 6, rgb.shape)
    return (rgb * light + noise).clip(0, 255).astype(np.uint8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 600), st.integers(0, 380))
def test_somebody_a_fifth_as_tall_as_the_picture_is_noticed_anywhere(seed, left, top):
    empty = Glimpse.of(noisy(room(), seed), 0.0, [])
    came = Glimpse.of(noisy(with_body(room(), left, top), seed + 1), 1.0, [])
    assert not came.shows_the_same_as(empty) and not empty.shows_the_same_as(came)


@pytest.mark.parametrize("light", [0.98, 1.0, 1.02])
def test_noise_and_a_cloud_are_not(light):
    before = Glimpse.of(noisy(room(), 1), 0.0, [])
    assert Glimpse.of(noisy(room(), 2, light), 1.0, []).shows_the_same_as(before)


def test_whoever_is_followed_is_not_news_where_they_were_nor_where_they_are():
    def at(left: int) -> Glimpse:
        body = np.array([[left, 200.0], [left + 40.0, 300.0]])
        return Glimpse.of(with_body(room(), left, 200), left / 100, [body])

    assert at(300).shows_the_same_as(at(100))
    beside = with_body(with_body(room(), 300, 200), 500, 100)
    body = np.array([[300.0, 200.0], [340.0, 300.0]])
    assert not Glimpse.of(beside, 3.0, [body]).shows_the_same_as(at(100))


def test_small_pictures_have_glimpses_too():
    tiny = np.zeros((9, 7, 3), np.uint8)
    assert Glimpse.of(tiny, 0.0, []).shows_the_same_as(Glimpse.of(tiny, 1.0, []))
    assert not Glimpse.of(tiny + 200, 0.0, []).shows_the_same_as(Glimpse.of(tiny, 1.0, []))
