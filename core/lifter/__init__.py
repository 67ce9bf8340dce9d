"""The temporal-convolution lifter: network, what it looks at, and its weights on disk. What needs torch imports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .keypoint_lifter import KeypointLifter as KeypointLifter
    from .keypoint_lifter import load_lifter as load_lifter
    from .streaming import StreamingLifter as StreamingLifter

_MODULES = {"KeypointLifter": "keypoint_lifter", "load_lifter": "keypoint_lifter", "StreamingLifter": "streaming"}


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, because torch takes a second."""
    if name not in _MODULES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
