"""Footage and motion brought together: real motion before a known camera at a known offset, seen by a poor detector."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkout import ROOT
from keylift.core.camera import Camera
from keylift.core.errors import Cancelled, FileFormatError
from keylift.core.rotations import angle_between_rad, from_matrix
from keylift.core.skeletons import LANDMARKS_41, LIFTER_21_NAMES, mirrored_layout
from keylift.training.motion.anchor import read_anchor
from keylift.training.motion.bvh_motion import read_bvh_clips
from keylift.training.motion.bvh_reader import read_bvh
from keylift.training.motion.clips import at_rate
from keylift.training.motion.landmark_sets import write_motion
from keylift.training.motion.motion_set import MotionSet, foot_contacts
from keylift.training.pairing import pair
from keylift.training.pairing.camera_fit import CameraFit, Known, fit_camera, misses_of_box
from keylift.training.pairing.offset_scan import scan_offsets
from keylift.training.pairing.pairs_file import PairEntry, read_pairs, read_truth
from keylift.training.pairing.take_sides import drawn_between, motion_side, seen_side
from keylift.training.shots.shot import read_shot
from keylift.training.shots.synthetic_shots import make_synthetic_shots
from walker import camera_from_world, filmed, walk

Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
RENDERED = Path(__file__).parents[1] / "golden" / "rendered" / "rendered-91-00-cmu02.shot.npz"
SAMPLES = ROOT.parent / "shared" / "data" / "bvh_samples"
OFFSET_S = 0.4234
# Clips of the motion that travels with Keylift in which something happens; 2.5 s at 30 frames a second.
CLIPS = (16, 120, 152, 168)


@pytest.fixture(scope="module")
def anchor():
    return read_anchor()


def motion_of(anchor, clip):
    return anchor.positions_m[anchor.clip_start[clip] : anchor.clip_start[clip + 1]].astype(float)


def shot_of(body, offset_s=OFFSET_S, length_s=1.8, fps=30.0, seed=3):
    """A shot of a part of a motion at 30 frames a second that begins ``offset_s`` after it, between its frames."""
    part = drawn_between(body, (offset_s + np.arange(int(length_s * fps)) / fps) * 30)
    one = np.array(["take"])
    motion = MotionSet(part, foot_contacts(part, fps), np.array([0, len(part)]), one, one, one, fps, "0" * 64)
    return make_synthetic_shots(motion, 1, seed)[0]


def place_of(shot, body, offset_s=OFFSET_S):
    """(4, 4) camera from the motion's world, by what the shot knows of its own."""
    place = np.eye(4)
    place[:3, :3] = shot.world_from_camera[:3, :3].T @ Z_UP
    place[:3, 3] = shot.truth_m[0, 0] - place[:3, :3] @ drawn_between(body, np.array([offset_s * 30]))[0, 0]
    return place


def turned_deg(pairing, place):
    turns = from_matrix(np.stack([pairing.camera_from_world[:3, :3], place[:3, :3]]))
    return float(np.degrees(angle_between_rad(turns[0], turns[1])))


@pytest.mark.parametrize("clip", CLIPS)
def test_offset_and_camera_are_found(anchor, clip):
    body = motion_of(anchor, clip)
    shot = shot_of(body)
    track = shot.keypoints["synthetic"]
    found = pair(track, body, 30.0)
    assert abs(found.offset_s - OFFSET_S) < 1 / 60
    assert turned_deg(found, place_of(shot, body)) < 3
    assert found.miss_of_box < 0.04 and 1 < found.miss_px < 25
    assert 0.7 < found.camera.focal_px[0] / shot.camera.focal_px[0] < 1.4
    assert found.agreed.mean() > 0.8
    # The labels, root-aligned: what an unknown lens leaves over is how far away the person is.
    about_root = found.truth_m - found.truth_m[:, :1] - (shot.truth_m - shot.truth_m[:, :1])
    assert np.linalg.norm(about_root, axis=-1).mean() < 0.03


