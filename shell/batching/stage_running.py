"""One stage of one job, run wherever an engine puts it: its command, with what it makes kept by content.

Every stage asks first whether it was done: what footage and keypoints became is kept under a hash of their content, of
the settings and of Keylift's version, so changing the rig detects nothing anew. It then holds a lock, fills a folder
beside and renames it. Killed at any moment, it leaves a folder that the next try throws away.
"""

from __future__ import annotations

import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ... import __version__
from ...core.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_TRY_AGAIN, KeyliftError
from ...core.output_files import written_whole
from .blender_hand import hand, installed_blender, own_version
from .job import DETECT, KEYPOINTS_ENDING, LIFT, POSE_ENDING, RETARGET, Job
from .out_folder import ADVICE, DONE_FILE, BusyError, OutFolder, digest, made_whole, read_json, write_json
from .stage_reporter import StageReporter
from .stage_result import BUSY, DONE, FAILED, RETRY, Failure, StageResult
from .standing import Input, files_read_by, stamped, write_done

if TYPE_CHECKING:
    from ...core.footage import Footage
    from ..reporting import Reporter

# Whether somebody wants the work of this process to end; an engine sets it.
stop_wanted: threading.Event | Any = threading.Event()
# What depends on the footage's content and nothing else, and would be so again.
_FOR_GOOD_BY_CONTENT = ("NobodyFoundError",)
_watcher: ContextVar[Reporter | None] = ContextVar("watcher", default=None)
_LATER = "The stage before it left nothing. Run the batch again."


class _CommandFailed(Exception):
    """A command said why it failed."""

    def __init__(self, message: str, kind: str, exit_code: int) -> None:
        super().__init__(message)
        self.message, self.kind, self.exit_code = message, kind, exit_code


def run_stage(
    job: Job,
    stage: str,
    before: StageResult | None,
    out: str,
    fresh: bool = False,
    watcher: Reporter | None = None,
) -> StageResult:
    """Run ``stage`` of ``job`` and say how it ended; never raises for what is wrong outside the program.

    before:  how the stage before ended
    out:     the output folder
    fresh:   do it though it was done before
    watcher: shows how far it is
    """
    began = time.monotonic()
    _watcher.set(watcher)
    try:
        ended = _STAGES[stage](job, before, OutFolder(Path(out)), fresh)
        # Told once a clip, when it has ended.
        return ended if before is None else replace(ended, notes=(*before.notes, *ended.notes))
    except BusyError:
        return StageResult(job.name, stage, BUSY)
    except _CommandFailed as problem:
        found = Failure(stage, problem.message, problem.kind, problem.exit_code)
    except (Exception, KeyboardInterrupt) as problem:
        from ..command_line import explain

        message, code = explain(problem)
        found = Failure(stage, message, type(problem).__name__, code)
    return _ended_badly(job, found, time.monotonic() - began)


def _ended_badly(job: Job, failure: Failure, seconds: float) -> StageResult:
    status = RETRY if failure.exit_code in (EXIT_TRY_AGAIN, EXIT_INTERRUPTED) else FAILED
    return StageResult(job.name, failure.stage, status, seconds=seconds, failure=failure)


def _ordered(argv: Sequence[str], by_blender: bool = False) -> StageReporter:
    """What a command of the shell says; ``by_blender``: one that needs Blender. Raises KeyliftError, _CommandFailed."""
    from ..command_line import run_command

    said = StageReporter(lambda: bool(stop_wanted.is_set()), _watcher.get())
    blender = installed_blender() if by_blender else ""
    if blender:
        hand.run(blender, argv, said)
        return said
    code = run_command(argv, said)
    if said.failed is not None or code != EXIT_DONE:
        raise _CommandFailed(*(said.failed or (f"`keylift {argv[0]}` ended with {code}.", "silent", code)))
    return said


# ---- Footage to keypoints -------------------------------------------------------------------------------------------


def is_detected(job: Job, out: OutFolder) -> bool:
    """Whether somebody looked at the clip before. Raises KeyliftError when it can't be read."""
    return (out.made_by(DETECT, _detect_key(job)) / DONE_FILE).is_file()


