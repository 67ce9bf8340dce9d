"""What a video file says of itself, and how far that can be believed."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import av

from .errors import FootageError

# Cinema cameras film 80 million pixels a frame; more is a broken header, or somebody who wants the memory.
MAX_SIDE_PX = 16_384
MAX_PIXELS = 100_000_000
_TOO_LARGE = (
    f"Keylift reads at most {MAX_SIDE_PX:,} pixels a side and {MAX_PIXELS // 1_000_000} million a picture. Make it "
    "smaller first: people are found in far smaller pictures as well."
)


def check_picture_size(path: Path, width: int, height: int) -> None:
    """Raise FootageError for pictures that no footage has. 0x0: they are so large that FFmpeg was told not to look."""
    if width <= 0 or height <= 0:
        raise FootageError(f"'{path}' is damaged, or its pictures are too large. {_TOO_LARGE}")
    if max(width, height) > MAX_SIDE_PX or width * height > MAX_PIXELS:
        raise FootageError(f"'{path}' has pictures of {width}x{height}. {_TOO_LARGE}")


def whole_packets(container: Any, stream: Any) -> int | None:
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


def claimed_frames(container: Any, stream: Any, fps: float) -> int | None:
    """How many pictures the file says that it shows; None where it says nothing."""
    # The table of contents is what there is; the header's own number may be anything.
    listed = sum(not entry.is_discard for entry in stream.index_entries) if "mp4" in container.format.name else 0
    if listed or stream.frames:
        return listed or int(stream.frames)
    if stream.duration:
        duration_s = float(stream.duration * (stream.time_base or 0))
    elif (end_s := claimed_end_s(stream)) is not None:
        # The container's own is that of the longest stream, which may be sound.
        duration_s = end_s - float((stream.start_time or 0) * (stream.time_base or 0))
    elif container.duration:
        duration_s = container.duration / av.time_base
    else:
        return None
    return max(1, round(duration_s * fps))


def claimed_end_s(stream: Any) -> float | None:
    """When a stream ends, as Matroska says; None in other files."""
    claimed = re.fullmatch(r"(\d{1,6}):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if claimed is None:
        return None
    hours, minutes, seconds = claimed.groups()
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def is_cut_off(path: Path) -> bool:
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
