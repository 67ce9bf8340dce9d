"""What became of a run, as one page that a person reads: verdict, figures, curves, and pictures before and after."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...core.detector_sites import detector_sites
from ...core.lifter.lifting import RayLifter, lift_rays
from ...core.output_files import written_whole
from ...core.root_path import solve_root_path
from ...core.skeletons import LANDMARKS_41
from ..checkpoints import RUN_ADVICE
from .footage_set import FootageSet, SetClip
from .gate import Judged, Verdict, chosen_blocks

# (clip, seconds) -> the picture (H, W, 3) uint8, or None where the footage is not at hand.
PictureOf = Callable[[SetClip, float], "np.ndarray | None"]

PICTURES = 4
_TEMPLATE = Path(__file__).parent / "report.html.j2"
_BEFORE, _AFTER = "#d9822b", "#2b6cb0"
_AROUND = 40
# Fingers and toes would only be a blot.
_BONES = [(joint, parent) for joint, parent in enumerate(LANDMARKS_41.parents) if parent >= 0]
_ROWS = (
    ("reprojection_mm", "held-out footage: keypoints are missed by", "mm"),
    ("between_mm", "held-out footage: keypoints of frames that the lifter wasn't given are missed by", "mm"),
    ("second_camera_mm", "held-out footage: keypoints of the other camera are missed by", "mm"),
    ("truth_mm", "held-out footage, where motion was captured: joints are off, aligned, by", "mm"),
    ("bones_pct", "held-out footage: bones change their lengths by", "%"),
    ("jitter_m_s2", "held-out footage: mean acceleration", "m/s²"),
    ("slide_mm_s", "held-out footage: standing feet slide by", "mm/s"),
    ("views_mm", "held-out motion capture: joints are off by", "mm"),
    ("views_aligned_mm", "held-out motion capture: joints are off, aligned, by", "mm"),
)


@dataclass(frozen=True, eq=False)
class Picture:
    """A moment of held-out footage, before and after.

    png: the picture; caption: what it shows
    """

    png: bytes
    caption: str


def figure_rows(before: Judged, after: Judged) -> list[dict[str, str]]:
    """What was measured, in words and numbers; what nobody knows is left out."""
    was, now = before.as_dict(), after.as_dict()
    rows = []
    for key, title, unit in _ROWS:
        old, new = was[key], now[key]
        if old is None or new is None:
            continue
        change = new / old - 1 if old else 0.0
        rows.append(
            {
                "title": title,
                "before": f"{old:.1f} {unit}",
                "after": f"{new:.1f} {unit}",
                "change": f"{change:+.1%}",
                "kind": "better" if change < -0.005 else "worse" if change > 0.005 else "same",
            }
        )
    return rows


def write_report(
    path: Path,
    *,
    name: str,
    base: str,
    verdict: Verdict,
    before: Judged,
    after: Judged,
    log: Sequence[Mapping[str, float]],
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    pictures: Sequence[Picture],
    seconds: float,
) -> None:
    """Write the page, which needs no other file. Raises OutputError when it can't be written."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(_TEMPLATE.read_text(encoding="utf-8")).render(
        name=name,
        base=base,
        version=__version__,
        verdict=verdict,
        rows=figure_rows(before, after),
        held_out_s=round(after.footage.seconds, 1),
        curves=_embedded(_curves(log, before)),
        pictures=[{"src": _embedded(picture.png), "caption": picture.caption} for picture in pictures],
        provenance=provenance,
        settings=settings,
        minutes=round(seconds / 60, 1),
        steps=int(log[-1]["step"]) if log else 0,
    )
    with written_whole(path, RUN_ADVICE) as beside:
        beside.write_text(page, encoding="utf-8")


def _embedded(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100, format="png")
    return buffer.getvalue()


