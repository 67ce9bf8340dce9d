"""Keypoints as tracks of a movie clip, where Blender artists correct them.

Each person is a tracking object of the clip, so that the artist's own tracks and camera solves know nothing of them,
and each keypoint is one of its tracks, with a marker on every frame that shows a picture; a keypoint that was not seen
has a disabled one. What was detected is kept beside it, in a property of the clip, and travels with it.

A correction is what differs from that: a marker that was moved, enabled, disabled or deleted. Markers are written as
tracked ones; Blender makes a keyframe of a marker that is moved by hand, and the artist (key I) of one that is right as
it is. Both count as said by a person, whatever the distance. Of a deleted track all is as detected.

Detecting again replaces what was detected, and keeps corrections: they lie where they lay, on the person whose
keypoints are nearest to those that they were made on. Corrections that find no place, for the footage is another, or
the person or the frame is gone, stay in a tracking object of their own.
"""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from idprop.types import IDPropertyArray, IDPropertyGroup

from ..core import track_files
from ..core.errors import FileFormatError, KeyliftError, NobodyFoundError, OutputError
from ..core.skeletons import KEYPOINT_LAYOUTS, mirrored_layout
from ..core.tracks import Change, KeypointTrack
from .clip_frames import Turn, clip_frames, clip_from_picture, is_shown, picture_from_clip, picture_turn

CORRECTED = int(getattr(Change, "CORRECTED", 7))
# A marker that lies within this of where it was put is where it was put.
MOVED_PX = 0.25
_KEY = re.compile(r"keylift_person_([1-9]\d{0,3})")
# Two hours of 60 frames a second.
_MOST_FRAMES = 500_000
_MOST_BYTES = 256 << 20
# A marker's square, as a share of the person's height, and its bounds.
_PATTERN, _PATTERN_PX = 0.012, (7.0, 21.0)
_SEARCH = 2.5
# A marker so many pictures away, or at no number, is broken.
_NOWHERE = 1000.0
# Keypoints of the same person, seen twice, lie within this share of the person's height.
_SAME_PERSON = 0.15
# A renamed track is told by this share of its markers being where they were put.
_SAME_TRACK, _SAME_PLACE = 0.5, 1e-4
_MOST_REMEMBERED = 16
# From doubtful to sure; told apart by people who see no red or no green.
_COLOURS = np.array([[0.84, 0.2, 0.0], [0.95, 0.65, 0.0], [0.95, 0.9, 0.3], [0.35, 0.75, 0.95], [0.0, 0.45, 0.9]])


@dataclass(frozen=True, eq=False)
class Detection:
    """What the detector saw of a person, and where it lies in a clip.

    frames: (F,) clip frame at which each picture first shows
    turn:   how the clip's picture has to be turned to be upright
    object: name of the tracking object when it was written
    stamp:  tells one detection from another
    """

    track: KeypointTrack
    frames: np.ndarray
    turn: Turn
    object: str
    stamp: str

    @cached_property
    def names(self) -> tuple[str, ...]:
        """(K,) the keypoints' names, which their tracks have."""
        return KEYPOINT_LAYOUTS[self.track.layout]

    @cached_property
    def rows(self) -> np.ndarray:
        """(S,) the rows of the track whose picture Blender shows."""
        return np.flatnonzero(is_shown(self.frames))

    @cached_property
    def shown_frames(self) -> np.ndarray:
        """(S,) the frames that they show at, growing."""
        return self.frames[self.rows]

    @cached_property
    def seen(self) -> np.ndarray:
        """(S, K) whether a keypoint was seen."""
        return np.isfinite(self.track.xy_px[self.rows]).all(axis=-1)

    @cached_property
    def co(self) -> np.ndarray:
        """(S, K, 2) float32, where markers are put; unseen ones where the seen ones around let expect them."""
        placed = clip_from_picture(self.track.xy_px[self.rows], self.track.size_px, self.turn)
        along = np.arange(len(self.rows))
        for point in range(len(self.names)):
            seen = self.seen[:, point]
            for axis in (0, 1):
                known = placed[seen, point, axis] if seen.any() else [0.5]
                placed[~seen, point, axis] = np.interp(along[~seen], along[seen] if seen.any() else [0], known)
        return placed.astype(np.float32)

    @cached_property
    def clip_size_px(self) -> np.ndarray:
        """(2,) how many of the upright picture's pixels the clip is wide and high."""
        width, height = self.track.size_px
        return np.array([width, height] if self.turn[0] else [height, width], float)

    def shown_at(self, clip_frame: int) -> int | None:
        """Which of the S rows shows at a frame; None before the first, and after the last."""
        place = int(np.searchsorted(self.shown_frames, clip_frame, side="right")) - 1
        outside = place < 0 or clip_frame > self.shown_frames[-1]
        return None if outside else place

    def apart_px(self, co: np.ndarray, other: np.ndarray) -> np.ndarray:
        """(...) how far points of the clip lie from each other, in pixels of the upright picture."""
        return np.linalg.norm((co - other) * self.clip_size_px, axis=-1)


