"""Truth from several cameras that film one person at once: their keypoints triangulated, for each camera a shot.

Cameras are as a calibration says, then turned a little until their keypoints agree best: a calibration made on another
day, or before somebody touched a tripod, is off by a degree, which is centimetres of truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from scipy.linalg import solveh_banded
from scipy.optimize import least_squares

from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.outside_text import bytes_within, toml_table
from ...core.rotations import from_rotation_vector, to_matrix
from ...core.skeletons import LANDMARKS_41, MEDIAPIPE_33_NAMES
from ...core.tracks import KeypointTrack
from .shot import Shot

MAX_CALIBRATION_BYTES = 4 << 20
MAX_CAMERAS = 64

# Which of MediaPipe's points are triangulated, and what they are called in a pose. The points of the face sit on the
# skin, those of the feet on shoes; see ``core.detector_sites``.
_POINTS = {
    "nose": "nose",
    "left_ear": "l_ear",
    **{
        f"left_{name}": f"l_{ours}"
        for name, ours in (
            ("shoulder", "shoulder"),
            ("elbow", "elbow"),
            ("wrist", "wrist"),
            ("hip", "hip"),
            ("knee", "knee"),
            ("ankle", "ankle"),
            ("heel", "heel"),
            ("foot_index", "big_toe"),
        )
    },
}
_POINTS |= {
    name.replace("left_", "right_"): "r_" + ours[2:] for name, ours in _POINTS.items() if name.startswith("left_")
}
_NAMES = tuple(_POINTS)
_PLACES = [MEDIAPIPE_33_NAMES.index(name) for name in _NAMES]
_LANDMARKS = LANDMARKS_41.indices(*_POINTS.values())
_PAIRS = [
    (_NAMES.index(name), _NAMES.index(name.replace("left_", "right_"))) for name in _NAMES if name.startswith("left_")
]
# A view agrees with a point when its keypoint lies within this of it, at the depth of the body.
_AGREES_WITHIN_M = 0.04
# Keypoints of a good view lie about so far off.
_KEYPOINT_DEVIATION_M = 0.012
# An exchange of left and right in one view must save so much to be believed. A keypoint that agrees with nobody costs
# 5, so it takes two of them: one limb gone astray is no exchange.
_EXCHANGE_COST = 4.0
# Cameras that look the same way tell no depth.
_NARROWEST_ANGLE_RAD = np.radians(15)
_LONGEST_BRIDGE_S = 0.1
# People move slower than this many times a second; what is faster is noise of the keypoints.
_CUT_OFF_HZ = 6.0
# Weights of four neighbouring moments in a third difference.
_THIRD = (-1.0, 3.0, -3.0, 1.0)
_FRAMES_TO_REFINE = 60


@dataclass(frozen=True, eq=False)
class StandingCamera:
    """A camera that stands still in a room whose z axis points up.

    camera_from_world: (4, 4) rigid, metres
    """

    name: str
    camera: Camera
    camera_from_world: np.ndarray

    def to_camera(self, points_m: np.ndarray) -> np.ndarray:
        """(..., 3) world -> (..., 3) camera space."""
        return points_m @ self.camera_from_world[:3, :3].T + self.camera_from_world[:3, 3]

    def turned(self, by_rad: np.ndarray) -> StandingCamera:
        """The same camera turned on its spot by a rotation vector in its own axes."""
        matrix = np.eye(4)
        matrix[:3, :3] = to_matrix(from_rotation_vector(by_rad))
        return replace(self, camera_from_world=matrix @ self.camera_from_world)


# ---- Calibrations ---------------------------------------------------------------------------------------------------


def read_calibration(path: Path) -> list[StandingCamera]:
    """The cameras of a calibration: Qualisys' XML (``*.qca.txt``, ``*.xml``), or Pose2Sim's TOML (``*.toml``).

    Raises FileFormatError when it is neither.
    """
    try:
        content = bytes_within(path, MAX_CALIBRATION_BYTES)
        cameras = _from_toml(content) if path.suffix.lower() == ".toml" else _from_qualisys(content)
    except FileNotFoundError:
        raise FileFormatError(f"There is no calibration '{path}'. Check the path after --calibration.") from None
    except KeyError as missing:
        raise FileFormatError(f"The calibration '{path}' lacks {missing} of a camera.") from None
    except (OSError, ValueError, TypeError, IndexError, ArithmeticError, ElementTree.ParseError) as problem:
        raise FileFormatError(f"The calibration '{path}' can't be read: {problem}.") from problem
    if not 2 <= len(cameras) <= MAX_CAMERAS:
        raise FileFormatError(f"The calibration '{path}' has {len(cameras)} cameras; 2 to {MAX_CAMERAS} are wanted.")
    return cameras


def _from_qualisys(content: bytes) -> list[StandingCamera]:
    """Qualisys' cameras look along their negative z with y up; turns are camera from world; 64 units are a pixel."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise ValueError("it declares entities, which no calibration needs")
    cameras: list[StandingCamera] = []
    for element in ElementTree.fromstring(content).iter("camera"):
        place, lens, picture = (_attributes(element, name) for name in ("transform", "intrinsic", "fov_video"))
        size = tuple(int(float(picture[b]) - float(picture[a])) + 1 for a, b in (("left", "right"), ("top", "bottom")))
        turn = np.array([[float(place[f"r{row}{column}"]) for column in "123"] for row in "123"])
        turn = np.diag([1.0, -1.0, -1.0]) @ turn
        stands_m = np.array([float(place[axis]) for axis in "xyz"]) / 1000
        fx, fy = (float(lens[f"focalLength{axis}"]) / 64 for axis in "UV")
        cx, cy = (float(lens[f"centerPoint{axis}"]) / 64 for axis in "UV")
        k1, k2, k3 = (float(lens[f"radialDistortion{number}"]) for number in (1, 2, 3))
        p1, p2 = (float(lens[f"tangentalDistortion{number}"]) for number in (1, 2))
        camera = Camera((size[0], size[1]), (fx, fy), (cx, cy), (k1, k2, p1, p2, k3))
        name = element.attrib.get("serial", f"camera {len(cameras) + 1}")
        cameras.append(StandingCamera(name, camera, _rigid(turn, -turn @ stands_m)))
    return cameras


