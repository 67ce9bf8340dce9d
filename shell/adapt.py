"""``keylift adapt``: a studio's footage -> weights that suit it, if they turn out better."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, FileFormatError, KeyliftError, NobodyFoundError, OutputError
from ..core.outside_text import is_number, json_value, text_within
from ..core.progress import Progress, report
from . import places
from .arguments import add_detection_options
from .footage_list import Clip, clips_in, find_in_all, keypoints_in
from .reporting import Reporter

if TYPE_CHECKING:
    import numpy as np

    from ..core.tracks import KeypointTrack
    from ..training.motion.motion_set import MotionSet
    from ..training.retraining.filmed_people import FilmedPeople
    from ..training.retraining.footage_set import SetClip
    from ..training.retraining.making import Skipped
    from ..training.retraining.run import Adapted
    from ..training.retraining.settings import AdaptConfig

SUMMARY = "let a lifter learn from your own footage, and say whether it got better"
EXAMPLES = """  keylift adapt footage/ --name our-stage
        every video in the folder, for half an hour; the new weights are used by name: --weights our-stage
  keylift adapt footage/ --name our-stage --motion mocap/ --minutes 60
        with the studio's own motion capture (BVH, C3D, FBX) or animation (.blend) as truth to learn from
  keylift adapt fight.mp4 --corrections fight.keypoints.npz --name fights
        with keypoints that an artist put right
  keylift adapt --run adaptations/our-stage --resume
        go on where it stopped, or was stopped
  torchrun --nproc-per-node 4 -m keylift train adaptations/our-stage/adapt.toml --run-folder adaptations/our-stage
        let several processes or machines learn from what was made ready with --prepare-only
