"""MediaPipe's pose landmarker, quiet and closed for sure."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from .device_failures import OUT_OF_MEMORY, memory_ran_out
from .errors import DetectorError, TryAgainError
from .sightings import Sighting

# What a landmarker says on stderr, it says on the way to its second body.
_TALKATIVE_RESULTS = 2
# How sure the detector must be that it sees somebody.
LOOK_CONFIDENCE = 0.5


class _NativeChatter:
    """Descriptor 2 turned away as long as anybody, in whatever thread, wants it so.

    What other threads write there meanwhile is lost too: now and then a line of progress.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted_by = 0
        self._kept: int | None = None

    def hide(self) -> None:
        with self._lock:
            self._wanted_by += 1
            if self._wanted_by > 1:
                return
            try:
                self._kept = os.dup(2)
            except OSError:
                # A program without a console has no descriptor 2, and nobody to be bothered.
                return
            if sys.stderr is not None:
                sys.stderr.flush()
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)

    def show(self) -> None:
        with self._lock:
            self._wanted_by -= 1
            if self._wanted_by == 0 and self._kept is not None:
                os.dup2(self._kept, 2)
                os.close(self._kept)
                self._kept = None


_chatter = _NativeChatter()


@contextmanager
def native_chatter_hidden() -> Iterator[None]:
    """Keep what native libraries write to descriptor 2 from the person in front of the screen.

    No setting of MediaPipe's does that. KEYLIFT_DEBUG in the environment lets it through.
    """
    if os.environ.get("KEYLIFT_DEBUG"):
        yield
        return
    _chatter.hide()
    try:
        yield
    finally:
        _chatter.show()


class Landmarker:
    """MediaPipe's pose landmarker, closed for sure: left open it crashes the interpreter's exit.

    ``follows``: VIDEO mode, which follows one body from picture to picture. One object for each stretch: it remembers.
    """

    def __init__(self, model: Path, *, follows: bool, bodies: int = 1, sure: float = LOOK_CONFIDENCE) -> None:
        try:
            with native_chatter_hidden():
                import mediapipe
                from mediapipe.tasks.python import BaseOptions, vision
        except (ImportError, OSError) as problem:
            if memory_ran_out(problem):
                raise TryAgainError(OUT_OF_MEMORY) from problem
            wrong = "is not installed" if isinstance(problem, ImportError) else "can't be loaded"
            raise DetectorError(f"The detector {wrong} ({problem}). Run: pip install mediapipe==1.2.2") from problem
        self._mediapipe = mediapipe
        self._follows = follows
        self._results = 0
        self._last_ms = -1
        mode = vision.RunningMode.VIDEO if follows else vision.RunningMode.IMAGE
        options = vision.PoseLandmarkerOptions(
            # Read here rather than by MediaPipe: it can't open paths with all letters on all systems.
            base_options=BaseOptions(model_asset_buffer=model_bytes(model)),
            running_mode=mode,
            num_poses=bodies,
            min_pose_detection_confidence=sure,
        )
        try:
            with native_chatter_hidden():
                self._landmarker = vision.PoseLandmarker.create_from_options(options)
        except (RuntimeError, ValueError, OSError) as problem:
            if memory_ran_out(problem):
                raise TryAgainError(OUT_OF_MEMORY) from problem
            raise DetectorError(
                f"The pose model '{model}' can't be used ({problem}). Delete it or name another with --detector-model."
            ) from problem

    def close(self) -> None:
        with native_chatter_hidden():
            self._landmarker.close()

    def bodies(self, rgb: np.ndarray, time_s: float, origin_px: tuple[int, int] = (0, 0)) -> list[Sighting]:
        """What is seen in ``rgb`` (H, W, 3), whose corner lies at ``origin_px`` of the whole picture."""
        picture = self._mediapipe.Image(self._mediapipe.ImageFormat.SRGB, np.ascontiguousarray(rgb))
        with ExitStack() as quiet:
            if self._results < _TALKATIVE_RESULTS:
                quiet.enter_context(native_chatter_hidden())
            try:
                if self._follows:
                    # Whole milliseconds that grow, whatever the frame rate.
                    self._last_ms = max(round(time_s * 1000), self._last_ms + 1)
                    result = self._landmarker.detect_for_video(picture, self._last_ms)
                else:
                    result = self._landmarker.detect(picture)
            except (RuntimeError, ValueError) as problem:
                if memory_ran_out(problem):
                    raise TryAgainError(OUT_OF_MEMORY) from problem
                raise DetectorError(f"The detector failed at {time_s:.2f} s: {problem}.") from problem
        self._results += bool(result.pose_landmarks)
        scale, shift = np.array([rgb.shape[1], rgb.shape[0]]), np.array(origin_px)
        sightings = []
        for landmarks in result.pose_landmarks:
            values = np.array([(point.x, point.y, point.visibility, point.presence) for point in landmarks])
            if np.isfinite(values).all():
                sightings.append(Sighting(values[:, :2] * scale + shift, np.clip(values[:, 2:].min(axis=1), 0.0, 1.0)))
        return sightings


def model_bytes(model: Path) -> bytes:
    try:
        return model.read_bytes()
    except OSError as problem:
        raise DetectorError(f"The pose model '{model}' can't be read: {problem.strerror}. Check the path.") from problem
