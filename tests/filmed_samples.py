"""Sets in exactly the files that the field exchanges, of people whose every joint is known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keylift.core.skeletons import H36M_17, HUMANEVA_15

H36M_PLACES = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
H36M_SYMMETRY = [[4, 5, 6, 11, 12, 13], [1, 2, 3, 14, 15, 16]]
HUMANEVA_SYMMETRY = [[2, 3, 4, 8, 9, 10], [5, 6, 7, 11, 12, 13]]
COCO_SYMMETRY = [[1, 3, 5, 7, 9, 11, 13, 15], [2, 4, 6, 8, 10, 12, 14, 16]]


@dataclass(frozen=True, eq=False)
class Lens:
    """A camera as a set's own files describe it: x_cam = rotation @ (x_world - place_mm)."""

    size_px: tuple[int, int]
    focal: np.ndarray
    centre: np.ndarray
    radial: np.ndarray
    tangential: np.ndarray
    rotation: np.ndarray
    place_mm: np.ndarray

    @classmethod
    def on_a_ring(cls, rng: np.random.Generator, index: int, size_px: tuple[int, int]) -> Lens:
        """A camera about five metres off that looks at the middle of the room, a little tilted."""
        heading = np.pi / 4 + index * np.pi / 2 + rng.uniform(-0.2, 0.2)
        place = np.array([5 * np.cos(heading), 5 * np.sin(heading), rng.uniform(1.4, 1.8)])
        forward = np.array([0, 0, 0.9]) - place
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.02, 0, 1])
        right /= np.linalg.norm(right)
        return cls(
            size_px,
            1.145 * size_px[0] * (1 + rng.uniform(-0.01, 0.01, 2)),
            np.array(size_px) / 2 + rng.uniform(-15, 15, 2),
            rng.uniform(-0.2, 0.2, 3),
            rng.uniform(-0.002, 0.002, 2),
            np.stack([right, np.cross(forward, right), forward]),
            place * 1000,
        )

    def before(self, world_m: np.ndarray) -> np.ndarray:
        """(..., 3) metres in the world -> camera space."""
        return (world_m - self.place_mm / 1000) @ self.rotation.T

    def pixels(self, world_m: np.ndarray) -> np.ndarray:
        """(..., 3) metres in the world -> (..., 2) pixels, by the paper's lens."""
        seen = self.before(world_m)
        x, y = seen[..., 0] / seen[..., 2], seen[..., 1] / seen[..., 2]
        r2 = x * x + y * y
        k, p = self.radial, self.tangential
        factor = 1 + k[0] * r2 + k[1] * r2**2 + k[2] * r2**3 + p[0] * x + p[1] * y
        bent = np.stack([x * factor + p[0] * r2, y * factor + p[1] * r2], axis=-1)
        return bent * self.focal + self.centre

    def angles(self) -> tuple[float, float, float]:
        """a, b, c of rotation = Rx(a) Ry(b) Rz(c)."""
        m = self.rotation
        return (
            float(np.arctan2(-m[1, 2], m[2, 2])),
            float(np.arcsin(m[0, 2])),
            float(np.arctan2(-m[0, 1], m[0, 0])),
        )


def person(rng: np.random.Generator, frames: int, names: tuple[str, ...]) -> np.ndarray:
    """(frames, J, 3) metres, z up: somebody of human size who turns and sways on the spot."""
    heights = {"ankle": 0.1, "knee": 0.5, "hip": 0.95, "pelvis": 0.95, "spine": 1.2, "thorax": 1.45, "shoulder": 1.4}
    heights |= {"elbow": 1.15, "wrist": 0.9, "neck_nose": 1.6, "head_top": 1.75, "head": 1.7}
    widths = {"hip": 0.12, "knee": 0.13, "ankle": 0.14, "shoulder": 0.18, "elbow": 0.35, "wrist": 0.45}
    rest = np.zeros((len(names), 3))
    for joint, name in enumerate(names):
        side, _, part = name.partition("_") if name.startswith(("left_", "right_")) else ("", "", name)
        rest[joint] = [{"left": 1, "right": -1, "": 0}[side] * widths.get(part, 0), 0, heights[part]]
    turn = np.linspace(0, 2, frames) + rng.uniform(0, 6)
    cos, sin, zero = np.cos(turn), np.sin(turn), np.zeros(frames)
    up = np.array([[0, 0, 1]] * frames)
    turned = np.stack([np.stack([cos, -sin, zero], -1), np.stack([sin, cos, zero], -1), up], axis=1)
    sway = rng.normal(0, 0.02, (frames, len(names), 3)).cumsum(axis=0) * 0.05
    return ((rest + sway) @ turned.transpose(0, 2, 1) + np.array([0.2, -0.1, 0])).astype(np.float32)


def as_object(value: Any) -> np.ndarray:
    return np.array(value, dtype=object)


def write_poses(path: Path, positions: dict[str, dict[str, np.ndarray]]) -> None:
    np.savez_compressed(path, positions_3d=as_object(positions))


def write_keypoints(path: Path, keypoints: dict[str, dict[str, list[np.ndarray]]], **metadata: Any) -> None:
    np.savez_compressed(path, positions_2d=as_object(keypoints), metadata=as_object(metadata))


