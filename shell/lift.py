"""``keylift lift``: footage or keypoints -> a pose in space."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EXIT_DONE
from . import places
from .arguments import add_detection_options, add_lifting_options, add_output
from .detect import find_people, numbers, open_video, possible_outputs
from .reporting import Reporter

if TYPE_CHECKING:
    from ..core.camera import Camera
    from ..core.footage import Footage
    from ..core.tracks import KeypointTrack, PoseTrack

SUMMARY = "lift footage or keypoints to a pose in space"
EXAMPLES = """  keylift lift dance.keypoints.npz -o dance.pose.npz
        from keypoints found before
  keylift lift dance.mp4 --camera phone.toml -o dance.pose.npz
        straight from the footage, with the lens it was filmed with
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "video", type=Path, metavar="VIDEO|KEYPOINTS", help="footage, or keypoints that `keylift detect` wrote"
    )
    add_output(parser, ".pose.npz")
    add_lifting_options(parser)
    add_detection_options(parser)


def read_camera(options: argparse.Namespace, footage: Footage | None) -> Camera | None:
    """The camera that the options name, or None. Raises FileFormatError when it never filmed this ``footage``."""
    from ..core.camera import Camera

    if options.camera is None:
        return None
    camera = Camera.from_toml(options.camera)
    return camera if footage is None else camera.resized(footage.size_px)


def check_lifter(options: argparse.Namespace) -> Path:
    """The weights file that the options name. Raises KeyliftError when it is no lifter or the device isn't there."""
    from ..core.weights import find_weights, read_header

    weights = find_weights(options.weights)
    # Before torch is loaded: most wrong files are found out by their first bytes.
    read_header(weights)
    from ..core.lifter.lifting import load_ray_lifter

    load_ray_lifter(weights, options.device)
    return weights


def lift_track(
    track: KeypointTrack, camera: Camera | None, options: argparse.Namespace, reporter: Reporter
) -> PoseTrack:
    """One person's keypoints in space."""
    from ..core.lift import lift

    with reporter.stage("lift", "Lifting to three dimensions") as progress:
        return lift(track, camera=camera, weights=options.weights, device=options.device, progress=progress)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Lift and write one file a person."""
    from_keypoints = options.video.name.lower().endswith(".npz")
    if from_keypoints:
        places.check_input(options.video, "the keypoints")
    footage = None if from_keypoints else open_video(options)
    camera = read_camera(options, footage)
    weights = check_lifter(options)
    outputs_to_be = [options.output] if footage is None else possible_outputs([options.output], options)
    places.check_outputs(outputs_to_be, [".npz"], [options.video, options.camera, weights])
    from ..core.track_files import read_keypoints, write_pose

    tracks = [read_keypoints(options.video)] if footage is None else find_people(footage, options, reporter)
    outputs, frames = [], 0
    for number, track in zip([None] if footage is None else numbers(len(tracks), options), tracks, strict=True):
        pose = lift_track(track, camera, options, reporter)
        output = places.numbered(options.output, number)
        write_pose(output, pose)
        outputs.append(str(output))
        frames = max(frames, len(pose.time_s))
    reporter.result(
        "\n".join(f"{output}: {frames} frames" for output in outputs),
        {"outputs": outputs, "frames": frames, "seconds": reporter.seconds},
    )
    return EXIT_DONE
