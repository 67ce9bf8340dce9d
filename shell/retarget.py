"""``keylift retarget``: a pose -> keyframes on an armature."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import EXIT_DONE, KeyliftError
from . import places
from .arguments import add_outputs, add_rig_options
from .interruption import unbroken
from .reporting import Reporter

if TYPE_CHECKING:
    from ..addon.takes import RetargetSummary
    from ..core.tracks import PoseTrack

SUMMARY = "bake a pose onto an armature as keyframes"
EXAMPLES = """  keylift retarget dance.pose.npz -o dance.blend
        onto Blender's human metarig
  keylift retarget dance.pose.npz --rig hero.blend:Armature --map mixamo -o hero-dance.fbx -o hero-dance.glb
        onto your own character, bones named by a preset
"""
SCENE_ENDINGS = (".blend", ".bvh", ".fbx", ".glb", ".gltf")


class BlenderMissingError(KeyliftError):
    """This Python has no bpy, and keyframes are written by Blender."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("pose", type=Path, metavar="POSE", help="a pose file that `keylift lift` wrote")
    parser.add_argument("--video", type=Path, metavar="VIDEO", help="footage to set behind the figure in a .blend")
    add_outputs(parser, " ".join(SCENE_ENDINGS))
    add_rig_options(parser)


def check_rig(options: argparse.Namespace, reporter: Reporter) -> None:
    """Raise KeyliftError now when Blender or the rig is missing, or nothing can be mapped on the rig."""
    with unbroken(reporter):
        check_blender()
        _check_rig(options)


def _check_rig(options: argparse.Namespace) -> None:
    from ..addon.armature_reading import read_rest_pose
    from ..addon.rigs import open_rig
    from ..rig_mapping.bone_map import load_bone_map
    from ..rig_mapping.recognition import recognise
    from ..rig_mapping.rig_body import rig_body

    bone_map = load_bone_map(options.map) if options.map != "auto" else None
    rest = read_rest_pose(open_rig(options.rig))
    rig_body(rest, bone_map or recognise(rest))


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
) -> RetargetSummary:
    """Write one person's keyframes to all outputs and return Blender's summary."""
    from ..addon.takes import retarget_to_files

    with reporter.stage("retarget", f"Baking onto {options.rig}") as progress, unbroken(reporter):
        summary = retarget_to_files(
            pose, rig=options.rig, bone_map=options.map, outputs=list(outputs), footage=footage, progress=progress
        )
    for warning in summary.warnings:
        reporter.note(f"Note: {warning}")
    return summary


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
