"""The paper's evaluation: whole sequences, three protocols and the velocity, per action and in the mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from ...core.metrics import mpjpe, n_mpjpe, p_mpjpe, velocity_error
from ...core.progress import Progress, report, silent
from .sequence import FilmedSequence

METRICS = ("mpjpe_mm", "p_mpjpe_mm", "n_mpjpe_mm", "velocity_mm")

Lift = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scores:
    """Errors in millimetres, by action and in the mean over actions; keys are ``METRICS``.

    by_subject: the same for each subject alone
    """

    by_action: dict[str, dict[str, float]]
    mean: dict[str, float]
    frames: int
    by_subject: dict[str, Scores] = field(default_factory=dict)


def sequence_errors(predicted: np.ndarray, positions_m: np.ndarray) -> dict[str, float]:
    """Errors of one sequence in mm: predictions as they are, against joints relative to a root at 0.

    predicted:   (F, J, 3) metres
    positions_m: (F, J, 3) as in a FilmedSequence
    """
    truth = positions_m.astype(float)
    truth[:, 0] = 0
    predicted = predicted.astype(float)
    values = [measure(predicted, truth) for measure in (mpjpe, p_mpjpe, n_mpjpe, velocity_error)]
    return {name: 1000 * value for name, value in zip(METRICS, values, strict=True)}


def action_of(sequence: FilmedSequence) -> str:
    """The action that a sequence counts for: its name up to the first space ("Walking 1" is Walking)."""
    return sequence.action.split(" ")[0]


def evaluate(sequences: Iterable[FilmedSequence], lift: Lift, progress: Progress = silent) -> Scores:
    """Errors of ``lift`` ((F, K, C) keypoints -> (F, J, 3) metres) on labelled sequences.

    An action's error is the mean over its frames, the total is the plain mean over actions.
    """
    labelled = [sequence for sequence in sequences if sequence.positions_m is not None]
    errors = []
    for number, sequence in enumerate(labelled):
        assert sequence.positions_m is not None
        errors.append(list(sequence_errors(lift(sequence.keypoints), sequence.positions_m).values()))
        report(progress, number + 1, len(labelled))
    subjects = sorted({sequence.subject for sequence in labelled})
    of_subject = {
        subject: _scores([pair for pair in zip(labelled, errors, strict=True) if pair[0].subject == subject])
        for subject in subjects
    }
    everybody = _scores(list(zip(labelled, errors, strict=True)))
    return Scores(everybody.by_action, everybody.mean, everybody.frames, of_subject)


def _scores(measured: list[tuple[FilmedSequence, list[float]]]) -> Scores:
    by_action = {}
    for action in sorted({action_of(sequence) for sequence, _ in measured}):
        here = [(len(sequence), errors) for sequence, errors in measured if action_of(sequence) == action]
        frames, values = np.array([length for length, _ in here]), np.array([errors for _, errors in here])
        by_action[action] = dict(zip(METRICS, (frames @ values / frames.sum()).tolist(), strict=True))
    mean = {name: float(np.mean([scores[name] for scores in by_action.values()])) for name in METRICS}
    return Scores(by_action, mean, sum(len(sequence) for sequence, _ in measured))
