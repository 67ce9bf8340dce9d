"""What adapting brings where footage is unlike what the weights were trained on, and what it costs elsewhere.

Two shifts: motion of a kind that the weights never saw (chosen clips of a landmark set, seen by synthetic cameras and a
detector's noise), and cameras that stand where few do (rendered people, seen by a real detector). Of each, some clips
are footage to adapt to, and other clips are what is measured, before and after.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...core.camera import Camera
from ...core.detector_sites import detector_sites
from ...core.errors import FileFormatError
from ...core.keypoint_repair import repair
from ...core.lift import lift
from ...core.lifter.lifting import RayLifter, lift_rays, load_ray_lifter
from ...core.lifter.side_check import check_sides
from ...core.metrics import mpjpe, n_mpjpe, p_mpjpe
from ...core.motion_metrics import LIMB_JOINTS, bend_error_deg
from ...core.output_files import written_whole
from ...core.outside_text import json_value, text_within
from ...core.progress import Progress, report, silent
from ...core.skeletons import KEYPOINT_LAYOUTS, LIFTER_21_NAMES
from ...core.source import Source, sha256_of
from ...core.tracks import Change, KeypointTrack
from ...core.weights import find_weights
from ..adaptation.adaptation import views_for
from ..adaptation.clip_windows import observed_rays
from ..checkpoints import RUN_ADVICE
from ..motion.motion_set import MotionSet, foot_contacts, read_motion
from ..shots.shot import Shot, read_shots
from ..shots.synthetic_shots import film_whole_clips
from ..views.evaluation import evaluate_on_views
from .making import make_parts, make_set
from .preparing import FilmedPerson
from .run import adapt_on_footage
from .settings import AdaptConfig, AdaptLoopSettings, GateSettings, MixSettings, PreparingSettings

CONDITIONS = {"2d": "2D alone", "labels": "2D and 5 % labels", "corrections": "2D and corrections"}
METRICS = {
    "n_mpjpe_mm": "N-MPJPE, mm",
    "p_mpjpe_mm": "P-MPJPE, mm",
    "bends_deg": "elbows and knees, deg",
    "fitted_n_mpjpe_mm": "fitted: N-MPJPE, mm",
    "fitted_p_mpjpe_mm": "fitted: P-MPJPE, mm",
    "fitted_bends_deg": "fitted: elbows and knees, deg",
}
GENERAL = {"mpjpe_mm": "MPJPE", "n_mpjpe_mm": "N-MPJPE", "p_mpjpe_mm": "P-MPJPE"}
# Labels come in stretches as long as a window needs to be filmed anew at any speed.
_STRETCH_S = 1.4
_MOST_JSON_BYTES = 16 << 20
_GENERAL_WINDOWS, _GENERAL_SEED = 8192, 7
_Y_UP_FROM_Z_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])


@dataclass(frozen=True)
class Filmed:
    """Clips of motion, and how they are filmed.

    files:    landmark sets; clips: a pattern of names; subjects: who is filmed
    cameras:  a name in ``shots.synthetic_shots.CAMERA_HABITS``
    views:    cameras that film what is adapted to; what is measured on is filmed by one
    """

    files: tuple[str, ...]
    subjects: tuple[str, ...]
    clips: str = ""
    cameras: str = "usual"
    views: int = 2


@dataclass(frozen=True)
class ShiftStudy:
    """What is compared.

    motion:  motion of a kind that the base never saw; camera: usual motion before unusual cameras
    shots:   a folder of rendered shots by unusual cameras, a third shift; empty = without it
    general: motion that nobody may get worse at, never learnt from; leave_out_sources: of it
    labelled_part, corrected_part: of the footage's frames
    """

    name: str
    method: str
    motion: Filmed
    camera: Filmed
    general: str
    shots: str = ""
    model: str = "full"
    leave_out_sources: tuple[str, ...] = ()
    base: str = "default"
    seeds: tuple[int, ...] = (1, 2)
    labelled_part: float = 0.05
    corrected_part: float = 0.05
    mix: MixSettings = field(default_factory=MixSettings)
    loop: AdaptLoopSettings = field(default_factory=AdaptLoopSettings)

    def __post_init__(self) -> None:
        if not self.seeds or not 0 < self.labelled_part < 1 or not 0 < self.corrected_part < 1:
            raise FileFormatError(
                "There must be a seed, and labelled_part and corrected_part must lie between 0 and 1."
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, eq=False)
class _Shift:
    """Shots to adapt to and shots to measure on, of different clips; ``model``: whose keypoints."""

    name: str
    footage: list[Shot]
    test: list[Shot]
    model: str


def conduct_shift_study(
    study: ShiftStudy,
    base_folder: Path,
    run_folder: Path,
    *,
    device: str = "auto",
    progress: Progress = silent,
    tell: Callable[[str], None] = lambda _: None,
) -> Path:
    """Adapt under every condition with every seed, measure before and after, and write the report.

    Runs that ended with the same settings are taken as they are. Raises FileFormatError for what can't be read.
    """
    base = load_ray_lifter(find_weights(study.base), device)
    general = read_motion(base_folder / study.general, study.leave_out_sources)
    shifts = [_repaired(shift) for shift in _shifts(study, base_folder)]
    plan = [(shift, condition, seed) for shift in shifts for condition in CONDITIONS for seed in study.seeds]
    results = []
    for shift in shifts:
        path = run_folder / f"{shift.name}-before.json"
        results.append(
            {"shift": shift.name, "condition": "before", "seed": 0} | _kept(path, study, base, shift, general)
        )
        tell(_sentence(results[-1]))
    for number, (shift, condition, seed) in enumerate(plan):
        report(progress, number, len(plan))
        folder = run_folder / f"{shift.name}-{condition}-seed{seed}"
        measured = _adapted(study, base, shift, condition, seed, folder, general, device)
        results.append({"shift": shift.name, "condition": condition, "seed": seed, **measured})
        tell(_sentence(results[-1]))
    report(progress, len(plan), len(plan))
    return write_study(results, shifts, run_folder)


def _sentence(result: Mapping[str, Any]) -> str:
    return (
        f"{result['shift']}, {result['condition']}, seed {result['seed']}: N-MPJPE {result['n_mpjpe_mm']:.1f}, P-MPJPE "
        f"{result['p_mpjpe_mm']:.1f} mm, {result['bends_deg']:.1f} deg; general {result['general']['p_mpjpe_mm']:.1f}"
    )


# ---- The shifts -----------------------------------------------------------------------------------------------------


def _shifts(study: ShiftStudy, base_folder: Path) -> Iterator[_Shift]:
    yield _filmed("motion", study.motion, base_folder)
    yield _filmed("camera", study.camera, base_folder)
    if study.shots:
        shots = read_shots(base_folder / study.shots)
        # A clip of motion is footage or test, in all of its shots.
        names = sorted({_motion_of(shot) for shot in shots})
        yield _Shift(
            "rendered",
            [shot for shot in shots if names.index(_motion_of(shot)) % 2 == 0],
            [shot for shot in shots if names.index(_motion_of(shot)) % 2 == 1],
            study.model,
        )


def _filmed(name: str, filmed: Filmed, base_folder: Path) -> _Shift:
    """Every other clip is footage, in an order that chance gives: both halves hold everybody and everything."""
    footage: list[Shot] = []
    test: list[Shot] = []
    for file in filmed.files:
        motion = read_motion(base_folder / file)
        wanted = [
            number
            for number, clip in enumerate(motion.clip_name)
            if re.search(filmed.clips, clip) and motion.subject[number] in filmed.subjects
        ]
        wanted = list(np.random.default_rng(len(wanted)).permutation(wanted))
        for half, chosen, views in ((footage, wanted[::2], filmed.views), (test, wanted[1::2], 1)):
            if chosen:
                half += film_whole_clips(motion.clips(np.array(chosen)), views, 1 + len(half), filmed.cameras)
    if not footage or not test:
        raise FileFormatError(f"No clip of the motion is of the kind that [{name}] asks for.")
    return _Shift(name, _named(footage), _named(test), "synthetic")


def _named(shots: Sequence[Shot]) -> list[Shot]:
    return [replace(shot, name=f"{number:03}-{shot.name}") for number, shot in enumerate(shots)]


def _repaired(shift: _Shift) -> _Shift:
    """The shots with keypoints as ``keylift detect`` hands them on."""

    def mended(shots: Sequence[Shot]) -> list[Shot]:
        return [
            replace(shot, keypoints={**shot.keypoints, shift.model: repair(shot.keypoints[shift.model])})
            for shot in shots
        ]

    return replace(shift, footage=mended(shift.footage), test=mended(shift.test))


def _motion_of(shot: Shot) -> str:
    found = re.search(r"clip (\S+) ", shot.source)
    return found[1] if found else shot.name


# ---- Labels and corrections -----------------------------------------------------------------------------------------


def _stretches(shots: Sequence[Shot], part: float, seed: int) -> list[tuple[int, slice]]:
    """Stretches of shots, spread by chance, until they are ``part`` of all frames."""
    chance = np.random.default_rng((seed, 5))
    total, found, taken = sum(len(shot.time_s) for shot in shots), [], 0
    for number in chance.permutation(len(shots)):
        frames = len(shots[number].time_s)
        length = round(_STRETCH_S * shots[number].fps)
        if frames < length:
            continue
        if taken >= part * total:
            break
        first = int(chance.integers(0, frames - length + 1))
        found.append((int(number), slice(first, first + length)))
        taken += length
    return found


def _labelled(shots: Sequence[Shot], stretches: Sequence[tuple[int, slice]]) -> MotionSet:
    """The truth of these stretches as motion, y up."""
    pieces = []
    for number, rows in stretches:
        shot = shots[number]
        assert shot.world_from_camera is not None
        world = shot.truth_m[rows] @ shot.world_from_camera[:3, :3].T + shot.world_from_camera[:3, 3]
        motion = world @ _Y_UP_FROM_Z_UP.T
        motion[..., [0, 2]] -= motion[:1, :1, [0, 2]]
        pieces.append(motion.astype(np.float32))
    fps = shots[0].fps
    names = np.array([shots[number].name for number, _ in stretches])
    return MotionSet(
        positions_m=np.concatenate(pieces),
        contact=np.concatenate([foot_contacts(piece, fps) for piece in pieces]),
        clip_start=np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]),
        clip_name=names,
        subject=names,
        source=np.full(len(names), "labels"),
        fps=fps,
        sha256=_digest(" ".join(names)),
    )


def corrected(shots: Sequence[Shot], model: str, part: float) -> dict[int, KeypointTrack]:
    """Keypoints as an artist would leave them who puts right the worst ``part`` of all frames, and no others.

    In these frames each keypoint that is off by more than 5 % of the person's box is put where it truly is.
    """
    columns, sites = _comparable(shots[0].keypoints[model].layout)
    off, places = [], []
    for shot in shots:
        true = shot.camera.project(detector_sites(shot.truth_m))[:, sites]
        seen = shot.keypoints[model].xy_px[:, columns]
        box = np.ptp(true, axis=1).max(axis=-1)
        miss = np.nan_to_num(np.linalg.norm(seen - true, axis=-1) / box[:, None], nan=1.0)
        off.append(miss)
        places.append(true)
    worst = np.concatenate([(miss.clip(0, 0.3) ** 2).mean(axis=1) for miss in off])
    least = np.sort(worst)[::-1][max(0, math.ceil(part * len(worst)) - 1)]
    tracks = {}
    for number, (shot, miss, true) in enumerate(zip(shots, off, places, strict=True)):
        rows = (miss.clip(0, 0.3) ** 2).mean(axis=1) >= least
        wrong = rows[:, None] & (miss > 0.05)
        if not wrong.any():
            continue
        track = shot.keypoints[model]
        xy, confidence = track.xy_px.copy(), track.confidence.copy()
        changes = track.changes.copy() if track.changes.size else np.zeros(xy.shape[:2], np.uint8)
        for place, column in enumerate(columns):
            at = wrong[:, place]
            xy[at, column], confidence[at, column], changes[at, column] = true[at, place], 1.0, Change.CORRECTED
        tracks[number] = replace(track, xy_px=xy, confidence=confidence, changes=changes)
    return tracks


def _comparable(layout: str) -> tuple[list[int], list[int]]:
    """Keypoints of a layout whose true place is known, and which of the lifter's sites that is."""
    names = KEYPOINT_LAYOUTS[layout]
    if layout == "lifter21":
        return list(range(len(names))), list(range(len(names)))
    known = {
        f"{side}_{theirs}": f"{side[0]}_{ours}"
        for side in ("left", "right")
        for theirs, ours in (
            *((part, part) for part in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "heel")),
            ("foot_index", "big_toe"),
        )
    }
    return [names.index(name) for name in known], [LIFTER_21_NAMES.index(name) for name in known.values()]


