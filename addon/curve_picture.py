"""The learning curve as something that a panel can show."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import bpy.utils.previews

from .adaptation_runs import LOG, settings_of, steps_of
from .learning_curve import LearningCurve, draw_curve, read_curve

SIZE_PX = 256
_LOOK_S = 1.0


class CurvePicture:
    """The curve of one run, drawn anew when its log has changed; looked at once a second at most."""

    def __init__(self) -> None:
        self.curve: LearningCurve | None = None
        self._pictures: Any = None
        self._folder: Path | None = None
        self._stamp: tuple[int, int] | None = None
        self._looked_at = 0.0

    def look(self, folder: Path) -> LearningCurve:
        """The curve of the run in a folder."""
        now = time.monotonic()
        if self.curve is not None and folder == self._folder and now - self._looked_at < _LOOK_S:
            return self.curve
        self._looked_at = now
        stamp = _stamp(folder / LOG)
        if self.curve is None or (folder, stamp) != (self._folder, self._stamp):
            self._folder, self._stamp = folder, stamp
            self.curve = read_curve(folder / LOG)
            if len(self.curve.step):
                self._draw(self.curve, steps_of(settings_of(folder) or {}))
        return self.curve

    def _draw(self, curve: LearningCurve, last_step: int) -> None:
        if self._pictures is None:
            self._pictures = bpy.utils.previews.new()
        picture = self._pictures.get("curve") or self._pictures.new("curve")
        picture.image_size = SIZE_PX, SIZE_PX
        picture.image_pixels_float.foreach_set(draw_curve(curve, SIZE_PX, last_step).ravel())

    @property
    def icon(self) -> int:
        """What a panel shows it by; 0 while there is none."""
        return 0 if self._pictures is None or "curve" not in self._pictures else self._pictures["curve"].icon_id

    def close(self) -> None:
        """Give the picture's memory back."""
        if self._pictures is not None:
            bpy.utils.previews.remove(self._pictures)
        self.__init__()  # type: ignore[misc]


def _stamp(log: Path) -> tuple[int, int] | None:
    try:
        stat = log.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


picture = CurvePicture()


def unregister_rest() -> None:
    """Let go of it."""
    picture.close()


CLASSES: tuple[type, ...] = ()
