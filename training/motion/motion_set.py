"""Motion that the lifter learns from: landmark clips at 60 frames a second, with foot contacts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import minimum_filter1d

from ...core.array_files import read_arrays
from ...core.errors import FileFormatError
from ...core.skeletons import LANDMARKS_41
from ...core.source import sha256_of

MAX_CLIPS = 1_000_000
MAX_FRAMES_A_SECOND = 10_000.0
# Nobody moves on a scale that is coarser.
_COARSEST_M = 1.0
CONTACT_POINTS = ("l_heel", "l_toe_base", "r_heel", "r_toe_base")
# A heel or ball that stays this low and this slow stands on the floor.
_CONTACT_HEIGHT_M, _CONTACT_SPEED_M_S = 0.06, 0.35
# Where the ground is uneven, its height is that of the lowest foot within this time before and after.
_GROUND_S, _OVER_GROUND_M = 0.5, 0.08


@dataclass(frozen=True, eq=False)
class MotionSet:
    """Clips laid end to end.

    positions_m: (N, 41, 3) metres, y up, floor near y = 0, ``LANDMARKS_41``; NaN where a clip lacks a landmark
    contact:     (N, 4) True where left heel, left ball, right heel, right ball stand
    clip_start:  (C + 1,) clip i is frames clip_start[i]:clip_start[i + 1]
    subject, source: (C,) who moved, and which collection it comes from
    sha256:      of the file; of a folder, over its files' names and contents
    notes:       what a person should know about how it was read
    """

    positions_m: np.ndarray
    contact: np.ndarray
    clip_start: np.ndarray
    clip_name: np.ndarray
    subject: np.ndarray
    source: np.ndarray
    fps: float
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def clip_lengths(self) -> np.ndarray:
        """(C,) frames in each clip."""
        return np.diff(self.clip_start)

    def clips(self, chosen: np.ndarray) -> MotionSet:
        """Only the clips that ``chosen`` names, in its order."""
        rows = np.concatenate([np.arange(self.clip_start[clip], self.clip_start[clip + 1]) for clip in chosen])
        return replace(
            self,
            positions_m=self.positions_m[rows],
            contact=self.contact[rows],
            clip_start=np.concatenate([[0], np.cumsum(self.clip_lengths[chosen])]),
            clip_name=self.clip_name[chosen],
            subject=self.subject[chosen],
            source=self.source[chosen],
        )

    def lacks(self, *landmarks: str) -> list[str]:
        """Those of ``landmarks`` that some clip doesn't have."""
        positions = self.positions_m[:, LANDMARKS_41.indices(*landmarks)]
        known = np.isfinite(positions).all(axis=(0, 2))
        return [name for name, there in zip(landmarks, known, strict=True) if not there]

    def has(self, *landmarks: str) -> bool:
        """Whether every clip has all of ``landmarks``."""
        return not self.lacks(*landmarks)

    def check_has(self, *landmarks: str) -> None:
        """Raise FileFormatError, naming what is missing and where, unless every clip has all of ``landmarks``."""
        if not (missing := self.lacks(*landmarks)):
            return
        where = self.positions_m[self.clip_start[:-1], LANDMARKS_41.index(missing[0]), 0]
        first = self.clip_name[np.isnan(where)][:1]
        raise FileFormatError(
            f"The motion has no {', '.join(missing)} (clip {', '.join(first)} for one), which the skeleton asks for. "
            "Name where they are in a joint map (docs/file-formats.md), or train a skeleton without them."
        )


def foot_contacts(positions_m: np.ndarray, fps: float) -> np.ndarray:
    """(F, 4) True where the points of ``CONTACT_POINTS`` stand, from (F, 41, 3) metres, y up.

    They stand where they are slow, and low for the clip or for the moment: people walk on steps and slopes too.
    """
    feet = positions_m[:, LANDMARKS_41.indices(*CONTACT_POINTS)]
    if len(feet) < 3:
        return np.zeros(feet.shape[:2], bool)
    speed = np.linalg.norm(np.gradient(feet, 1 / fps, axis=0), axis=-1)
    rest_height = np.percentile(feet[..., 1], 3, axis=0)
    # A ball stands higher than a heel, so each is measured against where it is at rest.
    height = feet[..., 1] - rest_height
    span = 2 * round(_GROUND_S * fps) + 1
    ground = minimum_filter1d(height.min(axis=1), span, mode="nearest")[:, None]
    low = (height < _CONTACT_HEIGHT_M) | (height < ground + _OVER_GROUND_M)
    return (speed < _CONTACT_SPEED_M_S) & low


def _check_motion(
    quantised: np.ndarray, quantum_m: float, fps: float, start: np.ndarray, names: tuple[np.ndarray, ...]
) -> None:
    """Raise ValueError unless what a landmark set says goes together and may be somebody's motion."""
    if quantised.shape[1:] != (len(LANDMARKS_41), 3) or quantised.dtype.kind not in "iuf":
        raise ValueError(f"positions_q is {quantised.shape} of {quantised.dtype}")
    if quantised.dtype.kind == "f" and np.isinf(quantised).any():
        raise ValueError("positions_q is not finite")
    if not 0 < quantum_m <= _COARSEST_M or not 1 <= fps <= MAX_FRAMES_A_SECOND:
        raise ValueError(f"it counts {quantum_m} m, {fps} times a second")
    if start.ndim != 1 or not 2 <= len(start) <= MAX_CLIPS or any(one.shape != (len(start) - 1,) for one in names):
        raise ValueError("it doesn't name each of its clips")
    if start[0] != 0 or start[-1] != len(quantised) or (np.diff(start) <= 0).any():
        raise ValueError("its clips don't lie end to end")


def read_motion(path: Path, leave_out_sources: tuple[str, ...] = ()) -> MotionSet:
    """Read a landmark set (.npz; docs/file-formats.md, "Motion"), without clips of the sources named.

    Raises FileFormatError when the file is not one or nothing is left.
    """
    if not path.exists():
        raise FileFormatError(f"There is no motion file '{path}'. Check [data] in the training configuration.")
    data = read_arrays(path, "motion")
    try:
        if data["joint_names"].shape != (len(LANDMARKS_41),) or tuple(data["joint_names"]) != LANDMARKS_41.names:
            raise FileFormatError(f"'{path}' holds other joints than the lifter's 41 landmarks.")
        quantum_m, fps = float(data["position_quantum_m"]), float(data["fps"])
        start, quantised = data["clip_start"].astype(np.int64), data["positions_q"]
        clip_name, subject, source = (data[key].astype(str) for key in ("clip_name", "clip_subject", "clip_source"))
        _check_motion(quantised, quantum_m, fps, start, (clip_name, subject, source))
        positions = quantised.astype(np.float32) * np.float32(quantum_m)
    except (KeyError, ValueError, TypeError, ArithmeticError, MemoryError) as problem:
        raise FileFormatError(f"'{path}' is not a motion file, or it is damaged: {problem}") from problem
    kept = [clip for clip in range(len(source)) if source[clip] not in leave_out_sources]
    if not kept:
        raise FileFormatError(f"Nothing is left of '{path}' after leaving out {', '.join(leave_out_sources)}.")
    pieces = [positions[start[clip] : start[clip + 1]] for clip in kept]
    return MotionSet(
        positions_m=np.concatenate(pieces),
        contact=np.concatenate([foot_contacts(piece, fps) for piece in pieces]),
        clip_start=np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]),
        clip_name=clip_name[kept],
        subject=subject[kept],
        source=source[kept],
        fps=fps,
        sha256=sha256_of(path),
    )
