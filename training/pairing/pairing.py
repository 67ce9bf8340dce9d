"""A footage clip and a captured motion of the same take, paired: when, from where, and whether they agree at all.

The keypoints that a detector saw must lie where the motion's body, seen by some camera that stands still at some offset
between the clocks, would have them. All offsets are scanned at once; the best are fitted robustly; what is left over
tells whether the motion is of this footage, and whether another offset or frame rate would have done as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.lifter.ray_windows import lifter_points
from ...core.progress import Progress, report, silent
from ...core.skeletons import LANDMARKS_41
from ...core.tracks import KeypointTrack
from .camera_fit import CameraFit, Known, fit_camera, misses_of_box
from .offset_scan import OffsetScan, scan_offsets, scan_offsets_of_camera
from .take_sides import MIRRORED, MotionSide, SeenSide, motion_side, seen_side

RATES = (24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 100.0, 120.0)
MAX_MOTION_FRAMES = 2_000_000

_SHORTEST_S, _FEWEST_FRAMES = 1.0, 12
# At least so much of the shorter one must lie within the other.
_SHARED_PART = 0.5
# Detectors miss the true places of joints by 1 to 4 % of the person's box, halfway; motion of another take, seen by
# the camera and at the time that suit it best, by 6 % and more, as soon as there are a few seconds of it.
_FITS_OF_BOX = 0.05
# A frame further off than this shows another pose than the motion has.
_AGREES_OF_BOX = 0.06
# Keypoints that fit so much better with left and right exchanged are exchanged.
_EXCHANGED_BY = 0.6
# From the first share on it is asked whether a mirror is at work; from the second on it is no mishap of the detector.
_SOME_EXCHANGED, _ALL_EXCHANGED = 0.05, 0.95
_CLEARLY_MIRRORED = 0.95
# Farther apart than the first, two offsets are two; within the second part of the other's miss, none is the better.
_ANOTHER_OFFSET_S, _AS_GOOD = 0.1, 1.1
_CLEARLY_BETTER = 0.65
# A difference of so little of the box, 3 mm, is none.
_NOTHING_OF_BOX = 0.002
# Rates nearer than this are one.
_SAME_RATE = 0.02
# Of the misses this share is looked at where two fits are compared: limbs gone astray are no evidence against either.
_COMPARED_SHARE = 0.7
_STARTS, _STARTS_OF_OTHER_RATES = 6, 2
_FRAMES_TO_START, _FRAMES_TO_FINISH = 40, 400
# Of a long clip so many frames tell how well a camera does.
_MATCHED_FRAMES = 900
_STEPS_TO_START, _STEPS_TO_FINISH = 15, 60


@dataclass(frozen=True, eq=False)
class Pairing:
    """Footage and motion brought together.

    offset_s:          motion time is footage time and this; the motion's first frame is at 0
    camera:            the lens, as given or as it fits best
    camera_from_world: (4, 4) rigid, metres; camera x right, y down, z forward; world y up, as the motion has it
    miss_px:           how far keypoints lie from where the motion has them, half of them farther
    miss_of_box:       the same in parts of the longer side of the person's box
    agreed:            (F,) True where the motion is known and the keypoints show the same pose, left and right put
                       right
    exchanged:         (F,) True where the keypoints have left and right exchanged
    truth_m:           (F, 41, 3) metres in camera space at the track's own frames, ``LANDMARKS_41``; NaN outside the
                       motion and where it is unknown
    """

    offset_s: float
    camera: Camera
    camera_from_world: np.ndarray
    miss_px: float
    miss_of_box: float
    agreed: np.ndarray
    exchanged: np.ndarray
    truth_m: np.ndarray

    def told(self) -> str:
        """What was found, for a person to read."""
        known = np.isfinite(self.truth_m).all(axis=-1).any(axis=1)
        text = (
            f"motion time is footage time {self.offset_s:+.3f} s, keypoints lie {self.miss_px:.1f} px "
            f"({self.miss_of_box:.1%} of the person's height) off, {self.agreed.sum()} of {known.sum()} frames agree"
        )
        if self.exchanged.any():
            text += f", left and right were exchanged in {self.exchanged.sum()}"
        return text


@dataclass(frozen=True, eq=False)
class _Match:
    """A camera and a clock, (F,) which frames have their sides exchanged, and (F, 21) how far all is off.

    F are frames of all of the footage, or of a part of it that is spread over the whole.
    """

    fit: CameraFit
    exchanged: np.ndarray
    misses: np.ndarray

    @property
    def typical(self) -> float:
        """Half of the keypoints miss by more, parts of the box."""
        return float(np.nanmedian(self.misses)) if np.isfinite(self.misses).any() else np.inf

    @property
    def compared(self) -> float:
        """Root of the mean square of all but the worst misses."""
        known = np.sort(self.misses[np.isfinite(self.misses)])
        if not len(known):
            return np.inf
        return float(np.sqrt((known[: max(1, int(_COMPARED_SHARE * len(known)))] ** 2).mean()))


@dataclass(frozen=True, eq=False)
class _Given:
    """What the caller knows. place: the camera's turn and move, where known."""

    place: CameraFit | None
    lens: bool
    offset_s: float | None

    @property
    def known(self) -> Known:
        return Known(lens=self.lens, place=self.place is not None, offset=self.offset_s is not None)


