"""Which numbers a setting may take, so that a slip is named before anything is computed with it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.errors import FileFormatError


@dataclass(frozen=True)
class Range:
    """Numbers that are allowed, in words and as a test."""

    words: str
    holds: Callable[[float], bool]


POSITIVE = Range("above 0", lambda value: value > 0)
NOT_NEGATIVE = Range("0 or more", lambda value: value >= 0)
PART = Range("above 0 and at most 1", lambda value: 0 < value <= 1)
ODD = Range("odd and above 0", lambda value: value > 0 and value % 2 == 1)
CHANCE_BELOW_1 = Range("0 or more and below 1", lambda value: 0 <= value < 1)


def at_least(least: int) -> Range:
    """Numbers from ``least`` on."""
    return Range(f"{least} or more", lambda value: value >= least)


def check_ranges(settings: Any, table: str, **ranges: Range) -> None:
    """Raise FileFormatError that names the first of ``settings``' numbers (or tuples of them) out of its range.

    table: where the settings stand in the configuration
    """
    for key, allowed in ranges.items():
        value = getattr(settings, key)
        for number in value if isinstance(value, tuple) else (value,):
            # TOML knows nan, inf and whole numbers without end.
            if not -sys.float_info.max <= number <= sys.float_info.max or not allowed.holds(number):
                raise FileFormatError(f"{key} in [{table}] must be {allowed.words}, not {number}.")


def check_precision(precision: str) -> None:
    """Raise FileFormatError when ``precision`` of [loop] is none that there is."""
    if precision not in ("auto", "float32", "bfloat16"):
        raise FileFormatError(f"precision in [loop] must be auto, float32 or bfloat16, not '{precision}'.")
