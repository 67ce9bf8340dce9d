"""Feet that stand stay put: on every rig, from half to double size, without the knees snapping."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("bpy")

from keylift.addon.armature_reading import read_rest_pose
from keylift.core.camera import Camera
from keylift.core.rotations import from_rotation_vector, to_matrix
from keylift.core.track_files import read_pose
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.planted_feet import FootMotion, planted, standing
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import RigBody, rig_body
from keylift.rig_mapping.solve import RetargetOptions, solve
from rig_samples import PRESET_OF, empty_scene, make_rig
from walker import camera_from_world, filmed, walk

GOLDEN = Path(__file__).parents[1] / "golden" / "cam03.pose.npz"
SLIDE_MM_S = 5.0
AS_IT_MOVES = RetargetOptions(plant_feet=False)


@pytest.fixture(scope="module")
def rigs() -> dict[str, RestPose]:
    found = {}
    for name in PRESET_OF:
        empty_scene()
        found[name] = read_rest_pose(make_rig(name))
    return found


def sized(rest: RestPose, size: float) -> RestPose:
    world = rest.world_from_armature.copy()
    world[:3, :3] *= size
    return replace(rest, world_from_armature=world)


def captured(name: str) -> PoseTrack:
    if name == "filmed":
        return read_pose(GOLDEN)
    return filmed(walk(90), Camera.guessed((1280, 720)), camera_from_world())[0]


def soles(rest: RestPose, body: RigBody, motion: BoneMotion) -> np.ndarray:
    """(F, 4, 3) metres: left heel and ball, right heel and ball, on the sole at the height of the rig's floor."""
    points = []
    for side in "lr":
        bone = body.chains[f"{side}_foot"][-1]
        posed = rest.world_from_armature @ fk(rest, motion, [bone])[:, 0] @ np.linalg.inv(rest.armature_from_bone[bone])
        for landmark in ("heel", "toe_base"):
            under = body.landmark(f"{side}_{landmark}") * [1, 0, 1] + [0, body.floor, 0]
            points.append(posed[:, :3, :3] @ (body.armature_from_body @ under) + posed[:, :3, 3])
    return np.stack(points, axis=1)


def slide_mm_s(rest: RestPose, body: RigBody, motion: BoneMotion, contact: np.ndarray, fps: float) -> float:
    """Fastest that a point of a sole moves between two frames in which it stands."""
    stands = contact > 0.5
    speed = np.linalg.norm(np.diff(soles(rest, body, motion), axis=0), axis=-1) * fps * 1000
    return float(speed[stands[1:] & stands[:-1]].max())


def knees_deg(rest: RestPose, body: RigBody, motion: BoneMotion) -> np.ndarray:
    """(F, 2) how far the knees are bent."""
    bends = []
    for side in "lr":
        bones = [body.chains[f"{side}_{part}"][0] for part in ("thigh", "shank", "foot")]
        joints = fk(rest, motion, bones)[..., :3, 3]
        thigh, shank = joints[:, 1] - joints[:, 0], joints[:, 2] - joints[:, 1]
        cross = np.linalg.norm(np.cross(thigh, shank), axis=-1)
        bends.append(np.degrees(np.arctan2(cross, np.sum(thigh * shank, axis=-1))))
    return np.stack(bends, axis=1)


