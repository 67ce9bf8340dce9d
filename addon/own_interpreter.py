"""A Python that somebody wants the worker to run in: does it have what the worker needs?"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .worker_environment import MODULES, REQUIREMENTS, clean_variables, hidden, python_of

# Module -> package, where they differ.
_PACKAGES = {"cv2": "opencv-contrib-python"}
OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 13)


@dataclass(frozen=True)
class Interpreter:
    """What was found of a Python that somebody wants the worker to run in.

    version: "3.11.9"; empty when it can't be started
    problems: what is wrong, each with what to do; empty when it will do
    notes:    what differs from what Keylift was tried with
    """

    python: Path
    version: str
    problems: tuple[str, ...]
    notes: tuple[str, ...] = ()


def interpreter_at(path: Path) -> Path | None:
    """The interpreter that ``path`` means: itself, or the one in the folder of an environment; None without one."""
    if path.is_dir():
        path = next((inside for inside in (python_of(path), path / "python.exe") if inside.is_file()), path)
    return path if path.is_file() else None


_LOOK = """
import importlib.util, json, sys
from importlib.metadata import PackageNotFoundError, version
def found(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None
names = json.loads(sys.argv[1])
missing = [module for module in json.loads(sys.argv[2]) if importlib.util.find_spec(module) is None]
said = {"python": list(sys.version_info[:3]), "versions": {name: found(name) for name in names}, "missing": missing}
print(json.dumps(said))
"""


def examine(python: Path, requirements: Path = REQUIREMENTS, modules: Sequence[str] = MODULES) -> Interpreter:
    """Look at an interpreter: is it one that fits, and does it have what the worker needs? Takes a second."""
    packages = [_PACKAGES.get(module, module) for module in modules]
    command = [str(python), "-I", "-c", _LOOK, json.dumps(packages), json.dumps(list(modules))]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_variables(), **hidden())
        said = json.loads(answer.stdout.strip().splitlines()[-1])
        major, minor, micro = (int(part) for part in said["python"])
        versions, missing = dict(said["versions"]), list(said["missing"])
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError):
        return Interpreter(python, "", (f"'{python}' is no Python that can be started. Choose python or python.exe.",))
    problems, notes = [], []
    if not OLDEST_PYTHON <= (major, minor) <= NEWEST_PYTHON:
        problems.append(f"It is Python {major}.{minor}; Keylift needs 3.11, 3.12 or 3.13.")
    if missing:
        lacking = ", ".join(_PACKAGES.get(module, module) for module in missing)
        problems.append(f"It lacks {lacking}. Run: '{python}' -m pip install -r '{requirements}'")
    for name, wanted in _wanted_versions(requirements, (major, minor)).items():
        has = versions.get(name)
        if has is not None and has.split("+")[0] != wanted:
            notes.append(f"{name} {has} (tried with {wanted})")
    return Interpreter(python, f"{major}.{minor}.{micro}", tuple(problems), tuple(notes))


_PIN = re.compile(r'([\w.-]+)==([\w.]+)(?:; python_version (<|>=) "(\d+)\.(\d+)")?')


def _wanted_versions(requirements: Path, python: tuple[int, int]) -> dict[str, str]:
    """Package -> version, for a version of Python."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    wanted = {}
    for pin in filter(None, map(_PIN.fullmatch, lines)):
        name, version, comparison, major, minor = pin.groups()
        older = comparison is not None and python < (int(major), int(minor))
        if comparison is None or older == (comparison == "<"):
            wanted[name] = version
    return wanted
