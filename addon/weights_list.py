"""The list of lifters: which one came of which, whether it proved better, and what can be done with one."""

# No postponed annotations here: Blender reads properties from them.

import contextlib
import time
from pathlib import Path
from typing import Any

import bpy

from ..core.errors import KeyliftError
from .adaptation_watch import forget_runs, known_runs
from .known_weights import KnownWeights, known_weights, remove_weights
from .preferences import weights_folder

_LOOK_S = 1.0
_looked_at = 0.0
_found: tuple[KnownWeights, ...] = ()


def listed(context: bpy.types.Context) -> tuple[KnownWeights, ...]:
    """The lifters at hand; looked for once a second at most."""
    global _looked_at, _found
    now = time.monotonic()
    if now - _looked_at > _LOOK_S:
        _looked_at, _found = now, known_weights(weights_folder(context))
    return _found


def forget_listed() -> None:
    """Look at the disk the next time, however soon."""
    global _looked_at
    _looked_at = 0.0


def shown_list(context: bpy.types.Context) -> Any:
    """The list as Blender shows it, with its rows and the chosen one."""
    return context.window_manager.keylift_weights  # type: ignore[attr-defined]


def fill_list(context: bpy.types.Context) -> None:
    """Have a row for each lifter, and keep the same one chosen. Not to be called while something is drawn."""
    shown = shown_list(context)
    names = [weights.name for weights in listed(context)]
    chosen = shown.rows[shown.active].name if 0 <= shown.active < len(shown.rows) else ""
    shown.rows.clear()
    for name in names:
        shown.rows.add().name = name
    shown.active = names.index(chosen) if chosen in names else 0


def fill_list_soon(context: bpy.types.Context) -> None:
    """Fill it when it is not as the disk is. Blender lets nothing be changed while a panel is drawn."""
    if [row.name for row in shown_list(context).rows] != [weights.name for weights in listed(context)]:
        _soon()


def _soon() -> None:
    if not bpy.app.timers.is_registered(_fill):
        bpy.app.timers.register(_fill, first_interval=0.0)


def _fill() -> None:
    from .adaptation_watch import redraw_sidebars

    fill_list(bpy.context)
    redraw_sidebars()


def show_in_list(context: bpy.types.Context, name: str) -> None:
    """Choose the row of that name."""
    forget_listed()
    fill_list(context)
    shown = shown_list(context)
    shown.active = max(shown.rows.find(name), 0)


def chosen_weights(context: bpy.types.Context, name: str = "") -> KnownWeights | None:
    """The lifter of that name, or the one whose row is chosen; None when there is none."""
    shown = shown_list(context)
    if not name and 0 <= shown.active < len(shown.rows):
        name = shown.rows[shown.active].name
    return next((weights for weights in listed(context) if weights.name == name), None)


def verdict_icon(weights: KnownWeights) -> str:
    """What a row shows before the name."""
    if not weights.usable:
        return "ERROR"
    return {True: "CHECKMARK", False: "X", None: "DOT"}[weights.better]


class KEYLIFT_UL_weights(bpy.types.UIList):
    """Lifters that came with Keylift, and yours"""

    def draw_item(
        self,
        context: bpy.types.Context,
        layout: bpy.types.UILayout,
        data: Any,
        item: Any,
        icon: int,
        active_data: Any,
        active_property: str,
        index: int = 0,
        flt_flag: int = 0,
    ) -> None:
        """One row: whether it proved better, its name, and what it came of."""
        weights = chosen_weights(context, item.name)
        if weights is None:
            layout.label(text=item.name, icon="BLANK1")
            return
        layout.label(text=weights.name, icon=verdict_icon(weights), translate=False)
        came_of = f"from {weights.parent}" if weights.parent else "with Keylift" if weights.shipped else "your own"
        row = layout.row()
        row.alignment = "RIGHT"
        row.active = False
        row.label(text=came_of)
        if (context.scene.keylift.weights or "default") == weights.name:
            row.label(text="", icon="PINNED")


