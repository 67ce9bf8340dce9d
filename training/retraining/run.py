"""A run over footage, from a set to weights with a verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ... import __version__
from ...core.errors import FileFormatError, WeightsError
from ...core.lifter.device import choose_device
from ...core.lifter.lifting import RayLifter, load_ray_lifter
from ...core.output_files import written_whole
from ...core.outside_text import json_value, text_within
from ...core.progress import Progress, silent
from ...core.source import Source, sha256_of
from ...core.weights import find_weights, read_header, write_weights
from .. import processes
from ..adaptation.adaptation import EXTRAS
from ..checkpoints import RUN_ADVICE, Standing
from ..loop import LoopPlan, learn
from ..motion.anchor import read_anchor, read_guard
from ..motion.motion_set import MotionSet, read_motion
from ..run_folder import thinned
from .footage_set import FootageSet, read_set
from .gate import Judged, Verdict, judge, verdict
from .lesson import AdaptLesson
from .report import PictureOf, before_and_after, write_report
from .settings import AdaptConfig, GateSettings

LABELLED, PROVENANCE = "labelled.npz", "provenance.json"
REPORT, RESULT = "report.html", "result.json"
# What is looked at while learning, for the curve: less than in the end.
_GLANCE = GateSettings(guard_views=512, held_out_s=20.0)

_MAX_PROVENANCE_BYTES = 64 << 20
_MOST_IN_HEADER = 200

# (name, title) -> a context that gives the progress of a stage.
Stages = Callable[[str, str], AbstractContextManager[Progress]]


def silent_stages(name: str, title: str) -> AbstractContextManager[Progress]:
    """Tells nobody."""
    return nullcontext(silent)


@dataclass(frozen=True, eq=False)
class Adapted:
    """What came of a run.

    weights, report: files in the run's folder; the gate's word is in the header of the weights too
    """

    name: str
    weights: Path
    report: Path
    verdict: Verdict
    before: Judged
    after: Judged
    standing: Standing

    @property
    def figures(self) -> dict[str, Any]:
        """Before and after, as plain values."""
        return {"before": self.before.as_dict(), "after": self.after.as_dict()}

    def as_dict(self) -> dict[str, Any]:
        """The result, for programs."""
        return {
            "name": self.name,
            "verdict": "better" if self.verdict.better else "not better",
            "reason": self.verdict.reason,
            "weights": str(self.weights),
            "report": str(self.report),
            "figures": self.figures,
            "steps": self.standing.step,
            "learning_s": round(self.standing.seconds, 1),
        }


@dataclass(frozen=True, eq=False)
class AdaptData:
    """What a run learns from, opened."""

    footage: FootageSet
    labelled: MotionSet | None

    @property
    def sha256(self) -> dict[str, str]:
        """Hash of each part."""
        return {"footage": self.footage.sha256, "labelled": "" if self.labelled is None else self.labelled.sha256}


def open_data(config: AdaptConfig, base_folder: Path) -> AdaptData:
    """Open the set and the studio's motion beside it. Raises FileFormatError when something is missing or damaged."""
    folder = base_folder / config.footage_set
    labelled = folder / LABELLED
    return AdaptData(read_set(folder), read_motion(labelled) if labelled.is_file() else None)


def base_file(config: AdaptConfig, base_folder: Path) -> Path:
    """The weights file that is begun with. Raises WeightsError when it is gone, FileFormatError when it is another."""
    named = base_folder / config.base
    path = named if config.base.endswith(".safetensors") and named.is_file() else find_weights(config.base)
    if sha256_of(path) != config.base_sha256:
        raise FileFormatError(
            f"The weights '{config.base}' are not those that this run was begun with. Put them back, or adapt anew."
        )
    return path


def load_base(config: AdaptConfig, base_folder: Path, device: torch.device) -> RayLifter:
    """The lifter that is begun with, on ``device``. Raises as ``base_file`` does."""
    lifter = load_ray_lifter(base_file(config, base_folder), "cpu")
    if lifter.network.config.extras_out != EXTRAS:
        raise WeightsError(f"The weights '{config.base}' are of an older kind. Begin with --base default.")
    return replace(lifter, network=lifter.network.to(device), device=device)


def make_lesson(config: AdaptConfig, lifter: RayLifter, data: AdaptData) -> AdaptLesson:
    """The lesson on a copy of ``lifter``'s network."""
    copy = replace(lifter, network=deepcopy(lifter.network))
    return AdaptLesson(config, copy, read_anchor(), data.footage, data.labelled)