# ---- Adapting and measuring -----------------------------------------------------------------------------------------


def _adapted(
    study: ShiftStudy,
    base: RayLifter,
    shift: _Shift,
    condition: str,
    seed: int,
    folder: Path,
    general: MotionSet,
    device: str,
) -> dict[str, Any]:
    path = folder / "measured.json"
    if (found := _measured_before(path, study)) is not None:
        return found
    settings = PreparingSettings()
    stretches = _stretches(shift.footage, study.labelled_part, seed) if condition == "labels" else []
    put_right = corrected(shift.footage, shift.model, study.corrected_part) if condition == "corrections" else {}
    people = [
        _person(shot, shift.model, [rows for at, rows in stretches if at == number], put_right.get(number))
        for number, shot in enumerate(shift.footage)
    ]
    parts, skipped = make_parts(folder.parent, people, len(people), base, settings)
    labelled = [_labelled(shift.footage, stretches)] if stretches else []
    make_set(folder / "set", parts, labelled, skipped, base.fps, settings)
    weights = find_weights(study.base)
    config = AdaptConfig(
        name=f"{shift.name}-{condition}-seed{seed}",
        base=study.base,
        base_sha256=sha256_of(weights),
        footage_set="set",
        base_name=study.base,
        preparing=settings,
        mix=study.mix,
        loop=replace(study.loop, seed=seed),
        gate=GateSettings(),
    )
    adapted = adapt_on_footage(config, folder, folder, resume=_begun(folder), device=device)
    after = load_ray_lifter(adapted.weights, device)
    measured = measure(after, shift.test, shift.model, general, base) | {
        "better": adapted.verdict.better,
        "reason": adapted.verdict.reason,
        "footage_s": sum(len(shot.time_s) / shot.fps for shot in shift.footage),
        "learning_s": adapted.standing.seconds,
    }
    _write(path, study, measured)
    return measured


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _begun(folder: Path) -> bool:
    from ..checkpoints import saved

    return bool(saved(folder))


