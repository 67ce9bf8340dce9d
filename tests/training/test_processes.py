"""Several processes share every batch: what they learn is what one process learns, and a dead one is no loss.

Run as a script, this file is one of these processes.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from keylift.core.camera import project_screen
from keylift.core.skeletons import H36M_17
from keylift.training import processes
from keylift.training.sequences.config import MocapData, SemiSupervised, SequenceConfig, SequenceLoop, SequenceNetwork
from keylift.training.sequences.lesson import LessonBatch, SequenceLesson
from keylift.training.sequences.sequence import FilmedSequence
from training_runs import (
    WEIGHTS,
    checkpoint_names,
    finished,
    log_of,
    same_weights,
    scalars_of,
    started,
    torchrun,
    wait_until,
    write_run,
)
from warm_starts import Process, python

STEPS = 4
LENS = np.array([2.3, 2.3, 0.02, -0.01, -0.2, 0.2, 0.0, 0.001, -0.002])
SEMI = SemiSupervised(True, warm_up_epochs=0)
# Chunks there are: 22 labelled (11 of two frames each), 30 unlabelled (15).
CASES: dict[str, tuple[SemiSupervised, SequenceLoop]] = {
    # 17 chunks in a batch can't be halved, nor the 5 in the last one.
    "supervised": (SemiSupervised(), SequenceLoop(batch=17, flip=False, epochs=2)),
    # The last labelled batch has 1 chunk, so that the second process has unlabelled ones only.
    "all four terms": (SEMI, SequenceLoop(batch=7, flip=False, epochs=2)),
    # 5 chunks of two frames in a batch, the last has 1: nothing for the second process.
    "an empty part": (SemiSupervised(), SequenceLoop(batch=10, stride=2, flip=False, epochs=2)),
}


def looking_at(frames: int, seed: int) -> FilmedSequence:
    """A body that wiggles before a camera, seen by it."""
    rng = np.random.default_rng(seed)
    positions = rng.normal(0, 0.3, (1, 17, 3)) + 0.01 * rng.normal(size=(frames, 17, 3))
    positions[:, 0] = np.array([0.2, 0.1, 4.0]) + 0.01 * np.arange(frames)[:, None]
    seen = project_screen(np.concatenate([positions[:, :1], positions[:, 1:] + positions[:, :1]], axis=1), LENS)
    return FilmedSequence("S1", "Walk", "c1", seen, positions, LENS, 50.0)


def lesson_of(case: str) -> SequenceLesson:
    """The lesson of a case, computed in float64, without dropout (which is another one in each process)."""
    semi, loop = CASES[case]
    data = MocapData("mocap", "", "", "")
    torch.manual_seed(0)
    config = SequenceConfig("x", "sequences", data, SequenceNetwork((3, 3), 16, 0.0), loop, semi)
    unlabelled = [looking_at(30, 1).without_labels()] if semi.enabled else []
    return SequenceLesson(config, [looking_at(22, 0)], unlabelled, "h36m17", H36M_17).double()


def in_double(batch: LessonBatch) -> LessonBatch:
    """The same batch in float64."""
    parts = {
        half.name: dataclasses.replace(
            chunks, **{name: value.astype(float) for name, value in vars(chunks).items() if value is not None}
        )
        for half in dataclasses.fields(batch)
        if (chunks := getattr(batch, half.name)) is not None
    }
    return dataclasses.replace(batch, **parts)


def learnt(case: str) -> dict[str, torch.Tensor]:
    """Losses and gradients of each of some steps, the last batch of an epoch among them, and what they led to."""
    lesson = lesson_of(case)
    processes.share_batch_norms(lesson)
    optimiser = lesson.make_optimiser()
    module = processes.shared(lesson).train()
    assert lesson.steps_per_epoch <= STEPS
    found = {}
    for step in range(STEPS):
        lesson.prepare_step(step, optimiser)
        optimiser.zero_grad()
        losses = module(in_double(lesson.batch(step)))
        losses["loss"].backward()
        found.update({f"{step} loss {name}": value.detach().clone() for name, value in losses.items()})
        found.update({f"{step} gradient {name}": p.grad.clone() for name, p in lesson.named_parameters()})
        optimiser.step()
    return found | {f"state {name}": value.clone() for name, value in lesson.state_dict().items()}


def work(folder: Path) -> None:
    """What each process does: learn every case, and write down what the first one has."""
    # The lesson takes losses in float32, whose rounding would hide a small mistake.
    torch.Tensor.float = torch.Tensor.double
    with processes.joined(torch.device("cpu")):
        for number, case in enumerate(CASES):
            found = learnt(case)
            if processes.rank() == 0:
                save_file({name: value.contiguous() for name, value in found.items()}, folder / f"{number}.safetensors")


def start_workers(count: int, folder: Path) -> None:
    """Run this file in ``count`` processes that know of each other."""
    folder.mkdir()
    together(count, "-m", "training.test_processes", folder)


def together(count: int, *command: object) -> None:
    """Run Python in ``count`` processes that know of each other, as torchrun does but warm, and wait for them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "localhost", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    # Windows' builds of torch have no libuv.
    shared["USE_LIBUV"] = "0"
    workers = [
        python(
            *command,
            cwd=Path(__file__).parents[1],
            env={**shared, "RANK": str(number), "LOCAL_RANK": str(number)},
        )
        for number in range(count)
    ]
    try:
        for worker in workers:
            _, said = worker.communicate(timeout=200)
            assert worker.returncode == 0, said
    finally:
        for worker in workers:
            worker.kill()


