"""The capture command inside a Blender without libraries: same options, same outputs, by a worker."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bpy")

from checkout import ROOT
from footage_samples import real_clip
from keylift.addon.worker_client import Worker, WorkerProgram
from keylift.core.track_files import read_pose
from keylift.shell import capture_by_worker, main
from keylift.shell.arguments import add_detection_options, add_lifting_options
from keylift.shell.capture_by_worker import argv_of
from keylift.shell.command_line import make_parser

START_WORKER = partial(Worker, WorkerProgram(Path(sys.executable), ROOT))
BY_WORKER = {"capture": lambda options, reporter: capture_by_worker.run(options, reporter, START_WORKER)}


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["--frames", "10-", "--fps", "29.97", "--person", "all", "--no-repair", "--detector-model", "lite"],
        ["--frames", "0-20", "--person", "2", "--camera-pitch", "-12.5", "--camera-roll", "3", "--height", "1.8"],
        ["--camera", "a b.toml", "--camera-motion", "m.npz", "--no-fit", "--adapt", "--weights", "causal"],
        ["--estimate-lens", "--device", "cpu"],
    ],
)
def test_options_go_to_the_worker_as_they_were_given(given: list[str]) -> None:
    parser = make_parser()
    options = parser.parse_args(["capture", "x.mp4", "-o", "x.blend", *given])
    passed_on = argv_of(add_detection_options, options) + [
        word for word in argv_of(add_lifting_options, options) if word not in ("--no-repair",)
    ]
    again = parser.parse_args(["capture", "x.mp4", "-o", "x.blend", *passed_on])
    assert vars(again) == vars(options)


@pytest.mark.slow
def test_it_gives_what_the_shell_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = str(real_clip("cam03.mp4"))

    def captured(folder: Path, instead: dict | None) -> dict:
        argv = ["capture", clip, "-o", str(folder / "take.bvh"), "--rig", "skeleton", "--frames", "0-40"]
        argv += ["--keep", str(folder / "steps"), "--preview", str(folder / "take.mp4"), "--json"]
        assert main(argv, instead) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    here = captured(tmp_path / "here", None)
    there = captured(tmp_path / "there", BY_WORKER)
    assert {key: value for key, value in here.items() if key not in ("outputs", "seconds")} == {
        key: value for key, value in there.items() if key not in ("outputs", "seconds")
    }
    assert [Path(name).name for name in here["outputs"]] == [Path(name).name for name in there["outputs"]]
    assert all(Path(name).stat().st_size > 0 for name in there["outputs"])
    one, other = (read_pose(tmp_path / where / "steps" / "cam03.pose.npz") for where in ("here", "there"))
    # Keypoints travel in single precision.
    assert np.abs(one.positions_m - other.positions_m).max() < 5e-4


def test_what_fails_in_the_worker_is_told_as_in_the_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.mp4").write_bytes(b"no film")
    argv = ["capture", str(tmp_path / "x.mp4"), "--rig", "skeleton", "-o", str(tmp_path / "x.bvh"), "--json"]
    assert main(argv, BY_WORKER) == 1
    assert "x.mp4" in json.loads(capsys.readouterr().out)["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.mp4"]
