"""Motion capture filmed by synthetic cameras: sequences with labels, from motion that no camera ever saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.camera import project_screen, screen_intrinsics, world_to_camera
from ...core.errors import FileFormatError
from ...core.rotations import from_matrix
from ...core.skeletons import LANDMARKS_41, SKELETONS
from ..motion.files import read_motion_from
from ..motion.motion_set import MotionSet
from .config import MocapData
from .keypoint_noise import detected
from .sequence import FilmedSequence

# Every camera has the same lens, 47 degrees wide: lifters of screen coordinates are not told which lens it was, so a
# picture can't be explained to them by another one.
LENS = screen_intrinsics((1000, 1000), (1145, 1145), (505, 497), (-0.2, 0.22, 0.0), (-0.001, 0.0005))
_SHORT = {"left": "l", "right": "r"}
# Names that mean another landmark of ours than the one they spell.
_LANDMARK_OF = {"thorax": "neck", "neck_nose": "nose"}
LAYOUTS = ("h36m17", "coco17")


def _landmarks_for(names: tuple[str, ...]) -> list[int]:
    def landmark(name: str) -> str:
        side, _, part = name.partition("_")
        return f"{_SHORT[side]}_{part}" if side in _SHORT else _LANDMARK_OF.get(name, name)

    return LANDMARKS_41.indices(*(landmark(name) for name in names))


def landmarks_of_skeleton(name: str) -> list[int]:
    """Which of the 41 landmarks are the joints of ``h36m17`` or ``landmarks41``."""
    if name not in ("h36m17", "landmarks41"):
        raise FileFormatError(f"[data] skeleton must be h36m17 or landmarks41 for motion capture, not '{name}'.")
    return _landmarks_for(SKELETONS[name].names)


def landmarks_of_layout(name: str) -> list[int]:
    """Which of the 41 landmarks are the keypoints of a layout."""
    from ...core.skeletons import KEYPOINT_LAYOUTS

    if name not in LAYOUTS:
        raise FileFormatError(f"[data] keypoint_layout must be one of {', '.join(LAYOUTS)}, not '{name}'.")
    return _landmarks_for(KEYPOINT_LAYOUTS[name])


def camera_round(rng: np.random.Generator, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A camera on a tripod that has all of a walked path (F, 3) metres, z up, in its picture.

    returns: orientation (4,) wxyz and place (3,) of the camera in the world
    """
    low, high = path.min(axis=0), path.max(axis=0)
    centre, reach = (low + high) / 2, np.linalg.norm((high - low)[:2]) / 2
    heading = rng.uniform(-np.pi, np.pi)
    distance = rng.uniform(4.0, 6.0) + 1.3 * reach
    place = np.array([centre[0], centre[1], 0]) + distance * np.array([np.cos(heading), np.sin(heading), 0])
    place[2] = centre[2] + rng.uniform(0.1, 1.0)
    look_at = centre + rng.normal(0, 0.1, 3)
    forward = (look_at - place) / np.linalg.norm(look_at - place)
    roll = np.radians(rng.normal(0, 1.5))
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    right, down = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    return from_matrix(np.stack([right, down, forward], axis=1)), place


def _at_rate(positions: np.ndarray, fps: float, wanted: float) -> np.ndarray:
    """(F, J, 3) brought from one frame rate to another, by picking frames where that is all it takes."""
    step = fps / wanted
    if abs(step - round(step)) < 1e-6 and step >= 1:
        return positions[:: round(step)]
    times = np.arange(0, len(positions) - 1, step)
    low = times.astype(int)
    part = (times - low)[:, None, None]
    return positions[low] + part * (positions[low + 1] - positions[low])


def film(motion: MotionSet, data: MocapData, seed: int) -> list[FilmedSequence]:
    """Each clip of ``motion`` from ``data.cameras`` sides; always the same for a ``seed``."""
    joints, points = landmarks_of_skeleton(data.skeleton), landmarks_of_layout(data.keypoint_layout)
    sequences = []
    for clip, name in enumerate(motion.clip_name):
        positions = motion.positions_m[motion.clip_start[clip] : motion.clip_start[clip + 1]].astype(float)
        # y up to z up.
        world = _at_rate(positions, motion.fps, data.fps)[..., [0, 2, 1]] * np.array([1, -1, 1])
        for number in range(data.cameras):
            rng = np.random.default_rng((seed, clip, number))
            orientation, place = camera_round(rng, world[:, 0])
            seen = world_to_camera(world, orientation, place)
            keypoints = project_screen(seen[:, points], LENS)
            keypoints = detected(rng, keypoints, data.noise)
            targets = seen[:, joints].copy()
            targets[:, 1:] -= targets[:, :1]
            sequences.append(
                FilmedSequence(
                    str(motion.subject[clip]),
                    str(name),
                    f"camera{number + 1}",
                    keypoints.astype(np.float32),
                    targets.astype(np.float32),
                    LENS,
                    data.fps,
                )
            )
    return sequences


def _labelling_order(clips: list[list[FilmedSequence]], by: str, seed: int) -> np.ndarray:
    """Numbers of the clips in the order in which they get labels: at random, or person after person."""
    rng = np.random.default_rng(seed)
    if by == "clip":
        return rng.permutation(len(clips))
    if by != "person":
        raise FileFormatError(f"[data] labelled_by must be person or clip, not '{by}'.")
    people = sorted({clip[0].subject for clip in clips})
    turn = dict(zip(people, rng.permutation(len(people)), strict=True))
    whose = np.array([turn[clip[0].subject] for clip in clips])
    return np.lexsort((rng.permutation(len(clips)), whose))


def split_labelled(
    sequences: list[FilmedSequence], part: float, cameras: int, seed: int, by: str = "person"
) -> tuple[list[FilmedSequence], list[FilmedSequence]]:
    """Sequences with labels up to ``part`` of all frames, and the rest without.

    Whole clips are drawn, all cameras of a clip together; the last one is cut where the part is reached.

    by: ``person``, all clips of one person before those of the next, as a studio would capture them; or ``clip``
    """
    if not 0 < part <= 1:
        raise FileFormatError(f"[data] labelled_part must be above 0 and at most 1, not {part}.")
    clips = [sequences[first : first + cameras] for first in range(0, len(sequences), cameras)]
    wanted = round(part * sum(len(clip[0]) for clip in clips))
    labelled: list[FilmedSequence] = []
    unlabelled: list[FilmedSequence] = []
    have = 0
    for number in _labelling_order(clips, by, seed):
        clip = clips[number]
        taken = min(len(clip[0]), wanted - have)
        have += taken
        if taken > 0:
            labelled += [view.part(slice(0, taken)) for view in clip]
        if taken < len(clip[0]):
            unlabelled += [view.part(slice(taken, None)).without_labels() for view in clip]
    return labelled, unlabelled


def read_mocap(data: MocapData, base_folder: Path, split: str) -> tuple[MotionSet, int]:
    """The motion of ``train``, ``valid`` or ``test``, and the seed of its cameras."""
    path = base_folder / {"train": data.train, "valid": data.valid, "test": data.test}[split]
    leave_out = data.leave_out_sources if split == "train" else ()
    joint_map = base_folder / data.joint_map if data.joint_map else None
    motion = read_motion_from(path, joint_map, leave_out)
    for landmarks in (landmarks_of_skeleton(data.skeleton), landmarks_of_layout(data.keypoint_layout)):
        motion.check_has(*(LANDMARKS_41.names[landmark] for landmark in landmarks))
    return motion, data.camera_seed * 10 + ("train", "valid", "test").index(split)
