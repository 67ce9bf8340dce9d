"""Moving pictures of any kind as upright RGB frames with presentation times, one at a time."""

from __future__ import annotations

from pathlib import Path

from .errors import FootageError
from .footage_decoding import unreadable
from .footage_frames import Footage, Frame
from .picture_files import Pictures
from .picture_sequence import PICTURE_ENDINGS, sequence_at
from .video_file import Glimpse, Video

__all__ = ["Footage", "Frame", "Glimpse", "Pictures", "Video", "open_footage"]


def open_footage(path: Path, fps: float | None = None) -> Footage:
    """Open a video file, a picture, a folder of pictures, or a pattern such as ``shot_####.png`` or ``shot_%04d.png``.

    ``fps`` is the rate of a picture sequence, which has none of its own. A video keeps its own clock, however uneven;
    with ``fps`` its pictures are counted evenly instead, for clocks that are broken and for slow motion. Raises
    FootageError, telling what to do, when there is nothing to see, or a clock can't be believed.
    """
    path = Path(path)
    if fps is not None and not 0.01 < fps < 10000:
        raise FootageError(f"{fps:g} is not a frame rate for '{path}'. Give pictures per second, such as 25.")
    # A real file may have # or % in its name, so the file wins over the pattern.
    if path.is_file():
        try:
            size_bytes = path.stat().st_size
        except OSError as problem:
            raise unreadable(path, problem) from problem
        if size_bytes == 0:
            raise FootageError(f"'{path}' is empty (0 bytes). Copy or export the footage again.")
        return Pictures.of([path], path, fps) if path.suffix.lower() in PICTURE_ENDINGS else Video.at(path, fps)
    if (pictures := sequence_at(path)) is not None:
        return Pictures.of(pictures, path, fps)
    if path.exists():
        raise FootageError(f"'{path}' is neither a file nor a folder. Give a video file or a folder of pictures.")
    raise FootageError(f"There is no footage '{path}'. Check the path.")
