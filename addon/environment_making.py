"""Making the worker's environment, beside whoever asks: by venv and pip, in processes of their own.

It takes minutes and gigabytes, so it can be looked at without waiting, stopped at any moment, and goes on where it
stopped.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import weakref
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from ..core.errors import Cancelled, KeyliftError, TryAgainError
from .torch_builds import TorchBuild, torch_builds
from .worker_environment import (
    FETCHED_NAME,
    LOG_NAME,
    MODULES,
    REQUIREMENTS,
    EnvironmentMissingError,
    EnvironmentPlan,
    bytes_below,
    check_disk,
    clean_variables,
    delete_set_aside,
    hidden,
    is_begun,
    known_environment,
    python_of,
    write_stamp,
)

_LOADED = "import " + ", ".join(MODULES)
_LINES_KEPT = 200
# So often what lies on the disk is looked at, while pip is silent.
_LOOK_S = 0.3
_NO_NETWORK = re.compile(
    r"Temporary failure in name|Failed to establish|[Cc]onnection|timed out|Max retries|getaddrinfo|ProxyError|SSLError"
)


@dataclass(frozen=True)
class SetupState:
    """Where a set-up is.

    step:     what it is at, for a person
    fraction: of the whole, 0 to 1, as far as can be told
    line:     the last line that was printed
    seconds:  since it began
    done:     True when it ended well
    problem:  why it ended otherwise
    notes:    what is worth telling besides
    """

    step: str
    fraction: float
    line: str
    seconds: float
    done: bool = False
    problem: KeyliftError | None = None
    notes: tuple[str, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.done or self.problem is not None


@dataclass(frozen=True)
class _Step:
    """One process.

    share:   of the whole set-up's time
    fetches: bytes that pip has to fetch for it, as far as is known
    usual:   what to do instead when PyTorch's own index can't be reached, and which build that gives
    needed:  False when the environment will do without it
    """

    title: str
    command: tuple[str, ...]
    share: float
    fetches: int = 0
    usual: tuple[tuple[str, ...], TorchBuild] | None = None
    needed: bool = True


_MAKING = "Making the environment"
_LOADING = "Checking that everything loads"
_running: weakref.WeakSet[EnvironmentSetup] = weakref.WeakSet()


class EnvironmentSetup:
    """Makes an environment beside whoever asks: start it, look with ``poll`` now and then, ``cancel`` to stop."""

    def __init__(self, plan: EnvironmentPlan) -> None:
        """Begin. Raises KeyliftError when it can't be made, or another Blender is making one just now."""
        plan.check()
        self.plan = plan
        self.base = plan.folder.parent
        self.log = self.base / LOG_NAME
        try:
            self.base.mkdir(parents=True, exist_ok=True)
            self._lock = _lock(self.base / "set-up.lock")
            self.log.write_text("", encoding="utf-8")
        except OSError as problem:
            raise EnvironmentMissingError(
                f"'{self.base}' can't be written ({problem.strerror or problem}). See to it that it can, and try again."
            ) from problem
        self._began = time.monotonic()
        self._said: queue.Queue[tuple[str, float, str]] = queue.Queue()
        self._state = SetupState("Starting", 0.0, "", 0.0)
        self._outcome: KeyliftError | bool | None = None
        self._notes: tuple[str, ...] = ()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._thread = threading.Thread(target=self._work, name="keylift-set-up", daemon=True)
        self._thread.start()
        _running.add(self)

    def poll(self) -> SetupState:
        """Where it is now. Never waits."""
        outcome = self._outcome
        step, fraction, line = self._state.step, self._state.fraction, self._state.line
        with contextlib.suppress(queue.Empty):
            while True:
                step, fraction, said = self._said.get_nowait()
                line = said or line
        problem = outcome if isinstance(outcome, KeyliftError) else None
        done = outcome is True
        seconds = self._state.seconds if self._state.over else time.monotonic() - self._began
        # What is counted anew is no reason for a bar to go back.
        fraction = 1.0 if done else max(fraction, self._state.fraction)
        self._state = SetupState(step, fraction, line, seconds, done, problem, self._notes)
        return self._state

    def wait(self) -> SetupState:
        """Wait for its end: for scripts, and for Blender without a window."""
        while not (state := self.poll()).over:
            time.sleep(0.05)
        return state

    def cancel(self) -> None:
        """Stop it. What was fetched so far is kept, and the next set-up goes on from there. Never waits."""
        self._stopping.set()
        process = self._process
        if process is not None:
            threading.Thread(target=_end_tree, args=(process,), name="keylift-set-up-ends", daemon=True).start()

    def _work(self) -> None:
        # A surprise must not leave somebody waiting for ever.
        outcome: KeyliftError | bool = EnvironmentMissingError("The set-up broke off. The log says more.")
        try:
            self._make()
            outcome = True
        except KeyliftError as problem:
            outcome = problem
        except OSError as problem:
            outcome = TryAgainError(f"The set-up failed: {problem}. Mend that and press Retry.")
        finally:
            self._lock.close()
            _running.discard(self)
            self._outcome = outcome

    # ---- What is to be done ------------------------------------------------------------------------------------------

    def _make(self) -> None:
        delete_set_aside(self.base)
        before = 0.0
        for step in self._steps():
            self._said.put((step.title, before, ""))
            code = self._run(step, step.command, before)
            if code != 0 and step.usual is not None and self._is_index_away():
                code = self._run_usual(step, before)
            if self._stopping.is_set():
                raise Cancelled("Stopped. What was fetched so far is kept; press Retry to go on.")
            if code != 0 and step.needed:
                if step.title == _LOADING:
                    # Installing over it would find everything there. The next set-up makes it anew.
                    self._write_stamp("broken")
                raise self._failure(step)
            if code != 0:
                self._notes += (f"The worker is set up, but: {self._last_line().removeprefix('keylift: ')}",)
            if step.title == _MAKING:
                self._look_for_python()
                self._write_stamp("installing")
            before += step.share
            if step.title == _LOADING:
                self._write_stamp("complete")
        shutil.rmtree(self.base / FETCHED_NAME, ignore_errors=True)

    def _steps(self) -> list[_Step]:
        plan, python = self.plan, str(python_of(self.plan.folder))
        pip = (python, "-I", "-m", "pip", "install", "--progress-bar", "off", "--no-input", "--no-warn-script-location")
        steps = []
        if is_begun(plan.folder) and self._works(python):
            begun = known_environment(plan.folder)
            self._notes = begun.notes if begun is not None else ()
        else:
            steps.append(_Step(_MAKING, (str(plan.python), "-I", "-m", "venv", "--clear", str(plan.folder)), 0.05))
        torch = [line for line in self._requirement_lines() if line.startswith("torch==")]
        to_fetch = plan.build.packed_bytes if plan.wheels is None else 0
        if torch and plan.build.index is not None and plan.wheels is None:
            # What torch stands on comes with the other packages, in their versions; but ROCm's parts are only here.
            alone = (*pip, *(() if plan.build.name == "rocm" else ("--no-deps",)), *torch)
            own = (*alone, "--index-url", plan.build.index, "--retries", "2", "--timeout", "20")
            usual = torch_builds().get(plan.build.usual)
            fetched = to_fetch * 2 // 3
            steps.append(_Step("Installing torch", own, 0.5, fetched, (alone, usual) if usual is not None else None))
            to_fetch -= fetched
        source = () if plan.wheels is None else ("--no-index", "--find-links", str(plan.wheels))
        end = [_Step(_LOADING, (python, "-I", "-c", self._check()), 0.05)]
        if plan.proof:
            end.append(_Step("Trying it out", (python, *plan.proof), 0.05, needed=False))
        share = 1.0 - sum(step.share for step in (*steps, *end))
        packages = (*pip, *source, "-r", str(plan.requirements))
        return [*steps, _Step("Installing packages", packages, share, to_fetch), *end]

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

    def _look_for_python(self) -> None:
        if not python_of(self.plan.folder).exists():
            raise EnvironmentMissingError(
                f"Python made an environment without a python in it ('{self.plan.folder}'). A virus scanner may have "
                "taken it, or the path be too long. Allow it and press Retry, or choose an interpreter of your own."
            )

    def _run_usual(self, step: _Step, before: float) -> int:
        """Install torch from the usual index, where PyTorch's own is away."""
        assert step.usual is not None
        command, build = step.usual
        self._say("PyTorch's own package index can't be reached; trying the usual one.\n")
        check_disk(self.plan.folder, build.bytes_while_made)
        code = self._run(replace(step, fetches=build.packed_bytes), command, before)
        if code == 0:
            self._notes += (
                "PyTorch's own package index could not be reached, so torch is the one of the usual index: "
                f"{build.title} instead of {self.plan.build.title}.",
            )
        return code

    def _is_index_away(self) -> bool:
        text = "\n".join(self._lines)
        return not self._stopping.is_set() and bool(_NO_NETWORK.search(text) or "No matching distribution" in text)

    def _write_stamp(self, state: str) -> None:
        said = {
            "state": state,
            "keylift": self.plan.version,
            "torch": self.plan.build.title,
            "made_of": str(self.plan.python),
            "notes": list(self._notes),
            "bytes": bytes_below(self.plan.folder) if state == "complete" else 0,
        }
        write_stamp(self.plan.folder, said)

    # ---- Doing it ----------------------------------------------------------------------------------------------------

    def _run(self, step: _Step, command: tuple[str, ...], before: float) -> int:
        """Run a process to its end, tell what it says and how far it is, and return its exit code."""
        scratch = self.base / FETCHED_NAME / "unpacking"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True, exist_ok=True)
        self._lines = []
        self._say("> " + " ".join(command) + "\n")
        if self._stopping.is_set():
            return 1
        try:
            process = self._process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                errors="replace",
                env=self._variables(scratch),
                cwd=str(self.base),
                **hidden(own_group=True),
            )
        except OSError as problem:
            self._say(f"{problem}\n")
            return 1
        if self._stopping.is_set():
            # Whoever stopped it did not see this process yet.
            _end_tree(process)
        assert process.stdout is not None
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
        progress = _PipProgress(self.plan.folder, scratch, step.fetches, len(self._requirement_lines()))
        while True:
            try:
                line = lines.get(timeout=_LOOK_S)
            except queue.Empty:
                line = ""
            if line is None:
                return process.wait()
            if line:
                self._say(line)
                progress.hear(line)
            self._said.put((step.title, before + step.share * progress.fraction(), line.strip()))

    def _variables(self, scratch: Path) -> dict[str, str]:
        """What processes are told by their environment.

        What pip fetches lies beside the environment: a disk in memory, as /tmp often is, may not hold it, a user's
        cache need not keep it, and a set-up that was stopped finds it again.
        """
        here = {name: str(scratch) for name in ("TMPDIR", "TEMP", "TMP")}
        variables = {**clean_variables(), **here, "PIP_CACHE_DIR": str(self.base / FETCHED_NAME / "cache")}
        variables.pop("PIP_NO_CACHE_DIR", None)
        return {**variables, **self.plan.variables}

    def _say(self, text: str) -> None:
        self._lines = [*self._lines[-_LINES_KEPT:], text.rstrip()]
        with contextlib.suppress(OSError), open(self.log, "a", encoding="utf-8") as log:
            log.write(text)

    # ---- Why it failed -----------------------------------------------------------------------------------------------

    def _failure(self, step: _Step) -> KeyliftError:
        text = "\n".join(self._lines)
        full = "The log says more."
        if "No space left" in text or "WinError 112" in text:
            return TryAgainError(f"The disk is full. Free some space and press Retry. {full}")
        if step.title == _MAKING:
            if "ensurepip" in text or "No module named venv" in text:
                return EnvironmentMissingError(
                    "Blender's Python lacks venv or ensurepip, as Debian and Ubuntu pack it. Install the package "
                    f"python3-venv and press Retry, or choose an interpreter of your own in the preferences. {full}"
                )
            return EnvironmentMissingError(f"The environment could not be made: {self._last_line()} {full}")
        if "DO NOT MATCH THE HASHES" in text:
            return TryAgainError(
                "What was fetched is not what the package index promised: it was cut short or changed on the way. "
                f"Press Retry. {full}"
            )
        if _NO_NETWORK.search(text):
            return TryAgainError(f"The network can't be reached. Check it and press Retry. {full}")
        missing = re.search(r"No matching distribution found for (\S+)", text)
        if missing and self.plan.wheels is not None:
            return EnvironmentMissingError(
                f"The folder of wheels lacks {missing.group(1)} for this Python and system. Put it there and press "
                f"Retry. {full}"
            )
        if missing:
            return EnvironmentMissingError(
                # pip says the same of an index that answers with an error, or of a page to sign in on.
                f"The package index gave no {missing.group(1)} for this Python and system. Check that the network "
                "asks for no sign-in and press Retry, or choose another build of torch, or an interpreter of your own. "
                + full
            )
        if step.title == _LOADING:
            return TryAgainError(
                f"Something was installed that does not load: {self._last_line()} Retry makes everything anew. {full}"
            )
        return TryAgainError(f"{step.title} failed: {self._last_line()} Press Retry. {full}")

    def _last_line(self) -> str:
        words = [line for line in self._lines if line and not line.startswith((">", "[notice]", "WARNING"))]
        return words[-1].rstrip(".") + "." if words else "nothing was said."


