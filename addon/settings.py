"""What a scene remembers: its footage, the choices of each step, and the takes that were made."""

# No postponed annotations here: Blender reads properties from them.

from math import radians
from typing import Any

import bpy

from .adapt_settings import KEYLIFT_PG_adaptation, weights_items
from .retarget_choices import RetargetChoices


def _is_armature(_settings: Any, candidate: bpy.types.Object) -> bool:
    return candidate.type == "ARMATURE"


def _forget_mapping(settings: Any, _context: bpy.types.Context) -> None:
    """Another armature or bone map: what was recognised before says nothing about it."""
    settings.bones.clear()
    settings.mapping_family = settings.mapping_problems = settings.mapped_armature = ""


class KEYLIFT_PG_bone(bpy.types.PropertyGroup):
    """One bone of the target armature and the part of the body that it was given to"""

    segment: bpy.props.StringProperty(name="Part")  # type: ignore[valid-type]
    bone: bpy.props.StringProperty(name="Bone", description="The bone that turns with this part")  # type: ignore[valid-type]
    score: bpy.props.FloatProperty(name="Score", subtype="FACTOR", min=0, max=1)  # type: ignore[valid-type]
    reason: bpy.props.StringProperty(name="Why")  # type: ignore[valid-type]


class KEYLIFT_PG_take(bpy.types.PropertyGroup):
    """A performance that was lifted from footage, and what it was put onto"""

    pose_file: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Pose", description="The lifted pose, in the cache", subtype="FILE_PATH"
    )
    motion_file: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Camera Motion", description="The camera's way that it was lifted with, in the cache", subtype="FILE_PATH"
    )
    clip: bpy.props.PointerProperty(type=bpy.types.MovieClip, name="Footage")  # type: ignore[valid-type]
    person: bpy.props.IntProperty(name="Person", min=1, default=1)  # type: ignore[valid-type]
    armature: bpy.props.PointerProperty(type=bpy.types.Object, name="Armature")  # type: ignore[valid-type]
    action: bpy.props.PointerProperty(type=bpy.types.Action, name="Action")  # type: ignore[valid-type]
    figure: bpy.props.PointerProperty(type=bpy.types.Object, name="Figure")  # type: ignore[valid-type]
    frames: bpy.props.IntProperty(name="Frames")  # type: ignore[valid-type]
    doubtful: bpy.props.IntProperty(name="Doubtful Frames")  # type: ignore[valid-type]
    note: bpy.props.StringProperty(name="Note")  # type: ignore[valid-type]


