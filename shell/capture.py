"""``keylift capture``: all the way from footage to keyframes."""

from __future__ import annotations

import argparse
from pathlib import Path

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


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Detect, lift, bake and preview, one person after the other."""
    footage = open_video(options)
    camera = read_camera(options, footage)
    check_cameras(options)
    check_rig(options, reporter)
    weights = check_lifter(options)
    inputs = [
        options.video,
        options.camera,
        options.camera_motion,
        places.rig_file(options.rig),
        weights,
        Path(options.map),
    ]
    films = [options.preview] if options.preview is not None else []
    kept = kept_files(options)
    places.check_outputs(possible_outputs(options.output, options), SCENE_ENDINGS, inputs)
    places.check_outputs(possible_outputs(films, options), FILM_ENDINGS, inputs)
    places.check_outputs(possible_outputs(kept, options), [".npz"], inputs)
    from ..core.track_files import write_keypoints, write_pose

    tracks = find_people(footage, options, reporter)
    written: list[Path] = []
    adapted = []
    frames = 0
    for number, detected in zip(numbers(len(tracks), options), tracks, strict=True):
        person = lift_track(detected, camera, options, reporter)
        pose, track = person.pose, person.track
        adapted.append(person.adapted())
        frames = max(frames, len(pose.time_s))
        for path in kept:
            place = places.numbered(path, number)
            if path is kept[0]:
                write_keypoints(place, track)
            else:
                write_pose(place, pose)
            written.append(place)
        outputs = [places.numbered(output, number) for output in options.output]
        bake(pose, outputs, options.video, options, reporter)
        written += outputs
        for film in films:
            place = places.numbered(film, number)
            make_film(place, pose, track, footage, reporter)
            written.append(place)
    who = f", {len(tracks)} people" if len(tracks) > 1 else ""
    took = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in reporter.seconds.items())
    reporter.result(
        "\n".join([*(str(path) for path in written), f"{frames} frames{who} ({took})"]),
        {
            "outputs": [str(path) for path in written],
            "frames": frames,
            "people": len(tracks),
            "adapted": adapted,
            "seconds": {stage: round(seconds, 2) for stage, seconds in reporter.seconds.items()},
        },
    )
    return EXIT_DONE
