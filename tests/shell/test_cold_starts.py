"""Commands that other tests run in a process where everything is loaded: once each as a person starts them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adaptation_samples import walker_clip
from keylift.core.track_files import write_pose
from keylift.rig_mapping.bvh_writing import write_motion_bvh
from keylift.rig_mapping.own_skeleton import own_skeleton
from keylift.rig_mapping.solve import RetargetOptions, solve
from shell_runs import Run, keylift


def cold(folder: Path, *arguments: object) -> Run:
    run = keylift(*arguments, cwd=folder, cold=True)
    assert run.code == 0, run.err
    assert "Traceback" not in run.err
    return run


def test_preview(tmp_path: Path) -> None:
    write_pose(tmp_path / "walk.pose.npz", walker_clip(0, 5)[0])
    cold(tmp_path, "preview", "walk.pose.npz", "-o", "walk.mp4")
    assert b"ftyp" in (tmp_path / "walk.mp4").read_bytes()[:16]


def test_weights(tmp_path: Path) -> None:
    run = cold(tmp_path, "weights", "info", "default", "--json")
    assert json.loads(run.out)["licence"]


def test_rig(tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    pose, _ = walker_clip(0, 5)
    rest, bone_map = own_skeleton(pose)
    write_motion_bvh(tmp_path / "walk.bvh", rest, solve(pose, rest, bone_map, RetargetOptions()))
    values = json.loads(cold(tmp_path, "rig", "walk.bvh", "--json").out.splitlines()[-1])
    assert values["fits"] and not values["control_rig"]


def test_selftest(tmp_path: Path) -> None:
    values = json.loads(cold(tmp_path, "selftest", "--json").out.splitlines()[-1])
    assert 0 < values["off_mm"] < 100
