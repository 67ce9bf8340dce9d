"""What every test may count on: no user's Blender settings or weights have a say, and clips come from the cache."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from pathlib import Path

# Set before anything imports bpy; subprocesses inherit it.
_SCRATCH = Path(tempfile.mkdtemp(prefix="keylift-tests-"))
atexit.register(shutil.rmtree, _SCRATCH, ignore_errors=True)
os.environ["BLENDER_USER_RESOURCES"] = str(_SCRATCH / "blender")
os.environ["KEYLIFT_DATA"] = str(_SCRATCH / "data")
