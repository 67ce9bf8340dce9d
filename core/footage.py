"""Moving pictures of any kind as upright RGB frames with presentation times, one at a time."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.sidedata.sidedata
import numpy as np

from .errors import FootageError
from .picture_sequence import PICTURE_ENDINGS, in_counting_order, number_in, sequence_at
from .track_files import sha256_of
from .tracks import Source

# Blender's own default for a folder of pictures, which carry no clock.
DEFAULT_SEQUENCE_FPS = 24.0


def _unknown_side_data(cls: type[av.sidedata.sidedata.Type], value: int) -> Any:
    """PyAV 18 doesn't know all that its FFmpeg puts beside a picture, such as EXIF, and would raise ValueError."""
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNKNOWN_{value}", value
    return kind


av.sidedata.sidedata.Type._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]

# FFmpeg reads text as a terminal recording, and follows playlists to other files and hosts. None of that is footage.
_NOT_FOOTAGE_FORMATS = frozenset("tty concat dash ffmetadata hls lavfi rtsp sdp webvtt srt ass".split())
_OPEN_OPTIONS = {"protocol_whitelist": "file"}
# Beyond this a pixel aspect is a broken header, not an anamorphic lens.
_WIDEST_PIXEL = 4.0
# No camera films people faster, nor could anybody tell their motion from fewer pictures.
_FASTEST_FPS, _SLOWEST_FPS = 1000.0, 1.0
_USUAL_FPS = 25.0
# So many packets tell how the clock of a file runs; of huge pictures, so many bytes have to do.
_PROBED_PACKETS, _PROBED_BYTES = 120, 1 << 24
_FEWEST_STAMPS = 5
# Among so many doubled or missing stamps, the steps between the others say nothing.
_BAD_STAMPS = 0.1
# Stamps that leap on by more belong to another clock. Shorter pauses are kept: Blender shows them too.
_LONGEST_PAUSE_S = 3600.0
# Two moments that share a picture line by line make a comb: in many blocks of so many pixels, of which every fourth
# column is looked at, lines are so many times, and at least so many grey levels, farther from the next than from the
# one after it. Of films with moving people, 0.5 to 3 % of the blocks are like that; without a comb, 0.1 %.
_COMB_BLOCK, _COMB_COLUMNS = 16, 4
_COMB_RATIO, _COMB_LEAST, _COMB_SHARE = 1.2, 8, 0.003
# A file that begins between key frames has pictures that can't be decoded, for no longer than this.
_LONGEST_LEAD_S = 60.0


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture.

    rgb:    (H, W, 3) uint8, upright, square pixels
    time_s: presentation time in seconds; 0 is where the file begins, which is its first picture. Only where a file
            begins between key frames, and nobody can decode its first pictures, the first to be seen comes later.
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
    notes:       what is worth telling about its clock
    """

    notes: tuple[str, ...] = ()

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

    ``fps`` is the rate of a picture sequence, which has none of its own. A video keeps its own clock, however uneven;
    with ``fps`` its pictures are counted evenly instead, for clocks that are broken and for slow motion. Raises
    FootageError, telling what to do, when there is nothing to see, or a clock can't be believed.
    """
    path = Path(path)
    if fps is not None and not 0.01 < fps < 10000:
        raise FootageError(f"{fps:g} is not a frame rate for '{path}'. Give pictures per second, such as 25.")
    # A real file may have # or % in its name, so the file wins over the pattern.
    if path.is_file():
        try:
            size_bytes = path.stat().st_size
        except OSError as problem:
            raise _unreadable(path, problem) from problem
        if size_bytes == 0:
            raise FootageError(f"'{path}' is empty (0 bytes). Copy or export the footage again.")
        return Pictures.of([path], path, fps) if path.suffix.lower() in PICTURE_ENDINGS else Video.at(path, fps)
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
        with av.open(os.path.abspath(path), metadata_errors="replace", **how) as container:
            yield container
    except av.error.FFmpegError as problem:
        raise _unreadable(path, problem) from problem


def _picture_stream(container: Any, path: Path) -> Any:
    if container.format.name in _NOT_FOOTAGE_FORMATS:
        raise FootageError(f"'{path}' is not a video. Give a video file or a folder of pictures.")
    # The cover of a song is a video stream too.
    cover = av.stream.Disposition.attached_pic
    # Where nothing can decode it, a stream has no sizes either.
    streams = [one for one in container.streams.video if not one.disposition & cover and one.codec_context is not None]
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
    """How a stored picture becomes the one to look at: pixels squared, then turned and mirrored by right angles.

    first_line: of interlaced footage, 0 or 1, with which the earlier half of a picture begins
    """

    stored_size_px: tuple[int, int]
    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False
    first_line: int = 0

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
        if picture.interlaced_frame:
            picture = _without_comb(picture, self.first_line)
        rgb = picture.to_ndarray(format="rgb24", width=width, height=height)
        if self.transposed:
            rgb = rgb.swapaxes(0, 1)
        if self.flipped_x:
            rgb = rgb[:, ::-1]
        if self.flipped_y:
            rgb = rgb[::-1]
        return np.ascontiguousarray(rgb)


