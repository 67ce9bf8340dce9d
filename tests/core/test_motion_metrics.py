"""Errors of whole clips: nothing for what is perfect, and the number that a known fault must give."""

import numpy as np
import pytest

from keylift.core import motion_metrics as measure
from keylift.core.metrics import p_mpjpe
from keylift.core.motion_metrics import LIMB_JOINTS, LIMB_NAMES
from keylift.core.rotations import from_rotation_vector, multiply, normalised, rotate
from walker import walk


@pytest.fixture
def limbs():
    """Limb joints of the walker (60, 12, 3), y up, and their times."""
    motion = walk(60)
    return motion.positions_m[:, LIMB_JOINTS], motion.time_s


def turned(points, degrees, axis=(0.0, 0.0, 1.0)):
    return rotate(from_rotation_vector(np.radians(degrees) * np.array(axis)), points)


def all_scores(ours, truth, time_s):
    return {
        "procrustes": measure.frame_procrustes_error(ours, truth),
        "similarity": measure.clip_similarity_error(ours, truth),
        "root_aligned": measure.root_aligned_error(ours, truth),
        "bends": measure.bend_error_deg(ours, truth),
        "lean": measure.trunk_lean_error_deg(ours, truth),
        "velocity": measure.velocity_error(ours, truth, time_s),
        "acceleration": measure.acceleration_error(ours, truth, time_s),
        "root": measure.root_error_pct(ours, truth),
        "drift": measure.path_drift_pct(ours, truth),
    }


def test_a_perfect_result_has_no_error(limbs):
    points, time_s = limbs
    for name, found in all_scores(points, points, time_s).items():
        assert found == pytest.approx(0, abs=1e-6), name
    assert measure.acceleration_ratio(points, points, time_s) == pytest.approx(1)
    assert measure.bone_variation_pct(points) == pytest.approx(0, abs=1e-6)


def test_each_measure_sees_what_it_should_and_nothing_else(limbs):
    points, time_s = limbs
    found = all_scores(points + np.array([0.3, 0.0, 0.0]), points, time_s)
    assert max(found[name] for name in found if name != "root") == pytest.approx(0, abs=1e-6)

    found = all_scores(1.1 * points, points, time_s)
    for name in ("procrustes", "similarity", "bends", "lean"):
        assert found[name] == pytest.approx(0, abs=1e-6), name
    about = measure.about_hips(points)
    assert found["root_aligned"] == pytest.approx(0.1 * np.linalg.norm(about, axis=-1).mean())
    assert found["drift"] == pytest.approx(10 * straightness(points))

    found = all_scores(turned(points, 7), points, time_s)
    for name in ("procrustes", "similarity", "bends"):
        assert found[name] == pytest.approx(0, abs=1e-6), name
    assert found["root_aligned"] > 0.02

    # A turn that changes from frame to frame: only what looks at single frames doesn't see it.
    swaying = np.stack([turned(pose, angle) for pose, angle in zip(points, np.linspace(-9, 9, 60), strict=True)])
    found = all_scores(swaying, points, time_s)
    assert found["procrustes"] == pytest.approx(0, abs=1e-6) and found["bends"] == pytest.approx(0, abs=1e-5)
    assert found["similarity"] > 0.02 and found["velocity"] > 0.02


def straightness(points):
    hips = points[:, [LIMB_NAMES.index("l_hip"), LIMB_NAMES.index("r_hip")]].mean(axis=1)
    return np.linalg.norm(hips[-1] - hips[0]) / np.linalg.norm(np.diff(hips, axis=0), axis=-1).sum()


