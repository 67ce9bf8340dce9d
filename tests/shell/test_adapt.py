"""``keylift adapt`` as a studio uses it: one command, weights with a verdict, and nothing lost whatever happens."""

import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest
import torch

from adaptation_samples import make_quick, walker_clip, write_walks
from footage_samples import write_video
from keylift.core.footage import open_footage
from keylift.core.lifter.lifting import load_ray_lifter
from keylift.core.source import sha256_of
from keylift.core.track_files import write_keypoints
from keylift.core.weights import SHIPPED_FOLDER, read_header, read_tensors
from keylift.training.motion.anchor import read_guard
from keylift.training.views.synthetic_views import ViewMaker, ViewSettings
from shell_runs import begun, clip, content, film_empty_room, keylift, small_disk
from training_runs import finished, started, torchrun
from weights_samples import small_weights

DEFAULT = SHIPPED_FOLDER / "default.safetensors"
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in, with weights and a cache of its own."""
    monkeypatch.setenv("KEYLIFT_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A run that is made ready and looks at little in each step; to be copied."""
    folder = tmp_path_factory.mktemp("ready")
    write_walks(folder)
    run = keylift(
        "adapt", folder, "--name", "stage", "--run", folder / "run", "--steps", 12, "--prepare-only", "--json",
        cwd=folder, env={"KEYLIFT_WEIGHTS": str(folder / "weights")},
    )  # fmt: skip
    assert run.code == 0, run.err
    values = json.loads(run.out.splitlines()[-1])
    assert values["config"].endswith("adapt.toml") and values["skipped"] == []
    make_quick(folder / "run" / "adapt.toml")
    return folder / "run"


