"""Fewer keys: curves that stay within their bounds of the full motion, wherever one looks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keylift.core.errors import Cancelled
from keylift.core.rotations import angle_between_rad, continuous, from_rotation_vector, normalised, slerp
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.hermite_curves import hermite, solve_tridiagonal
from keylift.rig_mapping.key_reduction import (
    KeyTolerance,
    SparseChannel,
    _Bounds,
    evaluate,
    largest_errors,
    reduce_keys,
    share_of_keys,
)
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rotation_channels import EULER_ORDERS, from_channels

GOLDEN = Path(__file__).parent.parent / "golden" / "cam03.pose.npz"
HIPS, SPINE, THIGH, SHIN, FOOT, TOES = range(6)


def small_rig(mode: str = "QUATERNION", scale: float = 0.01) -> RestPose:
    """Hips and spine, and a leg whose shin gets no keys and whose toes keep their direction; units of centimetres."""
    bones = 6
    armature_from_bone = np.tile(np.eye(4), (bones, 1, 1))
    armature_from_bone[1:, :3, :3] = np.diag([1.0, -1.0, -1.0])
    armature_from_bone[:, :3, 3] = [[0, 90, 0], [0, 90, 0], [10, 90, 0], [10, 50, 2], [10, 10, 0], [10, 0, 12]]
    return RestPose(
        name="small",
        names=("hips", "spine", "thigh", "shin", "foot", "toes"),
        parents=(-1, HIPS, HIPS, THIGH, SHIN, FOOT),
        armature_from_bone=armature_from_bone,
        lengths=np.array([10.0, 50, 40, 40, 15, 6]),
        rotation_modes=(mode,) * bones,
        inherit_rotation=np.arange(bones) != TOES,
        local_location=np.ones(bones, dtype=bool),
        locks=np.zeros((bones, 3), dtype=bool),
        use_connect=np.zeros(bones, dtype=bool),
        basis=np.tile(np.eye(4), (bones, 1, 1)),
        world_from_armature=np.diag([scale, scale, scale, 1.0]),
    )


def motion_of(vectors: np.ndarray, path: np.ndarray) -> BoneMotion:
    """Turns (F, 5, 3) of hips, spine, thigh, foot and toes as rotation vectors; the hips go along ``path`` (F, 3)."""
    return made_of(continuous(from_rotation_vector(vectors)), path[:, None])


def made_of(turns: np.ndarray, locations: np.ndarray) -> BoneMotion:
    return BoneMotion(
        keyed=(HIPS, SPINE, THIGH, FOOT, TOES),
        rotations_wxyz=turns,
        moved=(HIPS,),
        locations=locations,
        world_scale=1.0,
        time_s=np.arange(len(turns)) / 25,
        frame_index=np.arange(len(turns)),
        fps=25.0,
        bone_map="",
    )


def swaying(frames: int = 200, seed: int = 0, size: float = 0.3) -> BoneMotion:
    """Smooth: sums of slow waves, as people who move calmly."""
    rng = np.random.default_rng(seed)
    phase = np.arange(frames)[:, None, None] / 25 * 2 * np.pi
    waves = [size * np.sin(phase * rate + rng.uniform(0, 6, (1, 6, 3))) for rate in (0.23, 0.41, 0.7)]
    moves = np.sum(waves, axis=0)
    return motion_of(moves[:, :5], 20 * moves[:, 5])


def jerking(frames: int = 60, seed: int = 0) -> BoneMotion:
    """As unlike a smooth curve as can be: every frame is somewhere else."""
    rng = np.random.default_rng(seed)
    return motion_of(rng.normal(0, 0.4, (frames, 5, 3)), rng.normal(0, 10, (frames, 3)))


def places(frames: np.ndarray) -> np.ndarray:
    """Frames and half-ways, in order."""
    return np.sort(np.concatenate([frames, (frames[1:] + frames[:-1]) / 2]))


def evaluated(
    rest: RestPose, motion: BoneMotion, channels: list[SparseChannel], frames: np.ndarray, at: np.ndarray
) -> BoneMotion:
    """What Blender would make of the channels, as a motion at the places ``at``."""
    turns = [
        from_channels(rest.rotation_modes[channel.bone], evaluate(channel, frames, at))
        for channel in channels[: len(motion.keyed)]
    ]
    locations = [evaluate(channel, frames, at) for channel in channels[len(motion.keyed) :]]
    return made_of(np.stack(turns, axis=1), np.stack(locations, axis=1))


def between_frames(motion: BoneMotion) -> BoneMotion:
    """The full motion at frames and half-way, by slerp."""
    frames = len(motion)
    turns = np.empty((2 * frames - 1, *motion.rotations_wxyz.shape[1:]))
    turns[::2] = motion.rotations_wxyz
    turns[1::2] = slerp(motion.rotations_wxyz[:-1], motion.rotations_wxyz[1:], 0.5)
    locations = np.empty((2 * frames - 1, *motion.locations.shape[1:]))
    locations[::2] = motion.locations
    locations[1::2] = (motion.locations[1:] + motion.locations[:-1]) / 2
    return made_of(turns, locations)


def ends(rest: RestPose, motion: BoneMotion) -> np.ndarray:
    """(T, 2, B, 3) metres: heads and tails of all bones in the world."""
    posed = rest.world_from_armature @ fk(rest, motion)
    tip = np.concatenate([np.zeros((len(rest), 1)), rest.lengths[:, None], np.zeros((len(rest), 1))], axis=1)
    tails = (posed[..., :3, :3] @ tip[..., None])[..., 0] + posed[..., :3, 3]
    return np.stack([posed[..., :3, 3], tails], axis=1)


def errors(
    rest: RestPose, motion: BoneMotion, channels: list[SparseChannel], frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Degrees (T, K) of keyed bones and millimetres (T, 2, B) of their ends, against the full motion by slerp."""
    wanted = between_frames(motion)
    got = evaluated(rest, motion, channels, frames, places(frames))
    angle = np.degrees(angle_between_rad(got.rotations_wxyz, wanted.rotations_wxyz))
    return angle, 1000 * np.linalg.norm(ends(rest, got) - ends(rest, wanted), axis=-1)