def test_what_is_known_is_kept_and_helps(anchor):
    body = motion_of(anchor, 120)
    shot = shot_of(body)
    track, place = shot.keypoints["synthetic"], place_of(shot, body)
    for lens in (None, shot.camera):
        found = pair(track, body, 30.0, camera=lens, camera_from_world=place)
        assert abs(found.offset_s - OFFSET_S) < 1 / 60
        assert np.array_equal(found.camera_from_world, place)
        assert found.camera.focal_px[0] == pytest.approx(shot.camera.focal_px[0], rel=0.05 if lens is None else 1e-9)
        assert np.linalg.norm(found.truth_m - shot.truth_m, axis=-1).mean() < 0.02
    exact = pair(track, body, 30.0, camera=shot.camera, camera_from_world=place, offset_s=OFFSET_S)
    assert np.abs(exact.truth_m - shot.truth_m).max() < 1e-6
    timed = pair(track, body, 30.0, camera=shot.camera, offset_s=OFFSET_S)
    assert timed.offset_s == OFFSET_S and turned_deg(timed, place) < 3


def test_a_real_detector_on_rendered_people():
    shot = read_shot(RENDERED)
    world = shot.truth_m @ shot.world_from_camera[:3, :3].T + shot.world_from_camera[:3, 3]
    track = shot.keypoints["full"].of(slice(8, 55))
    track = replace(track, time_s=track.time_s - track.time_s[0] + 3.21)
    found = pair(track, world @ Z_UP, 30.0)
    assert abs(found.offset_s - (8 / 30 - 3.21)) < 1 / 60
    assert found.agreed.all() and found.miss_of_box < 0.03
    truth = shot.truth_m[8:55]
    off = np.linalg.norm(found.truth_m - found.truth_m[:, :1] - (truth - truth[:, :1]), axis=-1)
    assert off.mean() < 0.02


def test_bursts_and_exchanged_sides_do_no_harm(anchor):
    body = motion_of(anchor, 120)
    shot = shot_of(body)
    track = shot.keypoints["synthetic"]
    xy_px, rng = track.xy_px.copy(), np.random.default_rng(1)
    xy_px[10:28] = xy_px[10:28, mirrored_layout(LIFTER_21_NAMES)]
    xy_px[30:36] += rng.normal(0, 150, (6, 1, 2))
    xy_px[40:50, rng.integers(0, 21, 4)] += 200
    found = pair(replace(track, xy_px=xy_px), body, 30.0)
    assert abs(found.offset_s - OFFSET_S) < 1 / 60
    assert found.exchanged[10:28].all() and found.exchanged.sum() < 22
    assert not found.agreed[30:36].any() and found.agreed[:28].mean() > 0.9


def test_labels_end_where_the_motion_ends(anchor):
    body = motion_of(anchor, 120)
    shot = shot_of(body, 0.1, 2.2)
    found = pair(shot.keypoints["synthetic"], body[15:60], 30.0)
    # Half a second later in the motion's own time, because its first half second was cut off.
    assert abs(found.offset_s - (0.1 - 0.5)) < 1 / 60
    known = np.isfinite(found.truth_m).all(axis=(1, 2))
    assert not known[:11].any() and known[13:55].all() and not known[57:].any()
    assert not found.agreed[~known].any()


def test_another_take_is_a_contradiction(anchor):
    shot = shot_of(motion_of(anchor, 120))
    with pytest.raises(FileFormatError, match="contradicts the footage.*another take"):
        pair(shot.keypoints["synthetic"], motion_of(anchor, 16), 30.0)


def test_a_wrong_offset_or_place_is_named(anchor):
    body = motion_of(anchor, 120)
    shot = shot_of(body)
    with pytest.raises(FileFormatError, match="Check offset_s, or leave"):
        pair(shot.keypoints["synthetic"], body, 30.0, offset_s=OFFSET_S - 0.4)
    place = place_of(shot, body)
    place[:3, 3] += 1.0
    with pytest.raises(FileFormatError, match="Check camera, camera_from_world, or leave"):
        pair(shot.keypoints["synthetic"], body, 30.0, camera=shot.camera, camera_from_world=place)


@pytest.mark.parametrize("said", [24.0, 60.0])
def test_a_wrong_frame_rate_is_told(anchor, said):
    body = motion_of(anchor, 120)
    with pytest.raises(FileFormatError, match=f"if it has 30 frames a second, not {said:g}"):
        pair(shot_of(body).keypoints["synthetic"], body, said)


