"""Which frame of a movie clip shows which picture of its footage, and which way up.

Three things are counted. Scene frames are what the timeline shows. Clip frames are what markers count in: clip frame 1
is where the clip begins on the timeline (``frame_start``), whatever picture that is. Pictures are counted from 0 as
they come out of the file; clip frame 1 shows picture ``frame_offset``. Blender gives every frame of a film the same
length, and shows at each the last picture that has begun by then: of footage with a variable frame rate some pictures
stay for several frames, and some are never seen. How long that is may have little to do with how long pictures last: a
phone's film of about 30 pictures a second may be shown at 120 frames a second. A scene keeps step with its footage only
at the rate that Blender shows it at. Pictures of a sequence are found by the number in their name.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import bpy
import numpy as np

from ..core.errors import FootageError
from ..core.frame_rate import frame_rate
from ..core.picture_sequence import number_in, sequence_at

# How a stored picture is turned to be upright: (a, b, c, d) sends stored (p, q) to upright (a p + c q, b p + d q), seen
# from the middle, y down.
Turn = tuple[int, int, int, int]
UPRIGHT: Turn = (1, 0, 0, 1)
# What phones write for portrait footage: a quarter turn clockwise.
_PORTRAIT: Turn = (0, 1, -1, 0)
# From this version on Blender turns footage as its file says.
_TURNS_FOOTAGE = (4, 4, 0)
# Ticks a second that clocks in files have; those of 1 / 90000 s and shorter are too short to matter.
_COARSE_CLOCKS = (600, 1000)
_FINEST_CLOCK = 90000
# Parts of a picture's time that rounded clocks are off by, and by how much rates differ that are not the same.
_EVENLY, _ANOTHER_RATE = 0.05, 0.02
_MOST_BOXES = 10000


def clip_frame_at(clip: bpy.types.MovieClip, scene_frame: int) -> int:
    """The frame that markers have, of a frame of the timeline."""
    return scene_frame - clip.frame_start + 1


def scene_frame_at(clip: bpy.types.MovieClip, clip_frame: int) -> int:
    """The frame of the timeline, of the frame that markers have."""
    return clip_frame + clip.frame_start - 1


def clip_frames(clip: bpy.types.MovieClip, time_s: np.ndarray, frame_index: np.ndarray) -> np.ndarray:
    """(F,) the clip frame at which each picture of the footage first shows, never falling.

    time_s:      (F,) presentation times, 0 = the first picture of the footage
    frame_index: (F,) the pictures' numbers in the footage, counted from 0
    Of pictures that share a frame Blender shows the last.
    """
    position = np.ceil(_positions(clip, time_s, frame_index) - 1e-6)
    return position.astype(np.int64) + 1 - clip.frame_offset


def first_clip_frame(clip: bpy.types.MovieClip, time_s: np.ndarray, frame_index: np.ndarray) -> int:
    """The clip frame nearest to where the first of these pictures begins; times and numbers as in ``clip_frames``.

    What begins between two frames shows from the later one on; a take that lay there throughout would be late by up to
    a frame.
    """
    return int(np.round(_positions(clip, time_s, frame_index)[0])) + 1 - int(clip.frame_offset)


def shown_rate(clip: bpy.types.MovieClip, time_s: np.ndarray, frame_index: np.ndarray) -> float | None:
    """Frames a second at which a scene keeps step with the clip; None where nobody can tell.

    Times and numbers of the pictures as in ``clip_frames``.
    """
    counted = clip.source == "SEQUENCE" or (clip.fps > 0 and _is_counted(_picture_track(clip_path(clip)), time_s))
    if counted and len(time_s) > 1:
        position = _positions(clip, time_s, frame_index)
        rate = float(position[-1] - position[0]) / float(time_s[-1] - time_s[0])
        return rate if rate > 0 else None
    return _exact_rate(clip.fps) if not counted and clip.fps > 0 else None


def _positions(clip: bpy.types.MovieClip, time_s: np.ndarray, frame_index: np.ndarray) -> np.ndarray:
    """(F,) how many frames after the first picture of the footage each begins."""
    if clip.source == "SEQUENCE":
        return np.asarray(_numbers_from_first(clip, time_s, frame_index), float)
    track = _picture_track(clip_path(clip)) if clip.fps > 0 else None
    if clip.fps <= 0 or _is_counted(track, time_s):
        return np.asarray(frame_index, float)
    # Blender looks for the picture that has begun at frame / rate, rounded to a tick of the file's clock.
    ticks_per_s = _clock(time_s) if track is None else track.ticks_per_s
    return (time_s - 0.5 / ticks_per_s) * _exact_rate(clip.fps)


def is_shown(frames: np.ndarray) -> np.ndarray:
    """(F,) which pictures Blender ever shows, of the (F,) frames at which each would first show."""
    return np.append(np.diff(frames) > 0, True)


def _is_counted(track: _PictureTrack | None, time_s: np.ndarray) -> bool:
    """Whether pictures were counted at another rate than the file's own steady one: --fps, as for slow motion."""
    if track is None or track.steady_fps is None or len(time_s) < 2:
        return False
    rate = frame_rate(time_s)
    number = time_s * rate
    evenly = np.abs(number - np.round(number)).max() < _EVENLY
    return bool(evenly and abs(rate / track.steady_fps - 1) > _ANOTHER_RATE)


