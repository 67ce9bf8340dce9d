"""A plain figure that moves as the person does, to look at before any character is chosen.

It is a mannequin around an armature of its own: left is blue, right is orange, the middle grey, as in the preview film
of the shell. A part of the body turns pale and pink where the lifter is unsure of it: paleness is what tells, so that
eyes that don't tell red from green see it as well. While a foot stands, a mark lies on the floor under it, and markers
on the timeline say when it comes down and lifts off.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np

from ..core.errors import RigError
from ..core.segments import SEGMENTS
from ..core.skeletons import LANDMARKS_41
from ..core.tracks import PoseTrack
from ..core.world_alignment import STANDING_HEIGHT_M
from ..rig_mapping.bone_map import BoneMap
from ..rig_mapping.bone_motion import BoneMotion, fk, location_at
from ..rig_mapping.own_skeleton import bone_name, own_skeleton
from ..rig_mapping.rest_pose import RestPose
from ..rig_mapping.solve import RetargetOptions, solve
from .action_writing import CONSTANT, AnimatedCurves, actions_have_slots, drop_action
from .armature_reading import read_rest_pose
from .contact_markers import remove_contact_markers, write_contact_markers
from .figure_shape import LOOKS, Part, body_parts, footprint
from .footage_choice import FIGURE_MARK
from .keyframe_writing import frame_numbers, write_keyframes
from .own_collection import own_collection, remove_if_empty
from .skeleton_armature import unplaced_armature

# sRGB. Okabe and Ito's blue and vermilion, as in core.preview, told apart by colour-blind eyes; lighter than there,
# since the shading of a view takes a good part of it away.
LEFT, RIGHT, MIDDLE = (40, 142, 212), (238, 118, 34), (145, 145, 145)
UNSURE = (255, 205, 215)
# Expected to be 7 cm off and less, a part has its own colour; at 23 cm and more it is as pale as can be.
_SURE, _DOUBTFUL = 0.5, 0.1
# A tenth of the way to the pale colour can just be seen. Takes of any length get along with so many keys a part.
COLOUR_STEP = 0.04
MOST_COLOUR_KEYS = 1000
# A joint that one rigid body would put farther off gets location keys of its own (poses lifted without a fit).
_OFF_M = 0.0005
# A person whose bones differ by less is the same one, lifted again.
_SAME_BONES_M = 0.01
_ABOVE_FLOOR_M = 0.003
_PART_MARK = "keylift_figure_part"
_MARKERS_MARK = "keylift_figure_markers"
_BODY = "body"
_FEET = (("left", "l", (0, 1)), ("right", "r", (2, 3)))


def make_figure(
    pose: PoseTrack,
    *,
    name: str,
    fps: float,
    first_frame: float,
    scene: bpy.types.Scene,
    collection: bpy.types.Collection | None = None,
    markers: bool = True,
) -> bpy.types.Object:
    """Add a figure that moves as ``pose`` to the scene, as large as the person, and return its armature.

    fps:         frames a second that keys are written for
    first_frame: frame of the scene that the pose's first one belongs to
    collection:  where it goes; None = the scene's collection "Keylift"
    markers:     mark on the timeline when feet come down and lift off
    What is selected, active, and edited stays so. Raises RigError for a pose of another skeleton.
    """
    rest, bone_map = _skeleton_of(pose)
    armature = unplaced_armature(replace(rest, name=name))
    (collection or own_collection(scene)).objects.link(armature)
    armature[FIGURE_MARK] = True
    # The bones are inside the body, there for whoever looks for them.
    armature.data.display_type = "STICK"
    _add_body(armature, rest)
    for side, _, _ in _FEET:
        _add_print(armature, side)
    _animate(armature, rest, bone_map, pose, scene, fps, first_frame, markers)
    return armature


def update_figure(
    figure: bpy.types.Object, pose: PoseTrack, *, fps: float, first_frame: float, markers: bool = True
) -> bpy.types.Object:
    """Let a figure move as ``pose``: new keys, colours and marks in place of the old ones. Returns the figure.

    Whatever is missing of it is made anew, and its proportions follow those of the person if they have changed. Raises
    RigError for an object that is no figure, or a pose of another skeleton.
    """
    if FIGURE_MARK not in figure or figure.type != "ARMATURE":
        raise RigError(f"'{figure.name}' is no figure of Keylift's. Choose one, or let a new one be made.")
    if not figure.users_scene:
        raise RigError(f"The figure '{figure.name}' is in no scene. Let a new one be made.")
    scene = figure.users_scene[0]
    rest, bone_map = _skeleton_of(pose)
    present = replace(read_rest_pose(figure), world_from_armature=np.eye(4))
    if _same_bones(rest, present):
        # Where it has been moved to, and how it is posed by hand, is not how it was made.
        rest = replace(present, basis=np.tile(np.eye(4), (len(present), 1, 1)))
    else:
        _rebuild(figure, rest)
    if _child(figure, _BODY) is None:
        _add_body(figure, rest)
    for side, _, _ in _FEET:
        if _child(figure, _print_name(side)) is None:
            _add_print(figure, side)
    _animate(figure, rest, bone_map, pose, scene, fps, first_frame, markers)
    return figure


def remove_figure(figure: bpy.types.Object | str) -> None:
    """Take a figure out of the file with all that belongs to it. Nothing happens when there is none of that name."""
    found = bpy.data.objects.get(figure) if isinstance(figure, str) else figure
    if found is None or FIGURE_MARK not in found or found.type != "ARMATURE":
        return
    scenes = list(found.users_scene)
    for scene in scenes:
        remove_contact_markers(scene, found.get(_MARKERS_MARK, found.name))
    for child in [child for child in found.children if _PART_MARK in child]:
        _remove_mesh(child)
    _drop_actions([found])
    data = found.data
    bpy.data.objects.remove(found)
    if not data.users:
        bpy.data.armatures.remove(data)
    for scene in scenes:
        remove_if_empty(scene)


# ---- The armature and its motion ------------------------------------------------------------------------------------


def _skeleton_of(pose: PoseTrack) -> tuple[RestPose, BoneMap]:
    if pose.skeleton.names != LANDMARKS_41.names:
        raise RigError("The pose has other joints than Keylift's 41 landmarks. Lift its footage again.")
    return own_skeleton(pose)


def _rebuild(figure: bpy.types.Object, rest: RestPose) -> None:
    """Give the figure other bones and another body; as an object it stays what it is."""
    other = unplaced_armature(replace(rest, name=figure.name))
    old, figure.data = figure.data, other.data
    figure.data.display_type = "STICK"
    bpy.data.objects.remove(other)
    if not old.users:
        bpy.data.armatures.remove(old)
    body = _child(figure, _BODY)
    if body is not None:
        _remove_mesh(body)


def _same_bones(rest: RestPose, present: RestPose) -> bool:
    if set(rest.names) != set(present.names):
        return False
    order = [present.names.index(name) for name in rest.names]
    differences = rest.heads - present.heads[order]
    # How high the floor is has moved the bones all alike.
    return bool(np.abs(differences - differences[0]).max() < _SAME_BONES_M)


def _animate(
    figure: bpy.types.Object,
    rest: RestPose,
    bone_map: BoneMap,
    pose: PoseTrack,
    scene: bpy.types.Scene,
    fps: float,
    first_frame: float,
    markers: bool,
) -> None:
    motion = _as_lifted(pose, rest, bone_map)
    _drop_actions([figure])
    for bone in figure.pose.bones:
        # What no key holds would stay as an earlier take or somebody's hand left it.
        bone.matrix_basis.identity()
    write_keyframes(figure, rest, motion, figure.name, fps=fps, first_frame=first_frame)
    frames = frame_numbers(motion, fps, first_frame)
    _write_looks(figure, pose, motion, frames)
    remove_contact_markers(scene, figure.get(_MARKERS_MARK, figure.name))
    if markers:
        write_contact_markers(scene, figure, motion, frames)
        # Known again by the name that they have, whatever the figure is called by then.
        figure[_MARKERS_MARK] = figure.name


def _as_lifted(pose: PoseTrack, rest: RestPose, bone_map: BoneMap) -> BoneMotion:
    """The motion with every joint where the pose has it: no floor, no feet and no proportions have a say."""
    turned = solve(pose, rest, bone_map, RetargetOptions(plant_feet=False))
    posed = fk(rest, turned)
    joints = {bone_name(segment.name): LANDMARKS_41.index(segment.joint) for segment in SEGMENTS}
    wanted = pose.positions_world_m()
    locations: dict[int, np.ndarray] = {}
    for bone, parent in enumerate(rest.parents):
        place = wanted[:, joints[rest.names[bone]]]
        if parent >= 0:
            from_parent = np.linalg.inv(rest.armature_from_bone[parent]) @ rest.armature_from_bone[bone]
            carried = posed[:, parent, :3, 3] + posed[:, parent, :3, :3] @ from_parent[:3, 3]
            if np.abs(carried - place).max() < _OFF_M:
                posed[:, bone, :3, 3] = carried
                continue
        locations[bone] = location_at(rest, bone, posed[:, parent] if parent >= 0 else None, place)
        posed[:, bone, :3, 3] = place
    root = turned.root_bone
    moved = (root, *(bone for bone in locations if bone != root))
    return replace(turned, moved=moved, locations=np.stack([locations[bone] for bone in moved], axis=1))


# ---- The body -------------------------------------------------------------------------------------------------------


def _child(figure: bpy.types.Object, part: str) -> bpy.types.Object | None:
    return next((child for child in figure.children if child.get(_PART_MARK) == part), None)


def _print_name(side: str) -> str:
    return f"{side} footprint"


def _add_child(figure: bpy.types.Object, part: str, mesh: bpy.types.Mesh) -> bpy.types.Object:
    child = bpy.data.objects.new(mesh.name, mesh)
    child[_PART_MARK] = part
    child[FIGURE_MARK] = True
    child.parent = figure
    for holder in figure.users_collection:
        holder.objects.link(child)
    return child


def _add_body(figure: bpy.types.Object, rest: RestPose) -> None:
    parts = body_parts(rest)
    looks = list(LOOKS)
    starts = np.cumsum([0, *(len(part.verts) for part in parts)])
    faces = [
        tuple(vertex + int(start) for vertex in face)
        for part, start in zip(parts, starts, strict=False)
        for face in part.faces
    ]
    mesh = bpy.data.meshes.new(f"{figure.name}: {_BODY}")
    mesh.from_pydata(np.concatenate([part.verts for part in parts]).tolist(), [], faces)
    for look in looks:
        mesh.materials.append(_material(figure, look, _own_colour(look)))
    which = np.concatenate([np.full(len(part.faces), looks.index(part.look), np.int32) for part in parts])
    mesh.polygons.foreach_set("material_index", which)
    mesh.polygons.foreach_set("use_smooth", np.ones(len(which), bool))
    mesh.update()
    body = _add_child(figure, _BODY, mesh)
    _bind(body, figure, parts, starts)


def _bind(body: bpy.types.Object, figure: bpy.types.Object, parts: list[Part], starts: np.ndarray) -> None:
    """Let every part go with its bone, stiffly."""
    for part, start in zip(parts, starts, strict=False):
        group = body.vertex_groups.get(part.bone) or body.vertex_groups.new(name=part.bone)
        group.add(list(range(int(start), int(start) + len(part.verts))), 1.0, "REPLACE")
    modifier: Any = body.modifiers.new("Armature", "ARMATURE")
    modifier.object = figure


def _add_print(figure: bpy.types.Object, side: str) -> None:
    mesh = bpy.data.meshes.new(f"{figure.name}: {_print_name(side)}")
    verts, faces = footprint()
    mesh.from_pydata(verts.tolist(), [], faces)
    mesh.update()
    mesh.materials.append(_material(figure, _print_name(side), _mixed(_own_colour(side), (255, 255, 255), 0.45)))
    _add_child(figure, _print_name(side), mesh)


def _material(figure: bpy.types.Object, look: str, colour: tuple[float, ...]) -> bpy.types.Material:
    """A plain material, for the Solid view and for renders."""
    material = bpy.data.materials.new(f"{figure.name}: {look}")
    material[_PART_MARK] = look
    material.use_nodes = True
    material.roughness = 0.7
    shader = _shader(material)
    if shader is not None:
        shader.inputs["Roughness"].default_value = 0.7
    _set_colour(material, colour)
    return material


def _shader(material: bpy.types.Material) -> Any:
    """The node that makes the colour in renders; an artist may have taken it away."""
    tree = material.node_tree
    return None if tree is None else next((node for node in tree.nodes if node.type == "BSDF_PRINCIPLED"), None)


def _set_colour(material: bpy.types.Material, colour: tuple[float, ...]) -> None:
    linear = (*_linear(np.array(colour)), 1.0)
    material.diffuse_color = linear
    shader = _shader(material)
    if shader is not None:
        shader.inputs[0].default_value = linear


def _remove_mesh(thing: bpy.types.Object) -> None:
    """Take a mesh object of ours out of the file, with its materials and their keys."""
    mesh = thing.data
    materials = [material for material in mesh.materials if material is not None and _PART_MARK in material]
    _drop_actions([thing])
    bpy.data.objects.remove(thing)
    if not mesh.users:
        bpy.data.meshes.remove(mesh)
    for material in materials:
        if not material.users:
            _drop_actions([material, material.node_tree])
            bpy.data.materials.remove(material)


# ---- What it looks like over time -----------------------------------------------------------------------------------


def _own_colour(look: str) -> tuple[float, ...]:
    return {"left": LEFT, "right": RIGHT}.get(look.partition(" ")[0], MIDDLE)


def _mixed(colour: tuple[float, ...], other: tuple[float, ...], share: float) -> tuple[float, ...]:
    return tuple(a + (b - a) * share for a, b in zip(colour, other, strict=True))


def _linear(srgb: np.ndarray) -> np.ndarray:
    """(..., 3) as written, 0 to 255 -> as Blender wants colours: linear, 0 to 1."""
    value = srgb / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def doubt_of(pose: PoseTrack, look: str) -> np.ndarray:
    """(F,) how unsure the lifter is of a part of the body: 0 = it has its own colour, 1 = it is as pale as can be."""
    confidence = pose.confidence[:, LANDMARKS_41.indices(*LOOKS[look])].min(axis=1)
    return np.clip((_SURE - confidence) / (_SURE - _DOUBTFUL), 0.0, 1.0)


def colour_keys(doubt: np.ndarray) -> list[int]:
    """The frames at which a colour must be keyed for its changes to be seen, at most ``MOST_COLOUR_KEYS``.

    Between them the doubt is within three steps of what the keys make of it; a step is more than ``COLOUR_STEP`` only
    where there would be too many.
    """
    step, values = COLOUR_STEP, doubt.tolist()
    while True:
        keys, held = [0], values[0]
        for frame, value in enumerate(values):
            if abs(value - held) > step:
                if frame - 1 > keys[-1] and abs(value - values[frame - 1]) > step:
                    # Without a key right before it, a jump would creep up from the one before that.
                    keys.append(frame - 1)
                keys.append(frame)
                held = value
        if len(keys) <= MOST_COLOUR_KEYS:
            return keys
        step *= 1.5


def _write_looks(figure: bpy.types.Object, pose: PoseTrack, motion: BoneMotion, frames: np.ndarray) -> None:
    """Key the colours of the body, and where and when a footprint shows."""
    body = _child(figure, _BODY)
    prints = {side: child for side, _, _ in _FEET if (child := _child(figure, _print_name(side))) is not None}
    looks = {} if body is None else _materials_by_look(body)
    _drop_actions(
        [*prints.values(), *(thing for material in looks.values() for thing in (material, material.node_tree))]
    )
    actions = _Actions(f"{figure.name}: looks")
    for look, material in looks.items():
        _write_colour(actions, material, _own_colour(look), doubt_of(pose, look), frames)
    for side, letter, columns in _FEET:
        if side in prints:
            steps = _steps(pose, motion.stands, letter, columns)
            _write_print(actions, prints[side], steps, frames)


def _materials_by_look(body: bpy.types.Object) -> dict[str, bpy.types.Material]:
    """Those of the figure; an artist may have put others in their place, which are not for us to key."""
    materials = [slot.material for slot in body.material_slots if slot.material is not None]
    return {material[_PART_MARK]: material for material in materials if material.get(_PART_MARK) in LOOKS}


class _Actions:
    """Actions for several things: one for all where actions have slots (4.4 on), else one for each."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._shared: bpy.types.Action | None = None

    def curves(self, animated: Any) -> AnimatedCurves:
        if self._shared is None or not actions_have_slots():
            self._shared = bpy.data.actions.new(self._name)
        curves = AnimatedCurves(self._shared, animated)
        curves.assign()
        return curves


