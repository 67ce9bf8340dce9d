"""The store of named weights: names, hashes, which are in use, and everything that may lie in its folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from keylift.core import weights
from keylift.core.errors import OutputError, WeightsError
from keylift.core.lifter.lifting import load_ray_lifter
from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.core.source import sha256_of
from keylift.core.weights import (
    SHIPPED_FOLDER,
    SHIPPED_NAMES,
    SHIPPED_SHA256,
    check_new_name,
    describe_weights,
    find_weights,
    integrity,
    left_out,
    lineage,
    list_weights,
    read_header,
    read_in_use,
    read_tensors,
    remove_weights,
    use_earlier,
    use_weights,
    verify,
    weights_in_use,
    write_weights,
)
from keylift.core.weights.in_use import FILE, MAX_HISTORY, why_not_for_footage
from weights_samples import adapted, lifter_header, parts, put_together, small_weights, without_hashes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of weights, there and empty."""
    place = tmp_path / "my weights"
    place.mkdir()
    monkeypatch.setenv("KEYLIFT_WEIGHTS", str(place))
    return place


def named(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


# --- hashes -----------------------------------------------------------------------------------------------------------


def test_the_pins_are_those_of_the_files() -> None:
    assert {path.stem: sha256_of(path) for path in SHIPPED_FOLDER.glob("*.safetensors")} == SHIPPED_SHA256
    assert set(SHIPPED_NAMES) == {"default", "causal"}
    assert all(verify(find_weights(name)).state == "intact" for name in SHIPPED_NAMES)


def test_the_hash_is_what_the_documentation_says(tmp_path: Path) -> None:
    tensors = {
        "z": torch.arange(6.0).reshape(2, 3),
        "a": torch.tensor(3, dtype=torch.int64),
        "m": torch.ones(3, dtype=torch.bfloat16),
        "empty": torch.zeros(0, 2),
    }
    path = tmp_path / "x.safetensors"
    write_weights(path, tensors, {"licence": "ümlaut \N{DANCER}"})
    types = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16"}
    wanted = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        wanted.update(json.dumps([name, types[tensor.dtype], list(tensor.shape)]).encode() + b"\n")
        wanted.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    assert read_header(path)["tensors_sha256"] == wanted.hexdigest()
    assert read_header(path)["licence"] == "ümlaut \N{DANCER}"
    again = read_tensors(path)
    assert set(again) == set(tensors) and all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert again["m"].dtype == torch.bfloat16 and again["empty"].shape == (0, 2)


def test_what_is_written_twice_is_the_same_file(tmp_path: Path) -> None:
    one, other = (small_weights(tmp_path / name) for name in ("a.safetensors", "b.safetensors"))
    assert one.read_bytes() == other.read_bytes()


def test_weights_written_anew_with_an_old_header_have_hashes_of_their_own(tmp_path: Path) -> None:
    path = small_weights(tmp_path / "x.safetensors")
    tensors = {name: tensor + 1 for name, tensor in read_tensors(path).items()}
    write_weights(path, tensors, read_header(path))
    assert verify(path).state == "intact"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, 10**9), st.integers(0, 7))
