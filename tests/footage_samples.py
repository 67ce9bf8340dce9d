"""Small videos with known content, made with PyAV, and the real clips out of the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from checkout import dev
from keylift.core.footage import open_footage
from keylift.core.pose_model import pose_model

RED, GREEN, BLUE, WHITE = (220, 20, 20), (20, 180, 20), (20, 20, 220), (235, 235, 235)


def real_clip(name: str) -> Path:
    """``cam03.mp4`` (one person, 100 frames) or ``demo.mp4`` (two people, 230 frames), fetched on first use."""
    return dev().demo_clip(name)


def full_model() -> Path:
    """The pose model, made on first use."""
    return pose_model("full")


def corners(width: int = 96, height: int = 64) -> np.ndarray:
    """(H, W, 3) a picture whose quarters are red | green over blue | white: any turn or flip shows."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = WHITE
    return picture


def quarters(rgb: np.ndarray) -> list[str]:
    """The colours of a picture's quarters by name: top left, top right, bottom left, bottom right."""
    names = {"red": RED, "green": GREEN, "blue": BLUE, "white": WHITE}
    height, width = rgb.shape[:2]
    seen = []
    for y, x in ((1, 1), (1, 3), (3, 1), (3, 3)):
        pixel = rgb[height * y // 4, width * x // 4].astype(int)
        seen.append(min(names, key=lambda name: int(np.abs(pixel - names[name]).sum())))
    return seen


def numbered_pictures(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """Grey pictures of growing brightness, so that each tells its number."""
    return [np.full((height, width, 3), 16 + 200 * number // max(count - 1, 1), np.uint8) for number in range(count)]


def numbers_shown(pictures: Iterable[np.ndarray], count: int) -> list[int]:
    """The numbers of ``numbered_pictures(count)``, read back."""
    return [round((float(rgb.mean()) - 16) * max(count - 1, 1) / 200) for rgb in pictures]


# A picture's number as black and white squares in its middle: twelve bits of it, and a check sum of four.
_CODE_SQUARES, _NUMBER_BITS = 4, 12


def coded_picture(number: int, width: int = 96, height: int = 64) -> np.ndarray:
    """(H, W, 3) ``corners`` with ``number`` (to 4095) burnt in, so that a picture tells its number and how it lies."""
    bits = np.array([int(bit) for bit in f"{number:0{_NUMBER_BITS}b}{_check_sum(number):04b}"])
    picture = corners(width, height)
    for y, x in np.ndindex(_CODE_SQUARES, _CODE_SQUARES):
        rows, columns = (_code_slice(place, size) for place, size in ((y, height), (x, width)))
        picture[rows, columns] = 235 * bits[_CODE_SQUARES * y + x]
    return picture


def coded_pictures(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    """Pictures 0 to ``count`` - 1, each with its number."""
    return [coded_picture(number, width, height) for number in range(count)]


def code_shown(rgb: np.ndarray) -> int:
    """The number that is burnt into an upright picture. Fails where it can't be read or the picture lies otherwise."""
    assert quarters(rgb) == ["red", "green", "blue", "white"], "not upright"
    height, width = rgb.shape[:2]
    bits = ""
    for y, x in np.ndindex(_CODE_SQUARES, _CODE_SQUARES):
        square = rgb[_code_slice(y, height), _code_slice(x, width)].mean(axis=-1)
        inner_y, inner_x = square.shape[0] // 4, square.shape[1] // 4
        bits += str(int(square[inner_y:-inner_y, inner_x:-inner_x].mean() > 120))
    number = int(bits[:_NUMBER_BITS], 2)
    assert _check_sum(number) == int(bits[_NUMBER_BITS:], 2), "no number can be read"
    return number


def _check_sum(number: int) -> int:
    return (number ^ number >> 4 ^ number >> 8 ^ 5) & 15


def _code_slice(place: int, size: int) -> slice:
    """Where square ``place`` of a row or column is: from a third to two thirds of the picture."""
    return slice(*(round(size * (1 / 3 + edge / (3 * _CODE_SQUARES))) for edge in (place, place + 1)))


def write_video(
    path: Path,
    pictures: Sequence[np.ndarray],
    *,
    fps: int | Fraction = 25,
    ticks: Sequence[int] | None = None,
    ticks_per_s: int | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    turned_deg: int = 0,
    mirrored: bool = False,
    pixel_aspect: Fraction | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode ``pictures``; ``ticks`` are their presentation times in units of 1 / ``ticks_per_s``."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        if ticks_per_s:
            stream.codec_context.time_base = Fraction(1, ticks_per_s)
            stream.time_base = Fraction(1, ticks_per_s)
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if turned_deg or mirrored:
            stream.set_display_rotation(turned_deg, hflip=mirrored)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = number if ticks is None else ticks[number]
            frame.time_base = Fraction(1, ticks_per_s) if ticks_per_s else 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def remuxed(
    path: Path,
    result: Path,
    change: Callable[[int, av.Packet], bool | None] = lambda number, packet: True,
    container_options: dict[str, str] | None = None,
    container_format: str | None = None,
) -> Path:
    """A copy of a film's packets in another file. ``change`` may alter each, by its number; False leaves it out."""
    with (
        av.open(str(path)) as source,
        av.open(str(result), "w", container_format, options=container_options or {}) as container,
    ):
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            if change(number, packet) is not False:
                packet.stream = stream
                container.mux(packet)
    return result


def write_sound(path: Path, seconds: float = 0.5) -> Path:
    """A file with sound and no pictures."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        silence = np.zeros((1, int(16000 * seconds)), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut_off(path: Path, result: Path, share: float) -> Path:
    """A copy that ends after ``share`` of its bytes, as a broken transfer leaves it."""
    content = path.read_bytes()
    result.write_bytes(content[: int(len(content) * share)])
    return result


def write_crossing(path: Path, tint: tuple[float, float, float]) -> Path:
    """The woman of demo.mp4 walks towards her own mirror image, and in front of it past it.

    ``tint`` dyes the mirror image; (1, 1, 1) leaves the two in the same clothes. She walks from right to left.
    """
    # Only she moves in the lower half; above is the man, whom nobody needs here.
    film = open_footage(real_clip("demo.mp4"))
    before = [frame.rgb[460:].copy() for frame in film.frames(0, 25)]
    empty = np.median(np.stack(before[::5]), axis=0).astype(np.uint8)
    pictures = []
    for rgb in (frame.rgb[460:] for frame in film.frames(96, 151)):
        difference = cv2.absdiff(rgb, empty).max(axis=2)
        moved = (cv2.GaussianBlur(difference, (0, 0), 3) > 14).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(moved)
        her = (labels == 1 + np.argmax(stats[1:, cv2.CC_STAT_AREA])).astype(np.uint8)
        her = cv2.morphologyEx(her, cv2.MORPH_CLOSE, np.ones((15, 15), np.uint8)).astype(np.float32)
        cover = cv2.GaussianBlur(her, (0, 0), 2)[..., None]
        twin, twin_cover = np.clip(rgb[:, ::-1] * np.array(tint), 0, 255), cover[:, ::-1]
        picture = empty * (1 - twin_cover) + twin * twin_cover
        pictures.append((picture * (1 - cover) + rgb * cover).astype(np.uint8))
    return write_video(path, pictures, fps=30, options={"crf": "18", "preset": "veryfast"})
