"""The list of lifters: what each says of itself, and using, showing and removing them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("bpy")

import bpy

import keylift
from keylift.addon import weights_list
from keylift.addon.adaptation_watch import adaptations_folder, forget_runs
from keylift.addon.known_weights import KnownWeights, known_weights
from keylift.addon.preferences import weights_folder
from learning_double import REASON, write_adapted_weights
from rig_samples import empty_scene


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))
    empty_scene()
    keylift.register()
    forget_runs()
    yield
    keylift.unregister()


def settings() -> Any:
    return bpy.context.scene.keylift


def add(name: str, better: bool = True) -> Path:
    path = weights_folder(bpy.context) / f"{name}.safetensors"
    write_adapted_weights(path, better)
    weights_list.show_in_list(bpy.context, name)
    return path


def add_report(name: str) -> Path:
    folder = adaptations_folder() / f"{name}-1234"
    folder.mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({"name": name}), encoding="utf-8")
    (folder / "result.json").write_text(json.dumps({"name": name}), encoding="utf-8")
    (folder / "report.html").write_text("<p>", encoding="utf-8")
    forget_runs()
    return folder


def rows() -> list[str]:
    return [row.name for row in weights_list.shown_list(bpy.context).rows]


def of(name: str) -> KnownWeights:
    return next(weights for weights in known_weights(weights_folder(bpy.context)) if weights.name == name)


def test_shipped_ones_come_first_and_ones_own_after_them() -> None:
    add("studio")
    add("Another", better=False)
    assert rows() == ["default", "Another", "causal", "studio"]
    assert of("default").shipped and of("default").better is None
    assert (of("studio").parent, of("studio").better, of("studio").reason) == ("default", True, REASON)
    assert [weights_list.verdict_icon(of(name)) for name in rows()] == ["DOT", "X", "DOT", "CHECKMARK"]


def test_the_same_row_stays_chosen_when_others_come() -> None:
    add("studio")
    write_adapted_weights(weights_folder(bpy.context) / "acrobats.safetensors", True)
    weights_list.forget_listed()
    weights_list.fill_list(bpy.context)
    shown = weights_list.shown_list(bpy.context)
    assert rows()[1] == "acrobats" and shown.rows[shown.active].name == "studio"


def test_a_file_that_is_no_lifter_is_listed_as_what_it_is() -> None:
    folder = weights_folder(bpy.context)
    folder.mkdir(parents=True)
    (folder / "broken.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    (folder / "..safetensors").write_bytes(b"")
    write_adapted_weights(folder / "default.safetensors", True)
    assert {weights.name for weights in known_weights(folder)} == {"default", "causal", "broken"}
    assert of("default").shipped, "that name is the shipped ones' alone"
    assert not of("broken").usable and weights_list.verdict_icon(of("broken")) == "ERROR"
    with pytest.raises(RuntimeError, match="not a weights file"):
        bpy.ops.keylift.use_weights(name="broken")


def test_a_file_that_has_changed_is_read_anew() -> None:
    path = add("studio")
    assert of("studio").better
    write_adapted_weights(path, False)
    assert of("studio").better is False
    assert of("studio") is of("studio"), "and one that has not is not"


def test_using_some_is_one_undo_step() -> None:
    add("studio")
    bpy.ops.ed.undo_push(message="before")
    assert bpy.ops.keylift.use_weights("EXEC_DEFAULT", True) == {"FINISHED"} and settings().weights == "studio"
    bpy.ops.ed.undo()
    assert settings().weights == "default"
    bpy.ops.ed.redo()
    assert bpy.ops.keylift.use_shipped_weights() == {"FINISHED"} and settings().weights == "default"
    assert bpy.ops.keylift.use_weights(name="studio") == {"FINISHED"} and settings().weights == "studio"
    with pytest.raises(RuntimeError, match="no weights 'nobody'"):
        bpy.ops.keylift.use_weights(name="nobody")


def test_removing_some_takes_their_report_along_and_scenes_back_to_the_shipped_ones() -> None:
    path, folder = add("studio"), add_report("studio")
    other = bpy.data.scenes.new("other")
    settings().weights = other.keylift.weights = "studio"
    assert bpy.ops.keylift.remove_weights() == {"FINISHED"}
    assert not path.exists() and not folder.exists() and "studio" not in rows()
    assert settings().weights == other.keylift.weights == "default"


def test_shipped_ones_stay() -> None:
    weights_list.show_in_list(bpy.context, "causal")
    with pytest.raises(RuntimeError, match="of your own"):
        bpy.ops.keylift.remove_weights()


def test_the_report_is_shown_where_there_is_one() -> None:
    add("studio")
    with pytest.raises(RuntimeError, match="no report"):
        bpy.ops.keylift.show_adaptation_report()
    add_report("studio")
    assert bpy.ops.keylift.show_adaptation_report() == {"FINISHED"}


def test_own_weights_can_be_chosen_as_the_base_and_keep_their_place() -> None:
    add("studio")
    settings().adaptation.base = settings().weights = "studio"
    add("acrobats")
    assert settings().adaptation.base == settings().weights == "studio"