Learnt = Mapping[str, torch.Tensor]


@pytest.fixture(scope="module")
def learnt_by(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[Learnt]]:
    """By number of processes: what each case led to."""
    folder = tmp_path_factory.mktemp("learnt")
    found = {}
    for count in (1, 2, 3):
        start_workers(count, folder / str(count))
        found[count] = [load_file(folder / str(count) / f"{number}.safetensors") for number in range(len(CASES))]
    return found


def differing(one: Learnt, other: Learnt, relative: float) -> list[str]:
    """Names of what differs by more than a part ``relative`` of its largest value."""
    assert one.keys() == other.keys()
    return [
        name
        for name in one
        if float((one[name] - other[name]).abs().max()) > relative * max(float(one[name].abs().max()), 1e-3)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("case", range(len(CASES)), ids=list(CASES))
def test_several_processes_learn_what_one_learns(count: int, case: int, learnt_by: Any) -> None:
    one, several = learnt_by[1][case], learnt_by[count][case]
    losses = {name.split()[-1] for name in one if " loss " in name}
    expected = {"loss", "pose"} | (
        {"trajectory", "projection", "bones"} if CASES[list(CASES)[case]][0].enabled else set()
    )
    assert losses == expected
    # Batch norms' parameters are learnt too, in several processes as in one.
    assert not torch.equal(several["state lifter.expand_bn.bias"], torch.zeros(16, dtype=torch.float64))
    assert differing(one, several, 1e-9) == []


def test_a_batch_norm_keeps_its_digits_far_from_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the running mean is good for: the mean of squares less the square of the mean has no digit left here."""
    values = 1000 + 0.1 * torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
    norm = processes.SharedBatchNorm(4)
    norm.running_mean.fill_(999.9)
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    monkeypatch.setattr(processes, "sum_over_processes", lambda value: value)
    exact = values.double()
    variance = exact.var(0, correction=0)
    wanted = (exact - exact.mean(0)) / (variance + norm.eps).sqrt()
    assert float((norm(values).detach() - wanted).abs().max()) < 1e-4
    assert torch.allclose(norm.running_var.double(), 0.9 + 0.1 * exact.var(0), rtol=1e-5)
    assert torch.allclose(norm.running_mean.double(), 0.9 * 999.9 + 0.1 * exact.mean(0), rtol=1e-6)


def test_a_batch_norm_becomes_shared_with_the_parameters_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "world_size", lambda: 2)
    network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ModuleList([torch.nn.BatchNorm1d(3)]))
    before = dict(network.named_parameters()) | dict(network.named_buffers())
    processes.share_batch_norms(network)
    assert isinstance(network[1][0], processes.SharedBatchNorm)
    after = dict(network.named_parameters()) | dict(network.named_buffers())
    assert before.keys() == after.keys() and all(after[name] is before[name] for name in before)


def workers_of(agent: Process) -> list[int]:
    """Process ids of what torchrun started, the first one first."""
    found = subprocess.run(["pgrep", "-P", str(agent.pid)], capture_output=True, text=True).stdout
    return sorted(map(int, found.split()))


def kill_a_worker(agent: Process, run: Path, number: int, after_step: int) -> None:
    """Kill one of torchrun's processes once a checkpoint of a step is there."""
    wait_until(lambda: any(name >= f"step-{after_step:09d}" for name in checkpoint_names(run)), agent)
    os.kill(workers_of(agent)[number], signal.SIGKILL)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that never stopped."""
    run = tmp_path_factory.mktemp("whole") / "run"
    out, err = finished(started(config, run, door=torchrun(2)))
    # One process talks.
    assert out == f"{run / WEIGHTS}: trained\n" and err.count("Training from") == 1
    assert "Warning" not in err
    return run


pytest_posix = pytest.mark.skipif(os.name == "nt", reason="looks for processes as POSIX systems do")


@pytest.mark.slow
@pytest_posix
def test_torchrun_goes_on_by_itself_when_the_process_that_writes_was_killed(
    config: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    agent = started(config, run, door=torchrun(2, "--max-restarts", 1))
    kill_a_worker(agent, run, 0, 9)
    finished(agent)
    assert same_weights(run, whole) and log_of(run) == log_of(whole) and scalars_of(run) == scalars_of(whole)


@pytest.mark.slow
@pytest_posix
def test_a_shared_run_goes_on_by_hand_when_a_process_was_killed(config: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    agent = started(config, run, door=torchrun(2))
    kill_a_worker(agent, run, 1, 9)
    _, said = finished(agent, code=1)
    # Which of the two the other process says depends on whether torchrun ends it before it misses the one killed.
    assert f"keylift: {processes.LOST}" in said or "keylift: Stopped" in said
    assert "this is a bug" not in said
    assert not (run / WEIGHTS).exists()
    finished(started(config, run, "--resume", door=torchrun(2)))
    assert same_weights(run, whole) and log_of(run) == log_of(whole) and scalars_of(run) == scalars_of(whole)


@pytest.mark.slow
def test_three_processes_resume_bit_for_bit_too(config: Path, tmp_path: Path) -> None:
    """Sums of three numbers depend on their order, which the arrangement of the gradients decides."""
    one, other = tmp_path / "one", tmp_path / "other"
    together(3, "-m", "keylift", "train", config, "--run-folder", one, "--device", "cpu")
    shutil.copytree(one, other)
    (other / WEIGHTS).unlink()
    (other / "checkpoints" / checkpoint_names(one)[-1]).unlink()
    together(3, "-m", "keylift", "train", config, "--run-folder", other, "--resume", "--device", "cpu")
    assert same_weights(one, other)


@pytest.mark.slow
def test_an_error_ends_all_processes_and_is_told(config: Path, whole: Path) -> None:
    _, said = finished(started(config, whole, door=torchrun(2)), code=1)
    assert "holds a run already" in said and "this is a bug" not in said


if __name__ == "__main__":
    work(Path(sys.argv[1]))
    # As the shell does: gloo's threads are alive, and may abort an interpreter that tidies up under them.
    os._exit(0)
