"""Which of the shipped bone maps fits an armature, told by its bones' names and checked by how they hang together."""

from __future__ import annotations

from ..core.errors import RigError
from .bone_map import BoneMap, load_bone_map, preset_names
from .rest_pose import RestPose
from .rig_body import NEEDED_SEGMENTS, rig_body, titles


def recognise(rest: RestPose) -> BoneMap:
    """The preset that most of the bones answer to, bound to the rig's own names.

    Raises RigError that names the parts without a bone when no preset fits.
    """
    presets = [load_bone_map(name) for name in preset_names()]
    by_fit = sorted(presets, key=lambda preset: _fit(preset, rest), reverse=True)
    misfit: RigError | None = None
    for preset in by_fit:
        if not _unmapped(preset, rest):
            try:
                rig_body(rest, preset)
            except RigError as problem:
                misfit = misfit or problem
            else:
                return preset.bound_to(rest)
    if misfit:
        raise misfit
    nearest = by_fit[0]
    missing = _unmapped(nearest, rest)
    likeness = (
        f"It is most like '{nearest.name}' but has no bone for: {titles(*missing)}."
        if len(missing) < len(NEEDED_SEGMENTS)
        else f"None of its {len(rest)} bones has a name that a shipped bone map knows."
    )
    raise RigError(
        f"No bone map fits the armature '{rest.name}'. {likeness} "
        "Write a bone map for it and give it with --map FILE (see docs/file-formats.md)."
    )


def _fit(preset: BoneMap, rest: RestPose) -> tuple[float, int]:
    """Share of the preset's bones that the rig has, and how many they are."""
    wanted = sum(len(chain) for chain in preset.bones.values())
    found = sum(len(chain) for chain in preset.bound_to(rest).bones.values())
    return found / wanted, found


def _unmapped(preset: BoneMap, rest: RestPose) -> list[str]:
    bound = preset.bound_to(rest)
    return [segment for segment in NEEDED_SEGMENTS if segment not in bound.bones]