@pytest.mark.parametrize("size", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("take", ["filmed", "walker"])
def test_standing_feet_do_not_slide_and_knees_do_not_snap(rigs: dict[str, RestPose], take: str, size: float) -> None:
    pose = captured(take)
    slid = []
    for name, plain in rigs.items():
        rest = sized(plain, size)
        bone_map = recognise(rest)
        body = rig_body(rest, bone_map)
        free, held = solve(pose, rest, bone_map, AS_IT_MOVES), solve(pose, rest, bone_map)
        assert slide_mm_s(rest, body, held, pose.contact, pose.fps) <= SLIDE_MM_S, name
        slid.append(slide_mm_s(rest, body, free, pose.contact, pose.fps))
        # A snapping knee shows in how suddenly its speed changes.
        jerks = [np.abs(np.diff(knees_deg(rest, body, motion), 2, axis=0)).max() for motion in (free, held)]
        assert jerks[1] <= 1.5 * jerks[0] + 0.5, name
        assert held.world_scale == free.world_scale
    assert max(slid) > SLIDE_MM_S, "without holding them, some of these feet slide: the test can fail"


def test_standing_feet_are_at_the_height_of_the_floor(rigs: dict[str, RestPose]) -> None:
    pose = captured("filmed")
    rest = rigs["mixamo"]
    body = rig_body(rest, recognise(rest))
    heights = soles(rest, body, solve(pose, rest, recognise(rest)))[..., 2][pose.contact > 0.5]
    assert np.abs(heights).max() < 0.02 * body.leg_length


def test_where_nothing_stands_nothing_is_changed(rigs: dict[str, RestPose]) -> None:
    pose = captured("walker")
    pose = replace(pose, contact=np.zeros_like(pose.contact))
    rest = rigs["mixamo"]
    free, held = solve(pose, rest, recognise(rest), AS_IT_MOVES), solve(pose, rest, recognise(rest))
    assert np.array_equal(free.rotations_wxyz, held.rotations_wxyz)
    assert np.array_equal(free.locations, held.locations)


def test_the_upper_body_is_left_alone(rigs: dict[str, RestPose]) -> None:
    pose = captured("filmed")
    rest = rigs["game_engine"]
    body = rig_body(rest, recognise(rest))
    free, held = solve(pose, rest, recognise(rest), AS_IT_MOVES), solve(pose, rest, recognise(rest))
    legs = {
        bone for part in ("thigh", "shank", "foot", "toes") for side in "lr" for bone in body.chains[f"{side}_{part}"]
    }
    others = [index for index, bone in enumerate(free.keyed) if bone not in legs]
    assert np.abs(free.rotations_wxyz[:, others] - held.rotations_wxyz[:, others]).max() < 1e-12
    drop = held.root_location - free.root_location
    assert np.abs(drop).max() < 0.05 * body.leg_length


# --- one foot by itself ----------------------------------------------------------------------------------------------

HEEL, BALL = np.array([0.0, 0.05, -0.08]), np.array([0.0, -0.12, -0.08])


def foot(frames: int, seed: int, wander_m: float = 0.02, turn_rad: float = 0.05) -> FootMotion:
    """A foot that walks along while it wanders and turns a little."""
    rng = np.random.default_rng(seed)

    def smooth(size: float, width: int) -> np.ndarray:
        noise = rng.normal(0, size, (frames + 20, width))
        kernel = np.hanning(21) / np.hanning(21).sum()
        return np.stack([np.convolve(column, kernel, mode="valid") for column in noise.T], axis=1)[:frames]

    ankles = smooth(wander_m * 4, 3) + [0, 0, 0.08] + np.linspace(0, 1, frames)[:, None] * [0, -1.0, 0]
    turned = to_matrix(from_rotation_vector(smooth(turn_rad * 4, 3)))
    return FootMotion(ankles, turned, HEEL, BALL)


def points_of(moving: FootMotion) -> np.ndarray:
    return moving.ankles[:, None] + np.stack([moving.turned @ moving.heel, moving.turned @ moving.ball], axis=1)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.integers(1, 80))
def test_any_contacts_hold_and_the_rest_follows_smoothly(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    runs = np.repeat(rng.integers(0, 2, (frames // 5 + 1, 2)), 5, axis=0)[:frames].astype(float)
    stands = standing(runs, fps=30.0)
    moving = foot(frames, seed)
    held = planted(moving, stands, fps=30.0, world_scale=1.0)
    assert np.isfinite(held.ankles).all() and np.isfinite(held.turned).all()
    steps = np.linalg.norm(np.diff(points_of(held), axis=0), axis=-1)
    both = stands[1:] & stands[:-1]
    assert steps[both].max(initial=0.0) < 1e-9
    if not stands.any():
        assert held is moving


def test_a_foot_far_from_any_contact_is_where_it_was() -> None:
    stands = np.zeros((90, 2), dtype=bool)
    stands[:10] = True
    moving = foot(90, seed=3)
    held = planted(moving, stands, fps=30.0, world_scale=1.0)
    assert np.abs(held.ankles[40:] - moving.ankles[40:]).max() < 1e-12
    assert np.abs(held.turned[40:] - moving.turned[40:]).max() < 1e-9
    jumps = np.linalg.norm(np.diff(held.ankles - moving.ankles, axis=0), axis=-1)
    assert jumps[9:].max() < 0.02


def test_heel_then_ball_roll_on_one_place() -> None:
    """Heel down, flat, heel up: the ball of the foot stays where it came down while the foot turns about it."""
    stands = np.zeros((30, 2), dtype=bool)
    stands[5:18, 0] = True
    stands[10:25, 1] = True
    held = planted(foot(30, seed=4), stands, fps=30.0, world_scale=1.0)
    places = points_of(held)
    assert np.ptp(places[5:18, 0], axis=0).max() < 1e-9
    assert np.ptp(places[10:25, 1], axis=0).max() < 1e-9
    assert np.abs(places[10:18, :, 2].mean()) < 0.02


def test_someone_on_a_box_stays_up_there() -> None:
    stands = np.ones((20, 2), dtype=bool)
    moving = foot(20, seed=5, wander_m=0.002, turn_rad=0.0)
    aloft = replace(moving, ankles=moving.ankles * [1, 0, 1] + [0, 0, 0.4])
    held = planted(aloft, stands, fps=30.0, world_scale=1.0)
    assert points_of(held)[..., 2].mean() == pytest.approx(points_of(aloft)[..., 2].mean(), abs=1e-6)


def test_a_flicker_of_a_contact_is_mended() -> None:
    contact = np.ones((30, 4))
    contact[12, 0] = 0.0
    assert standing(contact, fps=30.0)[:, 0].all()
    contact[12:20, 0] = 0.0
    assert not standing(contact, fps=30.0)[12:20, 0].any()
