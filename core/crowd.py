"""Everybody in the picture, followed from one to the next.

Each person has a landmarker of their own in VIDEO mode, which follows and smooths as on footage of one person. It is
shown the whole picture, except at first: then only the person's surroundings, so that it takes hold of the right one.
Now and then other landmarkers look, in the whole picture and in square parts of it, for whoever is not followed yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import TracebackType

import numpy as np

from .footage_frames import Frame
from .glimpse import Glimpse
from .landmarker import LOOK_CONFIDENCE, Landmarker
from .people import IN_THE_WAY, REMEMBERED_S, SAME_BODY, Person, impostor, returns
from .sightings import Sighting, apart

# One region is searched for newcomers this often; all of them in turn.
_LOOK_EVERY_S = 0.15
# What looks as it did when nobody was found there is searched no sooner than this.
_LOOK_AGAIN_S = 2.0
# Someone just lost is looked for where they should be, in every picture, for this long.
_SEARCH_S = 1.0
# A body of which less than this share is in the picture has left it.
_IN_PICTURE_AT_LEAST = 0.3
# Below this mean confidence of what is in the picture, nobody is there.
_CONFIDENCE_AT_LEAST = 0.35
# A newcomer must be surer than that, and is forgotten when lost within this time.
_NEWCOMER_CONFIDENCE_AT_LEAST = 0.5
_ON_PROBATION_S = 0.2
# This sure of a single picture, it counts although nothing could be followed from there.
_SURE = 0.7
# Clothes are compared over seconds; a histogram in each picture would cost time and tell no more.
_CLOTHES_EVERY_S = 0.1
# Beyond the picture's edge confidence falls off over this share of the body.
_EDGE_FADE = 0.1
_GREY = 128
# Two looks at one body agree on its size within this.
_HELD_GROWTH = 1.4
# Where the landmarker is shown nothing but somebody, though small, it may be less sure.
_HOLD_CONFIDENCE = 0.1


class _Follower:
    """A landmarker that follows one person within a region of the picture."""

    def __init__(self, landmarker: Landmarker, region: tuple[slice, slice]) -> None:
        self._landmarker = landmarker
        self._region = region
        self._origin_px = _corner(region)

    def close(self) -> None:
        self._landmarker.close()

    def take_hold(self, sighting: Sighting, stage: np.ndarray, frame: Frame) -> Sighting | None:
        """Begin to follow ``sighting`` in ``stage``, the picture as far as it may be seen at first.

        None when the landmarker finds something else, or nothing.
        """
        for held in self._landmarker.bodies(stage[self._region], frame.time_s, self._origin_px):
            near = apart(held.xy_px, sighting.xy_px, sighting.size_px) < SAME_BODY
            # Legs without a trunk lie where the body is, too.
            as_large = 1 / _HELD_GROWTH < held.size_px / sighting.size_px < _HELD_GROWTH
            if near and as_large and _is_somebody(held, frame.rgb):
                return held
        return None

    def bodies(self, frame: Frame) -> list[Sighting]:
        """Whom the landmarker sees now."""
        return self._landmarker.bodies(frame.rgb[self._region], frame.time_s, self._origin_px)

    def has_reached_its_edge(self, sighting: Sighting, rgb: np.ndarray) -> bool:
        """Whether ``sighting`` is about to leave the region, though not the picture."""
        height, width = rgb.shape[:2]
        rows, columns = self._region
        room_px = 0.1 * sighting.size_px
        (left, top), (right, bottom) = sighting.xy_px.min(axis=0), sighting.xy_px.max(axis=0)
        return bool(
            (columns.start > 0 and left < columns.start + room_px)
            or (columns.stop < width and right > columns.stop - room_px)
            or (rows.start > 0 and top < rows.start + room_px)
            or (rows.stop < height and bottom > rows.stop - room_px)
        )


# ---- Everybody in the picture ---------------------------------------------------------------------------------------


class Lookers:
    """Landmarkers that look at single pictures, lent to all parts of the footage: making one takes a while."""

    def __init__(self, model: Path) -> None:
        self._model = model
        self._idle: dict[int, list[Landmarker]] = defaultdict(list)
        self._all: list[Landmarker] = []

    def __enter__(self) -> Lookers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        # All are closed, even where closing one fails.
        with ExitStack() as let_go:
            for looker in self._all:
                let_go.callback(looker.close)
        self._all.clear()
        self._idle.clear()

    @contextmanager
    def lent(self, bodies: int) -> Iterator[Landmarker]:
        """One that looks for so many, to be used by nobody else meanwhile."""
        try:
            # Threads may ask at the same time: taking from a list is one step.
            looker = self._idle[bodies].pop()
        except IndexError:
            looker = Landmarker(self._model, follows=False, bodies=bodies)
            self._all.append(looker)
        yield looker
        self._idle[bodies].append(looker)


class Crowd:
    """Who is in the footage, picture by picture."""

    def __init__(self, model: Path, max_people: int, lookers: Lookers) -> None:
        self._model = model
        self._max_people = max_people
        self._lookers = lookers
        self._followers: dict[Person, _Follower] = {}
        self._next_region = 0
        self._next_look_s = -np.inf
        self._has_looked = False
        self._deserted: dict[int, Glimpse] = {}
        self.everybody: list[Person] = []

    def __enter__(self) -> Crowd:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        # All are closed, even where closing one fails.
        with ExitStack() as let_go:
            for follower in self._followers.values():
                let_go.callback(follower.close)
        self._followers.clear()

    def look_at(self, frame: Frame, row: int) -> None:
        """Go on with everybody who is followed, then look for those who are not."""
        self._follow(frame, row)
        self._part_doubles(frame)
        found = self._search(frame)
        if frame.time_s >= self._next_look_s or not self._followers:
            found += self._look_around(frame, everywhere=not self._has_looked)
            self._has_looked = True
            self._next_look_s = frame.time_s + _LOOK_EVERY_S
        self._take_up(found, frame, row)

    def _follow(self, frame: Frame, row: int) -> None:
        for person, follower in list(self._followers.items()):
            seen = [
                sighting
                for sighting in follower.bodies(frame)
                if _is_somebody(sighting, frame.rgb) and person.may_have_moved_to(sighting, frame.time_s)
            ]
            if seen and not follower.has_reached_its_edge(seen[0], frame.rgb):
                person.see(row, frame.time_s, self._dressed(seen[0], frame, person))
            else:
                self._lose(person)

    def _lose(self, person: Person) -> None:
        self._followers.pop(person).close()
        # Where they were, nothing else was looked at.
        self._deserted.clear()
        # Half a leg that sticks out from behind somebody is soon lost, and must not be found again as itself.
        if not person.rows or len(person.rows) < 5 and person.times_s[-1] - person.times_s[0] < _ON_PROBATION_S:
            self.everybody.remove(person)

    def _part_doubles(self, frame: Frame) -> None:
        """Where two followers got hold of one body, let go of the one who slipped there."""
        for a, b in combinations(list(self._followers), 2):
            if a not in self._followers or b not in self._followers:
                continue
            if apart(a.last.xy_px, b.last.xy_px, min(a.size_px, b.size_px)) < SAME_BODY:
                slipped, since = impostor(a, b, _clothes(a.last, frame.rgb))
                slipped.forget_from(since)
                self._lose(slipped)

    def _lost(self, time_s: float, within_s: float) -> list[Person]:
        return [p for p in self.everybody if p not in self._followers and time_s - p.times_s[-1] <= within_s]

    def _search(self, frame: Frame) -> list[Sighting]:
        """Look for those just lost around where they should be."""
        found: list[Sighting] = []
        for person in self._lost(frame.time_s, _SEARCH_S):
            around_px = person.expected_px(frame.time_s)
            if _share_inside(around_px, frame.rgb) < _IN_PICTURE_AT_LEAST:
                continue
            found += self._look_in(_square_around(around_px, 2.0 * person.size_px, frame.rgb), frame, bodies=1)
        return found

    def _look_around(self, frame: Frame, everywhere: bool) -> list[Sighting]:
        if len(self._followers) >= self._max_people:
            return []
        regions = list(enumerate(_regions(frame.rgb)))
        if not everywhere:
            regions = [regions[self._next_region % len(regions)]]
            self._next_region += 1
        found: list[Sighting] = []
        for number, region in regions:
            followed = [person.last for person in self._followers]
            now = Glimpse.of(frame.rgb[region], frame.time_s, [body.xy_px - _corner(region) for body in followed])
            before = self._deserted.get(number)
            if followed and before and frame.time_s - before.time_s < _LOOK_AGAIN_S and now.shows_the_same_as(before):
                continue
            here = self._look_in(region, frame, self._max_people)
            if here:
                self._deserted.pop(number, None)
            else:
                self._deserted[number] = now
            found += here
        return found

    def _look_in(self, region: tuple[slice, slice], frame: Frame, bodies: int) -> list[Sighting]:
        """Whoever is in ``region`` and not followed yet."""
        rgb = _without_bodies(frame.rgb, region, [person.last for person in self._followers])
        origin_px = _corner(region)
        with self._lookers.lent(bodies) as looker:
            seen = looker.bodies(rgb, frame.time_s, origin_px)
        return [sighting for sighting in seen if _is_somebody(sighting, frame.rgb)]

    def _take_up(self, found: list[Sighting], frame: Frame, row: int) -> None:
        """Follow those found: first who was lost comes back, then who is new, largest first."""
        fresh: list[Sighting] = []
        for sighting in sorted(found, key=lambda sighting: -float(sighting.confidence.mean())):
            known = [*(person.last for person in self._followers), *fresh]
            if all(apart(s.xy_px, sighting.xy_px, min(s.size_px, sighting.size_px)) > IN_THE_WAY / 2 for s in known):
                fresh.append(self._dressed(sighting, frame, None))
        lost = self._lost(frame.time_s, REMEMBERED_S)
        back = {which: lost[who] for who, which in returns(lost, fresh, frame.time_s)}
        alone = len(fresh) == 1 and not self._followers
        # Where there is not room for everybody, size decides: that is what people are told apart by later, too.
        for which in sorted(range(len(fresh)), key=lambda which: (which not in back, -fresh[which].size_px)):
            if len(self._followers) < self._max_people:
                self._take_hold(fresh[which], alone, back.get(which), frame, row)

    def _take_hold(self, sighting: Sighting, alone: bool, known: Person | None, frame: Frame, row: int) -> None:
        others = [person.last for person in self._followers]
        whole = (slice(0, frame.rgb.shape[0]), slice(0, frame.rgb.shape[1]))
        # In the whole picture one can be followed anywhere, but somebody small has to be brought closer first.
        for region in (whole, _square_around(sighting.xy_px, 3.0 * sighting.size_px, frame.rgb)):
            # With nobody else about nothing is covered up, and the result is the landmarker's own, to the last bit.
            sure = LOOK_CONFIDENCE if alone else _HOLD_CONFIDENCE
            follower = _Follower(Landmarker(self._model, follows=True, sure=sure), region)
            with ExitStack() as let_go:
                let_go.callback(follower.close)
                stage = frame.rgb if alone else _only_around(sighting, frame.rgb, others)
                held = follower.take_hold(sighting, stage, frame)
                if held is not None and (known or held.confidence.mean() >= _NEWCOMER_CONFIDENCE_AT_LEAST):
                    person = known or Person()
                    person.see(row, frame.time_s, self._dressed(held, frame, None))
                    if known is None:
                        self.everybody.append(person)
                    self._followers[person] = follower
                    let_go.pop_all()
                    return
        sure = sighting.confidence.mean() >= _SURE
        if known is not None and sure and known.may_have_moved_to(sighting, frame.time_s):
            known.see(row, frame.time_s, sighting)

    def _dressed(self, sighting: Sighting, frame: Frame, person: Person | None) -> Sighting:
        """``sighting`` with its clothes, when it is time to look at them, and confidence that knows the edges."""
        faded = sighting.confidence * _edge_fade(sighting, frame.rgb)
        clothes = None
        if person is None or frame.time_s - person.clothes_seen_s >= _CLOTHES_EVERY_S:
            clothes = _clothes(sighting, frame.rgb)
        return replace(sighting, confidence=faded, clothes=clothes)


# ---- Pictures -------------------------------------------------------------------------------------------------------


def _regions(rgb: np.ndarray) -> list[tuple[slice, slice]]:
    """The whole picture, and overlapping squares that cover it: the detector sees 224 pixels, whatever it is given."""
    height, width = rgb.shape[:2]
    side = min(height, width)
    whole = (slice(0, height), slice(0, width))
    # A body on the border of two squares should be whole in one of them.
    count = 1 + int(np.ceil((max(height, width) - side) / (0.6 * side))) if max(height, width) > 1.1 * side else 1
    if count == 1:
        return [whole]
    starts = np.linspace(0, max(height, width) - side, count).astype(int)
    squares = [
        (slice(0, side), slice(int(start), int(start) + side))
        if width > height
        else (slice(int(start), int(start) + side), slice(0, side))
        for start in starts
    ]
    return [whole, *squares]


def _corner(region: tuple[slice, slice]) -> tuple[int, int]:
    """(x, y) of the region's upper left in the picture."""
    return region[1].start, region[0].start