def adapt_on_footage(
    config: AdaptConfig,
    base_folder: Path,
    run_folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    stages: Stages = silent_stages,
    tell: Callable[[str], None] = lambda _: None,
    picture_of: PictureOf | None = None,
) -> Adapted:
    """Teach a copy of the base what the set holds, judge it, and write weights and a report into the run's folder.

    base_folder: what the paths of the configuration are relative to
    resume:      go on from the last checkpoint of ``run_folder``
    stages:      hears how far ``before``, ``learn`` and ``after`` have come
    tell:        hears what a person should know
    picture_of:  gives pictures of the footage for the report, where it is at hand
    Raises FileFormatError for data that can't be read or has changed, Cancelled, and KeyliftErrors of the output.
    """
    with processes.joined(choose_device(device)) as chosen:
        torch.manual_seed(config.loop.seed)
        base = load_base(config, base_folder, chosen)
        data, guard = open_data(config, base_folder), read_guard()
        lesson = make_lesson(config, base, data).to(chosen)
        candidate = replace(base, network=lesson.lifter, source=Source(config.name, ""))
        with stages("before", "Measuring what there is") as progress:
            before = judge(base, data.footage, guard, config.gate, progress)
        glance = judge(base, data.footage, guard, _GLANCE)

        def validate() -> dict[str, float]:
            return _glance(judge(candidate, data.footage, guard, _GLANCE))

        plan = LoopPlan(
            config.loop.seed,
            config.loop.validate_every,
            checkpoint_every_s=config.loop.checkpoint_every_s,
            precision=config.loop.precision,
        )
        content = {**config.as_dict(), "data_sha256": data.sha256}
        with stages("learn", "Learning from the footage") as progress:
            standing = learn(
                lesson,
                plan,
                content,
                run_folder,
                chosen,
                validate,
                resume=resume,
                progress=progress,
                tell=tell,
                first_entry=_glance(glance),
            )
        with stages("after", "Measuring what it brought") as progress:
            after = judge(candidate, data.footage, guard, config.gate, progress)
        adapted = Adapted(
            config.name,
            run_folder / f"{config.name}.safetensors",
            run_folder / REPORT,
            verdict(before, after, config.gate),
            before,
            after,
            standing,
        )
        if processes.rank() == 0:
            provenance = read_provenance(base_folder / config.footage_set)
            header = _header(config, base_folder, lesson, adapted, data, provenance)
            write_weights(adapted.weights, lesson.lifter.state_dict(), header, RUN_ADVICE)
            write_report(
                adapted.report,
                name=config.name,
                base=config.base_name,
                verdict=adapted.verdict,
                before=before,
                after=after,
                log=standing.log,
                settings=_settings_told(config),
                provenance=provenance,
                pictures=before_and_after(base, candidate, data.footage, _GLANCE.held_out_s, picture_of),
                seconds=standing.seconds,
            )
            write_json(run_folder / RESULT, adapted.as_dict() | {"run": str(run_folder)})
    return adapted


def _glance(judged: Judged) -> dict[str, float]:
    """Points of the learning curve, millimetres."""
    return {
        "held_out_mm": judged.footage.between_mm,
        "views_mm": judged.views_mm,
        "views_aligned_mm": judged.views_aligned_mm,
    }


def _settings_told(config: AdaptConfig) -> dict[str, str]:
    tables = {name: values for name, values in config.as_dict().items() if isinstance(values, dict)}
    return {name: ", ".join(f"{key} {value}" for key, value in values.items()) for name, values in tables.items()}


def read_provenance(folder: Path) -> dict[str, Any]:
    """What a set was made of: footage, motion, and what was left out. Empty where nobody wrote it down."""
    path = folder / PROVENANCE
    if not path.is_file():
        return {}
    try:
        found = json_value(text_within(path, _MAX_PROVENANCE_BYTES))
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"'{path}' is damaged: {problem}. Adapt again in another folder.") from problem
    return found if isinstance(found, dict) else {}


def _in_the_header(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance, of thousands of clips the first ones: a header has little room; the set's hash is of all."""
    return {
        name: entries[:_MOST_IN_HEADER] if isinstance(entries, list) else entries
        for name, entries in provenance.items()
    } | {f"{name}_count": len(entries) for name, entries in provenance.items() if isinstance(entries, list)}


def _header(
    config: AdaptConfig,
    base_folder: Path,
    lesson: AdaptLesson,
    adapted: Adapted,
    data: AdaptData,
    provenance: Mapping[str, Any],
) -> dict[str, Any]:
    base = base_file(config, base_folder)
    parent = read_header(base)
    itself = {"name": config.base_name, "sha256": config.base_sha256}
    return {
        **lesson.header(),
        "licence": parent.get("licence", ""),
        "acknowledgement": parent.get("acknowledgement", ""),
        "adaptation": {
            "base": itself,
            "parents": [*parent.get("adaptation", {}).get("parents", []), itself],
            "verdict": asdict(adapted.verdict),
            "figures": adapted.figures,
            "data_sha256": data.sha256,
            "keylift": __version__,
            **_in_the_header(provenance),
        },
        "training": {
            "config": config.as_dict(),
            "seconds": adapted.standing.seconds,
            "torch": torch.__version__,
            "processes": processes.world_size(),
            "log": thinned(adapted.standing.log),
        },
    }


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` whole or not at all."""
    with written_whole(path, RUN_ADVICE) as beside:
        beside.write_text(json.dumps(values, indent=1), encoding="utf-8")