@dataclass(frozen=True, eq=False)
class Marks:
    """What a person's tracks say of each picture that Blender shows.

    co:        (S, K, 2) float32 where the markers are
    seen:      (S, K) whether they are enabled
    keyed:     (S, K) whether a person has said that they are right
    exchanged: (S, K) whether they were given the place of their counterpart, and corrected from there
    there:     (K,) whether the keypoint has a track
    """

    co: np.ndarray
    seen: np.ndarray
    keyed: np.ndarray
    exchanged: np.ndarray
    there: np.ndarray

    def corrected(self, detection: Detection) -> np.ndarray:
        """(S, K) where they say something else than the detector, or the same, but said by a person."""
        moved = detection.apart_px(self.co, detection.co) > MOVED_PX
        return self.there & ((self.seen != detection.seen) | (self.seen & (moved | self.keyed)))

    def base(self, detection: Detection) -> np.ndarray:
        """(S, K, 2) where the markers were before they were moved one by one."""
        other = detection.co[:, mirrored_layout(detection.names)]
        return np.where(self.exchanged[..., None], other, detection.co)


@dataclass(frozen=True, eq=False)
class CorrectedKeypoints:
    """A person's keypoints with what the artist made of them.

    track:     corrections applied
    corrected: (F, K) where
    warnings:  what may differ from what the artist meant
    """

    track: KeypointTrack
    corrected: np.ndarray
    warnings: tuple[str, ...]


# ---- Read -----------------------------------------------------------------------------------------------------------


def people(clip: bpy.types.MovieClip) -> list[int]:
    """The people whose keypoints the clip has, counted from 1."""
    found = (_KEY.fullmatch(key) for key in clip.keys())  # noqa: SIM118
    return sorted(int(match[1]) for match in found if match is not None)


def read_keypoints(clip: bpy.types.MovieClip, person: int) -> KeypointTrack:
    """The person's keypoints, corrections included: sure, or gone where disabled, and marked ``Change.CORRECTED``.

    Raises NobodyFoundError when the clip has no such person, FileFormatError when what it keeps is damaged.
    """
    return corrected_keypoints(clip, person).track


def corrected_rows(clip: bpy.types.MovieClip, person: int) -> np.ndarray:
    """(F,) which pictures of the person's track have a corrected keypoint. Raises as ``read_keypoints``."""
    return corrected_keypoints(clip, person).corrected.any(axis=1)


