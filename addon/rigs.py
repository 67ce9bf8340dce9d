"""Open the armature that a performance goes onto: a file's, or one that Blender makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import addon_utils
import bpy

from ..core.errors import RigError
from ..rig_mapping.rig_address import split_rig_address
from .blender_chatter import unheard

RIGIFY_METARIG = "rigify_metarig"
# Plain, gzip (to 2.93) and zstd compressed .blend files begin so.
_BLEND_BEGINNINGS = (b"BLENDER", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


def open_rig(spec: str) -> bpy.types.Object:
    """Start from a fresh scene and bring in the rig. Whatever was open is gone, unsaved.

    spec: ``rigify_metarig``, or a .blend, .fbx, .glb, .gltf or .bvh file, ``:Object`` after it when it has several
          armatures.
    Raises RigError when there is no such file, it can't be read, or it has no armature or several and none is named.
    """
    if spec == RIGIFY_METARIG:
        return _make_metarig()
    address = split_rig_address(spec)
    if address is None:
        raise RigError(
            f"'{spec}' is not a rig: give '{RIGIFY_METARIG}', or a .blend, .fbx, .glb, .gltf or .bvh file, with "
            ":Object after it when it has several armatures."
        )
    path, wanted = address
    if not path.is_file():
        raise RigError(f"There is no rig file '{path}'. Check the path after --rig.")
    opener = {".blend": _open_blend, ".fbx": _import_fbx, ".bvh": _import_bvh}.get(path.suffix.lower(), _import_gltf)
    opener(path)
    return _armature(path, wanted)


def _make_metarig() -> bpy.types.Object:
    _fresh_scene()
    _, enabled_before = addon_utils.check("rigify")
    with unheard():
        if addon_utils.enable("rigify", default_set=True) is None:
            raise RigError("This Blender has no Rigify add-on. Give a rig of your own with --rig FILE.")
        bpy.ops.object.armature_human_metarig_add()
        if not enabled_before:
            addon_utils.disable("rigify", default_set=True)
            _remove_rigify_handlers()
    return bpy.context.view_layer.objects.active


def _remove_rigify_handlers() -> None:
    """Rigify forgets to take them back, and when disabled they fail on every file opened later."""
    for handler in list(bpy.app.handlers.load_post):
        if getattr(handler, "__module__", "").partition(".")[0] == "rigify":
            bpy.app.handlers.load_post.remove(handler)


def _fresh_scene() -> None:
    """Blender's own empty scene. Preferences stay: resetting them would unload this very extension."""
    with unheard():
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


def _open_blend(path: Path) -> None:
    with open(path, "rb") as file:
        beginning = file.read(8)
    if not beginning.startswith(_BLEND_BEGINNINGS):
        raise RigError(f"'{path}' is not a .blend file, or it is damaged. Save it again from Blender.")
    _fresh_scene()

    def opening() -> None:
        # A rig from elsewhere may carry scripts; none of them runs.
        bpy.ops.wm.open_mainfile(filepath=str(path.resolve()), load_ui=False, use_scripts=False)
        active = bpy.context.view_layer.objects.active
        if active is not None and active.mode != "OBJECT":
            bpy.ops.object.mode_set(mode="OBJECT")

    _run(opening, path)


def _import_fbx(path: Path) -> None:
    _import(path, "io_scene_fbx", lambda file: bpy.ops.import_scene.fbx(filepath=file))


def _import_gltf(path: Path) -> None:
    _import(path, "io_scene_gltf2", lambda file: bpy.ops.import_scene.gltf(filepath=file))


def _import_bvh(path: Path) -> None:
    _import(path, "io_anim_bvh", lambda file: bpy.ops.import_anim.bvh(filepath=file))


def _import(path: Path, addon: str, importing: Callable[[str], object]) -> None:
    _fresh_scene()
    with unheard():
        if addon_utils.enable(addon, default_set=False) is None:
            raise RigError(f"This Blender can't read {path.suffix} files. Give the rig as a .blend file.")
    _run(lambda: importing(str(path.resolve())), path)


def _run(action: Callable[[], object], path: Path) -> None:
    try:
        with unheard():
            action()
    except Exception as problem:
        # The importers let any kind of exception out on a damaged file: struct.error, KeyError, RuntimeError ...
        reason = str(problem).strip().splitlines()
        raise RigError(
            f"The rig file '{path}' can't be read: {reason[-1] if reason else type(problem).__name__}. "
            "It may be damaged, or from a newer program; open it in Blender and save it again."
        ) from problem


def _armature(path: Path, wanted: str | None) -> bpy.types.Object:
    armatures = sorted((thing for thing in bpy.data.objects if thing.type == "ARMATURE"), key=lambda thing: thing.name)
    names = ", ".join(f"'{armature.name}'" for armature in armatures)
    if not armatures:
        raise RigError(f"'{path}' has no armature. Give a file with a rig, or '{RIGIFY_METARIG}'.")
    candidates = armatures
    if wanted is not None:
        candidates = [armature for armature in armatures if armature.name == wanted]
        if not candidates:
            raise RigError(f"'{path}' has no armature '{wanted}'; it has {names}. Correct --rig FILE:Object.")
    if len(candidates) > 1:
        raise RigError(f"'{path}' has several armatures: {names}. Name one: --rig \"{path}:{armatures[0].name}\".")
    chosen = candidates[0]
    if chosen.name not in bpy.context.view_layer.objects:
        raise RigError(
            f"The armature '{chosen.name}' of '{path}' is in another scene or in a collection that is left out of the "
            "view layer. Open the file in Blender, go to the scene, show the collection, save, and try again."
        )
    return chosen
