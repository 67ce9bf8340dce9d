"""``keylift bench``: how fast lifting and training are on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from ..core.errors import EXIT_DONE
from .reporting import Reporter

SUMMARY = "measure how fast lifting and training are here, against the plain network"
EXAMPLES = """  keylift bench
        takes some minutes; let the machine do nothing else meanwhile
  keylift bench --quick --json
        a small network, to see that all of it runs; its figures mean little
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean little")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what it computes on")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Measure, and tell the ratios."""
    from ..training.bench import FULL, QUICK, run_bench

    with reporter.stage("bench", "Measuring") as progress:
        measured = run_bench(QUICK if options.quick else FULL, options.device, progress)
    reporter.result(_told(measured), {**measured, "quick": options.quick})
    return EXIT_DONE


def _told(measured: dict[str, Any]) -> str:
    inference, streaming, memory = measured["inference"], measured["streaming"], measured["memory"]
    lines = [
        f"{measured['device']}, {measured['threads']} threads, torch {measured['torch']}; medians of "
        f"{measured['rounds']}, ours and the plain network in turn:",
        f"lifting {inference['frames']} frames with flip, {_network(inference)}",
    ]
    for precision in ("float32", "bfloat16"):
        if precision in inference:
            off = 1000 * inference[precision]["largest_difference_m"]
            lines.append(f"  {precision:<10} {_ratio(inference[precision])}, at most {off:.3g} mm off")
    for training in measured["training"]:
        lines.append(f"training, {_network(training)}, batch {training['batch']}, data included")
        lines.append(f"  {_ratio(training)}, {training['samples_per_second']:.0f} windows a second")
    views = measured["views"]
    lines.append(
        f"training on synthetic views, {views['channels']} channels, batch {views['batch']}: "
        f"{views['seconds_per_step']:.3g} s a step, {views['making_share']:.0%} of it to make the views"
    )
    near, far = streaming["ms_per_frame"]
    fields = streaming["receptive_fields"]
    lines += [
        f"streaming, a frame: {near:.2f} ms at {fields[0]} frames, {far:.2f} ms at {fields[1]}: "
        f"{streaming['cost_ratio']:.2f}x for {streaming['parameter_ratio']:.2f}x the parameters",
        f"memory: {memory['peak_mb'][0]:.0f} MB for {memory['frames'][0]} frames, {memory['peak_mb'][1]:.0f} MB for "
        f"{memory['frames'][1]}",
    ]
    lines += [
        f"from keypoints to the fitted pose, {lift['frames']} frames at 30 a second: {lift['seconds']:.2f} s, "
        f"{lift['fit_vs_realtime']:.1f}x as fast as they play; {lift['without_fit_seconds']:.2f} s without the fit"
        for lift in measured["lift"]
    ]
    return "\n".join(lines)


def _network(measured: dict[str, Any]) -> str:
    return f"{measured['receptive_field']}-frame network, {measured['channels']} channels"


def _ratio(compared: dict[str, float]) -> str:
    return (
        f"{compared['ratio']:.2f}x as fast ({compared['seconds']:.3g} s, plain {compared['plain_seconds']:.3g} s; "
        f"rounds from {compared['ratio_lowest']:.2f} to {compared['ratio_highest']:.2f})"
    )
