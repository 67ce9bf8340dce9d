"""One array of an .npz file, read by a header that is taken for a claim and not for a fact.

NumPy's own reader makes room for whatever the header says, and lets it be any expression and any type. The format is
that of NumPy Enhancement Proposal 1.
"""

from __future__ import annotations

import ast
import math
import re
import struct
import warnings
import zipfile
from typing import IO, Any

import numpy as np

MAX_HEADER_BYTES = 10_000
MAX_DIMENSIONS = 8
# A file may unpack to so much in any case, and to so many times its own size. All that Keylift writes stays below:
# an hour in which nobody is seen packs to a hundredth.
FREE_BYTES = 128 << 20
MAX_RATIO = 250

_MAGIC = b"\x93NUMPY"
_LENGTHS = {(1, 0): "<H", (2, 0): "<I", (3, 0): "<I"}
# Byte order, kind and size: truth values, numbers, and texts of at most 9,999 letters.
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[SU][1-9]\d{0,3})")
_OBJECTS = re.compile(r"\|O[48]?")
_PIECE = 1 << 20
_LAST_LETTER = 0x10FFFF


def check_members(archive: zipfile.ZipFile, max_members: int, max_bytes: int, free_bytes: int = FREE_BYTES) -> None:
    """Raise ValueError when an archive says that it unpacks to more than is read, or is packed as none of these are."""
    members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    # Members may lie upon each other; the directory, which lies behind them, does not.
    stored = min(sum(member.compress_size for member in members), archive.start_dir)
    if len(members) > max_members or unpacked > max_bytes or unpacked > max(free_bytes, MAX_RATIO * stored):
        raise ValueError("it unpacks to far more than such a file ever holds")
    if len({member.filename for member in members}) != len(members):
        raise ValueError("it holds two things of the same name")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise ValueError("it is packed in a way that such a file never is")


def read_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, str]:
    """Shape, whether columns come first, and type of the array that follows. Raises ValueError."""
    begin = file.read(8)
    version = (begin[6], begin[7]) if len(begin) == 8 and begin[:6] == _MAGIC else None
    if version not in _LENGTHS:
        raise ValueError("it has an array that doesn't begin as one, or of an unknown version")
    form = _LENGTHS[version]
    try:
        (length,) = struct.unpack(form, file.read(struct.calcsize(form)))
    except struct.error:
        raise ValueError("it has an array that ends in its header") from None
    text = file.read(length) if length <= MAX_HEADER_BYTES else b""
    try:
        with warnings.catch_warnings():
            # Python warns of odd code, which this is none of.
            warnings.simplefilter("ignore")
            said: Any = ast.literal_eval(text.decode("utf-8" if version == (3, 0) else "latin1").strip())
        shape, fortran, dtype = said["shape"], said["fortran_order"], said["descr"]
    except (ValueError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError):
        raise ValueError("it has an array whose header makes no sense") from None
    if (
        type(shape) is not tuple
        or len(shape) > MAX_DIMENSIONS
        or not all(type(size) is int and 0 <= size < 1 << 48 for size in shape)
        or type(fortran) is not bool
    ):
        raise ValueError("it has an array without a proper shape")
    if not isinstance(dtype, str) or not (_DTYPE.fullmatch(dtype) or holds_objects(dtype)):
        raise ValueError("it has an array that is not of numbers or text")
    return shape, fortran, dtype


def holds_objects(dtype: str) -> bool:
    """Whether what follows the header is a pickle."""
    return _OBJECTS.fullmatch(dtype) is not None


def read_array(file: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: str, most_bytes: int) -> np.ndarray:
    """The array that follows a header, of numbers or text. Raises ValueError unless it is as large as the header says.

    most_bytes: how much is left in the file
    """
    if holds_objects(dtype):
        raise ValueError("it holds a pickle, which could run anything, and is not read")
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size > most_bytes:
        raise ValueError("it has an array whose content is not as large as its shape says")
    content = bytearray(size)
    view, filled = memoryview(content), 0
    while filled < size:
        piece = file.read(min(_PIECE, size - filled))
        if not piece:
            raise ValueError("it has an array whose content is not as large as its shape says")
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    array: np.ndarray = np.ndarray(shape, kind, content, order="F" if fortran else "C")
    if kind.kind == "U":
        _check_letters(content, kind)
    return array


def _check_letters(content: bytearray, kind: np.dtype[Any]) -> None:
    # Python takes itself down over letters that there are not, and halves of letters can't be written anywhere.
    letters = np.frombuffer(content, np.dtype(f"{kind.byteorder}u4"))
    if len(letters) and (int(letters.max()) > _LAST_LETTER or ((letters >= 0xD800) & (letters < 0xE000)).any()):
        raise ValueError("it has text with letters that there are not")
