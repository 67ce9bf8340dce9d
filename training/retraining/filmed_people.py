"""What is known of the people in footage besides their keypoints: corrections, lenses, cameras, and motion capture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.track_files import read_keypoints
from ...core.tracks import KeypointTrack
from ...core.world_alignment import Gravity
from ..pairing.pairs_file import CharacterReader, PairEntry, read_pairs, read_truth
from ..shots.filmed_views import StandingCamera, for_picture, read_calibration, with_refined_turns
from .making import Skipped
from .preparing import FilmedPerson

# What a clip is called, without its ending, and a person in it.
Named = tuple[str, KeypointTrack]
Tell = Callable[[str], None]


class FilmedPeople:
    """Everybody in the footage, one at a time, with all that is known.

    everybody:   gives who was found, with the clips' names: a calibration's cameras and pairs are found by these. It
                 is asked anew each time, so that nobody has to be kept.
    corrections: keypoints files of the same footage, by its hash; of other footage they are people of their own
    camera:      camera.toml, or a calibration of several cameras
    pairs:       a list of motion that was captured meanwhile; read_character: reads it off .blend, .fbx and .glb files

    ``skipped`` grows while people are asked for: pairs that could not be used, and why.
    Raises FileFormatError when a file can't be read, or contradicts the footage.
    """

    def __init__(
        self,
        everybody: Callable[[], Iterable[Named]],
        *,
        corrections: Sequence[Path] = (),
        camera: Path | None = None,
        pairs: Path | None = None,
        read_character: CharacterReader | None = None,
        tell: Tell = lambda _: None,
    ) -> None:
        self.skipped: list[Skipped] = []
        self._everybody, self._corrections, self._read_character = everybody, list(corrections), read_character
        self._tell = tell
        self._lens: Camera | None = None
        self._cameras: dict[str, StandingCamera] = {}
        if camera is not None:
            self._read_camera(camera)
        self._pairs = {} if pairs is None else self._pairs_by_name(pairs)

    def __iter__(self) -> Iterator[FilmedPerson]:
        left = list(self._corrections)
        for name, track in self._everybody():
            corrected = next((path for path in left if _same_person(track, read_keypoints(path))), None)
            if corrected is not None:
                left.remove(corrected)
            yield self._known(name, track, None if corrected is None else self._corrected(corrected))
        for path in left:
            track = self._corrected(path)
            yield self._known(Path(track.source.name).stem, track, track)

    def _corrected(self, path: Path) -> KeypointTrack:
        track = read_keypoints(path)
        if not track.corrected.any():
            self._tell(f"The keypoints in {path.name} hold no correction.")
        return track

    def _known(self, name: str, track: KeypointTrack, corrected: KeypointTrack | None) -> FilmedPerson:
        person = FilmedPerson(detected=track, corrected=corrected)
        if self._lens is not None:
            person = replace(person, camera=self._lens.resized(track.size_px))
        if (camera := self._cameras.get(name)) is not None:
            person = replace(
                person,
                camera=camera.camera,
                gravity=Gravity(camera.camera_from_world[:3, 2]),
                world_from_camera=np.linalg.inv(camera.camera_from_world),
            )
        return self._with_truth(person, self._pairs[name]) if name in self._pairs else person

    # ---- Cameras ----------------------------------------------------------------------------------------------------

    def _read_camera(self, path: Path) -> None:
        try:
            self._lens = Camera.from_toml(path)
        except FileFormatError as no_lens:
            try:
                standing = read_calibration(path)
            except FileFormatError:
                raise no_lens from None
            self._cameras = _cameras_of(list(self._everybody()), standing, path, self._tell)

    # ---- Motion capture beside the film -----------------------------------------------------------------------------

    def _pairs_by_name(self, path: Path) -> dict[str, PairEntry]:
        entries = {entry.footage.stem: entry for entry in read_pairs(path)}
        names = {name for name, _ in self._everybody()}
        if unknown := sorted(set(entries) - names):
            raise FileFormatError(
                f"'{path}' pairs '{entries[unknown[0]].footage.name}', which isn't among the footage. Name it too."
            )
        return entries

    def _with_truth(self, person: FilmedPerson, entry: PairEntry) -> FilmedPerson:
        try:
            found = read_truth(entry, person.detected, person.camera, self._read_character)
        except FileFormatError as problem:
            self.skipped.append(Skipped(f"{entry.motion.name} with {entry.footage.name}", str(problem)))
            self._tell(f"{entry.motion.name} is not paired with {entry.footage.name}: {problem}")
            return person
        self._tell(
            f"{entry.motion.name} lies on {entry.footage.name}: offset {found.offset_s:.3f} s, keypoints missed by "
            f"{found.miss_px:.1f} px, {found.agreed.mean():.0%} of the frames agree."
        )
        return replace(person, truth_m=found.truth_m, camera=found.camera)


def _same_person(detected: KeypointTrack, corrected: KeypointTrack) -> bool:
    """Whether both are of one person, over the same frames of the same footage."""
    return (
        detected.source.sha256 == corrected.source.sha256
        and detected.person == corrected.person
        and len(detected.time_s) == len(corrected.time_s)
        and bool(np.allclose(detected.time_s, corrected.time_s, atol=1e-3))
    )


def _cameras_of(
    people: Sequence[Named], standing: Sequence[StandingCamera], path: Path, tell: Tell
) -> dict[str, StandingCamera]:
    """The camera of each clip, by the clip's name. Raises FileFormatError when they don't go together."""
    by_name = {camera.name: camera for camera in standing}
    names = [name for name, _ in people]
    if not all(name in by_name for name in names):
        if len(standing) != len(people):
            unknown = ", ".join(sorted(set(names) - set(by_name)))
            raise FileFormatError(
                f"The calibration '{path}' has the cameras {', '.join(by_name)}, but none for {unknown}. Name the "
                "clips like their cameras."
            )
        by_name = dict(zip(names, standing, strict=True))
    cameras = [for_picture(by_name[name], track) for name, track in people]
    if len(people) > 1 and len({len(track.time_s) for _, track in people}) == 1:
        # A calibration made before somebody touched a tripod is off by a degree.
        cameras, turned_deg = with_refined_turns(cameras, [track for _, track in people])
        tell(f"The cameras were turned by up to {turned_deg.max():.1f} degrees until they agree on what they saw.")
    return dict(zip(names, cameras, strict=True))
