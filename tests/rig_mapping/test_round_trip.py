"""Known turns of a body -> the rig takes them up -> its joints as a pose -> solve -> the same joints and bones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.segments import T_POSE_M, joint_rotations, segment_rotations
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_map import load_bone_map
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_landmarks
from keylift.rig_mapping.solve import RetargetOptions, solve
from rig_samples import LIMB_SEGMENTS, PRESET_OF, Performance, empty_scene, make_rig, plausible_turns

FRAMES = 12


@pytest.fixture(params=list(PRESET_OF))
def rig(request: pytest.FixtureRequest) -> tuple[RestPose, str]:
    """A rest pose and the name of its preset."""
    empty_scene()
    return read_rest_pose(make_rig(request.param)), PRESET_OF[request.param]


def path_m() -> np.ndarray:
    return np.random.default_rng(5).normal([0.3, 1.0, 1.0], 0.3, (FRAMES, 3))


def largest_angle_deg(a: np.ndarray, b: np.ndarray) -> float:
    """Between (..., 3, 3) rotations; precise for small angles, which an arc cosine is not."""
    return float(np.degrees(2 * np.arcsin(np.linalg.norm(a - b, axis=(-2, -1)).max() / np.sqrt(8))))


def misses(performance: Performance, motion: BoneMotion, *, on_the_floor: bool = False) -> tuple[float, float]:
    """Largest distance of a joint in metres, and largest angle of a mapped bone in degrees.

    Where the floor lies is for the rig's soles to say, so unless the performance is on the floor, a height that all
    joints share in all frames is left out.
    """
    rest = performance.rest
    posed = rest.world_from_armature @ fk(rest, motion)
    mapped = [rest.names.index(bone) for chain in performance.chains.values() for bone in chain]
    off = posed[..., :3, 3] - performance.heads
    moving = [bone for bone in range(len(rest)) if motion.root_bone in rest.ancestors(bone)]
    off = off[:, moving]
    if not on_the_floor:
        off[..., 2] -= np.median(off[..., 2])
    turned = posed[:, mapped, :3, :3] / rest.scale
    return float(np.linalg.norm(off, axis=-1).max()), largest_angle_deg(turned, performance.turned[:, mapped])


def with_turns(pose: PoseTrack, turns_in_camera: np.ndarray) -> PoseTrack:
    return replace(pose, rotations_wxyz=joint_rotations(turns_in_camera))


def test_from_rotations(rig: tuple[RestPose, str]) -> None:
    rest, preset = rig
    performance = Performance(rest, preset, plausible_turns(FRAMES, seed=1), path_m())
    motion = solve(performance.pose, rest, recognise(rest))
    assert motion.bone_map == preset
    assert motion.world_scale == pytest.approx(1.0, abs=1e-4)  # a thigh in halves is a little shorter while it twists
    distance, angle = misses(performance, motion)
    assert distance < 1e-4
    assert angle < 0.01


def test_soles_on_the_floor_stay_at_their_height(rig: tuple[RestPose, str]) -> None:
    """Stands on the floor, then does as it likes: every joint comes back at its own height, nothing left out."""
    rest, preset = rig
    stands = 3
    turns = plausible_turns(FRAMES, seed=6)
    turns[:stands] = (1.0, 0.0, 0.0, 0.0)
    chains = load_bone_map(preset).bound_to(rest).bones
    ankles = [rest.names.index(chains[f"{side}_foot"][0]) for side in "lr"]
    # A rig modelled round its middle has its floor at its lowest bone; one on the ground has it at zero.
    below = [bone for bone in range(len(rest)) if set(rest.ancestors(bone)) & set(ankles)]
    floor = min(float(np.minimum(rest.heads, rest.tails)[below, 2].min()), 0.0)
    ankles_above_m = (rest.heads[ankles, 2] - floor).mean() * rest.scale
    path = path_m()
    path[:stands] = path[0]
    aloft = Performance(rest, preset, turns, path).heads[0, ankles, 2].mean()
    path[:, 2] += ankles_above_m - aloft
    performance = Performance(rest, preset, turns, path)
    contact = np.zeros((FRAMES, 4))
    contact[:stands] = 1.0
    as_it_moves = RetargetOptions(plant_feet=False)
    motion = solve(replace(performance.pose, contact=contact), rest, recognise(rest), as_it_moves)
    distance, angle = misses(performance, motion, on_the_floor=True)
    assert distance < 5e-4
    assert angle < 0.01


def test_from_positions_alone(rig: tuple[RestPose, str]) -> None:
    rest, preset = rig
    bone_map = load_bone_map(preset)
    template = rig_landmarks(rest, bone_map)
    # What positions can't tell (how a straight back is twisted) is settled once, the way segment_rotations sees it.
    first = Performance(rest, preset, plausible_turns(FRAMES, seed=2), path_m())
    seen = segment_rotations(first.pose.positions_world_m() @ world_to_body(), template)
    performance = Performance(rest, preset, seen, path_m())

    read = segment_rotations(performance.pose.positions_m, template)
    motion = solve(with_turns(performance.pose, read), rest, bone_map)
    distance, angle = misses(performance, motion)
    if any(len(performance.chains[segment]) > 1 for segment in ("pelvis", "chest")):
        # How a spine of many bones bends between the landmarks is not in them: its joints are off by this much.
        assert distance < 0.05
    else:
        assert distance < 1e-3
        assert angle < 0.1
    found = (rest.world_from_armature @ fk(rest, motion))[..., :3, 3]
    for start, end in limb_joints(rest, performance.chains):
        limb, known = found[:, end] - found[:, start], performance.heads[:, end] - performance.heads[:, start]
        cross = np.linalg.norm(np.cross(limb, known), axis=-1)
        assert np.degrees(np.arctan2(cross, np.sum(limb * known, axis=-1))).max() < 0.1


def limb_joints(rest: RestPose, chains: dict[str, tuple[str, ...]]) -> list[tuple[int, int]]:
    """For each limb segment, the bone that starts it and the one that starts where it ends."""
    following = {"upperarm": "forearm", "forearm": "hand", "thigh": "shank", "shank": "foot"}
    pairs = []
    for segment in LIMB_SEGMENTS:
        side, _, part = segment.name.partition("_")
        pairs.append(tuple(rest.names.index(chains[name][0]) for name in (segment.name, f"{side}_{following[part]}")))
    return pairs


def world_to_body() -> np.ndarray:
    """(3, 3) to be multiplied from the right: z-up world positions in T-pose axes, facing -y."""
    return np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def test_limbs_point_as_the_persons_do_on_every_rest_pose(rig: tuple[RestPose, str]) -> None:
    rest, preset = rig
    pose = person(plausible_turns(FRAMES, seed=3))
    motion = solve(pose, rest, recognise(rest))
    heads = (rest.world_from_armature @ fk(rest, motion))[..., :3, 3]
    chains = load_bone_map(preset).bound_to(rest).bones
    truth = pose.positions_world_m()
    for segment, (start, end) in zip(LIMB_SEGMENTS, limb_joints(rest, chains), strict=True):
        points = heads[:, end] - heads[:, start]
        wanted = truth[:, LANDMARKS_41.index(segment.tip)] - truth[:, LANDMARKS_41.index(segment.joint)]
        cross = np.linalg.norm(np.cross(points, wanted), axis=-1)
        assert np.degrees(np.arctan2(cross, np.sum(points * wanted, axis=-1))).max() < 0.01, segment.name


def person(turns: np.ndarray) -> PoseTrack:
    """Someone of the T-pose's size, doing ``turns``."""
    from keylift.core.rotations import from_matrix, multiply
    from keylift.core.segments import landmarks_from_segments
    from rig_samples import WORLD_FROM_BODY, filmed

    in_world = multiply(np.broadcast_to(from_matrix(WORLD_FROM_BODY), turns.shape), turns)
    return filmed(landmarks_from_segments(in_world, path_m(), T_POSE_M), in_world)