def counted(motion: BoneMotion, first: float = 1.0) -> np.ndarray:
    return first + np.arange(len(motion))


@pytest.mark.parametrize(
    ("mode", "tolerance"),
    [
        *((mode, KeyTolerance()) for mode in ("QUATERNION", "AXIS_ANGLE", *EULER_ORDERS)),
        *(("QUATERNION", tolerance) for tolerance in (KeyTolerance(0.1, 20.0), KeyTolerance(5.0, 1.0))),
    ],
)
def test_smooth_motion_keeps_its_bounds_with_few_keys(mode: str, tolerance: KeyTolerance) -> None:
    rest, motion = small_rig(mode), swaying()
    frames = counted(motion)
    channels = reduce_keys(rest, motion, frames, tolerance)
    angle, distance = errors(rest, motion, channels, frames)
    assert angle[::2].max() <= tolerance.angle_deg
    assert distance[::2].max() <= tolerance.distance_mm
    angle_deg, distance_mm = largest_errors(rest, motion, frames, channels)
    assert angle_deg <= tolerance.angle_deg and distance_mm <= tolerance.distance_mm
    if tolerance == KeyTolerance():
        assert share_of_keys(channels, frames) < (0.25 if mode == "AXIS_ANGLE" else 0.2)


def test_between_frames_too_bones_are_near_straight_lines() -> None:
    rest, motion = small_rig(), swaying()
    angle, distance = errors(rest, motion, reduce_keys(rest, motion, counted(motion), KeyTolerance()), counted(motion))
    assert angle.max() <= 0.5 and distance.max() <= 5.0
    # The curves leave slopes free: without a look between frames, they swing out there.
    rest, motion = small_rig(), jerking()
    angle, _ = errors(rest, motion, reduce_keys(rest, motion, counted(motion), KeyTolerance()), counted(motion))
    assert angle.max() <= 0.5


