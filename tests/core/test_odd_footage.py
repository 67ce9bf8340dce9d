"""Footage as cameras, phones and editors really write it: each picture says its number, and comes when it is due."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from footage_samples import (
    code_shown,
    coded_picture,
    coded_pictures,
    remuxed,
    write_video,
)
from keylift.core.errors import FootageError
from keylift.core.footage import open_footage
from keylift.core.footage_spans import random_access

COUNT = 24
OPTIONS = {"bf": "2", "g": "8", "preset": "veryfast"}
NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """25 pictures a second, with pictures that lean on later ones, and a key picture every 8."""
    return write_video(tmp_path_factory.mktemp("plain") / "plain.mp4", coded_pictures(COUNT), options=OPTIONS)


def check(path: Path, times_s: Sequence[float] | np.ndarray, numbers: Sequence[int] | None = None, **how: float) -> Any:
    """Read the film: all pictures, in order, upright, each at its true time to half a picture; and parts of it."""
    footage = open_footage(path, **how)
    frames = list(footage.frames())
    assert [frame.index for frame in frames] == list(range(len(times_s)))
    assert [code_shown(frame.rgb) for frame in frames] == list(range(len(times_s)) if numbers is None else numbers)
    assert all(frame.rgb.shape[1::-1] == footage.size_px for frame in frames)
    off_s = np.abs(np.array([frame.time_s for frame in frames]) - np.array(times_s, float))
    assert off_s.max() < 0.5 * float(np.min(np.diff(times_s))), f"off by {off_s.max():.4f} s"
    part = list(footage.frames(3, 5))
    assert [(frame.index, frame.time_s) for frame in part] == [(f.index, f.time_s) for f in frames[3:6]]
    return footage


# ---- Clocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts", "avi"])
@pytest.mark.parametrize("fps", [NTSC_FILM, NTSC, Fraction(60000, 1001), Fraction(120), Fraction(240)])
def test_steady_rates(tmp_path: Path, ending: str, fps: Fraction) -> None:
    codec, options = ("mpeg4", {}) if ending == "avi" else ("libx264", OPTIONS)
    path = write_video(tmp_path / f"a.{ending}", coded_pictures(COUNT), fps=fps, codec=codec, options=options)
    footage = check(path, np.arange(COUNT) / float(fps))
    assert footage.fps == pytest.approx(float(fps), rel=1e-6) and not footage.notes


@pytest.mark.parametrize(("ending", "ticks_per_s"), [("mp4", 600), ("mov", 90000), ("mkv", 1000), ("ts", 90000)])
def test_a_phone_that_films_slower_in_low_light(tmp_path: Path, ending: str, ticks_per_s: int) -> None:
    jitter = np.random.default_rng(0).uniform(-0.004, 0.004, COUNT)
    times_s = np.cumsum([0.0] + [1 / 30] * 13 + [1 / 24] * (COUNT - 14)) + jitter
    ticks = np.round((times_s - times_s[0]) * ticks_per_s).astype(int)
    path = write_video(
        tmp_path / f"a.{ending}", coded_pictures(COUNT), ticks=list(ticks), ticks_per_s=ticks_per_s, options=OPTIONS
    )
    assert 24 <= check(path, ticks / ticks_per_s).fps <= 30


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("pause_s", [5, 1800])
def test_a_recording_that_was_paused_keeps_the_pause(tmp_path: Path, ending: str, pause_s: int) -> None:
    ticks = [40 * i + (1000 * pause_s if i >= 10 else 0) for i in range(COUNT)]
    path = write_video(tmp_path / f"a.{ending}", coded_pictures(COUNT), ticks=ticks, ticks_per_s=1000, options=OPTIONS)
    check(path, np.array(ticks) / 1000)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_clock_that_leaps_on_by_hours_is_another_clock(tmp_path: Path, ending: str) -> None:
    ticks = [40 * i + (7200_000 if i >= 10 else 0) for i in range(COUNT)]
    path = write_video(tmp_path / f"a.{ending}", coded_pictures(COUNT), ticks=ticks, ticks_per_s=1000, options=OPTIONS)
    check(path, np.arange(COUNT) / 25)


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv", "ts", "mpg"])
def test_a_clock_that_starts_at_ten_seconds(tmp_path: Path, ending: str) -> None:
    codec, options = ("mpeg2video", {}) if ending == "mpg" else ("libx264", OPTIONS)
    path = write_video(
        tmp_path / f"a.{ending}",
        coded_pictures(COUNT),
        ticks=[250 + i for i in range(COUNT)],
        ticks_per_s=25,
        codec=codec,
        options=options,
    )
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).time >= 10 or ending == "mpg"
    check(path, np.arange(COUNT) / 25)


@pytest.mark.parametrize(
    ("ending", "codec", "second_starts"),
    [("ts", "libx264", 0), ("ts", "libx264", 2500), ("ts", "mpeg2video", 0), ("mpg", "mpeg2video", 0)],
)
def test_joined_recordings(tmp_path: Path, ending: str, codec: str, second_starts: int) -> None:
    """One file after the other, as camcorders split them and people put them together again."""
    halves, options = [], OPTIONS if codec == "libx264" else {}
    for name, begin, starts in (("a", 0, 250), ("b", 12, second_starts)):
        pictures = [coded_picture(begin + i) for i in range(12)]
        ticks = [starts + i for i in range(12)]
        half = tmp_path / f"{name}.{ending}"
        halves.append(write_video(half, pictures, ticks=ticks, ticks_per_s=25, codec=codec, options=options))
    joined = tmp_path / f"joined.{ending}"
    joined.write_bytes(b"".join(half.read_bytes() for half in halves))
    gap_s = (second_starts - 250) / 25 if second_starts > 250 else 12 / 25
    footage = check(joined, np.concatenate([np.arange(12) / 25, gap_s + np.arange(12) / 25]))
    assert footage.clock()._period_s == pytest.approx(1 / 25)


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), NTSC_FILM, Fraction(50)])
@pytest.mark.parametrize(("ending", "codec"), [("h264", "libx264"), ("hevc", "libx265")])
def test_a_raw_stream_has_the_rate_that_it_says(tmp_path: Path, fps: Fraction, ending: str, codec: str) -> None:
    options = OPTIONS if codec == "libx264" else {"x265-params": "log-level=none"}
    film = write_video(tmp_path / "a.mp4", coded_pictures(COUNT), fps=fps, codec=codec, options=options)
    footage = check(remuxed(film, tmp_path / f"a.{ending}", container_format=ending), np.arange(COUNT) / float(fps))
    assert footage.fps == pytest.approx(float(fps))
    assert "no time stamps" in footage.notes[0] and "--fps" in footage.notes[0]


@pytest.mark.parametrize("ending", ["mkv", "mp4"])
def test_stamps_that_run_a_hundred_times_too_fast_are_refused(tmp_path: Path, ending: str) -> None:
    if ending == "mp4":
        ticks = list(range(COUNT))
        film = write_video(
            tmp_path / "a.mp4", coded_pictures(COUNT), fps=72, ticks=ticks, ticks_per_s=7200, options=OPTIONS
        )
    else:
        film = _crowded(tmp_path)
    with pytest.raises(FootageError, match=r"pictures a second, which no film.*--fps 30"):
        open_footage(film)
    footage = check(film, np.arange(COUNT) / 30, fps=30)
    assert footage.fps == 30 and "as asked for" in footage.notes[0]


def _crowded(folder: Path) -> Path:
    """Stamps so near each other that Matroska's clock has several pictures at each tick."""
    film = write_video(folder / "whole.mkv", coded_pictures(COUNT), options={**OPTIONS, "bf": "0"})

    def faster(number: int, packet: av.Packet) -> None:
        packet.pts = packet.dts = number // 4

    return remuxed(film, folder / "fast.mkv", faster)