def _without_comb(picture: Any, first_line: int) -> Any:
    """The picture, or where its two halves show different moments, only the lines of the first of them.

    Footage that is said to be interlaced often isn't, and what stands still has no comb: then all lines are of use.
    """
    rgb = picture.to_ndarray(format="rgb24")
    if not _is_combed(rgb):
        return picture
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[first_line::2]), format="rgb24")


def _is_combed(rgb: np.ndarray) -> bool:
    """Whether somewhere lines differ from the next ones more than from those after the next.

    rgb: (H, W, 3) uint8
    """
    # A few columns say as much as all.
    green = rgb[:, ::_COMB_COLUMNS, 1].astype(np.int16)
    rows, columns = (green.shape[0] - 2) // _COMB_BLOCK, green.shape[1] * _COMB_COLUMNS // _COMB_BLOCK
    if rows <= 0 or columns <= 0:
        return False
    high, wide = rows * _COMB_BLOCK, columns * _COMB_BLOCK // _COMB_COLUMNS
    here, next_one, after = (green[first : first + high, :wide] for first in range(3))
    to_next, to_after = (
        np.abs(other - here).reshape(rows, _COMB_BLOCK, columns, -1).mean(axis=(1, 3)) for other in (next_one, after)
    )
    combed = (to_next > _COMB_RATIO * to_after) & (to_next > _COMB_LEAST)
    return bool(combed.mean() > _COMB_SHARE)


@dataclass(frozen=True)
class Glimpse:
    """A picture that was decoded; ``rgb`` makes it upright, (H, W, 3). time_s: from the first one of the file."""

    time_s: float
    rgb: Callable[[], np.ndarray]


@dataclass(frozen=True)
class _Stamps:
    """How the clock of a file runs, from its first packets.

    count:     packets that were looked at
    stamps_s:  (N,) different stamps of them, in order
    """

    count: int
    stamps_s: np.ndarray

    @classmethod
    def of(cls, container: Any, stream: Any) -> _Stamps:
        """Look at the packets that come next. Those of damaged files are as many as can be had."""
        count, size, stamps, decoded_at = 0, 0, set(), None
        try:
            for packet in container.demux(stream):
                if packet.size == 0 or packet.is_discard:
                    continue
                # Joined recordings start their clock again.
                if decoded_at is not None and packet.dts is not None and packet.dts < decoded_at:
                    break
                count, size, decoded_at = count + 1, size + packet.size, packet.dts
                if packet.pts is not None:
                    stamps.add(packet.pts)
                if count >= _PROBED_PACKETS or (size > _PROBED_BYTES and count > _FEWEST_STAMPS):
                    break
        except av.error.FFmpegError:
            # Damage is reported where decoding meets it.
            pass
        return cls(count, np.array(sorted(stamps), float) * float(stream.time_base or 0))

    @property
    def missing(self) -> bool:
        """Whether there is no clock at all, as in a raw stream."""
        return self.count > 1 and len(self.stamps_s) < 2

    @property
    def mean_period_s(self) -> float | None:
        """How long a picture stays on average; None where there are too few to tell."""
        if len(self.stamps_s) < _FEWEST_STAMPS:
            return None
        return float(np.ptp(self.stamps_s)) / (self.count - 1)

    @property
    def period_s(self) -> float | None:
        """How long a picture usually stays; None where there are too few to tell."""
        if len(self.stamps_s) < (1 - _BAD_STAMPS) * self.count or len(self.stamps_s) < _FEWEST_STAMPS:
            return self.mean_period_s
        return float(np.median(np.diff(self.stamps_s)))


class _Clock:
    """Turns the stamps on pictures, some missing or running backwards, into strictly growing times from 0.

    fps:      usual rate of the pictures
    begins_s: the stamp that is time 0; None = the first that comes
    even:     count pictures, whatever their stamps say
    """

    def __init__(self, fps: float, begins_s: float | None = None, even: bool = False) -> None:
        self._fps = fps
        self._period_s = 1.0 / fps
        self._even = even
        self._shift_s = None if begins_s is None else -begins_s
        self._count = 0
        self.last_s = -self._period_s

    def time_s(self, stamp_s: float | None) -> float:
        """When the next picture is shown, in seconds."""
        if self._even:
            # Counted, not added up: an hour of sums is off in the end.
            self.last_s = self._count / self._fps
        elif stamp_s is None or not np.isfinite(stamp_s):
            self.last_s += self._period_s
        else:
            self.last_s = self._next_s(stamp_s)
        self._count += 1
        return self.last_s

    def _next_s(self, stamp_s: float) -> float:
        on_s = self.last_s + self._period_s
        if self._shift_s is None:
            self._shift_s = on_s - stamp_s
        time_s = stamp_s + self._shift_s
        step_s = time_s - self.last_s
        if step_s < -2 * self._period_s or step_s > _LONGEST_PAUSE_S:
            # Joined recordings start their clock again: go on from here, and keep the new clock.
            self._shift_s += on_s - time_s
            return on_s
        if step_s < 1e-6:
            # A doubled stamp; half a step forward leaves room for the next true one.
            return self.last_s + self._period_s / 2
        return time_s


