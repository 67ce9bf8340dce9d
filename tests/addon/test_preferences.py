"""The first start: which Python the worker runs in, what is said while there is none, and what the buttons do."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bpy")

import bpy

import keylift
from keylift.addon import environment_setup, preferences, worker_environment
from keylift.addon.torch_builds import TorchBuild
from keylift.addon.worker_environment import EnvironmentMissingError, EnvironmentPlan
from rig_samples import empty_scene


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    empty_scene()
    keylift.register()
    yield
    keylift.unregister()


class Chosen:
    """What an animator chose, in place of Blender's own object, which only an installed extension has."""

    environment, interpreter, torch, wheels, device = "MANAGED", "", "auto", "", "cpu"
    cache = weights = ""


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Chosen:
    made = Chosen()
    monkeypatch.setattr(preferences, "preferences_of", lambda context: made)
    monkeypatch.setattr(preferences, "_environments", lambda: tmp_path / "worker")
    monkeypatch.setattr(preferences, "_everything_is_here", lambda: False)
    return made


def test_blender_as_a_module_beside_everything_needs_no_set_up() -> None:
    assert preferences.worker_python(bpy.context) == Path(sys.executable)
    assert preferences.device(bpy.context) == "auto"


def test_without_a_worker_it_says_which_button_to_press(chosen: Chosen) -> None:
    with pytest.raises(EnvironmentMissingError, match="Press Set Up"):
        preferences.worker_python(bpy.context)
    assert not bpy.ops.keylift.self_test.poll()
    with pytest.raises(RuntimeError, match="Press Set Up"):
        bpy.ops.keylift.self_test()


def test_an_interpreter_of_ones_own(chosen: Chosen, tmp_path: Path) -> None:
    chosen.environment = "OWN"
    for wrong in ("", str(tmp_path / "nowhere")):
        chosen.interpreter = wrong
        with pytest.raises(EnvironmentMissingError, match="Choose the interpreter"):
            preferences.worker_python(bpy.context)
    chosen.interpreter = sys.executable
    assert preferences.worker_python(bpy.context) == Path(sys.executable)
    assert bpy.ops.keylift.examine_interpreter() == {"FINISHED"}
    assert "has everything" in environment_setup.known.own[1]


def test_folders_can_be_chosen_and_reach_the_worker(chosen: Chosen, tmp_path: Path) -> None:
    chosen.cache, chosen.weights = str(tmp_path / "cache"), str(tmp_path / "lifters")
    assert preferences.worker_variables(bpy.context) == {
        "KEYLIFT_CACHE": str(tmp_path / "cache"),
        "KEYLIFT_WEIGHTS": str(tmp_path / "lifters"),
    }
    assert preferences.device(bpy.context) == "cpu"


@pytest.fixture
def small(chosen: Chosen, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> EnvironmentPlan:
    """An environment of nothing at all, which is made in seconds."""
    (tmp_path / "wheels").mkdir()
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# nothing\n", encoding="utf-8")
    plan = EnvironmentPlan(
        tmp_path / "worker" / "3.11-test",
        Path(sys.executable),
        TorchBuild("cpu", "Processor only", None, 10**6),
        tmp_path / "wheels",
        False,
        requirements,
    )
    for module in (preferences, environment_setup):
        monkeypatch.setattr(module, "environment_plan", lambda context: plan)
    return plan


def test_the_button_sets_up_and_the_other_one_removes(small: EnvironmentPlan) -> None:
    assert not bpy.ops.keylift.open_set_up_log.poll()
    assert bpy.ops.keylift.set_up_environment() == {"FINISHED"}
    assert preferences.worker_python(bpy.context) == worker_environment.python_of(small.folder)
    assert bpy.ops.keylift.open_set_up_log() == {"FINISHED"}
    assert "venv" in bpy.data.texts["Keylift set-up"].as_string()
    assert bpy.ops.keylift.remove_environment() == {"FINISHED"} and not small.folder.exists()


def test_what_goes_wrong_stays_to_be_read(small: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    small.requirements.write_text("nowhere-to-be-had==1.0\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="lacks nowhere-to-be-had"):
        bpy.ops.keylift.set_up_environment()
    assert environment_setup.known.last is not None
    assert "lacks nowhere-to-be-had" in str(environment_setup.known.last.problem)
    small.requirements.write_text("# nothing\n", encoding="utf-8")
    assert bpy.ops.keylift.set_up_environment() == {"FINISHED"}, "the next click works"


def test_offline_it_does_not_begin_and_says_why(small: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = replace(small, wheels=None)
    monkeypatch.setattr(environment_setup, "environment_plan", lambda context: offline)
    assert not bpy.ops.keylift.set_up_environment.poll()
    with pytest.raises(RuntimeError, match="Allow online access"):
        bpy.ops.keylift.set_up_environment()


def test_stopping_a_set_up_leaves_no_worker(small: EnvironmentPlan) -> None:
    environment_setup.known.setup = worker_environment.EnvironmentSetup(small)
    assert not bpy.ops.keylift.set_up_environment.poll()
    assert bpy.ops.keylift.cancel_set_up() == {"FINISHED"}
    until = time.monotonic() + 5
    while environment_setup.known.look() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert environment_setup.known.setup is None and not worker_environment.is_complete(small.folder)
    assert not bpy.ops.keylift.cancel_set_up.poll()


def test_the_self_test_tells_the_device_and_the_doctor_what_is_there() -> None:
    assert bpy.ops.keylift.self_test() == {"FINISHED"}
    assert "frames a second on cpu" in environment_setup.known.tested
    assert bpy.ops.keylift.examine() == {"FINISHED"}
    found: dict[str, Any] = {name: words for _, name, words in environment_setup.known.findings}
    assert "torch" in found and "mediapipe" in found["detector"] and "Blender" not in found
