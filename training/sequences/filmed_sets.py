"""Human3.6M, HumanEva and custom sets as sequences: poses brought before each camera, keypoints to screen units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path

import numpy as np

from ...core.camera import normalise_screen, project_screen, world_to_camera
from ...core.errors import FileFormatError
from ...core.skeletons import KEYPOINT_LAYOUTS, SKELETONS, Skeleton, joints_in_both
from ...core.source import sha256_of
from .camera_files import FilmingCamera, guessed_camera, read_cameras
from .config import FilmedData
from .npz_sets import KeypointSet, PoseSet, read_keypoint_set, read_pose_set
from .sequence import FilmedSequence, SequenceSet, Split, subset_frames

# Of the 32 joints in Human3.6M's files, the 17 that move by themselves, in the order of H36M_17.
H36M_KEPT = [0, 1, 2, 3, 6, 7, 8, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27]
_H36M_FILED = 32

# How far keypoints may lie from where the camera sees the joints, in parts of the person's size. Detectors miss by 0.02
# to 0.05; layouts that are mistaken for each other by 0.6, poses before the wrong camera by 0.15 and more.
MAX_MISFIT = 0.12
_FRAMES_LOOKED_AT = 20


@dataclass(frozen=True)
class _Kind:
    """What is known of a set beforehand."""

    skeleton: str
    fps: float


# Nobody wrote down the rate of custom videos.
_KINDS = {"human36m": _Kind("h36m17", 50.0), "humaneva": _Kind("humaneva15", 60.0), "custom": _Kind("h36m17", 30.0)}


@dataclass(frozen=True, eq=False)
class _Reading:
    """Everything that sequences are made from."""

    data: FilmedData
    skeleton_name: str
    fps: float
    keypoints: KeypointSet
    layout: str
    poses: PoseSet | None
    cameras: list[FilmingCamera]

    @property
    def skeleton(self) -> Skeleton:
        return SKELETONS[self.skeleton_name]


def read_filmed(data: FilmedData, base_folder: str | PathLike[str], split: Split) -> SequenceSet:
    """One part of a set, in the order of the configuration's subjects and of the keypoints' file.

    train is shortened to ``data.subset``; every part to every ``data.downsample``-th frame. unlabelled has no
    positions. Empty when the configuration names no subject for it. Raises FileFormatError when a file can't be read,
    or when keypoints, poses, cameras and names of layouts don't go together.
    """
    base_folder = Path(base_folder)
    skeleton_name, fps = _skeleton_and_rate(data)
    subjects = _subjects(data, split)
    further = data.unlabelled_keypoints if split == "unlabelled" else ()
    if not (subjects or further or _everybody(data, split)):
        return SequenceSet([], data.keypoint_layout, SKELETONS[skeleton_name], {})
    keypoints = read_keypoint_set(base_folder / data.keypoints)
    reading = _Reading(
        data,
        skeleton_name,
        fps,
        keypoints,
        _layout_of(keypoints, data),
        read_pose_set(base_folder / data.poses) if data.poses else None,
        read_cameras(base_folder / data.cameras) if data.cameras else [],
    )
    whole = list(_sequences(reading, tuple(keypoints.keypoints_px) if _everybody(data, split) else subjects, split))
    for name in further:
        whole += _further_sequences(reading, base_folder / name)
    _check_fit(whole, reading.layout, skeleton_name)
    files = [name for name in (data.keypoints, data.poses, data.cameras, *further) if name]
    sequences = _shortened(whole, data.subset if split == "train" else 1.0, data.downsample)
    return SequenceSet(
        sequences, reading.layout, reading.skeleton, {name: sha256_of(base_folder / name) for name in files}
    )


def _skeleton_and_rate(data: FilmedData) -> tuple[str, float]:
    kind = _KINDS.get(data.kind)
    if kind is None:
        raise FileFormatError(f"[data] kind must be one of {', '.join(_KINDS)}, not '{data.kind}'.")
    name = data.skeleton or kind.skeleton
    if name not in SKELETONS:
        raise FileFormatError(f"[data] skeleton must be one of {', '.join(SKELETONS)}, not '{name}'.")
    return name, kind.fps


def _shortened(sequences: list[FilmedSequence], subset: float, downsample: int) -> list[FilmedSequence]:
    """The frames that are learnt from; a sequence of which nothing is left is left out."""
    frames = [subset_frames(len(sequence), subset, downsample) for sequence in sequences]
    return [
        sequence.part(kept)
        for sequence, kept in zip(sequences, frames, strict=True)
        if len(range(*kept.indices(len(sequence)))) > 0
    ]


def _subjects(data: FilmedData, split: Split) -> tuple[str, ...]:
    return {
        "train": data.train_subjects,
        "valid": data.valid_subjects,
        "test": data.test_subjects,
        "unlabelled": data.unlabelled_subjects,
    }[split]


def _everybody(data: FilmedData, split: Split) -> bool:
    """Without poses there is nothing to choose: everything is learnt from without labels."""
    return split == "unlabelled" and not data.poses and not data.unlabelled_subjects


def _layout_of(keypoints: KeypointSet, data: FilmedData) -> str:
    """The keypoints' layout, by the file or the configuration, which must agree."""
    said = data.keypoint_layout
    if said and said not in KEYPOINT_LAYOUTS:
        raise FileFormatError(f"[data] keypoint_layout must be one of {', '.join(KEYPOINT_LAYOUTS)}, not '{said}'.")
    if said and keypoints.layout and said != keypoints.layout:
        raise FileFormatError(
            f"[data] keypoint_layout is '{said}', but the keypoints in '{keypoints.path}' are '{keypoints.layout}'."
        )
    layout = keypoints.layout or said
    if not layout:
        raise FileFormatError(
            f"'{keypoints.path}' doesn't tell the layout of its keypoints. Name it in [data] keypoint_layout."
        )
    if keypoints.points != len(KEYPOINT_LAYOUTS[layout]):
        raise FileFormatError(
            f"[data] keypoint_layout is '{layout}', {len(KEYPOINT_LAYOUTS[layout])} points, but the keypoints in "
            f"'{keypoints.path}' have {keypoints.points}. Name the layout that they have."
        )
    return layout


