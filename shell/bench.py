"""``keylift bench``: how fast each step is on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import EXIT_DONE, KeyliftError
from .interruption import unbroken
from .reporting import Reporter
from .retarget import BlenderMissingError, check_blender

SUMMARY = "measure how fast each step is here, against how it is done plainly"
EXAMPLES = """  keylift bench -o bench
        a quarter of an hour; let the machine do nothing else meanwhile. Writes bench/bench.json, .md and .png
  keylift bench detect --footage dance.mp4
        only how fast people are found, against a bare loop of decoding and detector
  keylift bench retarget --json
        only the way from a pose to keyframes, against keyframe_insert for every bone and frame; needs Blender
  keylift bench --quick --json
        small sizes, to see that all of it runs; its figures mean little
"""
ALL = "all"
DETECT, LIFT_AND_TRAIN, RETARGET, START, LENGTH = "detect", "lift-and-train", "retarget", "start", "length"
# Quick ones first.
SECTIONS = (START, RETARGET, DETECT, LENGTH, LIFT_AND_TRAIN)
_TITLES = {RETARGET: "retargeting", DETECT: "finding people", START: "the extension's start"}
_ROUNDS_OF_STARTS = 5
DEMO_CLIP = "cam03.mp4"


class FootageMissingError(KeyliftError):
    """There is nobody to be found."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=[ALL, *SECTIONS],
        default=ALL,
        help=f"what to measure: {', '.join(SECTIONS)}, or all of it (default)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean little")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what it lifts on")
    parser.add_argument(
        "--footage", type=Path, metavar="FILE", help="film of one person to find; without, the demo's where it was run"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FOLDER", help="also write the figures as JSON, Markdown and a plot there"
    )


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Measure, and tell the ratios."""
    from .benching.machine import describe_machine, measure_limits
    from .benching.page import check_place, headline, write_page

    if options.output is not None:
        check_place(options.output)
    sections = SECTIONS if options.what == ALL else (options.what,)
    measured: dict[str, Any] = {"quick": options.quick, "machine": describe_machine()}
    told: list[str] = []
    for section in sections:
        measure, tell = _SECTIONS[section]
        try:
            found = measure(options, reporter)
        except (BlenderMissingError, FootageMissingError) as problem:
            if options.what != ALL:
                raise
            reporter.note(f"Note: {_TITLES[section]} is not measured. {problem}")
            told.append(f"{_TITLES[section]}: not measured")
            found = None
        else:
            told += tell(found)
        # The networks' figures, and those of a section that stands alone, have no name before them.
        if isinstance(found, dict) and (section == LIFT_AND_TRAIN or options.what == RETARGET):
            measured |= found
        else:
            measured[section] = found
    if LIFT_AND_TRAIN in sections:
        measured["limits"] = measure_limits()
    measured |= headline(measured)
    if options.output is not None:
        told += [str(path) for path in write_page(options.output, measured, told)]
    reporter.result("\n".join(told), measured)
    return EXIT_DONE


def _detect_measured(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from ..core.pose_model import cache_folder, pose_model
    from .benching.detection_bench import FULL, QUICK, measure_detection

    footage = options.footage or cache_folder() / "demo" / DEMO_CLIP
    if options.footage is None and not footage.is_file():
        raise FootageMissingError("It needs a film of one person: name one with --footage.")
    with reporter.stage("model", "Getting the pose model") as progress:
        model = pose_model("full", progress)
    with reporter.stage("bench detect", "Measuring how people are found") as progress:
        return measure_detection(footage, model, QUICK if options.quick else FULL, progress)


def _start_measured(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from .benching.start_bench import measure_start

    try:
        check_blender()
    except BlenderMissingError as problem:
        reporter.note(f"Note: the extension's start is not measured. {problem}")
        blender = False
    else:
        blender = True
    with reporter.stage("bench start", "Measuring how it starts") as progress:
        return measure_start(1 if options.quick else _ROUNDS_OF_STARTS, blender, progress)


def _length_measured(options: argparse.Namespace, reporter: Reporter) -> list[dict[str, float]]:
    from .benching.length_bench import FULL_MINUTES, QUICK_MINUTES, measure_length

    with reporter.stage("bench length", "Measuring longer and longer clips") as progress:
        return measure_length(QUICK_MINUTES if options.quick else FULL_MINUTES, progress)


def _lift_and_train_measured(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from ..training.bench import FULL, QUICK, run_bench

    with reporter.stage("bench", "Measuring lifting and training") as progress:
        return run_bench(QUICK if options.quick else FULL, options.device, progress)


def _retarget_measured(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    check_blender()
    from ..addon.retarget_bench import FULL, QUICK, run_retarget_bench

    with reporter.stage("bench retarget", "Measuring retargeting") as progress, unbroken(reporter):
        return run_retarget_bench(QUICK if options.quick else FULL, progress)


def _told_by(name: str) -> Callable[[Any], list[str]]:
    def tell(measured: Any) -> list[str]:
        from .benching import telling

        lines: list[str] = getattr(telling, name)(measured)
        return lines

    return tell


_SECTIONS: dict[str, tuple[Callable[[argparse.Namespace, Reporter], Any], Callable[[Any], list[str]]]] = {
    DETECT: (_detect_measured, _told_by("detect_told")),
    START: (_start_measured, _told_by("start_told")),
    LENGTH: (_length_measured, _told_by("length_told")),
    LIFT_AND_TRAIN: (_lift_and_train_measured, _told_by("lift_and_train_told")),
    RETARGET: (_retarget_measured, _told_by("retarget_told")),
}
