"""The worker's environment, made by real pip in a real virtual environment, of packages small enough to wait for."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import queue
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from base64 import urlsafe_b64encode
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from keylift.addon import environment_making
from keylift.addon import torch_builds as builds_module
from keylift.addon import worker_environment as environment
from keylift.addon.environment_making import EnvironmentSetup
from keylift.addon.own_interpreter import examine, interpreter_at
from keylift.addon.torch_builds import NvidiaCard, TorchBuild, fitting_build, torch_builds, why_no_build
from keylift.addon.worker_environment import (
    REQUIREMENTS,
    EnvironmentMissingError,
    EnvironmentPlan,
    environment_folder,
    is_begun,
    is_complete,
    known_environment,
    other_environments,
    python_of,
)
from keylift.core.errors import Cancelled, TryAgainError

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


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with nothing but pip, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("venv") / "made"
    subprocess.run([sys.executable, "-I", "-m", "venv", str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def begun(plan: EnvironmentPlan, venv: Path) -> EnvironmentPlan:
    """A set-up that was stopped after its first step."""
    shutil.copytree(venv, plan.folder, symlinks=True)
    stamp(plan.folder, "installing")
    return plan


def stamp(folder: Path, state: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "keylift-environment.json").write_text(f'{{"state": "{state}"}}', encoding="utf-8")


def runs(folder: Path, code: str) -> bool:
    return subprocess.run([str(python_of(folder)), "-I", "-c", code], capture_output=True).returncode == 0


@pytest.mark.alone
def test_it_is_made_from_a_folder_of_wheels_without_a_network(plan: EnvironmentPlan) -> None:
    plan = replace(plan, version="0.1.0", proof=("-c", "import os, two; print(os.environ['OURS'])"))
    setup = EnvironmentSetup(replace(plan, variables={"OURS": "reached"}))
    steps, fractions, longest = [], [0.0], 0.0
    while True:
        began = time.monotonic()
        state = setup.poll()
        longest = max(longest, time.monotonic() - began)
        steps += [state.step] if state.step not in steps else []
        fractions.append(state.fraction)
        if state.over:
            break
        time.sleep(0.005)
    assert state.done and state.problem is None and state.notes == ()
    assert is_complete(plan.folder) and runs(plan.folder, "import one, two")
    assert longest < 0.05, "who looks never waits"
    assert sorted(fractions) == fractions and fractions[-1] == 1.0
    assert [step for step in steps if step != "Starting"] == [
        "Making the environment",
        "Installing packages",
        "Checking that everything loads",
        "Trying it out",
    ]
    log = setup.log.read_text(encoding="utf-8")
    assert "--no-index" in log and "reached" in log
    known = known_environment(plan.folder)
    assert known is not None and known.title == "Keylift 0.1.0, Processor only" and known.bytes > 10**6
    assert not (plan.folder.parent / "fetched").exists(), "what was fetched is of no more use"


@pytest.mark.alone
def test_stopped_it_ends_at_once_and_goes_on_from_there(begun: EnvironmentPlan, wheels: Path) -> None:
    # A package that takes its time to build, as large ones take to fetch.
    slow = wheels / "slow-1.0"
    slow.mkdir()
    (slow / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "slow"\nbackend-path = ["."]\n', encoding="utf-8"
    )
    alive = wheels / "alive"
    (slow / "slow.py").write_text(
        f"import pathlib, time\nfor _ in range(600):\n    pathlib.Path({str(alive)!r}).touch()\n    time.sleep(0.1)\n",
        encoding="utf-8",
    )
    slow_plan = replace(begun, requirements=begun.requirements.with_name("slow.txt"))
    slow_plan.requirements.write_text(f"one==1.0\n{slow.as_uri()}\n", encoding="utf-8")
    setup = EnvironmentSetup(slow_plan)
    until = time.monotonic() + 60
    while not alive.exists():
        assert not setup.poll().over and time.monotonic() < until
        time.sleep(0.02)
    began = time.monotonic()
    setup.cancel()
    assert time.monotonic() - began < 0.05
    state = setup.wait()
    assert time.monotonic() - began < 0.5
    assert isinstance(state.problem, Cancelled) and "Stopped" in str(state.problem)
    alive.unlink()
    time.sleep(0.3)
    assert not alive.exists(), "what it had started has ended too"
    assert is_begun(begun.folder) and not is_complete(begun.folder)
    again = EnvironmentSetup(begun)
    assert again.wait().done and runs(begun.folder, "import two")
    assert "-m venv" not in again.log.read_text(encoding="utf-8"), "what was there was gone on with"


def test_stopped_while_a_process_is_being_started_it_ends_as_well(
    plan: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, setups = subprocess.Popen, queue.Queue[EnvironmentSetup]()

    def start_and_stop(command: Any, **options: Any) -> Any:
        process = start([sys.executable, "-c", "import time; time.sleep(30)"], **options)
        setups.get().cancel()
        return process

    monkeypatch.setattr(environment_making.subprocess, "Popen", start_and_stop)
    setup = EnvironmentSetup(plan)
    setups.put(setup)
    began = time.monotonic()
    assert "Stopped" in str(setup.wait().problem) and not is_complete(plan.folder)
    assert time.monotonic() - began < 10


def test_what_is_broken_is_made_anew(begun: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as change:
        change.setattr(EnvironmentSetup, "_check", lambda self: "import three")
        state = EnvironmentSetup(begun).wait()
    assert "does not load" in str(state.problem) and "three" in str(state.problem)
    assert not is_complete(begun.folder) and not is_begun(begun.folder)
    (begun.folder / "rubbish").touch()
    assert EnvironmentSetup(begun).wait().done and runs(begun.folder, "import two")
    assert not (begun.folder / "rubbish").exists()


def test_a_half_made_one_without_pip_is_made_anew(begun: EnvironmentPlan) -> None:
    shutil.rmtree(next(begun.folder.rglob("site-packages")))
    assert EnvironmentSetup(begun).wait().done and runs(begun.folder, "import two")


def test_a_killed_set_up_leaves_nothing_that_passes_for_whole(begun: EnvironmentPlan) -> None:
    script = f"""
