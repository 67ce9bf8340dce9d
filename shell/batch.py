"""``keylift batch``: a folder of footage in, a folder of takes out, on this machine or a farm."""

from __future__ import annotations

import argparse
import fnmatch
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, KeyliftError
from ..core.output_files import check_writable
from . import places
from .batching.blender_hand import VARIABLE as BLENDER_VARIABLE
from .batching.job import RETARGET, STAGES, Job
from .batching.rig_opening import ASKED
from .batching.stage_result import DONE, StageResult
from .reporting import Reporter

if TYPE_CHECKING:
    from .batching.coordination import Tally
    from .batching.engine import Engine
    from .batching.out_folder import OutFolder

SUMMARY = "turn many clips into takes, on this machine or a farm"
EXAMPLES = """  keylift batch rushes/ -o takes/
        every video in a folder: the largest person's own skeleton, as .bvh and .blend
  keylift batch night.toml -o takes/ --dry-run
        what a job file would do, and everything that is wrong with it
  keylift batch night.toml -o takes/ --workers 4 --json
        four clips at once; lines of JSON for a program. Run again, it goes on where it was stopped
  keylift batch night.toml -o takes/ --workers dask://farm:8786
        on a Dask cluster that sees the same folders
  keylift batch night.toml -o takes/ --part 3/20 --stage lift
        a twentieth of it, without Blender: for schedulers that know nothing of Keylift
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "jobs",
        type=Path,
        metavar="JOBS.toml|FOLDER",
        help="a job file (docs/batch.md), a folder of footage, a clip",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where the takes go")
    which = parser.add_argument_group("what is done")
    which.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    which.add_argument(
        "--only", metavar="PATTERN", help="only jobs with such a name, as shot_0* (a pattern of letters, * and ?)"
    )
    which.add_argument(
        "--part", type=part, metavar="K/N", help="every Nth job, from the Kth on: N such commands do all of them"
    )
    which.add_argument(
        "--stage", choices=STAGES, default=RETARGET, help="how far to go; what the stages before it made is kept"
    )
    which.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave alone what was done before of the same footage in the same way, or can't be done of it",
    )
    how = parser.add_argument_group("who does it")
    how.add_argument(
        "--workers",
        metavar="N|dask[:N]|dask://HOST:PORT|FILE.json",
        help="so many processes of this machine (without: as many as its cores and memory allow); a Dask cluster of N "
        "workers on this machine; a Dask cluster that runs, by its address or its scheduler file",
    )
    how.add_argument(
        "--blender",
        type=Path,
        metavar="FILE",
        help="an installed Blender that has the extension, to bake takes with; without, this "
        "Python's own bpy does. On a farm each host may name its own in the environment variable KEYLIFT_BATCH_BLENDER",
    )
    how.add_argument(
        "--retries", type=times, default=3, metavar="N", help="how often what failed for now is tried again"
    )
    # A batch asks the Blender that bakes for it, in a process of Blender's; nobody else needs to.
    parser.add_argument(ASKED, nargs="*", metavar="RIG", help=argparse.SUPPRESS)


def part(text: str) -> tuple[int, int]:
    """Read ``3/20``."""
    number, _, count = text.partition("/")
    if number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count):
        return int(number), int(count)
    raise argparse.ArgumentTypeError(f"'{text}' is no part; write for example 3/20, the third of twenty")


def times(text: str) -> int:
    """Read a number from 0 to 100."""
    if text.isdecimal() and int(text) <= 100:
        return int(text)
    raise argparse.ArgumentTypeError(f"'{text}' is not how often; write a number from 0 to 100")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Read all jobs, say everything that is wrong with them, and bring them to their end."""
    if options.ask_blender is not None:
        return _answered(options.ask_blender, reporter)
    from .batching.job_file import read_jobs
    from .batching.jobs_told import as_values, told
    from .batching.known_rigs import KnownRigs
    from .batching.out_folder import OutFolder

    if options.blender is not None:
        places.check_input(options.blender, "Blender")
        os.environ[BLENDER_VARIABLE] = str(options.blender.resolve())
    rigs = KnownRigs(options.output.resolve())
    jobs = chosen(read_jobs(options.jobs, options.output, reporter, rigs), options)
    if options.dry_run:
        reporter.result(told(jobs), {"jobs": as_values(jobs)})
        return EXIT_DONE
    out = OutFolder(options.output.resolve())
    check_writable(out.hidden / "locks" / "try", "Choose another folder with -o.")
    rigs.keep()
    out.sweep()
    with _engine(options, out, reporter) as engine:
        tally = _coordinated(jobs, engine, out, options, reporter)
    code, report = tally.exit_code, None
    try:
        report = _reported(out)
    except KeyliftError as problem:
        # What was done is worth more than the page about it.
        reporter.note(str(problem))
        code = code or problem.exit_code
    reporter.result(_summary(tally, len(jobs), report), _values(tally, len(jobs), report) | {"exit_code": code})
    return code


