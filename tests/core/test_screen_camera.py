"""The paper's camera: screen units, its own lens distortion, and the way between world and camera."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core import rotations
from keylift.core.camera import (
    Camera,
    camera_to_world,
    normalise_screen,
    project_screen,
    project_screen_linear,
    screen_intrinsics,
    world_to_camera,
)

LENS = np.array([2.29, 2.287, 0.025, 0.029, -0.207, 0.247, -0.003, -0.0009, -0.0016])


def by_hand(point: np.ndarray, lens: np.ndarray) -> list[float]:
    fx, fy, cx, cy, k1, k2, k3, p1, p2 = lens
    x, y = min(max(point[0] / point[2], -1), 1), min(max(point[1] / point[2], -1), 1)
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    tan = p1 * x + p2 * y
    return [fx * (x * (radial + tan) + p1 * r2) + cx, fy * (y * (radial + tan) + p2 * r2) + cy]


def test_screen_units_are_those_of_the_width():
    assert normalise_screen(np.array([[0.0, 0.0], [1000, 1002], [500, 501]]), (1000, 1002)).tolist() == [
        [-1, -1.002],
        [1, pytest.approx(1.002)],
        [0, 0],
    ]
    scored = normalise_screen(np.array([500.0, 501, 0.7]), (1000, 1002))
    assert scored.tolist() == [0, 0, 0.7]
    lens = screen_intrinsics((1000, 1002), (1145, 1143), (512, 515), (-0.2, 0.2, 0.1), (0.01, 0.02))
    assert lens == pytest.approx([2.29, 2.286, 0.024, 0.028, -0.2, 0.2, 0.1, 0.01, 0.02])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_projection_is_the_formula_of_the_specification(seed):
    points = np.random.default_rng(seed).normal(size=(3, 4, 3)) * [1, 1, 0.5] + [0, 0, 3]
    found = project_screen(points, LENS)
    for point, xy in zip(points.reshape(-1, 3), found.reshape(-1, 2), strict=True):
        assert xy == pytest.approx(by_hand(point, LENS), rel=1e-12)
    x_over_z = np.clip(points[..., :2] / points[..., 2:], -1, 1)
    assert np.allclose(project_screen_linear(points, LENS), x_over_z * LENS[:2] + LENS[2:4])


def test_far_off_the_axis_the_picture_ends():
    assert project_screen(np.array([9.0, 0, 1]), LENS) == pytest.approx(by_hand(np.array([1.0, 0, 1]), LENS))


def test_a_lens_for_each_of_a_batch_and_tensors_with_gradients():
    points = np.random.default_rng(1).normal(size=(4, 2, 5, 3)) + [0, 0, 6]
    lenses = LENS * np.array([1, 1.1, 0.9, 1.05])[:, None]
    found = project_screen(points, lenses)
    each = np.stack([project_screen(p, lens) for p, lens in zip(points, lenses, strict=True)])
    assert np.allclose(found, each)
    tensor = torch.tensor(points, requires_grad=True)
    projected = project_screen(tensor, torch.tensor(lenses))
    assert np.allclose(projected.detach().numpy(), found)
    projected.sum().backward()
    assert torch.isfinite(tensor.grad).all() and tensor.grad.abs().sum() > 0


def test_it_is_not_opencvs_model():
    camera = Camera((1000, 1000), (1145, 1145), (500, 500), (-0.2, 0.2, 0.01, 0.02, 0.0))
    lens = screen_intrinsics((1000, 1000), (1145, 1145), (500, 500), (-0.2, 0.2, 0.0), (0.01, 0.02))
    point = np.array([0.8, -0.5, 3.0])
    assert np.abs(normalise_screen(camera.project(point), (1000, 1000)) - project_screen(point, lens)).max() > 1e-3
    straight = screen_intrinsics((1000, 1000), (1145, 1145), (500, 500))
    plain = Camera((1000, 1000), (1145, 1145), (500, 500))
    assert normalise_screen(plain.project(point), (1000, 1000)) == pytest.approx(project_screen(point, straight))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_world_and_camera_are_a_way_there_and_back(seed):
    rng = np.random.default_rng(seed)
    orientation, place = rotations.normalised(rng.normal(size=4)), rng.normal(size=3)
    points = rng.normal(size=(6, 2, 3))
    seen = world_to_camera(points, orientation, place)
    assert np.allclose(camera_to_world(seen, orientation, place), points)
    assert np.allclose(world_to_camera(place, orientation, place), 0)
    # One unit along the camera's own axis.
    forward = rotations.to_matrix(orientation)[:, 2]
    assert np.allclose(world_to_camera(place + forward, orientation, place), [0, 0, 1])


def test_lists_are_as_good_as_arrays():
    points, place, turn = [[0.5, -0.25, 2.0], [1, 2, 3]], [1, 2, 3], [1.0, 0, 0, 0]
    for project in (project_screen, project_screen_linear):
        assert np.array_equal(project(points, LENS.tolist()), project(np.array(points), LENS))
    assert np.array_equal(world_to_camera(points, turn, place), np.array(points) - place)
    assert np.array_equal(camera_to_world(points, turn, place), np.array(points) + place)
    pixels = [[0, 0, 0.5], [1000, 1002, 1]]
    assert np.array_equal(normalise_screen(pixels, (1000, 1002)), [[-1, -1.002, 0.5], [1, 1.002, 1]])


@pytest.mark.parametrize("project", [project_screen, project_screen_linear])
@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, torch.tensor])
def test_tensors_take_a_lens_of_any_kind(project, kind):
    points = np.random.default_rng(2).normal(size=(2, 3, 5, 3)) + [0, 0, 6]
    for lens in (LENS, np.stack([LENS, LENS * 1.1])):
        tensor = torch.tensor(points, requires_grad=True)
        found = project(tensor, kind(lens))
        assert found.dtype == torch.float64 and np.allclose(found.detach().numpy(), project(points, lens), rtol=1e-14)
        found.sum().backward()
        assert torch.isfinite(tensor.grad).all() and tensor.grad.abs().min() > 0


@pytest.mark.parametrize("project", [project_screen, project_screen_linear])
def test_the_lens_takes_the_points_kind(project):
    points = np.array([[1, 2, 4], [0, 1, 3]])
    assert project(torch.tensor(points, dtype=torch.float32), LENS).dtype == torch.float32
    # Whole numbers must not make the lens whole too.
    assert np.allclose(project(torch.tensor(points), LENS).numpy(), project(points, LENS), atol=1e-6)
    found = project(points, torch.tensor(LENS))
    assert isinstance(found, np.ndarray) and np.array_equal(found, project(points, LENS))


def test_a_camera_file_by_its_name(tmp_path):
    (tmp_path / "camera.toml").write_text("width = 100\nheight = 50\nfx = 80.0\n")
    assert Camera.from_toml(str(tmp_path / "camera.toml")).focal_px == (80.0, 80.0)
