"""What every farm's tests have: real clips, keylift's executable, and one that only writes down how it was called."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from keylift.core.track_files import write_keypoints
from shot_samples import walking_shot

CLIPS = 2

STAND_IN = """#!{python}
import json, sys
from pathlib import Path
words, calls = sys.argv[1:], Path({calls!r})
(calls / f"{{len(list(calls.iterdir())):03}}.json").write_text(json.dumps(words))
print(json.dumps({{"event": "job", "job": "walk\\nopenjd_fail: 0", "status": "done", "ended": 1, "jobs": 4}}))
stage = words[words.index("--stage") + 1] if "--stage" in words else "report"
code = {codes!r}.get(stage, 0)
told = {{"jobs": 4, "done": 4}} if {works} else {{"error": "no torch", "kind": "ImportError"}}
print(json.dumps({{**told, "exit_code": code}}))
sys.exit(code)
"""


@dataclass(frozen=True)
class StandIn:
    """An executable in keylift's place that writes down its arguments."""

    executable: Path
    calls_folder: Path

    @property
    def calls(self) -> list[list[str]]:
        """How it was called, in order, without its own name."""
        return [json.loads(path.read_text()) for path in sorted(self.calls_folder.iterdir())]


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[..., StandIn]:
    """Makes an executable that ends with ``codes`` by stage, ``report`` for the call of no stage, else with 0.

    works: whether it gets as far as a summary of its clips
    """

    def make(codes: Mapping[str, int] | None = None, name: str = "recorder", works: bool = True) -> StandIn:
        calls = tmp_path / "calls"
        calls.mkdir()
        executable = tmp_path / name
        script = STAND_IN.format(python=sys.executable, calls=str(calls), codes=dict(codes or {}), works=works)
        executable.write_text(script, encoding="utf-8")
        executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
        if sys.platform == "win32":
            (tmp_path / f"{name}.cmd").write_text(f'@"{sys.executable}" "{executable}" %*\n')
            executable = tmp_path / f"{name}.cmd"
        return StandIn(executable, calls)

    return make


@pytest.fixture
def keylift() -> Path:
    """The executable that pip has put beside this Python."""
    return Path(sys.executable).with_name("keylift.exe" if sys.platform == "win32" else "keylift")


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    """A job file over real keypoints, in a folder whose name needs care on a command line."""
    folder = tmp_path / "night shoot (2)"
    folder.mkdir()
    track = walking_shot(frames=20).keypoints["full"]
    for number in range(CLIPS):
        write_keypoints(folder / f"walk {number}.keypoints.npz", replace(track, xy_px=track.xy_px + number))
    path = folder / "jobs.toml"
    path.write_text('[defaults]\nformats = [".bvh"]\n\n[[jobs]]\nclips = "*.keypoints.npz"\n', encoding="utf-8")
    return path


@pytest.fixture
def takes_alone(keylift: Path, job_file: Path, tmp_path: Path) -> dict[str, bytes]:
    """What the batch makes in one go, without a farm."""
    output = tmp_path / "alone"
    subprocess.run([keylift, "batch", job_file, "-o", output, "--workers", "1"], check=True, capture_output=True)
    takes = {path.name: path.read_bytes() for path in output.glob("*.bvh")}
    assert len(takes) == CLIPS
    return takes
