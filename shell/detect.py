"""``keylift detect``: footage -> keypoints."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE
from . import places
from .arguments import add_detection_options, add_footage, add_output
from .reporting import Reporter

if TYPE_CHECKING:
    from ..core.footage import Footage
    from ..core.tracks import KeypointTrack

SUMMARY = "find people in footage and follow their keypoints"
EXAMPLES = """  keylift detect dance.mp4 -o dance.keypoints.npz
        the person who is largest in the picture
  keylift detect duet.mp4 --person all -o duet.keypoints.npz
        everybody: duet-1.keypoints.npz is the largest, duet-2.keypoints.npz the next
  keylift detect shots/walk_####.png --fps 25 --frames 100-250 -o walk.keypoints.npz
        a part of a picture sequence
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_footage(parser)
    add_output(parser, ".keypoints.npz")
    add_detection_options(parser)


def open_video(options: argparse.Namespace) -> Footage:
    """The footage that the options name. Raises FootageError when it is none."""
    from ..core.footage import open_footage

    return open_footage(options.video, options.fps)


def find_people(footage: Footage, options: argparse.Namespace, reporter: Reporter) -> list[KeypointTrack]:
    """The people that the options ask for, short gaps bridged, and repaired unless the options say no."""
    from ..core.detection import detect_people
    from ..core.keypoint_repair import repair
    from ..core.people import pick_people
    from ..core.pose_model import find_pose_model, pose_model

    for note in footage.notes:
        reporter.note(note)
    model = find_pose_model(options.detector_model)
    if model is None:
        with reporter.stage("model", "Getting the pose model") as progress:
            model = pose_model(options.detector_model, progress)
    with reporter.stage("detect", f"Looking for people in {footage.path.name}") as progress:
        first, last = options.frames
        everybody = detect_people(footage, model=model, first=first, last=last, progress=progress)
    people = pick_people(everybody, options.person)
    return people if options.no_repair else [repair(track) for track in people]


def numbers(count: int, options: argparse.Namespace) -> list[int | None]:
    """The number that each person's outputs carry: none unless everybody was asked for."""
    return list(range(1, count + 1)) if options.person == "all" else [None]


def possible_outputs(outputs: Sequence[Path], options: argparse.Namespace) -> list[Path]:
    """Every file that may come of ``outputs``: how many people there are is known only after an hour's work."""
    from ..core.tracks import MAX_PEOPLE

    return [places.numbered(output, number) for number in numbers(MAX_PEOPLE, options) for output in outputs]


def described(track: KeypointTrack, output: Path) -> dict[str, Any]:
    """What the keypoints are like, for the result."""
    from ..core.keypoint_repair import repair_counts

    return {
        "output": str(output),
        "person": track.person,
        "frames": len(track.time_s),
        "seen": int(track.seen.sum() - track.filled.sum()),
        "bridged": int(track.filled.sum()),
        "repaired": repair_counts(track),
    }


def repairs_told(track: KeypointTrack) -> str:
    """What was repaired, to go on a line of the result; empty where nothing was."""
    from ..core.keypoint_repair import summary

    told = summary(track)
    return f"; {told}" if told else ""


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Detect and write one file a person."""
    footage = open_video(options)
    places.check_outputs(possible_outputs([options.output], options), [".npz"], [options.video])
    from ..core.track_files import write_keypoints

    tracks = find_people(footage, options, reporter)
    people = []
    for number, track in zip(numbers(len(tracks), options), tracks, strict=True):
        output = places.numbered(options.output, number)
        write_keypoints(output, track)
        people.append(described(track, output))
    lines = [
        f"{who['output']}: seen in {who['seen']} of {who['frames']} frames{repairs_told(track)}"
        for who, track in zip(people, tracks, strict=True)
    ]
    reporter.result(
        "\n".join(lines),
        {"outputs": [who["output"] for who in people], "people": people, "seconds": reporter.seconds},
    )
    return EXIT_DONE
