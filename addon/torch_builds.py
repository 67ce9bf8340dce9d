"""The forms that torch comes in, and which of them fits this machine."""

from __future__ import annotations

import contextlib
import functools
import platform
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TorchBuild:
    """One of the forms that torch comes in.

    name:  cpu, cuda, cuda-older, rocm or mps
    title: for a person
    index: PyTorch's own package index that has this build; None = the usual index has it for this system
    bytes: that the whole environment takes on the disk
    packed_bytes: that are fetched for it, all packages together
    usual: the name of the build that the usual index has instead, for when PyTorch's own can't be reached
    """

    name: str
    title: str
    index: str | None
    bytes: int
    packed_bytes: int = 0
    usual: str = ""

    @property
    def bytes_while_made(self) -> int:
        """Of disk that must be free: pip keeps what it fetches twice until everything is unpacked."""
        return self.bytes + 2 * self.packed_bytes


_PYTORCH = "https://download.pytorch.org/whl/"


def _build(name: str, title: str, index: str, gigabytes: float, packed_gigabytes: float, usual: str = "") -> TorchBuild:
    at = _PYTORCH + index if index else None
    return TorchBuild(name, title, at, int(gigabytes * 1e9), int(packed_gigabytes * 1e9), usual)


def torch_builds(system: str = "") -> dict[str, TorchBuild]:
    """The builds of torch 2.13 that there are for a system (this one when left out), by name.

    Processor and CUDA on Linux are measured; the others follow from what the wheels weigh.
    """
    system = system or platform.system()
    if system == "Darwin":
        # One wheel has both.
        return {"mps": _build("mps", "Apple GPU and processor", "", 1.4, 0.45)}
    if system == "Linux":
        builds = [
            _build("cpu", "Processor only", "cpu", 1.7, 0.55, usual="cuda"),
            # The usual index's wheel for Linux is this one.
            _build("cuda", "NVIDIA GPU (CUDA 13)", "", 5.8, 3.0),
            _build("cuda-older", "Older NVIDIA GPU (CUDA 12.6)", "cu126", 7.0, 4.0, usual="cuda"),
            _build("rocm", "AMD GPU (ROCm 7.2)", "rocm7.2", 20.0, 6.8),
        ]
    else:
        builds = [
            _build("cpu", "Processor only", "", 1.5, 0.45),
            _build("cuda", "NVIDIA GPU (CUDA 13)", "cu130", 5.5, 2.5, usual="cpu"),
            _build("cuda-older", "Older NVIDIA GPU (CUDA 12.6)", "cu126", 6.0, 3.0, usual="cpu"),
        ]
    return {build.name: build for build in builds}


def fitting_build(choice: str = "auto", system: str = "") -> TorchBuild:
    """The build for ``choice``; with "auto", the one for the graphics card that is in this machine."""
    system, builds = system or platform.system(), torch_builds(system)
    if choice in builds:
        return builds[choice]
    if system == "Darwin":
        return builds["mps"]
    card = nvidia_card(system)
    if card is not None:
        return builds[card.build]
    if "rocm" in builds and _has_rocm():
        return builds["rocm"]
    return builds["cpu"]


def why_no_build(system: str = "", machine: str = "", macos: str = "") -> str | None:
    """Why there is no environment to be had for this computer; None where there is one.

    system, machine, macos: as ``platform`` tells them, this computer's when left out
    """
    system, machine = system or platform.system(), machine or platform.machine()
    own = "With packages of other versions, an interpreter of your own may do: choose it in Keylift's preferences."
    if system == "Darwin" and machine == "x86_64":
        return f"torch 2.13 and MediaPipe 1.2 are not made for Macs with an Intel processor. {own}"
    if system == "Darwin":
        version = macos or platform.mac_ver()[0]
        if version and int(version.split(".")[0]) < 14:
            return f"torch 2.13 needs macOS 14 or newer, and this is {version}. {own}"
    if system == "Windows" and machine.upper() == "ARM64":
        return f"torch 2.13 and OpenCV are not made for Windows on ARM. {own}"
    return None


@dataclass(frozen=True)
class NvidiaCard:
    """A graphics card by NVIDIA.

    model:  such as "NVIDIA GeForce GTX 1080"; empty when nobody tells
    driver: its driver's major version, such as 580; 0 when nobody tells
    """

    model: str = ""
    driver: int = 0

    @property
    def build(self) -> str:
        """The name of the build that runs on it. One that does not, torch merely warns of, and takes the processor."""
        if 0 < self.driver < _FIRST_DRIVER_WITH_CUDA_12:
            return "cpu"
        if _BEFORE_TURING.search(self.model) or 0 < self.driver < _FIRST_DRIVER_WITH_CUDA_13:
            return "cuda-older"
        return "cuda"


_FIRST_DRIVER_WITH_CUDA_12, _FIRST_DRIVER_WITH_CUDA_13 = 525, 580
_BEFORE_TURING = re.compile(
    r"GTX (TITAN|[789]\d\d|10\d\d)|TITAN [XV]|GT ([79]\d\d|10\d\d)|GeForce [789]\d\d|MX[123]\d\d|"
    r"Quadro ([KMP]|GV)\d|Tesla [KMPV]\d"
)
_PROC = Path("/proc/driver/nvidia")
# Where Windows keeps what it knows of display adapters.
_DISPLAY_ADAPTERS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


@functools.cache
def nvidia_card(system: str) -> NvidiaCard | None:
    """The NVIDIA card with a driver in this machine, or None.

    Reads what driver and system have written down. Asking the card itself would wake it, and hold Blender's window up.
    """
    card = _card_of_windows() if system == "Windows" else _card_of_linux(_PROC)
    if card is None and shutil.which("nvidia-smi"):
        return NvidiaCard()
    return card


def _card_of_linux(proc: Path) -> NvidiaCard | None:
    try:
        said = (proc / "version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    models = []
    for file in sorted(proc.glob("gpus/*/information")):
        with contextlib.suppress(OSError):
            model = re.search(r"^Model:\s*(.+?)\s*$", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
            models += [model.group(1)] if model else []
    driver = re.search(r"\b(\d{3})\.\d+", said)
    return _best([NvidiaCard(model, int(driver.group(1)) if driver else 0) for model in models or [""]])


def _card_of_windows() -> NvidiaCard | None:
    if sys.platform != "win32":
        return None
    import winreg

    cards = []
    with contextlib.suppress(OSError), winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _DISPLAY_ADAPTERS) as adapters:
        for index in range(winreg.QueryInfoKey(adapters)[0]):
            with contextlib.suppress(OSError), winreg.OpenKey(adapters, winreg.EnumKey(adapters, index)) as adapter:
                model = str(winreg.QueryValueEx(adapter, "DriverDesc")[0])
                version = str(winreg.QueryValueEx(adapter, "DriverVersion")[0])
                if "NVIDIA" in model.upper():
                    cards.append(NvidiaCard(model, driver_of_windows_version(version)))
    return _best(cards)


def driver_of_windows_version(version: str) -> int:
    """NVIDIA's major driver version out of Windows' own number for it: 32.0.15.8097 is 580.97."""
    digits = "".join(version.split("."))[-5:]
    return int(digits[:3]) if len(digits) == 5 and digits.isdigit() else 0


def _best(cards: list[NvidiaCard]) -> NvidiaCard | None:
    return max(cards, key=lambda card: ("cpu", "cuda-older", "cuda").index(card.build), default=None)


def _has_rocm() -> bool:
    return shutil.which("rocminfo") is not None or shutil.which("rocm-smi") is not None or Path("/opt/rocm").is_dir()
