"""A batch on a Dask cluster that is there already, whose workers say what they have."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("bpy")
pytest.importorskip("distributed")

from adaptation_samples import write_walks
from keylift import __version__
from keylift.shell.batching.coordination import Coordination
from keylift.shell.batching.dask_engine import DaskEngine
from keylift.shell.batching.engine import WorkerUnfit
from keylift.shell.batching.job import DETECT, Job
from keylift.shell.batching.out_folder import OutFolder
from shell_runs import keylift


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers, one with a GPU and one with Blender, as they say; the scheduler's file."""
    file = tmp_path / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    alone = ["--host", "127.0.0.1"]
    scheduler = subprocess.Popen(
        [*dask, "scheduler", *alone, "--port", "0", "--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    )
    workers = []
    try:
        deadline = time.monotonic() + 60
        while not file.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        for name, has in (("lifts", "GPU=1"), ("bakes", "blender=1")):
            command = [*dask, "worker", *alone, "--scheduler-file", str(file), "--name", name, "--resources", has]
            command += ["--nthreads", "1", "--dashboard-address", "127.0.0.1:0", "--local-directory", str(tmp_path)]
            workers.append(subprocess.Popen(command))
        yield file
    finally:
        for process in (*workers, scheduler):
            process.terminate()
        for process in (*workers, scheduler):
            process.wait(30)


def test_each_stage_goes_where_what_it_needs_is(cluster, tmp_path):
    from distributed import Client

    with Client(scheduler_file=str(cluster), timeout=30) as client:
        client.wait_for_workers(2, timeout=60)
    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30, 30])
    run = keylift("batch", "clips", "-o", "out", "--workers", cluster, "--json", cwd=tmp_path, cold=True)
    assert run.code == 0, run.err
    assert json.loads(run.out.splitlines()[-1])["done"] == 2
    assert (tmp_path / "out" / "walk-1.blend").is_file() and "Watch it at http" in run.err
    with Client(scheduler_file=str(cluster), timeout=30) as client:
        names = {address: worker["id"] for address, worker in client.scheduler_info()["workers"].items()}
        loaded = client.run(lambda: {name for name in ("bpy", "torch") if name in sys.modules})
    assert {names[address]: found for address, found in loaded.items()} == {"lifts": {"torch"}, "bakes": {"bpy"}}


def test_a_cluster_that_does_not_answer_is_for_later(tmp_path):
    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30])
    for workers, code, words in (
        ("dask://127.0.0.1:9", 75, "does not answer"),
        ("nowhere.json", 1, "no scheduler file"),
        ("many", 1, "neither a number nor a cluster"),
    ):
        run = keylift("batch", "clips", "-o", "out", "--workers", workers, cwd=tmp_path)
        assert run.code == code and words in run.err, run.err
        assert "Traceback" not in run.err


OTHER_VERSION = "import keylift\nkeylift.__version__ = '0.0.9'\n"


@contextmanager
def worker_of_another_version(file, folder):
    """One that joins the cluster with scheduler file ``file``, and is there when the block begins."""
    from distributed import Client

    (folder / "older.py").write_text(OTHER_VERSION, encoding="utf-8")
    command = [sys.executable, "-m", "dask", "worker", "--host", "127.0.0.1", "--scheduler-file", str(file)]
    command += ["--name", "older", "--nthreads", "1", "--dashboard-address", "127.0.0.1:0", "--no-nanny"]
    command += [
        "--local-directory",
        str(folder),
        "--preload",
        str(folder / "older.py"),
        "--resources",
        "GPU=1 blender=1",
    ]
    worker = subprocess.Popen(command)
    try:
        with Client(scheduler_file=str(file), timeout=30) as client:
            deadline = time.monotonic() + 60
            while "older" not in {one["id"] for one in client.scheduler_info(n_workers=-1)["workers"].values()}:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield
    finally:
        worker.terminate()
        worker.wait(30)


def test_a_worker_of_another_version_does_nothing(cluster, tmp_path):
    """One that joins later has all that stages ask for and nothing to do, so the scheduler asks it as well."""
    from distributed import Client

    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30, 30])
    with Client(scheduler_file=str(cluster), timeout=30) as client:
        client.wait_for_workers(2, timeout=60)
    jobs = [Job(name, str(tmp_path / "clips" / f"walk-{number}.keypoints.npz")) for number, name in enumerate("ab")]
    engine, ends = DaskEngine(str(cluster), str(tmp_path / "out")), []
    order = engine.order
    engine.order = lambda *what: ends.append(order(*what)) or ends[-1]
    try:
        with worker_of_another_version(cluster, tmp_path):
            tally = Coordination(engine, OutFolder(tmp_path / "out"), last_stage=DETECT).run(jobs)
            assert tally.done == 2 and tally.exit_code == 0
            refused = [end.exception() for end in ends if end.exception() is not None]
            assert refused and all(isinstance(one, WorkerUnfit) and "Keylift 0.0.9" in str(one) for one in refused)

            run = keylift("batch", "clips", "-o", "new", "--workers", cluster, cwd=tmp_path, cold=True)
        assert run.code == 1 and f"has Keylift 0.0.9, and this batch Keylift {__version__}. Install" in run.err, run.err
        assert not list((tmp_path / "new").glob("*.bvh"))
    finally:
        engine.close()
