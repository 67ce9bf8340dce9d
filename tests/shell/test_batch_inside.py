"""``blender -c keylift batch`` of an installed extension: out to the worker's environment, and back to that Blender."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("bpy")

import bpy

from bare_python import bare_python
from checkout import dev
from night_shift import check_morning, fill_cache, last_line, write_night

# A program that takes itself for an installed Blender that has the extension, and no library but Blender's own.
BLENDER = """#!{python}
import sys
from pathlib import Path
folder, python, archive = Path({folder!r}), {bare!r}, {archive!r}
with (folder / "log").open("a", encoding="utf-8") as log:
    log.write(" ".join(sys.argv[1:5]) + chr(10))
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
for name in (
    "keylift", "torch", "mediapipe", "cv2", "av", "scipy", "rich", "safetensors", "platformdirs", "psutil", "filelock"
):
    sys.modules[name] = None
import bpy
import addon_utils
bpy.app.binary_path = __file__
bpy.ops.wm.read_factory_settings(use_empty=True)
repository = bpy.context.preferences.extensions.repos.new(
    name="test", module="test", custom_directory=str(folder / "repo")
)
if not (folder / "repo" / "keylift").exists():
    bpy.ops.extensions.package_install_files(filepath=archive, repo=repository.module, enable_on_install=True)
addon_utils.enable("bl_ext.test.keylift", default_set=True)
preferences = bpy.context.preferences.addons["bl_ext.test.keylift"].preferences
preferences.environment, preferences.interpreter, preferences.cache = "OWN", python, str(folder / "cache")
assert sys.argv[1:4] == ["--background", "--command", "keylift"], sys.argv
sys.exit(sys.modules["bl_ext.test.keylift.addon.headless"].run_command(sys.argv[4:]))
"""
INSIDE = ("--background", "--command", "keylift")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a script can't stand in for Blender's program there")
def test_a_folder_of_clips_becomes_takes(tmp_path: Path) -> None:
    # One of each kind; a real Blender is given more of them where its window is tried.
    takes = ("cam03", "walk-0")
    fill_cache(tmp_path)
    names = {
        "python": sys.executable,
        "folder": str(tmp_path),
        "bare": str(bare_python(tmp_path / "env")),
        "archive": str(dev().build_extension(tmp_path / "dist")),
    }
    blender = tmp_path / "blender"
    blender.write_text(BLENDER.format(**names), encoding="utf-8")
    blender.chmod(0o755)
    clips, out = write_night(tmp_path, takes), tmp_path / "out"
    night = (*INSIDE, "batch", str(clips), "-o", str(out), "--workers", "1", "--json")
    ours = ("PYTHON", "KEYLIFT")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    environment["BLENDER_USER_RESOURCES"] = str(tmp_path / "user")

    def run() -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(blender), *night], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    check_morning(out, takes, run().stdout, bpy.app.version_string)
    starts = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    # One Blender for whoever asked, one for all takes.
    assert starts == [" ".join((*INSIDE, command)) for command in ("batch", "worker")]
    again = last_line(run().stdout)
    assert (again["there"], again["done"]) == (2, 0)
