"""Start ``keylift`` in a process of its own without waiting seconds for torch to load each time.

A process that has loaded other people's libraries, and nothing of Keylift, waits for orders. Told to, it forks, and the
fork does what ``python -m keylift ...`` does, with streams, folder, variables, process id and exit code of its own. Of
what a cold start finds it can't find what goes wrong while those libraries load or while Python tidies up, and it
shares the seed of Python's hashes with its siblings. So the commands that load much have a cold start among the tests
too, and what must come out to the last bit is compared with what a cold start made. Where processes don't fork
(Windows, and macOS once Apple's libraries are loaded), every start is a cold one.

Run as a script, this file is the process that waits.
"""

from __future__ import annotations

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

# All that Keylift asks for in a process of its own, except Blender, which has threads from the start on.
LIBRARIES = "numpy scipy.optimize scipy.ndimage scipy.spatial av cv2 matplotlib.figure rich.progress safetensors"
LIBRARIES += " torch torch._dynamo mediapipe.tasks.python.vision torch.utils.tensorboard ezc3d jinja2"
CAN_FORK = sys.platform == "linux"
STREAMS = 3
LONGEST_ORDER_BYTES = 1 << 20
NUMBER_BYTES = 12


def python(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, cold: bool = False, own_session: bool = False
) -> Process:
    """``python -m MODULE ...`` or ``python FILE ...`` on its way in the folder ``cwd``.

    env:  variables to change
    cold: with a Python that has loaded nothing yet. It always is where variables of Python's own are changed, which
          have a say only when an interpreter starts.
    """
    command = [str(argument) for argument in arguments]
    everything = {**os.environ, **(env or {})}
    if CAN_FORK and not cold and not any(name.startswith("PYTHON") for name in env or ()):
        return WarmProcess(command, cwd, everything, own_session)
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=cwd,
        env=everything,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=own_session,
    )


class WarmProcess:
    """What tests ask of ``subprocess.Popen``, of a process that is another one's child."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], own_session: bool) -> None:
        # Closed when nobody holds this any more.
        self._streams = [tempfile.TemporaryFile() for _ in ("out", "err")]  # noqa: SIM115
        self._end, told_at_the_end = os.pipe()
        self.returncode: int | None = None
        order = {"command": list(command), "cwd": str(cwd), "env": dict(env), "own_session": own_session}
        with open(os.devnull, "rb") as nothing:
            handles = [nothing.fileno(), *(stream.fileno() for stream in self._streams), told_at_the_end]
            socket.send_fds(_waiting(), [json.dumps(order).encode()], handles)
        os.close(told_at_the_end)
        self.pid = int(os.read(self._end, NUMBER_BYTES))

    def poll(self) -> int | None:
        """The exit code, negative for a signal, or None while it runs."""
        return self._told(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; the exit code. Raises subprocess.TimeoutExpired."""
        code = self._told(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired("python", timeout)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; what it wrote to stdout and stderr."""
        self.wait(timeout)
        said = []
        for stream in self._streams:
            stream.seek(0)
            said.append(stream.read().decode("utf-8", errors="replace").replace("\r\n", "\n"))
        return said[0], said[1]

    def err_so_far(self) -> str:
        """What it wrote to stderr until now."""
        handle = self._streams[1].fileno()
        # The child's place in the file is ours too, and stays where it is.
        return os.pread(handle, os.fstat(handle).st_size, 0).decode("utf-8", errors="replace")

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _told(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._end], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(os.read(self._end, NUMBER_BYTES)))
            os.close(self._end)
        return self.returncode


Process = subprocess.Popen[str] | WarmProcess


@functools.cache
def _waiting() -> socket.socket:
    """The line to the process that waits, which ends when this one does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # Threads of a library don't survive a fork; and where tests run side by side, one is as many as there is room for.
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=env)
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait(30)

    atexit.register(end)
    return ours


# ---- In the process that waits --------------------------------------------------------------------------------------


def _wait_for_orders(line: socket.socket) -> dict[str, Any] | None:
    """In each fork its order, with streams in place; None when there will be none any more."""
    # Ctrl-C in a terminal is for the tests, and for what they started.
    interrupted = signal.signal(signal.SIGINT, signal.SIG_IGN)
    keepers = set()
    while True:
        written, handles, _, _ = socket.recv_fds(line, LONGEST_ORDER_BYTES, STREAMS + 1)
        keepers -= {keeper for keeper in keepers if os.waitpid(keeper, os.WNOHANG)[0]}
        if not written:
            return None
        if keeper := os.fork():
            keepers.add(keeper)
        else:
            line.close()
            return _at_work(json.loads(written), handles, interrupted)
        for handle in handles:
            os.close(handle)


def _at_work(order: dict[str, Any], handles: list[int], interrupted: Any) -> dict[str, Any]:
    """Fork again: the child tells its id and goes on with its order; this process tells how it ended."""
    *streams, told_at_the_end = handles
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        os.write(told_at_the_end, b"%*d" % (NUMBER_BYTES, status))
        os._exit(0)
    signal.signal(signal.SIGINT, interrupted)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    if order["own_session"]:
        os.setsid()
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["env"])
    os.write(told_at_the_end, b"%*d" % (NUMBER_BYTES, os.getpid()))
    os.close(told_at_the_end)
    return order


def _obey(order: dict[str, Any]) -> NoReturn:
    """Do what ``python`` does with such arguments."""
    as_module, *arguments = order["command"]
    if as_module == "-m":
        sys.path[0], sys.argv = order["cwd"], arguments
        run = functools.partial(runpy.run_module, arguments[0], alter_sys=True)
    else:
        sys.path[0], sys.argv = os.path.dirname(as_module), order["command"]
        run = functools.partial(runpy.run_path, as_module)
    code = 0
    try:
        run(run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    # To take all those libraries down would last longer than most commands do.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for name in LIBRARIES.split():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    told = _wait_for_orders(socket.socket(fileno=int(sys.argv[1])))
    if told is not None:
        _obey(told)
