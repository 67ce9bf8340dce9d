"""``keylift triangulate``: what several cameras filmed at once -> shots whose truth is known."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EXIT_DONE, DetectorError, FileFormatError
from . import places
from .reporting import Reporter

if TYPE_CHECKING:
    from ..training.shots.filmed_views import FilmedView, StandingCamera

SUMMARY = "make shots with known truth from views of several calibrated cameras"
EXAMPLES = """  keylift triangulate cam01.mp4 cam02.mp4 cam03.mp4 cam04.mp4 --calibration Calib.qca.txt -o shots
        --detector-model full --detector-model pose_landmarker_heavy.task
        one shot a view, to evaluate with `keylift evaluate default --set filmed --shots shots`
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "videos", type=Path, nargs="+", metavar="VIDEO", help="clips of one person that start at the same moment"
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        required=True,
        metavar="FILE",
        help="where the cameras stood: Qualisys' .qca.txt or .xml, or Pose2Sim's .toml. Cameras are told by the clips' "
        "names, or are in the order of the clips",
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the .shot.npz files go"
    )
    parser.add_argument(
        "--detector-model",
        action="append",
        metavar="full|lite|heavy|FILE",
        help="a model whose keypoints the shots hold; may be given several times. The truth is made of the last one's "
        "(without: full)",
    )
    parser.add_argument("--source", default="", metavar="TEXT", help="where the footage is from, and its licence")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Detect in every view, triangulate, and write one shot a view."""
    from ..core.footage import open_footage
    from ..training.shots.filmed_views import read_calibration, shots_of_views
    from ..training.shots.shot import SHOT_ENDING, write_shot

    places.check_input(options.calibration, "the calibration")
    cameras = _matching(read_calibration(options.calibration), options.videos)
    footage = [open_footage(video) for video in options.videos]
    outputs = [options.output / f"{clip.path.stem}{SHOT_ENDING}" for clip in footage]
    places.check_outputs(outputs, [SHOT_ENDING], [*options.videos, options.calibration])
    for note in (note for clip in footage for note in clip.notes):
        reporter.note(note)
    models = bundles_by_kind(options.detector_model or ["full"], reporter)

    views = [_view(clip.path, models, reporter) for clip in footage]
    with reporter.stage("triangulate", "Triangulating") as progress:
        progress(0, None)
        shots, report = shots_of_views(views, cameras, list(models)[-1], options.source)
    for output, shot in zip(outputs, shots, strict=True):
        write_shot(output, shot)
    text = (
        f"{len(shots)} shots in {options.output}. The truth lies {report['off_px']:.1f} px from the keypoints "
        f"(median; 95 %: {report['off_p95_px']:.0f}), {report['off_as_calibrated_px']:.1f} before the cameras were "
        f"turned by up to {report['cameras_turned_deg']:.1f} degrees; {100 * report['views_believed']:.0f} % of the "
        f"keypoints were believed, {100 * report['points_known']:.0f} % of the points are known."
    )
    reporter.result(text, {"outputs": [str(path) for path in outputs], **report, "seconds": reporter.seconds})
    return EXIT_DONE


def _matching(cameras: Sequence[StandingCamera], videos: Sequence[Path]) -> list[StandingCamera]:
    """A camera for each video: by name, else in order. Raises FileFormatError when neither works."""
    by_name = {camera.name: camera for camera in cameras}
    stems = [video.stem for video in videos]
    if len(set(stems)) < len(stems) or len(stems) < 2:
        raise FileFormatError("Give two videos or more, each with a name of its own.")
    if all(stem in by_name for stem in stems):
        return [by_name[stem] for stem in stems]
    if len(cameras) == len(videos):
        return list(cameras)
    raise FileFormatError(
        f"The calibration has the cameras {', '.join(by_name)}, and there are {len(videos)} videos: "
        f"{', '.join(stems)}. Name the videos like their cameras, or give one for each camera in that order."
    )


def bundles_by_kind(wanted: Sequence[str], reporter: Reporter) -> dict[str, Path]:
    """The bundles by what they are called in a shot."""
    from ..core.pose_model import BUNDLE_NAMES, pose_model

    models = {}
    for name in wanted:
        with reporter.stage("model", "Getting the pose model") as progress:
            bundle = pose_model(name, progress)
        kind = next((kind for kind in BUNDLE_NAMES if kind in bundle.stem.lower()), None)
        if kind is None:
            raise DetectorError(
                f"'{bundle.name}' doesn't tell which model it is. Call it as MediaPipe does: "
                f"{', '.join(BUNDLE_NAMES.values())}."
            )
        models[kind] = bundle
    return models


def _view(video: Path, models: dict[str, Path], reporter: Reporter) -> FilmedView:
    from ..core.detection import detect_people
    from ..core.footage import open_footage
    from ..training.shots.detector_world import detector_world_landmarks
    from ..training.shots.filmed_views import FilmedView

    keypoints, world_m = {}, {}
    for kind, bundle in models.items():
        footage = open_footage(video)
        with reporter.stage("detect", f"Looking for the person in {video.name} ({kind})") as progress:
            keypoints[kind] = detect_people(footage, model=bundle, progress=progress)[0]
        with reporter.stage("detect", f"World landmarks in {video.name} ({kind})") as progress:
            world_m[kind] = detector_world_landmarks(footage.frames(), keypoints[kind], bundle, progress)
    return FilmedView(video.stem, keypoints, world_m)
