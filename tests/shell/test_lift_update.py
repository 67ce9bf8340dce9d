"""``keylift lift --update``: what was corrected is lifted anew, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from keylift.core.camera import Camera
from keylift.core.errors import KeyliftError
from keylift.core.skeletons import LIFTER_21_NAMES
from keylift.core.track_files import write_keypoints
from keylift.core.tracks import Change
from keylift.shell import main
from walker import camera_from_world, filmed, walk

FRAMES = 240
BAD = slice(120, 126)
ARM = [LIFTER_21_NAMES.index(f"l_{part}") for part in ("elbow", "wrist", "knuckle")]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A walker whose arm is thrown off for a few frames, its pose, and the arm put back by an artist."""
    folder = tmp_path_factory.mktemp("corrected")
    right = filmed(walk(FRAMES, heading_rad=3.1), Camera.guessed((1280, 720)), camera_from_world(distance_m=8.0))[1]
    xy_px, changes = right.xy_px.copy(), right.changes.copy()
    xy_px[BAD, ARM] += [30.0, -40.0]
    changes[BAD, ARM] = Change.CORRECTED
    wrong, corrected = replace(right, xy_px=xy_px), replace(right, changes=changes)
    write_keypoints(folder / "wrong.keypoints.npz", wrong)
    write_keypoints(folder / "corrected.keypoints.npz", corrected)
    assert main(["lift", str(folder / "wrong.keypoints.npz"), "-o", str(folder / "a.pose.npz"), "--quiet"]) == 0
    return folder


def test_the_command_tells_which_frames_it_lifted_anew(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["lift", str(files / "corrected.keypoints.npz"), "--update", str(files / "a.pose.npz")]
    before = (files / "a.pose.npz").read_bytes()
    assert main([*argv, "-o", str(files / "b.pose.npz"), "--json"]) == 0
    updated = json.loads(capsys.readouterr().out)["updated"]
    assert set(range(BAD.start, BAD.stop)) < set(updated) and len(updated) < 0.5 * FRAMES
    assert (files / "a.pose.npz").read_bytes() == before
    # What was lifted anew is known: asked again, there is nothing to do.
    argv = ["lift", str(files / "corrected.keypoints.npz"), "--update", str(files / "b.pose.npz")]
    assert main([*argv, "-o", str(files / "c.pose.npz"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["updated"] == []


@pytest.mark.parametrize("more", [["--camera", "x.toml"], ["--height", "1.8"], ["--no-fit"], ["--adapt"]])
def test_what_the_pose_decides_is_not_to_be_said_again(
    files: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "x.toml").write_text("width=1280\nheight=720\nfx=1000\n", encoding="utf-8")
    more = [str(files / word) if word == "x.toml" else word for word in more]
    argv = ["lift", str(files / "corrected.keypoints.npz"), "--update", str(files / "a.pose.npz"), *more]
    assert main([*argv, "-o", str(files / "b.pose.npz")]) == 1
    assert f"Leave out {more[0]}" in capsys.readouterr().err


def test_footage_cannot_be_updated(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from footage_samples import numbered_pictures, write_video

    video = files / "x.mp4"
    write_video(video, numbered_pictures(3))
    argv = ["lift", str(video), "--update", str(files / "a.pose.npz"), "-o", str(files / "b.pose.npz")]
    assert main(argv) == 1
    assert "not footage" in capsys.readouterr().err
    argv = ["lift", str(files / "corrected.keypoints.npz"), "--update", str(files / "none.pose.npz")]
    assert main([*argv, "-o", str(files / "b.pose.npz")]) == KeyliftError.exit_code
