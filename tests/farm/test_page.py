"""The page about farms: its commands are keylift's, and its script does what the page says."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from keylift.shell.command_line import make_parser
from page_commands import commands_in

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


def test_frames_of_deadline_are_all_parts_once() -> None:
    """As its CommandLine plugin has them: the arguments once for each frame, with the frame in them."""
    commands = [shlex.split(text) for text in commands_in(PAGE) if text.startswith("deadlinecommand ")]
    assert len(commands) == 2
    for words in commands:
        assert words[1] == "-SubmitCommandLineJob"
        given = {word: value for word, value in pairwise(words) if word.startswith("-") and word != "-prop"}
        assert given["-executable"] == "keylift" and given["-chunksize"] == "1"
        first, last = map(int, given["-frames"].split("-"))
        spoken = [
            given["-arguments"].replace("<QUOTE>", "'").replace("<STARTFRAME>", str(frame))
            for frame in range(first, last + 1)
        ]
        parts = [make_parser().parse_args(shlex.split(text)).part for text in spoken]
        assert parts == [(part, len(parts)) for part in range(1, len(parts) + 1)]
        properties = [value for word, value in pairwise(words) if word == "-prop"]
        assert all(value.count("=") == 1 for value in properties)


@pytest.fixture
def at_the_page(tmp_path: Path, job_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where what the page's commands name is, and this Python is ``python``."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "farm", folder / "farm")
    shutil.copy(job_file, folder / "night.toml")
    (folder / "python").write_text(f'#!{BASH}\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.mark.skipif(sys.platform == "win32" or BASH is None, reason="a script can't stand in for a program there")
def test_openjd_does_what_the_page_says(stand_in: Callable[..., Any], at_the_page: Path) -> None:
    """Each of the page's commands on the local runner, which starts what is called keylift."""
    pytest.importorskip("openjd.cli", reason="openjd-cli is not installed")
    keylift = stand_in(name="keylift")
    commands = [shlex.split(text) for text in commands_in(PAGE) if text.startswith("openjd ")]
    assert [words[1] for words in commands] == ["check", "summary", "run", "run"]
    said = []
    for words in commands:
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=at_the_page, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said.append(done.stdout)
    assert "Total tasks: 61" in said[1]
    # Two parts of three stages and the report; then one part of one stage.
    assert len(keylift.calls) == 3 * 2 + 1 + 1
    assert keylift.calls[-1][3:7] == [str(at_the_page / "takes"), "--part", "3/20", "--stage"]
    for call in keylift.calls:
        make_parser().parse_args(call)


@pytest.mark.skipif(BASH is None, reason="there is no bash")
def test_the_bundle_for_deadline_cloud_is_a_job_of_as_many_tasks(at_the_page: Path) -> None:
    """The page's commands make the bundle; the specification's own library makes a job of it as it is submitted."""
    model = pytest.importorskip("openjd.model", reason="openjd-cli is not installed")
    (block,) = [block for block in blocks() if block.startswith("mkdir keylift-bundle\n")]
    *making, submitting = block.splitlines()
    subprocess.run([str(BASH), "-ec", "\n".join(making)], cwd=at_the_page, check=True)
    words = shlex.split(submitting)
    assert words[:4] == ["deadline", "bundle", "submit", "keylift-bundle"]
    bundle = at_the_page / words[3]
    assert [path.name for path in bundle.iterdir()] == ["template.json"]
    template = model.decode_job_template(template=json.loads((bundle / "template.json").read_text(encoding="ascii")))
    given = dict(value.split("=", 1) for word, value in pairwise(words) if word == "-p")
    # Nobody may be asked for what the page leaves out, and nothing given that the template doesn't know.
    job = model.create_job(
        job_template=template,
        job_parameter_values=model.preprocess_job_parameters(
            job_template=template, job_parameter_values=given, job_template_dir=bundle, current_working_dir=bundle
        ),
    )
    tasks = [
        len(model.StepParameterSpaceIterator(space=step.parameterSpace)) if step.parameterSpace else 1
        for step in job.steps
    ]
    assert tasks == [int(given["Parts"])] * 3 + [1]


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
