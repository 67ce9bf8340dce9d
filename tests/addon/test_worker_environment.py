"""The worker's environment, made by real pip in a real virtual environment, of packages small enough to wait for."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from base64 import urlsafe_b64encode
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from checkout import ROOT
from keylift.addon import torch_builds as builds_module
from keylift.addon import worker_environment as environment
from keylift.addon.own_interpreter import examine
from keylift.addon.torch_builds import TorchBuild, fitting_build, torch_builds
from keylift.addon.worker_environment import (
    REQUIREMENTS,
    EnvironmentMissingError,
    EnvironmentPlan,
    EnvironmentSetup,
    environment_folder,
    is_begun,
    is_complete,
    python_of,
)
from keylift.core.errors import TryAgainError

SMALL = TorchBuild("cpu", "Processor only", None, 10**6)


def make_wheel(folder: Path, name: str, version: str = "1.0", code: str = "", needs: str = "") -> Path:
    """A package that pip installs, with one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }

    def digest(text: str) -> str:
        return urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()

    record = "".join(f"{path},sha256={digest(text)},{len(text)}\n" for path, text in files.items())
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in (*files.items(), (f"{info}/RECORD", record + f"{info}/RECORD,,\n")):
            archive.writestr(path, text)
    return wheel


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels of mine"
    folder.mkdir()
    make_wheel(folder, "one")
    make_wheel(folder, "two", needs="Requires-Dist: one\n")
    return folder


@pytest.fixture
def plan(tmp_path: Path, wheels: Path) -> EnvironmentPlan:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("two==1.0\n", encoding="utf-8")
    return EnvironmentPlan(tmp_path / "Künstlerin" / "worker", Path(sys.executable), SMALL, wheels, False, requirements)


def runs(folder: Path, code: str) -> bool:
    return subprocess.run([str(python_of(folder)), "-I", "-c", code], capture_output=True).returncode == 0


def test_it_is_made_from_a_folder_of_wheels_without_a_network(plan: EnvironmentPlan) -> None:
    setup = EnvironmentSetup(plan)
    steps = set()
    while not (state := setup.poll()).over:
        steps.add(state.step)
        assert 0 <= state.fraction <= 1
        time.sleep(0.01)
    assert state.done and state.problem is None and state.fraction == 1.0
    assert is_complete(plan.folder) and runs(plan.folder, "import one, two")
    assert {"Making the environment", "Installing packages"} <= steps
    assert "--no-index" in setup.log.read_text(encoding="utf-8")


def test_who_looks_never_waits(plan: EnvironmentPlan) -> None:
    setup = EnvironmentSetup(plan)
    longest = 0.0
    while True:
        began = time.monotonic()
        state = setup.poll()
        longest = max(longest, time.monotonic() - began)
        if state.over:
            break
        time.sleep(0.005)
    assert longest < 0.05


