"""Bodies to render: whole, the right way round, posed as the motion says, and planned anew from the same seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keylift.core.detector_sites import detector_sites
from keylift.core.errors import FileFormatError
from keylift.core.rotations import angle_between_rad, rotate
from keylift.core.segments import SEGMENT_NAMES, segment_rotations
from keylift.core.skeletons import LANDMARKS_41, LIFTER_21_NAMES, MEDIAPIPE_33_NAMES
from keylift.training.rendered.body import CARRIERS, SKIN, read_body, write_body
from keylift.training.rendered.detector_statistics import detector_statistics, found_frames, statistics_table
from keylift.training.rendered.posing import pose_body
from keylift.training.rendered.shot_plan import SIZE_PX, plan_shot
from keylift.training.rendered.wardrobe import dress
from keylift.training.shots.shot import read_shots
from rendered_samples import base_body, body, walking_motion
from shot_samples import walking_shot
from walker import walk

L = LANDMARKS_41.index


def segment(name: str) -> int:
    return SEGMENT_NAMES.index(name)


@pytest.fixture(scope="module")
def person():
    return body()


@pytest.fixture(scope="module")
def posed(person):
    motion = walk(60, 30.0)
    return pose_body(person, motion.positions_m, motion.contact > 0.5, 30.0)


def volume_m3(vertices_m, faces):
    a, b, c, d = (vertices_m[faces[:, corner]] for corner in range(4))
    return float((np.einsum("ni,ni", a, np.cross(b, c)) + np.einsum("ni,ni", a, np.cross(c, d))) / 6)


# ---- The body -------------------------------------------------------------------------------------------------------


def test_the_body_is_a_person_the_right_way_round(person):
    skin = person.vertices_m[person.layer == SKIN]
    assert 1.4 < np.ptp(skin[:, 1]) < 2.0
    faces = person.faces[(person.layer[person.faces] == SKIN).all(axis=1)]
    # Turned inside out this is negative.
    assert 0.04 < volume_m3(person.vertices_m, faces) < 0.12
    at = dict(zip(LANDMARKS_41.names, person.rest_m, strict=True))
    assert at["l_wrist"][0] > 0.2 > -0.2 > at["r_wrist"][0]
    assert at["nose"][2] > at["head"][2] + 0.08 and at["l_toe_tip"][2] > at["l_heel"][2] + 0.15
    assert at["head_top"][1] > at["head"][1] > at["neck"][1] > at["pelvis"][1] > at["l_knee"][1] > at["l_heel"][1]


def test_skin_hangs_on_what_is_near_it(person):
    assert np.allclose(person.weights.sum(axis=1), 1, atol=1e-6)
    carrier = np.array(CARRIERS)[person.weights.argmax(axis=1)]
    for side, sign in (("l", 1), ("r", -1)):
        hand = person.vertices_m[carrier == f"{side}_hand"]
        assert np.linalg.norm(hand - person.rest_m[L(f"{side}_wrist")], axis=-1).max() < 0.25
        assert (sign * hand[:, 0] > 0).all()


def test_in_the_t_pose_limbs_are_straight(person):
    at = dict(zip(LANDMARKS_41.names, person.t_pose_m, strict=True))
    assert np.allclose(at["l_elbow"][1:], at["l_shoulder"][1:]) and np.allclose(at["l_wrist"][1:], at["l_elbow"][1:])
    assert np.allclose(at["r_knee"][[0, 2]], at["r_hip"][[0, 2]]) and at["r_ankle"][1] < at["r_knee"][1] < 0
    # Palms down, thumbs forward.
    assert at["l_thumb"][2] > at["l_wrist"][2] + 0.03 and at["r_thumb"][2] > at["r_wrist"][2] + 0.03


def test_a_body_comes_back_from_its_file(tmp_path):
    base = base_body()
    path = tmp_path / "again.body.npz"
    write_body(path, base, tuple(base.targets_m))
    again = read_body(path)
    mix = dict.fromkeys(base.targets_m, 1.0)
    assert np.abs(again.shaped(mix).vertices_m - base.shaped(mix).vertices_m).max() < 1e-6
    assert np.allclose(again.shaped(mix).weights, base.shaped(mix).weights, atol=0.01)


def test_what_is_no_body_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="base.obj"):
        read_body(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"no body")
    with pytest.raises(FileFormatError, match="not a body file"):
        read_body(tmp_path / "x.npz")
    base = base_body()
    with pytest.raises(FileFormatError, match="names? vertices"):
        replace(base, faces=base.faces + 10)


# ---- Posing ---------------------------------------------------------------------------------------------------------


def test_at_rest_nothing_moves(person):
    """The identity: the rest pose's own landmarks bring every vertex back to where it was."""
    rest = np.repeat(person.rest_m[None], 5, axis=0)
    # Turns of a body in its rest pose are those that undo the way to the T-pose.
    turns = segment_rotations(rest, person.t_pose_m)
    from keylift.core.rotations import inverse

    for name in ("l_upperarm", "r_forearm", "l_hand", "r_thigh", "l_shank", "chest"):
        off = angle_between_rad(turns[:, segment(name)], inverse(person.to_t_pose[segment(name)])[None])
        assert np.degrees(off).max() < 12, name


