"""``keylift train``: motion capture and footage -> weights of a lifter."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import EXIT_DONE
from ..core.progress import Progress
from . import places
from .reporting import Reporter

SUMMARY = "train a lifter's weights"
EXAMPLES = """  keylift train training/configs/default.toml --run runs/first
        as the configuration says; checkpoints and weights go to runs/first
  keylift train training/configs/default.toml --run runs/first --resume
        go on where it stopped, or was stopped
  torchrun --nproc-per-node 4 --max-restarts 3 -m keylift train training/configs/default.toml --run-folder runs/first
        share every batch among four processes, and go on by itself when one of them dies
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="a training configuration (.toml)")
    # torchrun stops at --run: it takes it for an abbreviation of options of its own.
    parser.add_argument(
        "--run",
        "--run-folder",
        type=Path,
        metavar="FOLDER",
        help="where checkpoints and weights go; without, runs/NAME (write --run-folder after torchrun)",
    )
    parser.add_argument("--device", choices=["auto", "cpu", "cuda", "mps"], default="auto", help="what it computes on")
    parser.add_argument("--resume", action="store_true", help="go on from the run's last checkpoint")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Train as the configuration says."""
    places.check_input(options.config, "the training configuration")
    if not os.environ.get("KEYLIFT_DEBUG"):
        # Advice of torch's own, for who programs with it.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from ..training.processes import is_first
    from ..training.train import train_from_config

    title = f"Training from {options.config.name}"
    with reporter.stage("train", title) if is_first() else _unseen(reporter) as show:

        def progress(done: int, total: int | None) -> bool:
            # A request to stop waits for the end of a step: from there the run can be taken up again.
            reporter.stop_waits = done != total
            return show(done, total)

        try:
            weights = train_from_config(
                options.config,
                run_folder=options.run,
                resume=options.resume,
                device=options.device,
                progress=progress,
                tell=reporter.note if is_first() else lambda _: None,
            )
        finally:
            reporter.stop_waits = False
    if is_first():
        reporter.result(f"{weights}: trained", {"outputs": [str(weights)], "seconds": reporter.seconds})
    return EXIT_DONE


@contextmanager
def _unseen(reporter: Reporter) -> Iterator[Progress]:
    """The stage of a helper process: it shows nothing, but stops when it should."""
    reporter.as_json = False
    yield lambda done, total: not reporter.stop_wanted
