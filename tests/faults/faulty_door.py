"""``keylift`` on a machine with a fault: what can't be done to a process from outside is done in it.

Run as a script in place of ``-m keylift``. KEYLIFT_FAULT holds the fault as JSON; processes that this one spawns run
the same file first, as Python has it, and so have the same fault.
"""

from __future__ import annotations

import atexit
import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any


def clock_jumps(seed: int, within_s: float) -> None:
    """The wall clock is off, and jumps again and again: by the hour of summer time, by days, by years."""
    import datetime as module

    chance = random.Random(seed)
    jumps_s = [3600.0, -3600.0, 86400.0, -86400.0, 20 * 365 * 86400.0, -20 * 365 * 86400.0]
    true_time, began = time.time, time.monotonic()
    plan = sorted((chance.uniform(0, within_s), chance.choice(jumps_s)) for _ in range(6))

    def off_s() -> float:
        past = [jump for at, jump in plan if time.monotonic() - began >= at]
        return past[-1] if past else jumps_s[seed % len(jumps_s)]

    class Datetime(module.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(true_time() + off_s(), tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.fromtimestamp(true_time() + off_s(), module.UTC).replace(tzinfo=None)

    time.time = lambda: true_time() + off_s()
    time.time_ns = lambda: int((true_time() + off_s()) * 1e9)
    module.datetime = Datetime  # type: ignore[misc]


def gpu_fails(kind: str, after_s: float, struck: str) -> None:
    """torch fails as it does when the GPU is gone: from then on everywhere in the process, but not in the next one.

    kind: lost, or memory (which is once, and not for good)
    after_s: with the first operation of torch after so long
    struck: a file that is made when it happens; once there, nothing happens any more
    """

    def break_torch(number: int, frame: Any) -> None:
        if "torch" not in sys.modules or getattr(sys.modules["torch"].__spec__, "_initializing", False):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        class Failing(TorchDispatchMode):
            broken = False

            def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if not Failing.broken and not Path(struck).exists() and not _reads_weights():
                    Path(struck).touch()
                    if kind == "memory":
                        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a")
                    Failing.broken = True
                if Failing.broken:
                    raise torch.AcceleratorError(
                        "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported "
                        "at some other API call, so the stacktrace below might be incorrect.\n"
                    )
                return operation(*args, **(kwargs or {}))

        Failing().__enter__()

    # A process that never asks for torch must not be hit while it ends.
    atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
    # In this way nothing is slower before.
    signal.signal(signal.SIGALRM, break_torch)
    signal.setitimer(signal.ITIMER_REAL, max(after_s, 0.001))


def _reads_weights() -> bool:
    """Whether weights are being read, which no GPU has to do with."""
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in ("load_ray_lifter", "_start_from", "read_tensors"):
            return True
        frame = frame.f_back
    return False


def other_version(version: str) -> None:
    """Everything is written by another version of Keylift."""
    import keylift

    keylift.__version__ = version


FAULTS = {"clock": clock_jumps, "gpu": gpu_fails, "version": other_version}


def begin_to_fail() -> None:
    """Do to this process what KEYLIFT_FAULT says."""
    for name, values in json.loads(os.environ.get("KEYLIFT_FAULT", "{}")).items():
        FAULTS[name](**values)


begin_to_fail()

if __name__ == "__main__":
    from keylift.__main__ import main

    # As ``python -m keylift`` has it.
    sys.exit(main())
