"""Small sound files of every kind that Keylift reads from outside, and how each kind is read.

Whoever attacks a reader takes a sound file of its kind from here, breaks it, and has it read.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import re
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import psutil

from checkout import ROOT
from keylift.core.camera import Camera
from keylift.core.errors import KeyliftError
from walker import camera_from_world, filmed, walk

# What a hostile file of these sizes may cost at most, on a machine that has other work; of memory, beyond what the
# process had before.
MOST_SECONDS = 3.0
MOST_MEMORY = 160 << 20
# What took no longer is read once more, to see what memory was asked for.
_QUICK_S = 0.3

BVH = """HIERARCHY
ROOT hip
{
  OFFSET 0 1 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT arm
  {
    OFFSET 0 2 0
    CHANNELS 3 Zrotation Xrotation Yrotation
    End Site
    {
      OFFSET 3 0 0
    }
  }
}
MOTION
Frames: 3
Frame Time: 0.0333333
0 0 0 0 0 0 10 20 30
0 1 0 0 0 0 10 20 30
0 1 2.5 90 0 0 -10 1e1 30
"""
CAMERA = """width = 1920
height = 1080
fx = 1500.5
cy = 540
distortion = [0.1, -0.05, 0.001, 0, 0]
"""
JOINT_MAP = """title = "A rig"
kind = "bvh"
metres_per_unit = 0.01
up = "y"
skip_frames = 1
[landmarks]
neck = "Neck"
{}
[offsets]
LeftFoot = {{direction = [0, -1, 0], as_long_as = "RightFoot", times = 1.5}}
[pitch_deg]
Head = 12.5
""".format(
    "\n".join(
        f'{side}_{joint} = {{at = ["{side}{joint}", "{side}{joint}2"], weights = [2, 1], offset_m = [0, 0.01, 0]}}'
        for side in "lr"
        for joint in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    )
)
CAMERAS = """[[camera]]
subject = "S1"
name = "left"
size_px = [1000, 1002]
focal_px = [1145.0, 1143.8]
radial = [-0.2, 0.24, -0.002]
orientation_wxyz = [0.5, -0.5, 0.5, -0.5]
translation_mm = [1841.1, 4955.3, 1563.4]
"""
CALIBRATION = "".join(
    f"""[cam_{number}]
name = "cam_{number}"
size = [1920.0, 1080.0]
matrix = [[1600.0, 0.0, 960.0], [0.0, 1600.0, 540.0], [0.0, 0.0, 1.0]]
distortions = [-0.05, 0.1, 0.0, 0.0]
rotation = [1.2, 0.3, -0.{number}]
translation = [0.1, -0.2, 4.5]
"""
    for number in (1, 2)
)
QUALISYS = "<calibration><cameras>{}</cameras></calibration>".format(
    "".join(
        f"""<camera serial="{number}"><fov_video left="0" top="0" right="1919" bottom="1079"/>
