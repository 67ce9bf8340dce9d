"""The sidebar of the 3D view and of the clip editor, in the order of the work."""

from __future__ import annotations

import textwrap
from typing import Any

import bpy

from .adapt_panel import draw_adaptation
from .capture_operators import (
    KEYLIFT_OT_cancel,
    KEYLIFT_OT_capture,
    KEYLIFT_OT_detect,
    KEYLIFT_OT_lift,
    KEYLIFT_OT_open_footage,
    KEYLIFT_OT_pick_person,
    KEYLIFT_OT_relift,
)
from .footage_choice import chosen_armature, chosen_clip
from .jobs import State
from .keypoint_correction import (
    KEYLIFT_OT_disable_keypoints,
    KEYLIFT_OT_export_corrections,
    KEYLIFT_OT_next_doubtful_frame,
    KEYLIFT_OT_restore_keypoints,
    KEYLIFT_OT_select_keypoints,
    KEYLIFT_OT_show_person,
    KEYLIFT_OT_spread_correction,
    KEYLIFT_OT_swap_sides,
)
from .retarget_choices import draw_choices
from .rig_list import KEYLIFT_OT_clear_mapping, KEYLIFT_OT_recognise_rig, KEYLIFT_OT_save_bone_map
from .scene_jobs import job_of, last_words
from .take_import import KEYLIFT_OT_import_take
from .take_list import (
    KEYLIFT_OT_delete_take,
    KEYLIFT_OT_look_through,
    KEYLIFT_OT_push_take_to_nla,
    KEYLIFT_OT_rename_take,
    KEYLIFT_OT_retarget,
    active_take,
)

_EDITORS = {"VIEW_3D": "view", "CLIP_EDITOR": "clip"}


def draw_words(layout: bpy.types.UILayout, text: str, width_px: int, icon: str = "NONE") -> None:
    """Text in as many lines as the sidebar is wide; Blender's labels have one and are cut."""
    per_letter = 7 * bpy.context.preferences.system.ui_scale
    letters = max(20, int(width_px / per_letter) - 6)
    column = layout.column(align=True)
    column.scale_y = 0.8
    for paragraph in text.splitlines():
        for line in textwrap.wrap(paragraph, letters) or [""]:
            column.label(text=line, icon=icon)
            icon = "BLANK1" if icon != "NONE" else "NONE"


class _Section:
    """One step of the work."""

    bl_region_type = "UI"
    bl_category = "Keylift"
    bl_options: set[str] = {"DEFAULT_CLOSED"}

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """What the section shows."""

    def draw(self, context: bpy.types.Context) -> None:
        """Lay it out as Blender's own property panels are."""
        layout = self.layout  # type: ignore[attr-defined]
        layout.use_property_split = True
        layout.use_property_decorate = False
        self.body(context, layout, context.scene.keylift)


