"""A lifter on whole clips: every frame once, piece by piece, with as few multiplications as will do.

What a block must still know of the frames before a piece it keeps, so pieces cost nothing twice, memory does not grow
with the clip, and cutting it up changes nothing but the last bits of rounding.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import KeyliftError
from .folding import FoldedBlock, FoldedLifter
from .matrix_product import MatrixProduct
from .minimal_filters import (
    OUTPUTS,
    PRODUCT_OF_THE_BIAS,
    PRODUCTS,
    TAPS,
    filtered_frames,
    transform_frames,
    transformed_taps,
)

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Four tiles of the widest block of the 243-frame network: enough rows for the products to run at full speed, and
# arrays of tens of MB at most.
CHUNK_FRAMES = 1296
# Taps that are laid side by side for one matrix product.
_TAPS_AT_ONCE = 4


class _PlainConvolution:
    """x (T, R, C) -> relu(filtered + bias), (T - (taps - 1) * dilation, R, C), as sums of matrix products."""

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int) -> None:
        """weight (C, C, taps), bias (C,)"""
        self._dilation, self._taps = dilation, weight.shape[2]
        self._products = []
        for first in range(0, self._taps, _TAPS_AT_ONCE):
            part = weight[:, :, first : first + _TAPS_AT_ONCE].transpose(1, 2).flatten(1)
            self._products.append(MatrixProduct(part, None if first else bias, CHUNK_FRAMES))

    def __call__(self, x: Tensor) -> Tensor:
        channels, rows = x.shape[2], x.shape[1]
        frames = len(x) - (self._taps - 1) * self._dilation
        total: Tensor | None = None
        for number, product in enumerate(self._products):
            taps = range(number * _TAPS_AT_ONCE, min((number + 1) * _TAPS_AT_ONCE, self._taps))
            side_by_side = torch.cat([x[tap * self._dilation :][:frames] for tap in taps], dim=2)
            part = product(side_by_side.view(frames * rows, len(taps) * channels), relu=len(self._products) == 1)
            total = part if total is None else total.add_(part)
        assert total is not None
        return (total if len(self._products) == 1 else total.relu_()).view(frames, rows, channels)


class _ShortConvolution:
    """What ``_PlainConvolution`` gives for three taps, by minimal filters on whole tiles, plainly on what is left.

    A tile is four runs of ``dilation`` frames each; all frames of a run are filtered alike.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dilation: int) -> None:
        self._dilation = dilation
        self._plain = _PlainConvolution(weight, bias, dilation)
        # On the CPU, which has float64, so that they are rounded once.
        self._products = [
            MatrixProduct(part.to(weight), bias if number == PRODUCT_OF_THE_BIAS else None, CHUNK_FRAMES // OUTPUTS)
            for number, part in enumerate(transformed_taps(weight.cpu()))
        ]

    def __call__(self, x: Tensor) -> Tensor:
        rows, channels = x.shape[1:]
        frames = len(x) - (TAPS - 1) * self._dilation
        run, step = self._dilation * rows * channels, OUTPUTS * self._dilation
        tiles = frames // step
        y = x.new_empty(frames, rows, channels)
        if tiles:
            runs = [
                x[tap * self._dilation :].flatten().unfold(0, run, OUTPUTS * run)[:tiles] for tap in range(PRODUCTS)
            ]
            factors = x.new_empty(PRODUCTS, tiles, run)
            transform_frames(runs, list(factors))
            products = [
                product(factor.view(-1, channels)).view(tiles, run)
                for product, factor in zip(self._products, factors, strict=True)
            ]
            whole = y[: tiles * step]
            filtered_frames(products, whole.view(tiles, OUTPUTS, run).unbind(1))
            whole.relu_()
        if tiles * step < frames:
            y[tiles * step :] = self._plain(x[tiles * step :])
        return y


class _Block:
    """A residual block, (T, R, C) -> (T - 2 pad, R, C); the residual stays in the precision that it comes in."""

    def __init__(self, folded: FoldedBlock, device: torch.device, dtype: torch.dtype) -> None:
        self.shape, self._dtype = folded.shape, dtype
        wide, wide_bias = folded.wide.to(device, dtype), folded.wide_bias.to(device, dtype)
        self._wide: _ShortConvolution | _PlainConvolution
        short = dtype == torch.float32 and folded.shape.kernel == TAPS
        if short and OUTPUTS * folded.shape.dilation <= CHUNK_FRAMES:
            self._wide = _ShortConvolution(wide, wide_bias, folded.shape.dilation)
        else:
            self._wide = _PlainConvolution(wide, wide_bias, folded.shape.dilation)
        narrow, narrow_bias = folded.narrow.to(device, dtype), folded.narrow_bias.to(device, dtype)
        self._narrow = MatrixProduct(narrow, narrow_bias, CHUNK_FRAMES)

    def __call__(self, x: Tensor) -> Tensor:
        y = self._wide(x.to(self._dtype))
        y = self._narrow(y.view(-1, y.shape[2]), relu=True).view(y.shape)
        return x[self.shape.residual_of(len(x))] + y


class DenseLifter:
    """A folded lifter, ready for clips of any length.

    precision: float32, or bfloat16 for the block's products: faster where the processor has it, and off by some
               thousandths of the output
    """

    def __init__(self, folded: FoldedLifter, device: torch.device, precision: str = "float32") -> None:
        if precision not in PRECISIONS:
            raise KeyliftError(f"There is no precision '{precision}'. Choose {' or '.join(PRECISIONS)}.")
        self._config, self._lanes, self._device = folded.config, folded.lanes, device
        self._expand = MatrixProduct(folded.expand.to(device), folded.expand_bias.to(device), CHUNK_FRAMES)
        self._blocks = [_Block(block, device, PRECISIONS[precision]) for block in folded.blocks]
        self._shrink = MatrixProduct(folded.shrink.to(device), folded.shrink_bias.to(device), CHUNK_FRAMES)

    @torch.inference_mode()
    def __call__(self, keypoints: np.ndarray, chunk_frames: int = CHUNK_FRAMES) -> np.ndarray:
        """(F, K, C) float32 -> (F, J, 3) float32, the first and the last frame standing in for those beyond them.

        chunk_frames: frames that are worked on at once
        """
        frames = len(keypoints)
        positions = np.empty((frames, self._config.joints_out, 3), np.float32)
        expanded_frames = frames + self._config.receptive_field - self._config.widths[0]
        pasts: list[Tensor | None] = [None] * len(self._blocks)
        done, first = 0, 0
        while done < frames:
            # The first piece also has to bring the frames before the clip.
            last = min(first + chunk_frames + (0 if first else self._config.receptive_field - 1), expanded_frames)
            x = self._expanded(keypoints, first, last)
            for index, block in enumerate(self._blocks):
                past = pasts[index]
                x = x if past is None else torch.cat([past, x])
                pasts[index] = x[max(len(x) - 2 * block.shape.pad, 0) :].clone()
                x = block(x)
            lifted = self._shrink(x.view(len(x), -1)).cpu().numpy()
            positions[done : done + len(x)] = lifted.reshape(len(x), -1, 3)
            done, first = done + len(x), last
        return positions

    def _expanded(self, keypoints: np.ndarray, first: int, last: int) -> Tensor:
        """Frames ``first`` to ``last`` - 1 of what the first convolution gives on the padded clip, (T, lanes, C)."""
        width, before = self._config.widths[0], self._config.padding[0]
        wanted = np.arange(first, last)[:, None] + np.arange(width) - before
        windows = keypoints[np.clip(wanted, 0, len(keypoints) - 1)].reshape(last - first, -1)
        expanded = self._expand(torch.from_numpy(windows).to(self._device), relu=True)
        return expanded.view(last - first, self._lanes, -1)
