"""A video file as frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

from .errors import FootageError
from .footage_claims import check_picture_size, claimed_end_s, claimed_frames, is_cut_off, whole_packets
from .footage_clock import Clock, Stamps, beginning_s, check_clock, clock_notes, own_rate
from .footage_decoding import OPEN_OPTIONS, Upright, decoded, opened, picture_stream, unreadable
from .footage_frames import Footage, Frame
from .source import Source, sha256_of


@dataclass(frozen=True)
class Glimpse:
    """A picture that was decoded; ``rgb`` makes it upright, (H, W, 3). time_s: from the first one of the file."""

    time_s: float
    rgb: Callable[[], np.ndarray]


class Video(Footage):
    """A video file."""

    def __init__(
        self,
        path: Path,
        size_px: tuple[int, int],
        fps: float,
        frame_count: int | None,
        upright: Upright,
        usual_fps: float | None = None,
        begins_s: float | None = None,
        even: bool = False,
    ) -> None:
        super().__init__(path, size_px, fps, frame_count)
        self.upright = upright
        self._usual_fps = usual_fps or fps
        self._begins_s = begins_s
        self._even = even

    def clock(self) -> Clock:
        """A new clock, to be asked for the time of one picture after the other from the first on."""
        return Clock(self._usual_fps, self._begins_s, self._even)

    @classmethod
    def at(cls, path: Path, fps: float | None = None) -> Video:
        """Look at the file's head and its first pictures. ``fps``: count pictures evenly, at this rate."""
        with opened(path, options=OPEN_OPTIONS) as container:
            stream = picture_stream(container, path)
            picture = cls._first_picture(container, stream, path)
            aspect = stream.sample_aspect_ratio
            # Of all kinds of footage, DV alone begins with the lower line.
            first_line = int(stream.codec_context.name == "dvvideo")
            upright = replace(Upright.of(picture, float(aspect) if aspect else 1.0), first_line=first_line)
            # Pixels that are wide make it larger than it is stored.
            check_picture_size(path, *upright.size_px)
            stamps = cls._stamps(path)
            own_fps = own_rate(stream, stamps)
            if fps is None:
                check_clock(path, stamps)
            frame_count = claimed_frames(container, stream, own_fps)
            begins_s = beginning_s(stream, picture.time)
        usual_fps = None if fps is not None or stamps.period_s is None else 1 / stamps.period_s
        even = fps is not None or stamps.missing
        video = cls(path, upright.size_px, fps or own_fps, frame_count, upright, usual_fps, begins_s, even)
        video.notes = tuple(clock_notes(path, own_fps, fps, stamps))
        return video

    @staticmethod
    def _stamps(path: Path) -> Stamps:
        with opened(path, options=OPEN_OPTIONS) as container:
            return Stamps.of(container, picture_stream(container, path))

    @staticmethod
    def _first_picture(container: Any, stream: Any, path: Path) -> Any:
        for picture in decoded(stream, container):
            return picture
        raise FootageError(f"'{path}' holds no picture that can be shown. Copy or export the footage again.")

    def source(self) -> Source:
        try:
            return Source(self.path.name, sha256_of(self.path))
        except OSError as problem:
            raise unreadable(self.path, problem) from problem

    def _most_frames(self, at_least: int) -> int | None:
        if self.frame_count is not None and at_least <= self.frame_count:
            return None
        # Walking through the packets is far faster than decoding them, and there is at least one to a frame.
        count = 0
        with opened(self.path, options=OPEN_OPTIONS) as container:
            try:
                for packet in container.demux(picture_stream(container, self.path)):
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
        with opened(self.path, options=OPEN_OPTIONS) as container:
            stream = picture_stream(container, self.path)
            # Seeking goes by stamps.
            begins_s = self._begins_s
            if begins_s is None or stream.time_base is None or self._even:
                return
            try:
                container.seek(int((begins_s + time_s) / stream.time_base), stream=stream)
                stream.codec_context.skip_frame = "NONREF"
                for picture in decoded(stream, container):
                    if picture.time is not None and not picture.is_corrupt:
                        yield Glimpse(picture.time - begins_s, partial(self.upright.rgb, picture))
            except av.error.FFmpegError:
                return

    def _all_frames(self, first: int, last: int | None) -> Iterator[Frame]:
        clock = self.clock()
        index, shown_until_s = -1, 0.0
        with opened(self.path, options=OPEN_OPTIONS) as container:
            stream = picture_stream(container, self.path)
            whole = whole_packets(container, stream)
            if whole is not None and (last is None or last >= whole):
                raise self._broken_off(whole - 1, stream.frames or None)
            try:
                for picture in decoded(stream, container):
                    index += 1
                    if picture.time is not None:
                        stays_s = float((picture.duration or 0) * (picture.time_base or 0))
                        shown_until_s = max(shown_until_s, picture.time + stays_s)
                    time_s = clock.time_s(picture.time)
                    # Skipped pictures are not converted: that costs more than decoding them.
                    if index >= first:
                        yield Frame(self.upright.rgb(picture), time_s, index)
            except av.error.FFmpegError as problem:
                raise self._broken_off(index, stream.frames or None) from problem
            # Matroska has no list of frames to miss one in, but says how long each stream should be. Tools that cut
            # films copy such claims along; that the file itself is cut off, its outermost element tells.
            claimed_s = claimed_end_s(stream)
            if claimed_s is not None and shown_until_s + 0.5 + 2 / self.fps < claimed_s and is_cut_off(self.path):
                raise self._broken_off(index, self.frame_count)

    def _broken_off(self, last_good: int, claimed: int | None) -> FootageError:
        of_how_many = f" of {claimed}" if claimed and claimed > last_good + 1 else ""
        if last_good < 0:
            return FootageError(f"'{self.path}' is damaged: no frame can be read. Copy or export the footage again.")
        return FootageError(
            f"'{self.path}' is cut off or damaged: only its first {last_good + 1}{of_how_many} frames are whole. "
            f"Copy or export the footage again, or use the good part with --frames 0-{last_good}."
        )
