"""Buttons that set up the worker's environment and look at it."""

# No postponed annotations here: Blender reads properties from them.

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..core.errors import Cancelled, KeyliftError
from .jobs import Command, Flow
from .preferences import cache_folder, environment_plan, preferences_of, worker_python
from .scene_jobs import SceneWork, job_of, queue

if TYPE_CHECKING:
    from .environment_making import EnvironmentSetup, SetupState
    from .worker_environment import KnownEnvironment

_TICK_S = 0.1


@dataclass
class KnownOfWorker:
    """What is known of the worker's environment, for whoever shows it.

    setup:    the set-up that runs; None when none does
    last:     where the set-up was when it was last looked at
    refused:  why the last one could not begin; None when it could
    findings: of the doctor: an icon, what was looked at, and what was found or is to be done
    tested:   what the self-test told
    own:      an interpreter that was looked at, and what was found of it
    """

    setup: "EnvironmentSetup | None" = None
    last: "SetupState | None" = None
    refused: KeyliftError | None = None
    findings: list[tuple[str, str, str]] = field(default_factory=list)
    tested: str = ""
    own: tuple[str, str] = ("", "")

    def look(self) -> "SetupState | None":
        """Where the set-up is; None when none runs."""
        if self.setup is None:
            return None
        self.last = self.setup.poll()
        if self.last.over:
            self.setup = None
        return self.last

    @property
    def problem(self) -> KeyliftError | None:
        """Why the last set-up failed, or None."""
        return self.refused or (self.last.problem if self.last is not None else None)


known = KnownOfWorker()


def set_up_log() -> Path:
    """Where what pip printed is kept."""
    from .worker_environment import LOG_NAME

    return environment_plan(bpy.context).folder.parent / LOG_NAME


OFFLINE = (
    "Blender is set to stay offline. Allow online access under Preferences > System > Network, or choose a folder of "
    "wheels in Keylift's preferences."
)


def _regions() -> Iterator[bpy.types.Region]:
    """Where the set-up is shown. A 3D view itself may take long to draw, and has no part in it."""
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            for region in area.regions:
                shown = {"PREFERENCES": "WINDOW", "VIEW_3D": "UI", "CLIP_EDITOR": "UI"}.get(area.type)
                if region.type == shown:
                    yield region


def _redraw() -> None:
    for region in _regions():
        region.tag_redraw()


def _look_on() -> float | None:
    """Look after a set-up whose window is gone. Called by Blender's own timer."""
    state = known.look()
    _redraw()
    if state is None or state.over:
        queue.close()
        return None
    return _TICK_S


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
        # The preferences are soon closed, and what watches in their window would end with it.
        main = next(window for window in context.window_manager.windows if window.parent is None)
        with context.temp_override(window=main):
            self._timer = context.window_manager.event_timer_add(_TICK_S, window=main)
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
        """Look after it. ESC is the artist's: minutes later it is meant for something else."""
        if event.type == "TIMER":
            state = known.look()
            _redraw()
            if state is None or state.over:
                context.window_manager.event_timer_remove(self._timer)
                return self._concluded()
        return {"PASS_THROUGH"}

    def cancel(self, context: bpy.types.Context) -> None:
        """The window is closed, or another file opened. The set-up is of no file, and goes on."""
        context.window_manager.event_timer_remove(self._timer)
        bpy.app.timers.register(_look_on, first_interval=_TICK_S, persistent=True)

    def _begun(self, context: bpy.types.Context) -> bool:
        from .environment_making import EnvironmentSetup

        known.last = known.refused = None
        known.tested = ""
        try:
            plan = environment_plan(context)
            known.setup = EnvironmentSetup(replace(plan, proof=_proof(context)))
        except KeyliftError as problem:
            known.refused = problem
            self.report({"ERROR"}, str(problem))
            return False
        return True

    def _concluded(self) -> set[str]:
        state = known.look() or known.last
        # A worker that runs does so in what was there before.
        queue.close()
        if state is None or state.problem is not None:
            words = str(state.problem) if state is not None else "The set-up was given up"
            if state is not None and isinstance(state.problem, Cancelled):
                self.report({"INFO"}, words)
            else:
                # In a window there is a button for the log.
                self.report({"ERROR"}, f"{words} (log: '{set_up_log()}')" if bpy.app.background else words)
            return {"CANCELLED"}
        for note in state.notes:
            self.report({"WARNING"}, note)
        self.report({"INFO"}, f"The worker is set up ({state.seconds:.0f} s)")
        return {"FINISHED"}


