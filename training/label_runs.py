"""The runs of a label study, several at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable, MutableSequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from ..core.errors import Cancelled
from ..core.progress import Progress, report, silent
from ..core.weights import read_header
from .sequences.config import SequenceConfig
from .sequences.label_study import LabelStudy, config_of, runs_of, write_report
from .sequences.run import train_on_sequences

_SECONDS_BETWEEN_LOOKS = 0.5
_PARTS = 1000

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

    Runs that were stopped go on from their last checkpoint; those that ended are taken as they are. Raises what
    ``train_on_sequences`` raises, for the first run that fails; the others are stopped.
    """
    runs = list(runs_of(study))
    configs = [config_of(study, run) for run in runs]
    missing = [number for number, config in enumerate(configs) if not _ended(config, run_folder)]
    # Never fork: torch's threads don't survive it.
    context = multiprocessing.get_context("spawn")
    how_far, stop = context.Array("d", len(runs), lock=False), context.Event()
    for number in range(len(runs)):
        how_far[number] = float(number not in missing)
    workers = study.workers or os.cpu_count() or 1
    # Sums come out alike only with the same number of threads, so it doesn't depend on what is left to do.
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ProcessPoolExecutor(workers, context, _set_up, (how_far, stop, threads)) as pool:
        pending = {
            pool.submit(_train, configs[number], base_folder, run_folder / configs[number].name, number, device)
            for number in missing
        }
        try:
            while pending:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
                for future in [future for future in pending if future.done()]:
                    pending.remove(future)
                    tell(future.result())
                report(progress, round(_PARTS * sum(how_far)), _PARTS * len(runs))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    results: list[dict[str, Any]] = []
    for run, config in zip(runs, configs, strict=True):
        header = read_header(run_folder / config.name / f"{config.name}.safetensors")
        results.append({**asdict(run), **header["metrics"]["test"], "seconds": header["training"]["seconds"]})
    return write_report(results, run_folder)


def _ended(config: SequenceConfig, run_folder: Path) -> bool:
    """True when the run's weights are there and were made with these settings."""
    weights = run_folder / config.name / f"{config.name}.safetensors"
    return weights.exists() and read_header(weights)["training"]["config"] == json.loads(json.dumps(config.as_dict()))


def _set_up(how_far: MutableSequence[float], stop: Event, threads: int) -> None:
    """Make a worker ready."""
    global _how_far, _stop
    _how_far, _stop = how_far, stop
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
