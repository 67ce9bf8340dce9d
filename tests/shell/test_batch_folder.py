"""What a batch keeps, and what it throws away."""

from __future__ import annotations

import os
import time

import pytest

from keylift.shell.batching.out_folder import OutFolder


@pytest.fixture
def out(tmp_path):
    return OutFolder(tmp_path)


def half_done(out, name, hours_ago):
    folder = out.work(name)
    folder.mkdir(parents=True)
    (folder / "1.pose.npz").write_bytes(b"half")
    then = time.time() - 3600 * hours_ago
    os.utime(folder, (then, then))
    return folder


def test_what_was_left_half_done_is_thrown_away_after_a_day(out):
    old, young = half_done(out, "lift-aa", 25), half_done(out, "lift-bb", 1)
    take, stranger = half_done(out, "take-cc", 25), half_done(out, "notes", 25)
    out.sweep()
    assert not old.exists() and all(folder.is_dir() for folder in (young, take, stranger))


def test_what_somebody_works_on_is_left_alone(out):
    old = half_done(out, "detect-aa", 25)
    with out.held("detect aa"):
        out.sweep()
        assert old.is_dir()
    out.sweep()
    assert not old.exists()


def test_where_there_is_nothing_yet_nothing_is_swept(out):
    out.sweep()
    assert not out.hidden.exists()
