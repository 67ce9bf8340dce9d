"""Which processor does the lifting."""

from __future__ import annotations

import torch

from ..errors import KeyliftError


def choose_device(wanted: str = "auto") -> torch.device:
    """CUDA (or ROCm) where there is one, then Apple's MPS, then the processor; or what is ``wanted``.

    Raises KeyliftError when the wanted device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, there in available.items() if there))
    if not available.get(wanted.split(":")[0], False):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise KeyliftError(f"This machine has no '{wanted}' for torch. It has: {there}. Or say --device auto.")
    return torch.device(wanted)
