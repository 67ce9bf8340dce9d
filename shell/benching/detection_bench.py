"""How fast people are found, against a bare loop of decoding and MediaPipe's landmarker on the same film."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ...core.detection import detect_people
from ...core.footage import open_footage
from ...core.keypoint_repair import repair
from ...core.landmarker import native_chatter_hidden
from ...core.lift import lift
from ...core.lifter.lifting import load_ray_lifter
from ...core.progress import Progress, report, silent
from ...core.track_files import write_pose
from ...core.weights import find_weights
from ...training.bench import peak_memory_bytes
from .length_bench import cost, in_a_fresh_process

# Pictures of the footage that the film is made of: enough to move, and few enough to be held.
_MOST_PICTURES = 120
_CORES = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class DetectionBenchSizes:
    """frames: of a film that is looked at in one go, and of one that is looked at in parts; rounds: of each side."""

    frames: tuple[int, int] = (300, 600)
    rounds: int = 3


FULL = DetectionBenchSizes()
QUICK = DetectionBenchSizes((20, 310), 1)


def measure_detection(
    footage: Path, model: Path, sizes: DetectionBenchSizes = FULL, progress: Progress = silent
) -> dict[str, Any]:
    """Plain values for a report; every ratio is the median of rounds in which both sides took their turn.

    detect_overhead:  all of it (find, repair, lift, fit, write) on one core, over the bare loop: 1 is as fast
    two_core_speedup: the bare loop over finding people in parts, on as many cores as there are
    lift_share:       repair, lift, fit and write over finding people
    parts_off_px:     median distance of the keypoints found in parts from those of the bare loop, in pixels
    """
    lifter = load_ray_lifter(find_weights("default"))
    with tempfile.TemporaryDirectory(prefix="keylift-bench-") as folder:
        short, long = (_film(footage, Path(folder) / f"{frames}.mp4", frames) for frames in sizes.frames)

        def find(film: Path) -> Any:
            return detect_people(open_footage(film), model=model)[0]

        def capture_short() -> None:
            track = find_short()
            found_s = time.perf_counter()
            finish(track)
            finishing.append(time.perf_counter() - found_s)

        def find_short() -> Any:
            with _cores(1):
                return find(short)

        def finish(track: Any) -> None:
            with _cores(1):
                write_pose(Path(folder) / "take.pose.npz", lift(repair(track), lifter=lifter))

        sides: dict[str, Callable[[], Any]] = {
            "bare": lambda: _bare_loop(short, model),
            "capture": capture_short,
            "find": find_short,
            "bare_long": lambda: _bare_loop(long, model),
            "parts": lambda: find(long),
        }
        taken: dict[str, list[float]] = {name: [] for name in sides}
        finishing: list[float] = []
        results: dict[str, Any] = {}
        # What is loaded once is loaded before the clock runs.
        finish(find_short())
        for number in range(sizes.rounds):
            for place, (name, side) in enumerate(sides.items()):
                report(progress, number * len(sides) + place, sizes.rounds * len(sides))
                began = time.perf_counter()
                results[name] = side()
                taken[name].append(time.perf_counter() - began)
        report(progress, sizes.rounds * len(sides), sizes.rounds * len(sides))
        people = len(detect_people(open_footage(short), model=model, last=min(sizes.frames[0], 30) - 1))
        size_px = open_footage(short).size_px
        where_ms = _where_the_time_goes(long, model, min(60, sizes.frames[0]))
        length = [in_a_fresh_process(_cost_of_finding, str(film), str(model)) for film in (short, long)]

    def ratio(over: str, under: str) -> float:
        return statistics.median(a / b for a, b in zip(taken[over], taken[under], strict=True))

    off_px = np.linalg.norm(results["parts"].xy_px - results["bare_long"], axis=-1)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    return {
        "frames": list(sizes.frames),
        "rounds": sizes.rounds,
        "size_px": list(size_px),
        "people": people,
        "detect_overhead": ratio("capture", "bare"),
        "find_overhead": ratio("find", "bare"),
        "two_core_speedup": ratio("bare_long", "parts"),
        "lift_share": statistics.median(
            after / (whole - after) for whole, after in zip(taken["capture"], finishing, strict=True)
        ),
        "parts_off_px": float(np.nanmedian(off_px)),
        "parts_off_px_after_seam": float(np.nanmedian(off_px[len(off_px) // 2 :])),
        "ms_per_frame": {
            "bare": 1000 * seconds["bare"] / sizes.frames[0],
            "capture": 1000 * seconds["capture"] / sizes.frames[0],
            "parts": 1000 * seconds["parts"] / sizes.frames[1],
        },
        "where_ms": where_ms,
        "length": length,
    }


@contextmanager
def _cores(count: int) -> Iterator[None]:
    """A block in which detection uses so many cores; the networks' threads were set before."""
    before = os.environ.get(_CORES)
    os.environ[_CORES] = str(count)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_CORES]
        else:
            os.environ[_CORES] = before


