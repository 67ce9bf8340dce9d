"""``keylift bench``: how fast lifting, training and retargeting are on this machine."""

from __future__ import annotations

import argparse
from typing import Any

from ..core.errors import EXIT_DONE
from .interruption import unbroken
from .reporting import Reporter
from .retarget import BlenderMissingError, check_blender

SUMMARY = "measure how fast lifting, training and retargeting are here, against how it is done plainly"
EXAMPLES = """  keylift bench
        takes some minutes; let the machine do nothing else meanwhile
  keylift bench retarget --json
        only the way from a pose to keyframes, against keyframe_insert for every bone and frame; needs Blender
  keylift bench --quick --json
        small sizes, to see that all of it runs; its figures mean little
"""
_ALL, _LIFT_AND_TRAIN, _RETARGET = "all", "lift-and-train", "retarget"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "what",
        nargs="?",
        choices=[_ALL, _LIFT_AND_TRAIN, _RETARGET],
        default=_ALL,
        help="what to measure: lift-and-train, retarget, or all of it (default)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny sizes; the figures mean little")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what it lifts on")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Measure, and tell the ratios."""
    if options.what == _RETARGET:
        check_blender()
        retargeted = _retarget_measured(options, reporter)
        reporter.result(_retarget_told(retargeted), {**retargeted, "quick": options.quick})
        return EXIT_DONE
    told: list[str] = []
    measured: dict[str, Any] = {}
    if options.what == _ALL:
        # Blender first: a minute, where lifting and training take several.
        try:
            check_blender()
        except BlenderMissingError as problem:
            reporter.note(f"Note: retargeting is not measured. {problem}")
            told.append("retargeting: not measured, this Python has no Blender")
            measured["retarget"] = None
        else:
            measured["retarget"] = _retarget_measured(options, reporter)
            told.append(_retarget_told(measured["retarget"]))
    lifted = _lift_and_train_measured(options, reporter)
    reporter.result("\n".join([_lift_and_train_told(lifted), *told]), {**lifted, **measured, "quick": options.quick})
    return EXIT_DONE


def _lift_and_train_measured(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from ..training.bench import FULL, QUICK, run_bench

    with reporter.stage("bench", "Measuring lifting and training") as progress:
        return run_bench(QUICK if options.quick else FULL, options.device, progress)


def _retarget_measured(options: argparse.Namespace, reporter: Reporter) -> dict[str, Any]:
    from ..addon.retarget_bench import FULL, QUICK, run_retarget_bench

    with reporter.stage("bench retarget", "Measuring retargeting") as progress, unbroken(reporter):
        return run_retarget_bench(QUICK if options.quick else FULL, progress)


def _retarget_told(measured: dict[str, Any]) -> str:
    inserted, memory, reduced = measured["keyframe_insert"], measured["memory"], measured["reduced"]
    lines = [f"retargeting, Blender {measured['blender']}, medians of {measured['rounds']}, feet planted:"]
    lines += [
        f"  {take['keyed_bones']} bones, {take['frames']} frames, {take['rotation_mode'].lower()}: "
        f"{take['seconds']:.3f} s, {take['solve_seconds']:.3f} s of it to solve, {take['write_seconds']:.3f} s to "
        f"write {take['keys']} keys"
        for take in measured["takes"]
    ]
    lines += [
        f"  {inserted['keyed_bones']} bones, {inserted['frames']} frames, keyframe_insert a bone and a frame: "
        f"{inserted['seconds']:.2f} s; ours {inserted['ratio']:.0f}x as fast, {inserted['ratio_write_alone']:.0f}x "
        "without the solve",
        f"  {reduced['keyed_bones']} bones, {reduced['frames']} frames, whole take with "
        f"{reduced['share_of_keys']:.0%} of the keys: {reduced['seconds']:.2f} s",
        f"  memory: {memory['bytes_per_frame'][-1] / 1000:.1f} kB a frame at {memory['frames'][-1]} frames, "
        f"{memory['ratio']:.2f}x that at {memory['frames'][0]}",
    ]
    return "\n".join(lines)


def _lift_and_train_told(measured: dict[str, Any]) -> str:
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
