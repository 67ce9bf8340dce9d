"""What a batch would do, told before it does anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .job import DETECT, LIFT, RETARGET, Job, StageOrder
from .job_values import METARIG, printable

_TOLD_AT_MOST = 20


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
