"""Captured clips made ready to learn from: sound stretches alone, at one frame rate, on the floor."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline

from ...core.errors import FileFormatError
from ...core.rotations import between, to_matrix
from ...core.skeletons import LANDMARKS_41
from .derived_landmarks import MEAN_LEG_M, leg_length
from .motion_set import MotionSet, foot_contacts

MOTION_FPS = 60.0
MAX_FRAMES_IN_FOLDER = 10_000_000
MAX_FILES_IN_FOLDER = 100_000

# As our own landmark sets were cut: whatever moves faster has swapped markers or a leg that the solver turned over.
_MAX_SPEED_M_S, _MAX_HAND_SPEED_M_S = 12.0, 20.0
_MAX_BONE_CHANGE_M = 0.03
_SHORTEST_S = 0.5
_SHORTEST_LEG_M, _LONGEST_LEG_M = 0.3, 1.4
_BONES = tuple(
    (f"{side}_{a}", f"{side}_{b}")
    for side in "lr"
    for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
_HAND_PARTS = tuple(name for name in LANDMARKS_41.names if name[2:] in ("knuckle", "fingertip", "thumb"))
# Not the toes: on a rig whose feet don't bend they dip under the floor at every step.
_STANDING_PARTS = ("l_heel", "r_heel", "l_toe_base", "r_toe_base", "l_ankle", "r_ankle")
_FLOOR_PERCENT = 5.0
# In these units of length rigs and marker sets are made; CMU's is an inch divided by 0.45.
_UNITS_M = {
    "metres": 1.0,
    "centimetres": 0.01,
    "millimetres": 0.001,
    "inches": 0.0254,
    "feet": 0.3048,
    "CMU's inches / 0.45": 0.0254 / 0.45,
}
_TAKE = re.compile(r"(.+?)[_\-. ]+(?:take|clip|trial)?\d+$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class LandmarkClip:
    """One file's motion.

    positions_m: (F, 41, 3) metres, y up, ``LANDMARKS_41``; a landmark that the file doesn't have is NaN throughout, one
                 that was out of sight for a while is NaN for as long
    """

    path: Path
    name: str
    subject: str
    positions_m: np.ndarray
    fps: float


def motion_files_in(folder: Path, ending: str) -> list[Path]:
    """Files with ``ending`` in ``folder`` and below, in order; of a file, itself.

    Raises FileFormatError when there are too many.
    """
    if folder.is_file():
        return [folder] if folder.suffix.lower() == ending else []
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ending and path.is_file())
    if len(found) > MAX_FILES_IN_FOLDER:
        raise FileFormatError(f"'{folder}' holds more than {MAX_FILES_IN_FOLDER} {ending} files. Name a folder in it.")
    return found


def name_and_subject(folder: Path, path: Path) -> tuple[str, str]:
    """What a clip is called, and who moves: the name without its take's number, else the folder that it lies in."""
    name = path.relative_to(path.parent if path == folder else folder).with_suffix("").as_posix()
    take = _TAKE.fullmatch(path.stem)
    return name, take[1] if take else path.parent.name or path.stem


def unit_by_body_size(points: dict[str, np.ndarray]) -> tuple[float, str]:
    """Metres in a unit of ``points`` (landmark -> (F, 3)), and the unit's name, from the length of the legs."""
    leg = leg_length(points)
    if not leg > 0:
        raise FileFormatError("The legs have no length; the joint map may name the wrong joints.")
    name = min(_UNITS_M, key=lambda unit: abs(np.log(leg * _UNITS_M[unit] / MEAN_LEG_M)))
    return _UNITS_M[name], name


def turn_to_y_up(up: str) -> np.ndarray:
    """(3, 3) y-up axes from axes in which ``up`` (x, y, z, or one with a minus sign) points upwards."""
    upwards = np.eye(3)["xyz".index(up[-1])] * (-1 if up.startswith("-") else 1)
    return to_matrix(between(upwards, np.array([0.0, 1.0, 0.0]))).round()


def up_by_posture(points: dict[str, np.ndarray]) -> str:
    """The axis, with its sign, that people of these points (landmark -> (F, 3)) mostly stand along."""
    feet = (points["l_ankle"] + points["r_ankle"]) / 2
    upwards = np.nanmean(np.atleast_2d(points["neck"] - feet), axis=0)
    axis = int(np.argmax(np.abs(upwards)))
    return ("-" if upwards[axis] < 0 else "") + "xyz"[axis]


def check_size(clip: LandmarkClip) -> None:
    """Raise FileFormatError when the legs are far from a person's, small children and giants included."""
    leg = leg_length({name: clip.positions_m[:, place] for place, name in enumerate(LANDMARKS_41.names)})
    if not _SHORTEST_LEG_M < leg < _LONGEST_LEG_M:
        raise FileFormatError(
            f"The legs in '{clip.path}' would be {leg:.3g} m long. Give metres_per_unit in a joint map, or put right "
            "which joints or labels it names."
        )


