"""Cameras that move, cameras whose pitch is known, and lenses that nobody knows: from keypoints to the pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.camera_motion import CameraMotion, read_camera_motion
from keylift.core.detector_sites import detector_sites
from keylift.core.errors import FileFormatError
from keylift.core.lens_estimate import estimate_camera
from keylift.core.lift import lift
from keylift.core.lifter.lifting import load_ray_lifter
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.weights import find_weights
from keylift.core.world_alignment import Gravity
from walker import camera_from_world, filmed, walk

CAMERA = Camera.guessed((1280, 720))
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def panning(frames: int) -> np.ndarray:
    """(F, 4, 4) camera from the walker's y-up world, turning after somebody who walks across."""
    still, result = camera_from_world(0.1, 0.0, 5.0), np.tile(np.eye(4), (frames, 1, 1))
    for frame, angle in enumerate(np.linspace(-0.25, 0.25, frames)):
        turn = np.eye(4)
        turn[0, 0] = turn[2, 2] = np.cos(angle)
        turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
        result[frame] = turn @ still
        result[frame, 0, 3] += 0.5 * angle
    return result


def world_of(camera_from_walker: np.ndarray) -> np.ndarray:
    """(F, 4, 4) world (z up) from camera."""
    to_z_up = np.eye(4)
    to_z_up[:3, :3] = Z_UP
    return to_z_up @ np.linalg.inv(camera_from_walker)


def test_a_panning_camera_leaves_the_walk_where_it_was():
    frames = 100
    motion = walk(frames, 30.0, heading_rad=1.5)
    extrinsics = panning(frames)
    points = motion.positions_m @ extrinsics[:, :3, :3].swapaxes(1, 2) + extrinsics[:, None, :3, 3]
    _, track = filmed(motion, CAMERA, extrinsics[0])
    track = replace(track, xy_px=CAMERA.project(detector_sites(points)))
    solved = CameraMotion(world_of(extrinsics), motion.time_s)
    truth = motion.positions_m @ Z_UP.T

    pose = lift(track, camera=CAMERA, camera_motion=solved)
    world = pose.positions_world_m()
    way, true_way = (path[-1, 0, :2] - path[0, 0, :2] for path in (world, truth))
    assert np.linalg.norm(way - true_way) < 0.15 * np.linalg.norm(true_way)
    up = world[:, LANDMARKS_41.index("head_top"), 2] - world[:, LANDMARKS_41.index("l_ankle"), 2]
    assert up.min() > 1.0
    # As if the camera stood still, the way is another one: the test would notice.
    ignored = lift(track, camera=CAMERA).positions_world_m()
    assert np.linalg.norm((ignored[-1, 0, :2] - ignored[0, 0, :2]) - true_way) > 0.3 * np.linalg.norm(true_way)


def test_the_camera_is_found_between_its_own_times():
    solved = CameraMotion(world_of(panning(11)), np.linspace(0, 1, 11))
    finer = solved.at(np.linspace(-0.5, 1.5, 41))
    assert np.allclose(finer[[0, 10]], solved.world_from_camera[0], atol=1e-9)
    assert np.allclose(finer[-1], solved.world_from_camera[-1], atol=1e-9)
    turn = finer[:, :3, :3]
    assert np.allclose(turn @ turn.swapaxes(1, 2), np.eye(3), atol=1e-9)
    between = CameraMotion(world_of(panning(21)), np.linspace(0, 1, 21))
    assert np.allclose(solved.at(between.time_s)[:, :3, :3], between.world_from_camera[:, :3, :3], atol=1e-4)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda m, t: (m[:, :3], t), "needs world_from_camera"),
        (lambda m, t: (m * 2, t), "rigid"),
        (lambda m, t: (m * np.array([-1, 1, 1, 1])[:, None], t), "rigid"),
        (lambda m, t: (np.where(m == 1, np.nan, m), t), "finite"),
        (lambda m, t: (m, t[::-1]), "grow"),
    ],
)
def test_a_file_that_is_no_cameras_motion_is_told_what_it_lacks(tmp_path, harm, said):
    matrices, times = harm(world_of(panning(4)), np.arange(4.0))
    np.savez(tmp_path / "camera.npz", world_from_camera=matrices, time_s=times)
    with pytest.raises(FileFormatError, match=said):
        read_camera_motion(tmp_path / "camera.npz")
    np.savez(tmp_path / "camera.npz", time_s=times)
    with pytest.raises(FileFormatError, match="lacks"):
        read_camera_motion(tmp_path / "camera.npz")


@pytest.mark.parametrize(("pitch_deg", "roll_deg"), [(0, 0), (20, 0), (-15, 8), (60, -30)])
def test_a_known_pitch_and_roll_is_taken_as_it_is(pitch_deg, roll_deg):
    extrinsics = camera_from_world(np.radians(pitch_deg), np.radians(roll_deg))
    truth = extrinsics[:3, :3] @ np.array([0, 1.0, 0])
    # The walker's roll turns what is seen clockwise, as a camera does that is turned against the clock.
    gravity = Gravity.from_angles(pitch_deg, -roll_deg)
    assert np.allclose(gravity.up, truth, atol=1e-9)
    _, track = filmed(walk(40), CAMERA, extrinsics)
    for fit in (True, False):
        pose = lift(track, camera=CAMERA, gravity=gravity, fit=fit)
        assert np.allclose(pose.world_from_camera[2, :3], truth, atol=1e-9)


def test_without_the_fit_a_moving_camera_is_refused():
    _, track = filmed(walk(10), CAMERA, camera_from_world())
    with pytest.raises(FileFormatError, match="--no-fit"):
        lift(track, camera_motion=CameraMotion(world_of(panning(10)), track.time_s), fit=False)


@pytest.mark.parametrize("fov", [35.0, 80.0])
def test_the_lens_is_estimated_on_the_right_side_of_the_usual_one(fov):
    true = Camera.guessed((1280, 720), fov)
    _, track = filmed(walk(120, heading_rad=0.2), true, camera_from_world(distance_m=7.0 if fov < 60 else 5.5))
    lifter = load_ray_lifter(find_weights("default"), "cpu")
    found = estimate_camera(track, lifter)
    usual = Camera.guessed((1280, 720))
    error, guess = (abs(np.log(camera.focal_px[0] / true.focal_px[0])) for camera in (found, usual))
    assert error < guess, (found.focal_px, true.focal_px)
