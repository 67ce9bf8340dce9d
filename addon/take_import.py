"""Bring a pose file onto the active armature."""

# No postponed annotations here: Blender reads an operator's properties from them.

from math import degrees, radians
from pathlib import Path

import bpy
from bpy_extras.io_utils import ImportHelper

from ..core.errors import KeyliftError
from ..core.track_files import read_pose
from ..rig_mapping.bone_map import bone_maps
from ..rig_mapping.key_reduction import KeyTolerance
from ..rig_mapping.solve import RetargetOptions
from .takes import TakeOptions, bake_take

_ENDING = ".pose.npz"


# Blender keeps no reference to the texts of a list that is made anew; without one they turn to garbage on the screen.
_shown: list[tuple[str, str, str]] = []


def _bone_maps(_operator: bpy.types.Operator, _context: bpy.types.Context) -> list[tuple[str, str, str]]:
    """The choices as they are now: users save maps of their own while Blender runs."""
    recognised = ("auto", "Recognise", "Tell which bone is which part of the body by names, shape and how they hang")
    maps = [(found.name, found.title, f"The bone names of {found.title}") for found in bone_maps()]
    _shown[:] = [recognised, *maps]
    return _shown


class KEYLIFT_OT_import_take(bpy.types.Operator, ImportHelper):
    """Bake a captured pose file onto the active armature as a new action"""

    bl_idname = "keylift.import_take"
    bl_label = "Import Take"
    bl_options = {"REGISTER", "UNDO"}

    filename_ext = ".npz"
    filter_glob: bpy.props.StringProperty(default=f"*{_ENDING}", options={"HIDDEN"})  # type: ignore[valid-type]
    bone_map: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Bone Map", description="Which bone is which part of the body", items=_bone_maps
    )
    path: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Path",
        description="What becomes of the way through the room",
        items=[
            ("keep", "Walk", "Move through the room as the person did, by the character's own leg length"),
            ("in_place", "In Place", "Stay where the character is, and only go up and down"),
            ("both", "Both", "Walk, and make a second action that stays in place"),
        ],
        default="keep",
    )
    path_on: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Path On",
        description="Which bone carries the way through the room",
        items=[
            ("hips", "Hips", "The hips move through the room"),
            ("root", "Root", "The rig's root bone moves on the floor, and the hips about it"),
        ],
        default="hips",
    )
    plant_feet: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Plant Feet", description="Keep feet that stand where they are, on this character's own legs", default=True
    )
    limbs: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Limbs",
        description="Which controls of a control rig get the keys of arms and legs",
        items=[
            ("fk", "FK", "Rotations of the limbs' own controls"),
            ("ik", "IK", "Hands, feet and poles"),
        ],
        default="fk",
    )
    reduce: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Reduce Keys", description="Keep only the keys that the motion needs", default=False
    )
    largest_turn: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Turn",
        description="No bone is turned further than this from the full motion",
        subtype="ANGLE",
        default=radians(0.5),
        min=radians(0.001),
        soft_max=radians(5.0),
        max=radians(90.0),
    )
    largest_distance: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Distance",
        description="No joint is further than this from where the full motion has it",
        subtype="DISTANCE",
        unit="LENGTH",
        default=0.005,
        min=0.000001,
        soft_max=0.1,
        max=10.0,
        precision=4,
    )
    markers: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Contact Markers", description="Mark on the timeline where feet come down and lift off", default=True
    )

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
        column = layout.column(heading="Feet")
        column.prop(self, "plant_feet")
        column.prop(self, "markers")
        layout.prop(self, "path")
        layout.prop(self, "path_on")
        layout.prop(self, "limbs")
        column = layout.column(heading="Keys")
        column.prop(self, "reduce")
        bounds = column.column()
        bounds.active = self.reduce
        bounds.prop(self, "largest_turn")
        bounds.prop(self, "largest_distance")

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
                options=self._options(),
            )
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        for warning in summary.warnings:
            self.report({"WARNING"}, warning)
        self.report({"INFO"}, f"Keyed {summary}")
        return {"FINISHED"}

    def _options(self) -> TakeOptions:
        return TakeOptions(
            retarget=RetargetOptions(
                path="in_place" if self.path == "in_place" else "keep",
                path_on=self.path_on,
                plant_feet=self.plant_feet,
                limbs=self.limbs,
            ),
            also_in_place=self.path == "both",
            reduce=KeyTolerance(degrees(self.largest_turn), 1000 * self.largest_distance) if self.reduce else None,
            markers=self.markers,
        )


CLASSES = (KEYLIFT_OT_import_take,)
