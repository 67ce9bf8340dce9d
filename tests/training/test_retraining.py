"""Learning from footage: what is learnt from, what is held out, what a step looks at, and when the result is better."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from adaptation_samples import CAMERA, walker_clip
from keylift.core.detector_sites import detector_sites
from keylift.core.errors import FileFormatError
from keylift.core.lifter.lifting import load_ray_lifter
from keylift.core.metrics import p_mpjpe
from keylift.core.source import sha256_of
from keylift.core.tracks import Change
from keylift.core.weights import find_weights, read_header
from keylift.training.adaptation.clip_windows import windows_of_clip
from keylift.training.motion.anchor import read_anchor, read_guard
from keylift.training.retraining import footage_set as sets
from keylift.training.retraining.config_file import write_config
from keylift.training.retraining.filmed_people import FilmedPeople
from keylift.training.retraining.footage_part import read_part, write_part
from keylift.training.retraining.footage_set import bone_lengths, read_set, write_set
from keylift.training.retraining.footage_views import camera_angles_deg, views_like
from keylift.training.retraining.gate import HeldOutFootage, Judged, footage_score, judge, verdict
from keylift.training.retraining.lesson import AdaptBatch, AdaptLesson, FootageRuns, RunMaker
from keylift.training.retraining.making import make_parts, make_set
from keylift.training.retraining.preparing import FilmedPerson, NotUsable, check_usable, prepare
from keylift.training.retraining.run import adapt_on_footage
from keylift.training.retraining.settings import (
    AdaptConfig,
    AdaptLoopSettings,
    GateSettings,
    MixSettings,
    PreparingSettings,
)
from keylift.training.retraining.shift_study import corrected
from keylift.training.shots.synthetic_shots import film_whole_clips
from keylift.training.train import train_from_config
from keylift.training.views.synthetic_views import ViewSettings

SETTINGS = PreparingSettings()
QUICK_MIX = MixSettings(anchor_views=16, footage_views=16, labelled_views=8, runs=2, pool_blocks=2)
QUICK_GATE = GateSettings(guard_views=128)


@pytest.fixture(scope="module")
def lifter():
    return load_ray_lifter(find_weights("default"), "cpu")


@pytest.fixture(scope="module")
def person():
    pose, track = walker_clip(0)
    return pose, FilmedPerson(track, camera=CAMERA)


@pytest.fixture(scope="module")
def part(person, lifter):
    return prepare(person[1], lifter, SETTINGS)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory, lifter):
    """A run that is made ready: two clips, one of them corrected."""
    folder = tmp_path_factory.mktemp("run")
    people = [FilmedPerson(walker_clip(number)[1], camera=CAMERA) for number in (0, 1)]
    wrong = people[1].detected
    changes = np.zeros(wrong.xy_px.shape[:2], np.uint8)
    changes[100:130, 5] = Change.CORRECTED
    people[1] = replace(people[1], corrected=replace(wrong, changes=changes))
    parts, skipped = make_parts(folder, people, 2, lifter, SETTINGS)
    make_set(folder / "set", parts, [], skipped, lifter.fps, SETTINGS)
    return folder


@pytest.fixture(scope="module")
def footage(run_folder):
    return read_set(run_folder / "set")


def config(**changes):
    base = find_weights("default")
    loop = AdaptLoopSettings(steps=3, validate_every=2, checkpoint_every_s=0)
    values = {"mix": QUICK_MIX, "loop": loop, "gate": QUICK_GATE, **changes}
    return AdaptConfig("studio", "default", sha256_of(base), "set", "default", **values)


# ---- What can be learnt from ----------------------------------------------------------------------------------------


def test_a_part_holds_the_motion_in_a_room_that_stands_upright(person, part):
    truth, _ = person
    assert part.covered.mean() > 0.95
    assert abs(float(part.motion_m[:, 35:37, 1].min())) < 0.1  # heels on the floor
    assert part.motion_m[:, 14, 1].mean() > 1.3  # and heads above it
    assert 1000 * p_mpjpe(part.motion_m, truth.positions_m) < 60
    there = part.motion_m @ part.camera_from_motion[:3, :3].T + part.camera_from_motion[:3, 3]
    assert 1000 * np.linalg.norm(there - truth.positions_m, axis=-1).mean() < 350
    placed = CAMERA.project(there[:, :15]) - CAMERA.project(truth.positions_m[:, :15])
    assert np.linalg.norm(placed, axis=-1).mean() < 12


def test_a_part_survives_its_file(part, tmp_path):
    path = tmp_path / "x.part.npz"
    write_part(path, part)
    again = read_part(path)
    for name in ("rays", "confidence", "motion_m", "contact", "covered", "truth_m"):
        np.testing.assert_allclose(getattr(again, name), getattr(part, name), atol=1e-5)
    assert (again.source.sha256, again.person) == (part.source.sha256, part.person)
    assert again.camera.focal_px == part.camera.focal_px
    damaged = path.read_bytes()[:-100]
    path.write_bytes(damaged)
    with pytest.raises(FileFormatError, match="damaged"):
        read_part(path)


@pytest.mark.parametrize("frames, reason", [(20, r"0\.7 s \(20 frames\)"), (35, "1.2 s is the least")])
def test_short_clips_are_left_out_with_the_reason(frames, reason):
    with pytest.raises(NotUsable, match=reason):
        check_usable(walker_clip(0, frames)[1], SETTINGS)


def test_who_is_hardly_seen_is_left_out():
    _, track = walker_clip(0)
    hidden = track.xy_px.copy()
    hidden[:, 6:] = np.nan
    some = replace(track, xy_px=hidden, confidence=np.where(np.isnan(hidden[..., 0]), 0, track.confidence))
    with pytest.raises(NotUsable, match="too little of the person"):
        check_usable(some, SETTINGS)


def test_frames_that_no_pose_covers_are_not_learnt_from(person, lifter):
    _, given = person
    rng = np.random.default_rng(0)
    scrambled = given.detected.xy_px.copy()
    for frame in range(60, 90):
        scrambled[frame] = scrambled[frame, rng.permutation(scrambled.shape[1])]
    found = prepare(replace(given, detected=replace(given.detected, xy_px=scrambled)), lifter, SETTINGS)
    assert found.covered[62:88].mean() < 0.3 < found.covered[:50].mean()


def test_corrections_are_found_by_the_footage_they_are_of(tmp_path):
    from keylift.core.track_files import write_keypoints

    tracks = [walker_clip(number)[1] for number in (0, 1)]
    changes = np.zeros(tracks[1].xy_px.shape[:2], np.uint8)
    changes[3, 4] = Change.CORRECTED
    path = tmp_path / "put-right.keypoints.npz"
    write_keypoints(path, replace(tracks[1], changes=changes))
    people = list(FilmedPeople(lambda: zip("ab", tracks, strict=True), corrections=[path]))
    assert people[0].corrected is None and people[1].corrected.corrected[3, 4]
    alone = list(FilmedPeople(lambda: [("a", tracks[0])], corrections=[path]))
    assert len(alone) == 2 and alone[1].detected.source.sha256 == tracks[1].source.sha256


# ---- The set --------------------------------------------------------------------------------------------------------


def test_a_set_lies_on_disk_and_holds_out_what_is_not_learnt(footage):
    assert isinstance(footage.rays.base, np.memmap) or isinstance(footage.rays, np.memmap)
    assert footage.held_out.any() and not (footage.held_out & footage.learnt).any()
    assert 0.1 < footage.held_out.mean() < 0.25
    for clip in footage.clips:
        held, learnt = footage.time_s[clip.rows][footage.held_out[clip.rows]], footage.learnt[clip.rows]
        nearest = np.abs(footage.time_s[clip.rows][learnt][:, None] - held).min()
        assert nearest > SETTINGS.margin_s - 1e-6
    total = sum(len(range(*clip.rows.indices(10**9))) for clip in footage.clips)
    assert total == len(footage.rays)
    assert len(footage.stretches.positions_m) <= footage.learnt.sum()


def test_of_short_clips_some_are_held_out_as_a_whole(part, tmp_path):
    short = replace(
        part,
        **{
            name: getattr(part, name)[:60]
            for name in ("time_s", "rays", "confidence", "true_rays", "true_confidence", "corrected", "motion_m",
                         "contact", "covered", "truth_m")
        },
    )  # fmt: skip
    paths = []
    for number in range(12):
        paths.append(tmp_path / f"{number}.part.npz")
        write_part(paths[-1], short)
    write_set(tmp_path / "set", paths, 30.0, SETTINGS)
    footage = read_set(tmp_path / "set")
    shares = [footage.held_out[clip.rows].mean() for clip in footage.clips]
    assert set(shares) == {0.0, 1.0} and 0.08 < np.mean(shares) < 0.25


def test_a_damaged_set_is_no_set(run_folder, tmp_path):
    import shutil

    damages = (
        ("rays.npy", lambda data: data[: len(data) // 2]),
        ("motion_m.npy", lambda data: data.replace(b"<f4", b"<i4")),
        (sets.INDEX, lambda data: data[:-20]),
        (sets.INDEX, lambda data: data.replace(b'"version": 1', b'"version": 9')),
        (sets.INDEX, lambda data: data.replace(b'"moments": ', b'"moments": 9')),
    )
    for number, (name, damage) in enumerate(damages):
        folder = tmp_path / str(number)
        shutil.copytree(run_folder / "set", folder)
        path = folder / name
        before = path.read_bytes()
        path.write_bytes(damage(before))
        assert path.read_bytes() != before
        with pytest.raises(FileFormatError):
            read_set(folder)


def test_nothing_half_written_is_a_set(part, tmp_path, monkeypatch):
    path = tmp_path / "a.part.npz"
    write_part(path, part)

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sets, "_write_stretches", fails)
    from keylift.core.errors import TryAgainError

    with pytest.raises(TryAgainError, match="disk is full"):
        write_set(tmp_path / "set", [path], 30.0, SETTINGS)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.part.npz"]


def test_parts_that_are_there_are_not_made_again(run_folder, lifter, monkeypatch):
    people = [FilmedPerson(walker_clip(0)[1], camera=CAMERA), FilmedPerson(walker_clip(3, 20)[1], camera=CAMERA)]
    from keylift.training.retraining import making

    def anew(*_):
        raise AssertionError("made again")

    parts, skipped = make_parts(run_folder, people, 2, lifter, SETTINGS)
    assert len(parts) == 1 and [entry.footage for entry in skipped] == ["walk-3.mp4"]
    monkeypatch.setattr(making, "prepare", anew)
    assert make_parts(run_folder, people[:1], 1, lifter, SETTINGS)[0] == parts


# ---- A step ---------------------------------------------------------------------------------------------------------


def test_runs_are_what_the_lifter_sees_in_the_clip(footage, lifter):
    maker = RunMaker(footage, lifter, 6, 4, 1)
    batch = maker.batch(3)
    np.testing.assert_array_equal(batch.inputs, maker.batch(3).inputs)
    assert not np.array_equal(batch.inputs, maker.batch(4).inputs)
    for clip in footage.clips:
        whole = windows_of_clip(
            lifter,
            footage.rays[clip.rows].astype(float),
            footage.confidence[clip.rows].astype(float),
            footage.time_s[clip.rows],
        )
        for run in batch.inputs:
            distance = np.abs(whole.inputs - run[0]).max(axis=(1, 2, 3))
            if distance.min() < 1e-4:
                at = int(distance.argmin())
                np.testing.assert_allclose(whole.inputs[at : at + 4], run, atol=1e-4)
                assert footage.learnt[clip.start + at : clip.start + at + 4].all()
                break


def test_half_of_the_runs_are_from_where_a_pose_is_known(footage, lifter):
    maker = RunMaker(footage, lifter, 40, 4, 1)
    known = np.concatenate([np.isfinite(maker.batch(number).known_m).all(axis=(1, 2, 3)) for number in range(10)])
    some = np.concatenate([np.isfinite(maker.batch(number).known_m).any(axis=(1, 2, 3)) for number in range(10)])
    assert known.sum() > 0 and 0.4 < some.mean() < 0.7


def test_a_step_moves_the_network_towards_the_footage_and_not_from_what_it_knew(footage, lifter):
    from copy import deepcopy

    copy = replace(lifter, network=deepcopy(lifter.network))
    lesson = AdaptLesson(config(), copy, read_anchor(), footage, None).train()
    batch = lesson.batch(0)
    parts = lesson(batch)
    assert set(parts) == {
        "loss",
        "anchor",
        "footage",
        "keep",
        "reprojection",
        "bones",
        "acceleration",
        "pose",
    }
    assert float(parts["keep"].detach()) < 1e-5
    np.testing.assert_allclose(float(parts["loss"]), sum(float(v) for k, v in parts.items() if k != "loss"), rtol=1e-5)
    optimiser = lesson.make_optimiser()
    before = float(parts["loss"])
    for step in range(15):
        optimiser.zero_grad()
        loss = lesson(batch)["loss"]
        loss.backward()
        lesson.prepare_step(step, optimiser)
        for group in optimiser.param_groups:
            group["lr"] = 1e-4
        optimiser.step()
    after = lesson(batch)
    assert float(after["loss"]) < before and float(after["keep"]) > 0
    statistics = [name for name in lesson.lifter.state_dict() if "running" in name]
    same = all(torch.equal(lesson.lifter.state_dict()[n], lifter.network.state_dict()[n]) for n in statistics)
    assert statistics and same, "statistics of batch norms must stay"


def test_halves_of_a_batch_teach_what_the_whole_teaches(footage, lifter):
    """As two processes share it."""
    from copy import deepcopy
    from dataclasses import fields

    lesson = AdaptLesson(config(), replace(lifter, network=deepcopy(lifter.network)), read_anchor(), footage, None)
    with torch.no_grad():
        for parameter in lesson.lifter.parameters():
            parameter += 1e-3 * torch.randn_like(parameter)
    whole = lesson.batch(0)

    def gradients(batch):
        lesson.zero_grad()
        lesson(batch)["loss"].backward()
        return torch.cat([parameter.grad.flatten() for parameter in lesson.parameters()]).clone()

    def half(which):
        rows = slice(which, None, 2)
        runs = FootageRuns(*(getattr(whole.runs, entry.name)[rows] for entry in fields(FootageRuns)))
        return AdaptBatch({kind: views.of(rows) for kind, views in whole.views.items()}, runs)

    together, apart = gradients(whole), (gradients(half(0)) + gradients(half(1))) / 2
    assert float((together - apart).norm() / together.norm()) < 1e-5


def test_views_are_widened_to_the_cameras_that_filmed(footage):
    usual = ViewSettings()
    clip = footage.clips[0]
    pitch, roll = camera_angles_deg(clip)
    assert abs(pitch - np.degrees(0.1)) < 8 and abs(roll) < 8
    steep = replace(clip, camera_from_motion=_tilted(clip.camera_from_motion, 50.0))
    assert abs(camera_angles_deg(steep)[0] - pitch - 50) < 1
    seen = views_like(replace(footage, clips=(steep, *footage.clips[1:])), usual)
    assert seen.pitch_deg[0] > usual.pitch_deg[0] + 5 and seen.pitch_deg[1] > usual.pitch_deg[1]
    assert seen.distance_m[0] <= usual.distance_m[0] and seen.distance_m[1] >= usual.distance_m[1]


def _tilted(camera_from_motion, degrees):
    """The camera turned to look further down, about its own x axis."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[c, -s], [s, c]]
    return turn @ camera_from_motion


