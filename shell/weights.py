"""``keylift weights``: which lifters are at hand, and what is known of them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..core.errors import EXIT_DONE
from .arguments import add_general_options
from .reporting import Reporter

SUMMARY = "list the weights at hand, and tell what is known of them"
EXAMPLES = """  keylift weights list
        names that --weights understands
  keylift weights info default
        what they were trained on, how well they did, and under which licence they may be used
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    wanted = parser.add_subparsers(dest="wanted", metavar="list|info", required=True)
    listing = wanted.add_parser("list", help="names that --weights understands")
    info = wanted.add_parser("info", help="everything that a weights file says of itself")
    info.add_argument("weights", metavar="NAME|FILE", help="a name of the list, or a .safetensors file")
    for parser_below in (listing, info):
        add_general_options(parser_below, default=argparse.SUPPRESS)


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """List weights or describe one file."""
    from ..core.weights import find_weights, list_weights, read_header

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
