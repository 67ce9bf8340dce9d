"""How a stage of a job ended, as values that are small enough for thousands of them."""

from __future__ import annotations

from dataclasses import dataclass

DONE, FAILED, RETRY, BUSY = "done", "failed", "retry", "busy"


@dataclass(frozen=True)
class Failure:
    """What went wrong, as the command would have said it."""

    stage: str
    message: str
    kind: str
    exit_code: int


@dataclass(frozen=True)
class StageResult:
    """How one stage of one job ended.

    status:  ``done``; ``failed`` for good; ``retry``: later it may work; ``busy``: another batch is at it
    folder:  what the stage made, relative to the output folder; empty for takes
    takes:   names of the takes that are there now
    seconds: of computing, by whoever computed it
    reused:  it had been made before, and nothing was computed now
    notes:   what is odd about the footage, for whoever ordered it
    """

    job: str
    stage: str
    status: str
    folder: str = ""
    takes: tuple[str, ...] = ()
    seconds: float = 0.0
    reused: bool = False
    failure: Failure | None = None
    notes: tuple[str, ...] = ()
