import time
from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.gaps import fill_gaps
from keylift.core.keypoint_repair import repair, repair_counts, summary
from keylift.core.keypoint_repair.facing import evidence_against_exchange
from keylift.core.keypoint_repair.motion import body_motion
from keylift.core.keypoint_repair.paired_points import PART_NAMES, PairedPoints
from keylift.core.keypoint_repair.sides import find_exchanges
from keylift.core.rotations import from_rotation_vector, rotate
from keylift.core.skeletons import KEYPOINT_LAYOUTS
from keylift.core.tracks import Change, KeypointTrack
from walker import camera_from_world, filmed, walk

POINTS = PairedPoints.of_layout("lifter21")
FRONT, BACK, SIDE = 0.0, np.pi, np.pi / 2


def walker_track(
    heading_rad: float, frames: int = 120, fps: float = 30.0, turns_per_s: float = 0.0, seed: int = 0
) -> KeypointTrack:
    """A walk in place seen through a slightly trembling detector; ``turns_per_s`` spins the walker."""
    motion = walk(frames, fps, heading_rad=0.0)
    positions = motion.positions_m.copy()
    positions[..., [0, 2]] -= positions[:, :1, [0, 2]]
    angle = heading_rad + 2 * np.pi * turns_per_s * motion.time_s
    turn = from_rotation_vector(np.stack([0 * angle, angle, 0 * angle], axis=-1))
    positions = rotate(turn[:, None], positions)
    _, track = filmed(
        replace(motion, positions_m=positions), Camera.guessed((1280, 720)), camera_from_world(roll_rad=0.0)
    )
    noise_px = np.random.default_rng(seed).normal(0, 0.7, track.xy_px.shape)
    return replace(track, xy_px=track.xy_px + noise_px)


def with_sides_exchanged(track: KeypointTrack, frames: slice, parts: tuple[str, ...] = PART_NAMES) -> KeypointTrack:
    where = np.zeros((len(track.time_s), len(POINTS.left)), bool)
    where[frames] = np.isin(POINTS.part, [PART_NAMES.index(part) for part in parts])
    xy_px, confidence = POINTS.exchanged(track.xy_px, where), POINTS.exchanged(track.confidence, where)
    return replace(track, xy_px=xy_px, confidence=confidence)


def with_point_moved(track: KeypointTrack, name: str, frames: slice, by_px: tuple[float, float]) -> KeypointTrack:
    xy_px = track.xy_px.copy()
    xy_px[frames, POINTS.names.index(name)] += by_px
    return replace(track, xy_px=xy_px)


def body_px(track: KeypointTrack) -> float:
    return float(np.median((track.xy_px.max(axis=1) - track.xy_px.min(axis=1)).max(axis=-1)))


def worst_px(a: KeypointTrack, b: KeypointTrack) -> float:
    return float(np.abs(a.xy_px - b.xy_px).max())


# ---- What is fine stays --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
@pytest.mark.parametrize("heading_rad", [FRONT, BACK, SIDE, -SIDE, 0.6, 2.5])
def test_a_clean_walk_comes_back_as_it_is(heading_rad, fps):
    track = walker_track(heading_rad, fps=fps)
    assert repair(track) is track


@pytest.mark.parametrize("heading_rad", [0.0, 0.4, np.pi / 2, np.pi])
def test_a_clean_walk_through_the_picture_comes_back_as_it_is(heading_rad):
    # Not in place: towards the camera, across, away from it; and without any noise.
    _, track = filmed(walk(75, heading_rad=heading_rad), Camera.guessed((1280, 720)), camera_from_world(distance_m=6.5))
    assert repair(track) is track


@pytest.mark.parametrize("turns_per_s", [0.3, 1.0, 2.0])
def test_who_turns_round_exchanges_sides_in_the_picture_and_that_is_right(turns_per_s):
    track = walker_track(FRONT, turns_per_s=turns_per_s)
    assert repair(track) is track