class KEYLIFT_PG_scene(bpy.types.PropertyGroup, RetargetChoices):
    """What Keylift does with the footage of this scene"""

    # Footage
    clip: bpy.props.PointerProperty(  # type: ignore[valid-type]
        type=bpy.types.MovieClip, name="Footage", description="Film of a person, from one camera"
    )
    use_range: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Frame Range", description="Take a part of the footage rather than all of it", default=False
    )
    first: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="First", description="First frame of the footage to take, counted from 1", default=1, min=1
    )
    last: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Last", description="Last frame of the footage to take, counted from 1", default=250, min=1
    )
    lens: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Lens",
        description="What is known of the lens that filmed",
        items=[
            ("AUTO", "Automatic", "The clip's own camera where it was solved or set, else a lens as phones have"),
            ("CLIP", "From Clip", "The camera of the movie clip, its solved motion included"),
            ("ESTIMATE", "Estimate", "Tell the focal length from how the body looks: a rough guess"),
            ("FILE", "From File", "A camera.toml file"),
        ],
    )
    lens_file: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Camera File", description="camera.toml, as the documentation describes it", subtype="FILE_PATH"
    )
    match_scene: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Frame Rate",
        description="Which frame rate the scene has afterwards",
        items=[
            ("AUTO", "Automatic", "That of the footage, unless something in the scene is animated already"),
            ("FOOTAGE", "Footage", "That of the footage, so that each of its frames is a frame of the scene"),
            ("SCENE", "Scene", "That of the scene; keys lie where the footage has them in time"),
        ],
    )

    # Detect
    quality: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Quality",
        description="Which model of the detector looks for people",
        items=[
            ("lite", "Fast", "A smaller model; its file has to be put into the cache folder first"),
            ("full", "Balanced", "The model that Keylift gets by itself"),
            ("heavy", "Best", "A larger, slower model; its file has to be put into the cache folder first"),
            ("FILE", "File", "A pose landmarker file of your own"),
        ],
        default="full",
    )
    detector_file: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Model File", description="A MediaPipe pose landmarker (.task)", subtype="FILE_PATH"
    )
    repair: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Repair",
        description="Mend keypoints that jump, vanish for a moment, or have left and right exchanged",
        default=True,
    )
    person: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Person", description="Who is captured; 1 is the largest in the picture", default=1, min=1, max=16
    )

    show_lines: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Lines",
        description="Join keypoints by lines over the footage, coloured by how sure the detector was",
        default=True,
    )

    # Lift
    weights: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Weights", description="The lifter that turns keypoints into a pose in space", items=weights_items
    )
    fit: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Fit",
        description="Make one body with constant bones and planted feet agree with keypoints and lifter",
        default=True,
    )
    adapt: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Adapt",
        description="Let a copy of the lifter learn from this clip first, for a minute; kept if it proves better",
        default=False,
    )
    use_height: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Height", description="Say how tall the person is; without, as people are in the mean", default=False
    )
    height: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Height",
        description="How tall the person stands",
        subtype="DISTANCE",
        unit="LENGTH",
        default=1.75,
        min=0.5,
        max=2.6,
    )
    use_tilt: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Camera Tilt",
        description="Say how the camera is held; without, standing feet tell where the ground is",
        default=False,
    )
    pitch: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Looks Down",
        description="How far the camera looks down",
        subtype="ANGLE",
        min=radians(-90),
        max=radians(90),
    )
    roll: bpy.props.FloatProperty(  # type: ignore[valid-type]
        name="Roll",
        description="How far the camera is turned clockwise",
        subtype="ANGLE",
        min=radians(-180),
        max=radians(180),
    )

    # Adapt to my footage
    adaptation: bpy.props.PointerProperty(type=KEYLIFT_PG_adaptation, name="Adaptation")  # type: ignore[valid-type]

    # Target
    armature: bpy.props.PointerProperty(  # type: ignore[valid-type]
        type=bpy.types.Object,
        name="Armature",
        description="The character that gets the keyframes; without one, a figure shows the motion",
        poll=_is_armature,
        update=_forget_mapping,
    )
    bones: bpy.props.CollectionProperty(type=KEYLIFT_PG_bone)  # type: ignore[valid-type]
    active_bone: bpy.props.IntProperty(name="Bone", default=0)  # type: ignore[valid-type]
    mapping_family: bpy.props.StringProperty(name="Family")  # type: ignore[valid-type]
    mapping_problems: bpy.props.StringProperty(name="Problems")  # type: ignore[valid-type]
    mapped_armature: bpy.props.StringProperty(name="Mapped Armature")  # type: ignore[valid-type]

    # Result
    takes: bpy.props.CollectionProperty(type=KEYLIFT_PG_take)  # type: ignore[valid-type]
    active_take: bpy.props.IntProperty(name="Take", default=0)  # type: ignore[valid-type]
    show_figure: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Figure",
        description="Show a plain figure, coloured by how sure the lifter is, even with an armature chosen",
        default=False,
    )
    match_camera: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Camera",
        description="Make a camera that sees what the filming one saw, with the footage behind the scene",
        default=True,
    )


def of_scene(scene: bpy.types.Scene) -> Any:
    """The scene's settings."""
    return scene.keylift  # type: ignore[attr-defined]


def register_rest() -> None:
    """Give every scene its settings."""
    bpy.types.Scene.keylift = bpy.props.PointerProperty(type=KEYLIFT_PG_scene)  # type: ignore[attr-defined]


def unregister_rest() -> None:
    """Take them away; what a scene remembers stays in its file."""
    del bpy.types.Scene.keylift  # type: ignore[attr-defined]


CLASSES = (KEYLIFT_PG_bone, KEYLIFT_PG_take, KEYLIFT_PG_scene)
