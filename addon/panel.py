"""The sidebar of the 3D view."""

from __future__ import annotations

import bpy

from .take_import import KEYLIFT_OT_import_take


class KEYLIFT_PT_take(bpy.types.Panel):
    """Put a captured performance onto the active armature."""

    bl_label = "Keylift"
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "Keylift"

    def draw(self, context: bpy.types.Context) -> None:
        """What the panel shows."""
        column = self.layout.column()
        active = context.active_object
        if active is not None and active.type == "ARMATURE":
            column.label(text=active.name, icon="ARMATURE_DATA")
        else:
            column.label(text="Select an armature", icon="INFO")
        column.operator(KEYLIFT_OT_import_take.bl_idname, icon="IMPORT")


CLASSES = (KEYLIFT_PT_take,)
