"""A training run as values: read from TOML, saved with the weights. An unknown key is an error."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..core.errors import FileFormatError
from .detector_noise import NoiseSettings
from .views import ViewSettings

Settings = TypeVar("Settings")


@dataclass(frozen=True)
class DataSettings:
    """Motion files (relative to the configuration file) and the sources of clips to leave out of training."""

    train: str
    valid: str
    test: str
    leave_out_sources: tuple[str, ...] = ()
    licence: str = ""
    acknowledgement: str = ""


@dataclass(frozen=True)
class NetworkSettings:
    """Sizes of the lifter; the receptive field is the product of the widths, in frames at 30 a second."""

    widths: tuple[int, ...] = (3, 3, 3)
    channels: int = 512
    dropout: float = 0.1
    causal: bool = False


@dataclass(frozen=True)
class LoopSettings:
    """AdamW with a warm-up and a cosine down to nothing."""

    steps: int = 20_000
    batch: int = 512
    learning_rate: float = 1e-3
    warm_up_steps: int = 300
    weight_decay: float = 0.01
    bone_weight: float = 0.5
    uncertainty_weight: float = 0.02
    contact_weight: float = 0.02
    checkpoint_every: int = 250
    validate_every: int = 1000
    validation_windows: int = 4096
    test_windows: int = 16384
    seed: int = 1


@dataclass(frozen=True)
class TrainingConfig:
    """Everything that a run depends on besides its data."""

    name: str
    data: DataSettings
    network: NetworkSettings = field(default_factory=NetworkSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    views: ViewSettings = field(default_factory=ViewSettings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the header of the weights."""
        return asdict(self)


def _fits(value: Any, declared: str) -> bool:
    """True when a value from TOML is of the type that a field declares, as text: int, float, bool, str or a tuple."""
    if declared.startswith("tuple["):
        item = declared.removeprefix("tuple[").split(",")[0]
        return isinstance(value, list) and all(_fits(part, item) for part in value)
    if declared == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value).__name__ == declared


def _from_table(kind: type[Settings], table: dict[str, Any], where: str) -> Settings:
    known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]
    if unknown := sorted(set(table) - set(known)):
        raise FileFormatError(f"Unknown key in [{where}]: {', '.join(unknown)}. Known: {', '.join(known)}.")
    nested = {"data": DataSettings, "network": NetworkSettings, "loop": LoopSettings, "views": ViewSettings}
    nested["noise"] = NoiseSettings
    values: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict) and is_dataclass(nested.get(key)):
            values[key] = _from_table(nested[key], value, f"{where}.{key}" if where else key)
        elif not _fits(value, str(known[key].type)):
            raise FileFormatError(f"{key} in [{where or 'top of the file'}] must be {known[key].type}, not {value!r}.")
        else:
            values[key] = tuple(value) if isinstance(value, list) else value
    try:
        return kind(**values)
    except TypeError as problem:
        raise FileFormatError(f"[{where or 'top of the file'}] is incomplete: {problem}") from problem


def read_config(path: Path) -> TrainingConfig:
    """Read a training configuration. Raises FileFormatError for anything that is not understood."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileFormatError(f"There is no training configuration '{path}'. Check the path.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise FileFormatError(f"The training configuration '{path}' can't be read: {problem}") from problem
    return _from_table(TrainingConfig, table, "")
