"""``keylift weights list|info|use|remove|verify``, and what is lifted with where nobody says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keylift.__main__ import main
from keylift.core.source import sha256_of
from keylift.core.track_files import read_pose, write_keypoints
from keylift.core.weights import SHIPPED_SHA256, weights_in_use
from shell_runs import content, keylift
from walker import camera_from_world, filmed, walk
from weights_samples import adapted, small_weights, without_hashes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of weights, not there yet."""
    place = tmp_path / "my weights"
    monkeypatch.setenv("KEYLIFT_WEIGHTS", str(place))
    return place


@pytest.fixture
def asked(capsys: pytest.CaptureFixture[str]):
    """Run ``keylift``; what a program reads, what a person is told, and the exit code."""

    def run(*arguments: object) -> tuple[dict, str, int]:
        code = main([*(str(argument) for argument in arguments), "--json"])
        told = capsys.readouterr()
        return json.loads(told.out.splitlines()[-1]), told.err, code

    return run


def named(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


def damage(path: Path) -> Path:
    """Turn the last bit of the last parameter over."""
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return path


def test_the_list_for_a_program_and_for_a_person(folder: Path, asked, capsys: pytest.CaptureFixture[str]) -> None:
    small_weights(named(folder, "studio"), adaptation=adapted(True, "reached 7 % less error\nand\x1b[31m more"))
    small_weights(
        named(folder, "tall \N{DANCER} people"), adaptation=adapted(False, "motion grew worse", ("studio", ""))
    )
    small_weights(named(folder, "mine"))
    small_weights(named(folder, "default"))
    damage(small_weights(named(folder, "half"))).write_bytes(named(folder, "mine").read_bytes()[:-9])
    assert asked("weights", "use", "studio")[2] == 0
    values, told, code = asked("weights", "list")
    assert code == 0 and values["in_use"] == "studio"
    names = ["causal", "default", "mine", "studio", "tall \N{DANCER} people"]
    assert list(values["weights"]) == names == [one["name"] for one in values["details"]]
    details = {one["name"]: one for one in values["details"]}
    assert details["studio"] == {
        "name": "studio",
        "path": values["weights"]["studio"],
        "size": named(folder, "studio").stat().st_size,
        "shipped": False,
        "in_use": True,
        "adapted_from": "default",
        "verdict": "better",
        "reason": "reached 7 % less error and [31m more",
    }
    assert details["mine"]["verdict"] is details["mine"]["adapted_from"] is None and details["default"]["shipped"]
    # What is not in the list is told, and why.
    assert "half.safetensors" in told and "'default' always means" in told

    assert main(["weights", "list"]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line for line in out.splitlines()}
    assert "in use" in rows["studio"] and "better than default: reached 7 % less error" in rows["studio"]
    assert "not better than studio: motion grew worse" in rows["tall \N{DANCER} people"]
    assert "comes with Keylift" in rows["default"] and "in use" not in rows["default"] and "\x1b" not in out
    assert str(folder) in out


def test_use_back_and_remove(folder: Path, asked) -> None:
    for seed, name in enumerate(("a", "tall \N{DANCER} people")):
        small_weights(named(folder, name), seed)
    assert asked("weights", "use", "a")[0] == {"in_use": "a", "path": str(named(folder, "a")), "before": "default"}
    assert asked("weights", "use", "tall \N{DANCER} people")[0]["before"] == "a"
    assert asked("weights", "use", "--back")[0]["in_use"] == "a" == weights_in_use()
    assert asked("weights", "use", "default")[0]["before"] == "a" and weights_in_use() == "default"
    assert asked("weights", "use", "--back")[0]["in_use"] == "a"
    assert asked("weights", "remove", "a")[0] == {
        "removed": str(named(folder, "a")),
        "was_in_use": True,
        "in_use": "default",
    }
    assert not named(folder, "a").exists() and weights_in_use() == "default"
    for arguments, why in (
        (["remove", "a"], "no weights of your own named 'a'"),
        (["remove", "default"], "comes with Keylift"),
        (["use", "a"], "no weights named 'a'"),
        (["use", named(folder, "tall \N{DANCER} people").with_stem("none")], "no weights file"),
    ):
        values, told, code = asked("weights", *arguments)
        assert code == 1 and why in values["error"] and why in told


def test_a_person_is_told_what_became_of_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small_weights(named(folder, "a"))
    for arguments, told in (
        (["use", "a"], "'a' is in use now; 'default' was before"),
        (["use", "a"], "as before"),
        (["remove", "a"], "They were in use; now 'default' is."),
    ):
        assert main(["weights", *arguments]) == 0
        assert told in capsys.readouterr().out


def test_no_worse_model_by_accident(folder: Path, asked) -> None:
    small_weights(named(folder, "worse"), adaptation=adapted(False, "motion grew worse by 4 %"))
    before = content(folder)
    values, _, code = asked("weights", "use", "worse")
    assert code == 1 and "motion grew worse by 4 %" in values["error"] and "--anyway" in values["error"]
    assert content(folder) == before and weights_in_use() == "default"
    assert asked("weights", "use", "worse", "--anyway")[0]["in_use"] == "worse" == weights_in_use()


def test_weights_of_another_kind_are_not_used(folder: Path, asked) -> None:
    small_weights(named(folder, "h36m"), input_layout="h36m17")
    values, _, code = asked("weights", "use", "h36m")
    assert code == 1 and "'h36m17'" in values["error"]


@pytest.mark.parametrize("arguments", [["use"], ["use", "a", "--back"], ["remove"], ["rename"], ["info"]])
def test_wrong_usage(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["weights", *arguments]) == 2
    assert "usage: keylift weights" in capsys.readouterr().err


def test_verify(folder: Path, asked, tmp_path: Path) -> None:
    small_weights(named(folder, "good"))
    without_hashes(small_weights(named(folder, "old")))
    values, _, code = asked("weights", "verify")
    assert code == 0 and values["bad"] == 0
    states = {one["name"]: one["state"] for one in values["verified"]}
    assert states == {"causal": "intact", "default": "intact", "good": "intact", "old": "unverified"}
    damage(small_weights(named(folder, "bad")))
    named(folder, "half").write_bytes(named(folder, "good").read_bytes()[:200])
    values, _, code = asked("weights", "verify")
    found = {one["name"]: one for one in values["verified"]}
    assert code == 1 and values["bad"] == 2 and found["bad"]["state"] == found["half"]["state"] == "bad"
    assert "not those that were written" in found["bad"]["reason"]
    # Only what is named, by name or by file.
    elsewhere = small_weights(tmp_path / "elsewhere.safetensors")
    assert asked("weights", "verify", "good", elsewhere)[2] == 0
    assert asked("weights", "verify", "good", damage(elsewhere))[2] == 1
    assert asked("weights", "verify", "none")[2] == 1


def test_info_tells_of_the_adaptation_and_the_line_of_descent(
    folder: Path, asked, capsys: pytest.CaptureFixture[str]
) -> None:
    first = adapted(True, "x", ("default", SHIPPED_SHA256["default"]))
    path = small_weights(named(folder, "first"), adaptation=first)
    record = adapted(True, "reached 7 % less error", ("first", sha256_of(path)), footage=["a.mp4"])
    small_weights(named(folder, "second"), 1, adaptation=record)
    values = asked("weights", "info", "second")[0]
    assert values["adaptation"] == record and values["licence"] == "free"
    assert [(one["name"], one["at_hand"]) for one in values["lineage"]] == [("first", True), ("default", True)]
    assert main(["weights", "info", "second"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "licence: free" in lines and "adaptation:" in lines
    assert "  verdict: better true, reason reached 7 % less error" in lines
    assert "    before: between_mm 31.25" in lines and "    after: between_mm 28.5" in lines
    hashes = sha256_of(path)[:12], SHIPPED_SHA256["default"][:12]
    assert lines[-1] == f"lineage: second <- first ({hashes[0]}) <- default ({hashes[1]})"
    # Of weights that were not adapted nothing new is told.
    assert "lineage" not in asked("weights", "info", "default")[0]


def test_what_is_in_use_lifts_where_nobody_says_which(folder: Path, tmp_path: Path, asked) -> None:
    from keylift.core.camera import Camera

    keypoints, pose = tmp_path / "walk.keypoints.npz", tmp_path / "walk.pose.npz"
    camera = Camera.guessed((640, 480))
    write_keypoints(keypoints, filmed(walk(12, 30.0, 0.6), camera, camera_from_world(0.1, 0.0, 5.0))[1])
    mine = small_weights(named(folder, "mine"))

    def lifted(*more: str) -> tuple[str, str, str]:
        _, told, code = asked("lift", keypoints, "-o", pose, "--no-fit", "--device", "cpu", *more)
        assert code == 0
        source = read_pose(pose).weights
        return source.name, source.sha256, told

    assert lifted()[:2] == ("default", SHIPPED_SHA256["default"])
    asked("weights", "use", "mine")
    name, sha256, told = lifted()
    assert (name, sha256) == ("mine", sha256_of(mine)) and "weights in use, 'mine'" in told
    name, sha256, told = lifted("--weights", "default")
    assert (name, sha256) == ("default", SHIPPED_SHA256["default"]) and "mine" not in told
    damage(mine)
    name, sha256, told = lifted()
    assert (name, sha256) == ("default", SHIPPED_SHA256["default"])
    assert "'mine' were chosen, but their file is damaged" in told
    # Named, they are an error, and not others instead.
    values, _, code = asked("lift", keypoints, "-o", pose, "--no-fit", "--weights", "mine")
    assert code == 1 and "damaged" in values["error"]
    (folder / "in-use.json").write_bytes(b"\0")
    name, _, told = lifted()
    assert name == "default" and "in-use.json" in told


def test_through_the_door_with_names_of_all_kinds(folder: Path, tmp_path: Path) -> None:
    name = "Stage 2 \N{DANCER}\N{ZERO WIDTH JOINER}\N{FEMALE SIGN} étude"
    small_weights(named(folder, name))
    done = keylift("weights", "use", name, "--json", cwd=tmp_path, env={"PYTHONUTF8": "1"})
    assert done.code == 0 and json.loads(done.out)["in_use"] == name
    done = keylift("weights", "list", cwd=tmp_path, env={"PYTHONUTF8": "1"})
    assert done.code == 0 and not done.err
    assert next(line for line in done.out.splitlines() if "in use" in line).startswith(name)
