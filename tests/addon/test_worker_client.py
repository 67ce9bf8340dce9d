"""A real worker, as Blender starts it: asked, stopped, killed, cut off."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adaptation_samples import write_walks
from bare_python import bare_python
from checkout import ROOT, product_modules
from keylift.addon.worker_client import Worker, WorkerError, WorkerProgram, run_to_its_end
from keylift.core.errors import Cancelled, KeyliftError
from keylift.core.worker_messages import Failed, Finished, FromWorker, Progressed

PROGRAM = WorkerProgram(Path(sys.executable), ROOT)


@pytest.fixture
def worker() -> Iterator[Worker]:
    process = Worker(PROGRAM)
    yield process
    process.stop()


def wait_for(worker: Worker, kind: type, seconds: float = 60.0) -> FromWorker:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for event in worker.poll():
            if isinstance(event, kind):
                return event
        time.sleep(0.01)
    raise AssertionError(f"no {kind.__name__} in {seconds} s")


def ended(pid: int, seconds: float = 5.0) -> bool:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.02)
    return False


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Long enough to be in the middle of, and with nobody in it."""
    import av
    import numpy as np

    path = tmp_path / "empty room.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(2000):
            picture = np.full((240, 320, 3), number % 200, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def test_it_answers_with_what_the_shell_would_print(worker: Worker) -> None:
    assert "default" in run_to_its_end(worker, ["weights", "list"])["weights"]
    assert run_to_its_end(worker, ["weights", "info", "default"])["licence"]


def test_the_next_request_works_after_one_failed(worker: Worker) -> None:
    for argv, said in ((["lift", "nowhere.keypoints.npz", "-o", "x.pose.npz"], "nowhere"), (["nonsense"], "nonsense")):
        with pytest.raises(KeyliftError, match=said):
            run_to_its_end(worker, argv)
    with pytest.raises(KeyliftError, match="no other worker"):
        run_to_its_end(worker, ["worker"])
    assert run_to_its_end(worker, ["weights", "list"])


def test_a_worker_knows_its_package_only_from_where_it_is_told(tmp_path: Path) -> None:
    # An extension's folder has any name, and stands among those of other people.
    installed = tmp_path / "extensions" / "anything"
    installed.parent.mkdir()
    installed.symlink_to(ROOT, target_is_directory=True)
    (installed.parent / "numpy.py").write_text("raise ImportError('not the real one')", encoding="utf-8")
    process = Worker(WorkerProgram(Path(sys.executable), installed, {"KEYLIFT_DATA": str(tmp_path / "data")}))
    try:
        found = run_to_its_end(process, ["weights", "list"])["weights"]
        assert Path(found["default"]).is_relative_to(installed)
    finally:
        process.stop()


def test_processes_that_it_spawns_know_the_package_too(tmp_path: Path) -> None:
    installed = tmp_path / "extensions" / "anything"
    data = [*ROOT.glob("core/weights/*.safetensors"), *ROOT.glob("shell/batching/*.j2")]
    for file in (*product_modules(), *data):
        copied = installed / file.relative_to(ROOT)
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copied)
    (tmp_path / "clips").mkdir()
    write_walks(tmp_path / "clips", [30])
    program = WorkerProgram(bare_python(tmp_path / "env"), installed, bytecode=tmp_path / "bytecode")
    batch = program.command("batch", "clips", "-o", "out", "--stage", "detect", "--workers", "1", "--json")
    run = subprocess.run(batch, cwd=tmp_path, env=program.environment(), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout.splitlines()[-1])["done"] == 1
    # Nor do they write where the extension lies.
    assert list((tmp_path / "bytecode").rglob("*.pyc")) and not list(installed.rglob("*.pyc"))


@pytest.mark.alone
def test_a_request_to_stop_is_heard_within_half_a_second(worker: Worker, footage: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "x.keypoints.npz"
    job = worker.request(["detect", str(footage), "-o", str(output)])
    while True:
        event = wait_for(worker, Progressed)
        assert isinstance(event, Progressed)
        if event.stage == "detect" and event.done > 0:
            break
    asked = time.monotonic()
    worker.cancel(job)
    try:
        failed = wait_for(worker, Failed)
        assert isinstance(failed, Failed) and failed.exit_code == 130
    except Cancelled:
        assert not worker.alive
    assert time.monotonic() - asked < 0.5
    assert not output.exists()


@pytest.mark.alone
def test_one_that_does_not_listen_is_ended(worker: Worker, footage: Path, tmp_path: Path) -> None:
    job = worker.request(["detect", str(footage), "-o", str(tmp_path / "x.keypoints.npz")])
    wait_for(worker, Progressed)
    os.kill(worker.pid, signal.SIGSTOP)
    asked = time.monotonic()
    worker.cancel(job)
    with pytest.raises(Cancelled):
        wait_for(worker, Failed)
    assert time.monotonic() - asked < 0.5
    assert not worker.alive


def test_a_worker_that_is_killed_is_told_of_in_plain_words(worker: Worker, footage: Path, tmp_path: Path) -> None:
    worker.request(["detect", str(footage), "-o", str(tmp_path / "x.keypoints.npz")])
    wait_for(worker, Progressed)
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="memory ran out. The scene is as it was"):
        wait_for(worker, Finished)
    assert not worker.alive
    with pytest.raises(WorkerError):
        worker.request(["weights", "list"])


def test_a_worker_ends_with_whoever_started_it(tmp_path: Path) -> None:
    script = f"""
import os, sys, time
from pathlib import Path
from keylift.addon.worker_client import Worker, WorkerProgram, run_to_its_end
worker = Worker(WorkerProgram(Path(sys.executable), Path({str(ROOT)!r})))
run_to_its_end(worker, ["weights", "list"])
print(worker.pid, flush=True)
if sys.argv[1] == "crash":
    os._exit(1)
"""
    for how in ("leave", "crash"):
        done = subprocess.run([sys.executable, "-c", script, how], capture_output=True, text=True, timeout=60)
        assert ended(int(done.stdout)), how


def test_what_cannot_be_started_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="Set the worker up again"):
        Worker(WorkerProgram(tmp_path / "no-python", ROOT))
    broken = Worker(WorkerProgram(Path(sys.executable), tmp_path))
    with pytest.raises(WorkerError, match="could not start"):
        wait_for(broken, Finished)


def test_one_of_another_version_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "older"
    (package / "addon").mkdir(parents=True)
    shutil.copy(ROOT / "addon" / "worker_start.py", package / "addon")
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "__main__.py").write_text(
        "import time\n"
        "def main(argv):\n"
        """    print('{"say": "ready", "protocol": 0, "version": "0.0.1", "python": "3.11"}', flush=True)\n"""
        "    time.sleep(60)\n",
        encoding="utf-8",
    )
    older = Worker(WorkerProgram(Path(sys.executable), package))
    with pytest.raises(WorkerError, match="another version"):
        wait_for(older, Finished)
    assert not older.alive


def test_nothing_of_the_users_python_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    monkeypatch.setenv("CONDA_PREFIX", "/conda")
    monkeypatch.setenv("VIRTUAL_ENV", "/venv")
    given = WorkerProgram(Path(sys.executable), ROOT, {"KEYLIFT_CACHE": "/cache"}).environment()
    assert not {"PYTHONPATH", "CONDA_PREFIX", "VIRTUAL_ENV"} & set(given)
    assert given["KEYLIFT_CACHE"] == "/cache"