def test_a_mirror_image_is_told(anchor):
    body = motion_of(anchor, 120)
    mirrored = body[:, LANDMARKS_41.mirrored_order()] * np.array([-1.0, 1.0, 1.0])
    with pytest.raises(FileFormatError, match="mirror image"):
        pair(shot_of(body).keypoints["synthetic"], mirrored, 30.0)
    with pytest.raises(FileFormatError, match="exchanged from beginning to end"):
        pair(shot_of(body).keypoints["synthetic"], body[:, LANDMARKS_41.mirrored_order()], 30.0)


def test_a_walk_that_repeats_itself_needs_an_offset():
    motion = walk(240)
    part = walk(240)
    part = type(part)(part.positions_m[72:150], part.turns[72:150], part.contact[72:150], part.time_s[:78])
    _, track = filmed(part, Camera.guessed((1280, 720)), camera_from_world())
    with pytest.raises(FileFormatError, match="equally well at several offsets.*2.4.*Give the right one as offset_s"):
        pair(track, motion.positions_m, 30.0)
    assert pair(track, motion.positions_m, 30.0, offset_s=2.4).miss_px < 2


def test_too_little_is_refused(anchor):
    body = motion_of(anchor, 120)
    track = shot_of(body).keypoints["synthetic"]
    with pytest.raises(FileFormatError, match="motion is too short"):
        pair(track, body[:20], 30.0)
    with pytest.raises(FileFormatError, match="motion is too short"):
        pair(track, np.full_like(body, np.nan), 30.0)
    with pytest.raises(FileFormatError, match="seen in 11 frames"):
        pair(track.of(slice(0, 11)), body, 30.0)
    with pytest.raises(FileFormatError, match="hardly overlap.*offset_s = 9"):
        pair(track, body, 30.0, offset_s=9.0)
    with pytest.raises(FileFormatError, match="shape"):
        pair(track, body[:, :40], 30.0)
    with pytest.raises(FileFormatError, match="no frame rate"):
        pair(track, body, float("nan"))
    with pytest.raises(FileFormatError, match="a turn and a move"):
        pair(track, body, 30.0, camera_from_world=np.diag([1.0, 1.0, -1.0, 1.0]))
    with pytest.raises(FileFormatError, match="shapes differ"):
        pair(track, body, 30.0, camera=Camera.guessed((640, 640)))


def test_it_stops_on_request(anchor):
    body = motion_of(anchor, 120)
    with pytest.raises(Cancelled):
        pair(shot_of(body).keypoints["synthetic"], body, 30.0, progress=lambda done, total: done < 3)


def test_landmarks_that_a_marker_set_lacks_are_left_out(anchor):
    body = motion_of(anchor, 120)
    shot = shot_of(body)
    body[:, LANDMARKS_41.indices("nose", "l_ear", "r_ear", "head_top", "spine", "l_knuckle", "r_thumb")] = np.nan
    found = pair(shot.keypoints["synthetic"], body, 30.0)
    assert abs(found.offset_s - OFFSET_S) < 1 / 60
    assert np.isnan(found.truth_m[:, LANDMARKS_41.index("nose")]).all()


@given(st.floats(0, 9), st.lists(st.floats(-5, 5), min_size=3, max_size=3))
def test_a_steady_acceleration_is_drawn_exactly(row, coefficients):
    values = np.polyval(coefficients, np.arange(10.0))[:, None]
    drawn = drawn_between(values, np.array([row]))[0, 0]
    # The first and last stretch lack a neighbour and are straight.
    bow = abs(coefficients[0]) / 4 if row < 1 or row > 8 else 0.0
    assert abs(drawn - np.polyval(coefficients, row)) <= bow + 1e-6


def test_between_unknown_frames_nothing_is_drawn():
    values = np.array([0.0, 1, 2, np.nan, 4, 5])[:, None]
    drawn = drawn_between(values, np.array([-0.5, 0, 1.5, 2, 2.5, 4, 4.5, 5.0, 5.5]))[:, 0]
    assert np.allclose(drawn, [np.nan, 0, 1.5, 2, np.nan, 4, 4.5, 5, np.nan], equal_nan=True)