def test_bones_are_as_long_as_they_are():
    pose, _ = walker_clip(0)
    lengths = bone_lengths(pose.positions_m)
    assert lengths[0] == 0 and 0.3 < lengths[2] < 0.55


# ---- The gate -------------------------------------------------------------------------------------------------------


def judged(footage_mm=30.0, views_mm=100.0, **more):
    values = {
        "second_camera_mm": float("nan"),
        "truth_mm": float("nan"),
        "sound": 0.9,
        "bones_pct": 5.0,
        "jitter_m_s2": 10.0,
        "slide_mm_s": 100.0,
    }
    values |= {"reprojection_mm": footage_mm, "between_mm": footage_mm, "seconds": 20.0, **more}
    return Judged(HeldOutFootage(**values), views_mm, 0.7 * views_mm)


@pytest.mark.parametrize(
    "after, better, words",
    [
        (judged(27), True, "10% less"),
        (judged(29.8), False, "no gain"),
        (judged(27, views_mm=102.9), True, "10% less"),
        (judged(27, views_mm=103.1), False, "motion capture"),
        (judged(27, jitter_m_s2=12), False, "trembles"),
        (judged(27, bones_pct=6), False, "bones change"),
        (judged(27, slide_mm_s=120), False, "slide"),
        (judged(float("nan")), False, "astray"),
        (judged(20, views_mm=float("nan")), False, "astray"),
        (judged(27, second_camera_mm=41.0), False, "second camera"),
        (judged(31, second_camera_mm=36.0), True, "second camera"),
    ],
)
def test_the_gate_lets_through_what_is_better_alone(after, better, words):
    before = judged(second_camera_mm=40.0 if np.isfinite(after.footage.second_camera_mm) else float("nan"))
    found = verdict(before, after, GateSettings())
    assert found.better is better and words in found.reason


