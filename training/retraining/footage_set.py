"""All that is learnt from: many parts laid end to end in files that are read piece by piece, however many there are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.array_files import MAX_ARRAY_BYTES
from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.output_files import explain_write_failure
from ...core.outside_text import json_value, text_within
from ...core.skeletons import LANDMARKS_41, LIFTER_21_NAMES
from ...core.source import Source, sha256_of
from ..adaptation.clip_windows import held_out_at
from ..checkpoints import RUN_ADVICE
from ..motion.motion_set import MotionSet
from .footage_part import FootagePart, read_part
from .settings import PreparingSettings

INDEX = "set.json"
SET_VERSION = 1
MAX_INDEX_BYTES = 64 << 20
# An hour of one person takes 100 MB.
MAX_MOMENTS = 100_000_000
# A window at ``FASTEST`` times the speed of the footage must fit into a stretch of motion.
FASTEST, SHORTEST_STRETCH = 1.2, 34

# Of clips that are shorter than so many blocks, some are held out as a whole and the others not at all, if there are
# enough of them.
_LONG_BLOCKS, _MANY_CLIPS = 4, 8

_POINTS, _JOINTS = len(LIFTER_21_NAMES), len(LANDMARKS_41)
# Name -> shape of a row and kind.
_ROWS: dict[str, tuple[tuple[int, ...], Any]] = {
    "rays": ((_POINTS, 2), np.float32),
    "confidence": ((_POINTS,), np.float32),
    "true_rays": ((_POINTS, 2), np.float32),
    "true_confidence": ((_POINTS,), np.float32),
    "motion_m": ((_JOINTS, 3), np.float32),
    "truth_m": ((_JOINTS, 3), np.float32),
    "time_s": ((), np.float64),
    "corrected": ((), np.bool_),
    "covered": ((), np.bool_),
    "learnt": ((), np.bool_),
    "held_out": ((), np.bool_),
}
_STRETCH_ROWS: dict[str, tuple[tuple[int, ...], Any]] = {
    "stretches_m": ((_JOINTS, 3), np.float32),
    "stretches_contact": ((4,), np.bool_),
}


@dataclass(frozen=True, eq=False)
class SetClip:
    """One part in the set.

    start, length:      its rows
    camera_from_motion: (4, 4) from the room that ``motion_m`` is in to the camera
    world_from_camera:  (4, 4) where the camera stands among others that filmed the same; None = nobody knows
    bone_lengths_m:     (41,) of the fitted body, from each joint to its parent; 0 for the root
    """

    source: Source
    person: int
    start: int
    length: int
    camera: Camera
    camera_from_motion: np.ndarray
    world_from_camera: np.ndarray | None
    bone_lengths_m: np.ndarray

    @property
    def rows(self) -> slice:
        """Where it is in the set's arrays."""
        return slice(self.start, self.start + self.length)

    @property
    def name(self) -> str:
        """What it is called: the footage, and which person of several."""
        return self.source.name if self.person == 1 else f"{self.source.name}, person {self.person}"


@dataclass(frozen=True, eq=False)
class FootageSet:
    """A folder of memory-mapped arrays, one row a moment; see ``FootagePart`` for what they are.

    learnt:   (N,) True where frames may be learnt from; held_out: (N,) True where only the gate looks
    stretches: motion that was lifted from the footage, in stretches that are sound and not held out; None when there is
              no such stretch
    sha256:   over everything in it
    """

    fps: float
    clips: tuple[SetClip, ...]
    rays: np.ndarray
    confidence: np.ndarray
    true_rays: np.ndarray
    true_confidence: np.ndarray
    motion_m: np.ndarray
    truth_m: np.ndarray
    time_s: np.ndarray
    corrected: np.ndarray
    covered: np.ndarray
    learnt: np.ndarray
    held_out: np.ndarray
    stretches: MotionSet | None
    sha256: str

    @property
    def seconds(self) -> float:
        """How long all of it is."""
        return len(self.time_s) / self.fps


class _HoldingOut:
    """Decides, clip by clip, what is held out: blocks of long clips, and now and then a short one as a whole."""

    def __init__(self, settings: PreparingSettings, clips: int) -> None:
        self._settings, self._few = settings, clips < _MANY_CLIPS
        self._seen = self._held = 0

    def __call__(self, part: FootagePart) -> tuple[np.ndarray, np.ndarray]:
        """(M,) learnt and (M,) held out."""
        settings = self._settings
        span_s = float(part.time_s[0]), float(part.time_s[-1])
        self._seen += len(part.time_s)
        if self._few or span_s[1] - span_s[0] >= _LONG_BLOCKS * settings.block_s:
            rule = (settings.block_s, settings.held_out_part, settings.margin_s)
            held_out, away = held_out_at(part.time_s, span_s, *rule)
        else:
            owed = settings.held_out_part * self._seen - self._held
            held_out = np.full(len(part.time_s), owed >= len(part.time_s) / 2)
            away = ~held_out
        self._held += int(held_out.sum())
        known = part.covered | np.isfinite(part.truth_m).all(axis=(1, 2))
        return away & known, held_out