def test_stamps_that_run_a_hundred_times_too_slowly_are_refused(tmp_path: Path) -> None:
    ticks = [4 * i for i in range(COUNT)]
    film = write_video(tmp_path / "a.mp4", coded_pictures(COUNT), ticks=ticks, ticks_per_s=1, options=OPTIONS)
    with pytest.raises(FootageError, match=r"0\.25 pictures a second"):
        open_footage(film)
    check(film, np.arange(COUNT) / 25, fps=25)


def test_slow_motion_can_be_given_the_rate_that_it_was_filmed_at(plain: Path) -> None:
    assert check(plain, np.arange(COUNT) / 120, fps=120).notes
    assert not check(plain, np.arange(COUNT) / 25, fps=25).notes
    with pytest.raises(FootageError, match="not a frame rate"):
        open_footage(plain, -25)


@pytest.mark.parametrize("how", [{}, {"fps": 120.0}])
@pytest.mark.parametrize(("ending", "codec"), [("mp4", "libx264"), ("avi", "mpeg4"), ("ts", "libx264")])
def test_parts_keep_the_time_of_the_whole(tmp_path: Path, ending: str, codec: str, how: dict[str, float]) -> None:
    options = {"bf": "2"} if ending == "avi" else OPTIONS
    footage = open_footage(
        write_video(tmp_path / f"a.{ending}", coded_pictures(COUNT), codec=codec, options=options), **how
    )
    parts = random_access(footage)
    assert parts is not None or ending != "mp4"
    if parts is not None:
        told = [(frame.index, frame.time_s) for frame in parts.frames(9, 20)]
        assert told == [(frame.index, frame.time_s) for frame in footage.frames(9, 20)]