def test_a_bit_that_turned_over_is_found(tmp_path: Path, place: int, bit: int) -> None:
    whole = tmp_path / "whole.safetensors"
    if not whole.exists():
        small_weights(whole)
    content = bytearray(whole.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path = tmp_path / "turned.safetensors"
    path.write_bytes(content)
    assert verify(path).bad
    with pytest.raises(WeightsError):
        load_ray_lifter(path, "cpu")


def test_no_bit_can_turn_over_unseen(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    write_weights(path, {"a": torch.ones(2, 1), "b": torch.zeros(1)}, {"fps": 30.0})
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            assert verify(path).bad, f"bit {bit} of byte {place}, in {whole[max(place - 20, 0) : place + 20]!r}"


def test_old_files_without_a_hash_are_told_apart_and_lift(tmp_path: Path) -> None:
    path = without_hashes(small_weights(tmp_path / "old.safetensors"))
    found = verify(path)
    assert (found.name, found.state, found.bad) == ("old", "unverified", False) and "no hash" in found.reason
    assert load_ray_lifter(path, "cpu").source.name == "old"


def test_a_shipped_file_that_is_damaged_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (weights, integrity):
        monkeypatch.setattr(module, "SHIPPED_FOLDER", tmp_path)
    path = tmp_path / "default.safetensors"
    content = bytearray((SHIPPED_FOLDER / path.name).read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert verify(path).bad and "Install Keylift again" in verify(path).reason
    with pytest.raises(WeightsError, match="Install Keylift again"):
        read_tensors(path)


@pytest.mark.alone
def test_checking_the_default_weights_takes_less_than_50_ms() -> None:
    path = find_weights("default")
    content = path.read_bytes()
    tensors = read_tensors(path)

    def seconds(hashed: Path) -> float:
        began = time.perf_counter()
        integrity.check_content(hashed, content)
        return time.perf_counter() - began

    assert sum(tensor.nbytes for tensor in tensors.values()) > 16e6
    assert min(seconds(path) for _ in range(5)) < 0.05


# --- headers that lie -------------------------------------------------------------------------------------------------


def lie(name: str, described: dict, data: bytes) -> tuple[object, bytes]:
    """A header, and data, of which something can't be true."""
    first, second = [key for key in sorted(described) if key != "__metadata__" and described[key]["shape"]][:2]
    one = described[first]
    begin, end = one["data_offsets"]
    changes = {
        "overlap": {"data_offsets": described[second]["data_offsets"], "shape": described[second]["shape"]},
        "beyond the end": {"data_offsets": [begin + 10**9, end + 10**9]},
        "backwards": {"data_offsets": [end, begin]},
        "negative": {"data_offsets": [begin - end, 0]},
        "huge": {"data_offsets": [0, 1 << 62], "shape": [1 << 60]},
        "huge shape": {"shape": [1 << 31] * 1000},
        "endless shape": {"shape": [1] * 1000},
        "true for one": {"shape": [True], "data_offsets": [0, 4]},
        "fraction": {"shape": [1.5]},
        "no place": {"data_offsets": None},
        "three places": {"data_offsets": [begin, end, end]},
        "unknown type": {"dtype": "F3"},
        "type that is none": {"dtype": ["F32"]},
        "other type": {"dtype": "F64"},
    }
    if name in changes:
        described[first] = {**one, **changes[name]}
    elif name == "nothing said":
        described[first] = None
    elif name == "a list":
        return [described], data
    elif name == "metadata that is text":
        described["__metadata__"] = "x"
    elif name == "metadata that is a number":
        described["__metadata__"]["format_version"] = float("inf")
    elif name == "hash that is a number":
        described["__metadata__"]["header_sha256"] = 7
    elif name == "hash of nothing":
        described["__metadata__"]["tensors_sha256"] = json.dumps(hashlib.sha256().hexdigest())
    elif name == "cut off":
        return described, data[:-1]
    elif name == "more than told":
        return described, data + b"\0"
    else:
        raise AssertionError(name)
    return described, data


LIES = (
    "overlap;beyond the end;backwards;negative;huge;huge shape;endless shape;true for one;fraction;no place;"
    "three places;unknown type;type that is none;other type;nothing said;a list;metadata that is text;"
    "metadata that is a number;hash that is a number;hash of nothing;cut off;more than told"
).split(";")


@pytest.mark.parametrize("hashed", [True, False], ids=["hashed", "old"])
@pytest.mark.parametrize("name", LIES)
def test_a_header_that_lies_is_a_clear_error(name: str, hashed: bool, folder: Path) -> None:
    path = small_weights(named(folder, "liar"))
    if not hashed:
        without_hashes(path)
        if name.startswith("hash"):
            pytest.skip("it holds none")
    put_together(path, *lie(name, *parts(path)))
    found = verify(path)
    assert found.bad and str(path) in found.reason
    with pytest.raises(WeightsError):
        load_ray_lifter(path, "cpu")
    if "hash" not in name:
        assert "liar" not in list_weights() and str(path) in left_out()[path]
    with pytest.raises(WeightsError):
        use_weights("liar")
    assert weights_in_use() == "default"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\1",
        struct.pack("<Q", 1 << 63) + b"{}",
        struct.pack("<Q", (1 << 20) - 1) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 900_000) + b"[" * 900_000,
        struct.pack("<Q", 900_000) + b'{"a":' * 180_000,
        b"no safetensors at all, but as long as one might be",
    ],
    ids=["nothing", "one byte", "endless", "too long", "no lifter", "deep list", "deep table", "text"],
)
def test_what_is_no_weights_file_at_all(content: bytes, folder: Path) -> None:
    path = named(folder, "x")
    path.write_bytes(content)
    assert verify(path).bad and str(path) in verify(path).reason
    assert "x" not in list_weights() and path in left_out()
    with pytest.raises(WeightsError):
        load_ray_lifter(path, "cpu")
    remove_weights("x")
    assert not path.exists()