def _stretches(learnt: np.ndarray) -> list[slice]:
    """Runs of True that are long enough to take windows from."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], learnt, [False]]).astype(np.int8)))
    return [slice(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= SHORTEST_STRETCH]


def bone_lengths(motion_m: np.ndarray) -> np.ndarray:
    """(41,) median distance of each joint from its parent in (M, 41, 3), metres; 0 for the root."""
    parents = np.maximum(LANDMARKS_41.parents, 0)
    return np.asarray(np.median(np.linalg.norm(motion_m - motion_m[:, parents], axis=-1), axis=0))


class _Growing:
    """Arrays on disk whose number of rows is known, filled from the front."""

    def __init__(self, folder: Path, rows: int, kinds: dict[str, tuple[tuple[int, ...], Any]]) -> None:
        self._arrays = {
            name: np.lib.format.open_memmap(folder / f"{name}.npy", "w+", kind, (rows, *shape))
            for name, (shape, kind) in kinds.items()
        }
        self.filled = 0

    def append(self, **rows: np.ndarray) -> None:
        """Add rows to all of them."""
        count = len(next(iter(rows.values())))
        for name, values in rows.items():
            self._arrays[name][self.filled : self.filled + count] = values
        self.filled += count

    def close(self) -> None:
        """Write everything out."""
        for array in self._arrays.values():
            array.flush()
        self._arrays.clear()


def write_set(folder: Path, parts: Sequence[Path], fps: float, settings: PreparingSettings) -> None:
    """Lay the parts end to end in ``folder``, which becomes a set whole or not at all.

    One part is in memory at a time. Raises FileFormatError when there is nothing to lay, and KeyliftErrors of writing.
    """
    lengths = [len(read_part(path).time_s) for path in parts]
    if not lengths:
        raise FileFormatError("There is no footage to make a set of.")
    if sum(lengths) > MAX_MOMENTS:
        raise FileFormatError(f"The footage has more than {MAX_MOMENTS:,} moments. Adapt to a part of it.")
    with _made_whole(folder) as beside:
        rows = _Growing(beside, sum(lengths), _ROWS)
        clips, stretches = [], []
        hold_out = _HoldingOut(settings, len(parts))
        for path in parts:
            part = read_part(path)
            learnt, held_out = hold_out(part)
            clips.append(_described(part, rows.filled))
            stretches.append(_stretches(learnt))
            rows.append(
                **{name: getattr(part, name) for name in _ROWS if name not in ("learnt", "held_out")},
                learnt=learnt,
                held_out=held_out,
            )
        rows.close()
        starts = _write_stretches(beside, parts, stretches)
        index = {
            "version": SET_VERSION,
            "fps": fps,
            "moments": sum(lengths),
            "clips": clips,
            "stretches": starts,
            "sha256": {path.name: sha256_of(path) for path in sorted(beside.glob("*.npy"))},
        }
        (beside / INDEX).write_text(json.dumps(index), encoding="utf-8")


def _write_stretches(folder: Path, parts: Sequence[Path], stretches: list[list[slice]]) -> dict[str, Any]:
    """The motion of sound stretches for itself; where each begins, and whose it is."""
    total = sum(stretch.stop - stretch.start for of_part in stretches for stretch in of_part)
    starts, names = [0], []
    if total:
        rows = _Growing(folder, total, _STRETCH_ROWS)
        for path, of_part in zip(parts, stretches, strict=True):
            if not of_part:
                continue
            part = read_part(path)
            for stretch in of_part:
                rows.append(stretches_m=part.motion_m[stretch], stretches_contact=part.contact[stretch])
                starts.append(rows.filled)
                names.append(part.name)
        rows.close()
    return {"start": starts, "name": names}


def _described(part: FootagePart, start: int) -> dict[str, Any]:
    known = part.world_from_camera
    return {
        "source": [part.source.name, part.source.sha256],
        "person": part.person,
        "start": start,
        "length": len(part.time_s),
        "size_px": list(part.camera.size_px),
        "focal_px": list(part.camera.focal_px),
        "centre_px": list(part.camera.centre_px),
        "distortion": list(part.camera.distortion),
        "camera_from_motion": part.camera_from_motion.tolist(),
        "world_from_camera": None if known is None else known.tolist(),
        "bone_lengths_m": bone_lengths(part.motion_m).tolist(),
    }


@contextmanager
def _made_whole(folder: Path) -> Iterator[Path]:
    """A folder to fill; it gets its name when the block ends well, and is removed when it doesn't."""
    beside = folder.with_name(f".keylift-{folder.name}")
    try:
        # What a process that was killed left behind.
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        yield beside
        if folder.exists():
            shutil.rmtree(folder)
        beside.rename(folder)
    except OSError as problem:
        raise explain_write_failure(folder, problem, RUN_ADVICE) from problem
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def is_set(folder: Path) -> bool:
    """Whether there is a set in ``folder``; it may still be damaged."""
    return (folder / INDEX).is_file()


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX
    try:
        index: dict[str, Any] = json_value(text_within(path, MAX_INDEX_BYTES))
        if index["version"] > SET_VERSION:
            raise FileFormatError(f"'{folder}' was made by a newer Keylift. Update Keylift.")
        return index
    except FileNotFoundError:
        raise FileFormatError(f"There is no set of footage in '{folder}'. Make one with keylift adapt.") from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}. Adapt again in another folder.") from problem


