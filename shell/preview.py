"""``keylift preview``: a pose -> a film to judge it by."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EXIT_DONE
from . import places
from .arguments import add_output
from .reporting import Reporter

if TYPE_CHECKING:
    from ..core.footage import Footage
    from ..core.tracks import KeypointTrack, PoseTrack

SUMMARY = "make a film that shows a pose, beside the footage it came from"
EXAMPLES = """  keylift preview dance.pose.npz -o dance-preview.mp4
        the figure alone
  keylift preview dance.pose.npz --video dance.mp4 --keypoints dance.keypoints.npz -o dance-preview.mp4
        the footage with its keypoints, and the figure beside it
"""
FILM_ENDINGS = (".mp4",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pose", type=Path, metavar="POSE", help="a pose file that `keylift lift` wrote")
    parser.add_argument("--video", type=Path, metavar="VIDEO", help="the footage that it came from")
    parser.add_argument("--keypoints", type=Path, metavar="FILE", help="the keypoints that it came from")
    add_output(parser, ".mp4")


def make_film(
    output: Path,
    pose: PoseTrack,
    keypoints: KeypointTrack | None,
    footage: Footage | None,
    reporter: Reporter,
) -> None:
    """Render one person's preview."""
    from ..core.preview import render_preview

    with reporter.stage("preview", f"Filming {output.name}") as progress:
        render_preview(output, pose, keypoints=keypoints, footage=footage, progress=progress)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Render the preview of a pose file."""
    places.check_input(options.pose, "the pose")
    if options.keypoints is not None:
        places.check_input(options.keypoints, "the keypoints")
    places.check_outputs([options.output], FILM_ENDINGS, [options.pose, options.video, options.keypoints])
    from ..core.footage import open_footage
    from ..core.track_files import read_keypoints, read_pose

    pose = read_pose(options.pose)
    keypoints = read_keypoints(options.keypoints) if options.keypoints is not None else None
    footage = open_footage(options.video) if options.video is not None else None
    make_film(options.output, pose, keypoints, footage, reporter)
    reporter.result(
        f"{options.output}: {len(pose.time_s)} frames",
        {"outputs": [str(options.output)], "frames": len(pose.time_s), "seconds": reporter.seconds},
    )
    return EXIT_DONE
