"""The first start: which Python the worker runs in, what is said while there is none, and what the buttons do."""

from __future__ import annotations

import importlib.util
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
from keylift.addon import environment_panel, environment_setup, preferences, worker_environment
from keylift.addon.environment_making import EnvironmentSetup, SetupState
from keylift.addon.torch_builds import TorchBuild
from keylift.addon.worker_environment import EnvironmentMissingError, EnvironmentPlan
from rig_samples import empty_scene

beside_everything = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "mediapipe")),
    reason="this Python has a Blender, and not what the worker needs",
)


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
    for module in (preferences, environment_setup, environment_panel):
        monkeypatch.setattr(module, "preferences_of", lambda context: made)
    monkeypatch.setattr(preferences, "_environments", lambda: tmp_path / "worker")
    monkeypatch.setattr(preferences, "_everything_is_here", lambda: False)
    # Without a window nobody knows how wide a letter is.
    monkeypatch.setattr(
        environment_panel, "_words", lambda layout, text, context, icon="NONE": layout.label(text=text, icon=icon)
    )
    return made


@beside_everything
def test_blender_as_a_module_beside_everything_needs_no_set_up() -> None:
    assert preferences.worker_python(bpy.context) == Path(sys.executable)
    assert preferences.device(bpy.context) == "auto"


def test_without_a_worker_it_says_which_button_to_press(chosen: Chosen) -> None:
    with pytest.raises(EnvironmentMissingError, match="Press Set Up"):
        preferences.worker_python(bpy.context)
    assert not bpy.ops.keylift.self_test.poll()
    with pytest.raises(RuntimeError, match="Press Set Up"):
        bpy.ops.keylift.self_test()


@beside_everything
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
    chosen.wheels = str(tmp_path / "of mine")
    variables = preferences.worker_variables(bpy.context)
    assert variables["PIP_FIND_LINKS"].endswith("/of%20mine") and variables["PIP_NO_INDEX"] == "1"