<transform x="100" y="-200.5" z="1500" r11="1" r12="0" r13="0" r21="0" r22="1" r23="0" r31="0" r32="0" r33="1"/>
<intrinsic focalLengthU="96000" focalLengthV="96000" centerPointU="61440" centerPointV="34560" radialDistortion1="0"
radialDistortion2="0" radialDistortion3="0" tangentalDistortion1="0" tangentalDistortion2="0"/></camera>"""
        for number in (1, 2)
    )
)
PAIRS = """[[pair]]
footage = "clip.mp4"
motion = "clip.bvh"
offset_s = 1.25
fps = 60
camera_from_world = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
"""
BONE_MAP = {
    "format": 2,
    "name": "Mine",
    "bones": {"pelvis": "Hips", "chest": ["Spine", "Spine1"], "l_thigh": "LeftUpLeg", "r_thigh": "RightUpLeg"},
    "root": "Root",
}
JOBS = """[defaults]
rig = "skeleton"
formats = [".pose.npz"]
[[jobs]]
clip = "walk.mp4"
name = "hero"
person = "all"
people = ["anna", "ben"]
frames = "0-10"
[[jobs]]
clips = "*.mp4"
"""
REQUEST = {"say": "request", "job": 3, "argv": ["lift", "x.keypoints.npz", "-o", "x.pose.npz"]}
EVENTS = (
    {"say": "ready", "protocol": 1, "version": "1.0.0", "python": "3.11.2"},
    {"say": "progress", "job": 3, "stage": "detect", "title": "Finding people", "done": 4, "total": None},
    {"say": "result", "job": 3, "values": {"frames": 4, "seconds": {"lift": 0.5}}},
    {"say": "failure", "job": 3, "message": "No.", "kind": "KeyliftError", "exit_code": 1},
)
IN_USE = {
    "schema_version": 1,
    "history": [{"name": "default", "sha256": "", "at": "2026-01-01T00:00:00+00:00"}],
}
ADAPT_REQUEST = {
    **dict.fromkeys(("footage", "motion", "corrections"), ["a.mp4"]),
    **dict.fromkeys(("joint_map", "pairs", "camera", "fps", "person", "steps")),
    "name": "studio",
    "base": "default",
    "minutes": 10,
    "seed": 0,
    "frames": [0, 10],
    "detector_model": "full",
    "no_repair": False,
    "replace": False,
    "use": True,
}
MANIFEST = {
    "schema_version": 1,
    "take": "hero",
    "job": "hero",
    "source": {"name": "walk.mp4", "sha256": "0" * 64},
    "frames": 10,
    "fps": 25.0,
    "files": ["hero.bvh"],
    "quality": {"seen": 0.9, "slide_mm_s": 12.5},
    "seconds": {"detect": 1.5, "lift": 0.2},
}
RECORD = {
    "schema_version": 1,
    "status": "failed",
    "stage": "lift",
    "message": "No.",
    "takes": ["hero"],
    "clip": "w.mp4",
}
FOOTAGE_SET = {
    "version": 1,
    "fps": 30.0,
    "moments": 0,
    "clips": [],
    "stretches": {"start": [0], "name": []},
    "sha256": {"rays": "0" * 64},
}


LOG = [{"step": 0, "seconds": 0.5, "held_out_mm": 71.5}, {"step": 20, "seconds": 9, "held_out_mm": 64, "loss": 1e-3}]
RUN_RESULT = {"name": "studio", "better": True, "seconds": {"learn": 3.5}}
RUN_SETTINGS = """name = "studio"
base = "default"
[loop]
steps = 20
seed = 1
"""
EARLIER = {"mean": {"all": {"mpjpe_mm": 51.25, "bend_deg": None}, "fast": {"mpjpe_mm": 70}}}


@dataclass(frozen=True)
class Kind:
    """One kind of file: its ending, sound files of it, and everything that reads it.

    samples: contents of sound files
    read:    has a file of this kind read, in a folder of its own
    """

    name: str
    ending: str
    samples: Callable[[], list[bytes]]
    read: Callable[[Path], object]


# ---- Sound files ----------------------------------------------------------------------------------------------------


def written(write: Callable[[Path], object], name: str) -> bytes:
    """What ``write`` writes to a path with this name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        return path.read_bytes()


def packed(how: Callable[..., Any] = np.savez_compressed, **arrays: Any) -> bytes:
    """An .npz file of ``arrays``."""
    file = io.BytesIO()
    how(file, **arrays)
    return file.getvalue()


@cache
def tracks() -> tuple[Any, Any]:
    """A pose and its keypoints, of eight frames."""
    return filmed(walk(8), Camera.guessed((640, 480)), camera_from_world())


def keypoint_file() -> bytes:
    """A small ``*.keypoints.npz``."""
    from keylift.core.track_files import write_keypoints

    return written(lambda path: write_keypoints(path, tracks()[1]), "x.keypoints.npz")


def pose_file() -> bytes:
    """A small ``*.pose.npz``."""
    from keylift.core.track_files import write_pose

    return written(lambda path: write_pose(path, tracks()[0]), "x.pose.npz")


