"""What every test may count on: no user's Blender settings or weights have a say, and clips come from the cache."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings

# How long an example takes is the machine's doing, which may have other work.
settings.register_profile("keylift", deadline=None)
settings.load_profile("keylift")
# Set before anything imports bpy; subprocesses inherit it.
_SCRATCH = Path(tempfile.mkdtemp(prefix="keylift-tests-"))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)
os.environ["BLENDER_USER_RESOURCES"] = str(_SCRATCH / "blender")
os.environ["KEYLIFT_DATA"] = str(_SCRATCH / "data")
# Where tests run side by side, each library would have as many threads as the machine has cores, in each process.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
