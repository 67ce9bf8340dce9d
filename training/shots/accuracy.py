"""How good the whole way from keypoints to a pose is on shots, beside what the detector itself says of space."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ...core import motion_metrics as measure
from ...core.camera import Camera
from ...core.detector_sites import detector_sites
from ...core.motion_metrics import CONTACT_POINTS, LIMB_JOINTS, LIMB_NAMES
from ...core.progress import Progress, report, silent
from ...core.segments import SEGMENT_NAMES, segments_from_joint_rotations
from ...core.skeletons import LIFTER_21_NAMES, MEDIAPIPE_33_NAMES
from ...core.tracks import KeypointTrack, PoseTrack
from .shot import Shot

Lifting = Callable[[KeypointTrack, Camera], PoseTrack]

KEYLIFT, DETECTOR_WORLD = "keylift", "mediapipe world"
METHODS = (KEYLIFT, DETECTOR_WORLD)
LIMB_SITES = [LIFTER_21_NAMES.index(name) for name in LIMB_NAMES]
# The blur over time that takes a detector's tremble out of its world landmarks and leaves a punch.
DETECTOR_SMOOTHING_S = 0.04


@dataclass(frozen=True)
class Quantity:
    """Something that is measured of a result.

    key:    name with unit, for programs
    title:  for people
    digits: after the point
    """

    key: str
    title: str
    digits: int = 0
    higher_is_better: bool = False


QUANTITIES = (
    Quantity("procrustes_mm", "per-frame Procrustes, mm", 1),
    Quantity("clip_similarity_mm", "one similarity per clip, mm", 1),
    Quantity("root_aligned_mm", "root-aligned, camera frame, mm", 1),
    Quantity("bends_deg", "elbow and knee angles, deg", 1),
    Quantity("trunk_lean_deg", "trunk lean, deg", 1),
    Quantity("velocity_mm_s", "velocity error, mm/s", 0),
    Quantity("acceleration_m_s2", "acceleration error, m/s2", 1),
    Quantity("acceleration_ratio", "mean acceleration against the truth's", 2),
    Quantity("bone_variation_pct", "bone-length variation, %", 1),
    Quantity("all_procrustes_mm", "per-frame Procrustes of all known landmarks, mm", 1),
    Quantity("sites_procrustes_mm", "per-frame Procrustes of the points that a detector marks, mm", 1),
    Quantity("sites_root_aligned_mm", "root-aligned, of the points that a detector marks, mm", 1),
    Quantity("sites_trunk_lean_deg", "trunk lean, of the points that a detector marks, deg", 1),
    Quantity("root_pct", "root, % of its depth", 1),
    Quantity("drift_pct", "path drift, % of the distance walked", 1),
    Quantity("slide_mm_s", "slide of the feet in contact by their own account, mm/s", 0),
    Quantity("slide_in_true_contact_mm_s", "slide of the feet in true contact, mm/s", 0),
    Quantity("true_slide_mm_s", "slide of the truth's own feet in contact, mm/s", 0),
    Quantity("contact_f1", "contact F1", 2, higher_is_better=True),
    Quantity("foot_deg", "foot orientation, deg", 1),
    Quantity("hand_deg", "hand orientation, deg", 1),
    Quantity("head_deg", "head orientation, deg", 1),
    Quantity("foot_about_a_constant_deg", "foot orientation, a constant turn taken away, deg", 1),
    Quantity("hand_about_a_constant_deg", "hand orientation, a constant turn taken away, deg", 1),
    Quantity("head_about_a_constant_deg", "head orientation, a constant turn taken away, deg", 1),
    Quantity("up_deg", "which way is up, deg", 1),
)


@dataclass(frozen=True, eq=False)
class ShotResult:
    """What one method made of one shot.

    scores: by ``Quantity.key``; NaN where it can't be told
    pose:   the result itself; None for the detector's world landmarks
    limbs_m: (F, 12, 3) its limb joints, of any origin for the detector's
    """

    shot: Shot
    model: str
    method: str
    scores: Mapping[str, float]
    limbs_m: np.ndarray
    pose: PoseTrack | None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Results on a set of shots."""

    weights: str
    results: tuple[ShotResult, ...]

    @property
    def models(self) -> list[str]:
        """The detector's models, as the shots have them."""
        return list(dict.fromkeys(result.model for result in self.results))

    def of(self, model: str, method: str) -> list[ShotResult]:
        """Results of one method on the keypoints of one model."""
        return [result for result in self.results if (result.model, result.method) == (model, method)]

    def mean(self, model: str, method: str) -> dict[str, float]:
        """Mean over shots, each counted alike, of what is known of them."""
        return {q.key: _mean([r.scores[q.key] for r in self.of(model, method)]) for q in QUANTITIES}

    def worst(self, model: str, method: str) -> dict[str, tuple[str, float]]:
        """The worst shot and its score, for each quantity that is known of any."""
        found = {}
        for quantity in QUANTITIES:
            known = [
                (result.scores[quantity.key], result.shot.name)
                for result in self.of(model, method)
                if math.isfinite(result.scores[quantity.key])
            ]
            if known:
                value, name = min(known) if quantity.higher_is_better else max(known)
                found[quantity.key] = (name, value)
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None where nothing is known."""
        methods = [(model, method) for model in self.models for method in METHODS if self.of(model, method)]
        return {
            "weights": self.weights,
            "mean": {_key(*which): _plain(self.mean(*which)) for which in methods},
            "worst": {
                _key(*which): {
                    key: {"shot": name, "value": round(value, 6)} for key, (name, value) in self.worst(*which).items()
                }
                for which in methods
            },
            "shots": [
                {
                    "shot": result.shot.name,
                    "model": result.model,
                    "method": result.method,
                    "frames": len(result.shot.time_s),
                    "seconds": round(result.seconds, 3),
                    **_plain(result.scores),
                }
                for result in self.results
            ],
        }


def _key(model: str, method: str) -> str:
    return f"{method}, {model}"


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _plain(scores: Mapping[str, float]) -> dict[str, float | None]:
    return {key: round(value, 6) if math.isfinite(value) else None for key, value in scores.items()}


def measure_accuracy(
    shots: Sequence[Shot], lift: Lifting, weights: str, models: Sequence[str] = (), progress: Progress = silent
) -> Accuracy:
    """Lift the keypoints of every shot with its true lens, and compare with the truth.

    lift:    keypoints and lens -> pose, the product's own way
    weights: what to call them in the result
    models:  only the keypoints of these detector models; all without
    """
    jobs = [(shot, model) for shot in shots for model in shot.keypoints if not models or model in models]
    results = []
    for number, (shot, model) in enumerate(jobs):
        report(progress, number, len(jobs))
        results.append(keylift_result(shot, model, lift))
        if model in shot.detector_world_m:
            results.append(detector_result(shot, model))
    report(progress, len(jobs), len(jobs))
    return Accuracy(weights, tuple(results))


def keylift_result(shot: Shot, model: str, lift: Lifting) -> ShotResult:
    """What the product makes of the keypoints that ``model`` saw in ``shot``."""
    began = time.perf_counter()
    pose = lift(shot.keypoints[model], shot.camera)
    seconds = time.perf_counter() - began
    limbs_m = pose.positions_m[:, LIMB_JOINTS]
    scores = {**_limb_scores(limbs_m, shot), **_whole_scores(pose, shot)}
    return ShotResult(shot, model, KEYLIFT, _complete(scores), limbs_m, pose, seconds)


def detector_result(shot: Shot, model: str) -> ShotResult:
    """MediaPipe's world landmarks, bridged where it lost the person and smoothed."""
    limbs_m = smoothed_world_limbs(shot.detector_world_m[model], shot.time_s)
    return ShotResult(shot, model, DETECTOR_WORLD, _complete(_limb_scores(limbs_m, shot)), limbs_m, None)