def test_the_scan_finds_what_trying_each_offset_finds(anchor):
    body = motion_of(anchor, 16)
    track = shot_of(body).keypoints["synthetic"]
    seen, motion = seen_side(track, Camera.guessed(track.size_px)), motion_side(body, 30.0)
    scan = scan_offsets(seen, motion, at_least_s=1.0, count=1)
    tried = np.flatnonzero(np.isfinite(scan.miss_of_box))
    assert len(tried) > 40
    for place in tried[::9]:
        alone = scan_offsets(seen, motion, at_least_s=1.0, count=1, only_s=float(scan.offsets_s[place]))
        assert alone.starts[0].offset_s == pytest.approx(scan.offsets_s[place])
        assert alone.miss_of_box.min() == pytest.approx(scan.miss_of_box[place], rel=1e-4)


def test_a_camera_that_is_off_is_brought_back():
    motion = walk(60)
    pose, track = filmed(motion, Camera.guessed((1280, 720)), camera_from_world())
    seen, body = seen_side(track, pose.camera), motion_side(motion.positions_m, 30.0)
    true = camera_from_world()
    off = CameraFit(true[:3, :3], true[:3, 3] + np.array([0.3, -0.2, 0.8]), 1.0, 0.06)
    assert np.nanmedian(misses_of_box(off, seen, body)) > 0.1
    found = fit_camera(off, seen, body, Known(lens=True), 60, 60)
    assert np.abs(found.move_m - true[:3, 3]).max() < 0.01 and abs(found.offset_s) < 0.002
    assert fit_camera(off, seen, body, Known(lens=True, place=True, offset=True), 60, 60) is off


def test_keypoints_gone_astray_do_not_draw_the_camera_along():
    pose, track = filmed(walk(60), Camera.guessed((1280, 720)), camera_from_world())
    xy_px = track.xy_px.copy()
    # A third of the time the detector sees somebody else, a body's width to the right.
    xy_px[20:40] += np.array([120.0, 0.0])
    seen, body = seen_side(replace(track, xy_px=xy_px), pose.camera), motion_side(walk(60).positions_m, 30.0)
    true = camera_from_world()
    start = CameraFit(true[:3, :3], true[:3, 3] + np.array([0.1, 0.0, 0.3]), 1.0, 0.03)
    found = fit_camera(start, seen, body, Known(lens=True), 60, 60)
    assert np.abs(found.move_m - true[:3, 3]).max() < 0.03 and abs(found.offset_s) < 0.01


# ---- PAIRS.toml -----------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(tmp_path):
    """Writes a PAIRS.toml beside a clip and a motion; returns where it is."""
    for name in ("dance.mp4", "other.mp4", "dance.bvh", "lens.toml", "map.toml"):
        (tmp_path / name).write_text("x")

    def write(text):
        (tmp_path / "PAIRS.toml").write_text(text, encoding="utf-8")
        return tmp_path / "PAIRS.toml"

    return write


def test_pairs_are_read_relative_to_their_list(listed, tmp_path):
    first, second = read_pairs(
        listed(
            """
            [[pair]]
            footage = "dance.mp4"
            motion = "dance.bvh"

            [[pair]]
            footage = "other.mp4"
            motion = "dance.bvh"
            offset_s = -1
            camera = "lens.toml"
            camera_from_world = [[1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, -1, 4], [0, 0, 0, 1]]
            fps = 120
            joint_map = "map.toml"
            clip = "take 3"
            """
        )
    )
    assert first.footage == tmp_path / "dance.mp4" and first.motion == tmp_path / "dance.bvh"
    assert first.offset_s is first.camera is first.camera_from_world is first.fps is first.joint_map is None
    assert (second.offset_s, second.fps, second.clip) == (-1.0, 120.0, "take 3")
    assert second.camera == tmp_path / "lens.toml" and second.joint_map == tmp_path / "map.toml"
    assert second.camera_from_world[1, 3] == 1.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"no \[\[pair\]\]"),
        ("pair = 3", r"no \[\[pair\]\]"),
        ("[[pairs]]\n", "unknown keys: pairs"),
        ("[[pair]]\nmotion = 'dance.bvh'", "Pair 1 of .* lacks footage"),
        ("[[pair]]\nfootage = 'dance.mp4'", "lacks motion"),
        ("@\ncamara = 'lens.toml'", "unknown keys: camara"),
        ("@\noffset_s = '1'", "offset_s must be a number"),
        ("@\noffset_s = nan", "offset_s must be a number"),
        ("@\nfps = 0", "fps must be a number from 1"),
        ("@\nfps = true", "fps must be a number"),
        ("@\ncamera = 'gone.toml'", "no camera"),
        ("@\ncamera = 3", "camera must be the path"),
        ("@\nclip = 3", "clip must be a name"),
        ("@\ncamera_from_world = [[1, 0], [0, 1]]", "four rows of four"),
        ("@\ncamera_from_world = [[1,0,0,0],[0,1,0,0],[0,0,1,inf],[0,0,0,1]]", "four rows of four"),
        ("@\n@", "pairs 'dance.mp4' twice"),
        ("[[pair", "can't be read"),
    ],
)
def test_a_list_that_is_not_understood_is_refused(listed, text, says):
    text = text.replace("@", "[[pair]]\nfootage = 'dance.mp4'\nmotion = 'dance.bvh'")
    with pytest.raises(FileFormatError, match=says):
        read_pairs(listed(text))


