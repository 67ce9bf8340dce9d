"""A shot: what a detector saw of one person in a clip, and where the person really was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.array_files import parse_arrays, write_arrays
from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.segments import SEGMENTS
from ...core.skeletons import LANDMARKS_41, MEDIAPIPE_33_NAMES
from ...core.source import Source
from ...core.tracks import KeypointTrack

SHOT_ENDING = ".shot.npz"
SHOT_SCHEMA = 1
# The models whose keypoints a shot may hold: MediaPipe's, and noise that is made like theirs.
DETECTOR_MODELS = ("lite", "full", "heavy", "synthetic")

_KIND = "shot"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FileFormatError(message)


@dataclass(frozen=True, eq=False)
class Shot:
    """One person in one clip of a camera that stands still.

    name:                 what it is called; a plain file name
    keypoints:            what a detector's model (a name in ``DETECTOR_MODELS``) saw, unrepaired, over the same frames
                          as the truth
    detector_world_m:     (F, 33, 3) by model: MediaPipe's world landmarks turned to camera axes (x right, y down,
                          z forward), about the middle of the hips, NaN = none
    camera:               the true lens
    truth_m:              (F, 41, 3) ``LANDMARKS_41`` in camera space, metres, NaN where unknown
    truth_rotations_wxyz: (F, S, 4) camera space from T-pose axes for each of ``core.segments.SEGMENTS``, NaN where
                          unknown; None = unknown
    truth_contact:        (F, 4) in [0, 1], left heel, left toe, right heel, right toe; None = unknown
    world_from_camera:    (4, 4) rigid, metres; world is z up with the floor at z = 0; None = gravity is unknown
    time_s:               (F,) seconds, strictly growing
    fps:                  frames a second
    source:               where the footage and the truth come from, with licence, for people
    """

    name: str
    keypoints: Mapping[str, KeypointTrack]
    detector_world_m: Mapping[str, np.ndarray]
    camera: Camera
    truth_m: np.ndarray
    truth_rotations_wxyz: np.ndarray | None
    truth_contact: np.ndarray | None
    world_from_camera: np.ndarray | None
    time_s: np.ndarray
    fps: float
    source: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "keypoints", dict(self.keypoints))
        object.__setattr__(self, "detector_world_m", dict(self.detector_world_m))
        plain = bool(self.name) and not self.name.startswith(".") and not set(self.name) & set('/\\:*?"<>|')
        _require(plain, f"'{self.name}' is no name for a shot: it must do as a file's name.")
        frames = len(self.time_s)
        _require(frames > 0 and self.time_s.shape == (frames,), "time_s must have shape (frames,).")
        _require(bool(np.isfinite(self.time_s).all() and (np.diff(self.time_s) > 0).all()), "time_s must grow.")
        _require(np.isfinite(self.fps) and self.fps > 0, "fps must be positive.")
        self._check_truth(frames)
        self._check_detections(frames)

    @property
    def truth_at_sites(self) -> bool:
        """Whether the truth is where a detector marks points, not where joints turn: it was made of keypoints.

        Such a truth knows no turns of segments.
        """
        return self.truth_rotations_wxyz is None

    def _check_truth(self, frames: int) -> None:
        for name, array, shape in (
            ("truth_m", self.truth_m, (frames, len(LANDMARKS_41), 3)),
            ("truth_rotations_wxyz", self.truth_rotations_wxyz, (frames, len(SEGMENTS), 4)),
            ("truth_contact", self.truth_contact, (frames, 4)),
            ("world_from_camera", self.world_from_camera, (4, 4)),
        ):
            if array is not None:
                _require(array.shape == shape, f"{name} must have shape {shape}, not {array.shape}.")
                _require(not np.isinf(array).any(), f"{name} must not be infinite.")
        _require(bool(np.isfinite(self.truth_m).all(axis=-1).any()), "truth_m knows no landmark in any frame.")
        if self.truth_rotations_wxyz is not None:
            length = np.linalg.norm(self.truth_rotations_wxyz, axis=-1)
            _require(bool((np.isnan(length) | (np.abs(length - 1) < 1e-3)).all()), "Quaternions must have length 1.")
        if self.truth_contact is not None:
            inside = (self.truth_contact >= 0) & (self.truth_contact <= 1)
            _require(bool(inside.all()), "truth_contact must lie between 0 and 1.")
        if self.world_from_camera is not None:
            turn = self.world_from_camera[:3, :3]
            rigid = np.allclose(turn @ turn.T, np.eye(3), atol=1e-4) and np.linalg.det(turn) > 0
            rigid = rigid and np.allclose(self.world_from_camera[3], [0, 0, 0, 1])
            _require(rigid, "world_from_camera must be a turn and a move.")

    def _check_detections(self, frames: int) -> None:
        _require(bool(self.keypoints), "A shot needs the keypoints of at least one model.")
        for model, track in self.keypoints.items():
            _require(model in DETECTOR_MODELS, f"Unknown detector model '{model}'; {', '.join(DETECTOR_MODELS)} are.")
            _require(
                len(track.time_s) == frames and np.allclose(track.time_s, self.time_s, atol=1e-3),
                f"The keypoints of '{model}' are of other times than the truth.",
            )
            _require(track.size_px == self.camera.size_px, f"The keypoints of '{model}' are of another picture size.")
        for model, points in self.detector_world_m.items():
            _require(model in self.keypoints, f"There are world landmarks of '{model}' but no keypoints.")
            shape = (frames, len(MEDIAPIPE_33_NAMES), 3)
            _require(points.shape == shape, f"World landmarks must have shape {shape}, not {points.shape}.")
            _require(not np.isinf(points).any(), "World landmarks must not be infinite.")


def write_shot(path: Path, shot: Shot) -> None:
    """Write ``shot`` as ``*.shot.npz``; see docs/file-formats.md."""
    arrays = {
        "name": shot.name,
        "models": np.array(sorted(shot.keypoints)),
        "focal_px": np.array(shot.camera.focal_px),
        "centre_px": np.array(shot.camera.centre_px),
        "size_px": np.array(shot.camera.size_px, np.int64),
        "distortion": np.array(shot.camera.distortion),
        "truth_m": shot.truth_m.astype(np.float32),
        "time_s": shot.time_s.astype(np.float64),
        "fps": float(shot.fps),
        "source": shot.source,
        "schema_version": SHOT_SCHEMA,
    }
    for name, known, kind in (
        ("truth_rotations_wxyz", shot.truth_rotations_wxyz, np.float32),
        ("truth_contact", shot.truth_contact, np.float32),
        ("world_from_camera", shot.world_from_camera, np.float64),
    ):
        if known is not None:
            arrays[name] = known.astype(kind)
    for model, track in shot.keypoints.items():
        arrays |= {
            f"{model}_xy_px": track.xy_px.astype(np.float32),
            f"{model}_confidence": track.confidence.astype(np.float32),
            f"{model}_filled": track.filled.astype(bool),
            f"{model}_changes": track.changes,
            f"{model}_frame_index": track.frame_index.astype(np.int64),
            f"{model}_layout": track.layout,
            f"{model}_detector": track.detector,
            f"{model}_footage": np.array([track.source.name, track.source.sha256]),
        }
    for model, points in shot.detector_world_m.items():
        arrays[f"{model}_world_m"] = points.astype(np.float32)
    write_arrays(path, arrays)


def read_shot(path: Path) -> Shot:
    """Read ``*.shot.npz``. Raises FileFormatError when it is not one."""

    def make(arrays: dict[str, np.ndarray]) -> Shot:
        width, height = (int(value) for value in arrays["size_px"])
        fx, fy = (float(value) for value in arrays["focal_px"])
        cx, cy = (float(value) for value in arrays["centre_px"])
        k1, k2, p1, p2, k3 = (float(value) for value in arrays["distortion"])
        time_s = arrays["time_s"].astype(np.float64)
        models = [str(model) for model in arrays["models"]]

        def track(model: str) -> KeypointTrack:
            name, sha256 = (str(value) for value in arrays[f"{model}_footage"])
            return KeypointTrack(
                xy_px=arrays[f"{model}_xy_px"].astype(np.float64),
                confidence=arrays[f"{model}_confidence"].astype(np.float64),
                time_s=time_s,
                frame_index=arrays[f"{model}_frame_index"].astype(np.int64),
                layout=str(arrays[f"{model}_layout"]),
                size_px=(width, height),
                filled=arrays[f"{model}_filled"].astype(bool),
                source=Source(name, sha256),
                detector=str(arrays[f"{model}_detector"]),
                changes=arrays[f"{model}_changes"].astype(np.uint8, casting="safe"),
            )

        def known(name: str) -> np.ndarray | None:
            return arrays[name].astype(np.float64) if name in arrays else None

        return Shot(
            name=str(arrays["name"]),
            keypoints={model: track(model) for model in models},
            detector_world_m={
                model: arrays[f"{model}_world_m"].astype(np.float64) for model in models if f"{model}_world_m" in arrays
            },
            camera=Camera((width, height), (fx, fy), (cx, cy), (k1, k2, p1, p2, k3)),
            truth_m=arrays["truth_m"].astype(np.float64),
            truth_rotations_wxyz=known("truth_rotations_wxyz"),
            truth_contact=known("truth_contact"),
            world_from_camera=known("world_from_camera"),
            time_s=time_s,
            fps=float(arrays["fps"]),
            source=str(arrays["source"]),
        )

    return parse_arrays(path, _KIND, "truth_m", SHOT_SCHEMA, make)


def read_shots(folder: Path) -> list[Shot]:
    """Every ``*.shot.npz`` of ``folder``, by file name. Raises FileFormatError when there is none."""
    paths = sorted(folder.glob(f"*{SHOT_ENDING}")) if folder.is_dir() else []
    if not paths:
        raise FileFormatError(
            f"There is no *{SHOT_ENDING} in '{folder}'. Make some, see docs/accuracy.md, or name another folder."
        )
    return [read_shot(path) for path in paths]
