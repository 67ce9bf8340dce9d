"""Who runs stages: the processes of this machine, or a Dask cluster."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from .job import Job
from .stage_result import StageResult


class Engine(Protocol):
    """Runs stages of jobs somewhere else, several at once."""

    @property
    def slots(self) -> int:
        """How many stages run at once; more may be ordered, and wait."""

    def order(self, job: Job, stage: str, before: StageResult | None) -> Future[StageResult]:
        """Have ``run_stage`` run.

        The future raises WorkerDied when whoever ran it is gone, WorkerUnfit when they are of another version and
        another one may be asked, and KeyliftError when nobody is left who could run anything.
        """

    def stop(self) -> None:
        """Ask all that runs to end; what does not is ended."""

    def close(self) -> None:
        """Everything has ended; let go of it all."""


class WorkerDied(Exception):
    """The process that worked on a stage ended in the middle of it."""


class WorkerUnfit(Exception):
    """Whoever was to work on a stage is of another version than the batch, and did nothing; the message says more."""
