"""Every kind of file that a take is written to, read back: whichever it is, the joints go where the .blend has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import addon_utils
import bpy

from keylift.addon.scene_export import _EXPORTERS
from keylift.addon.takes import retarget_to_files, set_frame_rate
from keylift.core.camera import Camera
from keylift.core.errors import OutputError
from keylift.core.tracks import PoseTrack
from rig_samples import empty_scene, evaluated, make_rig
from walker import camera_from_world, filmed, walk

ENDINGS = sorted(_EXPORTERS)
FRAMES = 20
JOINTS = {
    "cmu_mb": ("Hips", "LeftUpLeg", "LeftLeg", "LeftFoot", "RightArm", "RightForeArm", "RightHand", "Head"),
    "game_engine": ("pelvis", "foot_l", "hand_r", "head"),
    "rigify_metarig": ("spine", "foot.L", "hand.R", "spine.006", "upper_arm.L"),
}


@dataclass(frozen=True)
class Case:
    """A rig and a performance that ask something of an exporter."""

    rig: str = "cmu_mb"
    fps: float = 30.0
    frames: int = FRAMES
    uneven: bool = False
    scale: float = 1.0
    turned: bool = False
    carried: bool = False
    rotation_modes: tuple[str, ...] = ("QUATERNION",)
    mesh: str = ""


CASES = {
    "plain": Case(),
    "scaled to a hundredth": Case(scale=0.01, mesh="parented"),
    "turned and moved": Case(turned=True),
    "carried by an empty": Case(turned=True, carried=True, scale=0.5, mesh="parented"),
    "every rotation mode": Case(rotation_modes=("XYZ", "ZYX", "YXZ", "AXIS_ANGLE")),
    "one frame": Case(frames=1),
    "one frame with a mesh": Case(frames=1, mesh="parented"),
    "a mesh elsewhere": Case(mesh="elsewhere"),
    "hips below a root bone": Case(rig="game_engine"),
    "names with dots": Case(rig="rigify_metarig"),
    "29.97": Case(fps=30000 / 1001),
    "keys between frames": Case(fps=30000 / 1001, uneven=True),
}


def performed(case: Case) -> PoseTrack:
    pose, _ = filmed(walk(max(2, case.frames)), Camera.guessed((320, 240)), camera_from_world())
    over_time = ("positions_m", "rotations_wxyz", "confidence", "contact", "time_s", "frame_index")
    pose = replace(pose, **{name: getattr(pose, name)[: case.frames] for name in over_time})
    time_s = np.arange(case.frames) / case.fps
    if case.uneven:
        time_s[1:-1] += np.random.default_rng(3).uniform(-0.4, 0.4, case.frames - 2) / case.fps
    return replace(pose, time_s=time_s, fps=case.fps)


def rigged(case: Case, path: Path) -> Path:
    """The rig of ``case`` as a file."""
    empty_scene()
    armature = make_rig(case.rig)
    for index, bone in enumerate(armature.pose.bones):
        bone.rotation_mode = case.rotation_modes[index % len(case.rotation_modes)]
    if case.mesh:
        bpy.ops.mesh.primitive_cube_add(size=0.2)
        cube = bpy.context.object
        cube.modifiers.new("Armature", "ARMATURE").object = armature
        cube.vertex_groups.new(name=JOINTS[case.rig][0]).add(range(8), 1.0, "REPLACE")
        if case.mesh == "parented":
            cube.parent = armature
    armature.scale = (case.scale,) * 3
    if case.turned:
        armature.rotation_euler, armature.location = (np.pi / 2, 0.1, 0.7), (1.0, -2.0, 0.5)
    if case.carried:
        empty = bpy.data.objects.new("carrier", None)
        bpy.context.scene.collection.objects.link(empty)
        empty.rotation_euler, empty.location = (-np.pi / 2, 0.0, 0.3), (0.2, 0.3, 0.4)
        empty.scale = (0.5,) * 3
        armature.parent = empty
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


@pytest.fixture(scope="module", params=list(CASES))
def taken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Path, np.ndarray]:
    """A case, the folder with its take in files of all kinds, and where its joints were when they were written."""
    case = CASES[request.param]
    folder = tmp_path_factory.mktemp("take")
    outputs = [folder / f"take{ending}" for ending in ENDINGS]
    rig = rigged(case, folder / "rig.blend")
    retarget_to_files(performed(case), rig=str(rig), bone_map="auto", outputs=outputs, footage=None)
    armature = next(thing for thing in bpy.context.scene.objects if thing.type == "ARMATURE")
    assert len([thing for thing in bpy.data.objects if thing.type == "MESH"]) == bool(case.mesh)
    return case, folder, joints_m(case, armature)


def joints_m(case: Case, armature: Any) -> np.ndarray:
    """(F, N, 3) world. USD has no dots in names."""
    names = [name if name in armature.data.bones else name.replace(".", "_") for name in JOINTS[case.rig]]
    return evaluated(armature, np.arange(case.frames) + 1.0, tuple(names))[..., :3, 3]


def read_back(path: Path, fps: float = 30.0) -> Any:
    """The armature that a file brings into an empty scene of its frame rate."""
    empty_scene()
    ending = path.suffix
    if ending == ".blend":
        bpy.ops.wm.open_mainfile(filepath=str(path))
    else:
        set_frame_rate(bpy.context.scene, fps)
        for addon in ("io_scene_fbx", "io_scene_gltf2", "io_anim_bvh"):
            addon_utils.enable(addon, default_set=False)
    if ending == ".bvh":
        bpy.ops.import_anim.bvh(filepath=str(path))
    elif ending == ".fbx":
        bpy.ops.import_scene.fbx(filepath=str(path), anim_offset=0.0)
    elif ending in (".glb", ".gltf"):
        bpy.ops.import_scene.gltf(filepath=str(path))
    elif ending.startswith(".usd"):
        bpy.ops.wm.usd_import(filepath=str(path))
    return next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_reads_back(taken: tuple[Case, Path, np.ndarray], ending: str) -> None:
    case, folder, wanted = taken
    found = joints_m(case, read_back(folder / f"take{ending}", case.fps))
    size_m = np.linalg.norm(wanted - wanted[:, :1], axis=-1).max()
    assert np.linalg.norm(found - wanted, axis=-1).max() < 2e-3 * size_m
    if case.frames > 1:
        assert np.ptp(found[:, 0], axis=0).max() > 0.1 * size_m


def skinned(path: Path) -> list[Any]:
    """The meshes that the read armature moves."""
    armature = read_back(path)
    return [
        thing
        for thing in bpy.data.objects
        if thing.type == "MESH"
        and any(modifier.type == "ARMATURE" and modifier.object == armature for modifier in thing.modifiers)
    ]


@pytest.mark.parametrize("mesh", ["", "parented", "elsewhere"])
def test_a_usd_skeleton_is_one_that_other_programs_find(tmp_path: Path, mesh: str) -> None:
    """They look below a SkelRoot only, and Blender makes one only where the skeleton moves a mesh."""
    case = Case(mesh=mesh, frames=2)
    rig = rigged(case, tmp_path / "rig.blend")
    retarget_to_files(performed(case), rig=str(rig), bone_map="auto", outputs=[tmp_path / "take.usda"], footage=None)
    left = {thing.name: thing.parent for thing in bpy.data.objects if thing.type == "MESH"}
    assert list(left) == (["Cube"] if mesh else [])
    assert not mesh or (left["Cube"] is not None) == (mesh == "parented")
    text = (tmp_path / "take.usda").read_text()
    root, skeleton = text.index("def SkelRoot"), text.index("def Skeleton ")
    assert root < skeleton
    assert [thing.name for thing in skinned(tmp_path / "take.usda")] == ["Cube" if mesh else "cmu_mb_bones"]


def test_a_figure_of_bones_moves_with_them(tmp_path: Path) -> None:
    case = Case(frames=5)
    rig = rigged(case, tmp_path / "rig.blend")
    retarget_to_files(performed(case), rig=str(rig), bone_map="auto", outputs=[tmp_path / "take.usdc"], footage=None)
    (figure,) = skinned(tmp_path / "take.usdc")
    armature = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    for frame in (1, 5):
        heads = evaluated(armature, [float(frame)], tuple(bone.name for bone in armature.data.bones))[0, :, :3, 3]
        now = figure.evaluated_get(bpy.context.evaluated_depsgraph_get())
        corners = np.array([now.matrix_world @ vertex.co for vertex in now.data.vertices])
        nearest = np.linalg.norm(corners[:, None] - heads[None], axis=-1).min(axis=0)
        assert nearest.max() < 1e-4
    assert len(corners) == 6 * len(heads)


def test_textures_of_a_usd_stay_where_they_are(tmp_path: Path) -> None:
    rig = rigged(Case(mesh="parented"), tmp_path / "rig.blend")
    image = bpy.data.images.new("skin", 4, 4)
    image.filepath_raw, image.file_format = str(tmp_path / "skin.png"), "PNG"
    image.save()
    material = bpy.data.materials.new("skin")
    material.use_nodes = True
    texture = material.node_tree.nodes.new("ShaderNodeTexImage")
    texture.image = image
    material.node_tree.links.new(
        material.node_tree.nodes["Principled BSDF"].inputs["Base Color"], texture.outputs["Color"]
    )
    bpy.data.objects["Cube"].data.materials.append(material)
    bpy.ops.wm.save_as_mainfile(filepath=str(rig))
    output = tmp_path / "elsewhere" / "take.usda"
    retarget_to_files(performed(Case(frames=2)), rig=str(rig), bone_map="auto", outputs=[output], footage=None)
    assert [path.name for path in output.parent.iterdir()] == ["take.usda"]
    assert f"@{(tmp_path / 'skin.png').as_posix()}@" in output.read_text()


@pytest.mark.parametrize("ending", [".usd", ".usda", ".usdc"])
def test_a_usd_that_cannot_be_written_is_told(tmp_path: Path, ending: str) -> None:
    from keylift.addon.scene_export import export

    empty_scene()
    armature = make_rig("cmu_mb")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="can't be written|could not write"):
        export(tmp_path / "file" / f"take{ending}", armature)
    assert len(bpy.data.objects) == 1 and not bpy.data.meshes
