"""Accuracy for people to read: tables, plots, and pictures of the worst frames."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core import motion_metrics as measure
from ...core.errors import FileFormatError, OutputError
from ...core.footage import open_footage
from ...core.motion_metrics import LIMB_JOINTS, LIMB_NAMES
from ...core.output_files import written_whole
from .accuracy import DETECTOR_WORLD, KEYLIFT, METHODS, QUANTITIES, Accuracy, ShotResult
from .shot import Shot

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# What is aimed at, by set and detector model.
GOALS: Mapping[tuple[str, str], Mapping[str, float]] = {
    ("filmed", "heavy"): {
        "procrustes_mm": 45,
        "clip_similarity_mm": 56,
        "root_aligned_mm": 65,
        "bends_deg": 8.5,
        "trunk_lean_deg": 5,
        "velocity_mm_s": 280,
        "acceleration_m_s2": 4.5,
        "bone_variation_pct": 0,
    },
    ("filmed", "full"): {"procrustes_mm": 60, "clip_similarity_mm": 75, "root_aligned_mm": 85},
    ("mocap-test", "synthetic"): {"all_procrustes_mm": 38},
    ("rendered", "heavy"): {
        "procrustes_mm": 40,
        "clip_similarity_mm": 48,
        "root_aligned_mm": 55,
        "bends_deg": 8,
        "velocity_mm_s": 220,
        "acceleration_ratio": 1.2,
        "root_pct": 2,
        "drift_pct": 3,
        "slide_mm_s": 15,
        "contact_f1": 0.9,
        "foot_deg": 12,
        "hand_deg": 20,
        "head_deg": 20,
    },
}

REPORT_ADVICE = "Choose another place with --report."
_SHORT = ("procrustes_mm", "clip_similarity_mm", "root_aligned_mm", "bends_deg", "trunk_lean_deg", "velocity_mm_s")
_SHORT_TITLES = ("Procrustes", "similarity", "root-aligned", "bends, deg", "lean, deg", "mm/s")
_COLOURS = {KEYLIFT: "#1f6fb4", DETECTOR_WORLD: "#b0b0b0"}
_LIMBS = [
    tuple(LIMB_NAMES.index(name) for name in pair.split("-"))
    for pair in """l_shoulder-r_shoulder l_hip-r_hip l_shoulder-l_hip r_shoulder-r_hip l_shoulder-l_elbow
    l_elbow-l_wrist r_shoulder-r_elbow r_elbow-r_wrist l_hip-l_knee l_knee-l_ankle r_hip-r_knee
    r_knee-r_ankle""".split()
]
_FAILURES = 3
_CLIPS_SHOWN = 8
# Two pictures of one clip nearer in time than this show one failure twice.
_APART_S = 0.5


# ---- Tables ---------------------------------------------------------------------------------------------------------


def mean_table(
    accuracy: Accuracy, kind: str, earlier: Mapping[str, Mapping[str, float | None]] | None = None
) -> list[list[str]]:
    """Rows of cells, the first row the titles: quantities down, methods across, means over shots.

    kind:    the set, for its goals
    earlier: means of earlier weights, by "method, model", as ``Accuracy.as_dict`` has them
    """
    columns: list[tuple[str, Mapping[str, float | None]]] = []
    for model in accuracy.models:
        for method in METHODS:
            if accuracy.of(model, method):
                columns.append((f"{method}, {model}", accuracy.mean(model, method)))
            if method == KEYLIFT and earlier and f"{KEYLIFT}, {model}" in earlier:
                columns.append((f"before, {model}", earlier[f"{KEYLIFT}, {model}"]))
        if (kind, model) in GOALS:
            columns.append((f"goal, {model}", GOALS[(kind, model)]))
    rows = [["mean over shots", *(title for title, _ in columns)]]
    for quantity in QUANTITIES:
        cells = [_cell(scores.get(quantity.key), quantity.digits) for _, scores in columns]
        if any(cells):
            rows.append([quantity.title, *cells])
    return rows


def shot_table(accuracy: Accuracy) -> list[list[str]]:
    """Rows of cells: every shot by model and method, with what counts most; lengths in millimetres."""
    digits = {quantity.key: quantity.digits for quantity in QUANTITIES}
    rows = [["shot", "", *_SHORT_TITLES]]
    for result in accuracy.results:
        name = f"{result.method}, {result.model}"
        rows.append([result.shot.name, name, *(_cell(result.scores[key], digits[key]) for key in _SHORT)])
    return rows


def worst_table(accuracy: Accuracy) -> list[list[str]]:
    """Rows of cells: our worst shot for each quantity and model."""
    rows = [["worst shot", *accuracy.models]]
    for quantity in QUANTITIES:
        cells = []
        for model in accuracy.models:
            name, value = accuracy.worst(model, KEYLIFT).get(quantity.key, ("", None))
            cells.append(f"{_cell(value, quantity.digits)} ({name})" if value is not None else "")
        if any(cells):
            rows.append([quantity.title, *cells])
    return rows


def _cell(value: float | None, digits: int) -> str:
    return f"{value:.{digits}f}" if value is not None and math.isfinite(value) else ""


def aligned_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table for a page."""
    head, *body = rows
    ruler = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(row) + " |" for row in (head, ruler, *body)]


