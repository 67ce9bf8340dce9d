"""Correct keypoints in the clip editor: doubtful frames, sides, runs of frames, and the outcome as training data."""

# No postponed annotations here: Blender reads properties from them.

from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy_extras.io_utils import ExportHelper

from ..core.errors import KeyliftError
from .footage_choice import chosen_clip
from .take_list import active_take

if TYPE_CHECKING:
    import numpy as np

    from .clip_keypoints import Detection, Marks

_PARTS = [
    ("BODY", "Whole Body", "Every pair of keypoints"),
    ("ARMS", "Arms", "Shoulders, elbows, wrists and hands"),
    ("LEGS", "Legs", "Hips, knees, ankles and feet"),
    ("HEAD", "Head", "Eyes, ears and mouth"),
]
_PART_WORDS = {
    "ARMS": ("shoulder", "elbow", "wrist", "pinky", "index", "thumb", "knuckle"),
    "LEGS": ("hip", "knee", "ankle", "heel", "foot", "toe"),
    "HEAD": ("eye", "ear", "mouth", "nose"),
}
_ENDING = ".keypoints.npz"
# So far a look at a frame reaches, and a correction is spread.
_NEAR_FRAMES = 8


def belongs_to(name: str, part: str) -> bool:
    """Whether the keypoint ``name`` is of a part of the body, as in ``_PARTS``."""
    words = name.split("_")
    # An index may be a finger's or a foot's.
    if part == "ARMS" and "foot" in words:
        return False
    return part == "BODY" or any(word in words for word in _PART_WORDS[part])


class _OnKeypoints:
    """What operators on the chosen person's keypoints have in common."""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there are keypoints, and if not, what to do."""
        from .clip_keypoints import people

        clip = chosen_clip(context, context.scene.keylift)
        if clip is None:
            cls.poll_message_set("Open footage first")  # type: ignore[attr-defined]
        elif context.scene.keylift.person not in people(clip):
            cls.poll_message_set("The clip has no keypoints of this person. Press Detect")  # type: ignore[attr-defined]
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Do it, and say what was done."""
        settings = context.scene.keylift
        try:
            told = self.act(context, chosen_clip(context, settings), settings.person)
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))  # type: ignore[attr-defined]
            return {"CANCELLED"}
        self.report({"INFO"}, told)  # type: ignore[attr-defined]
        return {"FINISHED"}

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """What the operator does; what was done. Raises KeyliftError."""
        raise NotImplementedError


class _InFrames(_OnKeypoints):
    """Properties of operators that change a run of frames; they take these over as bases do."""

    first: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="First", description="First frame of the timeline to change; without, the one that is shown"
    )
    last: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Last", description="Last frame of the timeline to change; without, the first one"
    )

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Begin with the frame that is shown; the panel of the last operation widens it."""
        properties: Any = self
        if not properties.properties.is_property_set("first"):
            self.first = self.last = context.scene.frame_current
        return self.execute(context)

    def rows(self, context: bpy.types.Context, clip: bpy.types.MovieClip, detection: "Detection") -> "np.ndarray":
        """(S,) True for the pictures that are shown in the frames. Raises KeyliftError when none is."""
        import numpy as np

        from .clip_frames import clip_frame_at

        given: Any = self
        is_set = given.properties.is_property_set
        first = self.first if is_set("first") else context.scene.frame_current
        last = max(self.last, first) if is_set("last") else first
        # A picture stays until the next one is shown.
        shown = detection.shown_frames
        until = np.append(shown[1:] - 1, shown[-1])
        rows = (shown <= clip_frame_at(clip, last)) & (until >= clip_frame_at(clip, first))
        if not rows.any():
            raise KeyliftError(f"Frames {first} to {last} have no keypoints. Detect them, or choose other frames.")
        return rows


def _selected(clip: bpy.types.MovieClip, person: int) -> list[bool]:
    """(K,) which of the person's tracks are selected. Raises KeyliftError when none is."""
    from .clip_keypoints import tracks_of

    selected = [track is not None and track.select for track in tracks_of(clip, person)]
    if not any(selected):
        raise KeyliftError("No keypoint of this person is selected. Click one in the clip editor, or box-select (B).")
    return selected