def corrected_keypoints(clip: bpy.types.MovieClip, person: int) -> CorrectedKeypoints:
    """The person's keypoints with corrections, and what is worth telling. Raises as ``read_keypoints``.

    A keypoint that was exchanged with its counterpart, and lies where the detector saw that one, is as sure as it was
    there; every other one that was corrected is sure. A picture that Blender never shows goes along with the one that
    is shown in its stead.
    """
    detection = detection_of(clip, person)
    marks = read_marks(clip, person)
    track = detection.track
    place = np.searchsorted(detection.shown_frames, detection.frames)
    corrected = marks.corrected(detection)
    xy_px = picture_from_clip(marks.co, track.size_px, detection.turn)
    moved_px = (xy_px - track.xy_px[detection.rows])[place]
    moved_px = np.where(np.isfinite(moved_px), track.xy_px + moved_px, xy_px[place])
    changed = corrected[place]
    seen = marks.seen[place]
    confidence = np.where(changed, _confidence(detection, marks)[place], track.confidence)
    warnings = []
    gone = [name for name, there in zip(detection.names, marks.there, strict=True) if not there]
    if len(gone) == len(detection.names):
        warnings.append(f"The tracks of person {person} were deleted; the keypoints are taken as they were detected.")
    elif gone:
        listed = ", ".join(gone[:3]) + (f" and {len(gone) - 3} more" if len(gone) > 3 else "")
        warnings.append(f"Tracks of person {person} were deleted, and are taken as they were detected: {listed}.")
    return CorrectedKeypoints(
        KeypointTrack(
            xy_px=np.where(changed[..., None], np.where(seen[..., None], moved_px, np.nan), track.xy_px),
            confidence=np.where(changed & ~seen, 0.0, confidence),
            time_s=track.time_s,
            frame_index=track.frame_index,
            layout=track.layout,
            size_px=track.size_px,
            filled=track.filled,
            source=track.source,
            detector=track.detector,
            person=track.person,
            changes=np.where(changed, CORRECTED, track.changes).astype(np.uint8),
        ),
        changed,
        tuple(warnings),
    )


def _confidence(detection: Detection, marks: Marks) -> np.ndarray:
    """(S, K) how sure a keypoint is that was corrected."""
    other = mirrored_layout(detection.names)
    exchanged = detection.apart_px(marks.co, detection.co[:, other]) <= MOVED_PX
    exchanged &= detection.seen[:, other] & ~marks.keyed & (other != np.arange(len(other)))
    return np.where(exchanged, detection.track.confidence[detection.rows][:, other], 1.0)


def read_marks(clip: bpy.types.MovieClip, person: int) -> Marks:
    """What the person's tracks say. Raises as ``read_keypoints``."""
    detection = detection_of(clip, person)
    co, seen = detection.co.copy(), np.zeros_like(detection.seen)
    keyed = np.zeros_like(seen)
    tracks = tracks_of(clip, person)
    for point, track in enumerate(tracks):
        if track is not None:
            _read_track(track, detection, co[:, point], seen[:, point], keyed[:, point])
    there = np.array([track is not None for track in tracks])
    seen[:, ~there] = detection.seen[:, ~there]
    return Marks(co, seen, keyed, _exchanged(clip, person, seen.shape), there)


def _read_track(track: Any, detection: Detection, co: np.ndarray, seen: np.ndarray, keyed: np.ndarray) -> None:
    """Fill (S, 2), (S,) and (S,) from the markers of a track; a marker that was deleted leaves what is there."""
    frames, all_co, mute, is_keyed = _markers(track)
    place = np.searchsorted(detection.shown_frames, frames, side="right") - 1
    within = (place >= 0) & (frames <= detection.shown_frames[-1])
    exact = within & (detection.shown_frames[place] == frames)
    # A picture may stay for several frames, and be corrected on any of them: what was done last in time holds.
    touched_later = within & ~exact & (is_keyed | mute)
    somewhere = (np.abs(all_co) < _NOWHERE).all(axis=-1)
    for some in (exact & somewhere, touched_later & somewhere):
        co[place[some]], seen[place[some]], keyed[place[some]] = all_co[some], ~mute[some], is_keyed[some]


