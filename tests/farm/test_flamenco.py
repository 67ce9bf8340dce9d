"""The Flamenco job type makes tasks whose commands keylift understands, in an order that works."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from checkout import ROOT
from keylift.shell.command_line import make_parser

NODE = shutil.which("node")
JOB_TYPE = ROOT / "farm" / "flamenco" / "keylift.js"
MANAGER = Path(__file__).with_name("flamenco_manager.js")
STAGES = ("detect", "lift", "retarget")
# What a worker of Flamenco 3 takes unless told otherwise.
USUAL_TASK_TYPES = {"blender", "ffmpeg", "file-management", "misc"}

pytestmark = pytest.mark.skipif(NODE is None, reason="there is no node")


def manager(job: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(NODE), str(MANAGER), str(JOB_TYPE), json.dumps(job)], capture_output=True, encoding="utf-8", check=False
    )


def compiled(job_file: object = "jobs.toml", output: object = "takes", **settings: object) -> dict[str, Any]:
    """What the Manager makes of a job: its type's description and its tasks."""
    usual = {"parts": 1, "keylift": "keylift", "retargeter": "keylift", "python": "python"}
    job = {"name": "night", "settings": {"job_file": str(job_file), "output_folder": str(output), **usual, **settings}}
    done = manager(job)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def words(task: dict[str, Any]) -> list[str]:
    """The command line of a task's only command."""
    (command,) = task["commands"]
    assert command["name"] == "exec" and set(command["parameters"]) == {"exe", "args"}
    line = [command["parameters"]["exe"], *command["parameters"]["args"]]
    assert all(isinstance(word, str) for word in line)
    return line


def run_as_flamenco_does(tasks: list[dict[str, Any]]) -> dict[str, int]:
    """Exit codes by task: each runs once all it depends on have succeeded, and not at all if one of them failed."""
    codes: dict[str, int] = {}
    waiting = list(tasks)
    while ready := [task for task in waiting if all(codes.get(name) == 0 for name in task["dependencies"])]:
        for task in ready:
            waiting.remove(task)
            codes[task["name"]] = subprocess.run(words(task), capture_output=True, check=False, timeout=600).returncode
    return codes


def test_the_settings_are_what_flamencos_form_can_show() -> None:
    job_type = compiled()["jobType"]
    assert job_type["label"]
    known = {"key", "type", "subtype", "choices", "propargs", "description", "default", "eval", "visible", "required"}
    for setting in job_type["settings"]:
        assert set(setting) <= known and setting["type"] in {"string", "int32", "float", "bool"}
        assert setting.get("subtype") in {None, "file_path", "dir_path", "file_name", "hashed_file_path"}
        assert setting["required"] and setting["description"]
    assert {setting["key"] for setting in job_type["settings"] if "default" not in setting} == {
        "job_file",
        "output_folder",
    }


def test_each_part_goes_its_own_way_and_the_report_waits_for_all() -> None:
    tasks = {task["name"]: task for task in compiled(parts=3)["tasks"]}
    assert len(tasks) == 3 * 3 + 1
    for part in (1, 2, 3):
        assert tasks[f"detect-{part}"]["dependencies"] == []
        assert tasks[f"lift-{part}"]["dependencies"] == [f"detect-{part}"]
        assert tasks[f"retarget-{part}"]["dependencies"] == [f"lift-{part}"]
    assert tasks["report"]["dependencies"] == ["retarget-1", "retarget-2", "retarget-3"]


def test_only_what_may_need_blender_asks_for_its_workers() -> None:
    types = {task["name"]: task["type"] for task in compiled()["tasks"]}
    assert types == {"detect-1": "misc", "lift-1": "misc", "retarget-1": "blender", "report": "blender"}
    assert set(types.values()) <= USUAL_TASK_TYPES


@pytest.mark.parametrize("parts", [0, -1, None])
def test_no_parts_at_all_are_refused(parts: int | None) -> None:
    done = manager({"name": "night", "settings": {"job_file": "j", "output_folder": "o", "parts": parts}})
    assert done.returncode != 0 and '"parts" is' in done.stderr


@pytest.mark.parametrize("retargeter", ["{blender}", "blender", "/opt/Blender 5/blender", r"C:\Blender 5\Blender.exe"])
def test_an_installed_blender_retargets(retargeter: str) -> None:
    lines = {task["name"]: words(task) for task in compiled(retargeter=retargeter)["tasks"]}
    assert lines["report"][:4] == [retargeter, "-c", "keylift", "batch"]
    assert lines["retarget-1"][3:7] == [retargeter, "-c", "keylift", "batch"]
    assert lines["lift-1"][3:5] == ["keylift", "batch"]


def test_keylift_understands_every_command() -> None:
    for task in compiled("night shoot/jobs.toml", "takes 💃", parts=2)["tasks"]:
        line = words(task)
        options = make_parser().parse_args(line[line.index("keylift") + 1 :])
        assert options.command == "batch" and options.json


def test_tasks_call_keylift_in_order(stand_in: Callable[..., Any], job_file: Path, tmp_path: Path) -> None:
    keylift, output = stand_in(), tmp_path / "takes 💃"
    programs = {"keylift": str(keylift.executable), "retargeter": str(keylift.executable), "python": sys.executable}
    codes = run_as_flamenco_does(compiled(job_file, output, parts=2, **programs)["tasks"])
    assert set(codes.values()) == {0}
    start, end = ["batch", str(job_file), "-o", str(output)], ["--workers", "1", "--json"]
    for part in ("1/2", "2/2"):
        of_part = [call for call in keylift.calls if part in call]
        assert of_part == [[*start, "--part", part, "--stage", stage, *end] for stage in STAGES]
    assert keylift.calls[-1] == [*start, *end] and len(keylift.calls) == 7


@pytest.mark.parametrize(
    ("code", "ran"), [(1, ["detect-1", "lift-1", "retarget-1", "report"]), (75, ["detect-1"]), (130, ["detect-1"])]
)
def test_only_clips_that_can_not_succeed_are_passed_over(
    code: int, ran: list[str], stand_in: Callable[..., Any], job_file: Path, tmp_path: Path
) -> None:
    keylift = stand_in({"detect": code, "report": code})
    programs = {"keylift": str(keylift.executable), "retargeter": str(keylift.executable), "python": sys.executable}
    codes = run_as_flamenco_does(compiled(job_file, tmp_path / "takes", **programs)["tasks"])
    assert list(codes) == ran
    assert codes[ran[-1]] == code and set(list(codes.values())[:-1]) <= {0}


def test_a_worker_where_nothing_works_fails_at_once(
    stand_in: Callable[..., Any], job_file: Path, tmp_path: Path
) -> None:
    keylift = stand_in({"detect": 1}, works=False)
    programs = {"keylift": str(keylift.executable), "retargeter": str(keylift.executable), "python": sys.executable}
    codes = run_as_flamenco_does(compiled(job_file, tmp_path / "takes", **programs)["tasks"])
    assert codes == {"detect-1": 1}


@pytest.mark.slow
def test_real_clips_come_out_as_without_a_farm(
    job_file: Path, keylift: Path, takes_alone: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "takes"
    programs = {"keylift": str(keylift), "retargeter": str(keylift), "python": sys.executable}
    codes = run_as_flamenco_does(compiled(job_file, output, **programs)["tasks"])
    assert len(codes) == 3 + 1 and set(codes.values()) == {0}
    assert {path.name: path.read_bytes() for path in output.glob("*.bvh")} == takes_alone
    assert (output / "report.html").is_file()