from pathlib import Path
from keylift.addon.environment_making import EnvironmentSetup
from keylift.addon.worker_environment import EnvironmentPlan
from keylift.addon.torch_builds import TorchBuild
import os, sys, time
plan = EnvironmentPlan(Path({str(begun.folder)!r}), Path(sys.executable), TorchBuild("cpu", "", None, 1),
                       Path({str(begun.wheels)!r}), False, Path({str(begun.requirements)!r}))
setup = EnvironmentSetup(plan)
while setup.poll().step != "Installing packages":
    time.sleep(0.01)
os._exit(1)
"""
    subprocess.run([sys.executable, "-c", script], timeout=60)
    assert not is_complete(begun.folder)
    assert EnvironmentSetup(begun).wait().done and is_complete(begun.folder), "its lock went with it"


def test_two_blenders_do_not_make_it_at_once(begun: EnvironmentPlan) -> None:
    first = EnvironmentSetup(begun)
    with pytest.raises(TryAgainError, match="Another Blender"):
        EnvironmentSetup(begun)
    assert first.wait().done
    assert EnvironmentSetup(begun).wait().done


def test_what_the_proof_finds_is_told_and_the_environment_counts(begun: EnvironmentPlan) -> None:
    state = EnvironmentSetup(replace(begun, proof=("-c", "import sys; sys.exit('keylift: No model. Do this')"))).wait()
    assert state.done and state.notes == ("The worker is set up, but: No model. Do this.",)
    assert is_complete(begun.folder)


@pytest.mark.parametrize("written", ["", "[]", '{"state": 1}', "nonsense"])
def test_a_damaged_stamp_is_no_environment(plan: EnvironmentPlan, written: str) -> None:
    plan.folder.mkdir(parents=True)
    (plan.folder / "keylift-environment.json").write_text(written, encoding="utf-8")
    assert not is_complete(plan.folder) and not is_begun(plan.folder) and known_environment(plan.folder) is None


def test_an_environment_whose_blender_has_moved_is_none(begun: EnvironmentPlan) -> None:
    stamp(begun.folder, "complete")
    assert is_complete(begun.folder)
    settings = begun.folder / "pyvenv.cfg"
    said = settings.read_text(encoding="utf-8")
    settings.write_text(re.sub("^home = .*", "home = /gone/python/bin", said, flags=re.MULTILINE), encoding="utf-8")
    assert not is_complete(begun.folder)


def test_a_missing_wheel_is_named(begun: EnvironmentPlan, wheels: Path) -> None:
    (wheels / "one-1.0-py3-none-any.whl").unlink()
    state = EnvironmentSetup(begun).wait()
    assert isinstance(state.problem, EnvironmentMissingError)
    assert "lacks one" in str(state.problem)


def test_offline_it_says_how_to_go_on(plan: EnvironmentPlan) -> None:
    with pytest.raises(EnvironmentMissingError, match="Allow online access"):
        EnvironmentSetup(replace(plan, wheels=None))
    with pytest.raises(EnvironmentMissingError, match="Choose the folder of wheels again"):
        EnvironmentSetup(replace(plan, wheels=plan.folder / "nowhere"))
    assert not plan.folder.parent.exists(), "nothing was begun"


def free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda place: usage(10**12, 10, free))


def test_a_full_disk_is_told_before_the_work(plan: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes(monkeypatch, 1000)
    with pytest.raises(TryAgainError, match="Free some space"):
        EnvironmentSetup(plan)
    assert not plan.folder.parent.exists(), "nothing was begun"


def test_what_is_there_already_needs_no_room_again(begun: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes(monkeypatch, 1000)
    begun.check()


def test_what_is_fetched_needs_room_besides(plan: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    free_bytes(monkeypatch, 2 * 10**9)
    build = TorchBuild("cpu", "", None, 15 * 10**8, 5 * 10**8)
    replace(plan, build=build).check()
    with pytest.raises(TryAgainError, match="about 2.5 GB while it runs"):
        replace(plan, build=build, wheels=None, online=True).check()


@pytest.fixture
def no_index(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine whose package index is away, and which has no others."""
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    # Only of a second try does pip say that there was no connection.
    monkeypatch.setenv("PIP_RETRIES", "1")
    return monkeypatch


