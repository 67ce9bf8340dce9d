"""What the person or the program at the other end gets to see: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from ..core.progress import Progress

# Without a terminal a line now and then is enough to see that it still goes on.
SECONDS_BETWEEN_LINES = 10.0

Show = Callable[[int, "int | None"], None]


class Reporter:
    """Shows stages with time left, keeps how long each took, and prints results.

    stop_wanted: True once somebody pressed ctrl-C; the next progress report then answers False
    stop_waits:  True while that is the only way to stop, see ``interruption.unbroken``
    seconds:     how long each stage took so far
    """

    def __init__(self, *, quiet: bool = False, as_json: bool = False) -> None:
        self.quiet = quiet
        self.as_json = as_json
        self.stop_wanted = False
        self.stop_waits = False
        self.seconds: dict[str, float] = {}
        self._bars: Any = None

    def __enter__(self) -> Reporter:
        if not self.quiet and sys.stderr.isatty():
            self._bars = _rich_bars()
            if self._bars is not None:
                self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop_bars()

    def _stop_bars(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[Progress]:
        """Time a stage and show its progress. A stage of the same name adds to the first one's time."""
        began = time.monotonic()
        show = self._show(name, title)
        furthest = 1

        def progress(done: int, total: int | None) -> bool:
            nonlocal furthest
            furthest = max(furthest, done)
            show(done, total)
            return not self.stop_wanted

        yield progress
        if self._bars is not None:
            show(furthest, furthest)
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - began

    def shown(self, name: str, title: str) -> Show:
        """What shows a stage that somebody else times."""
        return self._show(name, title)

    def _show(self, name: str, title: str) -> Show:
        """How a stage's progress is shown: as a bar on a terminal, as lines elsewhere."""
        return self._bar(title) if self._bars is not None else self._lines(title)

    def _bar(self, title: str) -> Show:
        bars = self._bars
        task = bars.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            bars.update(task, completed=done, total=total)

        return show

    def _lines(self, title: str) -> Show:
        began = last = time.monotonic()
        # What was done in an earlier run took none of this one's time: speed is measured from the first report on.
        first: tuple[int, float] | None = None
        if not self.quiet:
            print(title, file=sys.stderr, flush=True)

        def show(done: int, total: int | None) -> None:
            nonlocal last, first
            now = time.monotonic()
            if not self.quiet and now - last >= SECONDS_BETWEEN_LINES:
                last = now
                before, since = first or (0, began)
                print(f"  {_how_far(done, total, now - since, before)}", file=sys.stderr, flush=True)
            first = first or (done, now)

        return show

    def note(self, text: str) -> None:
        """Tell something worth knowing that is no result and no error."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def event(self, values: dict[str, Any]) -> None:
        """Something that a program may want to hear of before the outcome: one line of JSON."""
        if self.as_json:
            print(json.dumps(values), flush=True)

    def result(self, text: str, values: dict[str, Any]) -> None:
        """The outcome: ``text`` for a person, or ``values`` as one line of JSON for a program."""
        # Bars on the same terminal would be drawn over it.
        self._stop_bars()
        if self.as_json:
            print(json.dumps(values), flush=True)
        elif not self.quiet:
            print(text, flush=True)

    def failure(self, message: str, kind: str, exit_code: int) -> None:
        """What went wrong, on stderr; for a program also as a line of JSON on stdout."""
        print(f"keylift: {message}", file=sys.stderr, flush=True)
        if self.as_json:
            print(json.dumps({"error": message, "kind": kind, "exit_code": exit_code}), flush=True)


def _how_far(done: int, total: int | None, seconds: float, start: int = 0) -> str:
    if not total:
        return f"{done}"
    if done <= start or seconds <= 0:
        return f"{done} of {total}"
    rate = (done - start) / seconds
    return f"{done} of {total}, {_rate(rate)}, {(total - done) / rate:.0f} s left"


def _rate(per_s: float) -> str:
    """Frames go by in a second; clips take minutes."""
    return f"{per_s:.1f} a second" if per_s >= 1 else f"{60 * per_s:.1f} a minute"


def _rich_bars() -> Any:
    """Bars with time left, or None where rich is missing (inside Blender)."""
    try:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            ProgressColumn,
            SpinnerColumn,
            Task,
            TextColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text
    except ImportError:
        return None

    class RateColumn(ProgressColumn):
        """How fast it goes."""

        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else _rate(task.speed), style="progress.data.speed")

    return Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
        # Left alone: what is printed to stdout is for whoever reads stdout, terminal or not.
        redirect_stdout=False,
    )
