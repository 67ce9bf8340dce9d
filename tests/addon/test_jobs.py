"""Jobs of several scenes, one after the other, with a real worker."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT
from keylift.addon import jobs as jobs_module
from keylift.addon.jobs import Command, Flow, Job, JobQueue, State
from keylift.addon.worker_client import Worker, WorkerProgram
from keylift.core.errors import KeyliftError
from keylift.core.worker_messages import Progressed


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    made = JobQueue(lambda: Worker(WorkerProgram(Path(sys.executable), ROOT)))
    yield made
    made.close()


def asking(*argvs: tuple[str, ...]) -> Flow:
    answers = []
    for argv in argvs:
        answers.append((yield Command(argv, 1 / len(argvs), argv[0])))
    return answers


def until_over(queue: JobQueue, *wanted: Job, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not all(job.over for job in wanted) and time.monotonic() < until:
        queue.tick()
        time.sleep(0.01)
    assert all(job.over for job in wanted)


def test_a_flow_gets_what_came_of_each_of_its_commands(queue: JobQueue) -> None:
    job = Job("Looking", "scene", asking(("weights", "list"), ("weights", "info", "default")))
    queue.add(job)
    until_over(queue, job)
    assert job.state is State.DONE and job.fraction == 1.0
    assert "default" in job.outcome[0]["weights"] and job.outcome[1]["licence"]


def test_jobs_of_two_scenes_run_in_turn_and_keep_to_themselves(queue: JobQueue) -> None:
    one = Job("Looking", "one", asking(("weights", "list")))
    two = Job("Looking", "two", asking(("weights", "info", "default")))
    queue.add(one)
    queue.add(two)
    queue.tick()
    assert (one.state, two.state) == (State.RUNNING, State.WAITING)
    assert queue.of("one") is one and queue.of("two") is two and queue.of("three") is None
    pid = queue.worker_pid
    until_over(queue, one, two)
    assert "weights" in one.outcome[0] and "licence" in two.outcome[0]
    assert queue.worker_pid == pid, "one worker serves both"


def test_a_job_that_fails_says_why_and_the_next_one_runs(queue: JobQueue) -> None:
    bad = Job("Lifting", "one", asking(("lift", "nowhere.keypoints.npz", "-o", "x.pose.npz")))
    good = Job("Looking", "one", asking(("weights", "list")))
    queue.add(bad)
    queue.add(good)
    until_over(queue, bad, good)
    assert bad.state is State.FAILED and "nowhere.keypoints.npz" in str(bad.problem)
    assert good.state is State.DONE


def test_a_flow_that_cannot_go_on_fails_by_its_own_words(queue: JobQueue) -> None:
    def flow() -> Flow:
        yield Command(("weights", "list"), 1.0, "weights")
        raise KeyliftError("Nobody is there. Film somebody.")

    job = Job("Looking", "one", flow())
    queue.add(job)
    until_over(queue, job)
    assert job.state is State.FAILED and str(job.problem) == "Nobody is there. Film somebody."


def test_a_job_that_waits_can_be_stopped_before_it_begins(queue: JobQueue) -> None:
    first = Job("Looking", "one", asking(("weights", "list")))
    second = Job("Looking", "two", asking(("weights", "list")))
    queue.add(first)
    queue.add(second)
    queue.tick()
    queue.cancel(second)
    assert second.state is State.STOPPED
    until_over(queue, first)
    assert first.state is State.DONE


def test_a_worker_killed_in_mid_job_costs_that_job_alone(queue: JobQueue) -> None:
    killed = Job("Testing", "one", asking(("doctor",)))
    after = Job("Looking", "one", asking(("weights", "list")))
    queue.add(killed)
    queue.add(after)
    queue.tick()
    while queue.worker_pid is None:
        queue.tick()
    time.sleep(0.5)
    queue.tick()
    pid = queue.worker_pid
    assert pid is not None and not killed.over
    os.kill(pid, signal.SIGKILL)
    until_over(queue, killed, after)
    assert killed.state is State.FAILED and "The scene is as it was" in str(killed.problem)
    assert after.state is State.DONE and queue.worker_pid != pid


def test_closing_ends_jobs_and_worker(queue: JobQueue) -> None:
    running = Job("Testing", "one", asking(("doctor",)))
    waiting = Job("Looking", "two", asking(("weights", "list")))
    queue.add(running)
    queue.add(waiting)
    queue.tick()
    assert queue.worker_pid is not None
    queue.close()
    assert running.state is State.STOPPED and waiting.state is State.STOPPED
    assert queue.worker_pid is None and queue.jobs == []
    queue.add(again := Job("Looking", "one", asking(("weights", "list"))))
    until_over(queue, again)
    assert again.state is State.DONE


def test_an_idle_worker_gives_its_memory_back(queue: JobQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("Looking", "one", asking(("weights", "list")))
    queue.run_to_its_end(job)
    assert queue.worker_pid is not None
    queue.tick()
    assert queue.worker_pid is not None
    monkeypatch.setattr(jobs_module, "IDLE_S", 0.0)
    queue.tick()
    assert queue.worker_pid is None


def test_how_far_a_job_is_counts_the_stage_that_takes_the_time() -> None:
    job = Job("Capturing", "one", asking(("detect", "x"), ("lift", "x")))
    job.began = time.monotonic() - 10
    job.state = State.RUNNING
    job.next_command(None)
    job.hear(Progressed(1, "model", "Getting the pose model", 5, 10))
    assert (job.fraction, job.stage, job.seconds_left) == (0.0, "Getting the pose model", None)
    job.hear(Progressed(1, "detect", "Looking", 50, 100))
    assert job.fraction == pytest.approx(0.25)
    assert job.seconds_left == pytest.approx(30, rel=0.05)
    job.next_command({})
    assert job.fraction == pytest.approx(0.5)
    job.hear(Progressed(1, "lift", "Lifting", 100, 100))
    assert job.fraction == pytest.approx(1.0)
