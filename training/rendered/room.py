"""The room that people are rendered in: a floor that takes shadows, walls, things in the way. All z up, metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

_FLOOR_CELLS, _WALL_CELLS = 240, 70
_SHADOW_BLUR_M = 0.035
_SHADOW_DENSITY = 0.5


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices (V, 3), faces (N, 4) anticlockwise from where they are seen, colours (V, 3) in [0, 1]."""

    vertices_m: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    smooth: bool = False


def joined(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0, *(len(mesh.vertices_m) for mesh in meshes[:-1])])
    return Mesh(
        np.concatenate([mesh.vertices_m for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
        np.concatenate([mesh.colours for mesh in meshes]),
    )


def _grid(corner: np.ndarray, along: np.ndarray, across: np.ndarray, cells: tuple[int, int]) -> Mesh:
    """A rectangle of squares, seen from where along x across points; grey."""
    u, v = np.meshgrid(np.linspace(0, 1, cells[0] + 1), np.linspace(0, 1, cells[1] + 1), indexing="ij")
    vertices = corner + u[..., None] * along + v[..., None] * across
    number = np.arange(vertices.shape[0] * vertices.shape[1]).reshape(u.shape)
    faces = np.stack([number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:]], axis=-1).reshape(-1, 4)
    return Mesh(vertices.reshape(-1, 3), faces, np.full((u.size, 3), 0.5))


def _tone(chance: np.random.Generator, low: float, high: float) -> np.ndarray:
    grey = chance.uniform(low, high)
    return np.asarray(np.clip(grey + chance.uniform(0, 0.25) * (chance.random(3) - 0.5), 0.03, 0.97))


def _clouds(points_m: np.ndarray, chance: np.random.Generator, length_m: float) -> np.ndarray:
    """(V,) smooth noise of about unit size."""
    noise = np.zeros(len(points_m))
    for _ in range(5):
        way = chance.normal(size=3)
        noise += np.sin(points_m @ (way / np.linalg.norm(way)) * (2 * np.pi / length_m) + chance.uniform(0, 6.3))
    return noise / 2


def _floor_colours(points_m: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    a, b = _tone(chance, 0.2, 0.8), _tone(chance, 0.2, 0.8)
    b = a + 0.5 * (b - a)
    kind = chance.integers(3)
    if kind == 0:
        size = chance.uniform(0.3, 0.8)
        share = (np.floor(points_m[:, 0] / size) + np.floor(points_m[:, 1] / size)) % 2
    elif kind == 1:
        plank = np.floor(points_m[:, 0] / chance.uniform(0.12, 0.25)).astype(int)
        share = chance.random(4096)[plank % 4096]
    else:
        share = 0.5 + 0.5 * np.clip(_clouds(points_m, chance, 0.9), -1, 1)
    grain = 1 + 0.05 * chance.normal(size=len(points_m))
    return np.asarray(np.clip((a + share[:, None] * (b - a)) * grain[:, None], 0, 1))


def _wall_colours(mesh: Mesh, chance: np.random.Generator) -> np.ndarray:
    """Plaster with some pictures, windows, boards."""
    points = mesh.vertices_m
    wall = _tone(chance, 0.3, 0.9)
    colours = wall * (1 + 0.04 * np.clip(_clouds(points, chance, 1.7), -1.5, 1.5))[:, None]
    low, high = points.min(axis=0), points.max(axis=0)
    level = int(np.argmax((high - low)[:2]))
    for _ in range(chance.integers(0, 6)):
        middle = chance.uniform(low[level], high[level]), chance.uniform(0.4, 2.4)
        half = chance.uniform(0.15, 0.9), chance.uniform(0.15, 0.7)
        inside = (np.abs(points[:, level] - middle[0]) < half[0]) & (np.abs(points[:, 2] - middle[1]) < half[1])
        colours[inside] = _tone(chance, 0.05, 0.95)
    skirting = points[:, 2] < low[2] + 0.09
    colours[skirting] = 0.7 * wall
    return np.asarray(np.clip(colours, 0, 1))


def make_floor(low_m: np.ndarray, high_m: np.ndarray, chance: np.random.Generator) -> Mesh:
    """The floor between two corners (x, y) at z = 0."""
    size = high_m - low_m
    cells = (_FLOOR_CELLS, _FLOOR_CELLS)
    mesh = _grid(np.array([*low_m, 0.0]), np.array([size[0], 0.0, 0.0]), np.array([0.0, size[1], 0.0]), cells)
    return Mesh(mesh.vertices_m, mesh.faces, _floor_colours(mesh.vertices_m, chance))


def make_walls(low_m: np.ndarray, high_m: np.ndarray, chance: np.random.Generator) -> Mesh:
    """Four walls, seen from inside, and a ceiling."""
    height = chance.uniform(2.8, 5.0)
    up = np.array([0.0, 0.0, height])
    corners = [np.array([x, y, 0.0]) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    corners = [np.array([*low_m, 0.0]) + corner * np.array([*(high_m - low_m), 0.0]) for corner in corners]
    walls = []
    for corner in range(4):
        start, end = corners[corner], corners[(corner + 1) % 4]
        # Inside is to the left of who walks round anticlockwise.
        wall = _grid(end, start - end, up, (_WALL_CELLS, _WALL_CELLS // 2))
        walls.append(Mesh(wall.vertices_m, wall.faces, _wall_colours(wall, chance)))
    ceiling = _grid(corners[3] + up, corners[2] - corners[3], corners[0] - corners[3], (4, 4))
    walls.append(Mesh(ceiling.vertices_m, ceiling.faces, np.tile(_tone(chance, 0.6, 0.95), (25, 1))))
    return joined(walls)


def make_box(centre_m: np.ndarray, size_m: np.ndarray, yaw_rad: float, colour: np.ndarray) -> Mesh:
    """A box that stands at ``centre_m``, the middle of its underside."""
    corners = np.array([[x, y, z] for z in (0, 1) for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))])
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    vertices = (corners * size_m) @ np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]) + centre_m
    faces = np.array([[0, 3, 2, 1], [4, 5, 6, 7], [0, 1, 5, 4], [1, 2, 6, 5], [2, 3, 7, 6], [3, 0, 4, 7]])
    return Mesh(vertices, faces, np.tile(colour, (8, 1)))


def in_the_way(kind: str, spot_m: np.ndarray, yaw_rad: float, room: np.ndarray, chance: np.random.Generator) -> Mesh:
    """A table, a box or a pole on the floor at ``spot_m`` (x, y), across the line of sight ``yaw_rad``.

    room: (2,) how wide the body is there and how high the line of sight to its hips
    """
    colour, spot = _tone(chance, 0.1, 0.8), np.array([*spot_m, 0.0])
    wide, high = room
    if kind == "pole":
        thick = chance.uniform(0.05, 0.10)
        return make_box(spot, np.array([thick, thick, 3.0]), yaw_rad, colour)
    if kind == "box":
        return make_box(
            spot, np.array([chance.uniform(0.3, 0.6) * wide, 0.3, high * chance.uniform(0.5, 0.8)]), yaw_rad, colour
        )
    top = high * chance.uniform(0.7, 0.95)
    along = np.array([np.cos(yaw_rad), np.sin(yaw_rad), 0.0])
    width = chance.uniform(0.8, 1.3) * wide
    legs = [
        make_box(spot + side * 0.45 * width * along, np.array([0.05, 0.3, top]), yaw_rad, 0.8 * colour)
        for side in (-1, 1)
    ]
    board = make_box(spot + np.array([0, 0, top]), np.array([width, 0.35, 0.04]), yaw_rad, colour)
    return joined([*legs, board])


def shaded_floor(floor: Mesh, casting_m: list[np.ndarray], towards_light: np.ndarray, strength: float) -> np.ndarray:
    """(V, 3) colours of a floor with the soft shadows of points (V, 3) above it.

    towards_light: (3,) z up
    """
    cells = _FLOOR_CELLS + 1
    low, high = floor.vertices_m[:, :2].min(axis=0), floor.vertices_m[:, :2].max(axis=0)
    points = np.concatenate(casting_m)
    lands = points[:, :2] - points[:, 2:3] * (towards_light[:2] / towards_light[2])
    place = (lands - low) / (high - low) * (cells - 1)
    number, _, _ = np.histogram2d(place[:, 0], place[:, 1], bins=cells, range=[[-0.5, cells - 0.5]] * 2)
    blur = _SHADOW_BLUR_M / ((high - low) / (cells - 1))
    dark = 1 - np.exp(-_SHADOW_DENSITY * gaussian_filter(number, np.maximum(blur, 0.8)))
    return np.asarray(floor.colours * (1 - strength * dark.reshape(-1, 1)))