def arrays_of(content: bytes) -> dict[str, Any]:
    """The arrays of an .npz without pickles."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return dict(file)


def camera_motion_file() -> bytes:
    """A small solved camera."""
    return packed(world_from_camera=np.tile(np.eye(4), (4, 1, 1)), time_s=np.arange(4) / 25)


def motion_set_file() -> bytes:
    """A small landmark set of two clips."""
    from keylift.core.skeletons import LANDMARKS_41

    return packed(
        positions_q=np.round(walk(12, 60.0).positions_m * 1000).astype(np.int16),
        position_quantum_m=np.float32(0.001),
        clip_start=np.array([0, 6, 12]),
        clip_name=np.array(["a", "b"]),
        clip_subject=np.array(["s", "s"]),
        clip_source=np.array(["x", "y"]),
        fps=np.float64(60),
        joint_names=np.array(LANDMARKS_41.names),
    )


def _objects(values: list[Any]) -> np.ndarray:
    array = np.empty((len(values), 2), object)
    for place, value in enumerate(values):
        array[place, 0], array[place, 1] = [], value
    return array


def detections_file() -> bytes:
    """What a Detectron-like detector writes for a video of three frames."""
    boxes = [np.array([[0, 0, 9, 9, 0.9]]), np.zeros((0, 5)), np.array([[0, 0, 9, 9, 0.8]])]
    points = [np.full((1, 4, 17), 0.5), np.zeros((0, 4, 17)), np.full((1, 4, 17), 0.75)]
    metadata = np.array({"w": 640, "h": 480}, dtype=object)
    return packed(np.savez, boxes=_objects(boxes), keypoints=_objects(points), metadata=metadata)


def pose_set_file() -> bytes:
    """A small ``data_3d_*.npz``."""
    positions = {"S1": {"Walking": np.arange(90.0, dtype=np.float32).reshape(2, 15, 3)}}
    return packed(positions_3d=np.array(positions, dtype=object))


def keypoint_set_file() -> bytes:
    """A small ``data_2d_*.npz``."""
    points = {"S1": {"Walking": [np.arange(68.0, dtype=np.float32).reshape(2, 17, 2)]}}
    metadata = {
        "layout_name": "coco",
        "num_joints": 17,
        "keypoints_symmetry": [list(range(1, 17, 2)), list(range(2, 17, 2))],
    }
    return packed(positions_2d=np.array(points, dtype=object), metadata=np.array(metadata, dtype=object))


def weights_file(*, hashed: bool = False) -> bytes:
    """A small lifter of footage, untrained."""
    from weights_samples import small_weights, without_hashes

    return written(lambda path: small_weights(path) if hashed else without_hashes(small_weights(path)), "x.safetensors")


def checkpoint_file(*, is_zip: bool = True) -> bytes:
    """A small checkpoint such as the paper's authors published."""
    import torch

    from keylift.core.lifter.network import LifterConfig, TemporalLifter

    torch.manual_seed(0)
    state = TemporalLifter(LifterConfig(17, 2, 17, channels=4, widths=(3, 3))).state_dict()
    content = {"epoch": 3, "lr": 0.1, "model_pos": state}
    return written(lambda path: torch.save(content, path, _use_new_zipfile_serialization=is_zip), "x.bin")


@cache
def lesson() -> tuple[Any, Any]:
    """The smallest network that learns, after a step, and its optimiser."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Linear(2, 3)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return network, optimiser


def run_checkpoint_file() -> bytes:
    """Where a small run stands."""
    from keylift.training.checkpoints import FOLDER, Standing, save

    standing = Standing(20, 9.5, [{"step": 20.0, "seconds": 9.5, "valid_mm": 64.0}], {"loss": [0.5, 0.25]})
    name = f"{FOLDER}/step-000000020.safetensors"
    return written(lambda path: save(path.parents[1], {"name": "x"}, standing, *lesson()), name)


def body_file() -> bytes:
    """A body of so few vertices that it has a skin and nothing else."""
    from keylift.training.rendered.body import _JOINTS

    places = np.zeros((8 + len(_JOINTS), 3), np.int16)
    places[:8] = np.arange(24).reshape(8, 3) * 100
    return packed(
        points_q=places,
        target_names=np.array(["young"]),
        targets_q=places[None] // 2,
        faces=np.array([[0, 1, 2, 3], [4, 5, 6, 7]], np.uint16),
        layer=np.zeros(8, np.uint8),
        bone_names=np.array(["Root", "pelvis"]),
        bone_index=np.tile(np.array([0, 1, 0, 1], np.uint8), (8, 1)),
        bone_weight=np.tile(np.array([255, 0, 0, 0], np.uint8), (8, 1)),
    )


def c3d_file() -> bytes:
    """A small C3D file of a walker with Plug-in Gait's markers."""
    from marker_samples import plug_in_gait_markers, write_c3d

    return written(lambda path: write_c3d(path, plug_in_gait_markers(walk(20, 30.0)), 30.0), "x.c3d")


