"""A causal lifter on frames as they come: each layer works out its newest frame only, and remembers the others."""

from __future__ import annotations

from collections import deque

import numpy as np
import torch
from torch import Tensor

from ..errors import WeightsError
from .folding import FoldedBlock, fold
from .keypoint_lifter import KeypointLifter
from .matrix_product import MatrixProduct


class _TapBuffer:
    """The last frames of what goes into a convolution, each (R, C)."""

    def __init__(self, taps: int, dilation: int) -> None:
        self._dilation = dilation
        self._frames: deque[Tensor] = deque(maxlen=(taps - 1) * dilation + 1)

    def push(self, newest: Tensor) -> Tensor:
        """What the taps see now, side by side, oldest first: (R, taps * C)."""
        if not self._frames:
            # Before the first frame, everything was as in the first frame.
            self._frames.extend([newest] * (self._frames.maxlen or 0))
        else:
            self._frames.append(newest)
        return torch.cat([self._frames[at] for at in range(0, len(self._frames), self._dilation)], dim=1)

    def clear(self) -> None:
        self._frames.clear()


class _StreamedBlock:
    def __init__(self, folded: FoldedBlock, rows: int, device: torch.device) -> None:
        self.buffer = _TapBuffer(folded.shape.kernel, folded.shape.dilation)
        wide = folded.wide.transpose(1, 2).flatten(1)
        self._wide = MatrixProduct(wide.to(device), folded.wide_bias.to(device), rows)
        self._narrow = MatrixProduct(folded.narrow.to(device), folded.narrow_bias.to(device), rows)

    def push(self, newest: Tensor) -> Tensor:
        """(R, C) -> (R, C)"""
        return newest + self._narrow(self._wide(self.buffer.push(newest), relu=True), relu=True)


class StreamingLifter:
    """Lifts one frame at a time; gives what ``KeypointLifter.lift_normalised`` gives for the whole clip.

    A frame costs one column of each layer, whatever the receptive field. Raises WeightsError when ``lifter`` is not
    causal: a frame of such a lifter depends on frames that have not come yet.
    """

    def __init__(self, lifter: KeypointLifter, test_time_flip: bool = True) -> None:
        if not lifter.causal:
            raise WeightsError(
                "These weights look at later frames too, so they can't lift frames as they come. Use causal weights "
                "(causal = true in training), or lift the whole clip."
            )
        self._lifter = lifter
        folded = fold(lifter.network, lifter.mirror() if test_time_flip else None)
        device, self._lanes = lifter.device, folded.lanes
        self._keypoints = _TapBuffer(folded.config.widths[0], 1)
        self._expand = MatrixProduct(folded.expand.to(device), folded.expand_bias.to(device), 1)
        self._blocks = [_StreamedBlock(block, folded.lanes, device) for block in folded.blocks]
        self._shrink = MatrixProduct(folded.shrink.to(device), folded.shrink_bias.to(device), 1)

    @torch.inference_mode()
    def push(self, keypoints: np.ndarray) -> np.ndarray:
        """Lift the next frame: (K, C) screen-normalised -> (J, 3) float32 metres, camera axes.

        Raises WeightsError or FileFormatError when the keypoints are not what the weights take; the frame is then not
        remembered.
        """
        checked = torch.from_numpy(self._lifter.checked(np.asarray(keypoints)[None])).to(self._lifter.device)
        x = self._expand(self._keypoints.push(checked.flatten(1).clone()), relu=True).view(self._lanes, -1)
        for block in self._blocks:
            x = block.push(x)
        return self._shrink(x.view(1, -1)).view(-1, 3).cpu().numpy()

    def reset(self) -> None:
        """Forget all frames: the next one is the first of a clip."""
        self._keypoints.clear()
        for block in self._blocks:
            block.buffer.clear()
