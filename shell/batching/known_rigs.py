"""Rigs that takes were found to fit, kept in the output folder: one that has not changed is not opened again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ... import __version__
from ...core.errors import FileFormatError
from .blender_hand import installed_blender
from .out_folder import HIDDEN, digest, read_json, write_json
from .rig_opening import Rig
from .standing import stamped


class KnownRigs:
    """Those of one output folder. Nothing is written before ``keep``.

    Only what fits is remembered: what was wrong may lie in a file that the rig's own file takes along.
    """

    def __init__(self, output: Path) -> None:
        self._folder = output / HIDDEN / "rigs"
        self._found: dict[str, dict[str, Any]] = {}
        self._blender = _blender()

    def fits(self, rig: Rig, files: Sequence[str]) -> bool:
        """Whether ``rig`` was found to fit, by this Blender and this Keylift, as ``files`` are now."""
        return read_json(self._file(self._key(rig, files))) is not None

    def found_to_fit(self, rig: Rig, files: Sequence[str]) -> None:
        """Remember it, as ``files`` are now."""
        self._found[self._key(rig, files)] = {"schema_version": 1, "rig": list(rig), "files": list(files)}

    def keep(self) -> None:
        """Write down what was found. Raises OutputError."""
        for key, values in self._found.items():
            write_json(self._file(key), values)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key[:32]}.json"

    def _key(self, rig: Rig, files: Sequence[str]) -> str:
        return digest([__version__, self._blender, rig, [asdict(stamped(Path(file))) for file in files]])


def _blender() -> list[Any]:
    """Which Blender is asked about rigs, as far as that can be told without starting it."""
    named = installed_blender()
    if not named:
        try:
            return [version("bpy")]
        except PackageNotFoundError:
            return []
    try:
        return [asdict(stamped(Path(named)))]
    except FileFormatError:
        return [named]