def _begins_s(stream: Any, first_s: float | None) -> float | None:
    """The stamp that is time 0: of the first packet, even if the first picture that can be decoded comes later.

    Blender counts from there as well. None where the file has no stamps.
    """
    if first_s is None or stream.start_time is None or stream.time_base is None:
        return first_s
    start_s = float(stream.start_time * stream.time_base)
    return start_s if 0 <= first_s - start_s <= _LONGEST_LEAD_S else first_s


class Video(Footage):
    """A video file."""

    def __init__(
        self,
        path: Path,
        size_px: tuple[int, int],
        fps: float,
        frame_count: int | None,
        upright: _Upright,
        usual_fps: float | None = None,
        begins_s: float | None = None,
        even: bool = False,
    ) -> None:
        super().__init__(path, size_px, fps, frame_count)
        self._upright = upright
        self._usual_fps = usual_fps or fps
        self._begins_s = begins_s
        self._even = even

    def clock(self) -> _Clock:
        """A new clock, to be asked for the time of one picture after the other from the first on."""
        return _Clock(self._usual_fps, self._begins_s, self._even)

    @classmethod
    def at(cls, path: Path, fps: float | None = None) -> Video:
        """Look at the file's head and its first pictures. ``fps``: count pictures evenly, at this rate."""
        with _opened(path, options=_OPEN_OPTIONS) as container:
            stream = _picture_stream(container, path)
            picture = cls._first_picture(container, stream, path)
            aspect = stream.sample_aspect_ratio
            # Of all kinds of footage, DV alone begins with the lower line.
            first_line = int(stream.codec_context.name == "dvvideo")
            upright = replace(_Upright.of(picture, float(aspect) if aspect else 1.0), first_line=first_line)
            stamps = cls._stamps(path)
            own_fps = _own_rate(stream, stamps)
            if fps is None:
                _check_clock(path, stamps)
            frame_count = _claimed_frames(container, stream, own_fps)
            begins_s = _begins_s(stream, picture.time)
        usual_fps = None if fps is not None or stamps.period_s is None else 1 / stamps.period_s
        even = fps is not None or stamps.missing
        video = cls(path, upright.size_px, fps or own_fps, frame_count, upright, usual_fps, begins_s, even)
        video.notes = tuple(_clock_notes(path, own_fps, fps, stamps))
        return video

    @staticmethod
    def _stamps(path: Path) -> _Stamps:
        with _opened(path, options=_OPEN_OPTIONS) as container:
            return _Stamps.of(container, _picture_stream(container, path))

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
            # Seeking goes by stamps.
            begins_s = self._begins_s
            if begins_s is None or stream.time_base is None or self._even:
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
        clock = self.clock()
        index, shown_until_s = -1, 0.0
        with _opened(self.path, options=_OPEN_OPTIONS) as container:
            stream = _picture_stream(container, self.path)
            whole = _whole_packets(container, stream)
            if whole is not None and (last is None or last >= whole):
                raise self._broken_off(whole - 1, stream.frames or None)
            try:
                for picture in _decoded(stream, container):
                    index += 1
                    if picture.time is not None:
                        stays_s = float((picture.duration or 0) * (picture.time_base or 0))
                        shown_until_s = max(shown_until_s, picture.time + stays_s)
                    time_s = clock.time_s(picture.time)
                    # Skipped pictures are not converted: that costs more than decoding them.
                    if index >= first:
                        yield Frame(self._upright.rgb(picture), time_s, index)
            except av.error.FFmpegError as problem:
                raise self._broken_off(index, stream.frames or None) from problem
            # Matroska has no list of frames to miss one in, but says how long each stream should be. Tools that cut
            # films copy such claims along; that the file itself is cut off, its outermost element tells.
            claimed_s = _claimed_end_s(stream)
            if claimed_s is not None and shown_until_s + 0.5 + 2 / self.fps < claimed_s and _is_cut_off(self.path):
                raise self._broken_off(index, self.frame_count)

    def _broken_off(self, last_good: int, claimed: int | None) -> FootageError:
        of_how_many = f" of {claimed}" if claimed and claimed > last_good + 1 else ""
        if last_good < 0:
            return FootageError(f"'{self.path}' is damaged: no frame can be read. Copy or export the footage again.")
        return FootageError(
            f"'{self.path}' is cut off or damaged: only its first {last_good + 1}{of_how_many} frames are whole. "
            f"Copy or export the footage again, or use the good part with --frames 0-{last_good}."
        )