def test_an_extension_that_is_offline_fetches_nothing_from_its_worker_either(
    chosen: Chosen, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not bpy.app.online_access
    assert "PIP_NO_INDEX" not in preferences.worker_variables(bpy.context)
    monkeypatch.setattr(preferences, "_is_extension", lambda: True)
    assert preferences.worker_variables(bpy.context)["PIP_NO_INDEX"] == "1"


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
    for module in (preferences, environment_setup, environment_panel):
        monkeypatch.setattr(module, "environment_plan", lambda context: plan)
    monkeypatch.setattr(environment_setup, "_proof", lambda context: ())
    return plan


def test_the_button_sets_up_and_the_other_one_removes(small: EnvironmentPlan) -> None:
    assert not bpy.ops.keylift.open_set_up_log.poll()
    assert bpy.ops.keylift.set_up_environment() == {"FINISHED"}
    assert preferences.worker_python(bpy.context) == worker_environment.python_of(small.folder)
    assert bpy.ops.keylift.open_set_up_log() == {"FINISHED"}
    assert "venv" in environment_setup.set_up_log().read_text(encoding="utf-8")
    assert bpy.ops.keylift.remove_environment() == {"FINISHED"}
    assert [place.name for place in small.folder.parent.iterdir() if place.is_dir()] == []


def test_environments_of_other_versions_can_be_removed(small: EnvironmentPlan, chosen: Chosen) -> None:
    for folder in (small.folder, small.folder.with_name("older")):
        folder.mkdir(parents=True)
        worker_environment.write_stamp(folder, {"state": "complete", "keylift": folder.name, "bytes": 2 * 10**9})
    words = drawn(environment_panel.draw_unused_environments)
    assert "Not used here (2.0 GB): Keylift older, ?" in words
    chosen.environment = "OWN"
    assert "Not used here (4.0 GB)" in drawn(environment_panel.draw_unused_environments)
    chosen.environment = "MANAGED"
    assert bpy.ops.keylift.remove_unused_environments() == {"FINISHED"}
    assert small.folder.is_dir() and not small.folder.with_name("older").exists()
    assert drawn(environment_panel.draw_unused_environments) == ""


def test_what_goes_wrong_stays_to_be_read(small: EnvironmentPlan) -> None:
    small.requirements.write_text("nowhere-to-be-had==1.0\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="lacks nowhere-to-be-had"):
        bpy.ops.keylift.set_up_environment()
    assert "lacks nowhere-to-be-had" in drawn(environment_panel.draw_environment)
    small.requirements.write_text("# nothing\n", encoding="utf-8")
    assert bpy.ops.keylift.set_up_environment() == {"FINISHED"}, "the next click works"
    assert "lacks nowhere" not in drawn(environment_panel.draw_environment)


ICONS = bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items


class Recorder:
    """In place of a layout, which only a window has: keeps the words, and takes no icon or button that is none."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __getattr__(self, name: str) -> Any:
        function = bpy.types.UILayout.bl_rna.functions[name]

        def take(*given: Any, **options: Any) -> Recorder:
            assert set(options) <= set(function.parameters.keys()), name
            assert (
                options.get("icon", "NONE")
                in bpy.types.UILayout.bl_rna.functions["label"].parameters["icon"].enum_items
            )
            if name == "operator":
                category, _, operator = given[0].partition(".")
                assert operator in dir(getattr(bpy.ops, category))
                self.words.append(f"[{given[0]}]")
            self.words += [options["text"]] if options.get("text") else []
            return self

        return take


def drawn(draw: Any) -> str:
    """What somebody reads, lines joined."""
    layout = Recorder()
    draw(layout, bpy.context)
    return " ".join(layout.words)


def test_each_state_is_told_in_plain_words(small: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    words = drawn(environment_panel.draw_first_start)
    assert "take about 0.0 GB of disk" in words and "[keylift.set_up_environment] Set Up" in words

    class Running:
        def poll(self) -> SetupState:
            return SetupState("Installing packages", 0.4, "Downloading torch", 75.0)

    environment_setup.known.setup = Running()  # type: ignore[assignment]
    words = drawn(environment_panel.draw_environment)
    assert "Installing packages - 1 min" in words and "[keylift.cancel_set_up]" in words and "Downloading" in words
    environment_setup.known.setup = None

    offline = replace(small, wheels=None)
    monkeypatch.setattr(environment_panel, "environment_plan", lambda context: offline)
    assert "Allow online access" in drawn(environment_panel.draw_environment)
    monkeypatch.setattr(environment_panel, "environment_plan", lambda context: small)

    worker_environment.write_stamp(
        make_folder(small.folder), {"state": "complete", "bytes": 2 * 10**9, "notes": ["Torch is another"]}
    )
    monkeypatch.setattr(environment_panel, "is_complete", lambda folder: True)
    words = drawn(environment_panel.draw_environment)
    assert "The worker is set up (Processor only, 2.0 GB)" in words and "Torch is another" in words
    assert "[keylift.self_test]" in words and "[keylift.examine]" in words


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_offline_it_does_not_begin_and_says_why(small: EnvironmentPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    offline = replace(small, wheels=None)
    monkeypatch.setattr(environment_setup, "environment_plan", lambda context: offline)
    assert not bpy.ops.keylift.set_up_environment.poll()
    with pytest.raises(RuntimeError, match="Allow online access"):
        bpy.ops.keylift.set_up_environment()


def test_stopping_a_set_up_leaves_no_worker(small: EnvironmentPlan) -> None:
    environment_setup.known.setup = EnvironmentSetup(small)
    assert not bpy.ops.keylift.set_up_environment.poll()
    assert bpy.ops.keylift.cancel_set_up() == {"FINISHED"}
    until = time.monotonic() + 5
    while environment_setup.known.look() is not None and time.monotonic() < until:
        time.sleep(0.01)
    assert environment_setup.known.setup is None and not worker_environment.is_complete(small.folder)
    assert not bpy.ops.keylift.cancel_set_up.poll()


@beside_everything
def test_the_self_test_tells_the_device_and_the_doctor_what_is_there() -> None:
    assert bpy.ops.keylift.self_test() == {"FINISHED"}
    assert "frames a second on cpu" in environment_setup.known.tested
    assert bpy.ops.keylift.examine() == {"FINISHED"}
    found: dict[str, Any] = {name: words for _, name, words in environment_setup.known.findings}
    assert "torch" in found and "mediapipe" in found["detector"] and "Blender" not in found