def test_one_camera_alone_does_not_judge_poses_that_nobody_can_believe():
    """Bent until it covers its keypoints, a body may be anywhere in depth: less reprojection is no proof."""
    found = verdict(judged(sound=0.4), judged(20, sound=0.4), GateSettings())
    assert not found.better and "second camera" in found.reason
    with_truth = verdict(judged(sound=0.4, truth_mm=80.0), judged(33, sound=0.4, truth_mm=70.0), GateSettings())
    assert with_truth.better and "where it is known" in with_truth.reason
    fooled = verdict(judged(truth_mm=80.0), judged(20, truth_mm=85.0), GateSettings())
    assert not fooled.better


def test_the_gate_says_nothing_from_little_footage():
    found = verdict(judged(seconds=0.4), judged(10, seconds=0.4), GateSettings())
    assert not found.better and "too little" in found.reason


def test_the_gate_sees_through_damaged_weights(footage, lifter):
    """Before and after exchanged: weights that were spoilt a little are told from those that were not."""
    from copy import deepcopy

    torch.manual_seed(0)
    spoilt = replace(lifter, network=deepcopy(lifter.network))
    with torch.no_grad():
        for parameter in spoilt.network.parameters():
            parameter += 0.1 * parameter.std() * torch.randn_like(parameter) if parameter.ndim > 1 else 0
    guard, gate = read_guard(), GateSettings(guard_views=512)
    good, bad = (judge(which, footage, guard, gate) for which in (lifter, spoilt))
    assert footage_score(good.footage, bad.footage) > 0.02
    assert not verdict(good, bad, gate).better
    assert verdict(bad, good, gate).better