def _frame_medians(misses: np.ndarray) -> np.ndarray:
    """(F, 21) -> (F,), NaN where nothing is known."""
    medians = np.full(len(misses), np.nan)
    rows = np.isfinite(misses).any(axis=1)
    medians[rows] = np.nanmedian(misses[rows], axis=1)
    return medians


def _matched(fit: CameraFit, seen: SeenSide, motion: MotionSide) -> _Match:
    every = np.ones(len(seen.time_s), bool)
    plain, turned = misses_of_box(fit, seen, motion), misses_of_box(fit, seen.exchanged(every), motion)
    exchanged = _frame_medians(turned) < _EXCHANGED_BY * _frame_medians(plain)
    return _Match(fit, exchanged, np.where(exchanged[:, None], turned, plain))


def _refined(match: _Match, seen: SeenSide, motion: MotionSide, known: Known, frames: int, steps: int) -> _Match:
    """The match with a better camera and clock, after sides are put right."""
    fit = fit_camera(match.fit, seen.exchanged(match.exchanged), motion, known, frames, steps)
    return _matched(fit, seen, motion)


def _shared_s(seen: SeenSide, motion: MotionSide) -> float:
    """For how long both must be there at once."""
    seen_s = float((seen.weight > 0).any(axis=1).sum()) / seen.fps
    return max(_SHORTEST_S, _SHARED_PART * min(seen_s, motion.length_s))


def _scanned(seen: SeenSide, motion: MotionSide, given: _Given, at_least_s: float, starts: int) -> OffsetScan:
    only_s = given.offset_s
    if given.place is None:
        return scan_offsets(seen, motion, at_least_s=at_least_s, count=starts, only_s=only_s)
    return scan_offsets_of_camera(
        given.place, given.lens, seen, motion, at_least_s=at_least_s, count=starts, only_s=only_s
    )


def _matches(seen: SeenSide, motion: MotionSide, given: _Given, starts: int) -> list[_Match]:
    """The best offsets, each with the camera that fits best there; the best first.

    Sought with left and right as they are called, and without asking which is which: a detector may confuse them for a
    good part of a clip.
    """
    found = []
    at_least_s, some, motion_halves = _shared_s(seen, motion), seen.thinned(_MATCHED_FRAMES), motion.between_sides()
    for footage, shown, body in (
        (seen, some, motion),
        (seen.between_sides(), some.between_sides(), motion_halves),
    ):
        scan = _scanned(footage, body, given, at_least_s, starts)
        for start in scan.starts:
            fit = fit_camera(start, shown, body, given.known, _FRAMES_TO_START, _STEPS_TO_START)
            match = _matched(fit, some, motion)
            for _ in range(2):
                match = _refined(match, some, motion, given.known, _FRAMES_TO_START, _STEPS_TO_START)
            found.append(match)
    return sorted(found, key=lambda match: match.compared)


def _checked(track: KeypointTrack, positions_m: np.ndarray, fps: float) -> MotionSide:
    shape = np.shape(positions_m)
    if len(shape) != 3 or shape[1:] != (len(LANDMARKS_41), 3):
        raise FileFormatError(f"A motion has the shape (frames, {len(LANDMARKS_41)}, 3), not {shape}.")
    if not (np.isfinite(fps) and 1 <= fps <= 2000):
        raise FileFormatError(f"{fps:g} is no frame rate of a motion. Give frames a second.")
    if shape[0] > MAX_MOTION_FRAMES:
        raise FileFormatError(f"The motion has {shape[0]} frames, more than can be paired. Cut it to the take.")
    motion = motion_side(positions_m, fps)
    known = int(np.isfinite(motion.sites_m).all(axis=-1).any(axis=1).sum())
    if known < _FEWEST_FRAMES or known / fps < _SHORTEST_S:
        raise FileFormatError(
            f"The motion is too short to be paired: {known} frames of it are known, {known / fps:.2g} s at {fps:g} a "
            f"second, and {_SHORTEST_S:g} s is needed. Give more of it, or its true rate (fps) if that is not it."
        )
    seen = int(track.seen.sum())
    if seen < _FEWEST_FRAMES or float(np.ptp(track.time_s)) < _SHORTEST_S:
        raise FileFormatError(
            f"The person is seen in {seen} frames of the footage: too few to pair a motion with. "
            f"{_SHORTEST_S:g} s is needed."
        )
    return motion


