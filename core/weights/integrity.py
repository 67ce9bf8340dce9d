"""Whether weights are still what was written, by hash."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..outside_text import bytes_within
from . import (
    MAKE_ANEW,
    MAX_HEADER_BYTES,
    MAX_WEIGHTS_BYTES,
    SHIPPED_FOLDER,
    SHIPPED_NAMES,
    SHIPPED_SHA256,
    read_header,
)
from .tensor_table import TENSORS_HASH, TensorPlace, hash_of_tensors, tensor_places

INTACT, UNVERIFIED, BAD = "intact", "unverified", "bad"


@dataclass(frozen=True)
class Verification:
    """What came of looking at a weights file.

    state:  intact, unverified (nothing speaks against it, but it holds no hash) or bad
    reason: why, in words
    """

    name: str
    path: Path
    state: str
    reason: str

    @property
    def bad(self) -> bool:
        """True when the file must not be used."""
        return self.state == BAD


def verify(path: Path) -> Verification:
    """Read all of a weights file and compare it with its hashes. Never raises for what is in the file."""
    try:
        content = content_of(path)
        read_header(path)
        _tensors(path, content)
        found = check_content(path, content)
    except WeightsError as problem:
        return Verification(path.stem, path, BAD, str(problem))
    if found:
        return Verification(path.stem, path, INTACT, found)
    return Verification(path.stem, path, UNVERIFIED, "no hash in it: Keylift wrote none at the time")


def content_of(path: Path) -> bytes:
    """All of a weights file. Raises WeightsError when it is not there, can't be read or is too large."""
    try:
        return bytes_within(path, MAX_WEIGHTS_BYTES)
    except FileNotFoundError:
        raise WeightsError(f"There is no weights file '{path}'.") from None
    except OSError as problem:
        raise WeightsError(f"'{path}' can't be read: {problem.strerror}.") from problem
    except ValueError:
        raise WeightsError(
            f"'{path}' is not a weights file: Keylift reads at most {MAX_WEIGHTS_BYTES:,} bytes."
        ) from None


def check_content(path: Path, content: bytes) -> str:
    """What proves that a file's ``content`` is what was written; empty when nothing does.

    Raises WeightsError when something proves the contrary.
    """
    if is_shipped(path):
        if sha256(content).hexdigest() != SHIPPED_SHA256[path.stem]:
            raise WeightsError(
                f"'{path}' is not the file that Keylift came with: it is damaged. Install Keylift again."
            )
        return "the file that Keylift came with"
    metadata = _header(path, content)[0].get("__metadata__")
    if not isinstance(metadata, dict) or TENSORS_HASH not in metadata:
        return ""
    if metadata[TENSORS_HASH] != json.dumps(hash_of_tensors(*_tensors(path, content))):
        raise WeightsError(f"'{path}' is damaged: its parameters are not those that were written. {MAKE_ANEW}")
    return "its parameters are those that were written"


def is_shipped(path: Path) -> bool:
    """True for the files that Keylift comes with."""
    return path.stem in SHIPPED_NAMES and path.parent.resolve() == SHIPPED_FOLDER.resolve()


def _header(path: Path, content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and data of a safetensors file."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        if length > min(MAX_HEADER_BYTES, len(content) - 8):
            raise ValueError("its header can't be that long")
        described = json.loads(content[8 : 8 + length])
        if not isinstance(described, dict):
            raise ValueError("its header is no table")
    except (ValueError, RecursionError, struct.error) as problem:
        raise WeightsError(f"'{path}' is not a weights file, or it is damaged: {problem}") from problem
    return described, memoryview(content)[8 + length :]


def _tensors(path: Path, content: bytes) -> tuple[tuple[TensorPlace, ...], memoryview]:
    """Where the parameters lie, and the data that they lie in."""
    described, data = _header(path, content)
    try:
        return tensor_places(described, len(data)), data
    except ValueError as problem:
        raise WeightsError(f"'{path}' is not whole, or it is damaged: {problem}. {MAKE_ANEW}") from problem
