import tracemalloc
from fractions import Fraction

import av
import numpy as np
import pytest

from footage_samples import (
    corners,
    cut_off,
    numbered_pictures,
    numbers_shown,
    quarters,
    real_clip,
    write_sound,
    write_video,
)
from keylift.core import footage_decoding
from keylift.core.errors import FootageError, TryAgainError
from keylift.core.footage import open_footage
from keylift.core.picture_sequence import sequence_at
from keylift.core.source import sha256_of

UPRIGHT = ["red", "green", "blue", "white"]


def times(path, *wanted):
    return [round(frame.time_s, 6) for frame in open_footage(path).frames(*wanted)]


def write_pictures(folder, numbers, name="shot_{:04d}.png"):
    folder.mkdir(exist_ok=True)
    for number, rgb in zip(numbers, numbered_pictures(len(numbers)), strict=True):
        with av.open(str(folder / name.format(number)), "w", format="image2", options={"update": "1"}) as container:
            stream = container.add_stream("png", rate=1)
            stream.height, stream.width, stream.pix_fmt = *rgb.shape[:2], "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            container.mux(stream.encode(None))
    return folder


def test_frames_come_in_order_with_their_numbers_and_times(tmp_path):
    footage = open_footage(write_video(tmp_path / "a.mp4", numbered_pictures(10)))
    frames = list(footage.frames())
    assert [frame.index for frame in frames] == list(range(10))
    assert numbers_shown((frame.rgb for frame in frames), 10) == list(range(10))
    assert np.allclose([frame.time_s for frame in frames], np.arange(10) / 25)
    assert footage.size_px == (96, 64) and footage.fps == 25 and footage.frame_count == 10
    assert frames[0].rgb.dtype == np.uint8 and frames[0].rgb.shape == (64, 96, 3)


def test_it_can_be_read_twice(tmp_path):
    with open_footage(write_video(tmp_path / "a.mp4", numbered_pictures(4))) as footage:
        assert len(list(footage.frames())) == len(list(footage.frames())) == 4


def test_a_range_includes_both_ends_and_keeps_numbers_and_times(tmp_path):
    frames = list(open_footage(write_video(tmp_path / "a.mp4", numbered_pictures(10))).frames(3, 6))
    assert [frame.index for frame in frames] == [3, 4, 5, 6]
    assert numbers_shown((frame.rgb for frame in frames), 10) == [3, 4, 5, 6]
    assert np.allclose([frame.time_s for frame in frames], np.array([3, 4, 5, 6]) / 25)


@pytest.mark.parametrize("wanted", [(0, 10), (10, None), (4, 400), (400, 500)])
def test_a_range_outside_says_how_many_frames_there_are(tmp_path, wanted):
    for footage in (write_video(tmp_path / "a.mp4", numbered_pictures(10)), write_pictures(tmp_path / "b", range(10))):
        with pytest.raises(FootageError, match=r"has 10 frames \(0 to 9\)"):
            next(open_footage(footage).frames(*wanted))


@pytest.mark.parametrize("wanted", [(6, 3), (-1, 3), (None, -2)])
def test_a_backward_range_is_refused_at_once(tmp_path, wanted):
    with pytest.raises(FootageError, match="not a range"):
        open_footage(write_video(tmp_path / "a.mp4", numbered_pictures(10))).frames(*wanted)


def test_a_variable_frame_rate_keeps_its_times(tmp_path):
    ticks = [0, 40, 45, 200, 1000]
    path = write_video(tmp_path / "a.mkv", numbered_pictures(5), ticks=ticks, ticks_per_s=1000)
    assert times(path) == [0.0, 0.04, 0.045, 0.2, 1.0]