def _whole_packets(container: Any, stream: Any) -> int | None:
    """How many shown packets lie within the file, from the index that MP4 and MOV keep; None when all do, or no index.

    An edit list may cut packets off that are there only for others to be decoded.
    """
    if "mp4" not in container.format.name or container.size <= 0:
        return None
    count = 0
    for entry in stream.index_entries:
        if entry.pos + entry.size > container.size:
            return count
        count += not entry.is_discard
    return None


def _own_rate(stream: Any, stamps: _Stamps) -> float:
    """Mean frame rate: as the file says, if its first pictures don't say otherwise."""
    # Of a raw stream FFmpeg invents a mean, but the stream itself may say its rate.
    claims = [stream.guessed_rate] if stamps.missing else [stream.average_rate, stream.guessed_rate, stream.base_rate]
    claimed = next((float(rate) for rate in claims if rate and 0.01 < rate < 10000), None)
    seen = [1 / period_s for period_s in (stamps.period_s, stamps.mean_period_s) if period_s]
    if claimed is not None and (not seen or any(0.4 < claimed / rate < 2.5 for rate in seen)):
        return claimed
    return seen[0] if seen else _USUAL_FPS


def _check_clock(path: Path, stamps: _Stamps) -> None:
    """Raise FootageError when no camera can have filmed people at this rate."""
    if stamps.period_s is None or _SLOWEST_FPS <= 1 / stamps.period_s <= _FASTEST_FPS:
        return
    raise FootageError(
        f"By the time stamps in '{path}' it has {1 / stamps.period_s:.4g} pictures a second, which no film of people "
        "has: they are broken. Say how many it has, and they are counted evenly: for example --fps 30."
    )


def _clock_notes(path: Path, own_fps: float, fps: float | None, stamps: _Stamps) -> Iterator[str]:
    if fps is not None and abs(fps / own_fps - 1) > 1e-3:
        yield (
            f"'{path.name}' says that it has {own_fps:.4g} pictures a second; they are counted as {fps:.4g} a second, "
            "as asked for."
        )
    elif fps is None and stamps.missing:
        yield f"'{path.name}' has no time stamps; {own_fps:.4g} pictures a second are assumed. Say another with --fps."


def _claimed_frames(container: Any, stream: Any, fps: float) -> int | None:
    """How many pictures the file says that it shows; None where it says nothing."""
    # The table of contents is what there is; the header's own number may be anything.
    listed = sum(not entry.is_discard for entry in stream.index_entries) if "mp4" in container.format.name else 0
    if listed or stream.frames:
        return listed or int(stream.frames)
    if stream.duration:
        duration_s = float(stream.duration * (stream.time_base or 0))
    elif (end_s := _claimed_end_s(stream)) is not None:
        # The container's own is that of the longest stream, which may be sound.
        duration_s = end_s - float((stream.start_time or 0) * (stream.time_base or 0))
    elif container.duration:
        duration_s = container.duration / av.time_base
    else:
        return None
    return max(1, round(duration_s * fps))


def _claimed_end_s(stream: Any) -> float | None:
    """When a stream ends, as Matroska says; None in other files."""
    claimed = re.fullmatch(r"(\d{1,6}):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if claimed is None:
        return None
    hours, minutes, seconds = claimed.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _is_cut_off(path: Path) -> bool:
    """Whether a Matroska file is shorter than its outermost element says; False where that was left open."""
    try:
        with open(path, "rb") as file:
            head = file.read(1 << 12)
            size = os.fstat(file.fileno()).st_size
    except OSError:
        return False
    place = 0
    for identity in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        if head[place : place + 4] != identity or place + 4 >= len(head):
            return False
        place += 4
        # The zeros before the first one tell how many bytes the length has.
        length = 9 - head[place].bit_length()
        number = int.from_bytes(head[place : place + length], "big") & ((1 << 7 * length) - 1)
        place += length
        if identity[0] == 0x18:
            return number != (1 << 7 * length) - 1 and place + number > size
        place += number
    return False


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


def _check_holes(paths: list[Path], numbers: list[int], fps: float) -> None:
    """Raise FootageError where so many numbers are missing that the pictures can't be of one recording."""
    for before, after, path in zip(numbers, numbers[1:], paths[1:], strict=False):
        if after - before > _LONGEST_PAUSE_S * fps:
            raise FootageError(
                f"Before '{path.name}' {after - before - 1} pictures are missing, which is more than an hour. Take out "
                "the pictures that do not belong, or number them by frames."
            )


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
