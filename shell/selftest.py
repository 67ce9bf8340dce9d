"""``keylift selftest``: lift somebody who is made of numbers, and see whether a body comes out."""

from __future__ import annotations

import argparse
import time

from ..core.errors import EXIT_DONE, KeyliftError
from .reporting import Reporter

SUMMARY = "lift a made-up walk, to see that everything works"
EXAMPLES = """  keylift selftest
        takes a few seconds, and no footage
  keylift selftest --fetch-model
        as well, so that the first detection need not
"""
_FRAMES = 60
# A made-up walk is easier than any person; a lifter that is this far off is broken.
_OFF_AT_MOST_M = 0.12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--weights", default="default", metavar="NAME|FILE", help="the lifter's weights")
    parser.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what the lifter computes on"
    )
    parser.add_argument(
        "--fetch-model", action="store_true", help="fetch the detector's pose model too, where it is not here yet"
    )


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Lift the walk, and compare it with what it was made from."""
    import numpy as np

    from ..core.detector_sites import detector_sites
    from ..core.lift import lift
    from ..core.lifter.lifting import load_ray_lifter
    from ..core.tracks import KeypointTrack
    from ..core.weights import find_weights
    from ..rig_mapping.synthetic_walk import synthetic_walk

    began = time.monotonic()
    walk = synthetic_walk(_FRAMES)
    lifter = load_ray_lifter(find_weights(options.weights), options.device)
    loaded = time.monotonic()
    xy_px = walk.camera.project(detector_sites(walk.positions_m))
    track = KeypointTrack(
        xy_px=xy_px,
        confidence=np.ones(xy_px.shape[:2]),
        time_s=walk.time_s,
        frame_index=walk.frame_index,
        layout="lifter21",
        size_px=walk.camera.size_px,
        filled=np.zeros(_FRAMES, bool),
    )
    with reporter.stage("selftest", "Lifting a made-up walk") as progress:
        pose = lift(track, camera=walk.camera, lifter=lifter, progress=progress)
    lifted = time.monotonic()
    body, truth = (positions - positions[:, :1] for positions in (pose.positions_m, walk.positions_m))
    off_m = float(np.linalg.norm(body - truth, axis=-1).mean())
    if not off_m < _OFF_AT_MOST_M:
        raise KeyliftError(
            f"The lifter is {1000 * off_m:.0f} mm off on a made-up walk, where it should be within "
            f"{1000 * _OFF_AT_MOST_M:.0f}. Set the worker up anew; if that does not help, report it with "
            "`keylift doctor --json`."
        )
    values = {
        "device": str(lifter.device),
        "off_mm": round(1000 * off_m, 1),
        "load_s": round(loaded - began, 2),
        "lift_s": round(lifted - loaded, 2),
        "frames_per_second": round(_FRAMES / (lifted - loaded)),
    }
    if options.fetch_model:
        from ..core.pose_model import pose_model

        with reporter.stage("model", "Fetching the pose model") as progress:
            values["pose_model"] = str(pose_model("full", progress))
    reporter.result(
        f"All well: {_FRAMES} frames lifted in {values['lift_s']} s on {values['device']}, {values['off_mm']} mm off.",
        values,
    )
    return EXIT_DONE