def test_no_network_is_told_as_such_and_the_next_try_works(
    begun: EnvironmentPlan, wheels: Path, no_index: pytest.MonkeyPatch
) -> None:
    online = replace(begun, wheels=None, online=True)
    state = EnvironmentSetup(online).wait()
    assert isinstance(state.problem, TryAgainError) and "network can't be reached" in str(state.problem)
    # As if the index were back.
    no_index.setenv("PIP_FIND_LINKS", wheels.as_uri())
    assert EnvironmentSetup(online).wait().done and runs(begun.folder, "import two")


def test_an_index_of_torch_that_is_away_is_replaced_by_the_usual_one(
    begun: EnvironmentPlan, wheels: Path, no_index: pytest.MonkeyPatch
) -> None:
    make_wheel(wheels, "torch", "2.13.0")
    begun.requirements.write_text("two==1.0\ntorch==2.13.0\n", encoding="utf-8")
    own = replace(SMALL, index="http://127.0.0.1:9/torch", usual="cpu")
    run_usual = EnvironmentSetup._run_usual

    def with_an_index(*given: Any) -> int:
        # The usual one is a folder here, and appears once PyTorch's own has been asked for.
        no_index.setenv("PIP_FIND_LINKS", wheels.as_uri())
        return run_usual(*given)

    no_index.setattr(EnvironmentSetup, "_run_usual", with_an_index)
    setup = EnvironmentSetup(replace(begun, wheels=None, online=True, build=own))
    state = setup.wait()
    assert state.done, setup.log.read_text(encoding="utf-8")
    assert runs(begun.folder, "import torch, two")
    (note,) = state.notes
    assert "PyTorch's own package index could not be reached" in note and "instead of Processor only" in note
    known = known_environment(begun.folder)
    assert known is not None and known.notes == (note,), "it is told as long as it is so"


