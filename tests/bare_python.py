"""A Python that has the libraries and not Keylift, as the worker's environment of an installed extension is."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path


def bare_python(folder: Path, without: Sequence[str] = ()) -> Path:
    """The interpreter of an environment made in ``folder``, beside which Keylift can only be found where it lies.

    without: modules that it lacks
    """
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)], check=True)
    paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
    # A path in such a file is looked in, but not what that folder's own such files say: there the checkout is named.
    (Path(paths["purelib"]) / "libraries.pth").write_text(sysconfig.get_paths()["purelib"], encoding="utf-8")
    for name in without:
        missing = f"raise ModuleNotFoundError(\"No module named '{name}'\", name='{name}')\n"
        (Path(paths["purelib"]) / f"{name}.py").write_text(missing, encoding="utf-8")
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
