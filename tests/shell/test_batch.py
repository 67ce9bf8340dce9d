"""``keylift batch`` as a night shift has it: killed, crowded, short of disk, stopped, and run again in the morning."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from adaptation_samples import write_walks
from keylift.core.track_files import read_keypoints
from shell_runs import Run, begun, clip, content, film_empty_room, keylift, small_disk

CLIPS = 4
JOBS = """
[defaults]
formats = [".bvh", ".pose.npz"]
rig = "skeleton"
[[jobs]]
clips = "clips/*.keypoints.npz"
"""
HIDDEN = ".keylift"


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """A folder with a job file and four walks of a second, in names as people give them."""
    folder = tmp_path_factory.mktemp("night shift 🌙")
    (folder / "clips").mkdir()
    for number, path in enumerate(write_walks(folder / "clips", [30] * CLIPS)):
        path.rename(path.with_name(f"wälk {number} 🚶.keypoints.npz"))
    (folder / "night.toml").write_text(JOBS, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def undisturbed(night):
    """All of it by one process, and what it wrote."""
    run = batch(night, "one", "--workers", 1)
    assert run.code == 0, run.err
    return takes_in(night / "one")


def batch(night: Path, out: str, *options: object, jobs: str = "night.toml") -> Run:
    return keylift("batch", jobs, "-o", out, "--json", *options, cwd=night, cold=True)


def batch_begun(night: Path, out: str, *options: object):
    return begun("batch", "night.toml", "-o", out, "--json", *options, cwd=night, cold=True, own_session=True)


def takes_in(out: Path) -> dict[str, str]:
    """What a batch is for: takes with the hash of their content; manifests tell times, so they differ."""
    return {
        name: sha256
        for name, sha256 in content(out).items()
        if not name.startswith(HIDDEN) and not name.endswith(".take.json") and name != "report.html"
    }


def summary(run: Run) -> dict:
    return json.loads(run.out.splitlines()[-1])


def events(text: str) -> list[dict]:
    return [line for line in map(json.loads, text.splitlines()) if line.get("event") == "job"]


def nothing_half_done(out: Path) -> bool:
    return not any((out / HIDDEN / "work").glob("*")) and not list(out.rglob(".keylift-*"))


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    """The processes that compute for a batch."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any("spawn_main" in word for word in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def test_every_clip_becomes_a_take_with_a_manifest(night, undisturbed):
    assert len(undisturbed) == 2 * CLIPS
    manifest = json.loads((night / "one" / "wälk 0 🚶.take.json").read_text(encoding="utf-8"))
    assert manifest["frames"] == 30 and manifest["rig"] == "skeleton"
    assert {made["file"]: made["sha256"] for made in manifest["outputs"]}.items() <= undisturbed.items()
    assert manifest["inputs"][0]["path"].endswith("wälk 0 🚶.keypoints.npz") and manifest["seconds"]["lift"] > 0
    assert (night / "one" / manifest["thumbnail"]).read_bytes().startswith(b"\x89PNG")
    page = (night / "one" / "report.html").read_text(encoding="utf-8")
    assert all(f"wälk {number} 🚶" in page for number in range(CLIPS))
    assert nothing_half_done(night / "one")


def test_run_again_it_does_nothing(night, undisturbed):
    before = {path: path.stat().st_mtime_ns for path in (night / "one").glob("*") if path.name != "report.html"}
    run = batch(night, "one")
    assert run.code == 0 and summary(run)["there"] == CLIPS and summary(run)["done"] == 0
    assert not events(run.out)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_another_rig_detects_and_lifts_nothing_anew(night, undisturbed):
    before = content(night / "one" / HIDDEN / "lift")
    (night / "other.toml").write_text(JOBS.replace('".pose.npz"', '".glb"'), encoding="utf-8")
    run = batch(night, "one", "--only", "wälk 1*", jobs="other.toml")
    assert run.code == 0 and summary(run)["done"] == 1 and list(summary(run)["computing_s"]) == ["retarget"]
    assert content(night / "one" / HIDDEN / "lift") == before
    assert (night / "one" / "wälk 1 🚶.glb").is_file()


def test_killed_at_any_moment_it_goes_on_to_the_same_takes(night, undisturbed):
    chance = random.Random(time.time_ns())
    for workers in (2, 1):
        process = batch_begun(night, "killed", "--workers", workers)
        time.sleep(chance.uniform(0.5, 4.0))
        helpers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.kill()
        process.communicate()
        # Whoever worked for it notices by itself.
        _, alive = psutil.wait_procs(helpers, timeout=10)
        assert not alive
    run = batch(night, "killed", "--workers", 1)
    assert run.code == 0, run.err
    assert takes_in(night / "killed") == undisturbed and nothing_half_done(night / "killed")


@pytest.mark.parametrize("workers", ["2", "dask:2"])
def test_workers_that_are_killed_lose_nothing(night, undisturbed, workers):
    if workers.startswith("dask"):
        pytest.importorskip("distributed")
    out = f"victims {workers.partition(':')[0]}"
    process = batch_begun(night, out, "--workers", workers)
    chance, killed = random.Random(time.time_ns()), 0
    began = time.monotonic()
    while process.poll() is None and not (night / out / HIDDEN / "detect").exists():
        time.sleep(0.1)
    while process.poll() is None and killed < 2 and time.monotonic() - began < 60:
        time.sleep(chance.uniform(0.5, 2.5))
        victims = workers_of(process) if process.poll() is None else []
        if victims:
            victims[chance.randrange(len(victims))].kill()
            killed += 1
    said, told = process.communicate(timeout=240)
    assert process.returncode == 0, told
    assert killed > 0
    assert takes_in(night / out) == undisturbed and nothing_half_done(night / out)
    done = [event["job"] for event in events(said) if event["status"] == "done"]
    assert len(done) == len(set(done)) == CLIPS


