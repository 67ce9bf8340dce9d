"""Draw docs/images/retargeting/*.jpg anew: ``python docs/images/retargeting/make_grid.py [FOLDER] [FRAME ...]``.

Bakes the filmed take of the tests onto eight rigs, asks Blender itself where it puts their bones, and draws every rig
in the same frame from the same direction. Needs nothing but a checkout that is installed with its extras for Blender.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import bpy  # isort: skip  (addon_utils is there once bpy is)
import addon_utils
import matplotlib.pyplot as plt
import numpy as np

from keylift.addon.armature_reading import read_rest_pose
from keylift.addon.blender_chatter import unheard
from keylift.addon.people_rendering import Light, PictureRenderer, Surface
from keylift.addon.rigs import fresh_scene, open_rig
from keylift.addon.skeleton_armature import make_armature as make_own_armature
from keylift.addon.takes import TakeOptions, bake_take, set_frame_rate
from keylift.core.camera import Camera
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.track_files import read_pose
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_map import BoneMap, load_bone_map
from keylift.rig_mapping.bone_motion import fk
from keylift.rig_mapping.own_skeleton import own_skeleton
from keylift.rig_mapping.planted_feet import STANDS
from keylift.rig_mapping.rig_body import rig_body
from keylift.rig_mapping.solve import RetargetOptions, solve
from keylift.training.rendered.body import SKIN, BaseBody, read_body

TESTS = Path(__file__).resolve().parents[3] / "tests"
TAKE = TESTS / "golden" / "cam03.pose.npz"
BODY = TESTS / "bodies" / "caucasian-female-young.body.npz"
# The right leg is at its highest, the right arm up, the left one down.
FRAME = 50
PICTURE_PX = (400, 560)
# Where the camera stands: so far round the figure from where that looks to, towards its left, and so high that only the
# floor is behind it.
FOCAL = 1.9
ROUND_DEG, DISTANCE_M, HEIGHT_M, AIM_M = 32.0, 4.9, 2.35, 0.80
LEFT, RIGHT, MIDDLE = np.array([0, 114, 178]) / 255, np.array([213, 94, 0]) / 255, np.array([0.62, 0.62, 0.62])
PAPER, LINES, SHADE = np.array([0.93, 0.92, 0.90]), np.array([0.74, 0.73, 0.70]), np.array([0.66, 0.65, 0.62])
TILE_M, FLOOR_M = 0.25, 2.5
TOWARDS_LIGHT = np.array([0.35, -0.25, 1.0])
BODY_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
NOSE_M = 0.16


@dataclass(frozen=True, eq=False)
class Figure:
    """One rig in all frames that are drawn.

    name:     what stands above its picture
    vertices_m: frame -> (V, 3) world; faces: (N, 4); colours: (V, 3)
    heads_m:  frame -> (B, 3) where its joints are, world; tails_m: their other ends
    names:    (B,) its bones
    """

    name: str
    vertices_m: dict[int, np.ndarray]
    faces: np.ndarray
    colours: np.ndarray
    heads_m: dict[int, np.ndarray]
    tails_m: dict[int, np.ndarray]
    names: tuple[str, ...]
    smooth: bool


# --- what is drawn of a rig ------------------------------------------------------------------------------------------

# Across, along and thick of a bone from 0 to 1, of four corners each.
_RINGS = ((0.0, 0.15), (0.16, 1.0), (1.0, 0.12))
_CORNERS = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]])


def spindle(length: float) -> np.ndarray:
    """(12, 3) corners along y, in the axes of its bone."""
    thick = float(np.clip(0.13 * length, 0.008, 0.05))
    rings = [np.insert(_CORNERS * thick * share, 1, along * length, axis=1) for along, share in _RINGS]
    return np.concatenate(rings)


def spindle_faces(count: int) -> np.ndarray:
    """(8 count, 4) corners of so many spindles, anticlockwise from outside."""
    quads = [[ring + k, ring + 4 + k, ring + 4 + (k + 1) % 4, ring + (k + 1) % 4] for ring in (0, 4) for k in range(4)]
    return (np.array(quads)[None] + 12 * np.arange(count)[:, None, None]).reshape(-1, 4)


def side_colours(across_m: np.ndarray) -> np.ndarray:
    """(..., 3) by how far to the left (+x) something is on a rig at rest: told by place, not by any bone's name."""
    across = np.asarray(across_m)[..., None]
    return np.where(across > 0.015, LEFT, np.where(across < -0.015, RIGHT, MIDDLE))