def test_a_lean_is_told_in_degrees():
    upright = np.zeros((3, 12, 3))
    for side, x in (("l", 0.2), ("r", -0.2)):
        for name, y in (("shoulder", 1.5), ("elbow", 1.2), ("wrist", 0.9), ("hip", 1.0), ("knee", 0.5), ("ankle", 0)):
            upright[:, LIMB_NAMES.index(f"{side}_{name}")] = (x, y, 0)
    assert measure.trunk_lean_error_deg(turned(upright, 12), upright) == pytest.approx(12)
    bent = upright.copy()
    # The left forearm, hanging straight, is turned forward by 40 degrees about the elbow: one bend of four.
    elbow = LIMB_NAMES.index("l_elbow")
    wrist = LIMB_NAMES.index("l_wrist")
    bent[:, wrist] = bent[:, elbow] + turned(bent[:, wrist] - bent[:, elbow], 40, (1.0, 0.0, 0.0))
    assert measure.bend_error_deg(bent, upright) == pytest.approx(40 / 4)
    # A forearm of 30 cm that is 36 in one frame of three: 2 cm in the mean, sqrt(8) in deviation, one bone of eight.
    longer = upright.copy()
    longer[1, wrist] = longer[1, elbow] + 1.2 * (longer[1, wrist] - longer[1, elbow])
    assert measure.bone_variation_pct(longer) == pytest.approx(100 * np.std([30, 36, 30]) / 32 / 8)


def test_speeds_are_per_second_whatever_the_frame_rate(limbs):
    points, _ = limbs
    hips = [LIMB_NAMES.index("l_hip"), LIMB_NAMES.index("r_hip")]
    others = [joint for joint in range(12) if joint not in hips]
    still = np.broadcast_to(points[:1], points.shape)
    rng = np.random.default_rng(3)
    for times in (np.arange(60) / 30, np.arange(60) / 120, np.cumsum(rng.uniform(0.01, 0.05, 60))):
        drifting, speeding = still.copy(), still.copy()
        drifting[:, others, 2] += 0.25 * times[:, None]
        speeding[:, others, 2] += 0.5 * 3.0 * times[:, None] ** 2
        assert measure.velocity_error(drifting, still, times) == pytest.approx(0.25 * 10 / 12)
        assert measure.acceleration_error(drifting, still, times) == pytest.approx(0, abs=1e-8)
        assert measure.acceleration_error(speeding, still, times) == pytest.approx(3.0 * 10 / 12)
        assert measure.acceleration_ratio(2 * speeding, speeding, times) == pytest.approx(2)


def test_one_frame_is_a_clip_too(limbs):
    points, time_s = limbs
    found = all_scores(points[:1] + 0.001, points[:1], time_s[:1])
    assert np.isnan(found["velocity"]) and np.isnan(found["acceleration"]) and np.isnan(found["drift"])
    assert found["procrustes"] == pytest.approx(0, abs=1e-6) and found["similarity"] == pytest.approx(0, abs=1e-6)
    assert measure.bone_variation_pct(points[:1]) == 0
    assert np.isnan(measure.acceleration_ratio(points[:1], points[:1], time_s[:1]))


def test_what_nobody_knows_is_left_out(limbs):
    points, time_s = limbs
    ours = points + np.random.default_rng(0).normal(0, 0.02, points.shape)
    truth = points.copy()
    truth[:, LIMB_NAMES.index("l_wrist")] = np.nan
    truth[10:20] = np.nan
    wild = ours.copy()
    wild[:, LIMB_NAMES.index("l_wrist")] += 5
    wild[10:20] += 7
    fine, bad = all_scores(ours, truth, time_s), all_scores(wild, truth, time_s)
    for name, value in fine.items():
        assert np.isfinite(value), name
        assert bad[name] == pytest.approx(value), name
    everything = np.full_like(truth, np.nan)
    assert all(np.isnan(value) for value in all_scores(ours, everything, time_s).values())


def test_frames_agree_with_the_papers_protocol(limbs):
    points, _ = limbs
    ours = points + np.random.default_rng(1).normal(0, 0.05, points.shape)
    assert measure.frame_procrustes_error(ours, points) == pytest.approx(p_mpjpe(ours, points))
    mirrored = points * np.array([-1.0, 1.0, 1.0])
    assert measure.frame_procrustes_error(mirrored, points) == pytest.approx(p_mpjpe(mirrored, points))