def test_the_largest_errors_are_those_found_by_looking() -> None:
    rest, motion = small_rig(), swaying(90)
    frames = counted(motion)
    channels = reduce_keys(rest, motion, frames, KeyTolerance(2.0, 20.0))
    angle, distance = errors(rest, motion, channels, frames)
    of_keyed = distance[:, :, list(motion.keyed)]
    found = largest_errors(rest, motion, frames, channels)
    assert found == pytest.approx((angle.max(), of_keyed.max()), rel=0.1)
    assert found[0] >= angle[::2].max() - 1e-6 and found[1] >= of_keyed[::2].max() - 1e-6
    assert angle.max() > 0.5


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "YXZ"])
def test_however_it_jerks_it_ends_within_the_bounds(mode: str) -> None:
    rest, motion = small_rig(mode), jerking()
    frames = counted(motion)
    channels = reduce_keys(rest, motion, frames, KeyTolerance(0.3, 2.0))
    angle_deg, distance_mm = largest_errors(rest, motion, frames, channels)
    assert angle_deg <= 0.3 and distance_mm <= 2.0
    assert share_of_keys(channels, frames) > 0.8


def test_should_the_blame_fall_on_the_wrong_bone_it_ends_within_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    rest, motion = small_rig(), swaying(60)
    blame_the_hips = np.array([1.0, 0, 0, 0, 0, 0])
    monkeypatch.setattr(_Bounds, "_shares", lambda *_: blame_the_hips)
    channels = reduce_keys(rest, motion, counted(motion), KeyTolerance(5.0, 2.0))
    assert largest_errors(rest, motion, counted(motion), channels)[1] <= 2.0


def test_keys_stand_where_the_full_motion_is() -> None:
    rest, motion = small_rig(), swaying()
    for row, channel in enumerate(reduce_keys(rest, motion, counted(motion), KeyTolerance())):
        full = motion.rotations_wxyz[:, row] if channel.path == "rotation_quaternion" else motion.locations[:, 0]
        assert np.array_equal(channel.values, full[channel.keys])
        assert channel.keys[0] == 0 and channel.keys[-1] == len(motion) - 1
        assert (np.diff(channel.keys) > 0).all()
        assert channel.slopes.shape == channel.values.shape


def test_channels_come_in_the_order_of_the_motion() -> None:
    rest, motion = small_rig("ZXY"), swaying(20)
    channels = reduce_keys(rest, motion, counted(motion), KeyTolerance())
    assert [channel.bone for channel in channels] == [HIPS, SPINE, THIGH, FOOT, TOES, HIPS]
    assert [channel.path for channel in channels] == ["rotation_euler"] * 5 + ["location"]
    assert [channel.values.shape[1] for channel in channels] == [3] * 6


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", "XYZ"])
def test_what_does_not_move_has_two_keys(mode: str) -> None:
    rest = small_rig(mode)
    motion = motion_of(np.tile(np.linspace(-1, 1, 15).reshape(5, 3), (80, 1, 1)), np.ones((80, 3)))
    for channel in reduce_keys(rest, motion, counted(motion), KeyTolerance()):
        assert channel.keys.tolist() == [0, 79]
        assert np.abs(channel.slopes).max() < 1e-9


def test_one_frame_and_two() -> None:
    rest = small_rig()
    for frames in (1, 2):
        motion = swaying(frames)
        channels = reduce_keys(rest, motion, counted(motion), KeyTolerance())
        assert all(channel.keys.tolist() == list(range(frames)) for channel in channels)
        assert share_of_keys(channels, counted(motion)) == 1.0
        angle_deg, distance_mm = largest_errors(rest, motion, counted(motion), channels)
        assert angle_deg <= 0.5 and distance_mm <= 5.0


