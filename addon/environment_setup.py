"""Buttons that set up the worker's environment and look at it."""

# No postponed annotations here: Blender reads properties from them.

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import KeyliftError
from . import worker_environment
from .jobs import Command, Flow
from .preferences import environment_plan, worker_python
from .scene_jobs import SceneWork, job_of, queue
from .worker_environment import EnvironmentSetup, SetupState

_TICK_S = 0.1


@dataclass
class KnownOfWorker:
    """What is known of the worker's environment, for whoever shows it.

    setup:    the set-up that runs; None when none does
    last:     where the set-up was when it was last looked at
    findings: of the doctor: an icon, what was looked at, and what was found or is to be done
    tested:   what the self-test told
    own:      an interpreter that was looked at, and what was found of it
    """

    setup: EnvironmentSetup | None = None
    last: SetupState | None = None
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    tested: str = ""
    own: tuple[str, str] = ("", "")

    def look(self) -> SetupState | None:
        """Where the set-up is; None when none runs."""
        if self.setup is None:
            return None
        self.last = self.setup.poll()
        if self.last.over:
            self.setup = None
        return self.last


known = KnownOfWorker()


def set_up_log() -> Path:
    """Where what pip printed is kept."""
    return environment_plan(bpy.context).folder.parent / worker_environment.LOG_NAME


OFFLINE = (
    "Blender is set to stay offline. Allow online access under Preferences > System > Network, or choose a folder of "
    "wheels in Keylift's preferences."
)


def _redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("PREFERENCES", "VIEW_3D", "CLIP_EDITOR"):
                area.tag_redraw()


class KEYLIFT_OT_set_up_environment(bpy.types.Operator):
    """Make the environment that the worker runs in. Takes minutes; goes on where it was stopped"""

    bl_idname = "keylift.set_up_environment"
    bl_label = "Set Up"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether it can begin, and if not, why."""
        if known.setup is not None and not known.setup.poll().over:
            cls.poll_message_set("It is being set up")
            return False
        plan = environment_plan(context)
        if plan.wheels is None and not plan.online:
            cls.poll_message_set(OFFLINE)
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Begin, and watch while Blender goes on."""
        if bpy.app.background or context.window is None:
            return self.execute(context)
        if not self._begun(context):
            return {"CANCELLED"}
        self._timer = context.window_manager.event_timer_add(_TICK_S, window=context.window)
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Make it, and wait."""
        if not self._begun(context):
            return {"CANCELLED"}
        assert known.setup is not None
        known.setup.wait()
        return self._concluded()

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Look after it."""
        if event.type == "ESC" and event.value == "PRESS" and known.setup is not None:
            known.setup.cancel()
            return {"RUNNING_MODAL"}
        if event.type == "TIMER":
            state = known.look()
            _redraw()
            if state is None or state.over:
                context.window_manager.event_timer_remove(self._timer)
                return self._concluded()
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """The window is closed, or another file opened."""
        if known.setup is not None:
            known.setup.cancel()
        context.window_manager.event_timer_remove(self._timer)

    def _begun(self, context: bpy.types.Context) -> bool:
        known.last = None
        try:
            known.setup = EnvironmentSetup(environment_plan(context))
        except KeyliftError as problem:
            known.last = SetupState("", 0.0, "", 0.0, problem=problem)
            self.report({"ERROR"}, str(problem))
            return False
        return True

    def _concluded(self) -> set[str]:
        state = known.look() or known.last
        if state is not None and state.problem is not None:
            self.report({"ERROR"}, str(state.problem))
            return {"CANCELLED"}
        # A worker that runs does so in what was there before.
        queue.close()
        self.report({"INFO"}, f"The worker is set up ({state.seconds if state else 0:.0f} s)")
        return {"FINISHED"}


class KEYLIFT_OT_cancel_set_up(bpy.types.Operator):
    """Stop setting up. What was fetched so far is kept"""

    bl_idname = "keylift.cancel_set_up"
    bl_label = "Cancel"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether anything is being set up."""
        if known.setup is None:
            cls.poll_message_set("Nothing is being set up")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Stop it."""
        if known.setup is not None:
            known.setup.cancel()
        return {"FINISHED"}