def _person(shot: Shot, model: str, labels: Sequence[slice], put_right: KeypointTrack | None) -> FilmedPerson:
    source = Source(shot.name, _digest(shot.name))
    truth_m = None
    if labels:
        truth_m = np.full_like(shot.truth_m, np.nan)
        for rows in labels:
            truth_m[rows] = shot.truth_m[rows]
    return FilmedPerson(
        detected=replace(shot.keypoints[model], source=source),
        corrected=None if put_right is None else replace(put_right, source=source),
        camera=shot.camera,
        truth_m=truth_m,
    )


def _kept(path: Path, study: ShiftStudy, base: RayLifter, shift: _Shift, general: MotionSet) -> dict[str, Any]:
    if (found := _measured_before(path, study)) is None:
        found = measure(base, shift.test, shift.model, general, base)
        _write(path, study, found)
    return found


def _measured_before(path: Path, study: ShiftStudy) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        held = json_value(text_within(path, _MOST_JSON_BYTES))
    except (OSError, ValueError) as problem:
        raise FileFormatError(f"'{path}' can't be read: {problem}. Delete it, and run the study again.") from problem
    if not isinstance(held, dict) or not isinstance(held.get("measured"), dict):
        raise FileFormatError(f"'{path}' was not written by a study. Delete it, and run the study again.")
    return held["measured"] if held.get("study") == json.loads(json.dumps(study.as_dict())) else None


