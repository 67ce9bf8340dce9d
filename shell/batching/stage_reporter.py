"""What a command would print, kept as values for the batch that ordered it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..reporting import Reporter, Show

Stop = Callable[[], bool]


class StageReporter(Reporter):
    """Keeps the result, the failure and the notes of one command.

    stop:    asked at every sign of progress whether somebody wants the work to end
    watcher: shows how far it is; without, nobody does
    """

    def __init__(self, stop: Stop, watcher: Reporter | None = None) -> None:
        super().__init__(quiet=True)
        self._watcher = watcher
        self.values: dict[str, Any] = {}
        self.failed: tuple[str, str, int] | None = None
        self.notes: list[str] = []
        self._stop = stop

    def __enter__(self) -> StageReporter:
        return self

    def _show(self, name: str, title: str) -> Show:
        watched = None if self._watcher is None else self._watcher.shown(name, title)

        def show(done: int, total: int | None) -> None:
            self.stop_wanted = self.wanted_to_stop()
            if watched is not None:
                watched(done, total)

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