@dataclass(frozen=True, eq=False)
class Human36m:
    """A little Human3.6M: the truth behind its files."""

    folder: Path
    lenses: dict[str, list[Lens]]
    world_m: dict[str, dict[str, np.ndarray]]
    pixels: dict[str, dict[str, list[np.ndarray]]]


H36M_LENGTHS = {"Walking 1": 40, "Walking": 23, "Sitting": 31}


def write_human36m(folder: Path, subjects: tuple[str, ...] = ("S1", "S5", "S9"), beyond: int = 3) -> Human36m:
    """Write data_3d_h36m.npz (32 joints), data_2d_h36m_gt.npz (films ``beyond`` frames longer) and metadata.xml."""
    rng = np.random.default_rng(3)
    lenses: dict[str, list[Lens]] = {}
    extrinsics = np.zeros((4, 11, 6))
    shared = [Lens.on_a_ring(rng, index, (1000, 1002 if index in (0, 3) else 1000)) for index in range(4)]
    for subject in subjects:
        number = int(subject[1:])
        lenses[subject] = []
        for index in range(4):
            placed = Lens.on_a_ring(rng, index, shared[index].size_px)
            own = {**vars(shared[index]), "rotation": placed.rotation, "place_mm": placed.place_mm}
            lenses[subject].append(Lens(**own))
            extrinsics[index, number - 1] = [*lenses[subject][index].angles(), *placed.place_mm]
    intrinsics = [[*one.focal, *one.centre, *one.radial, *one.tangential] for one in shared]
    numbers = " ".join(repr(float(value)) for value in [*extrinsics.ravel(), *np.ravel(intrinsics)])
    (folder / "metadata.xml").write_text(
        f'<?xml version="1.0"?>\n<metadata><subjects>[1 2]</subjects>\n<w0>[{numbers}]</w0>\n</metadata>\n'
    )
    world, filed, pixels = {}, {}, {}
    for subject in subjects:
        whole = {name: person(rng, length + max(beyond, 0), H36M_17.names) for name, length in H36M_LENGTHS.items()}
        world[subject] = {name: positions[: H36M_LENGTHS[name]] for name, positions in whole.items()}
        filed[subject] = {}
        for name, positions in world[subject].items():
            filed[subject][name] = np.full((len(positions), 32, 3), 77, np.float32)
            filed[subject][name][:, H36M_PLACES] = positions
        pixels[subject] = {
            name: [lens.pixels(positions[: length + beyond]).astype(np.float32) for lens in lenses[subject]]
            for (name, positions), length in zip(whole.items(), H36M_LENGTHS.values(), strict=True)
        }
    write_poses(folder / "data_3d_h36m.npz", filed)
    symmetry = {"num_joints": 17, "keypoints_symmetry": H36M_SYMMETRY}
    write_keypoints(folder / "data_2d_h36m_gt.npz", pixels, layout_name="h36m", **symmetry)
    return Human36m(folder, lenses, world, pixels)


def write_humaneva(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Write data_3d_humaneva15.npz, data_2d_humaneva15_gt.npz without a layout's name, and cameras.toml."""
    rng = np.random.default_rng(4)
    lenses = {who: [Lens.on_a_ring(rng, index, (640, 480)) for index in range(3)] for who in ("S1", "S2")}
    world = {
        f"{part}/{who}": {
            name: person(rng, 25 + 5 * place, HUMANEVA_15.names)
            for place, name in enumerate(("Walking 1 chunk0", "Walking 1 chunk2", "Jog 1 chunk0"))
        }
        for part in ("Train", "Validate")
        for who in ("S1", "S2")
    }
    pixels = {
        subject: {
            name: [lens.pixels(positions) for lens in lenses[subject.split("/")[1]]]
            for name, positions in actions.items()
        }
        for subject, actions in world.items()
    }
    write_poses(folder / "data_3d_humaneva15.npz", world)
    write_keypoints(folder / "data_2d_humaneva15_gt.npz", pixels, num_joints=15, keypoints_symmetry=HUMANEVA_SYMMETRY)
    (folder / "cameras.toml").write_text(
        "\n".join(camera_table(who, f"C{place + 1}", lens) for who in lenses for place, lens in enumerate(lenses[who]))
    )
    return world


def camera_table(subject: str, name: str, lens: Lens) -> str:
    """One [[camera]] of cameras.toml."""
    # Camera to world, by the trace: these cameras never turn by half a circle exactly.
    m = lens.rotation.T
    w = np.sqrt(max(1 + np.trace(m), 1e-12)) / 2
    wxyz = [w, *(np.array([m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]) / (4 * w))]
    values = {
        "size_px": list(lens.size_px),
        "focal_px": lens.focal.tolist(),
        "centre_px": lens.centre.tolist(),
        "radial": lens.radial.tolist(),
        "tangential": lens.tangential.tolist(),
        "orientation_wxyz": [float(value) for value in wxyz],
        "translation_mm": lens.place_mm.tolist(),
    }
    lines = [f"{key} = {value}" for key, value in values.items()]
    return "\n".join(["[[camera]]", f'subject = "{subject}"', f'name = "{name}"', *lines, ""])