def test_depth_and_drift_are_told_in_per_cent(limbs):
    points, _ = limbs
    hips = points[:, [LIMB_NAMES.index("l_hip"), LIMB_NAMES.index("r_hip")]].mean(axis=1)
    in_front = points - hips[:, None] + np.array([0.0, 0.0, 4.0])
    assert measure.root_error_pct(1.03 * in_front, in_front) == pytest.approx(3)
    # Ten metres straight ahead, with 20 cm too little, and rising by a metre that gravity knows nothing about.
    steps = np.linspace(0, 10, 60)[:, None] * np.array([1.0, 0.0, 0.0])
    walked = in_front + steps[:, None]
    short = in_front + 0.98 * steps[:, None] + np.linspace(0, 1, 60)[:, None, None] * np.array([0.0, 1.0, 0.0])
    assert measure.path_drift_pct(short, walked, np.array([0.0, 1.0, 0.0])) == pytest.approx(2)
    assert measure.path_drift_pct(short, walked) == pytest.approx(100 * np.hypot(0.2, 1) / 10)
    assert np.isnan(measure.path_drift_pct(in_front, in_front))


def test_slide_is_counted_along_the_floor_while_a_foot_stands():
    time_s = np.arange(30) / 30
    feet = np.zeros((30, 4, 3))
    feet[:, 0, 0] = 0.1 * time_s
    feet[:, 0, 1] = 5 * time_s
    feet[:, 1, 2] = 0.3 * time_s
    up = np.array([0.0, 1.0, 0.0])
    contact = np.zeros((30, 4))
    contact[:10, 0] = 1
    assert measure.contact_slide(feet, contact, time_s, up) == pytest.approx(0.1)
    contact[:10, 1] = 1
    assert measure.contact_slide(feet, contact, time_s, up) == pytest.approx(0.2)
    # A single frame of contact has no speed.
    assert np.isnan(measure.contact_slide(feet, np.eye(30, 4), time_s, up))


def test_turns_contacts_and_directions():
    q = from_rotation_vector(np.random.default_rng(2).normal(0, 1, (50, 3)))
    off = multiply(q, from_rotation_vector(np.radians([0, 25, 0])))
    assert measure.rotation_error_deg(off, q) == pytest.approx(25) == measure.rotation_error_deg(-off, q)
    unknown = q.copy()
    unknown[5:] = np.nan
    assert measure.rotation_error_deg(off, unknown) == pytest.approx(25)


def test_other_rest_axes_are_a_constant_turn_that_can_be_taken_away():
    rng = np.random.default_rng(2)
    truth = normalised(rng.normal(size=(40, 2, 4)))
    constants = from_rotation_vector(np.radians([[12.0, 0, 5], [0, -20, 0]]))
    other = multiply(truth, np.broadcast_to(constants, truth.shape))
    assert measure.rotation_error_deg(other, truth) > 12
    assert measure.rotation_error_about_a_constant_deg(other, truth) == pytest.approx(0, abs=1e-4)
    swaying = multiply(other, from_rotation_vector(np.radians(rng.choice([-10.0, 10.0], (40, 2, 1)) * [1, 0, 0])))
    assert measure.rotation_error_about_a_constant_deg(swaying, truth) == pytest.approx(10, abs=1)
    other[3] = np.nan
    assert measure.rotation_error_about_a_constant_deg(other, truth) == pytest.approx(0, abs=1e-4)
    # One hit, one false alarm, one miss.
    assert measure.contact_f1(np.array([[1, 1, 0, 0.0]]), np.array([[1, 0, 1, 0.0]])) == pytest.approx(0.5)
    assert np.isnan(measure.contact_f1(np.zeros((2, 4)), np.zeros((2, 4))))
    assert measure.direction_error_deg(turned(np.array([0, 1.0, 0]), 0.001), [0, 1.0, 0]) == pytest.approx(0.001)


def test_other_shapes_are_refused(limbs):
    points, _ = limbs
    with pytest.raises(ValueError, match="compare"):
        measure.clip_similarity_error(points, points[:, :11])
