"""Whether takes can go onto rigs: asked, before any work begins, of the Blender that is to bake them.

It is asked in a process of its own. A file that Blender dies of takes no batch along, and Blender leaves folders of its
own where Python looks for modules, in which processes that are spawned later would not find Blender any more.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ...core.errors import EXIT_INTERRUPTED, EXIT_TRY_AGAIN, Cancelled, KeyliftError, TryAgainError
from ..reporting import Reporter

# What a rig is opened with, as on the command line: rig, map, path_on, limbs.
Rig = tuple[str, str, str, str]
# Asks one Blender about a rig: what is wrong with it, empty where nothing is.
_Ask = Callable[[Rig], str]

ASKED = "--ask-blender"
NO_BLENDER = "This Python has no Blender, so rigs are looked at only when they get their keyframes."
_NOT_STARTED = (
    "'{blender}' can't be asked about the rigs, so they are looked at only when they get their keyframes: {why}"
)
_DIED = "Blender itself ended while it opened '{rig}'. Open it in Blender's window, and save it again."
_SECONDS_BETWEEN_LOOKS = 0.2


def check_rigs(rigs: Sequence[Rig], reporter: Reporter) -> list[str | None]:
    """What is wrong with each rig, empty where nothing is; None where nobody could be asked, which is noted.

    Raises Cancelled, TryAgainError.
    """
    from ...core.progress import report

    wrong: list[str | None] = []
    with reporter.stage("rigs", "Opening the rigs") as progress, ExitStack() as stack:
        try:
            ask = stack.enter_context(_blender(reporter))
            for done, rig in enumerate(rigs):
                report(progress, done, len(rigs))
                wrong.append(ask(rig))
        except _NobodyToAskError as problem:
            reporter.note(str(problem))
            wrong += [None] * (len(rigs) - len(wrong))
    return wrong


class _NobodyToAskError(KeyliftError):
    """There is no Blender here."""


@contextmanager
def _blender(reporter: Reporter) -> Iterator[_Ask]:
    """Whoever is to bake: the Blender that somebody named, or this Python's own."""
    from .blender_hand import installed_blender

    named = installed_blender()
    with _named_blender(named, reporter) if named else _own_blender(reporter) as ask:
        yield ask


@contextmanager
def _named_blender(blender: str, reporter: Reporter) -> Iterator[_Ask]:
    from ...addon.worker_client import WorkerError
    from .blender_hand import BlenderHand
    from .stage_reporter import StageReporter

    hand, said = BlenderHand(), StageReporter(lambda: reporter.stop_wanted)

    def ask(rig: Rig) -> str:
        try:
            hand.start(blender, said)
        except WorkerError as problem:
            raise _NobodyToAskError(_NOT_STARTED.format(blender=blender, why=problem)) from problem
        try:
            hand.run(blender, asking(rig), said)
        except WorkerError:
            return f"rig: {_DIED.format(rig=rig[0])}"
        except KeyliftError as problem:
            return _said_of_the_rig(str(problem), problem.exit_code)
        return ""

    try:
        yield ask
    finally:
        hand.close()


def _said_of_the_rig(message: str, exit_code: int) -> str:
    """What a Blender's message means for the job. Raises Cancelled and TryAgainError where it is not about the rig."""
    if exit_code == EXIT_INTERRUPTED:
        raise Cancelled(message)
    if exit_code == EXIT_TRY_AGAIN:
        raise TryAgainError(message)
    return f"rig: {message}"


@contextmanager
def _own_blender(reporter: Reporter) -> Iterator[_Ask]:
    from .local_engine import end_processes, prepare_process

    context = multiprocessing.get_context("spawn")
    executors: list[ProcessPoolExecutor] = []

    def ask(rig: Rig) -> str:
        if not executors:
            executors.append(ProcessPoolExecutor(1, context, prepare_process, (context.Event(),)))
        asked = executors[-1].submit(check_rig_here, rig)
        while True:
            try:
                return asked.result(_SECONDS_BETWEEN_LOOKS)
            except NotYet:
                if reporter.stop_wanted:
                    raise Cancelled("Stopped on request.") from None
            except BrokenProcessPool:
                executors.pop().shutdown(wait=False)
                return f"rig: {_DIED.format(rig=rig[0])}"

    try:
        yield ask
    finally:
        for executor in executors:
            end_processes(executor)
            executor.shutdown(wait=True, cancel_futures=True)


def check_rig_here(rig: Rig) -> str:
    """What is wrong with a rig for this process's own Blender, empty where nothing is."""
    try:
        open_rig_here(rig)
    except (Cancelled, TryAgainError, _NobodyToAskError):
        raise
    except KeyliftError as problem:
        return f"rig: {problem}"
    return ""


def open_rig_here(rig: Rig) -> None:
    """Open a rig in this process's own Blender. Raises KeyliftError when no take can go onto it."""
    from ..arguments import add_rig_options, add_take_options
    from ..retarget import BlenderMissingError, check_rig

    parser = argparse.ArgumentParser(add_help=False)
    add_rig_options(parser)
    add_take_options(parser)
    words = [f"{flag}={value}" for flag, value in zip(("--rig", "--map", "--path-on", "--limbs"), rig, strict=True)]
    options = parser.parse_args(words)
    options.output = [Path("take.blend")]
    try:
        check_rig(options, Reporter(quiet=True))
    except BlenderMissingError as problem:
        raise _NobodyToAskError(NO_BLENDER) from problem


def asking(rig: Rig | None = None) -> list[str]:
    """The command line that asks a Blender for its version, and whether ``rig`` will do."""
    return ["batch", ".", "--output=.", ASKED, *(rig or ())]
