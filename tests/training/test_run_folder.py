"""Damaged checkpoints, folders that hold another run, and what a run leaves for people to look at."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from keylift.core.errors import Cancelled, FileFormatError, OutputError
from keylift.core.weights import read_header
from keylift.training import checkpoints, run_folder
from keylift.training.loop import computed_in
from keylift.training.run_folder import RunFolder, belongs_to_launch, claim, draw_curves, thinned
from keylift.training.sequences import data, synthetic_film
from keylift.training.train import train_from_config
from shell_runs import content
from training_runs import STEPS, WEIGHTS, checkpoint_names, log_of, same_weights, scalars_of, write_motion, write_run

STOP_AT = 8
NEWEST, BEFORE = (f"step-{step:09d}.safetensors" for step in (STOP_AT, STOP_AT - 1))


def train(config: Path, run: Path, *, resume: bool = False, stop_at: int = STEPS + 1) -> list[str]:
    """Train in this process, up to a step; what a person was told."""
    told: list[str] = []

    def progress(done: int, total: int | None) -> bool:
        return done < stop_at

    try:
        train_from_config(config, run_folder=run, resume=resume, device="cpu", progress=progress, tell=told.append)
    except Cancelled:
        assert stop_at <= STEPS
    return told


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    train(config, run)
    return run


@pytest.fixture(scope="module")
def stopped_at_eight(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("stopped") / "run"
    train(config, run, stop_at=STOP_AT)
    assert checkpoint_names(run) == [BEFORE, NEWEST]
    return run


@pytest.fixture
def stopped(stopped_at_eight: Path, tmp_path: Path) -> Path:
    """A run that was stopped, with two sound checkpoints."""
    return Path(shutil.copytree(stopped_at_eight, tmp_path / "run"))


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip_a_byte_of_the_values(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[-1000] ^= 1
    path.write_bytes(whole)


def tell_another_step(path: Path) -> None:
    whole = path.read_bytes()
    assert whole.count(b'"step":"8"') == 1
    path.write_bytes(whole.replace(b'"step":"8"', b'"step":"9"'))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_rubbish(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(5000))


def replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "something").write_text("kept")


DAMAGES = [cut_short, flip_a_byte_of_the_values, tell_another_step, empty, replace_by_rubbish, replace_by_a_folder]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    damage: Callable[[Path], None], config: Path, whole: Path, stopped: Path
) -> None:
    damage(stopped / "checkpoints" / NEWEST)
    (sentence,) = train(config, stopped, resume=True)
    assert NEWEST in sentence and "damaged" in sentence and "going on from one before" in sentence
    assert same_weights(stopped, whole) and log_of(stopped) == log_of(whole)
    assert checkpoint_names(stopped)[-2:] == [f"step-{STEPS - 1:09d}.safetensors", f"step-{STEPS:09d}.safetensors"]
    # Nothing of it is lost, should somebody want to look.
    assert (stopped / "checkpoints" / (NEWEST + ".damaged")).exists()


def test_damaged_checkpoints_of_later_steps_are_not_kept_instead_of_new_ones(config: Path, stopped: Path) -> None:
    for step in (20, 21, 22):
        (stopped / "checkpoints" / f"step-{step:09d}.safetensors").write_bytes(b"rubbish")
    assert len(train(config, stopped, resume=True, stop_at=STOP_AT + 1)) == 4
    assert train(config, stopped, resume=True, stop_at=STOP_AT + 2) == [
        f"Stopped after step {STOP_AT + 2} of {STEPS}. --resume goes on from there."
    ]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_when_all_are_damaged_it_says_so_and_touches_nothing(
    damage: Callable[[Path], None], config: Path, stopped: Path
) -> None:
    for path in (stopped / "checkpoints").iterdir():
        if damage is not tell_another_step or path.name == NEWEST:
            damage(path)
        else:
            empty(path)
    before = content(stopped)
    with pytest.raises(FileFormatError, match="Every checkpoint.*Train without --resume in another folder"):
        train(config, stopped, resume=True)
    assert content(stopped) == before


def test_no_flipped_byte_goes_unnoticed(tmp_path: Path) -> None:
    lesson = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(lesson.parameters(), amsgrad=True)
    lesson(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    standing = checkpoints.Standing(3, 1.5, [{"step": 2.0, "seconds": 1.0, "loss": 0.25}], {"loss": [0.125]})
    checkpoints.save(tmp_path, {"name": "x"}, standing, lesson, optimiser)
    (path,) = checkpoints.saved(tmp_path)
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(FileFormatError):
            checkpoints.load(tmp_path, {"name": "x"}, lesson, optimiser)
    path.write_bytes(sound)
    found, sentences = checkpoints.load(tmp_path, {"name": "x"}, lesson, optimiser)
    assert vars(found) == vars(standing) and sentences == []


def test_other_circumstances_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(lesson.parameters())
    checkpoints.save(tmp_path, {}, checkpoints.Standing(3), lesson, optimiser)
    monkeypatch.setattr(checkpoints.processes, "world_size", lambda: 4)
    _, (sentence,) = checkpoints.load(tmp_path, {}, lesson, optimiser)
    assert "processes 1, now 4" in sentence and "threads" not in sentence


def test_a_checkpoint_of_another_network_is_explained(tmp_path: Path) -> None:
    lesson, other = torch.nn.Linear(3, 2), torch.nn.Linear(4, 2)
    checkpoints.save(tmp_path, {}, checkpoints.Standing(3), lesson, torch.optim.Adam(lesson.parameters()))
    with pytest.raises(FileFormatError, match="doesn't fit this version"):
        checkpoints.load(tmp_path, {}, other, torch.optim.Adam(other.parameters()))


def test_another_configuration_is_refused_and_touches_nothing(config: Path, stopped: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path, ("batch = 31", "batch = 30"))
    before = content(stopped)
    with pytest.raises(FileFormatError, match="another configuration"):
        train(other, stopped, resume=True)
    assert content(stopped) == before


def test_a_run_is_not_written_over(config: Path, stopped: Path, whole: Path) -> None:
    for run in (stopped, whole):
        before = content(run)
        with pytest.raises(OutputError, match="holds a run already.*--resume"):
            train(config, run)
        assert content(run) == before


def test_weights_without_checkpoints_are_not_written_over(config: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    shutil.copy(whole / WEIGHTS, run)
    with pytest.raises(OutputError, match="holds a run already"):
        train(config, run)


def under_torchrun(monkeypatch: pytest.MonkeyPatch, restarts: int, rank: int = 0) -> None:
    """What torchrun tells its processes; it calls every launch ``none`` unless told otherwise."""
    told = {"TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": restarts, "RANK": rank, "WORLD_SIZE": 1}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))


def test_a_run_goes_on_after_a_restart_of_the_launch_that_began_it(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    under_torchrun(monkeypatch, restarts=0)
    train(config, run, stop_at=STOP_AT)
    under_torchrun(monkeypatch, restarts=1)
    train(config, run)
    assert same_weights(run, whole) and log_of(run) == log_of(whole)
    # The next launch has the same name.
    for restarts in (0, 1):
        under_torchrun(monkeypatch, restarts)
        with pytest.raises(OutputError, match="holds a run already"):
            train(config, run)
    assert same_weights(run, whole) and log_of(run) == log_of(whole)


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_restart_does_not_write_over_a_run_of_another_launch(
    restarts: int, config: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_torchrun(monkeypatch, restarts)
    before = content(whole)
    with pytest.raises(OutputError, match="holds a run already"):
        train(config, whole)
    assert content(whole) == before


def test_all_processes_of_a_start_agree_on_whether_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one notes the launch, perhaps before the second one looks."""
    under_torchrun(monkeypatch, restarts=1)
    assert not belongs_to_launch(tmp_path)
    claim(tmp_path)
    under_torchrun(monkeypatch, restarts=1, rank=1)
    assert not belongs_to_launch(tmp_path)
    under_torchrun(monkeypatch, restarts=2, rank=1)
    assert belongs_to_launch(tmp_path)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "another")
    assert not belongs_to_launch(tmp_path)
    for damaged in ("", "[]", "{}", '{"launch": "another", "restarts": "x"}'):
        (tmp_path / "torchrun.json").write_text(damaged)
        assert not belongs_to_launch(tmp_path)


