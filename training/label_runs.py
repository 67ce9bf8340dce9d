"""The runs of a label study, several at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, MutableSequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from ..core.errors import Cancelled, TryAgainError
from ..core.progress import Progress, report, silent
from ..core.weights import read_header
from .sequences.config import SequenceConfig
from .sequences.data import look_through
from .sequences.label_study import LabelStudy, config_of, runs_of, write_report
from .sequences.run import train_on_sequences

_SECONDS_BETWEEN_LOOKS = 0.5
_PARTS = 1000
# Windows can't wait for more.
_MOST_WORKERS_ON_WINDOWS = 61

# In a worker: how far each run is, 0 to 1, and whether to stop.
_how_far: MutableSequence[float]
_stop: Event


def conduct(
    study: LabelStudy,
    base_folder: Path,
    run_folder: Path,
    *,
    device: str = "auto",
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train every run of a study that is not done yet, write the report and return it.

    Runs that were stopped go on from their last checkpoint; those that ended with the same settings and data are taken
    as they are. Raises what ``train_on_sequences`` raises, for the first run that fails, and TryAgainError when a
    process was killed; the other runs are stopped.
    """
    runs = list(runs_of(study))
    configs = [config_of(study, run) for run in runs]
    sha256, notes = look_through(study.data, base_folder)
    for note in notes:
        tell(note)
    missing = [number for number, config in enumerate(configs) if not _ended(config, run_folder, sha256)]
    # Never fork: torch's threads don't survive it.
    context = multiprocessing.get_context("spawn")
    how_far, stop = context.Array("d", len(runs), lock=False), context.Event()
    for number in range(len(runs)):
        how_far[number] = float(number not in missing)
    workers = _workers(study)
    # Sums come out alike only with the same number of threads, so it doesn't depend on what is left to do.
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(min(workers, len(missing) or 1), context, _set_up, (how_far, stop, threads)) as pool:
        pending: set[Future[str]] = set()
        try:
            for number in missing:
                folder = run_folder / configs[number].name
                pending.add(pool.submit(_train, configs[number], base_folder, folder, number, device))
            while pending:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                # Before anything that a request to stop may have broken.
                report(progress, round(_PARTS * sum(how_far)), _PARTS * len(runs))
                for future in [future for future in pending if future.done()]:
                    pending.remove(future)
                    tell(future.result())
        except BaseException as problem:
            stop.set()
            pool.shutdown(cancel_futures=True)
            if isinstance(problem, BrokenProcessPool):
                raise TryAgainError(
                    "A process of the study was killed, perhaps because memory ran out. Give it fewer workers in the "
                    "configuration, and start it again with --resume."
                ) from problem
            if isinstance(problem, Cancelled | KeyboardInterrupt):
                tell("Stopped. --resume goes on with the study from there.")
            raise
    results: list[dict[str, Any]] = []
    for run, config in zip(runs, configs, strict=True):
        header = read_header(run_folder / config.name / f"{config.name}.safetensors")
        results.append({**asdict(run), **header["metrics"]["test"], "seconds": header["training"]["seconds"]})
    return write_report(results, run_folder)


def _workers(study: LabelStudy) -> int:
    workers = study.workers or os.cpu_count() or 1
    return min(workers, _MOST_WORKERS_ON_WINDOWS) if os.name == "nt" else workers


def _ended(config: SequenceConfig, run_folder: Path, sha256: Mapping[str, str]) -> bool:
    """True when the run's weights are there and were made with these settings from data with these hashes."""
    weights = run_folder / config.name / f"{config.name}.safetensors"
    if not weights.exists():
        return False
    training = read_header(weights)["training"]
    return bool(training["config"] == json.loads(json.dumps(config.as_dict())) and training["data_sha256"] == sha256)


def _set_up(how_far: MutableSequence[float], stop: Event, threads: int) -> None:
    """Make a worker ready."""
    global _how_far, _stop
    _how_far, _stop = how_far, stop
    # A terminal sends ctrl-C to all processes. This one is told to stop by the one that started it, and keeps its work.
    for name in ("SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    import torch

    torch.set_num_threads(threads)


def _train(config: SequenceConfig, base_folder: Path, folder: Path, number: int, device: str) -> str:
    """One run, in a worker; returns a sentence about it."""

    def progress(done: int, total: int | None) -> bool:
        _how_far[number] = done / (total or 1)
        return not _stop.is_set()

    if _stop.is_set():
        raise Cancelled("Stopped on request.")
    weights = train_on_sequences(config, base_folder, folder, resume=True, device=device, progress=progress)
    errors = read_header(weights)["metrics"]["test"]
    return f"{config.name}: N-MPJPE {errors['n_mpjpe_mm']:.1f} mm, P-MPJPE {errors['p_mpjpe_mm']:.1f} mm"
