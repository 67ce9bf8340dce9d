"""What each frame has to agree with by itself, as weighted squares of something linear in a small change of the body.

Weights of pseudo-Huber losses are taken anew in each round (iteratively reweighted least squares), so that a keypoint
on the wrong leg has a say, but no vote by the square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..detail_points import DETAIL_DEVIATIONS_M, DETAIL_PAIRS, detail_sites, detail_sites_by_change
from ..detector_sites import detector_sites
from ..segments import SEGMENT_NAMES
from ..skeletons import LANDMARKS_41, LIFTER_21_NAMES
from ..world_alignment import STANDING_HEIGHT_M
from .articulated_body import AXES, FREEDOMS, ROOT, BodyState, hinge_angles, turned_from_rest
from .evidence import ROOTED, Evidence
from .settings import FitSettings

_INDEX = {name: index for index, name in enumerate(LANDMARKS_41.names)}
# The landmark that a keypoint's site moves with.
_SITE_LANDMARKS = [_INDEX[name.replace("big_toe", "toe_tip")] for name in LIFTER_21_NAMES]
# Bones so short that their ends say little about how they are held; of the others the ends say enough.
SHORT = [
    _INDEX[name]
    for name in (
        "head", "head_top", "nose", "l_ear", "r_ear", "l_knuckle", "r_knuckle", "l_thumb", "r_thumb",
        "l_heel", "r_heel", "l_toe_base", "r_toe_base", "l_toe_tip", "r_toe_tip", "l_hip", "l_shoulder", "r_shoulder",
    )
]  # fmt: skip
# What points of hands and faces may turn. An arm is not bent because of a thumb.
_DETAILED = np.array(
    [
        SEGMENT_NAMES[axis.segment] in ("neck", "head", "l_hand", "r_hand")
        or (SEGMENT_NAMES[axis.segment] in ("l_forearm", "r_forearm") and not axis.of_parent)
        for axis in AXES
    ]
)
_SHORT_FROM = [LANDMARKS_41.parents[joint] for joint in SHORT]
FEET = [_INDEX[name] for name in ("l_heel", "l_toe_base", "r_heel", "r_toe_base")]
# How far joints are usually turned from the T-pose, degrees about x (left), y (up) and z (ahead). Shoulders and hips
# go anywhere. These keep what can't be seen, such as the twist of a straight arm, where it is comfortable.
_USUAL_DEG = {
    "spine": (25, 15, 15), "chest": (25, 15, 15), "neck": (25, 25, 20), "head": (25, 30, 20), "clavicle": (12, 15, 15),
    "upperarm": (60, 1000, 1000), "forearm": (0, 0, 0), "hand": (12, 30, 40), "thigh": (1000, 30, 1000),
    "shank": (0, 0, 0), "foot": (30, 15, 15), "toes": (20, 0, 0),
}  # fmt: skip
_FOREARM_TWIST_DEG = 60.0
_HINGE_LIMITS_DEG = (0.0, 155.0)
_HINGE_SOFTNESS_DEG = 2.0
# So far from the floor, a foot is drawn to it with a quarter of the weight.
_OTHER_FLOOR_M = 0.06


@dataclass(frozen=True, eq=False)
class Term:
    """What R numbers a frame should be 0.

    miss:   (F, R) float32, what they are
    weight: (F, R) float32
    rows:   of the derivatives (f, 41, 3, X) of the landmarks of some of the frames: those of the numbers, (f, R, X)
    """

    miss: np.ndarray
    weight: np.ndarray
    rows: Callable[[np.ndarray, slice], np.ndarray]

    @classmethod
    def of(cls, miss: np.ndarray, weight: np.ndarray, rows: Callable[[np.ndarray, slice], np.ndarray]) -> Term:
        """Of points that miss by (F, K, C) and have a weight (F, K) each."""
        spread = np.repeat(weight.astype(np.float32), miss.shape[2], axis=1)
        return cls(miss.reshape(len(miss), -1).astype(np.float32), spread, rows)


def robust(weight: np.ndarray, miss: np.ndarray) -> np.ndarray:
    """Pseudo-Huber: ``weight`` less where ``miss`` is more than one deviation."""
    return weight / np.sqrt(1 + miss * miss)


def own_terms(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings, *, details: bool) -> list[Term]:
    """All that frames with these landmarks (F, 41, 3) have to agree with by themselves, ``details`` where asked for."""
    terms = [
        _keypoints(landmarks_m, seen, settings),
        _lifted_points(landmarks_m, seen, settings),
        _lifted_bones(landmarks_m, seen, settings),
    ]
    if details and seen.detail_rays is not None:
        terms.append(_details(landmarks_m, seen, settings))
    if seen.floor is not None:
        terms.append(_floor(landmarks_m, seen, settings))
    return terms


def _keypoints(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> Term:
    """Reprojection: (x, y) - ray * z of each site is 0 where the keypoint is right; metres at the body's depth."""
    turn, move = seen.camera_from_space[:, :, :3], seen.camera_from_space[:, :, 3]
    sites = detector_sites(landmarks_m) @ turn.swapaxes(1, 2) + move[:, None]
    miss = sites[..., :2] - seen.rays * sites[..., 2:]
    across = _across_rays(turn, seen.rays)
    base = seen.confidence**2 / settings.keypoint_m**2
    weight = robust(base, np.linalg.norm(miss, axis=-1) / settings.keypoint_m)
    if seen.pinned is not None:
        off = settings.pinned_m**2 + (seen.pixel * sites[..., 2]) ** 2
        weight = np.where(seen.pinned, seen.confidence**2 / off, weight)
    return Term.of(miss, weight, lambda moved, rows: _flat(across[rows] @ moved[:, _SITE_LANDMARKS]))


