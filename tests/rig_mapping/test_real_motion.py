"""Motion of many kinds onto five rigs: no joint jumps unless the person's does, and standing feet stay."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.camera import Camera
from keylift.core.rotations import angle_between_rad
from keylift.core.segments import SEGMENT_JOINTS, SEGMENT_NAMES, SEGMENT_PARENTS, joint_rotations, segment_rotations
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_body
from keylift.rig_mapping.solve import solve
from keylift.training.motion.anchor import read_anchor
from keylift.training.motion.motion_set import MotionSet
from rig_samples import empty_scene, make_rig

RIGS = ("rigify_metarig", "default", "game_engine", "cmu_mb", "mixamo")
BVH_SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "bvh_samples"
# A joint that turns by more in a frame has flipped, unless the person's did.
FLIP_DEG = 25.0
# Where the person's own joint turns so fast, the rig's may do so a little more: legs are solved on other proportions,
# and bones that share a turn take it from their neighbours too.
PERSONS_SHARE = 1.25


@pytest.fixture(scope="module")
def rigs() -> dict[str, RestPose]:
    found = {}
    for name in RIGS:
        empty_scene()
        found[name] = read_rest_pose(make_rig(name))
    return found


def poses(motion: MotionSet, clips: Iterator[int] | range) -> Iterator[tuple[str, PoseTrack]]:
    """Clips as poses, seen by a camera that stands in the world's own axes."""
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = [[1, 0, 0], [0, 0, -1], [0, 1, 0]]
    for clip in clips:
        span = slice(motion.clip_start[clip], motion.clip_start[clip + 1])
        positions = motion.positions_m[span].astype(float)
        yield (
            str(motion.clip_name[clip]),
            PoseTrack(
                positions_m=positions,
                rotations_wxyz=joint_rotations(segment_rotations(positions)),
                confidence=np.ones(positions.shape[:2]),
                contact=motion.contact[span].astype(float),
                world_from_camera=world_from_camera,
                time_s=np.arange(len(positions)) / motion.fps,
                frame_index=np.arange(len(positions)),
                fps=motion.fps,
                camera=Camera.guessed((1280, 720)),
                skeleton=LANDMARKS_41,
            ),
        )


def flips(pose: PoseTrack, rest: RestPose) -> list[str]:
    """Bones that turn against their parent by more than they should, and by how much."""
    bone_map = recognise(rest)
    body = rig_body(rest, bone_map)
    motion = solve(pose, rest, bone_map)
    person = pose.rotations_wxyz[:, list(SEGMENT_JOINTS)]
    persons = np.degrees(angle_between_rad(person[1:], person[:-1]))
    turned = np.degrees(angle_between_rad(motion.rotations_wxyz[1:], motion.rotations_wxyz[:-1]))
    found = []
    for segment, chain in body.chains.items():
        index = SEGMENT_NAMES.index(segment)
        near = [index, *(child for child, parent in enumerate(SEGMENT_PARENTS) if parent == index)]
        near += [SEGMENT_PARENTS[index]] if SEGMENT_PARENTS[index] >= 0 else []
        allowed = np.maximum(FLIP_DEG, PERSONS_SHARE * persons[:, near].max(axis=1) + 5.0)
        for bone in chain:
            over = turned[:, motion.keyed.index(bone)] - allowed
            if over.max() > 0:
                frame = int(over.argmax())
                found.append(f"{rest.names[bone]} turns {turned[frame, motion.keyed.index(bone)]:.0f} deg at {frame}")
    return found


def test_pieces_of_mocap_do_not_flip(rigs: dict[str, RestPose]) -> None:
    """Every twentieth piece of the motion that is shipped: walks, jumps, dances, floor moves."""
    motion = read_anchor()
    clips = range(0, len(motion.clip_lengths), 20)
    for name, pose in poses(motion, clips):
        for rig, rest in rigs.items():
            assert not flips(pose, rest), (name, rig)


@pytest.mark.slow
@pytest.mark.skipif(not BVH_SAMPLES.is_dir(), reason="the BVH samples are not at hand")
def test_forty_bvh_files_do_not_flip(rigs: dict[str, RestPose], tmp_path: Path) -> None:
    """Each clip on one of the rigs in turn; on all five when KEYLIFT_ALL_RIGS is set."""
    from keylift.training.motion.files import read_motion_from

    files = sorted(BVH_SAMPLES.glob("*.bvh"))
    assert len(files) >= 40
    flipped = {}
    for kind in sorted({path.name.partition("_")[0] for path in files}):
        folder = tmp_path / kind
        folder.mkdir()
        for path in files:
            if path.name.startswith(f"{kind}_"):
                (folder / path.name).write_bytes(path.read_bytes())
        motion = read_motion_from(folder)
        for index, (name, pose) in enumerate(poses(motion, range(len(motion.clip_lengths)))):
            for rig in RIGS if os.environ.get("KEYLIFT_ALL_RIGS") else (RIGS[index % len(RIGS)],):
                rest = rigs[rig]
                if found := flips(pose, rest):
                    flipped[name, rig] = found
    assert not flipped
