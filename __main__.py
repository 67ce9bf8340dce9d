"""The shell's door: ``keylift ...`` and ``python -m keylift ...``. Imports nothing heavy until a command needs it."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``keylift`` with ``argv`` (or this process's own arguments) and return its exit code."""
    try:
        from .shell import main as run

        if argv is not None:
            return run(argv)
        code = run(sys.argv[1:])
        from .shell.interruption import let_go

        let_go()
        return code
    except KeyboardInterrupt:
        # Pressed while the first modules were still being loaded, or after the work was done.
        print("keylift: Stopped. Nothing half-done was left behind.", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