def check_sides(clip: LandmarkClip) -> None:
    """Raise FileFormatError when left and right are exchanged: such a body walks backwards, or is inside out."""

    def at(name: str) -> np.ndarray:
        return clip.positions_m[:, LANDMARKS_41.index(name)]

    def share(agree: np.ndarray) -> float:
        known = np.isfinite(agree)
        return float((agree[known] > 0).mean()) if known.any() else 1.0

    advice = f"in '{clip.path}'. Exchange them in the joint map"
    hips, shoulders = at("l_hip") - at("r_hip"), at("l_shoulder") - at("r_shoulder")
    if share(np.sum(hips * shoulders, axis=-1)) < 0.5:
        raise FileFormatError(f"Left and right are exchanged at the hips or at the shoulders {advice}.")
    forward = np.cross(hips, at("neck") - (at("l_hip") + at("r_hip")) / 2)
    toes = [at(f"{side}_toe_base") - at(f"{side}_ankle") for side in "lr"]
    knees = [at(f"{side}_knee") - (at(f"{side}_hip") + at(f"{side}_ankle")) / 2 for side in "lr"]
    ahead = toes if np.isfinite(toes[0]).any() else knees
    if share(np.sum(forward * (ahead[0] + ahead[1]), axis=-1)) < 0.5:
        raise FileFormatError(f"The body is mirrored: its toes point backwards {advice} (l_ with r_ everywhere).")
    for a, b in _BONES:
        length = np.linalg.norm(at(a) - at(b), axis=-1)
        known = length[np.isfinite(length)]
        if len(known) and np.percentile(np.abs(known - np.median(known)), 50) > _MAX_BONE_CHANGE_M:
            raise FileFormatError(
                f"The bone from {a} to {b} has no fixed length {advice}, or put right what they name."
            )


def _stretches(positions_m: np.ndarray, fps: float) -> Iterator[slice]:
    """Runs of frames without a gap, a jump, or a bone that changes its length."""
    known = np.isfinite(positions_m).all(axis=2).any(axis=0)
    sound = np.isfinite(positions_m[:, known]).all(axis=(1, 2))
    for a, b in _BONES:
        ends = positions_m[:, LANDMARKS_41.indices(a, b)]
        length = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=-1)
        sound &= np.abs(length - np.nanmedian(length)) < _MAX_BONE_CHANGE_M
    limit = np.full(len(LANDMARKS_41), _MAX_SPEED_M_S)
    limit[LANDMARKS_41.indices(*_HAND_PARTS)] = _MAX_HAND_SPEED_M_S
    speed = np.linalg.norm(np.diff(positions_m[:, known], axis=0), axis=-1) * fps
    jumps = np.concatenate([[True], ~(speed < limit[known]).all(axis=1)])
    start = None
    for frame in range(len(positions_m) + 1):
        ends_here = frame == len(positions_m) or not sound[frame] or jumps[frame]
        if ends_here and start is not None:
            if frame - start >= _SHORTEST_S * fps:
                yield slice(start, frame)
            start = None
        if start is None and frame < len(positions_m) and sound[frame]:
            start = frame


def at_rate(positions_m: np.ndarray, fps: float, wanted_fps: float = MOTION_FPS) -> np.ndarray:
    """(F, J, 3) at another frame rate: frames are left out where that is enough, else drawn between by cubic splines.

    A joint that is NaN stays so.
    """
    step = fps / wanted_fps
    if round(step) >= 1 and abs(step - round(step)) < 0.005 * step:
        return positions_m[:: round(step)]
    times = np.arange(0, (len(positions_m) - 1) / fps + 1e-9, 1 / wanted_fps)
    known = np.isfinite(positions_m).all(axis=(0, 2))
    result = np.full((len(times), *positions_m.shape[1:]), np.nan)
    result[:, known] = CubicSpline(np.arange(len(positions_m)) / fps, positions_m[:, known], axis=0)(times)
    return result


def _floor_height_m(positions_m: np.ndarray) -> float:
    """How high the lower foot is where it stands."""
    lowest = np.nanmin(positions_m[:, LANDMARKS_41.indices(*_STANDING_PARTS), 1], axis=1)
    return float(np.percentile(lowest, _FLOOR_PERCENT))


def sound_pieces(clip: LandmarkClip) -> list[LandmarkClip]:
    """The stretches of a clip that can be learnt from, at 60 frames a second, on a floor at y = 0.

    The pelvis is above the origin in the first frame of each. A clip in several pieces gives ``name#0``, ``name#1``...
    """
    stretches = list(_stretches(clip.positions_m, clip.fps))
    if not stretches:
        return []
    floor = _floor_height_m(np.concatenate([clip.positions_m[stretch] for stretch in stretches]))
    pieces = []
    for number, stretch in enumerate(stretches):
        positions = at_rate(clip.positions_m[stretch], clip.fps)
        start = positions[0, LANDMARKS_41.index("pelvis")]
        positions = (positions - np.array([start[0], floor, start[2]])).astype(np.float32)
        name = clip.name if len(stretches) == 1 else f"{clip.name}#{number}"
        pieces.append(replace(clip, name=name, positions_m=positions, fps=MOTION_FPS))
    return pieces


def as_motion_set(clips: list[LandmarkClip], source: str, sha256: str, notes: tuple[str, ...]) -> MotionSet:
    """Check clips, keep what is sound of them and lay it end to end.

    Raises FileFormatError when sides are exchanged or the size is no person's, or when nothing is left.
    """
    pieces: list[LandmarkClip] = []
    emptied = []
    for clip in clips:
        check_size(clip)
        check_sides(clip)
        if sound := sound_pieces(clip):
            pieces += sound
        else:
            emptied.append(clip.name)
    if not pieces:
        raise FileFormatError(
            f"No {source} clip has half a second of motion without gaps or jumps; nothing can be learnt from them."
        )
    if emptied:
        notes += (f"{len(emptied)} of {len(clips)} clips have no sound half second: {', '.join(emptied[:5])}.",)
    return MotionSet(
        positions_m=np.concatenate([piece.positions_m for piece in pieces]),
        contact=np.concatenate([foot_contacts(piece.positions_m, MOTION_FPS) for piece in pieces]),
        clip_start=np.concatenate([[0], np.cumsum([len(piece.positions_m) for piece in pieces])]),
        clip_name=np.array([piece.name for piece in pieces]),
        subject=np.array([piece.subject for piece in pieces]),
        source=np.full(len(pieces), source),
        fps=MOTION_FPS,
        sha256=sha256,
        notes=notes,
    )