def _across_rays(turn: np.ndarray, rays: np.ndarray) -> np.ndarray:
    """(F, K, 2, 3) float32: rows of the camera's axes (F, 3, 3) less the ray times its optical axis."""
    return np.asarray((turn[:, None, :2] - rays[..., None] * turn[:, None, 2:]).astype(np.float32))


def _flat(rows: np.ndarray) -> np.ndarray:
    """(f, K, C, X) -> (f, K * C, X)."""
    return rows.reshape(len(rows), -1, rows.shape[-1])


def _details(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> Term:
    """How points of a hand or a face lie to each other in the picture, which tells how it is turned.

    Most of what they are off by they have in common, and that is for the keypoints' own term to weigh.
    """
    assert seen.detail_rays is not None and seen.detail_confidence is not None
    turn, move = seen.camera_from_space[:, :, :3], seen.camera_from_space[:, :, 3]
    sites = detail_sites(landmarks_m) @ turn.swapaxes(1, 2) + move[:, None]
    miss = DETAIL_PAIRS @ (sites[..., :2] - seen.detail_rays * sites[..., 2:])
    across, near = _across_rays(turn, seen.detail_rays), landmarks_m.astype(np.float32)
    pairs = DETAIL_PAIRS.astype(np.float32)

    def rows_of(moved: np.ndarray, rows: slice) -> np.ndarray:
        points = across[rows] @ detail_sites_by_change(near[rows], moved)
        apart = pairs @ points.reshape(*points.shape[:2], -1)
        by_change = apart.reshape(len(points), -1, FREEDOMS)
        by_change[..., :ROOT] = 0
        by_change[..., ROOT:] *= _DETAILED
        return by_change

    sure = np.stack([seen.detail_confidence[:, pair != 0].min(axis=1) for pair in DETAIL_PAIRS], axis=1)
    deviation = settings.detail * DETAIL_DEVIATIONS_M
    return Term.of(miss, robust(sure**2 / deviation**2, np.linalg.norm(miss, axis=-1) / deviation), rows_of)


def _lifted_points(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> Term:
    """Distance of landmarks to what the lifter says, by how far off it expects to be."""
    miss = landmarks_m[:, ROOTED] - landmarks_m[:, :1] - seen.lifted_m[:, ROOTED]
    deviation = settings.lifted * np.maximum(seen.expected_error_m[:, ROOTED], 0.005)
    return _within(miss, deviation, lambda moved, _: _flat(moved[:, ROOTED] - moved[:, :1]))


def _lifted_bones(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> Term:
    """The same of bones: a hand that is off by ten centimetres may well be held as it should be.

    The error of a short bone is a part of its length, whatever the error of its ends.
    """
    bones = seen.lifted_m[:, SHORT] - seen.lifted_m[:, _SHORT_FROM]
    miss = landmarks_m[:, SHORT] - landmarks_m[:, _SHORT_FROM] - bones
    most = 2 * settings.lifted * np.maximum(seen.expected_error_m[:, SHORT], 0.005)
    deviation = np.minimum(settings.direction * np.linalg.norm(bones, axis=-1), most) + 0.005
    return _within(miss, deviation, lambda moved, _: _flat(moved[:, SHORT] - moved[:, _SHORT_FROM]))


def _within(miss: np.ndarray, deviation: np.ndarray, rows: Callable[[np.ndarray, slice], np.ndarray]) -> Term:
    """Points that should not miss (F, K, 3) by much more than their deviation (F, K)."""
    return Term.of(miss, robust(1 / deviation**2, np.linalg.norm(miss, axis=-1) / deviation), rows)


def _floor(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> Term:
    """Feet in contact are as high over the floor as standing feet are, and no foot is under it."""
    assert seen.floor is not None
    up, floor_m = seen.floor
    over = landmarks_m[:, FEET] @ up - floor_m - STANDING_HEIGHT_M
    standing = np.where(seen.contact > 0.5, seen.contact, 0.0) ** 2
    # Rooms have kerbs, steps and stages: what is far from the floor stands on something else, and is let go.
    near = 1 / (1 + (over / _OTHER_FLOOR_M) ** 2) ** 2
    weight = near * np.maximum(robust(standing, over / (2 * settings.floor_m)), over < 0) / settings.floor_m**2
    upwards = up.astype(np.float32)
    return Term.of(over[..., None], weight, lambda moved, _: np.einsum("i,fkix->fkx", upwards, moved[:, FEET]))


def add_habits(own: np.ndarray, right: np.ndarray, state: BodyState) -> None:
    """Joints are rarely turned far, and hinges have ends; into the equations ``own`` (F, D, D) and ``right`` (F, D)."""
    turned = turned_from_rest(state.local)
    hinges = hinge_angles(state.local)
    low, high = np.radians(_HINGE_LIMITS_DEG)
    for row, axis in enumerate(AXES):
        name, freedom = SEGMENT_NAMES[axis.segment], ROOT + row
        part = name.removeprefix("l_").removeprefix("r_")
        if part == "pelvis":
            continue
        if row in hinges:
            miss = np.minimum(hinges[row] - low, 0) + np.maximum(hinges[row] - high, 0)
            weight = (miss != 0) / np.radians(_HINGE_SOFTNESS_DEG) ** 2
        else:
            about = int(np.argmax(np.abs(axis.axis)))
            usual = _FOREARM_TWIST_DEG if part == "forearm" else _USUAL_DEG[part][about]
            miss = turned[:, axis.segment, about]
            weight = np.full(len(miss), 1 / np.radians(usual) ** 2)
        own[:, freedom, freedom] += weight
        right[:, freedom] -= weight * miss
