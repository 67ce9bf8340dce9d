"""A training run as values: read from TOML, saved with the weights. An unknown key is an error.

``method`` says which kind of run it is: ``views`` (windows of rays seen by synthetic cameras, the default lifter's),
``sequences`` (the paper's), ``label_study`` (many of these, with ever fewer labels) or ``adapt`` (a lifter that is
there already learns from footage; ``keylift adapt`` writes such a configuration).
"""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import FileFormatError
from ..core.outside_text import text_within, toml_table
from .retraining.settings import AdaptConfig
from .retraining.shift_study import ShiftStudy
from .sequences.config import FilmedData, MocapData, SequenceConfig
from .sequences.label_study import LabelStudy
from .views.config import ViewConfig

Settings = TypeVar("Settings")

METHODS: dict[str, type[ViewConfig | SequenceConfig | LabelStudy | AdaptConfig | ShiftStudy]] = {
    "views": ViewConfig,
    "sequences": SequenceConfig,
    "label_study": LabelStudy,
    "adapt": AdaptConfig,
    "shift_study": ShiftStudy,
}
MAX_CONFIG_BYTES = 1 << 20


def _fits(value: Any, declared: Any) -> bool:
    """True when a value from TOML is of the type that a field declares: int, float, bool, str or a tuple of these."""
    if typing.get_origin(declared) is tuple:
        items = [item for item in typing.get_args(declared) if item is not ...]
        counted = ... not in typing.get_args(declared)
        fitting = isinstance(value, list) and all(_fits(part, items[0]) for part in value)
        return fitting and (not counted or len(value) == len(items))
    if declared is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is declared


def _kind_of_table(declared: Any, table: dict[str, Any]) -> Any:
    """The settings that a table holds, where a field may hold one of several."""
    if dataclasses.is_dataclass(declared):
        return declared
    return MocapData if table.get("kind") == "mocap" else FilmedData


def settings_from_table(kind: type[Settings], table: dict[str, Any], where: str = "") -> Settings:
    """A settings dataclass from a TOML table. Raises FileFormatError that names the key that is not understood."""
    declared_types = typing.get_type_hints(kind)
    if unknown := sorted(set(table) - set(declared_types)):
        place = f"[{where}]" if where else "the top of the file"
        raise FileFormatError(f"Unknown key in {place}: {', '.join(unknown)}. Known: {', '.join(declared_types)}.")
    values: dict[str, Any] = {}
    for key, value in table.items():
        below = f"{where}.{key}" if where else key
        declared = declared_types[key]
        is_table = dataclasses.is_dataclass(declared) or isinstance(declared, types.UnionType)
        if is_table and isinstance(value, dict):
            values[key] = settings_from_table(_kind_of_table(declared, value), value, below)
        elif is_table or not _fits(value, declared):
            wanted = "a table" if is_table else getattr(declared, "__name__", str(declared))
            if typing.get_origin(declared) is tuple:
                wanted = str(declared)
            raise FileFormatError(f"{key} in [{where or 'top of the file'}] must be {wanted}, not {value!r}.")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except TypeError as problem:
        raise FileFormatError(f"[{where or 'top of the file'}] is incomplete: {problem}") from problem


def read_config(path: Path) -> ViewConfig | SequenceConfig | LabelStudy | AdaptConfig | ShiftStudy:
    """Read a training configuration. Raises FileFormatError for anything that is not understood."""
    try:
        table = toml_table(text_within(path, MAX_CONFIG_BYTES))
    except FileNotFoundError:
        raise FileFormatError(f"There is no training configuration '{path}'. Check the path.") from None
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"The training configuration '{path}' can't be read: {problem}") from problem
    method = table.get("method", "views")
    if not isinstance(method, str) or method not in METHODS:
        raise FileFormatError(f"method must be one of {', '.join(METHODS)}, not {method!r}.")
    return settings_from_table(METHODS[method], table)