def _read(clip: bpy.types.MovieClip, person: int) -> "tuple[Detection, Marks]":
    from .clip_keypoints import detection_of, read_marks

    return detection_of(clip, person), read_marks(clip, person)


def _told(where: "np.ndarray", what: str) -> str:
    frames, points = int(where.any(axis=1).sum()), int(where.any(axis=0).sum())
    return f"{what} {points} keypoint{'s' * (points != 1)} in {frames} frame{'s' * (frames != 1)}"


class KEYLIFT_OT_next_doubtful_frame(_OnKeypoints, bpy.types.Operator):
    """Go to the next stretch of frames that the lifter, or before that the detector, is less sure of"""

    bl_idname = "keylift.next_doubtful_frame"
    bl_label = "Next Doubtful Frame"

    backwards: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Backwards", description="Go to the one before instead", default=False, options={"SKIP_SAVE"}
    )

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Move the timeline."""
        import numpy as np

        from ..core.doubtful_frames import doubtful_frames, next_doubtful
        from .clip_frames import scene_frame_at

        frames, confidence = _confidence(context.scene, clip, person)
        at = np.array([scene_frame_at(clip, int(frame)) for frame in frames])
        doubtful = doubtful_frames(confidence) & ~_looked_after(clip, person, frames)
        # On a picture that stays for several frames, or between two, it counts from the one that is shown.
        row = int(np.searchsorted(at, context.scene.frame_current, side="right")) - 1
        found = next_doubtful(doubtful, row, -1 if self.backwards else 1)
        if found is None:
            where = "before" if self.backwards else "after"
            return f"No doubtful frame {where} this one ({int(doubtful.sum())} of {len(doubtful)} are doubtful)"
        context.scene.frame_set(int(at[found]))
        return f"Frame {int(at[found])} is doubtful"


def _confidence(scene: bpy.types.Scene, clip: bpy.types.MovieClip, person: int) -> "tuple[np.ndarray, np.ndarray]":
    """(F,) clip frames and (F, J) how sure: of the chosen take, where it is this person's, else of the keypoints."""
    from .clip_frames import clip_frames
    from .clip_keypoints import detection_of
    from .results import pose_of

    take = active_take(scene)
    if take is not None and take.clip == clip and take.person == person:
        try:
            pose = pose_of(take)
        except KeyliftError:
            # The cache was emptied; the keypoints are kept with the clip.
            pass
        else:
            return clip_frames(clip, pose.time_s, pose.frame_index), pose.confidence
    detection = detection_of(clip, person)
    return detection.frames, detection.track.confidence


def _looked_after(clip: bpy.types.MovieClip, person: int, frames: "np.ndarray") -> "np.ndarray":
    """(F,) which of some clip frames an artist has corrected, or one near them: there is nothing to be led to again."""
    import numpy as np

    from .clip_keypoints import corrected_rows, detection_of

    corrected = detection_of(clip, person).frames[corrected_rows(clip, person)]
    if not len(corrected):
        return np.zeros(len(frames), bool)
    after = np.searchsorted(corrected, frames)
    beside = np.stack([corrected[np.maximum(after - 1, 0)], corrected[np.minimum(after, len(corrected) - 1)]])
    return np.abs(beside - frames).min(axis=0) <= _NEAR_FRAMES


