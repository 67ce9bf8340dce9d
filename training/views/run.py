"""A run over synthetic views, from motion to weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ...core.errors import WeightsError
from ...core.lifter.device import choose_device
from ...core.lifter.network import TemporalLifter
from ...core.progress import Progress, silent
from ...core.skeletons import LANDMARKS_41
from ...core.weights import read_tensors
from .. import processes
from ..loop import LoopPlan, learn
from ..motion.files import read_motion_from
from ..motion.motion_set import MotionSet
from ..run_folder import write_final_weights
from .config import ViewConfig
from .evaluation import evaluate_on_views
from .lesson import ViewLesson


def motion_of(config: ViewConfig, base_folder: Path, split: str, tell: Callable[[str], None]) -> MotionSet:
    """The motion that views of ``split`` are made of. Raises FileFormatError when it lacks one of the 41 landmarks."""
    files = {"train": config.data.train, "valid": config.data.valid, "test": config.data.test}
    joint_map = base_folder / config.data.joint_map if config.data.joint_map else None
    leave_out = config.data.leave_out_sources if split == "train" else ()
    motion = read_motion_from(base_folder / files[split], joint_map, leave_out)
    motion.check_has(*LANDMARKS_41.names)
    for note in motion.notes:
        tell(note)
    return motion


def _start_from(path: Path, lifter: TemporalLifter, tell: Callable[[str], None]) -> None:
    """Take the parameters of trained weights. Raises WeightsError unless they are of the network's own shape."""
    try:
        lifter.load_state_dict(read_tensors(path))
    except RuntimeError as problem:
        raise WeightsError(
            f"The parameters in '{path}' don't fit [network]: {problem} Let [network] be as it was for those weights, "
            "or leave start_from out."
        ) from problem
    tell(f"Beginning with the parameters of '{path}'.")


def train_on_views(
    config: ViewConfig,
    base_folder: Path,
    run_folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train a lifter of rays as ``config`` says and return its weights file, ``run_folder/NAME.safetensors``.

    base_folder: what the data paths of the configuration are relative to
    resume:      go on from the last checkpoint of ``run_folder``
    tell:        hears what a person should know
    Raises FileFormatError for data that can't be read, WeightsError for weights to start from that don't fit, and
    KeyliftErrors of the output.
    """
    loop = config.loop
    with processes.joined(choose_device(device)) as chosen:
        torch.manual_seed(loop.seed)
        data = {split: motion_of(config, base_folder, split, tell) for split in ("train", "valid")}
        lesson = ViewLesson(config, data["train"])
        if loop.start_from:
            _start_from(base_folder / loop.start_from, lesson.lifter, tell)
        lesson.to(chosen)

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
        return write_final_weights(
            run_folder, config, lesson.header(), standing, lesson.lifter.state_dict(), facts, metrics
        )
