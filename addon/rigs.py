"""Open the armature that a performance goes onto: a file's, or one that Blender makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import addon_utils
import bpy
from mathutils import Matrix

from ..core.errors import RigError
from ..rig_mapping.rig_address import split_rig_address
from .blender_chatter import unheard

RIGIFY_METARIG = "rigify_metarig"
# Plain, gzip (to 2.93) and zstd compressed .blend files begin so.
_BLEND_BEGINNINGS = (b"BLENDER", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


def open_rig(spec: str) -> bpy.types.Object:
    """Start from a fresh scene and bring in the rig. Whatever was open is gone, unsaved.

    spec: ``rigify_metarig``, or a .blend, .fbx, .glb, .gltf or .bvh file, ``:Object`` after it when it has several
          armatures. A rig that the .blend links from another file is made a library override.
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
    return animatable(_armature(path, wanted))


def animatable(armature_object: bpy.types.Object) -> bpy.types.Object:
    """The armature itself, or a new library override of it where it is linked and can't have keys of its own.

    Linked meshes that it deforms, and the rest of the linked collection that it came in, get overrides along with it,
    in the same place of the scene; the library's file is not touched. Local objects that were tied to the linked
    armature are tied to the override. Raises RigError when the armature is linked but not in the open view layer.
    """
    if armature_object.library is not None:
        armature_object = _overridden(armature_object)
    if armature_object.override_library is not None:
        # A system override is one that Blender may reset, and that nobody can edit by hand.
        armature_object.override_library.is_system_override = False
    data = armature_object.data
    if data.library is not None and data.pose_position == "REST":
        # The switch is the data's, and a linked one would be back in its rest position when the file is opened.
        data.override_create(remap_local_usages=True)
    return armature_object


def _make_metarig() -> bpy.types.Object:
    fresh_scene()
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


def fresh_scene() -> None:
    """Blender's own empty scene. Preferences stay: resetting them would unload this very extension."""
    with unheard():
        bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


def _open_blend(path: Path) -> None:
    with open(path, "rb") as file:
        beginning = file.read(8)
    if not beginning.startswith(_BLEND_BEGINNINGS):
        raise RigError(f"'{path}' is not a .blend file, or it is damaged. Save it again from Blender.")
    fresh_scene()

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
    fresh_scene()
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


def _overridden(linked: bpy.types.Object) -> bpy.types.Object:
    """A new override of a linked object, in the place where that is: in a collection, or within an instance of one."""
    scene, layer = bpy.context.scene, bpy.context.view_layer
    layer.update()
    before = set(bpy.data.objects)
    local = [each for each in (scene.collection, *scene.collection.children_recursive) if each.library is None]
    by_itself = any(linked in each.objects.values() for each in local)
    parent, collection = _linked_collection_of(linked, local)
    instancer = _instancer_of(linked)
    if by_itself:
        linked.override_hierarchy_create(scene, layer, do_fully_editable=False)
    elif parent is not None and collection is not None:
        made = collection.override_hierarchy_create(scene, layer, do_fully_editable=False)
        parent.children.unlink(collection)
        if made is not None and made not in parent.children_recursive:
            parent.children.link(made)
    elif instancer is not None:
        collection = instancer.instance_collection
        made = collection.override_hierarchy_create(scene, layer, reference=instancer, do_fully_editable=False)
    override_of = {
        thing.override_library.reference: thing
        for thing in bpy.data.objects
        if thing not in before and thing.override_library is not None
    }
    if linked not in override_of:
        raise RigError(
            f"'{linked.name}' is linked from '{linked.library.filepath}' and can't be animated here: Blender makes no "
            "library override of it. Link the collection that it is in and make an override of that "
            "(Object > Library Override > Make), or append the rig instead of linking it."
        )
    for each in local:
        for thing in each.objects.values():
            if override_of.get(thing) in each.objects.values():
                each.objects.unlink(thing)
    if not by_itself and instancer is not None and parent is None:
        _stand_in_for_instance(instancer, list(override_of.values()))
    _tie_to(override_of)
    layer.update()
    return override_of[linked]


def _linked_collection_of(
    linked: bpy.types.Object, local: list[bpy.types.Collection]
) -> tuple[bpy.types.Collection | None, bpy.types.Collection | None]:
    """The local collection, and in it the linked one, that ``linked`` came in."""
    for parent in local:
        for child in parent.children.values():
            if child.library is not None and linked in child.all_objects.values():
                return parent, child
    return None, None


def _instancer_of(linked: bpy.types.Object) -> bpy.types.Object | None:
    """The local empty in the view layer that shows the linked collection of ``linked``."""
    for thing in bpy.context.view_layer.objects.values():
        shown = thing.instance_collection if thing.instance_type == "COLLECTION" else None
        if thing.library is not None or shown is None or shown.library is None:
            continue
        if linked in shown.all_objects.values():
            return thing
    return None


def _stand_in_for_instance(instancer: bpy.types.Object, overrides: list[bpy.types.Object]) -> None:
    """Objects that take the place of what ``instancer`` has shown so far; they move along with it as ever."""
    offset = Matrix.Translation(-instancer.instance_collection.instance_offset)
    instancer.instance_type = "NONE"
    for thing in overrides:
        if thing.parent is None:
            thing.override_library.is_system_override = False
            basis = thing.matrix_basis.copy()
            thing.parent = instancer
            # In its own transform, because an override does not keep a parent inverse.
            thing.matrix_parent_inverse = Matrix.Identity(4)
            thing.matrix_basis = offset @ basis


def _tie_to(override_of: dict[bpy.types.Object, bpy.types.Object]) -> None:
    """Lead what local objects have to do with linked ones (parents, modifiers, constraints) to their overrides."""
    for thing in bpy.data.objects:
        if thing.library is not None or thing.override_library is not None:
            continue
        if thing.parent in override_of:
            thing.parent = override_of[thing.parent]
        pose_bones = thing.pose.bones if thing.pose else []
        ties = [*thing.modifiers, *thing.constraints, *(tie for bone in pose_bones for tie in bone.constraints)]
        for tie in ties:
            for role in ("object", "target"):
                if getattr(tie, role, None) in override_of:
                    setattr(tie, role, override_of[getattr(tie, role)])


def _armatures() -> list[bpy.types.Object]:
    """All by name, without those linked ones that have an override already."""
    overridden = {thing.override_library.reference for thing in bpy.data.objects if thing.override_library is not None}
    found = [thing for thing in bpy.data.objects if thing.type == "ARMATURE" and thing not in overridden]
    return sorted(found, key=lambda thing: thing.name)


def _armature(path: Path, wanted: str | None) -> bpy.types.Object:
    armatures = _armatures()
    names = ", ".join(f"'{armature.name}'" for armature in armatures)
    lost = [library.filepath for library in bpy.data.libraries if not _exists(library)]
    if not armatures and lost:
        raise RigError(
            f"'{path}' links its objects from '{lost[0]}', which is not there. Put that file into its place, or open "
            f"'{path.name}' in Blender and correct the path (File > External Data)."
        )
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
    if chosen not in bpy.context.view_layer.objects.values() and not (chosen.library and _instancer_of(chosen)):
        raise RigError(
            f"The armature '{chosen.name}' of '{path}' is in another scene or in a collection that is left out of the "
            "view layer. Open the file in Blender, go to the scene, show the collection, save, and try again."
        )
    return chosen


def _exists(library: bpy.types.Library) -> bool:
    return Path(bpy.path.abspath(library.filepath, library=library.parent)).exists()