def _square_around(xy_px: np.ndarray, side_px: float, rgb: np.ndarray) -> tuple[slice, slice]:
    height, width = rgb.shape[:2]
    side = int(np.clip(side_px, 64, max(height, width)))
    centre_x, centre_y = (xy_px.min(axis=0) + xy_px.max(axis=0)) / 2
    left = int(np.clip(centre_x - side / 2, 0, max(width - side, 0)))
    top = int(np.clip(centre_y - side / 2, 0, max(height - side, 0)))
    return slice(top, min(top + side, height)), slice(left, min(left + side, width))


def _paint_over(rgb: np.ndarray, bodies: list[Sighting], origin_px: tuple[int, int]) -> None:
    import cv2

    for body in bodies:
        outline = cv2.convexHull((body.xy_px - np.array(origin_px)).round().astype(np.int32))
        # Keypoints run along the bones; flesh and the top of the head lie outside of them.
        margin = max(2, int(0.12 * body.size_px))
        cv2.fillConvexPoly(rgb, outline, (_GREY, _GREY, _GREY))
        cv2.polylines(rgb, [outline], True, (_GREY, _GREY, _GREY), thickness=margin)


def _without_bodies(rgb: np.ndarray, region: tuple[slice, slice], bodies: list[Sighting]) -> np.ndarray:
    """``region`` of the picture, with ``bodies`` painted over."""
    part = np.array(rgb[region]) if bodies else np.ascontiguousarray(rgb[region])
    _paint_over(part, bodies, _corner(region))
    return part