def standing_bvh_file() -> bytes:
    """Somebody who stands, on a rig whose joints a map of ours knows, all of them straight below the root."""
    from keylift.core.skeletons import LANDMARKS_41
    from keylift.training.motion.joint_map import built_in_joint_maps

    known, body = built_in_joint_maps("bvh")[0], walk(1).positions_m[0] * 100
    places = dict.fromkeys(known.points, body[0])
    places.update((place.points[0], body[LANDMARKS_41.index(name)]) for name, place in known.landmarks.items())
    root, *others = places
    lines = ["HIERARCHY", f"ROOT {root}", "{", "OFFSET 0 0 0", "CHANNELS 3 Xposition Yposition Zposition"]
    for name in others:
        x, y, z = places[name] - places[root]
        lines += [f"JOINT {name}", "{", f"OFFSET {x:.2f} {y:.2f} {z:.2f}", "}"]
    x, y, z = places[root]
    frames = 24
    lines += ["}", "MOTION", f"Frames: {frames}", "Frame Time: 0.0333333", *[f"{x:.2f} {y:.2f} {z:.2f}"] * frames]
    return "\n".join(lines).encode()


def training_files() -> list[bytes]:
    """The configurations that come with Keylift."""
    return [path.read_bytes() for path in sorted((ROOT / "training" / "configs").glob("*.toml"))]


def video_file(ending: str = ".mp4", **how: Any) -> bytes:
    """A small video of six pictures."""
    from footage_samples import numbered_pictures, write_video

    return written(lambda path: write_video(path, numbered_pictures(6, 48, 32), **how), f"x{ending}")