def test_without_torchrun_nothing_is_noted(whole: Path) -> None:
    assert not (whole / "torchrun.json").exists()


def test_other_data_is_refused_and_named(config: Path, stopped: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path)
    write_motion(tmp_path / "walk.npz", frames=190)
    with pytest.raises(FileFormatError, match="The data of the run .* has changed"):
        train(other, stopped, resume=True)


def test_weights_keep_a_thinned_log(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keylift.training.run_folder.MAX_ENTRIES_IN_WEIGHTS", 3)
    train(config, tmp_path / "run")
    told, kept = log_of(tmp_path / "run"), read_header(tmp_path / "run" / WEIGHTS)["training"]["log"]
    assert [entry["step"] for entry in told] == [6, 12, 18, 24, 30]
    assert [entry["step"] for entry in kept] == [6, 18, 30]


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 399, 400, 401, 12345])
def test_a_thinned_log_is_evenly_spread_and_has_its_end(count: int) -> None:
    log = [{"step": float(step)} for step in range(count)]
    kept = thinned(log)
    assert kept[-1] == log[-1] and len(kept) <= 200 and (len(kept) >= 100 or kept == log)
    assert len({int(after["step"] - before["step"]) for before, after in zip(kept, kept[1:], strict=False)}) <= 1


def test_guesses_of_the_motion_readers_are_told_once(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = synthetic_film.read_motion_from
    note = "The walker's unit was guessed."
    monkeypatch.setattr(
        synthetic_film, "read_motion_from", lambda *given: dataclasses.replace(read(*given), notes=(note,))
    )
    data._film.cache_clear()
    told = train(config, tmp_path / "run", stop_at=1)
    data._film.cache_clear()
    assert told.count(note) == 1


def test_resuming_nothing_starts_from_the_beginning_and_says_so(config: Path, tmp_path: Path) -> None:
    (sentence, _) = train(config, tmp_path / "run", resume=True, stop_at=2)
    assert "There is no checkpoint" in sentence and "from the beginning" in sentence
    assert (tmp_path / "run" / "config.toml").exists()


def test_a_finished_run_can_be_resumed_and_gives_its_weights_again(config: Path, whole: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    (run / WEIGHTS).unlink()
    assert train(config, run, resume=True) == []
    assert same_weights(run, whole) and log_of(run) == log_of(whole)


def test_what_a_killed_process_left_half_written_is_cleared_away(config: Path, stopped: Path) -> None:
    for folder in (stopped, stopped / "checkpoints"):
        (folder / ".keylift-abc").mkdir()
        (folder / ".keylift-abc" / NEWEST).write_bytes(b"half")
    train(config, stopped, resume=True, stop_at=STOP_AT + 1)
    assert not list(stopped.rglob(".keylift-*"))


def test_tensorboard_shows_what_the_log_says(whole: Path) -> None:
    scalars, log = scalars_of(whole), log_of(whole)
    assert {"loss", "loss_pose", "loss_trajectory", "loss_projection", "loss_bones", "p_mpjpe_mm"} <= set(scalars)
    for name, points in scalars.items():
        wanted = [(entry["step"], pytest.approx(entry[name], rel=1e-6)) for entry in log if name in entry]
        assert points == wanted


def test_without_tensorboard_the_run_goes_on_and_says_so_once(
    config: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, module)
    for module in [name for name in sys.modules if name.split(".")[0] == "tensorboard"] + ["tensorboard"]:
        monkeypatch.setitem(sys.modules, module, None)
    told = train(config, tmp_path / "run")
    assert len(told) == 1 and "TensorBoard is not installed" in told[0]
    assert same_weights(tmp_path / "run", whole) and log_of(tmp_path / "run") == log_of(whole)


def test_curves_show_losses_that_join_in_later(tmp_path: Path) -> None:
    from matplotlib.image import imread

    log = [{"step": float(step), "seconds": 1.0, "loss": 2 / step, "p_mpjpe_mm": 90.0 - step} for step in (1, 2, 3, 4)]
    draw_curves(log, tmp_path / "without.png")
    for entry in log[2:]:
        entry["loss_bones"] = 1.0
    draw_curves(log, tmp_path / "with.png")
    without, with_bones = imread(tmp_path / "without.png"), imread(tmp_path / "with.png")
    assert without.shape == with_bones.shape and not np.array_equal(without, with_bones)


def test_curves_are_drawn_now_and_then_and_at_every_end(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def draw(log: list[dict[str, float]], path: Path) -> None:
        drawn.append(len(log))
        assert path == tmp_path / "run" / "curves.png"

    monkeypatch.setattr(run_folder, "draw_curves", draw)
    train(config, tmp_path / "run", stop_at=STOP_AT)
    assert drawn == [1], "a stop is an end"
    train(config, tmp_path / "run", resume=True)
    assert drawn == [1, 5]
    monkeypatch.setattr(run_folder, "DRAWN_EVERY_S", 0.0)
    shutil.rmtree(tmp_path / "run")
    train(config, tmp_path / "run")
    assert drawn == [1, 5, 1, 2, 3, 4, 5]
    # A process that was killed between its last checkpoint and the picture.
    train(config, tmp_path / "run", resume=True)
    assert drawn[-1] == 5 and len(drawn) == 8
    with pytest.raises(OSError), RunFolder(tmp_path / "run", {}, log=[{"step": 1.0}]):
        raise OSError
    assert len(drawn) == 8


def test_a_helper_process_writes_nothing(tmp_path: Path) -> None:
    with RunFolder(None, {}) as record:
        record.add([{"step": 1.0, "loss": 1.0}])
    assert not list(tmp_path.iterdir())


def test_bfloat16_learns_on_the_processor(tmp_path: Path) -> None:
    config = write_run(
        tmp_path,
        ("epochs = 5", 'precision = "bfloat16"\nepochs = 12'),
        ("dropout = 0.25", "dropout = 0.0"),
        ("enabled = true", "enabled = false"),
    )
    run = tmp_path / "run"
    seen: set[torch.dtype] = set()
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, _, output: seen.add(output.dtype) if isinstance(module, torch.nn.BatchNorm1d) else None
    )
    try:
        train_from_config(config, run_folder=run, device="cpu")
    finally:
        handle.remove()
    # In validation it is float32.
    assert seen == {torch.bfloat16, torch.float32}
    tensors = checkpoints._read(checkpoints.saved(run)[0])[1]
    assert all(value.dtype in (torch.float32, torch.int64) and value.isfinite().all() for value in tensors.values())
    first, *_, last = log_of(run)
    assert last["loss_pose"] < 0.9 * first["loss_pose"] and last["mpjpe_mm"] < 0.9 * first["mpjpe_mm"]


@pytest.mark.parametrize(("precision", "halved"), [("auto", False), ("float32", False), ("bfloat16", True)])
def test_the_processor_computes_in_half_precision_only_when_told(precision: str, halved: bool) -> None:
    with computed_in(precision, torch.device("cpu")):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if halved else torch.float32)