def _placed(camera_from_world: np.ndarray | None) -> CameraFit | None:
    if camera_from_world is None:
        return None
    matrix = np.asarray(camera_from_world, float)
    turn = matrix[:3, :3] if matrix.shape == (4, 4) else np.zeros((3, 3))
    rigid = bool(np.isfinite(matrix).all()) and np.allclose(turn @ turn.T, np.eye(3), atol=1e-3)
    if not (rigid and np.linalg.det(turn) > 0 and np.allclose(matrix[3], [0, 0, 0, 1])):
        raise FileFormatError(
            "camera_from_world must be four rows of four numbers, a turn and a move in metres, from a world with y up "
            "to a camera with x right, y down and z forward."
        )
    return CameraFit(turn, matrix[:3, 3], 1.0, 0.0)


def _other_rate(match: _Match | None, seen: SeenSide, motion: MotionSide, given: _Given, progress: Progress) -> None:
    """Raise FileFormatError when the motion fits clearly better if it has another frame rate."""
    free = replace(given, offset_s=None)
    # With an offset that is wrong no rate fits, so the others are held against the best that this one can do.
    as_said = [
        *([match] if match else []),
        *(_matches(seen, motion, free, _STARTS) if given.offset_s is not None else []),
    ]
    as_good_as = min([_FITS_OF_BOX, *(said.typical for said in as_said)])
    limit = min([np.inf, *(said.compared for said in as_said)]) * _CLEARLY_BETTER
    better: tuple[float, float] | None = None
    for done, rate in enumerate(RATES):
        report(progress, done + 1, len(RATES) + 2)
        if abs(rate / motion.fps - 1) < _SAME_RATE:
            continue
        found = _matches(seen, replace(motion, fps=rate), free, _STARTS_OF_OTHER_RATES)
        if found and found[0].typical < as_good_as and found[0].compared < limit:
            better, limit = (rate, found[0].typical), found[0].compared
    if better is not None:
        rate, typical = better
        now = f"; now they lie {match.typical:.1%} of the person's height off" if match and match.typical < 1 else ""
        raise FileFormatError(
            f"The motion fits the footage if it has {rate:g} frames a second, not {motion.fps:g} (keypoints then lie "
            f"{typical:.1%} of the person's height off{now}). Say the rate that it was captured at (fps)."
        )


def _refuse_contradiction(match: _Match | None, seen: SeenSide, motion: MotionSide, given: _Given) -> None:
    if match is None:
        raise FileFormatError(
            f"Footage and motion hardly overlap: {_shared_s(seen, motion):.2g} s of both are needed at once"
            + ("." if given.offset_s is None else f", and offset_s = {given.offset_s:g} gives less.")
            + " Check that the motion is of this take."
        )
    if match.typical > _FITS_OF_BOX:
        asked = [
            *(["offset_s"] if given.offset_s is not None else []),
            *(["camera"] if given.lens else []),
            *(["camera_from_world"] if given.place is not None else []),
        ]
        check = f" Check {', '.join(asked)}, or leave them out to have them found." if asked else ""
        raise FileFormatError(
            f"The motion contradicts the footage: even at its best, keypoints lie {match.typical:.1%} of the person's "
            f"height from where the motion has them ({_FITS_OF_BOX:.1%} is the most that detectors are off). It may "
            f"be another take or person, or filmed by a camera that moves.{check}"
        )


def _refuse_mirror(match: _Match | None, seen: SeenSide, motion: MotionSide, given: _Given) -> None:
    """Raise FileFormatError when the motion's mirror image fits better, or sides are named the wrong way throughout.

    A mirrored body is like one with exchanged sides seen from behind, but for what is near to look larger.
    """
    told = np.isfinite(match.misses).any(axis=1) if match else np.zeros(0, bool)
    share = float(match.exchanged[told].mean()) if match and told.any() else 1.0
    bad = match is None or match.typical > _FITS_OF_BOX
    if not bad and share < _SOME_EXCHANGED:
        return
    # The mirror may stand anywhere, so where the camera stands before it is not known.
    anywhere = replace(given, place=None)
    mirrored = _matches(seen, motion.mirrored(), anywhere, _STARTS_OF_OTHER_RATES)
    as_it_is = [match] if match else []
    if given.place is not None:
        as_it_is += _matches(seen, motion, anywhere, _STARTS_OF_OTHER_RATES)
    limit = _CLEARLY_MIRRORED * min([np.inf, *(plain.compared for plain in as_it_is)])
    if mirrored and mirrored[0].typical < _FITS_OF_BOX and mirrored[0].compared < limit:
        raise FileFormatError(
            "The footage shows the motion's mirror image. Mirror the footage back, or exchange left and right in the "
            "motion's joint map if they are named wrongly there."
        )
    if not bad and share > _ALL_EXCHANGED:
        raise FileFormatError(
            "Left and right of footage and motion are exchanged from beginning to end. Exchange them in the motion's "
            "joint map, or repair the keypoints."
        )


