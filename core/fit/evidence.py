"""What the fit has to agree with, gathered as normal equations of a small change of the body.

Every term is a weighted square of something linear in the change; weights of pseudo-Huber losses are taken anew in each
round (iteratively reweighted least squares), so that a keypoint on the wrong leg has a say, but no vote by the square.
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
from .articulated_body import AXES, FREEDOMS, ROOT, BodyState, PosedBody, hinge_angles, turned_from_rest
from .settings import FitSettings

_INDEX = {name: index for index, name in enumerate(LANDMARKS_41.names)}
# The landmark that a keypoint's site moves with.
_SITE_LANDMARKS = [_INDEX[name.replace("big_toe", "toe_tip")] for name in LIFTER_21_NAMES]
# Eyes, small toes and finger tips say nothing that nose, big toes and knuckles don't.
_UNASKED = ("l_eye", "r_eye", "l_small_toe", "r_small_toe", "l_fingertip", "r_fingertip")
_ROOTED = [joint for joint, name in enumerate(LANDMARKS_41.names) if joint > 0 and name not in _UNASKED]
# Bones so short that their ends say little about how they are held; of the others the ends say enough.
_SHORT = [
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
_SHORT_FROM = [LANDMARKS_41.parents[joint] for joint in _SHORT]
_TRUNK = ("pelvis", "chest", "neck", "head", "l_shoulder", "r_shoulder", "l_hip", "r_hip")
_SMOOTH_NAMES = (
    *_TRUNK, "nose", "l_elbow", "r_elbow", "l_wrist", "r_wrist", "l_knuckle", "r_knuckle", "l_thumb", "r_thumb",
    "l_knee", "r_knee", "l_ankle", "r_ankle", "l_heel", "l_toe_base", "r_heel", "r_toe_base", "l_toe_tip", "r_toe_tip",
)  # fmt: skip
_SMOOTH = [_INDEX[name] for name in _SMOOTH_NAMES]
_IS_TRUNK = np.array([name in _TRUNK for name in _SMOOTH_NAMES])
FEET = [_INDEX[name] for name in ("l_heel", "l_toe_base", "r_heel", "r_toe_base")]
_FEET_AMONG_SMOOTH = [_SMOOTH.index(foot) for foot in FEET]

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
class Evidence:
    """What was seen of one person, in the space that the body is solved in (camera space when the camera stands still).

    rays:              (F, 21, 2) x/z, y/z in camera space; 0 where unseen
    confidence:        (F, 21), 0 where unseen
    lifted_m:          (F, 41, 3) what the lifter says, against the pelvis
    expected_error_m:  (F, 41)
    contact:           (F, 4) probability that heels and balls stand
    time_s:            (F,)
    camera_from_space: (F, 3, 4)
    floor:             up (3,) and height along it, when known
    pinned:            (F, 21) True where an artist put a keypoint: its word is not weighed; None = nowhere
    pixel:             size of a pixel as a ray: an artist's hand is no steadier
    detail_rays:       (F, K, 2) rays of ``DETAIL_POINTS``, 0 where unseen; None = nobody looked
    detail_confidence: (F, K), 0 where unseen
    """

    rays: np.ndarray
    confidence: np.ndarray
    lifted_m: np.ndarray
    expected_error_m: np.ndarray
    contact: np.ndarray
    time_s: np.ndarray
    camera_from_space: np.ndarray
    floor: tuple[np.ndarray, float] | None = None
    detail_rays: np.ndarray | None = None
    detail_confidence: np.ndarray | None = None
    pinned: np.ndarray | None = None
    pixel: float = 0.0

    def of(self, rows: slice | np.ndarray) -> Evidence:
        """Some of the frames."""
        return Evidence(
            self.rays[rows],
            self.confidence[rows],
            self.lifted_m[rows],
            self.expected_error_m[rows],
            self.contact[rows],
            self.time_s[rows],
            self.camera_from_space[rows],
            self.floor,
            None if self.detail_rays is None else self.detail_rays[rows],
            None if self.detail_confidence is None else self.detail_confidence[rows],
            None if self.pinned is None else self.pinned[rows],
            self.pixel,
        )


@dataclass(eq=False)
class NormalEquations:
    """Of the change of each frame, between frames next to each other and two apart, and of the bones' growth.

    own (F, D, D), next (F, D, D) against the frame after, second (F, D, D) against the one after that;
    right (F, D) downhill. With bones: cross (F, D, G), bones (G, G), bones_right (G,).
    """

    own: np.ndarray
    next: np.ndarray
    second: np.ndarray
    right: np.ndarray
    cross: np.ndarray | None = None
    bones: np.ndarray | None = None
    bones_right: np.ndarray | None = None


# Takes rows of the Jacobian by change (F, R, D) and by growth (F, R, G), what they miss (F, R) and weights (F, R).
Add = Callable[[np.ndarray, "np.ndarray | None", np.ndarray, np.ndarray], None]


def _robust(weight: np.ndarray, miss: np.ndarray) -> np.ndarray:
    """Pseudo-Huber: ``weight`` less where ``miss`` is more than one deviation."""
    return weight / np.sqrt(1 + miss * miss)


def _growth(body: PosedBody, joints: list[int], with_bones: bool) -> np.ndarray | None:
    """(F, K, 3, G) how landmarks move as bones grow, when that is asked for."""
    return body.by_growth[:, joints] if with_bones and body.by_growth is not None else None


def gather(
    state: BodyState, body: PosedBody, seen: Evidence, settings: FitSettings, *, over_time: bool, with_bones: bool
) -> NormalEquations:
    """Normal equations round ``state``.

    over_time:  with what binds frames together: accelerations and footholds
    with_bones: with the growth of bones
    """
    rows: list[np.ndarray] = []
    misses: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    rows_bones: list[np.ndarray] = []

    def add(by_change: np.ndarray, by_growth: np.ndarray | None, miss: np.ndarray, weight: np.ndarray) -> None:
        rows.append(by_change)
        misses.append(miss.astype(np.float32))
        weights.append(weight.astype(np.float32))
        if by_growth is not None:
            rows_bones.append(by_growth)

    _add_keypoints(add, body, seen, settings, with_bones)
    _add_lifted(add, body, seen, settings, with_bones)
    if seen.detail_rays is not None and not with_bones:
        _add_details(add, body, seen, settings)
    if seen.floor is not None:
        _add_floor(add, body, seen, settings, with_bones)

    jacobian, miss, weight = np.concatenate(rows, 1), np.concatenate(misses, 1), np.concatenate(weights, 1)
    weighted = (jacobian * weight[..., None]).swapaxes(1, 2)
    own = (weighted @ jacobian).astype(np.float64)
    right = -(weighted @ miss[..., None])[..., 0].astype(np.float64)
    found = NormalEquations(own, np.zeros_like(own), np.zeros_like(own), right)
    if with_bones:
        growth = np.concatenate(rows_bones, 1)
        weighted_growth = (growth * weight[..., None]).swapaxes(1, 2)
        found.cross = (weighted @ growth).astype(np.float64)
        found.bones = (weighted_growth @ growth).sum(axis=0, dtype=np.float64)
        found.bones_right = -(weighted_growth @ miss[..., None])[..., 0].sum(axis=0, dtype=np.float64)
    _add_habits(found, state)
    if over_time and len(seen.time_s) > 1:
        _add_motion(found, body, seen, settings)
    return found


def _add_keypoints(add: Add, body: PosedBody, seen: Evidence, settings: FitSettings, with_bones: bool) -> None:
    """Reprojection: (x, y) - ray * z of each site is 0 where the keypoint is right; metres at the body's depth."""
    turn, move = seen.camera_from_space[:, :, :3], seen.camera_from_space[:, :, 3]
    sites = detector_sites(body.landmarks_m) @ turn.swapaxes(1, 2) + move[:, None]
    miss = sites[..., :2] - seen.rays * sites[..., 2:]
    # Rows of the camera's axes less the ray times its optical axis.
    across = (turn[:, None, :2] - seen.rays[..., None] * turn[:, None, 2:]).astype(np.float32)
    base = seen.confidence**2 / settings.keypoint_m**2
    far = np.linalg.norm(miss, axis=-1) / settings.keypoint_m
    weight = _robust(base, far)
    if seen.pinned is not None:
        off = settings.pinned_m**2 + (seen.pixel * sites[..., 2]) ** 2
        weight = np.where(seen.pinned, seen.confidence**2 / off, weight)
    weight = np.repeat(weight, 2, axis=1)
    frames = len(miss)
    by_change = (across @ body.by_change[:, _SITE_LANDMARKS]).reshape(frames, -1, FREEDOMS)
    grown = _growth(body, _SITE_LANDMARKS, with_bones)
    by_growth = None if grown is None else (across @ grown).reshape(frames, 42, -1)
    add(by_change, by_growth, miss.reshape(frames, -1), weight)


