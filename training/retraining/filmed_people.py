"""What is known of the people in footage besides their keypoints: corrections, lenses, cameras, and motion capture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.track_files import read_keypoints
from ...core.tracks import KeypointTrack
from ...core.world_alignment import Gravity
from ..pairing.pairs_file import CharacterReader, read_pairs, read_truth
from ..shots.filmed_views import StandingCamera, for_picture, read_calibration, with_refined_turns
from .making import Skipped
from .preparing import FilmedPerson

Tell = Callable[[str], None]


def filmed_people(
    tracks: Sequence[KeypointTrack],
    *,
    names: Sequence[str],
    corrections: Sequence[Path] = (),
    camera: Path | None = None,
    pairs: Path | None = None,
    read_character: CharacterReader | None = None,
    tell: Tell = lambda _: None,
) -> tuple[list[FilmedPerson], list[Skipped]]:
    """Everybody with all that is known, and what could not be used of it.

    names:       what each track's clip is called, without ending: a calibration's cameras and pairs are found by it
    corrections: keypoints files of the same footage, by its hash; of other footage they are people of their own
    camera:      camera.toml, or a calibration of several cameras
    pairs:       a list of motion that was captured meanwhile; read_character: reads it off .blend, .fbx and .glb files
    Raises FileFormatError when a file can't be read, or contradicts the footage.
    """
    people = [FilmedPerson(detected=track) for track in tracks]
    people, names = _with_corrections(people, list(names), [read_keypoints(path) for path in corrections], tell)
    skipped: list[Skipped] = []
    if camera is not None:
        people = _with_cameras(people, names, camera, tell)
    if pairs is not None:
        people, skipped = _with_truth(people, names, pairs, read_character, tell)
    return people, skipped


def _with_corrections(
    people: list[FilmedPerson], names: list[str], corrected: Sequence[KeypointTrack], tell: Tell
) -> tuple[list[FilmedPerson], list[str]]:
    for track in corrected:
        if not track.corrected.any():
            tell(f"The keypoints of {track.source.name} hold no correction.")
        at = next((place for place, person in enumerate(people) if _same_person(person.detected, track)), None)
        if at is None:
            people.append(FilmedPerson(detected=track, corrected=track))
            names.append(Path(track.source.name).stem)
        else:
            people[at] = replace(people[at], corrected=track)
    return people, names


def _same_person(detected: KeypointTrack, corrected: KeypointTrack) -> bool:
    """Whether both are of one person, over the same frames of the same footage."""
    return (
        detected.source.sha256 == corrected.source.sha256
        and detected.person == corrected.person
        and len(detected.time_s) == len(corrected.time_s)
        and bool(np.allclose(detected.time_s, corrected.time_s, atol=1e-3))
    )


# ---- Cameras --------------------------------------------------------------------------------------------------------


def _with_cameras(people: list[FilmedPerson], names: list[str], path: Path, tell: Tell) -> list[FilmedPerson]:
    try:
        lens = Camera.from_toml(path)
    except FileFormatError as no_lens:
        try:
            standing = read_calibration(path)
        except FileFormatError:
            raise no_lens from None
        return _in_a_room(people, names, standing, path, tell)
    return [replace(person, camera=lens.resized(person.detected.size_px)) for person in people]


def _in_a_room(
    people: list[FilmedPerson], names: list[str], standing: Sequence[StandingCamera], path: Path, tell: Tell
) -> list[FilmedPerson]:
    by_name = {camera.name: camera for camera in standing}
    if not all(name in by_name for name in names):
        if len(standing) != len(people):
            unknown = ", ".join(sorted(set(names) - set(by_name)))
            raise FileFormatError(
                f"The calibration '{path}' has the cameras {', '.join(by_name)}, but none for {unknown}. "
                "Name the clips like their cameras."
            )
        by_name = dict(zip(names, standing, strict=True))
    cameras = [for_picture(by_name[name], person.detected) for name, person in zip(names, people, strict=True)]
    tracks = [person.detected for person in people]
    if len(people) > 1 and len({len(track.time_s) for track in tracks}) == 1:
        # A calibration made before somebody touched a tripod is off by a degree.
        cameras, turned_deg = with_refined_turns(cameras, tracks)
        tell(f"The cameras were turned by up to {turned_deg.max():.1f} degrees until they agree on what they saw.")
    return [
        replace(
            person,
            camera=camera.camera,
            gravity=Gravity(camera.camera_from_world[:3, 2]),
            world_from_camera=np.linalg.inv(camera.camera_from_world),
        )
        for person, camera in zip(people, cameras, strict=True)
    ]


# ---- Motion capture beside the film ---------------------------------------------------------------------------------


def _with_truth(
    people: list[FilmedPerson],
    names: list[str],
    path: Path,
    read_character: CharacterReader | None,
    tell: Tell,
) -> tuple[list[FilmedPerson], list[Skipped]]:
    skipped = []
    for entry in read_pairs(path):
        at = next((place for place, name in enumerate(names) if name == entry.footage.stem), None)
        if at is None:
            raise FileFormatError(f"'{path}' pairs '{entry.footage.name}', which isn't among the footage. Name it too.")
        try:
            found = read_truth(entry, people[at].detected, people[at].camera, read_character)
        except FileFormatError as problem:
            skipped.append(Skipped(f"{entry.motion.name} with {entry.footage.name}", str(problem)))
            tell(f"{entry.motion.name} is not paired with {entry.footage.name}: {problem}")
            continue
        tell(
            f"{entry.motion.name} lies on {entry.footage.name}: offset {found.offset_s:.3f} s, keypoints missed by "
            f"{found.miss_px:.1f} px, {found.agreed.mean():.0%} of the frames agree."
        )
        people[at] = replace(people[at], truth_m=found.truth_m, camera=found.camera)
    return people, skipped
