"""How a detector's keypoints of rendered people lie against the truth: errors by joint, and where its points sit.

Errors are in per cent of the longer side of the box round the true landmarks in the picture. They are measured after
the constant that tells where a point sits on a body is taken away, because that is no error of the detector's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

from ...core.detector_sites import detector_sites
from ...core.skeletons import LANDMARKS_41, LIFTER_21_NAMES, MEDIAPIPE_33_NAMES
from ..shots.shot import Shot

# Keypoints so far off (of the box) in the middle of all limbs are somebody else's, or nobody's.
_SOMEBODY_ELSE = 0.25
# What is slower than this is an offset that drifts, what is faster is jitter.
_SMOOTH_FRAMES = 2.0
_BURST_PCT = 6.0
_FAR_PCT = 10.0
_VISIBILITY_EDGES = (0.0, 0.3, 0.6, 0.9, 1.01)
_LAGS = (1, 3, 10)
_SWAPPED = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")

# Landmark of a pose -> MediaPipe's name without its side.
_JOINTS = {
    "shoulder": "shoulder",
    "elbow": "elbow",
    "wrist": "wrist",
    "knuckle": "index",
    "hip": "hip",
    "knee": "knee",
    "ankle": "ankle",
    "heel": "heel",
    "big_toe": "foot_index",
    "ear": "ear",
}
_POINTS = {"nose": "nose"} | {
    f"{side}_{ours}": f"{'left' if side == 'l' else 'right'}_{theirs}"
    for ours, theirs in _JOINTS.items()
    for side in "lr"
}
_POINT_NAMES = tuple(_POINTS)
_KEYPOINTS = [MEDIAPIPE_33_NAMES.index(name) for name in _POINTS.values()]
_LANDMARKS = LANDMARKS_41.indices(*_POINT_NAMES)
_SITES = [LIFTER_21_NAMES.index(name) for name in _POINT_NAMES]
# Offsets are told in the axes of these: a direction to the left, and one that is nearly up.
_AXES = {
    "nose": ("head", "r_ear", "l_ear", "head", "head_top"),
    "ear": ("head", "r_ear", "l_ear", "head", "head_top"),
    "shoulder": ("chest", "r_shoulder", "l_shoulder", "chest", "neck"),
    "hip": ("pelvis", "r_hip", "l_hip", "pelvis", "spine"),
}


def box_px(shot: Shot) -> np.ndarray:
    """(F,) the longer side of the box round the true landmarks in the picture."""
    return np.asarray(np.ptp(shot.camera.project(shot.truth_m), axis=1).max(axis=-1))


def found_frames(shot: Shot, model: str) -> np.ndarray:
    """(F,) whether the detector saw the person whose truth is known: not nobody, and not somebody else."""
    track = shot.keypoints[model]
    off_px = np.linalg.norm(track.xy_px[:, _KEYPOINTS] - shot.camera.project(shot.truth_m[:, _LANDMARKS]), axis=-1)
    with np.errstate(invalid="ignore"):
        near = np.median(off_px, axis=1) < _SOMEBODY_ELSE * box_px(shot)
    return np.asarray(track.seen & ~track.filled & near)


def detector_statistics(shots: Sequence[Shot]) -> dict[str, Any]:
    """By model: hit rate, errors by joint, what visibility tells, exchanged sides, and where the points sit.

    Plain values; per cent of the box unless a name says otherwise.
    """
    models = sorted({model for shot in shots for model in shot.keypoints})
    return {model: _of_model([shot for shot in shots if model in shot.keypoints], model) for model in models}


def _of_model(shots: Sequence[Shot], model: str) -> dict[str, Any]:
    found = [found_frames(shot, model) for shot in shots]
    residuals = [_residual_pct(shot, model, rows) for shot, rows in zip(shots, found, strict=True)]
    visible = [shot.keypoints[model].confidence[:, _KEYPOINTS] for shot in shots]
    size = np.concatenate([np.linalg.norm(residual, axis=-1) for residual in residuals])
    confidence = np.concatenate(visible)
    return {
        "clips": len(shots),
        "frames": int(sum(len(rows) for rows in found)),
        "hit_rate": round(float(np.concatenate(found).mean()), 4),
        "joints": {name: _of_joint(name, residuals, size) for name in ("nose", *_JOINTS.values())},
        "autocorrelation": {str(lag): _autocorrelation(residuals, lag) for lag in _LAGS},
        "bursts": _bursts(residuals),
        "by_visibility": [
            {"from": low, "to": min(high, 1.0), **_spread(size[(confidence >= low) & (confidence < high)])}
            for low, high in zip(_VISIBILITY_EDGES, _VISIBILITY_EDGES[1:], strict=False)
        ],
        "swapped_pct": {name: _swapped(shots, found, model, name) for name in _SWAPPED},
        "sits_mm": _where_points_sit(shots, found, model),
    }


def _residual_pct(shot: Shot, model: str, rows: np.ndarray) -> np.ndarray:
    """(F, P, 2) keypoints against where ``core.detector_sites`` says they sit; NaN where the person wasn't found."""
    expected = shot.camera.project(detector_sites(shot.truth_m)[:, _SITES])
    residual = 100 * (shot.keypoints[model].xy_px[:, _KEYPOINTS] - expected) / box_px(shot)[:, None, None]
    residual[~rows] = np.nan
    return np.asarray(residual)