def _add_details(add: Add, body: PosedBody, seen: Evidence, settings: FitSettings) -> None:
    """How points of a hand or a face lie to each other in the picture, which tells how it is turned.

    Most of what they are off by they have in common, and that is for the keypoints' own term to weigh.
    """
    assert seen.detail_rays is not None and seen.detail_confidence is not None
    turn, move = seen.camera_from_space[:, :, :3], seen.camera_from_space[:, :, 3]
    sites = detail_sites(body.landmarks_m) @ turn.swapaxes(1, 2) + move[:, None]
    miss = DETAIL_PAIRS @ (sites[..., :2] - seen.detail_rays * sites[..., 2:])
    across = (turn[:, None, :2] - seen.detail_rays[..., None] * turn[:, None, 2:]).astype(np.float32)
    moved = across @ detail_sites_by_change(body.landmarks_m.astype(np.float32), body.by_change)
    frames, points = moved.shape[:2]
    by_change = (DETAIL_PAIRS.astype(np.float32) @ moved.reshape(frames, points, -1)).reshape(frames, -1, FREEDOMS)
    by_change[..., :ROOT] = 0
    by_change[..., ROOT:] *= _DETAILED
    sure = np.stack([seen.detail_confidence[:, pair != 0].min(axis=1) for pair in DETAIL_PAIRS], axis=1)
    deviation = settings.detail * DETAIL_DEVIATIONS_M
    weight = _robust(sure**2 / deviation**2, np.linalg.norm(miss, axis=-1) / deviation)
    add(by_change, None, miss.reshape(frames, -1), np.repeat(weight, 2, axis=1))


