"""All the way from real footage to files, as a person or a program runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from keylift.core.footage import open_footage
from keylift.core.track_files import read_keypoints, read_pose
from shell_runs import clip, content, keylift

pytestmark = pytest.mark.slow


def test_capture_makes_everything_and_says_so_in_one_line(tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    footage = tmp_path / "footage"
    footage.mkdir()
    video = Path(shutil.copy(clip("cam03.mp4"), footage))
    before = content(footage)
    wanted = ["take.blend", "take.bvh", "take.fbx", "take.glb"]
    outputs = [word for name in wanted for word in ("-o", name)]
    others = ["--preview", "film.mp4", "--keep", "steps", "--json"]
    run = keylift("capture", video, "--frames", "20-34", *outputs, *others, cwd=tmp_path, cold=True)
    assert run.code == 0, run.err
    told = json.loads(run.out)
    assert run.out.count("\n") == 1
    kept = ["steps/cam03.keypoints.npz", "steps/cam03.pose.npz"]
    assert sorted(Path(path).as_posix() for path in told["outputs"]) == sorted([*wanted, *kept, "film.mp4"])
    assert (told["frames"], told["people"]) == (15, 1)
    assert {"detect", "lift", "retarget", "preview"} <= set(told["seconds"])
    assert content(footage) == before
    # Nothing else, not even what the writers put beside their results while they write.
    assert sorted(content(tmp_path)) == sorted([*wanted, *kept, "film.mp4", "steps", "footage", "footage/cam03.mp4"])

    # No library underneath has a say: each line is the title of a stage, or how far one is.
    titles = ("Getting the pose model", "Looking for people in cam03.mp4", "Lifting", "Baking onto", "Filming film.mp4")
    assert [line for line in run.err.splitlines() if not line.startswith((*titles, "  "))] == []

    keypoints, pose = read_keypoints(tmp_path / kept[0]), read_pose(tmp_path / kept[1])
    assert keypoints.frame_index.tolist() == pose.frame_index.tolist() == list(range(20, 35))
    assert keypoints.seen.all()
    assert keypoints.source.sha256 == before["cam03.mp4"]
    assert pose.source == keypoints.source or pose.source.sha256 == keypoints.source.sha256
    film = open_footage(tmp_path / "film.mp4")
    assert sum(1 for _ in film.frames()) == 15


def test_step_by_step_comes_to_the_same_as_in_one_go(tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    video = clip("cam03.mp4")
    for arguments in (
        ["capture", video, "--frames", "0-11", "-o", "at-once.bvh", "--keep", "kept"],
        ["detect", video, "--frames", "0-11", "-o", "x.keypoints.npz"],
        ["lift", "x.keypoints.npz", "-o", "x.pose.npz"],
        ["retarget", "x.pose.npz", "-o", "by-steps.bvh"],
        ["preview", "x.pose.npz", "--video", video, "--keypoints", "x.keypoints.npz", "-o", "x.mp4"],
        ["preview", "x.pose.npz", "-o", "alone.mp4"],
    ):
        # The others are started cold elsewhere.
        cold = arguments[0] in ("detect", "lift", "retarget")
        run = keylift(*arguments, cwd=tmp_path, cold=cold)
        assert run.code == 0, run.err
    at_once, by_steps = read_pose(tmp_path / "kept" / "cam03.pose.npz"), read_pose(tmp_path / "x.pose.npz")
    # Files hold single precision.
    assert np.abs(at_once.positions_m - by_steps.positions_m).max() < 1e-3
    a, b = ((tmp_path / name).read_text().split("MOTION")[1].split() for name in ("at-once.bvh", "by-steps.bvh"))
    numbers = [np.array([float(word) for word in words if word.lstrip("-")[0].isdigit()]) for words in (a, b)]
    assert len(numbers[0]) > 12 * 60
    assert np.abs(numbers[0] - numbers[1]).max() < 0.05


def test_everybody_gets_files_with_numbers(tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    everybody = ["--frames", "60-71", "--person", "all"]
    run = keylift("capture", clip("demo.mp4"), *everybody, "-o", "duet.bvh", "--json", cwd=tmp_path)
    assert run.code == 0, run.err
    told = json.loads(run.out)
    assert told["people"] == 2
    assert told["outputs"] == ["duet-1.bvh", "duet-2.bvh"] == sorted(path.name for path in tmp_path.iterdir())
    assert (tmp_path / "duet-1.bvh").read_bytes() != (tmp_path / "duet-2.bvh").read_bytes()