def smoothed_world_limbs(world_m: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """(F, 33, 3) world landmarks -> (F, 12, 3) limb joints, gaps interpolated, blurred by ``DETECTOR_SMOOTHING_S``."""
    places = [
        MEDIAPIPE_33_NAMES.index(("left_" if name.startswith("l_") else "right_") + name[2:]) for name in LIMB_NAMES
    ]
    limbs_m = world_m[:, places].copy()
    known = np.isfinite(limbs_m).all(axis=(1, 2))
    if not known.any():
        return limbs_m
    for column in limbs_m.reshape(len(limbs_m), -1).T:
        column[~known] = np.interp(time_s[~known], time_s[known], column[known])
    if len(time_s) < 2:
        return limbs_m
    frames = DETECTOR_SMOOTHING_S / float(np.median(np.diff(time_s)))
    return np.asarray(gaussian_filter1d(limbs_m, frames, axis=0, mode="nearest"))


def _complete(scores: Mapping[str, float]) -> dict[str, float]:
    return {quantity.key: float(scores.get(quantity.key, float("nan"))) for quantity in QUANTITIES}


def _limb_scores(limbs_m: np.ndarray, shot: Shot) -> dict[str, float]:
    """What can be told without knowing where the body is in the room."""
    truth_m, time_s = shot.truth_m[:, LIMB_JOINTS], shot.time_s
    about, true_about = measure.about_hips(limbs_m), measure.about_hips(truth_m)
    return {
        "procrustes_mm": 1000 * measure.frame_procrustes_error(limbs_m, truth_m),
        "clip_similarity_mm": 1000 * measure.clip_similarity_error(about, true_about),
        "root_aligned_mm": 1000 * measure.root_aligned_error(limbs_m, truth_m),
        "bends_deg": measure.bend_error_deg(limbs_m, truth_m),
        "trunk_lean_deg": measure.trunk_lean_error_deg(limbs_m, truth_m),
        "velocity_mm_s": 1000 * measure.velocity_error(limbs_m, truth_m, time_s),
        "acceleration_m_s2": measure.acceleration_error(limbs_m, truth_m, time_s),
        "acceleration_ratio": measure.acceleration_ratio(about, true_about, time_s),
        "bone_variation_pct": measure.bone_variation_pct(limbs_m),
    }


def _whole_scores(pose: PoseTrack, shot: Shot) -> dict[str, float]:
    """What only a whole body in the room has: a path, feet on a floor, segments that are turned."""
    limbs_m, truth_m, time_s = pose.positions_m[:, LIMB_JOINTS], shot.truth_m[:, LIMB_JOINTS], shot.time_s
    up = pose.world_from_camera[2, :3]
    true_up = None if shot.world_from_camera is None else shot.world_from_camera[2, :3]
    feet_m = pose.positions_m[:, CONTACT_POINTS]
    scores = {
        "acceleration_ratio": measure.acceleration_ratio(limbs_m, truth_m, time_s),
        "all_procrustes_mm": 1000 * measure.frame_procrustes_error(pose.positions_m, shot.truth_m),
        "root_pct": measure.root_error_pct(limbs_m, truth_m),
        "drift_pct": measure.path_drift_pct(limbs_m, truth_m, true_up),
        "slide_mm_s": 1000 * measure.contact_slide(feet_m, pose.contact, time_s, up),
    }
    if shot.truth_at_sites:
        sites_m = detector_sites(pose.positions_m)[:, LIMB_SITES]
        scores["sites_procrustes_mm"] = 1000 * measure.frame_procrustes_error(sites_m, truth_m)
        scores["sites_root_aligned_mm"] = 1000 * measure.root_aligned_error(sites_m, truth_m)
        scores["sites_trunk_lean_deg"] = measure.trunk_lean_error_deg(sites_m, truth_m)
    if true_up is not None:
        scores["up_deg"] = measure.direction_error_deg(up, true_up)
    if shot.truth_contact is not None:
        scores["contact_f1"] = measure.contact_f1(pose.contact, shot.truth_contact)
        scores["slide_in_true_contact_mm_s"] = 1000 * measure.contact_slide(feet_m, shot.truth_contact, time_s, up)
        true_feet_m = shot.truth_m[:, CONTACT_POINTS]
        scores["true_slide_mm_s"] = 1000 * measure.contact_slide(
            true_feet_m, shot.truth_contact, time_s, up if true_up is None else true_up
        )
    if shot.truth_rotations_wxyz is not None:
        turns = segments_from_joint_rotations(pose.rotations_wxyz)
        for part, names in (("foot", ("l_foot", "r_foot")), ("hand", ("l_hand", "r_hand")), ("head", ("head",))):
            segments = [SEGMENT_NAMES.index(name) for name in names]
            both = turns[:, segments], shot.truth_rotations_wxyz[:, segments]
            scores[f"{part}_deg"] = measure.rotation_error_deg(*both)
            scores[f"{part}_about_a_constant_deg"] = measure.rotation_error_about_a_constant_deg(*both)
    return scores
