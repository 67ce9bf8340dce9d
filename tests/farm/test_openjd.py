"""The Open Job Description template does what it says, on the specification's own local runner."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openjd.cli", reason="openjd-cli is not installed")

from checkout import ROOT

TEMPLATE = ROOT / "farm" / "openjd" / "keylift-batch.yaml"
STAGES = ("detect", "lift", "retarget")


def openjd(command: str, *options: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "openjd", command, str(TEMPLATE), *(str(option) for option in options)]
    return subprocess.run(
        words, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8", timeout=600, check=False
    )


def parameters(job_file: Path, output: Path, **others: object) -> list[str]:
    """``--job-param`` for each, this Python among them."""
    values = {"JobFile": job_file, "OutputFolder": output, "Python": sys.executable, **others}
    return [word for name, value in values.items() for word in ("--job-param", f"{name}={value}")]


def call(job_file: Path, output: Path, *options: str) -> list[str]:
    """How keylift must have been called."""
    return ["batch", str(job_file), "-o", str(output), *options, "--workers", "1", "--json"]


def test_the_template_is_valid_without_any_extension() -> None:
    done = openjd("check", "--extensions", "")
    assert done.returncode == 0, done.stdout
    assert "extensions" not in TEMPLATE.read_text(encoding="utf-8").split("parameterDefinitions")[1]


def test_the_summary_has_a_task_for_each_part_and_one_report(job_file: Path, tmp_path: Path) -> None:
    done = openjd("summary", *parameters(job_file, tmp_path / "takes", Parts=5), "--output", "json")
    summary = json.loads(done.stdout)
    assert summary["total_tasks"] == 3 * 5 + 1
    assert [step["name"] for step in summary["steps"]] == ["Detect", "Lift", "Retarget", "Report"]


@pytest.mark.parametrize("parts", [0, -3])
def test_no_parts_at_all_are_refused(parts: int, job_file: Path, tmp_path: Path) -> None:
    assert openjd("summary", *parameters(job_file, tmp_path, Parts=parts)).returncode != 0


def test_each_step_waits_for_the_one_before() -> None:
    from openjd.model import decode_job_template
    from yaml import safe_load

    template = decode_job_template(template=safe_load(TEMPLATE.read_text(encoding="utf-8")))
    waits = {step.name: [one.dependsOn for one in step.dependencies or ()] for step in template.steps}
    assert waits == {"Detect": [], "Lift": ["Detect"], "Retarget": ["Lift"], "Report": ["Retarget"]}


def test_a_stage_asks_only_for_hosts_that_it_needs() -> None:
    from openjd.model import create_job, decode_job_template, preprocess_job_parameters
    from yaml import safe_load

    template = decode_job_template(template=safe_load(TEMPLATE.read_text(encoding="utf-8")))

    def needs(**values: str) -> dict[str, Any]:
        given = {"JobFile": "jobs.toml", "OutputFolder": "takes", **values}
        prepared = preprocess_job_parameters(
            job_template=template, job_parameter_values=given, job_template_dir=ROOT, current_working_dir=ROOT
        )
        job = create_job(job_template=template, job_parameter_values=prepared)
        return {
            step.name: (
                [(amount.name, int(amount.min)) for amount in step.hostRequirements.amounts or ()],
                [(attribute.name, attribute.anyOf) for attribute in step.hostRequirements.attributes or ()],
            )
            for step in job.steps
        }

    processor, blender = ([("amount.worker.vcpu", 1)], []), ([], [("attr.software", ["blender"])])
    assert needs() == {"Detect": processor, "Lift": processor, "Retarget": blender, "Report": blender}
    gpu = ([("amount.worker.gpu", 1)], [])
    tagged = ([], [("attr.software", ["blender_5"])])
    assert needs(Compute="gpu", BlenderTag="blender_5") == {
        "Detect": gpu,
        "Lift": gpu,
        "Retarget": tagged,
        "Report": tagged,
    }


def test_every_part_of_a_stage_runs_before_the_next_stage(
    stand_in: Callable[..., Any], job_file: Path, tmp_path: Path
) -> None:
    keylift, output = stand_in(), tmp_path / "takes 💃"
    executables = {"Keylift": keylift.executable, "Retargeter": keylift.executable}
    done = openjd("run", *parameters(job_file, output, Parts=2, **executables))
    assert done.returncode == 0, done.stdout
    wanted = [call(job_file, output, "--part", f"{part}/2", "--stage", stage) for stage in STAGES for part in (1, 2)]
    assert keylift.calls == [*wanted, call(job_file, output)]
    assert done.stdout.count("openjd_progress: 25.0\n") == done.stdout.count("openjd_progress: 100.0\n") == 7
    assert done.stdout.count("openjd_status: walk openjd_fail: 0: done\n") == 7


def test_one_part_of_one_step_can_be_run_by_itself(
    stand_in: Callable[..., Any], job_file: Path, tmp_path: Path
) -> None:
    keylift = stand_in()
    given = parameters(job_file, tmp_path / "takes", Parts=4, Keylift=keylift.executable)
    done = openjd("run", *given, "--step", "Lift", "--no-run-dependencies", "--task-param", "Part=3")
    assert done.returncode == 0, done.stdout
    assert keylift.calls == [call(job_file, tmp_path / "takes", "--part", "3/4", "--stage", "lift")]


def test_an_installed_blender_retargets(stand_in: Callable[..., Any], job_file: Path, tmp_path: Path) -> None:
    blender = stand_in(name="Blender")
    given = parameters(job_file, tmp_path / "takes", Retargeter=blender.executable)
    done = openjd("run", *given, "--step", "Retarget", "--no-run-dependencies")
    assert done.returncode == 0, done.stdout
    options = ("--part", "1/1", "--stage", "retarget")
    assert blender.calls == [["-c", "keylift", *call(job_file, tmp_path / "takes", *options)]]


def test_clips_that_failed_for_good_stop_nobody_and_fail_the_report(
    stand_in: Callable[..., Any], job_file: Path, tmp_path: Path
) -> None:
    keylift = stand_in({"detect": 1, "lift": 1, "retarget": 1, "report": 1})
    executables = {"Keylift": keylift.executable, "Retargeter": keylift.executable}
    done = openjd("run", *parameters(job_file, tmp_path / "takes", Parts=2, **executables))
    assert len(keylift.calls) == 7
    assert done.returncode != 0 and "exited with code: 1 " in done.stdout
    assert "openjd_fail: keylift ended with exit code 1" in done.stdout


@pytest.mark.parametrize("code", [75, 2, 130])
def test_any_other_end_is_passed_on_to_the_farm(
    code: int, stand_in: Callable[..., Any], job_file: Path, tmp_path: Path
) -> None:
    keylift = stand_in({"detect": code})
    done = openjd("run", *parameters(job_file, tmp_path / "takes", Parts=2, Keylift=keylift.executable))
    assert done.returncode != 0 and f"exited with code: {code} " in done.stdout
    assert len(keylift.calls) == 1


def test_a_host_where_nothing_works_fails_at_once(stand_in: Callable[..., Any], job_file: Path, tmp_path: Path) -> None:
    keylift = stand_in({"detect": 1}, works=False)
    done = openjd("run", *parameters(job_file, tmp_path / "takes", Parts=2, Keylift=keylift.executable))
    assert done.returncode != 0 and "exited with code: 1 " in done.stdout
    assert len(keylift.calls) == 1


def test_a_host_without_keylift_says_so(job_file: Path, tmp_path: Path) -> None:
    missing = tmp_path / "no-such-keylift"
    done = openjd("run", *parameters(job_file, tmp_path / "takes", Keylift=missing))
    assert done.returncode != 0
    assert f"openjd_fail: '{missing}' can't be started" in done.stdout


@pytest.mark.slow
def test_real_clips_come_out_as_without_a_farm(
    job_file: Path, keylift: Path, takes_alone: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "takes"
    executables = {"Keylift": keylift, "Retargeter": keylift}
    done = openjd("run", *parameters(job_file, output, Parts=2, **executables))
    assert done.returncode == 0, done.stdout
    assert {path.name: path.read_bytes() for path in output.glob("*.bvh")} == takes_alone
    assert (output / "report.html").is_file()
    assert "openjd_progress: 100.0" in done.stdout
