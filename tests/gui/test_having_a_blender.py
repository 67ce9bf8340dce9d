"""Where a Blender for the window comes from, and what is said where there is none."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest

from gui import debian_blender as debian
from gui.blenders import chosen_blender
from gui.debian_blender import NoBlenderError
from gui.virtual_screen import read_xwd


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A Debian whose root we are, with everything installed and nothing made."""
    monkeypatch.setenv("KEYLIFT_BLENDERS", str(tmp_path / "blenders"))
    monkeypatch.delenv("KEYLIFT_BLENDER", raising=False)
    monkeypatch.setattr(debian, "_is_debian", lambda: True)
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    monkeypatch.setattr(debian.shutil, "which", lambda program: f"/usr/bin/{program}")
    monkeypatch.setattr(debian, "_mirror", lambda: "a mirror")
    monkeypatch.setattr(debian, "ENOUGH_DISK_BYTES", 0)
    return monkeypatch


def made(command: list[str], timeout_s: float, problem: str) -> None:
    """What mmdebstrap does, told by the folder among its arguments."""
    root = next(Path(argument) for argument in command if argument.endswith("/root"))
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/blender").touch()


def test_a_blender_is_made_once(machine: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], timeout_s: float, problem: str) -> None:
        commands.append(command)
        made(command, timeout_s, problem)

    machine.setattr(debian, "_run", run)
    root = debian.debian_blender("trixie", 1, install=False)
    assert (root / "usr/bin/blender").is_file()
    assert debian.debian_blender("trixie", 1, install=False) == root
    assert len(commands) == 1 and "a mirror" in commands[0]


def test_one_that_was_cut_short_leaves_nothing_that_looks_whole(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def run(command: list[str], timeout_s: float, problem: str) -> None:
        made(command, timeout_s, problem)
        raise NoBlenderError(problem)

    machine.setattr(debian, "_run", run)
    with pytest.raises(NoBlenderError, match="could not be fetched from Debian trixie"):
        debian.debian_blender("trixie", 1, install=False)
    assert list((tmp_path / "blenders").iterdir()) == []


def test_a_mirror_that_does_not_answer_is_given_up(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(debian, "_bootstrap", lambda suite, root: ["sleep", "20"])
    with pytest.raises(NoBlenderError, match="within 0 s"):
        debian.debian_blender("trixie", 0.2, install=False)


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("_is_debian", lambda: False, "KEYLIFT_BLENDER=/path/to/blender"),
        ("ENOUGH_DISK_BYTES", 10**18, "less than 3 GB are free"),
    ],
    ids=["another system", "no disk"],
)
def test_where_none_can_be_made_the_reason_is_told(
    name: str, value: object, told: str, machine: pytest.MonkeyPatch
) -> None:
    machine.setattr(debian, name, value)
    with pytest.raises(NoBlenderError, match=told):
        debian.debian_blender("trixie", 1, install=False)


def test_who_is_not_root_is_told(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(os, "geteuid", lambda: 1000, raising=False)
    with pytest.raises(NoBlenderError, match="takes root"):
        debian.debian_blender("trixie", 1, install=False)


def test_programs_are_installed_only_where_that_was_asked_for(machine: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], timeout_s: float, problem: str) -> None:
        commands.append(command)
        if command[0] != "apt-get":
            made(command, timeout_s, problem)

    machine.setattr(debian, "_run", run)
    machine.setattr(debian.shutil, "which", lambda program: None if program == "Xvfb" else f"/usr/bin/{program}")
    with pytest.raises(NoBlenderError, match="xvfb .*python3 dev.py gui installs them"):
        debian.debian_blender("trixie", 1, install=False)
    assert not commands
    debian.debian_blender("trixie", 1, install=True)
    assert commands[1][-1] == "xvfb" and len(commands) == 3


def test_a_blender_that_is_named_has_to_be_there(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.undo()
    machine.setenv("KEYLIFT_BLENDER", str(tmp_path / "blender"))
    with pytest.raises(NoBlenderError, match="KEYLIFT_BLENDER names .* no such program"):
        chosen_blender("trixie", tmp_path, 1, install=False)


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a script for a POSIX shell")
@pytest.mark.parametrize("says, version", [("Blender 5.2.1 LTS", (5, 2)), ("Gimp 3.0", None)])
def test_a_blender_that_is_named_is_asked_for_its_version(
    says: str, version: tuple[int, int] | None, machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.undo()
    program = tmp_path / "blender"
    program.write_text(f"#!/bin/sh\necho {says}\n")
    program.chmod(0o755)
    machine.setenv("KEYLIFT_BLENDER", str(program))
    if version is None:
        with pytest.raises(NoBlenderError, match="does not start: Gimp"):
            chosen_blender("trixie", tmp_path, 1, install=False)
    else:
        assert chosen_blender("trixie", tmp_path, 1, install=False).version == version


@pytest.mark.parametrize("byte_order, red", [(0, b"\x00\x00\xff\x00"), (1, b"\x00\xff\x00\x00")], ids=["little", "big"])
def test_the_screens_picture_is_read(byte_order: int, red: bytes) -> None:
    # A picture of 3 x 2, its lines a pixel longer than that, behind a header with a name and one colour.
    header = [0] * 25
    header[0], header[4], header[5], header[7] = 104, 3, 2, byte_order
    header[11], header[12], header[19] = 32, 16, 1
    lines = bytes(16) + bytes(4) + red + bytes(8)
    picture = read_xwd(struct.pack(">25I", *header) + b"Xvfb" + bytes(12) + lines)
    assert picture.shape == (2, 3, 3)
    assert np.argwhere(picture).tolist() == [[1, 1, 0]] and picture[1, 1, 0] == 255
