"""Which joint of a rig or label of a marker set is which landmark: TOML files (docs/file-formats.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import FileFormatError
from ...core.outside_text import is_number, text_within, toml_table
from ...core.skeletons import LANDMARKS_41

MAX_MAP_BYTES = 1 << 20
JOINT_MAPS_FOLDER = Path(__file__).parent / "joint_maps"

# A body that lacks one of these teaches nothing.
NEEDED_LANDMARKS = tuple(f"{side}_{joint}" for side in "lr" for joint in ("hip", "knee", "ankle")) + (
    *(f"{side}_{joint}" for side in "lr" for joint in ("shoulder", "elbow", "wrist")),
    "neck",
)


@dataclass(frozen=True)
class Place:
    """A landmark as the weighted mean of points, and beside it.

    points:   joints of the rig or labels of the markers
    weights:  one each, together 1
    offset_m: metres from there, in the frame of the first point: x left, y up, z forward when the person stands
    """

    points: tuple[str, ...]
    weights: tuple[float, ...]
    offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class BoneOffset:
    """A bone's offset from its parent in place of the file's: ``direction`` in the file's units, or, with
    ``as_long_as``, that way and as long as another joint's offset, ``times`` over."""

    direction: tuple[float, float, float]
    as_long_as: str = ""
    times: float = 1.0


@dataclass(frozen=True)
class JointMap:
    """How the points of a file become landmarks.

    title:           what it is for
    kind:            bvh or c3d
    landmarks:       where each landmark is
    metres_per_unit: None = guessed from the size of the body
    up:              axis that points upwards: x, y or z; empty = found out
    skip_frames:     frames at the start of each clip that are no motion, such as a T-pose
    offsets:         bones that are another length than the file says
    pitch_deg:       joints whose frame must be turned about its left axis (nodding down is positive) to be upright
    """

    title: str
    kind: str
    landmarks: dict[str, Place]
    metres_per_unit: float | None = None
    up: str = ""
    skip_frames: int = 0
    offsets: dict[str, BoneOffset] = field(default_factory=dict)
    pitch_deg: dict[str, float] = field(default_factory=dict)

    @property
    def points(self) -> set[str]:
        """Every joint or label that is asked for."""
        named = {point for place in self.landmarks.values() for point in place.points}
        return named | set(self.offsets) | {offset.as_long_as for offset in self.offsets.values()} - {""}

    def missing_from(self, names: tuple[str, ...]) -> list[str]:
        """Joints or labels that are asked for but not among ``names``."""
        return sorted(self.points - set(names))


class _Table:
    """A TOML table whose every value is checked as it is taken, and that says which file and key is wrong."""

    def __init__(self, path: Path, where: str, values: object) -> None:
        self.path, self.where = path, where
        if not isinstance(values, dict):
            raise self.error("must be a table")
        self.values: dict[str, Any] = values

    def error(self, problem: str) -> FileFormatError:
        return FileFormatError(f"The joint map '{self.path}': {self.where} {problem}.")

    def only(self, *keys: str) -> None:
        if unknown := sorted(set(self.values) - set(keys)):
            raise self.error(f"has unknown keys: {', '.join(unknown)}; known are {', '.join(keys)}")

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key, default)
        if not is_number(value):
            raise self.error(f"{key} must be a number")
        return float(value)

    def numbers(self, key: str, count: int) -> tuple[float, ...]:
        values = self.values[key]
        if not isinstance(values, list) or len(values) != count:
            raise self.error(f"{key} must be a list of {count} numbers")
        return tuple(_Table(self.path, f"{self.where} {key}", {"value": value}).number("value", 0) for value in values)

    def text(self, key: str, default: str) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.error(f"{key} must be text")
        return value


def _triple(values: tuple[float, ...]) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z


