"""What a batch is to do: read from job files and folders, and everything that is wrong with it told at once."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bare_python import bare_python
from checkout import ROOT
from keylift.addon.worker_client import WorkerProgram
from keylift.core.errors import EXIT_FAILED, EXIT_USAGE, OutputError
from keylift.core.weights import use_weights
from keylift.core.weights.names import alike, why_no_name
from keylift.shell.arguments import add_detection_options, add_lifting_options, add_rig_options, add_take_options
from keylift.shell.batching import clip_search, job_file
from keylift.shell.batching.bad_jobs import BadJobsError
from keylift.shell.batching.job import Job, StageOrder
from keylift.shell.batching.job_file import read_jobs
from keylift.shell.batching.job_names import safe_name, why_no_job_name
from keylift.shell.batching.job_values import ValueReader
from keylift.shell.batching.jobs_told import as_values, told
from keylift.shell.batching.known_rigs import KnownRigs
from keylift.shell.capture_by_worker import argv_of
from keylift.shell.reporting import Reporter
from weights_samples import small_weights

LENS = "width = 640\nheight = 480\nfx = 500.0\n"


def clips(folder: Path, *names: str) -> None:
    """Files that look like clips from outside, which is all that is looked at."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"film")


def read(folder: Path, text: str, name: str = "jobs.toml", out: str = "out") -> list[Job]:
    """The jobs of a job file in ``folder``."""
    (folder / name).write_text(text, encoding="utf-8")
    return read_jobs(folder / name, folder / out, Reporter(quiet=True))


def problems(folder: Path, text: str, name: str = "jobs.toml", out: str = "out") -> list[str]:
    """What is wrong with a job file."""
    with pytest.raises(BadJobsError) as caught:
        read(folder, text, name, out)
    return list(caught.value.problems)


def in_folder(folder: Path, out: Path) -> dict[str, str]:
    """Name -> clip of the jobs of a folder, in order; clips as paths within it."""
    jobs = read_jobs(folder, out, Reporter(quiet=True))
    return {job.name: Path(job.clip).relative_to(folder).as_posix() for job in jobs}


def test_a_job_file_becomes_jobs(tmp_path: Path) -> None:
    clips(tmp_path, "shots/a/run.mp4", "shots/walk.mov", "duet.mp4", "take.keypoints.npz")
    (tmp_path / "phone.toml").write_text(LENS)
    jobs = read(
        tmp_path,
        """
        [defaults]
        formats = [".bvh", "POSE.npz"]
        height = 1.8
        [[jobs]]
        clips = "shots/**/*"
        no_repair = true
        [[jobs]]
        clip = "duet.mp4"
        name = "duet"
        person = "all"
        people = ["anna", "ben"]
        frames = "100-500"
        camera = "phone.toml"
        height = false
        reduce_keys = true
        camera_pitch = 12
        [[jobs]]
        clip = "take.keypoints.npz"
        """,
    )
    run, walk, duet, take = jobs
    assert run == Job(
        "run",
        str(tmp_path / "shots/a/run.mp4"),
        (".bvh", ".pose.npz"),
        (),
        StageOrder(("--no-repair",)),
        StageOrder(("--height=1.8", "--weights=default", "--no-repair")),
        StageOrder(("--rig=skeleton",)),
    )
    assert (walk.name, walk.clip) == ("walk", str(tmp_path / "shots/walk.mov"))
    camera = str(tmp_path / "phone.toml")
    assert duet.detect == StageOrder(("--frames=100-500", "--person=all"))
    assert duet.lift == StageOrder((f"--camera={camera}", "--camera-pitch=12.0", "--weights=default"), (camera,))
    assert duet.retarget == StageOrder(("--rig=skeleton", "--reduce-keys=0.5,5.0"))
    assert duet.people == ("anna", "ben")
    assert (take.name, take.holds_keypoints, take.detect) == ("take", True, StageOrder())
    assert not any(job.needs_blender for job in jobs)