def test_stopped_it_ends_at_once_and_goes_on_from_there(plan: EnvironmentPlan, wheels: Path) -> None:
    # A package that takes its time to build, as large ones take to fetch.
    slow = wheels / "slow-1.0"
    slow.mkdir()
    (slow / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n', encoding="utf-8"
    )
    (slow / "slow.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    slow_plan = replace(plan, requirements=plan.requirements.with_name("slow.txt"))
    slow_plan.requirements.write_text(f"one==1.0\n{slow.as_uri()}\n", encoding="utf-8")
    setup = EnvironmentSetup(slow_plan)
    while setup.poll().step != "Installing packages":
        time.sleep(0.02)
    time.sleep(1.0)
    began = time.monotonic()
    setup.cancel()
    state = setup.wait()
    assert time.monotonic() - began < 0.5
    assert isinstance(state.problem, TryAgainError) and "Stopped" in str(state.problem)
    assert is_begun(plan.folder) and not is_complete(plan.folder)
    made = python_of(plan.folder).stat().st_mtime_ns
    again = EnvironmentSetup(plan)
    assert again.wait().done and runs(plan.folder, "import two")
    assert python_of(plan.folder).stat().st_mtime_ns == made, "what was there was gone on with"


def test_a_half_made_environment_that_is_broken_is_made_anew(plan: EnvironmentPlan) -> None:
    assert EnvironmentSetup(plan).wait().done
    (plan.folder / "keylift-environment.json").write_text('{"state": "installing"}', encoding="utf-8")
    shutil.rmtree(next(plan.folder.rglob("site-packages")))
    assert not is_complete(plan.folder)
    assert EnvironmentSetup(plan).wait().done and runs(plan.folder, "import two")


def test_a_killed_set_up_leaves_nothing_that_passes_for_whole(plan: EnvironmentPlan, tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from keylift.addon.worker_environment import EnvironmentPlan, EnvironmentSetup
from keylift.addon.torch_builds import TorchBuild
import os, sys, time
plan = EnvironmentPlan(Path({str(plan.folder)!r}), Path(sys.executable), TorchBuild("cpu", "", None, 1),
                       Path({str(plan.wheels)!r}), False, Path({str(plan.requirements)!r}))
setup = EnvironmentSetup(plan)
while setup.poll().step != "Installing packages":
    time.sleep(0.01)
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script], timeout=60)
    assert not is_complete(plan.folder)
    assert EnvironmentSetup(plan).wait().done and is_complete(plan.folder)


@pytest.mark.parametrize("stamp", ["", "[]", '{"state": 1}', "nonsense"])
def test_a_damaged_stamp_is_no_environment(plan: EnvironmentPlan, stamp: str) -> None:
    plan.folder.mkdir(parents=True)
    (plan.folder / "keylift-environment.json").write_text(stamp, encoding="utf-8")
    assert not is_complete(plan.folder) and not is_begun(plan.folder)


def test_a_missing_wheel_is_named(plan: EnvironmentPlan, wheels: Path) -> None:
    (wheels / "one-1.0-py3-none-any.whl").unlink()
    state = EnvironmentSetup(plan).wait()
    assert isinstance(state.problem, EnvironmentMissingError)
    assert "lacks one" in str(state.problem) and "set-up.log" in str(state.problem)


def test_packages_that_do_not_load_are_no_environment(plan: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EnvironmentSetup, "_check", lambda self: "import three")
    state = EnvironmentSetup(plan).wait()
    assert "Checking that everything loads failed" in str(state.problem) and not is_complete(plan.folder)


def test_offline_it_says_how_to_go_on(plan: EnvironmentPlan) -> None:
    with pytest.raises(EnvironmentMissingError, match="Allow online access"):
        EnvironmentSetup(replace(plan, wheels=None))
    with pytest.raises(EnvironmentMissingError, match="Choose the folder of wheels again"):
        EnvironmentSetup(replace(plan, wheels=plan.folder / "nowhere"))
    assert not plan.folder.parent.exists(), "nothing was begun"


def test_a_full_disk_is_told_before_the_work(plan: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda place: usage(10, 10, 1000))
    with pytest.raises(TryAgainError, match="Free some space"):
        EnvironmentSetup(plan)


def test_no_network_is_told_as_such(plan: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    state = EnvironmentSetup(replace(plan, wheels=None, online=True)).wait()
    assert isinstance(state.problem, TryAgainError) and "network can't be reached" in str(state.problem)


def test_an_index_of_torch_that_is_away_is_replaced_by_the_usual_one(
    plan: EnvironmentPlan, wheels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels, "torch", "2.13.0")
    plan.requirements.write_text("two==1.0\ntorch==2.13.0\n", encoding="utf-8")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    # The usual index is this folder.
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels).replace(" ", "%20") if " " not in str(wheels) else wheels.as_uri())
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    elsewhere = replace(SMALL, index="http://127.0.0.1:9/torch")
    setup = EnvironmentSetup(replace(plan, wheels=None, online=True, build=elsewhere))
    assert setup.wait().done, setup.log.read_text(encoding="utf-8")
    assert runs(plan.folder, "import torch, two")


