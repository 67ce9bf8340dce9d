"""Dropout whose random numbers cost a quarter of torch's on a processor, where they are a tenth of a training step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Dropout):
    """``nn.Dropout``, drawing 16 random bits for each value instead of 64; ``p`` holds to 1/65536."""

    def forward(self, x: Tensor) -> Tensor:
        """Zeros in the place of a part ``p`` of ``x``, the rest scaled to the same mean."""
        if not self.training or self.p == 0 or x.device.type != "cpu" or x.dtype != torch.float32:
            return super().forward(x)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = (bits >= round(self.p * _LEVELS) - _LEVELS // 2).to(x.dtype)
        return x * kept.mul_(1 / (1 - self.p))