class KEYLIFT_OT_remove_environment(bpy.types.Operator):
    """Remove the worker's environment from the disk; it can be set up again at any time"""

    bl_idname = "keylift.remove_environment"
    bl_label = "Remove Environment"

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first."""
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """End the worker, and remove what it runs in."""
        queue.close()
        try:
            worker_environment.remove(environment_plan(context).folder)
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        self.report({"INFO"}, "Removed")
        return {"FINISHED"}


class KEYLIFT_OT_open_set_up_log(bpy.types.Operator):
    """Open what was printed while setting up as a text of this file"""

    bl_idname = "keylift.open_set_up_log"
    bl_label = "Show Log"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is a log."""
        if not set_up_log().is_file():
            cls.poll_message_set("Nothing was set up yet")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Load it, and show it where a text editor is open."""
        name = "Keylift set-up"
        text = bpy.data.texts.get(name) or bpy.data.texts.new(name)
        text.from_string(set_up_log().read_text(encoding="utf-8", errors="replace"))
        for area in context.screen.areas if context.screen is not None else ():
            if area.type == "TEXT_EDITOR":
                area.spaces.active.text = text
        self.report({"INFO"}, f"The log is the text '{name}' (Text Editor), and the file {set_up_log()}")
        return {"FINISHED"}


class KEYLIFT_OT_examine_interpreter(bpy.types.Operator):
    """Look whether your own interpreter has everything that the worker needs"""

    bl_idname = "keylift.examine_interpreter"
    bl_label = "Check"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Look at it."""
        from .own_interpreter import examine

        try:
            found = examine(worker_python(context))
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))
            return {"CANCELLED"}
        words = " ".join(found.problems) or f"Python {found.version} has everything."
        if found.notes:
            words += f" Other versions than tried: {', '.join(found.notes)}."
        known.own = (str(found.python), words)
        self.report({"ERROR" if found.problems else "INFO"}, words)
        return {"CANCELLED"} if found.problems else {"FINISHED"}


class _OnWorker(SceneWork):
    # Nothing of the scene changes.
    bl_options: set[str] = set()

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is a worker that is free."""
        if job_of(context.scene) is not None:
            cls.poll_message_set("The worker is at work")  # type: ignore[attr-defined]
            return False
        try:
            worker_python(context)
        except KeyliftError as problem:
            cls.poll_message_set(str(problem))  # type: ignore[attr-defined]
            return False
        return True


class KEYLIFT_OT_self_test(_OnWorker, bpy.types.Operator):
    """Lift a made-up walk in the worker, to see that everything works and on what it computes"""

    bl_idname = "keylift.self_test"
    bl_label = "Self-Test"
    title = "Testing"

    def flow(self, context: bpy.types.Context) -> Flow:
        """Ask the worker to lift a walk."""
        from .preferences import device

        return _alone(Command(("selftest", "--device", device(context)), 1.0, "selftest"))

    def apply(self, scene: bpy.types.Scene, outcome: Any) -> list[str]:
        """Tell what it is and how fast."""
        known.tested = (
            f"All well: lifts {outcome['frames_per_second']} frames a second on {outcome['device']}, "
            f"ready in {outcome['load_s']:.1f} s."
        )
        return [known.tested]


class KEYLIFT_OT_examine(_OnWorker, bpy.types.Operator):
    """Look whether everything that the worker needs is there, and list it in the preferences"""

    bl_idname = "keylift.examine"
    bl_label = "Examine"
    title = "Examining"

    def flow(self, context: bpy.types.Context) -> Flow:
        """Ask the doctor."""
        return _alone(Command(("doctor",), 1.0, "doctor"))

    def apply(self, scene: bpy.types.Scene, outcome: Any) -> list[str]:
        """Keep what was found for the preferences."""
        # The worker has no Blender, and needs none.
        found = [finding for finding in outcome["findings"] if finding["name"] != "Blender"]
        known.findings[:] = [
            (
                "CHECKMARK" if finding["fine"] else ("ERROR" if finding["needed"] else "INFO"),
                finding["name"],
                finding["found"] if not finding["advice"] or finding["fine"] else _with_advice(finding),
            )
            for finding in found
        ]
        bad = [finding["name"] for finding in found if finding["needed"] and not finding["fine"]]
        if bad:
            return [f"Something is missing: {', '.join(bad)}. The preferences say what to do"]
        return ["Everything that is needed is here"]


def _with_advice(finding: Any) -> str:
    return f"{finding['found']}. To do: {finding['advice']}"


def _alone(command: Command) -> Flow:
    return (yield command)


def unregister_rest() -> None:
    """Stop what is being set up."""
    if known.setup is not None:
        known.setup.cancel()
    known.setup, known.last, known.tested, known.own = None, None, "", ("", "")
    known.findings.clear()


CLASSES = (
    KEYLIFT_OT_set_up_environment,
    KEYLIFT_OT_cancel_set_up,
    KEYLIFT_OT_remove_environment,
    KEYLIFT_OT_open_set_up_log,
    KEYLIFT_OT_examine_interpreter,
    KEYLIFT_OT_self_test,
    KEYLIFT_OT_examine,
)
