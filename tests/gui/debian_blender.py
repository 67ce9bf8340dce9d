"""A real Blender with a window in a folder, out of a Debian suite, for machines where root may install packages.

No mount, container or daemon is needed to make it. About 320 MB of packages, 1.2 GB of disk, 40 s to two minutes; it is
kept in the user's cache and used again. The mirror is the one that the machine's own apt uses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import platformdirs

# Stable is the gate; the newest moves on its own, and is a best effort.
SUITES = {"trixie": "Blender 4.3", "sid": "Blender 5.2"}
# Where Debian's own dependencies leave out what its Blender imports.
_MISSING_THERE = {"trixie": (), "sid": ("python3-cattr",)}
_PACKAGES = (
    "blender libgl1-mesa-dri libegl1 libgl1 libglx-mesa0 fonts-dejavu-core "
    "python3-venv python3-pip python3-numpy python3-requests python3-zstandard"
).split()
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*")
ENOUGH_DISK_BYTES = 3 * 10**9


class NoBlenderError(Exception):
    """No Blender with a window can be had here; the message says why, and what would help."""


def blenders_folder() -> Path:
    """Where they are kept: KEYLIFT_BLENDERS, or blenders in KEYLIFT_CACHE or the user's cache folder."""
    if os.environ.get("KEYLIFT_BLENDERS"):
        return Path(os.environ["KEYLIFT_BLENDERS"])
    return Path(os.environ.get("KEYLIFT_CACHE") or platformdirs.user_cache_dir("keylift")) / "blenders"


def debian_blender(suite: str, timeout_s: float, install: bool) -> Path:
    """The folder with the Blender of a suite, made within ``timeout_s`` where it is missing.

    install: whether programs that are missing on this machine may be installed
    Raises NoBlenderError where it can't be made.
    """
    root = blenders_folder() / suite
    _check_machine()
    if (root / "usr/bin/blender").exists():
        return root
    _ensure_programs(install)
    root.parent.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(root.parent).free < ENOUGH_DISK_BYTES:
        raise NoBlenderError(f"less than 3 GB are free where '{root.parent}' is")
    # Made beside and then renamed: a folder of that name is always whole.
    with tempfile.TemporaryDirectory(prefix=f"{suite}-", dir=root.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / "root"
        _run(_bootstrap(suite, made), timeout_s, f"{SUITES[suite]} could not be fetched from Debian {suite}")
        try:
            made.rename(root)
        except OSError:
            if not (root / "usr/bin/blender").exists():
                raise
    return root


def _check_machine() -> None:
    """Raise NoBlenderError on a machine where a folder of Debian is of no use."""
    if not _is_debian():
        raise NoBlenderError(
            "only on Debian is one made; name a Blender of your own with KEYLIFT_BLENDER=/path/to/blender"
        )
    if os.geteuid() != 0:
        raise NoBlenderError(
            "making one takes root; run the same as root, or name a Blender with KEYLIFT_BLENDER=/path/to/blender"
        )


def _is_debian() -> bool:
    try:
        return bool(re.search(r'^ID="?debian"?$', Path("/etc/os-release").read_text(encoding="utf-8"), re.MULTILINE))
    except OSError:
        return False


def _ensure_programs(install: bool) -> None:
    """What makes the folder, and what shows the window."""
    packages = {"mmdebstrap": "mmdebstrap", "Xvfb": "xvfb"}
    missing = [package for program, package in packages.items() if shutil.which(program) is None]
    if not missing:
        return
    if not install:
        raise NoBlenderError(f"{' and '.join(missing)} are not installed; python3 dev.py gui installs them")
    _run(["apt-get", "update", "-qq"], 120, "apt could not read its lists")
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    _run(command, 120, f"apt could not install {' and '.join(missing)}")


def _bootstrap(suite: str, root: Path) -> list[str]:
    packages = ",".join([*_PACKAGES, *_MISSING_THERE[suite]])
    return [
        *("mmdebstrap", "--quiet", "--variant=minbase", "--mode=root"),
        *("--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Check-Valid-Until false"),
        *(f"--dpkgopt=path-exclude={left_out}" for left_out in _LEFT_OUT),
        *(f"--include={packages}", suite, str(root), _mirror()),
    ]


def _mirror() -> str:
    """Where this machine gets its own Debian from."""
    told = subprocess.run(["apt-cache", "policy", "base-files"], capture_output=True, text=True).stdout
    mirrors = [found for found in re.findall(r"https?://\S+", told) if "security" not in found]
    if not mirrors:
        raise NoBlenderError("apt's sources name no mirror of Debian")
    return mirrors[0]


def _run(command: list[str], timeout_s: float, problem: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=environment, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as late:
        raise NoBlenderError(f"{problem} within {timeout_s:.0f} s") from late
    if done.returncode != 0:
        raise NoBlenderError(f"{problem}: {(done.stderr or done.stdout).strip()[-400:]}")
