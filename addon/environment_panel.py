"""The worker's environment as the preferences and, at the first start, the sidebar show it."""

from __future__ import annotations

import textwrap

import bpy

from ..core.errors import KeyliftError
from .environment_setup import (
    OFFLINE,
    KEYLIFT_OT_cancel_set_up,
    KEYLIFT_OT_examine,
    KEYLIFT_OT_examine_interpreter,
    KEYLIFT_OT_open_set_up_log,
    KEYLIFT_OT_remove_environment,
    KEYLIFT_OT_self_test,
    KEYLIFT_OT_set_up_environment,
    known,
    set_up_log,
)
from .preferences import environment_plan, preferences_of, worker_python
from .worker_environment import is_begun, is_complete


def draw_first_start(layout: bpy.types.UILayout, context: bpy.types.Context) -> bool:
    """In the sidebar, as long as there is no worker: what to do about it. False once there is one."""
    try:
        worker_python(context)
    except KeyliftError:
        draw_environment(layout, context)
        return True
    return False


def draw_environment(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """The state of the worker's environment in plain words, and the one button that is needed now."""
    preferences = preferences_of(context)
    if preferences is not None and preferences.environment == "OWN":
        _draw_own(layout, context)
        return
    plan = environment_plan(context)
    box = layout.column()
    state = known.look()
    if state is not None and not state.over:
        row = box.row(align=True)
        minutes = f"{state.seconds / 60:.0f} min" if state.seconds >= 60 else f"{state.seconds:.0f} s"
        row.progress(factor=state.fraction, text=f"{state.step} - {minutes}")
        row.operator(KEYLIFT_OT_cancel_set_up.bl_idname, text="", icon="CANCEL")
        _words(box, state.line, context)
    elif is_complete(plan.folder):
        box.label(text=f"The worker is set up ({plan.build.title})", icon="CHECKMARK")
        row = box.row(align=True)
        row.operator(KEYLIFT_OT_self_test.bl_idname, icon="PLAY")
        row.operator(KEYLIFT_OT_examine.bl_idname, icon="VIEWZOOM")
        row.operator(KEYLIFT_OT_remove_environment.bl_idname, text="", icon="TRASH")
        if known.tested:
            _words(box, known.tested, context)
    else:
        size = f"{plan.build.bytes / 1e9:.1f} GB"
        _words(box, f"Keylift works in an environment of its own, which takes about {size} of disk.", context)
        if plan.wheels is None and not plan.online:
            _words(box, OFFLINE, context, "INTERNETOFFLINE")
        button = box.row(align=True)
        button.scale_y = 1.6
        again = is_begun(plan.folder) or (known.last is not None and known.last.problem is not None)
        button.operator(KEYLIFT_OT_set_up_environment.bl_idname, text="Retry" if again else "Set Up", icon="IMPORT")
        if set_up_log().is_file():
            button.operator(KEYLIFT_OT_open_set_up_log.bl_idname, text="", icon="TEXT")
        if known.last is not None and known.last.problem is not None:
            _words(box, str(known.last.problem), context, "ERROR")


def _draw_own(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    try:
        python = worker_python(context)
    except KeyliftError as problem:
        _words(layout, str(problem), context, "ERROR")
        return
    row = layout.row(align=True)
    row.operator(KEYLIFT_OT_examine_interpreter.bl_idname, icon="VIEWZOOM")
    row.operator(KEYLIFT_OT_self_test.bl_idname, icon="PLAY")
    row.operator(KEYLIFT_OT_examine.bl_idname, icon="VIEWZOOM")
    if known.own[0] == str(python):
        _words(layout, known.own[1], context)
    if known.tested:
        _words(layout, known.tested, context)


def draw_findings(layout: bpy.types.UILayout) -> None:
    """What the doctor found, when somebody asked."""
    if not known.findings:
        return
    column = layout.box().column(align=True)
    for icon, name, words in known.findings:
        for number, line in enumerate(textwrap.wrap(words, 90) or [""]):
            row = column.split(factor=0.2)
            row.label(text="" if number else name, icon="BLANK1" if number else icon)
            row.label(text=line)


def _words(layout: bpy.types.UILayout, text: str, context: bpy.types.Context, icon: str = "NONE") -> None:
    from .panel import draw_words

    draw_words(layout, text, context.region.width if context.region is not None else 400, icon)
