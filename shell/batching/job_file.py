"""What is to be done, read from a job file or a folder, with everything that is wrong with it told at once.

Nothing is begun, and footage is not decoded: ten thousand clips are looked at in a few seconds.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import tomllib
import unicodedata
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...core.errors import EXIT_USAGE, FootageError, KeyliftError, OutputError
from ...core.output_files import check_writable
from ...core.picture_sequence import PICTURE_ENDINGS, sequence_at
from ...core.weights.names import MAX_NAME, MAX_NAME_BYTES, alike, why_no_name
from ..footage_list import MAX_CLIPS, VIDEO_ENDINGS
from ..reporting import Reporter
from .job import DETECT, KEYPOINTS_ENDING, LIFT, RETARGET, Job, StageOrder
from .job_values import METARIG, Settings, SettingsReader, check_rigs, meant, printable, shown, why_no_path

MAX_JOB_FILE_BYTES = 64 << 20
MAX_PROBLEMS_TOLD = 50
JOB_FILE_ENDINGS = (".toml", ".json")
# What FFmpeg reads besides what is looked for in folders.
_RARE_ENDINGS = tuple(".3gp .f4v .flv .gif .mpe .mpv .ogv .vob .y4m".split())
CLIP_ENDINGS = (*VIDEO_ENDINGS, *_RARE_ENDINGS, KEYPOINTS_ENDING)
# In the name of jobs that a pattern makes: what the clip is called.
CLIP_IN_NAME = "{clip}"
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
_LEAST_NAME = 8
_MAX_PATH = 4096
_TOLD_AT_MOST = 20


class BadJobsError(KeyliftError):
    """What is to be done can't be done as it is written.

    problems: all of them, a line each; the message has the first ``MAX_PROBLEMS_TOLD``
    """

    exit_code = EXIT_USAGE

    def __init__(self, source: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(problems)
        more = [f"... and {count - MAX_PROBLEMS_TOLD} more."] if count > MAX_PROBLEMS_TOLD else []
        wrong = "1 thing is" if count == 1 else f"{count} things are"
        head = f"'{shown(str(source))}': {wrong} wrong. Put it right and run it again; nothing was begun."
        super().__init__("\n  ".join([head, *problems[:MAX_PROBLEMS_TOLD], *more]))


@dataclass(frozen=True)
class Table:
    """One entry of the job file, or all of what a folder asks for.

    number: from 1; 0 = what holds for all jobs
    line:   that it begins in; None where that can't be told
    """

    number: int = 0
    values: Mapping[str, Any] = field(default_factory=dict, compare=False)
    line: int | None = field(default=None, compare=False)
    called: str = ""

    @property
    def label(self) -> str:
        """Which it is, for a person; empty where there is but one."""
        if self.called or not self.number:
            return self.called
        about = next((self.values[key] for key in ("name", "clip", "clips") if key in self.values), None)
        name = f" '{shown(about)}'" if isinstance(about, str) else ""
        return f"job {self.number}{name}" + (f" (line {self.line})" if self.line else "")


class Problems:
    """Everything that is wrong, each thing once, with all the places where it is."""

    def __init__(self) -> None:
        self._places: dict[str, dict[int, Table]] = {}

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, table: Table, text: str) -> None:
        """Something is wrong in ``table``."""
        self._places.setdefault(text, {}).setdefault(table.number, table)

    def in_table(self, table: Table) -> Callable[[str], None]:
        """``add`` for one table."""
        return lambda text: self.add(table, text)

    def lines(self) -> list[str]:
        """In the order of the jobs."""
        rows = []
        for text, places in self._places.items():
            first = min(places)
            others = f" and {len(places) - 1} more" if len(places) > 1 else ""
            label = places[first].label
            rows.append((first, f"{label}{others}: {text}" if label else text))
        return [printable(line) for _, line in sorted(rows, key=lambda row: row[0])]


# ---- The file -------------------------------------------------------------------------------------------------------


def read_jobs(source: Path, output: Path, reporter: Reporter) -> list[Job]:
    """The jobs in a job file (.toml, .json), or of every clip in a folder, or of one clip; at least one.

    output: where takes will go; nothing in it becomes a job
    Raises BadJobsError with everything that is wrong.
    """
    return _Reading(source, output, reporter).jobs()


def _is_job_file(source: Path) -> bool:
    return source.suffix.lower() in JOB_FILE_ENDINGS and not source.is_dir()


def _tables_in(source: Path, problems: Problems) -> tuple[Table, list[Table]]:
    """[defaults] and [[jobs]] of a job file, as far as they are tables. Raises BadJobsError when it can't be read."""
    text = _text_of(source)
    try:
        if source.suffix.lower() == ".json":
            found = json.loads(text, object_pairs_hook=_each_once)
        else:
            found = tomllib.loads(text)
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
        if not stat.S_ISREG(source.stat().st_mode):
            raise BadJobsError(source, ["It is no file."])
        with open(source, "rb") as file:
            content = file.read(MAX_JOB_FILE_BYTES + 1)
    except OSError as problem:
        raise BadJobsError(source, [f"It can't be read: {problem.strerror or problem}."]) from problem
    if len(content) > MAX_JOB_FILE_BYTES:
        raise BadJobsError(
            source, [f"It is larger than {MAX_JOB_FILE_BYTES >> 20} MB, which is more than {MAX_CLIPS:,} jobs need."]
        )
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