# ---- The report -----------------------------------------------------------------------------------------------------


def write_report(
    folder: Path,
    accuracy: Accuracy,
    kind: str,
    footage_folders: Sequence[Path] = (),
    earlier: Mapping[str, Mapping[str, float | None]] | None = None,
    *,
    table: bool = True,
) -> tuple[list[Path], str]:
    """Write plots (``KIND-*.png``) and pictures of failures (``KIND-*.jpg``) into ``folder``; return all with text.

    footage_folders: where the shots' clips lie, for the pictures of failures; without, skeletons are drawn alone
    table:           write the tables as ``KIND-table.md`` too
    """
    written = [_plot_by_shot(folder / f"{kind}-by-shot.png", accuracy)]
    written.append(_plot_by_joint(folder / f"{kind}-by-joint.png", accuracy))
    written.append(_plot_over_time(folder / f"{kind}-over-time.png", accuracy))
    captions = ["Errors of every shot.", "Which joints are off.", "Errors along the clips, the worst eight at most."]
    for number, failure in enumerate(worst_frames(accuracy), start=1):
        written.append(_draw_failure(folder / f"{kind}-failure-{number}.jpg", failure, footage_folders))
        captions.append(f"{failure.title}.")
    text = [f"{len({r.shot.name for r in accuracy.results})} shots; weights `{accuracy.weights}`.", ""]
    text += [*markdown_lines(mean_table(accuracy, kind, earlier)), "", *markdown_lines(worst_table(accuracy)), ""]
    text += [*markdown_lines(shot_table(accuracy)), ""]
    tables: list[Path] = []
    if table:
        tables.append(folder / f"{kind}-table.md")
        with written_whole(tables[0], REPORT_ADVICE) as beside:
            beside.write_text("\n".join(text) + "\n", encoding="utf-8")
    for path, caption in zip(written, captions, strict=True):
        text += [f"![{caption}]({path.name})", "", f"*{caption}*", ""]
    return [*tables, *written], "\n".join(text)


def put_into_page(page: Path, kind: str, text: str, picture_folder: Path) -> None:
    """Replace what stands between ``<!-- KIND -->`` and ``<!-- /KIND -->`` in a Markdown page by a report's text.

    picture_folder: where the pictures that the text names lie

    Raises FileFormatError when the page has no such marks, OutputError when it can't be written.
    """
    content, marks, where = check_page(page, kind, picture_folder)
    text = re.sub(r"(!\[[^\]]*\]\()", rf"\g<1>{where}/", text)
    content = marks.sub(lambda found: found[1] + "\n" + text + "\n" + found[2], content)
    with written_whole(page, REPORT_ADVICE) as beside:
        beside.write_text(content, encoding="utf-8")


def check_page(page: Path, kind: str, picture_folder: Path) -> tuple[str, re.Pattern[str], str]:
    """What the page says, the marks of ``kind`` in it, and the way from it to the pictures.

    Raises FileFormatError when the page has no such marks, OutputError when its readers would not see the pictures.
    """
    try:
        content = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise FileFormatError(f"'{page}' can't be read: {problem}.") from problem
    marks = re.compile(rf"(<!-- {re.escape(kind)} -->\n).*?(<!-- /{re.escape(kind)} -->)", re.DOTALL)
    if not marks.search(content):
        raise FileFormatError(f"'{page}' has no lines '<!-- {kind} -->' and '<!-- /{kind} -->' to write between.")
    try:
        where = picture_folder.resolve().relative_to(page.resolve().parent).as_posix()
    except ValueError:
        raise OutputError(
            f"The pictures must lie below the folder of '{page}', or the page's readers don't see them. {REPORT_ADVICE}"
        ) from None
    return content, marks, where


# ---- Plots ----------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _save(figure: Any, path: Path) -> Path:
    with written_whole(path, REPORT_ADVICE) as beside:
        figure.savefig(beside, dpi=90)
    return path