def test_without_anything_instead_an_index_that_is_away_ends_it(
    begun: EnvironmentPlan, no_index: pytest.MonkeyPatch
) -> None:
    begun.requirements.write_text("torch==2.13.0\n", encoding="utf-8")
    rocm = replace(SMALL, name="rocm", index="http://127.0.0.1:9/torch")
    state = EnvironmentSetup(replace(begun, wheels=None, online=True, build=rocm)).wait()
    assert isinstance(state.problem, TryAgainError) and "network can't be reached" in str(state.problem)


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


def test_those_of_other_versions_are_found_and_can_go(plan: EnvironmentPlan) -> None:
    old = plan.folder.with_name("old")
    stamp(old, "complete")
    stamp(plan.folder, "complete")
    plan.folder.with_name("of somebody else").mkdir()
    assert [other.folder for other in other_environments(plan.folder)] == [old]
    environment.set_aside(old)
    assert not old.exists() and other_environments(plan.folder) == []
    environment.delete_set_aside(old.parent)
    assert sorted(place.name for place in old.parent.iterdir()) == ["of somebody else", plan.folder.name]


def test_removing_it_and_removing_nothing(begun: EnvironmentPlan) -> None:
    environment.remove(begun.folder)
    assert not list(begun.folder.parent.iterdir())
    environment.remove(begun.folder)


def test_settings_of_other_pythons_and_of_the_users_pip_stay_outside() -> None:
    given = {
        "PATH": "p",
        "PYTHONPATH": "x",
        "VIRTUAL_ENV": "x",
        "CONDA_PREFIX": "x",
        "PIP_TARGET": "x",
        "PIP_USER": "1",
    }
    kept = environment.clean_variables({**given, "PIP_INDEX_URL": "of the studio"})
    assert kept.pop("PIP_USER") == "0"
    assert not set(kept.values()) & {"x"} and kept["PIP_INDEX_URL"] == "of the studio" and kept["PATH"] == "p"


@pytest.mark.parametrize(
    ("system", "card", "wanted"),
    [
        ("Darwin", None, "mps"),
        ("Windows", NvidiaCard("NVIDIA GeForce RTX 3060", 581), "cuda"),
        ("Windows", NvidiaCard("NVIDIA GeForce GTX 1080 Ti", 580), "cuda-older"),
        ("Windows", NvidiaCard("NVIDIA GeForce RTX 3060", 551), "cuda-older"),
        ("Windows", NvidiaCard("NVIDIA GeForce GTX 780", 474), "cpu"),
        ("Windows", None, "cpu"),
        ("Linux", NvidiaCard(), "cuda"),
        ("Linux", NvidiaCard("Quadro P2000", 590), "cuda-older"),
        ("Linux", None, "cpu"),
    ],
)
def test_torch_fits_the_machine_and_can_be_changed(
    system: str, card: NvidiaCard | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds_module, "nvidia_card", lambda system: card)
    monkeypatch.setattr(builds_module, "_has_rocm", lambda: False)
    builds = torch_builds(system)
    assert fitting_build("auto", system).name == wanted
    for name in builds:
        assert fitting_build(name, system).name == name
    assert fitting_build("rocm", "Windows").name in ("cpu", "cuda", "cuda-older"), "there is none for Windows"
    for build in builds.values():
        # One that PyTorch's index alone has needs an answer to its being away.
        assert build.index is None or build.usual in builds or build.name == "rocm"
        assert build.usual == "" or builds[build.usual].index is None


