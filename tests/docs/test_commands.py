"""Every command on the pages does what the page says: read by the program that it is for, and run on real files.

What can't be run here, or takes too long, is in ``ELSEWHERE`` with the reason and the test that runs its like.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from checkout import ROOT, dev
from footage_samples import full_model, open_footage, real_clip, write_video
from keylift.core.skeletons import KEYPOINT_LAYOUTS
from keylift.core.track_files import read_keypoints
from keylift.shell.command_line import COMMANDS, make_parser
from keylift.training.config import read_config
from page_commands import BLOCK, Command, all_commands, commands_in, said_in_passing
from shell_runs import Run, keylift
from training_runs import CONFIG, write_motion
from warm_starts import python

# Patterns of commands -> (why they are not run here, which test runs what they run).
ELSEWHERE = {
    "python3 dev.py test*": (
        "is what runs this",
        "guards/test_dev.py::test_the_tests_may_be_followed_by_the_oldest_and_the_newest_blender",
    ),
    "python3 dev.py matrix*": (
        "makes four environments",
        "guards/test_dev.py::test_the_matrix_tells_how_each_blender_went",
    ),
    "python3 dev.py gui": (
        "needs a Blender with a window",
        "gui/test_window.py::test_one_button_captures_the_footage_without_holding_the_artist_up",
    ),
    "pip install *": ("a network", "guards/test_packaging.py::test_sdist_and_wheel_hold_the_rooms_and_nothing_else"),
    "pip download *": (
        "a network",
        "core/test_pose_model.py::test_the_full_model_comes_out_of_the_package_index_the_same_every_time",
    ),
    "python -m pip download *": (
        "a network",
        "addon/test_worker_environment.py::test_it_is_made_from_a_folder_of_wheels_without_a_network",
    ),
    "python -m zipfile *": (
        "what pip has fetched",
        "guards/test_dev.py::test_a_clip_that_is_not_the_right_one_is_not_used",
    ),
    "blender -c keylift *": (
        "an installed Blender",
        "addon/test_headless.py::test_an_installed_blender_does_what_the_shell_does",
    ),
    "keylift triangulate *": ("four films and half an hour", "shell/test_evaluate_sets.py::test_views_become_shots"),
    "keylift evaluate default *": (
        "shots that take an hour to make",
        "shell/test_evaluate_sets.py::test_shots_are_lifted_and_compared",
    ),
    "keylift render-people *": (
        "Blender draws for an hour",
        "shell/test_render_people.py::test_motion_becomes_shots_and_what_is_there_is_kept",
    ),
    "keylift train training/configs/*": (
        "days, and motion that is not here",
        "shell/test_train.py::test_a_stopped_run_loses_nothing_and_says_how_to_go_on",
    ),
    "keylift adapt *": (
        "learns for half an hour",
        "shell/test_adapt.py::test_one_command_makes_weights_with_a_verdict",
    ),
    "torchrun *": ("several GPUs", "shell/test_adapt.py::test_two_processes_learn_what_one_learns"),
    "keylift bench*": ("measures for minutes", "shell/test_bench.py::test_a_quick_bench_measures_everything"),
    "keylift batch *--workers 4": (
        "several processes",
        "shell/test_batch.py::test_workers_that_are_killed_lose_nothing",
    ),
    "keylift batch *--workers dask*": (
        "a cluster",
        "shell/test_batch_cluster.py::test_each_stage_goes_where_what_it_needs_is",
    ),
    "keylift batch /farm/*": ("a farm", "farm/test_openjd.py::test_real_clips_come_out_as_without_a_farm"),
    "openjd *": ("runs where its files are", "farm/test_page.py::test_openjd_does_what_the_page_says"),
    "dask *": ("a cluster", "shell/test_batch_cluster.py::test_each_stage_goes_where_what_it_needs_is"),
    "deadline *": ("a farm", "farm/test_page.py::test_the_bundle_for_deadline_cloud_is_a_job_of_as_many_tasks"),
    "deadlinecommand *": ("a farm", "farm/test_page.py::test_frames_of_deadline_are_all_parts_once"),
    "mkdir *": ("belongs to a farm", "farm/test_page.py::test_the_bundle_for_deadline_cloud_is_a_job_of_as_many_tasks"),
    "python -c *": (
        "belongs to a farm",
        "farm/test_page.py::test_the_bundle_for_deadline_cloud_is_a_job_of_as_many_tasks",
    ),
}
# What comes first on the page, where no file tells.
AFTER = {
    "keylift weights use --back": "keylift weights use our-stage",
    "*--resume": "keylift train CONFIG.toml --run runs/mine",
}
SLOW = ("*capture *", "python3 dev.py demo", "keylift batch *")
# Numbers where a scheduler would put its own.
SPOKEN = {'"$SLURM_ARRAY_TASK_ID/$2"': "3/20", '"$1"': "lift"}
OUTPUT_OPTIONS = ("-o", "--preview", "--run", "--keep")
FRAMES = 12

PAGES = all_commands()


def not_here(command: Command) -> bool:
    return any(fnmatchcase(command.text, pattern) for pattern in ELSEWHERE)


def arguments_of(command: Command) -> list[str] | None:
    """What Keylift is given, whoever starts it; None for another program."""
    text = command.text
    for written, spoken in SPOKEN.items():
        text = text.replace(written, spoken)
    words = shlex.split(text)
    if "-m" in words and words[words.index("-m") + 1] == "keylift":
        return words[words.index("-m") + 2 :]
    if words[:3] == ["blender", "-c", "keylift"]:
        return words[3:]
    return words[1:] if words[0] == "keylift" else None


def outputs_of(command: Command) -> list[str]:
    words = shlex.split(command.text)
    return [word for option, word in zip(words, words[1:], strict=False) if option in OUTPUT_OPTIONS]


# ---- The files that the pages speak of ------------------------------------------------------------------


def film(path: Path) -> None:
    """A second of somebody who walks, a quarter of the size."""
    pictures = [frame.rgb[::2, ::2] for frame in open_footage(real_clip("cam03.mp4")).frames(0, FRAMES - 1)]
    write_video(path, pictures, fps=30)


HERO = """
import sys
sys.path.insert(0, sys.argv[2])
import bpy
from rig_samples import empty_scene, make_rig
empty_scene()
make_rig("default").name = "Armature"
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
"""


def hero(path: Path) -> None:
    pytest.importorskip("bpy")
    script = path.with_name("make-hero.py")
    script.write_text(HERO, encoding="utf-8")
    process = python(script, path, ROOT / "tests", cwd=path.parent)
    said = process.communicate(timeout=120)
    assert process.wait() == 0, said


def job_file(path: Path) -> None:
    path.write_text(
        '[defaults]\nrig = "skeleton"\nformats = [".bvh"]\n[[jobs]]\nclips = "rushes/*.mp4"\n', encoding="utf-8"
    )


def published(path: Path) -> None:
    """A checkpoint as the field has them."""
    import torch
    from torch import nn

    values, channels = 34, 8
    parameters = {"expand_conv.weight": torch.randn(channels, values, 3), "shrink.weight": torch.randn(51, channels, 1)}
    parameters |= {"shrink.bias": torch.zeros(51)}
    for index, kernel in enumerate((3, 1, 3, 1)):
        parameters[f"layers_conv.{index}.weight"] = torch.randn(channels, channels, kernel)
    for name in ("expand_bn", *(f"layers_bn.{index}" for index in range(4))):
        parameters |= {f"{name}.{key}": value for key, value in nn.BatchNorm1d(channels).state_dict().items()}
    torch.save({"epoch": 80, "model_pos": parameters}, path)


def training_config(path: Path) -> None:
    """A run of seconds whose weights are called as the page calls them."""
    write_motion(path.with_name("walk.npz"), frames=60)
    path.write_text(CONFIG.replace('"tiny"', '"NAME"').replace("epochs = 5", "epochs = 2"), encoding="utf-8")


def own_weights(folder: Path) -> None:
    weights = folder / "data" / "weights"
    weights.mkdir(parents=True)
    shutil.copy(ROOT / "core" / "weights" / "default.safetensors", weights / "our-stage.safetensors")


SAMPLES: dict[str, Callable[[Path], Any]] = {
    "dance.mp4": film,
    "hero.blend": hero,
    "night.toml": job_file,
    "CONFIG.toml": training_config,
    "pretrained_h36m_cpn.bin": published,
    "cpn-ft-243-dbb-causal.bin": published,
    "published.bin": published,
}


class Workplace:
    """A folder in which the commands of the pages are carried out, each once; what one needs is made before."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: dict[str, Run] = {}
        own_weights(folder)

    def carry_out(self, command: Command) -> Run:
        """Run a command after those that it needs."""
        if command.text not in self.runs:
            for pattern, first in AFTER.items():
                if fnmatchcase(command.text, pattern):
                    self.carry_out(next(other for other in PAGES if other.text == first))
            self.bring_what_it_needs(command)
            arguments = arguments_of(command)
            assert arguments is not None
            self.runs[command.text] = keylift(*arguments, cwd=self.folder, env=self.variables())
        return self.runs[command.text]

    def variables(self) -> dict[str, str]:
        return {"KEYLIFT_DATA": str(self.folder / "data")}

    def bring_what_it_needs(self, command: Command) -> None:
        outputs = set(outputs_of(command))
        for word in shlex.split(command.text):
            name = word.removesuffix(":Armature")
            if name in outputs or (self.folder / name).exists():
                continue
            if name in SAMPLES:
                SAMPLES[name](self.folder / name)
            if name == "night.toml" or name == "rushes/":
                (self.folder / "rushes").mkdir(exist_ok=True)
                film(self.folder / "rushes" / "walk.mp4")
            for other in PAGES:
                if name in outputs_of(other) and not not_here(other):
                    self.carry_out(other)
                    break


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    # Before any of them is timed or fails for it.
    full_model()
    return Workplace(tmp_path_factory.mktemp("somebody's folder"))


