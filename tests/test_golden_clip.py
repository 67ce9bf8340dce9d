"""The demo clip from footage to keyframes, held against what can be seen in it and against the take made before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keylift.core.detector_sites import detector_sites
from keylift.core.lifter.ray_windows import lifter_points
from keylift.core.metrics import mpjpe, p_mpjpe
from keylift.core.rotations import inverse, multiply, rotate, to_rotation_vector
from keylift.core.segments import SEGMENT_NAMES, segments_from_joint_rotations
from keylift.core.skeletons import LANDMARKS_41, LIFTER_21_NAMES
from keylift.core.track_files import read_keypoints, read_pose
from shell_runs import clip, keylift

pytestmark = pytest.mark.slow
GOLDEN = Path(__file__).parent / "golden" / "cam03.pose.npz"
FEET = LANDMARKS_41.indices("l_heel", "l_toe_base", "r_heel", "r_toe_base")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("bpy")
    folder = tmp_path_factory.mktemp("golden")
    run = keylift("capture", clip("cam03.mp4"), "-o", "take.blend", "--keep", "kept", cwd=folder)
    assert run.code == 0, run.err
    return folder


@pytest.fixture(scope="module")
def pose(folder):
    return read_pose(folder / "kept" / "cam03.pose.npz")


@pytest.fixture(scope="module")
def keypoints(folder):
    return read_keypoints(folder / "kept" / "cam03.keypoints.npz")


def _box_px(points_px):
    """(F,) longer side of the box round (F, K, 2)."""
    return (points_px.max(axis=1) - points_px.min(axis=1)).max(axis=-1)


def test_every_frame_has_a_pose(pose):
    assert pose.frame_index.tolist() == list(range(100))
    assert (pose.confidence.mean(axis=1) > 0.2).all()
    # 60 frames a second in the footage, and in the take.
    assert np.allclose(np.diff(pose.time_s), 1 / 60, atol=1e-4)


def test_the_person_stands_on_the_floor_the_right_way_up(pose):
    world = pose.positions_world_m()
    standing = pose.contact > 0.5
    assert standing.mean() > 0.15
    assert np.percentile(np.abs(world[:, FEET, 2][standing] - 0.04), 90) < 0.08
    assert world[..., 2].min() > -0.12
    up = world[:, LANDMARKS_41.index("head_top"), 2]
    assert (up > 1.0).all() and 1.3 < np.median(up) < 1.9


def test_knees_and_elbows_bend_the_right_way(pose):
    turns = segments_from_joint_rotations(pose.rotations_wxyz)
    at = SEGMENT_NAMES.index
    for side, elbow_axis in (("l", [0.0, -1.0, 0.0]), ("r", [0.0, 1.0, 0.0])):
        for upper, lower, axis in (("thigh", "shank", [1.0, 0.0, 0.0]), ("upperarm", "forearm", elbow_axis)):
            between = multiply(inverse(turns[:, at(f"{side}_{upper}")]), turns[:, at(f"{side}_{lower}")])
            bend = np.degrees(to_rotation_vector(between) @ np.array(axis))
            assert bend.min() > -15 and bend.max() > 15, (side, lower, bend.min(), bend.max())
        # A knee points where its foot points, within what a hip and an ankle allow.
        ahead = np.array([0.0, 0.0, 1.0])
        knee, foot = (rotate(turns[:, at(f"{side}_{name}")], ahead) for name in ("shank", "foot"))
        assert (np.sum(knee * foot, axis=-1) > 0).mean() > 0.9


def test_the_figure_covers_the_person(pose, keypoints):
    seen_px, confidence = lifter_points(keypoints)
    off = np.linalg.norm(pose.camera.project(detector_sites(pose.positions_m)) - seen_px, axis=-1)
    share = off / _box_px(seen_px)[:, None]
    assert np.median(share[confidence > 0.5]) < 0.03
    assert np.percentile(share[confidence > 0.5], 95) < 0.10


def test_the_rig_covers_the_person_through_blenders_own_camera(folder, keypoints):
    import bpy
    from bpy_extras.object_utils import world_to_camera_view

    bpy.ops.wm.open_mainfile(filepath=str(folder / "take.blend"))
    scene = bpy.context.scene
    assert (scene.render.resolution_x, scene.render.resolution_y) == keypoints.size_px
    assert (scene.frame_start, scene.frame_end) == (1, 100)
    assert scene.camera.data.show_background_images
    (armature,) = (item for item in scene.objects if item.type == "ARMATURE")
    bones = {"shoulder": "upper_arm", "wrist": "hand", "hip": "thigh", "knee": "shin", "ankle": "foot"}
    seen_px, _ = lifter_points(keypoints)
    box = _box_px(seen_px)
    off = []
    for frame in range(0, 100, 7):
        scene.frame_set(frame + 1)
        evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        for side in ("l", "r"):
            for point, bone in bones.items():
                at = evaluated.matrix_world @ evaluated.pose.bones[f"{bone}.{side.upper()}"].head
                view = world_to_camera_view(scene, scene.camera, at)
                at_px = np.array([view.x, 1 - view.y]) * keypoints.size_px
                index = LIFTER_21_NAMES.index(f"{side}_{point}")
                off.append(np.linalg.norm(at_px - seen_px[frame, index]) / box[frame])
    # The rig has its own proportions and turns exactly as the person does, so it covers the person roughly.
    assert np.median(off) < 0.06 and np.percentile(off, 95) < 0.16, np.percentile(off, [50, 95, 100])


def test_the_take_is_the_one_made_before(pose):
    """A change here is a change of what users get: look at the preview, then renew the golden file on purpose."""
    golden = read_pose(GOLDEN)
    body, golden_body = (track.positions_m - track.positions_m[:, :1] for track in (pose, golden))
    assert p_mpjpe(body, golden_body) < 0.008
    assert mpjpe(pose.positions_world_m()[:, :1], golden.positions_world_m()[:, :1]) < 0.04
