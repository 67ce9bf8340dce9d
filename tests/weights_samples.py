"""Small lifters of footage as weights files, and what may be said of them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import torch

from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.weights import write_weights


def lifter_header(config: LifterConfig, **more: Any) -> dict[str, Any]:
    """What a header must say for footage to be lifted."""
    return {
        "lifter": config.as_dict(),
        "input_layout": "rays21",
        "fps": 30.0,
        "skeleton": {"names": list(LANDMARKS_41.names), "parents": list(LANDMARKS_41.parents)},
        "licence": "free",
        **more,
    }


def small_weights(path: Path, seed: int = 0, **more: Any) -> Path:
    """Write a lifter of footage with eight channels, untrained; ``more`` goes into its header."""
    torch.manual_seed(seed)
    network = TemporalLifter(LifterConfig(22, 3, 41, extras_out=48, channels=8, widths=(3, 3)))
    write_weights(path, network.state_dict(), lifter_header(network.config, **more))
    return path


def adapted(better: bool, reason: str, base: tuple[str, str] = ("default", "0" * 64), **more: Any) -> dict[str, Any]:
    """The record of an adaptation."""
    return {
        "verdict": {"better": better, "reason": reason},
        "base": {"name": base[0], "sha256": base[1]},
        "figures": {"before": {"between_mm": 31.25}, "after": {"between_mm": 28.5}},
        **more,
    }


def without_hashes(path: Path) -> Path:
    """Make ``path`` what an older Keylift wrote."""
    described, data = parts(path)
    for key in ("tensors_sha256", "header_sha256"):
        described["__metadata__"].pop(key)
    return put_together(path, described, data)


def parts(path: Path) -> tuple[dict[str, Any], bytes]:
    """A safetensors file's header, and its data."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put_together(path: Path, described: Any, data: bytes) -> Path:
    """Undo ``parts``."""
    header = json.dumps(described).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path
