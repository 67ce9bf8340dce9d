"""The page about farms: its commands are keylift's, and its script does what the page says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from keylift.shell.command_line import make_parser

PAGE = (ROOT / "docs" / "farm.md").read_text(encoding="utf-8")
BASH = shutil.which("bash")


def blocks() -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def lines_of_batches() -> list[str]:
    """What comes after ``keylift`` in every batch of the page, with numbers where schedulers put theirs."""
    spoken = PAGE.replace('"$SLURM_ARRAY_TASK_ID/$2"', "3/20").replace('"$1"', "lift").replace("<STARTFRAME>", "3")
    spoken = spoken.replace("<QUOTE>", "'")
    return re.findall(r"(?:keylift |-arguments \")(batch /farm.*?|batch '.*?)(?:\"| \|\||$)", spoken, re.MULTILINE)


def test_keylift_understands_every_command() -> None:
    lines = lines_of_batches()
    assert len(lines) == 6
    for line in lines:
        options = make_parser().parse_args(shlex.split(line))
        assert options.command == "batch" and str(options.output).endswith("takes")


def test_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        if link != "batch.md" or (ROOT / "docs" / "batch.md").exists():
            assert (ROOT / "docs" / link).exists(), link


@pytest.mark.skipif(BASH is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("code", "restarts", "again"), [(0, 0, False), (1, 0, False), (75, 0, True), (75, 5, False), (2, 0, False)]
)
def test_the_slurm_script_asks_again_for_what_may_pass(
    code: int, restarts: int, again: bool, stand_in: Callable[..., Any], tmp_path: Path
) -> None:
    keylift = stand_in({"lift": code}, name="keylift")
    (tmp_path / "scontrol").write_text(f'#!{BASH}\necho "$@" > "{tmp_path}/asked"\n')
    (tmp_path / "scontrol").chmod(0o755)
    script = next(block for block in blocks() if block.startswith("#!/bin/bash"))
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": "3", "SLURM_JOB_ID": "4711"}
    if restarts:
        env["SLURM_RESTART_COUNT"] = str(restarts)
    done = subprocess.run([str(BASH), "-c", script, "keylift-part.sh", "lift", "20"], env=env, check=False)
    assert done.returncode == code
    (call,) = keylift.calls
    assert call[call.index("--part") + 1] == "3/20" and call[call.index("--stage") + 1] == "lift"
    asked = tmp_path / "asked"
    assert (asked.read_text().split() if asked.exists() else []) == (["requeue", "4711"] if again else [])