def _only_around(sighting: Sighting, rgb: np.ndarray, others: list[Sighting]) -> np.ndarray:
    """The picture with nothing in it but the surroundings of ``sighting``."""
    alone = np.full_like(rgb, _GREY)
    region = _square_around(sighting.xy_px, 1.8 * sighting.size_px, rgb)
    alone[region] = _without_bodies(rgb, region, others)
    return alone


def _inside(xy_px: np.ndarray, rgb: np.ndarray) -> np.ndarray:
    height, width = rgb.shape[:2]
    return ((xy_px >= 0) & (xy_px < (width, height))).all(axis=-1)


def _share_inside(xy_px: np.ndarray, rgb: np.ndarray) -> float:
    return float(_inside(xy_px, rgb).mean())


def _is_somebody(sighting: Sighting, rgb: np.ndarray) -> bool:
    inside = _inside(sighting.xy_px, rgb)
    if inside.mean() < _IN_PICTURE_AT_LEAST:
        return False
    return float(sighting.confidence[inside].mean()) >= _CONFIDENCE_AT_LEAST


def _edge_fade(sighting: Sighting, rgb: np.ndarray) -> np.ndarray:
    """(33,) 1 inside the picture, sinking outside: a point guessed beyond the edge keeps its place, not its weight."""
    height, width = rgb.shape[:2]
    beyond_px = np.maximum(np.maximum(-sighting.xy_px, sighting.xy_px - (width - 1, height - 1)), 0.0)
    if not beyond_px.any():
        return np.ones(len(beyond_px))
    beyond = np.linalg.norm(beyond_px, axis=-1) / (_EDGE_FADE * sighting.size_px)
    return np.exp(-(beyond**2))


