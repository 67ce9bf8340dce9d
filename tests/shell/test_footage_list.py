"""Looking for people in many clips at once, when that takes its processes along."""

from __future__ import annotations

import argparse
import contextlib
import threading
from pathlib import Path

import psutil
import pytest

from keylift.core.errors import TryAgainError
from keylift.shell.arguments import add_detection_options
from keylift.shell.batching import coordination, local_engine
from keylift.shell.footage_list import clips_in, find_in_all
from keylift.shell.reporting import Reporter
from shell_runs import film_empty_room


def test_a_clip_that_always_ends_its_process_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the process that asked would look at it next, and end without a word."""
    for number in range(2):
        film_empty_room(tmp_path / f"clip-{number}.mp4", frames=4 + number)
    monkeypatch.setattr(local_engine, "processes_that_fit", lambda wanted=None: 2)
    monkeypatch.setattr(coordination, "_MOST_DEATHS", 2)
    parser, over = argparse.ArgumentParser(), threading.Event()
    add_detection_options(parser)

    def kill_all() -> None:
        while not over.wait(0.05):
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "spawn_main" in " ".join(child.cmdline()):
                        child.kill()

    killing = threading.Thread(target=kill_all)
    killing.start()
    try:
        with pytest.raises(TryAgainError, match=r"clip-\d\.mp4: .*out of memory, or crashed\. Close other"):
            find_in_all(clips_in([tmp_path]), parser.parse_args([]), Reporter(quiet=True))
    finally:
        over.set()
        killing.join()
