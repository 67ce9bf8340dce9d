"""``keylift evaluate``: how far a lifter's weights are from the truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EXIT_DONE, EXIT_USAGE, KeyliftError
from . import places
from .reporting import Reporter

if TYPE_CHECKING:
    from ..training.evaluate import Evaluation
    from ..training.sequences.protocols import Scores

SUMMARY = "measure a lifter's weights against motion whose truth is known"
EXAMPLES = """  keylift evaluate h36m-cpn-243.safetensors training/configs/human36m.toml
        protocols 1, 2 and 3 and the velocity, per action and in the mean
  keylift evaluate x.safetensors training/configs/human36m.toml --by-subject --json
        for each subject too, as JSON
  keylift evaluate default training/configs/default.toml
        the weights that footage is lifted with, on synthetic views of held-out motion
  keylift evaluate default --set mocap-test
        the same, and whole clips of that motion, repaired, lifted and fitted as footage is
  keylift evaluate default --set filmed --shots shots/filmed --json
        all of the way from keypoints to a pose, on shots that `keylift triangulate` made
  keylift evaluate mine.safetensors --set filmed --shots shots/filmed --before before.json --report docs/images/accuracy
        beside what that printed for earlier weights, with plots and pictures of the worst frames
"""


class _UsageError(KeyliftError):
    """Options that don't go together."""

    exit_code = EXIT_USAGE


_COLUMNS = (
    ("mpjpe_mm", "P1 MPJPE", 1),
    ("p_mpjpe_mm", "P2 P-MPJPE", 1),
    ("n_mpjpe_mm", "P3 N-MPJPE", 1),
    ("velocity_mm", "MPJVE", 2),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("weights", metavar="NAME|FILE", help="a name of `keylift weights list`, or a .safetensors file")
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG",
        help="a training configuration; its [data] says what is measured on. With --set mocap-test that of the default "
        "weights where left out; not for shots",
    )
    parser.add_argument(
        "--set",
        choices=["mocap-test", "rendered", "filmed"],
        dest="kind",
        help="all of the way from keypoints to a pose: on motion of people held back, before synthetic cameras, or on "
        "the shots of --shots",
    )
    parser.add_argument("--split", choices=["test", "valid", "train"], default="test", help="the part of the data")
    parser.add_argument("--by-subject", action="store_true", help="for each subject too")
    parser.add_argument(
        "--no-flip", action="store_true", help="lift once, without averaging with the mirrored prediction"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what it computes on")
    shots = parser.add_argument_group("with --set")
    shots.add_argument(
        "--clips", type=_clips, default=24, metavar="N", help="mocap-test: so many clips, besides single frames"
    )
    shots.add_argument("--shots", type=Path, metavar="FOLDER", help="where the .shot.npz files are")
    shots.add_argument(
        "--model",
        choices=["lite", "full", "heavy"],
        action="append",
        help="only the keypoints of this model of the detector; may be given several times",
    )
    shots.add_argument("--no-repair", action="store_true", help="lift the keypoints as the detector gave them")
    shots.add_argument("--adapt", action="store_true", help="let the lifter learn from each clip first, as with lift")
    shots.add_argument("--no-fit", action="store_true", help="the lifter's word alone, smoothed, without the fit")
    shots.add_argument("--guessed-lens", action="store_true", help="lift with a guessed lens instead of the true one")
    shots.add_argument("--before", type=Path, metavar="FILE", help="an earlier result (--json), shown beside this one")
    shots.add_argument(
        "--report", type=Path, metavar="FOLDER", help="write a table, plots and pictures of the worst frames there"
    )
    shots.add_argument(
        "--page",
        type=Path,
        metavar="FILE",
        help="put the report into this Markdown page, between its marks for the set",
    )
    shots.add_argument(
        "--footage",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="where the shots' clips are, for the pictures; may be given several times",
    )


def _clips(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} clips are fewer than none")
    return value


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Evaluate and print."""
    _check_usage(options)
    if options.page is not None:
        from ..training.shots.accuracy_report import check_page

        check_page(options.page, options.kind, options.report)
    if options.kind is not None:
        from . import evaluate_shots

        run_on = evaluate_shots.run_on_motion if options.kind == "mocap-test" else evaluate_shots.run_on_shots
        return run_on(options, reporter)
    places.check_input(options.config, "the configuration")
    from ..core.weights import find_weights, read_header

    weights = find_weights(options.weights)
    read_header(weights)
    from ..training.evaluate import evaluate_weights

    with reporter.stage("evaluate", f"Evaluating {weights.name}") as progress:
        found = evaluate_weights(
            weights,
            options.config,
            split=options.split,
            test_time_flip=not options.no_flip,
            device=options.device,
            progress=progress,
        )
    values = found.as_dict()
    if not options.by_subject:
        values.pop("by_subject")
    reporter.result("\n".join(_readable(found, options.by_subject)), {**values, "seconds": reporter.seconds})
    return EXIT_DONE


def _check_usage(options: argparse.Namespace) -> None:
    """Raise _UsageError for options that say nothing together."""
    if options.kind is None:
        if options.config is None:
            raise _UsageError("Name a CONFIG, or choose what to measure on with --set.")
        if options.shots or options.report or options.before or options.page:
            raise _UsageError("--shots, --before, --report and --page go with --set.")
        if options.model or options.no_repair or options.adapt or options.no_fit or options.guessed_lens:
            raise _UsageError("--model, --no-repair, --adapt, --no-fit and --guessed-lens go with --set.")
        return
    if options.by_subject or options.no_flip or options.split != "test":
        raise _UsageError("--by-subject, --no-flip and --split go with a CONFIG, without --set.")
    if options.page is not None and options.report is None:
        raise _UsageError("--page shows what --report writes: say with --report FOLDER where the pictures go.")
    if options.kind == "mocap-test":
        if options.shots is not None:
            raise _UsageError("--shots goes with --set rendered and --set filmed.")
    elif options.shots is None:
        raise _UsageError(f"Say with --shots FOLDER where the {options.kind} shots are; see docs/accuracy.md.")
    elif options.config is not None:
        raise _UsageError("Shots want no CONFIG: they are lifted as footage is.")


def _readable(found: Evaluation, by_subject: bool) -> list[str]:
    lines = [f"{name:<18} {value:8.2f}" for name, value in found.views.items()]
    if found.everybody:
        frames = found.everybody.frames
        lines += [f"{frames} frames of '{found.split}', errors in mm (velocity: mm a frame)", *_table(found.everybody)]
    if by_subject:
        for subject, scores in found.by_subject.items():
            lines += ["", f"{subject}: {scores.frames} frames", *_table(scores)]
    return lines


def _table(scores: Scores) -> list[str]:
    width = max(len(action) for action in [*scores.by_action, "mean over actions"])
    lines = [f"{'':<{width}}" + "".join(f"{title:>12}" for _, title, _ in _COLUMNS)]
    for action, errors in [*scores.by_action.items(), ("mean over actions", scores.mean)]:
        cells = "".join(f"{errors[key]:>12.{digits}f}" for key, _, digits in _COLUMNS)
        lines.append(f"{action:<{width}}{cells}")
    return lines