def _wanted(data: FilmedData, action: str) -> bool:
    return not data.actions or action.split(" ")[0] in data.actions


def _sequences(reading: _Reading, subjects: Sequence[str], split: Split) -> Iterator[FilmedSequence]:
    keypoints, labels_wanted = reading.keypoints, split != "unlabelled"
    for subject in subjects:
        poses = reading.poses.positions_m.get(subject) if reading.poses else None
        if subject not in keypoints.keypoints_px:
            known = ", ".join(list(keypoints.keypoints_px)[:20])
            raise FileFormatError(f"'{keypoints.path}' has no subject '{subject}'. It has: {known}.")
        if labels_wanted and poses is None:
            where = f"'{reading.poses.path}' has no" if reading.poses else "[data] has no file of poses, so there is no"
            raise FileFormatError(f"{where} subject '{subject}' to learn from or to test on with labels.")
        if labels_wanted:
            _check_all_filmed(reading, subject)
        for action, seen in keypoints.keypoints_px[subject].items():
            posed = None if poses is None else poses.get(action)
            # Detectors also saw takes in which motion capture failed.
            if not _wanted(reading.data, action) or (labels_wanted and posed is None):
                continue
            for camera, points_px in zip(_cameras(reading, subject, len(seen)), seen, strict=False):
                sequence = _sequence(reading, subject, action, camera, points_px, posed)
                yield sequence if posed is None or not labels_wanted else _labelled(reading, sequence, camera, posed)


def _further_sequences(reading: _Reading, path: Path) -> list[FilmedSequence]:
    """Everybody in another file of keypoints, without labels."""
    keypoints = read_keypoint_set(path)
    if keypoints.layout not in ("", reading.layout):
        raise FileFormatError(
            f"The keypoints in '{path}' are '{keypoints.layout}', those in '{reading.keypoints.path}' "
            f"'{reading.layout}'. One network can't learn from both."
        )
    if keypoints.points != reading.keypoints.points:
        raise FileFormatError(
            f"The keypoints in '{path}' are of {keypoints.points} points, those in '{reading.keypoints.path}' of "
            f"{reading.keypoints.points} ('{reading.layout}'). One network can't learn from both."
        )
    other = replace(reading, keypoints=keypoints, poses=None)
    return list(_sequences(other, tuple(keypoints.keypoints_px), "unlabelled"))


def _check_all_filmed(reading: _Reading, subject: str) -> None:
    assert reading.poses is not None
    keypoints = reading.keypoints
    unseen = [
        action
        for action in reading.poses.positions_m[subject]
        if _wanted(reading.data, action) and not keypoints.keypoints_px[subject].get(action)
    ]
    if unseen:
        raise FileFormatError(
            f"'{keypoints.path}' has no keypoints of {subject}/{unseen[0]}, but there are poses of it."
        )


def _cameras(reading: _Reading, subject: str, count: int) -> list[FilmingCamera]:
    """The cameras that filmed a subject, in the order of its keypoints."""
    keypoints = reading.keypoints
    found = [camera for camera in reading.cameras if camera.filmed(subject)]
    if not found and subject in keypoints.sizes_px:
        return [guessed_camera(subject, keypoints.sizes_px[subject])] * count
    if len(found) < count:
        where = f"'{reading.data.cameras}' has {len(found)} cameras" if reading.data.cameras else "there are no cameras"
        raise FileFormatError(
            f"{subject} was filmed by {count} cameras, but {where} of it. Give them in [data] cameras: Human3.6M's "
            "metadata.xml, or a cameras.toml as in docs/file-formats.md."
        )
    size_px = keypoints.sizes_px.get(subject)
    if size_px and any(camera.size_px != size_px for camera in found[:count]):
        raise FileFormatError(
            f"'{keypoints.path}' says that {subject} has pictures of {size_px[0]}x{size_px[1]}, but its camera in "
            f"'{reading.data.cameras}' takes {found[0].size_px[0]}x{found[0].size_px[1]}."
        )
    return found


