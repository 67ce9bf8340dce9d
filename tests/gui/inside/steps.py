"""What can be done in the window, one step a function; tests name them. README.md says how to add one.

A step is a generator: ``yield`` lets Blender handle events and draw, and what it returns has to be plain data.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import addon_utils
import bpy
import eyes
import hands
from hands import Place, Step

# Between two looks at something that takes long, so that looking costs the worker nothing.
_LOOK_AGAIN_S = 0.01


def scene() -> Any:
    """The scene in the window."""
    return hands.window().scene


def addon(module: str) -> ModuleType:
    """A module of the installed extension, such as addon.scene_jobs."""
    return sys.modules[f"{_package()}.{module}"]


def _package() -> str:
    return next(added.module for added in bpy.context.preferences.addons if added.module.endswith(".keylift"))


def until(true: Callable[[], Any]) -> Step:
    """Wait for something to become true; the driver ends a step that takes too long."""
    while not true():
        yield _LOOK_AGAIN_S


# --- the window ------------------------------------------------------------------------------------------------------


def redraw() -> Step:
    """Have everything drawn as it is now."""
    yield from hands.redraw()


def place_of(editor: str | None = None, part: str | None = None) -> Step:
    """Where an editor, or a part of it, or the whole window is: x, y, width, height from the bottom left."""
    yield
    if editor is None:
        return [0, 0, hands.window().width, hands.window().height]
    found = eyes.area(editor) if part is None else eyes.region(editor, part)
    return [found.x, found.y, found.width, found.height]


def photograph(path: str) -> Step:
    """Save what is to be seen, by Blender's own means: for a screen that can't be looked at from outside."""
    with eyes.looking_at("VIEW_3D", "WINDOW"):
        bpy.ops.screen.screenshot(filepath=path, check_existing=False)
    yield


def open_tab(editor: str = "VIEW_3D", tab: str = "Keylift") -> Step:
    """Show a tab of an editor's sidebar; returns the tab that is shown."""
    eyes.area(editor).spaces.active.show_region_ui = True
    # Tabs exist once the sidebar was drawn.
    yield from hands.redraw()
    eyes.region(editor).active_panel_category = tab
    yield from hands.redraw()
    return eyes.region(editor).active_panel_category


def open_clip_editor(share: float = 0.5) -> Step:
    """Split the 3D view and make its left part a clip editor."""
    with eyes.looking_at("VIEW_3D", "WINDOW"):
        bpy.ops.screen.area_split(direction="VERTICAL", factor=share)
    yield from hands.settle()
    views = [found for found in hands.window().screen.areas if found.type == "VIEW_3D"]
    clip_editor = min(views, key=lambda found: found.x)
    clip_editor.type = "CLIP_EDITOR"
    # There is little room, and nothing in it is Keylift's.
    clip_editor.spaces.active.show_region_toolbar = False
    yield from hands.redraw()


