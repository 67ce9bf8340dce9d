"""The options that several commands share, and what their values mean."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import NamedTuple


class Explained(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Help that keeps the line breaks of the examples and tells defaults."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # "(default: None)" and "(default: False)" tell nobody anything.
        if action.default in (None, False, "", [], FrameRange(), argparse.SUPPRESS):
            return action.help
        return super()._get_help_string(action)


class FrameRange(NamedTuple):
    """Frames to take, both ends included, counted from 0; None = from the start, to the end."""

    first: int | None = None
    last: int | None = None


def frame_range(text: str) -> FrameRange:
    """Read ``A-B``, ``A-`` or ``A``."""
    found = re.fullmatch(r"(\d+)(?:(-)(\d*))?", text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not a range of frames; write for example 100-250, or 100-")
    first, dash, last = found.groups()
    if not dash:
        return FrameRange(int(first), int(first))
    if last and int(last) < int(first):
        raise argparse.ArgumentTypeError(f"'{text}' runs backwards; write the smaller frame first")
    return FrameRange(int(first), int(last) if last else None)


def person(text: str) -> str:
    """Read ``largest``, ``all`` or a number from 1."""
    if text in ("largest", "all") or (text.isdecimal() and int(text) > 0):
        return text
    raise argparse.ArgumentTypeError(f"'{text}' is none of: largest, all, 1, 2, 3 ...")


def frames_per_second(text: str) -> float:
    """Read a rate such as ``24`` or ``29.97``."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate <= 10_000:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of frames per second; write for example 24")
    return rate


def angle(text: str) -> float:
    """Read degrees from -180 to 180."""
    try:
        degrees = float(text)
    except ValueError:
        degrees = 999.0
    if not -180 <= degrees <= 180:
        raise argparse.ArgumentTypeError(f"'{text}' is not an angle; write degrees from -180 to 180, for example 12")
    return degrees


def height(text: str) -> float:
    """Read metres from 0.5 to 2.6."""
    try:
        metres = float(text)
    except ValueError:
        metres = 0.0
    if not 0.5 <= metres <= 2.6:
        raise argparse.ArgumentTypeError(f"'{text}' is not how tall people are; write metres, for example 1.78")
    return metres


def add_general_options(parser: argparse.ArgumentParser, default: bool | str) -> None:
    """What every command understands, before or after its name."""
    general = parser.add_argument_group("general")
    for flag, explained in (
        ("--json", "print results as JSON, one object a line, on stdout"),
        ("--quiet", "no progress and no summary; errors still show"),
        ("--debug", "show the traceback of errors, and what the libraries underneath have to say"),
    ):
        general.add_argument(flag, action="store_true", default=default, help=explained)


def add_footage(parser: argparse.ArgumentParser) -> None:
    """The footage itself."""
    parser.add_argument(
        "video",
        type=Path,
        metavar="VIDEO",
        help="a video file, a folder of pictures, or a pattern such as shot_####.png",
    )


def add_detection_options(parser: argparse.ArgumentParser) -> None:
    """How people are found in footage."""
    group = parser.add_argument_group("footage and people")
    group.add_argument(
        "--frames", type=frame_range, default=FrameRange(), metavar="A-B", help="only these frames, counted from 0"
    )
    group.add_argument(
        "--fps",
        type=frames_per_second,
        metavar="RATE",
        help="rate of a picture sequence. A video has its own clock; with this its pictures are counted evenly, for a "
        "clock that is broken and for slow motion, which then moves as fast as it was filmed",
    )
    group.add_argument(
        "--person",
        type=person,
        default="largest",
        metavar="largest|all|N",
        help="the largest in the picture, everybody (outputs are numbered -1, -2, ...), or the Nth largest; at most 4 "
        "people are followed",
    )
    group.add_argument("--detector", choices=["mediapipe"], default="mediapipe", help="what finds the keypoints")
    group.add_argument(
        "--detector-model",
        default="full",
        metavar="full|lite|heavy|FILE",
        help="its model: full comes by itself; lite and heavy are Google's .task files, see docs/user-guide.md",
    )
    group.add_argument(
        "--no-repair",
        action="store_true",
        help="take the keypoints as they were detected, with left and right exchanged here and there, and outliers",
    )


