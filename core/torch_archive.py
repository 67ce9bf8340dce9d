"""Files that ``torch.save`` wrote, old and new, read without torch and without letting their pickles run anything.

``torch.load(weights_only=True)`` refuses training checkpoints for the random states in them, and strings of Python 2;
and it takes the sizes that a file claims for granted. Tensors come as arrays, and only when they are asked for: a
checkpoint is mostly the optimiser's.
"""

from __future__ import annotations

import math
import os
import zipfile
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from .errors import WeightsError
from .outside_text import check_ordinary
from .restricted_pickle import BAD_FILE, NUMPY_MAKERS, Maker, Makers, RestrictedUnpickler, check_archive

MAX_FILE_BYTES = 4 << 30
MAX_STORAGES = 4096

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


class _Storages(Protocol):
    def read(self, key: str, size: int) -> bytes:
        """``size`` bytes of the storage ``key``."""


@dataclass(frozen=True)
class _Storage:
    """Numbers one after another, somewhere in the file."""

    storages: _Storages
    key: str
    dtype: np.dtype[Any]
    count: int

    def numbers(self) -> np.ndarray:
        content = self.storages.read(self.key, self.count * self.dtype.itemsize)
        if len(content) != self.count * self.dtype.itemsize:
            raise ValueError("it ends before its tensors do")
        return np.frombuffer(content, self.dtype)


class _StorageKind(Maker):
    """The name of a kind of storage; it is passed on, never called."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        super().__init__(_Inert)
        self.dtype = np.dtype(dtype)


class _Inert:
    """Stands for an object that nobody needs, such as a random state."""

    __slots__ = ()

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class _Entries(dict[Any, Any]):
    """An OrderedDict, whose attributes nobody needs."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None: ...


class SavedTensor:
    """A tensor in the file: which part of a storage, in which shape."""

    __slots__ = ("_offset", "_storage", "_strides", "shape")

    def __init__(self, storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> None:
        if not isinstance(storage, _Storage) or len(shape) != len(strides):
            raise ValueError("it has a tensor without numbers")
        if not all(type(value) is int and value >= 0 for value in (offset, *shape, *strides)):
            raise ValueError("it has a tensor without a proper shape")
        last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if max(last + 1, math.prod(shape)) > storage.count:
            raise ValueError("it has a tensor that is larger than its content")
        self._storage, self._offset, self._strides = storage, offset, tuple(strides)
        self.shape: tuple[int, ...] = tuple(shape)

    def __setstate__(self, state: Any) -> None:
        raise ValueError("it changes a tensor that is already there")

    @property
    def bytes_read(self) -> int:
        """How much of the file ``numbers`` reads: all of the storage."""
        return self._storage.count * self._storage.dtype.itemsize

    def numbers(self) -> np.ndarray:
        """The tensor as an array of its own. Raises one of ``BAD_FILE``."""
        if 0 in self.shape:
            return np.zeros(self.shape, self._storage.dtype)
        storage = self._storage.numbers()
        strides = [stride * storage.itemsize for stride in self._strides]
        return np.lib.stride_tricks.as_strided(storage[self._offset :], self.shape, strides).copy()


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


_STORAGE_KINDS = {
    f"torch{place}.{name}Storage": _StorageKind(dtype)
    for place in ("", ".cuda")
    for name, dtype in {
        "Float": "<f4",
        "Double": "<f8",
        "Half": "<f2",
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}
# The names under which NumPy has pickled its generators over the years.
_RANDOM_STATES = (
    "numpy.random.__RandomState_ctor",
    "numpy.random.mtrand.__RandomState_ctor",
    "numpy.random._pickle.__randomstate_ctor",
    "numpy.random._pickle.__generator_ctor",
    "numpy.random._pickle.__bit_generator_ctor",
    "numpy.random._mt19937.MT19937",
    "numpy.random._pcg64.PCG64",
    # Since 2.2 a generator also remembers what it was seeded with.
    "numpy.random.bit_generator.SeedSequence",
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
)
_MAKERS: Makers = {
    **NUMPY_MAKERS,
    **_STORAGE_KINDS,
    **{name: Maker(_Inert) for name in _RANDOM_STATES},
    "collections.OrderedDict": Maker(_Entries),
    "torch._utils._rebuild_tensor": Maker(SavedTensor),
    "torch._utils._rebuild_tensor_v2": Maker(SavedTensor),
    "torch._utils._rebuild_parameter": Maker(_parameter),
}


def _load(file: IO[bytes], storages: _Storages, met: dict[str, _Storage] | None = None) -> Any:
    """Read one pickle; ``met`` takes the storages that it refers to."""

    def persistent_load(reference: Any) -> _Storage:
        word, kind, key, _, count, *view = reference
        if word != "storage" or not isinstance(kind, _StorageKind) or any(part is not None for part in view):
            raise ValueError("it refers to something that is no storage of numbers")
        if type(count) is not int or not 0 <= count <= MAX_FILE_BYTES:
            raise ValueError("it has a storage without a proper size")
        storage = _Storage(storages, str(key), kind.dtype, count)
        if met is not None:
            met[storage.key] = storage
            if len(met) > MAX_STORAGES:
                raise ValueError("it has far more tensors than such a file ever holds")
        return storage

    return RestrictedUnpickler(file, _MAKERS, persistent_load).load()


@dataclass(frozen=True)
class _ZipStorages:
    path: Path
    folder: str

    def read(self, key: str, size: int) -> bytes:
        with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.folder}/data/{key}") as member:
            return member.read(size)


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, MAX_STORAGES)
        if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
            raise ValueError("it is packed, as torch packs nothing")
        names = archive.namelist()
        pickles = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("it is a zip archive of something else")
        folder = pickles[0].split("/")[0]
        if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") != b"little":
            raise ValueError("its numbers are in big-endian order")
        with archive.open(pickles[0]) as file:
            return _load(file, _ZipStorages(path, folder))


