"""BVH is read by programs that we have never seen, so what we write is read by three readers, two of them not ours."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pybvh
import pytest

from keylift.core.errors import OutputError
from keylift.core.rotations import from_rotation_vector, slerp, to_matrix
from keylift.rig_mapping import bvh_writing
from keylift.rig_mapping.bone_motion import BoneMotion, fk
from keylift.rig_mapping.bvh_writing import write_bvh, write_motion_bvh
from keylift.rig_mapping.rest_pose import RestPose
from keylift.training.motion.bvh_reader import read_bvh

Z_UP_FROM_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
PARENTS = (-1, 0, 1, 1, 0, 4)
NAMES = ("hips", "spine", "head", "arm.L", "thigh L", "shin")
FRAMES = 9


def rest_pose(parents: tuple[int, ...] = PARENTS, scale: float = 1.0, seed: int = 0) -> RestPose:
    """Bones of random directions and rolls, in an object that is moved, turned and scaled."""
    rng = np.random.default_rng(seed)
    bones = len(parents)
    armature_from_bone = np.tile(np.eye(4), (bones, 1, 1))
    armature_from_bone[:, :3, :3] = to_matrix(from_rotation_vector(rng.normal(0, 1, (bones, 3))))
    for bone, parent in enumerate(parents):
        start = armature_from_bone[parent, :3, 3] if parent >= 0 else np.zeros(3)
        armature_from_bone[bone, :3, 3] = start + rng.normal(0, 0.3, 3)
    world_from_armature = np.eye(4)
    world_from_armature[:3, :3] = scale * to_matrix(from_rotation_vector(np.array([1.2, 0.3, -0.5])))
    world_from_armature[:3, 3] = [0.4, -1.0, 0.2]
    basis = np.tile(np.eye(4), (bones, 1, 1))
    basis[-1, :3, :3] = to_matrix(from_rotation_vector(np.array([0.2, 0.4, 0.1])))
    return RestPose(
        name="hero",
        names=NAMES[:bones],
        parents=parents,
        armature_from_bone=armature_from_bone,
        lengths=rng.uniform(0.1, 0.4, bones),
        rotation_modes=("QUATERNION",) * bones,
        inherit_rotation=np.ones(bones, dtype=bool),
        local_location=np.ones(bones, dtype=bool),
        locks=np.zeros((bones, 3), dtype=bool),
        use_connect=np.zeros(bones, dtype=bool),
        basis=basis,
        world_from_armature=world_from_armature,
    )


def moving(
    rest: RestPose, frames: int = FRAMES, fps: float = 30.0, kept: np.ndarray | None = None, starts_s: float = 0.0
) -> BoneMotion:
    """Turns of all bones but the last, and a path, both faster and faster; all frames or those ``kept``."""
    rng = np.random.default_rng(1)
    index = np.arange(frames) if kept is None else kept
    keyed = tuple(range(len(rest) - 1))
    since = ((index / max(1, frames - 1)) ** 2)[:, None, None]
    ends = [from_rotation_vector(rng.normal(0, 0.8, (1, len(keyed), 3))) for _ in range(2)]
    return BoneMotion(
        keyed=keyed,
        rotations_wxyz=slerp(ends[0], ends[1], since),
        moved=(0,),
        locations=since * rng.normal(0, 1, (1, 1, 3)),
        world_scale=1.0,
        time_s=starts_s + index / fps,
        frame_index=index,
        fps=fps,
        bone_map="",
    )


def posed(rest: RestPose, motion: BoneMotion) -> np.ndarray:
    return rest.world_from_armature @ fk(rest, motion)


def heads_by_pybvh(path: Path, rest: RestPose) -> np.ndarray:
    """(F, B, 3) world, z up."""
    bvh = pybvh.read_bvh_file(path, world_up="+y")
    columns = [bvh.joint_names.index("_".join(name.split())) for name in rest.names]
    return bvh.joint_positions()[:, columns] @ Z_UP_FROM_Y_UP.T


def heads_by_training(path: Path, rest: RestPose) -> np.ndarray:
    """(F, B, 3) world, z up."""
    bvh = read_bvh(path)
    columns = [bvh.names.index("_".join(name.split())) for name in rest.names]
    return bvh.world(slice(None))[0][:, columns] @ Z_UP_FROM_Y_UP.T


@pytest.mark.parametrize("reader", [heads_by_pybvh, heads_by_training])
@pytest.mark.parametrize("scale", [1.0, 0.01, 100.0])
@pytest.mark.parametrize("frames", [1, 2, FRAMES])
def test_joints_are_where_the_rig_had_them(tmp_path: Path, reader: object, scale: float, frames: int) -> None:
    rest = rest_pose(scale=scale)
    motion = moving(rest, frames)
    write_motion_bvh(tmp_path / "take.bvh", rest, motion)
    found = reader(tmp_path / "take.bvh", rest)  # type: ignore[operator]
    assert np.abs(found - posed(rest, motion)[..., :3, 3]).max() < 1e-5 * max(1.0, scale)
    assert [path.name for path in tmp_path.iterdir()] == ["take.bvh"]


def test_ends_of_bones_and_their_turns_too(tmp_path: Path) -> None:
    """A joint's place tells nothing of its own turn; the tip of a last bone does."""
    rest = rest_pose()
    motion = moving(rest)
    write_motion_bvh(tmp_path / "take.bvh", rest, motion)
    bvh = read_bvh(tmp_path / "take.bvh")
    world = posed(rest, motion)
    tips = world[..., :3, 3] + world[..., :3, 1] * rest.lengths[:, None]
    places = bvh.world(slice(None))[0] @ Z_UP_FROM_Y_UP.T
    for bone in (2, 3, 5):
        end = bvh.names.index("_".join(rest.names[bone].split()) + "_end")
        assert np.abs(places[:, end] - tips[:, bone]).max() < 1e-5


