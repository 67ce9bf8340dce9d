"""The program that tries faults sees what is wrong: a half-written result, litter, an input that was changed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from adaptation_samples import write_walks
from faults.disturbances import DISTURBANCES, Disturbance, Kill
from faults.try_faults import Trial, Try, table
from faults.undertakings import UNDERTAKINGS, Undertaking
from shell_runs import Run


class Lift(Undertaking):
    """The shortest of all commands that write something."""

    name = "lift"

    def __init__(self, inputs: Path) -> None:
        super().__init__(inputs)
        write_walks(inputs, (30,))

    def argv(self, place: Path) -> list[object]:
        return ["lift", self.inputs / "walk-0.keypoints.npz", "-o", place / "x.pose.npz", "--no-fit"]

    def results(self, place: Path) -> dict[str, str]:
        return {path.name: path.read_bytes().hex() for path in place.glob("*.npz")}


class Careless(Kill):
    """A program that writes under its results' final names, beside its inputs, and does not tidy up."""

    name = "careless"

    def run(self, work: Undertaking, place: Path, temporary: Path) -> tuple[Run, bool]:
        (place / "x.pose.npz").write_bytes(b"half")
        (place / ".keylift-abc").mkdir()
        (work.inputs / "new").touch()
        return Run(-9, "", "this is a bug"), True


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trial:
    monkeypatch.setitem(UNDERTAKINGS, "lift", Lift)
    return Trial("lift", tmp_path)


def test_what_is_wrong_is_seen(trial: Trial) -> None:
    found = trial.disturb(Careless, 1)
    told = " | ".join(found.wrong)
    for words in ("'this is a bug'", "not whole: x.pose.npz", "still there after", "inputs were changed"):
        assert words in told, told


def test_what_is_right_is_seen_too(trial: Trial) -> None:
    class TooLate(Disturbance):
        def strike(self, *given: object) -> bool:
            return True

        def moment(self) -> float:
            return 0.0

    found = trial.disturb(TooLate, 1)
    assert found.struck and found.code == 0 and found.wrong == []


def test_the_table_counts() -> None:
    tries = [Try("kill", "train", "", number, struck=number > 0, code=-9 * (number > 0)) for number in range(3)]
    assert "| kill | train | 3 | 2 | -9 (2x) | 0 |" in table(tries)


def test_every_fault_has_a_name_and_says_how_a_command_may_end() -> None:
    for name, kind in DISTURBANCES.items():
        assert (
            kind(random.Random(0), 1.0).name == name and kind.codes and (kind.words or kind.dies or kind.codes == (0,))
        )
