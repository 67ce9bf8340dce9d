"""Pictures that Blender draws: people stand in them where the truth says they are, and the right way round."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.addon.people_rendering import Light, PictureRenderer, Surface
from keylift.core.camera import Camera
from keylift.core.errors import KeyliftError
from keylift.core.skeletons import LANDMARKS_41
from keylift.training.rendered.shot_plan import ShotPlan, plan_shot
from rendered_samples import base_body, walking_motion

RED, BLUE = np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
FLAT = np.ones(3)


@pytest.fixture(scope="module")
def plan() -> ShotPlan:
    return plan_shot(walking_motion(), base_body(), 5, 1, 4, 20, 30.0)


def picture_of(plan: ShotPlan, colours: np.ndarray, flip: float = 1.0, frame: int = 10) -> np.ndarray:
    """(H, W, 3) the actor alone in the dark; ``flip`` -1 mirrors it about its own middle plane."""
    vertices = plan.moved(float(frame))[0]["actor"]
    if flip < 0:
        middle = vertices.mean(axis=0)
        vertices = (vertices - middle) @ mirror_through_camera_axis(plan) + middle
    mesh = Surface(vertices, plan.actor.dressed.faces, colours)
    light = Light(np.array([0.0, -0.3, -1.0]), FLAT)
    with PictureRenderer({"actor": mesh}, plan.camera, plan.world_from_camera, [light], FLAT) as renderer:
        return renderer.picture()


def mirror_through_camera_axis(plan: ShotPlan) -> np.ndarray:
    right = plan.world_from_camera[:3, 0]
    return np.eye(3) - 2 * np.outer(right, right)


def inside_share(plan: ShotPlan, rgb: np.ndarray, frame: int = 10) -> float:
    """How many of the true limb joints lie on the silhouette."""
    names = [
        f"{s}_{n}" for s in "lr" for n in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "heel", "toe_base")
    ]
    xy = plan.camera.project(plan.truth()["truth_m"][frame, LANDMARKS_41.indices(*names, "nose", "head", "chest")])
    column, row = np.floor(xy).astype(int).T
    return float((rgb[row, column].max(axis=-1) > 120).mean())


def test_the_truth_lies_inside_the_silhouette(plan):
    white = np.ones((len(plan.actor.dressed.rest_m), 3))
    rgb = picture_of(plan, white)
    assert 0.01 < (rgb.max(axis=-1) > 120).mean() < 0.5
    assert inside_share(plan, rgb) == 1.0
    # A mirrored body doesn't pass: its limbs are elsewhere.
    assert inside_share(plan, picture_of(plan, white, flip=-1)) < 0.95


def test_left_is_left_in_the_picture(plan):
    """The left half of the body is painted red: wrists and ankles show the colour of their side."""
    left = plan.actor.dressed.body.vertices_m[:, :1] > 0
    rgb = picture_of(plan, np.where(left, RED, BLUE)).astype(int)
    mirrored = picture_of(plan, np.where(left, BLUE, RED)).astype(int)

    def agrees(picture: np.ndarray) -> float:
        told = []
        for side, channel in (("l", 0), ("r", 2)):
            xy = plan.camera.project(
                plan.truth()["truth_m"][10, LANDMARKS_41.indices(f"{side}_elbow", f"{side}_shoulder", f"{side}_ankle")]
            )
            column, row = np.floor(xy).astype(int).T
            told += list(picture[row, column, channel] > picture[row, column, 2 - channel])
        return float(np.mean(told))

    # A limb may hide one of the other side.
    assert agrees(rgb) >= 4 / 6 and agrees(mirrored) <= 2 / 6


def test_what_is_seen_are_outsides(plan):
    """Where faces lie behind each other in the picture, the nearest one looks at the camera."""
    vertices, faces = plan.moved(10.0)[0]["actor"], plan.actor.dressed.faces

    def looking_at_camera(corners: np.ndarray) -> float:
        a, b, c, d = (vertices[corners[:, corner]] for corner in range(4))
        towards_camera = plan.world_from_camera[:3, 3] - a
        seen_m = -towards_camera @ plan.world_from_camera[:3, :3]
        cell = np.floor(plan.camera.project(seen_m) / 6).astype(int)
        order = np.argsort(seen_m[:, 2])
        _, first = np.unique(cell[order], axis=0, return_index=True)
        nearest = order[first]
        return float((np.einsum("ni,ni->n", np.cross(c - a, d - b), towards_camera)[nearest] > 0).mean())

    assert looking_at_camera(faces) > 0.85
    assert looking_at_camera(faces[:, ::-1]) < 0.15


def test_points_land_where_the_camera_says():
    """Small squares in space against ``Camera.project``, to half a pixel."""
    camera = Camera((320, 240), (300.0, 300.0), (170.0, 110.0))
    points = np.array([[0.0, 0.0, 3.0], [0.6, -0.4, 3.0], [-0.7, 0.5, 2.5], [1.2, 0.9, 5.0]])
    for point in points:
        half = 0.02 * point[2]
        square = point + half * np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
        # The world is the camera's own space, seen from behind the z axis.
        mesh = Surface(square, np.array([[0, 1, 2, 3]]), np.ones((4, 3)), smooth=False)
        with PictureRenderer({"a": mesh}, camera, np.eye(4), [], np.ones(3)) as renderer:
            weight = renderer.picture()[..., 1].astype(float)
        rows, columns = np.mgrid[:240, :320] + 0.5
        found = np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()
        assert np.abs(found - camera.project(point)).max() < 0.5, point


def test_what_moves_and_is_painted_anew_is_seen_so():
    camera = Camera.guessed((160, 120))
    square = np.array([[-0.3, -0.3, 2], [0.3, -0.3, 2], [0.3, 0.3, 2], [-0.3, 0.3, 2.0]])
    mesh = Surface(square, np.array([[0, 1, 2, 3]]), np.tile(RED, (4, 1)), smooth=False)
    with PictureRenderer({"a": mesh}, camera, np.eye(4), [], np.ones(3)) as renderer:
        first = renderer.picture()
        renderer.move("a", square + np.array([0.5, 0.0, 0.0]))
        renderer.paint("a", np.tile(BLUE, (4, 1)))
        second = renderer.picture()
    assert first[60, 80, 0] > 150 > 60 > first[60, 80, 2]
    assert second[60, 80].max() < 90 and second[60, 80 + 34, 2] > 150


def test_a_lens_that_bends_is_refused():
    camera = Camera((160, 120), (150.0, 150.0), (80.0, 60.0), (0.1, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(KeyliftError, match="distortion"):
        PictureRenderer({}, camera, np.eye(4), [], np.ones(3))


@pytest.mark.parametrize(
    ("towards", "brighter"), [((1, 0, -0.3), "right"), ((-1, 0, -0.3), "left"), ((0, -1, -0.3), "top")]
)
def test_light_comes_from_where_it_should(towards, brighter):
    """A ball is brighter on the side of the light, which is told in camera axes."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 33), np.linspace(0, np.pi, 17), indexing="ij")
    ball = np.stack([np.cos(u) * np.sin(v), np.sin(u) * np.sin(v), np.cos(v)], axis=-1).reshape(-1, 3)
    number = np.arange(u.size).reshape(u.shape)
    faces = np.stack([number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]], axis=-1).reshape(-1, 4)
    mesh = Surface(ball + np.array([0, 0, 5.0]), faces, np.full((len(ball), 3), 0.8))
    light = Light(np.array(towards, float), FLAT)
    with PictureRenderer({"a": mesh}, Camera.guessed((160, 120)), np.eye(4), [light], np.zeros(3)) as renderer:
        grey = renderer.picture().astype(float).mean(axis=-1)
    sides = {"left": grey[:, :80], "right": grey[:, 80:], "top": grey[:60], "bottom": grey[60:]}
    opposite = {"left": "right", "right": "left", "top": "bottom"}
    assert sides[brighter].mean() > 1.3 * sides[opposite[brighter]].mean()
