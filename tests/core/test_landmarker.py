"""The landmarker says what is wrong with itself: what is missing is told from what there was no memory for."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

import pytest

from keylift.core.device_failures import OUT_OF_MEMORY
from keylift.core.errors import DetectorError, KeyliftError, TryAgainError
from keylift.core.landmarker import Landmarker


class Refused(MetaPathFinder):
    """Imports of MediaPipe fail with ``problem``."""

    def __init__(self, problem: BaseException) -> None:
        self.problem = problem

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name.partition(".")[0] == "mediapipe":
            raise self.problem


@pytest.mark.parametrize(
    ("problem", "kind", "words"),
    [
        (ModuleNotFoundError("No module named 'mediapipe'"), DetectorError, "not installed (No module"),
        (ImportError("_pywrap.so: failed to map segment from shared object"), TryAgainError, OUT_OF_MEMORY),
        (
            OSError("libmediapipe.so: cannot open shared object file: Cannot allocate memory"),
            TryAgainError,
            OUT_OF_MEMORY,
        ),
        (OSError("libGLESv2.so.2: cannot open shared object file"), DetectorError, "can't be loaded (libGLES"),
    ],
)
def test_what_is_missing_is_told_from_what_had_no_memory(
    problem: Exception, kind: type[KeyliftError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "mediapipe"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Refused(problem), *sys.meta_path])
    with pytest.raises(kind) as caught:
        Landmarker(Path("x.task"), follows=False)
    assert words in str(caught.value)