class _OnWeights:
    def chosen(self, context: bpy.types.Context, name: str = "") -> KnownWeights:
        """The lifter of that name, or the one whose row is chosen. Raises KeyliftError when it is not there."""
        forget_listed()
        weights = chosen_weights(context, name)
        if weights is None:
            raise KeyliftError(f"There are no weights '{name}'." if name else "Choose weights in the list.")
        return weights

    def act(self, context: bpy.types.Context) -> str:
        """Do it, and say what was done. Raises KeyliftError."""
        raise NotImplementedError

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Do it."""
        try:
            self.report({"INFO"}, self.act(context))  # type: ignore[attr-defined]
        except KeyliftError as problem:
            self.report({"ERROR"}, str(problem))  # type: ignore[attr-defined]
            return {"CANCELLED"}
        return {"FINISHED"}


class KEYLIFT_OT_use_weights(_OnWeights, bpy.types.Operator):
    """Lift with these weights from now on, in this scene"""

    bl_idname = "keylift.use_weights"
    bl_label = "Use"
    bl_options = {"REGISTER", "UNDO"}

    name: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Name", description="Of the weights; without, those that are chosen in the list", options={"SKIP_SAVE"}
    )

    def act(self, context: bpy.types.Context) -> str:
        """Choose them, for the scene and in the list."""
        weights = self.chosen(context, self.name)
        if not weights.usable:
            raise KeyliftError(weights.reason)
        context.scene.keylift.weights = weights.name
        show_in_list(context, weights.name)
        return f"This scene is lifted with '{weights.name}' from now on"


class KEYLIFT_OT_use_shipped_weights(bpy.types.Operator):
    """Go back to the lifter that came with Keylift, in this scene. Nothing is removed"""

    bl_idname = "keylift.use_shipped_weights"
    bl_label = "Use Shipped Ones"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Choose them."""
        context.scene.keylift.weights = "default"
        self.report({"INFO"}, "This scene is lifted with the shipped weights from now on")
        return {"FINISHED"}


class KEYLIFT_OT_show_adaptation_report(_OnWeights, bpy.types.Operator):
    """Open the report on how these weights came about: curves, pictures and figures before and after"""

    bl_idname = "keylift.show_adaptation_report"
    bl_label = "Show Report"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether there is a report."""
        weights = chosen_weights(context)
        if weights is None or known_runs().report_of(weights.name) is None:
            cls.poll_message_set("There is no report on these weights")  # type: ignore[attr-defined]
            return False
        return True

    def act(self, context: bpy.types.Context) -> str:
        """Open it in the web browser."""
        report = known_runs().report_of(self.chosen(context).name)
        if report is None:
            raise KeyliftError("There is no report on these weights.")
        _open(report)
        return f"The report is '{report}'"


def _open(page: Path) -> None:
    if not bpy.app.background:
        # Where nothing on this system opens pages, it is an error; where it is, is told anyway.
        with contextlib.suppress(RuntimeError):
            bpy.ops.wm.url_open(url=page.as_uri())


class KEYLIFT_OT_remove_weights(_OnWeights, bpy.types.Operator):
    """Remove these weights from the disk, with the report on them. Scenes that used them go back to the shipped ones"""

    bl_idname = "keylift.remove_weights"
    bl_label = "Remove Weights"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Whether they are the user's own."""
        weights = chosen_weights(context)
        if weights is None or weights.shipped:
            cls.poll_message_set("Only weights of your own can be removed")  # type: ignore[attr-defined]
            return False
        return True

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first: no undo brings them back."""
        return context.window_manager.invoke_confirm(self, event)

    def act(self, context: bpy.types.Context) -> str:
        """Remove them, and let go of them."""
        from .adaptation_runs import discard
        from .adaptation_watch import adaptations_folder

        weights = self.chosen(context)
        used_by = [scene for scene in bpy.data.scenes if scene.keylift.weights == weights.name]
        remove_weights(weights)
        forget_runs()
        for run in known_runs().finished:
            if run.name == weights.name:
                discard(run.folder, adaptations_folder())
        forget_runs()
        show_in_list(context, "default")
        left = {known.name for known in listed(context)}
        for scene in used_by if weights.name not in left else ():
            scene.keylift.weights = "default"
        return f"Removed '{weights.name}'"


def unregister_rest() -> None:
    """Nothing is filled any more."""
    if bpy.app.timers.is_registered(_fill):
        bpy.app.timers.unregister(_fill)
    forget_listed()


CLASSES = (
    KEYLIFT_UL_weights,
    KEYLIFT_OT_use_weights,
    KEYLIFT_OT_use_shipped_weights,
    KEYLIFT_OT_show_adaptation_report,
    KEYLIFT_OT_remove_weights,
)