def test_files_that_are_gone_or_far_too_large(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = named(folder, "x")
    assert verify(path).bad
    with pytest.raises(WeightsError, match="no weights file"):
        read_tensors(path)
    small_weights(path)
    monkeypatch.setattr(integrity, "MAX_WEIGHTS_BYTES", 1000)
    assert "at most 1,000 bytes" in verify(path).reason


# --- what is listed ---------------------------------------------------------------------------------------------------


def test_nothing_half_written_is_listed(folder: Path) -> None:
    whole = small_weights(named(folder, "whole"))
    (folder / ".hidden.safetensors").write_bytes(whole.read_bytes())
    (folder / "._whole.safetensors").write_bytes(whole.read_bytes())
    named(folder, "half").write_bytes(whole.read_bytes()[:-100])
    (folder / "folder.safetensors").mkdir()
    (folder / ".keylift-abc").mkdir()
    (folder / ".keylift-abc" / "beside.safetensors").write_bytes(whole.read_bytes())
    (folder / "dangling.safetensors").symlink_to(folder / "nowhere")
    (folder / "notes.txt").write_text("x")
    assert set(list_weights()) == {"default", "causal", "whole"}
    assert set(left_out()) == {named(folder, "half")}
    with pytest.raises(WeightsError, match="Known: causal, default, whole"):
        find_weights(".hidden")
    # Who asks for it by name is told what is wrong with it.
    with pytest.raises(WeightsError, match="half"):
        read_tensors(find_weights("half"))
    # A copy that has ended meanwhile is looked at again.
    named(folder, "half").write_bytes(whole.read_bytes())
    assert "half" in list_weights()


KILLED = """
import os, signal, sys
from pathlib import Path
from weights_samples import small_weights
os.replace = lambda *_: os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
small_weights(Path(sys.argv[1]))
"""


def test_killed_between_writing_and_renaming_it_leaves_nothing_that_loads(folder: Path) -> None:
    tests = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), *sys.path])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(named(folder, "new"))], env=env, timeout=120)
    assert done.returncode != 0
    # It had written all of it.
    assert list(folder.rglob("*.safetensors"))
    assert set(list_weights()) == {"default", "causal"} and not left_out()
    with pytest.raises(WeightsError):
        find_weights("new")
    check_new_name("new")
    small_weights(named(folder, "new"))
    assert verify(find_weights("new")).state == "intact"


def test_shipped_names_always_are_the_shipped_files(folder: Path) -> None:
    for name in SHIPPED_NAMES:
        small_weights(named(folder, name))
        assert find_weights(name) == SHIPPED_FOLDER / f"{name}.safetensors" == list_weights()[name]
        assert "always means" in left_out()[named(folder, name)]
        # By its path the user's own file can still be had.
        assert find_weights(str(named(folder, name))).parent == folder
        with pytest.raises(WeightsError, match="only weights with a name"):
            use_weights(str(named(folder, name)))
        with pytest.raises(WeightsError, match="comes with Keylift"):
            remove_weights(name)
        assert named(folder, name).exists()


def test_without_a_folder_there_are_the_shipped_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (tmp_path / "none", tmp_path / "a file"):
        (tmp_path / "a file").write_text("x")
        monkeypatch.setenv("KEYLIFT_WEIGHTS", str(place))
        assert set(list_weights()) == set(SHIPPED_NAMES) and not left_out()
        assert read_in_use().name == "default" and not read_in_use().note
        assert find_weights(None) == find_weights("default")
    with pytest.raises(OutputError, match="KEYLIFT_WEIGHTS"):
        use_weights("causal")


# --- names ------------------------------------------------------------------------------------------------------------

GOOD_NAMES = [
    "studio",
    "Stage 2, tall people",
    "\N{DANCER}\N{EMOJI MODIFIER FITZPATRICK TYPE-4}\N{ZERO WIDTH JOINER}\N{FEMALE SIGN} dance",
    "étude",
    "舞者",
    "v1.2",
    "conductor",
    "com10",
    "it's",
    "100 %",
]


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_names_that_weights_may_have(name: str, folder: Path) -> None:
    check_new_name(name)
    small_weights(named(folder, name))
    assert list_weights()[name] == find_weights(name)
    with pytest.raises(WeightsError, match="already"):
        check_new_name(name)
    check_new_name(name, replace=True)
    assert use_weights(name).name == weights_in_use() == name
    assert remove_weights(name).was_in_use and weights_in_use() == "default"