def _refuse_ambiguity(best: _Match, others: list[_Match]) -> None:
    limit = _AS_GOOD * best.compared + _NOTHING_OF_BOX
    as_good = [
        other
        for other in others
        if abs(other.fit.offset_s - best.fit.offset_s) > _ANOTHER_OFFSET_S and other.compared < limit
    ]
    if as_good:
        offsets = sorted({round(match.fit.offset_s, 2) for match in [best, *as_good]})
        raise FileFormatError(
            f"The motion fits the footage equally well at several offsets ({', '.join(f'{at:g}' for at in offsets)} "
            "s): it repeats itself or hardly moves. Give the right one as offset_s."
        )


def pair(
    track: KeypointTrack,
    positions_m: np.ndarray,
    fps: float,
    *,
    camera: Camera | None = None,
    camera_from_world: np.ndarray | None = None,
    offset_s: float | None = None,
    progress: Progress = silent,
) -> Pairing:
    """Find when and from where ``track`` shows a motion, as far as that is not known, and whether it does at all.

    positions_m:       (M, 41, 3) metres, y up, ``LANDMARKS_41``, NaN where unknown
    fps:               the motion's frames a second
    camera:            the lens; guessed without distortion and refined when None
    camera_from_world: (4, 4) where the camera stands; it does not move
    offset_s:          motion time minus footage time

    Raises FileFormatError when the motion is too short, contradicts the footage (another take, mirrored), fits with
    another frame rate, or fits at several offsets equally well. Raises Cancelled when ``progress`` asks for it.
    """
    motion = _checked(track, positions_m, fps)
    place = _placed(camera_from_world)
    if offset_s is not None and not np.isfinite(offset_s):
        raise FileFormatError("offset_s must be a finite number of seconds.")
    lens = camera.resized(track.size_px) if camera is not None else Camera.guessed(track.size_px)
    given = _Given(place, camera is not None, offset_s)
    seen = seen_side(track, lens)

    report(progress, 0, len(RATES) + 2)
    found = _matches(seen, motion, given, _STARTS)
    best = found[0] if found else None
    if offset_s is None or best is None or best.typical > _FITS_OF_BOX:
        _other_rate(best, seen, motion, given, progress)
    _refuse_mirror(best, seen, motion, given)
    _refuse_contradiction(best, seen, motion, given)
    assert best is not None
    finished = [
        _refined(_matched(match.fit, seen, motion), seen, motion, given.known, _FRAMES_TO_FINISH, _STEPS_TO_FINISH)
        for match in found
        if match.compared < 1.5 * best.compared + _NOTHING_OF_BOX
    ]
    finished.sort(key=lambda match: match.compared)
    _refuse_ambiguity(finished[0], finished[1:])
    report(progress, len(RATES) + 2, len(RATES) + 2)
    return _paired(finished[0], track, lens, motion)


def _paired(match: _Match, track: KeypointTrack, lens: Camera, motion: MotionSide) -> Pairing:
    fit = match.fit
    focal = lens.focal_px[0] * fit.longer, lens.focal_px[1] * fit.longer
    camera = replace(lens, focal_px=focal)
    camera_from_world = np.eye(4)
    camera_from_world[:3, :3], camera_from_world[:3, 3] = fit.turn, fit.move_m
    times_s = track.time_s + fit.offset_s
    truth_m = motion.positions_at(times_s) @ fit.turn.T + fit.move_m
    in_pixels = camera.project(motion.sites_at(times_s) @ fit.turn.T + fit.move_m)
    xy_px, _ = lifter_points(track)
    right_px = np.where(match.exchanged[:, None, None], xy_px[:, MIRRORED], xy_px)
    off_px = np.linalg.norm(in_pixels - right_px, axis=-1)[np.isfinite(match.misses)]
    return Pairing(
        offset_s=fit.offset_s,
        camera=camera,
        camera_from_world=camera_from_world,
        miss_px=float(np.nanmedian(off_px)),
        miss_of_box=match.typical,
        agreed=_frame_medians(match.misses) < _AGREES_OF_BOX,
        exchanged=match.exchanged,
        truth_m=truth_m,
    )
