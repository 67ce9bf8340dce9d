"""One person's motion in front of one camera, and which part of it is learnt from."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ...core.errors import FileFormatError
from ...core.skeletons import Skeleton

Split = Literal["train", "valid", "test", "unlabelled"]


@dataclass(frozen=True, eq=False)
class FilmedSequence:
    """What one camera saw of one take, and where the joints were.

    keypoints:    (F, K, C) screen-normalised x, y (core.camera.normalise_screen), perhaps with a score
    positions_m:  (F, J, 3) camera space (x right, y down, z forward), metres: joint 0 absolute, the others relative to
                  it; None = nobody knows, the sequence is unlabelled
    intrinsics:   (9,) fx, fy, cx, cy, k1, k2, k3, p1, p2 in screen-normalised units; None where no camera is known
    fps:          frames a second
    """

    subject: str
    action: str
    camera: str
    keypoints: np.ndarray
    positions_m: np.ndarray | None
    intrinsics: np.ndarray | None
    fps: float

    def __post_init__(self) -> None:
        if self.keypoints.ndim != 3 or self.keypoints.shape[2] not in (2, 3) or len(self.keypoints) == 0:
            raise FileFormatError(f"The keypoints of {self.name} are no (frames, points, 2 or 3) array.")
        if self.positions_m is not None and self.positions_m.shape[::2] != (len(self.keypoints), 3):
            raise FileFormatError(
                f"{self.name} has {len(self.keypoints)} frames of keypoints but positions of {self.positions_m.shape}."
            )
        if self.intrinsics is not None and self.intrinsics.shape != (9,):
            raise FileFormatError(f"The camera of {self.name} has {self.intrinsics.shape} values, not 9.")

    def __len__(self) -> int:
        return len(self.keypoints)

    @property
    def name(self) -> str:
        """Who does what, seen from where."""
        return f"{self.subject}/{self.action}/{self.camera}"

    def without_labels(self) -> FilmedSequence:
        """The same film, with nobody knowing where the joints were."""
        return replace(self, positions_m=None)

    def part(self, frames: slice) -> FilmedSequence:
        """Some of its frames; a step in ``frames`` lowers the frame rate."""
        positions = None if self.positions_m is None else self.positions_m[frames]
        return replace(self, keypoints=self.keypoints[frames], positions_m=positions, fps=self.fps / (frames.step or 1))


@dataclass(frozen=True, eq=False)
class SequenceSet:
    """Sequences and what their points are.

    layout:   name of the keypoint layout
    skeleton: the joints of the positions
    sha256:   file -> hash of what was read
    notes:    what a person should know about how it was read
    """

    sequences: list[FilmedSequence]
    layout: str
    skeleton: Skeleton
    sha256: dict[str, str]
    notes: tuple[str, ...] = ()


def deterministic_between(low: int, high: int, seed: str) -> int:
    """A number in [low, high) that depends on ``seed`` alone (the paper's choice of subsets)."""
    (drawn,) = struct.unpack("<I", hashlib.sha256(seed.encode()).digest()[:4])
    return int(drawn / (2**32 - 1) * (high - low)) + low


def subset_frames(length: int, subset: float = 1.0, downsample: int = 1) -> slice:
    """Which of ``length`` frames are kept: a run of the part ``subset`` of them, every ``downsample``-th of it.

    The whole is taken from its first frame on: a subset of 1 has no run to choose, whatever is left over at the end.
    """
    if subset >= 1:
        return slice(None, None, downsample)
    kept = int(round(length // downsample * subset) * downsample)
    start = deterministic_between(0, length - kept + 1, str(length))
    return slice(start, start + kept, downsample)