def _place(path: Path, name: str, value: object) -> Place:
    table = _Table(path, f"[landmarks] {name}", value if isinstance(value, dict) else {"at": value})
    table.only("at", "weights", "offset_m")
    at = table.values.get("at")
    points = [at] if isinstance(at, str) else at
    if not isinstance(points, list) or not points or not all(isinstance(point, str) for point in points):
        raise table.error("must name a joint or label, or a list of them")
    weights = (1.0,) * len(points)
    if "weights" in table.values:
        weights = table.numbers("weights", len(points))
    if abs(sum(weights)) < 1e-6:
        raise table.error("has weights that add up to nothing")
    offset = table.numbers("offset_m", 3) if "offset_m" in table.values else (0.0, 0.0, 0.0)
    return Place(tuple(points), tuple(weight / sum(weights) for weight in weights), _triple(offset))


def _bone_offset(path: Path, name: str, value: object) -> BoneOffset:
    table = _Table(path, f"[offsets] {name}", value if isinstance(value, dict) else {"direction": value})
    table.only("direction", "as_long_as", "times")
    if "direction" not in table.values:
        raise table.error("needs a direction")
    return BoneOffset(_triple(table.numbers("direction", 3)), table.text("as_long_as", ""), table.number("times", 1.0))


def _from_table(path: Path, values: dict[str, Any]) -> JointMap:
    top = _Table(path, "the file", values)
    top.only("title", "kind", "metres_per_unit", "up", "skip_frames", "landmarks", "offsets", "pitch_deg")
    kind, up, skip = top.text("kind", ""), top.text("up", ""), top.number("skip_frames", 0)
    if kind not in ("bvh", "c3d"):
        raise top.error('needs kind = "bvh" or kind = "c3d"')
    if up not in ("", "x", "y", "z"):
        raise top.error(f"has up = '{up}'; it can be x, y or z")
    if skip < 0 or skip != int(skip):
        raise top.error("skip_frames must be 0 or a whole number above")
    metres = top.number("metres_per_unit", 1.0) if "metres_per_unit" in values else None
    if metres is not None and not 1e-6 < metres < 1e3:
        raise top.error(f"metres_per_unit can't be {metres}")
    landmarks = _Table(path, "[landmarks]", values.get("landmarks", {})).values
    if unknown := sorted(set(landmarks) - set(LANDMARKS_41.names)):
        raise top.error(f"[landmarks] has {', '.join(unknown)}; landmarks are {', '.join(LANDMARKS_41.names)}")
    if lacking := sorted(set(NEEDED_LANDMARKS) - set(landmarks)):
        raise top.error(f"[landmarks] lacks {', '.join(lacking)}")
    offsets = _Table(path, "[offsets]", values.get("offsets", {})).values
    pitches = _Table(path, "[pitch_deg]", values.get("pitch_deg", {}))
    places = {name: _place(path, name, place) for name, place in landmarks.items()}
    if kind == "c3d" and (offsets or pitches.values or any(any(place.offset_m) for place in places.values())):
        raise top.error("has offsets or pitch_deg, but markers have no frames that these could be in")
    return JointMap(
        title=top.text("title", path.stem),
        kind=kind,
        landmarks=places,
        metres_per_unit=metres,
        up=up,
        skip_frames=int(skip),
        offsets={name: _bone_offset(path, name, offset) for name, offset in offsets.items()},
        pitch_deg={name: pitches.number(name, 0.0) for name in pitches.values},
    )


def read_joint_map(path: Path) -> JointMap:
    """Read a joint map. Raises FileFormatError when it is missing or has something that is not understood."""
    try:
        values = toml_table(text_within(path, MAX_MAP_BYTES))
    except FileNotFoundError:
        raise FileFormatError(
            f"There is no joint map '{path}'. Check joint_map in the training configuration."
        ) from None
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"The joint map '{path}' can't be read: {problem}.") from problem
    return _from_table(path, values)


def built_in_joint_maps(kind: str) -> list[JointMap]:
    """The maps that come with Keylift for ``kind`` bvh or c3d."""
    maps = [read_joint_map(path) for path in sorted(JOINT_MAPS_FOLDER.glob("*.toml"))]
    return [joint_map for joint_map in maps if joint_map.kind == kind]
