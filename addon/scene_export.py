"""Write the open scene, or the animated rig out of it, to a file of any of the kinds that other programs read."""

from __future__ import annotations

import base64
import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import addon_utils
import bpy

from ..core.errors import OutputError, TryAgainError
from ..core.output_files import explain_write_failure, written_whole
from .blender_chatter import unheard
from .bvh_writing import write_bvh

# Head of the last block, which is empty: 24 bytes, 32 from Blender 5.0 on.
_BLEND_TAIL_BYTES = 32
_NEXT_TO_NOTHING_BYTES = 1 << 20

Exporter = Callable[[Path, bpy.types.Object], None]


def exporter(path: Path) -> Exporter:
    """What writes the kind of file that ``path`` names. Raises OutputError when nothing does."""
    ending = path.suffix.lower()
    if ending not in _EXPORTERS:
        raise OutputError(
            f"'{path}' has an ending that can't be written. Choose one of: {', '.join(sorted(_EXPORTERS))}."
        )
    return _EXPORTERS[ending]


def export(path: Path, armature_object: bpy.types.Object) -> None:
    """Write ``path`` whole or not at all. Raises OutputError when it can't be written."""
    write = exporter(path)
    with written_whole(path) as beside:
        try:
            with unheard():
                write(beside, armature_object)
        except RuntimeError as problem:
            raise _explained(path, str(problem)) from problem
        if not beside.exists():
            raise OutputError(f"Blender wrote nothing to '{path}'. Choose another place with -o.")


def _explained(path: Path, report: str) -> OutputError | TryAgainError:
    """The error for an operator's report: "Error: Cannot open file", or the whole traceback of an exporter."""
    # Blender's own report may blame what it could not clean up afterwards.
    full = shutil.disk_usage(path.resolve().parent).free < _NEXT_TO_NOTHING_BYTES
    if full or os.strerror(errno.ENOSPC) in report:
        return explain_write_failure(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    lines = [line for line in report.strip().splitlines() if not line.startswith("Location:")]
    return OutputError(f"Blender could not write '{path}': {lines[-1] if lines else 'it does not say why'}")


def _write_blend(path: Path, _armature_object: bpy.types.Object) -> None:
    # The file is renamed into its place after this: paths in it must not be turned relative to where it is now.
    bpy.ops.wm.save_as_mainfile(
        filepath=str(path), copy=True, relative_remap=False, check_existing=False, compress=False
    )
    # On a disk that fills up meanwhile Blender stops writing and says nothing. A whole file ends with an end mark.
    with path.open("rb") as file:
        file.seek(-min(_BLEND_TAIL_BYTES, path.stat().st_size), os.SEEK_END)
        if b"ENDB" not in file.read():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write_fbx(path: Path, armature_object: bpy.types.Object) -> None:
    _enable("io_scene_fbx", path)
    with _alone(armature_object):
        bpy.ops.export_scene.fbx(
            filepath=str(path),
            use_selection=True,
            object_types={"ARMATURE", "MESH"},
            add_leaf_bones=False,
            bake_anim=True,
            bake_anim_use_nla_strips=False,
            bake_anim_use_all_actions=False,
            bake_anim_simplify_factor=0.0,
        )


def _write_glb(path: Path, armature_object: bpy.types.Object) -> None:
    _enable("io_scene_gltf2", path)
    with _alone(armature_object):
        bpy.ops.export_scene.gltf(
            filepath=str(path),
            export_format="GLB",
            use_selection=True,
            export_animations=True,
            export_animation_mode="ACTIVE_ACTIONS",
            export_force_sampling=True,
            export_frame_range=True,
        )


def _write_gltf(path: Path, armature_object: bpy.types.Object) -> None:
    """One file with its data inside: a .bin beside it could not be put into its place at the same moment."""
    binary = path.with_name(path.name + ".glb")
    _write_glb(binary, armature_object)
    content = binary.read_bytes()
    json_bytes = int.from_bytes(content[12:16], "little")
    table = json.loads(content[20 : 20 + json_bytes])
    # After the JSON chunk comes the one with the numbers: its length, its kind, then the data (glTF 2.0, 4.4).
    numbers = content[20 + json_bytes + 8 :]
    if table.get("buffers"):
        table["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(numbers).decode()
    path.write_text(json.dumps(table), encoding="utf-8")


_EXPORTERS: dict[str, Exporter] = {
    ".blend": _write_blend,
    ".bvh": write_bvh,
    ".fbx": _write_fbx,
    ".glb": _write_glb,
    ".gltf": _write_gltf,
}


def _enable(addon: str, path: Path) -> None:
    if addon_utils.enable(addon, default_set=False) is None:
        raise OutputError(f"This Blender can't write {path.suffix} files. Choose another ending with -o.")


@contextmanager
def _alone(armature_object: bpy.types.Object) -> Iterator[None]:
    """Only the armature and the meshes that it deforms or carries selected, shown and active."""
    layer = bpy.context.view_layer
    wanted = [armature_object]
    wanted += [thing for thing in bpy.data.objects if thing.type == "MESH" and _follows(thing, armature_object)]
    wanted = [thing for thing in wanted if thing.name in layer.objects]
    hidden = [thing for thing in wanted if thing.hide_get()]
    shut = [thing for thing in wanted if thing.hide_viewport]
    selected, active = [thing for thing in layer.objects if thing.select_get()], layer.objects.active
    for thing in selected:
        thing.select_set(False)
    for thing in shut:
        thing.hide_viewport = False
    for thing in hidden:
        thing.hide_set(False)
    for thing in wanted:
        thing.select_set(True)
    layer.objects.active = armature_object
    try:
        yield
    finally:
        for thing in wanted:
            thing.select_set(thing in selected)
        for thing in hidden:
            thing.hide_set(True)
        for thing in shut:
            thing.hide_viewport = True
        for thing in selected:
            thing.select_set(True)
        layer.objects.active = active


def _follows(mesh: bpy.types.Object, armature_object: bpy.types.Object) -> bool:
    deformed = any(modifier.type == "ARMATURE" and modifier.object == armature_object for modifier in mesh.modifiers)
    return deformed or mesh.parent == armature_object
