"""``blender -c keylift ...``: the shell's commands inside Blender, without a window."""

from __future__ import annotations

COMMAND = "keylift"


def run_command(argv: list[str]) -> int:
    """Run the command line and return its exit code."""
    from ..shell import main

    return main(argv)
