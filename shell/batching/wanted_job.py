"""A job as somebody wrote it down, before it has a name of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .job import KEYPOINTS_ENDING, Job, StageOrder
from .job_values import Settings, shown

# In the name of jobs that a pattern makes: what the clip is called.
CLIP_IN_NAME = "{clip}"


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


@dataclass(eq=False)
class WantedJob:
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