def _detect_key(job: Job) -> str:
    if job.holds_keypoints:
        return digest(["keypoints", _content(Path(job.clip))])
    return digest([DETECT, __version__, _footage(job).source().sha256, job.detect.options, _model(job)])


def _detect(job: Job, before: StageResult | None, out: OutFolder, fresh: bool) -> StageResult:
    clip = Path(job.clip)

    def make(work: Path) -> dict[str, Any]:
        if job.holds_keypoints:
            from ...core.track_files import read_keypoints

            # Read, so that a file that is none is told here; and copied, so that nobody changes it meanwhile.
            track = read_keypoints(clip)
            shutil.copyfile(clip, work / f"1{KEYPOINTS_ENDING}")
            return {"people": [{"frames": len(track.time_s)}], "source": _content(clip)}
        asked = work / f"x{KEYPOINTS_ENDING}"
        said = _ordered(["detect", job.clip, f"--output={asked}", *job.detect.options])
        for number, made in enumerate(said.values["outputs"], 1):
            os.replace(made, work / f"{number}{KEYPOINTS_ENDING}")
        return {
            "people": [
                {name: value for name, value in person.items() if name != "output"} for person in said.values["people"]
            ],
            "source": _footage(job).source().sha256,
            "notes": said.notes,
        }

    return _made(job, DETECT, _detect_key(job), out, fresh, make)


def _footage(job: Job) -> Footage:
    from ...core.footage import open_footage

    rate = next((option.partition("=")[2] for option in job.detect.options if option.startswith("--fps=")), None)
    return open_footage(Path(job.clip), None if rate is None else float(rate))


def _model(job: Job) -> str:
    """Of the detector's model, its content."""
    from ...core.pose_model import pose_model

    named = [option.partition("=")[2] for option in job.detect.options if option.startswith("--detector-model=")]
    return _content(pose_model(named[0] if named else "full"))


def _content(path: Path) -> str:
    from ...core.errors import FileFormatError
    from ...core.source import sha256_of

    try:
        return sha256_of(path)
    except OSError as problem:
        raise FileFormatError(f"'{path}' can't be read: {problem.strerror or problem}.") from problem


# ---- Keypoints to poses ---------------------------------------------------------------------------------------------


def _lift(job: Job, before: StageResult | None, out: OutFolder, fresh: bool) -> StageResult:
    keypoints = _people_in(out, before, KEYPOINTS_ENDING)
    assert before is not None
    detected = read_json(out.path / before.folder / DONE_FILE) or {}
    # The footage itself is looked at for pictures of the takes.
    seen = [detected["source"], *(_content(path) for path in keypoints)]
    key = digest([LIFT, __version__, seen, job.lift.options, _contents(job.lift.files)])

    def make(work: Path) -> dict[str, Any]:
        people = []
        for number, file in enumerate(keypoints, 1):
            began, pose = time.monotonic(), work / f"{number}{POSE_ENDING}"
            said = _ordered(["lift", str(file), f"--output={pose}", *job.lift.options])
            about = _looked_at(job, file, pose, work / f"{number}.png")
            seconds = {DETECT: detected["seconds"], LIFT: round(time.monotonic() - began, 3)}
            people.append(about | {"notes": [*detected.get("notes", []), *said.notes], "seconds": seconds})
        return {"people": people, "keypoints": before.folder}

    return _made(job, LIFT, key, out, fresh, make)


def _looked_at(job: Job, keypoints: Path, pose_file: Path, picture: Path) -> dict[str, Any]:
    """How good a pose is, and a picture of it."""
    from ...core.track_files import read_keypoints, read_pose
    from .take_quality import quality_of
    from .thumbnail import write_thumbnail

    pose, track = read_pose(pose_file), read_keypoints(keypoints)
    notes = []
    try:
        write_thumbnail(pose, track, None if job.holds_keypoints else _footage(job), picture)
    except (KeyliftError, ValueError) as problem:
        # A take is worth more than its picture.
        notes.append(f"There is no picture of it: {problem}")
    return {
        "frames": len(pose.time_s),
        "fps": pose.fps,
        "sha256": _content(pose_file),
        "quality": quality_of(pose, track),
        "weights": {"name": pose.weights.name, "sha256": pose.weights.sha256},
        "warnings": notes,
    }


