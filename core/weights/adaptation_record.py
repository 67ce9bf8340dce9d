"""What the header of adapted weights says of the adaptation: from what, and whether they proved better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

BETTER, NOT_BETTER = "better", "not better"
_MAX_TEXT = 300


class Adaptation(NamedTuple):
    """What weights that were adapted say of it.

    better, reason:         the gate's verdict, and why
    base_name, base_sha256: the weights that were begun with, and the hash of their file
    """

    better: bool
    reason: str
    base_name: str
    base_sha256: str

    @property
    def verdict(self) -> str:
        """``BETTER`` or ``NOT_BETTER``."""
        return BETTER if self.better else NOT_BETTER


def adaptation_of(header: Mapping[str, Any]) -> Adaptation | None:
    """What a header of ``read_header`` says of an adaptation; None where there was none.

    What it leaves out or says in no way that is known counts as not better.
    """
    said = header.get("adaptation")
    if said is None:
        return None
    verdict, base = _part(said, "verdict"), _part(said, "base")
    return Adaptation(
        better=verdict.get("better") is True,
        reason=shown(verdict.get("reason")) or "it does not say why",
        base_name=shown(base.get("name")) or "unknown",
        base_sha256=shown(base.get("sha256")),
    )


def _part(said: Any, key: str) -> Mapping[str, Any]:
    found = said.get(key) if isinstance(said, dict) else None
    return found if isinstance(found, dict) else {}


def shown(text: Any) -> str:
    """``text`` out of a file as it may be shown: on one line, without what would command a terminal, not too long."""
    if not isinstance(text, str):
        return ""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text[: 10 * _MAX_TEXT]).split())
    return line if len(line) <= _MAX_TEXT else line[: _MAX_TEXT - 3] + "..."
