"""What a run leaves for people: its configuration, its log, TensorBoard's scalars and a picture of its curves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..core.errors import OutputError
from ..core.output_files import written_whole
from .checkpoints import RUN_ADVICE, saved

# Keys of a log entry that are no curve.
_COUNTERS = ("step", "seconds")


def check_new(run_folder: Path) -> None:
    """Raise OutputError when the folder holds a run that a new one would write over."""
    if saved(run_folder):
        raise OutputError(
            f"'{run_folder}' holds a run already. Go on with it by --resume, or choose another folder with --run."
        )


class RunFolder:
    """Writes a run's log as it goes; a context manager. With ``path`` None (a helper process) it writes nothing."""

    def __init__(self, path: Path | None, config: Mapping[str, Any], first_step: int = 0) -> None:
        self.path = path
        self._scalars: Any = None
        if path is None:
            return
        with written_whole(path / "config.json", RUN_ADVICE) as beside:
            beside.write_text(json.dumps(config, indent=1), encoding="utf-8")
        self._scalars = _scalar_writer(path / "tensorboard", first_step)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._scalars is not None:
            self._scalars.close()

    def add(self, log: list[dict[str, float]]) -> None:
        """Write the log with its newest entry, as JSON, as TensorBoard scalars and as a picture."""
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
        draw_curves(log, self.path / "curves.png")


def _scalar_writer(folder: Path, first_step: int) -> Any:
    """TensorBoard's writer, or None where it is not installed; the rest of the log does without."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # After a resume what was written beyond the checkpoint is void.
    return SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)  # type: ignore[no-untyped-call]


def draw_curves(log: list[dict[str, float]], path: Path) -> None:
    """Learning curves as a picture: losses on the left, errors in millimetres on the right."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    losses, errors = figure.subplots(1, 2)
    steps = [entry["step"] for entry in log]
    for name in log[-1]:
        if name in _COUNTERS or not all(name in entry for entry in log):
            continue
        axes = errors if name.endswith("_mm") else losses if name.startswith("loss") else None
        if axes is not None:
            axes.plot(steps, [entry[name] for entry in log], marker=".", label=name)
    losses.set(title="training loss", xlabel="step", yscale="log")
    errors.set(title="error on the validation set (mm)", xlabel="step")
    for axes in (losses, errors):
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    with written_whole(path, RUN_ADVICE) as beside:
        figure.savefig(beside, dpi=100)
