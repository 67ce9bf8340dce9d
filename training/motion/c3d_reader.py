"""C3D files: where a lab's markers were, by label. The format is that of The C3D File Format (c3d.org); ezc3d reads it.

Michaud and Begon, "ezc3d: An easy C3D file I/O cross-platform solution for C++, Python and MATLAB", JOSS 2021.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import FileFormatError
from ...core.outside_text import check_ordinary

MAX_FILE_BYTES = 512 << 20
MAX_FRAMES = 2_000_000
MAX_FRAMES_A_SECOND = 10_000.0

_BLOCK = 512
_MAGIC = 0x50
_INTEL, _DEC, _MIPS = 84, 85, 86
_UNITS_M = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "in": 0.0254, "ft": 0.3048}


@dataclass(frozen=True, eq=False)
class MarkerMotion:
    """What a C3D file holds.

    labels:          (P,) marker labels without the subject's name before them
    points:          (F, P, 3) in the file's units and axes, NaN = out of sight
    metres_per_unit: None where the file doesn't say
    up:              axis that points upwards, perhaps with a minus sign; empty where the file doesn't say
    """

    labels: tuple[str, ...]
    points: np.ndarray
    fps: float
    metres_per_unit: float | None
    up: str


def _damaged(path: Path, problem: str) -> FileFormatError:
    return FileFormatError(f"'{path}' is not a C3D file, or it is damaged: {problem}. Export it again.")


def _check_parameters(path: Path, section: bytes, order: str) -> None:
    """Raise FileFormatError unless the chain of groups and parameters leads to its end, each within its own bounds.

    A record is: length of its name, number of its group, the name, how far it is to the next record; a parameter goes
    on with its type (whose magnitude is its size in bytes), its dimensions, its values, and a description.
    """
    at = 4
    while at + 2 <= len(section):
        name_length, group = struct.unpack_from("bb", section, at)
        link_at = at + 2 + abs(name_length)
        if name_length == 0:
            return
        if link_at + 4 > len(section):
            break
        (link,) = struct.unpack_from(order + "H", section, link_at)
        end = link_at + link if link else len(section)
        inside = link_at + 2
        if group > 0:
            kind, dimensions = struct.unpack_from("bB", section, inside)
            sizes = section[inside + 2 : inside + 2 + dimensions]
            if abs(kind) not in (1, 2, 4) or dimensions > 7 or len(sizes) < dimensions:
                break
            # ezc3d takes Python down with it over a text that has no length.
            if kind == -1 and dimensions == 0:
                break
            inside += 2 + dimensions + abs(kind) * math.prod(sizes)
        # A description's length, and so many letters.
        if inside >= len(section) or inside + 1 + section[inside] > end or end > len(section):
            break
        if link == 0:
            return
        at = end
    raise _damaged(path, "its parameters run into each other")


def _check_layout(path: Path) -> None:
    """Raise FileFormatError unless everything that header and parameters speak of lies within the file.

    ezc3d goes on for ever, or takes Python down with it, where that is not so.
    """
    check_ordinary(path)
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise FileFormatError(f"'{path}' is larger than {MAX_FILE_BYTES >> 20} MB. Split it into shorter trials.")
    with open(path, "rb") as file:
        head = file.read(_BLOCK)
        if len(head) < _BLOCK or head[1] != _MAGIC or head[0] == 0:
            raise _damaged(path, "it doesn't begin as one")
        parameters_at = (head[0] - 1) * _BLOCK
        file.seek(parameters_at)
        start = file.read(4)
        if len(start) < 4 or start[3] not in (_INTEL, _DEC, _MIPS):
            raise _damaged(path, "its parameters are missing")
        section = start + file.read(start[2] * _BLOCK - 4)
    processor, order = start[3], ">" if start[3] == _MIPS else "<"
    _check_parameters(path, section, order)
    points, analog, first, last = struct.unpack_from(order + "4H", head, 2)
    (data_block,) = struct.unpack_from(order + "H", head, 16)
    data_at = (data_block - 1) * _BLOCK if data_block else parameters_at + start[2] * _BLOCK
    # A scale below 0 says that values are floats; its sign is in another place on a DEC.
    floats = bool(head[{_INTEL: 15, _DEC: 13, _MIPS: 12}[processor]] & 0x80)
    frame_bytes = (4 * points + analog) * (4 if floats else 2)
    if data_at < parameters_at + _BLOCK or data_at + (last - first + 1) * frame_bytes > size:
        raise _damaged(path, f"{last - first + 1} frames of {points} points don't fit into {size} bytes; it is cut off")


def _first_text(group: Any, name: str) -> str:
    values = group[name]["value"] if name in group else []
    return str(values[0]).strip() if len(values) else ""


def _labels(group: Any, count: int) -> list[str]:
    """Labels of all points; more than 255 go on in LABELS2, LABELS3 and so on."""
    labels: list[str] = []
    for name in ("LABELS", *(f"LABELS{number}" for number in range(2, 200))):
        if name not in group or len(labels) >= count:
            break
        labels += [str(label) for label in group[name]["value"]]
    # Points beyond the labels have none.
    return [labels[place].split(":")[-1].strip() if place < len(labels) else "" for place in range(count)]


def read_c3d(path: Path) -> MarkerMotion:
    """Read the points of a C3D file. Raises FileFormatError when it is damaged, endless or holds no points."""
    import ezc3d

    try:
        _check_layout(path)
        file = ezc3d.c3d(str(path))
        group = file["parameters"]["POINT"]
        points = np.asarray(file["data"]["points"], dtype=np.float64)
        residuals = np.asarray(file["data"]["meta_points"]["residuals"])[0].T
        fps = float(group["RATE"]["value"][0])
        unit, upwards = _first_text(group, "UNITS").lower(), _first_text(group, "Y_SCREEN")
        labels = _labels(group, points.shape[1])
    except FileNotFoundError:
        raise FileFormatError(f"There is no file '{path}'. Check the path.") from None
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, MemoryError, OverflowError) as problem:
        raise FileFormatError(f"'{path}' is not a C3D file, or it is damaged: {problem}") from problem
    points = points[:3].transpose(2, 1, 0)
    if 0 in points.shape:
        raise FileFormatError(f"'{path}' holds no marker positions. Export the markers with it.")
    if len(points) > MAX_FRAMES or not 1 / 10 <= fps <= MAX_FRAMES_A_SECOND:
        raise FileFormatError(f"'{path}' has {len(points)} frames at {fps} a second, which can't be motion.")
    points = points.copy()
    points[(residuals < 0) | ~np.isfinite(points).all(axis=2)] = np.nan
    return MarkerMotion(
        labels=tuple(labels),
        points=points,
        fps=fps,
        metres_per_unit=_UNITS_M.get(unit),
        # What points up on a screen points up in the lab.
        up=upwards.lower().lstrip("+") if upwards.upper().lstrip("+-") in ("X", "Y", "Z") else "",
    )
