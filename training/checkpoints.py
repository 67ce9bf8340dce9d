"""Where a run stands, on disk: written whole, read without pickles, and the one before kept in reserve."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from ..core.device_failures import device_failure
from ..core.errors import FileFormatError
from ..core.output_files import written_whole
from ..core.outside_text import is_number, json_value
from . import processes

RUN_ADVICE = "Choose another folder with --run."
FOLDER = "checkpoints"
KEPT = 2
SET_ASIDE = ".damaged"
_NAME = re.compile(r"step-(\d{9})\.safetensors")
_ELSEWHERE = "Train without --resume in another folder (--run)"


class _Damaged(Exception):
    """This checkpoint can't be used, but one before it may."""


@dataclass(frozen=True, eq=False)
class Standing:
    """Where a run stands besides its networks.

    log:     an entry for each validation
    pending: losses of each step since the last of them, by name
    """

    step: int = 0
    seconds: float = 0.0
    log: list[dict[str, float]] = field(default_factory=list)
    pending: dict[str, list[float]] = field(default_factory=dict)


def _circumstances() -> dict[str, Any]:
    """What else the last bits of a result depend on: sums are taken in the order that these bring about."""
    return {"processes": processes.world_size(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """Hash over all that a checkpoint says; safetensors notices a file cut short but no changed bytes."""
    found = hashlib.blake2b(digest_size=16)
    found.update(json.dumps({name: metadata[name] for name in metadata if name != "digest"}, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def _step_of(path: Path) -> int:
    named = _NAME.fullmatch(path.name)
    assert named is not None
    return int(named[1])


def saved(run_folder: Path) -> list[Path]:
    """Checkpoints of a run, the newest first."""
    folder = run_folder / FOLDER
    if not folder.is_dir():
        return []
    return sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def save(
    run_folder: Path, config: Mapping[str, Any], standing: Standing, lesson: nn.Module, optimiser: Optimizer
) -> None:
    """Write everything that the next step depends on, and drop all but the newest checkpoints.

    Dropout and batches depend on the seed and the number of the step alone, so no random state is left out.
    """
    tensors = {f"lesson.{name}": value for name, value in lesson.state_dict().items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors.update({f"optimiser.{index}.{name}": value for name, value in state.items()})
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    metadata = {
        "step": str(standing.step),
        "seconds": str(standing.seconds),
        "log": json.dumps(standing.log),
        "pending": json.dumps(standing.pending),
        "config": json.dumps(config, sort_keys=True),
        "circumstances": json.dumps(_circumstances()),
    }
    metadata["digest"] = _digest(metadata, tensors)
    with written_whole(run_folder / FOLDER / f"step-{standing.step:09d}.safetensors", RUN_ADVICE) as beside:
        # Written here rather than by safetensors, whose errors don't tell a full disk from anything else.
        beside.write_bytes(serialised(tensors, metadata))
    for old in [path for path in saved(run_folder) if _step_of(path) <= standing.step][KEPT:]:
        # What can't be removed now (Windows, while a virus scanner reads it) will be after the next one.
        with suppress(OSError):
            old.unlink()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not path.is_file():
        raise _Damaged("it is no file")
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            # Copies: the file stays open below the tensors that it gives, and Windows removes no open file.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - not a dictionary
        sound = metadata.get("digest") == _digest(metadata, tensors)
    except (OSError, SafetensorError, ValueError, TypeError, LookupError, AttributeError, RuntimeError) as problem:
        raise _Damaged(str(problem)) from problem
    if not sound:
        raise _Damaged("its content is not what was written")
    return metadata, tensors


@dataclass(frozen=True, eq=False)
class _Said:
    """What a checkpoint says of its run. A digest keeps no lies out: whoever makes them makes it as well."""

    standing: Standing
    config: dict[str, Any]
    circumstances: dict[str, Any]

    @classmethod
    def of(cls, metadata: Mapping[str, str]) -> _Said:
        """Raises _Damaged."""
        try:
            log, pending, config, before = (
                json_value(metadata[name]) for name in ("log", "pending", "config", "circumstances")
            )
            standing = Standing(int(metadata["step"]), float(metadata["seconds"]), log, pending)
        except (ValueError, KeyError) as problem:
            raise _Damaged(f"what it says of itself makes no sense: {problem}") from problem
        entries: list[Any] = [*log, {}] if isinstance(log, list) else [None]
        losses = pending.values() if isinstance(pending, dict) else [None]
        if (
            not 0 <= standing.step < 10**9
            or not 0 <= standing.seconds < float("inf")
            or not all(isinstance(entry, dict) and all(map(_is_value, entry.values())) for entry in entries)
            or not all("step" in entry and "seconds" in entry for entry in entries[:-1])
            or not all(isinstance(values, list) and all(map(_is_value, values)) for values in losses)
            or not (isinstance(config, dict) and isinstance(before, dict))
        ):
            raise _Damaged("what it says of itself makes no sense")
        return cls(standing, config, before)


def _is_value(value: object) -> bool:
    """Whether it is a number; a loss that went wrong is none that can be computed with, and one all the same."""
    return type(value) is float or is_number(value)


def load(
    run_folder: Path, config: Mapping[str, Any], lesson: nn.Module, optimiser: Optimizer
) -> tuple[Standing | None, list[str]]:
    """Put the newest sound checkpoint back; None when the run has none yet.

    returns: where the run stands, and sentences for a person: which checkpoints are damaged and were set aside, and
             why the run may not go on bit for bit
    Raises FileFormatError when it was made with another configuration, or all of them are damaged.
    """
    passed_over: list[tuple[Path, _Damaged]] = []
    for path in saved(run_folder):
        try:
            metadata, tensors = _read(path)
            said = _Said.of(metadata)
        except _Damaged as problem:
            passed_over.append((path, problem))
            continue
        if metadata["config"] != json.dumps(config, sort_keys=True):
            if _same_settings(said.config, config):
                raise FileFormatError(
                    f"The data of the run in '{run_folder}' has changed. {_ELSEWHERE}, or put the data back."
                )
            raise FileFormatError(
                f"The run in '{run_folder}' was made with another configuration. {_ELSEWHERE}, or put the "
                "configuration back."
            )
        _put_back(path, tensors, lesson, optimiser)
        sentences = [_set_aside(damaged, problem) for damaged, problem in passed_over]
        before, now = said.circumstances, _circumstances()
        if differing := [
            f"{name} {before.get(name)}, now {now[name]}" for name in now if before.get(name) != now[name]
        ]:
            sentences.append(
                f"The checkpoint '{path.name}' was made with {'; '.join(differing)}. The run goes on, though its last "
                "digits won't be those of one that never stopped."
            )
        return said.standing, sentences
    if passed_over:
        reasons = "; ".join(f"{path.name}: {problem}" for path, problem in passed_over)
        raise FileFormatError(f"Every checkpoint in '{run_folder / FOLDER}' is damaged ({reasons}). {_ELSEWHERE}.")
    return None, []


def _same_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True when two runs differ in the content of their data at most."""

    def settings(config: Mapping[str, Any]) -> str:
        return json.dumps({**config, "data_sha256": None}, sort_keys=True)

    return settings(one) == settings(other)


def _set_aside(path: Path, problem: _Damaged) -> str:
    """Give a damaged checkpoint a name that is no checkpoint's, and say so."""
    aside = path.with_name(path.name + SET_ASIDE)
    if processes.rank() == 0:
        with suppress(OSError):
            os.replace(path, aside)
    return (
        f"The checkpoint '{path.name}' is damaged ({problem}) and now called '{aside.name}'; going on from one before."
    )


def _put_back(path: Path, tensors: Mapping[str, Tensor], lesson: nn.Module, optimiser: Optimizer) -> None:
    try:
        state = _optimiser_state(tensors, optimiser)
        lesson.load_state_dict({n.removeprefix("lesson."): t for n, t in tensors.items() if n.startswith("lesson.")})
        optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    except (RuntimeError, ValueError) as problem:
        if (failed := device_failure(problem)) is not None:
            raise failed from problem
        raise FileFormatError(
            f"The checkpoint '{path}' doesn't fit this version of Keylift. {_ELSEWHERE}, or use the version it is from."
        ) from problem


def _optimiser_state(tensors: Mapping[str, Tensor], optimiser: Optimizer) -> dict[int, dict[str, Tensor]]:
    """What the optimiser keeps of each parameter. Raises ValueError where it doesn't fit: torch would not look."""
    parameters = [one for group in optimiser.param_groups for one in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, part = name.split(".")
            if not 0 <= int(index) < len(parameters) or not tensor.is_floating_point():
                raise ValueError(f"{name} is of no parameter")
            if tensor.shape != (() if part == "step" else parameters[int(index)].shape):
                raise ValueError(f"{name} is as large as no parameter")
            state.setdefault(int(index), {})[part] = tensor
    needed = {"step", "exp_avg", "exp_avg_sq"} if isinstance(optimiser, Adam) else set()
    if any(group.get("amsgrad") for group in optimiser.param_groups):
        needed.add("max_exp_avg_sq")
    if not all(needed <= parts.keys() for parts in state.values()):
        raise ValueError("something is missing")
    return state