def _proof(context: bpy.types.Context) -> tuple[str, ...]:
    """Lift a made-up walk as the worker would, and fetch the pose model, so that the first job need not."""
    from .worker_client import WorkerProgram

    # The interpreter is not there yet; whoever makes it knows where it will be.
    program = WorkerProgram(Path(), Path(__file__).resolve().parents[1], bytecode=cache_folder(context) / "bytecode")
    return tuple(program.command("selftest", "--fetch-model")[1:])


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


class _Removes:
    """Asks first, ends the worker, and removes environments; in a window their space is given back meanwhile."""

    def folders(self, context: bpy.types.Context) -> list[Path]:
        """What goes."""
        raise NotImplementedError

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether nothing is being made of what would be removed."""
        if known.setup is not None:
            cls.poll_message_set("It is being set up")  # type: ignore[attr-defined]
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first."""
        return context.window_manager.invoke_confirm(self, event)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """End the worker, and remove what it runs in."""
        from .worker_environment import delete_set_aside, set_aside

        queue.close()
        known.last = known.refused = None
        base = environment_plan(context).folder.parent
        try:
            for folder in self.folders(context):
                set_aside(folder)
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))  # type: ignore[attr-defined]
            return {"CANCELLED"}
        if bpy.app.background:
            delete_set_aside(base)
        else:
            # Tens of thousands of files.
            threading.Thread(target=delete_set_aside, args=(base,), daemon=True).start()
        self.report({"INFO"}, "Removed")  # type: ignore[attr-defined]
        return {"FINISHED"}


class KEYLIFT_OT_remove_environment(_Removes, bpy.types.Operator):
    """Remove the worker's environment from the disk; it can be set up again at any time"""

    bl_idname = "keylift.remove_environment"
    bl_label = "Remove Environment"

    def folders(self, context: bpy.types.Context) -> list[Path]:
        """The one that the preferences ask for, and what was fetched for one that was not finished."""
        from .worker_environment import FETCHED_NAME

        folder = environment_plan(context).folder
        return [folder, folder.parent / FETCHED_NAME]


def unused_environments(context: bpy.types.Context) -> "list[KnownEnvironment]":
    """Environments that these preferences do not ask for: of other versions of Keylift, or with another torch."""
    from .worker_environment import known_environment, other_environments

    folder = environment_plan(context).folder
    others = other_environments(folder)
    preferences = preferences_of(context)
    if preferences is None or preferences.environment != "OWN":
        return others
    managed = known_environment(folder)
    return others if managed is None else [managed, *others]


class KEYLIFT_OT_remove_unused_environments(_Removes, bpy.types.Operator):
    """Remove environments of other versions of Keylift, of other Blenders, and with another torch"""

    bl_idname = "keylift.remove_unused_environments"
    bl_label = "Remove"

    def folders(self, context: bpy.types.Context) -> list[Path]:
        """All but the one that the preferences ask for."""
        return [unused.folder for unused in unused_environments(context)]


class KEYLIFT_OT_open_set_up_log(bpy.types.Operator):
    """Open the file with everything that was printed while setting up"""

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
        """Open it in the system's own program for texts, and tell where it is for when there is none."""
        log = set_up_log()
        if not bpy.app.background:
            # Where nothing on this system opens texts, it is an error.
            with contextlib.suppress(RuntimeError):
                bpy.ops.wm.path_open(filepath=str(log))
        self.report({"INFO"}, f"The log is '{log}'")
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

    def _tell(self, kind: str, text: str, *more: str) -> None:
        super()._tell(kind, text, *more)
        # The preferences show it too.
        if not bpy.app.background:
            _redraw()


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
    if bpy.app.timers.is_registered(_look_on):
        bpy.app.timers.unregister(_look_on)
    if known.setup is not None:
        known.setup.cancel()
    known.setup = known.last = known.refused = None
    known.tested, known.own = "", ("", "")
    known.findings.clear()


CLASSES = (
    KEYLIFT_OT_set_up_environment,
    KEYLIFT_OT_cancel_set_up,
    KEYLIFT_OT_remove_environment,
    KEYLIFT_OT_remove_unused_environments,
    KEYLIFT_OT_open_set_up_log,
    KEYLIFT_OT_examine_interpreter,
    KEYLIFT_OT_self_test,
    KEYLIFT_OT_examine,
)
