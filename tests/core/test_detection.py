import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from footage_samples import full_model, numbered_pictures, real_clip, write_crossing, write_video
from keylift.core import crowd, detection, detection_spans, footage_spans
from keylift.core.crowd import _edge_fade, _regions
from keylift.core.detection import detect_people
from keylift.core.errors import Cancelled, DetectorError, NobodyFoundError
from keylift.core.footage import Frame, open_footage
from keylift.core.sightings import Sighting
from keylift.core.skeletons import MEDIAPIPE_33_NAMES
from keylift.core.source import sha256_of

HIPS = [MEDIAPIPE_33_NAMES.index("left_hip"), MEDIAPIPE_33_NAMES.index("right_hip")]


def hip_px(track, frame):
    return track.xy_px[frame, HIPS].mean(axis=0)


@pytest.fixture(scope="module")
def one_person():
    return detect_people(open_footage(real_clip("cam03.mp4")), model=full_model(), last=59)


def test_one_person_is_found_in_every_frame(one_person):
    (track,) = one_person
    assert track.layout == "mediapipe33" and track.person == 1 and track.size_px == (1088, 1920)
    assert track.seen.all() and not track.filled.any()
    assert np.array_equal(track.frame_index, np.arange(60))
    assert np.allclose(track.time_s, np.arange(60) / 60)
    assert track.confidence[:, HIPS].min() > 0.5
    assert track.source.name == "cam03.mp4" and track.source.sha256 == sha256_of(real_clip("cam03.mp4"))
    assert "mediapipe" in track.detector and "full" in track.detector
    # She walks towards the left of the picture, upright.
    assert hip_px(track, 0)[0] - hip_px(track, 59)[0] > 60
    nose, ankle = MEDIAPIPE_33_NAMES.index("nose"), MEDIAPIPE_33_NAMES.index("left_ankle")
    assert np.all(track.xy_px[:, ankle, 1] - track.xy_px[:, nose, 1] > 500)


def test_one_person_is_exactly_what_one_plain_landmarker_sees(one_person):
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.PoseLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(full_model())), running_mode=vision.RunningMode.VIDEO
    )
    expected = []
    with vision.PoseLandmarker.create_from_options(options) as landmarker:
        for frame in open_footage(real_clip("cam03.mp4")).frames(0, 59):
            picture = mediapipe.Image(mediapipe.ImageFormat.SRGB, frame.rgb)
            landmarks = landmarker.detect_for_video(picture, round(frame.time_s * 1000)).pose_landmarks[0]
            expected.append([(point.x * 1088, point.y * 1920) for point in landmarks])
    assert np.array_equal(one_person[0].xy_px, expected)


def test_a_second_clip_knows_nothing_of_the_first(one_person):
    again = detect_people(open_footage(real_clip("cam03.mp4")), model=full_model(), last=59)
    assert np.array_equal(again[0].xy_px, one_person[0].xy_px)


def test_a_range_keeps_its_frame_numbers():
    (track,) = detect_people(open_footage(real_clip("cam03.mp4")), model=full_model(), first=40, last=49)
    assert np.array_equal(track.frame_index, np.arange(40, 50))
    assert np.allclose(track.time_s, np.arange(40, 50) / 60)


