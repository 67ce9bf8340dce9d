"""``blender -c keylift ...`` of an installed extension, in a Blender that has no library but its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("bpy")

from checkout import dev
from footage_samples import full_model, real_clip
from keylift.core.pose_model import BUNDLE_NAMES

SESSION = """
import json, sys
from pathlib import Path
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
for name in ("keylift", "torch", "mediapipe", "cv2", "av", "scipy", "rich", "safetensors", "platformdirs"):
    sys.modules[name] = None
import bpy
bpy.ops.wm.read_factory_settings(use_empty=True)
repository = bpy.context.preferences.extensions.repos.new(
    name="test", module="test", custom_directory=str(FOLDER / "repo")
)
result = bpy.ops.extensions.package_install_files(filepath=str(ZIP), repo=repository.module, enable_on_install=True)
assert result == {"FINISHED"}, result
module = "bl_ext.test.keylift"
headless = sys.modules[module + ".addon.headless"]
codes = {"not set up": headless.run_command(["detect", str(CLIP), "-o", str(FOLDER / "x.keypoints.npz")])}
preferences = bpy.context.preferences.addons[module].preferences
preferences.environment, preferences.interpreter = "OWN", PYTHON
preferences.cache = str(FOLDER / "cache")
outputs = ["-o", str(FOLDER / "take.blend"), "-o", str(FOLDER / "take.bvh")]
codes["capture"] = headless.run_command(["capture", str(CLIP), "--frames", "0-30", *outputs, "--json"])
codes["detect"] = headless.run_command(
    ["detect", str(CLIP), "--frames", "0-20", "-o", str(FOLDER / "y.keypoints.npz"), "--quiet"]
)
codes["usage"] = headless.run_command(["detect"])
codes["nowhere"] = headless.run_command(["capture", "nowhere.mp4", "-o", str(FOLDER / "z.blend"), "--quiet"])
codes["help"] = headless.run_command(["--help"])

# The panel's operators, called as a script calls them.
clip = bpy.data.movieclips.load(str(CLIP))
settings = bpy.context.scene.keylift
settings.clip, settings.use_range, settings.first, settings.last = clip, True, 1, 31
codes["operator"] = 0 if bpy.ops.keylift.capture() == {"FINISHED"} else 1
# The metarig that the command left in the scene is the only character.
assert settings.takes[0].frames == 31 and settings.takes[0].armature.name == "metarig", settings.takes[0].armature
written = sorted(path.name for path in (FOLDER / "repo" / "keylift").rglob("*.pyc") if "cpython" not in path.name)
assert not written, written
print("\\n" + json.dumps(codes))
"""


@pytest.mark.slow
def test_an_installed_blender_does_what_the_shell_does(tmp_path: Path) -> None:
    (tmp_path / "cache" / "models").mkdir(parents=True)
    (tmp_path / "cache" / "models" / BUNDLE_NAMES["full"]).write_bytes(full_model().read_bytes())
    names = {
        "FOLDER": f"Path({str(tmp_path)!r})",
        "ZIP": f"Path({str(dev().build_extension(tmp_path / 'dist'))!r})",
        "CLIP": f"Path({str(real_clip('cam03.mp4'))!r})",
        "PYTHON": repr(sys.executable),
    }
    script = tmp_path / "session.py"
    head = "from pathlib import Path\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
    script.write_text(head + SESSION, encoding="utf-8")
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "KEYLIFT")) or key == "PATH"
    }
    environment["BLENDER_USER_RESOURCES"] = str(tmp_path / "user")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    codes = json.loads(done.stdout.splitlines()[-1])
    assert codes == {
        "not set up": 1, "capture": 0, "detect": 0, "usage": 2, "nowhere": 1, "help": 0, "operator": 0,
    }, done.stdout + done.stderr  # fmt: skip
    assert "Press Set Up" in done.stderr
    assert {"take.blend", "take.bvh", "y.keypoints.npz"} <= {path.name for path in tmp_path.iterdir()}
    assert not (tmp_path / "z.blend").exists()