@dataclass(eq=False)
class _Wanted:
    """A job on its way.

    name: as somebody wrote it, with ``CLIP_IN_NAME`` where the clip's belongs; None = that alone
    """

    table: Table
    clip: str
    name: str | None
    settings: Settings

    @property
    def fixed(self) -> bool:
        """Whether the name is to be just so."""
        return self.name is not None and CLIP_IN_NAME not in self.name

    @property
    def holds_keypoints(self) -> bool:
        return self.clip.lower().endswith(KEYPOINTS_ENDING)

    def job(self, name: str) -> Job:
        """With everything that how people are found has no say in left out, where they were found before."""
        settings, people, detect = self.settings, self.settings.people, self.settings.detect
        if self.holds_keypoints:
            people, detect = people if len(people) == 1 else (), StageOrder()
        return Job(name, self.clip, settings.endings, people, detect, settings.lift, settings.retarget)


class _Reading:
    """One reading of what is to be done."""

    def __init__(self, source: Path, output: Path, reporter: Reporter) -> None:
        self._source, self._output, self._reporter = source, output, reporter
        self._problems = Problems()
        self._base = os.path.abspath(source.parent if not source.is_dir() else source)
        self._out = os.path.realpath(output)
        self._settings = SettingsReader(Path(self._base), reporter)
        self._keys = [*self._settings.keys, *_OF_ONE_JOB]
        self._in_out: dict[str, bool] = {}

    def jobs(self) -> list[Job]:
        """All of them. Raises BadJobsError."""
        wanted = self._from_file() if _is_job_file(self._source) else self._from_footage()
        jobs = []
        if len(wanted) > MAX_CLIPS:
            self._problems.add(Table(), f"There are more than {MAX_CLIPS:,} clips. Do them in several batches.")
        else:
            self._check_clips(wanted)
            names = _Names(self._base, self._problems).of(wanted)
            jobs = [one.job(name) for one, name in zip(wanted, names, strict=True)]
        self._check_rigs(wanted)
        self._check_output()
        if not jobs and not self._problems:
            self._problems.add(Table(), "There is nothing to do in it.")
        if self._problems:
            raise BadJobsError(self._source, self._problems.lines())
        return jobs

    def _from_footage(self) -> list[_Wanted]:
        """Every clip in a folder, or the one."""
        table = Table()
        settings = self._settings.settled({})
        for problem in settings.problems:
            self._problems.add(table, problem)
        if not self._source.is_dir():
            return [_Wanted(table, os.path.abspath(self._source), None, settings)]
        if self._out == os.path.realpath(self._base):
            self._problems.add(table, "The takes can't go where the clips are. Choose another folder with -o.")
            return []
        search = _Search(self._out, self._problems.in_table(table))
        clips = search.matching(self._base, ("**", "*"), sequences=False)
        if not clips:
            # A folder of pictures is one clip.
            clips = [self._base] if search.pictures_in(self._base) else []
        if not clips:
            self._problems.add(table, "There is no footage in this folder: no videos, keypoints or pictures.")
        return [_Wanted(table, clip, None, settings) for clip in clips]

    def _from_file(self) -> list[_Wanted]:
        defaults, tables = _tables_in(self._source, self._problems)
        usual = self._read(defaults, "is said of each job by itself; it can't be one of [defaults].")
        one_by_one = {self._same(table.values["clip"]) for table in tables if isinstance(table.values.get("clip"), str)}
        wanted: list[_Wanted] = []
        for table in tables:
            told = self._problems.in_table(table)
            settings = self._settings.settled({**usual, **self._read(table)})
            for problem in settings.problems:
                told(problem)
            name = self._name(table)
            for clip in self._clips(table, told):
                # What is said of one clip goes before what is said of many.
                if "clip" in table.values or os.path.normcase(clip) not in one_by_one:
                    wanted.append(_Wanted(table, clip, name, settings))
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
        if why := _why_no_job_name(name.replace(CLIP_IN_NAME, "x")):
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
        search = _Search(self._out, told)
        found = search.matching(os.path.abspath(os.path.join(*parts[:first])), parts[first:], sequences=True)
        if not found:
            told(f"clips: '{shown(pattern)}' matches no clip.{search.instead()}")
        return found

    # ---- What is checked of all of them ----

    def _check_clips(self, wanted: Sequence[_Wanted]) -> None:
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
    def _check_keypoints(one: _Wanted, told: Callable[[str], None]) -> None:
        """Say what was said in vain of a clip in which people were found before."""
        vain = [key for key in one.table.values if key in ("frames", "fps", "person", "detector", "detector_model")]
        if vain:
            told(
                f"`{'`, `'.join(vain)}` says how people are found, and these keypoints were found before. Leave it out."
            )
        if len(one.settings.people) > 1 and "people" in one.table.values:
            told(f"people: a keypoints file holds one person, and there are {len(one.settings.people)} names.")

    def _check_rigs(self, wanted: Sequence[_Wanted]) -> None:
        """Open each rig once, whichever jobs want it."""
        tables: dict[tuple[str, ...], dict[int, Table]] = {}
        for one in wanted:
            if one.settings.rig_seen is not None:
                tables.setdefault(one.settings.rig_seen, {}).setdefault(one.table.number, one.table)
        if not tables:
            return
        for places, wrong in zip(tables.values(), check_rigs(list(tables), self._reporter), strict=True):
            for table in places.values() if wrong else ():
                self._problems.add(table, wrong)

    def _check_output(self) -> None:
        if why := why_no_path(self._out):
            self._problems.add(Table(), f"the folder '{shown(self._out)}' for takes: {why}.")
            return
        try:
            if self._output.exists() and not self._output.is_dir():
                raise OutputError(f"'{self._output}' is a file. Give a folder after -o.")
            check_writable(self._output / "report.html")
        except OutputError as problem:
            self._problems.add(Table(), str(problem))