def test_the_truth_says_how_the_body_is_turned(person, posed):
    """Rotations that are stored agree with those that the landmarks tell."""
    told = segment_rotations(posed.landmarks_m, person.t_pose_m)
    off_deg = np.degrees(angle_between_rad(told, posed.segment_wxyz))
    for name in ("pelvis", "chest", "head", "l_upperarm", "r_forearm", "l_hand", "r_thigh", "l_shank", "r_foot"):
        assert off_deg[:, segment(name)].max() < 3, name


def test_limbs_point_where_the_motion_points(posed):
    motion = walk(60, 30.0).positions_m
    for start, end in (("l_shoulder", "l_elbow"), ("r_elbow", "r_wrist"), ("l_hip", "l_knee"), ("r_knee", "r_ankle")):
        ours = posed.landmarks_m[:, L(end)] - posed.landmarks_m[:, L(start)]
        theirs = motion[:, L(end)] - motion[:, L(start)]
        cosine = np.einsum("fi,fi->f", ours, theirs) / np.linalg.norm(ours, axis=-1) / np.linalg.norm(theirs, axis=-1)
        assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 0.5, (start, end)


def test_bones_keep_their_length(person, posed):
    for start, end in (("l_shoulder", "l_elbow"), ("r_hip", "r_knee"), ("chest", "neck"), ("l_heel", "l_toe_base")):
        length = np.linalg.norm(posed.landmarks_m[:, L(end)] - posed.landmarks_m[:, L(start)], axis=-1)
        assert np.ptp(length) < 1e-6
        assert abs(length[0] - np.linalg.norm(person.t_pose_m[L(end)] - person.t_pose_m[L(start)])) < 1e-6


def test_landmarks_lie_in_the_skin_that_moves_with_them(person, posed):
    """Joints are inside the limb: nearer to the skin's middle than its girth, in every frame."""
    carrier = np.array(CARRIERS)[person.weights.argmax(axis=1)]
    for frame in (0, 20, 45):
        skin = posed.skinned(frame)
        for name, near in (("l_elbow", 0.07), ("r_wrist", 0.06), ("l_knee", 0.09), ("r_ankle", 0.08), ("nose", 0.01)):
            apart = np.linalg.norm(skin[person.layer == SKIN] - posed.landmarks_m[frame, L(name)], axis=-1)
            assert apart.min() < near, name
        hand = skin[carrier == "l_hand"].mean(axis=0)
        assert np.linalg.norm(hand - posed.landmarks_m[frame, L("l_knuckle")]) < 0.09
        assert 0.03 < volume_m3(skin, person.faces[(person.layer[person.faces] == SKIN).all(axis=1)]) < 0.13


def test_standing_feet_are_on_the_floor_and_level(person, posed):
    assert posed.contact.any(axis=1).mean() > 0.8
    low = np.array([posed.skinned(frame)[person.layer == SKIN][:, 1].min() for frame in range(0, 60, 5)])
    assert np.abs(np.median(low)) < 0.015 and low.min() > -0.06
    flat = posed.contact[:, 0] & posed.contact[:, 1]
    up = rotate(posed.segment_wxyz[flat, segment("l_foot")], np.array([0.0, 1.0, 0.0]))
    assert np.degrees(np.arccos(up[:, 1])).mean() < 12


