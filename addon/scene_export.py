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
from typing import Any

import addon_utils
import bpy
import numpy as np

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


def _write_usd(path: Path, armature_object: bpy.types.Object) -> None:
    """A UsdSkel skeleton with its animation, and what it deforms."""
    with _alone(armature_object), _shown_by_a_mesh(armature_object):
        bpy.ops.wm.usd_export(
            filepath=str(path),
            **_known_to(
                bpy.ops.wm.usd_export,
                selected_objects_only=True,
                export_animation=True,
                export_armatures=True,
                only_deform_bones=False,
                export_meshes=True,
                export_lights=False,
                export_cameras=False,
                convert_world_material=False,
                # Names of bones and objects as they are, as far as USD has letters for them.
                allow_unicode=True,
                # Only the file itself is put into its place: textures stay where they are, and are named in full.
                # Blender 4.2 to 4.4 know the first of the two, later ones the second.
                export_textures=False,
                export_textures_mode="KEEP",
                relative_paths=False,
            ),
        )


def _known_to(operator: Any, **options: Any) -> dict[str, Any]:
    """Those of ``options`` that this Blender's operator has."""
    known = operator.get_rna_type().properties
    return {name: value for name, value in options.items() if name in known}


@contextmanager
def _shown_by_a_mesh(armature_object: bpy.types.Object) -> Iterator[None]:
    """Give an armature that deforms no mesh a figure of spindles, one a bone, for as long as the block runs.

    USD has a place for a skeleton only above the mesh that it moves (the SkelRoot); programs pass over one without.
    """
    if any(thing.type == "MESH" and _deformed(thing, armature_object) for thing in bpy.context.view_layer.objects):
        yield
        return
    mesh = bpy.data.meshes.new(f"{armature_object.name}_bones")
    figure = bpy.data.objects.new(mesh.name, mesh)
    try:
        bones = armature_object.data.bones
        corners = np.concatenate([_spindle(bone) for bone in bones])
        faces = np.array(_SPINDLE_FACES)[None] + len(_SPINDLE) * np.arange(len(bones))[:, None, None]
        mesh.from_pydata(corners.tolist(), [], faces.reshape(-1, 3).tolist())
        for index, bone in enumerate(bones):
            own = range(index * len(_SPINDLE), (index + 1) * len(_SPINDLE))
            figure.vertex_groups.new(name=bone.name).add(list(own), 1.0, "REPLACE")
        figure.parent = armature_object
        figure.modifiers.new("Armature", "ARMATURE").object = armature_object
        bpy.context.scene.collection.objects.link(figure)
        figure.select_set(True)
        yield
    finally:
        bpy.data.objects.remove(figure)
        bpy.data.meshes.remove(mesh)


# Along its bone (y) from 0 to 1: head, four corners, tail.
_SPINDLE = np.array([[0, 0, 0], [0.06, 0.12, 0], [0, 0.12, 0.06], [-0.06, 0.12, 0], [0, 0.12, -0.06], [0, 1, 0]])
_SPINDLE_FACES = [(0, 1, 2), (0, 2, 3), (0, 3, 4), (0, 4, 1), (5, 2, 1), (5, 3, 2), (5, 4, 3), (5, 1, 4)]


def _spindle(bone: bpy.types.Bone) -> np.ndarray:
    """(6, 3) corners in armature space."""
    armature_from_bone = np.array(bone.matrix_local)
    return _SPINDLE * bone.length @ armature_from_bone[:3, :3].T + armature_from_bone[:3, 3]


_EXPORTERS: dict[str, Exporter] = {
    ".blend": _write_blend,
    ".bvh": write_bvh,
    ".fbx": _write_fbx,
    ".glb": _write_glb,
    ".gltf": _write_gltf,
    ".usd": _write_usd,
    ".usda": _write_usd,
    ".usdc": _write_usd,
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
    return _deformed(mesh, armature_object) or mesh.parent == armature_object


def _deformed(mesh: bpy.types.Object, armature_object: bpy.types.Object) -> bool:
    return any(modifier.type == "ARMATURE" and modifier.object == armature_object for modifier in mesh.modifiers)
