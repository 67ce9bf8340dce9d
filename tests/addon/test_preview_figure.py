"""The preview figure: where the footage shows the person, as sure as the lifter is, and gone without a trace."""

from __future__ import annotations

import time
from colorsys import rgb_to_hsv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import bpy
from bpy_extras.object_utils import world_to_camera_view

from keylift.addon.clip_lens import CameraPath
from keylift.addon.figure_shape import LOOKS, body_parts
from keylift.addon.footage_background import camera_on_footage
from keylift.addon.footage_choice import FIGURE_MARK
from keylift.addon.preview_figure import (
    COLOUR_STEP,
    LEFT,
    MOST_COLOUR_KEYS,
    RIGHT,
    UNSURE,
    colour_keys,
    doubt_of,
    make_figure,
    remove_figure,
    update_figure,
)
from keylift.core import preview
from keylift.core.camera import Camera
from keylift.core.errors import RigError
from keylift.core.rotations import from_rotation_vector, multiply, to_matrix
from keylift.core.segments import SEGMENTS, segments_from_joint_rotations
from keylift.core.skeletons import H36M_17, LANDMARKS_41
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.own_skeleton import bone_name, own_skeleton
from rig_samples import empty_scene, evaluated
from walker import camera_from_world, filmed, walk

FRAMES = 40
FPS = 30.0
FIRST = 7
BONES = tuple(bone_name(segment.name) for segment in SEGMENTS)
JOINTS = [LANDMARKS_41.index(segment.joint) for segment in SEGMENTS]


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


def walking(frames: int = FRAMES, camera: Camera | None = None) -> PoseTrack:
    return filmed(walk(frames), camera or Camera.guessed((1280, 720)), camera_from_world())[0]


def figure_of(pose: PoseTrack, **options: Any) -> Any:
    return make_figure(
        pose, **{"name": "Ann figure", "fps": FPS, "first_frame": FIRST, "scene": bpy.context.scene, **options}
    )


def unsure(pose: PoseTrack, joint: str, confidence: np.ndarray | float) -> PoseTrack:
    changed = pose.confidence.copy()
    changed[:, LANDMARKS_41.index(joint)] = confidence
    return replace(pose, confidence=changed)


def child(figure: Any, part: str) -> Any:
    return next(thing for thing in figure.children if part in thing.name)


def material(figure: Any, look: str) -> Any:
    return child(figure, "body").material_slots[list(LOOKS).index(look)].material


def seen_px(points: np.ndarray, size_px: tuple[int, int]) -> np.ndarray:
    """(N, 2) where the scene's camera sees world points now."""
    from mathutils import Vector

    scene = bpy.context.scene
    camera = scene.camera.evaluated_get(bpy.context.evaluated_depsgraph_get())
    views = [world_to_camera_view(scene, camera, Vector(point)) for point in points]
    return np.array([(view.x * size_px[0], (1 - view.y) * size_px[1]) for view in views])


def heads(figure: Any) -> np.ndarray:
    """(S, 3) where the bones begin now, world."""
    now = figure.evaluated_get(bpy.context.evaluated_depsgraph_get())
    return np.array([now.matrix_world @ now.pose.bones[bone].head for bone in BONES])


@pytest.mark.parametrize(
    "camera",
    [Camera.guessed((1280, 720)), Camera.guessed((720, 1280)), Camera((1280, 720), (1100.0, 1100.0), (700.0, 310.0))],
)
def test_the_figure_covers_the_person_in_the_footage(camera: Camera) -> None:
    pose = walking(camera=camera)
    figure = figure_of(pose)
    camera_on_footage(bpy.context.scene, pose, None, fps=FPS, first_frame=FIRST)
    wanted_px = camera.project(pose.positions_m[:, JOINTS])
    for frame in (0, 13, FRAMES - 1):
        bpy.context.scene.frame_set(FIRST + frame)
        assert np.abs(seen_px(heads(figure), camera.size_px) - wanted_px[frame]).max() < 0.05


