"""How a command is disturbed: each fault as what it does to a process, a disk, or a clock, at a random moment."""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from faults.undertakings import Undertaking
from shell_runs import Run
from warm_starts import Process, python

DOOR = Path(__file__).with_name("faulty_door.py")
PATIENCE_S = 400.0
FULL, SHUT, GPU, MEMORY = "disk is full", "can't be written", "The GPU", "memory ran out"


class Disturbance:
    """One kind of fault.

    codes: how a disturbed command may end; 0: it had all it needed by then
    words: of which one is in the message when it ends with a code of its own
    dies:  whether the process is gone without a word
    """

    name = ""
    codes: tuple[int, ...] = (0,)
    words: tuple[str, ...] = ()
    dies = False
    # Where nothing can be removed, what was half written stays until the next run.
    leaves_litter = False

    def __init__(self, chance: random.Random, seconds: float) -> None:
        self.chance, self.seconds = chance, seconds
        self.note = ""

    @contextmanager
    def ground(self, place: Path, work: Undertaking) -> Iterator[None]:
        """The place that the command works in."""
        yield

    def run(self, work: Undertaking, place: Path, temporary: Path) -> tuple[Run, bool]:
        """The command, disturbed; and whether the fault struck before it was over."""
        process = self.started(work, place, temporary)
        struck = threading.Event()
        over = threading.Event()
        striking = threading.Thread(target=self._strike_in_time, args=(process, place, struck, over), daemon=True)
        striking.start()
        try:
            out, err = process.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            over.set()
            striking.join()
        return Run(process.wait(), out, err), struck.is_set()

    def started(self, work: Undertaking, place: Path, temporary: Path) -> Process:
        """The command on its way."""
        env = {**work.variables(place), "TMPDIR": str(temporary), **self.variables(work, place, temporary)}
        door = [str(DOOR)] if "KEYLIFT_FAULT" in env else ["-m", "keylift"]
        return python(*door, *work.argv(place), cwd=work.inputs, env=env, cold=work.cold, own_session=True)

    def variables(self, work: Undertaking, place: Path, temporary: Path) -> dict[str, str]:
        """Environment variables of the disturbed run alone."""
        return {}

    def _strike_in_time(self, process: Process, place: Path, struck: threading.Event, over: threading.Event) -> None:
        if not over.wait(self.moment()) and self.strike(process, place, over):
            struck.set()

    def moment(self) -> float:
        """Seconds from the start."""
        return self.chance.uniform(0.05, 0.9 * self.seconds)

    def strike(self, process: Process, place: Path, over: threading.Event) -> bool:
        """Do it, and say whether it could be done."""
        return True

    def mend(self, place: Path) -> None:
        """As a person does who reads the message."""


class Kill(Disturbance):
    """SIGKILL of the process."""

    name, codes, dies = "kill", (0, -9), True

    def strike(self, process: Process, place: Path, over: threading.Event) -> bool:
        if process.poll() is not None:
            return False
        process.kill()
        return True


class Stop(Kill):
    """SIGKILL of everything at once, as a power cut has it; what was given to the disk is there."""

    name = "kill all"

    def strike(self, process: Process, place: Path, over: threading.Event) -> bool:
        if process.poll() is not None:
            return False
        os.killpg(process.pid, 9)
        return True


class WorkerKilled(Disturbance):
    """SIGKILL of a process that works for the command, as Linux does when memory is short."""

    name, codes, words = "worker killed", (0, 75), ("killed, out of memory, or crashed",)

    def strike(self, process: Process, place: Path, over: threading.Event) -> bool:
        while not over.is_set():
            with contextlib.suppress(psutil.Error):
                found = psutil.Process(process.pid).children(recursive=True)
                workers = [child for child in found if "spawn_main" in " ".join(child.cmdline())]
                if workers:
                    self.chance.choice(workers).kill()
                    return True
            time.sleep(0.01)
        return False


