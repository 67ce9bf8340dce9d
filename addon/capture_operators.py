"""The buttons that put the worker to work: one for all of the way, one for each part of it, and one to stop."""

# No postponed annotations here: Blender reads properties from them.

from pathlib import Path

import bpy
from bpy_extras.io_utils import ImportHelper

from ..core.errors import KeyliftError
from . import capture_flow
from .capture_flow import Detected, Lifted
from .footage_choice import chosen_armature, chosen_clip, footage_of
from .results import DETECTION_MARK, add_take, pose_of, show_keypoints, show_take
from .scene_jobs import SceneWork, job_of, queue
from .take_list import active_take
from .worker_choices import check_target, detect_choice, keypoints_file, lift_choice, writable_cache

_VIDEO_ENDINGS = "*.mp4;*.mov;*.avi;*.mkv;*.webm;*.m4v;*.mts;*.mpg;*.png;*.jpg;*.jpeg;*.tif;*.tiff;*.exr"


class _FromFootage(SceneWork):
    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is footage, and if not, what to do."""
        if chosen_clip(context, context.scene.keylift) is None:
            cls.poll_message_set("Open footage first")  # type: ignore[attr-defined]
            return False
        return super().poll(context)

    def _remember(self, context: bpy.types.Context) -> None:
        """Whom the outcome is for: names, for what they stand for may be gone by then."""
        settings = context.scene.keylift
        clip, armature = chosen_clip(context, settings), chosen_armature(context, settings)
        assert clip is not None, "asked by poll"
        settings.clip = clip
        self._clip = clip.name
        self._armature = None if armature is None else armature.name
        self._person = settings.person

    def _footage(self) -> bpy.types.MovieClip:
        clip = bpy.data.movieclips.get(self._clip)
        if clip is None:
            raise KeyliftError(f"The clip '{self._clip}' was deleted while the job ran. Open the footage again.")
        return clip

    def _target(self, scene: bpy.types.Scene, told: list[str]) -> bpy.types.Object | None:
        """The armature, if it is still there."""
        if self._armature is None:
            return None
        armature = scene.objects.get(self._armature)
        if armature is None:
            told.append(
                f"'{self._armature}' was deleted while the job ran; a figure shows the motion instead. Choose another "
                "armature and press Retarget."
            )
        return armature


class KEYLIFT_OT_capture(_FromFootage, bpy.types.Operator):
    """From footage to keyframes in one go: find the person, lift the motion, put it onto the armature"""

    bl_idname = "keylift.capture"
    bl_label = "Capture"
    title = "Capturing"

    def flow(self, context: bpy.types.Context) -> capture_flow.Flow:
        """Detect unless the clip has these keypoints already, then lift."""
        from .clip_keypoints import people

        settings = context.scene.keylift
        self._remember(context)
        clip = self._footage()
        footage, detect = footage_of(clip, settings), detect_choice(settings)
        cache = writable_cache(context)
        lift = lift_choice(context, clip, cache)
        self._motion, self._notes = lift.camera_motion, lift.notes
        self._detection = capture_flow.fingerprint(footage, detect)
        check_target(settings, chosen_armature(context, settings))
        if people(clip) and clip.get(DETECTION_MARK) == self._detection:
            return capture_flow.lifting(keypoints_file(clip, settings.person, cache), lift, cache, settings.person)
        return capture_flow.capture(footage, detect, lift, cache, settings.person)

    def apply(self, scene: bpy.types.Scene, outcome: Lifted) -> list[str]:
        """Keypoints onto the footage, a take into the list, the motion onto the armature or a figure."""
        clip = self._footage()
        more = list(self._notes)
        if outcome.detected is not None:
            more += show_keypoints(clip, outcome.detected.files, self._detection)
        armature = self._target(scene, more)
        take = add_take(scene, clip, outcome.pose, outcome.person, Path(clip.name).stem, self._motion)
        return [*show_take(scene, take, armature), *more]


class KEYLIFT_OT_detect(_FromFootage, bpy.types.Operator):
    """Find everybody in the footage; their keypoints become tracks of the clip, to be looked at and corrected"""

    bl_idname = "keylift.detect"
    bl_label = "Detect"
    title = "Looking for people"

    def flow(self, context: bpy.types.Context) -> capture_flow.Flow:
        """Detect."""
        settings = context.scene.keylift
        self._remember(context)
        footage, detect = footage_of(self._footage(), settings), detect_choice(settings)
        self._detection = capture_flow.fingerprint(footage, detect)
        return capture_flow.detection(footage, detect, writable_cache(context))

    def apply(self, scene: bpy.types.Scene, outcome: Detected) -> list[str]:
        """Keypoints onto the footage."""
        more = show_keypoints(self._footage(), outcome.files, self._detection)
        who = "1 person was" if len(outcome.files) == 1 else f"{len(outcome.files)} people were"
        return [f"{who} found. Check the keypoints in the Movie Clip editor", *more]


class _FromKeypoints(_FromFootage):
    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether the clip has keypoints of the chosen person, and if not, what to do."""
        if not super().poll(context):
            return False
        from .clip_keypoints import people

        settings = context.scene.keylift
        found = people(chosen_clip(context, settings))
        if not found:
            cls.poll_message_set("Press Detect first: the clip has no keypoints yet")  # type: ignore[attr-defined]
            return False
        if settings.person not in found:
            cls.poll_message_set("The clip has no such person. Choose another")  # type: ignore[attr-defined]
            return False
        return True


