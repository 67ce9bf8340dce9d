"""What is known of the weights at hand: what they were made from, and whether they proved better than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WeightsError
from ..source import sha256_of
from . import list_weights, read_header
from .adaptation_record import Adaptation, adaptation_of, shown
from .in_use import read_in_use
from .integrity import is_shipped

MAX_ANCESTORS = 100


@dataclass(frozen=True)
class Description:
    """One line of the list of weights.

    size:            bytes of the file
    adapted_from:    name of the weights that it was begun with; None where it was not adapted
    verdict, reason: ``better`` or ``not better`` than those, and why; None where it was not adapted
    """

    name: str
    path: Path
    size: int
    shipped: bool
    in_use: bool
    adapted_from: str | None
    verdict: str | None
    reason: str | None


@dataclass(frozen=True)
class Ancestor:
    """Weights that others were made from: the name that they have now or had then, their hash, and whether they are
    at hand."""

    name: str
    sha256: str
    at_hand: bool


def describe_weights() -> list[Description]:
    """What there is to say of all weights of ``list_weights``, in its order."""
    in_use = read_in_use().name
    return [_description(name, path, in_use) for name, path in list_weights().items()]


def _description(name: str, path: Path, in_use: str) -> Description:
    adaptation = adaptation_of(read_header(path))
    return Description(
        name=name,
        path=path,
        size=path.stat().st_size,
        shipped=is_shipped(path),
        in_use=name == in_use,
        adapted_from=adaptation.base_name if adaptation else None,
        verdict=adaptation.verdict if adaptation else None,
        reason=adaptation.reason if adaptation else None,
    )


def lineage(path: Path) -> list[Ancestor]:
    """The weights that those in ``path`` were made from, from the nearest back to those that Keylift came with.

    They are found by the hash of their file among the weights at hand; what is not at hand is known by what its
    descendants wrote down. Raises WeightsError when ``path`` is no weights file.
    """
    header = read_header(path)
    at_hand = _by_hash() if adaptation_of(header) else {}
    found: list[Ancestor] = []
    while (adaptation := adaptation_of(header)) and len(found) < MAX_ANCESTORS:
        known = at_hand.get(adaptation.base_sha256)
        if known is None:
            return [*found, *_written_down(header, adaptation)][:MAX_ANCESTORS]
        found.append(Ancestor(known.stem, adaptation.base_sha256, True))
        header = read_header(known)
    return found


def _by_hash() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_weights().values():
        try:
            # The first wins: what was shipped goes by its own name, whatever copies there are.
            found.setdefault(sha256_of(path), path)
        except OSError as problem:
            raise WeightsError(f"'{path}' can't be read: {problem.strerror}.") from problem
    return found


def _written_down(header: Mapping[str, Any], adaptation: Adaptation) -> list[Ancestor]:
    """The base that is gone, and what the header says of those before it."""
    base = Ancestor(adaptation.base_name, adaptation.base_sha256, False)
    said = header["adaptation"].get("parents") if isinstance(header["adaptation"], dict) else None
    parents = [
        Ancestor(shown(parent.get("name")), shown(parent.get("sha256")), False)
        for parent in reversed(said if isinstance(said, list) else [])
        if isinstance(parent, dict)
    ]
    return [base, *(parent for parent in parents if parent.sha256 != base.sha256)]
