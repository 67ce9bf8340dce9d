"""Opening the rig: every way to name one, and every way in which it can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy

from keylift.addon.rigs import RIGIFY_METARIG, animatable, open_rig
from keylift.addon.takes import retarget_to_files
from keylift.core.errors import RigError
from rig_samples import empty_scene, evaluated, make_rig, standing_pose


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


HAND = ("mixamorig:LeftHand", "mixamorig:Hips")


def library(folder: Path) -> Path:
    """A rig, a mesh that it moves, and a prop, in a collection within the collection "hero"."""
    armature = make_rig("mixamo")
    hero, inner = bpy.data.collections.new("hero"), bpy.data.collections.new("inner")
    bpy.context.scene.collection.children.link(hero)
    hero.children.link(inner)
    hero.instance_offset = (0.0, 0.0, 0.25)
    bpy.ops.mesh.primitive_cube_add(size=0.1)
    body = bpy.context.object
    body.name = "body"
    body.parent = armature
    body.modifiers.new("Armature", "ARMATURE").object = armature
    body.vertex_groups.new(name=HAND[1]).add(range(8), 1.0, "REPLACE")
    for thing in (armature, body, bpy.data.objects.new("prop", None)):
        for collection in thing.users_collection:
            collection.objects.unlink(thing)
        inner.objects.link(thing)
    armature.location = (0.5, 0.0, 0.0)
    path = folder / "library.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    empty_scene()
    return path


def linked(path: Path, kind: str, *names: str) -> list[Any]:
    with bpy.data.libraries.load(str(path), link=True) as (_, wanted):
        setattr(wanted, kind, list(names))
    return list(getattr(wanted, kind))


def by_itself(path: Path) -> None:
    bpy.context.scene.collection.objects.link(linked(path, "objects", "mixamo")[0])


def beside_its_mesh(path: Path) -> None:
    shots = bpy.data.collections.new("shots")
    bpy.context.scene.collection.children.link(shots)
    for thing in linked(path, "objects", "mixamo", "body"):
        shots.objects.link(thing)


def in_a_collection(path: Path) -> None:
    shots = bpy.data.collections.new("shots")
    bpy.context.scene.collection.children.link(shots)
    shots.children.link(linked(path, "collections", "hero")[0])


def in_an_instance(path: Path) -> None:
    hero = linked(path, "collections", "hero")[0]
    for name, x in (("placed", 2.0), ("second", 5.0)):
        empty = bpy.data.objects.new(name, None)
        empty.instance_type, empty.instance_collection = "COLLECTION", hero
        empty.location, empty.rotation_euler = (x, 1.0, 0.0), (0.0, 0.0, 0.6)
        bpy.context.scene.collection.objects.link(empty)


def as_an_override(path: Path) -> None:
    by_itself(path)
    bpy.data.objects["mixamo"].override_create(remap_local_usages=True)


def in_rest_position(path: Path) -> None:
    bpy.ops.wm.open_mainfile(filepath=str(path))
    bpy.data.armatures["mixamo"].pose_position = "REST"
    bpy.ops.wm.save_mainfile()
    empty_scene()
    by_itself(path)


WAYS = (by_itself, beside_its_mesh, in_a_collection, in_an_instance, as_an_override, in_rest_position)


def shown_things() -> list[str]:
    return sorted(thing.name for thing in bpy.context.view_layer.objects)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_linked_rig_is_animated_where_it_stands(way: Callable[[Path], None], tmp_path: Path) -> None:
    source = library(tmp_path)
    way(source)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    before = {path: path.read_bytes() for path in (source, tmp_path / "shot.blend")}
    armature = open_rig(str(tmp_path / "shot.blend"))
    assert armature.library is None and armature.override_library is not None
    assert not armature.override_library.is_system_override
    stands_at = np.array(armature.matrix_world)

    outputs = [tmp_path / "elsewhere" / "take.blend", tmp_path / "elsewhere" / "take.bvh"]
    summary = retarget_to_files(
        standing_pose(), rig=str(tmp_path / "shot.blend"), bone_map="auto", outputs=outputs, footage=None
    )
    assert summary.armature == "mixamo"
    assert {path: path.read_bytes() for path in before} == before

    bpy.ops.wm.open_mainfile(filepath=str(outputs[0]))
    (armature,) = (thing for thing in bpy.context.view_layer.objects if thing.type == "ARMATURE")
    assert armature.library is None and armature.animation_data.action.name == "take"
    assert armature.data.pose_position == "POSE"
    assert np.allclose(np.array(armature.matrix_world), stands_at, atol=1e-6)
    posed = evaluated(armature, [1.0], HAND)[0]
    rest = np.array([armature.matrix_world @ armature.data.bones[bone].matrix_local for bone in HAND])
    assert np.abs(posed - rest).max() > 0.05

    empty_scene()
    bpy.ops.import_anim.bvh(filepath=str(outputs[1]))
    found = evaluated(bpy.context.object, [1.0], HAND)[0]
    assert np.abs(found[:, :3, 3] - posed[:, :3, 3]).max() < 1e-4


def test_an_instance_is_replaced_in_its_place_and_the_others_stay(tmp_path: Path) -> None:
    source = library(tmp_path)
    in_an_instance(source)
    bpy.context.view_layer.update()
    empty = bpy.data.objects["placed"]
    shown = [
        np.array(instance.matrix_world)
        for instance in bpy.context.evaluated_depsgraph_get().object_instances
        if instance.object.name == "mixamo" and instance.parent and instance.parent.name == "placed"
    ]
    armature = animatable(linked_armature())
    assert np.allclose(np.array(armature.matrix_world), shown[0], atol=1e-6)
    assert shown_things() == ["body", "mixamo", "placed", "prop", "second"]
    assert (empty.instance_type, bpy.data.objects["second"].instance_type) == ("NONE", "COLLECTION")
    empty.location.x += 1.0
    bpy.context.view_layer.update()
    assert np.allclose(armature.matrix_world.translation[0], shown[0][0, 3] + 1.0, atol=1e-6)


def linked_armature() -> Any:
    return next(thing for thing in bpy.data.objects if thing.type == "ARMATURE" and thing.library)


@pytest.mark.parametrize("way", [beside_its_mesh, in_a_collection, in_an_instance], ids=lambda way: way.__name__)
def test_the_mesh_follows_the_override(way: Callable[[Path], None], tmp_path: Path) -> None:
    way(library(tmp_path))
    armature = animatable(linked_armature())
    (body,) = (thing for thing in bpy.context.view_layer.objects if thing.name == "body")

    def corner() -> np.ndarray:
        bpy.context.view_layer.update()
        now = body.evaluated_get(bpy.context.evaluated_depsgraph_get())
        return np.array(now.matrix_world @ now.data.vertices[0].co)

    before = corner()
    armature.pose.bones[HAND[1]].location = (0.0, 0.3, 0.0)
    assert np.linalg.norm(corner() - before) == pytest.approx(0.3, abs=1e-3)


@pytest.mark.parametrize("way", [by_itself, in_a_collection], ids=lambda way: way.__name__)
def test_local_things_that_hung_on_the_linked_rig_hang_on_the_override(
    way: Callable[[Path], None], tmp_path: Path
) -> None:
    way(library(tmp_path))
    rig = linked_armature()
    bpy.ops.mesh.primitive_cube_add()
    coat = bpy.context.object
    coat.parent, coat.parent_type, coat.parent_bone = rig, "BONE", HAND[0]
    coat.modifiers.new("Armature", "ARMATURE").object = rig
    coat.constraints.new("COPY_LOCATION").target = rig
    armature = animatable(rig)
    assert (coat.parent, coat.modifiers[0].object, coat.constraints[0].target) == (armature,) * 3
    assert (coat.parent_type, coat.parent_bone) == ("BONE", HAND[0])
    assert len([thing for thing in bpy.context.view_layer.objects if thing.type == "ARMATURE"]) == 1


def test_what_can_be_animated_already_is_left_as_it_is(tmp_path: Path) -> None:
    armature = make_rig("mixamo")
    assert animatable(armature) == armature and armature.override_library is None
    empty_scene()
    as_an_override(library(tmp_path))
    armature = next(thing for thing in bpy.context.view_layer.objects if thing.type == "ARMATURE")
    assert animatable(armature) == armature
    assert len([thing for thing in bpy.data.objects if thing.type == "ARMATURE"]) == 2


def test_a_library_that_is_gone_is_named(tmp_path: Path) -> None:
    source = library(tmp_path)
    by_itself(source)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "shot.blend"))
    source.unlink()
    with pytest.raises(RigError, match=r"shot\.blend' links its objects from '.*library\.blend', which is not there"):
        open_rig(str(tmp_path / "shot.blend"))


def test_a_linked_rig_that_is_shown_nowhere(tmp_path: Path) -> None:
    (rig,) = linked(library(tmp_path), "objects", "mixamo")
    with pytest.raises(RigError, match="can't be animated here"):
        animatable(rig)
