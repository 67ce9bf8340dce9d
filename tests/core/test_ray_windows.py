import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.camera import Camera
from keylift.core.detector_sites import detector_sites
from keylift.core.lifter.lifting import sample_windows
from keylift.core.lifter.ray_windows import lifter_points, normalise_windows
from keylift.core.rotations import from_rotation_vector, to_matrix
from keylift.core.skeletons import LANDMARKS_41, LIFTER_21_NAMES, MEDIAPIPE_33_NAMES
from keylift.core.tracks import KeypointTrack
from walker import camera_from_world, filmed, walk

CAMERA = Camera.guessed((1280, 720))


def window():
    pose, track = filmed(walk(27), CAMERA, camera_from_world())
    return pose.positions_m, CAMERA.rays(track.xy_px)[None], track.confidence[None]


@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5))
@settings(max_examples=20, deadline=None)
def test_turning_the_camera_leaves_what_the_lifter_sees_nearly_alone(yaw, pitch):
    positions, _, confidence = window()
    turned = positions @ to_matrix(from_rotation_vector(np.array([pitch, yaw, 0.0]))).T

    def seen(p):
        sites = detector_sites(p)
        return normalise_windows((sites[..., :2] / sites[..., 2:])[None], confidence, 13)

    inputs, back = seen(positions)
    inputs_turned, back_turned = seen(turned)
    # What is left is a roll about the optical axis and, since the box has no top, a box of slightly other size and
    # place; as complex numbers, all of that is one factor and one shift.
    p, q = (points[0, 13, :21, 0] + 1j * points[0, 13, :21, 1] for points in (inputs, inputs_turned))
    p, q = p - p.mean(), q - q.mean()
    factor = np.vdot(q, p) / np.vdot(q, q)
    assert abs(abs(factor) - 1) < 0.2
    assert np.abs(p - factor * q).max() < 0.02
    assert np.allclose(back[0] @ back[0].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(back_turned[0]) > 0


def test_the_box_is_centred_and_of_size_one():
    _, rays, confidence = window()
    inputs, _ = normalise_windows(rays, confidence, 13)
    points = inputs[0, 13, :21, :2]
    assert np.abs((points.max(axis=0) + points.min(axis=0)) / 2).max() < 0.02
    assert np.isclose((points.max(axis=0) - points.min(axis=0)).max(), 1, atol=1e-5)


def test_unseen_points_say_nothing_and_break_nothing():
    _, rays, confidence = window()
    rays[0, 5] = np.nan
    rays[0, 13, 3] = np.nan
    inputs, _ = normalise_windows(rays, confidence, 13)
    assert np.isfinite(inputs).all()
    assert (inputs[0, 5, :21] == 0).all() and (inputs[0, 13, 3] == 0).all()
    nobody, _ = normalise_windows(np.full_like(rays, np.nan), confidence, 13)
    assert np.isfinite(nobody).all()


def test_sites_lie_near_their_landmarks_and_mirror():
    positions, _, _ = window()
    sites = detector_sites(positions)
    landmarks = positions[:, LANDMARKS_41.indices(*LIFTER_21_NAMES)]
    assert 0.005 < np.linalg.norm(sites - landmarks, axis=-1).max() < 0.06
    flip = np.array([-1.0, 1, 1])
    mirrored = detector_sites(positions[:, LANDMARKS_41.mirrored_order()] * flip)
    order = [LIFTER_21_NAMES.index(n.replace("l_", "x_").replace("r_", "l_").replace("x_", "r_")) if n[1] == "_" else i
             for i, n in enumerate(LIFTER_21_NAMES)]  # fmt: skip
    assert np.allclose(mirrored[:, order] * flip, sites, atol=1e-9)


def test_mediapipe_points_find_their_place():
    xy = np.arange(33 * 2, dtype=float).reshape(1, 33, 2)
    track = KeypointTrack(
        xy, np.linspace(0, 1, 33)[None], np.zeros(1), np.zeros(1, int), "mediapipe33", (640, 480), np.zeros(1, bool)
    )
    points, confidence = lifter_points(track)
    at = LIFTER_21_NAMES.index
    assert np.array_equal(points[0, at("r_knee")], xy[0, MEDIAPIPE_33_NAMES.index("right_knee")])
    index, pinky = (MEDIAPIPE_33_NAMES.index(f"left_{part}") for part in ("index", "pinky"))
    assert np.array_equal(points[0, at("l_knuckle")], (xy[0, index] + xy[0, pinky]) / 2)
    assert confidence[0, at("nose")] == 0


def test_windows_are_read_at_any_rate():
    time_s = np.array([0.0, 0.1, 0.3, 0.4])
    values = time_s[:, None, None] * np.ones((4, 2, 1))
    at = np.array([[-1.0, 0.05, 0.2, 0.4, 9.0]])
    assert np.allclose(sample_windows(values, time_s, at)[0, :, 0, 0], [0, 0.05, 0.2, 0.4, 0.4])
    values[2] = np.nan
    read = sample_windows(values, time_s, np.array([[0.15, 0.28, 0.31, 0.39]]))[0, :, 0, 0]
    assert np.allclose(read, [0.1, np.nan, np.nan, 0.4], equal_nan=True)
    assert sample_windows(values[:1], time_s[:1], at).shape == (1, 5, 2, 1)