def test_json_says_the_same_as_toml(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", "b.mp4")
    text = '[defaults]\nformats = ".bvh"\nperson = 2\n[[jobs]]\nclips = ["*.mp4"]\nfps = 24\n[[jobs]]\nclip = "b.mp4"'
    jobs = read(tmp_path, text)
    assert read(tmp_path, json.dumps(tomllib.loads(text)), "jobs.json") == jobs
    assert [job.detect.options for job in jobs] == [("--fps=24.0", "--person=2"), ("--person=2",)]
    null = read(tmp_path, '{"defaults": {"rig": "rigify_metarig"}, "jobs": [{"clip": "a.mp4", "rig": null}]}', "a.json")
    assert null[0].retarget.options == ("--rig=skeleton",)


@pytest.mark.parametrize(
    ("key", "given"),
    [
        *(("frames", text) for text in ("100-250", "7", "7-", "0-", "0-7")),
        *[("person", "all"), ("person", "largest"), ("person", 3), ("fps", 29.97), ("no_repair", True)],
        *[("camera_pitch", -3.5), ("camera_roll", 1), ("height", 1.78), ("no_fit", True), ("no_fit", False)],
        *[("estimate_lens", True), ("adapt", True), ("device", "cpu"), ("device", "auto"), ("map", "mixamo")],
        *[("path", "both"), ("path_on", "root"), ("no_plant_feet", True), ("limbs", "ik"), ("no_markers", True)],
    ],
)
def test_words_are_those_of_the_command_line(tmp_path: Path, key: str, given: Any) -> None:
    declare: Callable[[argparse.ArgumentParser], None]
    for declare in (add_detection_options, add_lifting_options, add_rig_options, add_take_options):
        parser = argparse.ArgumentParser()
        declare(parser)
        if key not in {action.dest for action in parser._actions}:
            continue
        flag = f"--{key.replace('_', '-')}"
        argv = ([flag] if given else []) if isinstance(given, bool) else [f"{flag}={given}"]
        words = argv_of(declare, parser.parse_args(argv))
        # From the first frame to the last is what is meant without a word.
        words = [] if words == ["--frames=0-"] else words
        found = ValueReader(tmp_path).read(key, given)
        assert ([found.word] if found.word else []) == words
        return
    pytest.fail(f"no command has {key}")


def test_what_is_usual_is_no_word(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4")
    usual = 'frames = "0-"\nperson = "largest"\nlimbs = "fk"\nmap = "auto"\nno_fit = false\nweights = "default"\n'
    assert read(tmp_path, f'[[jobs]]\nclip = "a.mp4"\n{usual}') == read(tmp_path, '[[jobs]]\nclip = "a.mp4"')


def test_weights_are_named_though_nobody_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYLIFT_WEIGHTS", str(tmp_path / "weights"))
    own = small_weights(tmp_path / "weights" / "studio.safetensors")
    clips(tmp_path, "a.mp4")
    use_weights("studio")
    for text in ("", 'weights = "studio"', 'weights = "weights/studio.safetensors"'):
        (job,) = read(tmp_path, f'[[jobs]]\nclip = "a.mp4"\n{text}')
        # By its path: on another machine the name may mean nothing, or another file.
        assert job.lift == StageOrder((f"--weights={own}",), (str(own),))
    (job,) = read(tmp_path, '[[jobs]]\nclip = "a.mp4"\nweights = "causal"')
    assert job.lift == StageOrder(("--weights=causal",))


def test_what_is_said_of_one_clip_goes_before_what_is_said_of_many(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", "b.mp4")
    jobs = read(tmp_path, '[[jobs]]\nclips = "*.mp4"\n[[jobs]]\nclip = "b.mp4"\nperson = "all"')
    assert [(job.name, job.everybody) for job in jobs] == [("a", False), ("b", True)]


def test_the_same_clips_may_go_onto_several_rigs(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", "b.mp4")
    jobs = read(
        tmp_path,
        """
        [[jobs]]
        clips = "*.mp4"
        name = "hero {clip}"
        [[jobs]]
        clips = "*.mp4"
        name = "{clip}-raw"
        formats = "pose.npz"
        """,
    )
    assert [job.name for job in jobs] == ["hero a", "hero b", "a-raw", "b-raw"]


# ---- Folders and names ----------------------------------------------------------------------------------------------


def test_a_folder_is_every_clip_below_it(tmp_path: Path) -> None:
    rushes = tmp_path / "rushes"
    clips(rushes, "walk.mp4", "a/walk.mp4", "b/run.MOV", "b/run.mp4", "c/one two 😀.mkv", "d/seen.keypoints.npz")
    clips(rushes, "notes.txt", ".hidden.mp4", ".git/x.mp4", "pictures/1.png", "d/seen.pose.npz", "._walk.mp4")
    clips(rushes, "out/old.mp4", "out/deep/old.mp4", "earlier/old.keypoints.npz", "earlier/.keylift/jobs/old.json")
    found = in_folder(rushes, rushes / "out")
    assert list(found.values()) == [
        "a/walk.mp4",
        "b/run.MOV",
        "b/run.mp4",
        "c/one two 😀.mkv",
        "d/seen.keypoints.npz",
        "walk.mp4",
    ]
    assert list(found) == ["a_walk", "run_MOV", "run_mp4", "one two 😀", "seen", "walk"]
    (job,) = read_jobs(rushes / "walk.mp4", tmp_path / "out", Reporter(quiet=True))
    assert (job.name, job.endings, job.retarget.options) == ("walk", (".bvh", ".blend"), ("--rig=skeleton",))


def test_as_many_folders_as_needed_tell_names_apart(tmp_path: Path) -> None:
    shots = tmp_path / "shots"
    clips(shots, "x/a/walk.mp4", "y/a/walk.mp4", "y/b/run.mp4", "z/b/run.mp4", "x/b/stop.mp4", "x_a_walk.mp4")
    assert in_folder(shots, tmp_path / "out") == {
        "x_a_walk": "x/a/walk.mp4",
        "stop": "x/b/stop.mp4",
        "y_a_walk": "y/a/walk.mp4",
        "y_b_run": "y/b/run.mp4",
        "z_b_run": "z/b/run.mp4",
        "x_a_walk_2": "x_a_walk.mp4",
    }


def test_a_folder_of_nothing_but_pictures_is_one_clip(tmp_path: Path) -> None:
    shot = tmp_path / "shot"
    clips(shot, "p_1.png", "p_2.png")
    (job,) = read_jobs(shot, tmp_path / "out", Reporter(quiet=True))
    assert (job.name, job.clip) == ("shot", str(shot))
    clips(tmp_path, "all/s1/p_1.png", "all/s2/p_1.png", "all/s2/p_2.png")
    jobs = read(tmp_path, '[[jobs]]\nclips = "all/*"\n[[jobs]]\nclip = "shot/p_#.png"')
    assert [job.name for job in jobs] == ["s1", "s2", "p_#"]


def test_links_that_go_round_are_walked_once(tmp_path: Path) -> None:
    rushes = tmp_path / "rushes"
    clips(rushes, "a/walk.mp4", "z/deep/run.mp4")
    clips(tmp_path, "elsewhere/jump.mp4")
    try:
        (rushes / "a" / "round").symlink_to(rushes, target_is_directory=True)
        (rushes / "a" / "deep too").symlink_to(rushes / "z" / "deep", target_is_directory=True)
        (rushes / "shots").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        for number in range(20):
            (rushes / f"again{number}").symlink_to(rushes, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make links")
    expected = ["a/walk.mp4", "shots/jump.mp4", "z/deep/run.mp4"]
    assert list(in_folder(rushes, tmp_path / "out").values()) == expected
    jobs = read(tmp_path, '[[jobs]]\nclips = "rushes/**/*.mp4"')
    assert [Path(job.clip).relative_to(rushes).as_posix() for job in jobs] == expected


def test_the_output_folder_is_no_source(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", "out/b.keypoints.npz")
    assert [job.name for job in read(tmp_path, '[[jobs]]\nclips = "**/*"')] == ["a"]
    (wrong,) = problems(tmp_path, '[[jobs]]\nclips = "out/*.npz"')
    assert "where takes go does not count" in wrong
    (wrong,) = problems(tmp_path, '[[jobs]]\nclip = "out/b.keypoints.npz"')
    assert "is in the folder where takes go" in wrong
    with pytest.raises(BadJobsError, match="can't go where the clips are"):
        read_jobs(tmp_path, tmp_path / "x" / "..", Reporter(quiet=True))


def test_names_that_only_some_disks_tell_apart_get_numbers(tmp_path: Path) -> None:
    clips(tmp_path / "x", "a/Walk.mp4", "walk_mp4.mov", "a/caf\u00e9.mp4", "a/cafe\u0301.mov")
    found = list(in_folder(tmp_path / "x", tmp_path / "out"))
    assert len({alike(name) for name in found}) == len(found)


def test_people_of_one_clip_and_the_name_of_another_do_not_meet(tmp_path: Path) -> None:
    clips(tmp_path, "duet.mp4", "duet-1.mp4", "x/con.mp4", "x/report.mp4", "x/walk.take.mp4")
    jobs = read(tmp_path, '[defaults]\nperson = "all"\n[[jobs]]\nclips = "**/*.mp4"')
    assert [job.name for job in jobs] == ["duet-1", "duet_2", "_con", "_report", "walk_take"]


NAMES = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="/\0"), min_size=1, max_size=60).filter(
    lambda name: len(name.encode()) < 200
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=8), st.booleans(), st.randoms())
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere not every name can be that of a file")
def test_clips_of_any_name_get_names_of_their_own(names: list[tuple[str, str]], everybody: bool, chance: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rushes = Path(folder, "rushes")
        for parent, name in names:
            if parent not in (".", ".."):
                clips(rushes, f"{parent}/{name}.mp4")
        clips(rushes, "clip.mp4")
        text = f'[[jobs]]\nclips = "rushes/**/*.mp4"\nperson = "{"all" if everybody else "largest"}"'
        jobs = read(Path(folder), text)
        takes = [job.take_name(number, 4) for job in jobs for number in (range(1, 5) if everybody else [1])]
        assert len({alike(take) for take in takes}) == len(takes)
        assert not any(map(why_no_name, takes))
        assert read(Path(folder), text) == jobs


@given(st.text(max_size=300), st.integers(8, 100), st.integers(8, 200))
@settings(max_examples=300, deadline=None)
def test_any_text_becomes_a_name(text: str, letters: int, size: int) -> None:
    name = safe_name(text, letters, size)
    assert not why_no_job_name(name)
    assert len(name) <= letters and len(name.encode()) <= size
    assert safe_name(name) == name


def test_a_hundred_thousand_clips_are_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_file, "MAX_CLIPS", 20)
    monkeypatch.setattr(clip_search, "MAX_CLIPS", 20)
    clips(tmp_path / "x", *(f"{number}.mp4" for number in range(21)))
    with pytest.raises(BadJobsError, match="more than 20 clips"):
        in_folder(tmp_path / "x", tmp_path / "out")
    assert "more than 20 clips" in problems(tmp_path, '[[jobs]]\nclips = "x/*"')[0]
    (tmp_path / "x" / "0.mp4").unlink()
    assert len(in_folder(tmp_path / "x", tmp_path / "out")) == 20


# ---- What is wrong --------------------------------------------------------------------------------------------------


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", "b.mp4", "CON.mp4")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "out").write_text("a file")
    found = problems(
        tmp_path,
        """
        color = "blue"
        [defaults]
        formats = [".bvh"]
        persn = "all"
        clip = "a.mp4"
        [[jobs]]
        clip = "missing.mp4"
        [[jobs]]
        clips = "shots/*.mp4"
        [[jobs]]
        clip = "a.mp4"
        name = "walk"
        person = "everyone"
        no_fit = "yes"
        frames = 12.5
        [[jobs]]
        clip = "b.mp4"
        name = "Walk"
        camera_roll = 3
        formats = [".bhv"]
        [[jobs]]
        name = "nothing"
        [[jobs]]
        clip = "empty.mp4"
        rig = "hero.blend"
        """,
    )
    expected = [
        "the file: unknown key 'color'",
        "'out' is a file",
        "defaults: unknown key 'persn'. Did you mean 'person'?",
        "defaults: `clip` is said of each job by itself",
        "job 1 'missing.mp4' (line 7): There is no clip",
        "job 2 'shots/*.mp4' (line 9): clips: 'shots/*.mp4' matches no clip",
        "job 3 'walk' (line 11): person: 'everyone' is none of: largest, all",
        "job 3 'walk' (line 11): no_fit: a text is given, but it is a switch",
        "job 3 'walk' (line 11): frames: '12.5' is not a range",
        "job 4 'Walk' (line 17): formats: '.bhv' can't be written",
        "Did you mean '.bvh'?",
        "job 4 'Walk' (line 17): --camera-roll goes with --camera-pitch",
        "job 4 'Walk' (line 17): job 3 'walk' (line 11) writes 'Walk' too (as 'walk': one file on some disks)",
        "job 5 'nothing' (line 22): it needs `clip`, a file, or `clips`",
        "job 6 'empty.mp4' (line 24): 'empty.mp4",
        "job 6 'empty.mp4' (line 24): rig: There is no rig file",
    ]
    told_all = "\n".join(found).replace(f"{tmp_path}{os.sep}", "")
    assert [each for each in expected if each not in told_all] == []
    assert len(found) == 15
    assert sorted((tmp_path).iterdir()) == sorted(
        tmp_path / name for name in ("a.mp4", "b.mp4", "CON.mp4", "empty.mp4", "jobs.toml", "out")
    )


ONE = '[[jobs]]\nclip = "a.mp4"\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[job]]\nclip = 'a.mp4'", "unknown key 'job'. Did you mean 'jobs'?"),
        ("[jobs]\nclip = 'a.mp4'", "two brackets"),
        ("jobs = [1]", "job 1: it is no table"),
        ("defaults = 3\n" + ONE, "`defaults` is no table"),
        ("", "there is no job in it"),
        (ONE + "clips = '*.mp4'", "one of them, not both"),
        (ONE.replace('"a.mp4"', "3"), "clip: write a path as a text"),
        ("[[jobs]]\nclips = [1]", "clips: write a path as a text"),
        ("[[jobs]]\nclips = ''", "clips: write a path"),
        ("[[jobs]]\nclips = '*'\nname = 'x'", "must have {clip} in it"),
        ("[[jobs]]\nclips = 'pictures/*'", "2 pictures do"),
        ("[[jobs]]\nclips = '*.txt'", "1 other files do"),
        ("[[jobs]]\nclip = 'pictures'", "several sequences"),
        ("[[jobs]]\nclip = 'a.txt'", "no ending of footage"),
        ("[[jobs]]\nclip = 'folder'", 'clips = "FOLDER/**/*"'),
        (ONE + "output = 'x'", "unknown key 'output'. What is written is told by `formats`"),
        (ONE + "frames = ['1-2']", "frames: a list is given"),
        (ONE + "frames = {first = 1}", "frames: a table is given"),
        (ONE + "frames = 2024-01-01", "frames: a date or time is given"),
        (ONE + "frames = true", "frames: true or false is given"),
        (ONE + "height = nan", "height: 'nan' is not how tall"),
        (ONE + "height = 17.8", "height: '17.8' is not how tall"),
        (ONE + "rig = ''", "rig: it is empty"),
        (ONE + "no_repair = 1", "no_repair: a number is given, but it is a switch"),
        (ONE + "reduce_keys = '0.5'", "reduce_keys: '0.5' is no bound"),
        (ONE + "limbs = 'kf'", "limbs: invalid choice"),
        (ONE + "map = 'mixmo'", "map: There is no bone map 'mixmo'"),
        (ONE + "weights = 'studio'", "weights: There are no weights named 'studio'"),
        (ONE + "weights = 'a.safetensors'", "weights: There is no weights file"),
        (ONE + "camera = 'a.txt'", "camera: The camera file"),
        (ONE + "camera_motion = 'a.txt'", "camera_motion: "),
        (ONE + "detector_model = 'a.txt'", "detector_model: "),
        (ONE + "detector_model = 'heavy'", "detector_model: The pose model 'heavy' is not on this computer"),
        (ONE + "rig = 'hero'", "rig: 'hero' is not a rig"),
        (ONE + "rig = 'skelton'", "Did you mean 'skeleton'?"),
        (ONE + "rig = 'hero.fbx:Arm'", "rig: There is no rig file"),
        (ONE + "rig = 'text.blend'", "is not a .blend file"),
        (ONE + "rig = 'text.bvh'", "is not a .bvh file"),
        (ONE + "height = 1.8\nno_fit = true", "A known height needs the fit"),
        (ONE + "estimate_lens = true\ncamera = 'lens.toml'", "Leave out --estimate-lens"),
        (ONE + "formats = []", "formats: write a list"),
        (ONE + "formats = '.mov'", "formats: '.mov' can't be written"),
        (ONE + "people = 3", "people: write a list"),
        (ONE + "people = ['anna', 'ben']", "2 names for one person"),
        (ONE + "person = 'all'\npeople = ['anna', 'Anna']", "two of them are called 'Anna'"),
        (ONE + "person = 'all'\npeople = ['a', 'b', 'c', 'd', 'e']", "at most 4 people"),
        (ONE + "people = ['a/b']", "people: 'a/b' can't be part of a file's name"),
        (ONE + "person = 'all'\npeople = ['2']\nname = 'x'", "two of them would be called '2'"),
        *(
            (ONE + f"name = '{name}'", "can't be that of files")
            for name in ("a/b", "..", "CON", "nul.x", "report", "x.take")
        ),
        *(
            (ONE + f"name = '{name}'", "can't be that of files")
            for name in ("a.", "a ", "", "x" * 101, "a:b", "a\\\\b")
        ),
        (ONE + f"name = '{'x' * 96}'\npeople = ['annabelle']", "can't be called so"),
        (ONE + "name = 3", "name: write a text"),
        (ONE + "name = 'Walk'\n" + ONE + "name = 'walk'", "writes 'walk' too"),
        (
            ONE + "name = 'caf\u00e9'\n" + ONE + "name = 'cafe\u0301'",
            "writes 'caf\u00e9' too",
        ),
        (ONE + "name = 'd'\nperson = 'all'\n" + ONE + "name = 'D-1'", "writes 'D-1' too"),
        (ONE + "frames = '0-9'\n" + ONE + "frames = '10-19'", "makes takes of"),
        ("[[jobs]]\nclips = '*.mp4'\n[[jobs]]\nclips = 'a*.mp4'", "makes takes of"),
        ("[[jobs]]\nclip = 'k.keypoints.npz'\nframes = '1-2'", "`frames` says how people are found"),
        (
            "[defaults]\nperson='all'\n[[jobs]]\nclip = 'k.keypoints.npz'\npeople = ['a', 'b']",
            "a keypoints file holds one person",
        ),
        ("[[jobs]]\nclip = '" + "x" * 5000 + "'", "longer than paths are"),
        ("a = " + "[" * 5000, "nested far too deeply"),
        ("a = 1\0", "It can't be read"),
        ("a = 1\na = 2", "It can't be read"),
        ("a = " + "9" * 5000, "It can't be read"),
    ],
)
def test_each_mistake_is_told(tmp_path: Path, text: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path / "cache"))
    clips(tmp_path, "a.mp4", "a.txt", "k.keypoints.npz", "text.blend", "text.bvh")
    clips(tmp_path, "pictures/a_1.png", "pictures/b_1.png", "folder/x.mp4")
    clips(tmp_path, *(f"pictures/{name}_2.png" for name in "ab") if "clip = 'pictures'" in text else ())
    (tmp_path / "lens.toml").write_text(LENS)
    found = problems(tmp_path, text)
    assert expected in "\n".join(found)
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[1]", "It has no jobs"),
        ('{"jobs": [{"clip": "a.mp4", "clip": "b.mp4"}]}', "'clip' is given twice"),
        ('{"jobs": [{"clip": "a\\u0000.mp4"}]}', "NUL character"),
        ('{"jobs": [{"clip": "a\\udc80.mp4"}]}', "is not UTF-8"),
        ('{"jobs": [{"clip": "a.mp4", "camera": "\\ud800"}]}', "is not UTF-8"),
        ('{"jobs": [{"clip": "\\u001b[31mred.mp4"}]}', "\\x1b[31mred.mp4"),
        ("[" * 100_000, "nested far too deeply"),
    ],
)
def test_json_is_no_more_trusted(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(problems(tmp_path, text, "jobs.json"))


def test_the_first_fifty_problems_are_told_and_how_many_there_are(tmp_path: Path) -> None:
    text = "".join(f'[[jobs]]\nclip = "{number}.mp4"\nhight = 2\n' for number in range(70))
    with pytest.raises(BadJobsError) as caught:
        read(tmp_path, text)
    lines = str(caught.value).splitlines()
    assert "71 things are wrong" in lines[0]
    assert "job 1 '0.mp4' (line 1) and 69 more: unknown key 'hight'. Did you mean 'height'?" in lines[1] + lines[2]
    assert (len(lines), lines[-1]) == (52, "  ... and 21 more.")
    assert len(caught.value.problems) == 71 and caught.value.exit_code == EXIT_USAGE


def test_a_text_with_headers_in_it_does_not_mislead_the_line_numbers(tmp_path: Path) -> None:
    found = problems(tmp_path, '[[jobs]]\nclip = "a.mp4"\nname = """x\n[[jobs]]\n"""')
    assert all("(line" not in line for line in found)


def test_files_that_are_no_job_files(tmp_path: Path) -> None:
    huge = tmp_path / "huge.toml"
    with open(huge, "wb") as file:
        file.truncate(1 << 30)
    began = time.monotonic()
    with pytest.raises(BadJobsError, match="larger than 16 MB"):
        read_jobs(huge, tmp_path / "out", Reporter(quiet=True))
    assert time.monotonic() - began < 5
    (tmp_path / "latin.toml").write_bytes('[[jobs]]\nclip = "caf\u00e9.mp4"'.encode("latin-1"))
    with pytest.raises(BadJobsError, match="not UTF-8"):
        read_jobs(tmp_path / "latin.toml", tmp_path / "out", Reporter(quiet=True))
    for missing, why in (("none.toml", "can't be read"), ("none", "There is no clip")):
        with pytest.raises(BadJobsError, match=why):
            read_jobs(tmp_path / missing, tmp_path / "out", Reporter(quiet=True))
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadJobsError, match="no footage in this folder"):
        read_jobs(tmp_path / "empty", tmp_path / "out", Reporter(quiet=True))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(BadJobsError, match="not an ordinary file"):
        read_jobs(tmp_path / "pipe.toml", tmp_path / "out", Reporter(quiet=True))
    assert "neither a file nor a folder" in problems(tmp_path, '[[jobs]]\nclips = "*.mp4"')[0]


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder of this test's, and no right to what others keep to themselves."""
    if not hasattr(os, "geteuid"):
        pytest.skip("rights are another thing there")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        root = os.geteuid() == 0
        try:
            if root:
                os.seteuid(65534)
            yield Path(folder)
        finally:
            if root:
                os.seteuid(0)
            for path in Path(folder).rglob("*"):
                os.chmod(path, 0o700)