def _write(path: Path, study: ShiftStudy, measured: Mapping[str, Any]) -> None:
    with written_whole(path, RUN_ADVICE) as beside:
        beside.write_text(json.dumps({"study": study.as_dict(), "measured": measured}, indent=1), encoding="utf-8")


def measure(
    lifter: RayLifter, shots: Sequence[Shot], model: str, general: MotionSet, base: RayLifter
) -> dict[str, Any]:
    """Errors on shots, of the lifter's word alone and of the fitted pose, and on views of motion of every kind."""
    # As in `keylift lift`: each lifter checks for itself which side is which.
    tracks = {shot.name: check_sides(shot.keypoints[model], shot.camera, lifter) for shot in shots}
    alone = _errors(shots, lambda shot: _alone(lifter, tracks[shot.name], shot.camera))
    fitted = _errors(shots, lambda shot: lift(tracks[shot.name], camera=shot.camera, lifter=lifter).positions_m)
    views = evaluate_on_views(lifter.network, general, views_for(base), _GENERAL_WINDOWS, _GENERAL_SEED, lifter.device)
    return {
        **alone,
        **{f"fitted_{name}": value for name, value in fitted.items()},
        "general": {name: views[name] for name in GENERAL},
    }


def _alone(lifter: RayLifter, track: KeypointTrack, camera: Camera) -> np.ndarray:
    rays, confidence = observed_rays(track, camera)
    return lift_rays(lifter, rays, confidence, track.time_s).positions_m


