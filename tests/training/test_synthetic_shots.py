"""Shots made of motion: in the picture, on the floor, seen as badly as wanted."""

from dataclasses import fields

import numpy as np
import pytest

from keylift.core.detector_sites import detector_sites
from keylift.core.segments import SEGMENT_NAMES
from keylift.core.skeletons import LANDMARKS_41
from keylift.training.shots.synthetic_shots import FPS, SIZE_PX, SYNTHETIC_MODEL, make_synthetic_shots
from keylift.training.views.detector_noise import NoiseSettings

PERFECT = NoiseSettings(**{setting.name: 0.0 for setting in fields(NoiseSettings)})


@pytest.fixture(scope="module")
def perfect(walking_motion):
    return make_synthetic_shots(walking_motion, 2, 3, PERFECT)


def test_people_take_turns_and_clips_are_at_the_lifters_rate(perfect, walking_motion):
    assert [shot.name for shot in perfect] == ["clip-01", "clip-02"]
    assert {shot.source for shot in perfect} == {"walker, a", "other, b"}
    for shot in perfect:
        assert shot.fps == FPS and np.allclose(np.diff(shot.time_s), 1 / 30) and len(shot.time_s) == 100
    assert len(make_synthetic_shots(walking_motion, 9, 3, PERFECT)) == 2


def test_the_whole_path_is_in_the_picture(perfect):
    for shot in perfect:
        xy = shot.camera.project(shot.truth_m)
        assert (xy >= 0).all() and (xy <= np.array(SIZE_PX)).all()
        assert np.ptp(xy[..., 1], axis=1).min() > 80
        seen = shot.keypoints[SYNTHETIC_MODEL].xy_px
        assert np.abs(seen - shot.camera.project(detector_sites(shot.truth_m))).max() < 0.1


def test_the_floor_is_where_the_motion_had_it(perfect):
    for shot in perfect:
        world_m = shot.truth_m @ shot.world_from_camera[:3, :3].T + shot.world_from_camera[:3, 3]
        assert abs(world_m[..., 2].min()) < 0.01
        assert (world_m[:, LANDMARKS_41.index("head")] - world_m[:, 0])[:, 2].min() > 0.4
        # Feet that stand don't move, whatever the camera.
        stands = shot.truth_contact[1:, 0] * shot.truth_contact[:-1, 0] > 0
        heel = world_m[:, LANDMARKS_41.index("l_heel")]
        assert np.linalg.norm(np.diff(heel, axis=0), axis=-1)[stands].max() < 0.02
        assert np.allclose(np.linalg.norm(shot.truth_rotations_wxyz, axis=-1), 1)
        assert shot.truth_rotations_wxyz.shape[1] == len(SEGMENT_NAMES)


def test_cameras_stand_all_around_and_are_held_nearly_upright(walking_motion):
    shots = [make_synthetic_shots(walking_motion, 1, seed, PERFECT)[0] for seed in range(20)]
    # Up in the room is up in the picture, give or take a tilt; the person is seen from all sides.
    assert max(shot.world_from_camera[2, 1] for shot in shots) < -0.7
    ahead = np.array([shot.world_from_camera[:2, 2] for shot in shots])
    assert np.linalg.norm(ahead.mean(axis=0)) < 0.6


def test_the_detector_is_as_bad_as_wanted_and_alike_for_a_seed(walking_motion, perfect):
    def error_px(shots):
        return np.mean(
            [
                np.nanmedian(np.abs(shot.keypoints[SYNTHETIC_MODEL].xy_px - true.keypoints[SYNTHETIC_MODEL].xy_px))
                for shot, true in zip(shots, perfect, strict=True)
            ]
        )

    once, again, worse = (make_synthetic_shots(walking_motion, 2, 3, NoiseSettings(scale)) for scale in (1, 1, 3))
    assert np.array_equal(once[1].keypoints[SYNTHETIC_MODEL].xy_px, again[1].keypoints[SYNTHETIC_MODEL].xy_px, True)
    assert 0.3 < error_px(once) < error_px(worse)
