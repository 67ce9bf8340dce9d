"""Keypoints, poses, motion sets and published .npz files that were made to harm."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostile_samples import (
    KINDS,
    arrays_of,
    body_file,
    detections_file,
    keypoint_file,
    little_asked_for,
    motion_set_file,
    outcome,
    packed,
    pose_file,
    refused,
    within_bounds,
)
from keylift.core.errors import FileFormatError
from keylift.core.npy_members import MAX_RATIO


def npy(dtype: str, shape: Any, content: bytes = b"", header: bytes | None = None) -> bytes:
    """An array whose header may claim anything."""
    header = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() if header is None else header
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header + b"\n" + content


def with_members(sound: bytes, how: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    """A sound .npz with other content for some of its arrays."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(sound)) as archive, zipfile.ZipFile(file, "w", how) as result:
        held = {name.removesuffix(".npy"): archive.read(name) for name in archive.namelist()}
        for name, content in (held | members).items():
            result.writestr(f"{name}.npy", content)
    return file.getvalue()


HEADERS = {
    "a shape that ends": b"(" * 9000,
    "an expression without end": b"-" * 9000 + b"1",
    "a call": b"__import__('os').system('false')",
    "no table": b"[1, 2]",
    "nothing": b"",
}
CLAIMS = {
    "10^9 names that take no room": {"layout": npy("<U0", (10**9,))},
    "10^15 numbers that take no room": {"xy_px": npy("|V0", (10**15,))},
    "10^9 frames": {"xy_px": npy("<f4", (10**9, 21, 2))},
    "no frames of 2^40 points": {"xy_px": npy("<f4", (0, 21, 1 << 40))},
    "frames below none": {"xy_px": npy("<f4", (-1, 21, 2))},
    "a pickle": {"xy_px": npy("|O", (), pickle.dumps(print))},
    "an endless size": {"size_px": npy("<f8", (2,), np.array([np.inf, 1]).tobytes())},
    "a size of 10^30": {"size_px": npy("<f8", (2,), np.array([1e30, 1]).tobytes())},
    "an endless person": {"person": npy("<f8", (), np.array(np.inf).tobytes())},
    "letters that there are not": {"layout": npy("<U1", (), struct.pack("<I", 0x7FFFFFFF))},
    "half a letter": {"detector": npy("<U1", (), struct.pack("<I", 0xD800))},
    "less than it claims": {"filled": npy("|b1", (8,), bytes(7))},
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_keypoints_that_claim(claim: str) -> None:
    refused("keypoints", with_members(keypoint_file(), **CLAIMS[claim]))


@pytest.mark.parametrize("header", HEADERS)
def test_keypoints_whose_header_is(header: str) -> None:
    said = refused("keypoints", with_members(keypoint_file(), xy_px=npy("", 0, header=HEADERS[header])))
    assert "header makes no sense" in said


def test_an_archive_of_a_hundred_kilobytes_is_not_unpacked_to_gigabytes() -> None:
    bomb = with_members(keypoint_file(), xy_px=npy("<f4", (1 << 20, 20, 2), bytes(20 << 23)))
    assert len(bomb) < 400_000
    assert "unpacks to far more" in refused("keypoints", bomb)


def test_what_nobody_is_seen_in_packs_well_and_is_still_one_of_ours() -> None:
    frames, few = 50_000, arrays_of(keypoint_file())
    names = ("xy_px", "confidence", "filled", "changes")
    many: dict[str, Any] = {name: np.zeros((frames, *few[name].shape[1:]), few[name].dtype) for name in names}
    many["xy_px"][:] = np.nan
    many["frame_index"], many["time_s"] = np.arange(frames), np.arange(frames) / 60
    content = packed(**{**few, **many})
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sum(member.file_size for member in archive.infolist()) < MAX_RATIO / 1.5 * len(content)
    assert outcome(KINDS["keypoints"], content) is None


@pytest.mark.parametrize("how", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_archives_that_are_packed_otherwise(how: int) -> None:
    assert "packed in a way" in refused("keypoints", with_members(keypoint_file(), how))


def test_two_arrays_of_the_same_name() -> None:
    file = io.BytesIO(keypoint_file())
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("xy_px.npy", npy("<f4", (8, 21, 2), bytes(8 * 21 * 8)))
    assert "same name" in refused("keypoints", file.getvalue())


def test_names_of_members_are_never_paths(tmp_path: Path) -> None:
    from keylift.core.array_files import read_arrays

    file = tmp_path / "in" / "x.npz"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("../escaped.npy", "/tmp/escaped.npy", "C:\\escaped.npy"):
            archive.writestr(name, npy("|b1", (1,), b"\1"))
    assert len(read_arrays(file, "any")) == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "x.npz"]


POSES = {
    "10^9 names of joints": {"joint_names": npy("<U0", (10**9,))},
    "a million joints": {"joint_names": npy("<U1", (10**6,), bytes(4 * 10**6))},
    "a million parents": {"parents": npy("|i1", (10**6,), bytes(10**6))},
    "parents in a circle": {"parents": npy("<i8", (41,), np.roll(np.arange(41), 1).astype("<i8").tobytes())},
    "an endless rate": {"fps": npy("<f8", (), np.array(np.inf).tobytes())},
    "10^300 frames a second": {"fps": npy("<f8", (), np.array(1e300).tobytes())},
    "confidence of 10^30": {"confidence": npy("<f4", (8, 41), np.full((8, 41), 1e30, "<f4").tobytes())},
    "places beyond the moon": {"positions_m": npy("<f4", (8, 41, 3), np.full((8, 41, 3), 1e30, "<f4").tobytes())},
    "a camera nowhere": {"world_from_camera": npy("<f8", (4, 4), np.full((4, 4), 1e300).tobytes())},
    "eternities": {"time_s": npy("<f8", (8,), (np.arange(8) * 1e300).tobytes())},
}


@pytest.mark.parametrize("claim", POSES)
def test_poses_that_claim(claim: str) -> None:
    refused("pose", with_members(pose_file(), **POSES[claim]))


MOTION: dict[str, dict[str, Any]] = {
    "clips that begin below none": {"clip_start": np.array([0, -5, 10**9])},
    "clips that are empty": {"clip_start": np.array([0, 0, 12])},
    "no clips": {"clip_start": np.array([0])},
    "more names than clips": {"clip_source": np.array(["x"] * 5)},
    "no rate": {"fps": np.float64(0)},
    "a rate that is no number": {"fps": np.float64("nan")},
    "10^12 frames a second": {"fps": np.float64(1e12)},
    "two joints": {"positions_q": np.zeros((12, 2, 3), np.int16)},
    "texts for numbers": {"positions_q": np.full((12, 41, 3), "x")},
    "endless millimetres": {"position_quantum_m": np.float32("inf")},
    "three kinds of millimetres": {"position_quantum_m": np.ones(3, np.float32)},
}


@pytest.mark.parametrize("claim", MOTION)
def test_motion_sets_with(claim: str) -> None:
    refused("motion_set", packed(**{**arrays_of(motion_set_file()), **MOTION[claim]}))


# ---- Pickles --------------------------------------------------------------------------------------------------------


def with_pickle(content: bytes) -> bytes:
    """A ``data_3d_*.npz`` whose content is this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("positions_3d.npy", npy("|O", (), content))
    return file.getvalue()


def calls(what: bytes, argument: str) -> bytes:
    """A pickle that calls ``what``."""
    return b"c" + what.replace(b".", b"\n", 1) + b"\n(X" + struct.pack("<I", len(argument)) + argument.encode() + b"tR."


@pytest.mark.parametrize("what", [b"os.system", b"posix.system", b"builtins.eval", b"builtins.exec", b"subprocess.call",
                                  b"numpy.load", b"numpy.fromfile", b"pathlib.Path.touch"])  # fmt: skip
def test_nothing_that_a_pickle_calls_is_run(what: bytes, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    said = refused("filmed_set", with_pickle(calls(what, f"touch {mark}")))
    assert "no data needs" in said and not mark.exists()


BOMBS = {
    "six million lists": b"]" * (6 << 20),
    "six million marks": b"(" * (6 << 20),
    "a number of five million digits": b"L" + b"9" * (5 << 20) + b"L\n.",
    "six million tuples in tuples": b")" + b"\x85" * (6 << 20) + b".",
    "a frame of 2^62 bytes": b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b".",
    "four billion memory cells": b"\x80\x02]r\xff\xff\xff\xff.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_pickles_that_never_end(bomb: str) -> None:
    refused("filmed_set", with_pickle(BOMBS[bomb]))


def test_lists_that_hold_the_same_lists_over_and_over() -> None:
    # A thousand entries, each the same list of a thousand entries, five deep: 10^15 numbers out of a few bytes.
    inner: Any = [0.0] * 1000
    for _ in range(4):
        inner = [inner] * 1000
    boxes = np.empty((1, 2), object)
    boxes[0, 0], boxes[0, 1] = [], inner
    held = {"boxes": boxes, "keypoints": boxes, "metadata": np.array({"w": 1, "h": 1}, dtype=object)}
    assert "no arrays" in refused("detections", packed(np.savez, **held))


def test_subjects_that_share_their_actions() -> None:
    one = np.zeros((1, 17, 2), np.float32)
    actions = {f"a{number}": [one] for number in range(2000)}
    points = {f"s{number}": actions for number in range(2000)}
    shared = packed(positions_2d=np.array(points, dtype=object), metadata=np.array({}, dtype=object))
    assert "sequences" in refused("filmed_set", shared)


def test_detections_of_odd_sizes() -> None:
    for odd in (float("inf"), float("nan"), -1, 10**30, "wide"):
        metadata = pickle.dumps({"w": odd, "h": 480}, 2)
        refused("detections", with_members(detections_file(), metadata=npy("|O", (), metadata)))


BODIES = {
    "no vertices": {"layer": npy("|u1", (0,), b"")},
    "nothing but eyes": {"layer": npy("|u1", (8,), bytes([1] * 8))},
    "a layer that there is not": {"layer": npy("|u1", (8,), bytes([0] * 7 + [99]))},
    "no faces": {"faces": npy("<u2", (0, 4), b"")},
    "no bones": {"bone_names": npy("<U1", (0,), b"")},
    "a number for layers": {"layer": npy("|u1", (), b"\0")},
    "texts for places": {"points_q": npy("<U1", (1,), struct.pack("<I", 65))},
    "weights of nothing": {"bone_weight": npy("|u1", (8, 4), bytes(32))},
}


@pytest.mark.parametrize("what", BODIES)
def test_bodies_with(what: str) -> None:
    refused("body", with_members(body_file(), **BODIES[what]))


GROUPS = {
    "vertices that there are not": b'{"body": [[0, 1000000000000]]}',
    "vertices without end": b'{"body": [' + b"[0, 2]," * 100_000 + b"[0, 2]]}",
    "lists nested without end": b"[" * 200_000,
    "a list": b"[]",
    "a number": b'{"body": 5}',
}


@pytest.mark.parametrize("what", GROUPS)
def test_base_meshes_whose_groups_have(what: str, tmp_path: Path) -> None:
    from keylift.training.rendered.body import read_body

    (tmp_path / "body").mkdir()
    (tmp_path / "body" / "base.obj").write_text("g body\n" + "v 0 1 0\n" * 4 + "f 1 2 3 4\n")
    (tmp_path / "body" / "basemesh_vertex_groups.json").write_bytes(GROUPS[what])
    with within_bounds(), little_asked_for(), pytest.raises(FileFormatError, match="The body"):
        read_body(tmp_path)