def to_be_run() -> list[Any]:
    chosen = [command for command in PAGES if not not_here(command) and arguments_of(command) is not None]
    slow = [any(fnmatchcase(command.text, pattern) for pattern in SLOW) for command in chosen]
    return [
        pytest.param(command, id=command.text, marks=[pytest.mark.slow] if late else [])
        for command, late in zip(chosen, slow, strict=True)
    ]


@pytest.mark.parametrize("command", to_be_run())
def test_it_does_what_the_page_says(command: Command, workplace: Workplace) -> None:
    if any(word in command.text for word in (".blend", "capture", "batch rushes")):
        pytest.importorskip("bpy")
    run = workplace.carry_out(command)
    assert run.code == 0, f"{command.page}: {command}\n{run.err}"
    for output in outputs_of(command):
        assert (workplace.folder / output).exists(), f"{command.page}: {command} left no {output}"


# ---- What no run is needed for --------------------------------------------------------------------------


def test_every_command_is_run_or_told_why_not() -> None:
    known = {"keylift", "python3"}
    strange = [c for c in PAGES if not not_here(c) and c.program not in known]
    strange += [c for c in PAGES if c.program == "python3" and not not_here(c) and c.text != "python3 dev.py demo"]
    assert not strange, "run these, or say in ELSEWHERE why not: " + "; ".join(f"{c.page}: {c}" for c in strange)
    assert len(PAGES) > 50