def picture_file() -> bytes:
    """A small PNG."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.arange(16 * 12 * 3, dtype=np.uint8).reshape(12, 16, 3)).save(file, "PNG")
    return file.getvalue()


def _text(*contents: str) -> Callable[[], list[bytes]]:
    return lambda: [content.encode() for content in contents]


def _json(*contents: Any) -> Callable[[], list[bytes]]:
    return lambda: [json.dumps(content).encode() for content in contents]


# ---- Readers --------------------------------------------------------------------------------------------------------


def _read_keypoints(path: Path) -> None:
    from keylift.core.track_files import read_keypoints

    track = read_keypoints(path)
    track.fingerprints()


def _read_pose(path: Path) -> None:
    from keylift.core.track_files import read_pose

    read_pose(path).positions_world_m()


def _read_camera_motion(path: Path) -> None:
    from keylift.core.camera_motion import read_camera_motion

    read_camera_motion(path).at(np.array([-1, 0.01, 99]))


def _read_motion(path: Path) -> None:
    from keylift.training.motion.files import read_motion_from

    motion = read_motion_from(path)
    motion.clips(np.arange(len(motion.clip_name)))


def _read_bvh(path: Path) -> None:
    from keylift.training.motion.bvh_reader import read_bvh
    from keylift.training.motion.files import read_motion_from

    motion = read_bvh(path)
    motion.world(slice(0, 100))
    read_motion_from(path)


def _read_detections(path: Path) -> None:
    from keylift.core.video_detections import read_video_detections

    read_video_detections(path, 25)


def _read_filmed_set(path: Path) -> None:
    from keylift.training.sequences.npz_sets import read_keypoint_set, read_pose_set

    problems = []
    for read in (read_pose_set, read_keypoint_set):
        try:
            read(path)
        except KeyliftError as problem:
            problems.append(problem)
    if len(problems) == 2:
        # What is told by the reader that was meant.
        raise problems["positions_3d: it is" in str(problems[0])]


def _read_weights(path: Path) -> None:
    from keylift.core.lifter.lifting import load_ray_lifter
    from keylift.core.weights import list_weights, verify
    from keylift.core.weights.provenance import describe_weights, lineage

    with mock.patch.dict(os.environ, {"KEYLIFT_WEIGHTS": str(path.parent)}):
        describe_weights()
        list_weights()
        found = verify(path)
        if not found.bad:
            lineage(path)
    load_ray_lifter(path, "cpu")


def _read_checkpoint(path: Path) -> None:
    from keylift.core.lifter.checkpoint_import import import_checkpoint

    import_checkpoint(path, input_layout="coco17")


def _read_camera(path: Path) -> None:
    Camera.from_toml(path).resized((960, 540))


def _read_cameras(path: Path) -> None:
    from keylift.training.sequences.camera_files import read_cameras

    read_cameras(path)


def _read_calibration(path: Path) -> None:
    from keylift.training.shots.filmed_views import read_calibration

    read_calibration(path)


def _read_joint_map(path: Path) -> None:
    from keylift.training.motion.joint_map import read_joint_map

    read_joint_map(path)


def _read_pairs(path: Path) -> None:
    from keylift.training.pairing.pairs_file import read_pairs

    for name in ("clip.mp4", "clip.bvh"):
        (path.parent / name).touch()
    read_pairs(path)


def _read_training(path: Path) -> None:
    from keylift.training.config import read_config

    read_config(path)


def _read_bone_map(path: Path) -> None:
    from keylift.rig_mapping.bone_map import load_bone_map

    load_bone_map(str(path))


def _read_jobs(path: Path) -> None:
    from keylift.shell.batching.job_file import read_jobs
    from keylift.shell.reporting import Reporter

    (path.parent / "walk.mp4").write_bytes(b"film")
    read_jobs(path, path.parent / "out", Reporter(quiet=True))


def _read_request(path: Path) -> None:
    from keylift.core.worker_messages import decode_request

    decode_request(path.read_bytes())


def _read_event(path: Path) -> None:
    from keylift.core.worker_messages import decode_event

    decode_event(path.read_bytes())


def _read_in_use(path: Path) -> None:
    from keylift.core.weights import read_in_use, use_earlier

    path.rename(path.with_name("in-use.json"))
    with mock.patch.dict(os.environ, {"KEYLIFT_WEIGHTS": str(path.parent)}):
        read_in_use()
        use_earlier()


def _read_adapt_request(path: Path) -> None:
    from keylift.shell.adapt import REQUEST as NAME
    from keylift.shell.adapt import read_request

    path.rename(path.with_name(NAME))
    read_request(path.parent, argparse.Namespace())


def _read_footage_set(path: Path) -> None:
    from keylift.training.retraining.footage_set import _ROWS, INDEX, read_set
    from keylift.training.retraining.run import PROVENANCE, read_provenance

    (path.parent / PROVENANCE).write_bytes(path.read_bytes())
    path.rename(path.with_name(INDEX))
    for name, (shape, kind) in _ROWS.items():
        np.save(path.with_name(f"{name}.npy"), np.zeros((0, *shape), kind))
    read_provenance(path.parent)
    read_set(path.parent)


def _read_takes(path: Path) -> None:
    from keylift.shell.batching.out_folder import OutFolder, read_json
    from keylift.shell.batching.takes_report import write_takes_report

    out = OutFolder(path.parent)
    content = path.read_bytes()
    path.rename(out.manifest("hero"))
    out.record("hero").parent.mkdir(parents=True)
    out.record("hero").write_bytes(content)
    read_json(out.manifest("hero"))
    write_takes_report(out.path)


def _read_footage(path: Path) -> None:
    from keylift.core.footage import open_footage

    footage = open_footage(path)
    for frame in footage.frames():
        if frame.index > 50:
            break


def _read_run(path: Path) -> None:
    """All that Blender's panel reads of a run that learns; each file of it is this one."""
    from keylift.addon import adaptation_runs
    from keylift.addon.learning_curve import draw_curve, read_curve

    folder = path.parent / "runs" / "studio-0"
    folder.mkdir(parents=True)
    content = path.read_bytes()
    names = (adaptation_runs.SETTINGS, adaptation_runs.LOG, adaptation_runs.REQUEST)
    for name in names:
        (folder / name).write_bytes(content)
    for finished in (False, True):
        if finished:
            (folder / adaptation_runs.RESULT).write_bytes(content)
        runs = adaptation_runs.all_runs(folder.parent)
        assert len(runs.unfinished) == (not finished)
        for run in (*runs.unfinished, *runs.finished):
            run.name.encode()
        for run in runs.unfinished:
            run.base.encode()
            draw_curve(read_curve(folder / adaptation_runs.LOG), 32, run.steps)


