"""A batch on a Dask cluster that is there already, whose workers say what they have."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

pytest.importorskip("bpy")
pytest.importorskip("distributed")

from adaptation_samples import write_walks
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
