"""Ctrl-C at any moment of a real capture: it stops soon, says so, and leaves nothing half-written."""

from __future__ import annotations

import importlib.machinery
import os
import shutil
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest

from keylift.shell.interruption import listening
from keylift.shell.reporting import Reporter
from shell_runs import begun, clip, command, content
from warm_starts import CAN_FORK, Process

pytestmark = pytest.mark.slow
pytest.importorskip("bpy")

SOON_S = 20.0
# Python tells of each module once it is loaded; this one is the first that the door asks for.
LOADING = "keylift.shell"
# MediaPipe is loaded after this one.
LOOKING = "Looking for people"
# When to press: this long after this has come on stderr.
MOMENTS = [
    (LOADING, 0.0),
    (LOADING, 0.4),
    (LOADING, 1.0),
    (LOOKING, 0.0),
    (LOOKING, 0.5),
    ("Lifting", 0.0),
    ("Lifting", 0.2),
    ("Baking", 0.1),
    ("Filming", 0.1),
]


def started(footage: Path, folder: Path, cold: bool = False, **env: str) -> Process:
    """A capture on its way in ``folder``; ``cold``: with libraries still to be loaded."""
    outputs = ["-o", "take.blend", "-o", "take.glb", "--preview", "film.mp4"]
    arguments = ["capture", footage, "--frames", "0-11", *outputs]
    if CAN_FORK and not cold:
        return begun(*arguments, cwd=folder)
    # On Windows a break can be sent to a whole process group only.
    flags = subprocess.CREATE_NEW_PROCESS_GROUP if os.name == "nt" else 0
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
        creationflags=flags,
    )


def pressed(process: Process, after: str, wait_s: float, number: int) -> tuple[str, float]:
    """Wait for the moment, send the signal, and return what was on stderr and how long the end took."""
    said = ""
    if isinstance(process, subprocess.Popen):
        assert process.stderr is not None
        while after not in said:
            line = process.stderr.readline()
            assert line, f"'{after}' never came: {said}"
            said += line
    else:
        while after not in (heard := process.err_so_far()):
            assert process.poll() is None, f"'{after}' never came: {heard}"
            time.sleep(0.002)
    time.sleep(wait_s)
    pressed_at = time.monotonic()
    process.send_signal(number)
    _, rest = process.communicate(timeout=SOON_S)
    return said + rest, time.monotonic() - pressed_at


@pytest.mark.parametrize(
    ("after", "wait_s"), MOMENTS, ids=[f"{after or 'start'} + {wait_s}" for after, wait_s in MOMENTS]
)
def test_ctrl_c(after: str, wait_s: float, tmp_path: Path) -> None:
    footage, folder = tmp_path / "footage", tmp_path / "out"
    footage.mkdir()
    folder.mkdir()
    video = Path(shutil.copy(clip("cam03.mp4"), footage))
    before = content(footage)
    loud = {"PYTHONPROFILEIMPORTTIME": "1"} if after == LOADING else {}
    process = started(video, folder, cold=after == LOADING or (after, wait_s) == (LOOKING, 0.0), **loud)
    number = signal.CTRL_BREAK_EVENT if os.name == "nt" else signal.SIGINT
    said, took_s = pressed(process, after, wait_s, number)
    # Python ends itself by the signal when ctrl-C came in an exec() of text, as dataclasses use while they are made,
    # whoever caught it; a shell calls both of them 130.
    assert process.returncode in (130, -signal.SIGINT), said
    # MediaPipe's threads may have a word to say after it, when it was just being started.
    told = [line for line in said.splitlines() if line.startswith("keylift: ")]
    assert len(told) == 1 and told[0].startswith("keylift: Stopped"), said
    assert "Traceback" not in said
    assert took_s < SOON_S
    assert content(footage) == before
    # What was finished before stays, whole; nothing else does.
    assert set(content(folder)) <= {"take.blend", "take.glb"}
    for path in folder.iterdir():
        assert path.read_bytes()[:4] == {".blend": b"BLEN", ".glb": b"glTF"}[path.suffix]
    if after == LOADING:
        assert not content(folder)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM that a program could notice")
def test_a_scheduler_that_ends_the_job_gets_the_same_clean_end(tmp_path: Path) -> None:
    process = started(clip("cam03.mp4"), tmp_path)
    said, _ = pressed(process, LOOKING, 0.5, signal.SIGTERM)
    assert process.returncode == 130
    assert "keylift: Stopped" in said
    assert not content(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="nohup is a matter of POSIX systems")
def test_who_ignores_ctrl_c_goes_on_ignoring_it(tmp_path: Path) -> None:
    ignoring = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *command("doctor", "--quiet")],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    time.sleep(0.5)
    ignoring.send_signal(signal.SIGINT)
    ignoring.communicate(timeout=60)
    assert ignoring.returncode in (0, 1)


def test_a_stop_waits_for_native_code_that_is_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    loading = types.ModuleType("torch")
    loading.__spec__ = importlib.machinery.ModuleSpec("torch", None)
    loading.__spec__._initializing = True
    monkeypatch.setitem(sys.modules, "torch", loading)
    reporter = Reporter(quiet=True)
    with pytest.raises(KeyboardInterrupt), listening(reporter):
        signal.raise_signal(signal.SIGINT)
        assert reporter.stop_wanted
        # Whoever presses twice means it.
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one was ignored too")


def test_ctrl_c_while_a_class_is_being_made_is_a_ctrl_c(monkeypatch, capsys):
    """Python 3.11 tells of it as a RuntimeError."""
    from keylift import __main__ as door
    from keylift import shell

    def interrupted(argv):
        raise RuntimeError("Error calling __set_name__") from KeyboardInterrupt()

    def broken(argv):
        raise RuntimeError("broken")

    monkeypatch.setattr(shell, "main", interrupted)
    assert door.main() == 130 and "Stopped" in capsys.readouterr().err
    monkeypatch.setattr(shell, "main", broken)
    with pytest.raises(RuntimeError, match="broken"):
        door.main()
