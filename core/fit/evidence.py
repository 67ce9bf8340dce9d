"""What was seen of a person: all that the fit has to agree with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..detector_sites import detector_sites
from ..skeletons import LANDMARKS_41
from .settings import FitSettings

# Eyes, small toes and finger tips say nothing that nose, big toes and knuckles don't.
_UNASKED = ("l_eye", "r_eye", "l_small_toe", "r_small_toe", "l_fingertip", "r_fingertip")
ROOTED = [joint for joint, name in enumerate(LANDMARKS_41.names) if joint > 0 and name not in _UNASKED]


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


def disagreement(landmarks_m: np.ndarray, seen: Evidence, settings: FitSettings) -> float:
    """How badly landmarks (F, 41, 3) agree with keypoints and lifter: sum of the robust terms, mean over frames."""
    turn, move = seen.camera_from_space[:, :, :3], seen.camera_from_space[:, :, 3]
    sites = detector_sites(landmarks_m) @ turn.swapaxes(1, 2) + move[:, None]
    miss = np.linalg.norm(sites[..., :2] - seen.rays * sites[..., 2:], axis=-1) / settings.keypoint_m
    keypoints = seen.confidence**2 * (np.sqrt(1 + miss**2) - 1)
    off = np.linalg.norm(landmarks_m - landmarks_m[:, :1] - seen.lifted_m, axis=-1)[:, ROOTED]
    lifted = np.sqrt(1 + (off / (settings.lifted * np.maximum(seen.expected_error_m[:, ROOTED], 0.005))) ** 2) - 1
    return float((keypoints.sum(axis=1) + lifted.sum(axis=1)).mean())
