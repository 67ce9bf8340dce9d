"""Where the parameters lie in a safetensors file, read strictly and without torch, and the hashes that guard them."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple, TypeGuard

TENSORS_HASH = "tensors_sha256"
HEADER_HASH = "header_sha256"
# The data begins at a multiple of it, as the format recommends.
_ALIGNMENT = 8
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
_MAX_DIMENSIONS = 16
_MAX_BYTES = 1 << 40


class TensorPlace(NamedTuple):
    """One tensor: its name, type and shape, and its bytes [first, end), counted from where the data begins."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    first: int
    end: int


def tensor_places(described: Mapping[str, Any], data_bytes: int) -> tuple[TensorPlace, ...]:
    """What a file's header says of its tensors, sorted by name.

    described:  the header as JSON has it, with or without ``__metadata__``
    data_bytes: size of all that comes after the header

    Raises ValueError when the tensors do not fill the data from end to end, or what is said of one can't be true.
    """
    places = tuple(_place(name, described[name]) for name in sorted(described) if name != "__metadata__")
    filled = 0
    for place in sorted(places, key=lambda place: (place.first, place.end)):
        if place.first != filled:
            raise ValueError(f"the bytes of '{place.name}' begin at {place.first}, not at {filled}")
        filled = place.end
    if filled != data_bytes:
        raise ValueError(f"its parameters take {filled:,} bytes, and the file has {data_bytes:,} for them")
    return places


def _place(name: str, said: Any) -> TensorPlace:
    """One tensor's entry. Raises ValueError when its type, its shape and its place don't go together."""
    if not isinstance(said, dict):
        raise ValueError(f"nothing is said of '{name}'")
    dtype, shape, offsets = said.get("dtype"), said.get("shape"), said.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"'{name}' is of an unknown type")
    if not _are_sizes(shape) or not _are_sizes(offsets) or len(shape) > _MAX_DIMENSIONS or len(offsets) != 2:
        raise ValueError(f"'{name}' has a shape or a place that can't be")
    first, end = offsets
    if end - first != prod(shape) * _BYTES[dtype]:
        raise ValueError(f"'{name}' has another size than its shape")
    return TensorPlace(name, dtype, tuple(shape), first, end)


def _are_sizes(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(value) is int and 0 <= value <= _MAX_BYTES for value in values)


def hash_of_tensors(places: tuple[TensorPlace, ...], data: memoryview) -> str:
    """SHA-256 over name, type, shape and bytes of each tensor, in the order of the names.

    places: of ``tensor_places``; data: all that comes after the header
    """
    found = hashlib.sha256()
    for place in places:
        found.update(json.dumps([place.name, place.dtype, place.shape]).encode() + b"\n")
        found.update(data[place.first : place.end])
    return found.hexdigest()


def hash_of_header(metadata: Mapping[str, str]) -> str:
    """SHA-256 over a header's metadata, but for the entry that holds this hash."""
    said = sorted((key, value) for key, value in metadata.items() if key != HEADER_HASH)
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def with_hashes(content: bytes, metadata: Mapping[str, str]) -> tuple[bytes, memoryview]:
    """The two parts of a safetensors file: header and data.

    content:  a whole file without metadata, as the safetensors package makes it
    metadata: what is to be said of it, as JSON texts; the two hashes are added
    """
    (length,) = struct.unpack("<Q", content[:8])
    described = json.loads(content[8 : 8 + length])
    data = memoryview(content)[8 + length :]
    tensors = hash_of_tensors(tensor_places(described, len(data)), data)
    said = {**metadata, TENSORS_HASH: json.dumps(tensors)}
    said[HEADER_HASH] = json.dumps(hash_of_header(said))
    header = json.dumps({"__metadata__": said, **described}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    return struct.pack("<Q", len(header)) + header, data
