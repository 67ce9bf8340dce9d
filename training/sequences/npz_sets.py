"""The .npz files in which the field exchanges poses and keypoints: ``data_3d_*.npz`` and ``data_2d_*.npz``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import FileFormatError
from ...core.restricted_pickle import read_pickled_npz
from ...core.skeletons import KEYPOINT_LAYOUTS, mirrored_layout

MAX_CAMERAS = 64
MAX_FRAMES = 1 << 28
MAX_SEQUENCES = 100_000

# What the files call the layouts -> what we call them.
_LAYOUT_NAMES = {
    "coco": "coco17",
    "h36m": "h36m17",
    "human36m": "h36m17",
    "humaneva15": "humaneva15",
    "humaneva": "humaneva15",
    "mpii": "mpii16",
}


@dataclass(frozen=True, eq=False)
class PoseSet:
    """``data_3d_*.npz``.

    positions_m: subject -> action -> (T, J, 3) metres in the world, z up
    """

    path: Path
    positions_m: Mapping[str, Mapping[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class KeypointSet:
    """``data_2d_*.npz``.

    layout:       a name in ``KEYPOINT_LAYOUTS``; empty = the file doesn't tell
    points:       K, the same everywhere
    keypoints_px: subject -> action -> one (T, K, >= 2) array a camera: x and y in pixels, perhaps a score, perhaps more
    sizes_px:     subject -> (width, height), where every subject is a video of its own size; else empty
    """

    path: Path
    layout: str
    points: int
    keypoints_px: Mapping[str, Mapping[str, Sequence[np.ndarray]]]
    sizes_px: Mapping[str, tuple[int, int]]


def _dict(path: Path, value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FileFormatError(f"'{path}' is damaged: {what} is no dict of names.")
    return value


def _check_count(path: Path, subjects: Mapping[str, Any]) -> None:
    # Subjects of a hostile file may all have the same actions, so that a little holds any number.
    count = sum(len(actions) for actions in subjects.values() if isinstance(actions, dict))
    if count > MAX_SEQUENCES:
        raise FileFormatError(f"'{path}' has {count:,} sequences, more than {MAX_SEQUENCES:,}. Split it.")


def _array(path: Path, value: Any, what: str) -> np.ndarray:
    if not isinstance(value, np.ndarray) or value.ndim != 3 or value.dtype.kind not in "fiu":
        raise FileFormatError(f"'{path}' is damaged: {what} is no (frames, points, values) array.")
    return value


def _keypoints(path: Path, value: Any, what: str) -> np.ndarray:
    seen = _array(path, value, what)
    if seen.shape[2] < 2:
        raise FileFormatError(f"'{path}' has keypoints of {seen.shape[2]} values in {what}; they need x and y.")
    return seen


def read_pose_set(path: str | PathLike[str]) -> PoseSet:
    """Read ``data_3d_*.npz``. Raises FileFormatError when it is not one."""
    path = Path(path)
    content = read_pickled_npz(path, ("positions_3d",))
    if "positions_3d" not in content:
        raise FileFormatError(f"'{path}' has no positions_3d: it is no data_3d_*.npz file.")
    positions: dict[str, dict[str, np.ndarray]] = {}
    subjects = _dict(path, content["positions_3d"], "positions_3d")
    _check_count(path, subjects)
    for subject, actions in subjects.items():
        positions[subject] = {}
        for action, value in _dict(path, actions, subject).items():
            positions[subject][action] = _array(path, value, f"{subject}/{action}")
            if value.shape[2] != 3:
                raise FileFormatError(
                    f"'{path}' has positions of {value.shape[2]} values in {subject}/{action}, not 3."
                )
    return PoseSet(path, positions)


def _symmetry(path: Path, metadata: dict[str, Any]) -> tuple[set[int], set[int]] | None:
    """Which points are left and right, if the file tells."""
    if "keypoints_symmetry" not in metadata:
        return None
    try:
        left, right = ({int(point) for point in side} for side in metadata["keypoints_symmetry"])
        return left, right
    except (TypeError, ValueError, ArithmeticError):
        raise FileFormatError(f"'{path}' is damaged: its keypoints_symmetry is no pair of lists.") from None


def _sides(layout: str) -> tuple[set[int], set[int]]:
    """Which points of a layout are left and right."""
    names = KEYPOINT_LAYOUTS[layout]
    paired = [point for point, other in enumerate(mirrored_layout(names)) if other != point]
    left = {point for point in paired if names[point].startswith("l")}
    return left, set(paired) - left


def _layout(path: Path, metadata: dict[str, Any], points: int) -> str:
    """The layout by its name, or else by how many points there are and which of them are left and right."""
    symmetry = _symmetry(path, metadata)
    fitting = [
        layout
        for layout in dict.fromkeys(_LAYOUT_NAMES.values())
        if len(KEYPOINT_LAYOUTS[layout]) == points and symmetry in (None, _sides(layout))
    ]
    said = metadata.get("layout_name")
    layout = _LAYOUT_NAMES.get(said, "") if isinstance(said, str) else ""
    if layout and layout not in fitting:
        others = ", ".join(f"'{other}'" for other in fitting) or "no layout that Keylift knows"
        raise FileFormatError(
            f"'{path}' says that its layout is '{layout}', but its {points} points and their sides are those of "
            f"{others}. Put the layout_name in its metadata right."
        )
    return layout or (fitting[0] if len(fitting) == 1 else "")


def _video_sizes(path: Path, metadata: dict[str, Any]) -> dict[str, tuple[int, int]]:
    sizes = {}
    for video, size in _dict(path, metadata.get("video_metadata", {}), "video_metadata").items():
        try:
            sizes[video] = int(size["w"]), int(size["h"])
        except (TypeError, KeyError, ValueError, ArithmeticError):
            raise FileFormatError(f"'{path}' doesn't tell the width and height ('w', 'h') of '{video}'.") from None
        if min(sizes[video]) <= 0:
            raise FileFormatError(f"'{path}' says that '{video}' has a size of {sizes[video]}.")
    return sizes


def read_keypoint_set(path: str | PathLike[str]) -> KeypointSet:
    """Read ``data_2d_*.npz``. Raises FileFormatError when it is not one."""
    path = Path(path)
    content = read_pickled_npz(path, ("positions_2d", "metadata"))
    if missing := sorted({"positions_2d", "metadata"} - set(content)):
        raise FileFormatError(f"'{path}' has no {', '.join(missing)}: it is no data_2d_*.npz file.")
    metadata = _dict(path, content["metadata"], "metadata")
    keypoints: dict[str, dict[str, list[np.ndarray]]] = {}
    frames = 0
    subjects = _dict(path, content["positions_2d"], "positions_2d")
    _check_count(path, subjects)
    for subject, actions in subjects.items():
        keypoints[subject] = {}
        for action, cameras in _dict(path, actions, subject).items():
            what = f"{subject}/{action}"
            if not isinstance(cameras, list | tuple | np.ndarray) or len(cameras) > MAX_CAMERAS:
                raise FileFormatError(f"'{path}' is damaged: {what} is no list of cameras.")
            keypoints[subject][action] = [_keypoints(path, camera, what) for camera in cameras]
            frames += sum(len(camera) for camera in cameras)
    counts = {camera.shape[1] for actions in keypoints.values() for cameras in actions.values() for camera in cameras}
    if len(counts) != 1 or frames > MAX_FRAMES:
        raise FileFormatError(f"'{path}' is damaged: it has {frames} frames, with {sorted(counts)} points.")
    points = counts.pop()
    return KeypointSet(path, _layout(path, metadata, points), points, keypoints, _video_sizes(path, metadata))
