"""Parts of footage that several threads read at the same time, picture by picture as one reader would.

A reader of its own begins at a key frame before its part. Which picture it meets there is known from the stamps of
all packets, so nothing is counted and nothing is guessed: what doesn't fit is an error, and the footage is then read
from its start, by one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from .errors import FootageError
from .footage_claims import whole_packets
from .footage_decoding import OPEN_OPTIONS, decoded, opened, picture_stream
from .footage_frames import Footage, Frame
from .picture_files import Pictures
from .video_file import Video

# A decoder has threads of its own; so many are enough where several decode at once.
_DECODING_THREADS = 2


class UnevenFootageError(FootageError):
    """The pictures are not those that the packets promised."""


class RandomAccess(ABC):
    """Footage that can be read from anywhere.

    frame_count: exactly
    starts:      frames at which reading may begin without decoding others, growing; the first is 0
    """

    def __init__(self, frame_count: int, starts: np.ndarray) -> None:
        self.frame_count = frame_count
        self.starts = starts

    @abstractmethod
    def frames(self, first: int, last: int) -> Iterator[Frame]:
        """Frames ``first`` to ``last``, just as reading from the start would give them.

        Raises UnevenFootageError where they are not to be had that way, and FootageError.
        """


def random_access(footage: Footage) -> RandomAccess | None:
    """How to read ``footage`` from anywhere; None where it can only be read from its start."""
    if isinstance(footage, Pictures):
        return _AnyPicture(footage)
    return _StampedVideo.of(footage) if isinstance(footage, Video) else None


class _AnyPicture(RandomAccess):
    def __init__(self, pictures: Pictures) -> None:
        count = pictures.frame_count or 0
        super().__init__(count, np.arange(count))
        self._pictures = pictures

    def frames(self, first: int, last: int) -> Iterator[Frame]:
        return self._pictures.frames(first, last)


@dataclass(frozen=True)
class _Stamps:
    """Of all pictures, in the order in which they are shown.

    ticks: (F,) presentation stamps as in the file, growing; key: (F,) whether it is decoded without others
    """

    ticks: np.ndarray
    key: np.ndarray
    tick_s: Any

    @classmethod
    def of(cls, video: Video) -> _Stamps | None:
        """By walking through the packets, which is far faster than decoding them; None where they don't say."""
        ticks, decoding, key = [], [], []
        with opened(video.path, options=OPEN_OPTIONS) as container:
            stream = picture_stream(container, video.path)
            if stream.time_base is None or whole_packets(container, stream) is not None:
                return None
            try:
                for packet in container.demux(stream):
                    if packet.size == 0:
                        continue
                    if packet.pts is None or packet.is_discard or packet.is_corrupt:
                        return None
                    ticks.append(packet.pts)
                    # Matroska keeps none of these, and what is made up for it begins late.
                    if packet.dts is not None:
                        decoding.append(packet.dts)
                    key.append(packet.is_keyframe)
            except av.error.FFmpegError:
                return None
            if not ticks or not key[0] or any(b <= a for a, b in zip(decoding, decoding[1:], strict=False)):
                return None
            order = np.argsort(ticks, kind="stable")
            shown = np.array(ticks, np.int64)[order]
            # Pictures before the first key frame can't be decoded; twice the same stamp is no place to find again.
            if order[0] != 0 or (np.diff(shown) <= 0).any():
                return None
            return cls(shown, np.array(key)[order], stream.time_base)

    def times_s(self, video: Video) -> np.ndarray:
        """(F,) as a reader from the start would tell them."""
        clock, tick_s = video.clock(), self.tick_s
        return np.array([clock.time_s(float(tick) * tick_s.numerator / tick_s.denominator) for tick in self.ticks])


class _StampedVideo(RandomAccess):
    def __init__(self, video: Video, stamps: _Stamps) -> None:
        super().__init__(len(stamps.ticks), np.flatnonzero(stamps.key))
        self._video, self._stamps = video, stamps
        self._times_s = stamps.times_s(video)

    @classmethod
    def of(cls, video: Video) -> _StampedVideo | None:
        stamps = _Stamps.of(video)
        return None if stamps is None else cls(video, stamps)

    def frames(self, first: int, last: int) -> Iterator[Frame]:
        before = self.starts[self.starts <= first][-2:]
        try:
            yield from self._frames_from(int(before[-1]), first, last)
        except _LandedTooLateError:
            # Some containers find the place by decoding stamps only.
            yield from self._frames_from(int(before[0]), first, last)

    def _frames_from(self, start: int, first: int, last: int) -> Iterator[Frame]:
        begins = self._stamps.ticks[start]
        expected = None
        with opened(self._video.path, options=OPEN_OPTIONS) as container:
            stream = picture_stream(container, self._video.path)
            stream.codec_context.thread_count = _DECODING_THREADS
            try:
                if start > 0:
                    container.seek(int(begins), stream=stream)
                for picture in decoded(stream, container):
                    # Pictures shown before the key frame may lean on others that were not decoded.
                    if picture.pts is None or expected is None and picture.pts < begins:
                        continue
                    number = int(np.searchsorted(self._stamps.ticks, picture.pts))
                    if number >= self.frame_count or self._stamps.ticks[number] != picture.pts or picture.is_corrupt:
                        raise self._uneven()
                    if expected is None and number > first:
                        raise _LandedTooLateError(str(number))
                    if expected is not None and number != expected:
                        raise self._uneven()
                    expected = number + 1
                    if number >= first:
                        yield Frame(self._video.upright.rgb(picture), float(self._times_s[number]), number)
                    if number == last:
                        return
            except av.error.FFmpegError as problem:
                raise self._uneven() from problem
        raise self._uneven()

    def _uneven(self) -> UnevenFootageError:
        return UnevenFootageError(f"'{self._video.path.name}' can't be read in parts. Copy or export it again.")


class _LandedTooLateError(Exception):
    """Seeking came out after the wanted picture."""
