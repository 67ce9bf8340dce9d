"""``keylift rig``: what Keylift makes of a rig, bone by bone, and a bone map of it to keep."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, EXIT_FAILED
from . import places
from .interruption import unbroken
from .reporting import Reporter
from .retarget import check_blender

if TYPE_CHECKING:
    from ..rig_mapping.recognition import RigMapping

SUMMARY = "tell which bone of a rig is which part of the body, and why"
EXAMPLES = """  keylift rig hero.blend:Armature
        the family it was recognised as, each bone with a score and a reason, and what is missing
  keylift rig monster.fbx --save monster
        keep what was found, under a name that --map understands from then on
  keylift rig monster.fbx --map auto -o monster.json
        write it as a file, to correct by hand and give with --map monster.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "rig",
        metavar="FILE[:OBJECT]",
        help="the character: .blend, .fbx, .glb or .bvh, with :OBJECT where it has several armatures",
    )
    parser.add_argument(
        "--map",
        default="auto",
        metavar="auto|PRESET|FILE",
        help="look at the rig through this map instead of recognising it",
    )
    parser.add_argument("--save", metavar="NAME", help="keep the map among your own under this name")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the map as a file (.json)")


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Map one rig, tell how, and keep the map where that is wanted."""
    from ..rig_mapping.bone_map import load_bone_map, own_map_file, save_bone_map, write_bone_map

    bone_map = load_bone_map(options.map) if options.map != "auto" else None
    if options.save is not None:
        own_map_file(options.save)
    if options.output is not None:
        read = [places.rig_file(options.rig), Path(options.map) if Path(options.map).is_file() else None]
        places.check_outputs([options.output], [".json"], read)
    with unbroken(reporter):
        check_blender()
        from ..addon.armature_reading import read_rest_pose
        from ..addon.rigs import open_rig
        from ..rig_mapping.recognition import map_rig

        rest = read_rest_pose(open_rig(options.rig))
        mapping = map_rig(rest, bone_map)
    lines = _told(rest.name, mapping)
    kept = []
    if mapping.fits:
        if options.save is not None:
            kept.append(save_bone_map(options.save, replace(mapping.bone_map, title=options.save)))
        if options.output is not None:
            write_bone_map(options.output, replace(mapping.bone_map, title=f"{rest.name}: {mapping.family}"))
            kept.append(options.output)
    elif options.save is not None or options.output is not None:
        reporter.note("The map does not fit the rig, so it was not kept.")
    reporter.result(
        "\n".join([*lines, *(f"Wrote {path}" for path in kept)]), _values(rest.name, mapping, [str(k) for k in kept])
    )
    return EXIT_DONE if mapping.fits else EXIT_FAILED


def _told(rig: str, mapping: RigMapping) -> list[str]:
    """The mapping as a person reads it: a line for each bone."""
    rows = [(match.segment, match.bone, match.score, match.reason) for match in mapping.matches]
    # The first bone of a segment speaks for it; those that follow stand below.
    shown = [
        ("" if place and rows[place - 1][0] == segment else segment, bone, f"{score:.2f}", reason)
        for place, (segment, bone, score, reason) in enumerate(rows)
    ]
    for segment, chain in mapping.bone_map.twist.items():
        shown += [(f"{segment} twist", bone, "", "beside the limb, takes up a part of its twist") for bone in chain]
    if mapping.bone_map.root:
        shown.append(("root", mapping.bone_map.root, "", "carries the whole rig"))
    widths = [max((len(row[column]) for row in shown), default=0) for column in range(3)]
    lines = [f"{rig}: {mapping.family} (--map {mapping.bone_map.name})"]
    lines += [
        f"{part:<{widths[0]}}  {bone:<{widths[1]}}  {score:>{widths[2]}}  {reason}"
        for part, bone, score, reason in shown
    ]
    if mapping.bone_map.controls:
        limbs = ", ".join(sorted(mapping.bone_map.controls.ik)) or "none"
        lines.append(f"It is a control rig: its FK controls are mapped; IK controls: {limbs}.")
    return lines + [f"- {problem}" for problem in mapping.problems]


def _values(rig: str, mapping: RigMapping, kept: list[str]) -> dict[str, Any]:
    return {
        "rig": rig,
        "family": mapping.family,
        "map": mapping.bone_map.name,
        "score": mapping.score,
        "fits": mapping.fits,
        "bones": [asdict(match) for match in mapping.matches],
        "twist": {segment: list(chain) for segment, chain in mapping.bone_map.twist.items()},
        "root": mapping.bone_map.root,
        "control_rig": mapping.bone_map.controls is not None,
        "problems": list(mapping.problems),
        "outputs": kept,
    }
