"""What an animator chooses about a take, the same wherever it is asked: in the panel and beside a pose file."""

# No postponed annotations here: Blender reads properties from them.

import zlib
from math import degrees, radians
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from .takes import TakeOptions

EnumItem = tuple[str, str, str, str, int]

# Blender keeps no reference to the texts of a list that is made anew; without one they turn to garbage on the screen.
_shown: list[EnumItem] = []


def enum_item(identifier: str, name: str, description: str, *, first: bool = False) -> EnumItem:
    """One choice of a list that grows and shrinks. A file keeps its number, which must not depend on its neighbours.

    first: the choice of who has not chosen yet
    """
    return identifier, name, description, "NONE", 0 if first else 1 + zlib.crc32(identifier.encode()) % (2**31 - 2)


def bone_map_items(_owner: Any, _context: bpy.types.Context | None) -> list[EnumItem]:
    """The choices as they are now: users save maps of their own while Blender runs."""
    from ..rig_mapping.bone_map import bone_maps

    how = "Tell which bone is which part of the body by names, shape and how they hang"
    maps = [enum_item(found.name, found.title, f"The bone names of {found.title}") for found in bone_maps()]
    _shown[:] = [enum_item("auto", "Recognise", how, first=True), *maps]
    return _shown


class RetargetChoices:
    """Properties that an operator or a property group takes over by naming this class among its bases."""

    bone_map: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Bone Map", description="Which bone is which part of the body", items=bone_map_items
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


CHOICE_NAMES = tuple(RetargetChoices.__annotations__)


def draw_choices(layout: bpy.types.UILayout, choices: Any) -> None:
    """Lay out the choices, but for the bone map, in the order in which they are thought of."""
    column = layout.column(heading="Feet")
    column.prop(choices, "plant_feet")
    column.prop(choices, "markers")
    layout.prop(choices, "path")
    layout.prop(choices, "path_on")
    layout.prop(choices, "limbs")
    column = layout.column(heading="Keys")
    column.prop(choices, "reduce")
    bounds = column.column()
    bounds.active = choices.reduce
    bounds.prop(choices, "largest_turn")
    bounds.prop(choices, "largest_distance")


def take_options(choices: Any) -> "TakeOptions":
    """The choices as the retargeting takes them."""
    from ..rig_mapping.key_reduction import KeyTolerance
    from ..rig_mapping.solve import RetargetOptions
    from .takes import TakeOptions

    bound = KeyTolerance(degrees(choices.largest_turn), 1000 * choices.largest_distance)
    return TakeOptions(
        retarget=RetargetOptions(
            path="in_place" if choices.path == "in_place" else "keep",
            path_on=choices.path_on,
            plant_feet=choices.plant_feet,
            limbs=choices.limbs,
        ),
        also_in_place=choices.path == "both",
        reduce=bound if choices.reduce else None,
        markers=choices.markers,
    )