def test_a_second_camera_sees_what_the_first_can_not(lifter, tmp_path):
    from walker import camera_from_world, filmed, walk

    motion = walk(150, 30.0, heading_rad=2.6)
    parts = []
    for number, yaw in enumerate((0.0, 1.2)):
        turn = np.eye(4)
        turn[:3, :3] = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
        extrinsics = camera_from_world() @ turn
        _, track = filmed(motion, CAMERA, extrinsics)
        source = replace(track.source, name=f"cam{number}.mp4", sha256=f"{number:064d}")
        track = replace(track, source=source)
        person = FilmedPerson(track, camera=CAMERA, world_from_camera=np.linalg.inv(extrinsics))
        path = tmp_path / f"{number}.part.npz"
        write_part(path, prepare(person, lifter, SETTINGS))
        parts.append(path)
    write_set(tmp_path / "set", parts, 30.0, SETTINGS)
    footage = read_set(tmp_path / "set")
    seen = judge(lifter, footage, read_guard(), QUICK_GATE).footage
    assert 0 < seen.second_camera_mm < 60
    # The same cameras, one of them said to stand elsewhere: poses don't lie on its keypoints any more.
    clips = list(footage.clips)
    clips[1] = replace(clips[1], world_from_camera=clips[0].world_from_camera)
    wrong = judge(lifter, replace(footage, clips=tuple(clips)), read_guard(), QUICK_GATE).footage
    assert wrong.second_camera_mm > 1.5 * seen.second_camera_mm
    assert wrong.reprojection_mm == seen.reprojection_mm


