"""Files that a command reads and writes, looked at before the work begins rather than after an hour of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..core.errors import FileFormatError, OutputError
from ..core.output_files import check_writable
from ..rig_mapping.rig_address import split_rig_address

# Endings that count as one when a number goes before them.
_DOUBLE_ENDINGS = (".keypoints.npz", ".pose.npz")


def check_input(path: Path, what: str) -> None:
    """Raise FileFormatError when the file ``path`` is not there."""
    if path.is_dir():
        raise FileFormatError(f"'{path}' is a folder; {what} is a file.")
    if not path.exists():
        raise FileFormatError(f"There is no file '{path}'. Check the path of {what}.")


def rig_file(rig: str) -> Path | None:
    """The file in ``FILE[:OBJECT]``; None when ``rig`` is no file, such as one that Keylift makes itself."""
    address = split_rig_address(rig)
    return None if address is None else address[0]


def check_outputs(outputs: Sequence[Path], endings: Sequence[str], inputs: Iterable[Path | None] = ()) -> None:
    """Raise OutputError when an output has an unknown ending, is an input, is given twice, or can't be written."""
    read = [path for path in inputs if path is not None]
    for place, output in enumerate(outputs):
        if not output.name.lower().endswith(tuple(endings)):
            raise OutputError(
                f"'{output}' has an ending that can't be written here. Choose one of: {', '.join(endings)}."
            )
        if any(_same(output, path) for path in read):
            raise OutputError(f"'{output}' is an input; it would be overwritten. Choose another place with -o.")
        if any(_same(output, other) for other in outputs[:place]):
            raise OutputError(f"'{output}' is given twice. Give each output its own name.")
    for output in outputs:
        check_writable(output)


def _same(a: Path, b: Path) -> bool:
    if a.exists() and b.exists():
        return a.samefile(b)
    return os.path.normcase(a.resolve()) == os.path.normcase(b.resolve())


def numbered(path: Path, number: int | None) -> Path:
    """``take.blend`` -> ``take-2.blend``; with None, ``path`` itself."""
    if number is None:
        return path
    name = path.name
    ending = next((double for double in _DOUBLE_ENDINGS if name.lower().endswith(double)), path.suffix)
    stem = name[: len(name) - len(ending)]
    return path.with_name(f"{stem}-{number}{name[len(stem) :]}")
