"""People's keypoints out of footage, with MediaPipe's pose landmarker.

Longer footage is looked at in parts, side by side on as many cores as there are, and put together again.
"""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .crowd import Crowd, Lookers
from .detection_spans import SHORTEST_CUT, Span, looked_at_once, spans_of
from .errors import Cancelled, FootageError, NobodyFoundError
from .footage import Footage
from .footage_spans import RandomAccess, UnevenFootageError, random_access
from .freed_memory import FreedMemory
from .gaps import fill_gaps
from .meetings import untangle
from .people import Person
from .progress import Progress, report, silent
from .read_ahead import read_ahead
from .span_joining import join_spans
from .tracks import MAX_PEOPLE, KeypointTrack

# Who was seen for less than this (and less than half of the footage) was a shadow on a wall.
_SEEN_AT_LEAST_S = 0.4
_SECONDS_BETWEEN_REPORTS = 0.1


def detect_people(
    footage: Footage,
    *,
    model: Path,
    first: int | None = None,
    last: int | None = None,
    max_people: int = MAX_PEOPLE,
    progress: Progress = silent,
) -> list[KeypointTrack]:
    """Everybody in frames ``first`` to ``last``, largest first, each over the whole range.

    No more than ``max_people`` are followed at a time: the largest of those who come into the picture together.
    Size is body height summed over the pictures, so that an actor beats a passer-by near the lens. Pictures without
    the person are NaN; short gaps are bridged and marked. Raises NobodyFoundError when there is nobody,
    FootageError and DetectorError when footage or model are not fit for use.
    """
    found = _looked_at(footage, first, last, _Looking(model, max_people, progress))
    times_s = found.times_s
    if not times_s:
        raise FootageError(f"'{footage.path.name}' has no frames. Copy or export the footage again.")
    people = _worth_keeping(found.everybody, times_s)
    untangle(people)
    if not people:
        raise NobodyFoundError(
            f"Nobody was found in '{footage.path.name}'. A person should be at least a fifth as tall as the picture's "
            "shorter side and mostly in view; try other --frames or --detector-model heavy."
        )
    people.sort(key=lambda person: -person.sightings.sizes_px().sum())
    nobody = KeypointTrack(
        xy_px=np.broadcast_to(np.nan, (len(times_s), 33, 2)),
        confidence=np.broadcast_to(0.0, (len(times_s), 33)),
        time_s=np.array(times_s),
        frame_index=np.array(found.indices),
        layout="mediapipe33",
        size_px=footage.size_px,
        filled=np.zeros(len(times_s), bool),
        source=footage.source(),
        detector=_detector_name(model),
    )
    return [fill_gaps(_track_of(person, nobody, number)) for number, person in enumerate(people, start=1)]


@dataclass(frozen=True)
class _Looking:
    """How footage is looked at."""

    model: Path
    max_people: int
    progress: Progress


@dataclass
class _Found:
    """Who was found, and the pictures that were looked at; rows are places in these lists."""

    everybody: list[Person] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)


def _looked_at(footage: Footage, first: int | None, last: int | None, looking: _Looking) -> _Found:
    access = None
    if (_frames_to_come(footage, first, last) or 0) > SHORTEST_CUT:
        access = random_access(footage)
    if access is not None and (last or 0) < access.frame_count:
        begin, end = first or 0, access.frame_count - 1 if last is None else last
        spans = spans_of(begin, end, access.starts)
        if len(spans) > 1:
            try:
                return _looked_at_in_parts(access, spans, looking)
            except UnevenFootageError:
                # Read from its start, the footage either can be read, or says what is wrong with it.
                pass
    return _looked_at_in_one_go(footage, first, last, looking)


