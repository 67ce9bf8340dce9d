"""Moving pictures of any kind as upright RGB frames with presentation times, one at a time."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np

from .errors import FootageError
from .picture_sequence import PICTURE_ENDINGS, in_counting_order, number_in, sequence_at
from .track_files import sha256_of
from .tracks import Source

# Blender's own default for a folder of pictures, which carry no clock.
DEFAULT_SEQUENCE_FPS = 24.0

# FFmpeg reads text as a terminal recording, and follows playlists to other files and hosts. None of that is footage.
_NOT_FOOTAGE_FORMATS = frozenset("tty concat dash ffmetadata hls lavfi rtsp sdp webvtt srt ass".split())
_OPEN_OPTIONS = {"protocol_whitelist": "file"}
# Beyond this a pixel aspect is a broken header, not an anamorphic lens.
_WIDEST_PIXEL = 4.0


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    rgb:    (H, W, 3) uint8, upright, square pixels
    time_s: presentation time in seconds; 0 is the first picture of the footage
    index:  number of the picture in the footage, counted from 0
    """

    rgb: np.ndarray
    time_s: float
    index: int


class Footage(ABC):
    """Footage that can be read from its start as often as wanted. Only the path is held; files open on iteration.

    size_px:     (width, height) of the upright picture with square pixels
    fps:         mean frame rate
    frame_count: as the file claims; None where it claims nothing. Only reading to the end tells for sure.
    """

    def __init__(self, path: Path, size_px: tuple[int, int], fps: float, frame_count: int | None) -> None:
        self.path = path
        self.size_px = size_px
        self.fps = fps
        self.frame_count = frame_count

    def __enter__(self) -> Footage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing stays open between iterations; ``with`` merely bounds the footage's use."""

    @abstractmethod
    def source(self) -> Source:
        """The footage's name and the SHA-256 of its content (of all pictures in order, for a sequence)."""

    @abstractmethod
    def _all_frames(self, first: int, last: int | None) -> Iterator[Frame]:
        """Frames from ``first`` on, until ``last`` or the end. May go on after ``last``."""

    def frames(self, first: int | None = None, last: int | None = None) -> Iterator[Frame]:
        """Frames ``first`` to ``last``, both included, counted from 0; without limits, all of them.

        Raises FootageError when the range is not within the footage, and when the footage is damaged inside the range
        (or before it, as what follows can no longer be counted). Footage that breaks off gives its good frames first;
        the error names the last of them, so that a range ending there can be asked for.
        """
        if first is not None and first < 0 or last is not None and last < (first or 0):
            raise FootageError(
                f"Frames {first or 0} to {last} are not a range. Frames count from 0; write the smaller number first."
            )
        return self._checked_range(first or 0, last)

    @abstractmethod
    def _most_frames(self, at_least: int) -> int | None:
        """A number that the footage surely has no more frames than, if it may have fewer than ``at_least``."""

    def _checked_range(self, first: int, last: int | None) -> Iterator[Frame]:
        wanted = max(first, last or 0) + 1
        most = self._most_frames(wanted)
        # Told before an hour's work rather than after it.
        if most is not None and most < wanted:
            raise self._outside(first, last, most)
        newest = -1
        for frame in self._all_frames(first, last):
            newest = frame.index
            yield frame
            if frame.index == last:
                return
        # Reading ended by itself: either all was wanted, or the claim about the number of frames was wrong.
        if newest + 1 < wanted:
            raise self._outside(first, last, newest + 1)

    def _outside(self, first: int, last: int | None, count: int) -> FootageError:
        asked = f"frame {first} and later were" if last is None else f"frames {first} to {last} were"
        return FootageError(
            f"'{self.path.name}' has {count} frames (0 to {count - 1}), but {asked} asked for. "
            "Choose --frames within them."
        )