def _mapped(folder: Path, name: str, rows: int, shape: tuple[int, ...], kind: Any) -> np.ndarray:
    path = folder / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}. Adapt again in another folder.") from problem
    if array.shape != (rows, *shape) or array.dtype != kind:
        raise FileFormatError(f"'{path}' doesn't hold what the set says. Adapt again in another folder.")
    return np.asarray(array)


def read_set(folder: Path) -> FootageSet:
    """Open a set; its arrays stay on disk. Raises FileFormatError when it is missing or damaged."""
    index = _read_index(folder)
    try:
        moments = int(index["moments"])
        arrays = {name: _mapped(folder, name, moments, *row) for name, row in _ROWS.items()}
        clips = tuple(_clip(entry) for entry in index["clips"])
        if sum(clip.length for clip in clips) != moments:
            raise ValueError("its clips are not as long as its arrays")
        return FootageSet(
            fps=float(index["fps"]),
            clips=clips,
            stretches=_read_stretches(folder, index["stretches"], float(index["fps"])),
            sha256=_digest(index["sha256"]),
            **arrays,
        )
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError) as problem:
        raise FileFormatError(f"The set in '{folder}' is damaged: {problem}. Adapt again in another folder.") from None


def _digest(hashes: dict[str, str]) -> str:
    from hashlib import sha256

    return sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _clip(entry: dict[str, Any]) -> SetClip:
    name, sha256 = entry["source"]
    (width, height), (fx, fy), (cx, cy) = entry["size_px"], entry["focal_px"], entry["centre_px"]
    k1, k2, p1, p2, k3 = entry["distortion"]
    known = entry["world_from_camera"]
    clip = SetClip(
        source=Source(str(name), str(sha256)),
        person=int(entry["person"]),
        start=int(entry["start"]),
        length=int(entry["length"]),
        camera=Camera((width, height), (fx, fy), (cx, cy), (k1, k2, p1, p2, k3)),
        camera_from_motion=np.array(entry["camera_from_motion"], float),
        world_from_camera=None if known is None else np.array(known, float),
        bone_lengths_m=np.array(entry["bone_lengths_m"], float),
    )
    if clip.camera_from_motion.shape != (4, 4) or clip.bone_lengths_m.shape != (_JOINTS,) or clip.length < 1:
        raise ValueError("a clip in it makes no sense")
    return clip


def _read_stretches(folder: Path, entry: dict[str, Any], fps: float) -> MotionSet | None:
    starts = np.array(entry["start"], np.int64)
    names = np.array([str(name) for name in entry["name"]])
    if len(starts) != len(names) + 1 or (np.diff(starts) < SHORTEST_STRETCH).any():
        raise ValueError("its stretches of motion make no sense")
    if not len(names):
        return None
    arrays = {name: _mapped(folder, name, int(starts[-1]), *row) for name, row in _STRETCH_ROWS.items()}
    return MotionSet(
        positions_m=arrays["stretches_m"],
        contact=arrays["stretches_contact"],
        clip_start=starts,
        clip_name=names,
        subject=names,
        source=np.full(len(names), "footage"),
        fps=fps,
        sha256="",
    )


__all__ = ["MAX_ARRAY_BYTES", "FootageSet", "SetClip", "bone_lengths", "is_set", "read_set", "write_set"]
