"""A run with the real command in the real worker: paused from Blender, gone on with, and put to use if it is better."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("bpy")

import bpy

import keylift
from adaptation_samples import make_quick, write_walks
from keylift.__main__ import main
from keylift.addon import adapt_flow, adapt_operators, weights_list
from keylift.addon.adaptation_runs import new_run_folder
from keylift.addon.adaptation_watch import adaptations_folder, forget_runs, known_runs, watch
from rig_samples import empty_scene

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="this Python has no torch"),
]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))
    empty_scene()
    keylift.register()
    yield
    keylift.unregister()


def until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, watch.words
        watch.tick()
        time.sleep(0.01)


def test_paused_gone_on_with_and_put_to_use(tmp_path: Path) -> None:
    walks = write_walks(tmp_path)
    folder = new_run_folder(adaptations_folder(), "studio")
    choice = adapt_flow.AdaptChoice("studio", tuple(map(str, walks)), device="cpu")
    # As the panel asks for it, but with little to do.
    assert main([*choice.argv(folder), "--steps=4", "--prepare-only", "--quiet"]) == 0
    make_quick(folder / "adapt.toml")
    forget_runs()
    (run,) = known_runs().unfinished
    assert (run.folder, run.name, run.base, run.step, run.steps) == (folder, "studio", "default", 0, 4)

    flow = adapt_flow.resuming(folder, "cpu")
    watch.begin(bpy.context.scene, flow, folder, "Learning", adapt_operators.apply_outcome)
    until(lambda: watch.job is not None and watch.job.at == "learn" and watch.job.fraction > 0)
    bpy.ops.keylift.pause_adaptation()
    until(lambda: watch.job is None)
    assert watch.words is not None and watch.words[0] == "PAUSE", watch.words
    forget_runs()
    (run,) = known_runs().unfinished
    assert 1 <= run.step < 4, "what was learnt is kept"

    assert bpy.ops.keylift.resume_adaptation() == {"FINISHED"}
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert known_runs().unfinished == () and known_runs().report_of("studio") == folder / "report.html"
    better = result["verdict"] == "better"
    assert bpy.context.scene.keylift.weights == ("studio" if better else "default")
    weights = weights_list.chosen_weights(bpy.context, "studio")
    assert weights is not None and (weights.parent, weights.better) == ("default", better)
    assert result["reason"] in watch.words[1]
    assert bpy.ops.keylift.remove_weights() == {"FINISHED"} and not folder.exists()
