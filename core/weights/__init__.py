"""Weights of lifters on disk: safetensors files whose header says what they are. No pickles."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OutputError, WeightsError
from ..output_files import ELSEWHERE, written_whole
from ..track_files import sha256_of
from ..tracks import Source

if TYPE_CHECKING:
    import torch

FORMAT = "keylift-lifter"
FORMAT_VERSION = 1
MAX_HEADER_BYTES = 1 << 20
MAX_WEIGHTS_BYTES = 1 << 30
SHIPPED_FOLDER = Path(__file__).parent


def user_folder() -> Path:
    """Where a user's own named weights live: ``KEYLIFT_WEIGHTS``, or in ``KEYLIFT_DATA``, or the system's place."""
    if folder := os.environ.get("KEYLIFT_WEIGHTS"):
        return Path(folder)
    import platformdirs

    return Path(os.environ.get("KEYLIFT_DATA") or platformdirs.user_data_dir("keylift", appauthor=False)) / "weights"


def list_weights() -> dict[str, Path]:
    """Name -> file of all weights at hand: the shipped ones and the user's own, which win over shipped namesakes."""
    found: dict[str, Path] = {}
    for folder in (SHIPPED_FOLDER, user_folder()):
        if folder.is_dir():
            found.update({path.stem: path for path in sorted(folder.glob("*.safetensors"))})
    return found


def find_weights(name_or_path: str) -> Path:
    """The file for a name of ``list_weights`` or a path. Raises WeightsError when there is none."""
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        if path.is_file():
            return path
        raise WeightsError(f"There is no weights file '{path}'. Check the path after --weights.")
    names = list_weights()
    if name_or_path not in names:
        known = ", ".join(names) or "none"
        raise WeightsError(
            f"There are no weights named '{name_or_path}'. Known: {known}. Give one of these or a .safetensors file."
        )
    return names[name_or_path]


def read_header(path: Path) -> dict[str, Any]:
    """What a weights file says of itself: lifter, input_layout, skeleton, licence, training, metrics.

    Reads the header only. Raises WeightsError when the file is not a lifter of ours.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, size) or size > MAX_WEIGHTS_BYTES:
                raise WeightsError(f"'{path}' is not a weights file: its header can't be that long.")
            metadata = json.loads(file.read(length)).get("__metadata__", {})
        if metadata.get("format") != FORMAT:
            raise WeightsError(f"'{path}' is a safetensors file but not a lifter of Keylift.")
        if int(metadata["format_version"]) > FORMAT_VERSION:
            raise WeightsError(f"'{path}' was written by a newer Keylift. Update Keylift.")
        return {key: json.loads(value) for key, value in metadata.items() if key not in ("format", "format_version")}
    except FileNotFoundError:
        raise WeightsError(f"There is no weights file '{path}'.") from None
    except (OSError, ValueError, KeyError, AttributeError, struct.error) as problem:
        raise WeightsError(f"'{path}' is not a weights file, or it is damaged: {problem}") from problem


def write_weights(
    path: Path, tensors: Mapping[str, torch.Tensor], header: Mapping[str, Any], advice: str = ELSEWHERE
) -> None:
    """Write a lifter's parameters and what must be known of them, whole or not at all.

    advice: what to do when ``path`` can't be written
    Raises OutputError also when the file would be larger than ``read_header`` takes.
    """
    from safetensors.torch import save_file

    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION)}
    metadata.update({key: json.dumps(value, sort_keys=True) for key, value in header.items()})
    with written_whole(path, advice) as beside:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, str(beside), metadata)
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
    """The parameters in a weights file. Raises WeightsError when it is damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path))
    except (OSError, SafetensorError, ValueError) as problem:
        raise WeightsError(f"'{path}' is damaged: {problem}") from problem


def weights_source(path: Path) -> Source:
    """Name and hash of a weights file, for the poses made with it."""
    return Source(path.stem, sha256_of(path))
