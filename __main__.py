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
        if os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1") or _blender_crashes_at_the_end():
            _leave_at_once(code)
        return code
    except KeyboardInterrupt:
        return _stopped()
    except RuntimeError as problem:
        # So Python 3.11 tells of a ctrl-C in the middle of the making of a class.
        if isinstance(problem.__cause__, KeyboardInterrupt):
            return _stopped()
        raise


def _stopped() -> int:
    """Ctrl-C came while the first modules were still being loaded, or after the work was done."""
    print("keylift: Stopped. Nothing half-done was left behind.", file=sys.stderr, flush=True)
    return 130


def _blender_crashes_at_the_end() -> bool:
    """Blender 4.2 as a Python module is torn down twice once an add-on was enabled, with all work done by then."""
    bpy = sys.modules.get("bpy")
    return bpy is not None and bpy.app.version < (4, 5)


def _leave_at_once(code: int) -> None:
    """End a process all of whose files are closed without tidying up, where that is known to go wrong.

    One is a process that shared a run with others: torch 2.13 holds gloo's threads until the process ends, even when
    the group is destroyed, and at times they abort an interpreter that tidies up under them; torchrun would take that
    for a process that died. The other is an old Blender's.
    """
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