def open_footage(path: Path, fps: float | None = None) -> Footage:
    """Open a video file, a picture, a folder of pictures, or a pattern such as ``shot_####.png`` or ``shot_%04d.png``.

    ``fps`` is the rate of a picture sequence, which has none of its own; a video keeps its own clock. Raises
    FootageError, telling what to do, when there is nothing to see.
    """
    path = Path(path)
    # A real file may have # or % in its name, so the file wins over the pattern.
    if path.is_file():
        try:
            size_bytes = path.stat().st_size
        except OSError as problem:
            raise _unreadable(path, problem) from problem
        if size_bytes == 0:
            raise FootageError(f"'{path}' is empty (0 bytes). Copy or export the footage again.")
        return Pictures.of([path], path, fps) if path.suffix.lower() in PICTURE_ENDINGS else Video.at(path)
    if (pictures := sequence_at(path)) is not None:
        return Pictures.of(pictures, path, fps)
    if path.exists():
        raise FootageError(f"'{path}' is neither a file nor a folder. Give a video file or a folder of pictures.")
    raise FootageError(f"There is no footage '{path}'. Check the path.")


def _unreadable(path: Path, problem: Exception) -> FootageError:
    if isinstance(problem, PermissionError):
        return FootageError(f"'{path}' may not be read. Give yourself permission to read it, or copy it elsewhere.")
    if isinstance(problem, av.error.InvalidDataError | av.error.EOFError):
        return FootageError(
            f"'{path}' is not a video, or it is cut off or damaged. Copy or export it again; if a video player shows "
            "it all the same, convert it with that or with ffmpeg."
        )
    reason = getattr(problem, "strerror", None) or str(problem)
    return FootageError(f"'{path}' can't be read ({reason}). Check that it is whole: can a video player show it?")


# ---- Video files ----------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path, **how: Any) -> Iterator[Any]:
    """The container at ``path``; FFmpeg's errors while it is open become FootageErrors."""
    try:
        # An absolute path can't be mistaken for a protocol ("C:..." is FFmpeg's business, "a:b.mp4" would be ours).
        with av.open(os.path.abspath(path), **how) as container:
            yield container
    except av.error.FFmpegError as problem:
        raise _unreadable(path, problem) from problem


def _picture_stream(container: Any, path: Path) -> Any:
    if container.format.name in _NOT_FOOTAGE_FORMATS:
        raise FootageError(f"'{path}' is not a video. Give a video file or a folder of pictures.")
    # The cover of a song is a video stream too.
    cover = av.stream.Disposition.attached_pic
    streams = [stream for stream in container.streams.video if not stream.disposition & cover]
    if not streams:
        what = "sound but no pictures" if container.streams.audio else "no pictures"
        raise FootageError(f"'{path}' has {what}. Give a video file or a folder of pictures.")
    stream = max(streams, key=lambda candidate: candidate.codec_context.width * candidate.codec_context.height)
    stream.thread_type = "AUTO"
    return stream


def _decoded(stream: Any, container: Any) -> Iterator[Any]:
    """Every picture that can be had, even those that still sit in the decoder when a packet turns out broken."""
    try:
        for packet in container.demux(stream):
            yield from packet.decode()
    except av.error.FFmpegError:
        try:
            leftovers = stream.codec_context.decode(None)
        except av.error.FFmpegError:
            leftovers = []
        yield from leftovers
        raise


@dataclass(frozen=True)
class _Upright:
    """How a stored picture becomes the one to look at: pixels squared, then turned and mirrored by right angles."""

    stored_size_px: tuple[int, int]
    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False

    @classmethod
    def of(cls, picture: Any, pixel_aspect: float) -> _Upright:
        width, height = picture.width, picture.height
        if not 1 / _WIDEST_PIXEL <= pixel_aspect <= _WIDEST_PIXEL:
            pixel_aspect = 1.0
        # The coarser direction is stretched, so that no detail is lost.
        size_px = (round(width * max(pixel_aspect, 1)), round(height / min(pixel_aspect, 1)))
        matrix = picture.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls(size_px)
        # FFmpeg's display matrix [a b u; c d v; x y w] sends stored (p, q) to shown (a p + c q, b p + d q).
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5]
        if abs(int(b)) > abs(int(a)):
            return cls(size_px, transposed=True, flipped_x=bool(c < 0), flipped_y=bool(b < 0))
        return cls(size_px, flipped_x=bool(a < 0), flipped_y=bool(d < 0))

    @property
    def size_px(self) -> tuple[int, int]:
        width, height = self.stored_size_px
        return (height, width) if self.transposed else (width, height)

    def rgb(self, picture: Any) -> np.ndarray:
        """(H, W, 3) uint8, upright. A picture of another size (streams may change it) is brought to this one."""
        width, height = self.stored_size_px
        rgb = picture.to_ndarray(format="rgb24", width=width, height=height)
        if self.transposed:
            rgb = rgb.swapaxes(0, 1)
        if self.flipped_x:
            rgb = rgb[:, ::-1]
        if self.flipped_y:
            rgb = rgb[::-1]
        return np.ascontiguousarray(rgb)