def _is_path(given: Any, key: str, told: Callable[[str], None]) -> bool:
    if not isinstance(given, str) or not given.strip():
        told(f"{key}: write a path as a text{', or a list of them' if key == 'clips' else ''}.")
        return False
    why = "it is longer than paths are" if len(given) > _MAX_PATH else why_no_path(given)
    if why:
        told(f"{key} '{shown(given)}': {why}.")
    return not why


def why_no_clip(clip: str) -> str:
    """What keeps ``clip`` from being footage or keypoints, as far as that can be told without decoding; or empty."""
    try:
        found = os.stat(clip)
    except FileNotFoundError:
        return _why_no_sequence(clip) or ""
    except (OSError, ValueError) as problem:
        return f"'{clip}' can't be read: {getattr(problem, 'strerror', None) or problem}."
    if stat.S_ISDIR(found.st_mode):
        why = _why_no_sequence(clip)
        return why and f'{why} All clips below a folder are named by clips = "FOLDER/**/*".'
    if not stat.S_ISREG(found.st_mode):
        return f"'{clip}' is neither a file nor a folder."
    if not clip.lower().endswith((*CLIP_ENDINGS, *PICTURE_ENDINGS)):
        return f"'{clip}' has no ending of footage, nor {KEYPOINTS_ENDING}."
    if found.st_size == 0:
        return f"'{clip}' is empty (0 bytes). Copy or export it again."
    return _why_unreadable(clip)