def _markers(track: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(M,) frames, (M, 2) places, (M,) whether disabled, (M,) whether a keyframe, of a track in order of frames."""
    count = len(track.markers)
    frames, co = np.empty(count, np.int32), np.empty(count * 2, np.float32)
    mute, keyed = np.empty(count, bool), np.empty(count, bool)
    for name, array in (("frame", frames), ("co", co), ("mute", mute), ("is_keyed", keyed)):
        track.markers.foreach_get(name, array)
    return frames, co.reshape(-1, 2) + np.array(track.offset, np.float32), mute, keyed


# ---- Tracks ---------------------------------------------------------------------------------------------------------

_found_objects: OrderedDict[tuple[str, ...], str | None] = OrderedDict()
_found_tracks: OrderedDict[tuple[str, ...], list[int | None]] = OrderedDict()


def tracking_object(clip: bpy.types.MovieClip, person: int) -> Any:
    """The tracking object that has the person's tracks, renamed or not; None when it was deleted."""
    detection = detection_of(clip, person)
    objects = clip.tracking.objects
    if detection.object in objects:
        return objects[detection.object]
    names = (detection.stamp, *objects.keys())
    if names not in _found_objects:
        _remember(_found_objects, names, _renamed_object(clip, detection, person))
    name = _found_objects[names]
    return None if name is None else objects[name]


def _renamed_object(clip: bpy.types.MovieClip, detection: Detection, person: int) -> str | None:
    """Of the objects that are nobody's, the one with tracks of these names whose markers are most like ours."""
    others = {_item(clip.get(_key(other)), "object") for other in people(clip) if other != person}
    likeness = {}
    for candidate in clip.tracking.objects:
        if candidate.is_camera or candidate.name in others:
            continue
        shares = [
            _share_in_place(candidate.tracks[name], detection)[point]
            for point, name in enumerate(detection.names)
            if name in candidate.tracks
        ]
        if len(shares) * 2 >= len(detection.names):
            likeness[candidate.name] = float(np.mean(shares))
    likeness = {name: share for name, share in likeness.items() if share >= _SAME_TRACK}
    return max(likeness, key=lambda name: likeness[name], default=None)


def tracks_of(clip: bpy.types.MovieClip, person: int) -> list[Any]:
    """(K,) the track of each keypoint, renamed or not; None for those that were deleted."""
    detection = detection_of(clip, person)
    owner = tracking_object(clip, person)
    if owner is None:
        return [None] * len(detection.names)
    names = (detection.stamp, *owner.tracks.keys())
    if names not in _found_tracks:
        _remember(_found_tracks, names, _tracks_by_name_or_content(owner, detection))
    return [None if index is None else owner.tracks[index] for index in _found_tracks[names]]


def _tracks_by_name_or_content(owner: Any, detection: Detection) -> list[int | None]:
    names = list(owner.tracks.keys())
    found = [names.index(name) if name in names else None for name in detection.names]
    missing = [point for point, index in enumerate(found) if index is None]
    for index, track in enumerate(owner.tracks):
        if missing and index not in found:
            shares = _share_in_place(track, detection)[missing]
            if shares.max() >= _SAME_TRACK:
                found[missing.pop(int(shares.argmax()))] = index
    return found


def _share_in_place(track: Any, detection: Detection) -> np.ndarray:
    """(K,) the share of a track's markers that are where those of each keypoint were put."""
    frames, co, _, _ = _markers(track)
    place = np.minimum(np.searchsorted(detection.shown_frames, frames), len(detection.shown_frames) - 1)
    same = detection.shown_frames[place] == frames
    near = np.abs(detection.co[place] - co[:, None]).max(axis=-1) < _SAME_PLACE
    return (near & same[:, None]).mean(axis=0)


def _remember(memory: OrderedDict[Any, Any], key: Any, value: Any) -> None:
    memory[key] = value
    while len(memory) > _MOST_REMEMBERED:
        memory.popitem(last=False)


# ---- What was detected ----------------------------------------------------------------------------------------------

_detections: OrderedDict[str, Detection] = OrderedDict()


def detection_of(clip: bpy.types.MovieClip, person: int) -> Detection:
    """What the clip keeps of the person. Raises NobodyFoundError, or FileFormatError when it is damaged.

    A .blend may come from anywhere: nothing in it is trusted.
    """
    kept = clip.get(_key(person))
    if kept is None:
        raise NobodyFoundError(f"'{clip.name}' has no keypoints of person {person}. Press Detect.")
    stamp = _item(kept, "stamp")
    if isinstance(stamp, str) and stamp in _detections:
        return _detections[stamp]
    try:
        detection = _unpacked(kept)
    except (KeyliftError, TypeError, ValueError, OverflowError) as problem:
        raise FileFormatError(
            f"What '{clip.name}' keeps of the keypoints of person {person} is damaged: {problem} Press Detect again."
        ) from problem
    _remember(_detections, detection.stamp, detection)
    return detection


def _key(person: int) -> str:
    return f"keylift_person_{person}"


def _item(group: Any, name: str) -> Any:
    return group.get(name) if isinstance(group, IDPropertyGroup) else None


def _unpacked(kept: Any) -> Detection:
    content, name, stamp = (_item(kept, item) for item in ("keypoints", "object", "stamp"))
    if not isinstance(content, bytes) or not isinstance(name, str) or not isinstance(stamp, str):
        raise FileFormatError("parts of it are missing.")
    track = _track_in(content)
    frames, turn = _whole_numbers(kept, "frames"), _whole_numbers(kept, "turn")
    if frames.shape != track.time_s.shape or (np.diff(frames) < 0).any():
        raise FileFormatError("its frames are not those of its keypoints.")
    if turn.shape != (4,) or sorted(np.abs(turn)) != [0, 0, 1, 1] or abs(turn[0] * turn[3] - turn[1] * turn[2]) != 1:
        raise FileFormatError("it lies in no way that a picture can lie.")
    a, b, c, d = (int(value) for value in turn)
    return Detection(track, frames, (a, b, c, d), name, stamp)


def _whole_numbers(kept: Any, name: str) -> np.ndarray:
    values = _item(kept, name)
    if not isinstance(values, IDPropertyArray) or values.typecode != "i" or len(values) > _MOST_FRAMES:
        raise FileFormatError(f"its {name} are no whole numbers.")
    return np.array(values, np.int64)


def _exchanged(clip: bpy.types.MovieClip, person: int, shape: tuple[int, ...]) -> np.ndarray:
    """What is kept of exchanges; nothing where it is damaged, as only spreading goes by it."""
    kept = _item(clip.get(_key(person)), "exchanged")
    count = shape[0] * shape[1]
    if not isinstance(kept, bytes) or len(kept) != (count + 7) // 8:
        return np.zeros(shape, bool)
    return np.unpackbits(np.frombuffer(kept, np.uint8), count=count).reshape(shape).astype(bool)


def _keep_exchanged(clip: bpy.types.MovieClip, person: int, exchanged: np.ndarray) -> None:
    kept = clip[_key(person)]
    if "exchanged" in kept:
        # Bytes that take the place of others are cut off at the first zero.
        del kept["exchanged"]
    kept["exchanged"] = np.packbits(exchanged).tobytes()


def _packed(track: KeypointTrack) -> bytes:
    """The content of a ``*.keypoints.npz`` file."""
    with _scratch_file() as path:
        track_files.write_keypoints(path, track)
        return path.read_bytes()


def _track_in(content: bytes) -> KeypointTrack:
    """The track in the content of a ``*.keypoints.npz`` file. Raises FileFormatError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, OSError, NotImplementedError) as problem:
        raise FileFormatError(f"{problem}.") from problem
    if size > _MOST_BYTES:
        raise FileFormatError("it is far larger than keypoints ever are.")
    with _scratch_file() as path:
        path.write_bytes(content)
        try:
            track = track_files.read_keypoints(path)
        except FileFormatError as problem:
            raise FileFormatError(str(problem).replace(f"'{path}' ", "it ")) from problem
    if len(track.time_s) > _MOST_FRAMES:
        raise FileFormatError("it is far longer than keypoints ever are.")
    return track


@contextmanager
def _scratch_file() -> Iterator[Path]:
    try:
        with tempfile.TemporaryDirectory(prefix="keylift-", ignore_cleanup_errors=True) as folder:
            yield Path(folder) / "kept.keypoints.npz"
    except OSError as problem:
        raise OutputError(
            f"The folder for temporary files can't be used: {problem}. Free some space there."
        ) from problem


# ---- Write ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Earlier:
    """What the clip has of a person from before; ``owner`` is None where its tracking object was deleted."""

    detection: Detection
    marks: Marks
    owner: Any
    tracks: list[Any]

    @property
    def corrections(self) -> int:
        return int(self.marks.corrected(self.detection).sum())


@dataclass(eq=False)
class _Plan:
    """What is to be written of a person."""

    detection: Detection
    marks: Marks
    kept: int = 0


def write_keypoints(clip: bpy.types.MovieClip, track: KeypointTrack, person: int) -> list[str]:
    """Make what was detected of a person tracks of the clip, in place of those of an earlier detection.

    Corrections are kept where footage, layout and person are the same; others stay in a tracking object of their own.
    Returns what is worth telling. Raises KeyliftError when the clip can't be written to.
    """
    return _replace(clip, {person: track}, [person] if person in people(clip) else [])


def write_everybody(clip: bpy.types.MovieClip, tracks: Sequence[KeypointTrack]) -> list[str]:
    """Make what was detected tracks of the clip, person 1 first, in place of all earlier detections.

    Corrections go along with whom they were made on, even where people are counted in another order now; those that
    find no place stay in tracking objects of their own. Returns and raises as ``write_keypoints``.
    """
    return _replace(clip, dict(enumerate(tracks, start=1)), people(clip))


def remove_keypoints(clip: bpy.types.MovieClip, person: int) -> list[str]:
    """Take a person's tracks out of the clip; corrected ones stay in a tracking object of their own."""
    return _replace(clip, {}, [person])


def show_person(clip: bpy.types.MovieClip, person: int) -> bool:
    """Make the person's tracks those that the clip editor shows. False when they were deleted."""
    owner = tracking_object(clip, person)
    if owner is None:
        return False
    clip.tracking.objects.active = owner
    return True


def _replace(clip: bpy.types.MovieClip, tracks: dict[int, KeypointTrack], among: list[int]) -> list[str]:
    """Write people, and take away those of ``among`` whom nobody follows."""
    if clip.library is not None:
        raise KeyliftError(
            f"'{clip.name}' is linked from another file and can't get tracks here. Open that file, or load the footage "
            "in this one."
        )
    active = clip.tracking.objects.active.name
    earlier = {person: found for person in among if (found := _earlier(clip, person)) is not None}
    plans = {number: _plan(clip, track) for number, track in tracks.items()}
    told = _turn_note(clip, tracks)
    homeless = {person: found.corrections for person, found in earlier.items()}
    for number, person in _heirs(earlier, plans).items():
        plans[number].kept, homeless[person] = _carry(earlier[person], plans[number])
        if plans[number].kept:
            told.append(f"{plans[number].kept} corrections of person {number} were kept")
    for person, found in earlier.items():
        same_layout = person in plans and plans[person].detection.names == found.detection.names
        if found.owner is not None and (homeless[person] or not same_layout):
            told += _let_go(clip, found, homeless[person])
            earlier[person] = replace(found, owner=None)
    for person in among:
        del clip[_key(person)]
    for number, plan in plans.items():
        _write(clip, number, plan, earlier.get(number))
    if tracks:
        # Blender leaves out of a file what nothing in it uses, and with it the artist's work.
        clip.use_fake_user = True
    if active in clip.tracking.objects:
        clip.tracking.objects.active = clip.tracking.objects[active]
    clip.update_tag()
    return told


def _earlier(clip: bpy.types.MovieClip, person: int) -> _Earlier | None:
    """What the clip has of a person; None where it is damaged, for nothing can be told from it."""
    try:
        detection, marks = detection_of(clip, person), read_marks(clip, person)
    except FileFormatError:
        return None
    return _Earlier(detection, marks, tracking_object(clip, person), tracks_of(clip, person))


def _plan(clip: bpy.types.MovieClip, track: KeypointTrack) -> _Plan:
    """A detection as it was made, for this clip."""
    frames = clip_frames(clip, track.time_s, track.frame_index)
    turn, _ = picture_turn(clip, track.size_px)
    detection = Detection(track, frames, turn, "", "")
    seen = detection.seen
    nowhere = np.zeros_like(seen)
    there = np.ones(seen.shape[1], bool)
    return _Plan(detection, Marks(detection.co.copy(), seen.copy(), nowhere, nowhere.copy(), there))


def _turn_note(clip: bpy.types.MovieClip, tracks: dict[int, KeypointTrack]) -> list[str]:
    if all(picture_turn(clip, track.size_px)[1] for track in tracks.values()):
        return []
    return [
        f"Blender {bpy.app.version_string} shows '{clip.name}' lying on its side, and the file doesn't tell on which. "
        "If the keypoints lie wrong, convert the footage to MP4, or use Blender 4.5 or newer"
    ]


def _heirs(earlier: dict[int, _Earlier], plans: dict[int, _Plan]) -> dict[int, int]:
    """Whose corrections each person gets: those made on the keypoints that lie nearest, each only once."""
    nearest = sorted(
        (distance, person, number)
        for person, found in earlier.items()
        for number, plan in plans.items()
        if (distance := _distance(found.detection.track, plan.detection.track)) is not None
    )
    heirs: dict[int, int] = {}
    for _, person, number in nearest:
        if number not in heirs and person not in heirs.values():
            heirs[number] = person
    return heirs


def _distance(before: KeypointTrack, now: KeypointTrack) -> float | None:
    """How far keypoints lie from those of before, in heights of the person; None for another person, or footage."""
    if (before.source.sha256, before.layout, before.size_px) != (now.source.sha256, now.layout, now.size_px):
        return None
    _, old, new = np.intersect1d(before.frame_index, now.frame_index, return_indices=True)
    apart = np.linalg.norm(before.xy_px[old] - now.xy_px[new], axis=-1)
    apart = apart[np.isfinite(apart)]
    if not len(apart):
        return None
    distance = float(np.median(apart)) / _height_px(now)
    return distance if distance <= _SAME_PERSON else None


def _height_px(track: KeypointTrack) -> float:
    """How tall the person usually is in the picture; of nobody, a tenth of the picture."""
    seen = track.xy_px[track.seen]
    if not len(seen):
        return track.size_px[1] / 10
    extent = np.nanmax(seen, axis=1) - np.nanmin(seen, axis=1)
    return max(float(np.median(extent.max(axis=-1))), 1.0)


def _carry(earlier: _Earlier, plan: _Plan) -> tuple[int, int]:
    """Put the earlier corrections into what is to be written. Returns how many found a place, and how many did not."""
    old, new = earlier.detection, plan.detection
    place, point = np.nonzero(earlier.marks.corrected(old))
    index = old.track.frame_index[old.rows][place]
    there = new.track.frame_index[new.rows]
    to = np.minimum(np.searchsorted(there, index), len(there) - 1)
    fits = there[to] == index
    to, place, point = to[fits], place[fits], point[fits]
    xy_px = picture_from_clip(earlier.marks.co[place, point], old.track.size_px, old.turn)
    plan.marks.co[to, point] = clip_from_picture(xy_px, new.track.size_px, new.turn)
    plan.marks.seen[to, point] = earlier.marks.seen[place, point]
    plan.marks.keyed[to, point] = earlier.marks.keyed[place, point]
    # Unless sides are right in what was detected now.
    other = new.co[to, mirrored_layout(new.names)[point]]
    co = plan.marks.co[to, point]
    nearer = new.apart_px(co, other) < new.apart_px(co, new.co[to, point])
    plan.marks.exchanged[to, point] = earlier.marks.exchanged[place, point] & nearer
    return int(fits.sum()), int((~fits).sum())


def _let_go(clip: bpy.types.MovieClip, earlier: _Earlier, homeless: int) -> list[str]:
    """Remove a tracking object, unless an artist's work is in it: then it stays, but is nobody's."""
    ours = {track.name for track in earlier.tracks if track is not None}
    if not homeless and all(track.name in ours for track in earlier.owner.tracks):
        clip.tracking.objects.remove(earlier.owner)
        return []
    earlier.owner.name = f"{earlier.owner.name} (before)"
    what = f"{homeless} corrections have no place in what was detected now" if homeless else "It has tracks of your own"
    return [f"{what}: see the tracking object '{earlier.owner.name}'"]


def _write(clip: bpy.types.MovieClip, person: int, plan: _Plan, earlier: _Earlier | None) -> None:
    detection = plan.detection
    owner, tracks = (None, []) if earlier is None else (earlier.owner, earlier.tracks)
    if owner is None:
        owner = clip.tracking.objects.new(f"Keylift person {person}")
        tracks = [None] * len(detection.names)
    seen = detection.track.seen
    colours = confidence_colours(detection.track.confidence[seen].sum(axis=0) / max(int(seen.sum()), 1))
    half = _pattern_px(detection.track) / 2 / np.array(clip.size if min(clip.size) else detection.clip_size_px)
    for point, name in enumerate(detection.names):
        track = tracks[point]
        if track is None:
            track = _new_track(owner, name, int(detection.shown_frames[0]), half)
        marks = plan.marks
        _put_markers(track, detection.shown_frames, marks.co[:, point], ~marks.seen[:, point], marks.keyed[:, point])
        track.use_custom_color, track.color = True, colours[point]
    _keep(clip, person, detection, owner.name)
    _keep_exchanged(clip, person, plan.marks.exchanged)


def _pattern_px(track: KeypointTrack) -> float:
    return float(np.clip(_PATTERN * _height_px(track), *_PATTERN_PX))


def _new_track(owner: Any, name: str, first: int, half: np.ndarray) -> Any:
    track = owner.tracks.new(name=name, frame=first)
    x, y = half
    track.markers[0].pattern_corners = ((-x, -y), (x, -y), (x, y), (-x, y))
    track.markers[0].search_min, track.markers[0].search_max = -half * _SEARCH, half * _SEARCH
    track.select = track.select_anchor = track.select_pattern = track.select_search = False
    return track


def _put_markers(track: Any, frames: np.ndarray, co: np.ndarray, mute: np.ndarray, keyed: np.ndarray) -> None:
    """Give a track these markers, and no others. frames: (S,) growing, co: (S, 2), mute: (S,), keyed: (S,)"""
    there = np.empty(len(track.markers), np.int32)
    track.markers.foreach_get("frame", there)
    # In order of frames, or Blender moves all later ones for each.
    for frame in np.setdiff1d(frames, there).tolist():
        track.markers.insert_frame(frame)
    for frame in np.setdiff1d(there, frames).tolist():
        track.markers.delete_frame(frame)
    placed = co.astype(np.float32) - np.array(track.offset, np.float32)
    track.markers.foreach_set("co", placed.ravel())
    # Newer numpy's truth values are taken only where they lie side by side.
    track.markers.foreach_set("mute", np.ascontiguousarray(mute))
    track.markers.foreach_set("is_keyed", np.ascontiguousarray(keyed))


def _keep(clip: bpy.types.MovieClip, person: int, detection: Detection, owner: str) -> None:
    content = _packed(detection.track)
    frames, turn = detection.frames.tolist(), list(detection.turn)
    stamp = hashlib.sha256(content + repr((frames, turn, owner)).encode()).hexdigest()
    clip[_key(person)] = {"keypoints": content, "frames": frames, "turn": turn, "object": owner, "stamp": stamp}


def write_marks(clip: bpy.types.MovieClip, person: int, marks: Marks, where: np.ndarray) -> None:
    """Put a person's markers where ``marks`` says, for the pictures and keypoints of (S, K) ``where``."""
    detection = detection_of(clip, person)
    for point, track in enumerate(tracks_of(clip, person)):
        changed = where[:, point]
        if track is None or not changed.any():
            continue
        frames, co, mute, keyed = _markers(track)
        place = np.searchsorted(detection.shown_frames, frames, side="right") - 1
        replaced = (place >= 0) & (frames <= detection.shown_frames[-1]) & changed[place]
        order = np.argsort(together := np.concatenate([frames[~replaced], detection.shown_frames[changed]]))
        _put_markers(
            track,
            together[order],
            np.concatenate([co[~replaced], marks.co[changed, point]])[order],
            np.concatenate([mute[~replaced], ~marks.seen[changed, point]])[order],
            np.concatenate([keyed[~replaced], marks.keyed[changed, point]])[order],
        )
    _keep_exchanged(clip, person, marks.exchanged)
    clip.update_tag()


def confidence_colours(confidence: np.ndarray) -> np.ndarray:
    """(..., 3) from red over yellow to blue, for confidence (...) from 0 to 1."""
    along = np.linspace(0.0, 1.0, len(_COLOURS))
    return np.stack([np.interp(confidence, along, _COLOURS[:, channel]) for channel in range(3)], axis=-1)


CLASSES: tuple[type, ...] = ()