def _film(footage: Path, place: Path, frames: int) -> Path:
    """The footage's first pictures forth and back, so that nobody jumps, with a key frame each second as phones do."""
    source = open_footage(footage)
    pictures = [frame.rgb for frame, _ in zip(source.frames(), range(_MOST_PICTURES), strict=False)]
    order = [*range(len(pictures)), *range(len(pictures) - 2, 0, -1)] or [0]
    rate = Fraction(source.fps).limit_denominator(1001)
    with av.open(str(place), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "g": str(round(rate))})
        # Odd sizes can't be encoded.
        height, width = (side // 2 * 2 for side in pictures[0].shape[:2])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = 1 / rate
        for number in range(frames):
            rgb = np.ascontiguousarray(pictures[order[number % len(order)]][:height, :width])
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            picture.pts, picture.time_base = number, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return place


def _cost_of_finding(film: str, model: str) -> dict[str, float]:
    detect_people(open_footage(Path(film)), model=Path(model), last=9)
    before, began = peak_memory_bytes(), time.perf_counter()
    found = detect_people(open_footage(Path(film)), model=Path(model))
    return cost(len(found[0].time_s), began, before, peak_memory_bytes())


@contextmanager
def _landmarker(model: Path) -> Iterator[Callable[[np.ndarray, float], Any]]:
    """MediaPipe's landmarker and nothing else: a picture and its time go in, a result comes out."""
    with native_chatter_hidden():
        import mediapipe
        from mediapipe.tasks.python import BaseOptions, vision

        options = vision.PoseLandmarkerOptions(
            base_options=BaseOptions(model_asset_buffer=model.read_bytes()), running_mode=vision.RunningMode.VIDEO
        )
        with vision.PoseLandmarker.create_from_options(options) as landmarker:
            yield lambda rgb, time_s: landmarker.detect_for_video(
                mediapipe.Image(mediapipe.ImageFormat.SRGB, rgb), round(1000 * time_s)
            )


def _bare_loop(film: Path, model: Path) -> np.ndarray:
    """(F, 33, 2) px: decode, show to the landmarker, nothing else."""
    found = []
    with _landmarker(model) as look, av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for picture in container.decode(stream):
            rgb = picture.to_ndarray(format="rgb24")
            found.append(_points(look(rgb, picture.time), rgb))
    return np.array(found)


def _points(result: Any, rgb: np.ndarray) -> list[tuple[float, float]]:
    if not result.pose_landmarks:
        return [(np.nan, np.nan)] * 33
    height, width = rgb.shape[:2]
    return [(point.x * width, point.y * height) for point in result.pose_landmarks[0]]


def _where_the_time_goes(film: Path, model: Path, frames: int) -> dict[str, float]:
    """Milliseconds a frame of each step alone, one after the other, on one thread."""
    taken = {"decode": 0.0, "to_rgb": 0.0, "landmarker": 0.0}
    with _landmarker(model) as look, av.open(str(film)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        decoded = container.decode(stream)
        for _ in range(frames):
            began = time.perf_counter()
            picture = next(decoded)
            had = time.perf_counter()
            rgb = picture.to_ndarray(format="rgb24")
            turned = time.perf_counter()
            look(rgb, picture.time)
            looked = time.perf_counter()
            for name, since, until in (
                ("decode", began, had),
                ("to_rgb", had, turned),
                ("landmarker", turned, looked),
            ):
                taken[name] += 1000 * (until - since) / frames
    return taken
