"""Weights and published checkpoints that were made to harm."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from hostile_samples import KINDS, checkpoint_file, outcome, refused, run_checkpoint_file, weights_file
from keylift.core.errors import WeightsError
from keylift.core.weights import check_new_name, find_weights, list_weights

MARK = "keylift-hostile-ran"


def parts() -> tuple[dict[str, Any], bytes]:
    """Header and data of sound weights."""
    return split(weights_file())


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a file of safetensors."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def put_together(header: Any, data: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def saying(**said: Any) -> bytes:
    """Weights whose header says something else."""
    header, data = parts()
    header["__metadata__"].update({key: json.dumps(value) for key, value in said.items()})
    return put_together(header, data)


def sizes(**other: Any) -> bytes:
    return saying(lifter={**json.loads(parts()[0]["__metadata__"]["lifter"]), **other})


def with_tensor(**place: Any) -> bytes:
    header, data = parts()
    return put_together({**header, "x": place}, data)


END = len(parts()[1])
LIES = {
    "a header of 2^63 bytes": lambda: struct.pack("<Q", 1 << 63) + weights_file()[8:],
    "a header longer than the file": lambda: struct.pack("<Q", 10**6) + weights_file()[8:],
    "no header": lambda: struct.pack("<Q", 0) + b"{}",
    "a header nested without end": lambda: struct.pack("<Q", 900_000) + b'{"a":' * 180_000,
    "2^30 not there": lambda: with_tensor(dtype="F32", shape=[1 << 30], data_offsets=[END, END + (4 << 30)]),
    "tensors upon each other": lambda: with_tensor(dtype="F32", shape=[2], data_offsets=[0, 8]),
    "a tensor from below the file": lambda: with_tensor(dtype="F32", shape=[2], data_offsets=[-8, 0]),
    "a shape that is true": lambda: with_tensor(dtype="F32", shape=[True], data_offsets=[END, END]),
    "an unknown type": lambda: with_tensor(dtype="O", shape=[0], data_offsets=[END, END]),
    "text for metadata": lambda: put_together({**parts()[0], "__metadata__": "x"}, parts()[1]),
    "10^9 channels": lambda: sizes(channels=10**9),
    "a gigabyte of parameters": lambda: sizes(channels=8000, widths=[3, 1, 1]),
    "a hundred thousand blocks": lambda: sizes(channels=1, widths=[1] * 100_000),
    "endless dropout": lambda: sizes(dropout=1e999),
    "a list for a network": lambda: saying(lifter=[1]),
    "a list for a skeleton": lambda: saying(skeleton=[1]),
    "a number for names": lambda: saying(skeleton={"names": 3}),
    "no rate": lambda: saying(fps=float("nan")),
    "a rate without end": lambda: saying(fps=10**400),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_weights_that_lie(lie: str) -> None:
    refused("weights", LIES[lie]())


def test_a_hostile_file_in_the_folder_takes_no_others_along(tmp_path: Path) -> None:
    for number, lie in enumerate(LIES.values()):
        (tmp_path / f"bad-{number}.safetensors").write_bytes(lie())
    (tmp_path / "good.safetensors").write_bytes(weights_file())
    os.mkdir(tmp_path / "folder.safetensors")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.safetensors")
        os.symlink("/dev/zero", tmp_path / "endless.safetensors")
    with mock.patch.dict(os.environ, {"KEYLIFT_WEIGHTS": str(tmp_path)}):
        assert "good" in list_weights() and not {"pipe", "endless", "folder"} & set(list_weights())


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "a\\b", "C:x", "\0", "x\ny", "con", ".hidden", "-rf", "x" * 300, "\ud800"]
)
def test_names_of_weights_are_never_paths(name: str) -> None:
    for asked in (lambda: find_weights(name), lambda: check_new_name(name)):
        with pytest.raises(WeightsError):
            asked()


# ---- Checkpoints ----------------------------------------------------------------------------------------------------


class _Runs:
    """Leaves a file behind where a pickle is let run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (MARK,)


def rezipped(content: bytes, how: int = zipfile.ZIP_STORED, **members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(file, "w", how) as result:
        for name in archive.namelist():
            result.writestr(name, members.get(name.split("/")[-1].replace(".", "_"), archive.read(name)))
    return file.getvalue()


@pytest.mark.parametrize("how", ["a pickle alone", "in a zip", "after what torch writes first"])
def test_no_checkpoint_runs_anything(how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = pickle.dumps({"model_pos": _Runs()}, 2)
    content = {
        "a pickle alone": hostile,
        "in a zip": rezipped(checkpoint_file(), data_pkl=hostile),
        "after what torch writes first": checkpoint_file(is_zip=False)[:30] + hostile,
    }[how]
    refused("checkpoint", content)
    assert not list(tmp_path.iterdir())


CHECKPOINTS = {
    "six million lists": lambda: b"]" * (6 << 20),
    "bytes that are not there": lambda: b"\x80\x04\x8e" + struct.pack("<Q", 1 << 33) + b".",
    "packed": lambda: rezipped(checkpoint_file(), zipfile.ZIP_DEFLATED),
    "cut off": lambda: checkpoint_file()[:-700],
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_checkpoints_that_are(what: str) -> None:
    refused("checkpoint", CHECKPOINTS[what]())


def test_the_sound_ones_are_read() -> None:
    assert outcome(KINDS["weights"], weights_file()) is None
    assert outcome(KINDS["checkpoint"], checkpoint_file()) is None


RUNS = {
    "no step": {"step": None},
    "a step of words": {"step": "many"},
    "a step before the first": {"step": "-5"},
    "seconds without end": {"seconds": "inf"},
    "a log that is none": {"log": "5"},
    "a log of lists": {"log": "[[1]]"},
    "a log of texts": {"log": '[{"step": "x", "seconds": 1}]'},
    "a log without steps": {"log": '[{"loss": 1}]'},
    "a log nested without end": {"log": "[" * 100_000},
    "a log that is crowded": {"log": "[" + "{}," * 1_100_000 + "{}]"},
    "losses that are none": {"pending": '{"loss": 5}'},
    "losses of texts": {"pending": '{"loss": ["x"]}'},
    "no configuration": {"config": "[]"},
    "no circumstances": {"circumstances": "null"},
}


@pytest.mark.parametrize("what", RUNS)
def test_checkpoints_of_runs_with(what: str) -> None:
    header, data = split(run_checkpoint_file())
    header["__metadata__"].update(RUNS[what])
    header["__metadata__"] = {key: value for key, value in header["__metadata__"].items() if value is not None}
    assert "is damaged" in refused("run_checkpoint", put_together(header, data))


@pytest.mark.parametrize(
    ("name", "other"),
    [("optimiser.0.exp_avg", "optimiser.7.exp_avg"), ("optimiser.0.exp_avg", "optimiser.x.y"),
     ("optimiser.0.exp_avg", "optimiser.0"), ("optimiser.0.exp_avg", "optimiser.1.exp_avg_sq"),
     ("lesson.weight", "lesson.bias"), ("lesson.weight", "lesson.other")],
)  # fmt: skip
def test_checkpoints_of_runs_whose_tensors_have_other_names(name: str, other: str) -> None:
    header, data = split(run_checkpoint_file())
    header[other] = header.pop(name)
    if len(header) == len(split(run_checkpoint_file())[0]):
        assert "doesn't fit" in refused("run_checkpoint", put_together(header, data))
    else:
        # Two of one name: what is left has no place in the file.
        refused("run_checkpoint", put_together(header, data))
