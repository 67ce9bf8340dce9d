"""Tables, maps, jobs, records and messages that were made to harm: TOML, JSON, XML, BVH."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hostile_samples import (
    ADAPT_REQUEST,
    BONE_MAP,
    BVH,
    FOOTAGE_SET,
    KINDS,
    MANIFEST,
    QUALISYS,
    laid_down,
    outcome,
    refused,
    samples_of,
    standing_bvh_file,
    within_bounds,
)
from keylift.core.errors import KeyliftError
from keylift.core.outside_text import _DOTTED_KEY, check_not_crowded
from keylift.shell.batching.job_file import MAX_JOB_FILE_BYTES

TOML_KINDS = ("camera", "joint_map", "cameras", "calibration", "pairs", "training", "jobs")
JSON_KINDS = ("bone_map", "jobs_json", "request", "event", "adapt_request", "footage_set", "in_use")
TOML = {
    "a list nested without end": b"x = " + b"[" * 400_000,
    "tables nested without end": b"x = " + b"{a=" * 200_000,
    "a key of half a million parts": b"a." * 500_000 + b"a = 1",
    "a table of half a million parts": b"[" + b"a." * 400_000 + b"a]",
    "quoted parts without end": b'"a\\"b" . ' * 100_000 + b"a = 1",
    "a hundred thousand escaped quotes": b'x = "' + b'\\"' * 100_000 + b'"',
    "a number of a million digits": b"width = " + b"9" * 900_000 + b"\nheight = 9\nfx = 1",
    "a number that is too large": b"width = 0x" + b"f" * 4000 + b"\nheight = 9\nfx = 1",
    "endless numbers": b"width = inf\nheight = nan\nfx = -inf",
    "another encoding": "width = 9 # größe".encode("utf-16"),
    "nothing but zeros": bytes(100_000),
}
JSON = {
    "lists nested without end": b"[" * 900_000,
    "tables nested without end": b'{"a":' * 100_000,
    "a number of 5,000 digits": b'{"format":' + b"9" * 5000 + b"}",
    "a list": b"[]",
    "a text": b'"x"',
    "nothing": b"null",
    "another encoding": b"\xff\xfe\x00",
    "half a letter": b'{"say": "\\ud800"}',
}


# As large as job files may be: some of these took tens of seconds and gigabytes.
CROWDED = {
    "lists": (".toml", b"a = [" + b"[]," * 4_000_000 + b"]"),
    "numbers": (".toml", b"a = [" + b"1," * 4_000_000 + b"]"),
    "tables": (".toml", b"\n".join(b"[%x]" % number for number in range(300_000))),
    "keys of many parts": (".toml", b"\n".join(b"%x.a.a.a.a.a.a.a.a = 1" % number for number in range(100_000))),
    "tables of many parts": (".toml", b"\n".join(b"[%x.a.a.a.a.a.a.a]" % number for number in range(100_000))),
    "lists in JSON": (".json", b"[" + b"[]," * 4_000_000 + b"[]]"),
    "tables in JSON": (".json", b"[" + b'{"a":1},' * 1_500_000 + b"{}]"),
}


@pytest.mark.parametrize("what", CROWDED)
def test_job_files_crowded_with(what: str) -> None:
    ending, content = CROWDED[what]
    assert "it has" in (told := refused("jobs" if ending == ".toml" else "jobs_json", content)) or "keys have" in told


def test_a_hundred_thousand_jobs_are_not_crowded() -> None:
    text = "".join(
        f'[[jobs]]\nclip = "shots/reel.{number}/take [{number}].mp4"\nformats = [".bvh", ".blend"]\nframes = "0-10"\n'
        for number in range(100_000)
    )
    assert len(text) < MAX_JOB_FILE_BYTES
    check_not_crowded(text)
    assert sum(key.group().count(".") for key in _DOTTED_KEY.finditer(text)) <= 100_000


@pytest.mark.parametrize("kind", TOML_KINDS)
@pytest.mark.parametrize("what", TOML)
def test_tables_of_toml(kind: str, what: str) -> None:
    refused(kind, TOML[what])


@pytest.mark.parametrize("kind", JSON_KINDS)
@pytest.mark.parametrize("what", JSON)
def test_values_of_json(kind: str, what: str) -> None:
    refused(kind, JSON[what])


# Read under names of their own, or not from files.
NOT_BY_PATH = {
    *("request", "event", "footage_set", "takes", "weights"),
    *("run_json", "run_toml", "listing", "run_checkpoint"),
}


@pytest.mark.parametrize("what", {**JSON, **TOML})
@pytest.mark.parametrize("kind", ["run_json", "run_toml", "listing", "earlier"])
def test_what_the_panel_reads_of_runs_is_shown_or_left_out(kind: str, what: str) -> None:
    outcome(KINDS[kind], samples_of(kind)[0])
    with within_bounds():
        outcome(KINDS[kind], {**JSON, **TOML}[what])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_pipes_in_the_folder_of_a_run_are_not_waited_for(tmp_path: Path) -> None:
    """Blender's window would stand still."""
    from keylift.addon import adaptation_runs
    from keylift.addon.capture_flow import _LISTING, _found_before

    folder = tmp_path / "runs" / "x-0"
    folder.mkdir(parents=True)
    (folder / adaptation_runs.REQUEST).write_text("{}")
    for name in (adaptation_runs.LOG, adaptation_runs.SETTINGS, _LISTING):
        os.mkfifo(folder / name)
    (run,) = adaptation_runs.all_runs(folder.parent).unfinished
    assert (run.name, run.step, run.steps) == ("x-0", 0, 0) and _found_before(folder) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