def moving(frames: int) -> CameraPath:
    """A camera that goes about the walker, tilting; somewhere in a world of its own."""
    angle = np.linspace(0, 0.6, frames)
    turn = from_rotation_vector(np.stack([0 * angle, 0 * angle, angle], axis=-1))
    tilt = from_rotation_vector(np.stack([-np.pi / 2 - 0.2 * angle, 0 * angle, 0.1 * angle], axis=-1))
    path = np.tile(np.eye(4), (frames, 1, 1))
    path[:, :3, :3] = to_matrix(multiply(turn, tilt))
    path[:, :3, 3] = np.stack([3 + np.sin(angle) * 2, -4 + angle, 1.2 + 0.5 * angle], axis=-1)
    return CameraPath(path, np.arange(frames) / FPS, np.arange(frames) + 1)


def test_the_figure_covers_the_person_before_a_moving_camera() -> None:
    camera = Camera.guessed((1280, 720))
    # The footage begins ten frames before the pose, and goes on for ten more.
    path = moving(FRAMES + 20)
    start = np.linalg.inv(path.world_from_camera[10])
    standing = walking(camera=camera)
    pose = replace(standing, world_from_camera=path.world_from_camera[10], time_s=standing.time_s + 10 / FPS)
    figure = figure_of(pose)
    scene = bpy.context.scene
    camera_on_footage(scene, pose, None, fps=FPS, first_frame=FIRST, motion=path)
    homogeneous = np.concatenate([pose.positions_m[:, JOINTS], np.ones((FRAMES, len(JOINTS), 1))], axis=-1)
    for frame in (0, 13, 14, FRAMES - 1):
        camera_from_start = np.linalg.inv(start @ path.world_from_camera[10 + frame])
        wanted_px = camera.project((homogeneous[frame] @ camera_from_start.T)[:, :3])
        scene.frame_set(FIRST + frame)
        assert np.abs(seen_px(heads(figure), camera.size_px) - wanted_px).max() < 0.1
    # Where the footage goes on, the camera does.
    for frame in (-9, FRAMES + 8):
        scene.frame_set(FIRST + frame)
        now = scene.camera.evaluated_get(bpy.context.evaluated_depsgraph_get()).matrix_world
        assert np.allclose(now.translation, path.world_from_camera[10 + frame, :3, 3], atol=1e-4)


def test_joints_of_a_body_that_is_not_rigid_are_met_as_well() -> None:
    """As the lifter gives it without a fit: bones stretch, and shoulders drift about the chest."""
    pose = walking()
    drift = 0.03 * np.sin(np.arange(FRAMES)[:, None, None] / 5 + np.arange(41)[:, None] + np.arange(3))
    pose = replace(pose, positions_m=pose.positions_m + drift)
    figure = figure_of(pose)
    found = evaluated(figure, FIRST + np.arange(0, FRAMES, 6.0), BONES)[..., :3, 3]
    assert np.abs(found - pose.positions_world_m()[::6][:, JOINTS]).max() < 1e-3


def test_another_frame_rate_stretches_the_keys() -> None:
    pose = walking()
    figure = figure_of(pose, fps=60.0, first_frame=101)
    found = evaluated(figure, [101 + 2 * 9.0], BONES)[..., :3, 3]
    assert np.abs(found - pose.positions_world_m()[9:10, JOINTS]).max() < 1e-3


