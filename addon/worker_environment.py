"""The worker's own Python environment: where it lies, what is known of it, how it is removed. Knows nothing of Blender.

Everything that lifting needs and Blender lacks is installed into a virtual environment of Blender's Python, in exact
versions; ``environment_making`` does that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import KeyliftError, TryAgainError
from ..core.outside_text import json_value, text_within

if TYPE_CHECKING:
    from .torch_builds import TorchBuild

REQUIREMENTS = Path(__file__).parent / "worker_requirements.txt"
LOG_NAME = "set-up.log"
# What is fetched lies here until it is unpacked, so that a set-up that was stopped need not fetch it again.
FETCHED_NAME = "fetched"
_STAMP_NAME = "keylift-environment.json"
_MOST_STAMP_BYTES = 1 << 20
_SET_ASIDE = ".removed"
# The import names of what the worker can't do without; that they load is looked at before an environment counts.
MODULES = ("torch", "mediapipe", "cv2", "av", "scipy", "safetensors", "numpy", "platformdirs", "rich", "threadpoolctl")
_ENTRIES_OF_OTHER_PYTHONS = ("PYTHON", "VIRTUAL_ENV", "CONDA", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")


class EnvironmentMissingError(KeyliftError):
    """The worker's environment is not there, or can't be made or used."""


@dataclass(frozen=True)
class EnvironmentPlan:
    """What to make, where, and from what.

    folder: of the environment, see ``environment_folder``
    python: the interpreter that it is made of: Blender's own
    build:  which torch
    wheels: a folder of packages to install from instead of the network
    online: whether the network may be used
    requirements: what to install
    version: of Keylift, for whoever looks at the environment later
    proof:   what to run with the environment's interpreter when it is made, as arguments; should it fail, that is
             told, and the environment counts all the same
    variables: environment variables to add for pip and the proof
    """

    folder: Path
    python: Path
    build: TorchBuild
    wheels: Path | None = None
    online: bool = True
    requirements: Path = REQUIREMENTS
    version: str = ""
    proof: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raise EnvironmentMissingError or TryAgainError when it can't be made, before anything is begun."""
        from .torch_builds import why_no_build

        if self.wheels is not None and not self.wheels.is_dir():
            raise EnvironmentMissingError(
                f"There is no folder '{self.wheels}'. Choose the folder of wheels again, or leave it empty."
            )
        if self.wheels is None and not self.online:
            raise EnvironmentMissingError(
                "Blender is set to stay offline. Allow online access under Preferences > System > Network, or choose a "
                "folder of wheels."
            )
        if self.wheels is None and (reason := why_no_build()) is not None:
            raise EnvironmentMissingError(reason)
        check_disk(self.folder, self.build.bytes if self.wheels is not None else self.build.bytes_while_made)


