"""What is to be done, read from a job file or a folder, with everything that is wrong with it told at once.

Nothing is begun, and footage is not decoded: ten thousand clips are looked at in a few seconds.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...core.errors import OutputError, TryAgainError
from ...core.output_files import check_writable, explain_write_failure
from ...core.outside_text import bytes_within, check_not_crowded, toml_table
from ..footage_list import MAX_CLIPS
from ..reporting import Reporter
from .bad_jobs import BadJobsError, Problems
from .clip_search import ClipSearch, why_no_clip
from .job import Job
from .job_names import JobNames, why_no_job_name
from .job_values import SettingsReader, meant, printable, shown, why_no_path
from .known_rigs import KnownRigs
from .rig_opening import Rig, check_rigs
from .wanted_job import CLIP_IN_NAME, Table, WantedJob

MAX_JOB_FILE_BYTES = 16 << 20
JOB_FILE_ENDINGS = (".toml", ".json")
_OF_ONE_JOB = ("clip", "clips", "name")
# Of `keylift capture`, but not of a job.
_NOT_OF_JOBS = {
    "output": "What is written is told by `formats`, where by -o.",
    "video": "Footage is named by `clip` or `clips`.",
    "preview": "There is a picture of each take in the report.",
    "keep": 'Keypoints and poses are kept by `formats`: ".keypoints.npz", ".pose.npz".',
    "names": "Names for people are `people`.",
}
_HEADER = re.compile(r"""^[ \t]*\[\[[ \t]*(?:jobs|"jobs"|'jobs')[ \t]*\]\]""", re.MULTILINE)
_MAGIC = re.compile(r"[*?[]")
_MAX_PATH = 4096


# ---- The file -------------------------------------------------------------------------------------------------------


def read_jobs(source: Path, output: Path, reporter: Reporter, known: KnownRigs | None = None) -> list[Job]:
    """The jobs in a job file (.toml, .json), or of every clip in a folder, or of one clip; at least one.

    output: where takes will go; nothing in it becomes a job
    known:  rigs that need not be opened, to which those are added that were and will do
    Raises BadJobsError with everything that is wrong; OutputError when nothing is, but takes can't be written there.
    """
    return _Reading(source, output, reporter, known or KnownRigs(output)).jobs()


def _is_job_file(source: Path) -> bool:
    return source.suffix.lower() in JOB_FILE_ENDINGS and not source.is_dir()


def _tables_in(source: Path, problems: Problems) -> tuple[Table, list[Table]]:
    """[defaults] and [[jobs]] of a job file, as far as they are tables. Raises BadJobsError when it can't be read."""
    text = _text_of(source)
    try:
        if source.suffix.lower() == ".json":
            check_not_crowded(text)
            found = json.loads(text, object_pairs_hook=_each_once)
        else:
            # Counted before it is read: that takes a minute for a million of them.
            if len(_HEADER.findall(text)) > MAX_CLIPS:
                raise ValueError(f"it has more than {MAX_CLIPS:,} jobs; do them in several batches")
            found = toml_table(text)
    except RecursionError:
        raise BadJobsError(source, ["It is nested far too deeply."]) from None
    except ValueError as problem:
        raise BadJobsError(source, [f"It can't be read: {printable(str(problem))}."]) from problem
    if not isinstance(found, dict):
        raise BadJobsError(source, ['It has no jobs. Write {"jobs": [{"clip": "..."}]}.'])
    whole = problems.in_table(Table(-1, called="the file"))
    unknown = [key for key in found if key not in ("defaults", "jobs")]
    for key in unknown:
        why = meant(key, ("defaults", "jobs")) or " Settings stand below [defaults] or [[jobs]]."
        whole(f"unknown key '{shown(key)}'.{why}")
    defaults, listed = found.get("defaults", {}), found.get("jobs", [])
    if not isinstance(defaults, dict):
        whole("`defaults` is no table. Write [defaults], and below it what holds for all jobs.")
        defaults = {}
    if not isinstance(listed, list):
        whole("`jobs` is no list of tables. Write [[jobs]], with two brackets, above each job.")
        listed = []
    elif not listed and not unknown:
        whole('there is no job in it. Write [[jobs]], and below it clip = "...".')
    tables = []
    for number, (values, line) in enumerate(zip(listed, _lines_of_jobs(text, len(listed)), strict=True), 1):
        if isinstance(values, dict):
            tables.append(Table(number, values, line))
        else:
            problems.add(Table(number, line=line), "it is no table. Write [[jobs]] above it.")
    return Table(0, defaults, called="defaults"), tables