def test_a_last_picture_that_stays_is_no_sign_of_damage(tmp_path):
    """As screen recorders write them, with a frame whenever something moves."""
    whole = write_video(tmp_path / "whole.mkv", numbered_pictures(10))
    with av.open(str(whole)) as source, av.open(str(tmp_path / "stays.mkv"), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        latest = max(packets, key=lambda packet: packet.pts)
        latest.duration = round(4 / latest.time_base)
        for packet in packets:
            packet.stream = stream
            container.mux(packet)
    with av.open(str(tmp_path / "stays.mkv")) as container:
        assert container.streams.video[0].metadata["DURATION"].startswith("00:00:04.36")
    assert len(list(open_footage(tmp_path / "stays.mkv").frames())) == 10


def test_time_starts_at_the_first_picture_wherever_the_file_starts(tmp_path):
    path = write_video(tmp_path / "a.mkv", numbered_pictures(3), ticks=[500, 540, 580], ticks_per_s=1000)
    assert times(path) == [0.0, 0.04, 0.08]
    assert times(path, 1) == [0.04, 0.08]


@pytest.mark.parametrize(
    "turned_deg, mirrored, stored",
    [
        (90, False, lambda upright: np.rot90(upright, -1)),
        (180, False, lambda upright: np.rot90(upright, 2)),
        (-90, False, lambda upright: np.rot90(upright, 1)),
        (0, True, lambda upright: upright[:, ::-1]),
    ],
)
def test_turned_and_mirrored_footage_is_put_upright(tmp_path, turned_deg, mirrored, stored):
    picture = stored(corners())
    path = write_video(tmp_path / "a.mp4", [picture] * 3, turned_deg=turned_deg, mirrored=mirrored)
    # FFmpeg's own reading of the flag: by how much the picture is to be turned against the clock.
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation % 360 == turned_deg % 360 or mirrored
    footage = open_footage(path)
    frame = next(footage.frames())
    assert quarters(frame.rgb) == UPRIGHT
    assert footage.size_px == (96, 64) == frame.rgb.shape[1::-1]


@pytest.mark.parametrize("aspect, size_px", [(Fraction(2, 1), (192, 64)), (Fraction(1, 2), (96, 128))])
def test_anamorphic_pixels_become_square(tmp_path, aspect, size_px):
    footage = open_footage(write_video(tmp_path / "a.mp4", [corners()] * 2, pixel_aspect=aspect))
    rgb = next(footage.frames()).rgb
    assert footage.size_px == size_px == rgb.shape[1::-1]
    assert quarters(rgb) == UPRIGHT


@pytest.mark.parametrize(
    "name, codec, pixels",
    [
        ("ten_bit.mp4", "libx265", "yuv420p10le"),
        ("ten_bit.mov", "prores_ks", "yuv422p10le"),
        ("alpha.mov", "prores_ks", "yuva444p10le"),
        ("vp9.webm", "libvpx-vp9", "yuv420p"),
        ("lossless.mkv", "ffv1", "bgr0"),
        ("old.avi", "mpeg4", "yuv420p"),
        ("cut.ts", "libx264", "yuv420p"),
    ],
)
def test_all_sorts_of_files_give_the_same_pictures(tmp_path, name, codec, pixels):
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = write_video(tmp_path / name, [corners()] * 40, codec=codec, pixels=pixels, options=options)
    frames = list(open_footage(path).frames())
    assert len(frames) == 40
    assert all(quarters(frame.rgb) == UPRIGHT and frame.rgb.dtype == np.uint8 for frame in frames)


def test_memory_does_not_grow_with_length(tmp_path):
    picture = np.random.default_rng(0).integers(0, 255, (240, 320, 3), np.uint8)
    path = write_video(tmp_path / "a.mkv", [picture] * 150, options={"preset": "ultrafast"})
    tracemalloc.start()
    for frame in open_footage(path).frames():
        assert frame.rgb.nbytes == picture.nbytes
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * picture.nbytes


# ---- Footage that is not as it should be ----------------------------------------------------------------------------


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FootageError, match="There is no footage"):
        open_footage(tmp_path / "nowhere.mp4")


@pytest.mark.parametrize(
    "content, told", [(b"", "empty"), (b"GIF?no" * 500, "not a video"), (b"Dear diary,\n" * 99, "not a video")]
)
@pytest.mark.parametrize("name", ["a.mp4", "a.txt"])
def test_what_is_no_video_is_refused(tmp_path, content, told, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FootageError, match=told):
        open_footage(tmp_path / name)


def test_a_playlist_leads_nowhere(tmp_path):
    write_video(tmp_path / "a.ts", numbered_pictures(3))
    (tmp_path / "a.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(FootageError):
        open_footage(tmp_path / "a.m3u8")


def test_sound_alone_is_not_footage(tmp_path):
    with pytest.raises(FootageError, match="sound but no pictures"):
        open_footage(write_sound(tmp_path / "a.m4a"))


def test_an_mp4_without_its_index_is_damaged(tmp_path):
    whole = write_video(tmp_path / "whole.mp4", numbered_pictures(20))
    with pytest.raises(FootageError, match="cut off or damaged"):
        open_footage(cut_off(whole, tmp_path / "part.mp4", 0.5))


@pytest.mark.parametrize("name, options", [("a.mp4", {"movflags": "faststart"}), ("a.mkv", {})])
def test_cut_off_footage_names_the_frames_that_can_be_used(tmp_path, name, options):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 96, 3), np.uint8) for _ in range(60)]
    whole = write_video(tmp_path / name, pictures, options={"bf": "0"}, container_options=options)
    part = open_footage(cut_off(whole, tmp_path / ("part_" + name), 0.5))
    with pytest.raises(FootageError, match=r"--frames 0-(\d+)") as problem:
        list(part.frames())
    last = int(str(problem.value).rsplit("0-", 1)[1].rstrip("."))
    assert 10 < last < 50
    assert len(list(part.frames(0, last))) == last + 1


def test_noise_inside_a_video_is_an_error_or_a_picture_but_never_a_crash(tmp_path, capfd):
    content = bytearray(real_clip("cam03.mp4").read_bytes())
    rng = np.random.default_rng(1)
    start = content.find(b"mdat") + 600_000
    content[start : start + 200_000] = rng.integers(0, 255, 200_000, np.uint8).tobytes()
    (tmp_path / "noisy.mp4").write_bytes(content)
    seen = 0
    try:
        for frame in open_footage(tmp_path / "noisy.mp4").frames():
            assert frame.rgb.shape == (1920, 1088, 3)
            seen += 1
    except FootageError as problem:
        assert "whole" in str(problem)
    assert seen > 0
    # What FFmpeg thinks of the file is not for the person in front of the screen.
    assert capfd.readouterr().err == ""


