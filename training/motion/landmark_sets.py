"""Landmarks that somebody read off an animated character, or paired with footage, made a set to learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from ...core.array_files import write_arrays
from ...core.errors import FileFormatError
from ...core.skeletons import LANDMARKS_41
from .clips import LandmarkClip, as_motion_set, check_size, unit_by_body_size
from .motion_set import MotionSet

MAX_FRAMES = 10_000_000

_QUANTUM_M = 0.0005
# So many names are said; of the others how many there are.
_NAMES_SAID = 5
# Less than this much of a clip is left out without a word: a jump at its end, a frame that another rate has not.
_LEFT_OUT_S = 0.1


class NamedMotion(Protocol):
    """One take. positions_m: (F, 41, 3) ``LANDMARKS_41``, y up, metres or any unit that people are measured in."""

    @property
    def name(self) -> str: ...

    @property
    def positions_m(self) -> np.ndarray: ...

    @property
    def fps(self) -> float: ...


def motion_set_of(clips: Sequence[NamedMotion], source: str) -> MotionSet:
    """Check clips, bring them to metres and 60 frames a second, and keep what is sound of them.

    source: what the collection is called; a file's name does

    The unit is told by the length of the legs, and in ``notes`` where it was not metres, with what was left out because
    landmarks are unknown or jump there. Raises FileFormatError when a clip is no person's, has its sides exchanged, or
    nothing is left.
    """
    if not clips:
        raise FileFormatError(f"'{source}' has no clip; nothing can be learnt from it.")
    if sum(len(clip.positions_m) for clip in clips) > MAX_FRAMES:
        raise FileFormatError(f"'{source}' holds more than {MAX_FRAMES} frames. Take it in parts.")
    digest = hashlib.sha256()
    measured: list[LandmarkClip] = []
    units: dict[str, list[str]] = {}
    for clip in clips:
        positions = _checked(clip, source)
        digest.update(f"{clip.name}\0{clip.fps:.6f}\n".encode())
        digest.update(np.ascontiguousarray(positions, "<f4").tobytes())
        in_metres, unit = clip_in_metres(LandmarkClip(Path(clip.name), clip.name, source, positions, float(clip.fps)))
        units.setdefault(unit, []).append(clip.name)
        measured.append(in_metres)
    notes = tuple(
        f"{_listed(names)}: taken to be in {unit}, going by the length of the legs."
        for unit, names in units.items()
        if unit != "metres"
    )
    motion = as_motion_set(measured, source, digest.hexdigest(), notes)
    return replace(motion, notes=(*motion.notes, *_left_out(measured, motion)))


def _checked(clip: NamedMotion, source: str) -> np.ndarray:
    positions = np.asarray(clip.positions_m, float)
    if positions.ndim != 3 or positions.shape[1:] != (len(LANDMARKS_41), 3):
        shape = (len(LANDMARKS_41), 3)
        raise FileFormatError(f"'{clip.name}' of '{source}' has the shape {positions.shape}, not (frames, *{shape}).")
    if not (np.isfinite(clip.fps) and 1 <= clip.fps <= 2000):
        raise FileFormatError(f"'{clip.name}' of '{source}' has {clip.fps:g} frames a second, which no motion has.")
    # What is out of all measure is as unknown as what is not a number.
    return np.where(np.abs(positions) < 1e6, positions, np.nan)


def clip_in_metres(clip: LandmarkClip) -> tuple[LandmarkClip, str]:
    """The clip in metres, and the unit that it is taken to have been in, going by the length of the legs.

    Raises FileFormatError when no unit makes a person of it.
    """
    points = {name: clip.positions_m[:, place] for place, name in enumerate(LANDMARKS_41.names)}
    legs = [f"{side}_{part}" for side in "lr" for part in ("hip", "knee", "ankle")]
    if not all(np.isfinite(points[name]).all(axis=-1).any() for name in legs):
        raise FileFormatError(f"'{clip.name}' of '{clip.subject}' lacks a hip, knee or ankle throughout.")
    metres, unit = unit_by_body_size(points)
    scaled = replace(clip, positions_m=clip.positions_m * metres)
    try:
        check_size(scaled)
    except FileFormatError as problem:
        raise FileFormatError(
            f"'{clip.name}' of '{clip.subject}' is no person's size in metres, centimetres, inches or feet. Scale the "
            "character to the size of a person."
        ) from problem
    return scaled, unit


def _left_out(clips: list[LandmarkClip], motion: MotionSet) -> tuple[str, ...]:
    """Of which clips parts could not be kept, and how much."""
    kept_s: dict[str, float] = {}
    for name, frames in zip(motion.clip_name, motion.clip_lengths, strict=True):
        # Pieces of a clip are called clip#0, clip#1 ...
        whole = next((clip.name for clip in clips if clip.name == name), str(name).rpartition("#")[0])
        kept_s[whole] = kept_s.get(whole, 0.0) + frames / motion.fps
    said = []
    for clip in clips:
        length_s = len(clip.positions_m) / clip.fps
        lost_s = length_s - kept_s.get(clip.name, 0.0)
        if clip.name in kept_s and lost_s > _LEFT_OUT_S:
            said.append(f"'{clip.name}' ({lost_s:.1f} of {length_s:.1f} s)")
    if not said:
        return ()
    more = f" and {len(said) - _NAMES_SAID} more" if len(said) > _NAMES_SAID else ""
    return (f"Left out where landmarks are unknown, jump or change a bone: {', '.join(said[:_NAMES_SAID])}{more}.",)


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMES_SAID} more" if len(names) > _NAMES_SAID else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMES_SAID]) + more


def write_motion(path: Path, motion: MotionSet) -> None:
    """Write ``motion`` as a landmark set (.npz; docs/file-formats.md, "Motion"), whole or not at all.

    Raises FileFormatError when it lacks a landmark, OutputError when the file can't be written.
    """
    motion.check_has(*LANDMARKS_41.names)
    quantised = np.round(np.asarray(motion.positions_m, float) / _QUANTUM_M)
    if not np.isfinite(quantised).all():
        raise FileFormatError("The motion has gaps, which a landmark set can't hold. Cut them out first.")
    fits = bool(np.abs(quantised).max(initial=0) <= np.iinfo(np.int16).max)
    write_arrays(
        path,
        {
            "positions_q": quantised.astype(np.int16 if fits else np.int32),
            "position_quantum_m": np.float32(_QUANTUM_M),
            "clip_start": motion.clip_start.astype(np.int64),
            "clip_name": motion.clip_name.astype(str),
            "clip_subject": motion.subject.astype(str),
            "clip_source": motion.source.astype(str),
            "fps": np.float64(motion.fps),
            "joint_names": np.array(LANDMARKS_41.names),
        },
    )
