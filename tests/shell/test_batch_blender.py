"""Takes baked by an installed Blender, for a Python that has none."""

from __future__ import annotations

import json
import os
import sys

import pytest

pytest.importorskip("bpy")

from adaptation_samples import write_walks
from shell_runs import keylift

# What `blender --background --command keylift ...` does: Blender's Python, without the libraries that it lacks.
BLENDER = """#!{python}
import sys
for name in ("torch", "mediapipe", "cv2", "av", "scipy", "rich", "safetensors", "platformdirs", "psutil", "filelock"):
    sys.modules[name] = None
print("Blender 5.0.1 (hash 0123456789ab built 2026-01-01 00:00:00)", flush=True)
from pathlib import Path
with Path({log!r}).open("a", encoding="utf-8") as log:
    log.write(" ".join(sys.argv[1:]) + chr(10))
import bpy
from keylift.addon.headless import run_command
assert sys.argv[1:4] == ["--background", "--command", "keylift"], sys.argv
sys.exit(run_command(sys.argv[4:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a script can't stand in for Blender's program there")
def test_one_blender_bakes_many_takes(tmp_path):
    blender, log = tmp_path / "blender 5", tmp_path / "log"
    blender.write_text(BLENDER.format(python=sys.executable, log=str(log)), encoding="utf-8")
    blender.chmod(0o755)
    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30, 30])
    run = keylift(
        *("batch", "clips", "-o", "out", "--workers", 1, "--blender", blender, "--json"), cwd=tmp_path, cold=True
    )
    assert run.code == 0, run.err
    assert (tmp_path / "out" / "walk-0.blend").stat().st_size > 100_000 and (tmp_path / "out" / "walk-1.bvh").is_file()
    assert log.read_text(encoding="utf-8").splitlines() == ["--background --command keylift worker"]
    # A Blender that is none is said to be none, and the batch goes on with what needs no Blender.
    blender.write_text("#!/bin/sh\necho no Blender >&2\nexit 3\n", encoding="utf-8")
    run = keylift(
        *("batch", "clips", "-o", "other", "--workers", 1, "--blender", blender, "--retries", 0, "--json"),
        cwd=tmp_path,
        cold=True,
        env=dict(os.environ),
    )
    assert run.code == 75 and json.loads(run.out.splitlines()[-1])["retry"] == 2
    assert "no Blender" in run.err
