"""The extension's zip, installed and used in a Blender that knows nothing else of Keylift."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("bpy")

from checkout import dev
from keylift.core.camera import Camera
from keylift.core.track_files import write_pose
from rig_samples import RIG_FOLDER
from walker import camera_from_world, filmed, walk

SESSION = """
import json, sys, time
from pathlib import Path
# An installed or checked out Keylift is not to be found: only what the zip holds may be used.
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.modules["keylift"] = None
import bpy
import addon_utils

bpy.ops.wm.read_factory_settings(use_empty=True)
repositories = bpy.context.preferences.extensions.repos
repository = repositories.new(name="test", module="test", custom_directory=str(FOLDER / "repo"))
result = bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo=repository.module, enable_on_install=True)
assert result == {"FINISHED"}, result
module = "bl_ext.test.keylift"
assert addon_utils.check(module) == (True, True), addon_utils.check(module)
heavy = {"torch", "mediapipe", "cv2", "av", "scipy", "rich"} & set(sys.modules)
assert not heavy, heavy
installed = FOLDER / "repo" / "keylift"
files = sorted(path for path in installed.rglob("*") if "__pycache__" not in path.parts)

rows = json.loads(RIG.read_text())
data = bpy.data.armatures.new("hero")
hero = bpy.data.objects.new("hero", data)
bpy.context.scene.collection.objects.link(hero)
bpy.context.view_layer.objects.active = hero
bpy.ops.object.mode_set(mode="EDIT")
for name, parent, head, tail, roll, connected in rows:
    bone = data.edit_bones.new(name)
    bone.head, bone.tail, bone.roll = head, tail, roll
    if parent:
        bone.parent = data.edit_bones[parent]
bpy.ops.object.mode_set(mode="OBJECT")
assert bpy.ops.keylift.import_take(filepath=str(POSE)) == {"FINISHED"}
assert hero.animation_data.action.name == "walk"

took = []
handlers = len(bpy.app.handlers.load_pre)
ours = {name for name in dir(bpy.types) if name.startswith("KEYLIFT_")}
assert len(ours) > 40
for _ in range(20):
    addon_utils.disable(module, default_set=True)
    left = {name for name in dir(bpy.types) if name.startswith("KEYLIFT_")}
    assert not left and not hasattr(bpy.types.Scene, "keylift"), left
    # As at Blender's start: none of it is loaded.
    for name in [name for name in sys.modules if name.startswith(module)]:
        del sys.modules[name]
    began = time.perf_counter()
    addon_utils.enable(module, default_set=True)
    took.append(time.perf_counter() - began)
assert {name for name in dir(bpy.types) if name.startswith("KEYLIFT_")} == ours
assert len(bpy.app.handlers.load_pre) == handlers
heavy = {"torch", "mediapipe", "cv2", "av", "scipy", "rich"} & set(sys.modules)
assert not heavy, heavy
print(f"enabled in {1000 * min(took):.0f} ms")
assert min(took) < 0.060, took
assert bpy.ops.keylift.import_take(filepath=str(POSE)) == {"FINISHED"}
assert hero.animation_data.action.name == "walk.001"

# The headless command is the shell's, and an installed Blender has none of these.
for name in ("torch", "mediapipe", "cv2", "av", "scipy", "rich", "safetensors", "platformdirs"):
    assert name not in sys.modules, name
    sys.modules[name] = None
headless = sys.modules[module + ".addon.headless"]
output = FOLDER / "take.blend"
assert headless.run_command(["retarget", str(POSE), "-o", str(output)]) == 0
assert output.exists()
assert headless.run_command(["retarget", str(POSE), "-o", str(FOLDER / "take.bvh"), "--video", str(PICTURES)]) == 0
assert bpy.context.scene.camera.data.background_images[0].clip.size[:] == (64, 48)
assert headless.run_command(["retarget", str(FOLDER / "nowhere.pose.npz"), "-o", str(output)]) == 1
assert files == sorted(path for path in installed.rglob("*") if "__pycache__" not in path.parts)
print("all well")
"""


@pytest.mark.alone
def test_the_zip_installs_enables_and_works(tmp_path: Path) -> None:
    pose = filmed(walk(10), Camera.guessed((1280, 720)), camera_from_world())[0]
    write_pose(tmp_path / "walk.pose.npz", pose)
    pictures = tmp_path / "shot"
    pictures.mkdir()
    for number in range(3):
        assert cv2.imwrite(str(pictures / f"shot_{number:04d}.png"), np.full((48, 64, 3), 80 * number, np.uint8))
    built = dev().build_extension(tmp_path / "dist")
    names = {
        "FOLDER": tmp_path,
        "ZIP": built,
        "RIG": RIG_FOLDER / "game_engine.json",
        "POSE": tmp_path / "walk.pose.npz",
        "PICTURES": pictures,
    }
    head = "from pathlib import Path\n" + "".join(f"{name} = Path({str(path)!r})\n" for name, path in names.items())
    script = tmp_path / "session.py"
    script.write_text(head + SESSION, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["BLENDER_USER_RESOURCES"] = str(tmp_path / "user")
    answer = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "all well" in answer.stdout