def test_pictures_within_a_millisecond_still_have_growing_times(tmp_path):
    pictures = [frame.rgb[::3, ::3] for frame in open_footage(real_clip("cam03.mp4")).frames(0, 11)]
    pictures = [np.ascontiguousarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]) for rgb in pictures]
    ticks = [200 * (number // 2) + number % 2 for number in range(12)]
    pairs = write_video(tmp_path / "pairs.mkv", pictures, ticks=ticks, ticks_per_s=4000)
    (track,) = detect_people(open_footage(pairs), model=full_model())
    assert track.seen.sum() == 12


def test_nobody_is_an_error_that_says_what_to_do(tmp_path):
    empty = write_video(tmp_path / "empty.mp4", numbered_pictures(8, 320, 240))
    with pytest.raises(NobodyFoundError, match="Nobody was found in 'empty.mp4'"):
        detect_people(open_footage(empty), model=full_model())


def test_progress_is_told_every_frame_and_can_stop_the_work():
    footage = open_footage(real_clip("cam03.mp4"))
    told = []
    detect_people(footage, model=full_model(), last=9, progress=lambda *how_far: told.append(how_far) or True)
    assert told == [(done, 10) for done in range(11)]
    with pytest.raises(Cancelled):
        detect_people(footage, model=full_model(), progress=lambda done, total: done < 3)


def test_a_model_that_is_none_is_refused(tmp_path):
    (tmp_path / "broken.task").write_bytes(b"?" * 1000)
    with pytest.raises(DetectorError, match="broken.task"):
        detect_people(open_footage(real_clip("cam03.mp4")), model=tmp_path / "broken.task", last=3)


def test_mediapipe_says_nothing_on_stderr():
    """In a process of its own: what the native library says, it says once."""
    script = (
        "import sys; from pathlib import Path; from keylift.core.detection import detect_people;"
        "from keylift.core.footage import open_footage;"
        "print(len(detect_people(open_footage(Path(sys.argv[1])), model=Path(sys.argv[2]), last=12)));"
        "print('still here', file=sys.stderr)"
    )
    command = [sys.executable, "-c", script, str(real_clip("cam03.mp4")), str(full_model())]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout == "1\n" and answer.stderr == "still here\n"


class OpenLandmarkers:
    """How many of MediaPipe's landmarkers are open, and were at the same time."""

    def __init__(self) -> None:
        self.now: set[int] = set()
        self.most = 0


@pytest.fixture
def open_landmarkers(monkeypatch):
    from mediapipe.tasks.python import vision

    count = OpenLandmarkers()
    create, close = vision.PoseLandmarker.create_from_options.__func__, vision.PoseLandmarker.close

    def create_and_count(cls, options):
        landmarker = create(cls, options)
        count.now.add(id(landmarker))
        count.most = max(count.most, len(count.now))
        return landmarker

    def close_and_count(self):
        count.now.discard(id(self))
        close(self)

    monkeypatch.setattr(vision.PoseLandmarker, "create_from_options", classmethod(create_and_count))
    monkeypatch.setattr(vision.PoseLandmarker, "close", close_and_count)
    return count


def test_no_landmarker_is_left_open(open_landmarkers):
    with pytest.raises(Cancelled):
        detect_people(open_footage(real_clip("cam03.mp4")), model=full_model(), progress=lambda done, total: done < 3)
    assert open_landmarkers.most >= 2 and not open_landmarkers.now


class SharpEyed:
    """A landmarker that sees whom it is told to, with ``seen`` for all, and counts who is open."""

    seen: list[Sighting] = []
    open_now: set["SharpEyed"] = set()
    trouble: type[BaseException] | None = None

    def __init__(self, *_, **__):
        self.open_now.add(self)

    def bodies(self, *_):
        if self.trouble is not None:
            raise self.trouble
        return self.seen

    def close(self):
        self.open_now.discard(self)
        if self.trouble is not None:
            raise RuntimeError("can't close")


@pytest.fixture
def sharp_eyed(monkeypatch):
    monkeypatch.setattr(crowd, "Landmarker", SharpEyed)
    monkeypatch.setattr(SharpEyed, "open_now", set())
    return monkeypatch


def standing(x_px, height_px, confidence):
    """Somebody upright, feet at the bottom of a picture 480 pixels high."""
    body = np.stack([np.linspace(-0.15, 0.15, 33), np.linspace(-1, 0, 33)], axis=-1)
    return Sighting(body * height_px + (x_px, 470), np.full(33, confidence))


@contextmanager
def crowd_of(most: int):
    """Up to so many people."""
    with crowd.Lookers(full_model()) as lookers, crowd.Crowd(full_model(), most, lookers) as seen:
        yield seen


STAGE = Frame(np.full((480, 900, 3), 90, np.uint8), 0.0, 0)


def test_where_there_are_too_many_the_largest_are_followed(sharp_eyed):
    heights_px = [150, 400, 200, 300, 100]
    # Those far away are seen most clearly, as they often are: whole, and not cut off by the picture's edge.
    people = [standing(90 + 180 * n, h, 0.99 - h / 1000) for n, h in enumerate(heights_px)]
    sharp_eyed.setattr(SharpEyed, "seen", people)
    with crowd_of(2) as seen:
        seen.look_at(STAGE, 0)
        assert {person.size_px for person in seen.everybody} == {people[1].size_px, people[3].size_px}


@pytest.mark.parametrize("trouble", [DetectorError, KeyboardInterrupt])
def test_a_landmarker_that_fails_at_once_is_closed(sharp_eyed, trouble):
    sharp_eyed.setattr(SharpEyed, "trouble", trouble)
    with crowd_of(2) as seen:
        with pytest.raises((trouble, RuntimeError)):
            seen._take_up([standing(400, 300, 0.9)], STAGE, 0)
        assert not SharpEyed.open_now and not seen.everybody


def test_all_are_closed_even_when_closing_fails(sharp_eyed):
    sharp_eyed.setattr(SharpEyed, "seen", [standing(200, 300, 0.9), standing(600, 300, 0.9)])
    with pytest.raises(RuntimeError, match="can't close"), crowd_of(4) as seen:
        seen.look_at(STAGE, 0)
        assert len(SharpEyed.open_now) == 3
        sharp_eyed.setattr(SharpEyed, "trouble", DetectorError)
    assert not SharpEyed.open_now


class Looker(SharpEyed):
    """Follows ``seen``, finds those who ``came``, and counts how often it was asked for them."""

    came: list[Sighting] = []
    looks = 0

    def __init__(self, *_, follows, **__):
        super().__init__()
        self.follows = follows

    def bodies(self, *_):
        if self.follows:
            return self.seen
        Looker.looks += 1
        return self.came


def test_where_nobody_was_and_nothing_changed_nobody_is_looked_for_soon(sharp_eyed):
    sharp_eyed.setattr(crowd, "Landmarker", Looker)
    sharp_eyed.setattr(SharpEyed, "seen", [standing(200, 300, 0.9)])
    sharp_eyed.setattr(Looker, "came", SharpEyed.seen)
    sharp_eyed.setattr(Looker, "looks", 0)

    def looks(seen, begin_s, end_s, rgb):
        before = Looker.looks
        for row in range(round(30 * begin_s), round(30 * end_s)):
            seen.look_at(Frame(rgb, row / 30, row), row)
        return Looker.looks - before

    changed = STAGE.rgb.copy()
    changed[200:470, 560:640] = (200, 40, 40)
    regions = len(_regions(STAGE.rgb))
    with crowd_of(2) as seen:
        looks(seen, 0, 0.04, STAGE.rgb)
        sharp_eyed.setattr(Looker, "came", [])
        looks(seen, 0.04, 1.0, STAGE.rgb)
        assert looks(seen, 1.0, 1.9, STAGE.rgb) == 0
        # Somebody who never moved and was overlooked gets another chance.
        assert looks(seen, 1.9, 3.6, STAGE.rgb) >= regions
        assert looks(seen, 3.6, 3.9, STAGE.rgb) == 0
        assert looks(seen, 3.9, 4.6, changed) >= regions - 1


def test_regions_cover_the_picture():
    for height, width in ((994, 1768), (1920, 1088), (480, 480), (500, 480), (300, 3000)):
        covered = np.zeros((height, width), bool)
        regions = _regions(np.empty((height, width, 3), np.uint8))
        for rows, columns in regions[1:] or regions:
            covered[rows, columns] = True
        assert covered.all()
        assert covered[regions[0]].shape == (height, width)


def test_points_beyond_the_edge_keep_their_place_and_lose_their_weight():
    xy_px = np.tile([100.0, 100.0], (33, 1))
    xy_px[:, 1] = np.linspace(20, 180, 33)
    xy_px[0], xy_px[1], xy_px[2] = (205, 100), (260, 100), (-60, -60)
    fade = _edge_fade(Sighting(xy_px, np.ones(33)), np.empty((200, 200, 3), np.uint8))
    assert np.all(fade[3:] == 1)
    assert 0.5 < fade[0] < 1 and fade[1] < 0.05 and fade[2] < 0.05


# ---- In parts --------------------------------------------------------------------------------------------------------


@pytest.fixture
def cut_short(monkeypatch):
    """Footage is looked at in parts from so many frames on."""

    def cut_from(frames):
        monkeypatch.setattr(detection, "SHORTEST_CUT", frames)
        monkeypatch.setattr(detection_spans, "SHORTEST_CUT", frames)

    return cut_from


def test_in_parts_the_same_is_found_whatever_the_cores(cut_short, monkeypatch, one_person):
    cut_short(40)
    footage = open_footage(real_clip("cam03.mp4"))
    told = []

    def found_by(threads):
        monkeypatch.setattr(detection, "looked_at_once", lambda spans: threads if spans == 2 else 0)
        return detect_people(
            footage, model=full_model(), last=59, progress=lambda *how_far: told.append(how_far) or True
        )

    (alone,), (together,) = found_by(1), found_by(2)
    assert np.array_equal(alone.xy_px, together.xy_px) and np.array_equal(alone.confidence, together.confidence)
    assert np.array_equal(alone.time_s, one_person[0].time_s) and np.array_equal(alone.frame_index, np.arange(60))
    assert told[0] == (0, 60) and told[-1] == (60, 60)
    # Up to the seam it is what one go finds; after it, the tracker has another past, and says nearly the same.
    off_px = np.linalg.norm(alone.xy_px - one_person[0].xy_px, axis=-1)
    assert off_px[:20].max() == 0 and 0 < np.median(off_px[30:]) < 0.006 * 750


def test_in_parts_work_can_be_stopped_and_nothing_is_left_open(cut_short, open_landmarkers):
    cut_short(40)
    with pytest.raises(Cancelled):
        detect_people(open_footage(real_clip("cam03.mp4")), model=full_model(), progress=lambda done, total: done < 3)
    assert not open_landmarkers.now and open_landmarkers.most >= 2


def test_footage_that_is_not_as_its_packets_promised_is_read_from_the_start(cut_short, monkeypatch, one_person):
    cut_short(40)
    footage = open_footage(real_clip("cam03.mp4"))
    access = footage_spans.random_access(footage)
    access._stamps.ticks[45] += 1
    monkeypatch.setattr(detection, "random_access", lambda asked: access)
    (track,) = detect_people(footage, model=full_model(), last=59)
    assert np.array_equal(track.xy_px, one_person[0].xy_px)


# ---- Two people -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shortest_cut", [300, 60], ids=["in one go", "in two parts"])
def test_two_people_keep_who_they_are_through_the_real_clip(shortest_cut, cut_short):
    """A man exercises on a roof, somersaults off it against the sun and runs away to the right (frames 0 to 226);
    a woman comes from behind a tree at the right and walks out at the left (about 35 to 202), below him at 140."""
    cut_short(shortest_cut)
    man, woman = detect_people(open_footage(real_clip("demo.mp4")), model=full_model())
    assert len(man.time_s) == len(woman.time_s) == 230
    # He: on the roof at the left, then on the grass towards the right.
    assert man.seen[:160].all() and man.seen[195:222].all()
    assert man.seen[:227].mean() > 0.9
    assert all(600 < hip_px(man, frame)[0] < 850 and hip_px(man, frame)[1] < 420 for frame in range(0, 150, 5))
    assert all(hip_px(man, frame)[0] > 1000 and hip_px(man, frame)[1] > 550 for frame in range(195, 222, 3))
    # She: always on the grass, on her way to the left.
    assert woman.seen[62:200].mean() > 0.97 and not woman.seen[:30].any() and not woman.seen[206:].any()
    hers = np.array([hip_px(woman, frame) for frame in np.flatnonzero(woman.seen)])
    assert np.all(hers[:, 1] > 550)
    way = np.array([hip_px(woman, frame)[0] for frame in range(65, 200, 10) if woman.seen[frame]])
    assert np.all(np.diff(way) < -40)


@pytest.mark.slow
@pytest.mark.parametrize("tint", [(1.6, 0.55, 0.5), (1, 1, 1)], ids=["other clothes", "the same clothes"])
def test_two_people_who_cover_each_other_go_on_as_themselves(tmp_path, tint):
    crossing = write_crossing(tmp_path / "crossing.mp4", tint)
    tracks = detect_people(open_footage(crossing), model=full_model())
    assert len(tracks) == 2
    first, last = 5, 50
    leftwards, rightwards = sorted(tracks, key=lambda track: -hip_px(track, first)[0])
    assert hip_px(leftwards, first)[0] > 1000 and hip_px(leftwards, last)[0] < 700
    assert hip_px(rightwards, first)[0] < 770 and hip_px(rightwards, last)[0] > 1050
    # She walks in front, and hardly loses a frame; her twin may be lost while covered.
    assert leftwards.seen.mean() > 0.95 and rightwards.seen.mean() > 0.65


def test_where_somebody_was_lost_others_are_looked_for_at_once(sharp_eyed):
    sharp_eyed.setattr(crowd, "Landmarker", Looker)
    body = standing(200, 300, 0.9)
    sharp_eyed.setattr(SharpEyed, "seen", [body])
    sharp_eyed.setattr(Looker, "came", [body])
    with crowd_of(2) as seen:
        seen.look_at(Frame(STAGE.rgb, 0.0, 0), 0)
        sharp_eyed.setattr(Looker, "came", [])
        for row in range(1, 31):
            seen.look_at(Frame(STAGE.rgb, row / 30, row), row)
        assert seen._deserted
        seen._lose(next(iter(seen._followers)))
        assert not seen._deserted