@pytest.mark.parametrize(
    "name",
    [
        *("", " ", "default", "causal", "Default", "CAUSAL", "a/b", "a\\b", "..", ".", ".x", "../x", "C:x", "a?", "a*"),
        *("a|b", "<a>", 'a"', "a.", "a ", " a", "-a", "con", "CON", "con.v2", "Con .x", "nul", "com1", "LPT9", "com²"),
        *("aux.tar", "conin$", "a\nb", "a\0", "\x1b[31m", "\ud800", "x" * 101, "\N{DANCER}" * 51, "a.safetensors"),
        *("a\u2028b", "x.SAFETENSORS"),
    ],
)
def test_names_that_they_may_not_have(name: str, folder: Path) -> None:
    for replace in (False, True):
        with pytest.raises(WeightsError, match="name"):
            check_new_name(name, replace=replace)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(min_size=1, max_size=120))
def test_a_name_is_refused_or_works(folder: Path, name: str) -> None:
    try:
        check_new_name(name)
    except WeightsError:
        return
    path = named(folder, name)
    shutil.copyfile(_sample(folder), path)
    try:
        assert path.parent == folder and find_weights(name).samefile(path)
        use_weights(name)
        assert weights_in_use() == path.stem
    finally:
        path.unlink()


def _sample(folder: Path) -> Path:
    path = folder.parent / "sample.safetensors"
    return path if path.exists() else small_weights(path)


def test_names_that_differ_in_capitals_only_are_one_to_some_disks(folder: Path) -> None:
    small_weights(named(folder, "Studio"))
    for replace in (False, True):
        with pytest.raises(WeightsError, match="named 'Studio' already, and on some disks"):
            check_new_name("studio", replace=replace)
    # They may be there all the same, put there by hand on a disk that tells them apart.
    other = named(folder, "studio")
    if not other.exists():
        small_weights(other, seed=1)
        use_weights("studio")
        assert find_weights("Studio") != find_weights("studio") == find_weights(None)
        remove_weights("studio")
        assert set(list_weights()) == {"causal", "default", "Studio"}


def test_accents_may_be_written_in_two_ways(folder: Path) -> None:
    one, other = unicodedata.normalize("NFC", "étude"), unicodedata.normalize("NFD", "étude")
    assert one != other
    path = small_weights(named(folder, other))
    with pytest.raises(WeightsError, match="already"):
        check_new_name(one)
    assert find_weights(one) == path
    use_weights(one)
    assert find_weights(None) == path
    assert remove_weights(one).path == path and not path.exists()


# --- which are in use -------------------------------------------------------------------------------------------------


def test_back_and_forth(folder: Path) -> None:
    small_weights(named(folder, "a"), seed=1)
    small_weights(named(folder, "b"), seed=2)
    assert weights_in_use() == "default"
    with pytest.raises(WeightsError, match="nothing was before"):
        use_earlier()
    for name in ("a", "b", "b", "default", "causal"):
        before = weights_in_use()
        used = use_weights(name)
        assert (used.name, used.before, weights_in_use()) == (name, before, name)
        assert find_weights(None) == find_weights(name)
    history = json.loads((folder / FILE).read_text())["history"]
    assert [entry["name"] for entry in history] == ["a", "b", "default", "causal"]
    assert history[0]["sha256"] == sha256_of(named(folder, "a")) and history[0]["at"].endswith("+00:00")
    assert [use_earlier().name for _ in range(4)] == ["default", "b", "a", "default"]
    with pytest.raises(WeightsError, match="nothing was before"):
        use_earlier()
    assert [description.name for description in describe_weights() if description.in_use] == ["default"]


def test_back_passes_over_what_is_lost(folder: Path) -> None:
    for seed, name in enumerate(("a", "gone", "changed", "b")):
        small_weights(named(folder, name), seed)
        use_weights(name)
    named(folder, "gone").unlink()
    small_weights(named(folder, "changed"), 9)
    used = use_earlier()
    assert used.name == "a" and "'gone' is passed over" in used.note and "'changed' is passed over" in used.note


