"""Sequences cut into chunks: which frames a network looks at and which it answers, flipped ones included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...core.errors import FileFormatError
from .sequence import FilmedSequence


@dataclass(frozen=True, eq=False)
class ChunkBatch:
    """Windows and what belongs to their output frames.

    keypoints:   (B, stride + RF - 1, K, C) float32, screen-normalised
    positions_m: (B, stride, J, 3) float32 camera space, joint 0 absolute, others relative to it; None = unlabelled
    intrinsics:  (B, 9) float32; None where no camera is known
    """

    keypoints: np.ndarray
    positions_m: np.ndarray | None
    intrinsics: np.ndarray | None

    def __len__(self) -> int:
        return len(self.keypoints)


@dataclass(frozen=True)
class Windows:
    """How windows lie about output frames.

    receptive_field: frames that one output frame depends on
    causal:          True if these are the frames up to it, False if it is in their middle
    stride:          output frames of one chunk
    """

    receptive_field: int
    causal: bool = False
    stride: int = 1

    @property
    def frames_before(self) -> int:
        """Frames of a window before its first output frame."""
        return self.receptive_field - 1 if self.causal else self.receptive_field // 2

    @property
    def frames(self) -> int:
        """Frames in a window."""
        return self.receptive_field - 1 + self.stride

    @property
    def output(self) -> slice:
        """The output frames within a window: the last ones for a causal network, the middle ones for others."""
        return slice(self.frames_before, self.frames_before + self.stride)


def chunk_starts(length: int, stride: int) -> np.ndarray:
    """First output frames of the chunks of a sequence.

    The chunks are ``stride`` long, cover the sequence and stick out alike at both ends, so the first may be negative.
    """
    count = -(-length // stride)
    return np.arange(count) * stride - (count * stride - length) // 2


class ChunkSet:
    """All chunks of some sequences; with ``flip`` every one once more, mirrored, after all plain ones.

    Where a window reaches over an end of its sequence, the frame at the end is repeated.

    keypoint_mirror, joint_mirror: (K,), (J,) which point takes each one's place in the mirror
    Raises FileFormatError when there is no sequence or the sequences don't fit together.
    """

    def __init__(
        self,
        sequences: Sequence[FilmedSequence],
        windows: Windows,
        keypoint_mirror: np.ndarray,
        joint_mirror: np.ndarray,
        flip: bool = False,
    ) -> None:
        if not sequences:
            raise FileFormatError("There is no sequence to learn from. Check the subjects and files in [data].")
        for sequence in sequences:
            if sequence.keypoints.shape[1:] != sequences[0].keypoints.shape[1:]:
                raise FileFormatError(
                    f"{sequence.name} has keypoints of shape {sequence.keypoints.shape[1:]}, {sequences[0].name} of "
                    f"{sequences[0].keypoints.shape[1:]}. Sets that are learnt together need one keypoint layout."
                )
        self.windows = windows
        self._keypoint_mirror, self._joint_mirror = keypoint_mirror, joint_mirror
        self._keypoints = np.concatenate([sequence.keypoints for sequence in sequences]).astype(np.float32)
        positions = [sequence.positions_m for sequence in sequences]
        labelled = [value for value in positions if value is not None]
        self._positions = np.concatenate(labelled).astype(np.float32) if len(labelled) == len(sequences) else None
        lenses = [sequence.intrinsics for sequence in sequences]
        known = [value for value in lenses if value is not None]
        self._intrinsics = np.stack(known).astype(np.float32) if len(known) == len(sequences) else None
        ends = np.cumsum([len(sequence) for sequence in sequences])
        self._first, self._last = ends - [len(sequence) for sequence in sequences], ends - 1
        starts = [chunk_starts(len(sequence), windows.stride) for sequence in sequences]
        chunk_sequence = np.repeat(np.arange(len(sequences)), [len(start) for start in starts])
        chunk_start = np.concatenate(starts)
        times = 2 if flip else 1
        self._sequence, self._start = np.tile(chunk_sequence, times), np.tile(chunk_start, times)
        self._flipped = np.arange(len(self._start)) >= len(chunk_start)

    def __len__(self) -> int:
        return len(self._start)

    def batch(self, chosen: np.ndarray) -> ChunkBatch:
        """The chunks of the numbers ``chosen`` (B,)."""
        sequence, start, flipped = self._sequence[chosen], self._start[chosen], self._flipped[chosen]
        first, last = self._first[sequence, None], self._last[sequence, None]

        def frames(offset: int, count: int) -> np.ndarray:
            return np.clip(first + start[:, None] + offset + np.arange(count), first, last)

        keypoints = self._keypoints[frames(-self.windows.frames_before, self.windows.frames)]
        keypoints[flipped] = keypoints[flipped][:, :, self._keypoint_mirror]
        keypoints[flipped, ..., 0] *= -1
        positions = None
        if self._positions is not None:
            positions = self._positions[frames(0, self.windows.stride)]
            positions[flipped] = positions[flipped][:, :, self._joint_mirror]
            positions[flipped, ..., 0] *= -1
        intrinsics = None
        if self._intrinsics is not None:
            intrinsics = self._intrinsics[sequence]
            # The principal point and the lens's first tangential coefficient change sides in the mirror.
            intrinsics[np.ix_(flipped, [2, 7])] *= -1
        return ChunkBatch(keypoints, positions, intrinsics)


class ShuffledOrder:
    """The order in which chunks are learnt from, pass after pass; any place of it can be looked up again.

    The last batch of a pass holds what is left; a single chunk, which has no batch statistics, joins the batch before.

    seed: 1234 for labelled and 4321 for unlabelled chunks in the paper
    """

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.count, self.size = count, batch
        self._seed = seed
        self._random = np.random.RandomState(seed)
        self._pass = -1
        self._order = np.arange(0)

    @property
    def batches_per_pass(self) -> int:
        """Batches until every chunk had its turn; the last of them may be smaller."""
        lone = self.count % self.size == 1 and self.count > self.size > 1
        return -(-self.count // self.size) - lone

    def batch(self, number: int) -> np.ndarray:
        """Chunks of batch ``number``, counted over all passes."""
        wanted, within = divmod(number, self.batches_per_pass)
        if wanted < self._pass:
            self._random, self._pass = np.random.RandomState(self._seed), -1
        while self._pass < wanted:
            self._order = self._random.permutation(self.count)
            self._pass += 1
        last = within == self.batches_per_pass - 1
        return self._order[within * self.size : None if last else (within + 1) * self.size]