def _why_no_sequence(clip: str) -> str:
    try:
        pictures = sequence_at(Path(clip))
    except FootageError as problem:
        return str(problem)
    except OSError as problem:
        return f"'{clip}' can't be read: {problem.strerror or problem}."
    if pictures is None:
        return f"There is no clip '{clip}'. Check the path."
    return _why_unreadable(str(pictures[0]))


def _why_unreadable(file: str) -> str:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except OSError as problem:
        return f"'{file}' can't be read: {problem.strerror or problem}."
    return ""


# ---- Clips below a folder -------------------------------------------------------------------------------------------


class _Pattern:
    """A pattern such as ``shots/**/*.mp4``, followed folder by folder.

    Places are where in it one stands: the numbers of its parts that names below a folder may be like.
    """

    def __init__(self, parts: Sequence[str]) -> None:
        self.end = len(parts)
        self._likes = [None if part == "**" else _like(part) for part in parts]
        self._hidden_too = [part.startswith(".") for part in parts]

    def reached(self, places: Iterable[int]) -> frozenset[int]:
        """With those that are reached because ``**`` may stand for no folder at all."""
        reached = set(places)
        for place in tuple(reached):
            while place < self.end and self._likes[place] is None:
                place += 1
                reached.add(place)
        return frozenset(reached)

    def after(self, places: Iterable[int], name: str) -> set[int]:
        """Where one stands behind something called ``name``."""
        hidden, name = name.startswith("."), os.path.normcase(name)
        behind = set()
        for place in places:
            if place == self.end or hidden and not self._hidden_too[place]:
                continue
            like = self._likes[place]
            if like is None:
                behind.add(place)
            elif like(name):
                behind.add(place + 1)
        return behind


def _like(part: str) -> Callable[[str], Any]:
    return re.compile(fnmatch.translate(os.path.normcase(part))).match


