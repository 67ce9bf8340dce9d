"""An animator's first hour, in a real window with a real mouse: each test goes on where the one before stopped.

Pictures of what was to be seen lie in gui-output/ afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from checkout import ROOT, dev
from gui.blender_window import BlenderWindow
from gui.blenders import Blender

everything = pytest.mark.skipif(
    os.environ.get("KEYLIFT_GUI") != "everything", reason="takes its time; python3 dev.py gui runs it"
)
pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.alone]

EDITORS = ("VIEW_3D", "CLIP_EDITOR")
ACTIONS = "[action.name for action in bpy.data.actions]"
UNFINISHED = "[run.name for run in addon('addon.adaptation_watch').known_runs().unfinished]"
# An artist notices longer ones. What software OpenGL takes to draw is not Keylift's; what its own code takes, is.
STALL_MS = 50
STOP_S = 0.5
# A job takes a quarter of a minute on a machine that has nothing else to do.
JOB_S = 180


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


def test_one_button_captures_the_footage_without_holding_the_artist_up(window: BlenderWindow, work: Path) -> None:
    window.do("add_metarig")
    clip = shutil.copy2(dev().demo_clip("cam03.mp4"), work)
    window.do("press", name="keylift.open_footage", editor="CLIP_EDITOR")
    window.do("choose_file", path=str(clip))
    window.do("press", name="keylift.capture", editor="CLIP_EDITOR")
    assert window.do("wait_for_progress", fraction=0.2, timeout_s=JOB_S)
    stalls = window.stalls
    window.picture("capturing")
    icon, words = window.do("wait_for_job", timeout_s=JOB_S)
    stalls += window.stalls
    window.picture("captured")
    assert (icon, words.split()[0]) == ("CHECKMARK", "Keyed"), words
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]
    assert [stall for stall in stalls if stall["own_ms"] > STALL_MS] == []


def test_undo_takes_the_capture_back_in_one_step(window: BlenderWindow) -> None:
    window.do("press_key", key="Z", ctrl=True)
    assert window.do("evaluate", expression=ACTIONS) == []
    window.do("press_key", key="Z", ctrl=True, shift=True)
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]


def test_a_keypoint_is_dragged_to_where_it_belongs(window: BlenderWindow) -> None:
    by = [0.05, 0.03]
    moved = window.do("drag_keypoint", track="left_wrist", frame=50, by=by)
    window.picture("corrected")
    np.testing.assert_allclose(moved, by, atol=0.01)


def test_relifting_puts_the_correction_to_use_in_one_undo_step(window: BlenderWindow) -> None:
    before = window.do("evaluate", expression=ACTIONS)
    window.do("open_section", title="Check")
    window.do("press", name="keylift.relift")
    icon, words = window.do("wait_for_job", timeout_s=JOB_S)
    window.picture("relifted")
    assert icon == "CHECKMARK" and "lifted anew" in words, words
    assert len(window.do("evaluate", expression=ACTIONS)) == len(before) + 1
    window.do("press_key", key="Z", ctrl=True)
    assert window.do("evaluate", expression=ACTIONS) == before


def blue(seen: np.ndarray) -> int:
    """How many pixels are as blue as the learning curve."""
    return int(((seen[..., 2] > 200) & (seen[..., 0] < 110) & (seen[..., 1] > 120)).sum())


@everything
def test_a_lifter_learns_from_the_clip_and_is_paused(window: BlenderWindow) -> None:
    window.do("open_section", title="Adapt to My Footage")
    window.picture("adapting-asked", editor="VIEW_3D", part="UI")
    window.do("press", name="keylift.adapt_to_footage")
    folder = window.do("wait_for_learning", stage="learn", timeout_s=JOB_S)
    stalls = window.stalls
    seen = window.picture("learning", editor="VIEW_3D", part="UI").astype(int)
    # The dashed line of the beginning.
    assert ((seen[..., 0] > 180) & (seen[..., 2] < 120) & (seen[..., 1] > 100)).sum() > 30
    # As it is half an hour later.
    log = [{"step": step, "held_out_mm": 20 + 5 * 0.998**step} for step in range(0, 1200, 100)]
    window.do(
        "evaluate", expression=f"__import__('pathlib').Path({folder!r}, 'log.json').write_text({json.dumps(log)!r})"
    )
    time.sleep(2)
    later = window.picture("learning-later", editor="VIEW_3D", part="UI").astype(int)
    assert blue(later) > blue(seen) + 100, "the curve grew"
    window.do("press", name="keylift.pause_adaptation")
    icon, words = window.do("wait_for_end_of_learning", timeout_s=90)
    assert icon == "PAUSE" and "Resume" in words, words
    assert [stall for stall in stalls + window.stalls if stall["own_ms"] > STALL_MS] == []
    window.picture("learning-paused", editor="VIEW_3D", part="UI")
    there = window.do("buttons", editor="VIEW_3D")
    assert any("keylift.resume_adaptation" in button for button in there), there
    window.do("press", name="keylift.discard_adaptation")
    window.picture("learning-discarded-asked")
    window.do("confirm")
    assert window.do("evaluate", expression=UNFINISHED) == []


def test_esc_stops_a_job_at_once(window: BlenderWindow) -> None:
    # Otherwise the keypoints would be there already.
    window.do("choose", repair=False)
    window.do("press", name="keylift.capture")
    window.do("wait_for_progress", fraction=0.1, timeout_s=JOB_S)
    assert window.do("stop_job") < STOP_S
    window.picture("stopped")
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]


def test_a_killed_worker_is_told_in_the_panel_and_the_next_click_works(window: BlenderWindow) -> None:
    window.do("press", name="keylift.capture")
    window.do("wait_for_progress", fraction=0.1, timeout_s=JOB_S)
    window.do("kill_worker")
    icon, words = window.do("wait_for_job", timeout_s=10)
    window.picture("killed")
    window.do("dismiss_message")
    assert icon == "ERROR" and "The scene is as it was" in words
    assert window.do("evaluate", expression=ACTIONS) == ["cam03"]
    window.do("choose", use_range=True, first=1, last=12)
    window.do("press", name="keylift.capture")
    icon, words = window.do("wait_for_job", timeout_s=JOB_S)
    assert icon == "CHECKMARK" and "12 frames" in words
    window.do("choose", use_range=False)


@everything
def test_each_section_opens(window: BlenderWindow) -> None:
    for title in ("Footage", "Detect", "Check", "Lift", "Adapt to My Footage", "Target", "Retarget", "Result"):
        window.do("open_section", title=title)
        window.picture(f"section-{title.lower().replace(' ', '-')}", editor="VIEW_3D", part="UI")


@everything
def test_a_take_is_imported_and_undone_with_the_mouse(window: BlenderWindow, work: Path) -> None:
    pose = shutil.copy2(ROOT / "tests" / "golden" / "cam03.pose.npz", work)
    before = window.do("evaluate", expression=ACTIONS)
    window.do("open_section", title="Result")
    window.do("press", name="keylift.import_take")
    window.do("choose_file", path=str(pose))
    window.picture("imported")
    assert len(window.do("evaluate", expression=ACTIONS)) == len(before) + 1
    window.do("press_key", key="Z", ctrl=True)
    assert window.do("evaluate", expression=ACTIONS) == before


def test_blender_ends_in_peace(window: BlenderWindow) -> None:
    assert window.close() == 0