def test_frames_may_lie_unevenly_and_between_whole_ones() -> None:
    rest, motion = small_rig(), swaying(150)
    rng = np.random.default_rng(1)
    # Pictures of a varying rate: the motion goes on evenly in time, as seen at uneven places.
    frames = 100 + np.cumsum(rng.uniform(0.3, 1.7, 150))
    steady = np.linspace(frames[0], frames[-1], 150)
    motion = replace(
        motion,
        rotations_wxyz=continuous(
            normalised(
                np.stack(
                    [
                        [np.interp(frames, steady, motion.rotations_wxyz[:, bone, c]) for c in range(4)]
                        for bone in range(5)
                    ]
                ).transpose(2, 0, 1)
            )
        ),
    )
    channels = reduce_keys(rest, motion, frames, KeyTolerance())
    angle, distance = errors(rest, motion, channels, frames)
    assert angle.max() <= 0.5 and distance[::2].max() <= 5.0
    assert share_of_keys(channels, frames) < 0.3
    # Twice as slow, the same poses keep the same keys, and the curves rise half as fast.
    slower = reduce_keys(rest, motion, 2 * frames, KeyTolerance())
    for channel, slow in zip(channels, slower, strict=True):
        assert np.array_equal(channel.keys, slow.keys)
        assert np.allclose(channel.slopes, 2 * slow.slopes)


def test_kept_frames_keep_a_key_in_every_channel() -> None:
    rest, motion = small_rig(), swaying()
    kept = np.zeros(len(motion), dtype=bool)
    kept[[37, 38, 101]] = True
    for channel in reduce_keys(rest, motion, counted(motion), KeyTolerance(), kept):
        assert set(channel.keys) >= {37, 38, 101}


@pytest.mark.parametrize("bone", [FOOT, SHIN])
def test_a_planted_foot_stays(bone: int) -> None:
    """Or a knee, which has no keys of its own here."""
    rest, motion = small_rig(), swaying(size=0.1)
    # The hips go wherever the foot stays.
    motion = replace(motion, locations=np.zeros_like(motion.locations))
    foot = fk(rest, motion, [bone])[:, 0, :3, 3]
    motion = replace(motion, locations=-(foot - foot[0])[:, None])
    frames = counted(motion)
    stands = np.zeros(len(motion), dtype=bool)
    stands[60:120] = True

    def off_mm(planted: dict[int, np.ndarray]) -> np.ndarray:
        channels = reduce_keys(rest, motion, frames, KeyTolerance(), planted=planted)
        got = ends(rest, evaluated(rest, motion, channels, frames, places(frames)))[:, 0, bone]
        return 1000 * np.linalg.norm(got - ends(rest, motion)[0, 0, bone], axis=-1)

    held = off_mm({bone: stands})
    assert held[120:239].max() <= 1.0
    assert held.max() <= 5.0
    assert off_mm({})[120:239].max() > 1.2


def test_closer_bounds_take_more_keys() -> None:
    rest, motion = small_rig(), swaying()
    shares = [
        share_of_keys(reduce_keys(rest, motion, counted(motion), KeyTolerance(angle, 10 * angle)), counted(motion))
        for angle in (2.0, 0.5, 0.05)
    ]
    assert shares[0] < shares[1] < shares[2]


def test_it_stops_when_asked() -> None:
    with pytest.raises(Cancelled):
        reduce_keys(small_rig(), swaying(30), np.arange(30.0), KeyTolerance(), progress=lambda done, total: False)


def test_what_makes_no_sense_is_refused() -> None:
    for angle, distance in ((0.0, 5.0), (0.5, -1.0), (np.nan, 5.0)):
        with pytest.raises(ValueError, match="at least"):
            KeyTolerance(angle, distance)
    for frames in (np.arange(29.0), np.zeros(30), np.arange(30.0)[::-1]):
        with pytest.raises(ValueError, match="rising"):
            reduce_keys(small_rig(), swaying(30), frames, KeyTolerance())


def test_a_cubic_is_its_own_curve() -> None:
    keys = np.array([1.0, 2.5, 7.0])
    cubic = np.polynomial.Polynomial([3.0, -1.0, 0.5, 0.2])
    at = np.linspace(1, 7, 50)
    curve = hermite(keys, cubic(keys)[:, None], cubic.deriv()(keys)[:, None], at)[:, 0]
    assert np.allclose(curve, cubic(at))
    outside = hermite(keys, cubic(keys)[:, None], cubic.deriv()(keys)[:, None], np.array([-9.0, 99.0]))[:, 0]
    assert np.allclose(outside, cubic(keys[[0, -1]]))


