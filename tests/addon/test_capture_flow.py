"""What the worker is asked, command by command, on the way from footage to pose."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from keylift.addon.capture_flow import (
    DetectChoice,
    FootageChoice,
    LiftChoice,
    capture,
    detection,
    fingerprint,
    lifting,
    relifting,
)
from keylift.core.errors import FootageError, OutputError
from keylift.shell.command_line import make_parser


@pytest.fixture
def film(tmp_path: Path) -> FootageChoice:
    file = tmp_path / "dance.mp4"
    file.write_bytes(b"film")
    return FootageChoice(str(file), (file,), first=9, last=99)


def answered(flow, outputs: int = 1):  # type: ignore[no-untyped-def]
    """Go through a flow, and give every command the answer that the shell gives; the commands, and the outcome."""
    commands = []
    values = None
    while True:
        try:
            command = next(flow) if values is None else flow.send(values)
        except StopIteration as end:
            return commands, end.value
        commands.append(command)
        # The shell's own parser takes it.
        options = make_parser().parse_args(list(command.argv))
        output = Path(options.output)
        files = [output.with_name(f"person-{number}.keypoints.npz") for number in range(1, outputs + 1)]
        for file in files if command.argv[0] == "detect" else [output]:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"")
        values = {"outputs": [str(file) for file in files]}


def test_footage_is_looked_at_once(film: FootageChoice, tmp_path: Path) -> None:
    commands, found = answered(detection(film, DetectChoice(), tmp_path / "cache"), outputs=2)
    assert [command.argv[0] for command in commands] == ["detect"]
    assert "9-99" in commands[0].argv and len(found.files) == 2
    commands, again = answered(detection(film, DetectChoice(), tmp_path / "cache"))
    assert commands == [] and again.files == found.files
    for other in (DetectChoice("heavy"), DetectChoice(repair=False)):
        commands, _ = answered(detection(film, other, tmp_path / "cache"))
        assert commands, other


def test_a_film_that_changed_is_looked_at_again(film: FootageChoice) -> None:
    before = fingerprint(film, DetectChoice())
    assert before == fingerprint(film, DetectChoice())
    os.utime(film.files[0], (1, 1))
    assert fingerprint(film, DetectChoice()) != before


@pytest.mark.parametrize("listing", ["", "[]", '["gone.keypoints.npz"]', '{"a": 1}', '["../../../etc/passwd"]', "[1]"])
def test_a_damaged_cache_is_made_anew(film: FootageChoice, tmp_path: Path, listing: str) -> None:
    folder = tmp_path / "cache" / "keypoints" / fingerprint(film, DetectChoice())
    folder.mkdir(parents=True)
    (folder / "people.json").write_text(listing, encoding="utf-8")
    commands, found = answered(detection(film, DetectChoice(), tmp_path / "cache"))
    assert len(commands) == 1 and found.files[0].parent == folder
    assert json.loads((folder / "people.json").read_text(encoding="utf-8")) == ["person-1.keypoints.npz"]


def test_all_of_the_way_is_two_commands(film: FootageChoice, tmp_path: Path) -> None:
    lift = LiftChoice(camera_pitch=-12.5, camera_roll=0.0, height=1.8, adapt=True, repair=False, fit=True)
    commands, lifted = answered(capture(film, DetectChoice(), lift, tmp_path / "cache", 2), outputs=2)
    assert [command.argv[0] for command in commands] == ["detect", "lift"]
    assert sum(command.share for command in commands) == pytest.approx(1)
    assert commands[1].argv[1].endswith("person-2.keypoints.npz")
    options = make_parser().parse_args(list(commands[1].argv))
    assert (options.camera_pitch, options.camera_roll, options.height) == (-12.5, 0.0, 1.8)
    assert options.adapt and options.no_repair and not options.no_fit
    assert lifted.person == 2 and lifted.detected is not None and lifted.pose.suffix == ".npz"


def test_a_person_who_is_not_there_is_said_to_be_missing(film: FootageChoice, tmp_path: Path) -> None:
    with pytest.raises(FootageError, match="only 1 person was found, so there is no person 3"):
        answered(capture(film, DetectChoice(), LiftChoice(), tmp_path / "cache", 3))


def test_poses_never_write_over_each_other(tmp_path: Path) -> None:
    poses = {answered(lifting(tmp_path / "x.keypoints.npz", LiftChoice(), tmp_path, 1))[1].pose for _ in range(3)}
    assert len(poses) == 3
    commands, lifted = answered(relifting(tmp_path / "x.keypoints.npz", sorted(poses)[0], LiftChoice(), tmp_path, 1))
    assert "--update" in commands[0].argv and lifted.pose not in poses


def test_footage_that_has_gone_says_where_it_was(tmp_path: Path) -> None:
    gone = FootageChoice(str(tmp_path / "gone.mp4"), (tmp_path / "gone.mp4",))
    with pytest.raises(FootageError, match="no longer where it was"):
        answered(detection(gone, DetectChoice(), tmp_path / "cache"))


def test_a_cache_that_cannot_be_written_is_told_before_the_work(film: FootageChoice, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError, match="preferences"):
        answered(detection(film, DetectChoice(), tmp_path / "cache"))