def _clock(time_s: np.ndarray) -> int:
    """Ticks a second of the clock that the times seem to have been written with."""
    for rate in _COARSE_CLOCKS:
        if np.abs(time_s * rate - np.round(time_s * rate)).max() < 1e-3:
            return rate
    return _FINEST_CLOCK


def _exact_rate(fps: float) -> float:
    """Blender tells 30000/1001 in single precision, which is a frame off after a day but half a tick after minutes."""
    fraction = Fraction(fps).limit_denominator(1001)
    return float(fraction) if abs(float(fraction) - fps) < 1.2e-7 * fps else fps


def _numbers_from_first(clip: bpy.types.MovieClip, time_s: np.ndarray, frame_index: np.ndarray) -> np.ndarray:
    """How far after the clip's first file each picture's file is, by number."""
    first = clip_path(clip)
    number = number_in(first.name)
    if number is not None:
        try:
            files = sequence_at(first.with_name(re.sub(r"\d+(?=\D*$)", "#", first.stem) + first.suffix)) or []
        except FootageError:
            files = []
        # Keypoints count from the first file that the pattern finds, wherever the clip begins.
        if len(files) > frame_index.max():
            return np.array([number_in(files[index].name) or 0 for index in frame_index]) - number
    if len(time_s) == 1:
        return frame_index
    return np.round(time_s * frame_rate(time_s))


def clip_path(clip: bpy.types.MovieClip) -> Path:
    """Where the clip's file is; of a sequence, its first one."""
    return Path(bpy.path.abspath(clip.filepath, library=clip.library))


# ---- Which way up ---------------------------------------------------------------------------------------------------


def picture_turn(clip: bpy.types.MovieClip, size_px: tuple[int, int]) -> tuple[Turn, bool]:
    """How the picture that Blender shows has to be turned to be upright, and whether that is known rather than guessed.

    size_px: (width, height) of the upright picture
    Before 4.4 Blender shows footage as it is stored, which for phones often is lying on its side.
    """
    if clip.source != "MOVIE":
        return UPRIGHT, True
    track = _picture_track(clip_path(clip))
    if track is None:
        return (_PORTRAIT, False) if _lies_on_its_side(clip, size_px) else (UPRIGHT, True)
    shown_as_stored = _lies_on_its_side(clip, size_px) if track.turn[0] == 0 else bpy.app.version < _TURNS_FOOTAGE
    return (track.turn if shown_as_stored else UPRIGHT), True


def _lies_on_its_side(clip: bpy.types.MovieClip, size_px: tuple[int, int]) -> bool:
    width, height = clip.size
    if width == height or 0 in (width, height):
        return bpy.app.version < _TURNS_FOOTAGE
    upright, shown = np.log(size_px[0] / size_px[1]), np.log(width / height)
    return bool(abs(upright + shown) < abs(upright - shown))


