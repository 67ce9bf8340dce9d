"""The list of takes: go back to one, run it again, rename it, push it to the NLA, delete it."""

# No postponed annotations here: Blender reads properties from them.

from typing import Any

import bpy

from ..core.errors import KeyliftError
from .footage_choice import chosen_armature
from .results import retarget


def active_take(scene: bpy.types.Scene) -> Any:
    """The chosen take of the scene, or None."""
    settings = scene.keylift  # type: ignore[attr-defined]
    return settings.takes[settings.active_take] if 0 <= settings.active_take < len(settings.takes) else None


class KEYLIFT_UL_takes(bpy.types.UIList):
    """Performances that were lifted in this scene"""

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
        """One row: the name, what it is on, and how long it is."""
        layout.prop(item, "name", text="", emboss=False, icon="ACTION" if item.action is not None else "ARMATURE_DATA")
        if item.doubtful:
            layout.label(text=str(item.doubtful), icon="ERROR")
        layout.label(text=f"{item.frames} f")


class _OnTake:
    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether a take is chosen, and if not, what to do."""
        if active_take(context.scene) is None:
            cls.poll_message_set("Capture or lift something first: no take is chosen")  # type: ignore[attr-defined]
            return False
        return True


class KEYLIFT_OT_retarget(_OnTake, bpy.types.Operator):
    """Key the chosen take onto the armature as a new action, by the settings as they are now"""

    bl_idname = "keylift.retarget"
    bl_label = "Retarget"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there are a take and an armature, and if not, what is missing."""
        if not super().poll(context):
            return False
        armature = chosen_armature(context, context.scene.keylift)
        if armature is None:
            cls.poll_message_set("Choose the armature that gets the keyframes")
            return False
        if armature.mode == "EDIT":
            cls.poll_message_set("Leave Edit Mode first")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Key the armature."""
        settings = context.scene.keylift
        try:
            told = retarget(context.scene, active_take(context.scene), chosen_armature(context, settings))
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        for warning in told[1:]:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, told[0])
        return {"FINISHED"}


class KEYLIFT_OT_rename_take(_OnTake, bpy.types.Operator):
    """Rename the chosen take, and its action and figure with it"""

    bl_idname = "keylift.rename_take"
    bl_label = "Rename Take"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(name="Name")  # type: ignore[valid-type]

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask for the name."""
        self.name = active_take(context.scene).name
        return context.window_manager.invoke_props_dialog(self)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Rename what belongs to the take."""
        take = active_take(context.scene)
        name = self.name.strip()
        if not name:
            self.report({"ERROR"}, "A take needs a name. Type one.")
            return {"CANCELLED"}
        take.name = name
        if take.action is not None:
            take.action.name = name
        if take.figure is not None:
            take.figure.name = f"{name} figure"
        return {"FINISHED"}


class KEYLIFT_OT_push_take_to_nla(_OnTake, bpy.types.Operator):
    """Turn the take's action into a strip on a new NLA track, so that the next one can be laid beside it"""

    bl_idname = "keylift.push_take_to_nla"
    bl_label = "Push to NLA"
    bl_options = {"REGISTER", "UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether the take is on an armature."""
        if not super().poll(context):
            return False
        take = active_take(context.scene)
        if take.action is None or take.armature is None:
            cls.poll_message_set("Retarget the take first: it is on no armature")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Make the strip, and let the armature play the strip rather than the action."""
        take = active_take(context.scene)
        data = take.armature.animation_data_create()
        if data is None or (take.armature.library is not None and take.armature.override_library is None):
            self.report({"ERROR"}, f"'{take.armature.name}' can't be animated here. Make a library override of it.")
            return {"CANCELLED"}
        track = data.nla_tracks.new()
        track.name = take.name
        strip = track.strips.new(take.action.name, round(take.action.frame_range[0]), take.action)
        if hasattr(strip, "action_slot") and len(take.action.slots):
            strip.action_slot = take.action.slots[0]
        if data.action == take.action:
            data.action = None
        self.report({"INFO"}, f"'{take.name}' is now a strip of '{take.armature.name}'")
        return {"FINISHED"}


class KEYLIFT_OT_delete_take(_OnTake, bpy.types.Operator):
    """Remove the chosen take with its figure. An action that something else plays stays"""

    bl_idname = "keylift.delete_take"
    bl_label = "Delete Take"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Remove what belongs to the take alone."""
        settings = context.scene.keylift
        take = active_take(context.scene)
        action, figure, armature = take.action, take.figure, take.armature
        settings.takes.remove(settings.active_take)
        settings.active_take = max(0, min(settings.active_take, len(settings.takes) - 1))
        if figure is not None:
            from .preview_figure import remove_figure

            remove_figure(figure)
        if action is not None:
            _let_go(action, armature)
        return {"FINISHED"}


def _let_go(action: bpy.types.Action, armature: bpy.types.Object | None) -> None:
    """Take the action off its armature, and out of the file when nothing else plays it."""
    data = armature.animation_data if armature is not None else None
    if data is not None and data.action == action:
        data.action = None
    # The take's own fake user is no reason to keep it.
    if action.users - int(action.use_fake_user) == 0:
        bpy.data.actions.remove(action)


class KEYLIFT_OT_look_through(_OnTake, bpy.types.Operator):
    """Look at the chosen take on its footage, through the camera that matches the filming one"""

    bl_idname = "keylift.look_through"
    bl_label = "Look at Footage"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Turn a 3D view to the camera."""
        from .footage_background import look_through, own_camera

        take = active_take(context.scene)
        camera = own_camera(context.scene, take.clip, take.person)
        if camera is None:
            self.report({"ERROR"}, "The take has no camera. Switch Camera on under Result, and lift it again.")
            return {"CANCELLED"}
        if not look_through(context, camera):
            self.report({"ERROR"}, "No 3D view is open. Open one to look through the camera.")
            return {"CANCELLED"}
        return {"FINISHED"}


CLASSES = (
    KEYLIFT_UL_takes,
    KEYLIFT_OT_look_through,
    KEYLIFT_OT_retarget,
    KEYLIFT_OT_rename_take,
    KEYLIFT_OT_push_take_to_nla,
    KEYLIFT_OT_delete_take,
)
