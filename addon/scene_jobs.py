"""Jobs of scenes: one worker for all of them, and the buttons' common manner of asking, watching and applying."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent

from ..core.errors import KeyliftError
from .jobs import Flow, Job, JobQueue, State
from .worker_client import Worker, WorkerProgram

# So often a job is looked after. ESC is heard at once, whatever this is.
_TICK_S = 0.1
_PACKAGE = Path(__file__).resolve().parents[1]


def worker_program() -> WorkerProgram:
    """What to start as a worker. Raises KeyliftError while its environment is not set up."""
    from .preferences import cache_folder, worker_python, worker_variables

    context = bpy.context
    return WorkerProgram(
        python=worker_python(context),
        package=_PACKAGE,
        variables=worker_variables(context),
        bytecode=cache_folder(context) / "bytecode",
    )


def _start_worker() -> Worker:
    return Worker(worker_program())


queue = JobQueue(_start_worker)
# Scene -> what became of its last job, for the panel: the icon to show, and the words.
_last_words: dict[str, tuple[str, str]] = {}


def owner_of(scene: bpy.types.Scene) -> str:
    """What tells a scene's jobs from those of others, however it is renamed."""
    return str(getattr(scene, "session_uid", scene.name))


def job_of(scene: bpy.types.Scene) -> Job | None:
    """The scene's job that is not over, or None."""
    return queue.of(owner_of(scene))


def last_words(scene: bpy.types.Scene) -> tuple[str, str] | None:
    """What became of the scene's last job: an icon and words, or None."""
    return _last_words.get(owner_of(scene))


def _scene_of(owner: str) -> bpy.types.Scene | None:
    return next((scene for scene in bpy.data.scenes if owner_of(scene) == owner), None)


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "CLIP_EDITOR"):
                for region in area.regions:
                    if region.type == "UI":
                        region.tag_redraw()


class SceneWork:
    """A job of the scene: asked for, watched in the background of Blender's window, and applied as one undo step.

    Called from a script or without a window it waits for the job, and gives the result at once.
    """

    bl_options = {"UNDO"}
    title = ""

    def flow(self, context: bpy.types.Context) -> Flow:
        """What is to be done. Raises KeyliftError when it can't be."""
        raise NotImplementedError

    def apply(self, scene: bpy.types.Scene, outcome: Any) -> list[str]:
        """Make the outcome part of the scene; what was done, then what is worth telling."""
        raise NotImplementedError

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is something to work on, and if not, what is missing."""
        if job_of(context.scene) is not None:
            cls.poll_message_set("This scene is being worked on. Wait, or press Cancel")  # type: ignore[attr-defined]
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Begin, and watch."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        job = self._begun(context)
        if job is None:
            return {"CANCELLED"}
        queue.add(job)
        self._job = job
        manager = context.window_manager
        self._timer = manager.event_timer_add(_TICK_S, window=context.window)
        manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Work and wait."""
        job = self._begun(context)
        if job is None:
            return {"CANCELLED"}
        queue.run_to_its_end(job)
        return self._concluded(context, job)

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Look after the job, and let the artist go on with everything else."""
        job = self._job
        if event.type == "ESC" and event.value == "PRESS":
            queue.cancel(job)
            return {"RUNNING_MODAL"}
        if event.type == "TIMER":
            queue.tick()
            _redraw()
        # An armature can't be made while something is being edited; it waits until the artist is done.
        if job.over and (job.state is not State.DONE or not context.mode.startswith("EDIT")):
            self._stop_watching(context)
            return self._concluded(context, job)
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """The window is closed, or another file opened."""
        queue.cancel(self._job)
        self._stop_watching(context)

    def _begun(self, context: bpy.types.Context) -> Job | None:
        self._owner = owner_of(context.scene)
        _last_words.pop(self._owner, None)
        try:
            return Job(self.title, self._owner, self.flow(context))
        except KeyliftError as problem:
            self._tell("ERROR", str(problem))
            return None

    def _stop_watching(self, context: bpy.types.Context) -> None:
        context.window_manager.event_timer_remove(self._timer)

    def _concluded(self, context: bpy.types.Context, job: Job) -> set[str]:
        if job.state is State.STOPPED:
            self._tell("CANCEL", "Stopped. The scene is as it was")
            return {"CANCELLED"}
        try:
            if job.problem is not None:
                raise job.problem
            scene = _scene_of(job.owner)
            if scene is None:
                raise KeyliftError("The scene was deleted while the job ran, so its result was not shown.")
            told = self.apply(scene, job.outcome)
        except KeyliftError as problem:
            self._tell("ERROR", str(problem))
            return {"CANCELLED"}
        for warning in (*told[1:], *job.notes):
            self.report({"WARNING"}, warning)  # type: ignore[attr-defined]
        self._tell("INFO", told[0], *told[1:])
        return {"FINISHED"}

    def _tell(self, kind: str, text: str, *more: str) -> None:
        """In the report, which passes, and in the panel, where it stays."""
        icon = {"ERROR": "ERROR", "INFO": "CHECKMARK", "CANCEL": "INFO"}[kind]
        _last_words[self._owner] = (icon, "\n".join([text, *more]))
        self.report({"ERROR" if kind == "ERROR" else "INFO"}, text)  # type: ignore[attr-defined]
        if not bpy.app.background:
            _redraw()


@persistent
def _end_jobs(*_: object) -> None:
    """Another file is opened, or the extension disabled: nothing must go on for a scene that is no more."""
    queue.close()
    _last_words.clear()


def register_rest() -> None:
    """Hear of files that are closed."""
    bpy.app.handlers.load_pre.append(_end_jobs)


def unregister_rest() -> None:
    """End everything."""
    _end_jobs()
    bpy.app.handlers.load_pre.remove(_end_jobs)


CLASSES: tuple[type, ...] = ()