def test_what_was_chosen_and_is_lost_gives_way_to_the_default(folder: Path) -> None:
    path = small_weights(named(folder, "a"))
    content = path.read_bytes()

    def expect(name: str, note: str) -> None:
        found = read_in_use()
        assert found.name == weights_in_use() == name and note in found.note and bool(found.note) == bool(note)
        assert find_weights(None) == find_weights(name)

    use_weights("a")
    expect("a", "")
    path.unlink()
    expect("default", "'a' were chosen, but their file is gone")
    path.write_bytes(content)
    expect("a", "")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    expect("default", "damaged")
    small_weights(path, seed=1)
    expect("default", "another one now")
    use_weights("a")
    expect("a", "")
    without_hashes(path)
    use_weights("a")
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    expect("default", "another one now")
    use_weights("default")
    expect("default", "")


def test_old_weights_can_be_used_and_are_held_to_what_they_were(folder: Path) -> None:
    path = without_hashes(small_weights(named(folder, "old")))
    use_weights("old")
    assert weights_in_use() == "old"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert weights_in_use() == "default"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"null",
        b"[" * 60_000,
        b'{"schema_version": 1, "history": 3}',
        b'{"schema_version": 2, "history": []}',
        b'{"schema_version": 1, "history": [3]}',
        b'{"schema_version": 1, "history": [{"name": "../a", "sha256": "", "at": ""}]}',
        b'{"schema_version": 1, "history": [{"name": "\\u001b[31m", "sha256": "", "at": ""}]}',
        b'{"schema_version": 1, "history": [{"name": 3, "sha256": "", "at": ""}]}',
        b'{"schema_version": 1, "history": [{"name": "a", "sha256": null, "at": ""}]}',
        b'{"schema_version": 1, "history": [{"name": "a"}]}',
        json.dumps({"schema_version": 1, "history": [{"name": "a", "sha256": "", "at": ""}] * 51}).encode(),
        b" " * (1 << 20) + b'{"schema_version": 1, "history": []}',
    ],
)
def test_a_damaged_or_hostile_record_means_the_default(said: bytes, folder: Path) -> None:
    (folder / FILE).write_bytes(said)
    found = read_in_use()
    assert found.name == "default" and FILE in found.note and "\x1b" not in found.note
    with pytest.raises(WeightsError, match="Nobody knows"):
        use_earlier()
    small_weights(named(folder, "b"))
    use_weights("b")
    assert read_in_use() == weights.InUse("b")


def test_a_record_that_can_not_be_read_means_the_default(folder: Path) -> None:
    (folder / FILE).mkdir()
    assert read_in_use().name == "default" and "can't be read" in read_in_use().note
    with pytest.raises(OutputError):
        use_weights("causal")


def test_the_record_stays_small(folder: Path) -> None:
    for name in ("a", "\N{DANCER}" * 50):
        small_weights(named(folder, name))
    for index in range(2 * MAX_HISTORY):
        use_weights(["a", "\N{DANCER}" * 50][index % 2])
    assert len(json.loads((folder / FILE).read_text())["history"]) == MAX_HISTORY
    assert not read_in_use().note and use_earlier().name == "a"


def test_weights_that_did_not_prove_better_are_used_on_demand_only(folder: Path) -> None:
    small_weights(named(folder, "good"), adaptation=adapted(True, "reached 5 % less error"))
    small_weights(named(folder, "bad"), adaptation=adapted(False, "bones swing"))
    small_weights(named(folder, "silent"), adaptation={"verdict": {"better": 1}})
    small_weights(named(folder, "odd"), adaptation=[1])
    use_weights("good")
    for name, why in (("bad", "bones swing"), ("silent", "does not say why"), ("odd", "does not say why")):
        with pytest.raises(WeightsError, match=f"did not prove better than .*{why}.*--anyway"):
            use_weights(name)
        assert weights_in_use() == "good"
        assert use_weights(name, anyway=True).before == "good" and weights_in_use() == name
        use_earlier()
    found = {description.name: description for description in describe_weights()}
    assert (found["good"].verdict, found["good"].adapted_from) == ("better", "default")
    assert (found["bad"].verdict, found["bad"].reason) == ("not better", "bones swing")
    assert (found["default"].verdict, found["default"].shipped, found["good"].shipped) == (None, True, False)


def test_damaged_weights_can_not_be_used_whatever_is_said(folder: Path) -> None:
    path = small_weights(named(folder, "a"))
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(WeightsError, match="damaged"):
        use_weights("a", anyway=True)
    with pytest.raises(WeightsError, match="no weights named"):
        use_weights("none", anyway=True)
    assert not (folder / FILE).exists()


def test_a_name_that_no_record_could_hold_is_not_used(folder: Path) -> None:
    small_weights(named(folder, "con"))
    with pytest.raises(WeightsError, match="another name"):
        use_weights("con")
    assert weights_in_use() == "default"