class _Search:
    """Looks for clips: in no hidden folder, not where takes go, and in each folder once however links go round."""

    def __init__(self, output: str, told: Callable[[str], None]) -> None:
        self._output, self._told = output, told
        self._pictures = self._others = 0
        self._passed_output = False

    def matching(self, root: str, parts: Sequence[str], *, sequences: bool) -> list[str]:
        """Absolute paths of clips below ``root`` that are like a pattern of ``parts``, sorted; at most one too many.

        sequences: folders of pictures are clips as well. Without, a folder that an earlier batch wrote is left out.
        """
        pattern = _Pattern(parts)
        found: set[str] = set()
        seen: set[tuple[int, int, frozenset[int]]] = set()
        # Links wait for last: what can be reached without them is called by its own name.
        waiting: deque[tuple[str, frozenset[int]]] = deque([(root, pattern.reached([0]))])
        linked: deque[tuple[str, frozenset[int]]] = deque()
        while waiting or linked:
            folder, places = (waiting or linked).popleft()
            entries = self._entries(folder, places, seen)
            if not sequences and folder != root and any(entry.name == ".keylift" for entry in entries):
                continue
            for entry in entries:
                behind = pattern.after(places, entry.name)
                if _is_folder(entry):
                    if pattern.end in behind and sequences and self.pictures_in(entry.path):
                        found.add(entry.path)
                    if below := pattern.reached(behind) - {pattern.end}:
                        (linked if entry.is_symlink() else waiting).append((entry.path, below))
                elif pattern.end in pattern.reached(behind) and self._is_clip(entry.name):
                    found.add(entry.path)
                    if len(found) > MAX_CLIPS:
                        return sorted(found)
        return sorted(found, key=lambda path: path.split(os.sep))

    def _entries(
        self, folder: str, places: frozenset[int], seen: set[tuple[int, int, frozenset[int]]]
    ) -> list[os.DirEntry[str]]:
        """What is in a folder, sorted; nothing where it was looked at before."""
        try:
            about = os.stat(folder)
            known = (about.st_dev, about.st_ino, places)
            if known in seen:
                return []
            seen.add(known)
            if os.path.realpath(folder) == self._output:
                self._passed_output = True
                return []
            with os.scandir(folder) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as problem:
            self._told(f"the folder '{folder}' can't be read: {problem.strerror or problem}.")
            return []

    def _is_clip(self, name: str) -> bool:
        if name.lower().endswith(CLIP_ENDINGS):
            return True
        if os.path.splitext(name)[1].lower() in PICTURE_ENDINGS:
            self._pictures += 1
        else:
            self._others += 1
        return False

    def pictures_in(self, folder: str) -> bool:
        """Whether there are pictures right in it."""
        try:
            with os.scandir(folder) as entries:
                return any(
                    os.path.splitext(entry.name)[1].lower() in PICTURE_ENDINGS and not entry.name.startswith(".")
                    for entry in entries
                )
        except OSError:
            # Told when it is looked into.
            return False

    def instead(self) -> str:
        """What there was in place of clips."""
        if self._passed_output:
            return " What is in the folder where takes go does not count; choose another folder with -o."
        if self._pictures:
            return (
                f" {self._pictures:,} pictures do: name the folder that holds a sequence, or write "
                'clip = "FOLDER/shot_####.png".'
            )
        return f" {self._others:,} other files do." if self._others else " Check the path."


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # A link to itself, and the like: told when it is opened.
        return False


# ---- Names ----------------------------------------------------------------------------------------------------------


def _why_no_job_name(name: str) -> str:
    """What is wrong with the name of a job, whose files get endings; empty when nothing is."""
    if why := why_no_name(name):
        return why
    if alike(name) == "report":
        return "the report of all takes is called so"
    return "files beside takes end so" if alike(name).endswith(".take") else ""


def safe_name(text: str, letters: int = MAX_NAME, size: int = MAX_NAME_BYTES) -> str:
    """A job's name that is much like ``text``: any text becomes a file's name on every system.

    letters, size: at most so many, and so many bytes
    """
    name = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode())
    name = "".join(letter if _goes_into_names(letter) else "_" for letter in name)
    name = _cut(name.lstrip(".- "), letters, size) or "clip"
    if _why_no_job_name(name) and "." in name:
        # The name of a device, or an ending that has a meaning here.
        name = name.replace(".", "_")
    return _cut(f"_{name}", letters, size) if _why_no_job_name(name) else name


def _cut(name: str, letters: int, size: int) -> str:
    return name[:letters].encode()[:size].decode(errors="ignore").rstrip(". ")


@lru_cache(maxsize=10_000)
def _goes_into_names(letter: str) -> bool:
    return not why_no_name(f"x{letter}x")


