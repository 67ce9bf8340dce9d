"""``keylift lift``: footage or keypoints -> a pose in space."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, KeyliftError, NobodyFoundError
from . import places
from .arguments import add_detection_options, add_lifting_options, add_output
from .detect import find_people, numbers, open_video, possible_outputs, repairs_told
from .reporting import Reporter
from .weights import settle_weights

if TYPE_CHECKING:
    from ..core.camera import Camera
    from ..core.footage import Footage
    from ..core.lifter.lifting import RayLifter
    from ..core.tracks import KeypointTrack, PoseTrack
    from ..training.adaptation.adaptation import Adaptation

SUMMARY = "lift footage or keypoints to a pose in space"
EXAMPLES = """  keylift lift dance.keypoints.npz -o dance.pose.npz
        from keypoints found before
  keylift lift dance.mp4 --camera phone.toml -o dance.pose.npz
        straight from the footage, with the lens it was filmed with
  keylift lift dance.keypoints.npz --adapt -o dance.pose.npz
        with a lifter that learnt from this clip, if that does it good
  keylift lift dance.keypoints.npz --update dance.pose.npz -o dance-2.pose.npz
        anew only where keypoints were corrected since
"""


@dataclass(frozen=True, eq=False)
class LiftedPerson:
    """One person in space.

    track:      the keypoints that were lifted: sides are checked by the lifter
    adaptation: what became of --adapt; None without it
    updated:    frames that were lifted anew, of a pose that was there before; None without --update
    """

    pose: PoseTrack
    track: KeypointTrack
    adaptation: Adaptation | None = None
    updated: list[int] | None = None

    def adapted(self) -> dict[str, Any] | None:
        """What became of --adapt, for a program."""
        if self.adaptation is None:
            return None
        figures = self.adaptation.figures
        return {
            "adapted": self.adaptation.adapted,
            "reason": self.adaptation.reason,
            "figures": None if figures is None else figures.as_dict(),
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "video", type=Path, metavar="VIDEO|KEYPOINTS", help="footage, or keypoints that `keylift detect` wrote"
    )
    add_output(parser, ".pose.npz")
    parser.add_argument(
        "--update",
        type=Path,
        metavar="POSE",
        help="lift anew only where the keypoints differ from those that this pose was lifted from; camera, bones and "
        "world stay the pose's",
    )
    add_lifting_options(parser)
    add_detection_options(parser)


def read_camera(options: argparse.Namespace, footage: Footage | None) -> Camera | None:
    """The camera that the options name, or None. Raises FileFormatError when it never filmed this ``footage``."""
    from ..core.camera import Camera

    if options.camera is None:
        return None
    camera = Camera.from_toml(options.camera)
    return camera if footage is None else camera.resized(footage.size_px)


def check_lifter(options: argparse.Namespace, reporter: Reporter) -> Path:
    """The weights file that the options name, or that is in use, which they name from then on.

    Raises KeyliftError when it is no lifter or the device isn't there.
    """
    from ..core.weights import find_weights, read_header

    settle_weights(options, reporter)
    weights = find_weights(options.weights)
    # Before torch is loaded: most wrong files are found out by their first bytes.
    read_header(weights)
    from ..core.lifter.lifting import load_ray_lifter

    load_ray_lifter(weights, options.device)
    return weights


def check_cameras(options: argparse.Namespace) -> None:
    """Raise KeyliftError for camera options that contradict each other, or a camera's motion that can't be read."""
    from ..core.camera_motion import read_camera_motion

    if options.camera_motion is not None:
        read_camera_motion(options.camera_motion)
        if options.camera_pitch is not None or options.camera_roll is not None:
            raise KeyliftError("A camera's motion says how it is held. Leave out --camera-pitch and --camera-roll.")
        if options.no_fit:
            raise KeyliftError("A moving camera needs the fit. Leave out --no-fit.")
        if options.estimate_lens:
            raise KeyliftError(
                "Who solved the camera's motion knows its lens: say it with --camera, not --estimate-lens."
            )
    if options.camera_roll is not None and options.camera_pitch is None:
        raise KeyliftError("--camera-roll goes with --camera-pitch. Give both, or neither: then feet tell.")
    if options.height is not None and options.no_fit:
        raise KeyliftError("A known height needs the fit. Leave out --no-fit.")
    if options.estimate_lens and options.camera is not None:
        raise KeyliftError("A camera file says what the lens is. Leave out --estimate-lens.")


def lift_track(
    track: KeypointTrack, camera: Camera | None, options: argparse.Namespace, reporter: Reporter
) -> LiftedPerson:
    """One person's keypoints, sides checked by the lifter, in space."""
    from ..core.camera_motion import read_camera_motion
    from ..core.lens_estimate import estimate_camera
    from ..core.lift import NOBODY_SEEN, lift
    from ..core.lifter.lifting import load_ray_lifter
    from ..core.lifter.side_check import check_sides
    from ..core.weights import find_weights
    from ..core.world_alignment import Gravity

    if not track.seen.any():
        raise NobodyFoundError(NOBODY_SEEN)
    lifter = load_ray_lifter(find_weights(options.weights), options.device)
    if options.estimate_lens:
        with reporter.stage("lens", "Estimating the lens") as progress:
            camera = estimate_camera(track, lifter, progress)
    gravity = None
    if options.camera_pitch is not None:
        gravity = Gravity.from_angles(options.camera_pitch, options.camera_roll or 0.0)
    found = track
    if not options.no_repair:
        track = check_sides(track, camera, lifter)
    adaptation = adapt(lifter, track, camera, reporter) if options.adapt else None
    if adaptation is not None:
        lifter = adaptation.lifter
    with reporter.stage("lift", "Lifting to three dimensions") as progress:
        pose = lift(
            track,
            camera=camera,
            camera_motion=None if options.camera_motion is None else read_camera_motion(options.camera_motion),
            gravity=gravity,
            height_m=options.height,
            lifter=lifter,
            fit=not options.no_fit,
            progress=progress,
        )
    return LiftedPerson(replace(pose, lifted_from=found.fingerprints()), track, adaptation)


