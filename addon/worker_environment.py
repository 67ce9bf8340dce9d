"""The worker's own Python environment: made, mended, looked at and removed. Knows nothing of Blender.

Everything that lifting needs and Blender lacks is installed into a virtual environment of Blender's Python, by pip and
in exact versions. That takes minutes and gigabytes, so it runs beside whoever asks, can be stopped at any moment, and
goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import KeyliftError, TryAgainError
from .torch_builds import TorchBuild

REQUIREMENTS = Path(__file__).parent / "worker_requirements.txt"
LOG_NAME = "set-up.log"
_STAMP_NAME = "keylift-environment.json"
# The import names of what the worker can't do without; that they load is looked at before an environment counts.
MODULES = ("torch", "mediapipe", "cv2", "av", "scipy", "safetensors", "numpy", "platformdirs", "rich", "threadpoolctl")
_LOADED = "import " + ", ".join(MODULES)
_ENTRIES_OF_OTHER_PYTHONS = ("PYTHON", "VIRTUAL_ENV", "CONDA", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
_LINES_KEPT = 200


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
    requirements: what to install besides
    """

    folder: Path
    python: Path
    build: TorchBuild
    wheels: Path | None = None
    online: bool = True
    requirements: Path = REQUIREMENTS

    def check(self) -> None:
        """Raise EnvironmentMissingError or TryAgainError when it can't be made, before anything is begun."""
        if self.wheels is not None and not self.wheels.is_dir():
            raise EnvironmentMissingError(
                f"There is no folder '{self.wheels}'. Choose the folder of wheels again, or leave it empty."
            )
        if self.wheels is None and not self.online:
            raise EnvironmentMissingError(
                "Blender is set to stay offline. Allow online access under Preferences > System > Network, or choose a "
                "folder of wheels."
            )
        there = next(place for place in (self.folder, *self.folder.parents) if place.exists())
        free = shutil.disk_usage(there).free
        if free < self.build.bytes:
            raise TryAgainError(
                f"The set-up takes about {self.build.bytes / 1e9:.1f} GB and there are {free / 1e9:.1f} GB free where "
                f"'{self.folder}' is. Free some space, or choose another folder."
            )


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
    """Whether the environment was made to its end, and is still there."""
    return _stamp(folder).get("state") == "complete" and python_of(folder).exists()


def is_begun(folder: Path) -> bool:
    """Whether the environment was begun and not finished."""
    return _stamp(folder).get("state") == "installing"


def remove(folder: Path) -> None:
    """Take the environment away. Raises EnvironmentMissingError when something holds on to it."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as problem:
        raise EnvironmentMissingError(
            f"'{folder}' can't be removed ({problem.strerror or problem}). Stop what runs from it and try again."
        ) from problem


def _stamp(folder: Path) -> dict[str, Any]:
    try:
        read = json.loads((folder / _STAMP_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def clean_variables(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Environment variables without those that lead another Python's modules, or pip, astray."""
    given = os.environ if environment is None else environment
    kept = {name: value for name, value in given.items() if not name.upper().startswith(_ENTRIES_OF_OTHER_PYTHONS)}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}


@dataclass(frozen=True)
class SetupState:
    """Where a set-up is.

    step:     what it is at, for a person
    fraction: of the whole, 0 to 1, as far as pip tells
    line:     the last line that was printed
    seconds:  since it began
    done:     True when it ended well
    problem:  why it ended otherwise
    """

    step: str
    fraction: float
    line: str
    seconds: float
    done: bool = False
    problem: KeyliftError | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.done or self.problem is not None


@dataclass(frozen=True)
class _Step:
    title: str
    command: tuple[str, ...]
    share: float
    # What to do instead when it fails; None = give up.
    otherwise: tuple[str, ...] | None = None