def _text_of(source: Path) -> str:
    try:
        content = bytes_within(source, MAX_JOB_FILE_BYTES)
    except OSError as problem:
        raise BadJobsError(source, [f"It can't be read: {problem.strerror or problem}."]) from problem
    except ValueError:
        raise BadJobsError(
            source, [f"It is larger than {MAX_JOB_FILE_BYTES >> 20} MB, which is more than {MAX_CLIPS:,} jobs need."]
        ) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise BadJobsError(source, [f"It is not UTF-8 (byte {problem.start}). Save it as UTF-8."]) from problem


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As TOML has it: a key that is given twice is a mistake."""
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"'{shown(twice)}' is given twice")
    return values


def _lines_of_jobs(text: str, count: int) -> list[int | None]:
    """The line in which each job begins; None where headers, which may also stand in a text, don't tell."""
    lines: list[int | None] = []
    line, seen = 1, 0
    for header in _HEADER.finditer(text):
        line += text.count("\n", seen, header.start())
        seen = header.start()
        lines.append(line)
    return lines if len(lines) == count else [None] * count


# ---- Jobs -----------------------------------------------------------------------------------------------------------


class _Reading:
    """One reading of what is to be done."""

    def __init__(self, source: Path, output: Path, reporter: Reporter, known: KnownRigs) -> None:
        self._source, self._output, self._reporter, self._known_rigs = source, output, reporter, known
        self._problems = Problems()
        self._base = os.path.abspath(source.parent if not source.is_dir() else source)
        self._out = os.path.realpath(output)
        self._settings = SettingsReader(Path(self._base), reporter)
        self._keys = [*self._settings.keys, *_OF_ONE_JOB]
        self._in_out: dict[str, bool] = {}

    def jobs(self) -> list[Job]:
        """All of them. Raises BadJobsError, OutputError."""
        wanted = self._from_file() if _is_job_file(self._source) else self._from_footage()
        jobs = []
        if len(wanted) > MAX_CLIPS:
            self._problems.add(Table(), f"There are more than {MAX_CLIPS:,} clips. Do them in several batches.")
        else:
            self._check_clips(wanted)
            names = JobNames(self._base, self._problems).of(wanted)
            jobs = [one.job(name) for one, name in zip(wanted, names, strict=True)]
        self._check_rigs(wanted)
        shut = self._check_output()
        if shut is not None and not self._problems:
            # Nothing is wrong with what was asked for.
            raise shut
        if shut is not None:
            self._problems.add(Table(), str(shut))
        if not jobs and not self._problems:
            self._problems.add(Table(), "There is nothing to do in it.")
        if self._problems:
            raise BadJobsError(self._source, self._problems.lines())
        return jobs

    def _from_footage(self) -> list[WantedJob]:
        """Every clip in a folder, or the one."""
        table = Table()
        settings = self._settings.settled({})
        for problem in settings.problems:
            self._problems.add(table, problem)
        if not self._source.is_dir():
            return [WantedJob(table, os.path.abspath(self._source), None, settings)]
        if self._out == os.path.realpath(self._base):
            self._problems.add(table, "The takes can't go where the clips are. Choose another folder with -o.")
            return []
        search = ClipSearch(self._out, self._problems.in_table(table))
        clips = search.matching(self._base, ("**", "*"), sequences=False)
        if not clips:
            # A folder of pictures is one clip.
            clips = [self._base] if search.pictures_in(self._base) else []
        if not clips:
            self._problems.add(table, "There is no footage in this folder: no videos, keypoints or pictures.")
        return [WantedJob(table, clip, None, settings) for clip in clips]

    def _from_file(self) -> list[WantedJob]:
        defaults, tables = _tables_in(self._source, self._problems)
        usual = self._read(defaults, "is said of each job by itself; it can't be one of [defaults].")
        one_by_one = {self._same(table.values["clip"]) for table in tables if isinstance(table.values.get("clip"), str)}
        wanted: list[WantedJob] = []
        for table in tables:
            told = self._problems.in_table(table)
            settings = self._settings.settled({**usual, **self._read(table)})
            for problem in settings.problems:
                told(problem)
            name = self._name(table)
            for clip in self._clips(table, told):
                # What is said of one clip goes before what is said of many.
                if "clip" in table.values or os.path.normcase(clip) not in one_by_one:
                    wanted.append(WantedJob(table, clip, name, settings))
            if len(wanted) > MAX_CLIPS:
                break
        return wanted

    def _same(self, text: str) -> str:
        return os.path.normcase(os.path.abspath(os.path.join(self._base, text)))

    def _read(self, table: Table, why_not: str = "") -> dict[str, Any]:
        """The settings of a table."""
        told, given = self._problems.in_table(table), {}
        for key, value in table.values.items():
            if key in _OF_ONE_JOB:
                if why_not:
                    told(f"`{key}` {why_not}")
            elif key in self._settings.keys:
                given[key] = value
            else:
                why = _NOT_OF_JOBS.get(key)
                told(f"unknown key '{shown(key)}'.{f' {why}' if why else meant(key, self._keys)}")
        return self._settings.read(given, told)

    def _name(self, table: Table) -> str | None:
        """What the table calls its jobs; None when that is nothing, or nothing that can be."""
        if "name" not in table.values:
            return None
        told, name = self._problems.in_table(table), table.values["name"]
        if not isinstance(name, str):
            told("name: write a text.")
            return None
        name = unicodedata.normalize("NFC", name)
        if "clips" in table.values and CLIP_IN_NAME not in name:
            told(f'name: of several clips it must have {CLIP_IN_NAME} in it, as "hero-{CLIP_IN_NAME}".')
            return None
        if why := why_no_job_name(name.replace(CLIP_IN_NAME, "x")):
            told(f"name '{shown(name)}' can't be that of files: {why}. Choose another.")
            return None
        return name

    def _clips(self, table: Table, told: Callable[[str], None]) -> list[str]:
        """Absolute paths of what a table names."""
        one, many = table.values.get("clip"), table.values.get("clips")
        if (one is None) == (many is None):
            told('it needs `clip`, a file, or `clips`, a pattern as "shots/**/*.mp4"; one of them, not both.')
            return []
        if one is not None:
            return [self._path(one)] if _is_path(one, "clip", told) else []
        patterns: list[Any] = many if isinstance(many, list) and many else [many]
        found: dict[str, None] = {}
        for pattern in patterns:
            if _is_path(pattern, "clips", told):
                found.update(dict.fromkeys(self._matching(pattern, told)))
        return list(found)

    def _path(self, text: str) -> str:
        return os.path.abspath(os.path.join(self._base, text))

    def _matching(self, pattern: str, told: Callable[[str], None]) -> list[str]:
        """Clips like a pattern. A file of just that name goes before what it might mean as a pattern."""
        path = self._path(pattern)
        parts = Path(self._base, pattern).parts
        first = next((place for place, part in enumerate(parts) if _MAGIC.search(part)), None)
        if first is None or os.path.lexists(path):
            return [path]
        search = ClipSearch(self._out, told)
        found = search.matching(os.path.abspath(os.path.join(*parts[:first])), parts[first:], sequences=True)
        if not found:
            told(f"clips: '{shown(pattern)}' matches no clip.{search.instead()}")
        return found

    # ---- What is checked of all of them ----

    def _check_clips(self, wanted: Sequence[WantedJob]) -> None:
        for one in wanted:
            told = self._problems.in_table(one.table)
            why = why_no_path(one.clip)
            if why:
                told(f"the clip '{one.clip}': {why}.")
            elif self._is_in_output(one.clip):
                told(f"'{one.clip}' is in the folder where takes go. Choose another folder with -o.")
            elif why := why_no_clip(one.clip):
                told(why)
            if one.holds_keypoints and "clip" in one.table.values:
                self._check_keypoints(one, told)

    def _is_in_output(self, clip: str) -> bool:
        folder = os.path.dirname(clip)
        if folder not in self._in_out:
            real = os.path.realpath(folder)
            self._in_out[folder] = real == self._out or real.startswith(os.path.join(self._out, ".keylift"))
        return self._in_out[folder]

    @staticmethod
    def _check_keypoints(one: WantedJob, told: Callable[[str], None]) -> None:
        """Say what was said in vain of a clip in which people were found before."""
        vain = [key for key in one.table.values if key in ("frames", "fps", "person", "detector", "detector_model")]
        if vain:
            told(
                f"`{'`, `'.join(vain)}` says how people are found, and these keypoints were found before. Leave it out."
            )
        if len(one.settings.people) > 1 and "people" in one.table.values:
            told(f"people: a keypoints file holds one person, and there are {len(one.settings.people)} names.")

    def _check_rigs(self, wanted: Sequence[WantedJob]) -> None:
        """Open each rig once, whichever jobs want it, unless it is known to do."""
        tables: dict[Rig, dict[int, Table]] = {}
        files: dict[Rig, tuple[str, ...]] = {}
        for one in wanted:
            rig = one.settings.rig_seen
            if rig is not None:
                tables.setdefault(rig, {}).setdefault(one.table.number, one.table)
                files[rig] = one.settings.retarget.files
        unknown = [rig for rig in tables if not self._known_rigs.fits(rig, files[rig])]
        for rig, wrong in zip(unknown, check_rigs(unknown, self._reporter) if unknown else (), strict=True):
            if wrong == "":
                self._known_rigs.found_to_fit(rig, files[rig])
            for table in tables[rig].values() if wrong else ():
                self._problems.add(table, str(wrong))

    def _check_output(self) -> OutputError | TryAgainError | None:
        """Find what is wrong with the folder for takes; what to raise when it can't be written."""
        if why := why_no_path(self._out):
            self._problems.add(Table(), f"the folder '{shown(self._out)}' for takes: {why}.")
            return None
        try:
            if self._output.exists() and not self._output.is_dir():
                self._problems.add(Table(), f"'{self._output}' is a file. Give a folder after -o.")
                return None
            check_writable(self._output / "report.html")
        except OutputError as problem:
            return problem
        except OSError as problem:
            return explain_write_failure(self._output, problem)
        return None


def _is_path(given: Any, key: str, told: Callable[[str], None]) -> bool:
    if not isinstance(given, str) or not given.strip():
        told(f"{key}: write a path as a text{', or a list of them' if key == 'clips' else ''}.")
        return False
    why = "it is longer than paths are" if len(given) > _MAX_PATH else why_no_path(given)
    if why:
        told(f"{key} '{shown(given)}': {why}.")
    return not why