def test_each_version_has_an_environment_of_its_own(tmp_path: Path) -> None:
    requirements = tmp_path / "other.txt"
    requirements.write_text("torch==1\n", encoding="utf-8")
    cuda = torch_builds("Linux")["cuda"]
    folders = {
        environment_folder(tmp_path, "0.1.0", SMALL),
        environment_folder(tmp_path, "0.2.0", SMALL),
        environment_folder(tmp_path, "0.1.0", cuda),
        environment_folder(tmp_path, "0.1.0", SMALL, requirements),
    }
    assert len(folders) == 4 and all(len(folder.name) < 20 for folder in folders), "Windows' paths are short"


def test_removing_it(plan: EnvironmentPlan) -> None:
    assert EnvironmentSetup(plan).wait().done
    environment.remove(plan.folder)
    assert not plan.folder.exists()
    environment.remove(plan.folder)


@pytest.mark.parametrize(
    ("system", "machine", "nvidia", "wanted"),
    [
        ("Darwin", "arm64", False, "mps"),
        ("Darwin", "x86_64", False, "cpu"),
        ("Windows", "AMD64", True, "cuda"),
        ("Windows", "AMD64", False, "cpu"),
        ("Linux", "x86_64", True, "cuda"),
        ("Linux", "x86_64", False, "cpu"),
    ],
)
def test_torch_fits_the_machine_and_can_be_changed(
    system: str, machine: str, nvidia: bool, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds_module, "_has_nvidia", lambda: nvidia)
    monkeypatch.setattr(builds_module.shutil, "which", lambda name: None)
    assert fitting_build("auto", system, machine).name == wanted
    for name in torch_builds(system):
        assert fitting_build(name, system, machine).name == name
    assert fitting_build("rocm", "Windows").name == ("cuda" if nvidia else "cpu"), "there is none for Windows"
    # The usual wheel of Linux is the large one with CUDA.
    assert (torch_builds(system)["cpu"].index is not None) == (system == "Linux")


def test_an_interpreter_that_has_everything_will_do() -> None:
    found = examine(Path(sys.executable))
    assert found.problems == () and found.version == platform.python_version()


def test_an_interpreter_that_lacks_something_says_what(plan: EnvironmentPlan, tmp_path: Path) -> None:
    assert EnvironmentSetup(plan).wait().done
    found = examine(python_of(plan.folder))
    assert any("lacks torch, mediapipe" in problem for problem in found.problems)
    (wheels := tmp_path / "older").mkdir()
    pip = [str(python_of(plan.folder)), "-m", "pip", "install", "--no-deps", str(make_wheel(wheels, "rich", "12.0"))]
    subprocess.run(pip, check=True, capture_output=True)
    assert "rich 12.0 (tried with 15.0.0)" in examine(python_of(plan.folder)).notes
    for nothing in (tmp_path / "nowhere", plan.requirements):
        assert "no Python that can be started" in examine(nothing).problems[0]


def test_the_workers_versions_are_those_of_the_lock() -> None:
    def pins(path: Path) -> dict[str, str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return dict(
            line.split(";")[0].strip().split("==") for line in lines if "==" in line and not line.startswith("#")
        )

    worker = {
        name: version
        for name, version in pins(REQUIREMENTS).items()
        if f"{name}=={version}" in REQUIREMENTS.read_text(encoding="utf-8")
    }
    lock = pins(ROOT / "requirements.lock")
    text = REQUIREMENTS.read_text(encoding="utf-8")
    assert 'numpy==1.26.4; python_version < "3.12"' in text and lock["numpy"] == "1.26.4"
    assert {name: lock[name] for name in worker if name != "numpy"} == {
        name: version for name, version in worker.items() if name != "numpy"
    }
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f'"{name}' in project for name in worker)
