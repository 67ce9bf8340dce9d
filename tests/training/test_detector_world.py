"""MediaPipe's world landmarks of whoever a track follows, on a real clip."""

from dataclasses import replace

import numpy as np
import pytest

from footage_samples import full_model, real_clip
from keylift.core.detection import detect_people
from keylift.core.errors import DetectorError
from keylift.core.footage import open_footage
from keylift.core.skeletons import MEDIAPIPE_33_NAMES
from keylift.training.shots.detector_world import detector_world_landmarks


@pytest.fixture(scope="module")
def followed():
    footage = open_footage(real_clip("cam03.mp4"))
    return footage, detect_people(footage, model=full_model(), first=10, last=29)[0]


def test_the_body_stands_in_camera_axes(followed):
    footage, track = followed
    elsewhere = track.xy_px.copy()
    elsewhere[12:] += 700.0
    world_m = detector_world_landmarks(footage.frames(10, 29), replace(track, xy_px=elsewhere), full_model())
    assert world_m.shape == (20, 33, 3)
    # Whom the landmarker sees is not whom that track follows from there on.
    assert np.isfinite(world_m[:12]).all() and np.isnan(world_m[12:]).all()

    def at(name):
        return world_m[:12, MEDIAPIPE_33_NAMES.index(name)]

    assert np.abs((at("left_hip") + at("right_hip")) / 2).max() < 0.05
    assert (at("left_ankle")[:, 1] > 0.5).all() and (at("nose")[:, 1] < -0.3).all()
    # Seen from behind: the person's left is on the picture's left, and the nose is further away than the ears.
    assert (at("left_shoulder")[:, 0] < at("right_shoulder")[:, 0]).all()
    thigh_m = np.linalg.norm(at("left_hip") - at("left_knee"), axis=-1)
    assert thigh_m.min() > 0.25 and thigh_m.max() < 0.6


def test_a_bundle_that_is_none_is_told(followed, tmp_path):
    footage, track = followed
    (tmp_path / "full.task").write_bytes(b"PK nothing")
    with pytest.raises(DetectorError, match="can't be used"):
        detector_world_landmarks(footage.frames(10, 11), track, tmp_path / "full.task")
    with pytest.raises(DetectorError, match="can't be read"):
        detector_world_landmarks(footage.frames(10, 11), track, tmp_path / "none.task")
