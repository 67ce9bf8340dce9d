"""What there is to learn from one person in one clip: keypoints at the lifter's rate, and the pose that was fitted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.array_files import parse_arrays, write_arrays
from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.skeletons import LANDMARKS_41, LIFTER_21_NAMES
from ...core.source import Source
from ..checkpoints import RUN_ADVICE

PART_ENDING = ".part.npz"
PART_SCHEMA = 1

_KIND = "footage part"


@dataclass(frozen=True, eq=False)
class FootagePart:
    """Moments of one person in one clip, a frame of the lifter apart.

    source:         the footage; ``person`` counts from 1
    camera:         the lens
    time_s:         (M,) seconds of the footage
    rays:           (M, 21, 2) x/z, y/z of the keypoints as they were detected, camera axes; NaN = unseen
    confidence:     (M, 21) in [0, 1]
    true_rays:      (M, 21, 2) the same with an artist's corrections
    true_confidence: (M, 21)
    corrected:      (M,) True where an artist corrected a keypoint
    motion_m:       (M, 41, 3) the fitted pose in a room whose y axis points up, floor at y = 0
    contact:        (M, 4) True where left heel, left ball, right heel, right ball stand
    covered:        (M,) True where the fitted pose covers the keypoints, and agrees with the lifter, well enough to be
                    learnt from
    camera_from_motion: (4, 4) rigid: from that room to the camera
    truth_m:        (M, 41, 3) camera space where somebody knows: captured beside the film; NaN elsewhere
    world_from_camera: (4, 4) where the camera stands among others that filmed the same; None = nobody knows
    """

    source: Source
    person: int
    camera: Camera
    time_s: np.ndarray
    rays: np.ndarray
    confidence: np.ndarray
    true_rays: np.ndarray
    true_confidence: np.ndarray
    corrected: np.ndarray
    motion_m: np.ndarray
    contact: np.ndarray
    covered: np.ndarray
    camera_from_motion: np.ndarray
    truth_m: np.ndarray
    world_from_camera: np.ndarray | None = None

    def __post_init__(self) -> None:
        moments, points, joints = len(self.time_s), len(LIFTER_21_NAMES), len(LANDMARKS_41)
        for name, shape in (
            ("time_s", (moments,)),
            ("rays", (moments, points, 2)),
            ("confidence", (moments, points)),
            ("true_rays", (moments, points, 2)),
            ("true_confidence", (moments, points)),
            ("corrected", (moments,)),
            ("motion_m", (moments, joints, 3)),
            ("contact", (moments, 4)),
            ("covered", (moments,)),
            ("camera_from_motion", (4, 4)),
            ("truth_m", (moments, joints, 3)),
        ):
            if (found := getattr(self, name).shape) != shape:
                raise FileFormatError(f"{name} must have shape {shape}, not {found}.")
        if not (np.isfinite(self.motion_m).all() and np.isfinite(self.camera_from_motion).all()):
            raise FileFormatError("motion_m and camera_from_motion must be finite.")
        if moments == 0 or not (np.isfinite(self.time_s).all() and (np.diff(self.time_s) > 0).all()):
            raise FileFormatError("time_s must grow from moment to moment.")

    @property
    def name(self) -> str:
        """What it is called: the footage, and which person of several."""
        return self.source.name if self.person == 1 else f"{self.source.name}, person {self.person}"


def write_part(path: Path, part: FootagePart) -> None:
    """Write one part, whole or not at all."""
    arrays = {
        name: getattr(part, name).astype(np.float32)
        for name in ("rays", "confidence", "true_rays", "true_confidence", "motion_m", "truth_m")
    }
    arrays |= {name: getattr(part, name).astype(bool) for name in ("corrected", "contact", "covered")}
    arrays |= {
        "source": np.array([part.source.name, part.source.sha256]),
        "person": np.int64(part.person),
        "size_px": np.array(part.camera.size_px, np.int64),
        "focal_px": np.array(part.camera.focal_px, np.float64),
        "centre_px": np.array(part.camera.centre_px, np.float64),
        "distortion": np.array(part.camera.distortion, np.float64),
        "time_s": part.time_s.astype(np.float64),
        "camera_from_motion": part.camera_from_motion.astype(np.float64),
        "schema_version": np.int64(PART_SCHEMA),
    }
    if part.world_from_camera is not None:
        arrays["world_from_camera"] = part.world_from_camera.astype(np.float64)
    write_arrays(path, arrays, RUN_ADVICE)


def read_part(path: Path) -> FootagePart:
    """Read one part. Raises FileFormatError when the file is not one, or damaged."""

    def make(arrays: dict[str, np.ndarray]) -> FootagePart:
        name, sha256 = (str(value) for value in arrays["source"])
        width, height = (int(value) for value in arrays["size_px"])
        fx, fy = (float(value) for value in arrays["focal_px"])
        cx, cy = (float(value) for value in arrays["centre_px"])
        k1, k2, p1, p2, k3 = (float(value) for value in arrays["distortion"])
        floats = {
            name: arrays[name].astype(np.float32, casting="same_kind")
            for name in ("rays", "confidence", "true_rays", "true_confidence", "motion_m", "truth_m")
        }
        flags = {name: arrays[name].astype(bool, casting="safe") for name in ("corrected", "contact", "covered")}
        return FootagePart(
            source=Source(name, sha256),
            person=int(arrays["person"]),
            camera=Camera((width, height), (fx, fy), (cx, cy), (k1, k2, p1, p2, k3)),
            time_s=arrays["time_s"].astype(np.float64),
            camera_from_motion=arrays["camera_from_motion"].astype(np.float64),
            world_from_camera=arrays["world_from_camera"].astype(float) if "world_from_camera" in arrays else None,
            **floats,
            **flags,
        )

    return parse_arrays(path, _KIND, "motion_m", PART_SCHEMA, make)
