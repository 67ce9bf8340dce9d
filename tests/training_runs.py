"""A tiny run of the trainer to start, kill and damage: motion of a walker, its configuration, and what came of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from keylift.core.skeletons import LANDMARKS_41
from keylift.core.weights import read_tensors
from walker import walk
from warm_starts import Process, python

# Dropout, a warm-up without unlabelled chunks, every term of the loss, a momentum that changes with each epoch.
CONFIG = """
name = "tiny"
method = "sequences"

[data]
kind = "mocap"
train = "walk.npz"
valid = "walk.npz"
test = "walk.npz"
fps = 30.0
cameras = 1
labelled_part = 0.4

[network]
widths = [3, 3]
channels = 16
dropout = 0.25

[loop]
epochs = 5
batch = 31
checkpoint_every_s = 0.001

[semi_supervised]
enabled = true
warm_up_epochs = 1
"""
STEPS = 30
WEIGHTS = "tiny.safetensors"
PATIENCE_S = 240.0


def write_motion(path: Path, frames: int = 200) -> None:
    """Two walks in different directions as a landmark set."""
    clips = [walk(frames, 60.0, heading) for heading in (0.0, 1.0)]
    positions = np.concatenate([clip.positions_m for clip in clips])
    positions[..., 1] -= positions[..., 1].min()
    np.savez(
        path,
        positions_q=np.round(positions / 0.0005).astype(np.int16),
        position_quantum_m=0.0005,
        clip_start=np.array([0, frames, 2 * frames]),
        clip_name=np.array(["a", "b"]),
        clip_subject=np.array(["s1", "s2"]),
        clip_source=np.array(["walker", "other"]),
        fps=60.0,
        joint_names=np.array(LANDMARKS_41.names),
    )


def write_run(folder: Path, *changes: tuple[str, str]) -> Path:
    """The configuration, with ``changes`` (what stood there, what stands there now), beside its motion."""
    write_motion(folder / "walk.npz")
    text = CONFIG
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


def torchrun(processes: int, *options: object) -> list[object]:
    """Python's arguments that start ``keylift`` in several processes on this machine."""
    start = ["-m", "torch.distributed.run", "--nproc-per-node", processes]
    # A port that is free, so that runs side by side don't meet.
    return [*start, "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", *options, "-m", "keylift"]


def started(
    config: Path, run: Path, *options: object, door: Sequence[object] = ("-m", "keylift"), cold: bool = False
) -> Process:
    """``keylift train`` on its way, in one thread: results depend on how many there are."""
    arguments = ["train", config, "--run-folder", run, *options, "--device", "cpu"]
    return python(*door, *arguments, cwd=Path.cwd(), env={"OMP_NUM_THREADS": "1"}, cold=cold)


def finished(process: Process, code: int = 0) -> tuple[str, str]:
    """Wait for a run that should end with ``code``; what it wrote to stdout and stderr."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, err
    return out, err


def wait_until(happened: Callable[[], bool], process: Process) -> None:
    """Watch closely until something happened, which must be before ``process`` ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)


def checkpoint_names(run: Path, called: str = "checkpoints") -> list[str]:
    """What lies in a run's folder of checkpoints, sorted."""
    folder = run / called
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def same_weights(one: Path, other: Path) -> bool:
    """True when the weights of two run folders are equal to the last bit."""
    a, b = read_tensors(one / WEIGHTS), read_tensors(other / WEIGHTS)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def log_of(run: Path) -> list[dict[str, Any]]:
    """A run's log without the time that it took."""
    entries = json.loads((run / "log.json").read_text(encoding="utf-8"))
    return [{name: value for name, value in entry.items() if name != "seconds"} for entry in entries]


def scalars_of(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: by name, steps and values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
