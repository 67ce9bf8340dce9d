"""What became of a batch, as one page to open in the morning: failures first, then takes with pictures and flags."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from ... import __version__
from ...core.errors import FileFormatError
from ...core.output_files import written_whole
from ...core.outside_text import bytes_within, json_value
from .job import DETECT, STAGES
from .out_folder import ADVICE, HIDDEN, MANIFEST_ENDING, REPORT

_TEMPLATE = Path(__file__).parent / "takes_report.html.j2"
_SCHEMA = 1

# Worth a look: from these shares of a clip's frames on.
DOUBTFUL_SHARE, LOST_SHARE, BRIDGED_SHARE, EXCHANGED_SHARE = 0.10, 0.05, 0.10, 0.10
# The worst of all shots in docs/accuracy.md slides by 23 mm/s, the mean by 7 to 12, and a pose that isn't fitted by
# some 300. At 30 a foot that stands for half a second moves by 15 mm: about what can be seen.
SLIDE_MM_S = 30.0

# Files from outside are as long as somebody likes; a page is not.
_MOST_JSON_BYTES = 4 << 20
_MOST_PICTURE_BYTES, _MOST_PICTURES_BYTES = 200_000, 24_000_000
MOST_ROWS = 10_000
_LONGEST_NAME, _LONGEST_MESSAGE, _LONGEST_WARNING, _MOST_WARNINGS, _MOST_FILES = 200, 2000, 400, 12, 12
_PNG = b"\x89PNG\r\n\x1a\n"

DONE, LOOK, RETRY, FAILED, UNREADABLE = "done", "look", "retry", "failed", "unreadable"
# As they are sorted: what needs somebody first.
_STATES = {
    FAILED: "failed",
    RETRY: "may be retried",
    UNREADABLE: "unreadable",
    LOOK: "worth a look",
    DONE: "done",
}
_RANKS = {state: rank for rank, state in enumerate(_STATES)}
# Of a job that another batch is at nobody knows more than of one that may be retried.
_STATE_OF_STATUS = {"done": DONE, "failed": FAILED, "retry": RETRY, "busy": RETRY}
_NEXT = {
    FAILED: "It fails again as it is. Put right what the message says, then run the same command again.",
    RETRY: "It may pass by itself: run the same command again.",
    UNREADABLE: "Run the same command again: what is missing or damaged is made anew.",
}


@dataclass(frozen=True)
class Flag:
    """Something to know about a take. warns: enough to look at it"""

    text: str
    warns: bool = False


@dataclass(frozen=True)
class Row:
    """A take, or a job without one.

    state:   a key of ``_STATES``
    name:    of the take or the job, as a person reads it
    links:   (what it is called, where it is from the page) of the take's files
    frames:  None where nobody knows, and so ``seconds_of_footage``
    seconds: of computing, by stage
    failure: what happened and what to do; stage and kind of error where they are known
    picture: where it is inside the take's manifest
    """

    state: str
    name: str
    job: str
    is_take: bool
    clip: str = ""
    clip_path: str = ""
    person: str = ""
    links: tuple[tuple[str, str], ...] = ()
    frames: int | None = None
    fps: float | None = None
    flags: tuple[Flag, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    failed_in: str = ""
    attempts: int = 1
    picture: str = ""

    @property
    def rank(self) -> int:
        """Where it stands among all: what needs somebody comes first, and of that what has most flags."""
        return 1000 * _RANKS[self.state] - min(sum(flag.warns for flag in self.flags), 999)

    @property
    def label(self) -> str:
        """The state in words."""
        return _STATES[self.state]

    @property
    def next(self) -> str:
        """What to do about it."""
        return _NEXT.get(self.state, "")

    @property
    def total_s(self) -> float:
        """Seconds of computing."""
        return sum(self.seconds.values())

    @property
    def footage_s(self) -> float | None:
        """Seconds of footage; None where nobody knows."""
        return self.frames / self.fps if self.frames is not None and self.fps else None


def write_takes_report(out: Path) -> Path:
    """Write ``OUT/report.html`` about everything that lies in ``out``, and return its path.

    It is made of ``OUT/*.take.json`` and ``OUT/.keylift/jobs/*.json`` alone. A file of these that is damaged is a row
    that says so. The page needs no other file and no network; without JavaScript it is a plain table. Beyond
    ``MOST_ROWS`` rows those that need nobody are left out. Raises FileFormatError when there is no such folder,
    OutputError or TryAgainError when the page can't be written.
    """
    from jinja2 import Environment
    from markupsafe import Markup

    out = Path(out)
    if not out.is_dir():
        raise FileFormatError(f"There is no folder '{out}' to report about. Give the folder that a batch wrote to.")
    found = _Found.of(out)
    rows = sorted(found.rows(), key=lambda row: (row.rank, _natural(row.name)))
    source = _TEMPLATE.read_text(encoding="utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"duration": duration, "count": lambda number: f"{number:,}"}
    page = environment.from_string(source).generate(
        name=_text(out.resolve().name, _LONGEST_NAME) or "batch",
        version=__version__,
        newest=found.newest,
        rows=zip(rows, map(Markup, _pictures(out, rows)), strict=False),
        left_out=max(0, len(rows) - MOST_ROWS),
        states=[(state, label, _count(rows, state)) for state, label in _STATES.items()],
        summary=_Summary.of(rows),
        stages=STAGES,
        slide_mm_s=SLIDE_MM_S,
        script_sha256=_script_sha256(source),
    )
    report = out / REPORT
    with written_whole(report, ADVICE) as beside, open(beside, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(page)
    return report


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``3 min 20 s``, ``5 h 7 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,} h {minutes % 60} min"


# ---- What was found -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Found:
    """Manifests and records by the name of their file, each its content or a sentence that says what is wrong."""

    out: Path
    manifests: Mapping[str, dict[str, Any] | str]
    records: Mapping[str, dict[str, Any] | str]
    newest: str

    @classmethod
    def of(cls, out: Path) -> _Found:
        manifests = _files(out, MANIFEST_ENDING)
        records = _files(out / HIDDEN / "jobs", ".json")
        times = [_changed_at(path) for path in (*manifests.values(), *records.values())]
        newest = datetime.fromtimestamp(max(times, default=0.0), UTC)
        return cls(
            out,
            {name: _read(path) for name, path in manifests.items()},
            {name: _read(path) for name, path in records.items()},
            f"{newest:%Y-%m-%d %H:%M} UTC" if times else "",
        )

    def rows(self) -> Iterator[Row]:
        """Every take, and every job that has none."""
        for name, manifest in self.manifests.items():
            if isinstance(manifest, str):
                yield _unreadable(name, f"{MANIFEST_ENDING} {manifest}", is_take=True)
                continue
            row = _row_of_take(self.out, name, manifest)
            record = self.records.get(row.job)
            if isinstance(record, dict) and record.get("status") in ("failed", "retry"):
                stale = Flag("of an earlier run: the job has not ended well since", warns=True)
                row = replace(row, state=LOOK, flags=(stale, *row.flags))
            yield row
        for name, record in self.records.items():
            if isinstance(record, str):
                yield _unreadable(name, f"{HIDDEN}/jobs record {record}", is_take=False)
            else:
                yield from self._rows_of_job(name, record)

    def _rows_of_job(self, name: str, record: Mapping[str, Any]) -> Iterator[Row]:
        state = _STATE_OF_STATUS.get(str(record.get("status")))
        if state is None:
            yield _unreadable(name, f"{HIDDEN}/jobs record says nothing about how the job ended", is_take=False)
            return
        takes = [take for take in _list(record.get("takes")) if isinstance(take, str)]
        for take in takes:
            if state == DONE and take not in self.manifests:
                yield replace(_unreadable(take, f"{MANIFEST_ENDING} is gone", is_take=True), job=name)
        if state == DONE and takes:
            return
        yield _row_of_job(name, record, state)


def _files(folder: Path, ending: str) -> dict[str, Path]:
    """Path by name without ``ending``, in the order of names."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(ending))
    except OSError:
        return {}
    return {name.removesuffix(ending): folder / name for name in names}


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _bytes_of(path: Path, most: int) -> bytes | str:
    """A file's content, or what is wrong with it."""
    try:
        return bytes_within(path, most)
    except (OSError, ValueError) as problem:
        return f"can't be read: {getattr(problem, 'strerror', None) or problem}"


def _read(path: Path) -> dict[str, Any] | str:
    content = _bytes_of(path, _MOST_JSON_BYTES)
    if isinstance(content, str):
        return content
    try:
        values = json_value(content)
    except ValueError:
        return "is damaged"
    if not isinstance(values, dict):
        return "is damaged"
    schema = values.get("schema_version")
    if type(schema) is not int or schema < 1:
        return "is damaged"
    return values if schema <= _SCHEMA else "was written by a newer Keylift; write the report with that"


# ---- Values that nobody has checked ---------------------------------------------------------------------------------


def _text(value: Any, longest: int) -> str:
    """A string that can be written and read: no half characters, nothing that a page can't hold."""
    if not isinstance(value, str):
        return ""
    plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f]", " ", value[: longest + 1].encode("utf-8", "replace").decode("utf-8"))
    return plain if len(plain) <= longest else plain[: longest - 1] + "…"


def _number(value: Any) -> float | None:
    """A finite number from 0 up that a clip or a clock may have."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e12:
        return None
    return float(value)


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _inside(name: Any) -> PurePosixPath | None:
    """A path below the output folder that a manifest names; None for anything else."""
    if not isinstance(name, str) or not name or len(name) > 1000 or "\0" in name or "\\" in name or ":" in name[:2]:
        return None
    path = PurePosixPath(name)
    return None if path.is_absolute() or ".." in path.parts else path


def _address(path: PurePosixPath) -> str | None:
    """Where a file is from the page. None for a name that no file can have."""
    try:
        return quote(os.fsencode(str(path)))
    except UnicodeEncodeError:
        return None


def _natural(name: str) -> list[tuple[int, str]]:
    """Numbers in names count as numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"(\d{1,18})", name)]


# ---- Rows -----------------------------------------------------------------------------------------------------------


def _unreadable(name: str, what: str, *, is_take: bool) -> Row:
    name = _text(name, _LONGEST_NAME)
    return Row(UNREADABLE, name, name, is_take, failure=f"Its {what}.")


def _row_of_take(out: Path, name: str, manifest: Mapping[str, Any]) -> Row:
    frames, fps = _whole(manifest.get("frames")), _number(manifest.get("fps"))
    links, gone = _links(out, _list(manifest.get("outputs")))
    flags = [*gone, *_quality_flags(_dict(manifest.get("quality")), frames), *_warnings(manifest)]
    person = _text(manifest.get("person_name"), _LONGEST_NAME)
    return Row(
        state=LOOK if any(flag.warns for flag in flags) else DONE,
        name=_text(name, _LONGEST_NAME),
        job=_text(manifest.get("job"), _LONGEST_NAME),
        is_take=True,
        clip=_clip_name(manifest),
        clip_path=_clip_path(manifest),
        person=person if person and not person.isdecimal() else "",
        links=links,
        frames=frames,
        fps=fps or None,
        # What matters first.
        flags=tuple(sorted(flags, key=lambda flag: not flag.warns)),
        seconds=_seconds(manifest),
        picture=manifest["thumbnail"] if isinstance(manifest.get("thumbnail"), str) else "",
    )


def _row_of_job(name: str, record: Mapping[str, Any], state: str) -> Row:
    failure = _dict(record.get("failure"))
    message = _text(failure.get("message"), _LONGEST_MESSAGE)
    if state != DONE:
        message = message or "Nobody noted why. Run it by itself with --only to see."
    stage, kind = (_text(failure.get(key), 40) for key in ("stage", "kind"))
    return Row(
        state=state,
        name=_text(name, _LONGEST_NAME),
        job=_text(name, _LONGEST_NAME),
        is_take=False,
        clip=_clip_name(record),
        clip_path=_clip_path(record),
        flags=(Flag("no take yet: it was asked for an earlier stage only"),) if state == DONE else (),
        seconds=_seconds(record),
        failure=message if state != DONE else "",
        failed_in=", ".join(part for part in (f"in {stage}" if stage else "", kind) if part),
        attempts=_whole(record.get("attempts")) or 1,
    )


def _clip_path(values: Mapping[str, Any]) -> str:
    return _text(values.get("clip"), 1000)


def _clip_name(values: Mapping[str, Any]) -> str:
    return _text(re.split(r"[\\/]", _clip_path(values).rstrip("\\/"))[-1], _LONGEST_NAME)


def _seconds(values: Mapping[str, Any]) -> dict[str, float]:
    by_stage = _dict(values.get("seconds"))
    known = {stage: _number(by_stage.get(stage)) for stage in STAGES}
    return {stage: seconds for stage, seconds in known.items() if seconds is not None}


def _links(out: Path, outputs: Sequence[Any]) -> tuple[tuple[tuple[str, str], ...], list[Flag]]:
    links, gone = [], []
    for output in outputs[:_MOST_FILES]:
        path = _inside(_dict(output).get("file"))
        address = None if path is None else _address(path)
        if path is None or address is None:
            gone.append(Flag("names a file outside this folder, which is not linked", warns=True))
        elif not os.path.lexists(out / path):
            gone.append(Flag(f"{_text(path.name, _LONGEST_NAME)} is gone: run the same command again", warns=True))
        else:
            ending = "".join(path.suffixes[-2:]) if path.suffix == ".npz" else path.suffix
            links.append((_text(ending.lstrip("."), 20) or "file", address))
    return tuple(links), gone


def _quality_flags(quality: Mapping[str, Any], frames: int | None) -> Iterator[Flag]:
    if frames:
        seen, bridged, doubtful, exchanged = (
            _whole(quality.get(key)) for key in ("seen", "bridged", "doubtful", "exchanged")
        )
        lost = None if seen is None else max(0, frames - seen - (bridged or 0))
        for count, most, words in (
            (lost, LOST_SHARE, "person lost for {share}"),
            (doubtful, DOUBTFUL_SHARE, "doubtful in {frames} ({share})"),
            (bridged, BRIDGED_SHARE, "bridged over {frames} ({share})"),
            (exchanged, EXCHANGED_SHARE, "sides exchanged back in {frames} ({share})"),
        ):
            if count:
                share = min(count / frames, 1.0)
                told = f"{count:,} frame{'s' * (count != 1)}"
                yield Flag(words.format(frames=told, share=_per_cent(share)), warns=share >= most)
    slide = _number(quality.get("slide_mm_s"))
    if slide is not None and slide > SLIDE_MM_S:
        yield Flag(f"standing feet slide by {slide:,.0f} mm/s", warns=True)


def _per_cent(share: float) -> str:
    return "< 1 %" if share < 0.01 else f"{share:.0%}".replace("%", " %")


def _warnings(manifest: Mapping[str, Any]) -> Iterator[Flag]:
    warnings = _list(manifest.get("warnings"))
    for warning in warnings[:_MOST_WARNINGS]:
        if told := _text(warning, _LONGEST_WARNING):
            yield Flag(told)
    if len(warnings) > _MOST_WARNINGS:
        yield Flag(f"and {len(warnings) - _MOST_WARNINGS:,} notes more, in its {MANIFEST_ENDING}")


# ---- The page -------------------------------------------------------------------------------------------------------


def _count(rows: Sequence[Row], state: str) -> int:
    """What a filter for ``state`` shows: done is done, whether it is worth a look or not."""
    return sum(row.state == state or (state == DONE and row.state == LOOK) for row in rows)


def _pictures(out: Path, rows: Sequence[Row]) -> Iterator[str]:
    """Of each row that the page has, its picture as an address that holds it; empty where there is none."""
    left = _MOST_PICTURES_BYTES
    root = out.resolve()
    for row in rows[:MOST_ROWS]:
        path = _inside(row.picture)
        content: bytes | str = "" if path is None else _picture(root, path)
        if not isinstance(content, bytes) or len(content) > left:
            yield ""
            continue
        left -= len(content)
        yield "data:image/png;base64," + base64.b64encode(content).decode("ascii")


def _picture(root: Path, path: PurePosixPath) -> bytes | str:
    try:
        real = (root / path).resolve()
    except (OSError, ValueError, RuntimeError):
        return ""
    if not real.is_relative_to(root):
        return ""
    content = _bytes_of(real, _MOST_PICTURE_BYTES)
    return content if isinstance(content, bytes) and content.startswith(_PNG) else ""


@dataclass(frozen=True)
class _Summary:
    """What all rows come to.

    footage_s:  of every clip once, however many people are in it
    stages:     (stage, seconds of computing, share of all)
    """

    takes: int
    footage_s: float
    computing_s: float
    stages: tuple[tuple[str, float, float], ...]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Summary:
        footage: dict[str, float] = {}
        # Everybody in a clip was detected at once; lifting and retargeting are each person's own.
        detecting: dict[str, float] = {}
        own = dict.fromkeys(STAGES, 0.0)
        for row in rows:
            job = row.job or row.name
            footage[job] = max(footage.get(job, 0.0), row.footage_s or 0.0)
            detecting[job] = max(detecting.get(job, 0.0), row.seconds.get(DETECT, 0.0))
            for stage, seconds in row.seconds.items():
                own[stage] += seconds
        own[DETECT] = sum(detecting.values())
        computing_s = sum(own.values())
        stages = tuple((stage, own[stage], own[stage] / computing_s) for stage in STAGES if own[stage] > 0)
        takes = sum(row.is_take and row.state in (DONE, LOOK) for row in rows)
        return cls(takes, sum(footage.values()), computing_s, stages)


def _script_sha256(template: str) -> str:
    """Of the page's own script, so that a browser runs no other."""
    script = template.split("<script>")[1].split("</script>")[0]
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
