"""The shell's commands: they read arguments, call the other rooms, and say what happened."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run ``keylift`` with ``argv`` and return its exit code."""
    from .command_line import run

    return run(argv)
