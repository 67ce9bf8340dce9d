import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keylift.core.gaps import LONGEST_BRIDGE_S, fill_gaps
from keylift.core.tracks import KeypointTrack


def track_of(xy_px, confidence, time_s):
    return KeypointTrack(
        xy_px=xy_px,
        confidence=confidence,
        time_s=time_s,
        frame_index=np.arange(len(time_s)),
        layout="coco17",
        size_px=(640, 480),
        filled=np.zeros(len(time_s), bool),
    )


@st.composite
def gappy_tracks(draw):
    """Smooth or wild keypoints, at even or uneven times, with pictures and single keypoints missing."""
    frames = draw(st.integers(1, 40))
    steps_s = draw(arrays(float, frames, elements=st.floats(0.005, 0.2)))
    xy_px = draw(arrays(float, (frames, 17, 2), elements=st.floats(-500, 2000), fill=st.floats(0, 600)))
    confidence = draw(arrays(float, (frames, 17), elements=st.floats(0, 1), fill=st.floats(0, 1)))
    absent = draw(arrays(bool, frames))
    unseen = draw(arrays(bool, (frames, 17), fill=st.just(False)))
    unseen[absent] = True
    xy_px[unseen], confidence[unseen] = np.nan, 0.0
    return track_of(xy_px, confidence, np.cumsum(steps_s))


def gaps_in(track):
    """(before, after) of every stretch of pictures without the person, between two with."""
    seen = np.flatnonzero(track.seen)
    return [(a, b) for a, b in zip(seen[:-1], seen[1:], strict=True) if b > a + 1]


@settings(max_examples=200, deadline=None)
@given(gappy_tracks())
def test_what_was_seen_is_never_touched(track):
    after = fill_gaps(track)
    assert np.array_equal(after.xy_px[track.seen], track.xy_px[track.seen], equal_nan=True)
    assert np.array_equal(after.confidence[track.seen], track.confidence[track.seen])
    assert not after.filled[track.seen].any()


@settings(max_examples=200, deadline=None)
@given(gappy_tracks())
def test_short_gaps_are_bridged_and_marked_and_long_ones_left_open(track):
    after = fill_gaps(track)
    expected = np.zeros(len(track.time_s), bool)
    for before, behind in gaps_in(track):
        rows = slice(before + 1, behind)
        both = np.isfinite(track.xy_px[[before, behind]]).all(axis=(0, 2))
        if track.time_s[behind] - track.time_s[before] <= LONGEST_BRIDGE_S and both.any():
            expected[rows] = True
            assert np.array_equal(np.isfinite(after.xy_px[rows]).all(axis=-1), np.tile(both, (behind - before - 1, 1)))
    assert np.array_equal(after.filled, expected)
    still_open = ~track.seen & ~expected
    assert np.isnan(after.xy_px[still_open]).all()
    assert (after.confidence[still_open] == 0).all()
    assert (after.confidence[np.isnan(after.xy_px).any(axis=-1)] == 0).all()


@settings(max_examples=200, deadline=None)
@given(gappy_tracks())
def test_a_bridge_stays_between_its_ends_and_is_less_sure_than_they_are(track):
    after = fill_gaps(track)
    for before, behind in gaps_in(track):
        if not after.filled[before + 1]:
            continue
        ends, inside = track.xy_px[[before, behind]], after.xy_px[before + 1 : behind]
        known = np.isfinite(inside)
        # The curve passes between its ends, within the rounding of numbers of this size.
        assert (inside >= ends.min(axis=0) - 1e-6)[known].all()
        assert (inside <= ends.max(axis=0) + 1e-6)[known].all()
        most = track.confidence[[before, behind]].max(axis=0)
        assert (after.confidence[before + 1 : behind] <= most + 1e-9).all()


@settings(max_examples=100, deadline=None)
@given(gappy_tracks())
def test_bridging_twice_is_bridging_once(track):
    once = fill_gaps(track)
    twice = fill_gaps(once)
    assert np.array_equal(once.xy_px, twice.xy_px, equal_nan=True)
    assert np.array_equal(once.confidence, twice.confidence)
    assert np.array_equal(once.filled, twice.filled)


def test_a_steady_walk_is_bridged_where_it_was():
    time_s = np.arange(20) / 30
    truth = np.stack([100 + 300 * time_s, 200 - 50 * time_s], axis=-1)[:, None].repeat(17, axis=1)
    xy_px, confidence = truth.copy(), np.full((20, 17), 0.9)
    xy_px[8:13], confidence[8:13] = np.nan, 0
    filled = fill_gaps(track_of(xy_px, confidence, time_s))
    assert np.abs(filled.xy_px - truth).max() < 1e-6
    assert list(np.flatnonzero(filled.filled)) == [8, 9, 10, 11, 12]
    dip = filled.confidence[7:14, 0]
    assert np.all(np.diff(dip[:4]) < 0) and np.all(np.diff(dip[3:]) > 0)


def test_a_swinging_hand_is_bridged_closer_by_a_curve_than_by_a_line():
    time_s = np.arange(40) / 30
    truth = np.stack([300 + 80 * np.sin(2 * np.pi * time_s), 200 + 0 * time_s], axis=-1)[:, None].repeat(17, axis=1)
    # Downswing, away from the turning points.
    gap = np.arange(12, 16)
    xy_px, confidence = truth.copy(), np.ones((40, 17))
    xy_px[gap], confidence[gap] = np.nan, 0
    bridged = fill_gaps(track_of(xy_px, confidence, time_s)).xy_px
    line = np.interp(time_s[gap], time_s[[11, 16]], truth[[11, 16], 0, 0])
    error_px = np.abs(bridged[gap, 0, 0] - truth[gap, 0, 0]).max()
    assert error_px < np.abs(line - truth[gap, 0, 0]).max() and error_px < 3
