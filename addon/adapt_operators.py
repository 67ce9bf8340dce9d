"""The buttons with which a lifter learns from the user's footage: begin, pause, cancel, go on, throw away."""

# No postponed annotations here: Blender reads properties from them.

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..core.errors import FootageError, KeyliftError
from . import adapt_flow
from .adapt_flow import AdaptChoice, Adapted
from .adaptation_runs import UnfinishedRun, checked_name, discard, free_name, new_run_folder
from .adaptation_watch import (
    adaptations_folder,
    forget_runs,
    known_runs,
    push_undo_step,
    watch,
    watch_in_the_background,
)
from .footage_choice import BACKGROUND_MARK, chosen_clip, footage_of
from .preferences import device, preferences_of
from .scene_jobs import owner_of
from .weights_list import forget_listed, listed, show_in_list
from .worker_choices import detect_choice

if TYPE_CHECKING:
    from .jobs import Flow

_BUSY = "Keylift learns from footage already. Wait, or pause it first"
_CHARACTERS = (".blend", ".fbx", ".glb", ".gltf")
_MOST_FILES_LOOKED_AT = 10_000
_ADVICE = "See that there is space, and that Blender may write there."


class _Learns:
    """Begins, and lets the artist go on; called from a script or without a window it waits for the end."""

    title = ""

    def begin(self, context: bpy.types.Context) -> tuple["Flow", Path, tuple[str, ...]]:
        """What is to be done, in which folder, and what is to be told besides. Raises KeyliftError when it can't be."""
        raise NotImplementedError

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Begin."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        if not self._begun(context):
            return {"CANCELLED"}
        watch_in_the_background()
        return {"FINISHED"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Begin, and wait."""
        if not self._begun(context):
            return {"CANCELLED"}
        watch.run_to_its_end()
        assert watch.words is not None
        icon, words = watch.words
        first, *more = words.splitlines()
        for warning in more:
            self.report({"WARNING"}, warning)  # type: ignore[attr-defined]
        self.report({"ERROR" if icon == "ERROR" else "INFO"}, first)  # type: ignore[attr-defined]
        return {"CANCELLED"} if icon in ("ERROR", "PAUSE") else {"FINISHED"}

    def _begun(self, context: bpy.types.Context) -> bool:
        try:
            flow, folder, warnings = self.begin(context)
            watch.begin(context.scene, flow, folder, self.title, apply_outcome, warnings)
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))  # type: ignore[attr-defined]
            return False
        return True


def apply_outcome(owner: str, outcome: Adapted) -> list[str]:
    """Choose weights that proved better for the scene that asked for them; what was done, and why."""
    context = bpy.context
    forget_listed()
    show_in_list(context, outcome.name)
    scene = next((scene for scene in bpy.data.scenes if owner_of(scene) == owner), None)
    if not outcome.better:
        kept = "other weights" if scene is None else f"'{scene.keylift.weights or 'default'}'"  # type: ignore[attr-defined]
        return [f"'{outcome.name}' is not better, and the scene keeps {kept}: {outcome.reason}"]
    if scene is None or all(weights.name != outcome.name for weights in listed(context)):
        return [f"'{outcome.name}' is better; choose it in the list, and press Use: {outcome.reason}"]
    scene.keylift.weights = outcome.name  # type: ignore[attr-defined]
    push_undo_step("Adapt to My Footage")
    return [f"'{outcome.name}' is better, and '{scene.name}' is lifted with it from now on: {outcome.reason}"]


class KEYLIFT_OT_adapt_to_footage(_Learns, bpy.types.Operator):
    """Let a copy of the lifter learn from your footage, on this machine. It is put to use if it proves better"""

    bl_idname = "keylift.adapt_to_footage"
    bl_label = "Adapt"
    title = "Learning from footage"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is footage and nothing else is learnt, and if not, what to do."""
        choices = context.scene.keylift.adaptation
        missing = ""
        if watch.job is not None:
            missing = _BUSY
        elif choices.source == "CLIP" and chosen_clip(context, context.scene.keylift) is None:
            missing = "Open footage first"
        elif choices.source == "ALL" and not _clips_of_file():
            missing = "Open footage first: this file has no clip"
        elif choices.source == "FOLDER" and not choices.folder:
            missing = "Choose the folder with the films"
        if missing:
            cls.poll_message_set(missing)
        return not missing

    def begin(self, context: bpy.types.Context) -> tuple["Flow", Path, tuple[str, ...]]:
        """Write down what the artist corrected, and ask for the rest."""
        choices = context.scene.keylift.adaptation
        name = name_to_be(context)
        folder = new_run_folder(adaptations_folder(), name)
        try:
            given = _given(context, choices, folder / "inputs")
            choice = AdaptChoice(
                name=name,
                footage=tuple(given.footage),
                looking=tuple(given.looking),
                base=choices.base or "default",
                minutes=choices.minutes,
                corrections=tuple(given.corrections),
                motion=_motion(context, choices),
                camera=given.camera,
                device=device(context),
            )
            flow = adapt_flow.adapting(choice, folder)
        except KeyliftError:
            _forget(folder)
            raise
        return flow, folder, tuple(given.warnings)


def name_to_be(context: bpy.types.Context) -> str:
    """What the new weights will be called: as was asked for, or with a number. Raises KeyliftError for no name."""
    taken = {weights.name for weights in listed(context)} | {run.name for run in known_runs().unfinished}
    return free_name(checked_name(context.scene.keylift.adaptation.name), taken)


class _Given:
    """What the worker is given to learn from."""

    def __init__(self) -> None:
        self.footage: list[str] = []
        self.looking: list[str] = []
        self.corrections: list[Path] = []
        self.camera: Path | None = None
        self.warnings: list[str] = []


def _given(context: bpy.types.Context, choices: Any, inputs: Path) -> _Given:
    settings = context.scene.keylift
    given = _Given()
    clip = chosen_clip(context, settings)
    if choices.source == "FOLDER":
        folder = Path(bpy.path.abspath(choices.folder)).resolve()
        if not folder.is_dir():
            raise FootageError(f"There is no folder '{folder}'. Choose the folder with the films.")
        given.footage.append(str(folder))
        clips = [one for one in _clips_of_file() if _file_of(one).is_relative_to(folder)]
    else:
        clips = _clips_of_file() if choices.source == "ALL" else [clip] if clip is not None else []
    given.looking += detect_choice(settings).options()
    for one in clips:
        _give_clip(given, one, settings, inputs, chosen=one == clip)
    if not given.footage:
        raise FootageError("None of the clips can be learnt from. " + " ".join(given.warnings))
    given.camera = _camera(settings, clip if choices.source == "CLIP" else None, inputs)
    return given


def _give_clip(given: _Given, clip: bpy.types.MovieClip, settings: Any, inputs: Path, chosen: bool) -> None:
    """The clip's keypoints as they were detected, with the artist's corrections beside them; or else its film.

    chosen: whether it is the footage of the scene, which the scene's choices are about
    """
    from .clip_keypoints import people

    source = settings.adaptation.source
    found = people(clip)
    if found:
        wanted = settings.person if chosen and settings.person in found else found[0]
        for person in found:
            # In a folder the film is given already.
            _give_person(given, clip, person, person == wanted and source != "FOLDER", settings.adaptation, inputs)
    elif source == "CLIP":
        footage = footage_of(clip, settings)
        given.footage.append(footage.address)
        given.looking += [*footage.options(), f"--person={settings.person}"]
    elif source == "ALL":
        _give_film(given, clip)


def _give_film(given: _Given, clip: bpy.types.MovieClip) -> None:
    if clip.source == "SEQUENCE":
        given.warnings.append(f"Left out {clip.name}: pictures have no frame rate of their own. Press Detect first.")
    elif not _file_of(clip).is_file():
        given.warnings.append(f"Left out {clip.name}: its film is no longer where it was.")
    else:
        given.footage.append(str(_file_of(clip)))


def _give_person(
    given: _Given, clip: bpy.types.MovieClip, person: int, wanted: bool, choices: Any, inputs: Path
) -> None:
    """Keypoints of a person who is wanted, and the corrections of everybody who was corrected."""
    from ..core.track_files import write_keypoints
    from .clip_keypoints import corrected_keypoints, detection_of

    corrected = corrected_keypoints(clip, person) if choices.use_corrections else None
    is_corrected = corrected is not None and bool(corrected.corrected.any())
    number = len(given.footage) + len(given.corrections)
    if wanted or (is_corrected and choices.source != "FOLDER"):
        file = inputs / f"{number:03}-detected.keypoints.npz"
        write_keypoints(file, detection_of(clip, person).track)
        given.footage.append(str(file))
    if corrected is not None and is_corrected:
        file = inputs / f"{number:03}-corrected.keypoints.npz"
        write_keypoints(file, corrected.track)
        given.corrections.append(file)
        given.warnings.extend(corrected.warnings)


def _camera(settings: Any, clip: bpy.types.MovieClip | None, inputs: Path) -> Path | None:
    """The lens of all of it, as far as somebody knows it."""
    from .clip_lens import clip_camera, lens_source, write_camera_file

    if settings.lens == "FILE":
        camera = Path(bpy.path.abspath(settings.lens_file))
        if not camera.is_file():
            raise KeyliftError("Choose the camera file (camera.toml), or another lens, under Footage.")
        return camera
    if clip is None or settings.lens == "ESTIMATE" or not lens_source(clip).known:
        return None
    camera = inputs / "camera.toml"
    write_camera_file(camera, clip_camera(clip), _ADVICE)
    return camera


def _motion(context: bpy.types.Context, choices: Any) -> tuple[Path, ...]:
    if not choices.motion:
        return ()
    motion = Path(bpy.path.abspath(choices.motion))
    if not motion.exists():
        raise KeyliftError(f"There is no '{motion}'. Choose motion of yours again, or leave it empty.")
    preferences = preferences_of(context)
    character = _first_character(motion)
    if character is not None and preferences is not None and preferences.environment == "MANAGED":
        raise KeyliftError(
            f"'{character.name}' holds an animated character, which the worker has no Blender to read with. Export "
            "what it does as BVH (File > Export), or run `keylift adapt` in a shell."
        )
    return (motion,)


def _first_character(motion: Path) -> Path | None:
    """A file that it takes Blender to read, among the first that there are; None when there is none."""
    inside = itertools.islice(motion.rglob("*"), _MOST_FILES_LOOKED_AT) if motion.is_dir() else [motion]
    return next((file for file in inside if file.suffix.lower() in _CHARACTERS), None)


def _clips_of_file() -> list[bpy.types.MovieClip]:
    return [clip for clip in bpy.data.movieclips if BACKGROUND_MARK not in clip]


def _file_of(clip: bpy.types.MovieClip) -> Path:
    return Path(bpy.path.abspath(clip.filepath, library=clip.library)).resolve()


def _forget(folder: Path) -> None:
    if folder.is_dir():
        discard(folder, folder.parent)


class _OnRun:
    run: bpy.props.StringProperty(name="Run", description="Name of its folder", options={"SKIP_SAVE"})  # type: ignore[valid-type]

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether anything was left unfinished."""
        if not known_runs().unfinished:
            cls.poll_message_set("No run was left unfinished")  # type: ignore[attr-defined]
            return False
        return True

    def found(self) -> UnfinishedRun:
        """The run that the button is about. Raises KeyliftError when it is not there, or somebody is at it."""
        forget_runs()
        unfinished = known_runs().unfinished
        named = [run for run in unfinished if run.folder.name == self.run or not self.run]
        if not named:
            raise KeyliftError("The run is finished by now, or was thrown away.")
        if named[0].elsewhere:
            raise KeyliftError(
                "Another Blender seems to be at this run. Pause it there; if that Blender has crashed, wait a minute."
            )
        return named[0]


class KEYLIFT_OT_resume_adaptation(_OnRun, _Learns, bpy.types.Operator):
    """Go on learning where it was paused, or where Blender ended"""

    bl_idname = "keylift.resume_adaptation"
    bl_label = "Resume"
    title = "Learning from footage"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether nothing else is learnt."""
        if watch.job is not None:
            cls.poll_message_set(_BUSY)
            return False
        return super().poll(context)

    def begin(self, context: bpy.types.Context) -> tuple["Flow", Path, tuple[str, ...]]:
        """Ask the worker to go on."""
        folder = self.found().folder
        return adapt_flow.resuming(folder, device(context)), folder, ()


class KEYLIFT_OT_discard_adaptation(_OnRun, bpy.types.Operator):
    """Throw an unfinished run away, with what was learnt so far"""

    bl_idname = "keylift.discard_adaptation"
    bl_label = "Discard Run"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first."""
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Remove its folder."""
        try:
            run = self.found()
            discard(run.folder, adaptations_folder())
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        finally:
            forget_runs()
        if watch.curve_of == run.folder:
            watch.curve_of = watch.words = None
        self.report({"INFO"}, f"'{run.name}' was thrown away")
        return {"FINISHED"}


class _Stops:
    ending = ""

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether anything is learnt."""
        if watch.job is None:
            cls.poll_message_set("Nothing is being learnt")  # type: ignore[attr-defined]
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Stop it; it takes a moment, which is not waited for."""
        watch.stop(self.ending)
        if not bpy.app.background:
            watch_in_the_background()
        return {"FINISHED"}


class KEYLIFT_OT_pause_adaptation(_Stops, bpy.types.Operator):
    """Stop learning and keep what was learnt, to go on later"""

    bl_idname = "keylift.pause_adaptation"
    bl_label = "Pause"
    ending = "pause"


class KEYLIFT_OT_cancel_adaptation(_Stops, bpy.types.Operator):
    """Stop learning for good; what was learnt so far is thrown away"""

    bl_idname = "keylift.cancel_adaptation"
    bl_label = "Cancel"
    ending = "cancel"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first, once there is something to lose."""
        job = watch.job
        if job is not None and job.at == "learn" and not bpy.app.background:
            return context.window_manager.invoke_confirm(self, event)
        return self.execute(context)


CLASSES = (
    KEYLIFT_OT_adapt_to_footage,
    KEYLIFT_OT_resume_adaptation,
    KEYLIFT_OT_discard_adaptation,
    KEYLIFT_OT_pause_adaptation,
    KEYLIFT_OT_cancel_adaptation,
)