@pytest.mark.parametrize("kind", sorted(set(KINDS) - NOT_BY_PATH))
@pytest.mark.parametrize("what", ["a device that never ends", "a pipe that nobody writes to"])
def test_what_is_no_ordinary_file(kind: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{KINDS[kind].ending}"
    if what.startswith("a pipe"):
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    with pytest.raises(KeyliftError):
        KINDS[kind].read(path)


def test_a_link_to_a_sound_file_is_one() -> None:
    with laid_down(KINDS["bone_map"], json.dumps(BONE_MAP).encode()) as path:
        link = path.with_name("link.json")
        link.symlink_to(path)
        KINDS["bone_map"].read(link)


@pytest.mark.parametrize("value", [10**400, [1], {}, "1", True, None, 1.5])
def test_a_bone_map_of_an_odd_format(value: Any) -> None:
    refused("bone_map", json.dumps({**BONE_MAP, "format": value}).encode())


def test_more_jobs_than_there_can_be() -> None:
    assert "more than" in refused("jobs", b'[[jobs]]\nclip = "walk.mp4"\n' * 200_000)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "C:\\x", "con", ".x", "x\0y", "x" * 300, "report"])
@pytest.mark.parametrize("key", ["name", "people"])
def test_names_of_takes_and_people_are_never_paths(key: str, name: str) -> None:
    value = [name] if key == "people" else name
    if (key, name) != ("people", "report"):
        refused("jobs_json", json.dumps({"jobs": [{"clip": "walk.mp4", "person": "all", key: value}]}).encode())


# ---- Messages between Blender and its worker ------------------------------------------------------------------------


@pytest.mark.parametrize("said", [
    {"say": ["x"], "job": 1}, {"say": "request", "job": True, "argv": []}, {"say": "request", "job": 1, "argv": "lift"},
    {"say": "request", "job": 1, "argv": [1]}, {"say": "request", "job": 1, "argv": ["x"] * 1001},
    {"say": "request", "job": 1, "argv": [], "env": {}}, {"say": "ready", "protocol": 1, "version": "1", "python": "3"},
])  # fmt: skip
def test_requests_that_make_no_sense(said: Any) -> None:
    refused("request", json.dumps(said).encode())


def test_a_line_without_end_is_not_read_to_its_end() -> None:
    refused("request", b"[" + b"[]," * (2 << 20) + b"[]]")


# ---- Folders of runs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [
    {"name": "../../escaped"}, {"name": 3}, {"frames": {"a": 1}}, {"frames": ["a", "b"]}, {"footage": ["a\0b"]},
    {"footage": [3]}, {"minutes": "x"}, {"steps": [1]}, {"base": 3}, {"base": "a\0b"}, {"detector_model": None},
])  # fmt: skip
def test_a_run_of_somebody_elses(said: Any) -> None:
    refused("adapt_request", json.dumps({**ADAPT_REQUEST, **said}).encode())


@pytest.mark.parametrize("said", [
    {"version": "x"}, {"moments": 10**30}, {"moments": 1e400}, {"fps": [1]}, {"clips": [1]}, {"clips": 3},
    {"stretches": 3}, {"stretches": {"start": [0, 10**30], "name": ["a"]}}, {"clips": [{"source": ["a", "b"]}]},
])  # fmt: skip
def test_a_set_of_footage_that_lies(said: Any) -> None:
    refused("footage_set", json.dumps({**FOOTAGE_SET, **said}).encode())


