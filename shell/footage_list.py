"""Which footage is meant by files, folders and patterns, and the keypoints in it, found once and kept."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import errors
from ..core.errors import EXIT_INTERRUPTED, Cancelled, FootageError, KeyliftError
from .arguments import add_detection_options
from .batching.job import DETECT, KEYPOINTS_ENDING, Job, StageOrder
from .batching.stage_result import DONE, Failure, StageResult
from .capture_by_worker import argv_of
from .reporting import Reporter

if TYPE_CHECKING:
    from ..core.tracks import KeypointTrack
    from .batching.out_folder import OutFolder

VIDEO_ENDINGS = tuple(".mp4 .mov .mkv .avi .webm .m4v .mpg .mpeg .mts .m2ts .ts .wmv .mxf".split())
MAX_CLIPS = 100_000
_FOLDER = "detected"
_DIED_ADVICE = "Close other programs and run it again; should it end like that again, leave that clip out."


@dataclass(frozen=True)
class Clip:
    """A clip as it was named: footage, or keypoints that were found before."""

    path: Path

    @property
    def name(self) -> str:
        """What it is called, without its ending."""
        return self.path.name[: -len(KEYPOINTS_ENDING)] if self.holds_keypoints else self.path.stem

    @property
    def holds_keypoints(self) -> bool:
        """Whether nobody needs to look at pictures any more."""
        return self.path.name.lower().endswith(KEYPOINTS_ENDING)


def clips_in(named: Sequence[Path]) -> list[Clip]:
    """Files and patterns as they are; of folders every video and keypoints file below, or the pictures as a sequence.

    Raises FootageError when a folder holds neither, or too much.
    """
    found: dict[Path, Clip] = {}
    for path in named:
        for one in _below(path) if path.is_dir() else [path]:
            found.setdefault(one, Clip(one))
    if len(found) > MAX_CLIPS:
        raise FootageError(f"There are more than {MAX_CLIPS:,} clips. Name fewer of them.")
    return list(found.values())


def _below(folder: Path) -> list[Path]:
    inside = sorted(path for path in folder.rglob("*") if not path.name.startswith(".") and path.is_file())
    wanted = [path for path in inside if path.name.lower().endswith((*VIDEO_ENDINGS, KEYPOINTS_ENDING))]
    if wanted:
        return wanted
    if not inside:
        raise FootageError(f"The folder '{folder}' is empty. Name a folder with footage.")
    # A folder of pictures is one clip.
    return [folder]


def find_in_all(clips: Sequence[Clip], options: argparse.Namespace, reporter: Reporter) -> None:
    """Find the people in many clips, several at once, as a batch does; ``keypoints_in`` then has them at hand.

    What is wrong with a clip, ``keypoints_in`` tells. Raises Cancelled, and TryAgainError for a clip that always takes
    the process along which looks at it.
    """
    from .batching.coordination import Coordination
    from .batching.engine import WorkerDied
    from .batching.local_engine import LocalEngine, processes_that_fit

    kept = _kept()
    jobs = [job for clip in clips if not clip.holds_keypoints and _is_new(job := _job(clip, options), kept)]
    processes = min(len(jobs), processes_that_fit())
    if processes < 2:
        return
    engine = LocalEngine(processes, str(kept.path))
    coordination = Coordination(engine, kept, last_stage=DETECT, resume=False)
    try:
        with reporter.stage("detect", f"Looking for people in {len(jobs)} clips") as progress:

            def heard(job: Job, result: StageResult) -> None:
                progress(coordination.tally.ended, len(jobs))
                if result.failure is not None and result.failure.kind == WorkerDied.__name__:
                    # Looked at by this process, it would take this one along.
                    raise errors.TryAgainError(f"{Path(job.clip).name}: {result.failure.message} {_DIED_ADVICE}")

            coordination.run(jobs, heard, lambda: not reporter.stop_wanted)
    except BaseException:
        engine.stop()
        raise
    finally:
        engine.close()


def _is_new(job: Job, kept: OutFolder) -> bool:
    from .batching.stage_running import is_detected

    try:
        return not is_detected(job, kept)
    except KeyliftError:
        # Told where its turn comes.
        return False


def keypoints_in(clip: Clip, options: argparse.Namespace, reporter: Reporter) -> list[KeypointTrack]:
    """The people in a clip, largest first, as ``options`` of detection ask; found now, or in an earlier run.

    Raises FootageError, NobodyFoundError, and what else went wrong in finding them.
    """
    from ..core.track_files import read_keypoints
    from .batching.stage_running import run_stage

    if clip.holds_keypoints:
        return [read_keypoints(clip.path)]
    kept = _kept()
    found = run_stage(_job(clip, options), DETECT, None, str(kept.path), watcher=reporter)
    if found.status != DONE:
        raise _problem(found.failure)
    if not found.reused:
        reporter.seconds[DETECT] = reporter.seconds.get(DETECT, 0.0) + found.seconds
    files = sorted((kept.path / found.folder).glob(f"*{KEYPOINTS_ENDING}"))
    return [read_keypoints(file) for file in files]


def _job(clip: Clip, options: argparse.Namespace) -> Job:
    return Job(clip.name, str(clip.path.absolute()), detect=StageOrder(tuple(argv_of(add_detection_options, options))))


def _kept() -> OutFolder:
    """Keypoints of earlier runs, by the footage's content and the way they were found."""
    from ..core.pose_model import cache_folder
    from .batching.out_folder import OutFolder

    return OutFolder(cache_folder() / _FOLDER)


def _problem(failure: Failure | None) -> KeyliftError:
    """What a stage told, as the error that it was."""
    if failure is None:
        return errors.TryAgainError("Somebody else looks at the same footage right now. Run it again in a while.")
    if failure.exit_code == EXIT_INTERRUPTED:
        return Cancelled(failure.message)
    kind = getattr(errors, failure.kind, KeyliftError)
    problem: KeyliftError = (kind if issubclass(kind, KeyliftError) else KeyliftError)(failure.message)
    problem.exit_code = failure.exit_code
    return problem