def _write_colour(
    actions: _Actions, material: bpy.types.Material, own: tuple[float, ...], doubt: np.ndarray, frames: np.ndarray
) -> None:
    keys = colour_keys(doubt)
    _set_colour(material, _mixed(own, UNSURE, float(doubt[0])))
    if len(keys) < 2:
        return
    colours = _linear(np.array(own) + (np.array(UNSURE) - own) * doubt[keys, None])
    places = [(material, "diffuse_color")]
    shader = _shader(material)
    if shader is not None:
        path = f'nodes["{bpy.utils.escape_identifier(shader.name)}"].inputs[0].default_value'
        places.append((material.node_tree, path))
    for animated, path in places:
        curves = actions.curves(animated)
        for component in range(3):
            curves.write(path, component, "Colour", frames[keys], colours[:, component])


@dataclass(frozen=True, eq=False)
class _Step:
    """A foot that stands. first, last: frames of the pose; place: (3,) metres on the floor; heading: radians about z"""

    first: int
    last: int
    place: np.ndarray
    heading: float


def _steps(pose: PoseTrack, stands: np.ndarray, letter: str, columns: tuple[int, int]) -> list[_Step]:
    soles = pose.positions_world_m()[:, LANDMARKS_41.indices(f"{letter}_heel", f"{letter}_toe_base")]
    standing = stands[:, list(columns)]
    edges = np.flatnonzero(np.diff(standing.any(axis=1).astype(np.int8), prepend=0, append=0))
    steps = []
    for first, after in edges.reshape(-1, 2):
        heel, ball = soles[first:after].mean(axis=0)
        # The floor is under what of the sole stands.
        heights = soles[first:after, :, 2] - STANDING_HEIGHT_M[:2]
        floor = float(heights[standing[first:after]].mean())
        ahead = ball - heel
        steps.append(
            _Step(
                int(first),
                int(after) - 1,
                np.array([*((heel + ball) / 2 + ahead * 0.15)[:2], floor + _ABOVE_FLOOR_M]),
                float(np.arctan2(-ahead[0], ahead[1])),
            )
        )
    return steps


def _write_print(actions: _Actions, mark: bpy.types.Object, steps: list[_Step], frames: np.ndarray) -> None:
    """Show the mark under the foot for as long as it stands, and nowhere in between."""
    away_first = not steps or steps[0].first > 0
    mark.hide_viewport = mark.hide_render = away_first
    if not steps:
        return
    curves = actions.curves(mark)
    begins = frames[[step.first for step in steps]]
    for axis in range(3):
        values = np.array([step.place[axis] for step in steps])
        curves.write("location", axis, "Object Transforms", begins, values, CONSTANT)
    headings = np.array([step.heading for step in steps])
    curves.write("rotation_euler", 2, "Object Transforms", begins, headings, CONSTANT)
    shown = {float(frames[0]): float(away_first)}
    for step in steps:
        shown[float(frames[step.first])] = 0.0
        if step.last + 1 < len(frames):
            shown[float(frames[step.last + 1])] = 1.0
    at = np.array(sorted(shown))
    hidden = np.array([shown[frame] for frame in at])
    for path in ("hide_viewport", "hide_render"):
        curves.write(path, 0, "Visibility", at, hidden, CONSTANT)


def _drop_actions(things: list[Any]) -> None:
    for thing in things:
        if thing is not None:
            drop_action(thing)