class _Main(_Section):
    """Footage of a person becomes keyframes on an armature."""

    bl_label = "Keylift"
    bl_options: set[str] = set()

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """The footage, the character, one button, and what became of it."""
        from .environment_panel import draw_first_start

        if draw_first_start(layout, context):
            return
        row = layout.row(align=True)
        row.prop(settings, "clip")
        row.operator(KEYLIFT_OT_open_footage.bl_idname, text="", icon="FILEBROWSER")
        layout.prop(settings, "armature")
        self._say_what_is_meant(context, layout, settings)
        job = job_of(context.scene)
        if job is None:
            button = layout.row()
            button.scale_y = 1.6
            button.operator(KEYLIFT_OT_capture.bl_idname, icon="ARMATURE_DATA")
        else:
            self._progress(layout, job)
        words = last_words(context.scene)
        if words is not None and job is None:
            draw_words(layout, words[1], context.region.width, words[0])

    @staticmethod
    def _say_what_is_meant(context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """Where nothing is chosen, what is taken instead."""
        clip, armature = chosen_clip(context, settings), chosen_armature(context, settings)
        if settings.clip is None and clip is not None:
            layout.label(text=f"Footage: {clip.name}", icon="INFO")
        if settings.armature is None:
            meant = f"Onto {armature.name}" if armature is not None else "Onto a plain figure"
            layout.label(text=meant, icon="INFO")

    @staticmethod
    def _progress(layout: bpy.types.UILayout, job: Any) -> None:
        waits = job.state is State.WAITING
        layout.label(text="Waits for another scene's job" if waits else job.stage, icon="TIME")
        left = job.seconds_left
        text = "" if waits else f"{job.fraction:.0%}" + ("" if left is None else f", {readable_time(left)} left")
        row = layout.row(align=True)
        row.progress(factor=job.fraction, text=text)
        row.operator(KEYLIFT_OT_cancel.bl_idname, text="", icon="CANCEL")


class _Footage(_Section):
    """The film, which part of it, and the lens that filmed it."""

    bl_label = "Footage"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """Range, lens and frame rate."""
        layout.prop(settings, "use_range")
        frames = layout.column(align=True)
        frames.active = settings.use_range
        frames.prop(settings, "first")
        frames.prop(settings, "last")
        layout.prop(settings, "lens")
        if settings.lens == "FILE":
            layout.prop(settings, "lens_file")
        clip = chosen_clip(context, settings)
        if clip is not None and settings.lens in ("AUTO", "CLIP"):
            from .clip_lens import lens_source

            layout.label(text=lens_source(clip).words, icon="CAMERA_DATA")
        layout.prop(settings, "match_scene")


class _Detect(_Section):
    """Find people, and choose one."""

    bl_label = "Detect"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """How people are found, and who was."""
        layout.prop(settings, "quality")
        if settings.quality == "FILE":
            layout.prop(settings, "detector_file")
        layout.prop(settings, "repair")
        layout.operator(KEYLIFT_OT_detect.bl_idname, icon="VIEWZOOM")
        clip = chosen_clip(context, settings)
        if clip is None:
            return
        from .clip_keypoints import people

        found = people(clip)
        if len(found) > 1:
            row = layout.row(align=True)
            row.label(text="Person")
            for person in found:
                row.operator(
                    KEYLIFT_OT_pick_person.bl_idname, text=str(person), depress=person == settings.person
                ).person = person
        elif found:
            layout.label(text="1 person has keypoints", icon="USER")


class _Check(_Section):
    """Look at the keypoints, and put right what is wrong."""

    bl_label = "Check"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """Ways to a wrong keypoint, ways to mend it, and to what comes of it."""
        row = layout.row(align=True)
        row.operator(KEYLIFT_OT_show_person.bl_idname, icon="TRACKER")
        row.prop(settings, "show_lines", text="", icon="OVERLAY")
        row = layout.row(align=True)
        row.label(text="Doubtful Frame")
        row.operator(KEYLIFT_OT_next_doubtful_frame.bl_idname, text="", icon="TRIA_LEFT").backwards = True
        row.operator(KEYLIFT_OT_next_doubtful_frame.bl_idname, text="", icon="TRIA_RIGHT").backwards = False
        column = layout.column(align=True)
        column.operator(KEYLIFT_OT_spread_correction.bl_idname, icon="SMOOTHCURVE")
        column.operator(KEYLIFT_OT_swap_sides.bl_idname, icon="MOD_MIRROR")
        column.operator(KEYLIFT_OT_select_keypoints.bl_idname, icon="RESTRICT_SELECT_OFF")
        column.operator(KEYLIFT_OT_disable_keypoints.bl_idname, icon="HIDE_ON")
        column.operator(KEYLIFT_OT_restore_keypoints.bl_idname, icon="LOOP_BACK")
        layout.operator(KEYLIFT_OT_relift.bl_idname, icon="FILE_REFRESH")
        layout.operator(KEYLIFT_OT_export_corrections.bl_idname, icon="EXPORT")


class _Lift(_Section):
    """From keypoints to a motion in space."""

    bl_label = "Lift"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """How keypoints are lifted."""
        layout.prop(settings, "weights")
        layout.prop(settings, "fit")
        layout.prop(settings, "adapt")
        row = layout.row(heading="Height")
        row.active = settings.fit
        row.prop(settings, "use_height", text="")
        value = row.row()
        value.active = settings.use_height
        value.prop(settings, "height", text="")
        layout.prop(settings, "use_tilt")
        tilt = layout.column(align=True)
        tilt.active = settings.use_tilt
        tilt.prop(settings, "pitch")
        tilt.prop(settings, "roll")
        layout.operator(KEYLIFT_OT_lift.bl_idname, icon="OUTLINER_OB_ARMATURE")


class _Adapt(_Section):
    """Let a copy of the lifter learn from your own footage."""

    bl_label = "Adapt to My Footage"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """What to learn from, how it goes, and what came of it."""
        draw_adaptation(layout, context, settings)


class _Target(_Section):
    """Which bone of the character is which part of the body."""

    bl_label = "Target"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """The bone map, as a list to correct."""
        layout.prop(settings, "bone_map")
        row = layout.row(align=True)
        row.operator(KEYLIFT_OT_recognise_rig.bl_idname, icon="VIEWZOOM")
        row.operator(KEYLIFT_OT_save_bone_map.bl_idname, text="", icon="FILE_TICK")
        row.operator(KEYLIFT_OT_clear_mapping.bl_idname, text="", icon="X")
        if not settings.bones:
            return
        armature = chosen_armature(context, settings)
        if armature is None or armature.name != settings.mapped_armature:
            draw_words(layout, f"The list is of '{settings.mapped_armature}'.", context.region.width, "INFO")
        layout.label(text=f"Family: {settings.mapping_family}")
        layout.template_list("KEYLIFT_UL_bones", "", settings, "bones", settings, "active_bone", rows=6)
        if 0 <= settings.active_bone < len(settings.bones):
            draw_words(layout, settings.bones[settings.active_bone].reason, context.region.width)
        for problem in settings.mapping_problems.splitlines():
            draw_words(layout, problem, context.region.width, "ERROR")


class _Retarget(_Section):
    """How the motion goes onto the character."""

    bl_label = "Retarget"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """Root, feet, limbs and keys."""
        row = layout.row(align=True)
        row.menu("KEYLIFT_MT_retarget_presets", text=bpy.types.KEYLIFT_MT_retarget_presets.bl_label)
        row.operator("keylift.retarget_preset_add", text="", icon="ADD")
        row.operator("keylift.retarget_preset_add", text="", icon="REMOVE").remove_active = True
        draw_choices(layout, settings)
        layout.operator(KEYLIFT_OT_retarget.bl_idname, icon="ACTION")


class _Result(_Section):
    """The takes of this scene."""

    bl_label = "Result"

    def body(self, context: bpy.types.Context, layout: bpy.types.UILayout, settings: Any) -> None:
        """The list of takes, and what can be done with one."""
        layout.prop(settings, "show_figure")
        layout.prop(settings, "match_camera")
        row = layout.row()
        row.template_list("KEYLIFT_UL_takes", "", settings, "takes", settings, "active_take", rows=3)
        buttons = row.column(align=True)
        buttons.operator(KEYLIFT_OT_import_take.bl_idname, text="", icon="IMPORT")
        buttons.operator(KEYLIFT_OT_delete_take.bl_idname, text="", icon="REMOVE")
        buttons.operator(KEYLIFT_OT_rename_take.bl_idname, text="", icon="GREASEPENCIL")
        layout.operator(KEYLIFT_OT_look_through.bl_idname, icon="CAMERA_DATA")
        row = layout.row(align=True)
        row.operator(KEYLIFT_OT_retarget.bl_idname, text="Run Again", icon="FILE_REFRESH")
        row.operator(KEYLIFT_OT_push_take_to_nla.bl_idname, icon="NLA_PUSHDOWN")
        take = active_take(context.scene)
        if take is not None and take.doubtful:
            layout.label(text=f"{take.doubtful} frames are doubtful", icon="ERROR")


def readable_time(seconds: float) -> str:
    """Seconds, minutes or hours, whichever says it shortest."""
    if seconds < 60:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _panels() -> tuple[type, ...]:
    """Each section as a panel of each editor: Blender knows a panel by its class and has one editor a class."""
    made: list[type] = []
    for editor, short in _EDITORS.items():
        names = {"bl_space_type": editor}
        main = type(f"KEYLIFT_PT_{short}_main", (_Main, bpy.types.Panel), {**names, "__doc__": _Main.__doc__})
        made.append(main)
        sections: tuple[type, ...] = (_Footage, _Detect, _Check, _Lift, _Adapt, _Target, _Retarget, _Result)
        for place, section in enumerate(sections):
            made.append(
                type(
                    f"KEYLIFT_PT_{short}{section.__name__.lower()}",
                    (section, bpy.types.Panel),
                    {**names, "bl_parent_id": main.__name__, "bl_order": place, "__doc__": section.__doc__},
                )
            )
    return tuple(made)


CLASSES = _panels()
