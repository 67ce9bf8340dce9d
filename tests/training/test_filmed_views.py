"""Several cameras around the walker: calibrations, triangulation, and the shots that come of them."""

from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.errors import FileFormatError
from keylift.core.rotations import from_matrix, from_rotation_vector, to_matrix, to_rotation_vector
from keylift.core.skeletons import LANDMARKS_41, MEDIAPIPE_33_NAMES
from keylift.core.tracks import KeypointTrack
from keylift.training.shots import filmed_views
from keylift.training.shots.filmed_views import (
    FilmedView,
    StandingCamera,
    read_calibration,
    shots_of_views,
    smoothed_points,
    triangulate,
    with_refined_turns,
)
from walker import walk

LENS = Camera((1080, 1920), (1680.0, 1680.0), (535.0, 950.0), (-0.05, 0.13, 0.001, 0.0, 0.0))


def standing_camera(name, angle_deg, distance_m=4.0, roll_deg=0.0):
    """A camera 1.6 m above the floor that looks at the height of the hips, from ``angle_deg`` around."""
    angle = np.radians(angle_deg)
    stands = np.array([distance_m * np.sin(angle), -distance_m * np.cos(angle), 1.6])
    ahead = np.array([0.0, 0.0, 0.9]) - stands
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    turn = np.stack([right, np.cross(ahead, right), ahead])
    turn = to_matrix(from_rotation_vector(np.radians([0.0, 0.0, roll_deg]))) @ turn
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, -turn @ stands
    return StandingCamera(name, LENS, matrix)


@pytest.fixture(scope="module")
def scene():
    """Four cameras, the walker's points of ``mediapipe33`` in their z-up world (40, 33, 3), and perfect tracks."""
    motion = walk(40)
    world_m = motion.positions_m[..., [0, 2, 1]] * np.array([1.0, -1.0, 1.0])
    world_m[..., :2] -= world_m[:, :1, :2].mean(axis=0)
    points = np.full((40, 33, 3), np.nan)
    points[:, filmed_views._PLACES] = world_m[:, filmed_views._LANDMARKS]
    cameras = [
        standing_camera(f"c{n}", angle, roll_deg=roll)
        for n, angle, roll in zip("1234", (-30, 35, 140, 215), (9, 0, -5, 12), strict=True)
    ]
    return cameras, points, [filmed(camera, points, motion.time_s) for camera in cameras]


def filmed(camera, points_m, time_s):
    xy = camera.camera.project(camera.to_camera(points_m))
    return KeypointTrack(
        xy_px=xy,
        confidence=np.isfinite(xy).all(axis=-1).astype(float),
        time_s=time_s,
        frame_index=np.arange(len(time_s)),
        layout="mediapipe33",
        size_px=camera.camera.size_px,
        filled=np.zeros(len(time_s), bool),
    )


def places(points_m):
    return points_m[:, filmed_views._PLACES]


def test_what_all_see_is_where_it_is(scene):
    cameras, points_m, tracks = scene
    found = triangulate(cameras, tracks)
    assert np.abs(found.points_m - places(points_m)).max() < 1e-4
    assert found.used.all() and found.off_px.max() < 0.1


def test_liars_exchanges_and_the_blind_are_not_believed(scene):
    cameras, points_m, tracks = scene
    wrist, hip = MEDIAPIPE_33_NAMES.index("left_wrist"), MEDIAPIPE_33_NAMES.index("left_hip")
    xy = [track.xy_px.copy() for track in tracks]
    confidence = [track.confidence.copy() for track in tracks]
    xy[0][5:15, wrist] += 150.0
    # A whole body exchanged in one view, for half of the clip.
    order = np.arange(33)
    for left in range(1, 33):
        name = MEDIAPIPE_33_NAMES[left]
        if name.startswith("left_"):
            right = MEDIAPIPE_33_NAMES.index(name.replace("left_", "right_"))
            order[[left, right]] = right, left
    xy[1][:20], confidence[1][:20] = xy[1][:20, order], confidence[1][:20, order]
    for view in (1, 2, 3):
        xy[view][30, hip], confidence[view][30, hip] = np.nan, 0.0
    spoilt = [replace(t, xy_px=x, confidence=c) for t, x, c in zip(tracks, xy, confidence, strict=True)]
    found = triangulate(cameras, spoilt)
    wrist_place, hip_place = (filmed_views._PLACES.index(point) for point in (wrist, hip))
    assert not found.used[0, 5:15, wrist_place].any() and found.used[1:, 5:15, wrist_place].all()
    # One view alone tells no depth.
    assert np.isnan(found.points_m[30, hip_place]).all()
    off = np.linalg.norm(found.points_m - places(points_m), axis=-1)
    off[30, hip_place] = 0
    assert off.max() < 1e-3