class KEYLIFT_OT_swap_sides(_InFrames, bpy.types.Operator):
    """Exchange left and right where the detector took one for the other"""

    bl_idname = "keylift.swap_sides"
    bl_label = "Swap Sides"
    bl_options = {"REGISTER", "UNDO"}

    part: bpy.props.EnumProperty(name="Part", items=_PARTS)  # type: ignore[valid-type]

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Exchange the markers of pairs."""
        import numpy as np

        from ..core.skeletons import mirrored_layout
        from .clip_keypoints import write_marks

        detection, marks = _read(clip, person)
        order = mirrored_layout(detection.names)
        paired = (order != np.arange(len(order))) & [belongs_to(name, self.part) for name in detection.names]
        where = self.rows(context, clip, detection)[:, None] & paired
        for values in (marks.co, marks.seen, marks.keyed):
            values[where] = values[:, order][where]
        marks.exchanged[where] = ~marks.exchanged[:, order][where]
        write_marks(clip, person, marks, where)
        return _told(where, "Exchanged")


class KEYLIFT_OT_disable_keypoints(_InFrames, bpy.types.Operator):
    """Say that the selected keypoints can't be seen, so that the lifter goes by the others"""

    bl_idname = "keylift.disable_keypoints"
    bl_label = "Disable Keypoints"
    bl_options = {"REGISTER", "UNDO"}

    enable: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Enable", description="Say that they can be seen where they are", default=False
    )

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Disable or enable markers."""
        from .clip_keypoints import write_marks

        detection, marks = _read(clip, person)
        where = self.rows(context, clip, detection)[:, None] & _selected(clip, person)
        marks.seen[where] = self.enable
        marks.keyed[where] |= self.enable
        write_marks(clip, person, marks, where)
        return _told(where, "Enabled" if self.enable else "Disabled")


class KEYLIFT_OT_restore_keypoints(_InFrames, bpy.types.Operator):
    """Put the selected keypoints back where they were detected"""

    bl_idname = "keylift.restore_keypoints"
    bl_label = "Restore Keypoints"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Take corrections back."""
        from .clip_keypoints import write_marks

        detection, marks = _read(clip, person)
        where = self.rows(context, clip, detection)[:, None] & _selected(clip, person)
        marks.co[where], marks.seen[where], marks.keyed[where] = detection.co[where], detection.seen[where], False
        marks.exchanged[where] = False
        write_marks(clip, person, marks, where)
        return _told(where, "Restored")


class KEYLIFT_OT_spread_correction(_OnKeypoints, bpy.types.Operator):
    """Carry the correction of the selected keypoints at this frame over to the frames around, less and less"""

    bl_idname = "keylift.spread_correction"
    bl_label = "Spread Correction"
    bl_options = {"REGISTER", "UNDO"}

    frames: bpy.props.IntProperty(  # type: ignore[valid-type]
        name="Frames",
        description="So many frames before and after are corrected, too; twice as many up to another keyframe",
        default=_NEAR_FRAMES,
        min=1,
        max=500,
    )

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Move markers around along with the one that was corrected."""
        from .clip_frames import clip_frame_at
        from .clip_keypoints import write_marks
        from .correction_spreading import spread_corrections

        detection, marks = _read(clip, person)
        here = detection.shown_at(clip_frame_at(clip, context.scene.frame_current))
        selected = _selected(clip, person)
        points = None if here is None else marks.corrected(detection)[here] & marks.seen[here] & selected
        if here is None or points is None or not points.any():
            raise KeyliftError("Nothing that is selected was corrected at this frame. Drag a keypoint first.")
        where = spread_corrections(detection, marks, here, points, self.frames)
        write_marks(clip, person, marks, where)
        return _told(where, "Corrected")


class KEYLIFT_OT_select_keypoints(_OnKeypoints, bpy.types.Operator):
    """Select the keypoints of a part of the body, to be disabled, restored, or moved together"""

    bl_idname = "keylift.select_keypoints"
    bl_label = "Select Keypoints"
    bl_options = {"REGISTER", "UNDO"}

    part: bpy.props.EnumProperty(name="Part", items=_PARTS)  # type: ignore[valid-type]
    side: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Side",
        items=[
            ("BOTH", "Both", "Keypoints of both sides, and those in the middle"),
            ("LEFT", "Left", "The person's left"),
            ("RIGHT", "Right", "The person's right"),
        ],
    )
    extend: bpy.props.BoolProperty(  # type: ignore[valid-type]
        name="Extend", description="Keep what is selected already", default=False
    )

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Select tracks."""
        from .clip_keypoints import detection_of, tracks_of

        count = 0
        for name, track in zip(detection_of(clip, person).names, tracks_of(clip, person), strict=True):
            if track is not None:
                wanted = belongs_to(name, self.part) and (self.side == "BOTH" or _side(name) == self.side)
                track.select = wanted or (self.extend and track.select)
                count += track.select
        return f"{count} keypoints are selected"


