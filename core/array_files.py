"""Named arrays as .npz files: no pickles, bounded sizes, written whole or not at all."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .errors import FileFormatError
from .npy_members import check_members, read_array, read_header
from .output_files import ELSEWHERE, written_whole
from .outside_text import check_ordinary

# An hour at 120 frames a second of 41 joints takes 0.6 GB; whatever is larger than this is not one of ours.
MAX_ARRAY_BYTES = 2 << 30
MAX_MEMBERS = 64

# What a damaged archive sets off; RuntimeError is the zip reader's word for encryption.
UNREADABLE = (OSError, ValueError, EOFError, struct.error, zipfile.BadZipFile, zlib.error, RuntimeError, OverflowError)

Content = TypeVar("Content")


def read_arrays(path: Path, kind: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name. Raises FileFormatError, which says that it is no ``kind``."""
    try:
        check_ordinary(path)
        with zipfile.ZipFile(path) as archive:
            check_members(archive, MAX_MEMBERS, MAX_ARRAY_BYTES)
            arrays = {}
            for member in archive.infolist():
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = read_array(
                        file, *read_header(file), most_bytes=member.file_size
                    )
            return arrays
    except FileNotFoundError:
        raise FileFormatError(f"There is no file '{path}'. Check the path.") from None
    except (*UNREADABLE, MemoryError) as problem:
        reason = str(problem) or type(problem).__name__
        raise FileFormatError(f"'{path}' is not a {kind} file, or it is damaged: {reason}") from problem


def write_arrays(path: Path, arrays: dict[str, Any], advice: str = ELSEWHERE) -> None:
    """Write ``arrays`` as a packed .npz file; ``advice`` says what to do where that can't be."""
    # Packed in memory first: on a full disk the zip's writer complains once more when it is thrown away.
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    with written_whole(path, advice) as beside:
        beside.write_bytes(packed.getbuffer())


def parse_arrays(
    path: Path, kind: str, told_by: str, schema: int, make: Callable[[dict[str, np.ndarray]], Content]
) -> Content:
    """What ``make`` makes of the arrays of ``path``, with whatever is missing or wrong in them told as FileFormatError.

    told_by: an array that files of this kind have and others have not
    schema:  the newest ``schema_version`` that ``make`` understands
    """
    arrays = read_arrays(path, kind)
    try:
        # Asked first: kinds count their schemas each for itself.
        arrays[told_by]
        found = int(arrays["schema_version"])
        if found > schema:
            raise FileFormatError(f"it was written by a newer Keylift (schema {found}). Update Keylift.")
        return make(arrays)
    except KeyError as missing:
        raise FileFormatError(f"'{path}' lacks {missing}: it is not the kind of file wanted here.") from None
    except (TypeError, ValueError, IndexError, ArithmeticError, MemoryError) as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}") from problem
    except FileFormatError as problem:
        raise FileFormatError(f"'{path}': {problem}") from problem