def _add_lifted(add: Add, body: PosedBody, seen: Evidence, settings: FitSettings, with_bones: bool) -> None:
    """Distance to what the lifter says, by how far off it expects to be; of the landmarks and of the bones.

    A hand that is off by ten centimetres may well be held as it should be: the error of a short bone is a part of its
    length, whatever the error of its ends.
    """
    rooted = body.by_change[:, _ROOTED].copy()
    rooted[..., :ROOT] = 0
    miss = body.landmarks_m[:, _ROOTED] - body.landmarks_m[:, :1] - seen.lifted_m[:, _ROOTED]
    deviation = settings.lifted * np.maximum(seen.expected_error_m[:, _ROOTED], 0.005)
    _add_points(add, rooted, _growth(body, _ROOTED, with_bones), miss, deviation)

    bones = seen.lifted_m[:, _SHORT] - seen.lifted_m[:, _SHORT_FROM]
    miss = body.landmarks_m[:, _SHORT] - body.landmarks_m[:, _SHORT_FROM] - bones
    most = 2 * settings.lifted * np.maximum(seen.expected_error_m[:, _SHORT], 0.005)
    deviation = np.minimum(settings.direction * np.linalg.norm(bones, axis=-1), most) + 0.005
    ends, starts = (_growth(body, joints, with_bones) for joints in (_SHORT, _SHORT_FROM))
    by_growth = None if ends is None or starts is None else ends - starts
    _add_points(add, body.by_change[:, _SHORT] - body.by_change[:, _SHORT_FROM], by_growth, miss, deviation)


def _add_points(
    add: Add, by_change: np.ndarray, by_growth: np.ndarray | None, miss: np.ndarray, deviation: np.ndarray
) -> None:
    """Points (F, K, 3) that should not miss by much more than their deviation (F, K)."""
    frames, points = deviation.shape
    weight = np.repeat(_robust(1 / deviation**2, np.linalg.norm(miss, axis=-1) / deviation), 3, axis=1)
    growth = None if by_growth is None else by_growth.reshape(frames, points * 3, -1)
    add(by_change.reshape(frames, points * 3, FREEDOMS), growth, miss.reshape(frames, -1), weight)


def _add_floor(add: Add, body: PosedBody, seen: Evidence, settings: FitSettings, with_bones: bool) -> None:
    """Feet in contact are as high over the floor as standing feet are, and no foot is under it."""
    assert seen.floor is not None
    up, floor_m = seen.floor
    over = body.landmarks_m[:, FEET] @ up - floor_m - STANDING_HEIGHT_M
    standing = np.where(seen.contact > 0.5, seen.contact, 0.0) ** 2
    # Rooms have kerbs, steps and stages: what is far from the floor stands on something else, and is let go.
    near = 1 / (1 + (over / _OTHER_FLOOR_M) ** 2) ** 2
    weight = near * np.maximum(_robust(standing, over / (2 * settings.floor_m)), over < 0) / settings.floor_m**2
    by_change = np.einsum("i,fkid->fkd", up.astype(np.float32), body.by_change[:, FEET])
    grown = _growth(body, FEET, with_bones)
    by_growth = None if grown is None else np.einsum("i,fkid->fkd", up.astype(np.float32), grown)
    add(by_change, by_growth, over, weight)


