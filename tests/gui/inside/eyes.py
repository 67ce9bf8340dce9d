"""Where things are in the window.

Blender tells no script where it drew a button. So the mouse goes looking, and Blender is asked what is under it: every
button can copy the call of its operator or the path of its property. All of a sidebar takes half a second.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import bpy
import hands
from hands import Place, Step

# Nothing that can be pressed is smaller than this at the usual size of the interface, nor less wide than a part in so
# many of a sidebar.
_ROW_PX = 6
_COLUMNS = 24
# No header is lower than this.
_HEADER_PX = 20
# One move takes the mouse off a button, another onto the next.
_MOVES_TO_NOTICE = 3


def area(editor: str) -> bpy.types.Area:
    """The largest editor of a kind, such as VIEW_3D or CLIP_EDITOR."""
    areas = [found for found in hands.window().screen.areas if found.type == editor]
    if not areas:
        raise LookupError(f"no {editor} is open")
    return max(areas, key=lambda found: found.width * found.height)


def region(editor: str, part: str = "UI") -> bpy.types.Region:
    """A part of an editor: UI is its sidebar, WINDOW its picture."""
    return next(found for found in area(editor).regions if found.type == part)


@contextlib.contextmanager
def looking_at(editor: str, part: str = "UI") -> Iterator[None]:
    """For operators that ask where they are."""
    with bpy.context.temp_override(window=hands.window(), area=area(editor), region=region(editor, part)):
        yield


def under_mouse(editor: str, part: str = "UI") -> str | None:
    """The button under the mouse by what it does: the call of its operator, such as keylift.import_take(), or the path
    of its property, such as scenes["Scene"].keylift.clip; None where there is none.
    """
    manager = bpy.context.window_manager
    with looking_at(editor, part), contextlib.suppress(RuntimeError):
        if bpy.ops.ui.copy_python_command_button.poll():
            bpy.ops.ui.copy_python_command_button()
            return manager.clipboard.removeprefix("bpy.ops.")
        if bpy.ops.ui.copy_data_path_button.poll():
            bpy.ops.ui.copy_data_path_button(full_path=True)
            return manager.clipboard.removeprefix("bpy.data.")
    return None


def buttons(editor: str, part: str = "UI") -> Step:
    """What can be pressed there, from top to bottom: {what it is: its places}."""
    return (yield from _buttons(editor, part, _COLUMNS))


def _buttons(editor: str, part: str, columns: int) -> Step:
    found: dict[str, list[Place]] = {}
    for place, button in (yield from _look(_places(editor, part, columns), editor, part)):
        if button is not None:
            found.setdefault(button, []).append(place)
    return found


def find(name: str, editor: str = "VIEW_3D", part: str = "UI") -> Step:
    """The middle of the first button of an operator, such as keylift.capture, or of a property, such as keylift.clip.

    Raises LookupError when it can't be seen.
    """
    # Most are as wide as the sidebar; looking for those that share a row takes longer.
    for columns in (1, _COLUMNS):
        seen = yield from _buttons(editor, part, columns)
        for button, places in seen.items():
            if button.startswith(f"{name}(") or button.endswith(f".{name}"):
                return places[len(places) // 2]
    there = ", ".join(seen) or "none at all: has a message popped up, and not been dismissed?"
    raise LookupError(f"no button for {name} in {editor}; there are: {there}")


def open_section(title: str, editor: str = "VIEW_3D") -> Step:
    """Open a section of Keylift's sidebar by a click on its header, and close those above, so that it can be seen.

    A header is a row without buttons; which one a click has opened or closed, is told by what is drawn next.
    Raises LookupError when there is none.
    """
    wanted = _panel(title, editor).__name__
    drawn = yield from _drawn_panels(editor)
    rows = yield from _rows_without_buttons(editor)
    while wanted not in drawn:
        if not rows:
            raise LookupError(f"there is no header of {title} to be seen in {editor}")
        place = rows.pop(0)
        yield from hands.click(place)
        after = yield from _drawn_panels(editor)
        if after == drawn:
            continue
        rows = [row for row in rows if row[1] <= place[1] - _HEADER_PX]
        if after > drawn and wanted not in after:
            # Not that one: back as it was.
            yield from hands.click(place)
        elif wanted not in after:
            # One above is closed now, and what is below has come up.
            drawn = after
            rows = [row for row in (yield from _rows_without_buttons(editor)) if row[1] <= place[1] - _HEADER_PX]
        else:
            return


def _rows_without_buttons(editor: str) -> Step:
    """Where headers may be, from top to bottom: below the topmost button, and as high as headers are."""
    x = region(editor).x + round(region(editor).width * 0.7)
    seen = yield from _look([(x, place[1]) for place in _places(editor, "UI", columns=1)], editor, "UI")
    first = next((number for number, (_, button) in enumerate(seen) if button is not None), 0)
    empty = [place for place, button in seen[first:] if button is None]
    heights = {place[1] for place in empty}
    return [(x, y) for x, y in empty if {y + _ROW_PX, y - _ROW_PX} <= heights]


class KEYLIFT_GUI_OT_look(bpy.types.Operator):
    """Hear of moves of the mouse before the button under it does, and ask what was under it at the place before"""

    bl_idname = "keylift_gui.look"
    bl_label = "Look"
    bl_options = {"INTERNAL"}

    # Where the mouse goes, and what was there.
    editor = part = ""
    moves = 0
    moved = 0
    seen: list[str | None] = []

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Begin."""
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Take a note, and let the move go on to the button."""
        look = KEYLIFT_GUI_OT_look
        if event.type == "MOUSEMOVE":
            if look.moved % _MOVES_TO_NOTICE == 0:
                look.seen.append(under_mouse(look.editor, look.part))
            look.moved += 1
        return {"PASS_THROUGH"} if look.moved < look.moves else {"FINISHED", "PASS_THROUGH"}


bpy.utils.register_class(KEYLIFT_GUI_OT_look)


def _look(places: list[Place], editor: str, part: str) -> Step:
    """What is at each place: (place, button or None)."""
    region(editor, part).tag_redraw()
    yield from hands.settle()
    there = yield from _seen_on_the_way(places, editor, part)
    back = yield from _seen_on_the_way(places[::-1], editor, part)
    # Until the next drawing Blender answers with the last button that the mouse was on, where it is on none: but there
    # and back, that is not the same one.
    return [(place, a if a == b else None) for place, a, b in zip(places, there, back[::-1], strict=True)]


def _seen_on_the_way(places: list[Place], editor: str, part: str) -> Step:
    """What Blender answers at each place, within one round of events: drawing in between takes 100 times as long."""
    look = KEYLIFT_GUI_OT_look
    look.editor, look.part, look.seen = editor, part, []
    look.moved, look.moves = 0, len(places) * _MOVES_TO_NOTICE + 1
    with looking_at(editor, part):
        bpy.ops.keylift_gui.look("INVOKE_DEFAULT")
    yield
    for place in places:
        for _ in range(_MOVES_TO_NOTICE):
            hands.point_at(place)
    hands.point_at(places[-1])
    while look.moved < look.moves:
        yield
    return look.seen[1:]


def _places(editor: str, part: str, columns: int) -> list[Place]:
    shown = region(editor, part)
    xs = [shown.x + round(shown.width * (column + 0.5) / columns) for column in range(columns)]
    return [(x, y) for y in range(shown.y + shown.height - 2, shown.y, -_ROW_PX) for x in xs]


def _drawn_panels(editor: str) -> Step:
    """The names of Keylift's panels in that editor that are open."""
    drawn: set[str] = set()
    spies = {panel: _spy(drawn, panel.__name__) for panel in _panels(editor)}
    for panel, spy in spies.items():
        panel.append(spy)
    try:
        region(editor).tag_redraw()
        yield from hands.settle()
    finally:
        for panel, spy in spies.items():
            panel.remove(spy)
    return drawn


def _spy(drawn: set[str], name: str) -> Any:
    return lambda panel, context: drawn.add(name)


def _panels(editor: str) -> list[Any]:
    named = [getattr(bpy.types, name) for name in dir(bpy.types) if name.startswith("KEYLIFT_PT_")]
    return [panel for panel in named if panel.bl_space_type == editor]


def _panel(title: str, editor: str) -> Any:
    found = [panel for panel in _panels(editor) if panel.bl_label == title]
    if not found:
        raise LookupError(f"Keylift has no section {title} in {editor}")
    return found[0]
