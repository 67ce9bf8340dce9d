"""Adapt to My Footage, as the sidebar shows it: what to learn from, how it goes, and the lifters that came of it."""

from __future__ import annotations

from typing import Any

import bpy

from ..core.errors import KeyliftError
from .adapt_flow import AdaptationJob
from .adapt_operators import (
    KEYLIFT_OT_adapt_to_footage,
    KEYLIFT_OT_cancel_adaptation,
    KEYLIFT_OT_discard_adaptation,
    KEYLIFT_OT_pause_adaptation,
    KEYLIFT_OT_resume_adaptation,
    name_to_be,
)
from .adapt_settings import told
from .adaptation_runs import UnfinishedRun
from .adaptation_watch import known_runs, watch
from .curve_picture import picture
from .weights_list import (
    KEYLIFT_OT_remove_weights,
    KEYLIFT_OT_show_adaptation_report,
    KEYLIFT_OT_use_shipped_weights,
    KEYLIFT_OT_use_weights,
    chosen_weights,
    fill_list_soon,
    shown_list,
)

# In units of the interface, each as high as a button.
_CURVE_HEIGHT = 8.0


def draw_adaptation(layout: bpy.types.UILayout, context: bpy.types.Context, settings: Any) -> None:
    """What can be done now, from top to bottom in the order of the work."""
    if watch.job is not None:
        _draw_progress(layout, context, watch.job)
        _draw_curve(layout, context)
    elif watch.words is not None:
        _words(layout, watch.words[1], context, watch.words[0])
    for run in known_runs().unfinished:
        _draw_unfinished(layout, run)
    if watch.job is None:
        _draw_choices(layout, context, settings.adaptation)
        _draw_curve(layout, context)
    _draw_weights(layout, context)


def _draw_choices(layout: bpy.types.UILayout, context: bpy.types.Context, choices: Any) -> None:
    layout.prop(choices, "source")
    if choices.source == "FOLDER":
        layout.prop(choices, "folder")
    layout.prop(choices, "base")
    layout.prop(choices, "name")
    try:
        name = name_to_be(context)
        if name != choices.name:
            layout.label(text=f"Will be called {name}", icon="INFO")
    except KeyliftError as problem:
        _words(layout, str(problem), context, "ERROR")
    layout.prop(choices, "minutes")
    layout.prop(choices, "motion")
    layout.prop(choices, "use_corrections")
    button = layout.row()
    button.scale_y = 1.4
    button.operator(KEYLIFT_OT_adapt_to_footage.bl_idname, icon="MODIFIER")


def _draw_progress(layout: bpy.types.UILayout, context: bpy.types.Context, job: AdaptationJob) -> None:
    from .panel import readable_time

    if watch.ending:
        layout.label(text="Pausing" if watch.ending == "pause" else "Stopping", icon="TIME")
    elif job.over:
        layout.label(text="Done. Leave Edit Mode to see what came of it", icon="INFO")
    else:
        _words(layout, job.stage or job.title, context, "TIME")
    left = job.seconds_left
    text = f"{job.fraction:.0%}" + ("" if left is None else f", {readable_time(left)} left")
    layout.progress(factor=job.fraction, text=text)
    row = layout.row(align=True)
    row.enabled = not watch.ending
    row.operator(KEYLIFT_OT_pause_adaptation.bl_idname, icon="PAUSE")
    row.operator(KEYLIFT_OT_cancel_adaptation.bl_idname, icon="CANCEL")


def _draw_curve(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    """How it goes on footage that nothing is learnt from: less is better, and the dashed line is where it began."""
    if watch.curve_of is None:
        return
    curve = picture.look(watch.curve_of)
    if not len(curve.step):
        return
    layout.template_icon(icon_value=picture.icon, scale=_CURVE_HEIGHT)
    began = "" if curve.base_mm is None else f", {curve.base_mm:.1f} mm at the beginning"
    _words(layout, f"Held-out footage: {curve.latest_mm:.1f} mm off{began}", context)


def _draw_unfinished(layout: bpy.types.UILayout, run: UnfinishedRun) -> None:
    box = layout.box().column(align=True)
    far = f"step {run.step} of {run.steps}" if run.steps else f"step {run.step}"
    box.label(text=f"{run.name}: {far}", icon="PAUSE", translate=False)
    if run.elsewhere:
        box.label(text="Another Blender seems to be at it", icon="INFO")
    row = box.row(align=True)
    row.enabled = not run.elsewhere
    row.operator(KEYLIFT_OT_resume_adaptation.bl_idname, icon="PLAY").run = run.folder.name
    row.operator(KEYLIFT_OT_discard_adaptation.bl_idname, text="Discard", icon="TRASH").run = run.folder.name


def _draw_weights(layout: bpy.types.UILayout, context: bpy.types.Context) -> None:
    fill_list_soon(context)
    layout.separator()
    shown = shown_list(context)
    layout.template_list("KEYLIFT_UL_weights", "", shown, "rows", shown, "active", rows=3)
    row = layout.row(align=True)
    row.operator(KEYLIFT_OT_use_weights.bl_idname, icon="CHECKMARK")
    row.operator(KEYLIFT_OT_show_adaptation_report.bl_idname, text="Report", icon="URL")
    row.operator(KEYLIFT_OT_remove_weights.bl_idname, text="", icon="TRASH")
    layout.operator(KEYLIFT_OT_use_shipped_weights.bl_idname, icon="LOOP_BACK")
    weights = chosen_weights(context)
    if weights is not None:
        _words(layout, told(weights), context)


def _words(layout: bpy.types.UILayout, text: str, context: bpy.types.Context, icon: str = "NONE") -> None:
    from .panel import draw_words

    draw_words(layout, text, context.region.width if context.region is not None else 400, icon)