def test_clothes_lie_outside_the_body(person):
    chance = np.random.default_rng(3)
    dressed = [dress(person, chance) for _ in range(6)]
    for one in dressed:
        assert np.isfinite(one.rest_m).all() and (one.colours >= 0).all() and (one.colours <= 1).all()
        assert np.linalg.norm(one.rest_m - person.vertices_m, axis=-1).max() < 0.08
        assert (one.sag_m >= 0).all() and len(one.faces) > 12000
    assert len({one.colours.tobytes() for one in dressed}) == 6


# ---- Plans ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plans():
    return [plan_shot(walking_motion(), base_body(), 5, number, 4, 40, 30.0) for number in range(4)]


def test_a_plan_follows_from_its_seed(plans):
    again = plan_shot(walking_motion(), base_body(), 5, 2, 4, 40, 30.0)
    other = plan_shot(walking_motion(), base_body(), 6, 2, 4, 40, 30.0)
    assert again.name == plans[2].name and again.about == plans[2].about
    assert np.array_equal(again.truth()["truth_m"], plans[2].truth()["truth_m"])
    assert np.array_equal(again.moved(3.5)[0]["actor"], plans[2].moved(3.5)[0]["actor"])
    assert not np.array_equal(other.truth()["truth_m"], plans[2].truth()["truth_m"])


def test_the_truth_is_where_the_vertices_are(plans):
    """Truth in the camera, brought back into the room, lies on the actor's own mesh there."""
    for plan in plans:
        truth = plan.truth()
        turn, move = truth["world_from_camera"][:3, :3], truth["world_from_camera"][:3, 3]
        room_m = truth["truth_m"][20] @ turn.T + move
        vertices = plan.moved(20.0)[0]["actor"]
        for name in ("nose", "l_ear", "r_heel", "l_knuckle", "r_big_toe"):
            assert np.linalg.norm(vertices - room_m[L(name)], axis=-1).min() < 0.03, name
        feet = room_m[LANDMARKS_41.indices("l_heel", "r_heel")]
        assert -0.05 < feet[:, 2].min() < 0.15
        # Turns are in camera axes too: the pelvis' left is from the right hip to the left one.
        left = rotate(truth["truth_rotations_wxyz"][20, segment("pelvis")], np.array([1.0, 0.0, 0.0]))
        hips = truth["truth_m"][20, L("l_hip")] - truth["truth_m"][20, L("r_hip")]
        assert np.dot(left, hips) / np.linalg.norm(hips) > 0.999


def test_everybody_is_in_the_picture_and_large_enough(plans):
    for plan in plans:
        truth_m = plan.truth()["truth_m"]
        xy = plan.camera.project(truth_m)
        assert truth_m[..., 2].min() > 0.5
        assert (xy > 0).all() and (xy < np.array(SIZE_PX)).all()
        assert np.median(np.ptp(xy, axis=1).max(axis=-1)) >= 250


def test_cameras_look_from_all_sides():
    views = [plan_shot(walking_motion(), base_body(), 9, number, 8, 40, 30.0).about for number in range(8)]
    assert len({view.split(" view")[0].split(", ")[-1] for view in views}) == 4, views


def test_blur_shows_the_time_around_a_frame(plans):
    plan = replace(plans[0], sub_frames=3, shutter=0.5)
    assert np.allclose(plan.times(7), [6.75, 7.0, 7.25])
    a, b = plan.moved(6.0)[0]["actor"], plan.moved(7.0)[0]["actor"]
    assert np.allclose(plan.moved(6.5)[0]["actor"], (a + b) / 2)


def test_motion_that_is_too_short_is_refused():
    with pytest.raises(FileFormatError, match="--frames"):
        plan_shot(walking_motion(60), base_body(), 1, 0, 1, 110, 30.0)


# ---- Statistics -----------------------------------------------------------------------------------------------------


def seen_at(shot, points_m, noise_px=0.0):
    """The shot with keypoints where ``points_m`` (F, 21, 3) are."""
    xy = np.full((len(shot.time_s), 33, 2), 100.0)
    places = {
        "nose": "nose",
        **{
            f"{s[0]}_{n}": f"{s}_{n}"
            for s in ("left", "right")
            for n in "ear shoulder elbow wrist hip knee ankle heel".split()
        },
        **{
            f"{s[0]}_{a}": f"{s}_{b}"
            for s in ("left", "right")
            for a, b in (("knuckle", "index"), ("big_toe", "foot_index"))
        },
    }
    projected = shot.camera.project(points_m)
    for ours, theirs in places.items():
        xy[:, MEDIAPIPE_33_NAMES.index(theirs)] = projected[:, LIFTER_21_NAMES.index(ours)]
    xy += np.random.default_rng(0).normal(0, noise_px, xy.shape)
    track = replace(
        shot.keypoints["full"],
        xy_px=xy,
        confidence=np.ones(xy.shape[:2]),
        layout="mediapipe33",
        changes=np.zeros(xy.shape[:2], np.uint8),
    )
    return replace(shot, keypoints={"full": track}, detector_world_m={})


