"""Where users' own bone maps live. Apart from the maps themselves, so that an add-on can say so while it is enabled."""

from __future__ import annotations

import os
from pathlib import Path

_addons_folder: Path | None = None


def user_folder() -> Path | None:
    """Where a user's own named bone maps live; None inside a Blender whose add-on has not said where.

    ``KEYLIFT_DATA`` comes first, then the folder of ``keep_own_maps_in``, then the system's place for users' data.
    """
    if data := os.environ.get("KEYLIFT_DATA"):
        return Path(data) / "bone_maps"
    if _addons_folder is not None:
        return _addons_folder
    try:
        import platformdirs
    except ImportError:
        # Blender's own Python lacks it.
        return None
    return Path(platformdirs.user_data_dir("keylift", appauthor=False)) / "bone_maps"


def keep_own_maps_in(folder: Path | None) -> None:
    """Say where users' own maps live in this process: an add-on has a folder of its own. None takes it back."""
    global _addons_folder
    _addons_folder = folder