def test_left_is_blue_and_on_the_persons_left() -> None:
    for ours, films in ((LEFT, preview._LEFT), (RIGHT, preview._RIGHT)):
        assert rgb_to_hsv(*ours)[0] == pytest.approx(rgb_to_hsv(*films)[0], abs=0.03)
    pose = walking()
    figure = figure_of(pose)
    bpy.context.scene.frame_set(FIRST)
    body = child(figure, "body")
    now = body.evaluated_get(bpy.context.evaluated_depsgraph_get()).data
    groups = {group.index: group.name for group in body.vertex_groups}
    for look, joints in LOOKS.items():
        slot = list(LOOKS).index(look)
        faces = [polygon for polygon in now.polygons if polygon.material_index == slot]
        vertices = sorted({vertex for face in faces for vertex in face.vertices})
        middle = np.mean([now.vertices[vertex].co for vertex in vertices], axis=0)
        wanted = pose.positions_world_m()[0, LANDMARKS_41.indices(*joints)].mean(axis=0)
        assert np.linalg.norm(middle - wanted) < 0.17, look
        side = look.partition(" ")[0].title()
        if side in ("Left", "Right"):
            assert all(groups[now.vertices[vertex].groups[0].group].startswith(side) for vertex in vertices)
    red, _, blue, _ = material(figure, "left foot").diffuse_color
    assert blue > 3 * red
    red, _, blue, _ = material(figure, "right foot").diffuse_color
    assert red > 3 * blue
    # In front of the face is the nose: the person walks where it points.
    nose = pose.positions_world_m()[0, LANDMARKS_41.index("nose")]
    assert min(np.linalg.norm(np.array(vertex.co) - nose) for vertex in now.vertices) < 0.03


def test_the_body_is_whole_and_stiff() -> None:
    figure = figure_of(walking())
    body = child(figure, "body")
    assert all(len(vertex.groups) == 1 and vertex.groups[0].weight == 1 for vertex in body.data.vertices)
    for part in body_parts(own_skeleton(walking())[0]):
        edges: dict[tuple[int, int], int] = {}
        volume = 0.0
        for face in part.faces:
            corners = part.verts[list(face)]
            for a, b in zip(face, (*face[1:], face[0]), strict=True):
                edges[min(a, b), max(a, b)] = edges.get((min(a, b), max(a, b)), 0) + 1
            for one, two in zip(corners[1:-1], corners[2:], strict=True):
                volume += float(np.dot(corners[0], np.cross(one, two))) / 6
        assert set(edges.values()) == {2}, part.look
        assert volume > 0, part.look


def test_the_figure_stands_on_the_floor_in_its_own_size() -> None:
    pose = walking()
    figure = figure_of(pose)
    for frame in (3, 12, 25):
        bpy.context.scene.frame_set(FIRST + frame)
        body = child(figure, "body").evaluated_get(bpy.context.evaluated_depsgraph_get()).data
        heights = np.array([vertex.co.z for vertex in body.vertices])
        # A sole is a little below the bones of the foot.
        assert -0.06 < heights.min() - pose.positions_world_m()[frame, :, 2].min() < 0.01
        assert heights.max() == pytest.approx(pose.positions_world_m()[frame, :, 2].max(), abs=0.04)


