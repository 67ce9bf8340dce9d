"""The doctor tells what is here, and what to do about what is not."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from checkout import ROOT
from keylift.shell import doctor
from shell_runs import keylift
from warm_starts import python

NEEDED = {"Keylift", "Python", "Blender", "torch", "footage", "detector", "pose model", "weights", "cache", "disk"}
NEEDED |= {"packages"}


# What is loaded of them already is taken away with them, so that it is no matter how warm the start is.
WITHOUT = """
import sys
gone = set(sys.argv[1].split())
sys.modules.update(dict.fromkeys(gone | {name for name in sys.modules if name.partition(".")[0] in gone}))
from keylift.__main__ import main
sys.exit(main(["doctor", "--json"]))
"""


def examined(tmp_path: Path, *without: str, cold: bool = False) -> tuple[int, dict[str, dict]]:
    """The doctor's findings, in a Python that lacks the packages ``without``."""
    (tmp_path / "without.py").write_text(WITHOUT, encoding="utf-8")
    process = python(tmp_path / "without.py", " ".join(without), cwd=tmp_path, cold=cold)
    said, told = process.communicate(timeout=120)
    assert said, told
    report = json.loads(said.splitlines()[-1])
    assert report["healthy"] == (process.returncode == 0)
    return process.wait(), {finding["name"]: finding for finding in report["findings"]}


def test_here_everything_is_found(tmp_path: Path) -> None:
    run = keylift("doctor", "--json", cwd=tmp_path, cold=True)
    report = json.loads(run.out)
    found = {finding["name"]: finding for finding in report["findings"]}
    assert set(found) == NEEDED
    assert [name for name, finding in found.items() if finding["needed"] and not finding["fine"]] == []
    assert run.code == 0
    assert run.err == ""
    assert "2.13.0" in found["torch"]["found"]


def test_it_reads_well(tmp_path: Path) -> None:
    run = keylift("doctor", cwd=tmp_path)
    assert run.out.splitlines()[-1] == "Everything that is needed is here."
    assert all(line.startswith(("ok ", "- ", "     ")) for line in run.out.splitlines()[:-1])


@pytest.mark.parametrize(
    ("package", "finding"), [("torch", "torch"), ("mediapipe", "detector"), ("av", "footage"), ("bpy", "Blender")]
)
def test_what_is_missing_is_told_with_what_to_do(package: str, finding: str, tmp_path: Path) -> None:
    import shutil

    if package == "bpy" and shutil.which("blender"):
        pytest.skip("a Blender on the PATH does as well as the module")
    code, found = examined(tmp_path, package, cold=package == "torch")
    assert code == 1
    assert not found[finding]["fine"]
    assert "install" in found[finding]["advice"]
    if package == "bpy":
        assert "keylift[blender]" in found[finding]["advice"]
    assert set(found) == NEEDED


# Of these others need nothing, so that they can be missing together and are named together.
ALONE = ["threadpoolctl", "jinja2", "platformdirs", "rich", "ezc3d", "psutil"]
MISSING = [ALONE, *([module] for module in doctor.PACKAGES if module not in ALONE)]


@pytest.mark.parametrize("modules", MISSING, ids=" ".join)
def test_a_missing_package_is_named(modules: list[str], tmp_path: Path) -> None:
    code, found = examined(tmp_path, *modules)
    assert code == 1
    assert not found["packages"]["fine"]
    named = found["packages"]["advice"].removeprefix("pip install ").split()
    # Without numpy others can't be loaded either.
    assert {doctor.PACKAGES[module] for module in modules} <= set(named)
    assert modules is not ALONE or len(named) == len(ALONE)
    assert set(found) == NEEDED


def test_every_declared_package_is_looked_for() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split(r"[<>=!~ ]", requirement)[0] for requirement in declared}
    assert names == {*doctor.PACKAGES.values(), "av", "mediapipe", "torch"}


def test_a_cache_that_cant_be_written_is_a_finding(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    run = keylift("doctor", "--json", cwd=tmp_path, env={"KEYLIFT_CACHE": str(in_the_way / "cache")})
    found = {finding["name"]: finding for finding in json.loads(run.out)["findings"]}
    assert run.code == 1
    assert not found["cache"]["fine"]
    assert "KEYLIFT_CACHE" in found["cache"]["found"] and "-o" not in found["cache"]["found"].split()


def test_looking_at_the_cache_does_not_make_it(tmp_path: Path) -> None:
    keylift("doctor", cwd=tmp_path, env={"KEYLIFT_CACHE": str(tmp_path / "not" / "yet")})
    assert list(tmp_path.iterdir()) == []
