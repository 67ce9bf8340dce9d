"""Takes baked by an installed Blender, for a Python that has none."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("bpy")

import bpy

from adaptation_samples import write_walks
from keylift.addon.rigs import open_rig
from keylift.shell.batching.bad_jobs import BadJobsError
from keylift.shell.batching.job_file import read_jobs
from keylift.shell.reporting import Reporter
from shell_runs import begun, keylift

# What `blender --background --command keylift ...` does: Blender's Python, without the libraries that it lacks.
BLENDER = """#!{python}
import sys
for name in ("torch", "mediapipe", "cv2", "av", "scipy", "rich", "safetensors", "platformdirs", "psutil", "filelock"):
    sys.modules[name] = None
print("Blender 5.0.1 (hash 0123456789ab built 2026-01-01 00:00:00)", flush=True)
from pathlib import Path
with Path({log!r}).open("a", encoding="utf-8") as log:
    log.write(" ".join(sys.argv[1:]) + chr(10))
import os, bpy
from keylift.addon import takes
from keylift.addon.headless import run_command
opened = takes.open_rig
takes.open_rig = lambda rig: os._exit(11) if "deadly" in rig else opened(rig)
assert sys.argv[1:4] == ["--background", "--command", "keylift"], sys.argv
sys.exit(run_command(sys.argv[4:]))
"""


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a script can't stand in for Blender's program there")
ALONE = "--background --command keylift worker"


@pytest.fixture
def blender(tmp_path: Path) -> Path:
    """A program that takes itself for Blender; who started it, and how, stands in the file ``log`` beside it."""
    program = tmp_path / "blender 5"
    program.write_text(BLENDER.format(python=sys.executable, log=str(tmp_path / "log")), encoding="utf-8")
    program.chmod(0o755)
    return program


def starts(blender: Path) -> list[str]:
    log = blender.with_name("log")
    return log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def save_rigs(folder: Path) -> None:
    """A character, and a scene without one."""
    open_rig("rigify_metarig")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "hero.blend"))
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "empty.blend"))


def keys(blend: Path) -> dict[str, bytes]:
    """Everything that a take's curves say, bit by bit: where keys are, their handles, and how they go over."""
    bpy.ops.wm.open_mainfile(filepath=str(blend))
    found = {}
    for action in bpy.data.actions:
        bags = (
            [action]
            if hasattr(action, "fcurves")
            else [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
        )
        for curve in (curve for bag in bags for curve in bag.fcurves):
            points, told = curve.keyframe_points, b""
            for name, per_key in (("co", 2), ("handle_left", 2), ("handle_right", 2)):
                numbers = np.empty(per_key * len(points), np.float32)
                points.foreach_get(name, numbers)
                told += numbers.tobytes()
            words = [(point.interpolation, point.handle_left_type, point.handle_right_type) for point in points]
            found[f"{action.name} {curve.data_path} {curve.array_index}"] = told + repr(words).encode()
    return found


def test_takes_of_a_batch_that_was_killed_have_the_same_keys(tmp_path):
    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30, 30])
    save_rigs(tmp_path)
    (tmp_path / "night.toml").write_text(
        '[[jobs]]\nclips = "clips/*.npz"\nrig = "hero.blend"\nformats = [".blend"]\n', encoding="utf-8"
    )
    night = ("batch", "night.toml", "--workers", 1, "--json", "-o")
    run = keylift(*night, "undisturbed", cwd=tmp_path, cold=True)
    assert run.code == 0, run.err
    # What was found and lifted is taken over, by content: here it is about Blender's part.
    hidden = tmp_path / "killed" / ".keylift"
    for made in ("detect", "lift", "rigs"):
        shutil.copytree(tmp_path / "undisturbed" / ".keylift" / made, hidden / made)
    process = begun(*night, "killed", cwd=tmp_path, cold=True)
    while process.poll() is None and not list(hidden.glob("work/take-*/*")):
        time.sleep(0.002)
    assert process.poll() is None
    helpers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert not psutil.wait_procs(helpers, timeout=20)[1]
    assert len(list((tmp_path / "killed").glob("*.take.json"))) < 2
    run = keylift(*night, "killed", cwd=tmp_path, cold=True)
    assert run.code == 0 and json.loads(run.out.splitlines()[-1])["done"] > 0, run.err
    for name in ("walk-0.blend", "walk-1.blend"):
        one, other = keys(tmp_path / "undisturbed" / name), keys(tmp_path / "killed" / name)
        assert one == other and len(one) > 50


