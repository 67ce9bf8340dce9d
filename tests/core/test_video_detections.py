"""A detector's output for a video becomes one person's keypoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keylift.core.errors import FileFormatError, NobodyFoundError
from keylift.core.skeletons import COCO_17_NAMES
from keylift.core.video_detections import read_video_detections


def as_objects(values: list[Any]) -> np.ndarray:
    array = np.empty((len(values), 2), object)
    for place, value in enumerate(values):
        array[place, 0], array[place, 1] = [], value
    return array


def write(path: Path, frames: list[list[tuple[float, float]]]) -> Path:
    """Frames of (score, x of every keypoint) for each box; y is twice as much."""
    boxes = [np.array([[0, 0, 9, 9, score] for score, _ in frame]).reshape(-1, 5) for frame in frames]
    keypoints = [
        np.array([np.outer([x, 2 * x, 7, score], np.ones(17)) for score, x in frame]).reshape(-1, 4, 17)
        for frame in frames
    ]
    segments = np.array([[[], None]] * len(frames), object)
    metadata = np.array({"w": 640, "h": 480}, dtype=object)
    np.savez(path, boxes=as_objects(boxes), keypoints=as_objects(keypoints), segments=segments, metadata=metadata)
    return path


def test_the_best_box_is_taken_and_gaps_are_bridged(tmp_path: Path) -> None:
    path = write(
        tmp_path / "dance.mp4.npz", [[], [(0.5, 99), (0.9, 10)], [], [], [(0.8, 40), (0.1, 99)], [(0.7, 50)], []]
    )
    track = read_video_detections(path, fps=25)
    assert track.xy_px.shape == (7, 17, 2) and track.layout == "coco17" and track.size_px == (640, 480)
    assert len(COCO_17_NAMES) == 17
    assert np.allclose(track.xy_px[:, 3, 0], [10, 10, 20, 30, 40, 50, 50])
    assert np.allclose(track.xy_px[:, 3, 1], 2 * track.xy_px[:, 3, 0])
    assert np.allclose(track.confidence[[1, 4, 5], 0], [0.9, 0.8, 0.7])
    assert track.filled.tolist() == [True, False, True, True, False, False, True]
    assert np.allclose(np.diff(track.time_s), 0.04)
    assert track.source.name == "dance.mp4.npz"


def test_nobody_at_all(tmp_path: Path) -> None:
    with pytest.raises(NobodyFoundError, match="No frame"):
        read_video_detections(write(tmp_path / "x.npz", [[], []]), fps=25)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, boxes=np.zeros((2, 2)), metadata=np.array({"w": 1, "h": 1}, dtype=object))
    with pytest.raises(FileFormatError, match="lacks keypoints"):
        read_video_detections(path, fps=25)
    np.savez(
        path,
        boxes=as_objects([np.ones((1, 5))]),
        keypoints=as_objects([np.ones((1, 4, 13))]),
        metadata=np.array({"w": 1, "h": 1}, dtype=object),
    )
    with pytest.raises(FileFormatError, match=r"keypoints of \(1, 4, 13\)"):
        read_video_detections(path, fps=25)
