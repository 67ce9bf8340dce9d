"""Weights of lifters on disk: safetensors files whose header says what they are. No pickles.

Here is how such a file is found, read and written; which weights are used, what is known of them and whether they are
still what was written stands in the modules beside, whose functions can be had from here.
"""

from __future__ import annotations

import json
import os
import struct
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, WeightsError
from ..output_files import ELSEWHERE, written_whole
from ..outside_text import check_ordinary
from ..source import Source, sha256_of
from .names import check_free
from .tensor_table import HEADER_HASH, TENSORS_HASH, hash_of_header, tensor_places, with_hashes

if TYPE_CHECKING:
    import torch

    from .in_use import InUse as InUse
    from .in_use import Removed as Removed
    from .in_use import read_in_use as read_in_use
    from .in_use import remove_weights as remove_weights
    from .in_use import use_earlier as use_earlier
    from .in_use import use_weights as use_weights
    from .in_use import weights_in_use as weights_in_use
    from .integrity import Verification as Verification
    from .integrity import verify as verify
    from .provenance import describe_weights as describe_weights
    from .provenance import lineage as lineage

FORMAT = "keylift-lifter"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 1 << 30
SHIPPED_FOLDER = Path(__file__).parent
# Of the files that Keylift comes with, which were written before headers held hashes.
SHIPPED_SHA256 = {
    "default": "6081aba336a39b59a9326efdfb5e08ba4864b06a4274f6b4e508f885b6282767",
    "causal": "8aa760e2f3922acb5595badd0a61be429c61d6d060efd3fe4e225d6df3fa5896",
}
SHIPPED_NAMES = tuple(SHIPPED_SHA256)
MAKE_ANEW = "Put back a copy of it, or make it anew."

