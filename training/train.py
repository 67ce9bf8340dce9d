"""The training story: a configuration, the kind of run that it asks for, and where that is kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from ..core.errors import KeyliftError
from ..core.output_files import written_whole
from ..core.progress import Progress, silent
from . import processes
from .checkpoints import RUN_ADVICE, saved
from .config import read_config
from .label_runs import conduct
from .retraining.run import adapt_on_footage
from .retraining.settings import AdaptConfig
from .retraining.shift_study import ShiftStudy, conduct_shift_study
from .run_folder import belongs_to_launch, check_new, claim
from .sequences.config import SequenceConfig
from .sequences.label_study import LabelStudy
from .sequences.run import train_on_sequences
from .views.run import train_on_views


def train_from_config(
    path: Path,
    *,
    run_folder: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Train as a configuration file says and return the weights (of a label study the report).

    Data paths are relative to the file; the run folder is ``runs/NAME`` unless given. ``resume`` goes on from the last
    checkpoint there. Raises FileFormatError, OutputError and kin.
    """
    config = read_config(path)
    folder = run_folder or Path("runs") / config.name
    if isinstance(config, LabelStudy):
        if processes.started_together() > 1:
            raise KeyliftError(
                "A label study starts its own processes, as many as its workers. Start it without torchrun."
            )
        if not resume:
            check_new(folder, of_study=True)
    else:
        resume = resume or belongs_to_launch(folder)
        if not resume:
            claim(folder)
    if processes.is_first() and not (resume and saved(folder)):
        with written_whole(folder / "config.toml", RUN_ADVICE) as beside:
            beside.write_bytes(path.read_bytes())
    if isinstance(config, LabelStudy):
        return conduct(config, path.parent, folder, device=device, progress=progress, tell=tell)
    if isinstance(config, ShiftStudy):
        return conduct_shift_study(config, path.parent, folder, device=device, progress=progress, tell=tell)
    if isinstance(config, AdaptConfig):
        adapted = adapt_on_footage(
            config,
            path.parent,
            folder,
            resume=resume,
            device=device,
            stages=lambda name, _: nullcontext(progress if name == "learn" else silent),
            tell=tell,
        )
        tell(f"{'Better' if adapted.verdict.better else 'Not better'}: {adapted.verdict.reason}.")
        return adapted.weights
    if isinstance(config, SequenceConfig):
        return train_on_sequences(
            config, path.parent, folder, resume=resume, device=device, progress=progress, tell=tell
        )
    return train_on_views(config, path.parent, folder, resume=resume, device=device, progress=progress, tell=tell)
