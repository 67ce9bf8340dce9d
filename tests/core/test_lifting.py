"""The steps of the lift on a walker whose truth is known."""

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.constant_bones import bone_lengths, with_constant_bones
from keylift.core.detector_sites import detector_sites
from keylift.core.frame_rate import frame_rate
from keylift.core.metrics import mpjpe, n_mpjpe, p_mpjpe, procrustes_aligned, velocity_error
from keylift.core.root_path import solve_root_path
from keylift.core.rotations import from_rotation_vector, rotate
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.world_alignment import align_world, up_direction
from walker import camera_from_world, filmed, walk

CAMERA = Camera.guessed((1280, 720))


@pytest.mark.parametrize("fps", [24.0, 60.0])
def test_the_root_path_is_found_from_perfect_keypoints(fps):
    pose, track = filmed(walk(80, fps), CAMERA, camera_from_world())
    body = pose.positions_m - pose.positions_m[:, :1]
    root = solve_root_path(detector_sites(body), CAMERA.rays(track.xy_px), track.confidence, track.time_s)
    error = np.linalg.norm(root - pose.positions_m[:, 0], axis=-1)
    assert np.median(error) < 0.03 and error.max() < 0.06, (np.median(error), error.max())


def test_the_root_path_shrugs_off_outliers_and_bridges_a_gap():
    pose, track = filmed(walk(90), CAMERA, camera_from_world())
    rng = np.random.default_rng(0)
    xy = track.xy_px + rng.normal(0, 3, track.xy_px.shape)
    wild = rng.random(xy.shape[:2]) < 0.05
    xy[wild] += 200
    xy[40:46] = np.nan
    body = pose.positions_m - pose.positions_m[:, :1]
    root = solve_root_path(detector_sites(body), CAMERA.rays(xy), track.confidence, track.time_s)
    error = np.linalg.norm(root - pose.positions_m[:, 0], axis=-1)
    assert np.median(error) < 0.05 and error.max() < 0.25


@pytest.mark.parametrize(("pitch", "roll"), [(0.0, 0.0), (0.35, 0.05), (-0.2, -0.08), (0.9, 0.0)])
def test_up_and_the_floor_are_found_from_standing_feet(pitch, roll):
    extrinsics = camera_from_world(pitch, roll)
    pose, _ = filmed(walk(150), CAMERA, extrinsics)
    up = up_direction(pose.positions_m, pose.contact, pose.time_s)
    truth = extrinsics[:3, :3] @ np.array([0, 1.0, 0])
    assert np.degrees(np.arccos(np.clip(up @ truth, -1, 1))) < 3
    world_from_camera = align_world(pose.positions_m, pose.contact, pose.time_s)
    rotation = world_from_camera[:3, :3]
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-9) and np.linalg.det(rotation) > 0
    world = pose.positions_m @ rotation.T + world_from_camera[:3, 3]
    feet = world[:, LANDMARKS_41.indices("l_heel", "l_toe_base", "r_heel", "r_toe_base"), 2]
    standing = feet[pose.contact > 0.5]
    assert abs(np.median(standing)) < 0.06
    head = world[:, LANDMARKS_41.index("head_top"), 2]
    assert 1.4 < np.median(head) < 1.8


@pytest.mark.parametrize("fps", [24.0, 25.0, 30000 / 1001, 30.0, 60000 / 1001, 60.0, 17.3])
@pytest.mark.parametrize("clock_hz", [1e3, 90e3])
def test_the_frame_rate_is_read_off_coarse_clocks_too(fps, clock_hz):
    time_s = np.round(np.arange(240) / fps * clock_hz) / clock_hz
    assert frame_rate(time_s) == pytest.approx(fps, rel=2e-4)
    dropped = np.delete(time_s, [10, 11, 50, 51, 52])
    assert frame_rate(dropped) == pytest.approx(fps, rel=2e-4)
    assert frame_rate(time_s[:1]) == 30.0


def test_a_body_without_any_contact_still_gets_a_floor():
    pose, _ = filmed(walk(30), CAMERA, camera_from_world())
    world_from_camera = align_world(pose.positions_m, np.zeros((30, 4)), pose.time_s)
    world = pose.positions_m @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
    assert abs(np.percentile(world[..., 2].min(axis=1), 10)) < 0.08


def test_bones_become_constant_and_symmetric_and_keep_their_direction():
    pose, _ = filmed(walk(40), CAMERA, camera_from_world())
    rng = np.random.default_rng(2)
    noisy = pose.positions_m + rng.normal(0, 0.02, pose.positions_m.shape)
    lengths = bone_lengths(noisy, np.ones(noisy.shape[:2]))
    fixed = with_constant_bones(noisy, lengths)
    parents = np.maximum(LANDMARKS_41.parents, 0)
    measured = np.linalg.norm(fixed - fixed[:, parents], axis=-1)
    assert measured.std(axis=0).max() < 1e-9
    order = LANDMARKS_41.mirrored_order()
    assert np.allclose(lengths, lengths[order])
    knee, hip = LANDMARKS_41.indices("l_knee", "l_hip")
    assert np.allclose(np.cross(fixed[:, knee] - fixed[:, hip], noisy[:, knee] - noisy[:, hip]), 0, atol=1e-9)


def test_metrics_ignore_what_they_say_they_ignore():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(6, 17, 3))
    turn = from_rotation_vector(np.array([0.3, 1.0, -0.5]))
    moved = 1.7 * rotate(turn, truth) + np.array([1.0, 2, 3])
    assert p_mpjpe(moved, truth) < 1e-9
    assert n_mpjpe(0.3 * truth, truth) < 1e-9
    assert mpjpe(truth + np.array([0, 3.0, 4.0]), truth) == pytest.approx(5.0)
    assert velocity_error(truth + 5.0, truth) < 1e-9
    mirrored = truth * np.array([-1.0, 1, 1])
    assert p_mpjpe(mirrored, truth) > 0.1
    assert np.isfinite(procrustes_aligned(np.zeros((1, 17, 3)), truth[:1])).all()