def _clothes(sighting: Sighting, rgb: np.ndarray) -> np.ndarray | None:
    """Histogram of the torso's colours, coarse in brightness because light changes more than cloth does."""
    import cv2

    height, width = rgb.shape[:2]
    left, top = np.maximum(np.floor(sighting.torso_px.min(axis=0)), 0).astype(int)
    right, bottom = np.minimum(np.ceil(sighting.torso_px.max(axis=0)) + 1, (width, height)).astype(int)
    if right - left < 4 or bottom - top < 4:
        return None
    # A few thousand pixels tell a colour as well as a million.
    step = max(1, int(np.sqrt((right - left) * (bottom - top) / 4000)))
    patch = np.ascontiguousarray(rgb[top:bottom:step, left:right:step])
    mask = np.zeros(patch.shape[:2], np.uint8)
    ring = ((sighting.torso_px - (left, top)) / step).round().astype(np.int32)
    cv2.fillConvexPoly(mask, cv2.convexHull(ring), 255)
    cv2.polylines(mask, [ring], True, 255)
    lab = cv2.cvtColor(patch, cv2.COLOR_RGB2LAB)
    histogram = cv2.calcHist([lab], [0, 1, 2], mask, [4, 12, 12], [0, 256, 64, 192, 64, 192]).astype(float).ravel()
    # A pixel on the edge of a bin may fall either side of it.
    histogram += 0.1
    return histogram / histogram.sum()
