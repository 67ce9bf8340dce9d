"""Turns as near as locked channels allow."""

from __future__ import annotations

import numpy as np
import pytest

from keylift.core.rotations import angle_between_rad, from_rotation_vector, multiply
from keylift.rig_mapping.locked_channels import with_locks
from keylift.rig_mapping.rotation_channels import EULER_ORDERS, euler_angles, from_channels

IDENTITY = np.array([1.0, 0.0, 0.0, 0.0])


def turns(count: int = 40, size: float = 0.6) -> np.ndarray:
    return from_rotation_vector(np.random.default_rng(2).normal(0, size, (count, 3)))


@pytest.mark.parametrize("mode", ["QUATERNION", "AXIS_ANGLE", *EULER_ORDERS])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_hinge_takes_the_nearest_turn_about_its_axis(mode: str, axis: int) -> None:
    locks = np.ones(3, dtype=bool)
    locks[axis] = False
    wanted = turns()
    locked = with_locks(wanted, mode, locks, IDENTITY)
    assert np.abs(np.delete(locked[:, 1:], axis, axis=1)).max() < 1e-12
    least = angle_between_rad(wanted, locked)
    for nudge in (-0.05, 0.05):
        vector = np.zeros(3)
        vector[axis] = nudge
        other = multiply(locked, np.broadcast_to(from_rotation_vector(vector), locked.shape))
        assert (angle_between_rad(wanted, other) >= least - 1e-9).all()


@pytest.mark.parametrize("order", EULER_ORDERS)
def test_a_locked_angle_keeps_its_value(order: str) -> None:
    now = from_channels(order, np.array([[0.2, -0.3, 0.4]]))[0]
    locked = with_locks(turns(size=0.3), order, np.array([False, True, False]), now)
    assert euler_angles(locked, order)[:, 1] == pytest.approx(np.full(40, -0.3), abs=1e-9)


def test_all_locked_stays_as_it_is() -> None:
    now = from_rotation_vector(np.array([0.1, 0.2, 0.3]))
    assert np.array_equal(with_locks(turns(), "QUATERNION", np.ones(3, dtype=bool), now), np.tile(now, (40, 1)))


def test_a_turn_that_the_locks_allow_is_kept() -> None:
    vectors = np.zeros((20, 3))
    vectors[:, 0] = np.linspace(-1.5, 1.5, 20)
    wanted = from_rotation_vector(vectors)
    assert angle_between_rad(wanted, with_locks(wanted, "XYZ", np.array([False, True, True]), IDENTITY)).max() < 1e-9
