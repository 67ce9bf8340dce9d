"""Presets of how a motion goes onto a character: shipped ones, which stay, and an artist's own."""

from __future__ import annotations

from pathlib import Path

import bpy
from bl_operators.presets import AddPresetBase

from .retarget_choices import CHOICE_NAMES

_SUBFOLDER = "keylift/retarget"
_SHIPPED = Path(__file__).parent / "presets" / "keylift" / "retarget"


class KEYLIFT_MT_retarget_presets(bpy.types.Menu):
    """How the motion goes onto the character, for a kind of work"""

    bl_label = "Retarget Presets"
    preset_subdir = _SUBFOLDER
    preset_operator = "script.execute_preset"

    def draw(self, context: bpy.types.Context) -> None:
        """The shipped presets and the artist's own; Blender 4.2 would look for its own folders' alone."""
        folders = [str(_SHIPPED), *bpy.utils.preset_paths(self.preset_subdir)]
        self.path_menu(folders, self.preset_operator, filter_ext=lambda ending: ending.lower() == ".py")


class KEYLIFT_OT_retarget_preset_add(AddPresetBase, bpy.types.Operator):
    """Keep the settings under Retarget as a preset, or remove the chosen one"""

    bl_idname = "keylift.retarget_preset_add"
    bl_label = "Add Retarget Preset"
    preset_menu = KEYLIFT_MT_retarget_presets.__name__
    preset_defines = ["settings = bpy.context.scene.keylift"]
    preset_values = [f"settings.{name}" for name in CHOICE_NAMES if name != "bone_map"]
    preset_subdir = _SUBFOLDER


CLASSES = (KEYLIFT_MT_retarget_presets, KEYLIFT_OT_retarget_preset_add)