def test_a_fast_kick_and_punch_survive():
    track = walker_track(SIDE)
    xy_px = track.xy_px.copy()
    # Out and back within a third of a second, as far as an arm or a leg is long.
    swing = np.zeros(len(xy_px))
    swing[50:61] = np.sin(np.linspace(0, np.pi, 11)) ** 2
    for names, reach in ((("l_elbow", "l_wrist", "l_knuckle"), 0.3), (("r_knee", "r_ankle", "r_heel"), 0.35)):
        for share, name in zip((0.5, 1.0, 1.1), names, strict=True):
            xy_px[:, POINTS.names.index(name), 0] += share * reach * body_px(track) * swing
    xy_px[:, POINTS.names.index("r_big_toe"), 0] += 0.38 * body_px(track) * swing
    kick = replace(track, xy_px=xy_px)
    assert repair(kick) is kick


def test_a_gap_that_was_bridged_stays_as_it_was_bridged():
    track = walker_track(FRONT)
    filled = track.filled.copy()
    filled[40:43] = True
    track = replace(track, filled=filled)
    assert repair(track) is track


# ---- Sides ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heading_rad", [FRONT, BACK, 0.5, np.pi - 0.5])
@pytest.mark.parametrize("frames", [slice(40, 41), slice(30, 70), slice(90, 120)])
def test_a_body_with_its_sides_exchanged_is_put_right_to_the_last_pixel(heading_rad, frames):
    truth = walker_track(heading_rad)
    back = repair(with_sides_exchanged(truth, frames))
    assert worst_px(back, truth) == 0
    expected = np.zeros(len(truth.time_s), bool)
    expected[frames] = True
    assert np.array_equal((back.changes == Change.BODY_EXCHANGED).any(axis=1), expected)
    assert not (back.changes > Change.BODY_EXCHANGED).any()


def test_undoing_an_exchange_again_gives_what_was_detected():
    detected = with_sides_exchanged(walker_track(FRONT), slice(30, 60))
    back = repair(detected)
    where = back.changes[:, POINTS.left] == Change.BODY_EXCHANGED
    assert np.array_equal(POINTS.exchanged(back.xy_px, where), detected.xy_px)


def test_a_third_of_the_clip_is_not_taken_for_the_right_side():
    truth = walker_track(FRONT, frames=240)
    detected = with_sides_exchanged(with_sides_exchanged(truth, slice(20, 60)), slice(130, 170))
    assert worst_px(repair(detected), truth) == 0


@pytest.mark.parametrize(
    "parts", [("hip", "knee", "foot"), ("elbow", "hand")], ids=["legs with hips", "arms from the elbows on"]
)
def test_limbs_of_the_wrong_side_are_put_right(parts):
    truth = walker_track(FRONT)
    back = repair(with_sides_exchanged(truth, slice(50, 62), parts))
    assert worst_px(back, truth) == 0
    exchanged = (back.changes == Change.LIMB_EXCHANGED).any(axis=1)
    assert np.array_equal(np.flatnonzero(exchanged), np.arange(50, 62))


def test_a_change_of_mind_that_a_filter_smears_over_frames_is_found_and_bridged():
    truth = walker_track(FRONT)
    detected = with_sides_exchanged(truth, slice(40, 60))
    xy_px = detected.xy_px.copy()
    for change in (40, 60):
        for after, share in ((0, 0.35), (1, 0.1)):
            xy_px[change + after] += share * (detected.xy_px[change - 1] - detected.xy_px[change])
    back = repair(replace(detected, xy_px=xy_px))
    whole = slice(42, 59)
    assert np.array_equal(back.xy_px[whole], truth.xy_px[whole])
    # On the way points lie within the body; a third of the shoulders' width is more than a bridge may miss by.
    assert worst_px(back, truth) < 0.06 * body_px(truth)