def _attributes(element: ElementTree.Element, name: str) -> Mapping[str, str]:
    found = element.find(name)
    if found is None:
        raise KeyError(name)
    return found.attrib


def _from_toml(content: bytes) -> list[StandingCamera]:
    """Pose2Sim's (and OpenCV's) cameras: rotation vector and translation, metres, bring the world into the camera."""
    cameras = []
    for key, table in toml_table(content.decode("utf-8")).items():
        if not isinstance(table, dict) or "matrix" not in table:
            continue
        matrix = np.array(table["matrix"], float)
        distortion = [float(value) for value in table.get("distortions", [])][:5]
        k1, k2, p1, p2, k3 = distortion + [0.0] * (5 - len(distortion))
        width, height = (round(float(value)) for value in table["size"])
        camera = Camera(
            (width, height),
            (float(matrix[0, 0]), float(matrix[1, 1])),
            (float(matrix[0, 2]), float(matrix[1, 2])),
            (k1, k2, p1, p2, k3),
        )
        turn = to_matrix(from_rotation_vector(np.array(table["rotation"], float).reshape(3)))
        place = np.array(table["translation"], float).reshape(3)
        cameras.append(StandingCamera(str(table.get("name", key)), camera, _rigid(turn, place)))
    return cameras


def _rigid(turn: np.ndarray, move_m: np.ndarray) -> np.ndarray:
    if not np.allclose(turn @ turn.T, np.eye(3), atol=1e-3) or np.linalg.det(turn) < 0:
        raise ValueError("a camera is mirrored or sheared")
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, move_m
    return matrix


# ---- Triangulation --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Triangulation:
    """Points that several cameras agree on.

    points_m: (F, P, 3) world, NaN where fewer than two views agree
    used:     (V, F, P) True where a view was believed
    off_px:   (V, F, P) how far each view's keypoint lies from the point's picture, left and right put right
    """

    points_m: np.ndarray
    used: np.ndarray
    off_px: np.ndarray