@pytest.mark.parametrize("size", [1, 2, 3, 64, 101])
def test_tridiagonal_systems(size: int) -> None:
    rng = np.random.default_rng(size)
    diagonal, beside = rng.uniform(2.0, 3.0, size), rng.uniform(-1.0, 1.0, size - 1)
    right = rng.normal(size=(size, 2))
    whole = np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1)
    assert np.allclose(solve_tridiagonal(diagonal, beside, right), np.linalg.solve(whole, right))


@pytest.mark.parametrize(("rig", "mode"), [("mixamo", "QUATERNION"), ("default", "YXZ")])
def test_one_key_in_five_is_enough_for_a_real_take(rig: str, mode: str) -> None:
    pytest.importorskip("bpy")
    from keylift.addon.armature_reading import read_rest_pose
    from keylift.core.track_files import read_pose
    from keylift.rig_mapping.recognition import recognise
    from keylift.rig_mapping.solve import solve
    from rig_samples import empty_scene, make_rig

    empty_scene()
    rest = read_rest_pose(make_rig(rig))
    rest = replace(rest, rotation_modes=(mode,) * len(rest))
    pose, bone_map = read_pose(GOLDEN), recognise(rest)
    motion = solve(pose, rest, bone_map)
    frames = counted(motion)
    stands = pose.contact > 0.5
    feet = [rest.names.index(bone_map.bound_to(rest).bones[f"{side}_foot"][0]) for side in "lr"]
    planted = {foot: stands[:, 2 * side : 2 * side + 2].all(axis=1) for side, foot in enumerate(feet)}
    kept = np.append(False, (np.diff(stands.astype(int), axis=0) != 0).any(axis=1))
    channels = reduce_keys(rest, motion, frames, KeyTolerance(), kept, planted)
    angle_deg, distance_mm = largest_errors(rest, motion, frames, channels)
    assert angle_deg <= 0.5 and distance_mm <= 5.0
    assert share_of_keys(channels, frames) < 0.2


def test_blender_draws_the_same_curves(tmp_path: Path) -> None:
    bpy = pytest.importorskip("bpy")
    rest, motion = small_rig(), swaying()
    frames = 10 + np.cumsum(np.where(np.arange(200) % 7 == 0, 1.5, 1.0))
    channel = reduce_keys(rest, motion, frames, KeyTolerance())[2]
    at = np.linspace(frames[0] - 3, frames[-1] + 3, 3000)
    wanted = evaluate(channel, frames, at)

    bpy.ops.wm.read_factory_settings(use_empty=True)
    thing = bpy.data.objects.new("thing", None)
    bpy.context.scene.collection.objects.link(thing)
    thing.rotation_mode = "QUATERNION"
    thing.keyframe_insert("rotation_quaternion", frame=0)

    def curves() -> list[object]:
        action = bpy.data.objects["thing"].animation_data.action
        # Before 4.4 an action has no layers and is its own bag of curves.
        return list(action.layers[0].strips[0].channelbags[0].fcurves if hasattr(action, "layers") else action.fcurves)

    x = frames[channel.keys]
    third = np.diff(x) / 3
    before, after = np.append(third[:1], third), np.append(third, third[-1:])
    for component, curve in enumerate(curves()):
        points = curve.keyframe_points
        points.clear()
        points.add(len(x))
        y, slope = channel.values[:, component], channel.slopes[:, component]
        for name, across, up in (
            ("co", x, y),
            ("handle_left", x - before, y - slope * before),
            ("handle_right", x + after, y + slope * after),
        ):
            points.foreach_set(name, np.stack([across, up], axis=1).astype(np.float32).ravel())
        points.foreach_set("interpolation", np.full(len(x), 2, dtype=np.int32))
        for side in ("handle_left_type", "handle_right_type"):
            points.foreach_set(side, np.full(len(x), 3, dtype=np.int32))
        curve.update()

    def drawn() -> np.ndarray:
        return np.array([[curve.evaluate(place) for curve in curves()] for place in at])

    assert np.abs(drawn() - wanted).max() < 1e-5
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "curves.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "curves.blend"))
    assert np.abs(drawn() - wanted).max() < 1e-5
    for curve in curves():
        curve.update()
        assert {point.handle_left_type for point in curve.keyframe_points} == {"ALIGNED"}
    assert np.abs(drawn() - wanted).max() < 1e-5
