"""A skeleton of the person's own size does exactly what the person does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.segments import SEGMENTS
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.track_files import read_pose
from keylift.rig_mapping.bone_motion import fk
from keylift.rig_mapping.bvh_writing import write_motion_bvh
from keylift.rig_mapping.own_skeleton import own_skeleton
from keylift.rig_mapping.solve import RetargetOptions, solve
from keylift.training.motion.bvh_reader import read_bvh
from walker import camera_from_world, filmed, walk

GOLDEN = Path(__file__).parents[1] / "golden" / "cam03.pose.npz"


def test_its_joints_are_the_persons() -> None:
    for pose in (read_pose(GOLDEN), filmed(walk(30), Camera.guessed((1280, 720)), camera_from_world())[0]):
        rest, bone_map = own_skeleton(pose)
        motion = solve(pose, rest, bone_map, RetargetOptions(plant_feet=False))
        assert motion.world_scale == pytest.approx(1.0, abs=1e-3)
        heads = fk(rest, motion)[..., :3, 3]
        wanted = pose.positions_world_m()[:, [LANDMARKS_41.index(segment.joint) for segment in SEGMENTS]]
        off = heads - wanted
        off[..., 2] -= np.median(off[..., 2])  # how high it stands is told by where the soles are on the floor
        assert np.linalg.norm(off, axis=-1).max() < 0.01


def test_it_becomes_a_bvh_without_blender(tmp_path: Path) -> None:
    pose = read_pose(GOLDEN)
    rest, bone_map = own_skeleton(pose)
    motion = solve(pose, rest, bone_map)
    path = tmp_path / "take.bvh"
    write_motion_bvh(path, rest, motion)
    read = read_bvh(path)
    assert read.fps == pytest.approx(pose.fps, rel=1e-5)
    assert set(rest.names) <= set(read.names)
    heads = fk(rest, motion)[..., :3, 3] @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]).T
    positions, _ = read.world(slice(None))
    for name in rest.names:
        assert np.abs(positions[:, read.names.index(name)] - heads[:, rest.names.index(name)]).max() < 1e-4, name
