"""Rotation modes: what is keyed means the same turn, and moves without jumps."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy
import mathutils

from keylift.core.rotations import angle_between_rad, from_rotation_vector, multiply, normalised
from keylift.rig_mapping.rotation_channels import (
    EULER_ORDERS,
    axis_angles,
    euler_angles,
    from_channels,
    rotation_channels,
)


def tumble(frames: int = 400, seed: int = 0) -> np.ndarray:
    """(F, 4) a turn that goes round many times, smoothly."""
    rng = np.random.default_rng(seed)
    steps = from_rotation_vector(rng.normal(0.06, 0.02, (frames, 3)))
    turns = [normalised(rng.normal(size=4))]
    for step in steps[1:]:
        turns.append(multiply(step, turns[-1]))
    return np.array(turns)


def as_blender(angles: np.ndarray, order: str) -> np.ndarray:
    return np.array([mathutils.Euler(row, order).to_quaternion() for row in angles])


@pytest.mark.parametrize("order", EULER_ORDERS)
def test_euler_angles_mean_the_same_turn_in_blender(order: str) -> None:
    turns = tumble()
    angles = euler_angles(turns, order)
    assert angle_between_rad(as_blender(angles, order), turns).max() < 1e-5


@pytest.mark.parametrize("order", EULER_ORDERS)
def test_euler_angles_do_not_jump(order: str) -> None:
    first = "XYZ".index(order[0])
    # Round and round about the first axis, with a little of the others: far beyond 180 degrees.
    vector = np.zeros((300, 3))
    vector[:, first] = np.linspace(0, 20, 300)
    wobble = 0.4 * np.sin(np.linspace(0, 30, 300))[:, None] * np.roll(np.eye(3)[first], 1)
    angles = euler_angles(multiply(from_rotation_vector(vector), from_rotation_vector(wobble)), order)
    assert np.abs(np.diff(angles, axis=0)).max() < 0.3
    assert angles[:, first].max() > 18


@pytest.mark.parametrize("order", EULER_ORDERS)
@pytest.mark.parametrize("cut", [1, 7, 150, 399])
def test_euler_angles_go_on_from_those_before(order: str, cut: int) -> None:
    turns = np.stack([tumble(seed=1), tumble(seed=2)], axis=1)
    whole = euler_angles(turns, order)
    first = euler_angles(turns[:cut], order)
    assert np.allclose(np.concatenate([first, euler_angles(turns[cut:], order, first[-1])]), whole, atol=1e-9)


@pytest.mark.parametrize("order", EULER_ORDERS)
@pytest.mark.parametrize("quarter", [np.pi / 2, -np.pi / 2])
def test_gimbal_lock(order: str, quarter: float) -> None:
    first, second = "XYZ".index(order[0]), "XYZ".index(order[1])
    middle, about_first = np.zeros((50, 3)), np.zeros((50, 3))
    middle[:, second] = quarter
    about_first[:, first] = np.linspace(0, 1, 50)
    turns = multiply(from_rotation_vector(middle), from_rotation_vector(about_first))
    angles = euler_angles(turns, order)
    assert angle_between_rad(as_blender(angles, order), turns).max() < 1e-4
    assert np.abs(np.diff(angles, axis=0)).max() < 0.1


def test_through_the_gimbal() -> None:
    vector = np.zeros((200, 3))
    vector[:, 1] = np.linspace(0, np.pi, 200)
    angles = euler_angles(from_rotation_vector(vector), "XYZ")
    assert np.abs(np.diff(angles, axis=0)).max() < 0.1


def test_axis_angles_mean_the_same_turn_and_do_not_jump() -> None:
    turns = tumble()
    values = axis_angles(turns)
    again = np.array([mathutils.Quaternion(row[1:], row[0]) for row in values])
    assert angle_between_rad(again, turns).max() < 1e-5
    assert np.allclose(np.linalg.norm(values[:, 1:], axis=1), 1)
    assert (np.sum(values[1:, 1:] * values[:-1, 1:], axis=1) > 0).all()


def test_swinging_through_rest_keeps_the_axis() -> None:
    vector = np.zeros((101, 3))
    vector[:, 2] = np.linspace(-1, 1, 101)
    values = axis_angles(from_rotation_vector(vector))
    assert np.abs(np.diff(values, axis=0)).max() < 0.05
    assert np.allclose(np.abs(values[:, 3]), 1)


def test_no_turn_at_all() -> None:
    still = np.tile([1.0, 0.0, 0.0, 0.0], (3, 1))
    for mode in ("QUATERNION", "AXIS_ANGLE", *EULER_ORDERS):
        _, values = rotation_channels(mode, still)
        assert np.isfinite(values).all()
    assert np.array_equal(axis_angles(still)[:, 0], np.zeros(3))


def test_quaternion_signs_do_not_jump() -> None:
    turns = tumble() * np.where(np.arange(400) % 7 == 0, -1.0, 1.0)[:, None]
    path, values = rotation_channels("QUATERNION", turns)
    assert path == "rotation_quaternion"
    assert (np.sum(values[1:] * values[:-1], axis=1) > 0).all()


def test_of_two_sets_of_angles_the_one_nearer_to_the_frame_before() -> None:
    angles = euler_angles(tumble(), "ZXY")
    other = angles * np.array([-1.0, 1.0, 1.0]) + np.pi
    stayed = np.abs(np.diff(angles, axis=0)).sum(axis=1)
    changed = other[1:] - angles[:-1]
    changed = np.abs(changed - 2 * np.pi * np.round(changed / (2 * np.pi))).sum(axis=1)
    assert (stayed <= changed + 1e-9).all()


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", *EULER_ORDERS])
def test_many_bones_at_once_are_as_one_at_a_time(mode: str) -> None:
    turns = np.stack([tumble(60, seed) for seed in range(4)], axis=1)
    turns[20:30, 1] = [1.0, 0.0, 0.0, 0.0]
    # Gimbal lock in the middle of the second bone's and at the start of the third's.
    turns[30:40, 1] = turns[:10, 2] = from_rotation_vector(np.eye(3)["XYZ".find(mode[1]) % 3] * np.pi / 2)
    _, together = rotation_channels(mode, turns)
    assert together.shape[:2] == (60, 4)
    for bone in range(4):
        assert np.allclose(together[:, bone], rotation_channels(mode, turns[:, bone])[1], rtol=0, atol=1e-12)
    assert angle_between_rad(from_channels(mode, together), turns).max() < 1e-5


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", *EULER_ORDERS])
def test_channel_values_turn_a_bone_as_in_blender(mode: str) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    data = bpy.data.armatures.new("one bone")
    armature = bpy.data.objects.new("one bone", data)
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    data.edit_bones.new("bone").tail = (0.0, 1.0, 0.0)
    bpy.ops.object.mode_set(mode="OBJECT")
    bone = armature.pose.bones["bone"]
    bone.rotation_mode = mode
    path, values = rotation_channels(mode, tumble(8))
    # As between keys: neither quaternions nor axes are of unit length there; and with no length at all.
    values = np.concatenate([values * np.linspace(0.5, 2, 8)[:, None], np.zeros_like(values[:1])])
    seen = []
    for row in values:
        setattr(bone, path, row)
        bpy.context.view_layer.update()
        seen.append(bone.matrix.to_quaternion())
    assert angle_between_rad(np.array(seen), from_channels(mode, values)).max() < 1e-5


def test_unknown_rotation_modes_are_refused() -> None:
    with pytest.raises(ValueError, match="ZYZ"):
        rotation_channels("ZYZ", tumble(3))
    with pytest.raises(ValueError, match="ZYZ"):
        from_channels("ZYZ", np.zeros((3, 3)))