@dataclass(frozen=True)
class Glimpse:
    """A picture that was decoded; ``rgb`` makes it upright, (H, W, 3). time_s: from the first one of the file."""

    time_s: float
    rgb: Callable[[], np.ndarray]


class _Clock:
    """Turns the stamps on pictures, some missing or running backwards, into strictly growing times from 0."""

    def __init__(self, fps: float) -> None:
        self._period_s = 1.0 / fps
        self._shift_s: float | None = None
        self.last_s = -self._period_s

    def time_s(self, stamp_s: float | None) -> float:
        if stamp_s is None or not np.isfinite(stamp_s):
            time_s = self.last_s + self._period_s
        else:
            if self._shift_s is None:
                self._shift_s = -stamp_s
            time_s = stamp_s + self._shift_s
            step_s = time_s - self.last_s
            if step_s < -2 * self._period_s:
                # Joined recordings start their clock again: go on from here, and keep the new clock.
                self._shift_s += self._period_s - step_s
                time_s = self.last_s + self._period_s
            elif step_s < 1e-6:
                # A doubled stamp; half a step forward leaves room for the next true one.
                time_s = self.last_s + self._period_s / 2
        self.last_s = time_s
        return time_s


class Video(Footage):
    """A video file."""

    def __init__(
        self, path: Path, size_px: tuple[int, int], fps: float, frame_count: int | None, upright: _Upright
    ) -> None:
        super().__init__(path, size_px, fps, frame_count)
        self._upright = upright

    @classmethod
    def at(cls, path: Path) -> Video:
        """Look at the file's head and its first picture."""
        with _opened(path, options=_OPEN_OPTIONS) as container:
            stream = _picture_stream(container, path)
            rate = stream.average_rate or stream.guessed_rate or stream.base_rate
            fps = float(rate) if rate and 0.01 < rate < 10000 else 25.0
            frame_count = stream.frames or None
            if frame_count is None and (stream.duration or container.duration):
                duration_s = (
                    float(stream.duration * stream.time_base) if stream.duration else container.duration / av.time_base
                )
                frame_count = max(1, round(duration_s * fps))
            picture = cls._first_picture(container, stream, path)
            aspect = stream.sample_aspect_ratio
            upright = _Upright.of(picture, float(aspect) if aspect else 1.0)
        return cls(path, upright.size_px, fps, frame_count, upright)

    @staticmethod
    def _first_picture(container: Any, stream: Any, path: Path) -> Any:
        for picture in _decoded(stream, container):
            return picture
        raise FootageError(f"'{path}' holds no picture that can be shown. Copy or export the footage again.")

    def source(self) -> Source:
        try:
            return Source(self.path.name, sha256_of(self.path))
        except OSError as problem:
            raise _unreadable(self.path, problem) from problem

    def _most_frames(self, at_least: int) -> int | None:
        if self.frame_count is not None and at_least <= self.frame_count:
            return None
        # Walking through the packets is far faster than decoding them, and there is at least one to a frame.
        count = 0
        with _opened(self.path, options=_OPEN_OPTIONS) as container:
            try:
                for packet in container.demux(_picture_stream(container, self.path)):
                    count += packet.size > 0 and not packet.is_discard
                    if count >= at_least:
                        return None
            except av.error.FFmpegError:
                # Damage is reported where decoding meets it.
                return None
        return count

    def glimpses(self, time_s: float) -> Iterator[Glimpse]:
        """Pictures from the last key frame before ``time_s`` on, and only those that others are made of.

        For a look at one moment without decoding all before it. Ends where the footage can't be read any more.
        """
        with _opened(self.path, options=_OPEN_OPTIONS) as container:
            stream = _picture_stream(container, self.path)
            begins_s = next(_decoded(stream, container)).time
            if begins_s is None or stream.time_base is None:
                return
            try:
                container.seek(int((begins_s + time_s) / stream.time_base), stream=stream)
                stream.codec_context.skip_frame = "NONREF"
                for picture in _decoded(stream, container):
                    if picture.time is not None and not picture.is_corrupt:
                        yield Glimpse(picture.time - begins_s, partial(self._upright.rgb, picture))
            except av.error.FFmpegError:
                return

    def _all_frames(self, first: int, last: int | None) -> Iterator[Frame]:
        clock = _Clock(self.fps)
        index, shown_s = -1, 0.0
        with _opened(self.path, options=_OPEN_OPTIONS) as container:
            stream = _picture_stream(container, self.path)
            whole = _whole_packets(container, stream)
            if whole is not None and (last is None or last >= whole):
                raise self._broken_off(whole - 1, stream.frames or None)
            try:
                for picture in _decoded(stream, container):
                    index += 1
                    time_s = clock.time_s(picture.time)
                    shown_s = float(picture.duration * picture.time_base) if picture.duration else 0.0
                    # Skipped pictures are not converted: that costs more than decoding them.
                    if index >= first:
                        yield Frame(self._upright.rgb(picture), time_s, index)
            except av.error.FFmpegError as problem:
                raise self._broken_off(index, stream.frames or None) from problem
            if self._ended_early(stream, clock.last_s + shown_s):
                raise self._broken_off(index, self.frame_count)

    def _ended_early(self, stream: Any, shown_until_s: float) -> bool:
        """Matroska has no list of frames to miss one in, but says how long each stream should be.

        shown_until_s: when the last picture that was read goes away, counted from the first
        """
        claimed = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
        if claimed is None:
            return False
        hours, minutes, seconds = claimed.groups()
        end_s = int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        start_s = float(stream.start_time * stream.time_base) if stream.start_time else 0.0
        return start_s + shown_until_s + 0.5 + 2 / self.fps < end_s

    def _broken_off(self, last_good: int, claimed: int | None) -> FootageError:
        of_how_many = f" of {claimed}" if claimed and claimed > last_good + 1 else ""
        if last_good < 0:
            return FootageError(f"'{self.path}' is damaged: no frame can be read. Copy or export the footage again.")
        return FootageError(
            f"'{self.path}' is cut off or damaged: only its first {last_good + 1}{of_how_many} frames are whole. "
            f"Copy or export the footage again, or use the good part with --frames 0-{last_good}."
        )


