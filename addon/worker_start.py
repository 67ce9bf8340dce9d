"""Where the worker's Python begins, run as a file by its path: loads the package from where it lies.

An extension's folder is no place that Python looks for modules in, and its parent holds other people's. So the package
is loaded under the name that its own files never say. As a file, and not as text on the command line, it is also where
Python begins in each process that the worker spawns: those of a batch, or of somebody's footage that is looked at.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

# Where compiled modules go, for spawned processes, which are not told on their command line.
BYTECODE = "KEYLIFT_BYTECODE"


def load_package() -> None:
    """Make ``keylift`` the package that this file lies in."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    spec = importlib.util.spec_from_file_location(
        "keylift", os.path.join(folder, "__init__.py"), submodule_search_locations=[folder]
    )
    assert spec is not None and spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules["keylift"] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    if sys.pycache_prefix is not None:
        os.environ[BYTECODE] = sys.pycache_prefix
    load_package()
    raise SystemExit(importlib.import_module("keylift.__main__").main(sys.argv[1:]))
elif __name__ == "__mp_main__":
    sys.pycache_prefix = os.environ.get(BYTECODE) or sys.pycache_prefix
    load_package()
