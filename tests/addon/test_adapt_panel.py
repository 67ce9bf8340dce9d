"""What the panel says in each state of a run, and that drawing it takes no time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bpy")

import bpy

import keylift
from keylift.addon import adapt_operators, adapt_panel, adapt_settings, curve_picture, weights_list
from keylift.addon.adapt_flow import AdaptationJob, AdaptChoice, adapting
from keylift.addon.adaptation_watch import adaptations_folder, forget_runs, watch
from keylift.addon.jobs import State
from keylift.addon.preferences import weights_folder
from keylift.core.worker_messages import Progressed
from learning_double import REASON, write_adapted_weights
from rig_samples import empty_scene

LABEL = bpy.types.UILayout.bl_rna.functions["label"]
ICONS = LABEL.parameters["icon"].enum_items


@lru_cache
def is_operator(name: str) -> bool:
    """Whether there is a button of that name; telling takes longer than drawing does."""
    category, _, operator = name.partition(".")
    return operator in dir(getattr(bpy.ops, category))


class Recorder:
    """In place of a layout, which only a window has: keeps the words, and takes no icon or button that is none."""

    def __init__(self) -> None:
        self.words: list[str] = []

    def __getattr__(self, name: str) -> Any:
        function = bpy.types.UILayout.bl_rna.functions[name]

        def take(*given: Any, **options: Any) -> Recorder:
            assert set(options) <= set(function.parameters.keys()), name
            assert options.get("icon", "NONE") in ICONS
            if name == "operator":
                assert is_operator(given[0])
                self.words.append(f"[{given[0]}]")
            if name == "prop":
                assert hasattr(given[0], given[1])
                self.words.append(f"<{given[1]}>")
            if name == "template_icon":
                # Without a window nothing has an icon; the test in the window sees it.
                assert options["icon_value"] == curve_picture.picture.icon
                self.words.append("<curve>")
            self.words += [options["text"]] if options.get("text") else []
            return self

        return take


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))
    # Without a window nobody knows how wide a letter is.
    monkeypatch.setattr(
        adapt_panel, "_words", lambda layout, text, context, icon="NONE": layout.label(text=text, icon=icon)
    )
    empty_scene()
    keylift.register()
    forget_runs()
    yield
    keylift.unregister()


def drawn() -> str:
    layout = Recorder()
    adapt_panel.draw_adaptation(layout, bpy.context, bpy.context.scene.keylift)  # type: ignore[arg-type]
    return " ".join(layout.words)


def a_run(name: str = "studio", steps: int = 3) -> Path:
    folder = adaptations_folder() / f"{name}-12345678"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"name": name, "base": "default"}), encoding="utf-8")
    (folder / "adapt.toml").write_text(f'name = "{name}"\n\n[loop]\nsteps = 500\n', encoding="utf-8")
    learn(folder, steps)
    forget_runs()
    return folder


def learn(folder: Path, steps: int) -> None:
    log = [{"step": 100 * step, "held_out_mm": 40.0 - step} for step in range(steps)]
    (folder / "log.json").write_text(json.dumps(log), encoding="utf-8")


def test_before_anything_it_asks_what_to_learn_from() -> None:
    words = drawn()
    for asked in ("<source>", "<base>", "<name>", "<minutes>", "<motion>", "<use_corrections>"):
        assert asked in words
    assert "<folder>" not in words and "[keylift.adapt_to_footage]" in words
    bpy.context.scene.keylift.adaptation.source = "FOLDER"
    assert "<folder>" in drawn()


def test_a_name_that_is_taken_or_none_is_told_at_once() -> None:
    write_adapted_weights(weights_folder(bpy.context) / "my-footage.safetensors", True)
    assert "Will be called my-footage-2" in drawn()
    bpy.context.scene.keylift.adaptation.name = "a/b"
    assert "can't be called 'a/b'" in drawn()


def test_while_it_learns_there_are_curve_pause_and_cancel() -> None:
    folder = a_run()
    job = AdaptationJob("Learning", "1", adapting(AdaptChoice("studio", ("/f",)), folder), folder=folder)
    job.state = State.RUNNING
    watch.job, watch.curve_of = job, folder
    job.hear(Progressed(1, "learn", "Learning", 100, 500))
    job.began -= 60
    job.hear(Progressed(1, "learn", "Learning", 300, 500))
    words = drawn()
    assert "Learning 60%, 1 min left [keylift.pause_adaptation] [keylift.cancel_adaptation]" in words
    assert "<curve> Held-out footage: 38.0 mm off, 40.0 mm at the beginning" in words
    assert "<source>" not in words and "[keylift.resume_adaptation]" not in words, "it is not among the unfinished"
    watch.ending = "pause"
    assert "Pausing" in drawn()


def test_the_curve_is_drawn_anew_when_more_was_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = a_run()
    picture = curve_picture.CurvePicture()
    assert picture.icon == 0
    assert len(picture.look(folder).step) == 3
    before = list(picture._pictures["curve"].image_pixels_float)
    assert len(before) == 4 * curve_picture.SIZE_PX**2 and max(before) > 0.5
    learn(folder, 5)
    assert len(picture.look(folder).step) == 3, "once a second is enough"
    monkeypatch.setattr(curve_picture, "_LOOK_S", 0.0)
    assert len(picture.look(folder).step) == 5
    assert list(picture._pictures["curve"].image_pixels_float) != before
    picture.close()
    assert picture.icon == 0


def test_what_was_left_unfinished_can_be_gone_on_with_or_thrown_away() -> None:
    folder = a_run()
    assert "studio: step 200 of 500 [keylift.resume_adaptation] [keylift.discard_adaptation]" in drawn()
    (folder / "in-use").touch()
    forget_runs()
    assert "Another Blender" in drawn()


def test_lifters_are_listed_and_the_chosen_one_is_told_about() -> None:
    write_adapted_weights(weights_folder(bpy.context) / "studio.safetensors", False)
    weights_list.show_in_list(bpy.context, "studio")
    assert f"from 'default'; not better. {REASON}" in drawn()
    layout = Recorder()
    row = weights_list.shown_list(bpy.context).rows["studio"]
    weights_list.KEYLIFT_UL_weights.draw_item(None, bpy.context, layout, None, row, 0, None, "")  # type: ignore[arg-type]
    assert layout.words == ["studio", "from default"]


def test_drawing_it_holds_nobody_up() -> None:
    for number in range(30):
        write_adapted_weights(weights_folder(bpy.context) / f"studio {number}.safetensors", True)
        a_run(f"run {number}")
    watch.curve_of = a_run("last", steps=200)
    drawn()
    took = []
    for _ in range(5):
        # The slowest that there is: everything on the disk is looked at anew.
        forget_runs()
        weights_list.forget_listed()
        began = time.perf_counter()
        drawn()
        took.append(time.perf_counter() - began)
    assert min(took) < 0.05


def test_all_of_it_is_said_in_german_as_well() -> None:
    from keylift.addon.translations import TRANSLATIONS

    said = {text for _, text in TRANSLATIONS["de_DE"]}
    choices = adapt_settings.KEYLIFT_PG_adaptation.bl_rna.properties
    labels = {
        choices[name].name for name in ("source", "folder", "base", "name", "minutes", "motion", "use_corrections")
    }
    labels |= {item.name for item in choices["source"].enum_items}
    labels |= {cls.bl_label for cls in (*weights_list.CLASSES, *adapt_operators.CLASSES) if hasattr(cls, "bl_label")}
    labels |= {"Adapt to My Footage", "Report", "Discard"}
    # Blender has its own word for these.
    assert labels - said <= {"Name", "Cancel", "Folder"}
