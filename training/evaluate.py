"""How good given weights are on the data that a training configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import FileFormatError, WeightsError
from ..core.lifter.keypoint_lifter import KeypointLifter, load_lifter
from ..core.lifter.lifting import load_ray_lifter
from ..core.progress import Progress, silent
from ..core.weights import read_header
from .config import read_config
from .sequences.config import SequenceConfig
from .sequences.data import read_split
from .sequences.label_study import LabelStudy
from .sequences.protocols import Scores, evaluate
from .sequences.sequence import SequenceSet, Split
from .views.config import ViewConfig
from .views.evaluation import evaluate_on_views
from .views.run import motion_of


@dataclass(frozen=True)
class Evaluation:
    """Errors of weights on one part of some data.

    everybody:  scores of all subjects together; None for synthetic views
    by_subject: scores for each subject; empty for synthetic views
    views:      errors on synthetic views, for weights of rays
    """

    weights: str
    split: str
    everybody: Scores | None
    by_subject: dict[str, Scores]
    views: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        everybody = _plain(self.everybody) if self.everybody else {}
        subjects = {name: _plain(scores) for name, scores in self.by_subject.items()}
        return {"weights": self.weights, "split": self.split, **everybody, "by_subject": subjects, **self.views}


def _plain(scores: Scores) -> dict[str, Any]:
    return {"by_action": scores.by_action, "mean": scores.mean, "frames": scores.frames}


def check_fit(lifter: KeypointLifter, data: SequenceSet, weights: Path) -> None:
    """Raise WeightsError that names both sides when the weights were made for another layout or skeleton."""
    if lifter.input_layout != data.layout:
        raise WeightsError(
            f"'{weights}' takes '{lifter.input_layout}' keypoints, but the data has '{data.layout}'. Use keypoints of "
            "that layout, or import the weights again with the right --input-layout."
        )
    if lifter.skeleton.names != data.skeleton.names:
        raise WeightsError(
            f"'{weights}' gives the joints {', '.join(lifter.skeleton.names)}; the data has "
            f"{', '.join(data.skeleton.names)}. Use weights for this data."
        )


def evaluate_weights(
    weights: Path,
    config_path: Path,
    *,
    split: Split = "test",
    test_time_flip: bool = True,
    device: str = "auto",
    progress: Progress = silent,
) -> Evaluation:
    """Errors of ``weights`` on the ``split`` that the data section of a training configuration names.

    Raises WeightsError when weights and data don't fit, FileFormatError for data that can't be read or is empty.
    """
    config = read_config(config_path)
    base_folder = config_path.parent
    if isinstance(config, ViewConfig):
        return _on_views(weights, config, base_folder, split, device)
    assert isinstance(config, SequenceConfig | LabelStudy)
    lifter = load_lifter(weights, device)
    data = read_split(config.data, base_folder, split)
    labelled = [sequence for sequence in data.sequences if sequence.positions_m is not None]
    if not labelled:
        raise FileFormatError(
            f"'{config_path}' names no labelled sequence for '{split}'. Check {split}_subjects, poses and cameras in "
            "[data], or choose another --split."
        )
    check_fit(lifter, data, weights)

    def lift(keypoints: np.ndarray) -> np.ndarray:
        # Weights of x, y alone have no use for a score.
        return lifter.lift_normalised(keypoints[..., : lifter.features_in], test_time_flip=test_time_flip)

    everybody = evaluate(labelled, lift, progress)
    return Evaluation(str(weights), split, everybody, everybody.by_subject, {})


def _on_views(weights: Path, config: ViewConfig, base_folder: Path, split: Split, device: str) -> Evaluation:
    if split == "unlabelled":
        raise FileFormatError("Synthetic views have the splits train, valid and test.")
    if read_header(weights).get("input_layout") != "rays21":
        raise WeightsError(
            f"'{weights}' doesn't take rays, which synthetic views are made of. Use a configuration with "
            'method = "sequences".'
        )
    lifter = load_ray_lifter(weights, device)
    motion = motion_of(config, base_folder, split, lambda _: None)
    windows = config.loop.test_windows
    errors = evaluate_on_views(lifter.network, motion, config.views, windows, 7, lifter.device)
    return Evaluation(str(weights), split, None, {}, errors)
