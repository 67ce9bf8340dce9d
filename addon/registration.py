"""Everything that Blender is told about when the extension is enabled, and taken back when it is disabled."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import bpy

from . import (
    adapt_operators,
    adapt_settings,
    adaptation_watch,
    capture_operators,
    curve_picture,
    environment_setup,
    keypoint_correction,
    keypoint_overlay,
    panel,
    preferences,
    retarget_presets,
    rig_list,
    scene_jobs,
    settings,
    take_import,
    take_list,
    translations,
    weights_list,
)
from .headless import COMMAND, run_command

# Each has CLASSES, and where that is not all, register_rest and unregister_rest. Settings come before who shows them.
_MODULES: tuple[ModuleType, ...] = (
    preferences,
    adapt_settings,
    settings,
    scene_jobs,
    adaptation_watch,
    curve_picture,
    environment_setup,
    capture_operators,
    keypoint_correction,
    keypoint_overlay,
    retarget_presets,
    rig_list,
    take_list,
    weights_list,
    adapt_operators,
    translations,
    take_import,
    panel,
)
_commands: list[Any] = []


def register() -> None:
    """Called by Blender, possibly many times in one session, each time undone by ``unregister``."""
    from ..rig_mapping.own_maps import keep_own_maps_in

    keep_own_maps_in(_users_bone_maps())
    for module in _MODULES:
        for cls in module.CLASSES:
            bpy.utils.register_class(cls)
        if hasattr(module, "register_rest"):
            module.register_rest()
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
    for module in reversed(_MODULES):
        if hasattr(module, "unregister_rest"):
            module.unregister_rest()
        for cls in reversed(module.CLASSES):
            bpy.utils.unregister_class(cls)
