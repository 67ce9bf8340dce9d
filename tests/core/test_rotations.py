import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keylift.core import rotations as r

vectors = arrays(np.float64, (7, 3), elements=st.floats(-3, 3))


@given(vectors)
def test_matrices_and_quaternions_say_the_same(v):
    q = r.from_rotation_vector(v)
    assert np.allclose(np.linalg.norm(q, axis=-1), 1)
    back = r.from_matrix(r.to_matrix(q))
    assert np.abs(np.abs(np.sum(back * q, axis=-1)) - 1).max() < 1e-9


@given(vectors, vectors)
def test_a_product_turns_like_one_turn_after_the_other(a, b):
    p, q, x = r.from_rotation_vector(a), r.from_rotation_vector(b), np.array([0.3, -1.0, 2.0])
    assert np.allclose(r.rotate(r.multiply(p, q), x), r.rotate(p, r.rotate(q, x)), atol=1e-9)
    assert np.allclose(r.to_matrix(p) @ x, r.rotate(p, x), atol=1e-9)


@given(vectors)
def test_rotation_vectors_come_back(v):
    v = v * np.minimum(1, 3.1 / np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), 1e-9))
    assert np.allclose(r.to_rotation_vector(r.from_rotation_vector(v)), v, atol=1e-7)


@given(vectors, vectors)
@settings(max_examples=50)
def test_between_brings_one_direction_onto_the_other(a, b):
    a, b = a + np.array([0, 0, 4.0]), b + np.array([0, 4.0, 0])
    assert np.allclose(r.rotate(r.between(a, b), r.normalised(a)), r.normalised(b), atol=1e-7)


def test_between_opposite_directions_is_half_a_turn():
    x = np.array([[1.0, 0, 0], [0, -2.0, 0], [0.3, 0.4, 0.5]])
    assert np.allclose(r.rotate(r.between(x, -x), x), -x, atol=1e-9)


def test_signs_are_made_continuous_without_changing_the_turn():
    q = r.from_rotation_vector(np.linspace(0, 6, 40)[:, None] * np.array([0, 0, 1.0]))
    flipped = q * np.where(np.arange(40) % 3 == 0, -1.0, 1.0)[:, None]
    smooth = r.continuous(flipped)
    assert (np.sum(smooth[1:] * smooth[:-1], axis=-1) > 0).all()
    assert np.allclose(np.abs(np.sum(smooth * q, axis=-1)), 1)


def test_slerp_goes_the_shorter_way_at_even_speed():
    a, b = r.IDENTITY, -r.from_rotation_vector(np.array([0.0, 1.0, 0.0]))
    assert np.allclose(r.angle_between_rad(r.slerp(a, b, 0.25), a), 0.25)