def _add_habits(found: NormalEquations, state: BodyState) -> None:
    """Joints are rarely turned far, and hinges have ends."""
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
        found.own[:, freedom, freedom] += weight
        found.right[:, freedom] -= weight * miss


def disagreement(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> float:
    """How badly landmarks (F, 41, 3) agree with keypoints and lifter: sum of the robust terms, mean over frames."""
    turn, move = seen.camera_from_space[:, :, :3], seen.camera_from_space[:, :, 3]
    sites = detector_sites(landmarks_m) @ turn.swapaxes(1, 2) + move[:, None]
    miss = np.linalg.norm(sites[..., :2] - seen.rays * sites[..., 2:], axis=-1) / settings.keypoint_m
    keypoints = seen.confidence**2 * (np.sqrt(1 + miss**2) - 1)
    off = np.linalg.norm(landmarks_m - landmarks_m[:, :1] - seen.lifted_m, axis=-1)[:, _ROOTED]
    lifted = np.sqrt(1 + (off / (settings.lifted * np.maximum(seen.expected_error_m[:, _ROOTED], 0.005))) ** 2) - 1
    return float((keypoints.sum(axis=1) + lifted.sum(axis=1)).mean())


def second_differences(time_s: np.ndarray) -> np.ndarray:
    """(F - 2, 3) coefficients of the second derivative at the frames between, for uneven times too."""
    before, after = np.diff(time_s)[:-1], np.diff(time_s)[1:]
    span = (before + after) / 2
    return np.stack([1 / (before * span), -(1 / (before * span) + 1 / (after * span)), 1 / (after * span)], axis=-1)


def _add_motion(found: NormalEquations, body: PosedBody, seen: Evidence, settings: FitSettings) -> None:
    """Accelerations are those of people, and feet in contact stay where they are."""
    points = body.landmarks_m[:, _SMOOTH]
    frames = len(points)
    bands = np.zeros((3, frames, len(_SMOOTH)))
    downhill = np.zeros_like(points)
    if frames > 2:
        c = second_differences(seen.time_s)
        acceleration = sum(c[:, k, None, None] * points[k : frames - 2 + k] for k in range(3))
        usual = np.where(_IS_TRUNK, settings.trunk_acceleration_m_s2, settings.acceleration_m_s2)
        weight = _robust(1 / usual**2, np.linalg.norm(acceleration, axis=-1) / usual)
        for k in range(3):
            downhill[k : frames - 2 + k] -= weight[..., None] * c[:, k, None, None] * acceleration
            for apart in range(3 - k):
                bands[apart, k : frames - 2 + k] += weight * (c[:, k] * c[:, k + apart])[:, None]
    step_s = np.diff(seen.time_s)[:, None]
    velocity = np.diff(points[:, _FEET_AMONG_SMOOTH], axis=0) / step_s[..., None]
    both = np.minimum(seen.contact[1:], seen.contact[:-1])
    standing = np.where(both > 0.5, both, 0.0) ** 2 / settings.foothold_m_s**2
    # A foot that the keypoints carry along in spite of its contact is let go.
    weight = _robust(standing, np.linalg.norm(velocity, axis=-1) / (5 * settings.foothold_m_s)) / step_s**2
    pull = weight[..., None] * velocity * step_s[..., None]
    for foot, smooth in enumerate(_FEET_AMONG_SMOOTH):
        bands[0, 1:, smooth] += weight[:, foot]
        bands[0, :-1, smooth] += weight[:, foot]
        bands[1, :-1, smooth] -= weight[:, foot]
        downhill[1:, smooth] -= pull[:, foot]
        downhill[:-1, smooth] += pull[:, foot]
    jacobian = body.by_change[:, _SMOOTH].reshape(frames, -1, FREEDOMS)
    found.right += np.einsum("frd,fr->fd", jacobian, downhill.reshape(frames, -1))
    spread = np.repeat(bands, 3, axis=2).astype(np.float32)
    for apart, where in enumerate((found.own, found.next, found.second)):
        if frames > apart:
            weighted = (jacobian[: frames - apart] * spread[apart, : frames - apart, :, None]).swapaxes(1, 2)
            where[: frames - apart] += weighted @ jacobian[apart:]