"""

REQUEST = "request.json"
_SET = "set"
_BASE = "base/weights.safetensors"
_MAX_REQUEST_BYTES = 16 << 20
_RUN_ADVICE = "Choose another folder with --run."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "footage",
        type=Path,
        nargs="*",
        metavar="FOOTAGE",
        help="videos, picture sequences, folders of them, or keypoints that `keylift detect` wrote",
    )
    parser.add_argument("--name", metavar="NEW", help="what the new weights are called")
    parser.add_argument(
        "--base", default="default", metavar="NAME|FILE", help="weights to begin with; default are those Keylift has"
    )
    learnt = parser.add_argument_group("what else it learns from")
    learnt.add_argument(
        "--motion",
        type=Path,
        action="append",
        default=[],
        metavar="FILE|FOLDER",
        help="motion of the studio's own: .bvh, .c3d, .fbx, .glb, .blend with animated characters, or a landmark .npz",
    )
    learnt.add_argument("--joint-map", type=Path, metavar="FILE", help="which joint or label of the motion is which")
    learnt.add_argument(
        "--pairs",
        type=Path,
        metavar="PAIRS.toml",
        help="motion that was captured while the footage was filmed; see docs/file-formats.md",
    )
    learnt.add_argument(
        "--corrections",
        type=Path,
        action="append",
        default=[],
        metavar="KEYPOINTS",
        help="keypoints of this footage that an artist put right",
    )
    learnt.add_argument(
        "--camera",
        type=Path,
        metavar="FILE",
        help="camera.toml of the lens, or a calibration of several cameras that filmed at once",
    )
    learning = parser.add_argument_group("learning")
    learning.add_argument("--minutes", type=_minutes, default=30.0, metavar="M", help="how long it learns, at most")
    learning.add_argument("--steps", type=_count, metavar="N", help="so many steps, however long they take")
    learning.add_argument("--seed", type=int, default=1, metavar="N", help="chooses what is looked at when")
    learning.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what computes")
    run = parser.add_argument_group("the run")
    run.add_argument("--run", type=Path, metavar="FOLDER", help="where it is kept; without, with Keylift's own data")
    run.add_argument("--resume", action="store_true", help="go on with what is in --run FOLDER (or with --name NEW)")
    run.add_argument("--prepare-only", action="store_true", help="make everything ready for torchrun, and stop")
    run.add_argument("--replace", action="store_true", help="weights of that name that are there already make way")
    run.add_argument("--use", action="store_true", help="if they are better, use them wherever nobody names weights")
    add_detection_options(parser)


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.1 <= value <= 10_000:
        raise argparse.ArgumentTypeError(f"'{text}' are no minutes; write for example 30")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1_000_000:
        raise argparse.ArgumentTypeError(f"'{text}' is no number of steps; write for example 2000")
    return int(text)


def runs_folder() -> Path:
    """Where runs are kept unless somebody says where."""
    from ..core.weights import user_folder

    return user_folder().parent / "adaptations"


# ---- The request ----------------------------------------------------------------------------------------------------

_PATHS = ("footage", "motion", "corrections")
_ONE_PATH = ("joint_map", "pairs", "camera")
_KEPT = (*_PATHS, *_ONE_PATH, "name", "base", "minutes", "steps", "seed", "frames", "fps", "person", "detector_model",
         "no_repair", "replace", "use")  # fmt: skip


def write_request(folder: Path, options: argparse.Namespace) -> None:
    """Write down what was asked for, so that it can be gone on with by the folder alone."""
    from ..core.output_files import written_whole

    values = {name: getattr(options, name) for name in _KEPT}
    for name in _PATHS:
        values[name] = [str(path.absolute()) for path in values[name]]
    for name in _ONE_PATH:
        values[name] = None if values[name] is None else str(values[name].absolute())
    if Path(values["base"]).suffix == ".safetensors":
        values["base"] = str(Path(values["base"]).absolute())
    if values["detector_model"] not in ("full", "lite", "heavy"):
        values["detector_model"] = str(Path(values["detector_model"]).absolute())
    with written_whole(folder / REQUEST, _RUN_ADVICE) as beside:
        beside.write_text(json.dumps(values, indent=1), encoding="utf-8")


def read_request(folder: Path, options: argparse.Namespace) -> argparse.Namespace:
    """``options`` with everything that was asked for when the run in ``folder`` was begun.

    Raises FileFormatError when there is no run.
    """
    from .arguments import FrameRange

    path = folder / REQUEST
    try:
        values = json_value(text_within(path, _MAX_REQUEST_BYTES))
        asked = {name: values[name] for name in _KEPT}
        for name in _PATHS:
            asked[name] = [Path(text) for text in asked[name]]
        for name in _ONE_PATH:
            asked[name] = None if asked[name] is None else Path(asked[name])
        first, last = asked["frames"]
        asked["frames"] = FrameRange(first, last)
        _check_asked(asked)
    except FileNotFoundError:
        raise FileFormatError(
            f"There is no run in '{folder}' to go on with. Check --run, or begin one with --name and without --resume."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}. Begin anew in another folder.") from problem
    return argparse.Namespace(**{**vars(options), **asked})


def _check_asked(asked: Mapping[str, Any]) -> None:
    """Raise ValueError for what no command line can have asked for: a run's folder may come from anybody."""
    from ..core.weights.names import why_no_name

    if not isinstance(asked["name"], str) or why_no_name(asked["name"]):
        raise ValueError(f"{asked['name']!r} can't be the name of weights")
    paths = [str(path) for key in _PATHS for path in asked[key]]
    paths += [str(asked[key]) for key in _ONE_PATH if asked[key] is not None]
    if any(not isinstance(path, str) or "\0" in path for path in (*paths, asked["base"], asked["detector_model"])):
        raise ValueError("it names a file that can't be")
    numbers = [asked[key] for key in ("minutes", "steps", "seed", "fps")]
    if not all(number is None or is_number(number) for number in (*numbers, *asked["frames"])):
        raise ValueError("it has a number that is none")


def _begun(options: argparse.Namespace) -> tuple[argparse.Namespace, Path]:
    """The whole request and the run's folder. Raises KeyliftError for what can't be begun or gone on with."""
    from ..core.weights import check_new_name

    folder = options.run or (runs_folder() / options.name if options.name else None)
    if folder is None:
        raise KeyliftError("Say what the new weights are to be called: --name NEW. To go on with a run: --run FOLDER.")
    if options.resume:
        return read_request(folder, options), folder
    if not options.name:
        raise KeyliftError("Say what the new weights are to be called: --name NEW.")
    if not options.footage:
        raise KeyliftError("Name the footage: videos, a folder of them, or .keypoints.npz files.")
    check_new_name(options.name, replace=options.replace)
    if (folder / REQUEST).exists():
        raise OutputError(
            f"'{folder}' holds a run already. Go on with it by --resume, remove it, or choose another with --run."
        )
    for path in (*options.corrections, options.joint_map, options.pairs, options.camera):
        if path is not None:
            places.check_input(path, "what was named")
    for path in options.motion:
        if not path.exists():
            raise FileFormatError(f"There is no motion '{path}'. Check the path after --motion.")
    return options, folder


# ---- Footage --------------------------------------------------------------------------------------------------------