def test_a_tripod_that_was_touched_is_put_right(scene):
    cameras, points_m, tracks = scene
    touched = [
        camera.turned(np.radians(by))
        for camera, by in zip(cameras, ([0.5, -0.8, 0.3], [0, 0.4, 1.2], [-0.6, 0.2, 0], [0.1, 0, -1.0]), strict=True)
    ]
    worse = triangulate(touched, tracks)
    refined, turned_deg = with_refined_turns(touched, tracks)
    better = triangulate(refined, tracks)
    assert np.nanmedian(worse.off_px) > 5 > 0.5 > np.nanmedian(better.off_px)
    assert 0.3 < turned_deg.max() < 2
    # Not the room's axes, but the cameras among each other are right again.
    for ours, true in zip(refined, cameras, strict=True):
        difference = ours.camera_from_world[:3, :3] @ true.camera_from_world[:3, :3].T
        assert np.degrees(np.linalg.norm(to_rotation_vector(from_matrix(difference)))) < 0.5
    lengths = [np.linalg.norm(p[:, 1:] - p[:, :-1], axis=-1) for p in (better.points_m, places(points_m))]
    assert np.abs(lengths[0] - lengths[1]).max() < 0.01


def test_smoothing_keeps_motion_and_takes_noise_out():
    time_s = np.arange(120) / 60
    clean = np.stack([0.3 * np.sin(2 * np.pi * 1.5 * time_s), 0 * time_s, time_s], axis=-1)[:, None]
    noisy = clean + np.random.default_rng(0).normal(0, 0.01, clean.shape)
    noisy[50:53], noisy[80:100] = np.nan, np.nan
    found = smoothed_points(noisy, time_s)
    assert np.isfinite(found[50:53]).all() and np.isnan(found[85:95]).all()
    known = np.isfinite(found)
    assert np.abs(smoothed_points(clean, time_s) - clean)[3:-3].max() < 0.003
    assert np.std((found - clean)[known]) < 0.006
    assert smoothed_points(noisy[:3], time_s[:3]).shape == (3, 1, 3)


def test_every_view_becomes_a_shot(scene):
    cameras, points_m, tracks = scene
    views = [FilmedView(camera.name, {"heavy": track}, {}) for camera, track in zip(cameras, tracks, strict=True)]
    shots, report = shots_of_views(views, cameras, "heavy", "made up")
    assert [shot.name for shot in shots] == ["c1", "c2", "c3", "c4"]
    assert report["off_px"] < 0.5 and report["points_known"] == 1
    knee = LANDMARKS_41.index("l_knee")
    for shot, camera in zip(shots, cameras, strict=True):
        true_m = camera.to_camera(points_m[:, MEDIAPIPE_33_NAMES.index("left_knee")])
        assert np.abs(shot.truth_m[:, knee] - true_m).max() < 0.02
        assert np.isnan(shot.truth_m[:, LANDMARKS_41.index("pelvis")]).all()
        assert shot.world_from_camera[2, :3] == pytest.approx(camera.camera_from_world[:3, 2], abs=0.01)


def test_views_of_other_frames_are_refused(scene):
    cameras, _, tracks = scene
    late = replace(tracks[1], time_s=tracks[1].time_s + 0.1)
    with pytest.raises(FileFormatError, match="same frames"):
        triangulate(cameras[:2], [tracks[0], late])
    with pytest.raises(FileFormatError, match="two views"):
        triangulate(cameras[:1], tracks[:1])