@pytest.mark.parametrize("pattern", ELSEWHERE)
def test_what_is_run_elsewhere_is_still_on_a_page(pattern: str) -> None:
    assert any(fnmatchcase(command.text, pattern) for command in PAGES), "no page has it any more: take it out"
    file, _, name = ELSEWHERE[pattern][1].partition("::")
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {thing.name for thing in tree.body if isinstance(thing, ast.FunctionDef)}


@pytest.mark.parametrize("command", [pytest.param(c, id=c.text) for c in PAGES if arguments_of(c) is not None])
def test_keylift_understands_it(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        make_parser().parse_args(arguments_of(command))
    except SystemExit:
        pytest.fail(f"{command.page}: {command}\n{capsys.readouterr().err}")


@pytest.mark.parametrize("command", [pytest.param(c, id=c.text) for c in PAGES if "dev.py" in c.text])
def test_dev_py_understands_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    script, done = dev(), []
    monkeypatch.setattr(script, "run_with_python_that_fits", lambda arguments: None)
    for name in ("demo", "test", "matrix", "gui", "extension", "docs", "clean"):
        monkeypatch.setattr(script, name, lambda *given, name=name: done.append(name) or 0)
    words = shlex.split(command.text)
    assert words[:2] == ["python3", "dev.py"] and script.main(words[2:]) == 0
    assert done == [words[2]]


def understood_by_pip(words: list[str]) -> None:
    from pip._internal.commands import create_command

    options, wanted = create_command(words[0]).parse_args(words[1:])
    assert wanted or options.requirements


def understood_by_torchrun(words: list[str]) -> None:
    run = pytest.importorskip("torch.distributed.run")
    options = run.parse_args(words)
    assert options.module and options.training_script == "keylift"
    make_parser().parse_args(options.training_script_args)


def understood_by_dask(words: list[str]) -> None:
    pytest.importorskip("distributed")
    program = importlib.import_module(f"distributed.cli.dask_{words[0]}").main
    assert program.make_context(f"dask {words[0]}", words[1:]).params["scheduler_file"]


OTHERS = {
    "pip": understood_by_pip,
    "python -m pip": understood_by_pip,
    "torchrun": understood_by_torchrun,
    "dask": understood_by_dask,
}


def for_others() -> list[Any]:
    found = [(command, program) for command in PAGES for program in OTHERS if command.text.startswith(f"{program} ")]
    return [pytest.param(command, program, id=command.text) for command, program in found]


@pytest.mark.parametrize(("command", "program"), for_others())
def test_the_program_that_it_is_for_understands_it(command: Command, program: str) -> None:
    """Without a network, a cluster or several GPUs, what reads the command line is there all the same."""
    try:
        OTHERS[program](shlex.split(command.text)[len(program.split()) :])
    except (SystemExit, Exception) as problem:
        pytest.fail(f"{command.page}: {command}\n{problem!r}")


CONFIGS = sorted({word for c in PAGES for word in c.text.split() if word.startswith("training/configs/")})


@pytest.mark.parametrize("config", CONFIGS)
def test_what_takes_days_to_train_is_at_least_read(config: str) -> None:
    assert read_config(ROOT / config).name


def options_of(parser: argparse.ArgumentParser) -> dict[str, set[str]]:
    """Every option of each command, those of its sub-commands included."""
    (chosen,) = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]

    def known(one: argparse.ArgumentParser) -> set[str]:
        options = set(one._option_string_actions)
        for action in one._actions:
            if isinstance(action, argparse._SubParsersAction):
                options |= {option for below in action.choices.values() for option in known(below)}
        return options

    return {name: known(one) for name, one in chosen.choices.items()}