_MODULES = {
    "InUse": "in_use",
    "Removed": "in_use",
    "read_in_use": "in_use",
    "remove_weights": "in_use",
    "use_earlier": "in_use",
    "use_weights": "in_use",
    "weights_in_use": "in_use",
    "Verification": "integrity",
    "verify": "integrity",
    "describe_weights": "provenance",
    "lineage": "provenance",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then: those modules are built on this one."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


def user_folder() -> Path:
    """Where a user's own named weights live: ``KEYLIFT_WEIGHTS``, or in ``KEYLIFT_DATA``, or the system's place."""
    if folder := os.environ.get("KEYLIFT_WEIGHTS"):
        return Path(folder)
    import platformdirs

    return Path(os.environ.get("KEYLIFT_DATA") or platformdirs.user_data_dir("keylift", appauthor=False)) / "weights"


def weights_files() -> dict[str, Path]:
    """Name -> file of everything that is called weights, whole or not; what begins with a dot is not.

    ``SHIPPED_NAMES`` always are the files that Keylift comes with, whatever lies in the user's folder.
    """
    own = {path.stem: path for path in _files_in(user_folder())}
    shipped = {path.stem: path for path in _files_in(SHIPPED_FOLDER) if path.stem in SHIPPED_NAMES}
    return {**shipped, **{name: path for name, path in own.items() if name not in SHIPPED_NAMES}}


def _files_in(folder: Path) -> list[Path]:
    # What begins with a dot is half-written, or macOS's word about a file beside it.
    found = folder.glob("*.safetensors") if folder.is_dir() else ()
    return sorted(path for path in found if not path.name.startswith(".") and path.is_file())


def list_weights() -> dict[str, Path]:
    """Name -> file of all weights that can be used: the shipped ones and the user's own.

    Files that are not whole, or no lifters of ours, are left out; ``left_out`` has those.
    """
    return {name: path for name, path in weights_files().items() if not _why_unusable(path)}


def left_out() -> dict[Path, str]:
    """File -> reason, of what is called weights and ``list_weights`` leaves out."""
    reasons = {path: _why_unusable(path) for path in weights_files().values()}
    for path in _files_in(user_folder()):
        if path.stem in SHIPPED_NAMES:
            reasons[path] = (
                f"'{path}' is not used: '{path.stem}' always means the weights that Keylift comes with. Give the file "
                "another name."
            )
    return {path: reason for path, reason in reasons.items() if reason}


def _why_unusable(path: Path) -> str:
    """What keeps a file from being weights, as far as its header tells; empty when nothing does."""
    try:
        state = path.stat()
    except OSError as problem:
        return f"'{path}' can't be read: {problem.strerror}."
    return _reason(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1024)
def _reason(path: Path, size: int, _mtime_ns: int) -> str:
    # Lists are drawn over and over; a file that stays the same is looked at once.
    try:
        read_header(path)
        described, begin = _header_json(path)
        tensor_places(described, size - begin)
    except (WeightsError, ValueError) as problem:
        return str(problem) if isinstance(problem, WeightsError) else f"'{path}' is not whole: {problem}."
    return ""


def find_weights(name_or_path: str | None = None) -> Path:
    """The file for a name of ``list_weights`` or a path; for None, of the weights in use.

    Raises WeightsError when there is none.
    """
    if name_or_path is None:
        from .in_use import weights_in_use

        name_or_path = weights_in_use()
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        if path.is_file():
            return path
        raise WeightsError(f"There is no weights file '{path}'. Check the path after --weights.")
    if file := file_named(name_or_path):
        return file
    known = ", ".join(list_weights()) or "none"
    raise WeightsError(
        f"There are no weights named '{name_or_path}'. Known: {known}. Give one of these or a .safetensors file."
    )


def file_named(name: str) -> Path | None:
    """The file of ``weights_files`` with this name; None when there is none."""
    files = weights_files()
    if name in files:
        return files[name]
    # Some disks give an accented letter back as two characters.
    wanted = unicodedata.normalize("NFC", name)
    return next((path for other, path in files.items() if unicodedata.normalize("NFC", other) == wanted), None)


def check_new_name(name: str, *, replace: bool = False) -> None:
    """Raise WeightsError when new weights of the user's own can't be called ``name``.

    Taken names are refused unless ``replace``; those of ``SHIPPED_NAMES``, and what is no file's name on some system,
    always.
    """
    check_free(name, SHIPPED_NAMES, [path.stem for path in _files_in(user_folder())], replace=replace)


def read_header(path: Path) -> dict[str, Any]:
    """What a weights file says of itself: lifter, input_layout, skeleton, licence, training, metrics.

    Reads the header only. Raises WeightsError when the file is not a lifter of ours, or its header not as written.
    """
    try:
        metadata = _header_json(path)[0].get("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise WeightsError(f"'{path}' is a safetensors file but not a lifter of Keylift.")
        if int(metadata["format_version"]) > FORMAT_VERSION:
            raise WeightsError(f"'{path}' was written by a newer Keylift. Update Keylift.")
        # Who wrote one hash wrote both: a key that is gone is damage too.
        is_hashed = HEADER_HASH in metadata or TENSORS_HASH in metadata
        if is_hashed and metadata.get(HEADER_HASH) != json.dumps(hash_of_header(metadata)):
            raise WeightsError(f"'{path}' is damaged: what it says of itself is not what was written. {MAKE_ANEW}")
        return {key: json.loads(value) for key, value in metadata.items() if key not in ("format", "format_version")}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as problem:
        raise WeightsError(f"'{path}' is not a weights file, or it is damaged: {problem}") from problem


def _header_json(path: Path) -> tuple[dict[str, Any], int]:
    """A safetensors file's header, and where its data begins. Raises WeightsError when there is none."""
    try:
        check_ordinary(path)
        size = path.stat().st_size
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, size - 8) or size > MAX_WEIGHTS_BYTES:
                raise WeightsError(f"'{path}' is not a weights file: its header can't be that long.")
            described = json.loads(file.read(length))
        if not isinstance(described, dict):
            raise ValueError("its header is no table")
        return described, 8 + length
    except FileNotFoundError:
        raise WeightsError(f"There is no weights file '{path}'.") from None
    except (OSError, ValueError, RecursionError, struct.error) as problem:
        raise WeightsError(f"'{path}' is not a weights file, or it is damaged: {problem}") from problem


def write_weights(
    path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], advice: str = ELSEWHERE
) -> None:
    """Write a lifter's parameters and what must be known of them, whole or not at all, with the hashes of both.

    advice: what to do when ``path`` can't be written
    Raises OutputError also when the file would be larger than ``read_header`` takes.
    """
    from safetensors.torch import save

    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION)}
    metadata.update({key: json.dumps(value, sort_keys=True) for key, value in header.items()})
    parts = with_hashes(save({name: tensor.contiguous() for name, tensor in tensors.items()}), metadata)
    with written_whole(path, advice) as beside:
        with open(beside, "wb") as file:
            file.writelines(parts)
        _check_readable(beside, path)


def _check_readable(written: Path, path: Path) -> None:
    """Raise OutputError, in the name of ``path``, when what was written is larger than ``read_header`` takes."""
    with open(written, "rb") as file:
        (header,) = struct.unpack("<Q", file.read(8))
    for what, size, most in (
        ("what it says of itself", header, MAX_HEADER_BYTES),
        ("it", written.stat().st_size, MAX_WEIGHTS_BYTES),
    ):
        if size > most:
            raise OutputError(
                f"'{path}' was not written: {what} would take {size:,} bytes, and Keylift reads at most {most:,}. "
                "Shorten the texts that go with the weights, or make the network smaller."
            )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The parameters in a weights file.

    Raises WeightsError when it is damaged, or its parameters are not those that were written, as far as its header or
    ``SHIPPED_SHA256`` can tell.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from .integrity import check_content, content_of

    # Read once, so that what is checked is what is loaded; and mapped into no memory, where Windows lets nobody
    # remove or replace the file.
    content = content_of(path)
    check_content(path, content)
    try:
        return load(content)
    except (SafetensorError, ValueError, KeyError) as problem:
        raise WeightsError(f"'{path}' is damaged: {problem}") from problem


def weights_source(path: Path) -> Source:
    """Name and hash of a weights file, for the poses made with it."""
    return Source(path.stem, sha256_of(path))
