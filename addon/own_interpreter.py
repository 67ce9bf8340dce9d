"""A Python that somebody wants the worker to run in: does it have what the worker needs?"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .worker_environment import MODULES, REQUIREMENTS, clean_variables, hidden

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
    wanted = _wanted_versions(requirements)
    command = [str(python), "-I", "-c", _LOOK, json.dumps(sorted(wanted)), json.dumps(list(modules))]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_variables(), **hidden())
        said = json.loads(answer.stdout.strip().splitlines()[-1])
        version = tuple(int(part) for part in said["python"])
        versions, missing = dict(said["versions"]), list(said["missing"])
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError):
        return Interpreter(python, "", (f"'{python}' is no Python that can be started. Choose python or python.exe.",))
    problems, notes = [], []
    if not OLDEST_PYTHON <= version[:2] <= NEWEST_PYTHON:
        problems.append(f"It is Python {version[0]}.{version[1]}; Keylift needs 3.11, 3.12 or 3.13.")
    if missing:
        problems.append(
            f"It lacks {', '.join(missing)}. Install what is in worker_requirements.txt of the add-on's folder."
        )
    for name, version_wanted in sorted(wanted.items()):
        has = versions.get(name)
        if has is not None and has.split("+")[0] != version_wanted:
            notes.append(f"{name} {has} (tried with {version_wanted})")
    return Interpreter(python, ".".join(map(str, version)), tuple(problems), tuple(notes))


def _wanted_versions(requirements: Path) -> dict[str, str]:
    """Package -> version, of lines that count for every Python."""
    lines = requirements.read_text(encoding="utf-8").splitlines()
    pins = (re.fullmatch(r"([\w.-]+)==([\w.]+)", line.strip()) for line in lines)
    return {pin.group(1): pin.group(2) for pin in pins if pin}
