"""``keylift evaluate --set``: all of the way from keypoints to a pose, on shots whose truth is known."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, FileFormatError
from ..core.outside_text import json_value, text_within
from . import places
from .reporting import Reporter

if TYPE_CHECKING:
    from ..training.shots.accuracy import Accuracy, Lifting
    from ..training.shots.shot import Shot

# A file that `--json` wrote is far smaller.
_MAX_RESULT_BYTES = 64 << 20
_CLIPS_SEED = 7

Means = Mapping[str, Mapping[str, "float | None"]]


def run_on_shots(options: argparse.Namespace, reporter: Reporter) -> int:
    """Evaluate on the shots of a folder."""
    from ..training.shots.shot import read_shots

    weights = _weights(options)
    earlier = _earlier(options.before)
    found = _measured(read_shots(options.shots), weights, options, reporter)
    return _tell(found, earlier, options, reporter)


def run_on_motion(options: argparse.Namespace, reporter: Reporter) -> int:
    """Evaluate on motion held back: single frames by the lifter alone, then whole clips by all of it."""
    from ..training.config import read_config
    from ..training.views.config import ViewConfig

    config_path = options.config or Path(__file__).parent.parent / "training" / "configs" / "default.toml"
    places.check_input(config_path, "the configuration")
    weights = _weights(options)
    earlier = _earlier(options.before)
    config = read_config(config_path)
    if not isinstance(config, ViewConfig):
        raise FileFormatError(f"'{config_path}' is not of synthetic views. Give it without --set.")
    from ..training.evaluate import evaluate_weights
    from ..training.shots.synthetic_shots import make_synthetic_shots
    from ..training.views.run import motion_of

    with reporter.stage("evaluate", f"Evaluating {weights.name}") as progress:
        views = evaluate_weights(weights, config_path, device=options.device, progress=progress).views
    motion = motion_of(config, config_path.parent, "test", reporter.note)
    shots = make_synthetic_shots(motion, options.clips, _CLIPS_SEED, config.views.noise)
    found = _measured(shots, weights, options, reporter)
    frames = [["single frames, the lifter alone", weights.stem], *([key, f"{views[key]:.2f}"] for key in views)]
    return _tell(found, earlier, options, reporter, views, frames)


def _weights(options: argparse.Namespace) -> Path:
    from ..core.weights import find_weights, read_header

    weights = find_weights(options.weights)
    # Before torch is loaded: most wrong files are found out by their first bytes.
    read_header(weights)
    return weights


def _measured(shots: Sequence[Shot], weights: Path, options: argparse.Namespace, reporter: Reporter) -> Accuracy:
    from ..training.shots.accuracy import measure_accuracy

    lift = _lifting(weights, options)
    with reporter.stage("evaluate", f"Lifting {len(shots)} shots with {weights.name}") as progress:
        found = measure_accuracy(shots, lift, weights.name, options.model or (), progress)
    if shots and not found.results:
        raise FileFormatError(f"No shot has keypoints of {', '.join(options.model)}. Leave --model out.")
    return found


def _lifting(weights: Path, options: argparse.Namespace) -> Lifting:
    """The product's own way from keypoints to a pose, with weights that are loaded once."""
    from ..core.camera import Camera
    from ..core.keypoint_repair import repair
    from ..core.lift import lift
    from ..core.lifter.lifting import load_ray_lifter
    from ..core.lifter.side_check import check_sides
    from ..core.tracks import KeypointTrack, PoseTrack
    from ..training.adaptation.adaptation import adapt_to_clip

    lifter = load_ray_lifter(weights, options.device)

    def lifted(track: KeypointTrack, camera: Camera) -> PoseTrack:
        lens = None if options.guessed_lens else camera
        if not options.no_repair:
            track = check_sides(repair(track), lens, lifter)
        suited = adapt_to_clip(lifter, track, lens).lifter if options.adapt else lifter
        return lift(track, camera=lens, lifter=suited, fit=not options.no_fit)

    return lifted


def _earlier(path: Path | None) -> Means | None:
    """The means of an earlier result. Raises FileFormatError when ``path`` is none."""
    if path is None:
        return None
    places.check_input(path, "the earlier result")
    try:
        means = json_value(text_within(path, _MAX_RESULT_BYTES))["mean"]
        return {
            str(which): {str(key): None if value is None else float(value) for key, value in scores.items()}
            for which, scores in means.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as problem:
        raise FileFormatError(f"'{path}' is no result of `keylift evaluate --set ... --json`: {problem}.") from problem


def _tell(
    found: Accuracy,
    earlier: Means | None,
    options: argparse.Namespace,
    reporter: Reporter,
    values: Mapping[str, Any] | None = None,
    table: Sequence[Sequence[str]] = (),
) -> int:
    """Write the report that is asked for, and print; ``values`` and ``table`` come before the shots'."""
    from ..training.shots.accuracy_report import (
        aligned_lines,
        markdown_lines,
        mean_table,
        put_into_page,
        shot_table,
        worst_table,
        write_report,
    )

    outputs: list[Path] = []
    tables = [table] if table else []
    if found.results:
        if options.report is not None:
            with reporter.stage("report", "Drawing") as progress:
                progress(0, None)
                on_page = options.page is not None
                outputs, text = write_report(
                    options.report, found, options.kind, options.footage, earlier, table=not on_page
                )
                if on_page:
                    head = "".join(f"{line}\n" for line in [*markdown_lines(table), ""]) if table else ""
                    put_into_page(options.page, options.kind, head + text, options.report)
                    outputs.append(options.page)
        tables += [mean_table(found, options.kind, earlier), worst_table(found), shot_table(found)]
    lines = [line for rows in tables for line in [*aligned_lines(rows), ""]]
    reporter.result(
        "\n".join([*lines, *(f"wrote {path}" for path in outputs)]).rstrip(),
        {
            "set": options.kind,
            **(values or {}),
            **found.as_dict(),
            "outputs": [str(path) for path in outputs],
            "seconds": reporter.seconds,
        },
    )
    return EXIT_DONE