def _triangulated(rays: np.ndarray, weight: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """(V, ..., 2) rays with weights (V, ...) -> (..., 3) world points nearest to them, by linear least squares.

    matrices: (V, 4, 4) camera from world
    """
    right = np.zeros((*rays.shape[1:-1], 3))
    left = np.zeros((*rays.shape[1:-1], 3, 3))
    for ray, trust, matrix in zip(rays, weight, matrices, strict=True):
        known = np.isfinite(ray).all(axis=-1) & (trust > 0)
        ray, trust = np.where(known[..., None], ray, 0.0), np.where(known, trust, 0.0)
        for axis in (0, 1):
            row = ray[..., axis, None] * matrix[2] - matrix[axis]
            left += trust[..., None, None] * row[..., :3, None] * row[..., None, :3]
            right -= trust[..., None] * row[..., :3] * row[..., 3:]
    # A hair of regularity, so that points that nobody sees are nonsense rather than an error; they are NaN later.
    return np.asarray(np.linalg.solve(left + 1e-12 * np.eye(3), right[..., None])[..., 0])


def _off_m(rays: np.ndarray, points_m: np.ndarray, matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(V, ...) distance of each ray from the points at their depth, metres, infinite behind a camera; and the depth."""
    off, depths = [], []
    for ray, matrix in zip(rays, matrices, strict=True):
        local = points_m @ matrix[:3, :3].T + matrix[:3, 3]
        depth = local[..., 2]
        distance = np.linalg.norm(local[..., :2] - ray * depth[..., None], axis=-1)
        off.append(np.where(np.isfinite(distance) & (depth > 0.1), distance, np.inf))
        depths.append(depth)
    return np.stack(off), np.stack(depths)


def _agreed(rays: np.ndarray, confidence: np.ndarray, matrices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., 3) points and (V, ...) which views agree on them: the pair of views that most others side with, refined.

    Fischler and Bolles, "Random sample consensus", 1981; with so few views every pair is tried.
    """
    views = len(rays)
    ways = np.stack([matrix[:3, :3].T @ np.array([0.0, 0.0, 1.0]) for matrix in matrices])
    best = np.full(rays.shape[1:-1], -np.inf)
    points = np.full((*rays.shape[1:-1], 3), np.nan)
    for pair in combinations(range(views), 2):
        # Two cameras face to face see no more depth than two side by side.
        if abs(ways[pair[0]] @ ways[pair[1]]) > np.cos(_NARROWEST_ANGLE_RAD):
            continue
        chosen = list(pair)
        candidate = _triangulated(rays[chosen], confidence[chosen], matrices[chosen])
        off, _ = _off_m(rays, candidate, matrices)
        support = (confidence * np.maximum(1 - (off / _AGREES_WITHIN_M) ** 2, 0)).sum(axis=0)
        both = np.isfinite(rays[chosen]).all(axis=(0, -1))
        better = both & (support > best)
        best, points = np.where(better, support, best), np.where(better[..., None], candidate, points)
    for _ in range(5):
        off, depth = _off_m(rays, points, matrices)
        weight = confidence / (1 + (off / _KEYPOINT_DEVIATION_M) ** 2) / np.maximum(depth, 0.1) ** 2
        weight = np.where(off < _AGREES_WITHIN_M, weight, 0.0)
        enough = (weight > 0).sum(axis=0) >= 2
        points = np.where(enough[..., None], _triangulated(rays, weight, matrices), np.nan)
    off, _ = _off_m(rays, points, matrices)
    return points, off < _AGREES_WITHIN_M


def _with_sides_put_right(rays: np.ndarray, confidence: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """(V, F, P) which point each one's keypoint really is: left and right exchanged where that agrees with the others.

    Every combination of views is tried for each pair of joints and frame; the fewest exchanges win ties.
    """
    order = np.broadcast_to(np.arange(rays.shape[2]), rays.shape[:3]).copy()
    views = len(rays)
    for left, right in _PAIRS:
        pair, trust = rays[:, :, [left, right]], confidence[:, :, [left, right]]
        best = np.full(rays.shape[1], np.inf)
        exchanged = np.zeros((views, rays.shape[1]), bool)
        # Which side is which is the majority's word.
        for count in range(views // 2 + 1):
            for chosen in combinations(range(views), count):
                tried, tried_trust = pair.copy(), trust.copy()
                tried[list(chosen)] = pair[list(chosen)][:, :, ::-1]
                tried_trust[list(chosen)] = trust[list(chosen)][:, :, ::-1]
                points, _ = _agreed(tried, tried_trust, matrices)
                off, _ = _off_m(tried, points, matrices)
                off = np.minimum(off, _AGREES_WITHIN_M) / _KEYPOINT_DEVIATION_M
                cost = (tried_trust * np.log1p(off**2) * 2).sum(axis=(0, 2)) + _EXCHANGE_COST * count
                better = cost < best
                best = np.where(better, cost, best)
                exchanged[:, better] = False
                for view in chosen:
                    exchanged[view, better] = True
        order[..., left] = np.where(exchanged, right, left)
        order[..., right] = np.where(exchanged, left, right)
    return order


def triangulate(cameras: Sequence[StandingCamera], tracks: Sequence[KeypointTrack]) -> Triangulation:
    """Points that the views of one person agree on; tracks are of ``mediapipe33`` over the same frames."""
    rays, confidence = _seen(cameras, tracks)
    matrices = np.stack([camera.camera_from_world for camera in cameras])
    order = _with_sides_put_right(rays, confidence, matrices)
    rays = np.take_along_axis(rays, order[..., None], axis=2)
    confidence = np.take_along_axis(confidence, order, axis=2)
    points, used = _agreed(rays, confidence, matrices)
    off, depth = _off_m(rays, points, matrices)
    focal = np.array([camera.camera.focal_px[0] for camera in cameras])[:, None, None]
    with np.errstate(invalid="ignore"):
        off_px = np.where(np.isfinite(off), off / depth * focal, np.nan)
    return Triangulation(points, used & np.isfinite(points).all(axis=-1), off_px)


def _seen(cameras: Sequence[StandingCamera], tracks: Sequence[KeypointTrack]) -> tuple[np.ndarray, np.ndarray]:
    """(V, F, P, 2) rays and (V, F, P) confidences of the points that are triangulated."""
    if len(cameras) != len(tracks) or len(tracks) < 2:
        raise FileFormatError("Triangulation wants two views or more, and a camera for each.")
    first = tracks[0]
    for track in tracks:
        if track.layout != "mediapipe33":
            raise FileFormatError(f"Triangulation wants MediaPipe's keypoints, not '{track.layout}'.")
        if len(track.time_s) != len(first.time_s) or not np.allclose(track.time_s, first.time_s, atol=5e-3):
            raise FileFormatError("The views are not of the same frames. Cut the clips so that they start together.")
    rays = np.stack([c.camera.rays(t.xy_px[:, _PLACES]) for c, t in zip(cameras, tracks, strict=True)])
    return rays, np.stack([track.confidence[:, _PLACES] for track in tracks])


def with_refined_turns(
    cameras: Sequence[StandingCamera], tracks: Sequence[KeypointTrack]
) -> tuple[list[StandingCamera], np.ndarray]:
    """The cameras turned on their spots until their keypoints agree best, and (V,) by how many degrees.

    Places and lenses stay as calibrated, so the room keeps its size and, but for tenths of a degree, its axes.
    """
    rays, confidence = _seen(cameras, tracks)
    step = max(1, rays.shape[1] // _FRAMES_TO_REFINE)
    limbs = [place for place, name in enumerate(_NAMES) if name not in ("nose", "left_ear", "right_ear")]
    rays, confidence = rays[:, ::step][:, :, limbs], confidence[:, ::step][:, :, limbs]

    def disagreement(turns_rad: np.ndarray) -> np.ndarray:
        turned = [camera.turned(by) for camera, by in zip(cameras, turns_rad.reshape(-1, 3), strict=True)]
        matrices = np.stack([camera.camera_from_world for camera in turned])
        points, weight = np.full((*rays.shape[1:-1], 3), np.nan), np.nan_to_num(confidence)
        for _ in range(6):
            points = _triangulated(rays, weight, matrices)
            off, depth = _off_m(rays, points, matrices)
            weight = confidence / (1 + (off / _AGREES_WITHIN_M) ** 2) / np.maximum(depth, 0.1) ** 2
        local = [points @ matrix[:3, :3].T + matrix[:3, 3] for matrix in matrices]
        off_m = np.stack([p[..., :2] - ray * p[..., 2:] for p, ray in zip(local, rays, strict=True)])
        return np.asarray(np.nan_to_num(off_m * confidence[..., None]).ravel() / _KEYPOINT_DEVIATION_M)

    found = least_squares(disagreement, np.zeros(3 * len(cameras)), loss="soft_l1", max_nfev=30)
    turns_rad = found.x.reshape(-1, 3)
    refined = [camera.turned(by) for camera, by in zip(cameras, turns_rad, strict=True)]
    return refined, np.degrees(np.linalg.norm(turns_rad, axis=-1))


def smoothed_points(points_m: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """(F, P, 3) with gaps of up to a tenth of a second bridged and noise faster than people taken out.

    Whittaker, "On a new method of graduation", 1923: the third difference is penalised so that half of the amplitude is
    left at the cut-off, whatever the frame rate. Longer gaps stay NaN.
    """
    frames = len(time_s)
    result = np.full_like(points_m, np.nan)
    if frames < 4:
        return np.where(np.isfinite(points_m), points_m, np.nan)
    period_s = float(np.median(np.diff(time_s)))
    penalty = 1 / (2 * np.sin(np.pi * min(_CUT_OFF_HZ * period_s, 0.5))) ** 6
    bands = np.zeros((4, frames))
    for row in range(4):
        for column in range(row + 1):
            bands[row - column, column : column + frames - 3] += penalty * _THIRD[row] * _THIRD[column]
    for point in range(points_m.shape[1]):
        known = np.isfinite(points_m[:, point]).all(axis=-1)
        if known.sum() < 4:
            continue
        system = bands.copy()
        system[0] += known
        filled = solveh_banded(system, np.where(known[:, None], points_m[:, point], 0.0), lower=True)
        rows = np.flatnonzero(known)
        after = np.clip(np.searchsorted(time_s[rows], time_s), 1, len(rows) - 1)
        nearest = np.minimum(np.abs(time_s - time_s[rows[after - 1]]), np.abs(time_s[rows[after]] - time_s))
        inside = (np.arange(frames) >= rows[0]) & (np.arange(frames) <= rows[-1])
        result[inside & (nearest <= _LONGEST_BRIDGE_S / 2), point] = filled[inside & (nearest <= _LONGEST_BRIDGE_S / 2)]
    return result


# ---- Shots ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FilmedView:
    """One camera's clip of the person.

    keypoints, detector_world_m: by the detector's model, as in ``Shot``
    """

    name: str
    keypoints: Mapping[str, KeypointTrack]
    detector_world_m: Mapping[str, np.ndarray]


def shots_of_views(
    views: Sequence[FilmedView], cameras: Sequence[StandingCamera], model: str, source: str
) -> tuple[list[Shot], dict[str, float]]:
    """A shot for each view, and how well the truth agrees with the keypoints that it is from.

    cameras: in the order of the views
    model:   whose keypoints the truth is made of
    source:  what is said of the footage in each shot

    Joints are where MediaPipe's points are, seen from all sides: not in the middle of the joint to the centimetre.
    """
    tracks = [view.keypoints[model] for view in views]
    cameras = [for_picture(camera, track) for camera, track in zip(cameras, tracks, strict=True)]
    before = triangulate(cameras, tracks)
    cameras, turned_deg = with_refined_turns(cameras, tracks)
    after = triangulate(cameras, tracks)
    time_s = tracks[0].time_s
    points_m = smoothed_points(after.points_m, time_s)
    shots = []
    for view, camera in zip(views, cameras, strict=True):
        truth_m = np.full((len(time_s), len(LANDMARKS_41), 3), np.nan)
        truth_m[:, _LANDMARKS] = camera.to_camera(points_m)
        shots.append(
            Shot(
                name=view.name,
                keypoints=view.keypoints,
                detector_world_m=view.detector_world_m,
                camera=camera.camera,
                truth_m=truth_m,
                truth_rotations_wxyz=None,
                truth_contact=None,
                world_from_camera=np.linalg.inv(camera.camera_from_world),
                time_s=view.keypoints[model].time_s,
                fps=float((len(time_s) - 1) / (time_s[-1] - time_s[0])) if len(time_s) > 1 else 30.0,
                source=source,
            )
        )
    smoothed_m = np.linalg.norm(points_m - after.points_m, axis=-1)
    report = {
        "off_as_calibrated_px": float(np.nanmedian(before.off_px)),
        "off_px": float(np.nanmedian(after.off_px)),
        "off_p95_px": float(np.nanpercentile(after.off_px, 95)),
        "views_believed": float(after.used.mean()),
        "points_known": float(np.isfinite(points_m).all(axis=-1).mean()),
        "smoothing_took_out_mm": float(1000 * np.nanmedian(smoothed_m)),
        "cameras_turned_deg": float(turned_deg.max()),
    }
    return shots, report


def for_picture(camera: StandingCamera, track: KeypointTrack) -> StandingCamera:
    """The camera for pictures of the track's size: a few columns fewer were cut off, another resolution was scaled."""
    width, height = camera.camera.size_px
    cut = abs(track.size_px[0] - width) <= 0.02 * width and abs(track.size_px[1] - height) <= 0.02 * height
    lens = replace(camera.camera, size_px=track.size_px) if cut else camera.camera.resized(track.size_px)
    return replace(camera, camera=lens)
