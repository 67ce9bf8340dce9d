"""IK controls: hands, feet and poles stand where the limbs, solved by FK, say; and poles do not swing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.camera import Camera
from keylift.core.rotations import from_rotation_vector, to_matrix
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_map import BoneMap, Controls, IkControl, load_bone_map
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.ik_controls import _pole_place, with_ik_controls
from keylift.rig_mapping.leg_reach import LegMotion
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_body
from keylift.rig_mapping.solve import RetargetOptions, solve
from rig_skeletons import family_rig
from walker import camera_from_world, filmed, walk

LIMBS = {"l_hand": "L", "r_hand": "R", "l_foot": "L", "r_foot": "R"}
PARTS = {"hand": ("upper_arm", "forearm", "hand"), "foot": ("thigh", "shin", "foot")}
CONTROLS = Controls(
    ik={
        limb: IkControl(f"{limb}_ik", f"{limb}_pole", f"{limb}_toe" if limb.endswith("foot") else None)
        for limb in LIMBS
    }
)


def walking(frames: int = 30) -> PoseTrack:
    return filmed(walk(frames), Camera.guessed((1280, 720)), camera_from_world())[0]


def rig(seed: int = 0, without: tuple[str, ...] = ()) -> tuple[RestPose, BoneMap]:
    """A metarig and beside its bones IK controls, turned at random, that hang on nothing, the hips or each other."""
    rng = np.random.default_rng(seed)
    rest = family_rig("rigify_metarig")
    placed = rest.armature_from_bone.copy()
    for part, bend in (("shin", -0.02), ("forearm", 0.02)):
        placed[[rest.names.index(f"{part}.{side}") for side in "LR"], 1, 3] += bend
    rest = replace(rest, armature_from_bone=placed)
    bone_map = load_bone_map("rigify_metarig").bound_to(rest)
    names, heads, parents = [], [], []
    for limb, side in LIMBS.items():
        parts = [f"{part}.{side}" for part in PARTS[limb[2:]]]
        joints = [rest.heads[rest.names.index(bone)] for bone in parts]
        ahead = np.array([0.0, 0.5 if limb.endswith("hand") else -0.5, 0.0])
        for name, head in (
            (f"{limb}_ik", joints[2]),
            (f"{limb}_pole", joints[1] + ahead + rng.normal(0, 0.02, 3)),
            (f"{limb}_toe", rest.heads[rest.names.index(f"toe.{side}")]),
        ):
            if name in without or (name.endswith("toe") and limb.endswith("hand")):
                continue
            above = {"ik": -1, "pole": rest.names.index("spine"), "toe": len(rest) + len(names) - 2}[name[7:]]
            names.append(name)
            heads.append(head)
            parents.append(above)
    count = len(names)
    placed = np.tile(np.eye(4), (count, 1, 1))
    placed[:, :3, :3] = to_matrix(from_rotation_vector(rng.normal(0, 1, (count, 3))))
    placed[:, :3, 3] = heads

    def grown(values: np.ndarray, more: object) -> np.ndarray:
        return np.concatenate([values, np.broadcast_to(np.asarray(more), (count, *values.shape[1:]))])

    return (
        replace(
            rest,
            names=(*rest.names, *names),
            parents=(*rest.parents, *parents),
            armature_from_bone=grown(rest.armature_from_bone, placed),
            lengths=grown(rest.lengths, 0.1),
            rotation_modes=(*rest.rotation_modes, *["QUATERNION"] * count),
            inherit_rotation=grown(rest.inherit_rotation, True),
            local_location=grown(rest.local_location, True),
            locks=grown(rest.locks, False),
            use_connect=grown(rest.use_connect, False),
            basis=grown(rest.basis, np.eye(4)),
            rotation_locks=grown(rest.rotation_locks, False),
            use_deform=grown(rest.use_deform, False),
            location_axes=grown(rest.location_axes, placed[:, :3, :3]),
        ),
        bone_map,
    )


def both(rest: RestPose, bone_map: BoneMap, controls: Controls = CONTROLS) -> tuple[BoneMotion, BoneMotion]:
    """By FK, and by IK."""
    motion = solve(walking(), rest, bone_map, RetargetOptions())
    return motion, with_ik_controls(rest, rig_body(rest, bone_map), motion, controls)


def moved_against_rest(rest: RestPose, motion: BoneMotion, bone: str) -> np.ndarray:
    """(F, 4, 4)"""
    index = rest.names.index(bone)
    return fk(rest, motion, [index])[:, 0] @ np.linalg.inv(rest.armature_from_bone[index])


@pytest.mark.parametrize("seed", range(3))
def test_controls_go_along_with_what_they_stand_for(seed: int) -> None:
    rest, bone_map = rig(seed)
    by_fk, by_ik = both(rest, bone_map)
    for limb, side in LIMBS.items():
        pairs = [(f"{limb}_ik", f"{limb[2:]}.{side}")]
        if limb.endswith("foot"):
            pairs.append((f"{limb}_toe", f"toe.{side}"))
        for control, bone in pairs:
            off = moved_against_rest(rest, by_ik, control) - moved_against_rest(rest, by_fk, bone)
            assert np.abs(off).max() < 1e-9, control


def test_poles_stay_in_the_plane_of_the_limb_as_at_rest() -> None:
    rest, bone_map = rig()
    by_fk, by_ik = both(rest, bone_map)
    for limb, side in LIMBS.items():
        joints = [rest.names.index(f"{part}.{side}") for part in PARTS[limb[2:]]]
        pole = rest.names.index(f"{limb}_pole")
        posed = np.moveaxis(fk(rest, by_fk, joints)[..., :3, 3], 1, 0)
        angle = angle_about_line(*posed, fk(rest, by_ik, [pole])[:, 0, :3, 3])
        at_rest = angle_about_line(*(rest.heads[[joint]] for joint in joints), rest.heads[[pole]])
        assert np.abs(np.degrees(np.angle(np.exp(1j * (angle - at_rest))))).max() < 0.05, limb
        apart = np.linalg.norm(fk(rest, by_ik, [pole])[:, 0, :3, 3] - posed[1], axis=-1)
        assert apart == pytest.approx(np.linalg.norm(rest.heads[pole] - rest.heads[joints[1]]))


def angle_about_line(top: np.ndarray, hinge: np.ndarray, tip: np.ndarray, point: np.ndarray) -> np.ndarray:
    """(F,) from the side the hinge is on to the side the point is on."""
    line = (tip - top) / np.linalg.norm(tip - top, axis=-1, keepdims=True)
    u, v = (w - line * np.sum(w * line, axis=-1, keepdims=True) for w in (hinge - top, point - hinge))
    return np.arctan2(np.sum(np.cross(u, v) * line, axis=-1), np.sum(u * v, axis=-1))


def test_limbs_on_ik_have_no_fk_keys_and_all_else_keeps_its_own() -> None:
    rest, bone_map = rig()
    by_fk, by_ik = both(rest, bone_map)
    on_limbs = {rest.names.index(f"{p}.{s}") for s in "LR" for parts in PARTS.values() for p in (*parts, "toe")}
    assert not on_limbs & set(by_ik.keyed)
    assert by_ik.root_bone == by_fk.root_bone
    for bone in set(by_fk.keyed) - on_limbs:
        assert np.array_equal(
            np.abs(by_fk.rotations_wxyz[:, by_fk.keyed.index(bone)]),
            np.abs(by_ik.rotations_wxyz[:, by_ik.keyed.index(bone)]),
        )


def test_a_limb_without_its_control_stays_on_fk() -> None:
    rest, bone_map = rig(without=("l_hand_ik", "r_hand_pole"))
    _, by_ik = both(rest, bone_map)
    keyed = {rest.names[bone] for bone in by_ik.keyed}
    assert {"upper_arm.L", "forearm.L", "hand.L"} <= keyed
    assert "l_hand_pole" not in keyed and rest.names.index("l_hand_pole") not in by_ik.moved
    assert "upper_arm.R" not in keyed and "r_hand_ik" in keyed
    by_fk, unchanged = both(rest, bone_map, Controls())
    assert unchanged is by_fk or np.array_equal(unchanged.rotations_wxyz, by_fk.rotations_wxyz)


def test_without_a_hand_the_control_rides_on_the_forearm() -> None:
    rest, bone_map = rig()
    handless = replace(bone_map, bones={k: v for k, v in bone_map.bones.items() if not k.endswith("_hand")})
    by_fk, by_ik = both(rest, handless)
    off = moved_against_rest(rest, by_ik, "l_hand_ik") - moved_against_rest(rest, by_fk, "forearm.L")
    assert np.abs(off).max() < 1e-9
    assert rest.names.index("l_hand_pole") in by_ik.moved


# --- the pole of one limb --------------------------------------------------------------------------------------------

LIMB_AT_REST = np.array([[0.0, 0.0, 1.0], [0.0, -0.02, 0.55], [0.0, 0.0, 0.1]])
POLE_AT_REST = np.array([0.0, -0.5, 0.55])


def poles(off_m: np.ndarray, aside_rad: np.ndarray) -> tuple[np.ndarray, LegMotion]:
    """(F, 3) of a leg that hangs down, its knee this far off the line and this much to the side of ahead."""
    frames = len(off_m)
    knees = np.tile([0.0, 0.0, 0.55], (frames, 1))
    knees[:, 0] = off_m * np.sin(aside_rad)
    knees[:, 1] = -off_m * np.cos(aside_rad)
    ends = [np.tile(point, (frames, 1)) for point in LIMB_AT_REST[[0, 2]]]
    limb = LegMotion(ends[0], knees, ends[1], np.zeros((frames, 3)))
    return _pole_place(limb, LIMB_AT_REST, POLE_AT_REST, np.tile(np.eye(3), (frames, 1, 1))), limb


def aside(pole: np.ndarray, limb: LegMotion) -> np.ndarray:
    off = pole - limb.knees
    return np.arctan2(off[:, 0], -off[:, 1])


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 100_000), frames=st.integers(1, 60))
def test_noise_of_a_straight_limb_does_not_swing_its_pole(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    pole, limb = poles(rng.uniform(0, 0.0015, frames), rng.uniform(-np.pi, np.pi, frames))
    assert np.isfinite(pole).all()
    assert np.abs(np.diff(aside(pole, limb))).max(initial=0.0) < np.radians(15)
    assert np.abs(aside(pole, limb)).max() < np.radians(60)


def test_a_bent_limb_says_exactly_where_its_pole_is() -> None:
    angle = 0.6 * np.sin(np.arange(60) / 6)
    pole, limb = poles(np.full(60, 0.05), angle)
    assert np.abs(aside(pole, limb) - angle).max() < np.radians(0.01)


def test_through_a_straight_stretch_the_pole_goes_from_side_to_side_steadily() -> None:
    off = np.where((np.arange(60) > 20) & (np.arange(60) < 40), 0.0, 0.08)
    angle = np.where(np.arange(60) < 30, -0.7, 0.7)
    pole, limb = poles(off, angle)
    found = aside(pole, limb)
    assert np.abs(np.diff(found)).max() < 1.4 / 20 * 1.6
    assert found[10] == pytest.approx(-0.7, abs=1e-3) and found[50] == pytest.approx(0.7, abs=1e-3)


def test_a_knee_that_is_bent_back_by_a_hair_keeps_its_pole_ahead() -> None:
    off = 0.03 * np.cos(np.arange(60) / 60 * 2 * np.pi) + 0.028
    pole, limb = poles(off, np.zeros(60))
    assert off.min() < -0.001
    assert np.abs(aside(pole, limb)).max() < np.radians(1)