@dataclass(frozen=True)
class _LegacyStorages:
    path: Path
    start: dict[str, int] = field(default_factory=dict)

    def read(self, key: str, size: int) -> bytes:
        with open(self.path, "rb") as file:
            file.seek(self.start[key])
            return file.read(size)


def _read_legacy(path: Path) -> Any:
    storages = _LegacyStorages(path)
    met: dict[str, _Storage] = {}
    with open(path, "rb") as file:
        if _load(file, storages) != _LEGACY_MAGIC or _load(file, storages) != _LEGACY_PROTOCOL:
            raise ValueError("it does not begin as torch begins its files")
        if not _load(file, storages)["little_endian"]:
            raise ValueError("its numbers are in big-endian order")
        content = _load(file, storages, met)
        for key in _load(file, storages):
            storage = met[str(key)]
            if int.from_bytes(file.read(8), "little") != storage.count:
                raise ValueError("its tensors have other sizes than it says")
            storages.start[storage.key] = file.tell()
            file.seek(storage.count * storage.dtype.itemsize, os.SEEK_CUR)
    return content


def read_torch_archive(path: str | PathLike[str]) -> Any:
    """What ``torch.save`` wrote to ``path``, with each tensor as a ``SavedTensor``.

    Both formats, zip and the one before torch 1.6. Dicts are dicts; objects that are no data (random states) are
    inert. Raises WeightsError when it is no such file, is damaged, or names anything that could run.
    """
    path = Path(path)
    try:
        check_ordinary(path)
        if path.stat().st_size > MAX_FILE_BYTES:
            raise WeightsError(f"'{path}' is far larger than a checkpoint ever is; it is not read.")
        return _read_zip(path) if zipfile.is_zipfile(path) else _read_legacy(path)
    except FileNotFoundError:
        raise WeightsError(f"There is no file '{path}'. Check the path.") from None
    except BAD_FILE as problem:
        raise unreadable(path, problem) from problem


def unreadable(path: Path, problem: BaseException) -> WeightsError:
    """The error to raise when reading ``path`` as a checkpoint met ``problem``, one of ``BAD_FILE``."""
    reason = str(problem) or type(problem).__name__
    return WeightsError(
        f"'{path}' is not a checkpoint that torch wrote, or it is damaged or does more than bring numbers: {reason}."
    )
