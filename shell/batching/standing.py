"""How a job stands: done as it is wanted now, or not; told by a glance at its files, without reading thousands."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ... import __version__
from ...core.errors import FileFormatError
from .job import Job
from .out_folder import OutFolder, digest, read_json, write_json
from .stage_result import DONE, FAILED, Failure

# Errors that the same files would bring again, on whichever machine.
_LIES_IN_FILES = ("FootageError", "NobodyFoundError", "FileFormatError")


@dataclass(frozen=True)
class Input:
    """A file (or a folder of pictures) as it was when it was read: changed, it has another size or time."""

    path: str
    bytes: int
    mtime_ns: int


def stamped(path: Path) -> Input:
    """What a glance tells about ``path``; of a folder or a pattern of pictures, about all of them together."""
    try:
        if path.is_file():
            found = path.stat()
            return Input(str(path), found.st_size, found.st_mtime_ns)
        stats = [entry.stat() for entry in os.scandir(path if path.is_dir() else path.parent) if entry.is_file()]
    except OSError as problem:
        raise FileFormatError(f"'{path}' can't be read: {problem.strerror or problem}.") from problem
    return Input(str(path), sum(one.st_size for one in stats), max((one.st_mtime_ns for one in stats), default=0))


def job_digest(job: Job) -> str:
    """Of everything that a job asks for, and of who answers."""
    return digest([asdict(job), __version__])


def write_done(job: Job, out: OutFolder, inputs: Sequence[Input], takes: Sequence[str], seconds: float) -> None:
    """Note that all of ``job`` is there."""
    files = [out.manifest(take) for take in takes]
    files += [out.path / f"{take}{ending}" for take in takes for ending in job.endings]
    _write(
        job,
        out,
        status=DONE,
        takes=list(takes),
        inputs=[asdict(one) for one in inputs],
        outputs=[asdict(stamped(file)) | {"path": file.name} for file in files],
        seconds=round(seconds, 3),
        failure=None,
        attempts=1,
    )


def write_failed(job: Job, out: OutFolder, status: str, failure: Failure, attempts: int) -> None:
    """Note why ``job`` is not done, for good or for now."""
    try:
        inputs = [asdict(stamped(Path(file))) for file in files_read_by(job)]
    except FileFormatError:
        inputs = []
    _write(job, out, status=status, takes=[], inputs=inputs, failure=asdict(failure), attempts=attempts)


def _write(job: Job, out: OutFolder, **values: Any) -> None:
    write_json(
        out.record(job.name),
        {"schema_version": 1, "job": job.name, "clip": job.clip, "job_sha256": job_digest(job), **values},
    )


def files_read_by(job: Job) -> list[str]:
    """Every file that a job depends on."""
    return [job.clip, *job.detect.files, *job.lift.files, *job.retarget.files]


def failed_before(job: Job, out: OutFolder) -> Failure | None:
    """Why ``job`` failed for good when it was last tried, if that lay in its files and these have not changed."""
    record = read_json(out.record(job.name))
    if record is None or record.get("status") != FAILED or record.get("job_sha256") != job_digest(job):
        return None
    try:
        failure = Failure(**{name: record["failure"][name] for name in ("stage", "message", "kind", "exit_code")})
        unchanged = record["inputs"] and all(_unchanged(Path(one["path"]), one) for one in record["inputs"])
    except (KeyError, TypeError, AttributeError):
        return None
    return failure if unchanged and failure.kind in _LIES_IN_FILES else None


def is_done(job: Job, out: OutFolder) -> bool:
    """Whether ``job`` was done as it is asked for now, of files that have not changed, and nothing of it is missing.

    By size and time of change, so thousands of jobs take seconds. Where those differ, the content decides, later.
    """
    record = read_json(out.record(job.name))
    if record is None or record.get("status") != DONE or record.get("job_sha256") != job_digest(job):
        return False
    try:
        inputs, outputs = record["inputs"], record["outputs"]
        return all(_unchanged(Path(one["path"]), one) for one in inputs) and all(
            _unchanged(out.path / one["path"], one) for one in outputs
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _unchanged(path: Path, noted: Mapping[str, Any]) -> bool:
    try:
        now = stamped(path)
    except FileFormatError:
        return False
    return (now.bytes, now.mtime_ns) == (noted["bytes"], noted["mtime_ns"])