FITTING = LifterConfig(22, 3, 41, extras_out=48, channels=8, widths=(3, 3))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"input_layout": "coco17"},
        {"input_layout": None},
        {"skeleton": {"names": ["pelvis"]}},
        {"skeleton": {}},
        {"fps": None},
        {"fps": 0},
        {"fps": 1},
        {"fps": 1001},
        {"fps": "30"},
        {"fps": float("nan")},
        {"lifter": {**FITTING.as_dict(), "points_in": 21}},
        {"lifter": {**FITTING.as_dict(), "features_in": 2}},
        {"lifter": {**FITTING.as_dict(), "joints_out": 17}},
        {"lifter": {**FITTING.as_dict(), "extras_out": 0}},
        {"lifter": {**FITTING.as_dict(), "extras_out": 45}},
        {"lifter": {}},
    ],
    ids=str,
)
def test_whether_it_lifts_footage_is_told_as_the_lifter_itself_tells_it(change: dict, folder: Path) -> None:
    said = lifter_header(FITTING, **change)
    sizes = said["lifter"] or FITTING.as_dict()
    network = TemporalLifter(LifterConfig.from_dict(sizes))
    write_weights(named(folder, "x"), network.state_dict(), said)
    try:
        load_ray_lifter(named(folder, "x"), "cpu")
        lifts = True
    except WeightsError:
        lifts = False
    assert (not why_not_for_footage(read_header(named(folder, "x")))) == lifts
    if lifts:
        assert use_weights("x").name == "x"
    else:
        with pytest.raises(WeightsError, match="can't lift footage"):
            use_weights("x", anyway=True)


@pytest.mark.parametrize("value", [None, 3, "x", [], [1], {}, {"names": 3}, True])
@pytest.mark.parametrize("key", ["lifter", "skeleton", "input_layout", "fps", "adaptation"])
def test_a_header_may_hold_anything(key: str, value: object, folder: Path) -> None:
    small_weights(named(folder, "x"), **{key: value})
    why_not_for_footage(read_header(named(folder, "x")))
    describe_weights()
    lineage(named(folder, "x"))


# --- removing, and where weights came from ----------------------------------------------------------------------------


def test_removing(folder: Path) -> None:
    for seed, name in enumerate(("a", "b")):
        small_weights(named(folder, name), seed)
    use_weights("a")
    use_weights("b")
    removed = remove_weights("b")
    assert (removed.path, removed.was_in_use) == (named(folder, "b"), True) and not removed.path.exists()
    assert read_in_use() == weights.InUse("default") and "b" not in list_weights()
    # What was used before them is still known.
    assert use_earlier().name == "a"
    with pytest.raises(WeightsError, match=r"no weights of your own named 'b'\. Your own: a\."):
        remove_weights("b")
    use_weights("causal")
    assert not remove_weights("a").was_in_use and weights_in_use() == "causal"
    with pytest.raises(WeightsError, match="Your own: none"):
        remove_weights("../a")


def test_a_file_that_can_not_be_removed_is_an_error_and_out_of_use(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_weights(named(folder, "a"))
    use_weights("a")

    def held(self: Path) -> None:
        raise PermissionError(13, "used by another program", str(self))

    monkeypatch.setattr(Path, "unlink", held)
    with pytest.raises(OutputError, match="used by another program"):
        remove_weights("a")
    assert path.exists() and weights_in_use() == "default"


def test_the_line_of_descent(folder: Path) -> None:
    shipped = ("default", SHIPPED_SHA256["default"])
    a = small_weights(named(folder, "a"), 1, adaptation=adapted(True, "x", shipped))
    from_a = {"name": "a", "sha256": sha256_of(a)}
    history = {"parents": [{"name": shipped[0], "sha256": shipped[1]}, from_a]}
    b = small_weights(named(folder, "b"), 2, adaptation=adapted(True, "x", ("a", sha256_of(a)), **history))
    assert lineage(find_weights("default")) == []
    found = [(one.name, one.sha256, one.at_hand) for one in lineage(b)]
    assert found == [("a", sha256_of(a), True), (*shipped, True)]
    # Found by their hash, whatever they are called now; known from their descendants when they are gone.
    a.rename(named(folder, "first"))
    assert [one.name for one in lineage(b)] == ["first", "default"]
    remove_weights("first")
    found = [(one.name, one.sha256, one.at_hand) for one in lineage(b)]
    assert found == [("a", from_a["sha256"], False), (*shipped, False)]
