"""The worker's environment as the preferences and, at the first start, the sidebar show it."""

from __future__ import annotations

import textwrap

import bpy

from ..core.errors import Cancelled, KeyliftError
from .environment_setup import (
    OFFLINE,
    KEYLIFT_OT_cancel_set_up,
    KEYLIFT_OT_examine,
    KEYLIFT_OT_examine_interpreter,
    KEYLIFT_OT_open_set_up_log,
    KEYLIFT_OT_remove_environment,
    KEYLIFT_OT_remove_unused_environments,
    KEYLIFT_OT_self_test,
    KEYLIFT_OT_set_up_environment,
    known,
    set_up_log,
    unused_environments,
)
from .preferences import environment_plan, preferences_of, worker_python
from .scene_jobs import job_of
from .worker_environment import EnvironmentPlan, is_begun, is_complete, known_environment


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
        row.progress(factor=state.fraction, text=f"{state.step} - {_minutes(state.seconds)}")
        row.operator(KEYLIFT_OT_cancel_set_up.bl_idname, text="", icon="CANCEL")
        _words(box, state.line, context)
    elif is_complete(plan.folder):
        _draw_complete(box, plan, context)
    else:
        _draw_missing(box, plan, context)


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"


def _draw_complete(layout: bpy.types.UILayout, plan: EnvironmentPlan, context: bpy.types.Context) -> None:
    made = known_environment(plan.folder)
    size = f", {made.bytes / 1e9:.1f} GB" if made is not None and made.bytes else ""
    layout.label(text=f"The worker is set up ({plan.build.title}{size})", icon="CHECKMARK")
    row = layout.row(align=True)
    row.operator(KEYLIFT_OT_self_test.bl_idname, icon="PLAY")
    row.operator(KEYLIFT_OT_examine.bl_idname, icon="VIEWZOOM")
    row.operator(KEYLIFT_OT_remove_environment.bl_idname, text="", icon="TRASH")
    _draw_tested(layout, context)
    notes = known.last.notes if known.last is not None else ()
    # Those that were told when it was made include those that are kept with it.
    for note in notes or (made.notes if made is not None else ()):
        _words(layout, note, context, "INFO")


def _draw_missing(layout: bpy.types.UILayout, plan: EnvironmentPlan, context: bpy.types.Context) -> None:
    size, meanwhile = plan.build.bytes / 1e9, (plan.build.bytes_while_made - plan.build.bytes) / 1e9
    needs = (
        "Keylift needs libraries that Blender does not have. They go into a folder of their own and take about "
        f"{size:.1f} GB of disk"
    )
    if plan.wheels is None:
        needs += f", and {meanwhile:.1f} GB more while they are being fetched"
    _words(layout, needs + ".", context)
    if plan.wheels is None and not plan.online:
        _words(layout, OFFLINE, context, "INTERNET_OFFLINE")
    button = layout.row(align=True)
    button.scale_y = 1.6
    again = is_begun(plan.folder) or known.problem is not None
    button.operator(KEYLIFT_OT_set_up_environment.bl_idname, text="Retry" if again else "Set Up", icon="IMPORT")
    if set_up_log().is_file():
        button.operator(KEYLIFT_OT_open_set_up_log.bl_idname, text="", icon="TEXT")
    if known.problem is not None:
        stopped = isinstance(known.problem, Cancelled)
        _words(layout, str(known.problem), context, "INFO" if stopped else "ERROR")


def draw_unused_environments(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """Environments that only take space, as far as this Blender can tell."""
    unused = unused_environments(context)
    if unused:
        size = sum(environment.bytes for environment in unused) / 1e9
        titles = "; ".join(environment.title for environment in unused)
        row = layout.row()
        row.label(text=f"Not used here ({size:.1f} GB): {titles}", icon="INFO")
        row.operator(KEYLIFT_OT_remove_unused_environments.bl_idname, icon="TRASH")


def _draw_own(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    try:
        python = worker_python(context)
    except KeyliftError as problem:
        _words(layout, str(problem), context, "ERROR")
        return
    row = layout.row(align=True)
    row.operator(KEYLIFT_OT_examine_interpreter.bl_idname, icon="CHECKMARK")
    row.operator(KEYLIFT_OT_self_test.bl_idname, icon="PLAY")
    row.operator(KEYLIFT_OT_examine.bl_idname, icon="VIEWZOOM")
    if known.own[0] == str(python):
        _words(layout, known.own[1], context)
    _draw_tested(layout, context)


def _draw_tested(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    job = job_of(context.scene)
    if job is not None:
        layout.label(text=f"{job.title}: {job.stage}" if job.stage else job.title, icon="SORTTIME")
    elif known.tested:
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
