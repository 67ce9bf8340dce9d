"""``blender -c keylift batch`` of a real Blender that has the extension and nothing else."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from bare_python import bare_python
from checkout import dev
from gui.blender_window import install_extension, own_settings
from gui.blenders import Blender, FolderBlender
from night_shift import TAKES, WALK_FRAMES, check_morning, fill_cache, last_line, write_night

pytestmark = [
    pytest.mark.gui,
    pytest.mark.slow,
    pytest.mark.alone,
    pytest.mark.skipif(
        os.environ.get("KEYLIFT_GUI") != "everything", reason="takes its time; python3 dev.py gui runs it"
    ),
]

SET_UP = """
import bpy, importlib
preferences = bpy.context.preferences.addons["bl_ext.user_default.keylift"].preferences
preferences.environment, preferences.interpreter, preferences.cache = "OWN", {python!r}, {cache!r}
bpy.ops.wm.save_userpref()
importlib.import_module("bl_ext.user_default.keylift.addon.rigs").open_rig("rigify_metarig")
bpy.ops.wm.save_as_mainfile(filepath={rig!r})
"""
LOOK = """
import bpy, json
found = {{}}
for name in {takes!r}:
    bpy.ops.wm.open_mainfile(filepath=f"{out}/{{name}}.blend")
    figure = next(one for one in bpy.data.objects if one.animation_data and one.animation_data.action)
    action = figure.animation_data.action
    bag = action if hasattr(action, "fcurves") else action.layers[0].strips[0].channelbags[0]
    found[name] = [figure.name, max(len(curve.keyframe_points) for curve in bag.fcurves), len(bpy.data.movieclips)]
print("found" + json.dumps(found))
"""


def worker_python(blender: Blender, work: Path) -> Path:
    """A Python that has the libraries and not Keylift. From a Blender in a folder it needs a way out, and one back."""
    python = bare_python(work / "env")
    if not isinstance(blender, FolderBlender):
        return python
    back, out = work / "back to Blender", work / "out of Blender"
    variables = shlex.join(f"{name}={value}" for name, value in blender.environment(own_settings(work)).items())
    back.write_text(f'#!/bin/sh\nexec env -i {variables} {shlex.join(blender.command())} "$@"\n', encoding="utf-8")
    out.write_text(
        f'#!/bin/sh\n[ -z "$KEYLIFT_BATCH_BLENDER" ] || export KEYLIFT_BATCH_BLENDER={shlex.quote(str(back))}\n'
        f'exec chroot /host {shlex.quote(str(python))} "$@"\n',
        encoding="utf-8",
    )
    for script in (back, out):
        script.chmod(0o755)
    return out


def test_a_folder_of_clips_becomes_takes(blender: Blender, work: Path) -> None:
    place = work / "night shift"
    place.mkdir()
    install_extension(blender, dev().build_extension(place / "dist"), place)
    variables = blender.environment(own_settings(place))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            blender.command(*arguments), env=variables, capture_output=True, text=True, errors="replace", timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    names = {"python": str(worker_python(blender, place)), "cache": str(fill_cache(place))}
    clips, out, rig = write_night(place), place / "out", place / "hero.blend"
    run("--background", "--python-exit-code", "7", "--python-expr", SET_UP.format(rig=str(rig), **names))
    jobs = place / "night.toml"
    jobs.write_text(f'[defaults]\nrig = {json.dumps(str(rig))}\n[[jobs]]\nclips = "{clips.name}/*"\n', encoding="utf-8")
    night = ("--command", "keylift", "batch", str(jobs), "-o", str(out), "--workers", "1", "--json")
    check_morning(out, TAKES, run(*night).stdout, "{}.{}".format(*blender.version))
    looked = run("--background", "--python-exit-code", "7", "--python-expr", LOOK.format(takes=TAKES, out=out))
    found = json.loads(looked.stdout[looked.stdout.index("found") + 5 :].splitlines()[0])
    assert {name: keys for name, (_, keys, _) in found.items() if name.startswith("walk")} == {
        "walk-0": WALK_FRAMES,
        "walk-1": WALK_FRAMES,
    }
    # Footage is shown behind the figure; of keypoints there is none.
    assert {name: clips for name, (_, _, clips) in found.items()} == {"cam03": 1, "demo": 1, "walk-0": 0, "walk-1": 0}
    again = last_line(run(*night).stdout)
    assert (again["there"], again["done"]) == (4, 0)
