"""Motion of a walker, as the trainer reads it."""

from __future__ import annotations

import pytest

from keylift.training.motion.motion_set import MotionSet, read_motion
from training_runs import write_motion


@pytest.fixture(scope="session")
def walking_motion(tmp_path_factory: pytest.TempPathFactory) -> MotionSet:
    path = tmp_path_factory.mktemp("motion") / "walk.npz"
    write_motion(path)
    return read_motion(path)