def test_what_may_not_be_read_or_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYLIFT_DATA", "/nowhere")
    # Everything that is imported late is at hand before rights are given up.
    clips(tmp_path, "a.mp4")
    read(tmp_path, ONE)
    with as_nobody() as folder:
        clips(folder, "rushes/a.mp4", "rushes/locked/b.mp4", "rushes/c.mp4")
        (folder / "closed").mkdir()
        for locked in ("rushes/locked", "rushes/c.mp4"):
            os.chmod(folder / locked, 0)
        os.chmod(folder / "closed", 0o500)
        with pytest.raises(BadJobsError) as caught:
            read_jobs(folder / "rushes", folder / "closed" / "out", Reporter(quiet=True))
        told_all = "\n".join(caught.value.problems)
        for expected in ("locked' can't be read", "c.mp4' can't be read: Permission denied", "can't be written"):
            assert expected in told_all
        assert len(caught.value.problems) == 3
        # With nothing else wrong, the command was right.
        with pytest.raises(OutputError, match="can't be written: Permission denied. Choose") as shut:
            read_jobs(folder / "rushes" / "a.mp4", folder / "closed" / "out", Reporter(quiet=True))
        assert shut.value.exit_code == EXIT_FAILED
        (folder / "jobs.toml").write_text(ONE)
        os.chmod(folder / "jobs.toml", 0)
        with pytest.raises(BadJobsError, match="Permission denied"):
            read_jobs(folder / "jobs.toml", folder / "out", Reporter(quiet=True))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every file's name is Unicode")
