"""``keylift rig``: the mapping is told with scores and reasons, and can be kept and used again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bpy")

from keylift.__main__ import main
from keylift.core.segments import SEGMENT_NAMES
from keylift.rig_mapping.bone_map import load_bone_map, preset_names
from rig_samples import empty_scene, make_armature
from rig_skeletons import RIG_FOLDER


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "bone_maps"


def rig_file(folder: Path, rename: dict[str, str] | None = None, name: str = "cmu_mb") -> Path:
    """A .blend with one of the sample rigs, some or all bones called otherwise."""
    import bpy

    rows = json.loads((RIG_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    rename = rename or {}
    empty_scene()
    make_armature("Hero", [[rename.get(row[0], row[0]), rename.get(row[1], row[1]), *row[2:]] for row in rows])
    path = folder / "hero.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return path


def meaningless(name: str = "cmu_mb") -> dict[str, str]:
    rows = json.loads((RIG_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return {row[0]: f"q{number}" for number, row in enumerate(rows)}


def told(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capfd.readouterr().out.strip().splitlines()[-1])


def test_a_known_rig_is_told_bone_by_bone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = rig_file(tmp_path, {"LeftToeBase": "LeftToeStump_end"})
    assert main(["rig", f"{path}:Hero"]) == 0
    out = capfd.readouterr().out
    assert "Hero: CMU motion capture (--map cmu_mb)" in out
    assert "l_upperarm  LeftArm" in out and "named as in 'CMU motion capture'" in out
    assert "- The left toes have no bone" in out


def test_a_program_gets_scores_and_reasons(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rename = meaningless()
    assert main(["rig", str(rig_file(tmp_path, rename)), "--json"]) == 0
    values = told(capfd)
    assert values["map"] == "auto" and "anatomy" in values["family"] and values["fits"] and not values["problems"]
    by_segment = {entry["segment"]: entry for entry in values["bones"]}
    assert set(by_segment) == set(SEGMENT_NAMES)
    assert by_segment["r_shank"]["bone"] == rename["RightLeg"]
    assert all(0 < entry["score"] < 1 and entry["reason"] for entry in values["bones"])


def test_a_saved_map_is_a_preset_from_then_on(
    tmp_path: Path, own_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = rig_file(tmp_path, meaningless())
    assert main(["rig", str(path), "--save", "monster"]) == 0
    assert (own_folder / "monster.json").is_file() and "monster" in preset_names()
    capfd.readouterr()
    assert main(["rig", str(path), "--json"]) == 0
    assert told(capfd)["map"] == "monster"
    assert load_bone_map("monster").title == "monster"


def test_a_written_map_can_be_given_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = rig_file(tmp_path, meaningless()), tmp_path / "maps" / "hero.json"
    assert main(["rig", str(path), "-o", str(out), "--json"]) == 0
    found = told(capfd)
    assert found["outputs"] == [str(out)]
    assert main(["rig", str(path), "--map", str(out), "--json"]) == 0
    given = told(capfd)
    assert [entry["bone"] for entry in given["bones"]] == [entry["bone"] for entry in found["bones"]]
    assert given["map"] == "hero.json"


def test_a_map_that_does_not_fit_fails_and_is_not_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path, out = rig_file(tmp_path), tmp_path / "out.json"
    assert main(["rig", str(path), "--map", "smpl", "-o", str(out), "--json"]) == 1
    values = told(capfd)
    assert not values["fits"] and "no bone on 'Hero' for" in values["problems"][0]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save", "mixamo"], "comes with Keylift"),
        (["--save", "../up"], "can't be the name"),
        (["-o", "map.txt"], "Choose one of: .json"),
        (["--map", "nowhere.json"], "There is no bone map"),
    ],
)
def test_wrong_wishes_are_refused_before_the_rig_is_opened(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["rig", "nowhere.blend", *arguments]) == 1
    assert message in capfd.readouterr().err