def weights_of(run):
    return read_tensors(run / "stage.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_one_command_makes_weights_with_a_verdict(ready, place):
    shipped = content(SHIPPED_FOLDER)
    run_folder = shutil.copytree(ready, place / "run")
    run = keylift("adapt", "--run", run_folder, "--resume", "--json", cwd=place, cold=True)
    assert run.code == 0, run.err
    values = json.loads(run.out.splitlines()[-1])
    assert values["verdict"] in ("better", "not better") and values["reason"]
    assert {"before", "after"} == set(values["figures"]) and values["steps"] == 12
    made = Path(values["weights"])
    assert made.parent == place / "weights" and sha256_of(made) == sha256_of(run_folder / "stage.safetensors")
    adaptation = read_header(made)["adaptation"]
    assert adaptation["verdict"]["better"] is (values["verdict"] == "better")
    assert adaptation["base"]["name"] == "default"
    assert Path(values["report"]).is_file()
    assert json.loads((run_folder / "result.json").read_text(encoding="utf-8"))["verdict"] == values["verdict"]
    assert content(SHIPPED_FOLDER) == shipped
    listed = keylift("weights", "list", "--json", cwd=place)
    details = {entry["name"]: entry for entry in json.loads(listed.out)["details"]}
    assert details["stage"]["adapted_from"] and not details["stage"]["in_use"]
    # The very weights lift footage.
    _, track = walker_clip(2, 40)
    write_keypoints(place / "x.keypoints.npz", track)
    lifted = keylift("lift", "x.keypoints.npz", "--weights", "stage", "-o", "x.pose.npz", "--no-fit", cwd=place)
    assert lifted.code == 0, lifted.err


def test_a_run_killed_at_any_moment_goes_on_to_the_same_weights(ready, place):
    """SIGKILL wherever it happens to be; what is there is always whole, and the end is the same to the last bit."""
    undisturbed = shutil.copytree(ready, place / "undisturbed")
    disturbed = shutil.copytree(ready, place / "disturbed")
    for folder in (undisturbed, disturbed):
        make_quick(folder / "adapt.toml", ("checkpoint_every_s", "0.1"), ("steps", "16"))
    done = keylift("adapt", "--run", undisturbed, "--resume", cwd=place, env=ONE_THREAD, cold=True)
    assert done.code == 0, done.err
    chance, kills = random.Random(5), 0
    for _ in range(2):
        process = begun("adapt", "--run", disturbed, "--resume", cwd=place, env=ONE_THREAD)
        deadline = time.monotonic() + 60
        before = len(list((disturbed / "checkpoints").glob("*"))) if (disturbed / "checkpoints").is_dir() else 0
        while process.poll() is None and time.monotonic() < deadline:
            now = len(list((disturbed / "checkpoints").glob("*"))) if (disturbed / "checkpoints").is_dir() else 0
            if now != before or kills % 2:
                time.sleep(chance.uniform(0.0, 1.0))
                break
            time.sleep(0.01)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate(timeout=60)
        for weights in (place / "weights").glob("*.safetensors") if (place / "weights").is_dir() else ():
            read_tensors(weights)
    assert kills >= 2
    done = keylift("adapt", "--run", disturbed, "--resume", cwd=place, env=ONE_THREAD)
    assert done.code == 0, done.err
    assert same(weights_of(undisturbed), weights_of(disturbed))


def test_a_run_killed_while_it_is_made_ready_goes_on(place):
    write_walks(place, (150, 160, 170))
    request = ("adapt", place, "--name", "stage", "--run", place / "run", "--steps", 3, "--prepare-only")
    process = begun(*request, cwd=place)
    deadline = time.monotonic() + 60
    while not list((place / "run").glob("parts/*.npz")) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate(timeout=30)
    assert not (place / "run" / "adapt.toml").exists()
    again = keylift("adapt", "--run", place / "run", "--resume", "--prepare-only", cwd=place)
    assert again.code == 0, again.err
    assert len(list((place / "run" / "parts").glob("*.part.npz"))) == 3
    assert (place / "run" / "set" / "set.json").is_file()


def test_two_processes_learn_what_one_learns(ready, place):
    """The same configuration under torchrun; sums come in another order, so the last digits may differ."""
    one = keylift("train", ready / "adapt.toml", "--run", place / "one", cwd=place, env=ONE_THREAD)
    assert one.code == 0, one.err
    finished(started(ready / "adapt.toml", place / "two", door=torchrun(2)))
    # Adam's first steps go as far for a gradient of nothing as for a large one, so parameters of no consequence part.
    # What the lifters say is nearly the same.
    inputs = torch.from_numpy(ViewMaker(read_guard(), ViewSettings(), 3).batch(0, 64).inputs)
    with torch.inference_mode():
        said = [
            load_ray_lifter(path, "cpu").network.forward_window(inputs)
            for path in (place / "one" / "stage.safetensors", place / "two" / "stage.safetensors", DEFAULT)
        ]
    apart, moved = (float((said[0] - other).norm(dim=-1).mean()) for other in said[1:])
    assert moved > 1e-3 and apart < 0.15 * moved
    assert (place / "two" / "report.html").is_file() and (place / "two" / "result.json").is_file()


def test_footage_is_looked_through_once_and_what_is_no_footage_is_left_out(place, monkeypatch):
    footage = place / "footage"
    footage.mkdir()
    # A ninth of the pixels and half of the pictures: what is found in them is no matter here.
    pictures = [frame.rgb[::3, ::3][:640, :362] for frame in open_footage(clip("cam03.mp4")).frames(0, 49)]
    film = write_video(footage / "take 1 🎬.mp4", pictures, fps=30)
    (footage / "broken.mp4").write_bytes(b"no video at all")
    film_empty_room(footage / "empty.mp4")
    (footage / "notes.txt").write_text("nothing")
    shutil.copytree(Path(os.environ.get("KEYLIFT_CACHE") or cache_folder()) / "models", place / "cache" / "models")
    monkeypatch.setenv("KEYLIFT_CACHE", str(place / "cache"))
    request = ("adapt", footage, "--name", "stage", "--steps", 2, "--prepare-only", "--json")
    first = keylift(*request, "--run", place / "one", cwd=place)
    assert first.code == 0, first.err
    values = json.loads(first.out.splitlines()[-1])
    assert [entry["footage"] for entry in values["skipped"]] == ["broken.mp4", "empty.mp4"]
    assert "detect" in values["seconds"] and "2 clips" in first.err
    again = keylift(*request, "--run", place / "two", cwd=place)
    assert "detect" not in json.loads(again.out.splitlines()[-1])["seconds"]
    provenance = json.loads((place / "two" / "set" / "provenance.json").read_text(encoding="utf-8"))
    assert provenance["footage"][0]["sha256"] == sha256_of(film)


def cache_folder():
    from keylift.core.pose_model import cache_folder as found

    return found()


@pytest.mark.parametrize(
    "request_, code, words",
    [
        (["."], 1, "--name NEW"),
        ([".", "--name", "default"], 1, "come with Keylift"),
        ([".", "--name", "a/b"], 1, "can't be the name"),
        (["--name", "x"], 1, "Name the footage"),
        (["nowhere.mp4", "--name", "x"], 1, "no footage"),
        ([".", "--name", "x", "--base", "nowhere"], 1, "no weights named"),
        ([".", "--name", "x", "--motion", "nowhere.bvh"], 1, "no motion"),
        ([".", "--name", "x", "--corrections", "nowhere.npz"], 1, "no file"),
        ([".", "--name", "x", "--minutes", "nan"], 2, "minutes"),
        (["--run", "nothing", "--resume"], 1, "no run in"),
        (["short.keypoints.npz", "--name", "x"], 1, "20 frames"),
    ],
)
def test_what_can_not_be_learnt_from_is_said_before_the_work(place, request_, code, words):
    write_walks(place, (60,))
    write_keypoints(place / "short.keypoints.npz", walker_clip(5, 20)[1])
    before = content(place)
    run = keylift("adapt", *request_, *(["--run", "run"] if "--run" not in request_ else []), cwd=place)
    assert run.code == code and words in run.err, run.err
    assert "Traceback" not in run.err
    kept = {path: what for path, what in content(place).items() if not path.startswith("run")}
    assert kept == {path: what for path, what in before.items() if not path.startswith("run")}


def test_a_name_that_is_taken_is_not_taken_again(place):
    (place / "weights").mkdir()
    small_weights(place / "weights" / "stage.safetensors")
    write_walks(place)
    again = keylift("adapt", ".", "--name", "stage", "--run", place / "other", cwd=place)
    assert again.code == 1 and "stage" in again.err and "already" in again.err
    assert not (place / "other").exists()


@pytest.mark.skipif(os.name == "nt", reason="a small disk is mounted for this test, which takes Linux")
def test_a_disk_that_fills_up_loses_nothing(ready, place):
    """A checkpoint, or the weights, don't fit: told, nothing half-written, and gone on with where there is room."""
    disk = place / "disk"
    disk.mkdir()
    with small_disk(disk, "size=60m"):
        shutil.copytree(ready, disk / "run")
        make_quick(disk / "run" / "adapt.toml", ("steps", "2"))
        full = keylift("adapt", "--run", disk / "run", "--resume", cwd=place)
        assert full.code == 75 and "disk is full" in full.err and "Traceback" not in full.err, full.err
        assert not list((disk / "run").rglob(".keylift-*"))
        assert not list((disk / "run").glob("*.safetensors")) and not (place / "weights").exists()
        shutil.copytree(disk / "run", place / "run")
    again = keylift("adapt", "--run", place / "run", "--resume", cwd=place)
    assert again.code == 0, again.err