def update_pose(track: KeypointTrack, options: argparse.Namespace, reporter: Reporter) -> LiftedPerson:
    """The pose that --update names, lifted anew where ``track`` differs from what it was lifted from."""
    from ..core.camera_motion import read_camera_motion
    from ..core.lifter.lifting import load_ray_lifter
    from ..core.relifting import changed_frames, relift, sides_checked
    from ..core.track_files import read_pose
    from ..core.weights import find_weights

    previous = read_pose(options.update)
    changed = changed_frames(track, previous)
    lifter = load_ray_lifter(find_weights(options.weights), options.device)
    motion = None if options.camera_motion is None else read_camera_motion(options.camera_motion)
    found = track
    if not options.no_repair:
        track = sides_checked(track, changed, previous, lifter, motion)
    with reporter.stage("lift", "Lifting anew what was corrected") as progress:
        lifted = relift(
            track,
            previous,
            changed,
            lifter=lifter,
            camera_motion=motion,
            progress=progress,
        )
    updated = [int(index) for index in track.frame_index[lifted.frames]]
    return LiftedPerson(replace(lifted.pose, lifted_from=found.fingerprints()), track, updated=updated)


def check_update(options: argparse.Namespace, from_keypoints: bool) -> None:
    """Raise KeyliftError when --update is given with what it has no use for."""
    if options.update is None:
        return
    places.check_input(options.update, "the pose")
    if not from_keypoints:
        raise KeyliftError("--update takes keypoints that were corrected, not footage. Give the .keypoints.npz file.")
    for name in ("camera", "estimate_lens", "camera_pitch", "camera_roll", "height", "no_fit", "adapt"):
        if getattr(options, name) not in (None, False):
            raise KeyliftError(
                "--update keeps the camera, the bones and the world of the pose. "
                f"Leave out --{name.replace('_', '-')}, or lift without --update."
            )


def updates_told(person: LiftedPerson) -> str:
    """How much was lifted anew, to go on a line of the result; empty without --update."""
    return "" if person.updated is None else f", {len(person.updated)} of them lifted anew"


def adapt(lifter: RayLifter, track: KeypointTrack, camera: Camera | None, reporter: Reporter) -> Adaptation:
    """A lifter that learnt from the clip, or the same one, and say which."""
    from ..training.adaptation.adaptation import adapt_to_clip

    with reporter.stage("adapt", "Learning from this clip") as progress:
        adaptation = adapt_to_clip(lifter, track, camera, progress=progress)
    reporter.note(f"{'Adapted' if adaptation.adapted else 'Not adapted'} to this clip: {adaptation.reason}.")
    return adaptation


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Lift and write one file a person."""
    from_keypoints = options.video.name.lower().endswith(".npz")
    if from_keypoints:
        places.check_input(options.video, "the keypoints")
    footage = None if from_keypoints else open_video(options)
    camera = read_camera(options, footage)
    check_cameras(options)
    check_update(options, from_keypoints)
    weights = check_lifter(options, reporter)
    outputs_to_be = [options.output] if footage is None else possible_outputs([options.output], options)
    read = [options.video, options.camera, options.camera_motion, options.update, weights]
    places.check_outputs(outputs_to_be, [".npz"], read)
    from ..core.keypoint_repair import repair_counts
    from ..core.track_files import read_keypoints, write_pose

    tracks = [read_keypoints(options.video)] if footage is None else find_people(footage, options, reporter)
    outputs, people, frames = [], [], 0
    for number, found in zip([None] if footage is None else numbers(len(tracks), options), tracks, strict=True):
        if options.update is not None:
            person = update_pose(found, options, reporter)
        else:
            person = lift_track(found, camera, options, reporter)
        people.append(person)
        output = places.numbered(options.output, number)
        write_pose(output, person.pose)
        outputs.append(str(output))
        frames = max(frames, len(person.pose.time_s))
    reporter.result(
        "\n".join(
            f"{output}: {frames} frames{updates_told(person)}{repairs_told(person.track)}"
            for output, person in zip(outputs, people, strict=True)
        ),
        {
            "outputs": outputs,
            "frames": frames,
            "repaired": [repair_counts(person.track) for person in people],
            "adapted": [person.adapted() for person in people],
            "updated": people[0].updated if options.update is not None else None,
            "seconds": reporter.seconds,
        },
    )
    return EXIT_DONE
