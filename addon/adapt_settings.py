"""What an artist chooses about a lifter that is to learn from footage, and the list of lifters that is shown."""

# No postponed annotations here: Blender reads properties from them.

from typing import Any

import bpy

from .known_weights import KnownWeights, known_weights
from .retarget_choices import EnumItem, enum_item

_SHIPPED = {"default": "The lifter that comes with Keylift", "causal": "Looks at no later frame, as a live one must"}


class _Items:
    """The choices of a list of weights, made anew only when the weights have changed.

    Blender keeps no reference to the texts of a list; without one they turn to garbage on the screen.
    """

    def __init__(self) -> None:
        self._of: tuple[KnownWeights, ...] | None = None
        self.items: list[EnumItem] = []

    def of(self, found: tuple[KnownWeights, ...]) -> list[EnumItem]:
        if found != self._of:
            self._of = found
            self.items = [_item(one) for one in found]
        return self.items


def _item(weights: KnownWeights) -> EnumItem:
    title = weights.name.title() if weights.shipped else weights.name
    return enum_item(weights.name, title, told(weights), first=weights.name == "default")


_items = _Items()


def told(weights: KnownWeights) -> str:
    """What there is to say of a lifter, in one sentence."""
    if weights.shipped:
        return _SHIPPED.get(weights.name, "Comes with Keylift")
    if not weights.usable:
        return weights.reason
    if not weights.parent:
        return f"Your own: {weights.path}"
    judged = {True: "better", False: "not better", None: "not compared"}[weights.better]
    return f"Learnt from footage, from '{weights.parent}'; {judged}. {weights.reason}".strip()


def weights_items(_settings: Any, context: bpy.types.Context | None) -> list[EnumItem]:
    """The lifters at hand: the shipped ones and the user's own, which win over shipped namesakes."""
    from .preferences import weights_folder

    return _items.of(known_weights(weights_folder(context)))


class KEYLIFT_PG_adaptation(bpy.types.PropertyGroup):
    """What a lifter is to learn from, and what it is called then"""

    source: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Learn From",
        description="Which footage the lifter learns from",
        items=[
            ("CLIP", "This Clip", "The footage of this scene"),
            ("ALL", "All Clips", "Every clip of this file"),
            ("FOLDER", "Folder", "Every film in a folder, and in those below it"),
        ],
    )
    folder: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Folder", description="Films of people who move as yours do", subtype="DIR_PATH"
    )
    base: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Base", description="The lifter that is begun with. It stays as it is", items=weights_items
    )
    name: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Name", description="What the new weights are called", default="my-footage"
    )
    minutes: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Minutes",
        description="How long to learn, once people have been looked for in the footage",
        default=30,
        min=1,
        soft_max=240,
        max=10_000,
    )
    motion: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Motion",
        description="Motion capture of yours to learn from as well: a folder of BVH or C3D files. Optional",
        subtype="DIR_PATH",
    )
    use_corrections: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Use My Corrections",
        description="Keypoints that you corrected are the truth that the lifter is held to",
        default=True,
    )


class KEYLIFT_PG_weights_row(bpy.types.PropertyGroup):
    """A row of the list of weights; its name is theirs, and everything else is looked up"""


class KEYLIFT_PG_weights_list(bpy.types.PropertyGroup):
    """The list of weights as it is shown"""

    rows: bpy.props.CollectionProperty(type=KEYLIFT_PG_weights_row)  # type: ignore[valid-type]
    active: bpy.props.IntProperty(name="Weights", default=0)  # type: ignore[valid-type]


def register_rest() -> None:
    """The list is of no file: it shows what is on the disk."""
    bpy.types.WindowManager.keylift_weights = bpy.props.PointerProperty(  # type: ignore[attr-defined]
        type=KEYLIFT_PG_weights_list
    )


def unregister_rest() -> None:
    """Take it away."""
    del bpy.types.WindowManager.keylift_weights  # type: ignore[attr-defined]


CLASSES = (KEYLIFT_PG_adaptation, KEYLIFT_PG_weights_row, KEYLIFT_PG_weights_list)
