"""How a camera moves: the solved path of a moving one, read from a file or given by Blender."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation, Slerp

from .array_files import read_arrays
from .errors import FileFormatError


@dataclass(frozen=True, eq=False)
class CameraMotion:
    """A camera's way through the world.

    world_from_camera: (N, 4, 4) rigid, metres; world is z up, the camera looks along its z with y down
    time_s:            (N,) presentation times of the footage, strictly growing
    """

    world_from_camera: np.ndarray
    time_s: np.ndarray

    def __post_init__(self) -> None:
        frames = len(self.time_s)
        if frames == 0 or self.world_from_camera.shape != (frames, 4, 4) or self.time_s.ndim != 1:
            raise FileFormatError(
                f"A camera's motion needs world_from_camera (frames, 4, 4) and time_s (frames,), not "
                f"{self.world_from_camera.shape} and {self.time_s.shape}."
            )
        if not (np.isfinite(self.world_from_camera).all() and np.isfinite(self.time_s).all()):
            raise FileFormatError("A camera's motion has a value that is not a finite number.")
        if (np.diff(self.time_s) <= 0).any():
            raise FileFormatError("The times of a camera's motion must grow from frame to frame.")
        turn = self.world_from_camera[:, :3, :3]
        rigid = np.allclose(turn @ turn.swapaxes(1, 2), np.eye(3), atol=1e-4) and (np.linalg.det(turn) > 0).all()
        if not rigid or not np.allclose(self.world_from_camera[:, 3], [0, 0, 0, 1], atol=1e-6):
            raise FileFormatError(
                "A camera may only be turned and moved: world_from_camera must be rigid, without scale. Apply the "
                "camera's scale before you export it."
            )

    def at(self, time_s: np.ndarray) -> np.ndarray:
        """(F, 4, 4) world from camera at times (F,), interpolated; beyond its ends the camera stands still."""
        held = np.clip(time_s, self.time_s[0], self.time_s[-1])
        result = np.tile(np.eye(4), (len(held), 1, 1))
        if len(self.time_s) == 1:
            result[:] = self.world_from_camera[0]
            return result
        turns = Rotation.from_matrix(self.world_from_camera[:, :3, :3])
        result[:, :3, :3] = Slerp(self.time_s, turns)(held).as_matrix()
        for axis in range(3):
            result[:, axis, 3] = np.interp(held, self.time_s, self.world_from_camera[:, axis, 3])
        return result


def read_camera_motion(path: Path) -> CameraMotion:
    """Read an .npz with ``world_from_camera`` and ``time_s`` (docs/file-formats.md). Raises FileFormatError."""
    arrays = read_arrays(path, "camera motion")
    try:
        return CameraMotion(arrays["world_from_camera"].astype(float), arrays["time_s"].astype(float))
    except KeyError as missing:
        raise FileFormatError(
            f"'{path}' lacks {missing}: a camera's motion has world_from_camera and time_s."
        ) from None
    except (TypeError, ValueError, ArithmeticError, MemoryError) as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}") from problem
