"""Looks after a lifter that learns, for an hour or a night, while artists go on with everything else.

It is of no scene and no file: opening another one does not stop it. It has a worker of its own, so that footage can be
captured meanwhile, and is watched by a timer: as long as an operator watches, Blender saves no backups.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

from ..core.errors import EXIT_FAILED, KeyliftError
from .adapt_flow import AdaptationJob, Adapted
from .adaptation_runs import Runs, all_runs, discard, is_resumable, mark_free, mark_in_use, steps_done
from .jobs import JobQueue, State
from .preferences import own_folder
from .scene_jobs import owner_of, worker_program
from .worker_client import PATIENCE_S, Worker, WorkerProgram

if TYPE_CHECKING:
    from .jobs import Flow

_TICK_S = 0.25
# So often the folders are looked at, and the panels drawn anew.
_LOOK_S = 1.0
_SIGN_OF_LIFE_S = 15.0
# A step of learning, a look at the held-out footage, and a checkpoint, on a slow machine.
_PAUSE_WITHIN_S = 60.0


def adaptations_folder() -> Path:
    """Where runs are kept until they are thrown away. May not be there yet."""
    data = os.environ.get("KEYLIFT_DATA")
    return (Path(data) if data else own_folder()) / "adaptations"


class PatientWorker(Worker):
    """One that is given the time to write down how far it is before it is ended."""

    def __init__(self, program: WorkerProgram) -> None:
        super().__init__(program)
        self.patience_s = _PAUSE_WITHIN_S

    def cancel(self, job: int) -> None:
        """Ask the worker to stop a job. One that does not answer within ``patience_s`` is ended by ``poll``."""
        super().cancel(job)
        self._cancelled_at[job] = time.monotonic() + self.patience_s - PATIENCE_S


class AdaptationWatch:
    """The one run that this Blender is at, if any, and what became of the last.

    job:       the run; None when there is none
    ending:    "pause" or "cancel", once somebody asked for it
    words:     of the last one, for the panel: an icon and words
    curve_of:  the folder whose curve is to be seen, of the run or of the last one
    """

    def __init__(self) -> None:
        self.job: AdaptationJob | None = None
        self.ending = ""
        self.words: tuple[str, str] | None = None
        self.curve_of: Path | None = None
        self.queue = JobQueue(self._start_worker)
        self._worker: PatientWorker | None = None
        self._applied: Callable[[str, Adapted], list[str]] | None = None
        self._warnings: tuple[str, ...] = ()
        self._drawn_at = self._alive_at = 0.0

    def _start_worker(self) -> Worker:
        self._worker = PatientWorker(worker_program())
        return self._worker

    def begin(
        self,
        scene: bpy.types.Scene,
        flow: Flow,
        folder: Path,
        title: str,
        applied: Callable[[str, Adapted], list[str]],
        warnings: tuple[str, ...] = (),
    ) -> None:
        """Take on a run. Raises KeyliftError while there is another.

        applied:  called with the scene's owner and the outcome; makes it part of the scene, and tells what was done
        warnings: what is to be told besides, in the end
        """
        if self.job is not None:
            raise KeyliftError("Keylift learns from footage already. Wait, or pause it first.")
        self.job = AdaptationJob(title, owner_of(scene), flow, folder=folder)
        self.ending, self.words, self.curve_of = "", None, folder
        self._applied, self._warnings, self._alive_at = applied, warnings, 0.0
        self.queue.add(self.job)

    def tick(self) -> AdaptationJob | None:
        """Look after the run; it is given back once it is over, and its outcome has been dealt with."""
        job = self.job
        if job is None:
            return None
        self.queue.tick()
        now = time.monotonic()
        if now - self._alive_at > _SIGN_OF_LIFE_S and job.folder.is_dir():
            self._alive_at = now
            mark_in_use(job.folder)
        if not job.over or (job.state is State.DONE and _is_editing()):
            return None
        self._conclude(job)
        return job

    def stop(self, ending: str) -> None:
        """Stop the run: to "pause" it, so that it can be gone on with, or to "cancel" it for good."""
        if self.job is None:
            return
        self.ending = ending
        if self._worker is not None:
            self._worker.patience_s = PATIENCE_S if ending == "cancel" else _PAUSE_WITHIN_S
        self.queue.cancel(self.job)

    def close(self) -> None:
        """Blender ends, or the extension is disabled. The run can be gone on with from where it was last saved."""
        self.queue.close()
        if self.job is not None:
            mark_free(self.job.folder)
        self.job, self.words, self.curve_of, self.ending = None, None, None, ""

    def _conclude(self, job: AdaptationJob) -> None:
        self.job = None
        # Its memory is wanted for other things than a run that may come tomorrow.
        self.queue.close()
        mark_free(job.folder)
        forget_runs()
        try:
            self.words = self._outcome(job)
        except KeyliftError as problem:
            self.words = ("ERROR", str(problem))
        if not job.folder.is_dir():
            self.curve_of = None

    def _outcome(self, job: AdaptationJob) -> tuple[str, str]:
        if job.state is State.DONE:
            assert self._applied is not None
            outcome: Adapted = job.outcome
            told = self._applied(job.owner, outcome)
            more = (*outcome.skipped, *self._warnings, *job.notes)
            return ("CHECKMARK" if outcome.better else "INFO", "\n".join([*told, *dict.fromkeys(more)]))
        if job.state is State.STOPPED and self.ending != "cancel" and is_resumable(job.folder):
            return ("PAUSE", "Paused. Press Resume to go on, today or another day")
        if job.state is State.STOPPED:
            _throw_away(job.folder)
            return ("INFO", "Stopped. Nothing of it is kept")
        problem = job.problem
        assert problem is not None
        if not is_resumable(job.folder) or (problem.exit_code == EXIT_FAILED and not steps_done(job.folder)):
            _throw_away(job.folder)
            return ("ERROR", str(problem))
        return ("ERROR", f"{problem}\nWhat was learnt so far is kept: Resume goes on")

    def look_on(self) -> float | None:
        """Called by Blender's timer as long as there is something to look after."""
        finished = self.tick()
        now = time.monotonic()
        if finished is not None or now - self._drawn_at > _LOOK_S:
            self._drawn_at = now
            redraw_sidebars()
        return None if self.job is None else _TICK_S

    def run_to_its_end(self) -> None:
        """Wait for the run: for scripts, and for Blender without a window."""
        with contextlib.ExitStack() as on_the_way_out:
            # Ctrl-C in a terminal: what was learnt is kept.
            on_the_way_out.callback(self.close_unless_over)
            while self.job is not None:
                self.tick()
                time.sleep(0.02)

    def close_unless_over(self) -> None:
        """End the worker of a run that nobody waits for any more."""
        if self.job is not None:
            self.close()


