"""The shell's door: ``keylift ...`` and ``python -m keylift ...``. Imports nothing heavy until a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``keylift`` with ``argv`` (or this process's own arguments) and return its exit code."""
    try:
        from .shell import main as run

        if argv is not None:
            return run(argv)
        code = run(sys.argv[1:])
        from .shell.interruption import let_go

        let_go()
        if os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1"):
            _leave_at_once(code)
        return code
    except KeyboardInterrupt:
        # Pressed while the first modules were still being loaded, or after the work was done.
        print("keylift: Stopped. Nothing half-done was left behind.", file=sys.stderr, flush=True)
        return 130


def _leave_at_once(code: int) -> None:
    """End a process that shared a run with others, all of whose files are closed.

    torch 2.13 holds gloo's threads until the process ends, even when the group is destroyed, and at times they abort
    an interpreter that tidies up under them; torchrun would take that for a process that died.
    """
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
