"""``keylift weights``: which lifters are at hand, which is in use, what is known of them, and bringing some in."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, EXIT_FAILED, WeightsError
from . import places
from .arguments import add_general_options, add_output, frames_per_second
from .reporting import Reporter

if TYPE_CHECKING:
    from ..core.lifter.checkpoint_import import ImportedLifter
    from ..core.weights.in_use import Used
    from ..core.weights.provenance import Ancestor, Description

SUMMARY = "list, choose, check and remove weights, tell what is known of them, and import published checkpoints"
EXAMPLES = """  keylift weights list
        names that --weights understands, and what became of those that were adapted
  keylift weights info default
        what they were trained on, how well they did, and under which licence they may be used
  keylift weights use studio
        lift with them wherever --weights is left out
  keylift weights use --back
        lift with those that were used before; `use default` goes back to those that Keylift comes with
  keylift weights verify
        are all of them still what was written
  keylift weights remove studio
        they are gone for good
  keylift weights import pretrained_h36m_cpn.bin --input-layout h36m17 --fps 50 -o h36m.safetensors
        a checkpoint of the paper's lifter that you have, as weights of Keylift
"""

# core.lifter.checkpoint_import knows them too, but imports torch.
_INPUT_LAYOUTS = ("coco17", "h36m17", "humaneva15", "mpii16")
_OUTPUT_SKELETONS = ("h36m17", "humaneva15")
_NAME_COLUMN = 40
_SHORT_HASH = 12
_MAX_DEPTH = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    wanted = parser.add_subparsers(dest="wanted", metavar="list|info|use|remove|verify|import", required=True)
    wanted.add_parser("list", help="names that --weights understands")
    info = wanted.add_parser("info", help="everything that a weights file says of itself, and what it was made from")
    info.add_argument("weights", metavar="NAME|FILE", help="a name of the list, or a .safetensors file")
    use = wanted.add_parser("use", help="lift with them wherever --weights is left out")
    which = use.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "weights", metavar="NAME", nargs="?", help="a name of the list; default: what Keylift comes with"
    )
    which.add_argument("--back", action="store_true", help="those that were used before")
    use.add_argument("--anyway", action="store_true", help="even if they did not prove better than what they began as")
    remove = wanted.add_parser("remove", help="remove weights of your own, without asking")
    remove.add_argument("weights", metavar="NAME", help="a name of the list that is your own")
    verify = wanted.add_parser("verify", help="compare weights with their hashes; exit code 1 if any is bad")
    verify.add_argument("weights", metavar="NAME|FILE", nargs="*", help="without, all that are at hand")
    importing = wanted.add_parser("import", help="a published checkpoint (.bin) becomes a weights file")
    _add_import_arguments(importing)
    for parser_below in wanted.choices.values():
        add_general_options(parser_below, default=argparse.SUPPRESS)


def settle_weights(options: argparse.Namespace, reporter: Reporter) -> None:
    """Put the weights in use in the place of those that nobody named, and say which they are when that may surprise.

    All of a run then takes the same, whatever is chosen meanwhile.
    """
    if options.weights is not None:
        return
    from ..core.weights import SHIPPED_NAMES, read_in_use

    in_use = read_in_use()
    options.weights = in_use.name
    if in_use.note:
        reporter.note(in_use.note)
    elif in_use.name not in SHIPPED_NAMES:
        reporter.note(f"Lifting with the weights in use, '{in_use.name}'.")


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
    """Do what is wanted with the weights at hand."""
    wanted = {
        "list": _list,
        "info": _info,
        "use": _use,
        "remove": _remove,
        "verify": _verify,
        "import": _import,
    }
    return wanted[options.wanted](options, reporter)


def _list(options: argparse.Namespace, reporter: Reporter) -> int:
    from ..core.weights import describe_weights, left_out, read_in_use, user_folder

    in_use = read_in_use()
    known = describe_weights()
    for note in filter(None, (in_use.note, *left_out().values())):
        reporter.note(note)
    rows = [("name", "size", "", "made from", "verdict"), *(_row(weights) for weights in known)]
    reporter.result(
        "\n".join([*_table(rows), f"Your own are in {user_folder()}"]),
        {
            "weights": {weights.name: str(weights.path) for weights in known},
            "in_use": in_use.name,
            "details": [{**vars(weights), "path": str(weights.path)} for weights in known],
        },
    )
    return EXIT_DONE


def _row(weights: Description) -> tuple[str, ...]:
    origin = "comes with Keylift" if weights.shipped else weights.adapted_from or ""
    verdict = f"{weights.verdict} than {weights.adapted_from}: {weights.reason}" if weights.verdict else ""
    return weights.name, f"{weights.size / 1e6:.1f} MB", "in use" if weights.in_use else "", origin, verdict


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Rows as lines whose columns stand below each other, as far as names are not very long."""
    widths = [min(max(map(len, column)), _NAME_COLUMN) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _info(options: argparse.Namespace, reporter: Reporter) -> int:
    from ..core.weights import find_weights, lineage, read_header

    path = find_weights(options.weights)
    header = read_header(path)
    ancestors = lineage(path)
    lines = _readable(header)
    if ancestors:
        lines.append(f"lineage: {' <- '.join([path.stem, *map(_named, ancestors)])}")
    reporter.result("\n".join(lines), {**header, "lineage": [vars(one) for one in ancestors]} if ancestors else header)
    return EXIT_DONE


def _named(ancestor: Ancestor) -> str:
    gone = "" if ancestor.at_hand else ", not at hand"
    return f"{ancestor.name} ({ancestor.sha256[:_SHORT_HASH]}{gone})"


def _use(options: argparse.Namespace, reporter: Reporter) -> int:
    from ..core.weights import use_earlier, use_weights

    used = use_earlier() if options.back else use_weights(options.weights, anyway=options.anyway)
    if used.note:
        reporter.note(used.note)
    reporter.result(_use_told(used), {"in_use": used.name, "path": str(used.path), "before": used.before})
    return EXIT_DONE


def _use_told(used: Used) -> str:
    if used.name == used.before:
        return f"'{used.name}' is in use, as before."
    return f"'{used.name}' is in use now; '{used.before}' was before. `keylift weights use --back` goes back to that."


def _remove(options: argparse.Namespace, reporter: Reporter) -> int:
    from ..core.weights import remove_weights, weights_in_use

    removed = remove_weights(options.weights)
    in_use = weights_in_use()
    now = f" They were in use; now '{in_use}' is." if removed.was_in_use else ""
    reporter.result(
        f"Removed {removed.path}.{now}",
        {"removed": str(removed.path), "was_in_use": removed.was_in_use, "in_use": in_use},
    )
    return EXIT_DONE


def _verify(options: argparse.Namespace, reporter: Reporter) -> int:
    from ..core.weights import find_weights, verify, weights_files

    paths = [find_weights(name) for name in options.weights] or list(weights_files().values())
    found = [verify(path) for path in paths]
    bad = sum(one.bad for one in found)
    reporter.result(
        "\n".join(_table([(one.name, one.state, one.reason) for one in found])),
        {
            "verified": [{**vars(one), "path": str(one.path)} for one in found],
            "bad": bad,
        },
    )
    return EXIT_FAILED if bad else EXIT_DONE


def _readable(header: dict[str, Any]) -> list[str]:
    """A line for each entry; for the record of an adaptation, a line for each of its parts."""
    lines = []
    for key, value in header.items():
        if key == "adaptation" and isinstance(value, dict):
            lines += [f"{key}:", *_parts(value)]
        else:
            lines.append(f"{key}: {value if isinstance(value, str) else json.dumps(value)}")
    return lines


def _parts(values: dict[str, Any], depth: int = 1) -> list[str]:
    indent = "  " * depth
    lines = []
    for key, value in values.items():
        if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()) and depth < _MAX_DEPTH:
            lines += [f"{indent}{key}:", *_parts(value, depth + 1)]
        elif isinstance(value, dict):
            lines.append(f"{indent}{key}: {', '.join(f'{name} {_brief(part)}' for name, part in value.items())}")
        else:
            lines.append(f"{indent}{key}: {_brief(value)}")
    return lines


def _brief(value: Any) -> str:
    from ..core.weights.adaptation_record import shown

    if isinstance(value, float):
        return f"{value:.4g}"
    return shown(value) if isinstance(value, str) else json.dumps(value)


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