def _middle(bone: bpy.types.Bone) -> np.ndarray:
    """(3,) half way along a bone at rest, armature space."""
    return (np.array(bone.head_local) + np.array(bone.tail_local)) / 2


def bones_figure(armature: Any, drawn: list[str], nose_on: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices at rest (V, 3), which of ``drawn`` each hangs on (V,), colours (V, 3), of spindles, armature space."""
    points, owner, colours = [], [], []
    for index, name in enumerate(drawn):
        bone = armature.data.bones[name]
        matrix = np.array(bone.matrix_local)
        corners = spindle(bone.length) @ matrix[:3, :3].T + matrix[:3, 3]
        points.append(corners)
        owner += [index] * len(corners)
        colours.append(np.tile(side_colours(_middle(bone)[0]), (len(corners), 1)))
    if nose_on is not None:
        middle = _middle(armature.data.bones[nose_on])
        # A spindle to where the rig faces, which is -y.
        points.append(middle + spindle(NOSE_M) * [-1.0, -1.0, 1.0])
        owner += [drawn.index(nose_on)] * 12
        colours.append(np.tile(MIDDLE, (12, 1)))
    return np.concatenate(points), np.array(owner), np.concatenate(colours)


def skin_weights(base: BaseBody, armature: Any, bone_map: BoneMap, drawn: list[str]) -> np.ndarray:
    """(V, D) how much of each vertex hangs on each of ``drawn``: the game engine's weights, led over by segments."""
    engine = load_bone_map("game_engine")
    segment_of = {bone: segment for segment, chain in engine.bones.items() for bone in chain}
    skin_m = base.points_m[: len(base.layer)] @ BODY_AXES.T
    weights = np.zeros((len(skin_m), len(drawn)))
    for number, bone in enumerate(base.bone_names):
        of_bone = np.where(base.bone_index == number, base.bone_weight, 0.0).sum(axis=1)
        if bone in drawn:
            weights[:, drawn.index(bone)] += of_bone
            continue
        segment = segment_of.get(bone, "pelvis" if bone == "Root" else f"{bone[-1]}_hand")
        if segment not in bone_map.bones:
            segment = segment.replace("toes", "foot")
        chain = bone_map.bones[segment]
        if segment.endswith("toes"):
            # Toes lie side by side: each takes what is nearest to it.
            middles = np.array([_middle(armature.data.bones[toe]) for toe in chain])
            nearest = np.argmin(np.linalg.norm(skin_m[:, None] - middles[None], axis=-1), axis=1)
            for index, toe in enumerate(chain):
                weights[:, drawn.index(toe)] += of_bone * (nearest == index)
            continue
        for name, share in zip(chain, _shares_along(armature, chain, skin_m), strict=True):
            weights[:, drawn.index(name)] += of_bone * share
    return weights


def _shares_along(armature: Any, chain: tuple[str, ...], points: np.ndarray) -> np.ndarray:
    """(C, V) of a chain of bones one after the other: from the middle of each to the middle of the next."""
    start = np.array(armature.data.bones[chain[0]].head_local)
    end = np.array(armature.data.bones[chain[-1]].tail_local)
    along = (end - start) / np.linalg.norm(end - start)
    middles = [(_middle(armature.data.bones[name]) - start) @ along for name in chain]
    at = (points - start) @ along
    return np.array([np.interp(at, middles, np.eye(len(chain))[index]) for index in range(len(chain))])


def skin_colours(base: BaseBody) -> np.ndarray:
    """(V, 3) limbs of the left and the right, by the bone of the mesh's own rig that holds a vertex most."""
    limb = np.array([not any(part in bone for part in _TRUNK) for bone in base.bone_names])
    share = (base.bone_weight * limb[base.bone_index]).sum(axis=1)[:, None]
    sides = np.where(base.points_m[: len(base.layer), :1] > 0, LEFT, RIGHT)
    return share * sides + (1 - share) * MIDDLE


_TRUNK = ("Root", "pelvis", "spine", "neck", "head", "clavicle")


# --- rigs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rig:
    """What to open, how to key it, and what of it to draw."""

    name: str
    make: Callable[[PoseTrack], tuple[Any, str | BoneMap]]
    limbs: str = "fk"
    skinned: bool = False
    deform_only: bool = False
    nose_on: str | None = None


def rigs() -> list[Rig]:
    """Keylift's own skeleton and the eight."""
    return [
        Rig("Keylift's skeleton", _own, nose_on="Head"),
        Rig("Rigify metarig", lambda _: (open_rig("rigify_metarig"), "auto")),
        Rig("Rigify, FK controls", _generated_rigify, deform_only=True),
        Rig("Rigify, IK controls", _generated_rigify, limbs="ik", deform_only=True),
        Rig("MPFB default", _sample("default"), skinned=True),
        Rig("MPFB without toes", _sample("default_no_toes"), skinned=True),
        Rig("Game engine", _sample("game_engine"), skinned=True),
        Rig("CMU", _sample("cmu_mb"), skinned=True),
        Rig("Mixamo", _sample("mixamo"), nose_on="mixamorig:Head"),
    ]


def _own(pose: PoseTrack) -> tuple[Any, BoneMap]:
    fresh_scene()
    rest, bone_map = own_skeleton(pose)
    return make_own_armature(rest), bone_map


def _sample(name: str) -> Callable[[PoseTrack], tuple[Any, str]]:
    def make(_: PoseTrack) -> tuple[Any, str]:
        from rig_samples import make_armature

        fresh_scene()
        return make_armature(name, json.loads((TESTS / "rigs" / f"{name}.json").read_text(encoding="utf-8"))), "auto"

    return make


def _generated_rigify(_: PoseTrack) -> tuple[Any, str]:
    fresh_scene()
    with unheard():
        addon_utils.enable("rigify", default_set=True)
        bpy.ops.object.armature_human_metarig_add()
        bpy.ops.pose.rigify_generate()
    return next(thing for thing in bpy.data.objects if thing.type == "ARMATURE" and thing.name != "metarig"), "auto"


def figure(rig: Rig, pose: PoseTrack, base: BaseBody, frames: list[int]) -> Figure:
    """Bake ``pose`` onto the rig and ask Blender where that puts it."""
    armature, bone_map = rig.make(pose)
    fps = set_frame_rate(bpy.context.scene, pose.fps)
    options = TakeOptions(retarget=RetargetOptions(limbs=rig.limbs))
    summary, _ = bake_take(pose, armature, bone_map=bone_map, name="take", fps=fps, options=options)
    print(f"{rig.name}: {summary}", *summary.warnings, sep="\n  ")
    drawn = [bone.name for bone in armature.data.bones if bone.use_deform or not rig.deform_only]
    if rig.skinned:
        rest_m = base.points_m[: len(base.layer)] @ BODY_AXES.T
        weights = skin_weights(
            base, armature, load_bone_map(summary.bone_map).bound_to(read_rest_pose(armature)), drawn
        )
        kept = base.faces[(base.layer[base.faces] == SKIN).all(axis=1)]
        faces, colours = kept, skin_colours(base)
    else:
        rest_m, owner, colours = bones_figure(armature, drawn, rig.nose_on)
        weights = np.eye(len(drawn))[owner]
        faces = spindle_faces(len(rest_m) // 12)
    rest = np.array([armature.data.bones[name].matrix_local for name in drawn])
    vertices, heads, tails = {}, {}, {}
    lengths = np.array([armature.data.bones[name].length for name in drawn])
    for frame in frames:
        bpy.context.scene.frame_set(1 + frame)
        now = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        posed = np.array([now.matrix_world @ now.pose.bones[name].matrix for name in drawn])
        moves = (weights @ (posed @ np.linalg.inv(rest))[:, :3].reshape(len(drawn), 12)).reshape(-1, 3, 4)
        vertices[frame] = np.einsum("vij,vj->vi", moves[..., :3], rest_m) + moves[..., 3]
        heads[frame] = posed[:, :3, 3]
        tails[frame] = posed[:, :3, 3] + posed[:, :3, 1] * lengths[:, None]
    return Figure(rig.name, vertices, faces, colours, heads, tails, tuple(drawn), rig.skinned)


def lifted_figure(pose: PoseTrack, frames: list[int]) -> Figure:
    """The person's own landmarks, as filmed: a spindle from each to the next."""
    world_m = pose.positions_world_m()
    pairs = [(joint, parent) for joint, parent in enumerate(LANDMARKS_41.parents) if parent >= 0]
    vertices = {}
    for frame in frames:
        corners = []
        for joint, parent in pairs:
            start, end = world_m[frame, parent], world_m[frame, joint]
            y = (end - start) / np.linalg.norm(end - start)
            x = np.cross(y, [0.31, 0.21, 0.93])
            x = x / np.linalg.norm(x)
            corners.append(spindle(float(np.linalg.norm(end - start))) @ np.array([x, y, np.cross(x, y)]) + start)
        vertices[frame] = np.concatenate(corners)
    of_side = {"l": LEFT, "r": RIGHT}
    names = [LANDMARKS_41.names[joint] for joint, _ in pairs]
    colours = np.repeat([of_side.get(name[0], MIDDLE) if name[1] == "_" else MIDDLE for name in names], 12, axis=0)
    points = {frame: world_m[frame] for frame in frames}
    return Figure(
        "Lifted from the footage",
        vertices,
        spindle_faces(len(pairs)),
        colours,
        points,
        points,
        LANDMARKS_41.names,
        False,
    )


# --- pictures --------------------------------------------------------------------------------------------------------


def floor(about_m: np.ndarray) -> dict[str, Surface]:
    """Tiles of a quarter of a metre, drawn as lines."""
    across = np.arange(-FLOOR_M, FLOOR_M + 1e-6, TILE_M)
    origin = np.round(about_m[:2] / TILE_M) * TILE_M

    def quads(boxes: list[tuple[float, float, float, float]], height: float, colour: np.ndarray) -> Surface:
        corners = [(x, y, height) for x0, y0, x1, y1 in boxes for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))]
        points = np.array(corners) + [*origin, 0.0]
        return Surface(points, np.arange(len(points)).reshape(-1, 4), np.tile(colour, (len(points), 1)), False)

    thin = 0.004
    lines = [(at - thin, -FLOOR_M, at + thin, FLOOR_M) for at in across]
    lines += [(-FLOOR_M, at - thin, FLOOR_M, at + thin) for at in across]
    return {
        "floor": quads([(-120.0, -120.0, 120.0, 120.0)], 0.0, PAPER),
        "lines": quads(lines, 0.0008, LINES),
    }


