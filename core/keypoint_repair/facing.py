"""Which of the two labellings is the right one: what a body's looks say about where its left side is.

Seen from far away, a body with left and right exchanged looks exactly like the same body reversed in depth, so where
points lie in the picture can't tell one from the other. What can: somebody who comes nearer mostly walks forwards; a
camera is mostly higher than feet are, so nearer things stand lower in the picture; and the nearer side of the body
hides the other.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d

from .motion import BodyMotion
from .paired_points import PairedPoints

# Steps, swings and trembling are looked past over this long.
_WINDOW_S = 1.0
# Full widths of a body seen from the front, in sizes: labels say "front" or "back" with their sign.
_WIDTHS = {"shoulder": 0.20, "hip": 0.11, "ear": 0.08}
# Log-odds a second for each cue at its usual strength, fitted on motion capture seen by synthetic cameras.
_APPROACH, _FEET, _NEARER_FOOT, _NEARER_SIDE = 1.5, 1.6, 2.5, 2.0
# However clear it seems, more is not believed.
_MOST_PER_S = 6.0
CUES = ("approach", "feet", "nearer foot", "nearer side")


def evidence_against_exchange(motion: BodyMotion, points: PairedPoints) -> np.ndarray:
    """(N,) log-odds a second that the sides are right as they are; negative where they seem exchanged."""
    cues = facing_cues(motion, points)
    weights = np.array([_APPROACH, _FEET, _NEARER_FOOT, _NEARER_SIDE])
    return np.clip(cues @ weights, -_MOST_PER_S, _MOST_PER_S) * _upright(motion, points)


def _upright(motion: BodyMotion, points: PairedPoints) -> np.ndarray:
    """(N,) 1 where the trunk stands upright in the picture, 0 where it lies or hangs."""
    shoulders = np.mean([motion.xy[:, points.names.index(f"{side}_shoulder"), 1] for side in "lr"], axis=0)
    hips = np.mean([motion.xy[:, points.names.index(f"{side}_hip"), 1] for side in "lr"], axis=0)
    return np.clip((hips - shoulders - 0.15) / 0.08, 0, 1)


def facing_cues(motion: BodyMotion, points: PairedPoints) -> np.ndarray:
    """(N, 4) the values of ``CUES``, about -1 to 1; exchanging all sides changes each one's sign."""
    frames = len(motion.row)
    window = max(1, min(round(_WINDOW_S / motion.period_s), frames))
    if frames < 2:
        return np.zeros((frames, len(CUES)))

    def at(name: str) -> np.ndarray | None:
        index = points.index(name)
        return None if index is None else motion.xy[:, index]

    def sure(name: str) -> np.ndarray:
        index = points.index(name)
        return np.zeros(frames) if index is None else motion.confidence[:, index]

    def smooth(values: np.ndarray) -> np.ndarray:
        return uniform_filter1d(np.nan_to_num(values), window, mode="nearest")

    def mean_of(values: list[np.ndarray]) -> np.ndarray:
        return np.mean(np.nan_to_num(np.stack(values)), axis=0) if values else np.zeros(frames)

    # 1 where the labels say that the person faces the camera, -1 where they say that the back does.
    facing_by_label = mean_of(
        [
            np.clip((left - right)[:, 0] / width, -1, 1)
            for name, width in _WIDTHS.items()
            if (left := at(f"l_{name}")) is not None and (right := at(f"r_{name}")) is not None
        ]
    )
    # A growing figure comes nearer; its size over time is that of the trunk and of the box together.
    size = np.log(motion.size_px)
    growth = np.gradient(smooth(size), motion.time_s)
    approach = np.clip(growth / 0.15, -1, 1) * facing_by_label

    ahead, feet_down, lower, nearer = [], [], [], []
    for side in "lr":
        heel = at(f"{side}_heel")
        toe = at(f"{side}_big_toe") if at(f"{side}_big_toe") is not None else at(f"{side}_foot_index")
        if heel is not None and toe is not None:
            ahead.append((toe - heel)[:, 0] / 0.12)
            feet_down.append((toe - heel)[:, 1])
    nose, ears = at("nose"), [at("l_ear"), at("r_ear")]
    if nose is not None and ears[0] is not None and ears[1] is not None:
        ahead.append((nose - (ears[0] + ears[1]) / 2)[:, 0] / 0.06)
    # 1 where the person faces the picture's right, whatever the labels: then the right side is the nearer one.
    faces_right = np.clip(mean_of(ahead), -1, 1)
    # Toes that point to the camera lie lower than heels; half of the swing lifts the heel, hence the offset.
    feet = np.clip((smooth(mean_of(feet_down)) - 0.03) / 0.03, -1, 1) * facing_by_label
    for name in ("ankle", "heel"):
        left, right = at(f"l_{name}"), at(f"r_{name}")
        if left is not None and right is not None:
            lower.append(np.clip((right - left)[:, 1] / 0.03, -1, 1))
    nearer_foot = smooth(faces_right * mean_of(lower))
    for name in ("elbow", "wrist", "knee", "ankle", "ear"):
        nearer.append(np.clip((sure(f"r_{name}") - sure(f"l_{name}")) / 0.3, -1, 1))
    nearer_side = smooth(faces_right * mean_of(nearer))
    return np.stack([smooth(approach), feet, nearer_foot, nearer_side], axis=-1)