class DiskFull(Disturbance):
    """A small disk that somebody else fills at a random moment, and keeps full."""

    name, codes, words = "disk full", (0, 75), (FULL,)

    @contextmanager
    def ground(self, place: Path, work: Undertaking) -> Iterator[None]:
        with _mounted(place, f"size={work.disk_bytes}"):
            yield

    def strike(self, process: Process, place: Path, over: threading.Event) -> bool:
        # So much is left that something begins to be written, and does not end.
        left = self.chance.choice([0, 0, 4096, 65536, 1 << 20])
        with open(place / "filler", "wb", buffering=0) as filler:
            while True:
                free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize - left
                with contextlib.suppress(OSError):
                    while free > 0:
                        free -= filler.write(bytes(min(free, 1 << 20)))
                left = 0 if left else left
                if over.wait(0.02):
                    return True

    def mend(self, place: Path) -> None:
        (place / "filler").unlink(missing_ok=True)


class ReadOnly(Disturbance):
    """A disk that becomes read-only at a random moment, as one with errors does."""

    name, codes, words = "read-only", (0, 1), (SHUT, "Read-only file system")
    leaves_litter = True

    @contextmanager
    def ground(self, place: Path, work: Undertaking) -> Iterator[None]:
        with _mounted(place, "size=1g"):
            yield

    def strike(self, process: Process, place: Path, over: threading.Event) -> bool:
        while subprocess.run(["mount", "-o", "remount,ro", place], capture_output=True).returncode:
            # Somebody is writing.
            if over.wait(0.002):
                return False
        return True

    def mend(self, place: Path) -> None:
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)


class ReadOnlyFromTheStart(ReadOnly):
    """A disk that is read-only all the time."""

    name = "read-only before"

    def moment(self) -> float:
        return 0.0


class PermissionDenied(Disturbance):
    """Folders lose their permission to be written in at a random moment; root has to obey for once."""

    name, codes, words = "permission", (0, 1), (SHUT, "Permission denied")
    leaves_litter = True
    WITHOUT = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search,-fowner", "--inh-caps", "-all"]

    def started(self, work: Undertaking, place: Path, temporary: Path) -> Process:
        env = {**os.environ, **work.variables(place), "TMPDIR": str(temporary)}
        return _in_a_shell([*self.WITHOUT, *_keylift(work, place)], work.inputs, env)

    def strike(self, process: Process, place: Path, over: threading.Event) -> bool:
        for folder in [place, *(path for path in place.rglob("*") if path.is_dir())]:
            with contextlib.suppress(OSError):
                folder.chmod(0o555)
        return True

    def mend(self, place: Path) -> None:
        place.chmod(0o755)
        for folder in [path for path in place.rglob("*") if path.is_dir()]:
            folder.chmod(0o755)


class PermissionDeniedBefore(PermissionDenied):
    """Folders that can't be written in from the start."""

    name = "permission before"

    def started(self, work: Undertaking, place: Path, temporary: Path) -> Process:
        self.strike(None, place, threading.Event())  # type: ignore[arg-type]
        return super().started(work, place, temporary)

    def moment(self) -> float:
        return 0.0


class LittleAddressSpace(Disturbance):
    """Memory that ends at a random amount: a request for more is refused (``ulimit -v``)."""

    name = "memory refused"
    # Native libraries end their process when they get none: 6 is abort, 11 a segmentation fault.
    codes, words = (0, 75, -6, -11, -5, -4, -7), (MEMORY, "out of memory", "killed, out of memory, or crashed")

    def started(self, work: Undertaking, place: Path, temporary: Path) -> Process:
        env = {**os.environ, **work.variables(place), "TMPDIR": str(temporary)}
        most = self.chance.choice([250, 400, 600, 800, 1000, 1200, 1500, 1800, 2200]) << 20
        self.note = f"{most >> 20} MiB"
        return _in_a_shell(["prlimit", f"--as={most}", *_keylift(work, place)], work.inputs, env)

    def moment(self) -> float:
        return 0.0