def test_an_hour_is_counted_without_drift() -> None:
    from keylift.core.footage_clock import Clock

    fps = float(NTSC)
    number = np.arange(108000)
    stamps = {"ntsc": np.round(number / fps * 90000) / 90000, "thousandths": np.round(number / fps, 3)}
    for true_s in (*stamps.values(), None):
        clock = Clock(fps, even=true_s is None)
        told = np.array([clock.time_s(None if true_s is None else true_s[i] + 10) for i in number])
        assert np.abs(told - number / fps).max() < 0.0011
    # Every fifth stamp is missing, every seventh doubled, and the file claims another rate.
    clock = Clock(25.0)
    true_s = number / fps
    told = np.array([clock.time_s(None if i % 5 == 0 else true_s[i - (i % 7 == 0)]) for i in number])
    assert (np.diff(told) > 0).all() and np.abs(told - true_s).max() < 1.01 / fps


# ---- Where a file begins and ends -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["ts", "mkv", "mp4"])
def test_a_film_that_begins_between_key_pictures(tmp_path: Path, plain: Path, ending: str) -> None:
    """Nobody can decode its first pictures; those that can be seen come when they are due, as in Blender."""
    path = remuxed(plain, tmp_path / f"cut.{ending}", lambda number, packet: number >= 3)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        lead_s = next(container.decode(video=0)).time - float(stream.start_time * stream.time_base)
    assert lead_s > 0.1
    check(path, lead_s + np.arange(16) / 25, range(8, 24))
    glimpses = list(open_footage(path).glimpses(lead_s))
    assert glimpses
    for glimpse in glimpses:
        assert code_shown(glimpse.rgb()) == 8 + round((glimpse.time_s - lead_s) * 25)


def test_an_edit_list_that_cuts_the_first_pictures(tmp_path: Path, plain: Path) -> None:
    def earlier(number: int, packet: av.Packet) -> None:
        packet.pts, packet.dts = packet.pts - 5 * 512, packet.dts - 5 * 512

    path = remuxed(plain, tmp_path / "a.mp4", earlier, {"avoid_negative_ts": "disabled", "use_editlist": "1"})
    footage = check(path, np.arange(19) / 25, range(5, 24))
    assert footage.frame_count == 19
    with pytest.raises(FootageError, match=r"has 19 frames \(0 to 18\)"):
        next(footage.frames(0, 19))


def test_pictures_that_are_shown_before_they_are_decoded(tmp_path: Path, plain: Path) -> None:
    options = {"movflags": "negative_cts_offsets", "use_editlist": "0"}
    check(remuxed(plain, tmp_path / "a.mp4", container_options=options), np.arange(COUNT) / 25)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts"])
def test_a_last_picture_that_lasts_no_time(tmp_path: Path, plain: Path, ending: str) -> None:
    def brief(number: int, packet: av.Packet) -> None:
        packet.duration = 0

    check(remuxed(plain, tmp_path / f"a.{ending}", brief), np.arange(COUNT) / 25)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "ts", "mov"])
@pytest.mark.parametrize("late_s", [0, 1])
def test_sound_that_is_longer_than_the_pictures(tmp_path: Path, ending: str, late_s: int) -> None:
    path = tmp_path / f"a.{ending}"
    packets = []
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, options=OPTIONS)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for number in range(COUNT):
            frame = av.VideoFrame.from_ndarray(coded_picture(number), format="rgb24")
            frame.pts, frame.time_base = number + 25 * late_s, Fraction(1, 25)
            packets += video.encode(frame)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 16000 * 5), np.float32), format="fltp", layout="mono")
        silence.sample_rate, silence.pts = 16000, 0
        packets += video.encode(None) + sound.encode(silence) + sound.encode(None)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            container.mux(packet)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base > 4
    assert check(path, np.arange(COUNT) / 25).frame_count in (COUNT, COUNT + 1)


# ---- Headers that lie -----------------------------------------------------------------------------------------------


def _with(path: Path, result: Path, box: bytes, place: int, kind: str, value: int) -> Path:
    """A copy with a number after the name of an MP4 box replaced."""
    content = bytearray(path.read_bytes())
    found = content.find(box)
    assert found > 0
    struct.pack_into(kind, content, found + 4 + place, value)
    result.write_bytes(content)
    return result


