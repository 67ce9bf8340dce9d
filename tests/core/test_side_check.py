"""The lifter tells which side is which, over whole clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.lifter import side_check
from keylift.core.lifter.lifting import load_ray_lifter
from keylift.core.lifter.side_check import check_sides
from keylift.core.skeletons import LIFTER_21_NAMES, mirrored_layout
from keylift.core.tracks import Change
from keylift.core.weights import find_weights
from walker import camera_from_world, filmed, walk

CAMERA = Camera.guessed((1280, 720))
ORDER = mirrored_layout(LIFTER_21_NAMES)


@pytest.fixture(scope="module")
def lifter():
    return load_ray_lifter(find_weights("default"), "cpu")


def seen(heading_rad: float, frames: int = 100):
    track = filmed(walk(frames, 30.0, heading_rad), CAMERA, camera_from_world(0.1, 0.0, 6.0))[1]
    noise = np.random.default_rng(0).normal(size=track.xy_px.shape)
    return replace(track, xy_px=track.xy_px + noise)


def exchanged(track, rows):
    xy_px = track.xy_px.copy()
    xy_px[rows] = xy_px[rows][:, ORDER]
    return replace(track, xy_px=xy_px)


@pytest.mark.parametrize("heading_rad", [0.3, 1.2, 2.6, 4.0])
def test_a_clip_that_is_right_comes_back_as_it_is(lifter, heading_rad):
    track = seen(heading_rad)
    assert check_sides(track, CAMERA, lifter) is track


@pytest.mark.parametrize(
    ("heading_rad", "rows"),
    [(0.3, slice(0, 100)), (0.3, slice(0, 70)), (0.3, slice(30, 60)), (2.6, slice(30, 60)), (2.6, slice(0, 60))],
)
def test_exchanged_stretches_are_exchanged_back_and_noted(lifter, heading_rad, rows):
    track = seen(heading_rad)
    wrong = exchanged(track, rows)
    right = check_sides(wrong, CAMERA, lifter)
    off = np.abs(right.xy_px - track.xy_px).max(axis=(1, 2)) > 1e-9
    assert off.mean() < 0.05
    noted = (right.changes == Change.BODY_EXCHANGED).any(axis=1)
    changed = (right.xy_px != wrong.xy_px).any(axis=(1, 2))
    assert (noted == changed).all()
    # The middle of the body has no side.
    assert not right.changes[:, LIFTER_21_NAMES.index("nose")].any()


def test_what_was_exchanged_before_is_told_as_untouched_when_exchanged_back(lifter):
    track = exchanged(seen(0.3), slice(0, 100))
    paired = np.arange(len(ORDER)) != ORDER
    changes = np.where(paired, Change.BODY_EXCHANGED, Change.UNTOUCHED).astype(np.uint8)
    right = check_sides(replace(track, changes=np.tile(changes, (100, 1))), CAMERA, lifter)
    assert not right.changes.any()


def test_limbs_exchanged_before_are_told_so_that_all_can_be_undone(lifter):
    """The repair exchanged the wrists, the check the whole body: the wrists are as the detector had them."""
    detected = exchanged(seen(0.3), slice(0, 100))
    wrists = [LIFTER_21_NAMES.index(f"{side}_wrist") for side in "lr"]
    xy_px, changes = detected.xy_px.copy(), np.zeros((100, len(ORDER)), np.uint8)
    xy_px[:, wrists], changes[:, wrists] = xy_px[:, wrists[::-1]], Change.LIMB_EXCHANGED
    right = check_sides(replace(detected, xy_px=xy_px, changes=changes), CAMERA, lifter)
    changed = (right.changes == Change.BODY_EXCHANGED) | (right.changes == Change.LIMB_EXCHANGED)
    undone = np.where(changed[..., None], right.xy_px[:, ORDER], right.xy_px)
    np.testing.assert_allclose(undone, detected.xy_px)


def test_gaps_and_single_frames_are_no_trouble(lifter):
    track = seen(0.3, 40)
    xy_px, confidence = track.xy_px.copy(), track.confidence.copy()
    xy_px[10:20], confidence[10:20] = np.nan, 0
    holed = replace(track, xy_px=xy_px, confidence=confidence)
    assert np.isnan(check_sides(holed, CAMERA, lifter).xy_px[10:20]).all()
    first = {name: getattr(track, name)[:1] for name in ("xy_px", "confidence", "time_s", "frame_index", "filled")}
    single = replace(track, **first, changes=track.changes[:1])
    assert len(check_sides(single, None, lifter).time_s) == 1


def test_the_cheapest_way_is_the_best_of_all_ways():
    rng = np.random.default_rng(1)
    cost, change = rng.normal(size=8), rng.uniform(-0.5, 1.5, 7)

    def price(states):
        return cost[states].sum() + change[states[1:] != states[:-1]].sum()

    ways = [np.array([bool(number >> frame & 1) for frame in range(8)]) for number in range(256)]
    assert price(side_check._cheapest(cost, change)) == pytest.approx(min(map(price, ways)))


@pytest.mark.parametrize(("heading_rad", "first"), [(0.3, 60), (0.8, 60), (1.9, 45), (1.9, 60)])
def test_a_change_of_sides_under_a_bridge_is_found(lifter, heading_rad, first):
    """The repair takes the moment when the detector changes its mind for strays, and bridges it smoothly."""
    track = seen(heading_rad)
    wrong = exchanged(track, slice(first, 100))
    xy_px, changes = wrong.xy_px.copy(), wrong.changes.copy()
    before, after = first - 6, first + 6
    part = ((np.arange(before, after) - before) / (after - before))[:, None, None]
    xy_px[before:after] = (1 - part) * xy_px[before] + part * xy_px[after]
    changes[before:after, np.arange(len(ORDER)) != ORDER] = Change.OUTLIER_BRIDGED
    right = check_sides(replace(wrong, xy_px=xy_px, changes=changes), CAMERA, lifter)
    off = np.abs(right.xy_px - track.xy_px).max(axis=(1, 2)) > 1e-9
    assert not off[:before].any() and not off[after:].any()


def test_frames_whose_sides_are_known_are_left_alone(lifter):
    wrong = exchanged(seen(0.3), slice(30, 60))
    settled = np.ones(100, bool)
    assert check_sides(wrong, CAMERA, lifter, settled=settled) is wrong
    settled[40:60] = False
    checked = check_sides(wrong, CAMERA, lifter, settled=settled)
    assert (checked.xy_px[settled] == wrong.xy_px[settled]).all()
    assert checked.changes[40:60].any()
