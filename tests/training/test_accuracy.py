"""Scores of shots: nothing for the truth itself, what a known fault must give, and a report that people can read."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from keylift.core.detector_sites import detector_sites
from keylift.core.errors import FileFormatError, OutputError
from keylift.core.motion_metrics import LIMB_JOINTS
from keylift.core.rotations import from_matrix, from_rotation_vector, multiply, rotate, to_matrix
from keylift.core.segments import SEGMENT_NAMES, joint_rotations, segments_from_joint_rotations
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.tracks import PoseTrack
from keylift.training.shots.accuracy import (
    DETECTOR_WORLD,
    KEYLIFT,
    LIMB_SITES,
    QUANTITIES,
    measure_accuracy,
    smoothed_world_limbs,
)
from keylift.training.shots.accuracy_report import (
    aligned_lines,
    markdown_lines,
    mean_table,
    put_into_page,
    shot_table,
    worst_frames,
    write_report,
)
from shot_samples import walking_shot, world_landmarks


@pytest.fixture(scope="module")
def shot():
    return walking_shot(frames=60)


def truth_as_pose(shot, turn_deg=0.0, moved_m=(0.0, 0.0, 0.0), contact=None):
    """A lifting that knows the truth, turned about the line of sight and moved."""
    q = from_rotation_vector(np.radians([0.0, 0.0, turn_deg]))
    world_from_camera = shot.world_from_camera.copy()
    world_from_camera[:3, :3] = shot.world_from_camera[:3, :3] @ to_matrix(q).T
    turns = multiply(np.broadcast_to(q, shot.truth_rotations_wxyz.shape), shot.truth_rotations_wxyz)

    def lift(track, camera):
        assert camera is shot.camera
        return PoseTrack(
            positions_m=rotate(q, shot.truth_m) + np.array(moved_m),
            rotations_wxyz=joint_rotations(turns),
            confidence=np.ones(shot.truth_m.shape[:2]),
            contact=shot.truth_contact if contact is None else contact,
            world_from_camera=world_from_camera,
            time_s=track.time_s,
            frame_index=track.frame_index,
            fps=shot.fps,
            camera=camera,
            skeleton=LANDMARKS_41,
        )

    return lift


def test_the_truth_has_no_error(shot):
    scores = measure_accuracy([shot], truth_as_pose(shot), "truth").mean("full", KEYLIFT)
    for quantity in QUANTITIES:
        value = scores[quantity.key]
        if quantity.key in ("contact_f1", "acceleration_ratio"):
            assert value == pytest.approx(1), quantity.key
        elif quantity.key in ("slide_mm_s", "slide_in_true_contact_mm_s", "true_slide_mm_s"):
            assert value == pytest.approx(scores["true_slide_mm_s"], rel=1e-3), quantity.key
        elif quantity.key.startswith("sites_"):
            # These truths are joints, so nobody asks where a detector marks them.
            assert math.isnan(value), quantity.key
        else:
            assert value == pytest.approx(0, abs=2e-3), quantity.key


def test_a_truth_of_keypoints_is_compared_where_keypoints_are(shot):
    """Triangulated keypoints lie where a detector marks them: on top of a shoulder, in front of a hip."""
    marked = shot.truth_m.copy()
    marked[:, LIMB_JOINTS] = detector_sites(shot.truth_m)[:, LIMB_SITES]
    filmed = replace(shot, truth_m=marked, truth_rotations_wxyz=None)
    scores = measure_accuracy([filmed], truth_as_pose(shot), "truth").mean("full", KEYLIFT)
    for key in ("procrustes_mm", "root_aligned_mm", "trunk_lean_deg"):
        assert scores[f"sites_{key}"] == pytest.approx(0, abs=1e-3) and scores[key] > 2, key


def test_faults_are_told_in_their_units(shot):
    scores = measure_accuracy([shot], truth_as_pose(shot, 9.0), "turned").mean("full", KEYLIFT)
    for key in ("foot_deg", "hand_deg", "head_deg"):
        assert scores[key] == pytest.approx(9), key
    assert scores["up_deg"] == pytest.approx(9, abs=1)
    assert scores["procrustes_mm"] == pytest.approx(0, abs=1e-3) and scores["root_aligned_mm"] > 20

    nearer = measure_accuracy([shot], truth_as_pose(shot, 0, (0, 0, -0.2)), "nearer").mean("full", KEYLIFT)
    depth_m = shot.truth_m[:, LANDMARKS_41.indices("l_hip", "r_hip"), 2].mean(axis=1)
    assert nearer["root_pct"] == pytest.approx((100 * 0.2 / depth_m).mean())
    assert nearer["root_aligned_mm"] == pytest.approx(0, abs=1e-3)

    deaf = measure_accuracy([shot], truth_as_pose(shot, contact=np.zeros_like(shot.truth_contact)), "deaf")
    scores = deaf.mean("full", KEYLIFT)
    assert scores["contact_f1"] == 0 and math.isnan(scores["slide_mm_s"])
    assert deaf.as_dict()["mean"]["keylift, full"]["slide_mm_s"] is None


@pytest.mark.parametrize(
    ("key", "names"), [("foot_deg", ("l_foot", "r_foot")), ("hand_deg", ("l_hand", "r_hand")), ("head_deg", ("head",))]
)
def test_each_turn_is_told_of_its_own_segments(shot, key, names):
    turns = shot.truth_rotations_wxyz.copy()
    for name in names:
        segment = SEGMENT_NAMES.index(name)
        turns[:, segment] = multiply(turns[:, segment], from_rotation_vector(np.radians([12.0, 0.0, 0.0])))
    twisted = replace(shot, truth_rotations_wxyz=turns)
    scores = measure_accuracy([twisted], truth_as_pose(shot), "truth").mean("full", KEYLIFT)
    assert {k: round(scores[k], 3) for k in ("foot_deg", "hand_deg", "head_deg")} == {
        "foot_deg": 0.0,
        "hand_deg": 0.0,
        "head_deg": 0.0,
        key: 12.0,
    }


def test_what_the_shot_does_not_know_is_left_out(shot):
    bare = replace(shot, truth_rotations_wxyz=None, truth_contact=None, world_from_camera=None)
    scores = measure_accuracy([bare], truth_as_pose(shot), "truth").mean("full", KEYLIFT)
    unknown = {key for key, value in scores.items() if math.isnan(value)}
    told_by_truth = {f"{part}{how}_deg" for part in ("foot", "hand", "head") for how in ("", "_about_a_constant")}
    told_by_truth |= {"up_deg", "contact_f1"}
    # Whose turns are unknown is taken for a truth of keypoints.
    assert unknown == told_by_truth | {"slide_in_true_contact_mm_s", "true_slide_mm_s"}


def test_the_detectors_world_is_measured_on_the_same_keypoints(shot):
    found = measure_accuracy([shot], truth_as_pose(shot), "truth")
    assert [(r.model, r.method) for r in found.results] == [
        ("full", KEYLIFT),
        ("heavy", KEYLIFT),
        ("heavy", DETECTOR_WORLD),
    ]
    scores = found.mean("heavy", DETECTOR_WORLD)
    # Perfect but for the blur over time, and with no place in the room.
    assert 0.1 < scores["procrustes_mm"] < 10 and scores["trunk_lean_deg"] < 2
    assert math.isnan(scores["root_pct"]) and math.isnan(scores["slide_mm_s"])
    assert [r.model for r in measure_accuracy([shot], truth_as_pose(shot), "truth", ["heavy"]).results] == ["heavy"] * 2


def test_world_landmarks_are_bridged_and_blurred():
    time_s = np.arange(40) / 40
    still = world_landmarks(np.tile(np.arange(123).reshape(41, 3) / 100.0, (40, 1, 1)))
    gap = still.copy()
    gap[10:15] = np.nan
    assert np.allclose(smoothed_world_limbs(gap, time_s), smoothed_world_limbs(still, time_s))
    noisy = still + np.random.default_rng(0).normal(0, 0.05, still.shape)
    assert (smoothed_world_limbs(noisy, time_s) - smoothed_world_limbs(still, time_s)).std() < 0.03
    assert np.isnan(smoothed_world_limbs(np.full_like(still, np.nan), time_s)).all()
    assert np.isfinite(smoothed_world_limbs(still[:1], time_s[:1])).all()


def test_results_are_plain_values_with_the_worst_shot_named(shot):
    other = replace(shot, name="far")
    lifts = iter([truth_as_pose(shot), truth_as_pose(shot), truth_as_pose(other, 5.0), truth_as_pose(other, 5.0)])

    def lift(track, camera):
        return next(lifts)(track, camera)

    found = measure_accuracy([shot, other], lift, "x.safetensors")
    told = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert told["weights"] == "x.safetensors" and len(told["shots"]) == 6
    assert told["worst"]["keylift, full"]["foot_deg"] == {"shot": "far", "value": pytest.approx(5)}
    assert told["mean"]["keylift, full"]["foot_deg"] == pytest.approx(2.5)
    table = mean_table(found, "filmed", {"keylift, full": {"foot_deg": 77.0}})
    assert table[0][1:4] == ["keylift, full", "before, full", "goal, full"]
    row = next(row for row in table if row[0].startswith("foot"))
    assert row[1:3] == ["2.5", "77.0"]
    assert {row[0] for row in shot_table(found)[1:]} == {"walk", "far"}
    lines = aligned_lines(table)
    assert len({line.rindex("2.5") for line in lines if line.startswith("foot orientation, deg")}) == 1
    assert markdown_lines(table)[1].startswith("| --- | ---:")


def test_the_worst_frames_are_of_different_shots_first(shot):
    def late_mistake(track, camera):
        pose = truth_as_pose(shot)(track, camera)
        positions = pose.positions_m.copy()
        positions[40, 3:] += 0.4
        positions[41, 3:] += 0.3
        positions[5, 3:] += 0.2
        return replace(pose, positions_m=positions)

    twins = [shot, replace(shot, name="twin")]
    failures = worst_frames(measure_accuracy(twins, late_mistake, "late", ["full"]))
    assert [failure.row for failure in failures] == [40, 40, 5]
    assert {failure.result.shot.name for failure in failures[:2]} == {"walk", "twin"}


def test_a_report_is_tables_plots_and_pictures(tmp_path, shot):
    found = measure_accuracy([shot], truth_as_pose(shot, 8.0), "x.safetensors")
    pictures = tmp_path / "images" / "accuracy"
    files, text = write_report(pictures, found, "rendered")
    assert {path.name for path in files} == {"rendered-table.md"} | {
        f"rendered-{name}"
        for name in ("by-shot.png", "by-joint.png", "over-time.png", "failure-1.jpg", "failure-2.jpg", "failure-3.jpg")
    }
    magic = {".png": b"\x89PNG", ".jpg": b"\xff\xd8\xff"}
    assert all(path.read_bytes().startswith(magic[path.suffix]) for path in files[1:])
    page = tmp_path / "accuracy.md"
    page.write_text("# A\n<!-- filmed -->\nstays\n<!-- /filmed -->\n<!-- rendered -->\nold\n<!-- /rendered -->\nend\n")
    for _ in range(2):
        put_into_page(page, "rendered", text, pictures)
    written = page.read_text()
    assert "old" not in written and "stays" in written and written.endswith("<!-- /rendered -->\nend\n")
    assert (
        written.count("(images/accuracy/rendered-failure-1.jpg)") == 1 and "| foot orientation, deg | 8.0 |" in written
    )
    with pytest.raises(FileFormatError, match="<!-- mocap -->"):
        put_into_page(page, "mocap", text, pictures)
    with pytest.raises(OutputError, match="below the folder"):
        put_into_page(page, "rendered", text, tmp_path.parent)


def test_the_samples_turns_are_rotations(shot):
    # The walker's rotations survive the way to joints and back, or the errors above mean nothing.
    back = segments_from_joint_rotations(joint_rotations(shot.truth_rotations_wxyz))
    assert np.allclose(np.abs((back * shot.truth_rotations_wxyz).sum(axis=-1)), 1)
    assert np.allclose(from_matrix(to_matrix(back)) ** 2, back**2)