def _spread(size: np.ndarray) -> dict[str, Any]:
    known = size[np.isfinite(size)]
    if not len(known):
        return {"samples": 0, "median": None, "p95": None}
    return {
        "samples": len(known),
        "median": round(float(np.median(known)), 2),
        "p95": round(float(np.percentile(known, 95)), 2),
    }


def _columns(keypoint: str) -> list[int]:
    return [
        index for index, name in enumerate(_POINTS.values()) if name.split("_", 1)[-1] == keypoint or name == keypoint
    ]


def _of_joint(keypoint: str, residuals: Sequence[np.ndarray], size: np.ndarray) -> dict[str, Any]:
    columns = _columns(keypoint)
    between, smooth, jitter = [], [], []
    for residual in residuals:
        for column in columns:
            known = residual[np.isfinite(residual[:, column, 0]), column]
            if len(known) < 10:
                continue
            middle = np.median(known, axis=0)
            slow = gaussian_filter1d(known, _SMOOTH_FRAMES, axis=0)
            between.append(middle)
            # Robust deviations: tails are told by p95 and by bursts.
            smooth.append(1.4826 * np.median(np.abs(slow - middle)))
            jitter.append(1.4826 * np.median(np.abs(known - slow)))
    known = size[:, columns][np.isfinite(size[:, columns])]
    return {
        **_spread(size[:, columns]),
        "between_clips": _rounded(np.std(between) if between else np.nan),
        "smooth": _rounded(np.median(smooth) if smooth else np.nan),
        "jitter": _rounded(np.median(jitter) if jitter else np.nan),
        "beyond_10_pct": _rounded(100 * (known > _FAR_PCT).mean() if len(known) else np.nan),
    }


def _rounded(value: Any) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _autocorrelation(residuals: Sequence[np.ndarray], lag: int) -> float | None:
    """Of the residuals about their median in each clip, large ones cut off at 6 %."""
    above = below = 0.0
    for residual in residuals:
        if len(residual) <= lag or not np.isfinite(residual).any(axis=0).all():
            continue
        about = np.clip(residual - np.nanmedian(residual, axis=0), -_BURST_PCT, _BURST_PCT)
        first, second = about[:-lag], about[lag:]
        both = np.isfinite(first) & np.isfinite(second)
        above += float((first[both] * second[both]).sum())
        below += float(((first[both] ** 2 + second[both] ** 2) / 2).sum())
    return _rounded(above / below) if below else None


def _bursts(residuals: Sequence[np.ndarray]) -> dict[str, Any]:
    """Runs of frames in which a point is far from where it is in the rest of the clip."""
    runs, samples, total = [], 0, 0
    for residual in residuals:
        for column in range(residual.shape[1]):
            known = np.isfinite(residual[:, column, 0])
            if not known.any():
                continue
            about = np.linalg.norm(residual[:, column] - np.nanmedian(residual[:, column], axis=0), axis=-1)
            far = known & (about > _BURST_PCT)
            edges = np.flatnonzero(np.diff(np.concatenate([[0], far.astype(int), [0]])))
            runs += list(edges[1::2] - edges[::2])
            samples += int(far.sum())
            total += int(known.sum())
    return {
        "samples_pct": _rounded(100 * samples / total if total else np.nan),
        "median_frames": _rounded(np.median(runs) if runs else np.nan),
        "p90_frames": _rounded(np.percentile(runs, 90) if runs else np.nan),
        "longest_frames": int(max(runs, default=0)),
    }


def _swapped(shots: Sequence[Shot], found: Sequence[np.ndarray], model: str, name: str) -> float | None:
    """Per cent of frames in which both points lie nearer to the other side's, where the sides are apart."""
    swapped = apart = 0
    for shot, rows in zip(shots, found, strict=True):
        true = shot.camera.project(shot.truth_m[:, LANDMARKS_41.indices(f"l_{name}", f"r_{name}")])
        places = [MEDIAPIPE_33_NAMES.index(f"{side}_{name}") for side in ("left", "right")]
        seen = shot.keypoints[model].xy_px[:, places]
        wide = rows & (np.linalg.norm(true[:, 0] - true[:, 1], axis=-1) > 0.06 * box_px(shot))
        straight = np.linalg.norm(seen - true, axis=-1)
        crossed = np.linalg.norm(seen - true[:, ::-1], axis=-1)
        swapped += int((wide & (crossed < straight).all(axis=1)).sum())
        apart += int(wide.sum())
    return _rounded(100 * swapped / apart if apart else np.nan)


