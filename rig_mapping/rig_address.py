"""Where a rig is, as a person writes it: ``FILE`` or ``FILE:OBJECT``."""

from __future__ import annotations

import re
from pathlib import Path

# Instead of a file: a plain skeleton of the person's own size.
SKELETON = "skeleton"
RIG_ENDINGS = (".blend", ".fbx", ".glb", ".gltf", ".bvh")
# The first ending that a colon follows parts the two: importers call an armature "walk.bvh", and a colon elsewhere in
# a path is a drive's, "C:\hero.blend".
_FILE_AND_OBJECT = re.compile(
    r"(?P<file>.+?(?:{}))(?::(?P<object>.*))?".format("|".join(map(re.escape, RIG_ENDINGS))), re.IGNORECASE | re.DOTALL
)


def split_rig_address(address: str) -> tuple[Path, str | None] | None:
    """The rig's file, and its object when one is named; None when ``address`` names no file that can hold a rig."""
    parts = _FILE_AND_OBJECT.fullmatch(address)
    if parts is None:
        return None
    return Path(parts["file"]), parts["object"] or None
