"""What a person may type, and what the shell makes of it before any work begins."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylift.__main__ import main
from keylift.core.errors import OutputError
from keylift.core.tracks import MAX_PEOPLE
from keylift.shell import places
from keylift.shell.arguments import FrameRange, frame_range, frames_per_second, person
from keylift.shell.command_line import COMMANDS, STOPPED, make_parser
from keylift.shell.detect import possible_outputs
from shell_runs import command, keylift


@pytest.mark.parametrize(
    ("text", "wanted"), [("7", (7, 7)), ("10-20", (10, 20)), ("10-", (10, None)), (" 0-0 ", (0, 0))]
)
def test_ranges_of_frames(text: str, wanted: tuple[int, int | None]) -> None:
    assert frame_range(text) == FrameRange(*wanted)


@pytest.mark.parametrize("text", ["", "-", "-5", "a-b", "1-2-3", "20-10", "1.5", "1:2"])
def test_what_is_no_range_of_frames(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        frame_range(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_range_holds_both_its_ends(first: int, length: int) -> None:
    assert frame_range(f"{first}-{first + length}") == (first, first + length)


@pytest.mark.parametrize("text", ["0", "-1", "biggest", "1.5", ""])
def test_who_is_nobody(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        person(text)


@pytest.mark.parametrize("text", ["0", "-24", "nan", "inf", "fast"])
def test_what_is_no_frame_rate(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        frames_per_second(text)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dance"],
        ["capture"],
        ["capture", "x.mp4"],
        ["capture", "x.mp4", "-o", "take.blend", "--frames", "9-3"],
        ["detect", "x.mp4", "-o", "x.npz", "--person", "tallest"],
        ["detect", "x.mp4", "-o", "x.npz", "--detector", "crystal-ball"],
        ["lift", "x.mp4", "-o", "x.npz", "--device", "abacus"],
        ["weights"],
        ["doctor", "--no-such-option"],
    ],
    ids=lambda arguments: " ".join(arguments) or "nothing",
)
def test_wrong_usage_is_told_with_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert "usage: keylift" in told.err
    assert not told.out


@pytest.mark.parametrize("command_name", COMMANDS)
def test_every_command_teaches_with_examples(command_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command_name, "--help"]) == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert f"  keylift {command_name}" in told
    assert "None" not in told
    assert "==SUPPRESS==" not in told


@pytest.mark.parametrize("command_name", COMMANDS)
def test_the_examples_are_right_usage(command_name: str) -> None:
    lines = [line for line in COMMANDS[command_name].EXAMPLES.splitlines() if line.startswith("  keylift ")]
    assert lines
    for line in lines:
        make_parser().parse_args(line.split()[1:])


def test_general_options_stand_before_or_after_the_command() -> None:
    for arguments in (
        ["--json", "--debug", "doctor"],
        ["doctor", "--debug", "--json"],
        ["--json", "doctor", "--debug"],
    ):
        options = make_parser().parse_args(arguments)
        assert (options.json, options.debug, options.quiet) == (True, True, False)


@pytest.mark.parametrize(
    ("path", "number", "wanted"),
    [
        ("take.blend", 2, "take-2.blend"),
        ("a.b/duet.keypoints.npz", 1, "a.b/duet-1.keypoints.npz"),
        ("Duet.POSE.npz", 3, "Duet-3.POSE.npz"),
        ("plain", 1, "plain-1"),
        ("take.blend", None, "take.blend"),
    ],
)
def test_numbers_go_before_the_ending(path: str, number: int | None, wanted: str) -> None:
    assert places.numbered(Path(path), number) == Path(wanted)


@pytest.mark.parametrize(
    ("rig", "wanted"),
    [
        ("rigify_metarig", None),
        ("hero.blend", "hero.blend"),
        ("hero.blend:Armature", "hero.blend"),
        ("C:\\rigs\\hero.blend:Left.Arm", "C:\\rigs\\hero.blend"),
        ("C:\\rigs\\HERO.FBX", "C:\\rigs\\HERO.FBX"),
        ("old.blend/new.glb", "old.blend/new.glb"),
        ("hero.blend:walk.bvh", "hero.blend"),
    ],
)
def test_the_file_of_a_rig(rig: str, wanted: str | None) -> None:
    assert places.rig_file(rig) == (None if wanted is None else Path(wanted))


def test_an_output_that_is_an_input_is_refused_by_whatever_name(tmp_path: Path) -> None:
    video = tmp_path / "walk.blend"
    video.write_bytes(b"precious")
    (tmp_path / "sub").mkdir()
    linked = tmp_path / "linked.blend"
    os.link(video, linked)
    for output in (video, tmp_path / "sub" / ".." / "walk.blend", linked):
        with pytest.raises(OutputError, match="is an input"):
            places.check_outputs([output], [".blend"], [video])
    assert video.read_bytes() == b"precious"


def test_with_everybody_wanted_each_name_that_may_be_written_is_looked_at(tmp_path: Path) -> None:
    options = make_parser().parse_args(["capture", "x.mp4", "-o", "duet.blend", "--person", "all"])
    rig = tmp_path / f"duet-{MAX_PEOPLE}.blend"
    rig.write_bytes(b"precious")
    with pytest.raises(OutputError, match="is an input"):
        places.check_outputs(possible_outputs([tmp_path / "duet.blend"], options), [".blend"], [rig])
    options.person = "largest"
    places.check_outputs(possible_outputs([tmp_path / "duet.blend"], options), [".blend"], [rig])


def test_how_many_people_are_followed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "--help"]) == 0
    assert f"at most {MAX_PEOPLE} people" in " ".join(capsys.readouterr().out.split())


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="twice"):
        places.check_outputs([tmp_path / "a.blend", tmp_path / "." / "a.blend"], [".blend"])


def test_checking_an_output_leaves_nothing_behind_and_what_was_there_alone(tmp_path: Path) -> None:
    there = tmp_path / "a.blend"
    there.write_bytes(b"the last take")
    places.check_outputs([there, tmp_path / "b.blend", tmp_path / "new" / "dir" / "c.blend"], [".blend"])
    assert [path.name for path in tmp_path.iterdir()] == ["a.blend"]
    assert there.read_bytes() == b"the last take"


def test_version(tmp_path: Path) -> None:
    import keylift as package

    run = keylift("--version", cwd=tmp_path)
    assert (run.code, run.out.strip(), run.err) == (0, f"keylift {package.__version__}", "")


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("doctor"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.wait(timeout=120)
    assert said == ""
    assert process.returncode == 0


def test_a_bug_is_called_one_and_shows_its_traceback_only_when_asked(tmp_path: Path) -> None:
    broken = (
        "import sys; from keylift.shell import doctor, main\n"
        "def run(options, reporter): raise ZeroDivisionError('by design')\n"
        "doctor.run = run; sys.exit(main(sys.argv[1:]))"
    )
    quiet, loud = (
        subprocess.run([sys.executable, "-c", broken, "doctor", *more], capture_output=True, text=True, cwd=tmp_path)
        for more in ([], ["--debug", "--json"])
    )
    assert quiet.returncode == loud.returncode == 1
    assert "this is a bug" in quiet.stderr and "ZeroDivisionError: by design" in quiet.stderr
    assert "Traceback" not in quiet.stderr
    assert "Traceback" in loud.stderr
    assert json.loads(loud.stdout)["kind"] == "ZeroDivisionError"


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        ("MemoryError()", 75, "memory ran out"),
        ("RuntimeError('[enforce fail] DefaultCPUAllocator: not enough memory: you tried')", 75, "memory ran out"),
        ("OSError(28, 'No space left on device')", 75, "disk is full"),
        ("PermissionError(13, 'Permission denied', 'secret.mp4')", 1, "'secret.mp4': Permission denied"),
        ("ModuleNotFoundError('No module named torch', name='torch')", 1, "'torch' is missing"),
        ("KeyboardInterrupt()", 130, "Stopped"),
    ],
)
def test_what_goes_wrong_outside_keylift_has_its_own_words(raised: str, code: int, told: str) -> None:
    broken = (
        "import sys; from keylift.shell import doctor, main\n"
        f"def run(options, reporter): raise {raised}\n"
        "doctor.run = run; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", broken], capture_output=True, text=True)
    assert done.returncode == code
    assert told in done.stderr
    assert "Traceback" not in done.stderr and "bug" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals that Python can open")
def test_a_terminal_gets_bars_with_the_time_left(tmp_path: Path) -> None:
    import pty

    script = (
        "import time; from keylift.shell.reporting import Reporter\n"
        "with Reporter() as reporter, reporter.stage('detect', 'Looking') as progress:\n"
        "    for done in range(8): progress(done, 20); time.sleep(0.1)"
    )
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, env={**os.environ, "TERM": "xterm"}
    )
    os.close(theirs)
    shown = b""
    # A terminal whose other end is gone is an error on Linux and an end on macOS.
    try:
        while piece := os.read(ours, 4096):
            shown += piece
    except OSError:
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"Looking" in shown
    assert b"/20" in shown
    assert b"0:00:0" in shown


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminals that Python can open")
@pytest.mark.parametrize("as_json", [True, False], ids=["JSON", "text"])
def test_results_go_to_stdout_while_bars_are_on_the_terminal(as_json: bool) -> None:
    import pty

    script = (
        "import sys; from keylift.shell.reporting import Reporter\n"
        "with Reporter(as_json=len(sys.argv) > 1) as reporter:\n"
        "    with reporter.stage('detect', 'Looking') as progress: progress(1, 2)\n"
        "    print('a line of its own')\n"
        "    reporter.result('42 frames', {'frames': 42})"
    )
    ours, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-c", script, *(["json"] if as_json else [])],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert done.stdout.splitlines() == ["a line of its own", '{"frames": 42}' if as_json else "42 frames"]
    assert b"Looking" in shown and b"42" not in shown


def test_names_that_the_code_page_lacks_are_shown_as_well_as_they_can_be(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    said = (
        "import sys; from keylift.shell import doctor, main\n"
        "def run(options, reporter):\n"
        "    reporter.note('\u0442'); reporter.result('\u0442\u0435\u0441\u0442.bvh', {}); return 0\n"
        "doctor.run = run; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout.strip()) == (0, r"\u0442\u0435\u0441\u0442.bvh"), done.stderr
    assert done.stderr.strip() == r"\u0442"


def test_ctrl_c_while_the_first_modules_load_has_its_words_too() -> None:
    pressed = (
        "import sys; from keylift import shell\n"
        "def main(argv): raise KeyboardInterrupt\n"
        "shell.main = main; from keylift.__main__ import main as door; sys.exit(door([]))"
    )
    done = subprocess.run([sys.executable, "-c", pressed], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.strip() == f"keylift: {STOPPED}"


def test_without_a_terminal_progress_is_lines_and_quiet_is_quiet() -> None:
    script = (
        "import sys; from keylift.shell import reporting; reporting.SECONDS_BETWEEN_LINES = 0\n"
        "with reporting.Reporter(quiet=len(sys.argv) > 1) as reporter:\n"
        "    with reporter.stage('detect', 'Looking') as progress: progress(5, 20); progress(7, None)"
    )
    told, quiet = (
        subprocess.run([sys.executable, "-c", script, *more], capture_output=True, text=True, check=True)
        for more in ([], ["quiet"])
    )
    lines = told.stderr.splitlines()
    assert lines[0] == "Looking"
    assert lines[1].strip().startswith("5 of 20") and lines[1].endswith("s left")
    assert lines[2].strip() == "7"
    assert told.stdout == quiet.stdout == quiet.stderr == ""
