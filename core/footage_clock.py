"""The time stamps of a video file, some of them missing, doubled or broken, made times to go by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from .errors import FootageError

# No camera films people faster, nor could anybody tell their motion from fewer pictures.
_FASTEST_FPS, _SLOWEST_FPS = 1000.0, 1.0
_USUAL_FPS = 25.0
# So many packets tell how the clock of a file runs; of huge pictures, so many bytes have to do.
_PROBED_PACKETS, _PROBED_BYTES = 120, 1 << 24
_FEWEST_STAMPS = 5
# Among so many doubled or missing stamps, the steps between the others say nothing.
_BAD_STAMPS = 0.1
# Stamps that leap on by more belong to another clock. Shorter pauses are kept: Blender shows them too.
LONGEST_PAUSE_S = 3600.0
# A file that begins between key frames has pictures that can't be decoded, for no longer than this.
_LONGEST_LEAD_S = 60.0


@dataclass(frozen=True)
class Stamps:
    """How the clock of a file runs, from its first packets.

    count:     packets that were looked at
    stamps_s:  (N,) different stamps of them, in order
    """

    count: int
    stamps_s: np.ndarray

    @classmethod
    def of(cls, container: Any, stream: Any) -> Stamps:
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


class Clock:
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
        if step_s < -2 * self._period_s or step_s > LONGEST_PAUSE_S:
            # Joined recordings start their clock again: go on from here, and keep the new clock.
            self._shift_s += on_s - time_s
            return on_s
        if step_s < 1e-6:
            # A doubled stamp; half a step forward leaves room for the next true one.
            return self.last_s + self._period_s / 2
        return time_s


def beginning_s(stream: Any, first_s: float | None) -> float | None:
    """The stamp that is time 0: of the first packet, even if the first picture that can be decoded comes later.

    Blender counts from there as well. None where the file has no stamps.
    """
    if first_s is None or stream.start_time is None or stream.time_base is None:
        return first_s
    start_s = float(stream.start_time * stream.time_base)
    return start_s if 0 <= first_s - start_s <= _LONGEST_LEAD_S else first_s


def own_rate(stream: Any, stamps: Stamps) -> float:
    """Mean frame rate: as the file says, if its first pictures don't say otherwise."""
    # Of a raw stream FFmpeg invents a mean, but the stream itself may say its rate.
    claims = [stream.guessed_rate] if stamps.missing else [stream.average_rate, stream.guessed_rate, stream.base_rate]
    claimed = next((float(rate) for rate in claims if rate and 0.01 < rate < 10000), None)
    seen = [1 / period_s for period_s in (stamps.period_s, stamps.mean_period_s) if period_s]
    if claimed is not None and (not seen or any(0.4 < claimed / rate < 2.5 for rate in seen)):
        return claimed
    return seen[0] if seen else _USUAL_FPS


def check_clock(path: Path, stamps: Stamps) -> None:
    """Raise FootageError when no camera can have filmed people at this rate."""
    if stamps.period_s is None or _SLOWEST_FPS <= 1 / stamps.period_s <= _FASTEST_FPS:
        return
    raise FootageError(
        f"By the time stamps in '{path}' it has {1 / stamps.period_s:.4g} pictures a second, which no film of people "
        "has: they are broken. Say how many it has, and they are counted evenly: for example --fps 30."
    )


def clock_notes(path: Path, own_fps: float, fps: float | None, stamps: Stamps) -> Iterator[str]:
    """What is worth telling about a clock: that it was overruled, or that there is none."""
    if fps is not None and abs(fps / own_fps - 1) > 1e-3:
        yield (
            f"'{path.name}' says that it has {own_fps:.4g} pictures a second; they are counted as {fps:.4g} a second, "
            "as asked for."
        )
    elif fps is None and stamps.missing:
        yield f"'{path.name}' has no time stamps; {own_fps:.4g} pictures a second are assumed. Say another with --fps."
