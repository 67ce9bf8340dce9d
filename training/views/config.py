"""The settings of a run over synthetic views."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..setting_ranges import CHANCE_BELOW_1, NOT_NEGATIVE, ODD, POSITIVE, at_least, check_precision, check_ranges
from .synthetic_views import ViewSettings


@dataclass(frozen=True)
class DataSettings:
    """Motion files (relative to the configuration file) and the sources of clips to leave out of training."""

    train: str
    valid: str
    test: str
    joint_map: str = ""
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

    def __post_init__(self) -> None:
        check_ranges(self, "network", widths=ODD, channels=at_least(1), dropout=CHANCE_BELOW_1)


@dataclass(frozen=True)
class LoopSettings:
    """AdamW with a warm-up and a cosine down to nothing.

    start_from: weights of the same shape to begin with, a path relative to the configuration file; empty = at random
    view_uses:  how often a synthetic view is learnt from, in the mean, before a new one takes its place
    pool_blocks: how many batches' worth of views are held for that
    """

    start_from: str = ""
    steps: int = 20_000
    batch: int = 512
    learning_rate: float = 1e-3
    warm_up_steps: int = 300
    weight_decay: float = 0.01
    bone_weight: float = 0.5
    uncertainty_weight: float = 0.02
    contact_weight: float = 0.02
    up_weight: float = 0.02
    view_uses: int = 1
    pool_blocks: int = 48
    checkpoint_every: int = 250
    validate_every: int = 1000
    validation_windows: int = 4096
    test_windows: int = 16384
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "loop",
            steps=at_least(1),
            batch=at_least(2),
            learning_rate=POSITIVE,
            warm_up_steps=NOT_NEGATIVE,
            weight_decay=NOT_NEGATIVE,
            bone_weight=NOT_NEGATIVE,
            uncertainty_weight=NOT_NEGATIVE,
            contact_weight=NOT_NEGATIVE,
            up_weight=NOT_NEGATIVE,
            view_uses=at_least(1),
            pool_blocks=at_least(1),
            checkpoint_every=NOT_NEGATIVE,
            validate_every=at_least(1),
            validation_windows=at_least(1),
            test_windows=at_least(1),
        )
        check_precision(self.precision)


@dataclass(frozen=True)
class ViewConfig:
    """Everything that a run over views depends on besides its data."""

    name: str
    data: DataSettings
    method: str = "views"
    network: NetworkSettings = field(default_factory=NetworkSettings)
    loop: LoopSettings = field(default_factory=LoopSettings)
    views: ViewSettings = field(default_factory=ViewSettings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the header of the weights."""
        return asdict(self)
