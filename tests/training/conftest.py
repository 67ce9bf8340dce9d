"""Motion of a walker, as the trainer reads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keylift.core.skeletons import LANDMARKS_41
from keylift.training.motion_data import MotionSet, read_motion
from walker import walk


def write_motion(path: Path, frames: int = 240) -> None:
    """Two walks in different directions as a landmark set."""
    clips = [walk(frames, 60.0, heading) for heading in (0.0, 1.0)]
    positions = np.concatenate([clip.positions_m for clip in clips])
    positions[..., 1] -= positions[..., 1].min()
    np.savez(
        path,
        positions_q=np.round(positions / 0.0005).astype(np.int16),
        position_quantum_m=0.0005,
        clip_start=np.array([0, frames, 2 * frames]),
        clip_name=np.array(["a", "b"]),
        clip_subject=np.array(["s1", "s2"]),
        clip_source=np.array(["walker", "other"]),
        fps=60.0,
        joint_names=np.array(LANDMARKS_41.names),
    )


@pytest.fixture(scope="session")
def walking_motion(tmp_path_factory: pytest.TempPathFactory) -> MotionSet:
    path = tmp_path_factory.mktemp("motion") / "walk.npz"
    write_motion(path)
    return read_motion(path)
