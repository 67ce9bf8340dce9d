"""Where a run stands, on disk: written whole, read without pickles, and the one before kept in reserve."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from ..core.errors import FileFormatError
from ..core.output_files import written_whole

RUN_ADVICE = "Choose another folder with --run."
FOLDER = "checkpoints"
KEPT = 2
_NAME = re.compile(r"step-(\d{9})\.safetensors")


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


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Hash over names and values; safetensors notices a file cut short but no changed bytes."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


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
        "digest": _digest(tensors),
    }
    with written_whole(run_folder / FOLDER / f"step-{standing.step:09d}.safetensors", RUN_ADVICE) as beside:
        save_file(tensors, str(beside), metadata)
    for old in saved(run_folder)[KEPT:]:
        old.unlink(missing_ok=True)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (OSError, SafetensorError, ValueError) as problem:
        raise _Damaged(str(problem)) from problem
    if metadata.get("digest") != _digest(tensors):
        raise _Damaged("its content is not what was written")
    return metadata, tensors


def load(
    run_folder: Path, config: Mapping[str, Any], lesson: nn.Module, optimiser: Optimizer
) -> tuple[Standing | None, list[str]]:
    """Put the newest sound checkpoint back; None when the run has none yet.

    returns: where the run stands, and a sentence for each checkpoint that was passed over because it is damaged
    Raises FileFormatError when it was made with another configuration, or all of them are damaged.
    """
    folder = run_folder / FOLDER
    for left_behind in folder.glob(".keylift-*"):
        # Half-written by a process that was killed.
        shutil.rmtree(left_behind, ignore_errors=True)
    passed_over = []
    for path in saved(run_folder):
        try:
            metadata, tensors = _read(path)
        except _Damaged as problem:
            passed_over.append(f"The checkpoint '{path.name}' is damaged ({problem}); going on from the one before.")
            continue
        if metadata["config"] != json.dumps(config, sort_keys=True):
            raise FileFormatError(
                f"The run in '{run_folder}' was made with another configuration. Train without --resume in another "
                "folder (--run), or put the configuration back."
            )
        _put_back(tensors, lesson, optimiser)
        log, pending = json.loads(metadata["log"]), json.loads(metadata["pending"])
        return Standing(int(metadata["step"]), float(metadata["seconds"]), log, pending), passed_over
    if passed_over:
        raise FileFormatError(f"Every checkpoint in '{folder}' is damaged. Train without --resume in another folder.")
    return None, []


def _put_back(tensors: Mapping[str, Tensor], lesson: nn.Module, optimiser: Optimizer) -> None:
    lesson.load_state_dict({n.removeprefix("lesson."): t for n, t in tensors.items() if n.startswith("lesson.")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, index, part = name.split(".")
            state.setdefault(int(index), {})[part] = tensor
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