def _read_listing(path: Path) -> None:
    from keylift.addon.capture_flow import _LISTING, _found_before

    path.rename(path.with_name(_LISTING))
    (path.parent / "person.keypoints.npz").touch()
    for file in _found_before(path.parent) or ():
        assert file.parent == path.parent


def _read_run_checkpoint(path: Path) -> None:
    from keylift.training import checkpoints
    from keylift.training.run_folder import thinned

    folder = path.parent / checkpoints.FOLDER
    folder.mkdir()
    path.rename(folder / "step-000000020.safetensors")
    network, optimiser = copy.deepcopy(lesson())
    # Whoever breaks one may make its digest right again.
    with mock.patch.object(checkpoints, "_digest", lambda metadata, tensors: metadata.get("digest")):
        standing, _ = checkpoints.load(path.parent, {"name": "x"}, network, optimiser)
    assert standing is not None
    thinned(standing.log)
    for parameter in network.parameters():
        parameter.grad = parameter.detach() * 0 + 1
    optimiser.step()


def _read_body(path: Path) -> None:
    from keylift.training.rendered.body import read_body

    read_body(path)


def _read_earlier(path: Path) -> None:
    from keylift.shell.evaluate_shots import _earlier

    _earlier(path)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("keypoints", ".keypoints.npz", lambda: [keypoint_file()], _read_keypoints),
        Kind("pose", ".pose.npz", lambda: [pose_file()], _read_pose),
        Kind("camera_motion", ".npz", lambda: [camera_motion_file()], _read_camera_motion),
        Kind("motion_set", ".npz", lambda: [motion_set_file()], _read_motion),
        Kind("detections", ".mp4.npz", lambda: [detections_file()], _read_detections),
        Kind("filmed_set", ".npz", lambda: [pose_set_file(), keypoint_set_file()], _read_filmed_set),
        Kind("weights", ".safetensors", lambda: [weights_file(), weights_file(hashed=True)], _read_weights),
        Kind("checkpoint", ".bin", lambda: [checkpoint_file(), checkpoint_file(is_zip=False)], _read_checkpoint),
        Kind("bvh", ".bvh", lambda: [BVH.encode(), standing_bvh_file()], _read_bvh),
        Kind("c3d", ".c3d", lambda: [c3d_file()], _read_motion),
        Kind("joint_map", ".toml", _text(JOINT_MAP), _read_joint_map),
        Kind(
            "camera", ".toml", _text(CAMERA, "width = 16\nheight = 9\nfocal_mm = 35\nsensor_mm = 36.0\n"), _read_camera
        ),
        Kind("cameras", ".toml", _text(CAMERAS), _read_cameras),
        Kind("calibration", ".toml", _text(CALIBRATION), _read_calibration),
        Kind("qualisys", ".xml", _text(QUALISYS), _read_calibration),
        Kind("pairs", ".toml", _text(PAIRS), _read_pairs),
        Kind("training", ".toml", training_files, _read_training),
        Kind("bone_map", ".json", _json(BONE_MAP), _read_bone_map),
        Kind("jobs", ".toml", _text(JOBS), _read_jobs),
        Kind(
            "jobs_json", ".json", _json({"defaults": {"rig": "skeleton"}, "jobs": [{"clip": "walk.mp4"}]}), _read_jobs
        ),
        Kind("request", ".line", _json(REQUEST, {"say": "cancel", "job": 3}), _read_request),
        Kind("event", ".line", _json(*EVENTS), _read_event),
        Kind("in_use", ".json", _json(IN_USE), _read_in_use),
        Kind("adapt_request", ".json", _json(ADAPT_REQUEST), _read_adapt_request),
        Kind("footage_set", ".json", _json(FOOTAGE_SET), _read_footage_set),
        Kind("run_json", ".json", _json(LOG, RUN_RESULT, ADAPT_REQUEST), _read_run),
        Kind("run_toml", ".toml", _text(RUN_SETTINGS), _read_run),
        Kind("listing", ".json", _json(["person.keypoints.npz"]), _read_listing),
        Kind("run_checkpoint", ".safetensors", lambda: [run_checkpoint_file()], _read_run_checkpoint),
        Kind("body", ".npz", lambda: [body_file()], _read_body),
        Kind("earlier", ".json", _json(EARLIER), _read_earlier),
        Kind("takes", ".json", _json(MANIFEST, RECORD), _read_takes),
        Kind("video", ".mp4", lambda: [video_file()], _read_footage),
        Kind("matroska", ".mkv", lambda: [video_file(".mkv")], _read_footage),
        Kind("picture", ".png", lambda: [picture_file()], _read_footage),
    )
}


