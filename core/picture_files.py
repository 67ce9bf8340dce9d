"""Pictures that follow each other as frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .errors import FootageError
from .footage_claims import check_picture_size
from .footage_clock import LONGEST_PAUSE_S
from .footage_decoding import OPEN_OPTIONS, Upright, opened, picture_stream, unreadable
from .footage_frames import Footage, Frame
from .picture_sequence import in_counting_order, number_in
from .source import Source, sha256_of

# Blender's own default for a folder of pictures, which carry no clock.
DEFAULT_SEQUENCE_FPS = 24.0


class Pictures(Footage):
    """Pictures that follow each other. A number left out leaves its time empty, as a dropped frame does."""

    def __init__(
        self, path: Path, size_px: tuple[int, int], fps: float, paths: list[Path], times_s: list[float]
    ) -> None:
        super().__init__(path, size_px, fps, len(paths))
        self._paths = paths
        self._times_s = times_s

    @classmethod
    def of(cls, paths: list[Path], asked: Path, fps: float | None) -> Pictures:
        fps = fps or DEFAULT_SEQUENCE_FPS
        paths = in_counting_order(paths)
        numbers = [number_in(path.name) for path in paths]
        counted = [number for number in numbers if number is not None]
        grow = len(counted) == len(paths) and all(b > a for a, b in zip(counted, counted[1:], strict=False))
        times_s = [(number - counted[0]) / fps for number in counted] if grow else [i / fps for i in range(len(paths))]
        if grow:
            _check_holes(paths, counted, fps)
        first = _read_picture(paths[0])
        return cls(asked, (first.shape[1], first.shape[0]), fps, paths, times_s)

    def _most_frames(self, at_least: int) -> int | None:
        return len(self._paths)

    def source(self) -> Source:
        together = hashlib.sha256()
        for path in self._paths:
            try:
                together.update(bytes.fromhex(sha256_of(path)))
            except OSError as problem:
                raise unreadable(path, problem) from problem
        return Source(self.path.name or self.path.resolve().name, together.hexdigest())

    def _all_frames(self, first: int, last: int | None) -> Iterator[Frame]:
        for index in range(first, len(self._paths)):
            rgb = _read_picture(self._paths[index])
            if (rgb.shape[1], rgb.shape[0]) != self.size_px:
                raise FootageError(
                    f"'{self._paths[index]}' is {rgb.shape[1]}x{rgb.shape[0]}, but the sequence begins with "
                    f"{self.size_px[0]}x{self.size_px[1]}. Take out the pictures that do not belong."
                )
            yield Frame(rgb, self._times_s[index], index)


def _check_holes(paths: list[Path], numbers: list[int], fps: float) -> None:
    """Raise FootageError where so many numbers are missing that the pictures can't be of one recording."""
    for before, after, path in zip(numbers, numbers[1:], paths[1:], strict=False):
        if after - before > LONGEST_PAUSE_S * fps:
            raise FootageError(
                f"Before '{path.name}' {after - before - 1} pictures are missing, which is more than an hour. Take out "
                "the pictures that do not belong, or number them by frames."
            )


def _read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, upright by the picture's own orientation tag."""
    how: dict[str, Any] = {"format": "image2", "options": {"pattern_type": "none", **OPEN_OPTIONS}}
    with opened(path, **how) as container:
        stream = picture_stream(container, path)
        check_picture_size(path, stream.codec_context.width, stream.codec_context.height)
        if path.suffix.lower() == ".exr":
            # EXR stores light, not brightness on a screen.
            stream.codec_context.options |= {"apply_trc": "iec61966_2_1"}
        for picture in container.decode(stream):
            return Upright.of(picture, 1.0).rgb(picture)
    raise FootageError(f"'{path}' holds no picture. Render or copy it again.")