def _side(name: str) -> str:
    words = set(name.split("_"))
    return "LEFT" if words & {"left", "l"} else "RIGHT" if words & {"right", "r"} else ""


class KEYLIFT_OT_show_person(_OnKeypoints, bpy.types.Operator):
    """Show the chosen person's tracks in the clip editor, to be corrected"""

    bl_idname = "keylift.show_person"
    bl_label = "Show Keypoints"
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Make the tracking object the active one, in every clip editor that is open."""
        from .clip_keypoints import show_person

        if not show_person(clip, person):
            raise KeyliftError(f"The tracks of person {person} were deleted. Press Detect to get them back.")
        for area in context.screen.areas if context.screen is not None else ():
            if area.type == "CLIP_EDITOR":
                area.spaces.active.clip, area.spaces.active.mode = clip, "TRACKING"
                area.spaces.active.view = "CLIP"
                # The ways of so many tracks hide the person.
                area.spaces.active.show_track_path = False
        return f"The tracks of person {person} are shown in the Movie Clip editor"


class KEYLIFT_OT_export_corrections(_OnKeypoints, bpy.types.Operator, ExportHelper):
    """Write the person's keypoints with your corrections marked, as training data for a lifter of your own"""

    bl_idname = "keylift.export_corrections"
    bl_label = "Export Corrections"

    filename_ext = ".npz"
    filter_glob: bpy.props.StringProperty(default=f"*{_ENDING}", options={"HIDDEN"})  # type: ignore[valid-type]

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Propose a name after the clip."""
        clip = chosen_clip(context, context.scene.keylift)
        assert clip is not None, "asked by poll"
        name = Path(clip.name).stem + (f"-{context.scene.keylift.person}" if context.scene.keylift.person > 1 else "")
        self.filepath = str(Path(bpy.path.abspath("//")) / f"{name}{_ENDING}")
        return ExportHelper.invoke(self, context, event)

    def check(self, context: bpy.types.Context) -> bool:
        """Keep the double ending, which the file browser knows half of."""
        path = self.filepath
        if path and not path.lower().endswith(_ENDING):
            self.filepath = path.removesuffix(".npz").removesuffix(".keypoints") + _ENDING
        return self.filepath != path

    def act(self, context: bpy.types.Context, clip: bpy.types.MovieClip, person: int) -> str:
        """Write the file, whole or not at all."""
        from ..core.track_files import write_keypoints
        from .clip_keypoints import corrected_keypoints

        found = corrected_keypoints(clip, person)
        path = Path(bpy.path.abspath(self.filepath))
        if not path.name.lower().endswith(_ENDING):
            path = path.with_name(path.name.removesuffix(".npz") + _ENDING)
        write_keypoints(path, found.track)
        for warning in found.warnings:
            self.report({"WARNING"}, warning)
        return f"Wrote {path.name} with {int(found.corrected.sum())} corrected keypoints"


CLASSES = (
    KEYLIFT_OT_next_doubtful_frame,
    KEYLIFT_OT_swap_sides,
    KEYLIFT_OT_disable_keypoints,
    KEYLIFT_OT_restore_keypoints,
    KEYLIFT_OT_spread_correction,
    KEYLIFT_OT_select_keypoints,
    KEYLIFT_OT_show_person,
    KEYLIFT_OT_export_corrections,
)
