"""The pinhole camera with OpenCV's lens distortion and the file that describes one; and the camera of the paper.

The functions on screen-normalised coordinates are those of "3D human pose estimation in video with temporal
convolutions and semi-supervised training", as its data files need them. The projections take torch tensors too, and
gradients flow through them; everything takes lists where it takes arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .errors import FileFormatError
from .outside_text import text_within, toml_table
from .rotations import inverse, rotate

# A phone's main lens sees about 65 degrees along the longer side of the picture; most footage is filmed near that.
DEFAULT_FIELD_OF_VIEW_DEG = 60.0
MAX_CAMERA_FILE_BYTES = 1 << 20
MAX_SIDE_PX = 1 << 16
_LARGEST_VALUE = 1e9

_KEYS = {"width", "height", "fx", "fy", "cx", "cy", "distortion", "focal_mm", "sensor_mm"}


@dataclass(frozen=True, eq=False)
class Camera:
    """A lens in front of an upright picture with square pixels.

    size_px:    (width, height)
    focal_px:   (fx, fy) pixels
    centre_px:  (cx, cy) pixels, origin top-left
    distortion: OpenCV's k1, k2, p1, p2, k3
    """

    size_px: tuple[int, int]
    focal_px: tuple[float, float]
    centre_px: tuple[float, float]
    distortion: tuple[float, float, float, float, float] = (0.0, 0.0, 0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        values = [*self.size_px, *self.focal_px, *self.centre_px, *self.distortion]
        # Compared rather than asked whether finite: whole numbers may be larger than any finite one of NumPy's.
        if not all(-_LARGEST_VALUE <= value <= _LARGEST_VALUE for value in values):
            raise FileFormatError("A camera has a value that is not a finite number, or one that no lens has.")
        if min(self.size_px) <= 0 or min(self.focal_px) <= 0:
            raise FileFormatError("A camera's size and focal length must be positive.")
        if max(self.size_px) > MAX_SIDE_PX:
            raise FileFormatError(f"A camera's picture has at most {MAX_SIDE_PX:,} pixels a side, not {self.size_px}.")

    @classmethod
    def guessed(cls, size_px: tuple[int, int], field_of_view_deg: float = DEFAULT_FIELD_OF_VIEW_DEG) -> Camera:
        """A camera without distortion whose longer side sees ``field_of_view_deg``."""
        focal = max(size_px) / 2 / np.tan(np.radians(field_of_view_deg) / 2)
        return cls(size_px, (focal, focal), (size_px[0] / 2, size_px[1] / 2))

    @classmethod
    def from_toml(cls, path: str | PathLike[str]) -> Camera:
        """Read ``camera.toml``: width, height, and fx, fy, cx, cy in pixels or focal_mm and sensor_mm (width).

        Raises FileFormatError when a key is missing, unknown or not a number.
        """
        path = Path(path)
        try:
            table = toml_table(text_within(path, MAX_CAMERA_FILE_BYTES))
        except FileNotFoundError:
            raise FileFormatError(f"There is no camera file '{path}'. Check the path after --camera.") from None
        except (OSError, ValueError) as problem:
            raise FileFormatError(f"The camera file '{path}' can't be read: {problem}.") from problem
        if unknown := sorted(set(table) - _KEYS):
            raise FileFormatError(f"The camera file '{path}' has unknown keys: {', '.join(unknown)}.")
        try:
            width, height = int(table["width"]), int(table["height"])
            if "focal_mm" in table:
                fx = fy = float(table["focal_mm"]) / float(table["sensor_mm"]) * width
            else:
                fx, fy = float(table["fx"]), float(table.get("fy", table["fx"]))
            centre = float(table.get("cx", width / 2)), float(table.get("cy", height / 2))
            distortion = [float(value) for value in table.get("distortion", [])]
        except KeyError as missing:
            raise FileFormatError(
                f"The camera file '{path}' lacks {missing}; it needs width, height, and fx or focal_mm and sensor_mm."
            ) from None
        except (TypeError, ValueError, ArithmeticError) as problem:
            raise FileFormatError(f"The camera file '{path}' has a value that is not a number: {problem}.") from problem
        if len(distortion) > 5:
            raise FileFormatError(
                f"The camera file '{path}' has {len(distortion)} distortion values; at most 5 are used."
            )
        k1, k2, p1, p2, k3 = distortion + [0.0] * (5 - len(distortion))
        return cls((width, height), (fx, fy), centre, (k1, k2, p1, p2, k3))

    def resized(self, size_px: tuple[int, int]) -> Camera:
        """The same lens for footage of another resolution. Raises FileFormatError when the shape differs."""
        sx, sy = size_px[0] / self.size_px[0], size_px[1] / self.size_px[1]
        if abs(sx / sy - 1) > 0.02:
            raise FileFormatError(
                f"The camera is for {self.size_px[0]}x{self.size_px[1]} pictures but the footage is "
                f"{size_px[0]}x{size_px[1]}: the shapes differ. Use the camera file of this footage."
            )
        focal = self.focal_px[0] * sx, self.focal_px[1] * sy
        return Camera(size_px, focal, (self.centre_px[0] * sx, self.centre_px[1] * sy), self.distortion)

    def _distorted(self, xy: np.ndarray) -> np.ndarray:
        k1, k2, p1, p2, k3 = self.distortion
        x, y = xy[..., 0], xy[..., 1]
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        return np.stack(
            [
                x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
                y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
            ],
            axis=-1,
        )

    def project(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) metres in camera space -> (..., 2) pixels (OpenCV's model). Points behind the lens give NaN."""
        depth = points_m[..., 2:3]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = np.where(depth > 1e-6, points_m[..., :2] / depth, np.nan)
        return self._distorted(xy) * np.array(self.focal_px) + np.array(self.centre_px)

    def rays(self, xy_px: np.ndarray) -> np.ndarray:
        """(..., 2) pixels -> (..., 2) x/z and y/z of the ray through them, with the distortion undone.

        The distortion has no closed inverse; a fixed-point iteration settles far below a pixel for real lenses.
        """
        distorted = (xy_px - np.array(self.centre_px)) / np.array(self.focal_px)
        if not any(self.distortion):
            return distorted
        xy = distorted
        for _ in range(30):
            xy = xy - (self._distorted(xy) - distorted)
        return xy


