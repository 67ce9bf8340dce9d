"""The training story: data -> lesson -> loop -> weights with their provenance."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..core.lifter.device import choose_device
from ..core.output_files import written_whole
from ..core.progress import Progress, silent
from ..core.skeletons import LANDMARKS_41
from ..core.weights import write_weights
from . import processes
from .checkpoints import RUN_ADVICE, Standing, saved
from .config import read_config
from .label_runs import conduct
from .loop import LoopPlan, learn
from .motion_data import MotionSet
from .motion_files import read_motion_from
from .run_folder import check_new
from .sequences.config import SequenceConfig
from .sequences.data import read_split
from .sequences.label_study import LabelStudy
from .sequences.lesson import SequenceLesson
from .sequences.lifting import NetworkLift
from .sequences.protocols import evaluate
from .views.config import ViewConfig
from .views.evaluation import evaluate_on_views
from .views.lesson import ViewLesson

Tell = Callable[[str], None]


def _written(
    config: ViewConfig | SequenceConfig,
    lesson: ViewLesson | SequenceLesson,
    standing: Standing,
    tensors: dict[str, torch.Tensor],
    facts: dict[str, Any],
    metrics: dict[str, Any],
    run_folder: Path,
) -> Path:
    """Write the weights of a finished run, with all that must be known of them, and return their file."""
    header = {
        **lesson.header(),
        "licence": config.data.licence,
        "acknowledgement": config.data.acknowledgement,
        "metrics": metrics,
        "training": {
            "config": config.as_dict(),
            "seconds": standing.seconds,
            "torch": torch.__version__,
            "processes": processes.world_size(),
            "valid": standing.log[-1],
            "log": standing.log,
            **facts,
        },
    }
    weights = run_folder / f"{config.name}.safetensors"
    if processes.rank() == 0:
        write_weights(weights, tensors, header, RUN_ADVICE)
    return weights


def motion_of(config: ViewConfig, base_folder: Path, split: str, tell: Tell) -> MotionSet:
    """The motion that views of ``split`` are made of. Raises FileFormatError when it lacks one of the 41 landmarks."""
    files = {"train": config.data.train, "valid": config.data.valid, "test": config.data.test}
    joint_map = base_folder / config.data.joint_map if config.data.joint_map else None
    leave_out = config.data.leave_out_sources if split == "train" else ()
    motion = read_motion_from(base_folder / files[split], joint_map, leave_out)
    motion.check_has(*LANDMARKS_41.names)
    for note in motion.notes:
        tell(note)
    return motion


def train_on_views(
    config: ViewConfig,
    base_folder: Path,
    run_folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    tell: Tell = lambda _: None,
) -> Path:
    """Train a lifter of rays as ``config`` says and return its weights file, ``run_folder/NAME.safetensors``.

    base_folder: what the data paths of the configuration are relative to
    resume:      go on from the last checkpoint of ``run_folder``
    tell:        hears what a person should know
    Raises FileFormatError for data that can't be read, and KeyliftErrors of the output.
    """
    loop = config.loop
    with processes.joined(choose_device(device)) as chosen:
        torch.manual_seed(loop.seed)
        data = {split: motion_of(config, base_folder, split, tell) for split in ("train", "valid")}
        lesson = ViewLesson(config, data["train"]).to(chosen)

        def validate() -> dict[str, float]:
            windows = loop.validation_windows
            return evaluate_on_views(lesson.lifter, data["valid"], config.views, windows, 99, chosen)

        plan = LoopPlan(loop.seed, loop.validate_every, loop.checkpoint_every, precision=loop.precision)
        standing = learn(
            lesson,
            plan,
            {**config.as_dict(), "data_sha256": {split: motion.sha256 for split, motion in data.items()}},
            run_folder,
            chosen,
            validate,
            resume=resume,
            progress=progress,
            tell=tell,
        )
        data["test"] = motion_of(config, base_folder, "test", tell)
        held_out = evaluate_on_views(lesson.lifter, data["test"], config.views, loop.test_windows, 7, chosen)
        facts = {"data_sha256": {split: motion.sha256 for split, motion in data.items()}}
        metrics = {"mocap-test, synthetic views with detector noise": held_out}
        return _written(config, lesson, standing, lesson.lifter.state_dict(), facts, metrics, run_folder)


def train_on_sequences(
    config: SequenceConfig,
    base_folder: Path,
    run_folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    tell: Tell = lambda _: None,
) -> Path:
    """Train as the paper does, supervised or semi-supervised; see ``train_on_views`` for the arguments."""
    loop = config.loop
    with processes.joined(choose_device(device)) as chosen:
        torch.manual_seed(loop.seed)
        labelled = read_split(config.data, base_folder, "train")
        unlabelled = read_split(config.data, base_folder, "unlabelled") if config.semi_supervised.enabled else None
        valid = read_split(config.data, base_folder, "valid")
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
        metrics = {"test": evaluate(test.sequences, lift).mean} if test.sequences else {}
        facts = {"data_sha256": {**read, **test.sha256}, **lesson.facts()}
        return _written(config, lesson, standing, lesson.tensors(), facts, metrics, run_folder)


def train_from_config(
    path: Path,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    tell: Tell = lambda _: None,
) -> Path:
    """Train as a configuration file says and return the weights (of a label study the report).

    Data paths are relative to the file; the run folder is ``runs/NAME`` unless given. ``resume`` goes on from the last
    checkpoint there. Raises FileFormatError, OutputError and kin.
    """
    config = read_config(path)
    folder = run_folder or Path("runs") / config.name
    resume = resume or processes.restarted()
    if not resume:
        check_new(folder)
    if processes.is_first() and not (resume and saved(folder)):
        with written_whole(folder / "config.toml", RUN_ADVICE) as beside:
            beside.write_bytes(path.read_bytes())
    if isinstance(config, LabelStudy):
        return conduct(config, path.parent, folder, device=device, progress=progress, tell=tell)
    if isinstance(config, SequenceConfig):
        return train_on_sequences(
            config, path.parent, folder, resume=resume, device=device, progress=progress, tell=tell
        )
    return train_on_views(config, path.parent, folder, resume=resume, device=device, progress=progress, tell=tell)