def add_lifting_options(parser: argparse.ArgumentParser) -> None:
    """How keypoints become a pose in space."""
    group = parser.add_argument_group("lifting")
    group.add_argument("--camera", type=Path, metavar="FILE", help="camera.toml of the lens; without, one is guessed")
    group.add_argument(
        "--estimate-lens", action="store_true", help="tell the focal length from how the body looks, a rough guess"
    )
    group.add_argument(
        "--camera-motion",
        type=Path,
        metavar="FILE",
        help="how a moving camera moves, solved elsewhere: .npz with world_from_camera and time_s",
    )
    group.add_argument(
        "--camera-pitch",
        type=angle,
        metavar="DEG",
        help="the camera looks down by so much; without, it is told from the feet",
    )
    group.add_argument(
        "--camera-roll",
        type=angle,
        metavar="DEG",
        help="with --camera-pitch: and is turned clockwise by so much about its view (without: 0)",
    )
    group.add_argument(
        "--height", type=height, metavar="METRES", help="how tall the person stands; without, as people are in the mean"
    )
    group.add_argument("--no-fit", action="store_true", help="the lifter's word alone: no hinges, no planted feet")
    group.add_argument(
        "--adapt",
        action="store_true",
        help="let a copy of the lifter learn from this clip first, for a minute at most; kept if it proves better",
    )
    group.add_argument(
        "--weights",
        metavar="NAME|FILE",
        help="the lifter's weights; without, those in use, see `keylift weights use`",
    )
    group.add_argument(
        "--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what the lifter computes on"
    )


def add_rig_options(parser: argparse.ArgumentParser) -> None:
    """Which armature gets the motion."""
    group = parser.add_argument_group("rig")
    group.add_argument(
        "--rig",
        default="rigify_metarig",
        metavar="FILE[:OBJECT]",
        help="the character: .blend, .fbx, .glb or .bvh, with :OBJECT where it has several armatures; or "
        "rigify_metarig, which is made fresh; or skeleton, a plain one of the person's own size",
    )
    group.add_argument(
        "--map",
        default="auto",
        metavar="auto|PRESET|FILE",
        help="which bone is which part of the body: recognised, a preset, or your own JSON file",
    )


def key_tolerance(text: str) -> tuple[float, float]:
    """Read ``0.5,5``: degrees and millimetres."""
    try:
        degrees, millimetres = (float(part) for part in text.split(","))
    except ValueError:
        degrees = millimetres = 0.0
    if not (0.001 <= degrees <= 90 and 0.001 <= millimetres <= 10_000):
        raise argparse.ArgumentTypeError(
            f"'{text}' is no bound; write degrees and millimetres with a comma between, for example 0.5,5"
        )
    return degrees, millimetres


def add_take_options(parser: argparse.ArgumentParser) -> None:
    """How the motion goes onto the rig."""
    group = parser.add_argument_group("take")
    group.add_argument(
        "--path",
        choices=["keep", "in-place", "both"],
        default="keep",
        help="walk through the room, stay in place, or walk, with a second action that stays in place",
    )
    group.add_argument(
        "--path-on", choices=["hips", "root"], default="hips", help="which bone carries the path through the room"
    )
    group.add_argument(
        "--no-plant-feet",
        action="store_true",
        help="turn the legs just as the person's are; feet may then slide a little on other proportions",
    )
    group.add_argument(
        "--limbs",
        choices=["fk", "ik"],
        default="fk",
        help="on control rigs: key the FK controls, or the IK controls of hands and feet with their poles",
    )
    group.add_argument(
        "--reduce-keys",
        type=key_tolerance,
        nargs="?",
        const=(0.5, 5.0),
        metavar="DEG,MM",
        help="keep only the keys that are needed to stay within so many degrees and millimetres (given alone: 0.5,5)",
    )
    group.add_argument("--no-markers", action="store_true", help="no timeline markers where feet come down and lift")


def add_outputs(parser: argparse.ArgumentParser, endings: str) -> None:
    """Where results go, any number of times."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        action="append",
        required=True,
        metavar="FILE",
        help=f"where to write; may be given several times ({endings})",
    )


def add_output(parser: argparse.ArgumentParser, ending: str) -> None:
    """Where the one result goes."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=f"where to write ({ending})")
