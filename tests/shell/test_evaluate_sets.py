"""``keylift evaluate --set`` and ``keylift triangulate``, through real processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from footage_samples import numbered_pictures, remuxed, write_video
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.tracks import KeypointTrack
from keylift.shell import main, triangulate
from keylift.shell.reporting import Reporter
from keylift.training.shots import filmed_views
from keylift.training.shots.filmed_views import FilmedView, read_calibration
from keylift.training.shots.shot import read_shots, write_shot
from shell_runs import keylift
from shot_samples import walking_shot
from training_runs import write_motion

VIEWS = """
name = "tiny"
[data]
train = "walk.npz"
valid = "walk.npz"
test = "walk.npz"
[loop]
test_windows = 64
"""


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shots")
    shot = walking_shot(frames=45, noise_px=1.0)
    heavy = {"heavy": shot.keypoints["heavy"]}
    write_shot(folder / "walk.shot.npz", replace(shot, keypoints=heavy))
    return folder


def test_shots_are_lifted_and_compared(shots: Path, tmp_path: Path) -> None:
    done = keylift("evaluate", "default", "--set", "rendered", "--shots", shots, "--json", cwd=tmp_path, cold=True)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    ours, theirs = told["mean"]["keylift, heavy"], told["mean"]["mediapipe world, heavy"]
    # The default weights on nearly perfect keypoints of an easy walk: a broken pose or camera gives several times this.
    assert 5 < ours["procrustes_mm"] < 60 and ours["procrustes_mm"] <= ours["clip_similarity_mm"] + 1
    assert ours["root_pct"] < 12 and ours["contact_f1"] > 0.5 and ours["bone_variation_pct"] < 0.5
    assert theirs["root_pct"] is None and theirs["procrustes_mm"] < 20
    assert told["set"] == "rendered" and told["shots"][0]["shot"] == "walk"

    (tmp_path / "before.json").write_text(done.out)
    report = ("--report", "docs/images", "--page", "docs/page.md", "--before", "before.json", "--no-fit", "--no-repair")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("<!-- rendered -->\n<!-- /rendered -->\n")
    done = keylift("evaluate", "default", "--set", "rendered", "--shots", shots, *report, cwd=tmp_path)
    assert done.code == 0, done.err
    row = next(line for line in done.out.splitlines() if line.startswith("per-frame Procrustes, mm"))
    assert f"{ours['procrustes_mm']:.1f}" in row.split() and "40.0" in row.split()
    page = (tmp_path / "docs" / "page.md").read_text()
    assert "before, heavy" in page and "images/rendered-failure-1.jpg" in page
    assert (tmp_path / "docs" / "images" / "rendered-over-time.png").stat().st_size > 1000


def test_motion_held_back_is_seen_in_frames_and_in_clips(tmp_path: Path) -> None:
    write_motion(tmp_path / "walk.npz")
    (tmp_path / "tiny.toml").write_text(VIEWS)
    (tmp_path / "page.md").write_text("<!-- mocap-test -->\n<!-- /mocap-test -->\n")
    plain = keylift("evaluate", "default", "tiny.toml", "--json", cwd=tmp_path)
    asked = ("--set", "mocap-test", "--clips", "1", "--report", "images", "--page", "page.md", "--json")
    whole = keylift("evaluate", "default", "tiny.toml", *asked, cwd=tmp_path)
    assert plain.code == whole.code == 0, plain.err + whole.err
    found = json.loads(whole.out)
    assert found["p_mpjpe_mm"] == json.loads(plain.out)["p_mpjpe_mm"] > 1
    assert [row["shot"] for row in found["shots"]] == ["clip-01"]
    clips = found["mean"]["keylift, synthetic"]
    assert 5 < clips["all_procrustes_mm"] < 120 and 0 < clips["contact_f1"] <= 1 and clips["foot_deg"] < 60
    page = (tmp_path / "page.md").read_text()
    assert f"| p_mpjpe_mm | {found['p_mpjpe_mm']:.2f} |" in page and "goal, synthetic" in page
    sequences = keylift("evaluate", "default", "h36m.toml", "--set", "mocap-test", cwd=tmp_path)
    assert sequences.code == 1 and "h36m.toml" in sequences.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "--set"),
        (("--set", "rendered"), "--shots"),
        (("x.toml", "--set", "filmed", "--shots", "a"), "no CONFIG"),
        (("--set", "filmed", "--shots", "a", "--page", "b.md"), "--report"),
        (("x.toml", "--shots", "a"), "--set"),
        (("x.toml", "--page", "a.md"), "--set"),
        (("x.toml", "--no-fit"), "--set"),
        (("--set", "mocap-test", "--clips", "-3"), "--clips"),
        (("--set", "mocap-test", "--shots", "a"), "--shots"),
        (("--set", "rendered", "--shots", "a", "--by-subject"), "--by-subject"),
    ],
)
def test_options_that_say_nothing_together(arguments: tuple[str, ...], said: str, capfd, tmp_path: Path) -> None:
    assert main(["evaluate", "default", *arguments]) == 2
    assert said in capfd.readouterr().err


def test_wrong_shots_and_results_are_told(shots: Path, tmp_path: Path, capfd) -> None:
    (tmp_path / "bad.json").write_text('{"mean": [1]}')
    (tmp_path / "bad.shot.npz").write_bytes(b"nothing")
    for arguments, said in (
        (("--shots", tmp_path / "none"), "no *.shot.npz"),
        (("--shots", tmp_path), "not a shot file"),
        (("--shots", shots, "--before", tmp_path / "bad.json"), "no result of"),
        (("--shots", shots, "--model", "lite"), "keypoints of lite"),
    ):
        assert main(["evaluate", "default", "--set", "filmed", *map(str, arguments)]) == 1
        assert said in capfd.readouterr().err


# ---- keylift triangulate --------------------------------------------------------------------------------------------


CALIBRATION = """
[a]
name = "a"
size = [1280.0, 720.0]
matrix = [[1100.0, 0.0, 640.0], [0.0, 1100.0, 360.0], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0]
rotation = [1.5707963, 0.0, 0.0]
translation = [0.0, 1.0, 4.0]
[b]
name = "b"
size = [1280.0, 720.0]
matrix = [[1100.0, 0.0, 640.0], [0.0, 1100.0, 360.0], [0.0, 0.0, 1.0]]
distortions = [0.0, 0.0, 0.0, 0.0]
rotation = [1.2091996, 1.2091996, -1.2091996]
translation = [0.0, 1.0, 4.0]
"""


def test_views_become_shots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    """All but the detector: what it would see is put in its place."""
    (tmp_path / "Calib.toml").write_text(CALIBRATION)
    for name in ("b", "a"):
        write_video(tmp_path / f"{name}.mp4", numbered_pictures(3))
    remuxed(tmp_path / "b.mp4", tmp_path / "b.h264", container_format="h264")
    cameras = {camera.name: camera for camera in read_calibration(tmp_path / "Calib.toml")}
    walker = walking_shot(frames=20)
    body_m = walker.truth_m @ walker.world_from_camera[:3, :3].T + walker.world_from_camera[:3, 3]
    body_m[..., :2] -= body_m[:, :1, :2].mean(axis=0)

    def view(video: Path, models: dict[str, Path], reporter: Reporter) -> FilmedView:
        camera = cameras[video.stem]
        xy = np.full((20, 33, 2), np.nan)
        xy[:, filmed_views._PLACES] = camera.camera.project(camera.to_camera(body_m[:, filmed_views._LANDMARKS]))
        seen = np.isfinite(xy).all(axis=-1)
        size, index = camera.camera.size_px, np.arange(20)
        track = KeypointTrack(xy, seen * 1.0, walker.time_s, index, "mediapipe33", size, np.zeros(20, bool))
        return FilmedView(video.stem, dict.fromkeys(models, track), {})

    monkeypatch.setattr(triangulate, "_view", view)
    videos = [str(tmp_path / name) for name in ("b.h264", "a.mp4")]
    out = str(tmp_path / "shots")
    calibration = ("--calibration", str(tmp_path / "Calib.toml"))
    assert main(["triangulate", *videos, *calibration, "-o", out, "--json", "--source", "ours"]) == 0
    said = capfd.readouterr()
    assert said.err.count("no time stamps") == 1 and "'b.h264' has no time stamps" in said.err
    told = json.loads(said.out)
    assert told["off_px"] < 1 and told["points_known"] == 1
    found = {shot.name: shot for shot in read_shots(tmp_path / "shots")}
    assert set(found) == {"a", "b"} and found["a"].source == "ours" and set(found["a"].keypoints) == {"full"}
    knee = LANDMARKS_41.index("l_knee")
    assert np.abs(found["a"].truth_m[:, knee] - cameras["a"].to_camera(body_m[:, knee])).max() < 0.02

    write_video(tmp_path / "other.mp4", numbered_pictures(3))
    more = [*videos, str(tmp_path / "other.mp4")]
    assert main(["triangulate", *more, *calibration, "-o", out]) == 1
    assert "cameras a, b" in capfd.readouterr().err
    assert main(["triangulate", *videos, "--calibration", str(tmp_path / "none.toml"), "-o", out]) == 1
    assert "none.toml" in capfd.readouterr().err