class KEYLIFT_OT_lift(_FromKeypoints, bpy.types.Operator):
    """Lift the person's keypoints, with your corrections, to a motion in space, shown on a figure"""

    bl_idname = "keylift.lift"
    bl_label = "Lift"
    title = "Lifting"

    def flow(self, context: bpy.types.Context) -> capture_flow.Flow:
        """Lift what the clip's tracks hold now."""
        settings = context.scene.keylift
        self._remember(context)
        clip, cache = self._footage(), writable_cache(context)
        keypoints, lift = keypoints_file(clip, settings.person, cache), lift_choice(context, clip, cache)
        self._motion, self._notes = lift.camera_motion, lift.notes
        return capture_flow.lifting(keypoints, lift, cache, settings.person)

    def apply(self, scene: bpy.types.Scene, outcome: Lifted) -> list[str]:
        """A take into the list, shown on a figure."""
        clip = self._footage()
        take = add_take(scene, clip, outcome.pose, outcome.person, Path(clip.name).stem, self._motion)
        return [*show_take(scene, take, None), *self._notes]


class KEYLIFT_OT_relift(_FromKeypoints, bpy.types.Operator):
    """Lift the chosen take anew where its keypoints were corrected, and show it on what it was shown on before"""

    bl_idname = "keylift.relift"
    bl_label = "Re-lift"
    title = "Lifting anew"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is a take to lift anew."""
        if active_take(context.scene) is None:
            cls.poll_message_set("Capture or lift something first: no take is chosen")
            return False
        return super().poll(context)

    def flow(self, context: bpy.types.Context) -> capture_flow.Flow:
        """Lift where keypoints differ from those that the take was lifted from."""
        self._remember(context)
        take = active_take(context.scene)
        lifted_by = pose_of(take).weights.name
        self._take = take.name
        if take.clip is not None:
            self._clip = take.clip.name
        self._person = take.person
        clip, cache = self._footage(), writable_cache(context)
        keypoints = keypoints_file(clip, take.person, cache)
        previous = Path(bpy.path.abspath(take.pose_file))
        # By the same lifter, whichever was chosen since; of one that learnt from the clip, what it learnt from.
        lift = lift_choice(context, clip, cache)._replace(weights=lifted_by.removesuffix("+adapted"))
        if take.motion_file:
            # The one that it was lifted with, whatever the clip was solved to since.
            lift = lift._replace(camera_motion=Path(bpy.path.abspath(take.motion_file)))
        return capture_flow.relifting(keypoints, previous, lift, cache, take.person)

    def apply(self, scene: bpy.types.Scene, outcome: Lifted) -> list[str]:
        """The take gets the new pose, and what it was shown on gets new keys."""
        settings = scene.keylift  # type: ignore[attr-defined]
        index = settings.takes.find(self._take)
        if index < 0:
            raise KeyliftError("The take was deleted while the job ran, so its result was not shown.")
        take = settings.takes[index]
        if outcome.relifted == 0:
            return [f"No keypoint has changed since '{take.name}' was lifted"]
        take.pose_file = str(outcome.pose)
        told = show_take(scene, take, take.armature if take.armature in set(scene.objects) else None)
        if outcome.relifted is not None:
            told.insert(1, f"{outcome.relifted} frames were lifted anew; the others are as they were")
        return told


class KEYLIFT_OT_cancel(bpy.types.Operator):
    """Stop what runs for this scene; nothing half-done stays behind"""

    bl_idname = "keylift.cancel"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether anything runs."""
        if job_of(context.scene) is None:
            cls.poll_message_set("Nothing runs for this scene")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Stop it."""
        job = job_of(context.scene)
        if job is not None:
            queue.cancel(job)
        return {"FINISHED"}


class KEYLIFT_OT_open_footage(bpy.types.Operator, ImportHelper):
    """Open a film, or the first picture of a sequence, as the footage of this scene"""

    bl_idname = "keylift.open_footage"
    bl_label = "Open Footage"
    bl_options = {"REGISTER", "UNDO"}

    filter_glob: bpy.props.StringProperty(default=_VIDEO_ENDINGS, options={"HIDDEN"})  # type: ignore[valid-type]

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Load it as a movie clip."""
        path = Path(self.filepath)
        try:
            clip = bpy.data.movieclips.load(str(path), check_existing=True)
        except RuntimeError:
            self.report({"ERROR"}, f"Blender can't open '{path.name}' as footage. Choose a film or a picture.")
            return {"CANCELLED"}
        if clip.frame_duration < 1:
            bpy.data.movieclips.remove(clip)
            self.report({"ERROR"}, f"'{path.name}' has no pictures that Blender can read. Convert it to MP4 first.")
            return {"CANCELLED"}
        settings = context.scene.keylift
        settings.clip = clip
        settings.first, settings.last = 1, clip.frame_duration
        for area in context.screen.areas if context.screen is not None else ():
            if area.type == "CLIP_EDITOR" and area.spaces.active.clip is None:
                area.spaces.active.clip = clip
        return {"FINISHED"}


class KEYLIFT_OT_pick_person(bpy.types.Operator):
    """Capture this person"""

    bl_idname = "keylift.pick_person"
    bl_label = "Pick Person"
    bl_options = {"REGISTER", "UNDO"}

    person: bpy.props.IntProperty(name="Person", min=1, default=1)  # type: ignore[valid-type]

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Choose the person."""
        context.scene.keylift.person = self.person
        return {"FINISHED"}


CLASSES = (
    KEYLIFT_OT_capture,
    KEYLIFT_OT_detect,
    KEYLIFT_OT_lift,
    KEYLIFT_OT_relift,
    KEYLIFT_OT_cancel,
    KEYLIFT_OT_open_footage,
    KEYLIFT_OT_pick_person,
)
