"""The checkout under test: its rooms, its modules, and its dev.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("addon", "core", "rig_mapping", "shell", "training")
DOORS = ("__init__.py", "__main__.py")


def room_modules(*rooms: str) -> list[Path]:
    """Every module of the rooms. Presets are settings that Blender runs, and no modules."""
    found = (path for room in rooms for path in (ROOT / room).rglob("*.py"))
    return sorted(path for path in found if "presets" not in path.parts)


def product_modules() -> list[Path]:
    """Every module that is installed."""
    return [*(ROOT / door for door in DOORS), *room_modules(*ROOMS)]


def dev() -> ModuleType:
    """dev.py, which is a script beside the package and not in it."""
    if "keylift_dev" not in sys.modules:
        spec = importlib.util.spec_from_file_location("keylift_dev", ROOT / "dev.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["keylift_dev"] = module
        spec.loader.exec_module(module)
    return sys.modules["keylift_dev"]
