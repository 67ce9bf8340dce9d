"""Keypoints and poses as .npz files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .array_files import parse_arrays, write_arrays
from .camera import Camera
from .errors import FileFormatError
from .skeletons import KEYPOINT_LAYOUTS, LANDMARKS_41, MAX_JOINTS, Skeleton, pairs_by_prefix
from .source import Source
from .tracks import KeypointTrack, PoseTrack

# 2: changes. Files of schema 1 are read as untouched. 3: changes may say that an artist corrected a keypoint.
KEYPOINTS_SCHEMA = 3
# 2: lifted_from. Of poses of schema 1 nobody knows it.
POSE_SCHEMA = 2

_KIND = "keypoints or pose"
# What is beyond is no picture of somebody, but a broken file.
_FARTHEST_PX = 1e7


class _Single:
    """Numbers as they are written, in single precision; made only then, for an hour of them is large."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._values.astype(dtype or np.float32)


def write_keypoints(path: Path, track: KeypointTrack) -> None:
    """Write ``track`` as ``*.keypoints.npz``; see docs/file-formats.md."""
    write_arrays(
        path,
        {
            "xy_px": _Single(track.xy_px),
            "confidence": _Single(track.confidence),
            "time_s": track.time_s.astype(np.float64),
            "frame_index": track.frame_index.astype(np.int64),
            "filled": track.filled.astype(bool),
            "changes": track.changes,
            "layout": track.layout,
            "keypoint_names": np.array(KEYPOINT_LAYOUTS[track.layout]),
            "size_px": np.array(track.size_px, np.int64),
            "source": np.array([track.source.name, track.source.sha256]),
            "detector": track.detector,
            "person": track.person,
            "schema_version": KEYPOINTS_SCHEMA,
        },
    )


def read_keypoints(path: Path) -> KeypointTrack:
    """Read ``*.keypoints.npz``. Raises FileFormatError when it is not one."""

    def make(arrays: dict[str, np.ndarray]) -> KeypointTrack:
        width, height = (int(value) for value in arrays["size_px"])
        name, sha256 = (str(value) for value in arrays["source"])
        has_changes = int(arrays["schema_version"]) >= 2
        changes = arrays["changes"].astype(np.uint8, casting="safe") if has_changes else np.zeros((0, 0), np.uint8)
        xy_px = arrays["xy_px"].astype(np.float64)
        if float(np.nanmax(np.abs(xy_px), initial=0)) > _FARTHEST_PX:
            raise FileFormatError("xy_px lies far outside any picture.")
        return KeypointTrack(
            xy_px=xy_px,
            confidence=arrays["confidence"].astype(np.float64),
            time_s=arrays["time_s"].astype(np.float64),
            frame_index=arrays["frame_index"].astype(np.int64),
            layout=str(arrays["layout"]),
            size_px=(width, height),
            filled=arrays["filled"].astype(bool),
            source=Source(name, sha256),
            detector=str(arrays["detector"]),
            person=int(arrays["person"]),
            changes=changes,
        )

    return parse_arrays(path, _KIND, "xy_px", KEYPOINTS_SCHEMA, make)


def write_pose(path: Path, pose: PoseTrack) -> None:
    """Write ``pose`` as ``*.pose.npz``; see docs/file-formats.md."""
    write_arrays(
        path,
        {
            "joint_names": np.array(pose.skeleton.names),
            "parents": np.array(pose.skeleton.parents, np.int64),
            "positions_m": _Single(pose.positions_m),
            "rotations_wxyz": _Single(pose.rotations_wxyz),
            "confidence": _Single(pose.confidence),
            "contact": _Single(pose.contact),
            "world_from_camera": pose.world_from_camera.astype(np.float64),
            "time_s": pose.time_s.astype(np.float64),
            "frame_index": pose.frame_index.astype(np.int64),
            "fps": float(pose.fps),
            "focal_px": np.array(pose.camera.focal_px),
            "centre_px": np.array(pose.camera.centre_px),
            "size_px": np.array(pose.camera.size_px, np.int64),
            "distortion": np.array(pose.camera.distortion),
            "weights": np.array([pose.weights.name, pose.weights.sha256]),
            "source": np.array([pose.source.name, pose.source.sha256]),
            "lifted_from": pose.lifted_from,
            "schema_version": POSE_SCHEMA,
        },
    )


def read_pose(path: Path) -> PoseTrack:
    """Read ``*.pose.npz``. Raises FileFormatError when it is not one."""

    def make(arrays: dict[str, np.ndarray]) -> PoseTrack:
        if max(len(arrays["joint_names"]), len(arrays["parents"])) > MAX_JOINTS:
            raise ValueError(f"it has more than {MAX_JOINTS} joints")
        names = tuple(str(name) for name in arrays["joint_names"])
        parents = tuple(int(parent) for parent in arrays["parents"])
        skeleton = (
            LANDMARKS_41
            if (names, parents) == (LANDMARKS_41.names, LANDMARKS_41.parents)
            else Skeleton(names, parents, pairs_by_prefix(names, "l_", "r_"))
        )
        width, height = (int(value) for value in arrays["size_px"])
        fx, fy = (float(value) for value in arrays["focal_px"])
        cx, cy = (float(value) for value in arrays["centre_px"])
        k1, k2, p1, p2, k3 = (float(value) for value in arrays["distortion"])
        weights_name, weights_sha = (str(value) for value in arrays["weights"])
        source_name, source_sha = (str(value) for value in arrays["source"])
        knows = int(arrays["schema_version"]) >= 2
        lifted_from = arrays["lifted_from"].astype(np.uint64, casting="safe") if knows else np.zeros(0, np.uint64)
        return PoseTrack(
            positions_m=arrays["positions_m"].astype(np.float64),
            rotations_wxyz=arrays["rotations_wxyz"].astype(np.float64),
            confidence=arrays["confidence"].astype(np.float64),
            contact=arrays["contact"].astype(np.float64),
            world_from_camera=arrays["world_from_camera"].astype(np.float64),
            time_s=arrays["time_s"].astype(np.float64),
            frame_index=arrays["frame_index"].astype(np.int64),
            fps=float(arrays["fps"]),
            camera=Camera((width, height), (fx, fy), (cx, cy), (k1, k2, p1, p2, k3)),
            skeleton=skeleton,
            weights=Source(weights_name, weights_sha),
            source=Source(source_name, source_sha),
            lifted_from=lifted_from,
        )

    return parse_arrays(path, _KIND, "positions_m", POSE_SCHEMA, make)
