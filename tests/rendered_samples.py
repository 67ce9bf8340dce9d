"""A body of our own to pose and render, and the walker as motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from keylift.training.motion.motion_set import MotionSet, foot_contacts
from keylift.training.rendered.body import BaseBody, Body, read_body
from walker import walk

BODY_FILE = Path(__file__).parent / "bodies" / "caucasian-female-young.body.npz"


def base_body() -> BaseBody:
    return read_body(BODY_FILE)


def body() -> Body:
    base = base_body()
    return base.shaped(dict.fromkeys(base.targets_m, 1.0))


def walking_motion(frames: int = 240) -> MotionSet:
    """One clip of the walker, 60 frames a second."""
    positions_m = walk(frames, 60.0).positions_m
    return MotionSet(
        positions_m=positions_m.astype(np.float32),
        contact=foot_contacts(positions_m, 60.0),
        clip_start=np.array([0, frames]),
        clip_name=np.array(["walk"]),
        subject=np.array(["walker"]),
        source=np.array(["made up"]),
        fps=60.0,
        sha256="0" * 64,
    )
