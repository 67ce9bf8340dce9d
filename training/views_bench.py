"""What making synthetic views costs of a training step."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .config import read_config
from .loop import computed_in
from .motion.anchor import read_anchor
from .views.config import ViewConfig
from .views.lesson import ViewLesson

_DEFAULT = Path(__file__).parent / "configs" / "default.toml"


def measure_views(steps: int, batch: int | None, channels: int | None, device: torch.device) -> dict[str, Any]:
    """Time of ``steps`` steps of the default lifter's own training, and the part of it in which views are made.

    In training they are made in a thread beside the network; here one after the other, so that both are seen.
    batch, channels: instead of the configuration's
    """
    config = read_config(_DEFAULT)
    assert isinstance(config, ViewConfig)
    loop = replace(config.loop, batch=batch or config.loop.batch)
    network = replace(config.network, channels=channels or config.network.channels)
    lesson = ViewLesson(replace(config, loop=loop, network=network), read_anchor()).to(device).train()
    optimiser = lesson.make_optimiser()
    # The first batch fills the pool.
    lesson.batch(0)
    making = learning = 0.0
    for step in range(1, 1 + steps):
        began = time.perf_counter()
        views = lesson.batch(step)
        made = time.perf_counter()
        lesson.prepare_step(step, optimiser)
        optimiser.zero_grad(set_to_none=True)
        with computed_in(loop.precision, device):
            loss = lesson(views)["loss"]
        loss.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        making += made - began
        learning += time.perf_counter() - made
    return {
        "batch": loop.batch,
        "channels": network.channels,
        "view_uses": loop.view_uses,
        "seconds_per_step": (making + learning) / steps,
        "making_share": making / (making + learning),
    }
