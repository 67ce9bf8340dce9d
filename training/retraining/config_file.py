"""A run's configuration as a file, and how many steps fit into the time that there is."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ...core.output_files import written_whole
from ..checkpoints import RUN_ADVICE
from ..loop import computed_in
from .lesson import AdaptLesson
from .settings import AdaptConfig

CONFIG = "adapt.toml"
# More steps than this bring nothing; see docs/retraining.md.
MOST_STEPS = 6000
FEWEST_STEPS = 100
_WARM_UP, _TIMED = 2, 6
# What measuring, checkpoints and a machine that does something else besides take.
_SHARE_FOR_STEPS = 0.85


def as_toml(values: dict[str, Any]) -> str:
    """Plain values and one level of tables as TOML."""
    plain = {key: value for key, value in values.items() if not isinstance(value, dict)}
    tables = {key: value for key, value in values.items() if isinstance(value, dict)}
    lines = [f"{key} = {_literal(value)}" for key, value in plain.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_literal(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_literal, value)) + "]"
    # JSON's strings, numbers and truth values are TOML's too, as long as characters stay what they are.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_config(path: Path, config: AdaptConfig) -> None:
    """Write a configuration that ``keylift train`` and torchrun take as well."""
    with written_whole(path, RUN_ADVICE) as beside:
        beside.write_text(
            "# Written by keylift adapt. Other processes and machines share the work with\n"
            "# torchrun --nproc-per-node 2 -m keylift train adapt.toml --run-folder FOLDER\n"
            + as_toml(config.as_dict()),
            encoding="utf-8",
        )


def with_steps_for(config: AdaptConfig, lesson: AdaptLesson, device: torch.device, minutes: float) -> AdaptConfig:
    """``config`` with as many steps as fit into ``minutes``; some are tried on ``lesson``, whose network stays."""
    optimiser = lesson.make_optimiser()
    began = time.perf_counter()
    for step in range(_WARM_UP + _TIMED):
        if step == _WARM_UP:
            began = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with computed_in(config.loop.precision, device):
            loss = lesson(lesson.batch(step))["loss"]
        loss.backward()
    each_s = (time.perf_counter() - began) / _TIMED
    steps = int(min(MOST_STEPS, max(FEWEST_STEPS, _SHARE_FOR_STEPS * 60 * minutes / each_s)))
    # Twenty points make a curve.
    return replace(config, loop=replace(config.loop, steps=steps, validate_every=max(20, steps // 20)))