def _sequence(
    reading: _Reading,
    subject: str,
    action: str,
    camera: FilmingCamera,
    points_px: np.ndarray,
    posed: np.ndarray | None,
) -> FilmedSequence:
    """What one camera saw, no longer than the poses of it."""
    name = f"{subject}/{action}/{camera.name}"
    if posed is not None and len(points_px) < len(posed):
        raise FileFormatError(f"{name} has {len(posed)} poses but keypoints in {len(points_px)} frames only.")
    # The films go on a little after motion capture has stopped.
    points_px = _wanted_values(reading, name, points_px if posed is None else points_px[: len(posed)])
    if not np.isfinite(points_px).all():
        raise FileFormatError(f"The keypoints of {name} have values that are no numbers. Interpolate them first.")
    keypoints = normalise_screen(points_px, camera.size_px).astype(np.float32)
    return FilmedSequence(subject, action, camera.name, keypoints, None, camera.intrinsics, reading.fps)


def _wanted_values(reading: _Reading, name: str, points_px: np.ndarray) -> np.ndarray:
    """x, y and, if the configuration asks for it, score. What files have besides is nobody's."""
    if reading.data.score and points_px.shape[2] < 3:
        raise FileFormatError(
            f"[data] score is true, but '{reading.keypoints.path}' has no score beside the keypoints of {name}. Leave "
            "score out, or give keypoints that have one."
        )
    return points_px[..., : 3 if reading.data.score else 2]


def _labelled(reading: _Reading, sequence: FilmedSequence, camera: FilmingCamera, posed: np.ndarray) -> FilmedSequence:
    """The sequence with its poses before the camera: joint 0 absolute, the others against it."""
    assert reading.poses is not None
    name, joints = reading.skeleton_name, posed.shape[1]
    if name == "h36m17" and joints == _H36M_FILED:
        posed, joints = posed[:, H36M_KEPT], len(H36M_KEPT)
    if joints != len(reading.skeleton):
        raise FileFormatError(
            f"The poses in '{reading.poses.path}' have {joints} joints ({sequence.name}), but the skeleton '{name}' "
            f"has {len(reading.skeleton)}. Name theirs in [data] skeleton."
        )
    if camera.orientation_wxyz is None or camera.translation_m is None:
        raise FileFormatError(
            f"Nobody knows where the camera of {sequence.name} stood, so its poses can't be brought before it. Give "
            "its place in [data] cameras, or learn from it without labels."
        )
    positions = world_to_camera(posed.astype(float), camera.orientation_wxyz, camera.translation_m)
    positions[:, 1:] -= positions[:, :1]
    if not np.isfinite(positions).all():
        raise FileFormatError(f"The poses of {sequence.name} have values that are no numbers. Leave it out.")
    return replace(sequence, positions_m=positions.astype(np.float32))


def _misfit(sequence: FilmedSequence, pairs: np.ndarray) -> float:
    """How far keypoints lie from the joints of the same name as the camera should see them, in parts of the person."""
    assert sequence.positions_m is not None and sequence.intrinsics is not None
    frames = np.linspace(0, len(sequence) - 1, _FRAMES_LOOKED_AT).astype(int)
    positions = sequence.positions_m[frames].astype(float)
    positions[:, 1:] += positions[:, :1]
    wanted = project_screen(positions, sequence.intrinsics)[:, pairs[:, 1]]
    found = sequence.keypoints[frames][:, pairs[:, 0], :2]
    size = (wanted.max(axis=1) - wanted.min(axis=1)).max(axis=-1)
    return float(np.median(np.linalg.norm(found - wanted, axis=-1) / np.maximum(size, 1e-6)[:, None]))


def _check_fit(sequences: list[FilmedSequence], layout: str, skeleton_name: str) -> None:
    """Raise FileFormatError when most keypoints are not where the camera sees the joints of the same names."""
    pairs = np.array(joints_in_both(KEYPOINT_LAYOUTS[layout], SKELETONS[skeleton_name].names), int)
    labelled = [sequence for sequence in sequences if sequence.positions_m is not None]
    if not labelled or len(pairs) == 0:
        return
    misfits = [_misfit(sequence, pairs) for sequence in labelled]
    if np.median(misfits) > MAX_MISFIT:
        worst = labelled[int(np.argmax(misfits))]
        raise FileFormatError(
            f"The keypoints '{layout}' are not where the cameras see the joints '{skeleton_name}': off by "
            f"{100 * np.median(misfits):.0f} % of the person's size ({worst.name} most). One of the two is of another "
            "layout, or the cameras are not those of this set."
        )
