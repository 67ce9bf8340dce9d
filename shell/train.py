"""``keylift train``: motion capture and footage -> weights of a lifter."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..core.errors import EXIT_DONE
from . import places
from .reporting import Reporter

SUMMARY = "train a lifter's weights"
EXAMPLES = """  keylift train training/configs/default.toml --run runs/first
        as the configuration says; checkpoints and weights go to runs/first
  keylift train training/configs/default.toml --run runs/first --resume
        go on where it stopped
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a training configuration (.toml)")
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="where checkpoints and weights go; without, runs/NAME"
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what it computes on")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Train as the configuration says."""
    places.check_input(options.config, "the training configuration")
    from ..training.train import train_from_config

    with reporter.stage("train", f"Training from {options.config.name}") as progress:
        weights = train_from_config(
            options.config,
            run_folder=options.run,
            resume=options.resume,
            device=options.device,
            progress=progress,
            tell=reporter.note,
        )
    reporter.result(f"{weights}: trained", {"outputs": [str(weights)], "seconds": reporter.seconds})
    return EXIT_DONE
