"""How much do films without labels help? The same motion with ever fewer labels, learnt with and without the rest.

"3D human pose estimation in video with temporal convolutions and semi-supervised training", section 6.2, on motion that
anyone can have.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import FileFormatError
from ...core.output_files import written_whole
from ..checkpoints import RUN_ADVICE
from .config import MocapData, SemiSupervised, SequenceConfig, SequenceLoop, SequenceNetwork

# What is compared, by name: what changes in [semi_supervised].
VARIANTS: dict[str, dict[str, Any]] = {
    "supervised": {"enabled": False},
    "semi-supervised": {"enabled": True},
    "no projection": {"enabled": True, "projection": False},
    "no bone term": {"enabled": True, "bone_term": False},
    "bone weight 0.1": {"enabled": True, "bone_weight": 0.1},
}
ABLATIONS = ("no projection", "no bone term", "bone weight 0.1")
METRICS = {"n_mpjpe_mm": "N-MPJPE", "p_mpjpe_mm": "P-MPJPE"}


@dataclass(frozen=True)
class LabelStudy:
    """Runs to compare.

    labelled_parts: parts of the training frames that keep their labels; at 1 nothing is left to be unlabelled
    ablation_parts: those of them at which each term is left out once, and the bone term is made weak
    seeds:          each run is made once with each: other people labelled, other weights to begin with
    workers:        runs at a time, each in a process of its own; 0 = as many as there are processors
    """

    name: str
    method: str
    data: MocapData
    network: SequenceNetwork = field(default_factory=SequenceNetwork)
    loop: SequenceLoop = field(default_factory=SequenceLoop)
    semi_supervised: SemiSupervised = field(default_factory=SemiSupervised)
    labelled_parts: tuple[float, ...] = (0.01, 0.05, 0.1, 0.5)
    ablation_parts: tuple[float, ...] = (0.01, 0.05)
    seeds: tuple[int, ...] = (1, 2)
    workers: int = 0

    def __post_init__(self) -> None:
        if not self.labelled_parts or not self.seeds or not all(0 < part <= 1 for part in self.labelled_parts):
            raise FileFormatError("labelled_parts must be above 0 and at most 1, and there must be a seed.")

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Run:
    """One run of a study."""

    part: float
    variant: str
    seed: int

    @property
    def name(self) -> str:
        """Fit for a folder."""
        return f"{100 * self.part:g}pc-{self.variant.replace(' ', '-')}-seed{self.seed}"


def runs_of(study: LabelStudy) -> Iterator[Run]:
    """All runs of a study: those that are compared with each other side by side, ablations last."""
    compared = [variant for variant in VARIANTS if variant not in ABLATIONS]
    for seed in study.seeds:
        for part in study.labelled_parts:
            for variant in compared if part < 1 else compared[:1]:
                yield Run(part, variant, seed)
    for seed in study.seeds:
        for part in study.ablation_parts:
            for variant in ABLATIONS:
                yield Run(part, variant, seed)


def config_of(study: LabelStudy, run: Run) -> SequenceConfig:
    """The settings of one run; all runs have the same number of steps."""
    return SequenceConfig(
        run.name,
        "sequences",
        replace(study.data, labelled_part=run.part, label_seed=run.seed),
        study.network,
        replace(study.loop, seed=run.seed),
        replace(study.semi_supervised, **VARIANTS[run.variant]),
    )


def write_report(results: list[dict[str, Any]], run_folder: Path) -> Path:
    """Write ``results.json``, ``report.png`` and ``report.md``, and return the last.

    results: of each run its part, variant and seed, and its errors
    """
    with written_whole(run_folder / "results.json", RUN_ADVICE) as beside:
        beside.write_text(json.dumps(results, indent=1), encoding="utf-8")
    draw(results, run_folder / "report.png")
    with written_whole(run_folder / "report.md", RUN_ADVICE) as beside:
        beside.write_text(table(results), encoding="utf-8")
    return run_folder / "report.md"


def _values(results: list[dict[str, Any]], part: float, variant: str, metric: str) -> list[float]:
    found = [result for result in results if result["part"] == part and result["variant"] == variant]
    return [result[metric] for result in sorted(found, key=lambda result: int(result["seed"]))]


def _told(values: list[float]) -> str:
    each = " / ".join(f"{value:.1f}" for value in values)
    return f"**{np.mean(values):.1f}** ({each})" if values else ""


def table(results: list[dict[str, Any]]) -> str:
    """The results as Markdown: means over seeds, each seed in brackets, gains against supervised runs alone."""
    parts = sorted({result["part"] for result in results})
    seeds = sorted({result["seed"] for result in results})
    lines = []
    for metric, title in METRICS.items():
        lines += [
            f"{title} on held-out people, mm: mean over seeds {', '.join(map(str, seeds))} (each of them)",
            "",
            f"| labelled | supervised | semi-supervised | gain | {' | '.join(ABLATIONS)} |",
            "|---|---|---|---|" + "---|" * len(ABLATIONS),
        ]
        for part in parts:
            cells = [_values(results, part, variant, metric) for variant in VARIANTS]
            gain = ""
            if cells[0] and cells[1]:
                gains = np.subtract(cells[0], cells[1])
                each = " / ".join(f"{value:.1f}" for value in gains)
                gain = f"**{gains.mean():.1f}**, {100 * gains.mean() / np.mean(cells[0]):.0f} % ({each})"
            told = [_told(values) for values in cells]
            lines.append(f"| {100 * part:g} % | {' | '.join([*told[:2], gain, *told[2:]])} |")
        lines.append("")
    return "\n".join(lines)


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """The results as a picture: errors over the labelled part, a line through the means, a dot for each seed."""
    from matplotlib.figure import Figure

    styles = {
        "supervised": ("#c44e52", "o"),
        "semi-supervised": ("#4c72b0", "o"),
        "no projection": ("#8c8c8c", "^"),
        "no bone term": ("#55a868", "v"),
        "bone weight 0.1": ("#dd8452", "s"),
    }
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (metric, title) in zip(figure.subplots(1, 2), METRICS.items(), strict=True):
        for variant, (colour, marker) in styles.items():
            parts = sorted({result["part"] for result in results if result["variant"] == variant})
            values = [_values(results, part, variant, metric) for part in parts]
            line = "-" if variant not in ABLATIONS else ":"
            if parts:
                means = [float(np.mean(seeds)) for seeds in values]
                axes.plot([100 * part for part in parts], means, line, color=colour, label=variant)
            for part, seeds in zip(parts, values, strict=True):
                axes.plot([100 * part] * len(seeds), seeds, marker, color=colour, markersize=4)
        ticks = sorted({100 * result["part"] for result in results})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g} %" for tick in ticks])
        axes.minorticks_off()
        axes.set(title=f"{title} on held-out people (mm)", xlabel="training frames with labels")
        axes.grid(alpha=0.3)
        axes.legend()
    with written_whole(path, RUN_ADVICE) as beside:
        figure.savefig(beside, dpi=110)