def _plot_by_shot(path: Path, accuracy: Accuracy) -> Path:
    quantities = (("procrustes_mm", "per-frame Procrustes, mm"), ("root_aligned_mm", "root-aligned, mm"))
    panels = [(model, key, title) for model in accuracy.models for key, title in quantities]
    names = list(dict.fromkeys(result.shot.name for result in accuracy.results))
    many = len(names) > 5
    columns = 1 if len(names) > 8 else len(quantities)
    figure = _figure(min(14.0, max(8.0, 1.5 + 0.5 * columns * len(names))), 2.8 * len(panels) / columns)
    for axes, (model, key, title) in zip(
        figure.subplots(len(panels) // columns, columns, squeeze=False).ravel(), panels, strict=True
    ):
        methods = _methods(accuracy, model)
        for number, method in enumerate(methods):
            scores = {result.shot.name: result.scores[key] for result in accuracy.of(model, method)}
            places = np.arange(len(names)) + _bar_shift(number, len(methods))
            heights = [scores.get(name, math.nan) for name in names]
            axes.bar(places, heights, 0.76 / len(methods), color=_COLOURS[method], label=method)
        axes.set_xticks(range(len(names)), names, rotation=30 if many else 0, ha="right" if many else "center")
        axes.set_title(f"{title}, {model} keypoints", fontsize=10)
        axes.grid(alpha=0.3, axis="y")
        axes.margins(y=0.2)
        axes.legend(fontsize=8, ncols=2)
    return _save(figure, path)


def _methods(accuracy: Accuracy, model: str) -> list[str]:
    return [method for method in METHODS if accuracy.of(model, method)]


def _bar_shift(number: int, count: int) -> float:
    """Where bar ``number`` of ``count`` stands about its mark."""
    return 0.8 * (number - (count - 1) / 2) / count


def _plot_by_joint(path: Path, accuracy: Accuracy) -> Path:
    figure = _figure(9, 3.2 * len(accuracy.models))
    for axes, model in zip(figure.subplots(len(accuracy.models), 1, squeeze=False)[:, 0], accuracy.models, strict=True):
        methods = _methods(accuracy, model)
        for number, method in enumerate(methods):
            distances = [
                measure.frame_procrustes_distances(result.limbs_m, result.shot.truth_m[:, LIMB_JOINTS])
                for result in accuracy.of(model, method)
            ]
            mean_mm = 1000 * np.nanmean(np.concatenate(distances), axis=0)
            places = np.arange(len(LIMB_NAMES)) + _bar_shift(number, len(methods))
            axes.bar(places, mean_mm, 0.76 / len(methods), color=_COLOURS[method], label=method)
        axes.set_xticks(range(len(LIMB_NAMES)), LIMB_NAMES, fontsize=8)
        axes.set_title(f"mm after per-frame Procrustes, {model} keypoints", fontsize=10)
        axes.grid(alpha=0.3, axis="y")
        axes.margins(y=0.2)
        axes.legend(fontsize=8, ncols=2)
    return _save(figure, path)


def _plot_over_time(path: Path, accuracy: Accuracy) -> Path:
    model = accuracy.models[-1]
    results = sorted(accuracy.of(model, KEYLIFT), key=lambda result: -result.scores["root_aligned_mm"])[:_CLIPS_SHOWN]
    baseline = {result.shot.name: result for result in accuracy.of(model, DETECTOR_WORLD)}
    columns = min(4, len(results))
    rows = -(-len(results) // columns)
    figure = _figure(3.2 * columns + 0.5, 2.2 * rows + 0.4)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for axes, result in zip(panels, results, strict=False):
        for shown in (baseline.get(result.shot.name), result):
            if shown is not None:
                axes.plot(shown.shot.time_s, _per_frame_mm(shown), color=_COLOURS[shown.method], label=shown.method)
        axes.set_title(result.shot.name, fontsize=9)
        axes.grid(alpha=0.3)
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    panels[0].set_ylabel(f"root-aligned, mm, {model}", fontsize=8)
    panels[0].set_ylim(bottom=0)
    panels[0].legend(fontsize=8)
    figure.supxlabel("seconds", fontsize=9)
    return _save(figure, path)


def _per_frame_mm(result: ShotResult) -> np.ndarray:
    """(F,) mean root-aligned error of the limbs, NaN where nothing is known."""
    distances = 1000 * measure.root_aligned_distances(result.limbs_m, result.shot.truth_m[:, LIMB_JOINTS])
    known = np.isfinite(distances)
    total = np.where(known, distances, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


# ---- Failures -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Failure:
    """A frame in which we are far off."""

    result: ShotResult
    row: int
    error_mm: float

    @property
    def title(self) -> str:
        """What the picture shows, in words."""
        return (
            f"{self.result.shot.name}, {self.result.model} keypoints, {self.result.shot.time_s[self.row]:.2f} s: "
            f"{self.error_mm:.0f} mm root-aligned"
        )


def worst_frames(accuracy: Accuracy) -> list[Failure]:
    """Up to three frames of largest root-aligned error, of different shots and models as far as there are any."""
    failures = []
    for result in accuracy.results:
        if result.method == KEYLIFT:
            errors = _per_frame_mm(result)
            for row in np.argsort(-np.nan_to_num(errors, nan=-1.0)):
                failures.append(Failure(result, int(row), float(errors[row])))
    failures = [failure for failure in failures if math.isfinite(failure.error_mm)]
    failures.sort(key=lambda failure: -failure.error_mm)
    chosen: list[Failure] = []
    for strict in (True, False):
        for failure in failures:
            shot, time_s = failure.result.shot, failure.result.shot.time_s[failure.row]
            alike = [
                other
                for other in chosen
                if other.result.shot is shot and (strict or abs(shot.time_s[other.row] - time_s) < _APART_S)
            ]
            if len(chosen) < _FAILURES and not alike:
                chosen.append(failure)
    return chosen


def _draw_failure(path: Path, failure: Failure, footage_folders: Sequence[Path]) -> Path:
    result, row = failure.result, failure.row
    shot = result.shot
    figure = _figure(11, 4.6)
    picture, front, side = figure.subplots(1, 3)
    truth_m, ours_m = shot.truth_m[row, LIMB_JOINTS], result.limbs_m[row]
    _draw_picture(picture, failure, footage_folders)
    true_m, found_m = measure.about_hips(truth_m[None])[0], measure.about_hips(ours_m[None])[0]
    for axes, across, title in ((front, 0, "from the camera"), (side, 2, "from the side, the camera is to the left")):
        for points, colours in ((true_m, ("0.6", "0.6", "0.6")), (found_m, ("#d1495b", "#1f6fb4", "#222222"))):
            _draw_limbs(axes, points[:, [across, 1]], colours)
        axes.set_title(title, fontsize=10)
        axes.set_aspect("equal")
        axes.set(xlim=(-1.1, 1.1), ylim=(1.1, -1.1))
        axes.grid(alpha=0.3)
    figure.suptitle(f"{failure.title} (grey: the truth; red: the person's left)", fontsize=11)
    return _save(figure, path)


def _draw_limbs(axes: Axes, points: np.ndarray, colours: tuple[str, str, str]) -> None:
    """Lines between (12, 2) points: left, right and middle in three colours."""
    for a, b in _LIMBS:
        sides = {LIMB_NAMES[a][0], LIMB_NAMES[b][0]}
        colour = colours[2] if len(sides) == 2 else colours[0] if sides == {"l"} else colours[1]
        axes.plot(points[[a, b], 0], points[[a, b], 1], color=colour, linewidth=2, solid_capstyle="round")


def _draw_picture(axes: Axes, failure: Failure, footage_folders: Sequence[Path]) -> None:
    result, row = failure.result, failure.row
    shot = result.shot
    rgb = _frame_of(shot, result.model, row, footage_folders)
    xy = shot.keypoints[result.model].xy_px[row]
    width, height = shot.camera.size_px
    if rgb is not None:
        axes.imshow(rgb, extent=(0, width, height, 0))
    _draw_limbs(axes, shot.camera.project(shot.truth_m[row, LIMB_JOINTS]), ("0.75", "0.75", "0.75"))
    if result.pose is not None:
        middle_colour = "#222222" if rgb is None else "#ffffff"
        _draw_limbs(axes, shot.camera.project(result.limbs_m[row]), ("#d1495b", "#1f6fb4", middle_colour))
    axes.scatter(xy[:, 0], xy[:, 1], s=8, color="#f2c14e", zorder=3)
    known = shot.camera.project(shot.truth_m[row, LIMB_JOINTS])
    points = np.concatenate([xy, known])
    points = points[np.isfinite(points).all(axis=-1)]
    middle, reach = (points.min(axis=0) + points.max(axis=0)) / 2, 0.65 * float(np.ptp(points, axis=0).max())
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] + reach, middle[1] - reach))
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title("in the picture (yellow: keypoints)", fontsize=10)


def _frame_of(shot: Shot, model: str, row: int, folders: Sequence[Path]) -> np.ndarray | None:
    """The picture of a row, where the clip lies in one of ``folders``."""
    track = shot.keypoints[model]
    # A rendered shot's pictures lie in a folder that is called as the shot is.
    for name in filter(None, (Path(track.source.name).name, Path(shot.name).name)):
        for folder in folders:
            if (folder / name).exists():
                index = int(track.frame_index[row])
                return next(iter(open_footage(folder / name, shot.fps).frames(index, index))).rgb
    return None
