"""A GPU that fails is told as such, is a reason to try again, and is not asked a second time by the same process."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adaptation_samples import walker_clip
from faults.disturbances import DOOR
from keylift.core.device_failures import device_failure
from keylift.core.errors import DeviceError, FileFormatError, TryAgainError
from keylift.core.track_files import write_keypoints
from keylift.core.worker_messages import Failed, Ready, Request, decode_event, encode
from keylift.shell.command_line import explain, recognised
from warm_starts import python

LAUNCH = "CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported at some other"


@pytest.mark.parametrize(
    "problem",
    [
        torch.AcceleratorError(LAUNCH),
        RuntimeError(LAUNCH),
        RuntimeError("HIP error: invalid device function"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError(f'Error(s) in loading state_dict for Lesson: ("{LAUNCH}",)'),
    ],
)
def test_a_gpu_that_fails_is_a_reason_to_try_again(problem: RuntimeError) -> None:
    message, code = explain(problem)
    assert code == 75 and isinstance(recognised(problem), DeviceError)
    assert message.startswith("The GPU failed in the middle of the work (") and "--device cpu" in message
    assert "\n" not in message and len(message) < 400


@pytest.mark.parametrize(
    "problem",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        ImportError("libtorch_cpu.so: cannot open shared object file: Cannot allocate memory"),
        OSError("[WinError 1455] The paging file is too small for this operation to complete"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_memory_that_ran_out_is_told_in_the_same_way_wherever_it_was(problem: Exception) -> None:
    message, code = explain(problem)
    assert code == 75 and message.startswith("The memory ran out.")
    assert not isinstance(recognised(problem), DeviceError)
    # However an error of ours was wrapped around a library that found no room.
    if isinstance(problem, ImportError):
        wrapped = FileFormatError("The detector is not installed.")
        wrapped.__cause__ = problem
        assert isinstance(recognised(wrapped), TryAgainError)


@pytest.mark.parametrize(
    "problem",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError(LAUNCH), FileFormatError("'x' is damaged.")],
)
def test_other_errors_are_what_they_are(problem: Exception) -> None:
    assert device_failure(problem) is None and recognised(problem) is problem


@pytest.mark.skipif(os.name == "nt", reason="the fault comes by a POSIX signal")
@pytest.mark.parametrize("kind, words", [("lost", "The GPU failed"), ("memory", "The memory ran out")])
def test_a_lift_whose_gpu_fails_leaves_nothing_and_works_the_next_time(kind: str, words: str, tmp_path: Path) -> None:
    write_keypoints(tmp_path / "x.keypoints.npz", walker_clip(0, 30)[1])
    fault = {"gpu": {"kind": kind, "after_s": 0.0, "struck": str(tmp_path / "struck")}}
    argv = ["lift", "x.keypoints.npz", "-o", "x.pose.npz", "--no-fit"]
    for again in (False, True):
        process = python(str(DOOR), *argv, cwd=tmp_path, env={"KEYLIFT_FAULT": json.dumps(fault)})
        _, said = process.communicate(timeout=120)
        assert process.wait() == (0 if again else 75), said
        assert (words in said) is not again
        assert (tmp_path / "x.pose.npz").exists() is again and not list(tmp_path.glob(".keylift-*"))


@pytest.mark.skipif(os.name == "nt", reason="the fault comes by a POSIX signal")
def test_a_worker_whose_gpu_failed_says_so_and_makes_way_for_the_next(tmp_path: Path) -> None:
    write_keypoints(tmp_path / "x.keypoints.npz", walker_clip(0, 30)[1])
    argv = ("lift", str(tmp_path / "x.keypoints.npz"), "-o", str(tmp_path / "x.pose.npz"), "--no-fit")
    fault = {"gpu": {"kind": "lost", "after_s": 0.0, "struck": str(tmp_path / "struck")}}
    worker = subprocess.Popen(
        [sys.executable, str(DOOR), "worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "KEYLIFT_FAULT": json.dumps(fault)},
    )
    try:
        assert worker.stdin is not None and worker.stdout is not None
        # What fails for another reason is no reason to end.
        worker.stdin.write(encode(Request(1, ("lift", "nowhere.npz", "-o", "y.npz"))) + encode(Request(2, argv)))
        worker.stdin.flush()
        events = [decode_event(line) for line in worker.stdout]
        assert worker.wait(30) == 75
    finally:
        with contextlib.suppress(OSError):
            worker.kill()
    assert isinstance(events[0], Ready)
    failed = [event for event in events if isinstance(event, Failed)]
    assert [(event.job, event.kind, event.exit_code) for event in failed] == [
        (1, "FileFormatError", 1),
        (2, "DeviceError", 75),
    ]