def test_the_zero_pose_is_the_rest_pose_and_y_is_up(tmp_path: Path) -> None:
    rest = rest_pose()
    write_motion_bvh(tmp_path / "take.bvh", rest, moving(rest))
    bvh = read_bvh(tmp_path / "take.bvh")
    heads = rest.heads @ rest.world_from_armature[:3, :3].T + rest.world_from_armature[:3, 3]
    columns = [bvh.names.index("_".join(name.split())) for name in rest.names]
    assert np.abs(bvh.zero_pose()[columns] @ Z_UP_FROM_Y_UP.T - heads).max() < 1e-5


def test_several_roots_get_one_above_them_that_is_called_like_no_bone(tmp_path: Path) -> None:
    rest = replace(rest_pose((-1, 0, -1, 2)), name="hips")
    motion = moving(rest)
    write_motion_bvh(tmp_path / "take.bvh", rest, motion)
    assert read_bvh(tmp_path / "take.bvh").names[0] == "hips_root"
    found = heads_by_training(tmp_path / "take.bvh", rest)
    assert np.abs(found - posed(rest, motion)[..., :3, 3]).max() < 1e-5


@pytest.mark.parametrize("fps", [24.0, 30000 / 1001, 60000 / 1001, 120.0, 1000.0])
def test_the_frame_rate(tmp_path: Path, fps: float) -> None:
    rest = rest_pose()
    motion = moving(rest, fps=fps)
    # Rounded to whole milliseconds by the container: steady all the same.
    if fps < 100:
        motion = replace(motion, time_s=np.round(motion.time_s, 3))
    write_motion_bvh(tmp_path / "take.bvh", rest, motion)
    # Readers round the rate to a whole one, so the file itself is looked at.
    (line,) = (line for line in (tmp_path / "take.bvh").read_text().splitlines() if line.startswith("Frame Time:"))
    assert 1 / float(line.partition(":")[2]) == pytest.approx(fps, rel=1e-6)
    assert np.abs(heads_by_training(tmp_path / "take.bvh", rest) - posed(rest, motion)[..., :3, 3]).max() < 1e-5


def test_uneven_times_are_written_at_a_steady_rate(tmp_path: Path) -> None:
    rest, fps = rest_pose(), 30.0
    steady = moving(rest, 61, fps)
    # Pictures that were dropped, here and there up to five in a row.
    kept = np.array([0, 1, 2, 7, 8, 10, 11, 12, 16, 20, 21, 25, 30, 31, 32, 33, 38, 43, 44, 48, 52, 56, 60])
    # From wherever the shot begins in the footage.
    uneven = moving(rest, 61, fps, kept, starts_s=3.7)
    write_motion_bvh(tmp_path / "take.bvh", rest, uneven)
    found = heads_by_training(tmp_path / "take.bvh", rest)
    assert len(found) == 61
    wanted = posed(rest, steady)[..., :3, 3]
    assert np.abs(found[kept] - wanted[kept]).max() < 1e-5
    assert np.abs(found - wanted).max() < 5e-3