def test_one_blender_bakes_many_takes(tmp_path, blender):
    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30, 30])
    save_rigs(tmp_path)
    (tmp_path / "night.toml").write_text('[[jobs]]\nclips = "clips/*.npz"\nrig = "hero.blend"\n', encoding="utf-8")
    night = ("batch", "night.toml", "-o", "out", "--workers", 1, "--blender", blender, "--json")
    run = keylift(*night, cwd=tmp_path, cold=True)
    assert run.code == 0, run.err
    assert (tmp_path / "out" / "walk-0.blend").stat().st_size > 100_000 and (tmp_path / "out" / "walk-1.bvh").is_file()
    # One looked at the rig before anything was begun, the other baked all takes.
    assert starts(blender) == [ALONE, ALONE]
    manifest = json.loads((tmp_path / "out" / "walk-1.take.json").read_text(encoding="utf-8"))
    assert manifest["versions"]["blender"] == bpy.app.version_string
    # A rig that has not changed is known to do.
    run = keylift(*night, cwd=tmp_path)
    assert run.code == 0 and json.loads(run.out.splitlines()[-1])["there"] == 2
    assert len(starts(blender)) == 2


def test_a_blender_that_is_none_is_for_later(tmp_path, blender):
    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30])
    save_rigs(tmp_path)
    blender.write_text("#!/bin/sh\necho no Blender >&2\nexit 3\n", encoding="utf-8")
    (tmp_path / "night.toml").write_text('[[jobs]]\nclips = "clips/*.npz"\nrig = "empty.blend"\n', encoding="utf-8")
    run = keylift(
        *("batch", "night.toml", "-o", "out", "--workers", 1, "--blender", blender, "--retries", 0, "--json"),
        cwd=tmp_path,
        env=dict(os.environ),
    )
    # What needs no Blender is done all the same.
    assert run.code == 75 and json.loads(run.out.splitlines()[-1])["retry"] == 1
    assert "can't be asked about the rigs" in run.err and "no Blender" in run.err


def test_the_named_blender_looks_at_all_rigs_before_anything_is_begun(tmp_path, blender, monkeypatch):
    monkeypatch.setenv("KEYLIFT_BATCH_BLENDER", str(blender))
    write_walks(tmp_path, [30])
    save_rigs(tmp_path)
    (tmp_path / "deadly.blend").write_bytes((tmp_path / "hero.blend").read_bytes())
    rigs = ("deadly.blend", "empty.blend", "hero.blend", "hero.blend:Nobody")
    text = "".join(
        f'[[jobs]]\nname = "{n}"\nclip = "walk-0.keypoints.npz"\nrig = "{rig}"\n' for n, rig in enumerate(rigs)
    )
    (tmp_path / "night.toml").write_text(f'{text}[[jobs]]\nclip = "gone.mp4"\n', encoding="utf-8")
    with pytest.raises(BadJobsError) as told:
        read_jobs(tmp_path / "night.toml", tmp_path / "out", Reporter(quiet=True))
    deadly, empty, nobody, gone = told.value.problems
    assert "Blender itself ended while it opened" in deadly and "deadly.blend" in deadly
    assert "no armature" in empty and "Nobody" in nobody and "There is no clip" in gone
    assert starts(blender) == [ALONE, ALONE]
    assert not (tmp_path / "out").exists()