def test_double_and_missing_stamps_are_repaired():
    from keylift.core.footage_clock import Clock

    clock = Clock(10)
    repaired = [clock.time_s(stamp) for stamp in (5.0, 5.1, 5.1, None, 5.4, 0.0, 0.1, float("nan"), 0.3)]
    assert np.all(np.diff(repaired) > 0)
    assert np.allclose(repaired, [0, 0.1, 0.15, 0.25, 0.4, 0.5, 0.6, 0.7, 0.8])


# ---- Pictures -------------------------------------------------------------------------------------------------------


def test_a_folder_of_pictures_is_footage(tmp_path):
    footage = open_footage(write_pictures(tmp_path / "shot", range(8, 13)), fps=10)
    frames = list(footage.frames())
    assert numbers_shown((frame.rgb for frame in frames), 5) == list(range(5))
    assert np.allclose([frame.time_s for frame in frames], np.arange(5) / 10)
    assert footage.frame_count == 5 and footage.fps == 10


@pytest.mark.parametrize("pattern", ["shot_####.png", "shot_%04d.png", "shot_%d.png"])
def test_a_pattern_picks_one_sequence(tmp_path, pattern):
    write_pictures(tmp_path, range(1, 4))
    write_pictures(tmp_path, range(1, 6), "other_{:04d}.png")
    assert len(list(open_footage(tmp_path / pattern).frames())) == 3


def test_two_sequences_in_a_folder_have_to_be_told_apart(tmp_path):
    write_pictures(tmp_path, range(3))
    write_pictures(tmp_path, range(3), "other_{:04d}.png")
    with pytest.raises(FootageError, match=r"other_####.png.*shot_####.png"):
        open_footage(tmp_path)


def test_numbers_without_leading_zeros_are_in_counting_order(tmp_path):
    write_pictures(tmp_path, range(8, 13), "{}.png")
    shown = numbers_shown((frame.rgb for frame in open_footage(tmp_path).frames()), 5)
    assert shown == list(range(5))


def test_brackets_in_a_name_are_part_of_it(tmp_path):
    write_pictures(tmp_path, range(9, 12), "shot [1]_{}.png")
    write_pictures(tmp_path, [1, 2], "shot 1_{}.png")
    named = sequence_at(tmp_path / "shot [1]_#.png")
    assert [path.name for path in named] == ["shot [1]_9.png", "shot [1]_10.png", "shot [1]_11.png"]
    assert len(list(open_footage(tmp_path / "shot [1]_#.png").frames())) == 3


def test_a_missing_picture_leaves_its_time_empty(tmp_path):
    write_pictures(tmp_path, [1, 2, 5])
    frames = list(open_footage(tmp_path, fps=10).frames())
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert np.allclose([frame.time_s for frame in frames], [0, 0.1, 0.4])


def test_a_picture_of_another_size_is_named(tmp_path):
    write_pictures(tmp_path, range(3))
    write_video(tmp_path / "shot_0003.png", [corners(32, 32)], codec="png", pixels="rgb24")
    with pytest.raises(FootageError, match="shot_0003.png"):
        list(open_footage(tmp_path).frames())


def test_a_damaged_picture_is_named(tmp_path):
    write_pictures(tmp_path, range(3))
    (tmp_path / "shot_0001.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"?" * 100)
    with pytest.raises(FootageError, match="shot_0001.png"):
        list(open_footage(tmp_path).frames())


def test_a_folder_without_pictures_says_what_it_wants(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(FootageError, match="no pictures"):
        open_footage(tmp_path)


def test_the_source_changes_with_the_content_alone(tmp_path):
    path = write_video(tmp_path / "a.mp4", numbered_pictures(3))
    assert open_footage(path).source().name == "a.mp4"
    assert open_footage(path).source().sha256 == sha256_of(path)
    folder = write_pictures(tmp_path / "shot", range(3))
    before = open_footage(folder).source()
    assert before.name == "shot" and before.sha256 == open_footage(folder).source().sha256
    (folder / "shot_0002.png").write_bytes((folder / "shot_0001.png").read_bytes())
    assert open_footage(folder).source().sha256 != before.sha256


@pytest.mark.parametrize("room", [True, False])
def test_a_film_is_not_blamed_where_there_was_no_memory_to_read_it(tmp_path, monkeypatch, room):
    monkeypatch.setattr(footage_decoding, "_room_for", lambda count: room)
    film = tmp_path / "film.mp4"
    film.write_bytes(real_clip("cam03.mp4").read_bytes()[:2000])
    with pytest.raises(FootageError if room else TryAgainError, match="damaged" if room else "The memory ran out"):
        open_footage(film)


def test_room_is_what_the_system_gives():
    assert footage_decoding._room_for(1 << 20) and not footage_decoding._room_for(1 << 60)
