"""Everything that is wrong with what a batch is to do, told at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...core.errors import EXIT_USAGE, KeyliftError
from .job_values import printable, shown
from .wanted_job import Table

MAX_PROBLEMS_TOLD = 50


class BadJobsError(KeyliftError):
    """What is to be done can't be done as it is written.

    problems: all of them, a line each; the message has the first ``MAX_PROBLEMS_TOLD``
    """

    exit_code = EXIT_USAGE

    def __init__(self, source: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(problems)
        more = [f"... and {count - MAX_PROBLEMS_TOLD} more."] if count > MAX_PROBLEMS_TOLD else []
        wrong = "1 thing is" if count == 1 else f"{count} things are"
        head = f"'{shown(str(source))}': {wrong} wrong. Put it right and run it again; nothing was begun."
        super().__init__("\n  ".join([head, *problems[:MAX_PROBLEMS_TOLD], *more]))


class Problems:
    """Everything that is wrong, each thing once, with all the places where it is."""

    def __init__(self) -> None:
        self._places: dict[str, dict[int, Table]] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, table: Table, text: str) -> None:
        """Something is wrong in ``table``."""
        self._places.setdefault(text, {}).setdefault(table.number, table)

    def in_table(self, table: Table) -> Callable[[str], None]:
        """``add`` for one table."""
        return lambda text: self.add(table, text)

    def lines(self) -> list[str]:
        """In the order of the jobs."""
        rows = []
        for text, places in self._places.items():
            first = min(places)
            others = f" and {len(places) - 1} more" if len(places) > 1 else ""
            label = places[first].label
            rows.append((first, f"{label}{others}: {text}" if label else text))
        return [printable(line) for _, line in sorted(rows, key=lambda row: row[0])]
