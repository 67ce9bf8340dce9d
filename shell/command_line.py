"""``keylift COMMAND ...``: which commands there are, and how they end."""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence

from .. import __version__
from ..core.device_failures import OUT_OF_MEMORY, device_failure, memory_ran_out
from ..core.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_TRY_AGAIN,
    EXIT_USAGE,
    KeyliftError,
    TryAgainError,
)
from . import (
    adapt,
    batch,
    bench,
    capture,
    detect,
    doctor,
    evaluate,
    lift,
    preview,
    render_people,
    retarget,
    rig,
    selftest,
    train,
    triangulate,
    weights,
    worker,
)
from .arguments import Explained, add_general_options
from .interruption import listening
from .reporting import Reporter

# Each has SUMMARY, EXAMPLES, add_arguments(parser) and run(options, reporter); none imports anything heavy before run.
COMMANDS = {
    "capture": capture,
    "detect": detect,
    "lift": lift,
    "retarget": retarget,
    "rig": rig,
    "preview": preview,
    "batch": batch,
    "train": train,
    "adapt": adapt,
    "evaluate": evaluate,
    "triangulate": triangulate,
    "render-people": render_people,
    "weights": weights,
    "bench": bench,
    "doctor": doctor,
    "selftest": selftest,
    "worker": worker,
}

DESCRIPTION = """Footage of a person becomes editable keyframes on any armature, on your own machine.

The way from footage to keyframes, in one go (capture) or step by step with a file in between:

  VIDEO --detect--> x.keypoints.npz --lift--> x.pose.npz --retarget--> take.blend .bvh .fbx .glb"""

EPILOG = """examples:
  keylift capture dance.mp4 -o take.blend --preview take.mp4
        animate Blender's human metarig, and make a film to judge it by
  keylift capture dance.mp4 --rig hero.blend:Armature -o hero-dance.blend -o hero-dance.fbx
        animate your own character, written twice
  keylift doctor
        is everything here that is needed, and if not, what to do

exit codes: 0 done; 1 failed for good, the message says what to do; 2 wrong usage; 75 failed for now (disk full, out
of memory, no network: try again); 130 stopped with ctrl-C.
"""

BUG = (
    "this is a bug in Keylift, not your doing ({kind}: {problem}). Run it again with --debug and report what "
    "it prints, with `keylift doctor --json`."
)
STOPPED = "Stopped. Nothing half-done was left behind."
MISSING_PACKAGE = "the Python package '{name}' is missing or broken ({problem}). `keylift doctor` says how to get it."


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = argparse.ArgumentParser(
        prog="keylift", description=DESCRIPTION, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"keylift {__version__}")
    add_general_options(parser, default=False)
    chosen = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, title="commands")
    for name, command in COMMANDS.items():
        described = chosen.add_parser(
            name,
            help=command.SUMMARY,
            description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
            epilog="examples:\n" + command.EXAMPLES,
            formatter_class=Explained,
        )
        command.add_arguments(described)
        # Given again after the command; absent, they must not undo what stood before it.
        add_general_options(described, default=argparse.SUPPRESS)
    return parser


def recognised(problem: BaseException) -> BaseException:
    """One of our own errors for a ``problem`` of the machine's that libraries call by many names; or the same."""
    if memory_ran_out(problem):
        return TryAgainError(OUT_OF_MEMORY)
    return device_failure(problem) or problem


def explain(problem: BaseException) -> tuple[str, int]:
    """What to tell a person about ``problem``, and the exit code that goes with it."""
    problem = recognised(problem)
    if isinstance(problem, KeyliftError):
        return str(problem), problem.exit_code
    if isinstance(problem, KeyboardInterrupt):
        return STOPPED, EXIT_INTERRUPTED
    if isinstance(problem, OSError) and problem.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return "The disk is full. Free some space and run it again.", EXIT_TRY_AGAIN
    if isinstance(problem, OSError) and problem.filename is not None:
        return f"'{problem.filename}': {problem.strerror}. Check that it is there and may be used.", EXIT_FAILED
    if isinstance(problem, ImportError) and problem.name and not problem.name.startswith(__package__.split(".")[0]):
        return MISSING_PACKAGE.format(name=problem.name, problem=problem), EXIT_FAILED
    return BUG.format(kind=type(problem).__name__, problem=problem), EXIT_FAILED


Run = Callable[[argparse.Namespace, Reporter], int]


def run(argv: Sequence[str], instead: Mapping[str, Run] | None = None) -> int:
    """Run one command and return its exit code; whatever goes wrong is told on stderr.

    instead: commands that are done in another way where this runs, by name
    """
    for stream in (sys.stdout, sys.stderr):
        # Windows' code pages lack most of the world's names; a file that was written is no reason to fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    return run_command(argv, instead=instead)


def run_command(argv: Sequence[str], reporter: Reporter | None = None, instead: Mapping[str, Run] | None = None) -> int:
    """Run one command, told about by ``reporter`` (the options' own when left out), and return its exit code."""
    try:
        options = make_parser().parse_args(list(argv))
    except SystemExit as end:  # argparse has said what it had to say: help, the version, or a usage error
        return end.code if isinstance(end.code, int) else EXIT_USAGE
    if options.debug:
        # The rooms below keep native libraries quiet unless this is set.
        os.environ["KEYLIFT_DEBUG"] = "1"
    if reporter is None:
        reporter = Reporter(quiet=options.quiet, as_json=options.json)
    try:
        with listening(reporter), reporter:
            work = (instead or {}).get(options.command) or COMMANDS[options.command].run
            code = work(options, reporter)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Who reads our output has seen enough. The interpreter would complain once more on its way out.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except (Exception, KeyboardInterrupt) as problem:
        # Blender and the exporters turn the interruption into errors of their own.
        message, code = explain(KeyboardInterrupt() if reporter.stop_wanted else problem)
        if options.debug:
            traceback.print_exc()
        reporter.failure(message, type(recognised(problem)).__name__, code)
        return code
