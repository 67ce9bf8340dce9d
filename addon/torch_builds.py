"""The forms that torch comes in, and which of them fits this machine."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TorchBuild:
    """One of the forms that torch comes in.

    name:  auto, cpu, cuda, rocm or mps
    title: for a person
    index: PyTorch's own package index that has this build; None = the usual index has it for this system
    bytes: of disk that the whole environment takes, and as much again while it is being made is not needed
    """

    name: str
    title: str
    index: str | None
    bytes: int


_PYTORCH = "https://download.pytorch.org/whl/"


def torch_builds(system: str = "") -> dict[str, TorchBuild]:
    """The builds that there are for a system (this one when left out), by name."""
    system = system or platform.system()
    # Only Linux's usual wheel is the large one with CUDA; elsewhere it is for the processor, and for Apple's GPU.
    builds = [TorchBuild("cpu", "Processor only", _PYTORCH + "cpu" if system == "Linux" else None, 22 * 10**8)]
    if system == "Darwin":
        return {"mps": TorchBuild("mps", "Apple GPU", None, 18 * 10**8), "cpu": builds[0]}
    builds.append(TorchBuild("cuda", "NVIDIA GPU (CUDA 13)", _PYTORCH + "cu130", 65 * 10**8))
    if system == "Linux":
        builds.append(TorchBuild("rocm", "AMD GPU (ROCm)", _PYTORCH + "rocm7.1", 18 * 10**9))
    return {build.name: build for build in builds}


def fitting_build(choice: str = "auto", system: str = "", machine: str = "") -> TorchBuild:
    """The build for ``choice``; with "auto", the one for the graphics card that is in this machine."""
    system, builds = system or platform.system(), torch_builds(system)
    if choice in builds:
        return builds[choice]
    if system == "Darwin":
        apple = (machine or platform.machine()) == "arm64"
        return builds["mps" if apple else "cpu"]
    if _has_nvidia():
        return builds["cuda"]
    if "rocm" in builds and (shutil.which("rocminfo") or Path("/opt/rocm").is_dir()):
        return builds["rocm"]
    return builds["cpu"]


def _has_nvidia() -> bool:
    if shutil.which("nvidia-smi") is not None:
        return True
    windows = os.environ.get("SYSTEMROOT")
    return windows is not None and (Path(windows) / "System32" / "nvcuda.dll").is_file()