def test_names_that_are_not_utf_8_are_told(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    for name in (b"caf\xe9.mp4", "café.mp4".encode()):
        with open(os.path.join(os.fsencode(tmp_path / "x"), name), "wb") as file:
            file.write(b"film")
    with pytest.raises(BadJobsError) as caught:
        read_jobs(tmp_path / "x", tmp_path / "out", Reporter(quiet=True))
    (wrong,) = caught.value.problems
    assert "caf\\udce9.mp4': its name is not UTF-8; rename it" in wrong
    str(caught.value).encode()
    with pytest.raises(BadJobsError, match="not UTF-8"):
        read_jobs(tmp_path / "x" / "café.mp4", tmp_path / os.fsdecode(b"\xff"), Reporter(quiet=True))


def test_links_to_nothing_are_told(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    try:
        (tmp_path / "x" / "gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
        (tmp_path / "x" / "self.mp4").symlink_to(tmp_path / "x" / "self.mp4")
    except OSError:
        pytest.skip("this user may not make links")
    found = problems(tmp_path, '[[jobs]]\nclips = "x/*.mp4"')
    assert ["There is no clip" in found[0], "can't be read" in found[1]] == [True, True]


# ---- Rigs -----------------------------------------------------------------------------------------------------------


def test_rigs_are_opened_once_and_told(tmp_path: Path) -> None:
    bpy = pytest.importorskip("bpy")
    clips(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "no-armature.blend"))
    data = bpy.data.armatures.new("Crane")
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("Crane", data))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "crane.blend"))
    found = problems(
        tmp_path,
        """
        [[jobs]]
        clips = "[ab].mp4"
        rig = "no-armature.blend"
        [[jobs]]
        clip = "c.mp4"
        rig = "no-armature.blend"
        frames = "1-2"
        name = "c2"
        [[jobs]]
        clip = "c.mp4"
        name = "c"
        rig = "crane.blend:Crane"
        """,
    )
    assert len(found) == 2
    assert found[0].startswith("job 1 '[ab].mp4' (line 2) and 1 more: rig: ") and "no armature" in found[0]
    assert found[1].startswith("job 3 'c' (line 10): rig: ")


