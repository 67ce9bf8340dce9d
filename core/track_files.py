"""Keypoints and poses as .npz files: no pickles, bounded sizes, written whole or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .camera import Camera
from .errors import FileFormatError
from .output_files import written_whole
from .skeletons import KEYPOINT_LAYOUTS, LANDMARKS_41, Skeleton, pairs_by_prefix
from .tracks import KeypointTrack, PoseTrack, Source

KEYPOINTS_SCHEMA = 1
POSE_SCHEMA = 1
# An hour at 120 frames a second of 41 joints takes 0.6 GB; whatever is larger than this is not one of ours.
MAX_ARRAY_BYTES = 2 << 30
MAX_MEMBERS = 64

Track = TypeVar("Track", KeypointTrack, PoseTrack)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if len(members) > MAX_MEMBERS or sum(member.file_size for member in members) > MAX_ARRAY_BYTES:
                raise FileFormatError(f"'{path}' is far larger than a file of ours ever is; it is not read.")
            arrays = {}
            for member in members:
                data = archive.read(member)
                arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(
                    io.BytesIO(data), allow_pickle=False
                )
            return arrays
    except FileNotFoundError:
        raise FileFormatError(f"There is no file '{path}'. Check the path.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError) as problem:
        raise FileFormatError(f"'{path}' is not a keypoints or pose file, or it is damaged: {problem}") from problem


def _write_arrays(path: Path, arrays: dict[str, Any]) -> None:
    # Packed in memory first: on a full disk the zip's writer complains once more when it is thrown away.
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    with written_whole(path) as beside:
        beside.write_bytes(packed.getbuffer())


def _parse(path: Path, schema: int, make: Callable[[dict[str, np.ndarray]], Track]) -> Track:
    arrays = _read_arrays(path)
    try:
        found = int(arrays["schema_version"])
        if found > schema:
            raise FileFormatError(f"'{path}' was written by a newer Keylift (schema {found}). Update Keylift.")
        return make(arrays)
    except KeyError as missing:
        raise FileFormatError(f"'{path}' lacks {missing}: it is not the kind of file wanted here.") from None
    except (TypeError, ValueError, IndexError) as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}") from problem
    except FileFormatError as problem:
        raise FileFormatError(f"'{path}': {problem}") from problem


def write_keypoints(path: Path, track: KeypointTrack) -> None:
    """Write ``track`` as ``*.keypoints.npz``; see docs/file-formats.md."""
    _write_arrays(
        path,
        {
            "xy_px": track.xy_px.astype(np.float32),
            "confidence": track.confidence.astype(np.float32),
            "time_s": track.time_s.astype(np.float64),
            "frame_index": track.frame_index.astype(np.int64),
            "filled": track.filled.astype(bool),
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
        return KeypointTrack(
            xy_px=arrays["xy_px"].astype(np.float64),
            confidence=arrays["confidence"].astype(np.float64),
            time_s=arrays["time_s"].astype(np.float64),
            frame_index=arrays["frame_index"].astype(np.int64),
            layout=str(arrays["layout"]),
            size_px=(width, height),
            filled=arrays["filled"].astype(bool),
            source=Source(name, sha256),
            detector=str(arrays["detector"]),
            person=int(arrays["person"]),
        )

    return _parse(path, KEYPOINTS_SCHEMA, make)


def write_pose(path: Path, pose: PoseTrack) -> None:
    """Write ``pose`` as ``*.pose.npz``; see docs/file-formats.md."""
    _write_arrays(
        path,
        {
            "joint_names": np.array(pose.skeleton.names),
            "parents": np.array(pose.skeleton.parents, np.int64),
            "positions_m": pose.positions_m.astype(np.float32),
            "rotations_wxyz": pose.rotations_wxyz.astype(np.float32),
            "confidence": pose.confidence.astype(np.float32),
            "contact": pose.contact.astype(np.float32),
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
            "schema_version": POSE_SCHEMA,
        },
    )


def read_pose(path: Path) -> PoseTrack:
    """Read ``*.pose.npz``. Raises FileFormatError when it is not one."""

    def make(arrays: dict[str, np.ndarray]) -> PoseTrack:
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
        )

    return _parse(path, POSE_SCHEMA, make)
