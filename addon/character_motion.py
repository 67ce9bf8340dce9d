"""What animated characters do, as landmarks: approved takes are motion that a lifter can learn from.

Every action is played by a copy of the armature in a scene of its own, a frame at a time, as Blender itself would play
it, so inverse kinematics, constraints and drivers count. What is open stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import addon_utils
import bpy
import numpy as np
from mathutils import Matrix

from ..core.errors import RigError
from ..core.progress import Progress, report, silent
from ..core.skeletons import LANDMARKS_41
from ..rig_mapping.bone_map import load_bone_map
from ..rig_mapping.rig_landmarks import ReadableBody, landmarks_of, readable_body
from .action_writing import actions_have_slots
from .armature_reading import read_rest_pose
from .blender_chatter import unheard

READABLE = (".blend", ".fbx", ".glb", ".gltf", ".bvh")
MAX_FRAMES_OF_ACTION = 200_000
MAX_ACTIONS = 2000

# Files of these kinds say times in seconds alone; so many frames a second miss nothing of what a body does.
_FPS_OF_SECONDS = 60
_SHORTEST_S = 0.5
# An action that moves no landmark by more than this part of the shank, seen from the hips, poses and does not act.
_STILL = 0.02
# An action is of a rig when it animates at least so many of its bones, and few that it does not have.
_FEWEST_BONES, _OWN_SHARE = 3, 0.7
_Y_UP_FROM_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
_BLEND_BEGINNINGS = (b"BLENDER", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")


@dataclass(frozen=True, eq=False)
class CharacterClip:
    """One action. positions_m: (F, 41, 3) ``LANDMARKS_41``, metres as the scene has them, y up."""

    name: str
    positions_m: np.ndarray
    fps: float


@dataclass(frozen=True, eq=False)
class CharacterMotion:
    """What one armature does. notes: what was passed over, and why."""

    armature: str
    clips: tuple[CharacterClip, ...]
    notes: tuple[str, ...] = ()


def read_character_motion(
    path: Path, armature: str | None = None, bone_map: str = "auto", progress: Progress = silent
) -> CharacterMotion:
    """All that an armature of a file does; what is open in Blender is not touched, and no script of the file runs.

    path:     a .blend, .fbx, .glb, .gltf or .bvh file
    armature: which one, when there are several
    bone_map: "auto", a preset's name or a file

    Raises RigError when the file can't be read, has no such armature, or that makes no body or does nothing.
    """
    if path.suffix.lower() not in READABLE:
        raise RigError(f"'{path}' holds no character: give a {', '.join(READABLE[:-1])} or {READABLE[-1]} file.")
    if not path.is_file():
        raise RigError(f"There is no file '{path}'. Check the path.")
    if bpy.data.filepath and Path(bpy.data.filepath).resolve() == path.resolve():
        named = {thing.name: thing for thing in bpy.data.objects if thing.type == "ARMATURE"}
        return motion_of_armature(_chosen(path, named, armature), bone_map, progress)
    with _nothing_left_behind(), _without_scripts():
        named, scene = _brought_in(path)
        return _motion_of(_chosen(path, named, armature), scene, bone_map, str(path), progress)


def motion_of_armature(
    armature_object: bpy.types.Object, bone_map: str = "auto", progress: Progress = silent
) -> CharacterMotion:
    """All that an armature of the open file does. Raises RigError as ``read_character_motion`` does."""
    scenes = [*armature_object.users_scene, bpy.context.scene]
    with _nothing_left_behind():
        return _motion_of(armature_object, scenes[0], bone_map, armature_object.name, progress)


# ---- Coming and going without a trace -------------------------------------------------------------------------------


def _every_id() -> Iterator[bpy.types.ID]:
    for described in bpy.types.BlendData.bl_rna.properties:
        if described.type == "COLLECTION":
            yield from getattr(bpy.data, described.identifier)


@contextmanager
def _nothing_left_behind() -> Iterator[None]:
    """What came into the open file meanwhile is taken out of it."""
    before = {thing.session_uid for thing in _every_id()}
    window = bpy.context.window
    scene = window.scene if window else None
    try:
        yield
    finally:
        if window and scene and window.scene != scene:
            window.scene = scene
        bpy.data.batch_remove([thing for thing in _every_id() if thing.session_uid not in before])


@contextmanager
def _without_scripts() -> Iterator[None]:
    """Drivers of files from elsewhere are evaluated without running Python."""
    paths = bpy.context.preferences.filepaths
    allowed, has_unsaved = paths.use_scripts_auto_execute, bpy.context.preferences.is_dirty
    paths.use_scripts_auto_execute = False
    try:
        yield
    finally:
        paths.use_scripts_auto_execute = allowed
        bpy.context.preferences.is_dirty = has_unsaved


def _brought_in(path: Path) -> tuple[dict[str, bpy.types.Object], bpy.types.Scene]:
    """The armatures of a file by name, and the scene that says how fast it plays and how large a unit is."""
    ending = path.suffix.lower()
    try:
        with unheard():
            return _appended(path) if ending == ".blend" else _imported(path, ending)
    except RigError:
        raise
    except Exception as problem:
        # The importers let any kind of exception out on a damaged file: struct.error, KeyError, RuntimeError ...
        reason = str(problem).strip().splitlines()
        raise RigError(
            f"'{path}' can't be read: {reason[-1] if reason else type(problem).__name__}. "
            "It may be damaged, or from a newer program; open it in Blender and save it again."
        ) from problem


def _appended(path: Path) -> tuple[dict[str, bpy.types.Object], bpy.types.Scene]:
    with open(path, "rb") as file:
        if not file.read(8).startswith(_BLEND_BEGINNINGS):
            raise RigError(f"'{path}' is not a .blend file, or it is damaged. Save it again from Blender.")
    with bpy.data.libraries.load(str(path.resolve()), link=False) as (held, wanted):
        names = list(held.objects)
        wanted.scenes, wanted.objects, wanted.actions = list(held.scenes), list(held.objects), list(held.actions)
    pairs = zip(names, wanted.objects, strict=True)
    armatures = {name: thing for name, thing in pairs if thing is not None and thing.type == "ARMATURE"}
    scenes = [scene for scene in wanted.scenes if scene is not None]
    if not scenes:
        scenes = [bpy.data.scenes.new("Keylift")]
    with_armature = [scene for scene in scenes if any(thing in armatures.values() for thing in scene.objects)]
    return armatures, (with_armature or scenes)[0]


def _imported(path: Path, ending: str) -> tuple[dict[str, bpy.types.Object], bpy.types.Scene]:
    addon, importing = _IMPORTERS[ending]
    _, enabled_before = addon_utils.check(addon)
    if addon_utils.enable(addon, default_set=False) is None:
        raise RigError(f"This Blender can't read {path.suffix} files. Save the character as a .blend file.")
    scene = bpy.data.scenes.new("Keylift")
    scene.render.fps, scene.render.fps_base = _FPS_OF_SECONDS, 1.0
    before = {thing.session_uid for thing in bpy.data.objects}
    window = bpy.context.window
    try:
        if window:
            window.scene = scene
            importing(str(path.resolve()))
        else:
            layer = scene.view_layers[0]
            with bpy.context.temp_override(scene=scene, view_layer=layer, collection=scene.collection):
                importing(str(path.resolve()))
    finally:
        if not enabled_before:
            addon_utils.disable(addon, default_set=False)
    new = [thing for thing in bpy.data.objects if thing.session_uid not in before]
    return {thing.name: thing for thing in new if thing.type == "ARMATURE"}, scene


def _import_bvh(file: str) -> None:
    bpy.ops.import_anim.bvh(filepath=file, update_scene_fps=True, update_scene_duration=True)


_IMPORTERS: dict[str, tuple[str, Callable[[str], object]]] = {
    ".fbx": ("io_scene_fbx", lambda file: bpy.ops.import_scene.fbx(filepath=file)),
    ".glb": ("io_scene_gltf2", lambda file: bpy.ops.import_scene.gltf(filepath=file)),
    ".gltf": ("io_scene_gltf2", lambda file: bpy.ops.import_scene.gltf(filepath=file)),
    ".bvh": ("io_anim_bvh", _import_bvh),
}


def _chosen(path: Path, armatures: dict[str, bpy.types.Object], wanted: str | None) -> bpy.types.Object:
    names = ", ".join(f"'{name}'" for name in sorted(armatures))
    if not armatures:
        raise RigError(f"'{path}' has no armature, so no character whose motion could be read.")
    if wanted is not None and wanted not in armatures:
        raise RigError(f"'{path}' has no armature '{wanted}'; it has {names}.")
    if wanted is None and len(armatures) > 1:
        raise RigError(f"'{path}' has several armatures: {names}. Name the one to read.")
    return armatures[wanted] if wanted is not None else next(iter(armatures.values()))


# ---- Playing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Part:
    """Something to play: an action with its slot, or, without an action, the strips of the NLA."""

    name: str
    action: Any
    slot: Any
    first: int
    last: int


def _motion_of(
    original: bpy.types.Object, scene: bpy.types.Scene, bone_map: str, where: str, progress: Progress
) -> CharacterMotion:
    body = readable_body(read_rest_pose(original), None if bone_map == "auto" else load_bone_map(bone_map))
    stage = bpy.data.scenes.new("Keylift")
    _take_over(scene, stage)
    player = original.copy()
    stage.collection.objects.link(player)
    saved = {bone.name: bone.matrix_basis.copy() for bone in original.pose.bones}
    active = original.animation_data.action if original.animation_data else None
    parts = list(_parts(player, body))
    if not parts:
        raise RigError(f"The armature '{original.name}' of '{where}' has no action: it does nothing to learn from.")
    fps = stage.render.fps / stage.render.fps_base
    clips, notes = [], []
    frames = sum(part.last - part.first + 1 for part in parts)
    done = 0
    for part in parts:
        length = part.last - part.first + 1
        if length < _SHORTEST_S * fps or length > MAX_FRAMES_OF_ACTION:
            notes.append(f"'{part.name}' is passed over: it has {length} frames.")
        else:
            # What an action does not key stays as it was saved with the one that was playing, else at rest.
            for bone in player.pose.bones:
                bone.matrix_basis = saved[bone.name] if part.action in (active, None) else Matrix.Identity(4)
            positions = _played(player, stage, body, part, done, frames, progress)
            if _is_still(positions):
                notes.append(f"'{part.name}' is passed over: it is a pose and no motion.")
            elif not np.isfinite(positions).all():
                notes.append(f"'{part.name}' is passed over: its bones are scaled to nothing or out of all measure.")
            else:
                clips.append(CharacterClip(part.name, positions, fps))
        done += length
    if not clips:
        raise RigError(f"The armature '{original.name}' of '{where}' does nothing to learn from. {' '.join(notes)}")
    return CharacterMotion(original.name, tuple(clips), tuple(notes))


def _is_still(positions_m: np.ndarray) -> bool:
    # Against the body's own size: nobody knows yet what a unit of the scene is.
    knee, ankle = (positions_m[:, LANDMARKS_41.index(name)] for name in ("l_knee", "l_ankle"))
    shank = float(np.median(np.linalg.norm(knee - ankle, axis=-1)))
    return bool(np.ptp(positions_m - positions_m[:, :1], axis=0).max() < _STILL * shank)


def _take_over(scene: bpy.types.Scene, stage: bpy.types.Scene) -> None:
    """How fast the scene plays, and how large its units are."""
    stage.render.fps, stage.render.fps_base = scene.render.fps, scene.render.fps_base
    stage.render.frame_map_old, stage.render.frame_map_new = scene.render.frame_map_old, scene.render.frame_map_new
    stage.unit_settings.system = scene.unit_settings.system
    stage.unit_settings.scale_length = scene.unit_settings.scale_length


def _parts(player: bpy.types.Object, body: ReadableBody) -> Iterator[_Part]:
    """Every action that is of the armature, and the NLA where it has strips."""
    data = player.animation_data
    active = data.action if data is not None else None
    found = 0
    for action in bpy.data.actions:
        slot, bones = _slot_of(action, player)
        if action != active and (len(bones) < _FEWEST_BONES or _own_share(bones, player) < _OWN_SHARE):
            continue
        if found == MAX_ACTIONS:
            return
        found += 1
        first, last = action.frame_range
        yield _Part(action.name, action, slot, int(np.floor(first)), int(np.ceil(last)))
    strips = [] if data is None else [strip for track in data.nla_tracks if not track.mute for strip in track.strips]
    if strips:
        first, last = min(strip.frame_start for strip in strips), max(strip.frame_end for strip in strips)
        yield _Part("NLA", None, None, int(np.floor(first)), int(np.ceil(last)))


def _own_share(bones: set[str], player: bpy.types.Object) -> float:
    return sum(bone in player.pose.bones for bone in bones) / len(bones)


def _slot_of(action: bpy.types.Action, player: bpy.types.Object) -> tuple[Any, set[str]]:
    """The slot of the action that fits the armature best (4.4 on), and the bones that its curves name."""
    if not actions_have_slots():
        return None, _bones_of(action.fcurves)
    best: tuple[Any, set[str]] = (None, set())
    for slot in action.slots:
        if slot.target_id_type not in ("OBJECT", "UNSPECIFIED"):
            continue
        bags = [strip.channelbag(slot) for layer in action.layers for strip in layer.strips]
        bones = {bone for bag in bags if bag is not None for bone in _bones_of(bag.fcurves)}
        own = {bone for bone in bones if bone in player.pose.bones}
        if best[0] is None or len(own) > len({bone for bone in best[1] if bone in player.pose.bones}):
            best = (slot, bones)
    return best


def _bones_of(curves: Any) -> set[str]:
    names = set()
    for curve in curves:
        if curve.data_path.startswith('pose.bones["') and '"]' in curve.data_path:
            names.add(curve.data_path[len('pose.bones["') :].split('"]', 1)[0])
    return names


def _played(
    player: bpy.types.Object,
    stage: bpy.types.Scene,
    body: ReadableBody,
    part: _Part,
    done: int,
    total: int,
    progress: Progress,
) -> np.ndarray:
    """(F, 41, 3) metres, y up, of one part played from its first frame to its last."""
    data = player.animation_data or player.animation_data_create()
    data.use_nla = part.action is None
    data.action = part.action
    if part.slot is not None:
        # Assigning an action may pick no slot, or another's.
        data.action_slot = part.slot
    layer = stage.view_layers[0]
    layer.update()
    order = [player.pose.bones.find(name) for name in body.rest.names]
    count = part.last - part.first + 1
    posed = np.empty((count, len(order), 4, 4))
    world = np.empty((count, 4, 4))
    values = np.empty(16 * len(player.pose.bones), np.float32)
    for index in range(count):
        stage.frame_set(part.first + index)
        now = player.evaluated_get(layer.depsgraph)
        now.pose.bones.foreach_get("matrix", values)
        # Blender keeps matrices column by column.
        posed[index] = values.reshape(-1, 4, 4)[order].swapaxes(-1, -2)
        world[index] = np.array(now.matrix_world)
        report(progress, done + index + 1, total)
    landmarks = landmarks_of(body.rest, body.bone_map, posed)
    in_world = np.einsum("fij,fkj->fki", world[:, :3, :3], landmarks) + world[:, None, :3, 3]
    metres = stage.unit_settings.scale_length if stage.unit_settings.system != "NONE" else 1.0
    return np.asarray(metres * in_world @ _Y_UP_FROM_Z_UP.T)