class _Names:
    """Gives each job a name that no other has, on any disk, nor any take of another."""

    def __init__(self, base: str, problems: Problems) -> None:
        self._base, self._problems = base, problems
        # By what a disk may take for the same: the name, and who has it.
        self._taken: dict[str, tuple[str, Table]] = {}
        self._tries: Counter[str] = Counter()

    def of(self, wanted: Sequence[_Wanted]) -> list[str]:
        """In the same order. What can't be is told, and comes out empty."""
        fixed = {place: self._fixed(one) for place, one in enumerate(wanted) if one.fixed}
        doubles = self._doubles([one for one in wanted if not one.fixed])
        free = [place for place, one in enumerate(wanted) if not one.fixed and one not in doubles]
        called = self._called([wanted[place] for place in free])
        names = fixed | {place: self._free(wanted[place], name) for place, name in zip(free, called, strict=True)}
        return [names.get(place, "") for place in range(len(wanted))]

    def _fixed(self, one: _Wanted) -> str:
        """The name that somebody wrote."""
        told, name = self._problems.in_table(one.table), str(one.name)
        endings = _take_endings(one)
        for twice in (ending for ending, count in Counter(map(alike, endings)).items() if count > 1):
            told(f"people: two of them would be called '{twice[1:]}'.")
        for ending in endings:
            if why := why_no_name(name + ending):
                told(f"the take '{shown(name + ending)}' can't be called so: {why}.")
            other_name, other = self._taken.setdefault(alike(name + ending), (name + ending, one.table))
            if other is not one.table:
                same = "" if other_name == name + ending else f" (as '{shown(other_name)}': one file on some disks)"
                told(f"{other.label} writes '{shown(name + ending)}' too{same}. Give each its own `name`.")
        return name

    def _doubles(self, free: Sequence[_Wanted]) -> set[_Wanted]:
        """Clips that another job has as well, with nothing in its name to tell the two apart. They are told."""
        first: dict[tuple[str, str], Table] = {}
        both: dict[tuple[Table, Table], list[_Wanted]] = {}
        for one in free:
            other = first.setdefault((os.path.normcase(one.clip), alike(one.name or "")), one.table)
            if other is not one.table:
                both.setdefault((one.table, other), []).append(one)
        for (table, other), clips in both.items():
            more = f" and {len(clips) - 1:,} more" if len(clips) > 1 else ""
            self._problems.add(
                table,
                f"{other.label} makes takes of '{clips[0].clip}'{more} too, by the same name. Give each its own "
                f'`name`, such as "walk-1", or "hero-{CLIP_IN_NAME}" for several clips.',
            )
        return {one for clips in both.values() for one in clips}

    def _called(self, free: Sequence[_Wanted]) -> list[str]:
        """What each clip is called: as its file, after as many folders as tell it from others of that name."""
        folders = [self._folders(one.clip) for one in free]
        called = [_stem(one.clip) for one in free]
        stems = [(one.name, folder, alike(stem)) for one, folder, stem in zip(free, folders, called, strict=True)]
        often = Counter(stems)
        alikes: dict[tuple[str | None, str], list[int]] = {}
        for place, one in enumerate(free):
            if often[stems[place]] > 1:
                # In one folder, and another ending is all that they have.
                called[place] = os.path.basename(one.clip).replace(".", "_")
            alikes.setdefault((one.name, alike(called[place])), []).append(place)
        for places in alikes.values():
            depth = _telling_depth({folders[place] for place in places})
            for place in places if depth else ():
                called[place] = "_".join([*folders[place][-depth:], called[place]])
        return called

    def _folders(self, clip: str) -> tuple[str, ...]:
        """The folders that a clip is in, from where the jobs are."""
        folder = os.path.dirname(clip)
        if folder == self._base:
            return ()
        inside = folder.startswith(os.path.join(self._base, ""))
        return Path(os.path.relpath(folder, self._base) if inside else folder).parts[0 if inside else 1 :]

    def _free(self, one: _Wanted, called: str) -> str:
        """A name that nobody has, like ``called``."""
        endings = _take_endings(one)
        around = (one.name or CLIP_IN_NAME).replace(CLIP_IN_NAME, "") + max(endings, key=len)
        # One letter in reserve, for names that can't be otherwise.
        letters, size = MAX_NAME - 1 - len(around), MAX_NAME_BYTES - 1 - len(around.encode())
        if size < _LEAST_NAME or letters < _LEAST_NAME:
            self._problems.add(one.table, f"name and people: '{shown(around)}' leaves no room for the clip's name.")
            return ""
        wanted = alike(around + called)
        while True:
            self._tries[wanted] += 1
            number = f"_{self._tries[wanted]}" if self._tries[wanted] > 1 else ""
            like_clip = safe_name(called, letters - len(number), size - len(number)) + number
            name = like_clip if one.name is None else safe_name(one.name.replace(CLIP_IN_NAME, like_clip))
            keys = [alike(name + ending) for ending in endings]
            if not any(key in self._taken for key in keys):
                self._taken.update((key, (name, one.table)) for key in keys)
                return name