def _where_points_sit(shots: Sequence[Shot], found: Sequence[np.ndarray], model: str) -> Mapping[str, Any]:
    """Millimetres from the true landmark to the point that explains the keypoints best, in axes of the body.

    A picture tells two of three directions; over views from all sides least squares tell the third. Points of the right
    side are mirrored. Each clip counts alike; keypoints in bursts don't count.
    """
    return {name: _sits("nose" if name == "nose" else name, shots, found, model) for name in ("nose", *_JOINTS)}


def _sits(name: str, shots: Sequence[Shot], found: Sequence[np.ndarray], model: str) -> dict[str, float] | None:
    normal, right = np.zeros((3, 3)), np.zeros(3)
    for shot, rows in zip(shots, found, strict=True):
        focal = np.array(shot.camera.focal_px)
        for point in [name] if name == "nose" else [f"l_{name}", f"r_{name}"]:
            landmark_m = shot.truth_m[rows, LANDMARKS_41.index(point)]
            seen_px = shot.keypoints[model].xy_px[rows, MEDIAPIPE_33_NAMES.index(_POINTS[point])]
            off_px = seen_px - shot.camera.project(landmark_m)
            near = np.linalg.norm(off_px, axis=-1) < _FAR_PCT / 100 * box_px(shot)[rows]
            if near.sum() < 10:
                continue
            axes = _axes(shot.truth_m[rows], name, point)[near]
            x, y, z = landmark_m[near].T
            zero = np.zeros_like(z)
            slope = np.stack(
                [
                    np.stack([focal[0] / z, zero, -focal[0] * x / z**2], axis=-1),
                    np.stack([zero, focal[1] / z, -focal[1] * y / z**2], axis=-1),
                ],
                axis=-2,
            )
            lines = slope @ np.swapaxes(axes, -1, -2)
            # In metres at the body's depth, so that near and far views count alike.
            weight = (z / focal[0])[:, None, None]
            a, b = (lines * weight).reshape(-1, 3), (off_px[near] * weight[..., 0]).ravel()
            normal += a.T @ a / len(b)
            right += a.T @ b / len(b)
    if np.linalg.matrix_rank(normal, tol=1e-9) < 3:
        return None
    outward, up, forward = np.linalg.solve(normal, right)
    return {
        key: round(1000 * float(value), 1)
        for key, value in zip(("outward", "up", "forward"), (outward, up, forward), strict=True)
    }


def _axes(truth_m: np.ndarray, name: str, point: str) -> np.ndarray:
    """(F, 3, 3) rows outward, up, forward of the part of the body that a point belongs to, in camera space."""
    side = point[0]

    def towards(start: str, end: str) -> np.ndarray:
        way = truth_m[:, LANDMARKS_41.index(end)] - truth_m[:, LANDMARKS_41.index(start)]
        return np.asarray(way / np.linalg.norm(way, axis=-1, keepdims=True))

    if name in _AXES:
        _, right_end, left_end, low, high = _AXES[name]
        left, up = towards(right_end, left_end), towards(low, high)
    elif name in ("elbow", "wrist", "knuckle"):
        up = (
            towards(f"{side}_wrist", f"{side}_elbow")
            if name != "elbow"
            else towards(f"{side}_elbow", f"{side}_shoulder")
        )
        left = towards("r_shoulder", "l_shoulder")
    else:
        ahead, shank = towards(f"{side}_heel", f"{side}_toe_base"), towards(f"{side}_ankle", f"{side}_knee")
        if name in ("knee", "ankle"):
            left, up = np.cross(shank, ahead), shank
        else:
            left = np.cross(shank, ahead)
            up = np.cross(ahead, left)
    forward = np.cross(left, up)
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    up = up / np.linalg.norm(up, axis=-1, keepdims=True)
    left = np.cross(up, forward)
    return np.stack([left if side != "r" else -left, up, forward], axis=-2)


def statistics_table(statistics: Mapping[str, Any]) -> str:
    """The errors by joint as a table for people."""
    lines = []
    for model, of in statistics.items():
        lines.append(
            f"{model}: found in {100 * of['hit_rate']:.1f} % of {of['frames']} frames; error in % of the box\n"
            f"{'joint':<12}{'median':>8}{'p95':>8}{'between':>9}{'smooth':>8}{'jitter':>8}{'>10 %':>8}"
        )
        for name, joint in of["joints"].items():
            keys = ("median", "p95", "between_clips", "smooth", "jitter", "beyond_10_pct")
            widths = (8, 8, 9, 8, 8, 8)
            cells = ["-" if joint[key] is None else f"{joint[key]:.2f}" for key in keys]
            lines.append(f"{name:<12}" + "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
        sits = [
            f"{name} {place['outward']:+.0f}/{place['up']:+.0f}/{place['forward']:+.0f}"
            for name, place in of["sits_mm"].items()
            if place
        ]
        lines.append("points sit outward/up/forward of the landmark, mm: " + ", ".join(sits))
    return "\n".join(lines)
