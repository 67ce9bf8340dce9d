"""Frames worth a look, run by run."""

from __future__ import annotations

import numpy as np

from keylift.core.doubtful_frames import doubtful_frames, next_doubtful


def confidence(*values: float) -> np.ndarray:
    return np.repeat(np.array(values, float)[:, None], 41, axis=1)


def test_frames_below_the_clips_own_measure_are_doubtful() -> None:
    for usual in (0.4, 0.9):
        track = confidence(*[usual] * 5, 0.7 * usual, 0.7 * usual, *[usual] * 5)
        assert np.flatnonzero(doubtful_frames(track)).tolist() == [5, 6]
    assert not doubtful_frames(confidence(*[0.4] * 10)).any()


def test_a_frame_just_over_the_line_does_not_make_two_runs_of_one() -> None:
    track = confidence(*[1.0] * 6, 0.7, 0.85, 0.7, 0.85, *[1.0] * 6)
    assert np.flatnonzero(doubtful_frames(track)).tolist() == [6, 7, 8, 9]


def test_frames_without_a_person_are_doubtful_and_no_measure() -> None:
    assert np.flatnonzero(doubtful_frames(confidence(0, 0, 0, 0, 0, 0.5, 0.5))).tolist() == [0, 1, 2, 3, 4]
    assert doubtful_frames(confidence(0, 0)).all()
    assert doubtful_frames(np.zeros((0, 41))).shape == (0,)


def test_jumping_goes_from_run_to_run() -> None:
    runs = np.zeros(20, bool)
    runs[3:6] = runs[10:12] = True
    assert next_doubtful(runs, 0, 1) == 3 and next_doubtful(runs, 3, 1) == 10 and next_doubtful(runs, 10, 1) is None
    assert next_doubtful(runs, 19, -1) == 10 and next_doubtful(runs, 10, -1) == 3 and next_doubtful(runs, 3, -1) is None
    assert next_doubtful(np.zeros(5, bool), 0, 1) is None