def test_angles_never_jump(tmp_path: Path) -> None:
    rest = rest_pose((-1, 0))
    turns = np.linspace(0, 6 * np.pi, 90)
    motion = moving(rest, 90)
    wxyz = from_rotation_vector(turns[:, None, None] * np.array([0.0, 1.0, 0.0]))
    write_motion_bvh(tmp_path / "take.bvh", rest, replace(motion, rotations_wxyz=wxyz))
    values = read_bvh(tmp_path / "take.bvh").values
    assert np.abs(np.diff(values, axis=0)).max() < 90


def test_frames_by_the_block_are_as_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rest, rng = rest_pose(), np.random.default_rng(3)
    motion = moving(rest, 400)
    # Often beyond half a turn, so that blocks have to go on where the one before was.
    swings = np.cumsum(rng.normal(0, 0.15, (400, 5, 3)), axis=0)
    motion = replace(motion, rotations_wxyz=from_rotation_vector(swings))
    uneven = replace(motion, time_s=np.cumsum(rng.uniform(0.02, 0.06, 400)))
    # Far denser than the file's frames for a while.
    dense = replace(motion, time_s=np.cumsum(np.where(np.arange(400) % 100 < 90, 0.0005, 0.3)))
    for name, take in (("steady", motion), ("uneven", uneven), ("dense", dense)):
        written = []
        for block in (1, 37, 256, 10_000):
            monkeypatch.setattr(bvh_writing, "_BLOCK", block)
            write_motion_bvh(tmp_path / f"{name}-{block}.bvh", rest, take)
            written.append((tmp_path / f"{name}-{block}.bvh").read_text())
        values = [read_bvh(tmp_path / f"{name}-{block}.bvh").values for block in (1, 37, 256, 10_000)]
        assert len({text.split("MOTION")[0] for text in written}) == 1
        assert all(np.abs(found - values[-1]).max() <= 2e-6 for found in values)


def test_a_long_take_needs_no_more_memory_than_a_short_one(tmp_path: Path) -> None:
    rest = rest_pose()
    step = posed(rest, moving(rest, 300))

    def posed_at(rows: slice) -> np.ndarray:
        return step[np.arange(rows.start, rows.stop) % 300]

    peaks = []
    for frames in (600, 6000):
        tracemalloc.start()
        bvh_writing.write_bvh_here(tmp_path / "take.bvh", rest, frames, posed_at, 30.0)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert len(read_bvh(tmp_path / "take.bvh").values) == 6000
    assert peaks[1] < 1.2 * peaks[0]


def test_blenders_importer_reads_the_same(tmp_path: Path) -> None:
    bpy = pytest.importorskip("bpy")
    import addon_utils

    from rig_samples import empty_scene, evaluated

    rest = rest_pose()
    motion = moving(rest)
    write_motion_bvh(tmp_path / "take.bvh", rest, motion)
    empty_scene()
    addon_utils.enable("io_anim_bvh", default_set=False)
    bpy.ops.import_anim.bvh(filepath=str(tmp_path / "take.bvh"))
    armature = next(thing for thing in bpy.data.objects if thing.type == "ARMATURE")
    names = tuple("_".join(name.split()) for name in rest.names)
    found = evaluated(armature, np.arange(FRAMES) + 1.0, names)[..., :3, 3]
    assert np.abs(found - posed(rest, motion)[..., :3, 3]).max() < 1e-5


def test_times_without_end_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    rest = rest_pose()
    motion = moving(rest, 2)
    with pytest.raises(OutputError, match="time stamps may be broken"):
        write_motion_bvh(tmp_path / "take.bvh", rest, replace(motion, time_s=np.array([0.0, 1e9])))
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    rest = rest_pose()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"take\.bvh' can't be written"):
        write_motion_bvh(tmp_path / "file" / "take.bvh", rest, moving(rest))


@pytest.mark.parametrize("broken", ["shape", "empty", "nan", "fps", "times"])
def test_what_is_no_motion(tmp_path: Path, broken: str) -> None:
    rest = rest_pose()
    world = posed(rest, moving(rest))
    fps, time_s = 30.0, np.arange(FRAMES) / 30.0
    if broken == "shape":
        world = world[:, :-1]
    elif broken == "empty":
        world, time_s = world[:0], time_s[:0]
    elif broken == "nan":
        world[0, 0, 0, 3] = np.nan
    elif broken == "fps":
        fps = 0.0
    else:
        time_s = time_s[::-1]
    with pytest.raises(ValueError):
        write_bvh(tmp_path / "take.bvh", rest, world, fps, time_s)
    assert not list(tmp_path.iterdir())
