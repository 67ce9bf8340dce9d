"""``keylift evaluate``: how far a lifter's weights are from the truth."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EXIT_DONE
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
"""

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
        "config", type=Path, metavar="CONFIG", help="a training configuration; its [data] says what is measured on"
    )
    parser.add_argument("--split", choices=["test", "valid", "train"], default="test", help="the part of the data")
    parser.add_argument("--by-subject", action="store_true", help="for each subject too")
    parser.add_argument(
        "--no-flip", action="store_true", help="lift once, without averaging with the mirrored prediction"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what it computes on")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Evaluate and print."""
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