@pytest.mark.parametrize(
    ("box", "place", "kind", "value"),
    [
        *((b"mvhd", 16, ">I", value) for value in (0, 1, 0xFFFFFFFF)),
        *((b"tkhd", 20, ">I", value) for value in (0, 1, 0xFFFFFFFF)),
        *((b"mdhd", 16, ">I", value) for value in (0, 1, 0xFFFFFFFF)),
        *((b"stts", 8, ">I", value) for value in (COUNT + 1, 0xFFFFFFF)),
        *((b"tkhd", place, ">I", value) for place in (76, 80) for value in (0, 1, 0x7FFFFFFF)),
        *((b"avc1", place, ">H", value) for place in (24, 26) for value in (1, 0xFFFF)),
    ],
)
def test_an_mp4_that_lies_about_its_length_or_size(
    tmp_path: Path, plain: Path, box: bytes, place: int, kind: str, value: int
) -> None:
    film = _with(plain, tmp_path / "lie.mp4", box, place, kind, value)
    footage = open_footage(film)
    frames = list(footage.frames())
    assert [code_shown(frame.rgb) for frame in frames] == list(range(COUNT))
    assert np.allclose([frame.time_s for frame in frames], np.arange(COUNT) / 25)
    assert footage.size_px == (96, 64) and 20 < footage.fps < 30 and footage.frame_count == COUNT


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "frag_keyframe", "faststart"])
def test_an_mp4_written_in_pieces_knows_its_length(tmp_path: Path, plain: Path, flags: str) -> None:
    """As recorders do that must not lose all when they are switched off: the head speaks of the first piece alone."""
    film = remuxed(plain, tmp_path / "a.mp4", container_options={"movflags": flags})
    assert check(film, np.arange(COUNT) / 25).frame_count == COUNT


def test_a_matroska_film_that_claims_to_be_longer_is_whole(tmp_path: Path, plain: Path) -> None:
    content = remuxed(plain, tmp_path / "a.mkv").read_bytes()
    claim = content.find(b"00:00:00.9")
    assert claim > 0
    (tmp_path / "lie.mkv").write_bytes(content[:claim] + b"01:00:00.9" + content[claim + 10 :])
    check(tmp_path / "lie.mkv", np.arange(COUNT) / 25)
    # Cut off, the same claim is true.
    (tmp_path / "cut.mkv").write_bytes((tmp_path / "lie.mkv").read_bytes()[: len(content) * 2 // 3])
    with pytest.raises(FootageError, match="cut off"):
        list(open_footage(tmp_path / "cut.mkv").frames())


# ---- Pictures of all shapes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("turned_deg", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [False, True])
def test_phones_held_in_any_way_even_with_wide_pixels(
    tmp_path: Path, ending: str, turned_deg: int, mirrored: bool
) -> None:
    """FFmpeg's flag: turned against the clock, and then mirrored if at all."""
    count, aspect = 6, Fraction(4, 3)
    pictures = []
    for upright in coded_pictures(count, 96, 64):
        pictures.append(np.rot90(upright[:, ::-1] if mirrored else upright, -turned_deg // 90))
    path = write_video(
        tmp_path / f"a.{ending}",
        pictures,
        turned_deg=turned_deg,
        mirrored=mirrored,
        pixel_aspect=aspect,
        options=OPTIONS,
    )
    footage = check(path, np.arange(count) / 25)
    assert footage.size_px == ((96, 85) if turned_deg % 180 else (128, 64))


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "options"),
    [
        ("ten_bit.mp4", "libx265", "yuv420p10le", {"x265-params": "log-level=none:bframes=3"}),
        ("ten_bit.mov", "libx265", "yuv422p10le", {"x265-params": "log-level=none"}),
        ("ten_bit.mkv", "libx264", "yuv420p10le", OPTIONS),
        ("alpha.mov", "prores_ks", "yuva444p10le", {"profile": "4444"}),
        ("proxy.mov", "prores_ks", "yuv422p10le", {}),
        ("web.webm", "libvpx-vp9", "yuva420p", {"deadline": "realtime"}),
        ("lossless.mkv", "ffv1", "gbrp10le", {}),
        ("motion.avi", "mjpeg", "yuvj420p", {}),
        ("old.avi", "mpeg4", "yuv420p", {"bf": "2"}),
        ("tape.mov", "mpeg2video", "yuv422p", {}),
        ("camcorder.mp4", "libx264", "yuv420p", {**OPTIONS, "x264-params": "interlaced=1:tff=1"}),
        ("broadcast.mpg", "mpeg2video", "yuv420p", {"flags": "+ildct+ilme"}),
        ("animation.mov", "qtrle", "argb", {}),
    ],
)
def test_kinds_of_video(tmp_path: Path, name: str, codec: str, pixels: str, options: dict[str, str]) -> None:
    path = write_video(tmp_path / name, coded_pictures(COUNT), codec=codec, pixels=pixels, options=options)
    begins_s = open_footage(path)._begins_s
    with av.open(str(path)) as container:
        lead_s = next(container.decode(video=0)).time - begins_s
    # Of pictures that lean on later ones, AVI says when they are decoded; Blender counts from there too.
    assert lead_s == (pytest.approx(0.04) if name == "old.avi" else 0)
    assert check(path, lead_s + np.arange(COUNT) / 25).fps == 25


@pytest.mark.parametrize(
    ("name", "codec", "size_px", "first_line", "options"),
    [
        ("camcorder.ts", "libx264", (96, 64), 0, {"x264-params": "interlaced=1:tff=1", "crf": "12"}),
        ("broadcast.mpg", "mpeg2video", (96, 64), 0, {"flags": "+ildct+ilme", "b": "8M"}),
        ("tape.dv", "dvvideo", (720, 576), 1, {"flags": "+ildct"}),
    ],
)
def test_two_moments_in_a_picture_give_the_first(
    tmp_path: Path, name: str, codec: str, size_px: tuple[int, int], first_line: int, options: dict[str, str]
) -> None:
    """Interlaced footage has every other line from half a picture later."""
    count = 8
    moments = coded_pictures(2 * count, *size_px)
    woven = [earlier.copy() for earlier in moments[::2]]
    for picture, later in zip(woven, moments[1::2], strict=True):
        picture[1 - first_line :: 2] = later[1 - first_line :: 2]
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *size_px, "yuv420p"
        for number, picture in enumerate(woven):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).interlaced_frame
    check(path, np.arange(count) / 25, range(0, 2 * count, 2))


def test_what_is_transparent_does_not_black_out_the_rest(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "alpha.mov"), "w") as container:
        stream = container.add_stream("prores_ks", rate=25, options={"profile": "4444"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuva444p10le"
        for number in range(6):
            alpha = np.full((64, 96, 1), 255 * (number % 2), np.uint8)
            rgba = np.concatenate([coded_picture(number), alpha], axis=-1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgba, format="rgba")))
        container.mux(stream.encode(None))
    check(tmp_path / "alpha.mov", np.arange(6) / 25)