def _take_endings(one: _Wanted) -> list[str]:
    """What its takes add to the name of a job; first nothing, which is the job itself."""
    from ...core.tracks import MAX_PEOPLE

    job = one.job("")
    if not job.everybody and not job.people:
        return [""]
    people = MAX_PEOPLE if job.everybody else 1
    return ["", *(job.take_name(number, people) for number in range(1, people + 1))]


def _stem(clip: str) -> str:
    name = os.path.basename(clip)
    if name.lower().endswith(KEYPOINTS_ENDING):
        return name[: -len(KEYPOINTS_ENDING)]
    stem, ending = os.path.splitext(name)
    return stem if ending.lower() in (*CLIP_ENDINGS, *PICTURE_ENDINGS) else name


def _telling_depth(folders: set[tuple[str, ...]]) -> int:
    """How many folders from the last one on tell all of them apart."""
    depth = 0
    while len({alike("_".join(folder[-depth:] if depth else ())) for folder in folders}) < len(folders):
        depth += 1
        if depth > max(map(len, folders)):
            break
    return depth


# ---- Told -----------------------------------------------------------------------------------------------------------


def told(jobs: Sequence[Job]) -> str:
    """What would be done, for a person: the first jobs, and how many there are."""
    lines = [_told(job) for job in jobs[:_TOLD_AT_MOST]]
    if len(jobs) > _TOLD_AT_MOST:
        lines.append(f"... and {len(jobs) - _TOLD_AT_MOST:,} more.")
    keypoints, people = sum(job.holds_keypoints for job in jobs), sum(job.everybody for job in jobs)
    counts = [f"{len(jobs):,} {'job' if len(jobs) == 1 else 'jobs'}"]
    counts += [f"{keypoints:,} of keypoints"] if keypoints else []
    counts += [f"{people:,} of everybody"] if people else []
    files = sum(len(outputs(job)) for job in jobs)
    return "\n".join([*map(printable, lines), f"{', '.join(counts)}; {files:,} files{' or more' if people else ''}."])


def _told(job: Job) -> str:
    who = "keypoints" if job.holds_keypoints else _who(job)
    frames = _option(job.detect, "--frames")
    said = [*([f"frames {frames}"] if frames else []), who, f"rig {_rig(job)}"] if job.baked_endings else [who]
    files = outputs(job)
    more = f" and {len(files) - 4} more" if len(files) > 4 else ""
    return f"{job.name}: {job.clip} ({', '.join(said)}) -> {', '.join(files[:4])}{more}"


def _who(job: Job) -> str:
    person = _option(job.detect, "--person") or "largest"
    return {"largest": "the largest person", "all": "everybody"}.get(person, f"person {person}")


def _rig(job: Job) -> str:
    return _option(job.retarget, "--rig") or METARIG


def _option(order: StageOrder, flag: str) -> str:
    return next((word[len(flag) + 1 :] for word in order.options if word.startswith(f"{flag}=")), "")


def outputs(job: Job) -> list[str]:
    """Names of the files that come of a job; ``N`` where everybody is a take and nobody knows how many there are."""
    takes = [job.name]
    if job.people:
        takes = [f"{job.name}-{who}" for who in job.people]
    elif job.everybody:
        takes = [f"{job.name}-N"]
    return [f"{take}{ending}" for take in takes for ending in job.endings]


def as_values(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """What would be done, for a program."""
    return [
        {
            "job": job.name,
            "clip": job.clip,
            "frames": _option(job.detect, "--frames") or None,
            "person": None if job.holds_keypoints else _option(job.detect, "--person") or "largest",
            "people": list(job.people),
            "rig": _rig(job) if job.baked_endings else None,
            "outputs": outputs(job),
            "settings": {
                stage: list(order.options)
                for stage, order in ((DETECT, job.detect), (LIFT, job.lift), (RETARGET, job.retarget))
            },
            "reads": [*job.detect.files, *job.lift.files, *job.retarget.files],
        }
        for job in jobs
    ]
