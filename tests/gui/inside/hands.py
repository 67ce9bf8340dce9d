"""A mouse and a keyboard: what is done here, Blender takes for a person's doing.

Places are pixels of the window from the bottom left, as Blender's own regions count them. Everything is a generator:
``yield from`` it in a step.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import bpy

Step = Generator[float | None, None, Any]
Place = tuple[int, int]

_mouse: Place = (0, 0)


def window() -> bpy.types.Window:
    """The window that is worked in."""
    return bpy.context.window_manager.windows[0]


def _event(kind: str, value: str, **more: Any) -> None:
    # Every event says where the mouse is, for that decides which region gets it.
    window().event_simulate(type=kind, value=value, x=_mouse[0], y=_mouse[1], **more)


def point_at(place: Place) -> None:
    """Send the mouse to a place; it arrives with the next round of events."""
    global _mouse
    _mouse = (round(place[0]), round(place[1]))
    _event("MOUSEMOVE", "NOTHING")


def move(place: Place) -> Step:
    """Bring the mouse to a place."""
    point_at(place)
    yield


def click(place: Place, button: str = "LEFTMOUSE", ctrl: bool = False, shift: bool = False) -> Step:
    """Press a mouse button there and let it go."""
    yield from move(place)
    _event(button, "PRESS", ctrl=ctrl, shift=shift)
    yield
    _event(button, "RELEASE", ctrl=ctrl, shift=shift)
    yield from settle()


def drag(start: Place, end: Place, moves: int = 8) -> Step:
    """Press, move, let go: in small moves as a hand does, for one jump is no drag to Blender."""
    yield from move(start)
    _event("LEFTMOUSE", "PRESS")
    yield
    for number in range(1, moves + 1):
        part = number / moves
        yield from move((round(start[0] + (end[0] - start[0]) * part), round(start[1] + (end[1] - start[1]) * part)))
        yield
    _event("LEFTMOUSE", "RELEASE")
    yield from settle()


def press(key: str, ctrl: bool = False, shift: bool = False, alt: bool = False) -> Step:
    """Press a key, such as ESC, where the mouse is."""
    _event(key, "PRESS", ctrl=ctrl, shift=shift, alt=alt)
    yield
    _event(key, "RELEASE", ctrl=ctrl, shift=shift, alt=alt)
    yield from settle()


def write(text: str) -> Step:
    """Type letters into the field that is being edited."""
    for letter in text:
        _event("A", "PRESS", unicode=letter)
        yield
        _event("A", "RELEASE")
        yield


def settle() -> Step:
    """Let what was done have its effect: events that follow from it, and the drawing of what has changed."""
    for _ in range(2):
        yield


def redraw() -> Step:
    """Have everything drawn as it is now."""
    for shown in bpy.context.window_manager.windows:
        for area in shown.screen.areas:
            area.tag_redraw()
    yield from settle()