def check_disk(folder: Path, wanted_bytes: int) -> None:
    """Raise TryAgainError when the disk can't take an environment. What is there of it already counts as free."""
    there = next(place for place in (folder, *folder.parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < wanted_bytes:
        free += bytes_below(folder) + bytes_below(folder.parent / FETCHED_NAME)
    if free < wanted_bytes:
        raise TryAgainError(
            f"The set-up takes about {wanted_bytes / 1e9:.1f} GB while it runs, and there are {free / 1e9:.1f} GB free "
            f"where '{folder}' is. Free some space and try again."
        )


def bytes_below(folder: Path) -> int:
    """What the files in a folder take. Files that vanish meanwhile count as nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total


def environment_folder(base: Path, version: str, build: TorchBuild, requirements: Path = REQUIREMENTS) -> Path:
    """Where an environment lives below ``base``: one for each version of what it is made of.

    version: of Keylift
    """
    of = f"{version} {build.name} ".encode() + requirements.read_bytes()
    major, minor = sys.version_info[:2]
    return base / f"{major}.{minor}-{hashlib.sha256(of).hexdigest()[:10]}"


def python_of(folder: Path) -> Path:
    """The interpreter inside a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_complete(folder: Path) -> bool:
    """Whether the environment was made to its end, is still there, and the Python that it was made of is as well."""
    return read_stamp(folder).get("state") == "complete" and python_of(folder).exists() and _has_its_home(folder)


def _has_its_home(folder: Path) -> bool:
    """Windows' virtual environments only point to the Python that they were made of: Blender's, which may move."""
    try:
        lines = (folder / "pyvenv.cfg").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    homes = [line.partition("=")[2].strip() for line in lines if line.partition("=")[0].strip() == "home"]
    return bool(homes) and Path(homes[0]).is_dir()


def is_begun(folder: Path) -> bool:
    """Whether the environment was begun and not finished."""
    return read_stamp(folder).get("state") == "installing"


@dataclass(frozen=True)
class KnownEnvironment:
    """What an environment's stamp says of it.

    title: whose it is and with which torch, for a person
    bytes: that it takes; 0 when it was never finished
    notes: what was worth telling when it was made
    """

    folder: Path
    title: str
    bytes: int = 0
    notes: tuple[str, ...] = ()


def known_environment(folder: Path) -> KnownEnvironment | None:
    """What is known of the environment in ``folder``; None when that is none of Keylift's."""
    stamp = read_stamp(folder)
    if not isinstance(stamp.get("state"), str):
        return None
    title = f"Keylift {stamp.get('keylift') or '?'}, {stamp.get('torch') or '?'}"
    size, notes = stamp.get("bytes"), stamp.get("notes")
    return KnownEnvironment(
        folder,
        title if stamp["state"] == "complete" else f"{title}, not finished",
        size if isinstance(size, int) else 0,
        tuple(map(str, notes)) if isinstance(notes, list) else (),
    )


def other_environments(folder: Path) -> list[KnownEnvironment]:
    """Environments beside ``folder``: of other versions, other Blenders, or with another torch."""
    try:
        beside = sorted(place for place in folder.parent.iterdir() if place != folder and place.is_dir())
    except OSError:
        return []
    # What is set aside is as good as gone.
    found = (known_environment(place) for place in beside if place.suffix != _SET_ASIDE)
    return [environment for environment in found if environment is not None]


def set_aside(folder: Path) -> None:
    """Take an environment away at once; ``delete_set_aside`` then gives its space back, which takes a while.

    Raises EnvironmentMissingError when something holds on to it.
    """
    if not folder.exists():
        return
    try:
        number = 1
        while (aside := folder.with_name(f"{folder.name}-{number}{_SET_ASIDE}")).exists():
            number += 1
        os.replace(folder, aside)
    except OSError as problem:
        raise EnvironmentMissingError(
            f"'{folder}' can't be removed ({problem.strerror or problem}). Close what uses it, such as another "
            "Blender, and try again."
        ) from problem


def delete_set_aside(base: Path) -> None:
    """Delete what was set aside in ``base``; what can't be deleted now will be the next time."""
    for place in base.glob("*" + _SET_ASIDE):
        shutil.rmtree(place, ignore_errors=True)


def remove(folder: Path) -> None:
    """Take an environment away and wait until it is gone. Raises EnvironmentMissingError when it is being used."""
    set_aside(folder)
    delete_set_aside(folder.parent)


def read_stamp(folder: Path) -> dict[str, Any]:
    """What is written down of an environment; empty when there is none, or nothing that can be read."""
    try:
        read = json_value(text_within(folder / _STAMP_NAME, _MOST_STAMP_BYTES))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def write_stamp(folder: Path, said: Mapping[str, Any]) -> None:
    """Write down what is known of an environment, all at once."""
    beside = folder / (_STAMP_NAME + ".new")
    beside.write_text(json.dumps(said, indent=2), encoding="utf-8")
    os.replace(beside, folder / _STAMP_NAME)


def clean_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables without those that lead another Python's modules, or pip, astray."""
    given = os.environ if environment is None else environment
    kept = {name: value for name, value in given.items() if not name.upper().startswith(_ENTRIES_OF_OTHER_PYTHONS)}
    # A user's pip may be set to install beside all environments.
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1", "PIP_USER": "0"}


def hidden(own_group: bool = False) -> dict[str, Any]:
    """Options for a process that shows no window, and that can be ended with all that it started."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | (subprocess.CREATE_NEW_PROCESS_GROUP if own_group else 0)
        return {"creationflags": flags}
    return {"start_new_session": True} if own_group else {}