def test_doubt_turns_a_part_pale_where_it_changes() -> None:
    confidence = np.where(np.arange(FRAMES) < 20, 0.9, 0.05)
    figure = figure_of(unsure(walking(), "l_wrist", confidence))
    forearm, thigh = material(figure, "left forearm"), material(figure, "left thigh")
    linear = {}
    for frame in (0, 19, 20, FRAMES - 1):
        bpy.context.scene.frame_set(FIRST + frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        now = forearm.evaluated_get(depsgraph)
        shader = next(node for node in now.node_tree.nodes if node.type == "BSDF_PRINCIPLED")
        linear[frame] = np.array(now.diffuse_color)
        assert np.allclose(shader.inputs[0].default_value, linear[frame], atol=1e-6)
        assert np.allclose(thigh.evaluated_get(depsgraph).diffuse_color, thigh.diffuse_color)
    srgb = {
        frame: 255 * np.where(value < 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
        for frame, value in linear.items()
    }
    for frame in (0, 19):
        assert np.allclose(srgb[frame][:3], LEFT, atol=0.5)
    for frame in (20, FRAMES - 1):
        assert np.allclose(srgb[frame][:3], UNSURE, atol=0.5)
    assert forearm.animation_data.action is not None and thigh.animation_data is None


def test_colour_keys_follow_the_doubt_and_are_few() -> None:
    rng = np.random.default_rng(0)
    for doubt in (
        np.zeros(500),
        np.linspace(0, 1, 500),
        np.repeat([0.0, 1.0, 0.3], 200),
        np.clip(0.5 + 0.4 * np.sin(np.arange(3000) / 40) + 0.02 * rng.standard_normal(3000), 0, 1),
    ):
        keys = colour_keys(doubt)
        shown = np.interp(np.arange(len(doubt)), keys, doubt[keys])
        assert np.abs(shown - doubt).max() <= 3 * COLOUR_STEP + 1e-6
        assert len(keys) <= MOST_COLOUR_KEYS
    assert len(colour_keys(np.zeros(500))) == 1
    assert len(colour_keys(rng.uniform(0, 1, 100_000))) <= MOST_COLOUR_KEYS
    assert len(colour_keys(np.array([0.4]))) == 1


def test_doubt_is_that_of_the_least_sure_joint() -> None:
    pose = unsure(walking(), "r_elbow", 0.3)
    assert doubt_of(pose, "right upper arm") == pytest.approx(np.full(FRAMES, 0.5))
    assert doubt_of(pose, "right forearm") == pytest.approx(np.full(FRAMES, 0.5))
    assert not doubt_of(pose, "right hand").any()


def test_a_mark_lies_under_a_foot_while_it_stands() -> None:
    pose = walking()
    figure = figure_of(pose)
    stands = pose.contact > 0.5
    seen = 0
    for frame in range(FRAMES):
        bpy.context.scene.frame_set(FIRST + frame)
        depsgraph = bpy.context.evaluated_depsgraph_get()
        for side, letter, columns in (("left", "l", slice(0, 2)), ("right", "r", slice(2, 4))):
            mark = child(figure, f"{side} footprint").evaluated_get(depsgraph)
            assert mark.hide_viewport == mark.hide_render
            if not mark.hide_viewport:
                sole = pose.positions_world_m()[frame, LANDMARKS_41.indices(f"{letter}_heel", f"{letter}_toe_base")]
                place = np.array(mark.matrix_world.translation)
                assert np.linalg.norm((place - sole.mean(axis=0))[:2]) < 0.06
                ahead = np.array(mark.matrix_world.to_3x3().col[1])[:2]
                assert ahead @ (sole[1] - sole[0])[:2] > 0.9 * np.linalg.norm((sole[1] - sole[0])[:2])
                seen += 1
            # Contacts are smoothed a little, so at their ends both is right.
            around = stands[max(0, frame - 2) : frame + 3, columns].any(axis=1)
            if around.all() or not around.any():
                assert mark.hide_viewport != around.all()
    assert seen > FRAMES / 2


def test_markers_go_with_the_figure_whatever_it_is_called() -> None:
    scene = bpy.context.scene
    scene.timeline_markers.new("mine", frame=3)
    figure = figure_of(walking())
    assert any(marker.name.startswith("Ann figure: left foot") for marker in scene.timeline_markers)
    figure.name = "Bob"
    update_figure(figure, walking(), fps=FPS, first_frame=FIRST)
    assert {marker.name.partition(":")[0] for marker in scene.timeline_markers} == {"mine", "Bob"}
    update_figure(figure, walking(), fps=FPS, first_frame=FIRST, markers=False)
    assert [marker.name for marker in scene.timeline_markers] == ["mine"]
    update_figure(figure, walking(), fps=FPS, first_frame=FIRST)
    remove_figure(figure)
    assert [marker.name for marker in scene.timeline_markers] == ["mine"]


def belongings() -> dict[str, int]:
    kinds = ("objects", "meshes", "armatures", "materials", "actions", "collections")
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}


def test_lifted_again_it_moves_anew_and_nothing_piles_up() -> None:
    figure = figure_of(unsure(walking(), "l_wrist", np.linspace(0, 1, FRAMES)))
    before = belongings()
    figure.location.x = 2.0
    figure.pose.bones["Head"].location.y = 0.5
    other = unsure(walking(FRAMES + 10), "r_knee", np.linspace(0, 1, FRAMES + 10))
    other = replace(other, positions_m=other.positions_m + [0.0, 0.0, 1.0])
    data = figure.data
    assert update_figure(figure, other, fps=FPS, first_frame=1) == figure
    assert belongings() == before
    assert figure.data == data
    # Where the animator put it to the side, it stays.
    wanted = other.positions_world_m()[[20, FRAMES + 9]][:, JOINTS] + [2.0, 0.0, 0.0]
    assert np.abs(evaluated(figure, [21, FRAMES + 10], BONES)[..., :3, 3] - wanted).max() < 1e-3
    assert material(figure, "left forearm").animation_data.action is None
    assert material(figure, "right shank").animation_data.action is not None


def test_another_person_gives_it_another_body() -> None:
    figure = figure_of(walking())
    before = belongings()
    tall = walking()
    tall = replace(tall, positions_m=tall.positions_m * 1.2)
    update_figure(figure, tall, fps=FPS, first_frame=FIRST)
    assert belongings() == before
    found = evaluated(figure, FIRST + np.array([0.0, 20.0]), BONES)[..., :3, 3]
    assert np.abs(found - tall.positions_world_m()[[0, 20]][:, JOINTS]).max() < 1e-3
    body = child(figure, "body").data
    height = max(vertex.co.z for vertex in body.vertices) - min(vertex.co.z for vertex in body.vertices)
    assert height == pytest.approx(1.2 * 1.75, abs=0.12)


def test_what_was_deleted_of_it_comes_back() -> None:
    figure = figure_of(walking())
    for part in ("body", "left footprint"):
        bpy.data.objects.remove(child(figure, part))
    update_figure(figure, walking(), fps=FPS, first_frame=FIRST)
    assert len(figure.children) == 3
    # Another material in a slot is the artist's.
    child(figure, "body").material_slots[0].material = own = bpy.data.materials.new("Gold")
    update_figure(figure, unsure(walking(), "head", np.linspace(0, 1, FRAMES)), fps=FPS, first_frame=FIRST)
    assert own.animation_data is None
    remove_figure(figure)
    assert "Gold" in bpy.data.materials


def test_removed_it_is_gone_without_a_trace() -> None:
    bystander = bpy.data.objects.new("Bystander", None)
    bpy.context.scene.collection.objects.link(bystander)
    before = belongings()
    for by_name in (True, False):
        figure = figure_of(unsure(walking(), "l_wrist", np.linspace(0, 1, FRAMES)))
        assert belongings() != before
        remove_figure(figure.name if by_name else figure)
        assert belongings() == before
    remove_figure("nowhere")
    remove_figure(bystander)
    assert belongings() == before


def test_everything_is_in_one_collection() -> None:
    first, second = figure_of(walking()), figure_of(walking(), name="Bob figure")
    (collection,) = [collection for collection in bpy.data.collections if collection.name == "Keylift"]
    assert {thing.name for thing in collection.objects} == {
        thing.name for figure in (first, second) for thing in (figure, *figure.children)
    }
    assert not len(bpy.context.scene.collection.objects)
    collection.name = "Previews"
    own = bpy.data.collections.new("Mine")
    bpy.context.scene.collection.children.link(own)
    third = figure_of(walking(), name="Cy figure", collection=own)
    figure_of(walking(), name="Di figure")
    assert third.users_collection == (own,) and len(collection.objects) == 12
    assert all(FIGURE_MARK in thing for thing in (*collection.objects, *own.objects))


@pytest.mark.parametrize("mode", ["OBJECT", "POSE", "EDIT"])
def test_what_the_artist_is_doing_goes_on(mode: str) -> None:
    data = bpy.data.armatures.new("rig")
    rig = bpy.data.objects.new("rig", data)
    other = bpy.data.objects.new("other", None)
    for thing in (rig, other):
        bpy.context.scene.collection.objects.link(thing)
    bpy.context.view_layer.objects.active = rig
    rig.select_set(True)
    bpy.ops.object.mode_set(mode=mode)
    figure = figure_of(walking())
    layer = bpy.context.view_layer
    assert layer.objects.active == rig and rig.mode == mode
    assert rig.select_get() and not other.select_get() and not figure.select_get()
    assert figure.mode == "OBJECT"
    bpy.ops.object.mode_set(mode="OBJECT")


def test_a_figure_goes_into_the_scene_it_is_for() -> None:
    shown = bpy.context.scene
    other = bpy.data.scenes.new("Other")
    figure = figure_of(walking(), scene=other)
    assert figure.users_scene == (other,) and not len(shown.objects) and not len(shown.timeline_markers)
    assert len(other.timeline_markers)
    figure_of(walking(), name="Here")
    assert len(shown.objects) == 4 and len(other.objects) == 4


def test_what_is_no_figure_is_told() -> None:
    with pytest.raises(RigError, match="no figure"):
        update_figure(bpy.data.objects.new("cube", None), walking(), fps=FPS, first_frame=1)
    pose = walking()
    other = replace(
        pose,
        skeleton=H36M_17,
        positions_m=pose.positions_m[:, :17],
        rotations_wxyz=pose.rotations_wxyz[:, :17],
        confidence=pose.confidence[:, :17],
    )
    before = belongings()
    with pytest.raises(RigError, match="41 landmarks"):
        figure_of(other)
    assert belongings() == before
    figure = figure_of(pose)
    for holder in figure.users_collection:
        holder.objects.unlink(figure)
    with pytest.raises(RigError, match="no scene"):
        update_figure(figure, pose, fps=FPS, first_frame=1)


@pytest.mark.parametrize("frames", [1, 2])
def test_a_take_of_a_frame_or_two(frames: int) -> None:
    pose = walking(30)
    short = replace(
        pose,
        **{
            name: getattr(pose, name)[:frames]
            for name in ("positions_m", "rotations_wxyz", "confidence", "contact", "time_s", "frame_index")
        },
    )
    figure = figure_of(short)
    found = evaluated(figure, [float(FIRST)], BONES)[..., :3, 3]
    assert np.abs(found[0] - short.positions_world_m()[0, JOINTS]).max() < 1e-3


def test_an_upside_down_world_is_no_trouble() -> None:
    """A moving camera's world has its floor anywhere; somebody may stand on his hands in it."""
    pose = walking()
    turned = np.diag([1.0, -1.0, -1.0, 1.0]) @ pose.world_from_camera
    turned[2, 3] -= 4.0
    figure = figure_of(replace(pose, world_from_camera=turned))
    found = evaluated(figure, [FIRST + 4.0], BONES)[..., :3, 3]
    wanted = pose.positions_m[4, JOINTS] @ turned[:3, :3].T + turned[:3, 3]
    assert np.abs(found[0] - wanted).max() < 1e-3


def test_bones_are_turned_as_the_body_is() -> None:
    pose = walking()
    found = evaluated(figure_of(pose), [FIRST + 11.0], BONES)[0, :, :3, :3]
    turns = to_matrix(segments_from_joint_rotations(pose.rotations_wxyz)[11])
    rest = own_skeleton(pose)[0].armature_from_bone[:, :3, :3]
    body_from_armature = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    wanted = pose.world_from_camera[:3, :3] @ turns @ body_from_armature @ rest
    assert np.abs(found - wanted).max() < 1e-3


@pytest.mark.alone
def test_a_long_take_is_there_at_once() -> None:
    pose = unsure(walking(1000), "l_wrist", 0.5 + 0.4 * np.sin(np.arange(1000) / 9))
    begun = time.perf_counter()
    figure = figure_of(pose)
    made = time.perf_counter() - begun
    begun = time.perf_counter()
    update_figure(figure, pose, fps=FPS, first_frame=FIRST)
    updated = time.perf_counter() - begun
    print(f"made in {made:.3f} s, updated in {updated:.3f} s")
    # A busy machine takes several times what an idle one does.
    assert made < 1.5 and updated < 1.5
