"""``keylift retarget``: a pose -> keyframes on an armature."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EXIT_DONE, KeyliftError
from ..rig_mapping.rig_address import SKELETON
from . import places
from .arguments import add_outputs, add_rig_options, add_take_options
from .interruption import unbroken
from .reporting import Reporter

if TYPE_CHECKING:
    from ..addon.takes import RetargetSummary, TakeOptions
    from ..core.tracks import PoseTrack
    from ..rig_mapping.solve import RetargetOptions

SUMMARY = "bake a pose onto an armature as keyframes"
EXAMPLES = """  keylift retarget dance.pose.npz -o dance.blend
        onto Blender's human metarig
  keylift retarget dance.pose.npz --rig hero.blend:Armature --map mixamo -o hero-dance.fbx -o hero-dance.glb
        onto your own character, bones named by a preset
  keylift retarget dance.pose.npz --rig skeleton -o dance.bvh
        a plain skeleton of the person's own size; needs no Blender
  keylift retarget dance.pose.npz --rig hero.blend --limbs ik --reduce-keys -o hero-dance.blend
        onto a control rig, by its IK controls, with a fifth of the keys or fewer
  keylift retarget dance.pose.npz --rig hero.blend --path both --path-on root -o hero-dance.blend
        for a game: the root bone walks, and a second action stays in place
"""
SCENE_ENDINGS = (".blend", ".bvh", ".fbx", ".glb", ".gltf", ".usd", ".usda", ".usdc")


class BlenderMissingError(KeyliftError):
    """This Python has no bpy, and keyframes are written by Blender."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pose", type=Path, metavar="POSE", help="a pose file that `keylift lift` wrote")
    parser.add_argument("--video", type=Path, metavar="VIDEO", help="footage to set behind the figure in a .blend")
    add_outputs(parser, " ".join(SCENE_ENDINGS))
    add_rig_options(parser)
    add_take_options(parser)


@dataclass(frozen=True)
class SkeletonSummary:
    """What was written of a skeleton without Blender, in the words of ``RetargetSummary``."""

    armature: str
    bone_map: str
    keyed_bones: int
    frames: int
    warnings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.frames} frames on {self.keyed_bones} bones of '{self.armature}'"


def retarget_options(options: argparse.Namespace) -> RetargetOptions:
    """How the rig is solved."""
    from ..rig_mapping.solve import RetargetOptions

    return RetargetOptions(
        path="in_place" if options.path == "in-place" else "keep",
        path_on=options.path_on,
        plant_feet=not options.no_plant_feet,
        limbs=options.limbs,
    )


def take_options(options: argparse.Namespace) -> TakeOptions:
    """The take's options as Blender's side takes them."""
    from ..addon.takes import TakeOptions
    from ..rig_mapping.key_reduction import KeyTolerance

    return TakeOptions(
        retarget=retarget_options(options),
        also_in_place=options.path == "both",
        reduce=None if options.reduce_keys is None else KeyTolerance(*options.reduce_keys),
        markers=not options.no_markers,
    )


def needs_blender(options: argparse.Namespace) -> bool:
    """Whether anything asks for Blender: the person's own skeleton as BVH does not."""
    return options.rig != SKELETON or any(output.suffix.lower() != ".bvh" for output in options.output)


def check_rig(options: argparse.Namespace, reporter: Reporter) -> None:
    """Raise KeyliftError now when Blender or the rig is missing, or nothing can be mapped on the rig."""
    if not needs_blender(options):
        return
    with unbroken(reporter):
        check_blender()
        from ..addon import takes

        takes.check_rig(options.rig, options.map, take_options(options))


def check_blender() -> None:
    """Raise BlenderMissingError when bpy can't be imported."""
    from ..addon.blender_chatter import unheard

    try:
        # Blender 5.2 has something to say on stdout as soon as it is imported.
        with unheard():
            from ..addon import takes  # noqa: F401  (whether it loads is the question)
    except ImportError as problem:
        if problem.name not in (None, "bpy", "_bpy", "mathutils"):
            raise
        raise BlenderMissingError(
            f"Keyframes are written by Blender, and this Python has none ({problem}). Install it with "
            '`pip install "keylift[blender]"` (Python 3.11 or 3.13), or run the same command inside an installed '
            "Blender that has the extension: `blender -c keylift retarget ...`."
        ) from problem


def _check_footage(video: Path) -> None:
    """Raise FootageError when ``video`` is no footage. An installed Blender has no PyAV and looks for itself later."""
    try:
        from ..core.footage import open_footage
    except ImportError as problem:
        if (problem.name or "").partition(".")[0] != "av":
            raise
        return
    open_footage(video)


def bake(
    pose: PoseTrack,
    outputs: Sequence[Path],
    footage: Path | None,
    options: argparse.Namespace,
    reporter: Reporter,
) -> RetargetSummary | SkeletonSummary:
    """Write one person's keyframes to all outputs and return a summary."""
    if not needs_blender(options):
        return _bake_skeleton(pose, outputs, options, reporter)
    from ..addon.takes import retarget_to_files

    with reporter.stage("retarget", f"Baking onto {options.rig}") as progress, unbroken(reporter):
        summary = retarget_to_files(
            pose,
            rig=options.rig,
            bone_map=options.map,
            outputs=list(outputs),
            footage=footage,
            options=take_options(options),
            progress=progress,
        )
    for warning in summary.warnings:
        reporter.note(f"Note: {warning}")
    return summary


def _bake_skeleton(
    pose: PoseTrack, outputs: Sequence[Path], options: argparse.Namespace, reporter: Reporter
) -> SkeletonSummary:
    """The person's own skeleton as BVH: no Blender is needed for that."""
    from ..core.progress import report
    from ..rig_mapping.bvh_writing import write_motion_bvh
    from ..rig_mapping.own_skeleton import own_skeleton
    from ..rig_mapping.solve import solve

    with reporter.stage("retarget", "Writing the skeleton") as progress:
        rest, bone_map = own_skeleton(pose)
        motion = solve(pose, rest, bone_map, retarget_options(options))
        for done, output in enumerate(outputs):
            report(progress, done, len(outputs))
            write_motion_bvh(output, rest, motion)
    return SkeletonSummary(
        armature=rest.name, bone_map=bone_map.name, keyed_bones=len(motion.keyed), frames=len(motion)
    )


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Bake a pose file."""
    places.check_input(options.pose, "the pose")
    check_rig(options, reporter)
    places.check_outputs(options.output, SCENE_ENDINGS, [options.pose, options.video, places.rig_file(options.rig)])
    from ..core.track_files import read_pose

    pose = read_pose(options.pose)
    if options.video is not None:
        _check_footage(options.video)
    summary = bake(pose, options.output, options.video, options, reporter)
    outputs = [str(output) for output in options.output]
    reporter.result(
        "\n".join([*outputs, str(summary)]),
        {"outputs": outputs, **asdict(summary), "seconds": reporter.seconds},
    )
    return EXIT_DONE