@cache
def samples_of(name: str) -> tuple[bytes, ...]:
    """Contents of sound files of a kind."""
    return tuple(KINDS[name].samples())


@contextmanager
def laid_down(kind: Kind, content: bytes) -> Iterator[Path]:
    """A file of this kind with this content, in a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="keylift-hostile-") as folder:
        path = Path(folder, f"x{kind.ending}")
        path.write_bytes(content)
        yield path


def outcome(kind: Kind, content: bytes) -> KeyliftError | None:
    """What reading ``content`` comes to: None when it reads, or the error that a person gets to see.

    Anything else that is raised comes through: that is what attackers look for.
    """
    with laid_down(kind, content) as path, warnings.catch_warnings():
        # Odd numbers may overflow on their way; what counts is what comes of it.
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            kind.read(path)
        except KeyliftError as problem:
            return problem
    return None


@contextmanager
def within_bounds() -> Iterator[None]:
    """Assert that the block takes no more processor time and memory than a hostile file may cost."""
    _forget_peak()
    before, peak, began = psutil.Process().memory_info().rss, _peak_bytes(), time.process_time()
    yield
    seconds = time.process_time() - began
    assert seconds < MOST_SECONDS, f"it took {seconds:.1f} s"
    # Where the peak can't be forgotten, less is seen: only what is beyond all before.
    most = max(before + MOST_MEMORY, peak)
    assert _peak_bytes() <= most, f"it took {(_peak_bytes() - before) >> 20} MB"


@contextmanager
def little_asked_for() -> Iterator[None]:
    """Assert that Python and NumPy ask for little memory in the block, even where it stays empty; slow."""
    tracemalloc.start()
    try:
        yield
        asked = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert asked < MOST_MEMORY, f"it asked for {asked >> 20} MB"


def _forget_peak() -> None:
    with suppress(OSError):
        # Linux alone has it.
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    """The most that this process had in memory, native libraries included."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def refused(name: str, content: bytes) -> str:
    """What a person is told of a file that is refused, in time."""
    kind = KINDS[name]
    # Sound ones first, so that what is imported only then isn't counted.
    outcome(kind, samples_of(name)[0])
    began = time.process_time()
    with within_bounds():
        problem = outcome(kind, content)
    assert problem is not None, "it was read"
    if time.process_time() - began < _QUICK_S:
        with little_asked_for():
            outcome(kind, content)
    told = str(problem)
    assert told.strip().endswith((".", ")")) or ":" in told, told
    assert len(told) < 20_000, "nobody reads so much"
    return told