def _look(
    clips: Sequence[Clip], options: argparse.Namespace, reporter: Reporter
) -> tuple[list[Clip], int, list[Skipped]]:
    """Find the people in every clip, whose keypoints are kept; what has nobody in it, or is no footage, is left out.

    returns: clips with somebody in them, how many people there are, and what was left out
    """
    from ..core.errors import FootageError
    from ..training.retraining.making import Skipped

    good, people, skipped = [], 0, []
    find_in_all(clips, options, reporter)
    with reporter.stage("footage", "Going through the footage") as progress:
        for number, clip in enumerate(clips):
            report(progress, number, len(clips))
            try:
                people += len(keypoints_in(clip, options, reporter))
                good.append(clip)
            except (FootageError, NobodyFoundError, FileFormatError) as problem:
                skipped.append(Skipped(clip.path.name, str(problem)))
                reporter.note(f"{clip.path.name} is left out: {problem}")
        report(progress, len(clips), len(clips))
    return good, people, skipped


def _filmed(clips: Sequence[Clip], options: argparse.Namespace, reporter: Reporter) -> FilmedPeople:
    """Everybody in the clips, one at a time, with corrections, lens, camera and truth where they are known."""
    from ..training.retraining.filmed_people import FilmedPeople
    from .motion_input import read_character

    def everybody() -> Iterator[tuple[str, KeypointTrack]]:
        for clip in clips:
            for track in keypoints_in(clip, options, reporter):
                yield clip.name, track

    return FilmedPeople(
        everybody,
        corrections=options.corrections,
        camera=options.camera,
        pairs=options.pairs,
        read_character=lambda path: read_character(path).clips,
        tell=reporter.note,
    )


def _labelled(options: argparse.Namespace, reporter: Reporter) -> list[MotionSet]:
    """The studio's own motion, read and checked."""
    if not options.motion:
        return []
    from .motion_input import read_motions

    with reporter.stage("motion", "Reading motion"):
        return read_motions(options.motion, options.joint_map, reporter.note)


