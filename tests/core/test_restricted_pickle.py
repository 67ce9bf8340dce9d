"""Data comes out of pickles and nothing else does."""

from __future__ import annotations

import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keylift.core import restricted_pickle
from keylift.core.errors import FileFormatError
from keylift.core.restricted_pickle import BAD_FILE, read_pickle, read_pickled_npz

PROTOCOLS = range(6)


def sample() -> dict[str, Any]:
    """Everything that the field's files hold."""
    ragged = np.empty(2, object)
    ragged[:] = [np.arange(3), None]
    return {
        "S1": {"Walking 1": [np.arange(24, dtype=np.float32).reshape(4, 3, 2), np.zeros((0, 5))]},
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "every other": np.arange(10, dtype=np.int16)[::2],
        "big end": np.arange(3, dtype=">i4"),
        "names": np.array(["Hüfte", "knee"]),
        "seen": np.array([True, False]),
        "metadata": {"w": 1000, "h": np.int64(1002), "fps": np.float32(50), "symmetry": [(1, 2), [3]], "none": None},
        "bytes": b"\x00\xff",
        "ragged": ragged,
    }


def assert_same(found: Any, wanted: Any) -> None:
    if isinstance(wanted, dict):
        assert type(found) is dict and list(found) == list(wanted)
        for key in wanted:
            assert_same(found[key], wanted[key])
    elif isinstance(wanted, np.ndarray) and wanted.dtype != object:
        assert found.dtype == wanted.dtype and np.array_equal(found, wanted)
    elif isinstance(wanted, list | tuple | np.ndarray):
        assert type(found) is type(wanted) and len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_same(one, other)
    else:
        assert found == wanted


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_data_comes_back(protocol: int) -> None:
    assert_same(read_pickle(io.BytesIO(pickle.dumps(sample(), protocol))), sample())


def test_numpy_2_calls_its_inner_modules_otherwise() -> None:
    written = pickle.dumps(sample(), 2)
    other = {b"numpy.core.": b"numpy._core.", b"numpy._core.": b"numpy.core."}
    old = next(name for name in other if name in written)
    assert_same(read_pickle(io.BytesIO(written.replace(old, other[old]))), sample())


def test_strings_of_python_2() -> None:
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01K\x02\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08" + struct.pack("<2f", 1.5, -2.5) + b"tb"
    )
    found = read_pickle(io.BytesIO(b"\x80\x02}U\x04S\xe91 " + array + b"s."))
    assert list(found) == ["Sé1 "] and found["Sé1 "].tolist() == [[1.5, -2.5]]


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    """Pickles that want more than to bring data."""
    huge = pickle.dumps(np.zeros(4, np.float32), 2).replace(b"K\x04\x85", b"J\xff\xff\xff\x7f\x85")
    assert huge != pickle.dumps(np.zeros(4, np.float32), 2)
    itself: list[Any] = []
    itself.append(itself)
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    return {
        "os.system": pickle.dumps(Calls(os.system, f"echo > {marker}")),
        "os.mkdir in a dict": pickle.dumps({"S1": [Calls(os.mkdir, str(marker))]}, 2),
        "eval": pickle.dumps(Calls(eval, f"open({str(marker)!r}, 'w')")),
        "getattr": b"cbuiltins\ngetattr\n.",
        "numpy.load": pickle.dumps(Calls(np.load, "x.npy")),
        "another array class": pickle.dumps(np.ma.array([1])),
        "a dtype of records": pickle.dumps(Calls(np.dtype, "f4,f4")),
        "a changed maker": b"cnumpy\ndtype\n}U\x04_makecnumpy\nndarray\nsb.",
        "a called name": b"cnumpy\nndarray\n)R.",
        "a name as data": b"cnumpy\ndtype\n.",
        "a new object": b"\x80\x02cnumpy\ndtype\n)\x81.",
        "an outside id": b"\x80\x02U\x01aQ.",
        "a set": pickle.dumps({1, 2}),
        "an array larger than its content": huge,
        "holds itself": pickle.dumps(itself),
        "too deep": pickle.dumps(deep),
        "half of one": pickle.dumps(sample())[:300],
        "nothing": b"",
    }


@pytest.mark.parametrize("name", hostile(Path("x")))
def test_nothing_but_data_comes_in(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "done"
    with pytest.raises(BAD_FILE):
        read_pickle(io.BytesIO(hostile(marker)[name]))
    assert not marker.exists()


def test_a_memory_cell_far_away_takes_no_room() -> None:
    assert read_pickle(io.BytesIO(b"\x80\x02Nr\xff\xff\xff\xff.")) is None


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **{name: np.array(value, dtype=object) for name, value in arrays.items()})
    return path


def test_an_npz_gives_what_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    boxes = np.empty((2, 2), object)
    boxes[:] = [[[], np.ones((1, 5))], [[], []]]
    np.savez(path, numbers=np.arange(6).reshape(2, 3), metadata=np.array({"w": 4}, dtype=object), boxes=boxes, other=1)
    found = read_pickled_npz(path, ("numbers", "metadata", "boxes", "absent"))
    assert set(found) == {"numbers", "metadata", "boxes"}
    assert found["numbers"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["metadata"] == {"w": 4}
    assert found["boxes"].shape == (2, 2) and found["boxes"][0, 1].shape == (1, 5)


def test_an_npz_by_its_name(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", metadata={"w": 4})
    assert read_pickled_npz(str(path), ("metadata",)) == {"metadata": {"w": 4}}
    with pytest.raises(FileFormatError, match=r"no file '.*none\.npz'"):
        read_pickled_npz(str(tmp_path / "none.npz"), ("metadata",))


def test_what_is_not_wanted_is_not_even_read(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", metadata={"w": 4}, segments=Calls(os.mkdir, "x"))
    assert read_pickled_npz(path, ("metadata",)) == {"metadata": {"w": 4}}


def test_a_hostile_npz_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "data.npz", positions_2d={"S1": Calls(os.mkdir, str(tmp_path / "done"))})
    with pytest.raises(FileFormatError, match=r"data\.npz.*mkdir"):
        read_pickled_npz(path, ("positions_2d",))
    assert not (tmp_path / "done").exists()


def test_a_damaged_npz_is_refused(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.npz", positions_2d=sample()).read_bytes()
    path = tmp_path / "half.npz"
    for content in (b"", whole[: len(whole) // 2], whole[:60] + bytes(40) + whole[100:]):
        path.write_bytes(content)
        with pytest.raises(FileFormatError, match=r"half\.npz"):
            read_pickled_npz(path, ("positions_2d",))
    with pytest.raises(FileFormatError, match="no file"):
        read_pickled_npz(tmp_path / "none.npz", ("positions_2d",))


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted_pickle, "MAX_UNPACKED_BYTES", 1 << 20)
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("positions_2d.npy", bytes(2 << 20))
    with pytest.raises(FileFormatError, match="far more"):
        read_pickled_npz(path, ("positions_2d",))
