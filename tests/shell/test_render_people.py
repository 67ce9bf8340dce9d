"""``keylift render-people``: from motion to shots, gone on with where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("bpy")

from keylift.core.errors import NobodyFoundError
from keylift.core.skeletons import LANDMARKS_41, MEDIAPIPE_33_NAMES
from keylift.core.tracks import KeypointTrack
from keylift.shell import main, render_people
from keylift.training.shots import detector_world
from keylift.training.shots.shot import read_shots
from rendered_samples import BODY_FILE
from training_runs import write_motion

POINTS = {"shoulder": "shoulder", "elbow": "elbow", "wrist": "wrist", "hip": "hip", "knee": "knee", "ankle": "ankle"}
POINTS |= {"heel": "heel", "ear": "ear", "knuckle": "index", "big_toe": "foot_index"}


@pytest.fixture
def motion_file(tmp_path: Path) -> Path:
    path = tmp_path / "walk.npz"
    write_motion(path, 120)
    return path


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All but the detector, which sees everything, except nobody where it is told so. -> which shots it looked at."""
    looked: list[str] = []

    def detect(frames, plan, bundle, progress):
        looked.append(plan.name)
        assert all(frame.rgb.shape == (480, 640, 3) and frame.rgb.std() > 5 for frame in frames)
        if "nobody" in looked:
            raise NobodyFoundError("Nobody was found.")
        truth = plan.truth()
        xy = np.full((len(plan), 33, 2), 50.0)
        seen = plan.camera.project(truth["truth_m"])
        for side in ("left", "right"):
            for ours, theirs in POINTS.items():
                place = MEDIAPIPE_33_NAMES.index(f"{side}_{theirs}")
                xy[:, place] = seen[:, LANDMARKS_41.index(f"{side[0]}_{ours}")]
        xy[0] = np.nan
        known = np.isfinite(xy).all(axis=-1)
        unfilled = np.zeros(len(plan), bool)
        return KeypointTrack(
            xy, known * 0.9, truth["time_s"], np.arange(len(plan)), "mediapipe33", plan.camera.size_px, unfilled
        )

    monkeypatch.setattr(render_people, "_detect", detect)
    monkeypatch.setattr(
        detector_world,
        "detector_world_landmarks",
        lambda frames, track, model, progress: np.zeros((len(frames), 33, 3)),
    )
    return looked


def command(motion_file: Path, out: Path, *more: str) -> list[str]:
    bundle = out.parent / "pose_landmarker_full.task"
    if not bundle.exists():
        import zipfile

        with zipfile.ZipFile(bundle, "w") as archive:
            for member in ("pose_detector.tflite", "pose_landmarks_detector.tflite"):
                archive.writestr(member, b"no network")
    options = ["--motion", str(motion_file), "--body", str(BODY_FILE), "--detector-model", str(bundle)]
    return ["render-people", str(out), *options, "--frames", "6", "--seed", "4", "--json", *more]


@pytest.mark.slow
def test_motion_becomes_shots_and_what_is_there_is_kept(tmp_path, motion_file, looks, capfd):
    out = tmp_path / "shots"
    assert main(command(motion_file, out, "--clips", "1", "--keep-pictures")) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["hit_rate"] == {"full": pytest.approx(5 / 6)} and len(told["outputs"]) == 1
    shot = read_shots(out)[0]
    assert len(shot.time_s) == 6 and shot.fps == 30 and "CC0" in shot.source and "walker" in shot.source
    assert shot.truth_rotations_wxyz is not None and shot.truth_contact is not None
    assert len(list((out / shot.name).glob("*.png"))) == 6

    assert main(command(motion_file, out, "--clips", "2", "--statistics")) == 0
    told = json.loads(capfd.readouterr().out)
    assert len(looks) == 2 and len(set(looks)) == 2, "the first clip is kept"
    assert len(told["outputs"]) == 2 and json.loads((out / "statistics.json").read_text()) == told["statistics"]
    # Another length is another clip.
    assert main([*command(motion_file, out, "--clips", "1"), "--frames", "5"]) == 0
    assert len(looks) == 3 and {len(shot.time_s) for shot in read_shots(out)} == {5, 6}


@pytest.mark.slow
def test_nobody_found_counts_as_a_miss(tmp_path, motion_file, looks, capfd):
    looks.append("nobody")
    assert main(command(motion_file, tmp_path / "shots", "--clips", "1")) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["hit_rate"] == {"full": 0.0} and told["outputs"] == []


def test_what_is_missing_is_named(tmp_path, motion_file, capfd):
    arguments = command(motion_file, tmp_path / "shots")
    arguments[arguments.index("--body") + 1] = str(tmp_path)
    assert main(arguments) == 1
    assert "base.obj" in capfd.readouterr().err
    assert main(["render-people", "x", "--motion", str(tmp_path / "none.npz"), "--body", str(BODY_FILE)]) == 1
    assert "none.npz" in capfd.readouterr().err
    assert main([*command(motion_file, tmp_path / "shots"), "--frames", "400"]) == 1
    assert "--frames" in capfd.readouterr().err
