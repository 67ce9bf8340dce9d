"""Pickles of plain data, read without letting them run anything; and the .npz files that hold such pickles.

A pickle is a program: whatever it names it may call. Here it may name only what ``Makers`` lists, and none of these is
the real thing. Each leaves a stand-in that only remembers what it was given; arrays are made of the stand-ins when the
pickle has ended, after their sizes have been checked.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from os import PathLike
from typing import IO, Any

import numpy as np

from .errors import FileFormatError
from .npy_members import check_members, holds_objects, read_array, read_header
from .outside_text import check_ordinary

# All of Human3.6M's keypoints, four cameras, take 1.4 GB unpacked.
MAX_UNPACKED_BYTES = 8 << 30
MAX_ARRAY_BYTES = 2 << 30
# Of a pickle, whatever its size; and one more for each byte that it takes on the disk.
FREE_STEPS = 500_000
MAX_MEMBERS = 64
_PIECE = 1 << 20
MAX_DEPTH = 24

# Whatever a damaged or hostile file sets off while it is read.
BAD_FILE = (
    pickle.UnpicklingError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    EOFError,
    MemoryError,
    RecursionError,
    # The zip reader's word for encryption and for unknown compression.
    RuntimeError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)

# Byte order, kind and size; complex numbers, dates and records are in no file that is read here.
_DTYPE = re.compile(r"([biuf][1248]|[SU]\d{1,5}|O[48]?)")


class Maker:
    """What a pickle may call: makes a stand-in, and can't be changed by the pickle."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *arguments: Any) -> Any:
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it tries to change what it may only call")


Makers = Mapping[str, Maker]