def clip_from_picture(xy_px: np.ndarray, size_px: tuple[int, int], turn: Turn) -> np.ndarray:
    """(..., 2) where in the clip (0 to 1, y up) points of the upright picture (pixels, y down) are."""
    a, b, c, d = turn
    x, y = np.moveaxis(xy_px / np.array(size_px) - 0.5, -1, 0)
    return np.stack([a * x + b * y + 0.5, 0.5 - (c * x + d * y)], axis=-1)


def picture_from_clip(co: np.ndarray, size_px: tuple[int, int], turn: Turn) -> np.ndarray:
    """(..., 2) where in the upright picture (pixels, y down) points of the clip (0 to 1, y up) are."""
    a, b, c, d = turn
    p, q = np.moveaxis(np.asarray(co, np.float64), -1, 0) - 0.5
    q = -q
    return (np.stack([a * p + c * q, b * p + d * q], axis=-1) + 0.5) * np.array(size_px)


# ---- What MP4 and MOV files say -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _PictureTrack:
    """The track of a file that holds its pictures.

    ticks_per_s: of the clock that their times are counted in
    steady_fps:  how many pictures a second it has by that clock; None where they don't last equally long
    """

    turn: Turn
    ticks_per_s: int
    steady_fps: float | None = None


def _picture_track(path: Path) -> _PictureTrack | None:
    """What an MP4 or MOV file says; None for other files, and for what can't be made sense of."""
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            for movie in _boxes(file, (0, file.tell()), b"moov"):
                for track in _boxes(file, movie, b"trak"):
                    turn = next((_turn(file, header) for header in _boxes(file, track, b"tkhd")), None)
                    clocks = [
                        _ticks_per_s(file, header)
                        for media in _boxes(file, track, b"mdia")
                        for header in _boxes(file, media, b"mdhd")
                    ]
                    if turn is not None and clocks and clocks[0] > 0:
                        ticks = _steady_ticks(file, track)
                        return _PictureTrack(turn, clocks[0], clocks[0] / ticks if ticks else None)
    except (OSError, struct.error):
        return None
    return None


def _boxes(file: BinaryIO, within: tuple[int, int], wanted: bytes) -> list[tuple[int, int]]:
    """Where the contents of boxes of a kind begin and end."""
    start, end = within
    found = []
    for _ in range(_MOST_BOXES):
        if start + 8 > end:
            break
        file.seek(start)
        size, kind = struct.unpack(">I4s", file.read(8))
        head = 8
        if size == 1:
            (size,) = struct.unpack(">Q", file.read(8))
            head = 16
        stop = end if size == 0 else min(start + size, end)
        if stop < start + head:
            break
        if kind == wanted:
            found.append((start + head, stop))
        start = stop
    return found


def _turn(file: BinaryIO, header: tuple[int, int]) -> Turn | None:
    """How a track's pictures are to be turned; None for a track without pictures."""
    file.seek(header[0])
    content = file.read(104)
    # Times take 8 bytes each rather than 4 from version 1 on.
    place = 52 if content[:1] == b"\x01" else 40
    a, b, _, c, d, _, _, _, _, width, height = struct.unpack(">9i2I", content[place : place + 44])
    if not width or not height:
        return None
    a, b, c, d = ((value > 0) - (value < 0) for value in (a, b, c, d))
    quarter_turns = abs(a * d - b * c) == 1 and (a, b, c, d).count(0) == 2
    return (a, b, c, d) if quarter_turns else UPRIGHT


def _ticks_per_s(file: BinaryIO, header: tuple[int, int]) -> int:
    file.seek(header[0])
    content = file.read(24)
    place = 20 if content[:1] == b"\x01" else 12
    return int(struct.unpack(">I", content[place : place + 4])[0])


def _steady_ticks(file: BinaryIO, track: tuple[int, int]) -> int | None:
    """How many ticks each picture of a track lasts; None where they differ. The last one may be cut short."""
    places = [track]
    for kind in (b"mdia", b"minf", b"stbl", b"stts"):
        places = [inner for place in places for inner in _boxes(file, place, kind)]
    if not places:
        return None
    file.seek(places[0][0] + 4)
    (entries,) = struct.unpack(">I", file.read(4))
    if not 1 <= entries <= 2:
        return None
    runs = struct.unpack(f">{2 * entries}I", file.read(8 * entries))
    return runs[1] or None if entries == 1 or runs[2] == 1 else None