def normalise_screen(xy_px: ArrayLike, size_px: tuple[int, int]) -> np.ndarray:
    """(..., 2) pixels -> x in [-1, 1] and y scaled like x, both from the middle of the picture.

    Further values of the last axis (a score) are passed on as they are.
    """
    width, height = size_px
    result = np.array(xy_px, dtype=float)
    result[..., :2] = result[..., :2] / width * 2 - np.array([1, height / width])
    return result


def screen_intrinsics(
    size_px: tuple[int, int],
    focal_px: tuple[float, float],
    centre_px: tuple[float, float],
    radial: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tangential: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """(9,) fx, fy, cx, cy, k1, k2, k3, p1, p2 in screen-normalised units."""
    focal = np.array(focal_px) / size_px[0] * 2
    return np.concatenate([focal, normalise_screen(np.array(centre_px, float), size_px), radial, tangential])


def _is_tensor(value: Any) -> bool:
    # Told without torch, which nobody should have to load for a camera.
    return hasattr(value, "new_tensor")


def _in_kind_of(example: Any, values: Any) -> Any:
    """``values`` as a tensor like ``example`` if that is one, else as an array; a tensor stays itself."""
    if not _is_tensor(example):
        return np.asarray(values)
    return values if _is_tensor(values) else example.new_tensor(np.asarray(values))


def _on_plane(points: Any, intrinsics9: Any) -> tuple[Any, Any]:
    """x/z, y/z held within [-1, 1], and the intrinsics in their kind with axes put in where ``points`` has more."""
    points = points if _is_tensor(points) else np.asarray(points)
    xy = (points[..., :2] / points[..., 2:]).clip(-1, 1)
    lens = _in_kind_of(xy, intrinsics9)
    if lens.ndim > 1:
        lens = lens.reshape((*lens.shape[:-1], *[1] * (xy.ndim - lens.ndim), lens.shape[-1]))
    return xy, lens


def project_screen(points: Any, intrinsics9: Any) -> Any:
    """(..., 3) metres in camera space -> (..., 2) screen-normalised, with the paper's lens distortion.

    points:      a list, an array, or a tensor, which gives a tensor
    intrinsics9: (9,), or (B, 9) for points (B, ..., 3); of any of these kinds

    The distortion is not OpenCV's: its tangential part has no factor 2 and its coefficients stand the other way round.
    Points far off the axis are held at 45 degrees.
    """
    xy, lens = _on_plane(points, intrinsics9)
    focal, centre, k, p = lens[..., 0:2], lens[..., 2:4], lens[..., 4:7], lens[..., 7:9]
    r2 = (xy * xy).sum(-1)[..., None]
    radial = 1 + k[..., 0:1] * r2 + k[..., 1:2] * r2 * r2 + k[..., 2:3] * r2 * r2 * r2
    tangential = (p * xy).sum(-1)[..., None]
    return focal * (xy * (radial + tangential) + p * r2) + centre


def project_screen_linear(points: Any, intrinsics9: Any) -> Any:
    """``project_screen`` without lens distortion."""
    xy, lens = _on_plane(points, intrinsics9)
    return lens[..., 0:2] * xy + lens[..., 2:4]


def world_to_camera(points: ArrayLike, orientation_wxyz: ArrayLike, translation: ArrayLike) -> np.ndarray:
    """(..., 3) points in world space -> camera space; the translation is where the camera is."""
    return rotate(inverse(np.asarray(orientation_wxyz)), np.asarray(points) - np.asarray(translation))


def camera_to_world(points: ArrayLike, orientation_wxyz: ArrayLike, translation: ArrayLike) -> np.ndarray:
    """(..., 3) points in camera space -> world space; undoes ``world_to_camera``."""
    return rotate(np.asarray(orientation_wxyz), np.asarray(points)) + np.asarray(translation)