def test_a_good_rig_is_a_file_of_its_job(tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    from keylift.addon.rigs import open_rig

    clips(tmp_path, "a.mp4")
    import bpy

    open_rig("rigify_metarig")
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "hero.blend"))
    (job,) = read(tmp_path, '[[jobs]]\nclip = "a.mp4"\nrig = "hero.blend:metarig"\nmap = "rigify_metarig"')
    rig = str(tmp_path / "hero.blend")
    assert job.retarget == StageOrder((f"--rig={rig}:metarig", "--map=rigify_metarig"), (rig,))
    assert job.needs_blender


def test_rigs_wait_where_there_is_no_blender(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4")
    (tmp_path / "hero.bvh").write_text("HIERARCHY\nROOT Hips\n")
    (tmp_path / "jobs.toml").write_text(ONE + 'rig = "hero.bvh"')
    program = WorkerProgram(bare_python(tmp_path / "env", without=("bpy",)), ROOT)
    asked = program.command("batch", "jobs.toml", "-o", "out", "--dry-run")
    run = subprocess.run(asked, cwd=tmp_path, env=program.environment(), capture_output=True, text=True)
    assert run.returncode == 0 and "has no Blender" in run.stderr and "hero.bvh" in run.stdout, run.stderr
    (tmp_path / "hero.bvh").write_text("HIERARCHY\n")
    assert "is not a .bvh file" in problems(tmp_path, ONE + 'rig = "hero.bvh"')[0]


def test_a_rig_that_will_do_is_known_until_it_changes(tmp_path: Path) -> None:
    rig, own = ("hero.bvh", "auto", "", "fk"), str(tmp_path / "hero.bvh")
    Path(own).write_text("HIERARCHY\nROOT Hips\n")
    out = tmp_path / "out"
    known = KnownRigs(out)
    known.found_to_fit(rig, [own])
    assert not KnownRigs(out).fits(rig, [own]) and not out.exists()
    known.keep()
    assert KnownRigs(out).fits(rig, [own])
    assert not KnownRigs(out).fits((*rig[:3], "ik"), [own])
    Path(own).write_text("HIERARCHY\nROOT Pelvis\n")
    assert not KnownRigs(out).fits(rig, [own])


def test_blender_is_loaded_only_where_a_job_needs_it(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4")
    (tmp_path / "jobs.toml").write_text(ONE + 'rig = "skeleton"\n' + ONE + "name = 'x'\nformats = '.pose.npz'\n")
    program = (
        "import sys; from pathlib import Path; from keylift.shell.batching.job_file import read_jobs;"
        "from keylift.shell.reporting import Reporter; read_jobs(Path('jobs.toml'), Path('out'), Reporter());"
        "print([name for name in ('bpy', 'torch', 'av', 'mediapipe', 'cv2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_users_own_bone_map_is_a_file_of_its_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYLIFT_DATA", str(tmp_path / "data"))
    from keylift.rig_mapping.bone_map import load_bone_map, save_bone_map, write_bone_map

    own = save_bone_map("monster", load_bone_map("mixamo"))
    write_bone_map(tmp_path / "monster.json", load_bone_map("mixamo"))
    clips(tmp_path, "a.mp4")
    (job,) = read(tmp_path, ONE + 'map = "monster"')
    assert job.retarget == StageOrder(("--rig=skeleton", "--map=monster"), (str(own),))
    (job,) = read(tmp_path, ONE + 'map = "monster.json"')
    file = str(tmp_path / "monster.json")
    assert job.retarget == StageOrder(("--rig=skeleton", f"--map={file}"), (file,))


# ---- Told -----------------------------------------------------------------------------------------------------------


def test_what_would_be_done_is_told(tmp_path: Path) -> None:
    clips(tmp_path, "a.mp4", *(f"many/{number:02}.keypoints.npz" for number in range(30)))
    jobs = read(
        tmp_path,
        ONE + "person = 'all'\npeople = ['anna']\nframes = '5-9'\n[[jobs]]\nclips = 'many/*'\nformats = '.bvh'",
    )
    lines = told(jobs).splitlines()
    assert "a: " in lines[0] and "(frames 5-9, everybody, rig skeleton) -> a-anna.bvh, a-anna.blend" in lines[0]
    assert (len(lines), lines[-2]) == (22, "... and 11 more.")
    assert lines[-1] == "31 jobs, 30 of keypoints, 1 of everybody; 32 files or more."
    values = as_values(jobs)
    assert json.loads(json.dumps(values)) == values and len(values) == 31
    assert values[0]["outputs"] == ["a-anna.bvh", "a-anna.blend"] and values[0]["frames"] == "5-9"
    assert values[1]["outputs"] == ["00.bvh"] and values[1]["person"] is None


@pytest.mark.alone
def test_ten_thousand_jobs_are_read_in_three_seconds(tmp_path: Path) -> None:
    clips(tmp_path, *(f"{number:02}/000.mp4" for number in range(100)))
    for number in range(10_000):
        (tmp_path / f"{number % 100:02}/{number // 100:03}.mp4").write_bytes(b"film")
    one = "[[jobs]]\nclip = '{:02}/{:03}.mp4'\nframes = '{}-{}'\n"
    (tmp_path / "jobs.toml").write_text(
        "".join(one.format(number % 100, number // 100, number, number + 99) for number in range(10_000))
    )
    for source in (tmp_path / "jobs.toml", tmp_path):
        began = time.process_time()
        assert len(read_jobs(source, tmp_path / "out", Reporter(quiet=True))) == 10_000
        assert time.process_time() - began < 3
