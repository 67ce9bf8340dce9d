"""Landmarks that nobody captured, put where they lie on a standing body: face, heels, toes, finger tips.

Head, feet and hands are rigid enough that a point on them is a fixed offset in their frame (x to the person's left,
y up, z forward when the person stands in a T-pose). The offsets are those of the mean body, ``segments.T_POSE_M``.
"""

from __future__ import annotations

import numpy as np

from ...core.rotations import normalised
from ...core.segments import T_POSE_M
from ...core.skeletons import LANDMARKS_41

# What is derived, from which landmark, in whose frame; later lines may stand on earlier ones.
_DERIVED = (
    ("head_top", "head", "head"),
    *((name, "head", "head") for name in ("nose", "l_eye", "r_eye", "l_ear", "r_ear")),
    *(
        (f"{side}_{name}", f"{side}_{anchor}", f"{side}_{part}")
        for side in "lr"
        for name, anchor, part in (
            ("heel", "ankle", "foot"),
            ("toe_base", "ankle", "foot"),
            ("toe_tip", "toe_base", "foot"),
            ("big_toe", "toe_tip", "foot"),
            ("small_toe", "toe_tip", "foot"),
            ("knuckle", "wrist", "hand"),
            ("fingertip", "knuckle", "hand"),
            ("thumb", "wrist", "hand"),
        )
    ),
)
_SIZED_BY = (("hip", "knee"), ("knee", "ankle"))


def body_frame(left: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(..., 3, 3) axes left, up, forward as columns; ``up`` is kept exactly, ``left`` as nearly as can be."""
    up = normalised(np.broadcast_to(up, np.shape(left)))
    forward = normalised(np.cross(left, up))
    return np.stack([np.cross(up, forward), up, forward], axis=-1)


def frame_ahead(forward: np.ndarray, up: np.ndarray) -> np.ndarray:
    """(..., 3, 3) axes left, up, forward as columns; ``forward`` is kept exactly, ``up`` as nearly as can be."""
    forward = normalised(np.asarray(forward, float))
    left = normalised(np.cross(np.broadcast_to(up, forward.shape), forward))
    return np.stack([left, np.cross(forward, left), forward], axis=-1)


def leg_length(points: dict[str, np.ndarray]) -> float:
    """Thigh and shank together, mean of both sides, in the units of ``points``: landmark -> (F, 3) or (3,)."""
    lengths = [
        np.nanmedian(np.linalg.norm(points[f"{side}_{a}"] - points[f"{side}_{b}"], axis=-1))
        for side in "lr"
        for a, b in _SIZED_BY
    ]
    return float(sum(lengths)) / 2


def mean_body(*names: str) -> dict[str, np.ndarray]:
    """Landmarks of the mean body in its T-pose, (3,) metres each."""
    return {name: T_POSE_M[LANDMARKS_41.index(name)] for name in names or LANDMARKS_41.names}


MEAN_LEG_M = leg_length(mean_body())


def completed(points_m: dict[str, np.ndarray], frames: dict[str, np.ndarray]) -> np.ndarray:
    """All landmarks, with those that are missing derived where they can be.

    points_m: landmark -> (F, 3) metres, any right-handed axes; at least hips, knees and ankles
    frames:   head, l_foot, r_foot, l_hand, r_hand as far as known -> (F, 3, 3) those axes from the part's own
    returns:  (F, 41, 3); NaN where nothing is known
    """
    points = dict(points_m)
    points.setdefault("pelvis", (points["l_hip"] + points["r_hip"]) / 2)
    scale, rest = leg_length(points) / MEAN_LEG_M, mean_body()
    for name, anchor, part in _DERIVED:
        if name not in points and anchor in points and part in frames:
            points[name] = points[anchor] + frames[part] @ (scale * (rest[name] - rest[anchor]))
    positions = np.full((len(points["l_hip"]), len(LANDMARKS_41), 3), np.nan)
    for name, point in points.items():
        positions[:, LANDMARKS_41.index(name)] = point
    return positions
