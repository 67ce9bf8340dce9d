"""An animator's first hour, in a real window with a real mouse: each test goes on where the one before stopped.

Pictures of what was to be seen lie in gui-output/ afterwards.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from checkout import ROOT, dev
from gui.blender_window import BlenderWindow
from gui.blenders import Blender

pytestmark = [pytest.mark.gui, pytest.mark.slow]

EDITORS = ("VIEW_3D", "CLIP_EDITOR")
ACTIONS = "[action.name for action in bpy.data.actions]"
# An artist notices longer ones. What software OpenGL takes to draw is not Keylift's; what its own code takes, is.
STALL_MS = 50
STOP_S = 0.5


def test_the_zip_installs_and_its_tab_is_in_both_editors(window: BlenderWindow) -> None:
    assert "bl_ext.user_default.keylift" in window.do("evaluate", expression="bpy.context.preferences.addons.keys()")
    window.do("open_clip_editor")
    for editor in EDITORS:
        assert window.do("open_tab", editor=editor) == "Keylift"
        assert "keylift.set_up_environment()" in window.do("buttons", editor=editor)
    seen = window.picture("first-start")
    # A window that was never drawn is of one colour.
    assert len(np.unique(seen.reshape(-1, 3), axis=0)) > 100


def test_with_an_interpreter_at_hand_the_work_can_begin(window: BlenderWindow, blender: Blender, work: Path) -> None:
    models = dev().demo_folder().parent / "models"
    if models.is_dir():
        shutil.copytree(models, work / "cache" / "models")
    window.do("prefer", environment="OWN", interpreter=str(blender.worker_python), cache=str(work / "cache"))
    for editor in EDITORS:
        there = window.do("buttons", editor=editor)
        assert "keylift.capture()" in there and "keylift.set_up_environment()" not in there


def test_a_take_is_imported_and_undone_with_the_mouse(window: BlenderWindow, work: Path) -> None:
    pose = shutil.copy2(ROOT / "tests" / "golden" / "cam03.pose.npz", work)
    window.do("add_metarig")
    window.do("open_section", title="Result")
    window.do("press", name="keylift.import_take")
    window.do("choose_file", path=str(pose))
    window.picture("imported")
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]
    window.do("press_key", key="Z", ctrl=True)
    assert window.do("evaluate", expression=ACTIONS) == []


def test_one_button_captures_the_footage_without_holding_the_artist_up(window: BlenderWindow, work: Path) -> None:
    clip = shutil.copy2(dev().demo_clip("cam03.mp4"), work)
    window.do("press", name="keylift.open_footage", editor="CLIP_EDITOR")
    window.do("choose_file", path=str(clip))
    window.do("press", name="keylift.capture", editor="CLIP_EDITOR")
    assert window.do("wait_for_progress", fraction=0.2)
    stalls = window.stalls
    window.picture("capturing")
    icon, words = window.do("wait_for_job", timeout_s=180)
    window.picture("captured")
    assert (icon, words.split()[0]) == ("CHECKMARK", "Keyed"), words
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]
    own = max((stall["own_ms"], stall["where"]) for stall in [*stalls, {"own_ms": 0, "where": ""}])
    assert own[0] <= STALL_MS, own


def test_undo_takes_the_capture_back_in_one_step(window: BlenderWindow) -> None:
    window.do("press_key", key="Z", ctrl=True)
    assert window.do("evaluate", expression=ACTIONS) == []
    window.do("press_key", key="Z", ctrl=True, shift=True)
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]


def test_esc_stops_a_job_at_once_and_the_next_click_works(window: BlenderWindow) -> None:
    window.do("open_section", title="Detect")
    window.do("press", name="keylift.detect")
    window.do("wait_for_progress", fraction=0.1)
    assert window.do("stop_job") < STOP_S
    window.picture("stopped")
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]


def test_a_killed_worker_is_told_in_the_panel_and_the_scene_is_as_it_was(window: BlenderWindow) -> None:
    window.do("press", name="keylift.detect")
    window.do("wait_for_progress", fraction=0.1)
    window.do("kill_worker")
    icon, words = window.do("wait_for_job", timeout_s=10)
    window.picture("killed")
    assert icon == "ERROR" and "The scene is as it was" in words
    window.do("press", name="keylift.detect")
    icon, words = window.do("wait_for_job", timeout_s=60)
    assert icon == "CHECKMARK", words


def test_blender_ends_in_peace(window: BlenderWindow) -> None:
    assert window.close() == 0