class _Steps(dict[int, Any]):
    """What each step of a pickle does, told so many times at most: a few bytes, well packed, are a million steps."""

    def __init__(self, most: int) -> None:
        super().__init__(pickle._Unpickler.dispatch)
        self[pickle.BYTEARRAY8[0]] = _load_bytearray
        self._left = most

    def __getitem__(self, step: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ValueError("it goes on for far longer than a file of its size has to say")
        return super().__getitem__(step)

    def __missing__(self, step: int) -> Any:
        raise ValueError(f"it has a step {step}, which no data needs")


def _load_bytearray(unpickler: Any) -> None:
    """As ``pickle`` does it, without making room before it reads."""
    (size,) = struct.unpack("<Q", unpickler.read(8))
    unpickler.append(bytearray(unpickler.read(size)))


class _Within:
    """A file that makes no room for bytes that it has not."""

    __slots__ = ("_file", "readline")

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.readline = file, file.readline

    def read(self, size: int) -> bytes:
        """Raises ValueError for more than there is; members of archives see to that themselves."""
        file = self._file
        if (
            size > _PIECE
            and isinstance(file, io.BufferedReader)
            and size > os.fstat(file.fileno()).st_size - file.tell()
        ):
            raise ValueError("it has bytes that are not there")
        return file.read(size)


class RestrictedUnpickler(pickle._Unpickler):
    """Unpickles data that names nothing but ``makers``.

    makers:          full name, such as ``collections.OrderedDict`` -> what is called instead
    most_steps:      how many steps it may take; each makes, moves or calls something
    persistent_load: what stands for an id that refers to something outside the pickle; None = such ids are refused

    Python's own unpickler rather than the one in C: that one makes room for as many memory cells as the pickle says.
    """

    def __init__(
        self,
        file: IO[bytes],
        makers: Makers,
        persistent_load: Callable[[Any], Any] | None = None,
        most_steps: int = FREE_STEPS,
    ) -> None:
        # Strings of Python 2 are bytes; latin1 keeps them as they are.
        super().__init__(_Within(file), encoding="latin1")
        self.dispatch = _Steps(most_steps)  # type: ignore[misc]
        self._makers = makers
        self._persistent_load = persistent_load

    def find_class(self, module_name: str, global_name: str) -> Maker:
        """The stand-in for a name. Raises ValueError when the pickle may not use it."""
        name = f"{module_name}.{global_name}"
        if name not in self._makers:
            raise ValueError(f"it wants to use '{name}', which no data needs")
        return self._makers[name]

    def persistent_load(self, pid: Any) -> Any:
        """The stand-in for something outside the pickle."""
        if self._persistent_load is None:
            raise ValueError("it refers to something outside itself")
        return self._persistent_load(pid)


class PickledDtype:
    """A NumPy number type as a pickle describes it: first its kind and size, then its byte order."""

    __slots__ = ("order", "text")

    def __init__(self, text: Any, *_: Any) -> None:
        if not isinstance(text, str) or not _DTYPE.fullmatch(text):
            raise ValueError(f"it has arrays of {str(text)[:40]!r}, not of numbers or text")
        self.text = text
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("it has an unknown byte order")
        self.order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """The real one."""
        return np.dtype(self.text[0] if self.text[0] == "O" else self.order + self.text)


class PickledArray:
    """A NumPy array as a pickle describes it."""

    __slots__ = ("content", "dtype", "fortran", "shape")

    def __init__(self, *_: Any) -> None:
        self.content: Any = None
        self.__setstate__((1, (0,), PickledDtype("f4"), False, b""))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, dtype, fortran, content = state[-4:]
        if not isinstance(dtype, PickledDtype) or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError("it has an array without a proper shape and type")
        self.shape, self.dtype, self.fortran, self.content = tuple(shape), dtype, bool(fortran), content

    @property
    def order(self) -> Any:
        """How the numbers are laid out: C or F."""
        return "F" if self.fortran else "C"

    def numbers(self) -> np.ndarray:
        """The array, when it holds numbers or text. Raises ValueError when its content is of another size."""
        dtype = self.dtype.dtype()
        content = self.content.text if isinstance(self.content, _Latin1) else self.content
        size = math.prod(self.shape) * dtype.itemsize
        if not isinstance(content, bytes | bytearray | str) or len(content) != size or size > MAX_ARRAY_BYTES:
            raise ValueError("it has an array whose content is not as large as its shape says")
        data = content.encode("latin1") if isinstance(content, str) else content
        return np.frombuffer(data, dtype).reshape(self.shape, order=self.order)


def _array_of_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    array = PickledArray()
    array.__setstate__((1, shape, dtype, order == "F", content))
    return array


def _number(dtype: Any, content: Any) -> Any:
    return _array_of_bytes(content, dtype, (), "C").numbers().item()


class _Latin1:
    """Bytes that are written as text. They become bytes only when it is known how often."""

    __slots__ = ("text",)

    def __init__(self, text: Any, encoding: Any) -> None:
        if encoding != "latin1" or not isinstance(text, str):
            raise ValueError("it has bytes in an unknown encoding")
        self.text = text


def _no_bytes() -> bytes:
    return b""


def _never_called(*_: Any) -> None:
    raise ValueError("it calls a name that is only there to be passed on")


# NumPy's inner modules were renamed in version 2.
_CORES = ("numpy.core", "numpy._core")
NUMPY_MAKERS: Makers = {
    "numpy.ndarray": Maker(_never_called),
    "numpy.dtype": Maker(PickledDtype),
    "_codecs.encode": Maker(_Latin1),
    # How Python 3 writes empty bytes for Python 2 to read.
    "__builtin__.bytes": Maker(_no_bytes),
    **{f"{core}.multiarray._reconstruct": Maker(PickledArray) for core in _CORES},
    **{f"{core}.multiarray.scalar": Maker(_number) for core in _CORES},
    **{f"{core}.numeric._frombuffer": Maker(_array_of_bytes) for core in _CORES},
}


class _Plain:
    """Turns what the unpickler left into arrays, dicts, lists, tuples, text and numbers, and nothing else."""

    def __init__(self) -> None:
        # A pickle may use one object in many places; it stays one.
        self._done: dict[int, Any] = {}
        # Many arrays may share one content, and each of text makes its own of it.
        self._bytes_left = MAX_ARRAY_BYTES
        self._open: set[int] = set()

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if value is None or type(value) in (bool, int, float, str, bytes):
            return value
        place = id(value)
        if place not in self._done:
            if place in self._open or depth > MAX_DEPTH:
                raise ValueError("its data holds itself, or is nested without end")
            self._open.add(place)
            self._done[place] = self._made(value, depth + 1)
            self._open.remove(place)
        return self._done[place]

    def _made(self, value: Any, depth: int) -> Any:
        if isinstance(value, dict):
            return {self._key(key, depth): self(item, depth) for key, item in value.items()}
        if type(value) in (list, tuple):
            return type(value)(self(item, depth) for item in value)
        if type(value) is PickledArray:
            return self._objects(value, depth) if value.dtype.text[0] == "O" else self._numbers(value)
        if type(value) is _Latin1:
            self._take(len(value.text))
            return value.text.encode("latin1")
        raise ValueError(f"it holds a {type(value).__name__}, which is no data")

    def _numbers(self, array: PickledArray) -> np.ndarray:
        if isinstance(array.content, str | _Latin1):
            self._take(math.prod(array.shape) * array.dtype.dtype().itemsize)
        return array.numbers()

    def _take(self, size: int) -> None:
        self._bytes_left -= size
        if self._bytes_left < 0:
            raise ValueError("it unpacks to far more than such a file ever holds")

    def _key(self, key: Any, depth: int) -> Any:
        key = self(key, depth)
        hash(key)
        return key

    def _objects(self, array: PickledArray, depth: int) -> np.ndarray:
        if type(array.content) is not list or math.prod(array.shape) != len(array.content):
            raise ValueError("it has an array whose content is not as large as its shape says")
        flat = np.empty(len(array.content), object)
        for place, item in enumerate(array.content):
            flat[place] = self(item, depth)
        return flat.reshape(array.shape, order=array.order)


def read_pickle(file: IO[bytes], most_steps: int = FREE_STEPS) -> Any:
    """The data in one pickle: arrays of numbers, dicts, lists, tuples, text, numbers; by Python 2 or 3, NumPy 1 or 2.

    Raises one of ``BAD_FILE``, for a caller that knows the file's name.
    """
    return _Plain()(RestrictedUnpickler(file, NUMPY_MAKERS, most_steps=most_steps).load())


def _read_member(file: IO[bytes], member: zipfile.ZipInfo) -> Any:
    shape, fortran, dtype = read_header(file)
    if holds_objects(dtype):
        value = read_pickle(file, FREE_STEPS + member.compress_size)
        return value.item() if isinstance(value, np.ndarray) and value.shape == () else value
    return read_array(file, shape, fortran, dtype, min(member.file_size, MAX_ARRAY_BYTES))


def check_archive(archive: zipfile.ZipFile, max_members: int = MAX_MEMBERS) -> None:
    """Raise ValueError when a zip archive unpacks to more than anything that is read here."""
    check_members(archive, max_members, MAX_UNPACKED_BYTES)


def read_pickled_npz(path: str | PathLike[str], wanted: Collection[str]) -> dict[str, Any]:
    """Those of the ``wanted`` arrays that an .npz has, with pickled dicts and lists among them as they are.

    An array that wraps a single object comes as that object. Raises FileFormatError when the file can't be read or
    holds anything but data.
    """
    try:
        check_ordinary(path)
        with zipfile.ZipFile(path) as archive:
            check_archive(archive)
            found = {}
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in wanted:
                    with archive.open(member) as file:
                        found[name] = _read_member(file, member)
            return found
    except FileNotFoundError:
        raise FileFormatError(f"There is no file '{path}'. Check the path.") from None
    except BAD_FILE as problem:
        reason = str(problem) or type(problem).__name__
        raise FileFormatError(f"'{path}' is not a set of keypoints or poses, or it is damaged: {reason}.") from problem