def qualisys(cameras):
    """What Qualisys would write: the axes of a camera are x right, y up, z backwards; 64 units are a pixel."""
    rows = []
    for camera in cameras:
        turn = np.diag([1.0, -1.0, -1.0]) @ camera.camera_from_world[:3, :3]
        x, y, z = -1000 * camera.camera_from_world[:3, :3].T @ camera.camera_from_world[:3, 3]
        numbers = (
            " ".join(f'r{i + 1}{j + 1}="{turn[i, j]!r}"' for i in range(3) for j in range(3))
            .replace("np.float64(", "")
            .replace(")", "")
        )
        (fx, fy), (cx, cy), (k1, k2, p1, p2, k3) = (
            camera.camera.focal_px,
            camera.camera.centre_px,
            camera.camera.distortion,
        )
        rows.append(
            f'<camera serial="{camera.name}"><fov_video bottom="1919" left="0" right="1079" top="0"/>'
            f'<transform {numbers} x="{x}" y="{y}" z="{z}"/><intrinsic focalLengthU="{64 * fx}" '
            f'focalLengthV="{64 * fy}" centerPointU="{64 * cx}" centerPointV="{64 * cy}" radialDistortion1="{k1}" '
            f'radialDistortion2="{k2}" radialDistortion3="{k3}" tangentalDistortion1="{p1}" '
            f'tangentalDistortion2="{p2}"/></camera>'
        )
    return f"<calibration><cameras>{''.join(rows)}</cameras></calibration>"


def pose2sim(cameras):
    """What Pose2Sim would write."""
    tables = []
    for camera in cameras:
        (fx, fy), (cx, cy) = camera.camera.focal_px, camera.camera.centre_px
        vector = to_rotation_vector(from_matrix(camera.camera_from_world[:3, :3]))
        tables.append(
            f'[{camera.name}]\nname = "{camera.name}"\nsize = [1080.0, 1920.0]\n'
            f"matrix = [[{fx}, 0.0, {cx}], [0.0, {fy}, {cy}], [0.0, 0.0, 1.0]]\n"
            f"distortions = {[float(value) for value in camera.camera.distortion[:4]]}\n"
            f"rotation = {[float(value) for value in vector]}\n"
            f"translation = {[float(value) for value in camera.camera_from_world[:3, 3]]}\nfisheye = false\n"
        )
    return "".join(tables) + "[metadata]\nadjusted = false\nerror = 0.0\n"


@pytest.mark.parametrize(("name", "write"), [("Calib.qca.txt", qualisys), ("Calib.toml", pose2sim)])
def test_calibrations_come_back(tmp_path, scene, name, write):
    cameras, _, _ = scene
    (tmp_path / name).write_text(write(cameras))
    found = read_calibration(tmp_path / name)
    assert [camera.name for camera in found] == ["c1", "c2", "c3", "c4"]
    for ours, true in zip(found, cameras, strict=True):
        assert np.allclose(ours.camera_from_world, true.camera_from_world, atol=1e-6)
        assert ours.camera.size_px == true.camera.size_px and ours.camera.focal_px == pytest.approx(
            true.camera.focal_px
        )
        assert ours.camera.distortion == pytest.approx(true.camera.distortion)


def test_what_is_no_calibration_is_told(tmp_path, scene):
    whole = qualisys(scene[0])
    for content, said in (
        ("nothing", "can't be read"),
        (whole[: len(whole) // 2], "can't be read"),
        (whole.replace("transform", "elsewhere"), "lacks 'transform'"),
        (whole.replace("focalLengthU", "focus"), "lacks 'focalLengthU'"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + whole, "entities"),
        ("<calibration><cameras/></calibration>", "0 cameras"),
    ):
        (tmp_path / "a.qca.txt").write_text(content)
        with pytest.raises(FileFormatError, match=said):
            read_calibration(tmp_path / "a.qca.txt")
    with pytest.raises(FileFormatError, match="no calibration"):
        read_calibration(tmp_path / "nowhere.toml")
    (tmp_path / "a.toml").write_text("[c1]\nmatrix = 3\nsize = [1, 1]\n")
    with pytest.raises(FileFormatError, match="can't be read"):
        read_calibration(tmp_path / "a.toml")