def _whole_packets(container: Any, stream: Any) -> int | None:
    """How many packets lie within the file, from the index that MP4 and MOV keep; None when all do, or none is kept."""
    if "mp4" not in container.format.name or container.size <= 0:
        return None
    for count, entry in enumerate(stream.index_entries):
        if entry.pos + entry.size > container.size:
            return count
    return None


# ---- Picture sequences ----------------------------------------------------------------------------------------------


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
        if not 0.01 < fps < 10000:
            raise FootageError(f"{fps:g} is not a frame rate for '{asked}'. Give pictures per second, such as 25.")
        paths = in_counting_order(paths)
        numbers = [number_in(path.name) for path in paths]
        counted = [number for number in numbers if number is not None]
        grow = len(counted) == len(paths) and all(b > a for a, b in zip(counted, counted[1:], strict=False))
        times_s = [(number - counted[0]) / fps for number in counted] if grow else [i / fps for i in range(len(paths))]
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
                raise _unreadable(path, problem) from problem
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


def _read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8, upright by the picture's own orientation tag."""
    how: dict[str, Any] = {"format": "image2", "options": {"pattern_type": "none", **_OPEN_OPTIONS}}
    with _opened(path, **how) as container:
        stream = _picture_stream(container, path)
        if path.suffix.lower() == ".exr":
            # EXR stores light, not brightness on a screen.
            stream.codec_context.options = {"apply_trc": "iec61966_2_1"}
        for picture in container.decode(stream):
            return _Upright.of(picture, 1.0).rgb(picture)
    raise FootageError(f"'{path}' holds no picture. Render or copy it again.")