def _people_in(out: OutFolder, before: StageResult | None, ending: str) -> list[Path]:
    """Files of one kind that the stage before made, largest person first. Raises _CommandFailed."""
    folder = None if before is None else out.path / before.folder
    done = None if folder is None else read_json(folder / DONE_FILE)
    if folder is None or done is None:
        raise _CommandFailed(_LATER, "TryAgainError", EXIT_TRY_AGAIN)
    if "failure" in done:
        raise _CommandFailed(**done["failure"])
    return [folder / f"{number}{ending}" for number in range(1, len(done["people"]) + 1)]


def _contents(files: Sequence[str]) -> list[str]:
    return [_content(Path(file)) for file in files]


def _made(
    job: Job, stage: str, key: str, out: OutFolder, fresh: bool, make: Callable[[Path], dict[str, Any]]
) -> StageResult:
    """The result of a stage that is kept by content: what is there, or what ``make`` makes of an empty folder."""
    folder = out.made_by(stage, key)
    relative = folder.relative_to(out.path).as_posix()
    with out.held(f"{stage} {key}"):
        done = None if fresh else read_json(folder / DONE_FILE)
        reused = done is not None
        if done is None:
            began = time.monotonic()
            with made_whole(folder, out.work(f"{stage}-{key}")) as work:
                try:
                    done = make(work)
                except _CommandFailed as problem:
                    if problem.kind not in _FOR_GOOD_BY_CONTENT:
                        raise
                    done = {"failure": {"message": problem.message, "kind": problem.kind, "exit_code": EXIT_FAILED}}
                done["seconds"] = round(time.monotonic() - began, 3)
                # In a folder that is renamed as a whole; nothing in it is looked at before.
                write_json(work / DONE_FILE, done)
    if "failure" in done:
        failure = Failure(stage, **done["failure"])
        return StageResult(job.name, stage, FAILED, relative, seconds=done["seconds"], reused=reused, failure=failure)
    notes = tuple(done.get("notes", ()))
    return StageResult(job.name, stage, DONE, relative, seconds=float(done["seconds"]), reused=reused, notes=notes)


# ---- Poses to takes -------------------------------------------------------------------------------------------------


def _retarget(job: Job, before: StageResult | None, out: OutFolder, fresh: bool) -> StageResult:
    assert before is not None
    poses = _people_in(out, before, POSE_ENDING)
    lifted = read_json(out.path / before.folder / DONE_FILE) or {}
    inputs = [stamped(Path(file)) for file in files_read_by(job)]
    began = time.monotonic()
    with out.held(f"job {job.name}"):
        takes = []
        for number, (pose, about) in enumerate(zip(poses, lifted["people"], strict=True), 1):
            takes.append(_Take(job, number, len(poses), pose, about, out))
        reused = not fresh and all(take.is_there() for take in takes)
        if not reused:
            for take in takes:
                take.make(inputs)
        seconds = time.monotonic() - began
        names = tuple(take.name for take in takes)
        write_done(job, out, inputs, names, seconds)
    return StageResult(job.name, RETARGET, DONE, takes=names, seconds=seconds, reused=reused)


