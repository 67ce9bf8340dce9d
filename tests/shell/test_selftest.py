"""``keylift selftest``: a lifter that works is told from one that does not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")

from keylift.__main__ import main
from keylift.core import lift as lifting
from keylift.core import pose_model as models


def told(capfd: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capfd.readouterr().out.strip().splitlines()[-1])


def test_the_weights_that_come_along_lift_a_walk(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "--device", "cpu", "--json"]) == 0
    values = told(capfd)
    assert values["device"] == "cpu" and 0 < values["off_mm"] < 100
    assert values["frames_per_second"] > 1 and values["lift_s"] > 0 and "pose_model" not in values


def test_a_lifter_that_stands_the_body_on_its_head_is_found_out(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = lifting.lift

    def upside_down(*given: Any, **options: Any) -> Any:
        pose = right(*given, **options)
        return replace(pose, positions_m=pose.positions_m * [1, -1, 1])

    monkeypatch.setattr(lifting, "lift", upside_down)
    assert main(["selftest", "--device", "cpu", "--json"]) == 1
    assert "Set the worker up anew" in told(capfd)["error"]


def test_the_pose_model_is_fetched_when_asked_for(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "pose_model", lambda name, progress: f"/models/{name}.task")
    assert main(["selftest", "--device", "cpu", "--fetch-model", "--json"]) == 0
    assert told(capfd)["pose_model"] == "/models/full.task"