def test_amds_card_is_told_by_its_software(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds_module, "nvidia_card", lambda system: None)
    monkeypatch.setattr(builds_module, "_has_rocm", lambda: True)
    assert fitting_build("auto", "Linux").name == "rocm" and fitting_build("auto", "Windows").name == "cpu"


def test_a_card_is_known_by_what_its_driver_wrote_down(tmp_path: Path) -> None:
    assert builds_module._card_of_linux(tmp_path) is None
    said = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release\nGCC version: gcc 12.3.0\n"
    (tmp_path / "version").write_text(said, encoding="utf-8")
    assert builds_module._card_of_linux(tmp_path) == NvidiaCard("", 580)
    for number, model in enumerate(("NVIDIA GeForce GTX 1060", "NVIDIA GeForce RTX 4070")):
        (tmp_path / f"gpus/0000:0{number}:00.0").mkdir(parents=True)
        (tmp_path / f"gpus/0000:0{number}:00.0/information").write_text(f"Model: \t\t {model}\nIRQ:   \t\t 86\n")
    assert builds_module._card_of_linux(tmp_path) == NvidiaCard("NVIDIA GeForce RTX 4070", 580), "the better one"
    assert builds_module.driver_of_windows_version("32.0.15.8097") == 580
    assert builds_module.driver_of_windows_version("unknown") == 0


def test_computers_that_nothing_is_made_for_are_told_so() -> None:
    for system, machine in (("Linux", "x86_64"), ("Windows", "AMD64"), ("Darwin", "arm64")):
        assert why_no_build(system, machine, "14.5") is None
    assert "Intel" in str(why_no_build("Darwin", "x86_64", "14.5"))
    assert "macOS 14" in str(why_no_build("Darwin", "arm64", "13.6.1"))
    assert "ARM" in str(why_no_build("Windows", "ARM64"))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="this Python has not what the worker needs")
def test_an_interpreter_that_has_everything_will_do() -> None:
    found = examine(Path(sys.executable))
    assert found.problems == () and found.version == platform.python_version()


def test_an_interpreter_that_lacks_something_says_what(begun: EnvironmentPlan, tmp_path: Path) -> None:
    python = python_of(begun.folder)
    assert interpreter_at(begun.folder) == interpreter_at(python) == python
    assert interpreter_at(tmp_path) is None and interpreter_at(tmp_path / "nowhere") is None
    (problem,) = examine(python).problems
    assert "lacks torch, mediapipe, opencv-contrib-python" in problem and "-m pip install -r" in problem
    older = next(begun.folder.rglob("site-packages"))
    for name, version in (("rich", "12.0"), ("numpy", "1.20")):
        with zipfile.ZipFile(make_wheel(tmp_path, name, version)) as wheel:
            wheel.extractall(older)
    numpy = "1.26.4" if sys.version_info < (3, 12) else "2.3.5"
    assert set(examine(python).notes) == {"rich 12.0 (tried with 15.0.0)", f"numpy 1.20 (tried with {numpy})"}
    for nothing in (tmp_path / "nowhere", begun.requirements):
        assert "no Python that can be started" in examine(nothing).problems[0]


def pins(path: Path) -> dict[str, str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    pinned = [line.split(";")[0].strip() for line in lines if "==" in line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in pinned), "exact versions"
    # Where there are several for one package, the first is for Python 3.11, as the lock is.
    return dict(line.split("==") for line in reversed(pinned))


def test_the_workers_versions_are_those_of_the_lock() -> None:
    worker, lock = pins(REQUIREMENTS), pins(ROOT / "requirements.lock")
    assert {name: lock.get(name) for name in worker} == worker
    assert {"torch", "mediapipe", "numpy", "pillow"} <= set(worker)
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert {re.split(r"[>=]", need)[0] for need in asked} <= set(worker)