class _Take:
    """One person's keyframes."""

    def __init__(
        self, job: Job, number: int, people: int, pose: Path, about: Mapping[str, Any], out: OutFolder
    ) -> None:
        self.name = job.take_name(number, people)
        self._job, self._number, self._pose, self._about, self._out = job, number, pose, about, out
        self._key = digest(
            [
                *(RETARGET, __version__, about["sha256"], job.retarget.options, _contents(job.retarget.files)),
                *(job.endings, self.name, job.clip),
            ]
        )

    def is_there(self) -> bool:
        """Whether it was made of the same things before, and its files are as they were made."""
        manifest = read_json(self._out.manifest(self.name))
        if manifest is None or manifest.get("key") != self._key:
            return False
        return all(_is_as_made(self._out.path / made["file"], made) for made in manifest["outputs"])

    def make(self, inputs: Sequence[Input]) -> None:
        """Write all files of the take, then its manifest."""
        work = self._out.work(f"take-{digest(self.name)[:16]}")
        shutil.rmtree(work, ignore_errors=True)
        began, job = time.monotonic(), self._job
        try:
            made = [work / f"{self.name}{ending}" for ending in job.baked_endings]
            values, notes = {}, []
            if made:
                # Blender shows the footage behind the figure.
                video = [] if job.holds_keypoints or ".blend" not in job.endings else [f"--video={job.clip}"]
                outputs = [f"--output={file}" for file in made]
                said = _ordered(
                    ["retarget", str(self._pose), *outputs, *video, *job.retarget.options], job.needs_blender
                )
                values, notes = said.values, said.notes
            kept = {POSE_ENDING: self._pose, KEYPOINTS_ENDING: self._keypoints()}
            for file in made:
                os.replace(file, self._out.path / file.name)
            for ending in job.endings:
                if ending in kept:
                    with written_whole(self._out.path / f"{self.name}{ending}", ADVICE) as beside:
                        shutil.copyfile(kept[ending], beside)
            picture = self._pose.with_name(f"{self._number}.png")
            if picture.is_file():
                with written_whole(self._out.thumbnail(self.name), ADVICE) as beside:
                    shutil.copyfile(picture, beside)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        write_json(
            self._out.manifest(self.name),
            self._manifest(inputs, values, notes, picture.is_file(), time.monotonic() - began),
        )

    def _keypoints(self) -> Path:
        detected = read_json(self._pose.parent / DONE_FILE) or {}
        return self._out.path / str(detected.get("keypoints", "")) / f"{self._number}{KEYPOINTS_ENDING}"

    def _manifest(
        self, inputs: Sequence[Input], values: Mapping[str, Any], notes: Sequence[str], pictured: bool, seconds: float
    ) -> dict[str, Any]:
        job, about = self._job, self._about
        files = [self._out.path / f"{self.name}{ending}" for ending in job.endings]
        people = job.everybody or job.people
        return {
            "schema_version": 1,
            "take": self.name,
            "job": job.name,
            "clip": Path(job.clip).name,
            "person": self._number,
            "person_name": self.name.removeprefix(f"{job.name}-") if people else "",
            "keylift": __version__,
            "frames": about["frames"],
            "fps": about["fps"],
            "rig": next((o.partition("=")[2] for o in job.retarget.options if o.startswith("--rig=")), ""),
            "inputs": [{"path": one.path, "bytes": one.bytes, "sha256": _content_of_input(job, one)} for one in inputs],
            "settings": {
                DETECT: list(job.detect.options),
                LIFT: list(job.lift.options),
                RETARGET: list(job.retarget.options),
            },
            "outputs": [{"file": file.name, "bytes": file.stat().st_size, "sha256": _content(file)} for file in files],
            "seconds": {**about.get("seconds", {}), RETARGET: round(seconds, 3)},
            "versions": {"python": platform.python_version(), "system": platform.system(), **_blender(job)},
            "warnings": [*about.get("warnings", []), *about.get("notes", []), *notes],
            "quality": about["quality"],
            "weights": about.get("weights"),
            "thumbnail": self._out.thumbnail(self.name).relative_to(self._out.path).as_posix() if pictured else None,
            "key": self._key,
        }


def _content_of_input(job: Job, one: Input) -> str:
    path = Path(one.path)
    if one.path == job.clip and not job.holds_keypoints:
        return _footage(job).source().sha256
    return _content(path)


def _is_as_made(file: Path, made: Mapping[str, Any]) -> bool:
    try:
        return file.stat().st_size == made["bytes"] and _content(file) == made["sha256"]
    except (OSError, KeyliftError):
        return False


def _blender(job: Job) -> dict[str, str]:
    """The version of Blender, where it took part."""
    if not job.needs_blender:
        return {}
    return {"blender": hand.version if installed_blender() else own_version()}


_STAGES: dict[str, Callable[[Job, StageResult | None, OutFolder, bool], StageResult]] = {
    DETECT: _detect,
    LIFT: _lift,
    RETARGET: _retarget,
}
