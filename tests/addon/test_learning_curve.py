"""The curve of a log that anybody may have written, as numbers and as a picture."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylift.addon.learning_curve import MAX_LOG_BYTES, LearningCurve, draw_curve, read_curve

SIZE = 128


def written(folder: Path, log: Any) -> Path:
    path = folder / "log.json"
    path.write_text(json.dumps(log), encoding="utf-8")
    return path


def curve(*errors: float, every: int = 100) -> LearningCurve:
    return LearningCurve(np.arange(len(errors)) * float(every), np.array(errors, float))


def is_blue(picture: np.ndarray) -> np.ndarray:
    """(H, W) where the curve itself is."""
    return (picture[..., 2] > 0.7) & (picture[..., 0] < 0.5)


def is_orange(picture: np.ndarray) -> np.ndarray:
    """(H, W) where the line of the beginning is."""
    return (picture[..., 0] > 0.7) & (picture[..., 2] < 0.5)


def test_what_was_measured_is_the_curve_and_the_rest_is_time(tmp_path: Path) -> None:
    log = [{"step": 0, "held_out_mm": 40.0}, {"step": 50, "loss": 1.0}, {"step": 100, "held_out_mm": 37.5}]
    found = read_curve(written(tmp_path, [*log, {"step": 150, "loss": 0.9}]))
    assert found.step.tolist() == [0, 100] and found.held_out_mm.tolist() == [40.0, 37.5]
    assert (found.base_mm, found.latest_mm, found.latest_step) == (40.0, 37.5, 150)


@pytest.mark.parametrize(
    "log",
    [
        {"step": 1},
        [],
        "log",
        None,
        [None, 1, [], {}, {"step": "x", "held_out_mm": 1}, {"step": 1, "held_out_mm": {}}],
        [{"step": True, "held_out_mm": 1.0}, {"step": -1, "held_out_mm": 1.0}, {"step": 1e300, "held_out_mm": 1.0}],
        [{"step": 1, "held_out_mm": float("nan")}, {"step": 2, "held_out_mm": float("inf")}],
    ],
)
def test_what_is_no_log_gives_no_curve(log: Any, tmp_path: Path) -> None:
    found = read_curve(written(tmp_path, log))
    assert not len(found.step) and found.base_mm is None and found.latest_mm is None
    assert draw_curve(found, SIZE).shape == (SIZE, SIZE, 4)


def test_a_file_that_is_none_or_too_large_or_half_there_gives_no_curve(tmp_path: Path) -> None:
    assert not len(read_curve(tmp_path / "log.json").step)
    assert not len(read_curve(tmp_path).step)
    path = written(tmp_path, [{"step": 0, "held_out_mm": 1.0}])
    whole = path.read_text(encoding="utf-8")
    for content in (whole[:-3], "[" * 100_000, whole + " " * MAX_LOG_BYTES):
        path.write_text(content, encoding="utf-8")
        assert not len(read_curve(path).step), content[:10]
    path.write_bytes(b"\xff\xfe\x00")
    assert not len(read_curve(path).step)


def test_a_curve_that_falls_is_drawn_falling() -> None:
    picture = draw_curve(curve(40, 30, 20), SIZE)
    blue = is_blue(picture)
    columns = np.flatnonzero(blue.any(axis=0))
    heights = [np.flatnonzero(blue[:, column]).mean() for column in columns]
    # Rows count from the bottom.
    assert (np.diff(heights) <= 0.5).all() and heights[0] > 0.8 * SIZE and heights[-1] < 0.2 * SIZE
    assert columns[0] < 0.12 * SIZE and columns[-1] > 0.88 * SIZE
    dashed = np.flatnonzero(is_orange(picture).any(axis=1))
    assert len(dashed) and abs(dashed.mean() - heights[0]) < 3, "the line is where the curve begins"


def test_a_run_that_is_half_done_leaves_half_of_the_picture_empty() -> None:
    blue = is_blue(draw_curve(curve(40, 30, every=500), SIZE, last_step=1000))
    columns = np.flatnonzero(blue.any(axis=0))
    assert abs(columns[-1] / SIZE - 0.5) < 0.05


def test_without_the_beginning_there_is_no_line_of_it() -> None:
    later = LearningCurve(np.array([100.0, 200.0]), np.array([30.0, 20.0]))
    assert later.base_mm is None and not is_orange(draw_curve(later, SIZE)).any()


def test_noise_is_not_stretched_until_it_fills_the_picture() -> None:
    rows = np.flatnonzero(is_blue(draw_curve(curve(40.0, 40.01, 40.0, 40.02), SIZE)).any(axis=1))
    assert rows[-1] - rows[0] < 0.1 * SIZE


@given(
    st.lists(st.tuples(st.floats(0, 1e8), st.floats(0, 1e8)), max_size=40, unique_by=lambda point: point[0]),
    st.integers(0, 10**9),
)
def test_any_curve_can_be_drawn(points: list[tuple[float, float]], last_step: int) -> None:
    points.sort()
    steps, errors = (np.array([point[axis] for point in points], float) for axis in (0, 1))
    picture = draw_curve(LearningCurve(steps, errors), 32, last_step)
    assert np.isfinite(picture).all() and picture.min() >= 0 and picture.max() <= 1 and (picture[..., 3] == 1).all()


def test_a_long_log_is_drawn_in_no_time(tmp_path: Path) -> None:
    log = [{"step": step, "held_out_mm": 40.0 + step % 7} for step in range(15_000)]
    path = written(tmp_path, log)
    assert path.stat().st_size < MAX_LOG_BYTES
    began = time.perf_counter()
    draw_curve(read_curve(path), 256)
    # The panel may not hold an artist up for longer; a machine that does other things as well is given more.
    assert time.perf_counter() - began < 0.15