def test_hips_that_arrive_later_than_the_shoulders_are_bridged_until_then():
    truth = walker_track(FRONT)
    detected = with_sides_exchanged(truth, slice(40, 60))
    xy_px = detected.xy_px.copy()
    hips = [POINTS.names.index("l_hip"), POINTS.names.index("r_hip")]
    for change in (40, 60):
        xy_px[change, hips] += 0.5 * (detected.xy_px[change - 1, hips] - detected.xy_px[change, hips])
    late = replace(detected, xy_px=xy_px)
    pair = POINTS.left.tolist().index(hips[0])
    between = find_exchanges(body_motion(late, POINTS), POINTS).between
    assert np.array_equal(np.argwhere(between), [[40, pair], [60, pair]])
    back = repair(late)
    hip_width_px = np.linalg.norm(truth.xy_px[:, hips[0]] - truth.xy_px[:, hips[1]], axis=-1).mean()
    assert worst_px(back, truth) < 0.2 * hip_width_px
    assert (back.changes[np.ix_([40, 60], hips)] == Change.OUTLIER_BRIDGED).all()


@pytest.mark.parametrize("heading_rad", [0.0, 0.4, np.pi, np.pi / 2])
def test_looks_speak_for_the_right_sides_of_a_walker(heading_rad):
    _, track = filmed(walk(75, heading_rad=heading_rad), Camera.guessed((1280, 720)), camera_from_world(distance_m=6.5))
    evidence = evidence_against_exchange(body_motion(track, POINTS), POINTS)
    assert evidence.mean() > 0.3
    exchanged = with_sides_exchanged(track, slice(None))
    assert np.allclose(evidence_against_exchange(body_motion(exchanged, POINTS), POINTS), -evidence)


def test_looks_say_nothing_of_who_lies_down():
    track = walker_track(FRONT)
    lying = replace(track, xy_px=track.xy_px[..., ::-1].copy())
    assert (evidence_against_exchange(body_motion(lying, POINTS), POINTS) == 0).all()


# ---- Strays --------------------------------------------------------------------------------------------------------


def test_a_point_that_jumps_away_is_bridged_with_less_confidence():
    truth = walker_track(FRONT)
    away = 0.4 * body_px(truth)
    back = repair(with_point_moved(truth, "r_wrist", slice(50, 53), (away, -away)))
    wrist = POINTS.names.index("r_wrist")
    assert worst_px(back, truth) < 0.03 * body_px(truth)
    assert (back.changes[50:53, wrist] == Change.OUTLIER_BRIDGED).all()
    assert repair_counts(back)["keypoints_bridged"] == 3
    assert back.confidence[51, wrist] < 0.8 < back.confidence[48, wrist]


def test_a_point_that_stays_away_for_longer_keeps_its_place_and_loses_confidence():
    truth = walker_track(FRONT)
    detected = with_point_moved(truth, "r_wrist", slice(50, 61), (0.5 * body_px(truth), 0.0))
    back = repair(detected)
    wrist = POINTS.names.index("r_wrist")
    assert np.array_equal(back.xy_px, detected.xy_px)
    assert (back.changes[50:61, wrist] == Change.DOUBTED).all()
    assert (back.confidence[50:61, wrist] < 0.5).all()


@pytest.mark.parametrize("missing", ["NaN", "no confidence"])
def test_short_drop_outs_are_bridged_and_long_ones_left_open(missing):
    truth = walker_track(FRONT)
    xy_px, confidence = truth.xy_px.copy(), truth.confidence.copy()
    knee = POINTS.names.index("l_knee")
    for frames in (slice(30, 34), slice(60, 80)):
        confidence[frames, knee] = 0.01
        xy_px[frames, knee] = np.nan if missing == "NaN" else xy_px[frames, knee] + 40
    back = repair(replace(truth, xy_px=xy_px, confidence=confidence))
    assert np.abs(back.xy_px[30:34, knee] - truth.xy_px[30:34, knee]).max() < 0.03 * body_px(truth)
    assert (back.changes[30:34, knee] == Change.DROP_OUT_BRIDGED).all()
    assert np.array_equal(back.xy_px[60:80, knee], xy_px[60:80, knee], equal_nan=True)
    assert (back.confidence[60:80, knee] <= 0.01).all()