# ---- A run ----------------------------------------------------------------------------------------------------------


def test_a_run_ends_with_weights_a_verdict_and_a_page(run_folder, tmp_path):
    base = find_weights("default")
    before = sha256_of(base)
    write_config(run_folder / "adapt.toml", config())
    weights = train_from_config(run_folder / "adapt.toml", run_folder=tmp_path, device="cpu")
    header = read_header(weights)
    adaptation = header["adaptation"]
    assert adaptation["base"] == {"name": "default", "sha256": before}
    assert isinstance(adaptation["verdict"]["better"], bool) and adaptation["verdict"]["reason"]
    assert [entry["name"] for entry in adaptation["footage"]] == ["walk-0.mp4", "walk-1.mp4"]
    assert adaptation["footage"][1]["corrected"] > 0
    assert header["licence"] and "CMU" in header["licence"]
    assert sha256_of(base) == before
    load_ray_lifter(weights, "cpu")
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert result["verdict"] in ("better", "not better") and result["figures"]["before"]["views_mm"] > 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "") and page.count("data:image/png;base64") >= 2
    assert "walk-0.mp4" in page
    log = json.loads((tmp_path / "log.json").read_text(encoding="utf-8"))
    assert [entry["step"] for entry in log] == [0, 2, 3] and "held_out_mm" in log[0] and "loss" not in log[0]