watch = AdaptationWatch()


def watch_in_the_background() -> None:
    """Look after the run until it is over, whatever file is open."""
    if not bpy.app.timers.is_registered(_look_on):
        bpy.app.timers.register(_look_on, first_interval=_TICK_S, persistent=True)


def _look_on() -> float | None:
    return watch.look_on()


def _is_editing() -> bool:
    """Whether something is being edited, when a change of the scene would get into the edit's own undo."""
    return any(thing.mode == "EDIT" for thing in bpy.data.objects)


def _throw_away(folder: Path) -> None:
    if folder.is_dir():
        discard(folder, adaptations_folder())


def push_undo_step(name: str) -> None:
    """Make what was changed a step of its own, from a timer, which has no window, or from a script."""
    windows = bpy.context.window_manager.windows
    with bpy.context.temp_override(window=windows[0]) if len(windows) else contextlib.nullcontext():
        # A script that has switched undo off has none to make.
        if bpy.ops.ed.undo_push.poll():
            bpy.ops.ed.undo_push(message=name)


def _sidebars() -> Iterator[Any]:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("VIEW_3D", "CLIP_EDITOR"):
                yield from (region for region in area.regions if region.type == "UI")


def redraw_sidebars() -> None:
    """Have the panels drawn as things are now."""
    for region in _sidebars():
        region.tag_redraw()


# ---- Runs on disk ---------------------------------------------------------------------------------------------------

_looked_at = 0.0
_runs = Runs()


def known_runs() -> Runs:
    """The runs on disk but for the one that this Blender is at; looked for once a second at most."""
    global _looked_at, _runs
    now = time.monotonic()
    if now - _looked_at > _LOOK_S:
        _looked_at, _runs = now, all_runs(adaptations_folder())
    if watch.job is None:
        return _runs
    mine = watch.job.folder
    return Runs(tuple(run for run in _runs.unfinished if run.folder != mine), _runs.finished)


def forget_runs() -> None:
    """Look at the disk the next time, however soon."""
    global _looked_at
    _looked_at = 0.0


def unregister_rest() -> None:
    """End everything."""
    if bpy.app.timers.is_registered(_look_on):
        bpy.app.timers.unregister(_look_on)
    watch.close()
    forget_runs()


CLASSES: tuple[type, ...] = ()