def test_two_batches_on_one_folder_share_the_work(night, undisturbed):
    both = [batch_begun(night, "shared", "--workers", 1) for _ in range(2)]
    ends = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert takes_in(night / "shared") == undisturbed and nothing_half_done(night / "shared")
    done = [event["job"] for said, _ in ends for event in events(said)]
    assert len(done) == len(set(done)) == CLIPS


def test_parts_and_stages_come_to_the_same(night, undisturbed):
    for stage, part, jobs in (
        ("lift", "1/2", CLIPS // 2),
        ("retarget", "1/2", CLIPS // 2),
        # What the stage before should have left is made.
        ("retarget", "2/2", CLIPS // 2),
        ("retarget", "9/9", 0),
    ):
        run = batch(night, "farm", "--stage", stage, "--part", part, "--workers", 1)
        assert run.code == 0 and summary(run)["jobs"] == jobs, run.err
        assert (stage == "lift") == (not takes_in(night / "farm"))
    assert takes_in(night / "farm") == undisturbed


def test_failures_are_told_and_stop_nobody(night, tmp_path):
    (tmp_path / "clips").mkdir()
    for path in write_walks(tmp_path / "clips", [30]):
        path.rename(path.with_name("fine.keypoints.npz"))
    (tmp_path / "clips" / "broken.keypoints.npz").write_bytes(b"PK\x03\x04 and no more")
    film_empty_room(tmp_path / "clips" / "nobody.mp4")
    for again in (False, True):
        run = batch(tmp_path, "out", "--workers", 2, jobs="clips")
        assert run.code == 1
        assert summary(run)["failed"] == 2 and summary(run)["there" if again else "done"] == 1
    failed = {
        name: json.loads((tmp_path / "out" / HIDDEN / "jobs" / f"{name}.json").read_text(encoding="utf-8"))["failure"]
        for name in ("broken", "nobody")
    }
    assert failed["nobody"]["kind"] == "NobodyFoundError" and failed["nobody"]["stage"] == "detect"
    assert failed["broken"]["kind"] == "FileFormatError"
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "nobody" in page and "broken" in page
    assert not list((tmp_path / "out").glob("nobody*")) and not list((tmp_path / "out").glob("broken*"))


def test_a_full_disk_is_for_later(night, undisturbed, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    with small_disk(place, "size=500k"):
        run = batch(night, str(place / "out"), "--workers", 1, "--retries", 0)
        assert run.code == 75, run.err
        assert summary(run)["retry"] > 0 and summary(run)["failed"] == 0
        subprocess.run(["mount", "-o", "remount,size=50m", place], check=True)
        run = batch(night, str(place / "out"), "--workers", 1)
        assert run.code == 0 and takes_in(place / "out") == undisturbed


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends ctrl-C to all that share a console")
def test_ctrl_c_stops_soon_and_loses_nothing(night, undisturbed):
    process = batch_begun(night, "stopped", "--workers", 2)
    time.sleep(4)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told, told
    assert time.monotonic() - began < 15
    assert nothing_half_done(night / "stopped")
    assert batch(night, "stopped").code == 0 and takes_in(night / "stopped") == undisturbed


def test_everybody_in_a_clip_is_a_take_of_their_own(tmp_path):
    (tmp_path / "duet.toml").write_text(
        '[[jobs]]\nname = "duet"\nperson = "all"\npeople = ["Anna", "Bén 🕺"]\nframes = "60-90"\nrig = "skeleton"\n'
        f'fps = 25\nformats = [".bvh", ".keypoints.npz"]\nclip = {json.dumps(str(clip("demo.mp4")))}\n',
        encoding="utf-8",
    )
    run = batch(tmp_path, "out", "--workers", 1, jobs="duet.toml")
    assert run.code == 0, run.err
    assert {path.name for path in (tmp_path / "out").glob("*.bvh")} == {"duet-Anna.bvh", "duet-Bén 🕺.bvh"}
    tracks = [read_keypoints(tmp_path / "out" / f"duet-{name}.keypoints.npz") for name in ("Anna", "Bén 🕺")]
    heights = [np.nanmedian(np.ptp(track.xy_px[..., 1], axis=1)) for track in tracks]
    assert heights[0] > heights[1] and [track.person for track in tracks] == [1, 2]
    # One person all the way: nobody jumps by half a body from one frame to the next.
    for track, height in zip(tracks, heights, strict=True):
        middle = np.nanmean(track.xy_px, axis=1)
        assert np.nanmax(np.linalg.norm(np.diff(middle, axis=0), axis=1)) < 0.5 * height
    manifest = json.loads((tmp_path / "out" / "duet-Bén 🕺.take.json").read_text(encoding="utf-8"))
    assert manifest["person"] == 2 and manifest["person_name"] == "Bén 🕺" and manifest["frames"] == 31
    # What is odd about the footage is told of each take, and the page has a photograph of it all the same.
    note = "they are counted as 25 a second"
    assert manifest["fps"] == 25 and sum(note in warning for warning in manifest["warnings"]) == 1
    assert (tmp_path / "out" / "report.html").read_text(encoding="utf-8").count(note) == 2
    assert run.err.count(note) == 1
    picture = cv2.imread(str(tmp_path / "out" / manifest["thumbnail"]))
    assert picture is not None and np.ptp(picture[:, :100], axis=-1).max() > 30