class EnvironmentSetup:
    """Makes an environment beside whoever asks: start it, look with ``poll`` now and then, ``cancel`` to stop."""

    def __init__(self, plan: EnvironmentPlan) -> None:
        """Begin. Raises KeyliftError when it can't be made."""
        plan.check()
        self.plan = plan
        self.log = plan.folder.parent / LOG_NAME
        self._began = time.monotonic()
        self._said: queue.Queue[tuple[str, float, str]] = queue.Queue()
        self._state = SetupState("Starting", 0.0, "", 0.0)
        self._outcome: KeyliftError | bool | None = None
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._bytes = 0.0
        try:
            plan.folder.parent.mkdir(parents=True, exist_ok=True)
            self.log.write_text("", encoding="utf-8")
        except OSError as problem:
            raise EnvironmentMissingError(
                f"'{plan.folder.parent}' can't be written ({problem.strerror}). Choose another folder."
            ) from problem
        self._thread = threading.Thread(target=self._work, name="keylift-set-up", daemon=True)
        self._thread.start()

    def poll(self) -> SetupState:
        """Where it is now. Never waits."""
        outcome = self._outcome
        step, fraction, line = self._state.step, self._state.fraction, self._state.line
        with contextlib.suppress(queue.Empty):
            while True:
                step, fraction, line = self._said.get_nowait()
        problem = outcome if isinstance(outcome, KeyliftError) else None
        done = outcome is True
        seconds = self._state.seconds if self._state.over else time.monotonic() - self._began
        self._state = SetupState(step, 1.0 if done else fraction, line, seconds, done, problem)
        return self._state

    def wait(self) -> SetupState:
        """Wait for its end: for scripts, and for Blender without a window."""
        while not (state := self.poll()).over:
            time.sleep(0.05)
        return state

    def cancel(self) -> None:
        """Stop it. What was fetched so far is kept, and the next set-up goes on from there."""
        self._stopping.set()
        process = self._process
        if process is not None:
            _end_tree(process)

    def _work(self) -> None:
        try:
            self._make()
            self._outcome = True
        except KeyliftError as problem:
            self._outcome = problem
        except OSError as problem:
            self._outcome = TryAgainError(f"The set-up failed: {problem}. Mend that and press Retry.")

    def _make(self) -> None:
        folder, python = self.plan.folder, python_of(self.plan.folder)
        before = 0.0
        for step in self._steps():
            self._said.put((step.title, before, ""))
            code = self._run(step, step.command, before)
            if code != 0 and step.otherwise is not None and not self._stopping.is_set():
                self._say("That did not work; trying the usual package index.\n")
                code = self._run(step, step.otherwise, before)
            if self._stopping.is_set():
                raise TryAgainError("Stopped. What was fetched so far is kept; press Retry to go on.")
            if code != 0:
                raise self._failure(step)
            if step.title == _VENV_TITLE:
                if not python.exists():
                    raise EnvironmentMissingError(
                        f"Python made an environment without a python in it ('{folder}'). Choose a folder with a "
                        "shorter path in the preferences, or an interpreter of your own."
                    )
                self._write_stamp("installing")
            before += step.share
        self._write_stamp("complete")

    def _steps(self) -> list[_Step]:
        folder, python = self.plan.folder, str(python_of(self.plan.folder))
        pip = (python, "-I", "-m", "pip", "install", "--progress-bar", "off", "--no-input", "--no-warn-script-location")
        source: tuple[str, ...] = ()
        if self.plan.wheels is not None:
            source = ("--no-index", "--find-links", str(self.plan.wheels))
        steps = []
        if not (is_begun(folder) and self._works(python)):
            steps.append(_Step(_VENV_TITLE, (str(self.plan.python), "-I", "-m", "venv", "--clear", str(folder)), 0.05))
        torch = [line for line in self._requirement_lines() if line.startswith("torch==")]
        index = self.plan.build.index
        if torch and index is not None and self.plan.wheels is None:
            alone = (*pip, *torch)
            # PyTorch's index has what torch stands on as well.
            otherwise = alone if self.plan.build.name != "rocm" else None
            steps.append(_Step("Installing torch", (*alone, "--index-url", index), 0.45, otherwise))
        packages = (*pip, *source, "-r", str(self.plan.requirements))
        share = 0.95 - sum(step.share for step in steps)
        steps.append(_Step("Installing packages", packages, share))
        steps.append(_Step("Checking that everything loads", (python, "-I", "-c", self._check()), 0.05))
        return steps

    def _requirement_lines(self) -> list[str]:
        return self.plan.requirements.read_text(encoding="utf-8").splitlines()

    def _check(self) -> str:
        return _LOADED if self.plan.requirements == REQUIREMENTS else "import sys"

    def _works(self, python: str) -> bool:
        try:
            command = [python, "-I", "-m", "pip", "--version"]
            return subprocess.run(command, capture_output=True, env=clean_variables(), **hidden()).returncode == 0
        except OSError:
            return False

    def _run(self, step: _Step, command: tuple[str, ...], before: float) -> int:
        self._bytes = 0.0
        self._say("> " + " ".join(command) + "\n")
        if self._stopping.is_set():
            return 1
        try:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                env=clean_variables(),
                cwd=str(self.plan.folder.parent),
                **hidden(own_group=True),
            )
        except OSError as problem:
            self._say(f"{problem}\n")
            return 1
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._say(line)
            self._said.put((step.title, before + step.share * self._part_done(line), line.strip()))
        return self._process.wait()

    def _part_done(self, line: str) -> float:
        """How much of a step is done, by the bytes that pip says it fetches."""
        found = re.search(r"(?:Downloading|Using cached) .*\(([\d.]+) ([kMG]?B)\)", line)
        if found:
            self._bytes += float(found.group(1)) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[found.group(2)]
        if line.startswith("Installing collected"):
            return 0.8
        # Packed, it is about a third of what it takes on the disk.
        return min(0.75, self._bytes / (self.plan.build.bytes / 3))

    def _say(self, text: str) -> None:
        self._lines = [*self._lines[-_LINES_KEPT:], text.rstrip()]
        with contextlib.suppress(OSError), open(self.log, "a", encoding="utf-8") as log:
            log.write(text)

    def _write_stamp(self, state: str) -> None:
        said = {"state": state, "torch": self.plan.build.name, "made_of": str(self.plan.python)}
        beside = self.plan.folder / (_STAMP_NAME + ".new")
        beside.write_text(json.dumps(said, indent=2), encoding="utf-8")
        os.replace(beside, self.plan.folder / _STAMP_NAME)

    def _failure(self, step: _Step) -> KeyliftError:
        text = "\n".join(self._lines[-60:])
        full = f"The full log is '{self.log}'."
        if step.title == _VENV_TITLE:
            if "ensurepip" in text or "python3-venv" in text:
                return EnvironmentMissingError(
                    "Blender's Python lacks venv. On Debian and Ubuntu install the package python3-venv; elsewhere "
                    f"choose an interpreter of your own in the preferences. {full}"
                )
            return EnvironmentMissingError(f"The environment could not be made: {self._last_line()} {full}")
        if "No space left" in text or "WinError 112" in text:
            return TryAgainError(f"The disk is full. Free some space and press Retry. {full}")
        if re.search(
            r"Temporary failure in name|Failed to establish|Connection|timed out|Max retries|getaddrinfo", text
        ):
            return TryAgainError(f"The network can't be reached. Check it and press Retry. {full}")
        missing = re.search(r"No matching distribution found for (\S+)", text)
        if missing and self.plan.wheels is not None:
            return EnvironmentMissingError(
                f"The folder of wheels lacks {missing.group(1)} for this Python and system. Put it there and press "
                f"Retry. {full}"
            )
        if missing:
            return EnvironmentMissingError(
                f"The package index has no {missing.group(1)} for this Python and system. Choose another build of "
                f"torch, or an interpreter of your own. {full}"
            )
        return TryAgainError(f"{step.title} failed: {self._last_line()} {full}")

    def _last_line(self) -> str:
        words = [line for line in self._lines if line and not line.startswith((">", "[notice]", "WARNING"))]
        return words[-1] + "." if words else "nothing was said."


_VENV_TITLE = "Making the environment"
_NO_NETWORK = r"Temporary failure in name|Failed to establish|Connection|timed out|Max retries|getaddrinfo"


def hidden(own_group: bool = False) -> dict[str, Any]:
    """Options for a process that shows no window, and that can be ended with all that it started."""
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | (subprocess.CREATE_NEW_PROCESS_GROUP if own_group else 0)
        return {"creationflags": flags}
    return {"start_new_session": True} if own_group else {}


def _end_tree(process: subprocess.Popen[str]) -> None:
    """End a process and what it started."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, **hidden())
    else:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, 9)
    with contextlib.suppress(OSError):
        process.kill()
