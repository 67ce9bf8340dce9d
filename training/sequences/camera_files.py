"""Where the cameras of a set stood, and their lenses: Human3.6M's own metadata.xml, and our cameras.toml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.camera import Camera, screen_intrinsics
from ...core.errors import FileFormatError
from ...core.outside_text import is_number, text_within, toml_table
from ...core.rotations import from_matrix

# Of the data set's own metadata; of a table, which somebody wrote.
MAX_FILE_BYTES, MAX_TABLE_BYTES = 32 << 20, 4 << 20
EVERYBODY = "*"

_SUBJECTS = 11
# Three angles and a place for each camera and subject, then a lens for each camera.
_EXTRINSICS, _INTRINSICS = 6, 9
_H36M_CAMERAS = (
    ("54138969", (1000, 1002)),
    ("55011271", (1000, 1000)),
    ("58860488", (1000, 1000)),
    ("60457274", (1000, 1002)),
)
_KEYS = {
    "subject",
    "name",
    "size_px",
    "focal_px",
    "centre_px",
    "radial",
    "tangential",
    "orientation_wxyz",
    "translation_mm",
}


@dataclass(frozen=True, eq=False)
class FilmingCamera:
    """A camera of a set.

    subject:          who it filmed; ``EVERYBODY`` = all of them
    size_px:          (width, height)
    intrinsics:       (9,) see ``core.camera.project_screen``, in screen-normalised units
    orientation_wxyz: (4,) from camera to world; None = nobody knows where it stood
    translation_m:    (3,) where it stood in the world, metres, z up
    """

    subject: str
    name: str
    size_px: tuple[int, int]
    intrinsics: np.ndarray
    orientation_wxyz: np.ndarray | None = None
    translation_m: np.ndarray | None = None

    def filmed(self, subject: str) -> bool:
        """Whether it is one of the cameras of ``subject``, which may have a part before its name: Train/S1."""
        return self.subject in (EVERYBODY, subject, subject.split("/")[-1])


def guessed_camera(subject: str, size_px: tuple[int, int]) -> FilmingCamera:
    """A camera whose longer side sees 60 degrees, where nobody knows which lens it was."""
    camera = Camera.guessed(size_px)
    return FilmingCamera(subject, "guessed", size_px, screen_intrinsics(size_px, camera.focal_px, camera.centre_px))


def read_cameras(path: Path) -> list[FilmingCamera]:
    """The cameras in metadata.xml (Human3.6M's) or cameras.toml, in the file's order.

    Raises FileFormatError when it is neither.
    """
    try:
        is_table = path.suffix.lower() == ".toml"
        text = text_within(path, MAX_TABLE_BYTES if is_table else MAX_FILE_BYTES)
    except FileNotFoundError:
        raise FileFormatError(f"There is no file '{path}'. Check [data] cameras in the configuration.") from None
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"The cameras in '{path}' can't be read: {problem}.") from problem
    return _from_toml(path, text) if is_table else _from_metadata(path, text)


def _turned(angle_rad: float, axis: int) -> np.ndarray:
    """(3, 3) turn about x, y or z."""
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[[first, second], [first, second]] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


def _from_metadata(path: Path, text: str) -> list[FilmingCamera]:
    # A parser of XML would follow whatever a hostile file refers to; one list of numbers is all that is wanted.
    found = re.search(r"<w0>\s*\[([^\]]*)\]\s*</w0>", text)
    try:
        values = np.array([float(value) for value in re.split(r"[\s,;]+", found[1].strip())] if found else [])
    except ValueError as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}.") from None
    lenses_at = len(_H36M_CAMERAS) * _SUBJECTS * _EXTRINSICS
    if len(values) < lenses_at + len(_H36M_CAMERAS) * _INTRINSICS or not np.isfinite(values).all():
        raise FileFormatError(
            f"'{path}' has no list <w0>[...]</w0> of Human3.6M's cameras. Give the metadata.xml that came with the set."
        )
    cameras = []
    for subject in range(_SUBJECTS):
        for index, (name, size_px) in enumerate(_H36M_CAMERAS):
            placed = values[(index * _SUBJECTS + subject) * _EXTRINSICS :][:_EXTRINSICS]
            fx, fy, cx, cy, k1, k2, k3, p1, p2 = values[lenses_at + index * _INTRINSICS :][:_INTRINSICS]
            intrinsics = screen_intrinsics(size_px, (fx, fy), (cx, cy), (k1, k2, k3), (p1, p2))
            camera = FilmingCamera(f"S{subject + 1}", name, size_px, intrinsics)
            # For some subjects nothing was published.
            cameras.append(_placed(camera, placed) if placed.any() else camera)
    return cameras


def _placed(camera: FilmingCamera, placed: np.ndarray) -> FilmingCamera:
    """The camera with its place: angles of the turn from world to camera, and millimetres."""
    x, y, z = placed[:3]
    camera_from_world = _turned(x, 0) @ _turned(y, 1) @ _turned(z, 2)
    return FilmingCamera(
        camera.subject,
        camera.name,
        camera.size_px,
        camera.intrinsics,
        from_matrix(camera_from_world.T),
        placed[3:] / 1000,
    )


def _from_toml(path: Path, text: str) -> list[FilmingCamera]:
    try:
        table = toml_table(text)
    except ValueError as problem:
        raise FileFormatError(f"'{path}' is no TOML file: {problem}.") from problem
    entries = table.get("camera")
    if set(table) != {"camera"} or not isinstance(entries, list) or not entries:
        raise FileFormatError(f"'{path}' needs [[camera]] tables and nothing else; see docs/file-formats.md.")
    return [_camera_of(path, number, entry) for number, entry in enumerate(entries, 1)]


def _camera_of(path: Path, number: int, entry: Any) -> FilmingCamera:
    where = f"Camera {number} in '{path}'"
    if not isinstance(entry, dict):
        raise FileFormatError(f"{where} is no table; write [[camera]] before it.")
    if unknown := sorted(set(entry) - _KEYS):
        raise FileFormatError(f"{where} has unknown keys: {', '.join(unknown)}.")
    if missing := sorted({"size_px", "focal_px"} - set(entry)):
        raise FileFormatError(f"{where} lacks {', '.join(missing)}.")
    if ("orientation_wxyz" in entry) != ("translation_mm" in entry):
        raise FileFormatError(f"{where} needs orientation_wxyz and translation_mm together, or neither.")

    def numbers(key: str, count: int, without: tuple[float, ...] = ()) -> Any:
        values = entry.get(key, without)
        good = isinstance(values, list | tuple) and len(values) == count
        if not good or not all(map(is_number, values)):
            raise FileFormatError(f"{where}: {key} must be {count} numbers.")
        return tuple(values)

    width, height = numbers("size_px", 2)
    focal = numbers("focal_px", 2)
    if min(width, height, *focal) <= 0:
        raise FileFormatError(f"{where}: size_px and focal_px must be positive.")
    centre = numbers("centre_px", 2, (width / 2, height / 2))
    radial, tangential = numbers("radial", 3, (0.0, 0.0, 0.0)), numbers("tangential", 2, (0.0, 0.0))
    subject, name = str(entry.get("subject", EVERYBODY)), str(entry.get("name", number))
    size_px = int(width), int(height)
    intrinsics = screen_intrinsics(size_px, focal, centre, radial, tangential)
    if "orientation_wxyz" not in entry:
        return FilmingCamera(subject, name, size_px, intrinsics)
    orientation = np.array(numbers("orientation_wxyz", 4), float)
    length = np.linalg.norm(orientation)
    if abs(length - 1) > 0.01:
        raise FileFormatError(f"{where}: orientation_wxyz must have length 1, not {length:.3f}.")
    translation_m = np.array(numbers("translation_mm", 3), float) / 1000
    return FilmingCamera(subject, name, size_px, intrinsics, orientation / length, translation_m)
