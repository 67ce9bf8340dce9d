"""``keylift doctor``: is everything here that is needed, and if not, what to do."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.errors import EXIT_DONE, EXIT_FAILED, KeyliftError
from .reporting import Reporter

SUMMARY = "tell whether everything needed is here, and what to do about what is not"
EXAMPLES = """  keylift doctor
        for reading
  keylift doctor --json
        for a program, or to send along with a report
"""
# The temporary files of a long take and its preview, with room to spare.
ENOUGH_DISK_BYTES = 2 * 10**9


# What the package declares, beside torch, av and mediapipe, which have findings of their own: module, package.
PACKAGES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "cv2": "opencv-contrib-python",
    "safetensors": "safetensors",
    "threadpoolctl": "threadpoolctl",
    "jinja2": "Jinja2",
    "platformdirs": "platformdirs",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "ezc3d": "ezc3d",
    "filelock": "filelock",
    "PIL": "pillow",
    "psutil": "psutil",
}


@dataclass(frozen=True)
class Finding:
    """One thing looked at.

    fine:   True when it is as it should be
    needed: False when Keylift works without it, or gets it by itself
    advice: what to do when it is not fine
    """

    name: str
    fine: bool
    found: str
    needed: bool = True
    advice: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The doctor asks nothing."""


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Look at everything, tell it, and return 0 when all that is needed is here."""
    findings = list(examine())
    healthy = all(finding.fine or not finding.needed for finding in findings)
    text = "\n".join(_told(finding) for finding in findings)
    verdict = "Everything that is needed is here." if healthy else "Something is missing: see 'to do' above."
    reporter.result(f"{text}\n{verdict}", {"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    return EXIT_DONE if healthy else EXIT_FAILED


def _told(finding: Finding) -> str:
    mark = "ok" if finding.fine else ("MISSING" if finding.needed else "-")
    lines = [f"{mark:<8} {finding.name:<11} {finding.found}"]
    if not finding.fine and finding.advice:
        lines.append(f"{'':<20} to do: {finding.advice}")
    return "\n".join(lines)


def examine() -> Iterator[Finding]:
    """Everything that Keylift stands on. One that breaks while it is looked at is a finding too."""
    looks: tuple[tuple[str, Callable[[], Finding]], ...] = (
        ("Keylift", _keylift),
        ("Python", _python),
        ("packages", _packages),
        ("Blender", _blender),
        ("torch", _torch),
        ("footage", _footage),
        ("detector", _detector),
        ("pose model", _pose_model),
        ("weights", _weights),
        ("cache", _cache),
        ("disk", _disk),
    )
    for name, look in looks:
        try:
            yield look()
        except KeyliftError as problem:
            yield Finding(name, False, str(problem), advice="see the message")
        # A library that is there but broken raises what it likes, and finding that out is this command's job.
        except Exception as problem:
            yield Finding(name, False, f"{type(problem).__name__}: {problem}", advice="install it again")


def _keylift() -> Finding:
    from .. import __version__

    return Finding("Keylift", True, f"{__version__} in {Path(__file__).resolve().parents[1]}")


def _python() -> Finding:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    fits = (3, 11) <= sys.version_info[:2] <= (3, 13)
    return Finding("Python", fits, found, advice="use Python 3.11, 3.12 or 3.13")


def _packages() -> Finding:
    missing = []
    for module, package in PACKAGES.items():
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(package)
    if missing:
        return Finding(
            "packages", False, f"missing or broken: {', '.join(missing)}", advice=f"pip install {' '.join(missing)}"
        )
    return Finding("packages", True, ", ".join(PACKAGES.values()))


def _blender() -> Finding:
    from importlib.metadata import version

    # Asked without being loaded: the add-on is the only room that imports bpy.
    inside = sys.modules.get("bpy")
    if inside is not None:
        return Finding("Blender", True, f"{inside.app.version_string}, with this running inside")
    if importlib.util.find_spec("bpy") is not None:
        return Finding("Blender", True, f"{version('bpy')}, as the Python module bpy")
    program = shutil.which("blender")
    if program is None:
        return Finding(
            "Blender",
            False,
            "neither the module bpy nor a program blender",
            advice='pip install "keylift[blender]" (Python 3.11 or 3.13), or install Blender 4.2 or newer; '
            "detect, lift and preview work without it",
        )
    # The module is what this shell uses; the program runs the same commands once it has the extension.
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60).stdout
    told = re.search(r"Blender (\S+)", said)
    known = told.group(1) if told else "of unknown version"
    return Finding("Blender", True, f"{known} at {program}; bake with `blender -c keylift retarget ...`")


def _torch() -> Finding:
    if importlib.util.find_spec("torch") is None:
        return Finding("torch", False, "not installed", advice="pip install torch==2.13.0")
    import torch

    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name()})"
    elif torch.backends.mps.is_available():
        device = "mps"
    else:
        device = f"cpu, {torch.get_num_threads()} threads"
    return Finding("torch", True, f"{torch.__version__} on {device}")


def _footage() -> Finding:
    if importlib.util.find_spec("av") is None:
        return Finding("footage", False, "PyAV is not installed", advice="pip install av")
    import av

    return Finding("footage", True, f"PyAV {av.__version__}")


def _detector() -> Finding:
    if importlib.util.find_spec("mediapipe") is None:
        return Finding("detector", False, "mediapipe is not installed", advice="pip install mediapipe==1.2.2")
    from importlib.metadata import version

    from mediapipe.tasks.python import vision  # noqa: F401  (that it loads is what is asked)

    return Finding("detector", True, f"mediapipe {version('mediapipe')}")


def _pose_model() -> Finding:
    from ..core.pose_model import find_pose_model

    model = find_pose_model("full")
    if model is None:
        return Finding(
            "pose model", False, "full: not here yet; fetched from the package index on first use (35 MB)", needed=False
        )
    return Finding("pose model", True, f"full: {model}")


def _weights() -> Finding:
    from ..core.weights import list_weights, read_header, user_folder

    found = list_weights()
    if "default" not in found:
        return Finding("weights", False, "no default weights", advice="install Keylift again, or `keylift train`")
    read_header(found["default"])
    known = ", ".join(f"{name}: {path}" for name, path in found.items())
    return Finding("weights", True, f"{known}; your own go to {user_folder()}")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.resolve().parents) if place.exists())


def _cache() -> Finding:
    from ..core.output_files import check_writable
    from ..core.pose_model import CACHE_ADVICE, cache_folder

    folder = cache_folder()
    check_writable(folder / "written-by-doctor", CACHE_ADVICE)
    return Finding("cache", True, str(folder))


def _disk() -> Finding:
    from ..core.pose_model import cache_folder

    free = min(shutil.disk_usage(_existing(place)).free for place in (Path.cwd(), cache_folder()))
    return Finding(
        "disk", free > ENOUGH_DISK_BYTES, f"{free / 1e9:.0f} GB free", needed=False, advice="free some space"
    )