def test_a_list_that_is_missing_or_huge_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="no list of pairs"):
        read_pairs(tmp_path / "gone.toml")
    (tmp_path / "huge.toml").write_bytes(b"#" * (5 << 20))
    with pytest.raises(FileFormatError, match="far too large"):
        read_pairs(tmp_path / "huge.toml")


@dataclass(frozen=True, eq=False)
class Take:
    name: str
    positions_m: np.ndarray
    fps: float = 30.0


def test_truth_is_of_frames_that_agree(anchor, tmp_path):
    body = motion_of(anchor, 120)
    shot = shot_of(body)
    track = shot.keypoints["synthetic"]
    xy_px = track.xy_px.copy()
    xy_px[20:26] += 150 * np.random.default_rng(0).normal(size=(6, 21, 2))
    track = replace(track, xy_px=xy_px)
    motion = MotionSet(
        body, foot_contacts(body, 30.0), np.array([0, len(body)]), *[np.array(["take"])] * 3, 30.0, "0" * 64
    )
    write_motion(tmp_path / "take.npz", motion)
    found = read_truth(PairEntry(tmp_path / "a.mp4", tmp_path / "take.npz"), track)
    assert abs(found.offset_s - OFFSET_S) < 1 / 60
    known = np.isfinite(found.truth_m).all(axis=(1, 2))
    assert np.array_equal(known, found.agreed) and not known[20:26].any() and known.sum() > 40
    assert f"{known.sum()} of {known.sum()} frames" in found.told() and "px" in found.told()

    # An animated character in centimetres, out of a file that only Blender reads.
    entry = PairEntry(tmp_path / "a.mp4", tmp_path / "dancer.fbx")
    takes = [Take("idle", body[:1] * 100), Take("dance", body * 100)]
    again = read_truth(replace(entry, clip="dance"), track, read_character=lambda path: takes)
    assert again.offset_s == pytest.approx(found.offset_s, abs=1e-3)
    with pytest.raises(FileFormatError, match="several clips: 'idle', 'dance'"):
        read_truth(entry, track, read_character=lambda path: takes)
    with pytest.raises(FileFormatError, match="no clip 'jump'"):
        read_truth(replace(entry, clip="jump"), track, read_character=lambda path: takes)
    with pytest.raises(FileFormatError, match="can't be paired here"):
        read_truth(entry, track)


@pytest.mark.skipif(not SAMPLES.exists(), reason="the sample clips are not here")
def test_a_bvh_file_is_paired_with_its_own_rate_and_another(tmp_path):
    sample = SAMPLES / "daz_05_16.bvh"
    (clip,), _ = read_bvh_clips(sample, None)
    # This dialect has a T-pose first, which counts in the file's time.
    left_out_s = (len(read_bvh(sample)) - len(clip.positions_m)) / clip.fps
    assert left_out_s > 0
    body = at_rate(clip.positions_m, clip.fps, 30.0)
    track = shot_of(body, 1.2, 2.8).keypoints["synthetic"]
    entry = PairEntry(tmp_path / "a.mp4", sample)
    found = read_truth(entry, track)
    assert abs(found.offset_s - 1.2 - left_out_s) < 1 / 60
    with pytest.raises(FileFormatError, match=f"if it has {clip.fps:.3g} frames a second, not 60"):
        read_truth(replace(entry, fps=60.0), track)
