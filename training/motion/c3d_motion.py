"""A folder of C3D files as landmark clips: Plug-in Gait known by its labels, any other marker set by a joint map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import FileFormatError
from . import plug_in_gait
from .c3d_reader import MarkerMotion, read_c3d
from .clips import (
    MAX_FRAMES_IN_FOLDER,
    LandmarkClip,
    motion_files_in,
    name_and_subject,
    turn_to_y_up,
    unit_by_body_size,
    up_by_posture,
)
from .derived_landmarks import completed
from .joint_map import JointMap

# Landmark or part of the body -> its (F, 3) places or (F, 3, 3) frames.
Parts = dict[str, np.ndarray]


def _markers(path: Path, motion: MarkerMotion, wanted: set[str]) -> dict[str, np.ndarray]:
    """Label -> (F, 3) of the labels that are wanted."""
    places = {label: [i for i, other in enumerate(motion.labels) if other == label] for label in wanted}
    if twice := sorted(label for label, found in places.items() if len(found) > 1):
        raise FileFormatError(
            f"'{path}' has the label {', '.join(twice)} more than once: several people. Export one person a file."
        )
    return {label: motion.points[:, found[0]] for label, found in places.items() if found}


def _labels_there(motion: MarkerMotion) -> str:
    return ", ".join(sorted(filter(None, motion.labels))) or "none"


def _metres_per_unit(
    motion: MarkerMotion, given: float | None, legs: dict[str, np.ndarray], notes: dict[str, None]
) -> float:
    """As the map says, else as the file says, else guessed from ``legs``: hips, knees and ankles, about."""
    if (known := given or motion.metres_per_unit) is not None:
        return known
    metres, unit = unit_by_body_size(legs)
    notes[f"C3D files that name no unit are taken to be in {unit}, going by the length of the legs."] = None
    return metres


def _by_map(path: Path, motion: MarkerMotion, joint_map: JointMap, notes: dict[str, None]) -> tuple[Parts, Parts]:
    """Landmarks -> (F, 3) metres; no frames."""
    if missing := joint_map.missing_from(motion.labels):
        raise FileFormatError(
            f"'{path}' has no label {', '.join(missing)}, which the joint map '{joint_map.title}' names. "
            f"Its labels are: {_labels_there(motion)}."
        )
    at = _markers(path, motion, joint_map.points)
    points: Parts = {
        name: np.sum([w * at[label] for label, w in zip(place.points, place.weights, strict=True)], axis=0)
        for name, place in joint_map.landmarks.items()
    }
    metres = _metres_per_unit(motion, joint_map.metres_per_unit, points, notes)
    return {name: metres * point for name, point in points.items()}, {}


def _by_plug_in_gait(path: Path, motion: MarkerMotion, notes: dict[str, None]) -> tuple[Parts, Parts]:
    """Landmarks -> (F, 3) metres, and frames of head and feet -> (F, 3, 3)."""
    if missing := plug_in_gait.missing_labels(motion.labels):
        raise FileFormatError(
            f"'{path}' is not of the marker set that is known by itself (Plug-in Gait Full Body): {', '.join(missing)} "
            f"are missing. Its labels are: {_labels_there(motion)}. Write a joint map (docs/file-formats.md) and name "
            "it as joint_map."
        )
    markers = _markers(path, motion, set(plug_in_gait.LABELS + plug_in_gait.OPTIONAL_LABELS))
    if unseen := [label for label in plug_in_gait.LABELS if not np.isfinite(markers[label]).any()]:
        raise FileFormatError(f"In '{path}' the markers {', '.join(unseen)} are never seen. Fill their gaps first.")
    legs = {
        f"{side.lower()}_{name}": markers[side + label]
        for side in "LR"
        for name, label in (("hip", "ASI"), ("knee", "KNE"), ("ankle", "ANK"))
    }
    metres = _metres_per_unit(motion, None, legs, notes)
    # A marker that was never seen is as good as none.
    return plug_in_gait.landmarks({name: metres * at for name, at in markers.items() if np.isfinite(at).any()})


def _clip(folder: Path, path: Path, joint_map: JointMap | None, notes: dict[str, None]) -> LandmarkClip:
    motion = read_c3d(path)
    if joint_map is None:
        points, frames = _by_plug_in_gait(path, motion, notes)
    else:
        points, frames = _by_map(path, motion, joint_map, notes)
    if unseen := [name for name, point in points.items() if not np.isfinite(point).all(axis=1).any()]:
        raise FileFormatError(
            f"In '{path}' no frame has all that {', '.join(unseen)} is told by. Fill the gaps of these markers first."
        )
    up = (joint_map.up if joint_map else "") or motion.up
    if not up:
        up = up_by_posture(points)
        notes[f"C3D files that don't say which axis points up are taken to have {up}, going by how people stand."] = (
            None
        )
    positions = completed(points, frames) @ turn_to_y_up(up).T
    skipped = joint_map.skip_frames if joint_map else 0
    name, subject = name_and_subject(folder, path)
    return LandmarkClip(path, name, subject, positions[skipped:], motion.fps)


def read_c3d_clips(folder: Path, joint_map: JointMap | None) -> tuple[list[LandmarkClip], tuple[str, ...]]:
    """Every C3D file in ``folder`` and below as a landmark clip, and notes on what was guessed.

    joint_map: for marker sets other than Plug-in Gait's; it is then used for all files
    Raises FileFormatError when a file is damaged, or labels that are needed are missing.
    """
    notes: dict[str, None] = {}
    clips: list[LandmarkClip] = []
    frames = 0
    for path in motion_files_in(folder, ".c3d"):
        clips.append(_clip(folder, path, joint_map, notes))
        frames += len(clips[-1].positions_m)
        if frames > MAX_FRAMES_IN_FOLDER:
            raise FileFormatError(f"'{folder}' holds more than {MAX_FRAMES_IN_FOLDER} frames. Name a folder in it.")
    return clips, tuple(notes)
