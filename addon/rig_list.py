"""Which bone of the target is which part of the body: a list to correct by hand, and to keep as a bone map."""

# No postponed annotations here: Blender reads properties from them.

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import bpy

from ..core.errors import KeyliftError, RigError
from .footage_choice import chosen_armature

if TYPE_CHECKING:
    from ..rig_mapping.bone_map import BoneMap
    from ..rig_mapping.recognition import RigMapping

_SURE = 0.85


def recognise_into_list(settings: Any, armature: bpy.types.Object) -> "RigMapping":
    """Fill the list with what is made of the armature. Raises RigError when it is no body."""
    from ..rig_mapping.bone_map import load_bone_map
    from ..rig_mapping.recognition import map_rig
    from .armature_reading import read_rest_pose

    named = None if settings.bone_map == "auto" else load_bone_map(settings.bone_map)
    mapping = map_rig(read_rest_pose(armature), named)
    settings.bones.clear()
    for match in mapping.matches:
        row = settings.bones.add()
        row.name = row.segment = match.segment
        row.bone, row.score, row.reason = match.bone, match.score, match.reason
    settings.mapped_armature = armature.name
    settings.mapping_family = mapping.family
    settings.mapping_problems = "\n".join(mapping.problems)
    return mapping


def edited_bone_map(settings: Any, armature: bpy.types.Object) -> "BoneMap | None":
    """The list as a bone map; None while nobody looked at this armature's.

    What the list does not show (twist bones, controls) stays as recognised. Raises RigError for a bone that is gone.
    """
    if not settings.bones or settings.mapped_armature != armature.name:
        return None
    from ..rig_mapping.bone_map import load_bone_map
    from ..rig_mapping.recognition import map_rig
    from .armature_reading import read_rest_pose

    rest = read_rest_pose(armature)
    chains: dict[str, list[str]] = {}
    for row in settings.bones:
        if row.bone and row.bone not in armature.data.bones:
            raise RigError(
                f"The mapping names a bone '{row.bone}' that '{armature.name}' does not have. "
                "Choose another in the list under Target, or press Recognise."
            )
        if row.bone:
            chains.setdefault(row.segment, []).append(row.bone)
    named = None if settings.bone_map == "auto" else load_bone_map(settings.bone_map)
    try:
        base = map_rig(rest, named).bone_map
    except RigError:
        # A body that nobody recognises, put right by hand.
        from ..rig_mapping.bone_map import BoneMap

        base = BoneMap("list", armature.name, {})
    bones = {segment: tuple(chain) for segment, chain in chains.items()}
    return replace(base, bones=bones, is_preset=False)


class KEYLIFT_UL_bones(bpy.types.UIList):
    """Parts of the body and the bones that turn with them"""

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: Any,
        item: Any,
        icon: int,
        active_data: Any,
        active_property: str,
        index: int = 0,
        flt_flag: int = 0,
    ) -> None:
        """One row: the part, its bone, and how sure that is."""
        armature = chosen_armature(context, data)
        row = layout.split(factor=0.32, align=True)
        row.label(text=_readable(item.segment))
        rest = row.split(factor=0.82, align=True)
        if armature is not None:
            rest.prop_search(item, "bone", armature.data, "bones", text="")
        else:
            rest.prop(item, "bone", text="")
        sure = item.score >= _SURE
        rest.label(text=f"{item.score:.2f}", icon="NONE" if sure else "ERROR")


def _readable(segment: str) -> str:
    """``l_upperarm`` -> ``Upperarm L``"""
    side, _, rest = segment.partition("_")
    return f"{rest.title()} {side.upper()}" if side in ("l", "r") and rest else segment.title()


class _OnArmature:
    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether an armature is chosen, and if not, what to do."""
        if chosen_armature(context, context.scene.keylift) is None:
            cls.poll_message_set("Choose the armature that gets the keyframes")  # type: ignore[attr-defined]
            return False
        return True


class KEYLIFT_OT_recognise_rig(_OnArmature, bpy.types.Operator):
    """Tell which bone of the armature is which part of the body, and list it to be corrected"""

    bl_idname = "keylift.recognise_rig"
    bl_label = "Recognise"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Fill the list."""
        settings = context.scene.keylift
        armature = chosen_armature(context, settings)
        try:
            mapping = recognise_into_list(settings, armature)
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        self.report(
            {"INFO"}, f"'{settings.mapped_armature}' is a rig of the family {mapping.family}, score {mapping.score:.2f}"
        )
        return {"FINISHED"}


class KEYLIFT_OT_clear_mapping(bpy.types.Operator):
    """Forget the corrections in the list; the armature is recognised anew"""

    bl_idname = "keylift.clear_mapping"
    bl_label = "Clear Mapping"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is anything to forget."""
        if not context.scene.keylift.bones:
            cls.poll_message_set("Nothing is listed")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Empty the list."""
        settings = context.scene.keylift
        settings.bones.clear()
        settings.mapping_family = settings.mapping_problems = settings.mapped_armature = ""
        return {"FINISHED"}


class KEYLIFT_OT_save_bone_map(_OnArmature, bpy.types.Operator):
    """Keep the list as a bone map of your own, to be chosen for every rig of this kind"""

    bl_idname = "keylift.save_bone_map"
    bl_label = "Save Bone Map"

    name: bpy.props.StringProperty(name="Name", description="What the map is called in the list of maps")  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is a list to keep."""
        if not context.scene.keylift.bones:
            cls.poll_message_set("Press Recognise first")
            return False
        return super().poll(context)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for a name."""
        self.name = self.name or context.scene.keylift.mapped_armature
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Write the map among the user's own."""
        from ..rig_mapping.bone_map import save_bone_map

        settings = context.scene.keylift
        try:
            bone_map = edited_bone_map(settings, chosen_armature(context, settings))
            if bone_map is None:
                raise RigError("The list is of another armature. Press Recognise first.")
            save_bone_map(self.name, replace(bone_map, title=self.name))
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        settings.bone_map = self.name
        self.report({"INFO"}, f"Saved as '{self.name}'; it is now in the list of bone maps")
        return {"FINISHED"}


CLASSES = (KEYLIFT_UL_bones, KEYLIFT_OT_recognise_rig, KEYLIFT_OT_clear_mapping, KEYLIFT_OT_save_bone_map)