class _PipProgress:
    """How far pip is: fetching by what lies on the disk, since it says so only between files, then unpacking."""

    _FETCHING = 0.7

    def __init__(self, folder: Path, scratch: Path, expected_bytes: int, expected_packages: int) -> None:
        self._folder, self._scratch = folder, scratch
        self._expected_bytes, self._expected_packages = expected_bytes, max(expected_packages, 1)
        self._seen = 0
        self._to_unpack, self._unpacked_before = 0, 0

    def hear(self, line: str) -> None:
        """Take note of a line that pip printed."""
        if line.startswith(("Collecting", "Processing", "Requirement already")):
            self._seen += 1
        if line.startswith("Installing collected packages:"):
            self._to_unpack = line.count(",") + 1
            self._unpacked_before = self._packages()

    def fraction(self) -> float:
        """Of pip's work, 0 to 1."""
        if self._to_unpack:
            unpacked = (self._packages() - self._unpacked_before) / self._to_unpack
            return self._FETCHING + (1 - self._FETCHING) * min(max(unpacked, 0.0), 1.0)
        if self._expected_bytes:
            return self._FETCHING * min(bytes_below(self._scratch) / self._expected_bytes, 1.0)
        return self._FETCHING * min(self._seen / self._expected_packages, 1.0)

    def _packages(self) -> int:
        places = ("Lib/site-packages", "lib/python*/site-packages")
        return sum(1 for place in places for _ in self._folder.glob(f"{place}/*.dist-info"))


def _read_lines(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for line in stream:
            lines.put(line)
    lines.put(None)


def _lock(file: Path) -> IO[bytes]:
    """Keep other Blenders from making an environment in the same place; the system lets go when this one ends."""
    held = file.open("ab")
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(held.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        held.close()
        raise TryAgainError("Another Blender is setting the worker up just now. Wait until it is done.") from None
    return held


def _end_tree(process: subprocess.Popen[str]) -> None:
    """End a process and what it started."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        # Before the process itself: an orphan is nobody's child. A virtual environment's python is two processes.
        subprocess.run(["taskkill", "/T", "/F", "/PID", str(process.pid)], capture_output=True, **hidden())
    else:
        with contextlib.suppress(OSError):
            os.killpg(process.pid, 9)
    with contextlib.suppress(OSError):
        process.kill()


@atexit.register
def _end_all() -> None:
    """When Blender is closed nothing must go on fetching for nobody."""
    for setup in list(_running):
        setup._stopping.set()
        if setup._process is not None:
            _end_tree(setup._process)
