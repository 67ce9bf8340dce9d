"""What a run leaves: its configuration, its log, TensorBoard's scalars, a picture of its curves, and the weights."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from ..core.errors import Cancelled, OutputError
from ..core.output_files import written_whole
from ..core.outside_text import json_value, text_within
from ..core.weights import write_weights
from . import processes
from .checkpoints import FOLDER, RUN_ADVICE, Standing, saved

# Keys of a log entry that are no curve.
_COUNTERS = ("step", "seconds")
# The header of a weights file has little room.
MAX_ENTRIES_IN_WEIGHTS = 200
# To draw the curves takes half a second, which of small runs would be more than the learning.
DRAWN_EVERY_S = 30.0
_LAUNCH = "torchrun.json"
_MAX_LAUNCH_BYTES = 10_000


def check_new(run_folder: Path, *, of_study: bool = False) -> None:
    """Raise OutputError when the folder holds a run that a new one would write over.

    of_study: look for runs in the folders below as well, where a label study keeps its own
    """
    below = [path for path in run_folder.glob("*") if path.is_dir()] if of_study else []
    for folder in (run_folder, *below):
        if saved(folder) or next(folder.glob("*.safetensors"), None) is not None:
            raise OutputError(
                f"'{run_folder}' holds a run already. Go on with it by --resume, or choose another folder with --run."
            )


def claim(run_folder: Path) -> None:
    """Raise OutputError when the folder holds a run; else it is the run of this launch of torchrun, which is noted.

    What torchrun starts again after a process has died finds the note by ``belongs_to_launch``.
    """
    if processes.is_first() and processes.restarts() == 0:
        # Launches may have the same name. Should the folder be refused now, it must be after a restart too.
        with suppress(OSError):
            (run_folder / _LAUNCH).unlink()
    check_new(run_folder)
    if processes.is_first() and processes.launch_id() is not None:
        with written_whole(run_folder / _LAUNCH, RUN_ADVICE) as beside:
            note = {"launch": processes.launch_id(), "restarts": processes.restarts()}
            beside.write_text(json.dumps(note), encoding="utf-8")


def belongs_to_launch(run_folder: Path) -> bool:
    """True when torchrun started this process again, and the folder's run was begun by the same launch before that."""
    launch, path = processes.launch_id(), run_folder / _LAUNCH
    try:
        if launch is None:
            return False
        note = json_value(text_within(path, _MAX_LAUNCH_BYTES))
        # A note of this very start, by a process that was faster, is of no run yet.
        return bool(note["launch"] == launch and note["restarts"] < processes.restarts())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def thinned(log: list[dict[str, float]]) -> list[dict[str, float]]:
    """At most ``MAX_ENTRIES_IN_WEIGHTS`` entries of a log, evenly spread, its last one among them."""
    every = max(1, -(-len(log) // MAX_ENTRIES_IN_WEIGHTS))
    return log[::-1][::every][::-1]


def _remove_left_behind(run_folder: Path) -> None:
    """Remove what a process that was killed had half written."""
    for folder in (run_folder, run_folder / FOLDER):
        for left_behind in folder.glob(".keylift-*"):
            shutil.rmtree(left_behind, ignore_errors=True)


class RunFolder:
    """Writes a run's log as it goes; a context manager. With ``path`` None (a helper process) it writes nothing.

    first_step: step that the run goes on from
    tell:       hears what a person should know
    log:        what was logged up to there
    """

    def __init__(
        self,
        path: Path | None,
        config: Mapping[str, Any],
        first_step: int = 0,
        tell: Callable[[str], None] = lambda _: None,
        log: Sequence[dict[str, float]] = (),
    ) -> None:
        self.path = path
        self._scalars: Any = None
        self._undrawn, self._drawn_at = list(log), time.monotonic()
        if path is None:
            return
        _remove_left_behind(path)
        with written_whole(path / "config.json", RUN_ADVICE) as beside:
            beside.write_text(json.dumps(config, indent=1), encoding="utf-8")
        self._scalars = _scalar_writer(path / "tensorboard", first_step)
        if self._scalars is None:
            tell("TensorBoard is not installed, so it gets no scalars; log.json and curves.png hold the same values.")

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scalars is not None:
            self._scalars.close()
        if kind is None or issubclass(kind, Cancelled):
            self._draw()

    def add(self, log: list[dict[str, float]]) -> None:
        """Write the log with its newest entry, as JSON and as TensorBoard scalars; as a picture now and then."""
        if self.path is None:
            return
        with written_whole(self.path / "log.json", RUN_ADVICE) as beside:
            beside.write_text(json.dumps(log, indent=1), encoding="utf-8")
        newest = log[-1]
        if self._scalars is not None:
            for name, value in newest.items():
                if name not in _COUNTERS:
                    self._scalars.add_scalar(name, value, int(newest["step"]))
            self._scalars.flush()
        self._undrawn = log
        if time.monotonic() - self._drawn_at >= DRAWN_EVERY_S:
            self._draw()

    def _draw(self) -> None:
        """Draw what has not been drawn yet."""
        if self.path is not None and self._undrawn:
            draw_curves(self._undrawn, self.path / "curves.png")
            self._undrawn, self._drawn_at = [], time.monotonic()


def _scalar_writer(folder: Path, first_step: int) -> Any:
    """TensorBoard's writer, or None where it is not installed; the rest of the log does without."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # What a run that was killed wrote beyond its last checkpoint is void.
    return SummaryWriter(str(folder), purge_step=first_step + 1)  # type: ignore[no-untyped-call]


def draw_curves(log: list[dict[str, float]], path: Path) -> None:
    """Learning curves as a picture: losses on the left, errors in millimetres on the right.

    A loss that joins in later (after a warm-up) has a curve from there on.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    for name in dict.fromkeys(name for entry in log for name in entry):
        axes = errors if name.endswith("_mm") else losses if name.startswith("loss") else None
        if name in _COUNTERS or axes is None:
            continue
        points = [(entry["step"], entry[name]) for entry in log if name in entry]
        label = name.removesuffix("_mm").replace("loss_", "").replace("_", "-")
        label = {"loss": "total"}.get(label, label)
        axes.plot(*zip(*points, strict=True), marker="." if len(points) < 100 else "", label=label)
    losses.set(title="Training loss", xlabel="step", ylabel="loss")
    if all(value > 0 for line in losses.get_lines() for value in line.get_ydata()):
        losses.set_yscale("log")
    errors.set(title="Error on the validation set", xlabel="step", ylabel="mm")
    for axes in (losses, errors):
        axes.grid(alpha=0.3, which="both")
        if axes.get_legend_handles_labels()[0]:
            # Below, where it hides no curve.
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=5, frameon=False)
        else:
            axes.set_axis_off()
    with written_whole(path, RUN_ADVICE) as beside:
        figure.savefig(beside, dpi=100)


def write_final_weights(
    run_folder: Path,
    config: Any,
    header: Mapping[str, Any],
    standing: Standing,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> Path:
    """Write the weights of a finished run with all that must be known of them, and return their file.

    Of a long log they keep evenly spread entries; ``log.json`` has all of it.

    config:  a ViewConfig or SequenceConfig
    header:  what the weights are, from the lesson
    facts:   of the data; metrics: errors on people that it never saw
    """
    header = {
        **header,
        "licence": config.data.licence,
        "acknowledgement": config.data.acknowledgement,
        "metrics": metrics,
        "training": {
            "config": config.as_dict(),
            "seconds": standing.seconds,
            "torch": torch.__version__,
            "processes": processes.world_size(),
            "valid": standing.log[-1],
            "log": thinned(standing.log),
            **facts,
        },
    }
    weights = run_folder / f"{config.name}.safetensors"
    if processes.rank() == 0:
        write_weights(weights, tensors, header, RUN_ADVICE)
    return weights