def widen_sidebar(editor: str, to_px: int) -> Step:
    """Drag the sidebar's edge, as an artist does who can't read it."""
    shown = eyes.region(editor)
    edge = (shown.x, shown.y + shown.height // 3)
    yield from hands.drag(edge, (edge[0] - (to_px - shown.width), edge[1]))
    return eyes.region(editor).width


# --- buttons ---------------------------------------------------------------------------------------------------------


def press(name: str, editor: str = "VIEW_3D", part: str = "UI") -> Step:
    """Press the button of an operator, such as keylift.capture."""
    place = yield from eyes.find(name, editor, part)
    yield from hands.click(place)


def buttons(editor: str = "VIEW_3D", part: str = "UI") -> Step:
    """What can be pressed, from top to bottom."""
    found = yield from eyes.buttons(editor, part)
    return list(found)


def open_section(title: str, editor: str = "VIEW_3D") -> Step:
    """Open a section of the tab Keylift."""
    yield from eyes.open_section(title, editor)


def press_key(key: str, editor: str = "VIEW_3D", part: str = "WINDOW", ctrl: bool = False, shift: bool = False) -> Step:
    """Press a key with the mouse in the middle of an editor."""
    shown = eyes.region(editor, part)
    yield from hands.move((shown.x + shown.width // 2, shown.y + shown.height // 2))
    yield from hands.press(key, ctrl=ctrl, shift=shift)


def confirm() -> Step:
    """Say yes to what Blender asks before it does something."""
    yield from hands.settle()
    yield from hands.press("RET")
    yield from hands.redraw()


def dismiss_message() -> Step:
    """Close the message that Blender pops up with an error, which keeps the mouse to itself until then."""
    yield from hands.press("ESC")
    yield from hands.redraw()


def choose_file(path: str) -> Step:
    """Choose a file in the file browser that is open, and press its button."""
    yield from until(lambda: _file_browser() is not None)
    yield from hands.settle()
    browser = _file_browser()
    browser.params.directory = bytes(Path(path).parent) + b"/"
    browser.params.filename = Path(path).name
    yield from hands.settle()
    yield from press("file.execute", "FILE_BROWSER", "EXECUTE")
    yield from until(lambda: _file_browser() is None)


def _file_browser() -> Any:
    areas = [found for found in hands.window().screen.areas if found.type == "FILE_BROWSER"]
    # Parameters exist once it was drawn.
    return areas[0].spaces.active if areas and areas[0].spaces.active.params is not None else None


# --- the scene -------------------------------------------------------------------------------------------------------


def add_metarig() -> Step:
    """An armature to capture onto, chosen: Rigify's human, which every Blender brings along. Returns its name."""
    addon_utils.enable("rigify", default_set=True)
    with eyes.looking_at("VIEW_3D", "WINDOW"):
        for stranger in list(scene().objects):
            bpy.data.objects.remove(stranger)
        bpy.ops.object.armature_human_metarig_add()
        bpy.ops.ed.undo_push(message="Add Metarig")
        bpy.ops.view3d.view_selected()
    yield from hands.settle()
    return scene().objects[0].name


def prefer(**values: Any) -> Step:
    """Set preferences of the extension, as if they had been typed in."""
    preferences = bpy.context.preferences.addons[_package()].preferences
    for name, value in values.items():
        setattr(preferences, name, value)
    yield from hands.redraw()


def choose(**values: Any) -> Step:
    """Set the scene's choices, as if they had been clicked."""
    for name, value in values.items():
        setattr(scene().keylift, name, value)
    yield from hands.redraw()


def evaluate(expression: str) -> Step:
    """The value of an expression that may use bpy, scene(), job() and addon(module); what is no plain data, as text."""
    yield
    return eval(expression, {"bpy": bpy, "scene": scene, "addon": addon, "job": job})


# --- jobs ------------------------------------------------------------------------------------------------------------


def job() -> Any:
    """The job of the scene in the window, or None."""
    return addon("addon.scene_jobs").job_of(scene())


def wait_for_job() -> Step:
    """Wait until the job is over; returns what the panel says then: an icon and words.

    Raises RuntimeError when it says nothing, for the operator broke off.
    """
    # Nothing more, so that what it takes to apply the result does not count among the stalls while the job ran.
    yield from until(lambda: job() is None)
    words = addon("addon.scene_jobs").last_words(scene())
    if words is None:
        raise RuntimeError("the panel has no word on how the job ended")
    return words


def wait_for_progress(fraction: float) -> Step:
    """Wait until so much of the job is done; returns its stage."""
    yield from until(lambda: _progress() >= fraction)
    return job().stage


def _progress() -> float:
    running = job()
    if running is None:
        raise RuntimeError(f"the job is over: {addon('addon.scene_jobs').last_words(scene())}")
    return running.fraction


def wait_for_learning(stage: str) -> Step:
    """Wait until a lifter that learns from footage is at a stage, and so far that its curve has begun."""
    watch = addon("addon.adaptation_watch").watch
    yield from until(lambda: watch.job is None or (watch.job.at == stage and watch.job.fraction > 0))
    if watch.job is None:
        raise RuntimeError(f"it is over: {watch.words}")
    return str(watch.job.folder)


def wait_for_end_of_learning() -> Step:
    """Wait until nothing is learnt any more; returns what the panel says then: an icon and words."""
    watch = addon("addon.adaptation_watch").watch
    yield from until(lambda: watch.job is None)
    return watch.words


def stop_job(editor: str = "VIEW_3D") -> Step:
    """Press ESC over an editor; returns how many seconds later the job was over."""
    shown = eyes.region(editor, "WINDOW")
    yield from hands.move((shown.x + shown.width // 3, shown.y + shown.height // 3))
    began = time.monotonic()
    yield from hands.press("ESC")
    yield from until(lambda: job() is None)
    return time.monotonic() - began


def kill_worker() -> Step:
    """End the worker as a system does that is out of memory; returns its process's number."""
    yield
    pid = addon("addon.scene_jobs").queue.worker_pid
    os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    return pid


# --- keypoints -------------------------------------------------------------------------------------------------------


def show_clip(frame: int) -> Step:
    """Show the scene's footage in the clip editor, all of it, at a frame of the footage, counted from 1."""
    space = eyes.area("CLIP_EDITOR").spaces.active
    space.clip = scene().keylift.clip
    space.show_seconds = False
    # Set as the timeline does: of a call of frame_set the clip editor does not hear.
    scene().frame_current = space.clip.frame_start + frame - 1
    yield from hands.settle()
    with eyes.looking_at("CLIP_EDITOR", "WINDOW"):
        bpy.ops.clip.view_all()
    yield from hands.settle()


def place_on_clip(x: float, y: float) -> Place:
    """Where a point of the clip is in the window; x and y as markers have them, 0 to 1 from the bottom left."""
    shown = eyes.region("CLIP_EDITOR", "WINDOW")
    inside_x, inside_y = shown.view2d.view_to_region(x, y, clip=False)
    return shown.x + inside_x, shown.y + inside_y


def drag_keypoint(track: str, frame: int, by: tuple[float, float]) -> Step:
    """Drag the marker of a keypoint at a frame of the footage; returns by how much of the picture it moved."""
    yield from show_clip(frame)
    marker = _marker(track, frame)
    before = tuple(marker.co)
    start, end = place_on_clip(*before), place_on_clip(before[0] + by[0], before[1] + by[1])
    # A click chooses the track; its marker can be dragged from then on.
    yield from hands.click(start)
    yield from hands.drag(start, end)
    after = _marker(track, frame).co
    return [after[0] - before[0], after[1] - before[1]]


def _marker(track: str, frame: int) -> Any:
    """Looked up anew each time: an undo leaves nothing as it was."""
    tracking = scene().keylift.clip.tracking
    person = next(found for found in tracking.objects if track in found.tracks)
    tracking.objects.active = person
    return person.tracks[track].markers.find_frame(frame)