def test_commands_in_sentences_have_names_and_options_that_are_there() -> None:
    options, wrong = options_of(make_parser()), []
    for page, text in said_in_passing():
        words = text.replace("|", " ").split()
        name = words[1].strip(".,")
        if name.startswith("-") or not name.islower():
            continue
        if name not in COMMANDS and name != "...":
            wrong.append(f"{page}: `{text}`")
        for word in words[2:]:
            option = word.strip("[](),.").partition("=")[0]
            if option.startswith("-") and option.strip("-") and option not in options.get(name, ()):
                wrong.append(f"{page}: `{text}` ({option})")
    assert not wrong, "\n".join(wrong)


def test_commands_are_found_however_they_are_written() -> None:
    page = """
1. In a list:

   ```
   $ keylift rig hero.blend   # and why
   ```
```bash
keylift lift a.mp4 \\
    -o a.pose.npz || exit 1
footage -> keypoints
```
```python
keylift = 1
```
"""
    assert commands_in(page) == ["keylift rig hero.blend", "keylift lift a.mp4 -o a.pose.npz"]


@pytest.mark.slow
def test_the_demo_makes_what_the_front_page_lists(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("bpy")
    script = dev()
    monkeypatch.setattr(script, "ensure_venv", lambda: Path(sys.executable))
    monkeypatch.setattr(script, "run_with_python_that_fits", lambda arguments: None)
    monkeypatch.setattr(script, "ROOT", tmp_path)
    assert script.main(["demo"]) == 0
    made = sorted(os.listdir(tmp_path / "demo-output"))
    assert made == ["preview.mp4", "take.blend", "take.bvh", "take.glb"]
    assert "100 frames" in capfd.readouterr().out
    front_page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in front_page for name in made)


def test_the_example_of_the_api_runs(workplace: Workplace) -> None:
    example = example_in("api.md", "solve")
    if not (workplace.folder / "dance.mp4").exists():
        film(workplace.folder / "dance.mp4")
    script = workplace.folder / "example.py"
    script.write_text(example + "\nassert world_m.shape[1:] == (41, 3)\n", encoding="utf-8")
    process = python(script, cwd=workplace.folder)
    said = process.communicate(timeout=120)
    assert process.wait() == 0, said
    assert (workplace.folder / "dance.bvh").stat().st_size > 5000


def example_in(page: str, word: str) -> str:
    """The Python of a page that has ``word`` in it."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return next(block for _, language, block in BLOCK.findall(text) if language == "python" and word in block)


def test_keypoints_written_as_the_page_says_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = {"xy": np.ones((5, 17, 2)), "confidence": np.ones((5, 17)), "names": KEYPOINT_LAYOUTS["coco17"]}
    exec(example_in("file-formats.md", "np.savez"), given)
    assert read_keypoints(tmp_path / "dance.keypoints.npz").layout == "coco17"


def test_published_weights_lift_as_the_page_says(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    importing = next(command for command in PAGES if "--input-layout coco17" in command.text)
    assert workplace.carry_out(importing).code == 0
    monkeypatch.chdir(workplace.folder)
    given: dict[str, Any] = {"xy_px": np.full((40, 17, 2), 500.0)}
    exec(example_in("training.md", "lift_normalised"), given)
    assert given["positions_m"].shape == (40, 17, 3)
