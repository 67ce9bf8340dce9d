"""The making of a set: person by person, so that it can be stopped at any moment and goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import FileFormatError, NobodyFoundError
from ...core.lifter.lifting import RayLifter
from ...core.progress import Progress, report, silent
from ...core.skeletons import LANDMARKS_41
from ..motion.motion_set import MotionSet
from .footage_part import PART_ENDING, FootagePart, read_part, write_part
from .footage_set import write_set
from .preparing import FilmedPerson, NotUsable, prepare
from .run import LABELLED, PROVENANCE, write_json
from .settings import PreparingSettings

PARTS = "parts"


@dataclass(frozen=True, eq=False)
class Skipped:
    """Footage that nothing is learnt from, and why, in words."""

    footage: str
    why: str


def _key(person: FilmedPerson, lifter: RayLifter, settings: PreparingSettings) -> str:
    """What a part depends on, as a file's name."""
    digest = hashlib.sha256()
    for track in (person.detected, person.corrected):
        if track is not None:
            digest.update(f"{track.source.sha256} {track.person} {track.layout} {track.size_px}".encode())
            for array in (track.xy_px, track.confidence, track.time_s, track.changes, track.filled):
                digest.update(np.ascontiguousarray(array).tobytes())
    for known in (person.truth_m, person.world_from_camera, None if person.gravity is None else person.gravity.up):
        digest.update(b"-" if known is None else np.ascontiguousarray(known).tobytes())
    digest.update(f"{person.camera} {lifter.source.sha256} {lifter.fps} {asdict(settings)}".encode())
    return digest.hexdigest()[:32]


def make_parts(
    folder: Path,
    people: Iterable[FilmedPerson],
    count: int,
    lifter: RayLifter,
    settings: PreparingSettings,
    *,
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[list[Path], list[Skipped]]:
    """A part file for everybody who can be learnt from, and who was left out. What is there already isn't made again.

    people: asked for one at a time; count: how many there are, for the progress
    Raises KeyliftErrors of writing, and Cancelled.
    """
    parts: list[Path] = []
    skipped: list[Skipped] = []
    report(progress, 0, 100 * count)
    for number, person in enumerate(people):

        def told(done: int, total: int | None, before: int = number) -> bool:
            so_far = 100 * before + round(100 * done / max(total or 1, 1))
            return progress(so_far, 100 * max(count, before + 1)) is not False

        name = person.detected.source.name
        path = folder / PARTS / f"{_key(person, lifter, settings)}{PART_ENDING}"
        try:
            if path in parts:
                raise NotUsable("it is given twice")
            if not _is_sound(path):
                write_part(path, prepare(person, lifter, settings, told))
            parts.append(path)
        except (NotUsable, NobodyFoundError) as problem:
            skipped.append(Skipped(name, str(problem)))
            tell(f"{name} is left out: {problem}.")
        report(progress, 100 * (number + 1), 100 * max(count, number + 1))
    return parts, skipped


def _is_sound(path: Path) -> bool:
    """Whether there is a part that can be read: what was made in an earlier run is taken."""
    if not path.is_file():
        return False
    try:
        read_part(path)
        return True
    except FileFormatError:
        return False


def make_set(
    folder: Path,
    parts: Sequence[Path],
    labelled: Sequence[MotionSet],
    skipped: Sequence[Skipped],
    fps: float,
    settings: PreparingSettings,
) -> dict[str, Any]:
    """Lay parts and the studio's motion into ``folder``, and write down what they are; the same is returned.

    Raises FileFormatError when no part is left.
    """
    if not parts:
        why = "; ".join(f"{entry.footage}: {entry.why}" for entry in skipped[:3])
        raise FileFormatError(
            f"Nothing can be learnt from this footage ({why or 'there is none'}). Give longer clips in which one "
            "person is well seen."
        )
    write_set(folder, parts, fps, settings)
    motion = joined_motion(labelled)
    if motion is not None:
        from ..motion.landmark_sets import write_motion

        write_motion(folder / LABELLED, motion)
    provenance = {
        "footage": [_told(read_part(path), fps) for path in parts],
        "motion": [
            {"name": name, "seconds": round(seconds, 2), "sha256": sha256}
            for name, seconds, sha256 in (_motion_told(motion) for motion in labelled)
        ],
        "skipped": [asdict(entry) for entry in skipped],
    }
    write_json(folder / PROVENANCE, provenance)
    return provenance


def _told(part: FootagePart, fps: float) -> dict[str, Any]:
    return {
        "name": part.source.name,
        "sha256": part.source.sha256,
        "person": part.person,
        "seconds": round(len(part.time_s) / fps, 2),
        "learnt": round(float(part.covered.mean()), 3),
        "corrected": int(part.corrected.sum()),
        "paired": bool(np.isfinite(part.truth_m).any()),
    }


def _motion_told(motion: MotionSet) -> tuple[str, float, str]:
    return str(motion.source[0]), len(motion.positions_m) / motion.fps, motion.sha256


def joined_motion(sets: Sequence[MotionSet]) -> MotionSet | None:
    """Several sets as one; None for none. Raises FileFormatError when rates differ or landmarks lack."""
    if not sets:
        return None
    for motion in sets:
        motion.check_has(*LANDMARKS_41.names)
        if abs(motion.fps - sets[0].fps) > 1e-6:
            raise FileFormatError("The motion has different frame rates. Read it from BVH, C3D or .blend files anew.")
    offsets = np.cumsum([0, *(len(motion.positions_m) for motion in sets[:-1])])
    starts = [motion.clip_start[:-1] + offset for motion, offset in zip(sets, offsets, strict=True)]
    total = int(offsets[-1] + len(sets[-1].positions_m))
    return MotionSet(
        positions_m=np.concatenate([motion.positions_m for motion in sets]),
        contact=np.concatenate([motion.contact for motion in sets]),
        clip_start=np.concatenate([*starts, [total]]),
        clip_name=np.concatenate([motion.clip_name for motion in sets]),
        subject=np.concatenate([motion.subject for motion in sets]),
        source=np.concatenate([motion.source for motion in sets]),
        fps=sets[0].fps,
        sha256=hashlib.sha256(json.dumps([motion.sha256 for motion in sets]).encode()).hexdigest(),
    )