def test_frames_that_a_capture_card_dropped(tmp_path: Path) -> None:
    """AVI has no stamps, and writes empty packets for them."""
    ticks = [i if i < 10 else i + 5 for i in range(COUNT)]
    film = write_video(tmp_path / "a.avi", coded_pictures(COUNT), ticks=ticks, ticks_per_s=25, codec="mpeg4")
    check(film, np.array(ticks) / 25)


def test_a_picture_sequence_with_holes(tmp_path: Path) -> None:
    numbers = [7, 8, 9, 15, 16, 18, 40]
    for number in numbers:
        name = tmp_path / f"shot_{number:04d}.png"
        write_video(name, [coded_picture(number)], codec="png", pixels="rgb24")
    check(tmp_path, (np.array(numbers) - 7) / 24, numbers)
    check(tmp_path, (np.array(numbers) - 7) / float(NTSC_FILM), numbers, fps=float(NTSC_FILM))
    (tmp_path / "shot_0018.png").rename(tmp_path / "shot_9999999999.png")
    with pytest.raises(FootageError, match=r"Before 'shot_9999999999\.png'.*more than an hour"):
        open_footage(tmp_path)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
def test_photographs_as_cameras_write_them(tmp_path: Path, ending: str) -> None:
    """With EXIF, in which a camera says how it was held; FFmpeg hands it on as something that PyAV 18 didn't know."""
    upright = coded_picture(77)
    across = upright.swapaxes(0, 1)
    held = [upright, upright[:, ::-1], upright[::-1, ::-1], upright[::-1]]
    held += [across, across[::-1], across[::-1, ::-1], across[:, ::-1]]
    for orientation, stored in enumerate(held, start=1):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F] = orientation, "Somebody's phone"
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"a_{orientation}.{ending}", exif=exif)
    frames = list(open_footage(tmp_path, fps=8).frames())
    assert [code_shown(frame.rgb) for frame in frames] == [77] * 8
    assert [frame.time_s for frame in frames] == list(np.arange(8) / 8)
