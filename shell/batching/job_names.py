"""A name for each job that no other has, on any disk, nor any take of another."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from ...core.picture_sequence import PICTURE_ENDINGS
from ...core.weights.names import MAX_NAME, MAX_NAME_BYTES, alike, why_no_name
from .bad_jobs import Problems
from .clip_search import CLIP_ENDINGS
from .job import KEYPOINTS_ENDING
from .job_values import shown
from .wanted_job import CLIP_IN_NAME, Table, WantedJob

_LEAST_NAME = 8


def why_no_job_name(name: str) -> str:
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
    if why_no_job_name(name) and "." in name:
        # The name of a device, or an ending that has a meaning here.
        name = name.replace(".", "_")
    return _cut(f"_{name}", letters, size) if why_no_job_name(name) else name


def _cut(name: str, letters: int, size: int) -> str:
    return name[:letters].encode()[:size].decode(errors="ignore").rstrip(". ")


@lru_cache(maxsize=10_000)
def _goes_into_names(letter: str) -> bool:
    return not why_no_name(f"x{letter}x")


class JobNames:
    """Gives each job a name that no other has, on any disk, nor any take of another."""

    def __init__(self, base: str, problems: Problems) -> None:
        self._base, self._problems = base, problems
        # By what a disk may take for the same: the name, and who has it.
        self._taken: dict[str, tuple[str, Table]] = {}
        self._tries: Counter[str] = Counter()

    def of(self, wanted: Sequence[WantedJob]) -> list[str]:
        """In the same order. What can't be is told, and comes out empty."""
        fixed = {place: self._fixed(one) for place, one in enumerate(wanted) if one.fixed}
        doubles = self._doubles([one for one in wanted if not one.fixed])
        free = [place for place, one in enumerate(wanted) if not one.fixed and one not in doubles]
        called = self._called([wanted[place] for place in free])
        names = fixed | {place: self._free(wanted[place], name) for place, name in zip(free, called, strict=True)}
        return [names.get(place, "") for place in range(len(wanted))]

    def _fixed(self, one: WantedJob) -> str:
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

    def _doubles(self, free: Sequence[WantedJob]) -> set[WantedJob]:
        """Clips that another job has as well, with nothing in its name to tell the two apart. They are told."""
        first: dict[tuple[str, str], Table] = {}
        both: dict[tuple[Table, Table], list[WantedJob]] = {}
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

    def _called(self, free: Sequence[WantedJob]) -> list[str]:
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

    def _free(self, one: WantedJob, called: str) -> str:
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


def _take_endings(one: WantedJob) -> list[str]:
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
