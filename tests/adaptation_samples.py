"""Footage to adapt to: a walker seen by several cameras, as keypoints files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from keylift.core.camera import Camera
from keylift.core.source import Source
from keylift.core.track_files import write_keypoints
from keylift.core.tracks import KeypointTrack, PoseTrack
from walker import camera_from_world, filmed, walk

CAMERA = Camera.guessed((1280, 720))
# Little of everything, so that a run takes seconds.
QUICK = (
    ("anchor_views", "16"),
    ("footage_views", "16"),
    ("labelled_views", "8"),
    ("runs", "2"),
    ("pool_blocks", "2"),
    ("guard_views", "64"),
    ("validate_every", "1000"),
)


def walker_clip(number: int = 0, frames: int = 150, noise_px: float = 1.0) -> tuple[PoseTrack, KeypointTrack]:
    """A walk as camera ``number`` sees it, with its truth; each camera stands and trembles in its own way."""
    chance = np.random.default_rng(number)
    extrinsics = camera_from_world(0.1 + 0.1 * number, 0.05 * number, 4.5 + 0.5 * number)
    pose, track = filmed(walk(frames, 30.0, heading_rad=2.6 + 1.3 * number), CAMERA, extrinsics)
    noise = chance.normal(0, noise_px, track.xy_px.shape)
    source = Source(f"walk-{number}.mp4", f"{number:064d}")
    return pose, replace(track, xy_px=track.xy_px + noise, source=source, person=1)


def write_walks(folder: Path, frames: Sequence[int] = (150, 150)) -> list[Path]:
    """Keypoints files of so many clips."""
    paths = []
    for number, count in enumerate(frames):
        path = folder / f"walk-{number}.keypoints.npz"
        write_keypoints(path, walker_clip(number, count)[1])
        paths.append(path)
    return paths


def make_quick(config: Path, *changes: tuple[str, str]) -> None:
    """Let a run that was made ready look at little in each step."""
    text = config.read_text(encoding="utf-8")
    for key, value in (*QUICK, *changes):
        text, count = re.subn(rf"^{key} = .*$", f"{key} = {value}", text, flags=re.MULTILINE)
        assert count == 1, key
    config.write_text(text, encoding="utf-8")
