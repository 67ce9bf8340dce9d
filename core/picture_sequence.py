"""Which pictures, in which order, a folder or a pattern such as ``shot_####.png`` stands for."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import FootageError

PICTURE_ENDINGS = frozenset(".bmp .dpx .exr .jpeg .jpg .png .tga .tif .tiff .webp".split())


def sequence_at(path: Path) -> list[Path] | None:
    """The pictures at ``path``, a folder or a pattern, in counting order; None when it is neither.

    Raises FootageError when there are none, or a folder holds several sequences.
    """
    if path.is_dir():
        pictures = _pictures_in(path)
    elif pattern := _sequence_pattern(path.name):
        pictures = _pictures_matching(path.parent, pattern, path)
    else:
        return None
    return in_counting_order(pictures)


def in_counting_order(pictures: list[Path]) -> list[Path]:
    """``shot_2.png`` before ``shot_10.png``."""
    return sorted(pictures, key=_natural_order)


def number_in(name: str) -> int | None:
    """The last number in a file's name, which is the one that counts frames."""
    numbers = re.findall(r"\d+", Path(name).stem)
    return int(numbers[-1]) if numbers else None


def _without_number(name: str) -> str:
    """``shot_0012.png`` -> ``shot_####.png``: what pictures of one sequence have in common."""
    path = Path(name)
    return re.sub(r"\d+(?=\D*$)", "####", path.stem) + path.suffix.lower()


def _natural_order(path: Path) -> list[tuple[int, int | str]]:
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", path.name) if part]


def _pictures_in(folder: Path) -> list[Path]:
    try:
        pictures = [
            path
            for path in folder.iterdir()
            if path.suffix.lower() in PICTURE_ENDINGS and not path.name.startswith(".") and path.is_file()
        ]
    except PermissionError as problem:
        raise FootageError(
            f"The folder '{folder}' may not be read. Give yourself permission to read it, or copy it elsewhere."
        ) from problem
    except OSError as problem:
        raise FootageError(f"The folder '{folder}' can't be read ({problem.strerror}). Check the disk.") from problem
    if not pictures:
        raise FootageError(
            f"The folder '{folder}' has no pictures ({', '.join(sorted(PICTURE_ENDINGS))}). "
            "Give the folder that holds them, or a video file."
        )
    sequences: dict[str, list[Path]] = {}
    for path in pictures:
        sequences.setdefault(_without_number(path.name), []).append(path)
    longer = {name: paths for name, paths in sequences.items() if len(paths) > 1}
    if len(longer) > 1:
        found = ", ".join(f"'{name}' ({len(paths)})" for name, paths in sorted(longer.items()))
        raise FootageError(f"The folder '{folder}' holds several sequences: {found}. Give one of them as FOLDER/NAME.")
    return next(iter(longer.values())) if longer else pictures


def _sequence_pattern(name: str) -> re.Pattern[str] | None:
    """The names that ``shot_####.png`` or ``shot_%04d.png`` stand for; None when ``name`` is no pattern."""
    parts = re.split(r"(#+|%0?\d*d)", name)
    if len(parts) != 3:
        return None
    before, _, after = parts
    return re.compile(re.escape(before) + r"\d+" + re.escape(after), re.IGNORECASE if os.name == "nt" else 0)


def _pictures_matching(folder: Path, pattern: re.Pattern[str], asked: Path) -> list[Path]:
    try:
        pictures = [path for path in folder.iterdir() if pattern.fullmatch(path.name) and path.is_file()]
    except OSError:
        pictures = []
    if not pictures:
        raise FootageError(f"No picture matches '{asked}'. Check the folder, the name and the ending.")
    return pictures
