"""What a command would print, kept as values for the batch that ordered it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..reporting import Reporter, Show

Stop = Callable[[], bool]


class StageReporter(Reporter):
    """Shows nothing; keeps the result, the failure and the notes of one command.

    stop: asked at every sign of progress whether somebody wants the work to end
    """

    def __init__(self, stop: Stop) -> None:
        super().__init__(quiet=True)
        self.values: dict[str, Any] = {}
        self.failed: tuple[str, str, int] | None = None
        self.notes: list[str] = []
        self._stop = stop

    def __enter__(self) -> StageReporter:
        return self

    def _show(self, name: str, title: str) -> Show:
        def show(done: int, total: int | None) -> None:
            self.stop_wanted = self.wanted_to_stop()

        return show

    def wanted_to_stop(self) -> bool:
        """Whether somebody wants the work to end."""
        return self.stop_wanted or self._stop()

    def note(self, text: str) -> None:
        self.notes.append(text.removeprefix("Note: "))

    def result(self, text: str, values: dict[str, Any]) -> None:
        self.values = values

    def failure(self, message: str, kind: str, exit_code: int) -> None:
        self.failed = (message, kind, exit_code)