@pytest.fixture
def shots():
    """The walker from four sides."""
    made = []
    for yaw in (0.0, 1.6, 3.1, 4.7):
        shot = walking_shot(60)
        middle = shot.truth_m.mean(axis=(0, 1))
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
        made.append(replace(shot, truth_m=(shot.truth_m - middle) @ turn.T + middle, truth_rotations_wxyz=None))
    return made


def test_a_perfect_detector_has_no_error(shots):
    found = detector_statistics([seen_at(shot, detector_sites(shot.truth_m)) for shot in shots])["full"]
    assert found["hit_rate"] == 1 and found["frames"] == 240
    assert all(joint["median"] < 1e-6 and joint["beyond_10_pct"] == 0 for joint in found["joints"].values())
    # Where its points sit comes out as it went in (core.detector_sites).
    sits = found["sits_mm"]
    assert abs(sits["shoulder"]["up"] - 30) < 3 and abs(sits["shoulder"]["outward"] + 8) < 3
    assert abs(sits["hip"]["forward"] - 35) < 3 and abs(sits["hip"]["up"]) < 3
    assert abs(sits["heel"]["forward"] - 25) < 4 and abs(sits["nose"]["up"] - 41) < 3
    assert "shoulder" in statistics_table({"full": found})


def test_noise_is_told_as_jitter_and_an_offset_as_one(shots):
    noisy = [seen_at(shot, detector_sites(shot.truth_m), noise_px=3.0) for shot in shots]
    found = detector_statistics(noisy)["full"]
    size_px = np.mean([np.ptp(s.camera.project(s.truth_m), axis=1).max() for s in shots])
    assert abs(found["joints"]["knee"]["jitter"] - 300 / size_px) < 0.25 * 300 / size_px
    assert abs(found["autocorrelation"]["3"]) < 0.1


def test_exchanged_sides_and_strangers_are_found(shots):
    sites = detector_sites(shots[0].truth_m)
    exchanged = sites.copy()
    order = [
        LIFTER_21_NAMES.index(n.replace("l_", "R_").replace("r_", "l_").replace("R_", "r_") if n[1] == "_" else n)
        for n in LIFTER_21_NAMES
    ]
    exchanged[30:] = sites[30:][:, order]
    assert detector_statistics([seen_at(shots[0], exchanged)])["full"]["swapped_pct"]["hip"] > 40
    assert detector_statistics([seen_at(shots[0], sites)])["full"]["swapped_pct"]["hip"] == 0
    away = seen_at(shots[0], sites + np.array([1.5, 0, 0]))
    assert found_frames(away, "full").sum() == 0
    assert found_frames(seen_at(shots[0], sites), "full").all()


# ---- Two shots of the real thing ------------------------------------------------------------------------------------


def test_the_detector_saw_what_was_rendered():
    """Keypoints of MediaPipe's full model on pictures of ours: the right person, the right way round, where it was."""
    shots = read_shots(Path(__file__).parents[1] / "golden" / "rendered")
    assert len(shots) == 2 and all(len(shot.time_s) == 60 for shot in shots)
    assert all(found_frames(shot, "full").all() for shot in shots)
    found = detector_statistics(shots)["full"]
    for name, most in (("shoulder", 4), ("hip", 5), ("knee", 4), ("ankle", 4), ("nose", 4)):
        assert found["joints"][name]["median"] < most, name
    mirrored = LANDMARKS_41.mirrored_order()
    exchanged = [replace(shot, truth_m=shot.truth_m[:, mirrored]) for shot in shots]
    wrong = detector_statistics(exchanged)["full"]["joints"]
    assert wrong["hip"]["median"] > 1.5 * found["joints"]["hip"]["median"]
    assert wrong["shoulder"]["median"] > 2 * found["joints"]["shoulder"]["median"]
