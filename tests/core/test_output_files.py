"""Results appear whole or not at all, and what a killed process had half written does not lie about for ever."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keylift.core import output_files
from keylift.core.errors import OutputError
from keylift.core.output_files import check_writable, written_whole

# Begins to write, says so, and waits to be killed.
WRITING = """
import sys, time
from pathlib import Path
from keylift.core.output_files import written_whole
with written_whole(Path(sys.argv[1])) as beside:
    beside.write_text("half")
    print("begun", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a new process has it."""
    monkeypatch.setattr(output_files, "_swept", set())


def begun(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing ``path``."""
    process = subprocess.Popen([sys.executable, "-c", WRITING, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    return process


def write(path: Path, text: str = "whole") -> None:
    with written_whole(path) as beside:
        beside.write_text(text)


def made_older(folder: Path) -> list[Path]:
    """What processes write in beside ``folder``'s files, as if they had begun a minute ago."""
    found = [path for path in folder.glob(".keylift-*") if path.is_dir()]
    for beside in found:
        for file in beside.iterdir():
            os.utime(file, (time.time() - 60,) * 2)
    return found


def test_what_a_killed_process_had_half_written_goes_with_the_next_file(tmp_path: Path) -> None:
    process = begun(tmp_path / "take.bvh")
    process.kill()
    process.wait()
    assert len(made_older(tmp_path)) == 1
    assert not (tmp_path / "take.bvh").exists()
    write(tmp_path / "other.bvh")
    assert [path.name for path in tmp_path.iterdir()] == ["other.bvh"]


def test_what_somebody_is_writing_stays(tmp_path: Path) -> None:
    process = begun(tmp_path / "take.bvh")
    try:
        (beside,) = made_older(tmp_path)
        write(tmp_path / "take.bvh")
        assert (beside / "take.bvh").read_text() == "half"
    finally:
        process.kill()
        process.wait()


def test_what_was_begun_just_now_stays_until_the_next_file(tmp_path: Path) -> None:
    process = begun(tmp_path / "take.bvh")
    process.kill()
    process.wait()
    (beside,) = tmp_path.glob(".keylift-*")
    write(tmp_path / "one")
    assert beside.is_dir()
    made_older(tmp_path)
    write(tmp_path / "two")
    assert not beside.exists()


def test_a_process_that_was_killed_before_it_could_hold_its_folder(tmp_path: Path) -> None:
    bare = tmp_path / ".keylift-begun"
    bare.mkdir()
    write(tmp_path / "one")
    assert bare.is_dir()
    os.utime(bare, (time.time() - 60,) * 2)
    write(tmp_path / "two")
    assert not bare.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    for name in (".keylift-settings", ".keylift"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    (tmp_path / ".keylift-file").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / ".at-work").touch()
    made_older(tmp_path)
    os.utime(elsewhere / ".at-work", (0, 0))
    try:
        (tmp_path / ".keylift-link").symlink_to(elsewhere)
    except OSError:
        shutil.rmtree(elsewhere)
    before = sorted(tmp_path.rglob("*"))
    write(tmp_path / "take.bvh")
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "take.bvh") == before


def test_a_failure_leaves_the_old_one_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "take.bvh", "old")
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "take.bvh") as beside:
        beside.write_text("new")
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), written_whole(tmp_path / "new" / "take.bvh"):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["take.bvh"]
    assert (tmp_path / "take.bvh").read_text() == "old"


def test_a_place_is_tried_without_a_trace(tmp_path: Path) -> None:
    check_writable(tmp_path / "new" / "take.bvh")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"can't be written.*Choose another place with -o\."):
        check_writable(tmp_path / "file" / "take.bvh")
