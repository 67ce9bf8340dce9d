"""A small night for a batch inside Blender: two films and two keypoints files, and what must come of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adaptation_samples import write_walks
from footage_samples import full_model, real_clip, write_video
from keylift.core.footage import open_footage
from keylift.core.pose_model import BUNDLE_NAMES

TAKES = ("cam03", "demo", "walk-0", "walk-1")
FILM_FRAMES, WALK_FRAMES = 8, 30


def write_night(folder: Path, takes: Sequence[str] = TAKES) -> Path:
    """The folder with the clips of some of ``TAKES``, made in ``folder``."""
    clips = folder / "rushes"
    clips.mkdir()
    films = [name for name in takes if not name.startswith("walk")]
    for name in films:
        footage = open_footage(real_clip(f"{name}.mp4"))
        write_video(clips / f"{name}.mp4", [frame.rgb for frame in footage.frames(0, FILM_FRAMES - 1)], fps=30)
    write_walks(clips, [WALK_FRAMES] * (len(takes) - len(films)))
    return clips


def fill_cache(folder: Path) -> Path:
    """A cache that has the pose model, so that nobody fetches it, made in ``folder``."""
    models = folder / "cache" / "models"
    models.mkdir(parents=True)
    (models / BUNDLE_NAMES["full"]).write_bytes(full_model().read_bytes())
    return folder / "cache"


def last_line(said: str) -> dict[str, Any]:
    """The summary that a batch printed with --json; Blender may have a word to say after it."""
    found: dict[str, Any] = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
    return found


def check_morning(out: Path, takes: Sequence[str], said: str, blender: str) -> None:
    """See that every take is there, whole, and baked by that Blender; ``said``: what the batch printed with --json."""
    summary = last_line(said)
    assert (summary["jobs"], summary["done"], summary["exit_code"]) == (len(takes), len(takes), 0), said
    for name in takes:
        manifest = json.loads((out / f"{name}.take.json").read_text(encoding="utf-8"))
        assert manifest["versions"]["blender"].startswith(blender), manifest["versions"]
        assert manifest["frames"] == (WALK_FRAMES if name.startswith("walk") else FILM_FRAMES)
        assert (out / manifest["thumbnail"]).read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.blend").stat().st_size > 100_000 and (out / f"{name}.bvh").is_file()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in takes) and page.count("data:image/png") >= len(takes)
    assert not any((out / ".keylift" / "work").glob("*"))