SCRIPT = "<script>alert(1)</script>"


@pytest.mark.parametrize("said", [
    {"take": SCRIPT, "job": SCRIPT}, {"files": [f"../../{SCRIPT}"]}, {"files": [["x"]]}, {"fps": 1e400},
    {"quality": [1]}, {"frames": 10**30}, {"seconds": {SCRIPT: SCRIPT}}, {"source": {"name": SCRIPT}},
    {"message": SCRIPT, "status": "failed"}, {"warnings": [SCRIPT]}, {"source": 3}, {"quality": {"seen": SCRIPT}},
])  # fmt: skip
def test_the_report_of_takes_runs_nothing_and_is_always_written(said: Any) -> None:
    from keylift.shell.batching.out_folder import OutFolder
    from keylift.shell.batching.takes_report import write_takes_report

    with laid_down(KINDS["takes"], json.dumps({**MANIFEST, **said}).encode()) as path:
        out = OutFolder(path.parent)
        path.rename(out.manifest("hero"))
        page = write_takes_report(out.path).read_text(encoding="utf-8")
    assert "<script>alert" not in page and "hero" in page


# ---- Calibrations and motion ----------------------------------------------------------------------------------------


def test_entities_of_xml_are_not_unfolded() -> None:
    laughs = "<!ENTITY a 'ha'>" + "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(12))
    for encoding in ("utf-8", "utf-16"):
        xml = f"<?xml version='1.0' encoding='{encoding}'?><!DOCTYPE c [{laughs}]><c>&m;</c>"
        refused("qualisys", xml.encode(encoding))


@pytest.mark.parametrize("odd", ["inf", "nan", "-5", "1e400", "9" * 400, ""])
def test_a_calibration_of_odd_sizes(odd: str) -> None:
    refused("qualisys", QUALISYS.replace('right="1919"', f'right="{odd}"').encode())


WIDE = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n" + "".join(
    f"JOINT a{n}\n{{\nOFFSET 0 0 0\nCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation\n}}\n"
    for n in range(1000)
) + "}\nMOTION\nFrames: 40\nFrame Time: 0.0333\n"  # fmt: skip
BVHS = {
    "a million channels": BVH.replace("CHANNELS 3", "CHANNELS 1000000 " + "Xrotation " * 10**6),
    "10^9 frames": BVH.replace("Frames: 3", "Frames: 1000000000"),
    "two million frames that are not there": BVH.replace("Frames: 3", "Frames: 2000000"),
    "frames below none": BVH.replace("Frames: 3", "Frames: -3"),
    "no time": BVH.replace("0.0333333", "0"),
    "time backwards": BVH.replace("0.0333333", "-1"),
    "time that is no number": BVH.replace("0.0333333", "nan"),
    "72,000 frames a second": BVH.replace("0.0333333", "0.0000138"),
    "joints without end": "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\n"
    + "".join(f"JOINT a{n}\n{{\nOFFSET 0 0 0\n" for n in range(10**5)),
    "endless offsets": BVH.replace("OFFSET 0 2 0", "OFFSET inf 0 0"),
    "words of 300,000 letters": WIDE + ("0" * 300_000 + "1 " + "1 " * 5999 + "\n") * 3,
    "nothing but zeros": "\0" * (5 << 20),
    "nothing but empty lines": "\n" * (20 << 20),
    "two joints of one name": BVH.replace("JOINT arm", "JOINT hip"),
    "a joint that closes its parent": BVH.replace("JOINT arm", "}\nJOINT arm"),
}


@pytest.mark.parametrize("what", BVHS)
def test_bvh_with(what: str) -> None:
    refused("bvh", BVHS[what].encode())


def test_a_bvh_of_offsets_as_far_as_numbers_go_is_refused_or_finite() -> None:
    content = standing_bvh_file().replace(b"OFFSET 0 0 0", b"OFFSET 1e308 1e308 1e308")
    outcome(KINDS["bvh"], content)


def test_arguments_of_the_shell_with_odd_letters_are_told_and_not_raised(tmp_path: Path) -> None:
    from keylift.shell.command_line import run_command
    from keylift.shell.reporting import Reporter

    for odd in ("a\0b.keypoints.npz", "\ud800.keypoints.npz", "x" * 5000 + ".keypoints.npz"):
        code = run_command(["lift", odd, "-o", str(tmp_path / "x.pose.npz")], Reporter(quiet=True))
        assert code in (1, 2), odd