def _looked_at_in_one_go(footage: Footage, first: int | None, last: int | None, looking: _Looking) -> _Found:
    total = _frames_to_come(footage, first, last)
    found, freed = _Found(), FreedMemory()
    with (
        Lookers(looking.model) as lookers,
        Crowd(looking.model, looking.max_people, lookers) as crowd,
        closing(read_ahead(footage.frames(first, last))) as frames,
    ):
        report(looking.progress, 0, total)
        for frame in frames:
            crowd.look_at(frame, len(found.times_s))
            found.times_s.append(frame.time_s)
            found.indices.append(frame.index)
            report(looking.progress, len(found.times_s), total)
            freed.give_back_now_and_then()
    found.everybody = crowd.everybody
    return found


def _looked_at_in_parts(access: RandomAccess, spans: list[Span], looking: _Looking) -> _Found:
    begin, total = spans[0].first, spans[-1].last + 1 - spans[0].first
    counted, stopped = threading.Semaphore(0), threading.Event()
    freed = FreedMemory()

    def look(span: Span) -> _Found:
        found = _Found()
        with (
            Crowd(looking.model, looking.max_people, lookers) as crowd,
            closing(read_ahead(access.frames(span.first, span.last))) as frames,
        ):
            for frame in frames:
                if stopped.is_set():
                    raise Cancelled("Stopped on request.")
                crowd.look_at(frame, frame.index - begin)
                if frame.index >= span.seam:
                    found.times_s.append(frame.time_s)
                    found.indices.append(frame.index)
                    counted.release()
        found.everybody = crowd.everybody
        return found

    # The threads have ended before their lookers are closed.
    with (
        Lookers(looking.model) as lookers,
        ThreadPoolExecutor(looked_at_once(len(spans)), "keylift-detects") as pool,
    ):
        looks = [pool.submit(look, span) for span in spans]
        try:
            _tell_until_done(looks, counted, total, looking.progress, freed)
            parts = [one.result() for one in looks]
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    found = _Found(
        times_s=[time_s for part in parts for time_s in part.times_s],
        indices=[index for part in parts for index in part.indices],
    )
    # What was joined is not needed a second time.
    looks.clear()
    everybody = (parts.pop(0).everybody for _ in spans)
    found.everybody = join_spans(everybody, [span.seam - begin for span in spans[1:]])
    return found


def _tell_until_done(
    looks: list[Future[_Found]], counted: threading.Semaphore, total: int, progress: Progress, freed: FreedMemory
) -> None:
    """Tell how many pictures were looked at, until all were; raises what went wrong in the first part that failed."""
    done = 0
    report(progress, done, total)
    while True:
        still = wait(looks, _SECONDS_BETWEEN_REPORTS, FIRST_EXCEPTION).not_done
        while counted.acquire(blocking=False):
            done += 1
        report(progress, done, total)
        freed.give_back_now_and_then()
        for look in looks:
            if look.done():
                look.result()
        if not still:
            return


def _frames_to_come(footage: Footage, first: int | None, last: int | None) -> int | None:
    end = footage.frame_count if last is None else last + 1
    return None if end is None else max(end - (first or 0), 1)


def _worth_keeping(people: list[Person], times_s: list[float]) -> list[Person]:
    period_s = (times_s[-1] - times_s[0]) / max(len(times_s) - 1, 1)
    wanted_s = min(_SEEN_AT_LEAST_S, len(times_s) * period_s / 2)
    return [person for person in people if person.rows and len(person.rows) * period_s >= wanted_s]


def _track_of(person: Person, nobody: KeypointTrack, number: int) -> KeypointTrack:
    xy_px, confidence = nobody.xy_px.copy(), nobody.confidence.copy()
    done = 0
    for bodies_px, confidences in person.sightings.bodies():
        rows = person.rows[done : done + len(bodies_px)]
        xy_px[rows], confidence[rows] = bodies_px, confidences
        done += len(rows)
    return replace(nobody, xy_px=xy_px, confidence=confidence, person=number)


def _detector_name(model: Path) -> str:
    try:
        return f"mediapipe {version('mediapipe')} {model.stem}"
    except PackageNotFoundError:
        return f"mediapipe {model.stem}"