def _errors(shots: Sequence[Shot], positions_of: Callable[[Shot], np.ndarray]) -> dict[str, float]:
    """Means over frames of 12 limb joints, about the pelvis."""
    weights = [len(shot.time_s) for shot in shots]
    rows = []
    for shot in shots:
        found, truth = positions_of(shot), shot.truth_m
        limbs, true = found[:, LIMB_JOINTS], truth[:, LIMB_JOINTS]
        about, true_about = limbs - found[:, :1], true - truth[:, :1]
        rows.append(
            {
                "mpjpe_mm": 1000 * mpjpe(about, true_about),
                "n_mpjpe_mm": 1000 * n_mpjpe(about, true_about),
                "p_mpjpe_mm": 1000 * p_mpjpe(limbs, true),
                "bends_deg": bend_error_deg(limbs, true),
            }
        )
    return {name: float(np.average([row[name] for row in rows], weights=weights)) for name in rows[0]}


# ---- The report -----------------------------------------------------------------------------------------------------


def write_study(results: Sequence[Mapping[str, Any]], shifts: Sequence[_Shift], folder: Path) -> Path:
    """Tables in Markdown, all figures in JSON; the first is returned."""
    with written_whole(folder / "shift-study.json", RUN_ADVICE) as beside:
        beside.write_text(json.dumps(list(results), indent=1), encoding="utf-8")
    text = []
    for shift in shifts:
        of_shift = [result for result in results if result["shift"] == shift.name]
        seconds = {
            half: sum(len(shot.time_s) / shot.fps for shot in getattr(shift, half)) for half in ("footage", "test")
        }
        text += [
            f"**{shift.name.capitalize()}**: {seconds['footage']:.0f} s of footage in {len(shift.footage)} clips to "
            f"adapt to, {seconds['test']:.0f} s in {len(shift.test)} other clips to measure on.",
            "",
            *_table(of_shift, METRICS, lambda result: result),
            "",
            "General set:",
            "",
            *_table(of_shift, GENERAL, lambda result: result["general"]),
            "",
        ]
    page = folder / "shift-study.md"
    with written_whole(page, RUN_ADVICE) as beside:
        beside.write_text("\n".join(text), encoding="utf-8")
    return page


def _table(
    results: Sequence[Mapping[str, Any]],
    columns: Mapping[str, str],
    of: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> list[str]:
    before = of(next(result for result in results if result["condition"] == "before"))
    lines = ["| | " + " | ".join(columns.values()) + " |", "|---|" + "---:|" * len(columns)]
    lines.append("| before | " + " | ".join(f"{before[key]:.1f}" for key in columns) + " |")
    for condition, title in CONDITIONS.items():
        runs = [of(result) for result in results if result["condition"] == condition]
        if not runs:
            continue
        cells = []
        for key in columns:
            values = [run[key] for run in runs]
            change = np.mean(values) / before[key] - 1
            each = " / ".join(f"{value:.1f}" for value in values)
            cells.append(f"**{np.mean(values):.1f}** ({each}), {change:+.1%}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


__all__ = ["CONDITIONS", "Filmed", "ShiftStudy", "conduct_shift_study", "corrected", "measure", "write_study"]
