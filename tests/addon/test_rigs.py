"""Opening the rig: every way to name one, and every way in which it can be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("bpy")

import bpy

from keylift.addon.rigs import RIGIFY_METARIG, open_rig
from keylift.core.errors import RigError
from rig_samples import empty_scene, make_rig


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


def saved(path: Path, *rigs: str) -> Path:
    for rig in rigs:
        make_rig(rig)
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    empty_scene()
    return path


def test_the_metarig_is_made_by_rigify() -> None:
    armature = open_rig(RIGIFY_METARIG)
    assert armature.type == "ARMATURE"
    assert {"spine.006", "upper_arm.L", "shin.R"} <= set(armature.data.bones.keys())
    assert len(bpy.data.objects) == 1


def test_the_only_armature_of_a_file(tmp_path: Path) -> None:
    path = saved(tmp_path / "one.blend", "mixamo")
    before = path.read_bytes()
    assert open_rig(str(path)).name == "mixamo"
    assert path.read_bytes() == before


def test_one_of_several_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "two.blend", "mixamo", "cmu_mb")
    assert open_rig(f"{path}:cmu_mb").name == "cmu_mb"
    with pytest.raises(RigError, match="several armatures: 'cmu_mb', 'mixamo'. Name one"):
        open_rig(str(path))
    with pytest.raises(RigError, match="no armature 'hero'; it has 'cmu_mb', 'mixamo'"):
        open_rig(f"{path}:hero")


def test_names_with_colons_and_capital_endings(tmp_path: Path) -> None:
    armature = make_rig("mixamo")
    armature.name = "Hero: final.blend"
    path = saved(tmp_path / "Kopie von Hero, 2.BLEND")
    empty_scene()
    make_rig("mixamo").name = "Hero: final"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    assert open_rig(f"{path}:Hero: final").name == "Hero: final"


def test_a_drive_letter_is_not_an_object() -> None:
    with pytest.raises(RigError, match=r"no rig file 'C:\\rigs\\hero\.blend'"):
        open_rig(r"C:\rigs\hero.blend:Armature")


def test_a_file_in_pose_mode_or_edit_mode(tmp_path: Path) -> None:
    for mode in ("POSE", "EDIT"):
        empty_scene()
        make_rig("mixamo")
        bpy.ops.object.mode_set(mode=mode)
        path = tmp_path / f"{mode}.blend"
        bpy.ops.wm.save_as_mainfile(filepath=str(path))
        armature = open_rig(str(path))
        assert armature.mode == "OBJECT"
        assert len(armature.data.bones) == 52


@pytest.mark.parametrize("ending", ["bvh", "fbx", "glb"])
def test_rigs_of_other_programs(tmp_path: Path, ending: str) -> None:
    from keylift.addon.scene_export import export

    armature = make_rig("cmu_mb")
    armature.animation_data_create().action = bpy.data.actions.new("empty")
    path = tmp_path / f"rig.{ending}"
    export(path, armature)
    opened = open_rig(str(path))
    assert opened.type == "ARMATURE"
    assert {"Hips", "LeftArm", "RightLeg"} <= set(opened.data.bones.keys())


@pytest.mark.parametrize("spec", ["", "hero", "hero.obj", ":", "rigify", "hero.blend1:Armature"])
def test_what_is_not_a_rig(spec: str) -> None:
    with pytest.raises(RigError, match="is not a rig"):
        open_rig(spec)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(RigError, match="no rig file"):
        open_rig(str(tmp_path / "nowhere.blend"))
    (tmp_path / "folder.blend").mkdir()
    with pytest.raises(RigError, match="no rig file"):
        open_rig(str(tmp_path / "folder.blend"))


@pytest.mark.parametrize("ending", ["blend", "bvh", "fbx", "glb", "gltf"])
@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"\x00\xff" * 600])
def test_a_file_that_is_something_else(tmp_path: Path, ending: str, content: bytes) -> None:
    path = tmp_path / f"rig.{ending}"
    path.write_bytes(content)
    with pytest.raises(RigError, match=f"rig.{ending}"):
        open_rig(str(path))


@pytest.mark.parametrize("kept", [20, 1000, 0.5])
def test_a_truncated_blend(tmp_path: Path, kept: float) -> None:
    path = saved(tmp_path / "cut.blend", "mixamo")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(RigError, match=r"cut\.blend"):
        open_rig(str(path))


def test_a_file_without_an_armature(tmp_path: Path) -> None:
    bpy.data.meshes.new("mesh")
    path = saved(tmp_path / "none.blend")
    with pytest.raises(RigError, match="has no armature"):
        open_rig(str(path))


def test_an_armature_that_the_view_layer_leaves_out(tmp_path: Path) -> None:
    armature = make_rig("mixamo")
    attic = bpy.data.collections.new("attic")
    bpy.context.scene.collection.children.link(attic)
    attic.objects.link(armature)
    bpy.context.scene.collection.objects.unlink(armature)
    bpy.context.view_layer.layer_collection.children["attic"].exclude = True
    path = saved(tmp_path / "attic.blend")
    with pytest.raises(RigError, match="left out of the view layer"):
        open_rig(str(path))


def test_an_armature_without_bones(tmp_path: Path) -> None:
    from keylift.addon.armature_reading import read_rest_pose

    data = bpy.data.armatures.new("bare")
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("bare", data))
    path = saved(tmp_path / "bare.blend")
    with pytest.raises(RigError, match="has no bones"):
        read_rest_pose(open_rig(str(path)))


def test_scripts_in_a_rig_do_not_run(tmp_path: Path) -> None:
    make_rig("mixamo")
    text = bpy.data.texts.new("startup.py")
    text.write("import bpy; bpy.context.scene['ran'] = True")
    text.use_module = True
    path = saved(tmp_path / "scripted.blend")
    open_rig(str(path))
    assert "ran" not in bpy.context.scene
