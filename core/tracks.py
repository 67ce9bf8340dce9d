"""The arrays that travel down the river, with names, shapes, units and spaces. Checked once, at birth."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np

from .camera import MAX_SIDE_PX, Camera
from .errors import FileFormatError
from .skeletons import KEYPOINT_LAYOUTS, Skeleton
from .source import Source

# So many people are followed at a time, each with a track.
MAX_PEOPLE = 4
# What is beyond is no footage and no motion, but a broken file.
MAX_FPS = 10_000
_LONGEST_S = 1e7
_FARTHEST_M = 1e7
# Of so many frames at a time a fingerprint is taken: of an hour at once, it would take more room than the track.
_BLOCK = 2048


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FileFormatError(message)


def _check_times(time_s: np.ndarray, frame_index: np.ndarray, frames: int) -> None:
    _require(time_s.shape == (frames,), f"time_s must have shape ({frames},), not {time_s.shape}.")
    _require(frame_index.shape == (frames,), f"frame_index must have shape ({frames},), not {frame_index.shape}.")
    _require(frames > 0, "A track needs at least one frame.")
    _require(bool(np.isfinite(time_s).all()), "time_s must be finite.")
    _require(bool((np.abs(time_s) <= _LONGEST_S).all()), "time_s is longer than any footage.")
    _require(bool((np.diff(time_s) > 0).all()), "time_s must grow from frame to frame.")


class Change(IntEnum):
    """What ``core.keypoint_repair`` or an artist did to a keypoint of a frame."""

    UNTOUCHED = 0
    BODY_EXCHANGED = 1
    LIMB_EXCHANGED = 2
    OUTLIER_BRIDGED = 3
    DROP_OUT_BRIDGED = 4
    DOUBTED = 5
    SOMEBODY_ELSE = 6
    # By an artist, who put it there or took it away: the last word.
    CORRECTED = 7


@dataclass(frozen=True, eq=False)
class KeypointTrack:
    """One person's keypoints as the picture shows them.

    xy_px:       (F, K, 2) pixels of the upright picture, origin top-left, +y down, NaN = unseen
    confidence:  (F, K) in [0, 1]; 0 where unseen
    time_s:      (F,) presentation times in seconds, strictly growing
    frame_index: (F,) frame number in the footage, counted from 0
    layout:      a name in ``KEYPOINT_LAYOUTS``
    size_px:     (width, height) of the upright picture with square pixels
    filled:      (F,) True where the person was not detected and a short gap was bridged
    changes:     (F, K) uint8, what was repaired or corrected, as codes of ``Change``; may be left out where nothing was
    """

    xy_px: np.ndarray
    confidence: np.ndarray
    time_s: np.ndarray
    frame_index: np.ndarray
    layout: str
    size_px: tuple[int, int]
    filled: np.ndarray
    source: Source = field(default_factory=lambda: Source("", ""))
    detector: str = ""
    person: int = 0
    changes: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.uint8))

    def __post_init__(self) -> None:
        _require(
            self.layout in KEYPOINT_LAYOUTS,
            f"Unknown keypoint layout '{self.layout}'; known are {', '.join(KEYPOINT_LAYOUTS)}.",
        )
        frames, points = len(self.xy_px), len(KEYPOINT_LAYOUTS[self.layout])
        _require(
            self.xy_px.shape == (frames, points, 2),
            f"xy_px must have shape (frames, {points}, 2) for layout '{self.layout}', not {self.xy_px.shape}.",
        )
        _require(self.confidence.shape == (frames, points), "confidence must have shape (frames, keypoints).")
        _require(bool(((self.confidence >= 0) & (self.confidence <= 1)).all()), "confidence must lie between 0 and 1.")
        _require(not np.isinf(self.xy_px).any(), "xy_px must not be infinite.")
        _require(self.filled.shape == (frames,), "filled must have shape (frames,).")
        if self.changes.size == 0:
            object.__setattr__(self, "changes", np.zeros((frames, points), np.uint8))
        _require(self.changes.shape == (frames, points), "changes must have shape (frames, keypoints).")
        _require(self.changes.dtype == np.uint8, "changes must be uint8.")
        _require(int(self.changes.max(initial=0)) <= max(Change), "changes holds a code that means nothing.")
        _require(min(self.size_px) > 0, "size_px must be positive.")
        _require(max(self.size_px) <= MAX_SIDE_PX, f"size_px must be at most {MAX_SIDE_PX:,} a side.")
        _check_times(self.time_s, self.frame_index, frames)

    @property
    def seen(self) -> np.ndarray:
        """(F,) True where the person has at least one keypoint."""
        return np.isfinite(self.xy_px).all(axis=-1).any(axis=-1)

    @property
    def corrected(self) -> np.ndarray:
        """(F, K) True where an artist put a keypoint, or took it away."""
        return np.asarray(self.changes == Change.CORRECTED)

    def of(self, rows: slice) -> KeypointTrack:
        """A part of the frames."""
        return replace(
            self,
            xy_px=self.xy_px[rows],
            confidence=self.confidence[rows],
            time_s=self.time_s[rows],
            frame_index=self.frame_index[rows],
            filled=self.filled[rows],
            changes=self.changes[rows],
        )

    def fingerprints(self) -> np.ndarray:
        """(F,) uint64, the same for frames whose keypoints are the same to a hundredth of a pixel."""
        found = np.empty(len(self.xy_px), np.uint64)
        for first in range(0, len(found), _BLOCK):
            block = slice(first, first + _BLOCK)
            # In the precision of files first: a value must not fall on another side of a step there.
            flat_px = self.xy_px[block].reshape(len(found[block]), -1).astype(np.float32).astype(float)
            confidence = self.confidence[block].astype(np.float32).astype(float)
            rows = np.concatenate([np.round(flat_px, 2), np.round(confidence, 3)], axis=1)
            # Not a number has many bit patterns, and zero has two.
            rows = np.nan_to_num(rows, nan=-1e6).astype(np.float32) + 0.0
            found[block] = [_digest(row.tobytes()) for row in rows]
        return found


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


@dataclass(frozen=True, eq=False)
class PoseTrack:
    """One person's joints in space.

    positions_m:       (F, J, 3) metres in camera space (x right, y down, z forward), absolute
    rotations_wxyz:    (F, J, 4) turn of the segment that starts at a joint against its parent's; for the root
                       against camera space. Identity is the T-pose of ``core.segments`` (x left, y up, z forward);
                       joints that no segment starts at have the identity.
    confidence:        (F, J) in [0, 1]
    contact:           (F, 4) probability in [0, 1] that left heel, left toe, right heel, right toe stand on something
    world_from_camera: (4, 4) rigid, metres; world is z up with the floor at z = 0, or that of a moving camera's solve
    lifted_from:       (F,) uint64 ``KeypointTrack.fingerprints`` of what it was lifted from; (0,) = nobody knows
    """

    positions_m: np.ndarray
    rotations_wxyz: np.ndarray
    confidence: np.ndarray
    contact: np.ndarray
    world_from_camera: np.ndarray
    time_s: np.ndarray
    frame_index: np.ndarray
    fps: float
    camera: Camera
    skeleton: Skeleton
    weights: Source = field(default_factory=lambda: Source("", ""))
    source: Source = field(default_factory=lambda: Source("", ""))
    lifted_from: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))

    def __post_init__(self) -> None:
        frames, joints = len(self.positions_m), len(self.skeleton)
        for name, array, shape in (
            ("positions_m", self.positions_m, (frames, joints, 3)),
            ("rotations_wxyz", self.rotations_wxyz, (frames, joints, 4)),
            ("confidence", self.confidence, (frames, joints)),
            ("contact", self.contact, (frames, 4)),
            ("world_from_camera", self.world_from_camera, (4, 4)),
        ):
            _require(array.shape == shape, f"{name} must have shape {shape}, not {array.shape}.")
            _require(bool(np.isfinite(array).all()), f"{name} must be finite.")
        for name, array in (("confidence", self.confidence), ("contact", self.contact)):
            # Files round.
            _require(bool((np.abs(array - 0.5) <= 0.5 + 1e-5).all()), f"{name} must lie in [0, 1].")
        for name, array in (("positions_m", self.positions_m), ("world_from_camera", self.world_from_camera)):
            _require(max(float(array.max()), -float(array.min())) <= _FARTHEST_M, f"{name} lies far outside any scene.")
        _require(0 < self.fps <= MAX_FPS, f"fps must be above 0 and at most {MAX_FPS:,}.")
        _require(
            self.lifted_from.dtype == np.uint64 and self.lifted_from.shape in ((0,), (frames,)),
            "lifted_from must be uint64 and have shape (frames,), or be empty.",
        )
        _check_times(self.time_s, self.frame_index, frames)

    def positions_world_m(self) -> np.ndarray:
        """(F, J, 3) metres in the world, z up."""
        rotation, translation = self.world_from_camera[:3, :3], self.world_from_camera[:3, 3]
        return self.positions_m @ rotation.T + translation
