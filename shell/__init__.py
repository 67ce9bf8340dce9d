"""The shell's commands: they read arguments, call the other rooms, and say what happened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def main(argv: Sequence[str], instead: Mapping[str, Any] | None = None) -> int:
    """Run ``keylift`` with ``argv`` and return its exit code.

    instead: commands that are done in another way where this runs, by name (see ``command_line.run``)
    """
    from .command_line import run

    return run(argv, instead)
