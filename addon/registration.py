"""Everything that Blender is told about when the extension is enabled, and taken back when it is disabled."""

from __future__ import annotations

from typing import Any

import bpy

from .headless import COMMAND, run_command
from .panel import KEYLIFT_PT_take
from .take_import import KEYLIFT_OT_import_take

_CLASSES = (KEYLIFT_OT_import_take, KEYLIFT_PT_take)
_commands: list[Any] = []


def register() -> None:
    """Called by Blender, possibly many times in one session, each time undone by ``unregister``."""
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    _commands.append(bpy.utils.register_cli_command(COMMAND, run_command))


def unregister() -> None:
    """Undo ``register``, last things first."""
    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
