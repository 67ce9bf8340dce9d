"""Bring a pose file onto the active armature."""

# No postponed annotations here: Blender reads an operator's properties from them.

from pathlib import Path

import bpy
from bpy_extras.io_utils import ImportHelper

from ..core.errors import KeyliftError
from .retarget_choices import RetargetChoices, draw_choices, take_options

_ENDING = ".pose.npz"


class KEYLIFT_OT_import_take(bpy.types.Operator, ImportHelper, RetargetChoices):
    """Bake a captured pose file onto the active armature as a new action"""

    bl_idname = "keylift.import_take"
    bl_label = "Import Take"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: bpy.props.StringProperty(default=f"*{_ENDING}", options={"HIDDEN"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is an armature to bake onto, and if not, why."""
        active = context.active_object
        if active is None or active.type != "ARMATURE":
            cls.poll_message_set("Select the armature that the take goes onto")
        elif active.mode == "EDIT":
            cls.poll_message_set("Leave edit mode first")
        else:
            return True
        return False

    def draw(self, context: bpy.types.Context) -> None:
        """The settings, beside the file browser and in the panel of the last operation."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "bone_map")
        draw_choices(layout, self)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Read the file and key the armature."""
        from ..core.track_files import read_pose
        from .takes import bake_take

        path = Path(self.filepath)
        render = context.scene.render
        try:
            summary, _ = bake_take(
                read_pose(path),
                context.active_object,
                bone_map=self.bone_map,
                name=path.name.removesuffix(_ENDING),
                fps=render.fps / render.fps_base,
                options=take_options(self),
            )
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        for warning in summary.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, f"Keyed {summary}")
        return {"FINISHED"}


CLASSES = (KEYLIFT_OT_import_take,)
