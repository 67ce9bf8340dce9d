"""``keylift capture``: all the way from footage to keyframes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..core.errors import EXIT_DONE, OutputError
from . import places
from .arguments import (
    add_detection_options,
    add_footage,
    add_lifting_options,
    add_outputs,
    add_rig_options,
    add_take_options,
)
from .detect import find_people, numbers, open_video, possible_outputs
from .lift import check_cameras, check_lifter, lift_track, read_camera
from .preview import FILM_ENDINGS, make_film
from .reporting import Reporter
from .retarget import SCENE_ENDINGS, bake, check_rig

if TYPE_CHECKING:
    from ..core.tracks import PoseTrack

SUMMARY = "turn footage of a person into keyframes on an armature"
EXAMPLES = """  keylift capture dance.mp4 -o take.blend --preview take.mp4
        animate Blender's human metarig, and make a film to judge it by
  keylift capture dance.mp4 --rig hero.blend:Armature -o hero-dance.blend -o hero-dance.fbx
        animate your own character, written twice
  keylift capture duet.mp4 --person all -o duet.blend
        everybody: duet-1.blend is the largest person, duet-2.blend the next
  keylift capture long.mp4 --frames 1200-1800 --keep steps -o take.bvh
        a part of it, with the keypoints and the pose kept in steps/
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    add_footage(parser)
    add_outputs(parser, " ".join(SCENE_ENDINGS))
    parser.add_argument("--preview", type=Path, metavar="FILE", help="also make a film of footage and figure (.mp4)")
    parser.add_argument(
        "--keep", type=Path, metavar="FOLDER", help="also keep the keypoints and the pose, to go on from them later"
    )
    add_rig_options(parser)
    add_take_options(parser)
    add_lifting_options(parser)
    add_detection_options(parser)


def kept_files(options: argparse.Namespace) -> list[Path]:
    """Where keypoints and pose go when they are kept; empty otherwise."""
    if options.keep is None:
        return []
    if options.keep.exists() and not options.keep.is_dir():
        raise OutputError(f"'{options.keep}' is a file. Give a folder after --keep.")
    name = options.video.stem or options.video.name
    return [options.keep / f"{name}.keypoints.npz", options.keep / f"{name}.pose.npz"]


@dataclass(frozen=True, eq=False)
class Performance:
    """One person's pose, and what goes with it.

    adapted: what became of --adapt; None without it
    keep:    writes the keypoints and the pose to two files
    film:    makes the preview
    """

    pose: PoseTrack
    adapted: dict[str, Any] | None
    keep: Callable[[Path, Path], None]
    film: Callable[[Path], None]


class Hands(Protocol):
    """Whoever does what Blender can't: this process, or a worker of an installed Blender's."""

    def check(self) -> Sequence[Path | None]:
        """Raise KeyliftError when footage, camera or lifter can't be used; the files that are read."""

    def find(self) -> Sequence[Any]:
        """The people that the options ask for, largest first."""

    def lift(self, found: Any) -> Performance:
        """One of them in space."""


class OwnHands:
    """Everything in this process."""

    def __init__(self, options: argparse.Namespace, reporter: Reporter) -> None:
        self._options, self._reporter = options, reporter

    def check(self) -> Sequence[Path | None]:
        """Open the footage, and read camera and lifter."""
        self._footage = open_video(self._options)
        self._camera = read_camera(self._options, self._footage)
        check_cameras(self._options)
        return [check_lifter(self._options, self._reporter)]

    def find(self) -> Sequence[Any]:
        """Detect."""
        return find_people(self._footage, self._options, self._reporter)

    def lift(self, found: Any) -> Performance:
        """Lift, and know how to write what comes of it."""
        from ..core.track_files import write_keypoints, write_pose

        person = lift_track(found, self._camera, self._options, self._reporter)

        def keep(keypoints: Path, pose: Path) -> None:
            write_keypoints(keypoints, person.track)
            write_pose(pose, person.pose)

        def film(place: Path) -> None:
            make_film(place, person.pose, person.track, self._footage, self._reporter)

        return Performance(person.pose, person.adapted(), keep, film)


def run(options: argparse.Namespace, reporter: Reporter, hands: Hands | None = None) -> int:
    """Detect, lift, bake and preview, one person after the other."""
    hands = hands or OwnHands(options, reporter)
    read = hands.check()
    check_rig(options, reporter)
    inputs = [
        *read,
        options.video,
        options.camera,
        options.camera_motion,
        places.rig_file(options.rig),
        Path(options.map),
    ]
    films = [options.preview] if options.preview is not None else []
    kept = kept_files(options)
    places.check_outputs(possible_outputs(options.output, options), SCENE_ENDINGS, inputs)
    places.check_outputs(possible_outputs(films, options), FILM_ENDINGS, inputs)
    places.check_outputs(possible_outputs(kept, options), [".npz"], inputs)

    people = hands.find()
    written: list[Path] = []
    adapted = []
    frames = 0
    for number, found in zip(numbers(len(people), options), people, strict=True):
        person = hands.lift(found)
        adapted.append(person.adapted)
        frames = max(frames, len(person.pose.time_s))
        if kept:
            keypoints, pose = (places.numbered(path, number) for path in kept)
            person.keep(keypoints, pose)
            written += [keypoints, pose]
        outputs = [places.numbered(output, number) for output in options.output]
        bake(person.pose, outputs, options.video, options, reporter)
        written += outputs
        for film in films:
            place = places.numbered(film, number)
            person.film(place)
            written.append(place)
    who = f", {len(people)} people" if len(people) > 1 else ""
    took = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in reporter.seconds.items())
    reporter.result(
        "\n".join([*(str(path) for path in written), f"{frames} frames{who} ({took})"]),
        {
            "outputs": [str(path) for path in written],
            "frames": frames,
            "people": len(people),
            "adapted": adapted,
            "seconds": {stage: round(seconds, 2) for stage, seconds in reporter.seconds.items()},
        },
    )
    return EXIT_DONE
