"""Whole sequences through a network in training, for validation."""

from __future__ import annotations

import numpy as np
import torch

from ...core.lifter.network import TemporalLifter
from ...core.skeletons import KEYPOINT_LAYOUTS, Skeleton, mirrored_layout

CHUNK_FRAMES = 4096


class NetworkLift:
    """(F, K, C) screen-normalised keypoints -> (F, J, 3) metres by a network as it is at the time of the call."""

    def __init__(self, network: TemporalLifter, layout: str, skeleton: Skeleton, test_time_flip: bool = True) -> None:
        self.network, self.test_time_flip = network, test_time_flip
        self._points, self._joints = mirrored_layout(KEYPOINT_LAYOUTS[layout]), skeleton.mirrored_order()

    def __call__(self, keypoints: np.ndarray) -> np.ndarray:
        """Lift every frame of a sequence, its ends repeated."""
        field = self.network.config.receptive_field
        before = field - 1 if self.network.config.causal else field // 2
        padded = np.pad(keypoints, ((before, field - 1 - before), (0, 0), (0, 0)), "edge").astype(np.float32)
        pieces = [
            self._piece(padded[first : first + CHUNK_FRAMES + field - 1])
            for first in range(0, len(keypoints), CHUNK_FRAMES)
        ]
        return np.concatenate(pieces)

    def _piece(self, keypoints: np.ndarray) -> np.ndarray:
        inputs = [keypoints]
        if self.test_time_flip:
            mirrored = keypoints[:, self._points].copy()
            mirrored[..., 0] *= -1
            inputs.append(mirrored)
        with torch.inference_mode():
            device = self.network.shrink.weight.device
            positions = self.network(torch.from_numpy(np.stack(inputs)).to(device)).cpu().numpy()
        if not self.test_time_flip:
            return positions[0]
        back = positions[1][:, self._joints].copy()
        back[..., 0] *= -1
        return (positions[0] + back) / 2
