"""Bring a pose file onto the active armature."""

# No postponed annotations here: Blender reads an operator's properties from them.

from pathlib import Path

import bpy
from bpy_extras.io_utils import ImportHelper

from ..core.errors import KeyliftError
from ..core.track_files import read_pose
from ..rig_mapping.bone_map import load_bone_map, preset_names
from .takes import bake_take

_ENDING = ".pose.npz"


def _bone_maps() -> list[tuple[str, str, str]]:
    presets = [load_bone_map(name) for name in preset_names()]
    recognised = ("auto", "Recognise", "Tell from the names of the bones which part of the body each is")
    return [recognised, *((preset.name, preset.title, f"The bone names of {preset.title}") for preset in presets)]


class KEYLIFT_OT_import_take(bpy.types.Operator, ImportHelper):
    """Bake a captured pose file onto the active armature as a new action"""

    bl_idname = "keylift.import_take"
    bl_label = "Import Take"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: bpy.props.StringProperty(default=f"*{_ENDING}", options={"HIDDEN"})  # type: ignore[valid-type]
    bone_map: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Bone Map", description="Which bone is which part of the body", items=_bone_maps(), default="auto"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is an armature to bake onto, and if not, why."""
        active = context.active_object
        if active is None or active.type != "ARMATURE":
            cls.poll_message_set("Select the armature that the take goes onto")
        elif active.library is not None:
            cls.poll_message_set("The armature is linked from another file; make a library override of it first")
        elif active.mode == "EDIT":
            cls.poll_message_set("Leave edit mode first")
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Read the file and key the armature."""
        path = Path(self.filepath)
        render = context.scene.render
        try:
            summary, _ = bake_take(
                read_pose(path),
                context.active_object,
                bone_map=self.bone_map,
                name=path.name.removesuffix(_ENDING),
                fps=render.fps / render.fps_base,
            )
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        for warning in summary.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, f"Keyed {summary}")
        return {"FINISHED"}