class OutOfMemory(Disturbance):
    """Memory that ends: Linux kills whoever has most of it (a memory cgroup of version 1)."""

    name, codes, words, dies = "out of memory", (0, -9, 75), ("killed, out of memory, or crashed",), True
    GROUP = Path("/sys/fs/cgroup/memory/keylift-faults")

    @contextmanager
    def ground(self, place: Path, work: Undertaking) -> Iterator[None]:
        group = self.GROUP.with_name(f"{self.GROUP.name}-{os.getpid()}")
        group.mkdir(exist_ok=True)
        self._group = group
        try:
            yield
        finally:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                time.sleep(0.05)

    def started(self, work: Undertaking, place: Path, temporary: Path) -> Process:
        env = {**os.environ, **work.variables(place), "TMPDIR": str(temporary)}
        most = self.chance.choice([60, 90, 120, 160, 200, 250, 300]) << 20
        self.note = f"{most >> 20} MiB"
        (self._group / "memory.limit_in_bytes").write_text(str(most))
        join = f'echo $$ > {self._group / "cgroup.procs"} && exec "$@"'
        return _in_a_shell(["sh", "-c", join, "sh", *_keylift(work, place)], work.inputs, env)

    def moment(self) -> float:
        return 0.0


class GpuLost(Disturbance):
    """The GPU is gone at a random moment, and stays so for the process."""

    name, codes, words = "GPU lost", (0, 75), (GPU,)
    kind = "lost"

    def variables(self, work: Undertaking, place: Path, temporary: Path) -> dict[str, str]:
        self._struck = temporary / "struck"
        after_s = self.chance.uniform(0, 0.9 * self.seconds)
        self.note = f"after {after_s:.1f} of {self.seconds:.1f} s"
        return _fault("gpu", kind=self.kind, after_s=after_s, struck=str(self._struck))

    def run(self, work: Undertaking, place: Path, temporary: Path) -> tuple[Run, bool]:
        run, _ = super().run(work, place, temporary)
        struck = self._struck.exists()
        self._struck.unlink(missing_ok=True)
        return run, struck


class GpuMemory(GpuLost):
    """The GPU has no memory left, once."""

    name, kind, words = "GPU out of memory", "memory", ("memory ran out",)


class Clock(Disturbance):
    """The clock goes back and ahead by hours, days and years; files are from the future, or from 1971."""

    name = "clock"

    def variables(self, work: Undertaking, place: Path, temporary: Path) -> dict[str, str]:
        for path in place.rglob("*"):
            when = self.chance.choice([time.time() + 10 * 365 * 86400, 4e7, time.time() + 3600])
            os.utime(path, (when, when))
        zone = self.chance.choice(["UTC", "Europe/Berlin", "Pacific/Apia", "America/St_Johns"])
        return {"TZ": zone, **_fault("clock", seed=self.chance.randrange(1000), within_s=self.seconds)}


class ClockAndKill(Clock, Kill):
    """The same, and the process is killed."""

    name, codes, dies = "clock and kill", (0, -9), True


class OtherVersion(Kill):
    """Another version of Keylift began it, and was killed."""

    name = "other version"

    def variables(self, work: Undertaking, place: Path, temporary: Path) -> dict[str, str]:
        return _fault("version", version="0.0.9")


DISTURBANCES: dict[str, type[Disturbance]] = {
    kind.name: kind
    for kind in (
        Kill, Stop, WorkerKilled, DiskFull, ReadOnly, ReadOnlyFromTheStart, PermissionDenied, PermissionDeniedBefore,
        LittleAddressSpace, OutOfMemory, GpuLost, GpuMemory, Clock, ClockAndKill, OtherVersion,
    )
}  # fmt: skip


@contextmanager
def _mounted(place: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", place], check=True)
    try:
        yield
    finally:
        # Who was killed may hold on to it for a moment.
        subprocess.run(["umount", "--lazy", place], check=True)


def _keylift(work: Undertaking, place: Path) -> list[str]:
    return [sys.executable, "-m", "keylift", *(str(word) for word in work.argv(place))]


def _in_a_shell(command: Sequence[str], cwd: Path, env: dict[str, str]) -> Process:
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, encoding="utf-8", errors="replace", start_new_session=True,
    )  # fmt: skip


def _fault(name: str, **values: object) -> dict[str, str]:
    return {"KEYLIFT_FAULT": json.dumps({name: values})}
