"""A run over sequences, from data to weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...core.lifter.device import choose_device
from ...core.progress import Progress, silent
from .. import processes
from ..loop import LoopPlan, learn
from ..run_folder import write_final_weights
from .config import SequenceConfig
from .data import read_split
from .lesson import SequenceLesson
from .lifting import NetworkLift
from .protocols import evaluate


def train_on_sequences(
    config: SequenceConfig,
    base_folder: Path,
    run_folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train as the paper does, supervised or semi-supervised; arguments and errors as in ``views.run``."""
    loop = config.loop
    with processes.joined(choose_device(device)) as chosen:
        torch.manual_seed(loop.seed)
        labelled = read_split(config.data, base_folder, "train")
        unlabelled = read_split(config.data, base_folder, "unlabelled") if config.semi_supervised.enabled else None
        valid = read_split(config.data, base_folder, "valid")
        notes = [*labelled.notes, *(unlabelled.notes if unlabelled else ()), *valid.notes]
        for note in dict.fromkeys(notes):
            tell(note)
        lesson = SequenceLesson(
            config, labelled.sequences, unlabelled.sequences if unlabelled else [], labelled.layout, labelled.skeleton
        ).to(chosen)
        lift = NetworkLift(lesson.lifter, lesson.layout, lesson.skeleton, loop.test_time_flip)

        def validate() -> dict[str, float]:
            return evaluate(valid.sequences, lift).mean if valid.sequences else {}

        plan = LoopPlan(
            loop.seed,
            loop.validate_every * lesson.steps_per_epoch,
            checkpoint_every_s=loop.checkpoint_every_s,
            precision=loop.precision,
        )
        read = {**labelled.sha256, **(unlabelled.sha256 if unlabelled else {}), **valid.sha256}
        standing = learn(
            lesson,
            plan,
            {**config.as_dict(), "data_sha256": read},
            run_folder,
            chosen,
            validate,
            resume=resume,
            progress=progress,
            tell=tell,
        )
        test = read_split(config.data, base_folder, "test")
        for note in dict.fromkeys(test.notes):
            if note not in notes:
                tell(note)
        metrics = {"test": evaluate(test.sequences, lift).mean} if test.sequences else {}
        facts = {"data_sha256": {**read, **test.sha256}, **lesson.facts()}
        return write_final_weights(run_folder, config, lesson.header(), standing, lesson.tensors(), facts, metrics)
