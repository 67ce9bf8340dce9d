"""Files opened by FFmpeg, and stored pictures made upright ones."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.sidedata.sidedata
import numpy as np

from .device_failures import OUT_OF_MEMORY, memory_ran_out
from .errors import FootageError, TryAgainError
from .footage_claims import MAX_PIXELS, check_picture_size

# FFmpeg reads text as a terminal recording, and follows playlists to other files and hosts. None of that is footage.
_NOT_FOOTAGE_FORMATS = frozenset("tty concat dash ffmetadata hls lavfi rtsp sdp webvtt srt ass".split())
# A stream whose pictures are larger than that is not decoded, and may change to such a size at any time. FFmpeg reckons
# with borders around them.
_LIMIT = {"max_pixels": str(MAX_PIXELS + MAX_PIXELS // 8)}
OPEN_OPTIONS = {"protocol_whitelist": "file", **_LIMIT}
# Beyond this a pixel aspect is a broken header, not an anamorphic lens.
_WIDEST_PIXEL = 4.0
# A decoder of large pictures takes about so much, in several threads.
_DECODERS_ROOM_BYTES = 256 << 20
# Two moments that share a picture line by line make a comb: in many blocks of so many pixels, of which every fourth
# column is looked at, lines are so many times, and at least so many grey levels, farther from the next than from the
# one after it. Of films with moving people, 0.5 to 3 % of the blocks are like that; without a comb, 0.1 %.
_COMB_BLOCK, _COMB_COLUMNS = 16, 4
_COMB_RATIO, _COMB_LEAST, _COMB_SHARE = 1.2, 8, 0.003


def _unknown_side_data(cls: type[av.sidedata.sidedata.Type], value: int) -> Any:
    """PyAV 18 doesn't know all that its FFmpeg puts beside a picture, such as EXIF, and would raise ValueError."""
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNKNOWN_{value}", value
    return kind


av.sidedata.sidedata.Type._missing_ = classmethod(_unknown_side_data)  # type: ignore[assignment]


def unreadable(path: Path, problem: Exception) -> FootageError | TryAgainError:
    """The error to raise when ``path`` can't be read because of ``problem``."""
    # FFmpeg takes what it found no room for as damaged, and a sound film must not be given up for that.
    if memory_ran_out(problem) or not _room_for(_DECODERS_ROOM_BYTES):
        return TryAgainError(OUT_OF_MEMORY)
    if isinstance(problem, PermissionError):
        return FootageError(f"'{path}' may not be read. Give yourself permission to read it, or copy it elsewhere.")
    if isinstance(problem, av.error.InvalidDataError | av.error.EOFError):
        return FootageError(
            f"'{path}' is not a video, or it is cut off or damaged. Copy or export it again; if a video player shows "
            "it all the same, convert it with that or with ffmpeg."
        )
    reason = getattr(problem, "strerror", None) or str(problem)
    return FootageError(f"'{path}' can't be read ({reason}). Check that it is whole: can a video player show it?")


def _room_for(count: int) -> bool:
    """Whether the system would give so many bytes; none of them is used."""
    try:
        mmap.mmap(-1, count).close()
    except (OSError, MemoryError, ValueError, OverflowError):
        return False
    return True


@contextmanager
def opened(path: Path, **how: Any) -> Iterator[Any]:
    """The container at ``path``; FFmpeg's errors while it is open become FootageErrors."""
    try:
        # An absolute path can't be mistaken for a protocol ("C:..." is FFmpeg's business, "a:b.mp4" would be ours).
        with av.open(os.path.abspath(path), metadata_errors="replace", **how) as container:
            yield container
    except av.error.FFmpegError as problem:
        raise unreadable(path, problem) from problem


def picture_stream(container: Any, path: Path) -> Any:
    """The largest stream of moving pictures. Raises FootageError when there is none."""
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
    if stream.codec_context.width:
        # Of others it shows when they are decoded.
        check_picture_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.thread_type = "AUTO"
    stream.codec_context.options = dict(_LIMIT)
    return stream


def decoded(stream: Any, container: Any) -> Iterator[Any]:
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
class Upright:
    """How a stored picture becomes the one to look at: pixels squared, then turned and mirrored by right angles.

    first_line: of interlaced footage, 0 or 1, with which the earlier half of a picture begins
    """

    stored_size_px: tuple[int, int]
    transposed: bool = False
    flipped_x: bool = False
    flipped_y: bool = False
    first_line: int = 0

    @classmethod
    def of(cls, picture: Any, pixel_aspect: float) -> Upright:
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