def _curves(log: Sequence[Mapping[str, float]], before: Judged) -> bytes:
    """Learning curves: what was learnt, and what it did to held-out footage and motion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    losses, footage, motion = figure.subplots(1, 3)
    steps = [entry["step"] for entry in log if "loss" in entry]
    losses.plot(steps, [entry["loss"] for entry in log if "loss" in entry], color=_AFTER)
    losses.set(title="Training loss", xlabel="step")
    for axes, keys, title in (
        (footage, ("held_out_mm",), "Held-out footage, mm"),
        (motion, ("views_mm", "views_aligned_mm"), "Held-out motion capture, mm"),
    ):
        for key, style in zip(keys, ("-", "--"), strict=False):
            points = [(entry["step"], entry[key]) for entry in log if key in entry and math.isfinite(entry[key])]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=_AFTER)
                axes.axhline(points[0][1], color=_BEFORE, linestyle=":", linewidth=1)
        axes.set(title=title, xlabel="step")
    for axes in (losses, footage, motion):
        axes.grid(alpha=0.3)
    return _png(figure)


# ---- Pictures -------------------------------------------------------------------------------------------------------


def before_and_after(
    before: RayLifter,
    after: RayLifter,
    footage: FootageSet,
    longest_s: float,
    picture_of: PictureOf | None = None,
) -> list[Picture]:
    """Moments of held-out footage in which the two lifters differ most, one of a block, the greatest first."""
    found = []
    for clip, block in chosen_blocks(footage, longest_s):
        rows = slice(max(clip.start, block.start - _AROUND), min(clip.start + clip.length, block.stop + _AROUND))
        bodies = [_placed(lifter, footage, rows) for lifter in (before, after)]
        own = slice(block.start - rows.start, block.stop - rows.start)
        apart = np.linalg.norm((bodies[0] - bodies[0][:, :1]) - (bodies[1] - bodies[1][:, :1]), axis=-1).mean(axis=1)
        seen = np.isfinite(footage.true_rays[rows]).all(axis=-1).mean(axis=-1) > 0.7
        apart = np.where(seen, apart, 0.0)[own]
        at = own.start + int(apart.argmax())
        found.append((float(apart.max()), clip, rows.start + at, bodies[0][at], bodies[1][at]))
    found.sort(key=lambda entry: -entry[0])
    pictures = []
    for apart_m, clip, row, was, now in found[:PICTURES]:
        second = float(footage.time_s[row])
        photograph = picture_of(clip, second) if picture_of is not None else None
        png = _drawn(clip, footage.true_rays[row].astype(float), was, now, photograph)
        caption = f"{clip.name}, {second:.2f} s: {1000 * apart_m:.0f} mm apart in the mean over joints"
        pictures.append(Picture(png, caption))
    return pictures


def _placed(lifter: RayLifter, footage: FootageSet, rows: slice) -> np.ndarray:
    """(M, 41, 3) camera space: the lifter's word, placed where it covers the keypoints."""
    rays, confidence = footage.rays[rows].astype(float), footage.confidence[rows].astype(float)
    body = lift_rays(lifter, rays, confidence, footage.time_s[rows]).positions_m
    return body + solve_root_path(detector_sites(body), rays, confidence, footage.time_s[rows])[:, None]


def _drawn(
    clip: SetClip, rays: np.ndarray, was_m: np.ndarray, now_m: np.ndarray, photograph: np.ndarray | None
) -> bytes:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    seen, side, above = figure.subplots(1, 3)
    camera = clip.camera
    if photograph is not None:
        height, width = photograph.shape[:2]
        seen.imshow(photograph, extent=(0, camera.size_px[0], camera.size_px[1], 0))
    known = np.isfinite(rays).all(axis=-1)
    points = camera.project(np.concatenate([rays[known], np.ones((known.sum(), 1))], axis=1))
    for body, colour in ((was_m, _BEFORE), (now_m, _AFTER)):
        _bones(seen, camera.project(body), colour)
    seen.scatter(*points.T, s=9, color="#22aa55", zorder=3)
    both = np.concatenate([camera.project(was_m), camera.project(now_m), points])
    low, high = both.min(axis=0), both.max(axis=0)
    margin = 0.15 * max(high - low)
    seen.set(xlim=(low[0] - margin, high[0] + margin), ylim=(high[1] + margin, low[1] - margin), title="As filmed")
    # The camera's own x is the depth of a view from the side; up is up in the room.
    turn = np.linalg.inv(clip.camera_from_motion)[:3, :3]
    room = [(body - body[:1]) @ turn.T for body in (was_m, now_m)]
    for axes, title, columns in ((side, "From the side", (0, 1)), (above, "From above", (0, 2))):
        for body, colour in zip(room, (_BEFORE, _AFTER), strict=True):
            _bones(axes, _seen_from_the_side(body, turn)[:, columns], colour)
        axes.set(title=title)
    for axes in (seen, side, above):
        axes.set_aspect("equal")
        axes.set_xticks([])
        axes.set_yticks([])
    return _png(figure)


def _seen_from_the_side(body_m: np.ndarray, room_from_camera: np.ndarray) -> np.ndarray:
    """Depth from the camera, height, and the camera's right, of (41, 3) in the room."""
    ahead = room_from_camera[:, 2] * np.array([1.0, 0.0, 1.0])
    ahead = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    right = np.cross(ahead, [0.0, 1.0, 0.0])
    return np.stack([body_m @ ahead, body_m[:, 1], body_m @ right], axis=-1)


def _bones(axes: Any, points: np.ndarray, colour: str) -> None:
    for joint, parent in _BONES:
        axes.plot(*points[[joint, parent]].T, color=colour, linewidth=1.6, solid_capstyle="round")
