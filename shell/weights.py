"""``keylift weights``: which lifters are at hand, what is known of them, and bringing in published ones."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, WeightsError
from . import places
from .arguments import add_general_options, add_output, frames_per_second
from .reporting import Reporter

if TYPE_CHECKING:
    from ..core.lifter.checkpoint_import import ImportedLifter

SUMMARY = "list the weights at hand, tell what is known of them, and import published checkpoints"
EXAMPLES = """  keylift weights list
        names that --weights understands
  keylift weights info default
        what they were trained on, how well they did, and under which licence they may be used
  keylift weights import pretrained_h36m_cpn.bin --input-layout h36m17 --fps 50 -o h36m.safetensors
        a checkpoint of the paper's lifter that you have, as weights of Keylift
"""

# core.lifter.checkpoint_import knows them too, but imports torch.
_INPUT_LAYOUTS = ("coco17", "h36m17", "humaneva15", "mpii16")
_OUTPUT_SKELETONS = ("h36m17", "humaneva15")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    wanted = parser.add_subparsers(dest="wanted", metavar="list|info|import", required=True)
    listing = wanted.add_parser("list", help="names that --weights understands")
    info = wanted.add_parser("info", help="everything that a weights file says of itself")
    info.add_argument("weights", metavar="NAME|FILE", help="a name of the list, or a .safetensors file")
    importing = wanted.add_parser("import", help="a published checkpoint (.bin) becomes a weights file")
    _add_import_arguments(importing)
    for parser_below in (listing, info, importing):
        add_general_options(parser_below, default=argparse.SUPPRESS)


def _add_import_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path, metavar="FILE", help="the checkpoint, such as pretrained_h36m_cpn.bin")
    add_output(parser, ".safetensors")
    parser.add_argument(
        "--input-layout",
        choices=_INPUT_LAYOUTS,
        required=True,
        help="the keypoints that it was trained on; the file doesn't say",
    )
    parser.add_argument(
        "--causal",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="it was trained to look at no later frames; the file doesn't say",
    )
    parser.add_argument(
        "--skeleton", choices=_OUTPUT_SKELETONS, default="", help="the joints that it gives; without, by their number"
    )
    parser.add_argument(
        "--widths", type=_widths, default=(), metavar="3,3,3", help="kernel widths, where the file leaves them open"
    )
    parser.add_argument(
        "--fps",
        type=frames_per_second,
        metavar="RATE",
        help="rate it was trained at: 50 for Human3.6M, 60 for HumanEva",
    )
    parser.add_argument("--licence", metavar="TEXT", help="what the checkpoint may be used for, as its owner says")


def _widths(text: str) -> tuple[int, ...]:
    """Read ``3,3,3``."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise argparse.ArgumentTypeError(f"'{text}' are no widths; write for example 3,3,3,3,3")
    return tuple(int(part) for part in text.split(","))


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """List weights, describe one file, or import a checkpoint."""
    from ..core.weights import find_weights, list_weights, read_header

    if options.wanted == "import":
        return _import(options, reporter)
    if options.wanted == "info":
        header = read_header(find_weights(options.weights))
        reporter.result("\n".join(_readable(header)), header)
        return EXIT_DONE
    found = list_weights()
    reporter.result(
        "\n".join(f"{name:<16} {path.stat().st_size / 1e6:6.1f} MB  {path}" for name, path in found.items())
        or "There are no weights. Train some with `keylift train`.",
        {"weights": {name: str(path) for name, path in found.items()}},
    )
    return EXIT_DONE


def _readable(header: dict[str, Any]) -> list[str]:
    return [f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in header.items()]


def _numbered(names: list[str]) -> str:
    return ", ".join(f"{place} {name}" for place, name in enumerate(names))


def _import(options: argparse.Namespace, reporter: Reporter) -> int:
    places.check_input(options.checkpoint, "the checkpoint")
    places.check_outputs([options.output], [".safetensors"], [options.checkpoint])

    from ..core.lifter.checkpoint_import import UNKNOWN_LICENCE, import_checkpoint, layout_doubt, says_causal
    from ..core.weights import write_weights

    name = options.checkpoint.name
    if options.causal is None and says_causal(name):
        raise WeightsError(
            f"'{name}' sounds like a causal network, which the file itself doesn't tell. Say --causal, or --no-causal "
            "if it isn't one."
        )
    if doubt := layout_doubt(name, options.input_layout):
        reporter.note(f"{doubt} If what it lifts looks broken, import it again with the other --input-layout.")
    lifter = import_checkpoint(
        options.checkpoint,
        input_layout=options.input_layout,
        causal=bool(options.causal),
        skeleton=options.skeleton,
        widths=options.widths,
        fps=options.fps,
        licence=options.licence or UNKNOWN_LICENCE,
    )
    write_weights(options.output, lifter.tensors, lifter.header)
    values = _summary(lifter, options.input_layout)
    shown = values | {key: _numbered(values[key]) for key in ("input_points", "output_joints")}
    reporter.result(
        "\n".join([f"Wrote {options.output}", *_readable(shown)]), {"weights": str(options.output), **values}
    )
    return EXIT_DONE


def _summary(lifter: ImportedLifter, input_layout: str) -> dict[str, Any]:
    """What the network takes and gives, point by point, in order."""
    from ..core.skeletons import KEYPOINT_LAYOUTS

    config = lifter.config
    features = ["x", "y", "score"][: config.features_in]
    return {
        "input": f"{config.points_in} points of {input_layout}, each {', '.join(features)}",
        "input_points": list(KEYPOINT_LAYOUTS[input_layout]),
        "output": f"{config.joints_out} joints of {lifter.skeleton_name}, metres in camera space",
        "output_joints": list(lifter.header["skeleton"]["names"]),
        "frames": config.receptive_field,
        "causal": config.causal,
        "widths": list(config.widths),
        "channels": config.channels,
        "trajectory": lifter.trajectory is not None,
        "fps": lifter.header.get("fps"),
        "licence": lifter.header["licence"],
    }