def test_names_in_a_page_are_text_and_no_program(run_folder, tmp_path):
    from keylift.training.retraining.gate import Verdict
    from keylift.training.retraining.report import write_report

    write_report(
        tmp_path / "r.html",
        name="<script>alert(1)</script>",
        base="default",
        verdict=Verdict(True, "reason"),
        before=judged(),
        after=judged(25),
        log=[{"step": 0.0, "held_out_mm": 3.0}, {"step": 5.0, "loss": 1.0, "held_out_mm": 2.0}],
        settings={},
        provenance={"footage": [{"name": "<b>", "sha256": "0" * 64, "person": 1, "seconds": 1}]},
        pictures=[],
        seconds=1.0,
    )
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "&lt;b&gt;" in page


def test_another_base_is_not_taken_for_the_one_that_was_begun_with(run_folder, tmp_path):
    with pytest.raises(FileFormatError, match="not those that this run was begun with"):
        adapt_on_footage(replace(config(), base_sha256="0" * 64), run_folder, tmp_path, device="cpu")


# ---- The study ------------------------------------------------------------------------------------------------------


def test_an_artist_of_the_study_puts_right_the_worst_frames_and_no_others():
    shots = film_whole_clips(_first_clips(2), 1, 3)
    model = shots[0].keypoints["synthetic"]
    true = shots[0].camera.project(detector_sites(shots[0].truth_m))
    right = np.where(np.isnan(model.xy_px), np.nan, true)
    wrong = right.copy()
    wrong[10:13, 4:9] += 200
    shot = replace(shots[0], keypoints={"synthetic": replace(model, xy_px=wrong)})
    part = 3 / len(model.time_s)
    track = corrected([shot], "synthetic", part)[0]
    touched = track.corrected
    assert touched[10:13, 4:9].all() and touched.sum() == np.isfinite(wrong[10:13, 4:9, 0]).sum()
    np.testing.assert_allclose(track.xy_px[touched], true[touched], atol=1e-9)
    assert (track.confidence[touched] == 1).all()


def test_steep_cameras_look_down():
    def looks_down_by(cameras):
        shots = film_whole_clips(_first_clips(6), 2, 3, cameras)
        return np.mean([np.degrees(np.arcsin(-shot.world_from_camera[2, 2])) for shot in shots])

    usual, steep = looks_down_by("usual"), looks_down_by("steep")
    assert abs(usual - 5) < 12 and abs(steep - 45) < 12


def _first_clips(count):
    return read_anchor().clips(np.arange(count))
