from fractions import Fraction

import av
import numpy as np
import pytest

from footage_samples import cut_off, numbered_pictures, real_clip, write_video
from keylift.core import footage_spans
from keylift.core.footage import open_footage
from keylift.core.footage_spans import UnevenFootageError, random_access

COUNT = 60
CLOSED = {"g": "12", "bf": "2"}
OPEN = {"x265-params": "keyint=12:min-keyint=12:open-gop=1:bframes=3:log-level=none"}


def assert_read_alike(path, *, parts=((0, 9), (11, 30), (12, 12), (25, 59), (47, 59)), **how):
    footage = open_footage(path, **how)
    whole = list(footage.frames())
    access = random_access(footage)
    assert access is not None and access.frame_count == len(whole)
    for first, last in parts:
        part = list(access.frames(first, last))
        assert [frame.index for frame in part] == list(range(first, last + 1))
        for frame in part:
            assert frame.time_s == whole[frame.index].time_s
            assert np.array_equal(frame.rgb, whole[frame.index].rgb), frame.index
    return access


def pictures(count=COUNT):
    """Pictures that differ everywhere, so that one that leans on the wrong other one shows."""
    rng = np.random.default_rng(3)
    ground = rng.integers(0, 200, (64, 96, 3))
    return [np.roll(ground, 2 * number, axis=1).astype(np.uint8) + number % 50 for number in range(count)]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("closed.mp4", "libx264", CLOSED),
        ("closed.mkv", "libx264", CLOSED),
        ("closed.ts", "libx264", CLOSED),
        ("one-group.mp4", "libx264", {"g": "250"}),
        ("open.mp4", "libx265", OPEN),
        ("open.mkv", "libx265", OPEN),
        ("alone.mov", "mjpeg", {}),
    ],
)
def test_a_part_is_what_reading_from_the_start_gives(tmp_path, name, codec, options):
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    access = assert_read_alike(write_video(tmp_path / name, pictures(), codec=codec, pixels=pixels, options=options))
    assert access.starts[0] == 0 and (len(access.starts) > 3 or name == "one-group.mp4")


def test_stamps_that_are_uneven_and_begin_late_stay_what_they_are(tmp_path):
    ticks = np.cumsum(np.random.default_rng(0).integers(20, 60, COUNT)) + 10_000
    film = write_video(tmp_path / "phone.mkv", pictures(), ticks=[*map(int, ticks)], ticks_per_s=1000, options=CLOSED)
    assert_read_alike(film)


def test_turned_footage_is_upright_in_all_parts(tmp_path):
    assert_read_alike(write_video(tmp_path / "phone.mov", pictures(), turned_deg=90, options=CLOSED))


def test_a_real_clip():
    assert_read_alike(real_clip("cam03.mp4"), parts=((0, 4), (50, 58), (95, 99)))


def test_pictures_of_a_sequence_with_holes(tmp_path):
    for number, rgb in enumerate(numbered_pictures(20)):
        if number not in (7, 8):
            with av.open(str(tmp_path / f"shot_{number:03}.png"), "w", format="image2") as container:
                stream = container.add_stream("png", rate=Fraction(25))
                stream.width, stream.height, stream.pix_fmt = rgb.shape[1], rgb.shape[0], "rgb24"
                container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
                container.mux(stream.encode(None))
    access = assert_read_alike(tmp_path, parts=((5, 9), (17, 17)), fps=25)
    assert access.frame_count == 18


def test_where_packets_tell_no_times_there_is_no_reading_in_parts(tmp_path):
    bare = write_video(tmp_path / "bare.h264", pictures(), options=CLOSED)
    assert [*open_footage(bare).frames()] and random_access(open_footage(bare)) is None
    whole = write_video(tmp_path / "whole.mp4", pictures(), options=CLOSED, container_options={"movflags": "faststart"})
    assert random_access(open_footage(cut_off(whole, tmp_path / "cut.mp4", 0.7))) is None


def test_pictures_that_do_not_come_as_promised_are_an_error(tmp_path):
    film = write_video(tmp_path / "film.mp4", pictures(), options=CLOSED)
    access = random_access(open_footage(film))
    content = bytearray(film.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 400] = bytes(400)
    film.write_bytes(content)
    with pytest.raises(UnevenFootageError, match="can't be read in parts"):
        list(access.frames(0, 59))


def test_who_lands_too_late_begins_a_key_frame_earlier(tmp_path, monkeypatch):
    film = write_video(tmp_path / "film.mp4", numbered_pictures(COUNT), options=CLOSED)
    access = random_access(open_footage(film))
    begun = []
    real = footage_spans._StampedVideo._frames_from

    def late(self, start, first, last):
        begun.append(start)
        if len(begun) == 1:
            raise footage_spans._LandedTooLateError("24")
        return real(self, start, first, last)

    monkeypatch.setattr(footage_spans._StampedVideo, "_frames_from", late)
    part = list(access.frames(20, 25))
    assert begun == [12, 0] and [frame.index for frame in part] == list(range(20, 26))
    whole = list(open_footage(film).frames(20, 25))
    assert all(np.array_equal(one.rgb, other.rgb) for one, other in zip(part, whole, strict=True))