def _answered(rig: Sequence[str], reporter: Reporter) -> int:
    """Tell a batch the version of the Blender that this runs in. Raises KeyliftError when ``rig`` won't do there."""
    from .batching.blender_hand import own_version
    from .batching.rig_opening import open_rig_here

    if rig:
        address, bone_map, path_on, limbs = rig
        open_rig_here((address, bone_map, path_on, limbs))
    reporter.result("", {"blender": own_version()})
    return EXIT_DONE


def chosen(jobs: Sequence[Job], options: argparse.Namespace) -> list[Job]:
    """The jobs that --only and --part leave. Raises KeyliftError when --only leaves none."""
    found = [job for job in jobs if options.only is None or fnmatch.fnmatchcase(job.name, options.only)]
    if not found:
        raise KeyliftError(f"No job's name is like '{options.only}'. `--dry-run` tells their names.")
    number, count = options.part or (1, 1)
    return found[number - 1 :: count]


@contextmanager
def _engine(options: argparse.Namespace, out: OutFolder, reporter: Reporter) -> Iterator[Engine]:
    """Whoever is to do it. Raises KeyliftError when it can't be had."""
    from .batching.dask_engine import DaskEngine, names_a_cluster
    from .batching.local_engine import LocalEngine, processes_that_fit

    workers, fresh = options.workers or "", not options.resume
    engine: DaskEngine | LocalEngine
    if names_a_cluster(workers):
        engine = DaskEngine(workers, str(out.path), fresh)
        reporter.note(f"Watch it at {engine.dashboard}")
    elif workers and not (workers.isdecimal() and int(workers) > 0):
        raise KeyliftError(f"--workers '{workers}' is neither a number nor a cluster. Write for example 4, or dask:4.")
    else:
        fit = processes_that_fit(int(workers) if workers else None)
        if workers and fit < int(workers):
            reporter.note(f"There is memory for {fit} processes, not for {workers}.")
        engine = LocalEngine(fit, str(out.path), fresh)
    try:
        yield engine
    except BaseException:
        engine.stop()
        raise
    finally:
        engine.close()


def _coordinated(
    jobs: Sequence[Job], engine: Engine, out: OutFolder, options: argparse.Namespace, reporter: Reporter
) -> Tally:
    from .batching.coordination import Coordination

    coordination = Coordination(engine, out, last_stage=options.stage, retries=options.retries, resume=options.resume)
    began = time.monotonic()
    with reporter.stage("batch", f"{len(jobs)} clips") as progress:

        def heard(job: Job, result: StageResult) -> None:
            progress(coordination.tally.ended, len(jobs))
            if not (result.reused and result.status == DONE):
                how_far = {"ended": coordination.tally.ended, "jobs": len(jobs)}
                reporter.event(_event(job, result, time.monotonic() - began) | how_far)
                for note in result.notes:
                    reporter.note(f"{job.name}: {note}")
            if result.failure is not None:
                reporter.note(f"{job.name}: {result.failure.message}")

        return coordination.run(jobs, heard, lambda: not reporter.stop_wanted)


def _event(job: Job, result: StageResult, at_s: float) -> dict[str, Any]:
    """A line for whoever listens."""
    failure = result.failure
    return {
        "event": "job",
        "job": job.name,
        "status": result.status,
        "takes": list(result.takes),
        "at_s": round(at_s, 1),
        "error": None if failure is None else failure.message,
        "stage": result.stage,
    }


def _reported(out: OutFolder) -> Path:
    """The page about all takes, those of other parts of the work included."""
    from .batching.takes_report import write_takes_report

    return write_takes_report(out.path)


def _summary(tally: Tally, count: int, report: Path | None) -> str:
    told = [f"{tally.done} of {count} clips done now", f"{tally.there} before"]
    told += [f"{tally.failed} failed"] if tally.failed else []
    told += [f"{tally.retry} may be tried again"] if tally.retry else []
    return ", ".join(told) + ("" if report is None else f"\n{report}")


def _values(tally: Tally, count: int, report: Path | None) -> dict[str, Any]:
    return {
        "jobs": count,
        "done": tally.done,
        "there": tally.there,
        "failed": tally.failed,
        "retry": tally.retry,
        "takes": tally.takes,
        "report": None if report is None else str(report),
        "computing_s": {stage: round(seconds, 2) for stage, seconds in tally.seconds.items()},
    }
