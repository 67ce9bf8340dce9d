"""Keypoints that a Detectron-like detector wrote beside a video: ``dance.mp4.npz``, all boxes of every frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .errors import FileFormatError, NobodyFoundError
from .restricted_pickle import BAD_FILE, read_pickled_npz
from .source import Source, sha256_of
from .tracks import KeypointTrack

LAYOUT = "coco17"
MAX_FRAMES = 1 << 20

_POINTS = 17
# Rows of a detection: x and y in pixels, the heat map's logit, the probability.
_X, _Y, _PROBABILITY = 0, 1, 3
_ROWS = 4
_SCORE = 4
# Each frame has a list of detections for each class of things: background, person.
_PERSON = 1


def _best(boxes: Any, keypoints: Any) -> np.ndarray:
    """(4, 17) rows of the detection whose box scores highest; NaN where there is none."""
    # Nobody is an empty list; lists in lists may hold each other without end.
    if not all(isinstance(part, np.ndarray) or len(part) == 0 for part in (boxes, keypoints)):
        raise ValueError("a frame has boxes or keypoints that are no arrays")
    boxes, keypoints = np.asarray(boxes, float), np.asarray(keypoints, float)
    if boxes.size == 0:
        return np.full((_ROWS, _POINTS), np.nan)
    if boxes.ndim != 2 or boxes.shape[1] <= _SCORE or keypoints.shape != (len(boxes), _ROWS, _POINTS):
        raise ValueError(f"a frame has boxes of {boxes.shape} and keypoints of {keypoints.shape}")
    return keypoints[np.nanargmax(boxes[:, _SCORE])]


def _interpolated(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(F, ...) values with the frames that are not ``known`` drawn straight between their neighbours, ends held."""
    frames, places = np.arange(len(values)), np.flatnonzero(known)
    after = np.searchsorted(places, frames).clip(0, len(places) - 1)
    before = np.where(places[after] > frames, np.maximum(after - 1, 0), after)
    low, high = places[before], places[after]
    part = ((frames - low) / np.maximum(high - low, 1)).clip(0, 1).reshape(-1, *[1] * (values.ndim - 1))
    return values[low] + part * (values[high] - values[low])


def read_video_detections(path: Path, fps: float) -> KeypointTrack:
    """The person with the best box in each frame of ``<video>.mp4.npz``; frames without anybody are interpolated.

    fps: frames a second of the video, which the file doesn't tell

    Raises FileFormatError when it is no such file, NobodyFoundError when no frame has a person.
    """
    content = read_pickled_npz(path, ("boxes", "keypoints", "metadata"))
    if missing := sorted({"boxes", "keypoints", "metadata"} - set(content)):
        raise FileFormatError(f"'{path}' lacks {', '.join(missing)}: it is not what a detector writes for a video.")
    boxes, keypoints, metadata = content["boxes"], content["keypoints"], content["metadata"]
    try:
        if len(boxes) != len(keypoints) or len(boxes) > MAX_FRAMES:
            raise ValueError(f"it has boxes for {len(boxes)} frames and keypoints for {len(keypoints)}")
        size_px = int(metadata["w"]), int(metadata["h"])
        best = np.array([_best(b[_PERSON], k[_PERSON]) for b, k in zip(boxes, keypoints, strict=True)])
    except BAD_FILE as problem:
        raise FileFormatError(f"'{path}' is not what a detector writes for a video: {problem}.") from problem
    known = np.isfinite(best.reshape(len(best), -1)).all(axis=1)
    if not known.any():
        raise NobodyFoundError(f"No frame of '{path}' has a person. Run the detector on other footage.")
    best = _interpolated(best, known)
    return KeypointTrack(
        xy_px=np.stack([best[:, _X], best[:, _Y]], axis=-1),
        confidence=best[:, _PROBABILITY].clip(0, 1),
        time_s=np.arange(len(best)) / fps,
        frame_index=np.arange(len(best)),
        layout=LAYOUT,
        size_px=size_px,
        filled=~known,
        source=Source(path.name, sha256_of(path)),
        detector="imported detections",
        person=1,
    )
