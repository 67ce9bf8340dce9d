"""How far a motion is from the truth: over a whole clip, in time, in angles, on the floor.

Poses here are the twelve limb joints, (F, 12, 3) in the order of ``LIMB_NAMES``, metres in one space. The truth may
have NaN where nobody knows; what needs it is left out. Every function gives NaN where nothing is known at all.

Beside ``core.metrics``, which has the paper's protocols, these are what an animator sees: how the body is turned to the
camera, how elbows bend, whether feet slide.
"""

from __future__ import annotations

import numpy as np

from .rotations import angle_between_rad, inverse, multiply, normalised
from .skeletons import LANDMARKS_41

LIMB_NAMES = tuple(f"{side}_{name}" for side in "lr" for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
LIMB_JOINTS = LANDMARKS_41.indices(*LIMB_NAMES)
# Where the four contacts of a pose are: the ball of the foot stands while the tip of the toes may roll.
CONTACT_POINTS = LANDMARKS_41.indices("l_heel", "l_toe_base", "r_heel", "r_toe_base")

_HIPS = [LIMB_NAMES.index("l_hip"), LIMB_NAMES.index("r_hip")]
_SHOULDERS = [LIMB_NAMES.index("l_shoulder"), LIMB_NAMES.index("r_shoulder")]
_BONES = [
    (LIMB_NAMES.index(f"{side}_{start}"), LIMB_NAMES.index(f"{side}_{end}"))
    for side in "lr"
    for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
]
# Somebody who walked less than this has no path to drift from.
_SHORTEST_PATH_M = 1.0


def _checked(predicted_m: np.ndarray, truth_m: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both in float64 and (F, J) where both are known. Raises ValueError when they don't compare."""
    ours, real = np.asarray(predicted_m, float), np.asarray(truth_m, float)
    if ours.shape != real.shape or ours.ndim != 3 or ours.shape[-1] != 3:
        raise ValueError(f"A motion of {ours.shape} doesn't compare with a truth of {real.shape}: (F, J, 3) is wanted.")
    return ours, real, np.isfinite(ours).all(axis=-1) & np.isfinite(real).all(axis=-1)


def _mean(values: np.ndarray) -> float:
    """Mean of what is known, NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else float("nan")


def _aligned(predicted_m: np.ndarray, truth_m: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(G, N, 3) points moved, turned and scaled, group by group, as near to the truth as can be; NaN for < 3 known.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.
    """
    weight = known[..., None].astype(float)
    count = np.maximum(weight.sum(axis=-2, keepdims=True), 1.0)
    p, t = np.where(weight > 0, predicted_m, 0.0), np.where(weight > 0, truth_m, 0.0)
    p_mean, t_mean = p.sum(axis=-2, keepdims=True) / count, t.sum(axis=-2, keepdims=True) / count
    p, t = (p - p_mean) * weight, (t - t_mean) * weight
    u, singular, vt = np.linalg.svd(np.swapaxes(t, -1, -2) @ p)
    # A reflection is not a turn: the weakest axis gives way.
    sign = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    u[..., 2] *= sign[..., None]
    singular[..., 2] *= sign
    scale = singular.sum(axis=-1) / np.maximum((p**2).sum(axis=(-2, -1)), 1e-12)
    moved = scale[..., None, None] * (predicted_m - p_mean) @ np.swapaxes(u @ vt, -1, -2) + t_mean
    return np.asarray(np.where(known.sum(axis=-1)[..., None, None] >= 3, moved, np.nan))


def _distances(predicted_m: np.ndarray, truth_m: np.ndarray, known: np.ndarray) -> np.ndarray:
    return np.asarray(np.where(known, np.linalg.norm(predicted_m - truth_m, axis=-1), np.nan))


def frame_procrustes_distances(predicted_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    """(F, J) metres after aligning every frame by move, turn and scale, NaN where unknown; any joints, (F, J, 3)."""
    p, t, known = _checked(predicted_m, truth_m)
    return _distances(_aligned(p, t, known), t, known)


def frame_procrustes_error(predicted_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean of ``frame_procrustes_distances``, metres."""
    return _mean(frame_procrustes_distances(predicted_m, truth_m))


def clip_similarity_aligned(predicted_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    """(F, J, 3) ``predicted_m`` after one move, turn and scale for the whole clip; any joints."""
    p, t, known = _checked(predicted_m, truth_m)
    return _aligned(p.reshape(1, -1, 3), t.reshape(1, -1, 3), known.reshape(1, -1)).reshape(p.shape)


def clip_similarity_error(predicted_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean distance after one similarity for the whole clip, metres: sees a body that sways or grows; (F, J, 3)."""
    p, t, known = _checked(predicted_m, truth_m)
    return _mean(_distances(clip_similarity_aligned(p, t), t, known))


def about_hips(limbs_m: np.ndarray) -> np.ndarray:
    """(F, 12, 3) limb joints about the middle of the hips."""
    return np.asarray(limbs_m - limbs_m[:, _HIPS].mean(axis=1, keepdims=True))


def root_aligned_distances(predicted_m: np.ndarray, truth_m: np.ndarray) -> np.ndarray:
    """(F, 12) metres about the middle of the hips, NaN where unknown.

    Nothing is turned and nothing scaled, so it sees how the body is turned to the camera.
    """
    p, t, _ = _checked(predicted_m, truth_m)
    return _distances(*_checked(about_hips(p), about_hips(t)))


def root_aligned_error(predicted_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean of ``root_aligned_distances``, metres."""
    return _mean(root_aligned_distances(predicted_m, truth_m))


def _bends_rad(limbs_m: np.ndarray) -> np.ndarray:
    """(F, 4) angle by which elbows and knees are bent, 0 = straight."""
    upper, lower = (
        normalised(np.stack([limbs_m[:, b] - limbs_m[:, a] for a, b in _BONES[half::2]], axis=1)) for half in (0, 1)
    )
    sine, cosine = np.linalg.norm(np.cross(upper, lower), axis=-1), (upper * lower).sum(axis=-1)
    return np.arctan2(sine, cosine)


def bend_error_deg(predicted_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean error of the angles of elbows and knees, degrees."""
    p, t, _ = _checked(predicted_m, truth_m)
    return _mean(np.degrees(np.abs(_bends_rad(p) - _bends_rad(t))))


def _angle_deg(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle between (..., 3) directions, exact for small ones too."""
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), (a * b).sum(axis=-1)))


def trunk_lean_error_deg(predicted_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean angle between the directions from the middle of the hips to that of the shoulders, degrees."""
    p, t, _ = _checked(predicted_m, truth_m)
    ours, real = (limbs[:, _SHOULDERS].mean(axis=1) - limbs[:, _HIPS].mean(axis=1) for limbs in (p, t))
    return _mean(_angle_deg(ours, real))


def velocities(positions_m: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """(F - 1, ..., 3) metres a second from frame to frame, whatever the time between them."""
    step = np.diff(time_s).reshape(-1, *[1] * (positions_m.ndim - 1))
    return np.asarray(np.diff(positions_m, axis=0) / step)


def accelerations(positions_m: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """(F - 2, ..., 3) metres a second squared, from three frames each, whatever the times between them."""
    if len(time_s) < 3:
        return np.zeros((0, *positions_m.shape[1:]))
    span = ((time_s[2:] - time_s[:-2]) / 2).reshape(-1, *[1] * (positions_m.ndim - 1))
    return np.asarray(np.diff(velocities(positions_m, time_s), axis=0) / span)


def velocity_error(predicted_m: np.ndarray, truth_m: np.ndarray, time_s: np.ndarray) -> float:
    """Mean length of the difference of velocities about the hips, metres a second."""
    p, t, _ = _checked(predicted_m, truth_m)
    return _mean(np.linalg.norm(velocities(about_hips(p) - about_hips(t), time_s), axis=-1))


def acceleration_error(predicted_m: np.ndarray, truth_m: np.ndarray, time_s: np.ndarray) -> float:
    """Mean length of the difference of accelerations about the hips, metres a second squared."""
    p, t, _ = _checked(predicted_m, truth_m)
    return _mean(np.linalg.norm(accelerations(about_hips(p) - about_hips(t), time_s), axis=-1))


def acceleration_ratio(predicted_m: np.ndarray, truth_m: np.ndarray, time_s: np.ndarray) -> float:
    """Mean acceleration against the truth's, over the joints and frames that both have: above 1 is jitter."""
    p, t, _ = _checked(predicted_m, truth_m)
    ours, real = (np.linalg.norm(accelerations(limbs, time_s), axis=-1) for limbs in (p, t))
    both = np.isfinite(ours) & np.isfinite(real)
    if not both.any() or real[both].mean() < 1e-9:
        return float("nan")
    return float(ours[both].mean() / real[both].mean())


def bone_variation_pct(limbs_m: np.ndarray) -> float:
    """How much the limb bones change their lengths: standard deviation in per cent of the mean, mean over bones."""
    lengths = np.stack([np.linalg.norm(limbs_m[:, b] - limbs_m[:, a], axis=-1) for a, b in _BONES], axis=-1)
    lengths = lengths[np.isfinite(lengths).all(axis=-1)]
    if len(lengths) == 0:
        return float("nan")
    return float((100 * lengths.std(axis=0) / np.maximum(lengths.mean(axis=0), 1e-9)).mean())


def root_error_pct(predicted_m: np.ndarray, truth_m: np.ndarray) -> float:
    """Mean distance between the middles of the hips in camera space (z forward), in per cent of the true depth."""
    p, t, _ = _checked(predicted_m, truth_m)
    ours, real = p[:, _HIPS].mean(axis=1), t[:, _HIPS].mean(axis=1)
    return _mean(100 * np.linalg.norm(ours - real, axis=-1) / np.maximum(real[:, 2], 1e-3))


def path_drift_pct(predicted_m: np.ndarray, truth_m: np.ndarray, up: np.ndarray | None = None) -> float:
    """How far the way from the first to the last known frame is off, in per cent of the distance walked.

    up: (3,) unit, to count along the floor only; None = gravity is unknown, and all three axes count

    NaN for who walked less than a metre.
    """
    p, t, _ = _checked(predicted_m, truth_m)
    ours, real = p[:, _HIPS].mean(axis=1), t[:, _HIPS].mean(axis=1)
    if up is not None:
        ours, real = (path - (path @ up)[:, None] * up for path in (ours, real))
    known = np.isfinite(ours).all(axis=-1) & np.isfinite(real).all(axis=-1)
    ours, real = ours[known], real[known]
    walked = float(np.linalg.norm(np.diff(real, axis=0), axis=-1).sum())
    if walked < _SHORTEST_PATH_M:
        return float("nan")
    return float(100 * np.linalg.norm((ours[-1] - ours[0]) - (real[-1] - real[0])) / walked)


def contact_slide(feet_m: np.ndarray, contact: np.ndarray, time_s: np.ndarray, up: np.ndarray) -> float:
    """Mean speed along the floor of feet that should stand, metres a second.

    feet_m:  (F, 4, 3) heels and toes in the order of ``CONTACT_POINTS``
    contact: (F, 4) above 0.5 = stands; counted where two frames in a row do
    up:      (3,) unit, across the floor
    """
    speed = velocities(feet_m, time_s)
    speed = np.linalg.norm(speed - (speed @ up)[..., None] * up, axis=-1)
    stands = contact > 0.5
    return _mean(np.where(stands[1:] & stands[:-1], speed, np.nan))


def rotation_error_deg(predicted_wxyz: np.ndarray, truth_wxyz: np.ndarray) -> float:
    """Mean angle between (..., 4) rotations, degrees."""
    return _mean(np.degrees(angle_between_rad(predicted_wxyz, truth_wxyz)))


def rotation_error_about_a_constant_deg(predicted_wxyz: np.ndarray, truth_wxyz: np.ndarray) -> float:
    """Mean angle between rotations (F, S, 4), degrees, after each of the S was turned by its own best constant.

    Two bodies in the same rest pose have feet and faces of other proportions, and so other rest axes: that difference
    is a constant turn, applied before the rotation. Its best estimate is the mean quaternion (Markley et al.,
    "Averaging quaternions", 2007).
    """
    predicted, truth = np.asarray(predicted_wxyz, float), np.asarray(truth_wxyz, float)
    errors = []
    for segment in range(predicted.shape[1]):
        known = np.isfinite(predicted[:, segment]).all(axis=-1) & np.isfinite(truth[:, segment]).all(axis=-1)
        if not known.any():
            continue
        mine, true = predicted[known, segment], truth[known, segment]
        apart = multiply(inverse(true), mine)
        constant = np.linalg.eigh(apart.T @ apart)[1][:, -1]
        turned = multiply(mine, np.broadcast_to(inverse(constant), mine.shape))
        errors.append(np.degrees(angle_between_rad(turned, true)))
    return _mean(np.concatenate(errors)) if errors else float("nan")


def contact_f1(predicted: np.ndarray, truth: np.ndarray) -> float:
    """F1 score of contacts, both above 0.5 = stands; NaN if nothing stands in either."""
    said, true = np.asarray(predicted) > 0.5, np.asarray(truth) > 0.5
    total = said.sum() + true.sum()
    return float(2 * (said & true).sum() / total) if total else float("nan")


def direction_error_deg(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean angle between (..., 3) directions, such as which way is up, degrees."""
    return _mean(_angle_deg(np.asarray(predicted, float), np.asarray(truth, float)))