@pytest.mark.parametrize(("frames", "bridged"), [(slice(50, 54), True), (slice(50, 70), False)])
def test_a_visit_to_somebody_else_is_opened_and_bridged_if_short(frames, bridged):
    truth = walker_track(FRONT)
    xy_px = truth.xy_px.copy()
    middle = xy_px[frames].mean(axis=(0, 1))
    xy_px[frames] = middle + 0.6 * (xy_px[frames] - middle) + (0.7 * body_px(truth), 0)
    back = repair(replace(truth, xy_px=xy_px))
    assert (back.changes[frames] == Change.SOMEBODY_ELSE).all()
    assert back.filled[frames].all() == bridged == bool(np.isfinite(back.xy_px[frames]).all())
    if bridged:
        assert worst_px(back, truth) < 0.05 * body_px(truth)
    else:
        assert (back.confidence[frames] == 0).all()
    others = np.delete(np.arange(len(xy_px)), np.r_[frames])
    assert np.array_equal(back.xy_px[others], truth.xy_px[others])


def test_a_gap_beside_exchanged_sides_is_bridged_anew():
    truth = walker_track(FRONT)
    detected = with_sides_exchanged(truth, slice(44, 70))
    xy_px, confidence = detected.xy_px.copy(), detected.confidence.copy()
    xy_px[40:44], confidence[40:44] = np.nan, 0
    bridged = fill_gaps(replace(detected, xy_px=xy_px, confidence=confidence))
    assert worst_px(bridged, truth) > 0.05 * body_px(truth)
    assert worst_px(repair(bridged), truth) < 0.05 * body_px(truth)


# ---- All tracks ----------------------------------------------------------------------------------------------------


def test_repairing_twice_is_repairing_once():
    detected = with_point_moved(
        with_sides_exchanged(walker_track(BACK), slice(40, 60)), "nose", slice(80, 82), (200, 0)
    )
    once = repair(detected)
    twice = repair(once)
    assert once.changes.any()
    for name in ("xy_px", "confidence", "changes", "filled"):
        assert np.array_equal(getattr(once, name), getattr(twice, name), equal_nan=name == "xy_px")


@pytest.mark.parametrize("layout", sorted(KEYPOINT_LAYOUTS))
@pytest.mark.parametrize("frames", [1, 2, 5, 40])
@pytest.mark.parametrize("kind", ["unseen", "noise", "one point"])
def test_any_track_is_taken(layout, frames, kind):
    rng = np.random.default_rng(0)
    points = len(KEYPOINT_LAYOUTS[layout])
    xy_px = rng.uniform(0, 500, (frames, points, 2))
    if kind == "unseen":
        xy_px[:] = np.nan
    if kind == "one point":
        xy_px[:, 1:] = np.nan
    confidence = np.where(np.isfinite(xy_px).all(axis=-1), rng.uniform(0.1, 1, (frames, points)), 0.0)
    time_s = np.cumsum(rng.uniform(0.001, 0.4, frames))
    track = KeypointTrack(xy_px, confidence, time_s, np.arange(frames), layout, (640, 480), np.zeros(frames, bool))
    back = repair(track)
    assert back.xy_px.shape == xy_px.shape
    if kind != "noise":
        assert not back.changes.any()


def test_the_pairs_of_mediapipe_take_the_mouth_along():
    points = PairedPoints.of_layout("mediapipe33")
    assert len(points.left) == 16 and (points.part >= 0).all()
    order = np.arange(33.0)[None]
    exchanged = points.exchanged(order, np.ones((1, 16), bool))[0]
    names = KEYPOINT_LAYOUTS["mediapipe33"]
    assert names[int(exchanged[names.index("mouth_left")])] == "mouth_right"
    assert exchanged[0] == 0 and (exchanged[1:] != order[0, 1:]).all()


def test_the_summary_says_what_was_done():
    track = walker_track(FRONT)
    assert summary(track) == ""
    back = repair(with_point_moved(with_sides_exchanged(track, slice(40, 60)), "nose", slice(80, 81), (200, 0)))
    assert summary(back) == "sides exchanged back in 20 of 120 frames, 1 keypoint bridged"


def test_ten_thousand_frames_take_less_than_two_seconds():
    track = with_sides_exchanged(walker_track(FRONT, frames=10_000), slice(4000, 5000))
    best_s = np.inf
    for _ in range(3):
        began = time.process_time()
        back = repair(track)
        best_s = min(best_s, time.process_time() - began)
    assert back.changes.any()
    assert best_s < 2.0