# ---- The run --------------------------------------------------------------------------------------------------------


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Make a set of the footage, learn from it, judge it, and keep what is better."""
    if not os.environ.get("KEYLIFT_DEBUG"):
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    options, folder = _begun(options)
    clips = clips_in(options.footage)
    if not options.resume:
        _keep_base(folder, options)
        write_request(folder, options)
    config, skipped = _prepared(folder, clips, options, reporter)
    if options.prepare_only:
        reporter.result(
            f"{folder}: ready. Go on with torchrun -m keylift train {folder / 'adapt.toml'} --run-folder {folder}, or "
            f"with keylift adapt --run {folder} --resume",
            {"run": str(folder), "config": str(folder / "adapt.toml"), "skipped": skipped, "seconds": reporter.seconds},
        )
        return EXIT_DONE
    adapted = _learnt(config, folder, clips, options, reporter)
    kept = _kept(adapted, options)
    values = adapted.as_dict() | {
        "weights": str(kept),
        "run": str(folder),
        "skipped": skipped,
        "in_use": adapted.verdict.better and options.use,
        "seconds": reporter.seconds,
    }
    from ..training.retraining.run import RESULT, write_json

    write_json(folder / RESULT, values)
    reporter.result(_told(adapted, kept, values), values)
    return EXIT_DONE


def _keep_base(folder: Path, options: argparse.Namespace) -> None:
    """A copy of the weights that are begun with: a run must not depend on what becomes of the file."""
    from ..core.output_files import written_whole
    from ..core.weights import find_weights, read_header

    base = find_weights(options.base)
    read_header(base)
    with written_whole(folder / _BASE, _RUN_ADVICE) as beside:
        beside.write_bytes(base.read_bytes())


def _prepared(
    folder: Path, clips: Sequence[Clip], options: argparse.Namespace, reporter: Reporter
) -> tuple[AdaptConfig, list[dict[str, Any]]]:
    """The set and the configuration, made now or in an earlier run."""
    from ..training.config import read_config
    from ..training.retraining.config_file import CONFIG
    from ..training.retraining.footage_set import is_set
    from ..training.retraining.run import read_provenance
    from ..training.retraining.settings import AdaptConfig

    path = folder / CONFIG
    if not (path.is_file() and is_set(folder / _SET)):
        _make_ready(folder, clips, options, reporter)
    config = read_config(path)
    if not isinstance(config, AdaptConfig):
        raise FileFormatError(f"'{path}' is no configuration of keylift adapt. Begin anew in another folder.")
    return config, read_provenance(folder / _SET).get("skipped", [])


def _make_ready(folder: Path, clips: Sequence[Clip], options: argparse.Namespace, reporter: Reporter) -> None:
    from ..core.source import sha256_of
    from ..core.weights import find_weights
    from ..training.retraining import config_file, making
    from ..training.retraining.run import load_base, make_lesson, open_data
    from ..training.retraining.settings import AdaptConfig, AdaptLoopSettings, PreparingSettings

    settings = PreparingSettings()
    config = AdaptConfig(
        options.name,
        _BASE,
        sha256_of(folder / _BASE),
        _SET,
        base_name=find_weights(options.base).stem,
        preparing=settings,
        loop=replace(AdaptLoopSettings(), seed=options.seed, steps=options.steps or AdaptLoopSettings.steps),
    )
    lifter = load_base(config, folder, _device(options))
    good, count, without = _look(clips, options, reporter)
    people = _filmed(good, options, reporter)
    labelled = _labelled(options, reporter)
    with reporter.stage("prepare", "Making ready what was found") as progress:
        parts, skipped = making.make_parts(
            folder,
            people,
            count + len(options.corrections),
            lifter,
            settings,
            progress=progress,
            tell=reporter.note,
        )
        skipped = [*without, *people.skipped, *skipped]
        making.make_set(folder / _SET, parts, labelled, skipped, lifter.fps, settings)
    if options.steps is None:
        device = _device(options)
        begun = load_base(config, folder, device)
        lesson = make_lesson(config, begun, open_data(config, folder))
        config = config_file.with_steps_for(config, lesson.to(device), device, options.minutes)
    config_file.write_config(folder / config_file.CONFIG, config)


def _device(options: argparse.Namespace) -> Any:
    from ..core.lifter.device import choose_device

    return choose_device(options.device)


def _learnt(
    config: AdaptConfig, folder: Path, clips: Sequence[Clip], options: argparse.Namespace, reporter: Reporter
) -> Adapted:
    from ..training.checkpoints import saved
    from ..training.retraining.run import adapt_on_footage

    @contextmanager
    def stages(name: str, title: str) -> Iterator[Progress]:
        with reporter.stage(name, title) as show:

            def progress(done: int, total: int | None) -> bool:
                # A request to stop waits for the end of a step: from there the run can be taken up again.
                reporter.stop_waits = name == "learn" and done != total
                return show(done, total)

            try:
                yield progress
            finally:
                reporter.stop_waits = False

    return adapt_on_footage(
        config,
        folder,
        folder,
        resume=bool(saved(folder)),
        device=options.device,
        stages=stages,
        tell=reporter.note,
        picture_of=_Pictures(clips),
    )


class _Pictures:
    """Frames of the footage for the report, where it is still at hand."""

    def __init__(self, clips: Sequence[Clip]) -> None:
        self._clips = {clip.path.name: clip for clip in clips if not clip.holds_keypoints}

    def __call__(self, clip: SetClip, time_s: float) -> np.ndarray | None:
        from ..core.footage import open_footage

        named = self._clips.get(clip.source.name)
        if named is None:
            return None
        try:
            with open_footage(named.path) as footage:
                for frame in footage.frames():
                    if frame.time_s >= time_s - 0.5 / max(footage.fps, 1.0):
                        return frame.rgb
        except KeyliftError:
            # The report does without.
            return None
        return None


def _kept(adapted: Adapted, options: argparse.Namespace) -> Path:
    """The weights among the user's own, whatever the gate said: its word is in them."""
    from ..core.output_files import written_whole
    from ..core.weights import check_new_name, use_weights, user_folder, weights_in_use

    check_new_name(adapted.name, replace=True)
    place = user_folder() / f"{adapted.name}.safetensors"
    with written_whole(place, "Set KEYLIFT_WEIGHTS to a folder that can be written.") as beside:
        beside.write_bytes(adapted.weights.read_bytes())
    # Where weights of that name are in use already, those that replaced them have to be named anew.
    if adapted.verdict.better and (options.use or weights_in_use() == adapted.name):
        use_weights(adapted.name)
    return place


def _told(adapted: Adapted, kept: Path, values: dict[str, Any]) -> str:
    better = adapted.verdict.better
    lines = [
        f"{'Better' if better else 'Not better'}: {adapted.verdict.reason}.",
        f"Report: {adapted.report}",
        f"Weights: {kept}",
    ]
    if values["in_use"]:
        lines.append(f"'{adapted.name}' is used from now on; keylift weights use default goes back.")
    elif better:
        lines.append(f"Use them with --weights {adapted.name}, or always: keylift weights use {adapted.name}")
    else:
        lines.append("The base stays what is used; these weights are kept for you to look at.")
    return "\n".join(lines)