def shadow(vertices_m: np.ndarray) -> np.ndarray:
    """(V, 3) the same, thrown onto the floor; what is under the floor throws none."""
    above = np.maximum(vertices_m[:, 2:], 0.0)
    thrown = vertices_m - above * TOWARDS_LIGHT / TOWARDS_LIGHT[2]
    return np.column_stack([thrown[:, :2], np.full(len(thrown), 0.0016)])


def picture(drawn: Figure, frame: int, looks_along: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8. looks_along: (2,) where the person looks to, on the floor."""
    vertices = drawn.vertices_m[frame]
    used = np.unique(drawn.faces)
    low, high = vertices[used].min(axis=0), vertices[used].max(axis=0)
    about = np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, AIM_M])
    angle = np.radians(ROUND_DEG)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    eye = np.array([*(about[:2] + DISTANCE_M * (turn @ looks_along)), HEIGHT_M])
    z = (about - eye) / np.linalg.norm(about - eye)
    x = np.cross(z, [0.0, 0.0, 1.0])
    x = x / np.linalg.norm(x)
    world_from_camera = np.eye(4)
    world_from_camera[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    world_from_camera[:3, 3] = eye
    width, height = PICTURE_PX
    camera = Camera(PICTURE_PX, (FOCAL * height, FOCAL * height), (width / 2, height / 2))
    surfaces = {
        **floor(about),
        "figure": Surface(vertices, drawn.faces, drawn.colours, drawn.smooth),
        "shadow": Surface(shadow(vertices), drawn.faces, np.tile(SHADE, (len(vertices), 1)), False),
    }
    lights = [
        Light(np.array([-0.4, -0.7, -0.6]), np.full(3, 0.62)),
        Light(np.array([0.8, -0.2, -0.4]), np.full(3, 0.22)),
    ]
    with PictureRenderer(surfaces, camera, world_from_camera, lights, np.full(3, 0.38)) as renderer:
        return renderer.picture()


def grid(path: Path, pictures: dict[str, np.ndarray]) -> None:
    """All pictures side by side, each under its name."""
    columns, rows = 5, -(-len(pictures) // 5)
    width, height = (side / 200 for side in PICTURE_PX)
    sheet, cells = plt.subplots(rows, columns, figsize=(columns * width, rows * (height + 0.2)), dpi=160)
    for cell in cells.ravel():
        cell.axis("off")
    for cell, (name, shown) in zip(cells.ravel(), pictures.items(), strict=False):
        cell.imshow(shown)
        cell.set_title(name, fontsize=8, pad=3)
    sheet.subplots_adjust(left=0.003, right=0.997, bottom=0.003, top=0.965, wspace=0.015, hspace=0.075)
    sheet.savefig(path, pil_kwargs={"quality": 88})
    plt.close(sheet)


# --- planted feet ----------------------------------------------------------------------------------------------------


def sole_paths_m(pose: PoseTrack, plant_feet: bool) -> dict[str, np.ndarray]:
    """Point of the left sole -> (F, 3) where it goes on Rigify's metarig, world."""
    rest = read_rest_pose(open_rig("rigify_metarig"))
    bone_map = load_bone_map("rigify_metarig").bound_to(rest)
    body = rig_body(rest, bone_map)
    foot = body.chains["l_foot"][-1]
    world_from_bone = rest.world_from_armature @ fk(
        rest, solve(pose, rest, bone_map, RetargetOptions(plant_feet=plant_feet)), [foot]
    )
    paths = {}
    for name, landmark in (("heel", "l_heel"), ("ball", "l_toe_base")):
        under = body.landmark(landmark).copy()
        under[1] = body.floor
        in_bone = np.linalg.inv(rest.armature_from_bone[foot]) @ np.append(body.armature_from_body @ under, 1.0)
        paths[name] = (world_from_bone[:, 0] @ in_bone)[:, :3]
    return paths


def planted(path: Path, pose: PoseTrack) -> None:
    """Heel and ball of the left foot, from above and over time, with the feet planted and without."""
    stands = pose.contact[:, :2] > STANDS
    moving = {on: sole_paths_m(pose, on) for on in (False, True)}
    origin = {name: moving[True][name][0, :2] for name in ("heel", "ball")}
    seconds = pose.time_s - pose.time_s[0]
    sheet, cells = plt.subplots(2, 2, figsize=(8.5, 5.6), dpi=130, sharex="row", sharey="row", layout="constrained")
    for column, on in enumerate((False, True)):
        above, side = cells[:, column]
        above.set_title("plant_feet=True" if on else "plant_feet=False", family="monospace", fontsize=10)
        for index, (name, colour) in enumerate((("heel", LEFT), ("ball", "#56b4e9"))):
            path_mm = 1000 * moving[on][name]
            flat_mm = path_mm[:, :2] - 1000 * origin[name]
            on_floor = stands[:, index]
            spread = np.linalg.norm(np.ptp(flat_mm[on_floor], axis=0))
            rise = np.ptp(path_mm[on_floor, 2])
            print(
                f"plant_feet={on}, {name}: within {spread:.2f} mm on the floor, {rise:.2f} mm in height while it stands"
            )
            above.plot(*flat_mm[on_floor].T, color=colour, lw=2, label=f"{name}, standing: {spread:.0f} mm")
            side.plot(seconds, path_mm[:, 2], color=colour, lw=1, alpha=0.5)
            side.plot(seconds, np.where(on_floor, path_mm[:, 2], np.nan), color=colour, lw=2.5, label=name)
            if on:
                above.plot(*flat_mm[0], "o", color=colour, ms=5)
        above.set_aspect("equal")
        above.legend(fontsize=8, loc="upper right")
        above.set_xlabel("from above: x, mm")
        side.axhline(0, color="0.4", lw=0.8)
        side.set_xlabel("seconds; thick: it stands")
        for cell in (above, side):
            cell.grid(color="0.9")
    cells[0, 0].set_ylabel("y, mm")
    cells[1, 0].set_ylabel("height over the floor, mm")
    cells[0, 0].set_xlim(-30, 30)
    cells[0, 0].set_ylim(-25, 30)
    cells[1, 0].set_ylim(-25, 40)
    sheet.savefig(path, pil_kwargs={"quality": 90})
    plt.close(sheet)


def main(folder: Path, frames: list[int]) -> None:
    """Draw the grid of each frame."""
    sys.path.insert(0, str(TESTS))
    pose = read_pose(TAKE)
    if frames == [FRAME]:
        planted(folder / "planted-feet.jpg", pose)
    base = read_body(BODY)
    figures = [lifted_figure(pose, frames), *(figure(rig, pose, base, frames) for rig in rigs())]
    world_m = pose.positions_world_m()
    for frame in frames:
        to_left = (world_m[frame, LANDMARKS_41.index("l_hip")] - world_m[frame, LANDMARKS_41.index("r_hip")])[:2]
        ahead = np.array([to_left[1], -to_left[0]]) / np.linalg.norm(to_left)
        pictures = {each.name: picture(each, frame, ahead) for each in figures}
        grid(folder / ("eight-rigs.jpg" if frames == [FRAME] else f"frame-{frame}.jpg"), pictures)


if __name__ == "__main__":
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent,
        [int(argument) for argument in sys.argv[2:]] or [FRAME],
    )
