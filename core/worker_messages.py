"""What Blender and its worker say to each other: a line of JSON each, bounded in size, checked on arrival.

Blender sends a ``Request`` to run one of the shell's commands, or a ``Cancel``. The worker says ``Ready`` once, and
then for each request ``Progressed`` and ``Noted`` as it goes on and ``Finished`` or ``Failed`` at its end. Arrays
travel as files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import KeyliftError

# Counted up when a message changes its meaning; both ends tell theirs and refuse another.
PROTOCOL = 1
MAX_LINE_BYTES = 4 << 20
_MAX_ARGUMENTS = 1000


class WorkerMessageError(KeyliftError):
    """A line between Blender and its worker is not one of ours."""


class Request(NamedTuple):
    """Run ``keylift`` with the arguments ``argv``."""

    job: int
    argv: tuple[str, ...]


class Cancel(NamedTuple):
    """Stop the job, whether it has begun or not."""

    job: int


class Ready(NamedTuple):
    """The worker is there and takes requests."""

    protocol: int
    version: str
    python: str


class Progressed(NamedTuple):
    """A stage of a job has come so far. ``total`` is None while it isn't known."""

    job: int
    stage: str
    title: str
    done: int
    total: int | None


class Noted(NamedTuple):
    """Something worth knowing that is no result and no error."""

    job: int
    text: str


class Finished(NamedTuple):
    """What the command would have printed with --json."""

    job: int
    values: Mapping[str, Any]


class Failed(NamedTuple):
    """Why a job gave no result. ``exit_code`` is that of the shell: 75 = try again, 130 = stopped on request."""

    job: int
    message: str
    kind: str
    exit_code: int


ToWorker = Request | Cancel
FromWorker = Ready | Progressed | Noted | Finished | Failed

_TO_WORKER: dict[str, type] = {"request": Request, "cancel": Cancel}
_FROM_WORKER: dict[str, type] = {
    "ready": Ready,
    "progress": Progressed,
    "note": Noted,
    "result": Finished,
    "failure": Failed,
}
_NAMES = {cls: name for name, cls in (_TO_WORKER | _FROM_WORKER).items()}

_CHECKS: dict[str, Callable[[Any], bool]] = {
    "job": lambda value: type(value) is int,
    "done": lambda value: type(value) is int,
    "protocol": lambda value: type(value) is int,
    "exit_code": lambda value: type(value) is int,
    "total": lambda value: value is None or type(value) is int,
    "values": lambda value: isinstance(value, dict),
    "argv": lambda value: (
        isinstance(value, list) and len(value) <= _MAX_ARGUMENTS and all(isinstance(part, str) for part in value)
    ),
}


def encode(message: ToWorker | FromWorker) -> bytes:
    """The message as a line of plain ASCII, its end included. Raises WorkerMessageError when it is far too long."""
    line = json.dumps({"say": _NAMES[type(message)], **message._asdict()}).encode("ascii") + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise WorkerMessageError(f"A message of {len(line):,} bytes is longer than any of ours ever is.")
    return line


def decode_request(line: bytes) -> ToWorker:
    """What a line from Blender says. Raises WorkerMessageError when it is none of ours."""
    message: ToWorker = _decode(line, _TO_WORKER)
    return message


def decode_event(line: bytes) -> FromWorker:
    """What a line from the worker says. Raises WorkerMessageError when it is none of ours."""
    message: FromWorker = _decode(line, _FROM_WORKER)
    return message


def _decode(line: bytes, known: Mapping[str, type]) -> Any:
    if len(line) > MAX_LINE_BYTES:
        raise WorkerMessageError("A line of the worker's conversation is far too long.")
    try:
        content = json.loads(line)
        cls = known[content.pop("say")]
        for name, value in content.items():
            if not _CHECKS.get(name, lambda value: isinstance(value, str))(value):
                raise ValueError(f"{name} is {value!r}")
        if "argv" in content:
            content["argv"] = tuple(content["argv"])
        return cls(**content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise WorkerMessageError(f"A line of the worker's conversation makes no sense ({problem}).") from problem
