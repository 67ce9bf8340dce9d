"""Everything that Blender is told about when the extension is enabled, and taken back when it is disabled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy

from ..rig_mapping.bone_map import keep_own_maps_in
from .headless import COMMAND, run_command
from .panel import KEYLIFT_PT_take
from .take_import import KEYLIFT_OT_import_take

_CLASSES = (KEYLIFT_OT_import_take, KEYLIFT_PT_take)
_commands: list[Any] = []


def register() -> None:
    """Called by Blender, possibly many times in one session, each time undone by ``unregister``."""
    keep_own_maps_in(_users_bone_maps())
    for cls in _CLASSES:
        bpy.utils.register_class(cls)
    _commands.append(bpy.utils.register_cli_command(COMMAND, run_command))


def _users_bone_maps() -> Path | None:
    """Where Blender lets an extension keep a user's files; None elsewhere, where the shell's place serves."""
    root = __package__.rpartition(".")[0]
    try:
        return Path(bpy.utils.extension_path_user(root, path="bone_maps"))
    except ValueError:
        return None


def unregister() -> None:
    """Undo ``register``, last things first."""
    while _commands:
        bpy.utils.unregister_cli_command(_commands.pop())
    for cls in reversed(_CLASSES):
        bpy.utils.unregister_class(cls)
