"""Both doors open at once: neither loads anything heavy before somebody walks through."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAVY = ("bpy", "torch", "mediapipe", "cv2", "numpy", "scipy", "av", "rich", "safetensors")


def loaded_after(code: str, cwd: Path) -> set[str]:
    """Top-level packages in sys.modules after ``code`` ran in a fresh interpreter."""
    report = f"{code}\nimport sys\nprint('\\n' + ' '.join(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, cwd=cwd, check=True)
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import keylift",
        "import keylift.__main__",
        "from keylift.__main__ import main; assert main(['--help']) == 0",
        "from keylift.__main__ import main; assert main(['capture', '--help']) == 0",
        "from keylift.__main__ import main; assert main(['no-such-command']) == 2",
    ],
)
def test_nothing_heavy_is_loaded(code: str, tmp_path: Path) -> None:
    loaded = loaded_after(code, tmp_path)
    assert "keylift" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.alone
def test_help_comes_at_once(tmp_path: Path) -> None:
    took = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", "keylift", "--help"], capture_output=True, cwd=tmp_path, check=True)
        took.append(time.monotonic() - began)
    # 0.07 s on a quiet machine; a busy one must still not feel slow.
    assert min(took) < 1.0
