"""Learning from one clip: what is learnt from, what is held out, and when the result is kept."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch

from keylift.core.camera import Camera
from keylift.core.detector_sites import detector_sites
from keylift.core.errors import Cancelled
from keylift.core.lifter.lifting import RayLifter
from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.core.lifter.ray_windows import FEATURES_IN, POINTS_IN
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.source import Source
from keylift.training.adaptation.adaptation import Figures, adapt_to_clip, parts_of, verdict
from keylift.training.adaptation.clip_loss import (
    best_roots,
    bone_loss,
    constancy_loss,
    reprojection_loss,
    reprojection_mm,
    torch_detector_sites,
)
from keylift.training.adaptation.clip_windows import best_seen_part, held_out_at, observed_rays, windows_of_clip
from keylift.training.adaptation.settings import AdaptSettings
from keylift.training.motion.anchor import read_anchor
from keylift.training.motion.motion_set import read_motion
from training_runs import write_motion
from walker import camera_from_world, filmed, walk

CAMERA = Camera.guessed((1280, 720))
EXTRAS = 4 + len(LANDMARKS_41) + 3


def small_lifter(extras_out=EXTRAS):
    """An untrained lifter of 9 frames, the same every time."""
    torch.manual_seed(0)
    config = LifterConfig(
        POINTS_IN, FEATURES_IN, len(LANDMARKS_41), extras_out=extras_out, channels=32, widths=(3, 3), dropout=0.0
    )
    network = TemporalLifter(config).eval()
    return RayLifter(network, 30.0, Source("small.safetensors", "0" * 64), torch.device("cpu"))


@pytest.fixture(scope="module")
def clip():
    return filmed(walk(120, 30.0), CAMERA, camera_from_world())


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    path = tmp_path_factory.mktemp("motion") / "walk.npz"
    write_motion(path)
    return read_motion(path)


# An untrained lifter needs large steps and few views to show anything in a second.
QUICK = AdaptSettings(steps=60, learning_rate=3e-3, runs=4, views=32, guard_views=64, acceleration_weight=0.0)


def test_sites_with_gradients_are_the_sites(clip):
    body = clip[0].positions_m
    with_gradients = torch_detector_sites(torch.from_numpy(body)).numpy()
    np.testing.assert_allclose(with_gradients, detector_sites(body), atol=1e-9)


def test_a_body_that_covers_its_keypoints_has_nothing_to_learn(clip):
    pose, track = clip
    rays, confidence = observed_rays(track, CAMERA)
    root = pose.positions_m[:, 0]
    sites = detector_sites(pose.positions_m - root[:, None])
    there = [torch.from_numpy(array).double() for array in (sites, rays, confidence)]
    path = torch.from_numpy(root) + 0.02
    found = best_roots(*there, path)
    # Depth is the loosest: the path has a small say in it.
    assert float((found - torch.from_numpy(root)).norm(dim=-1).max()) < 0.02
    assert float(reprojection_loss(*there, torch.from_numpy(root))) < 1e-4
    assert reprojection_mm(sites, root, rays, confidence) < 0.01
    nearer = reprojection_mm(sites, root + [0.03, 0, 0], rays, confidence)
    assert nearer == pytest.approx(30, abs=0.1)
    assert float(reprojection_loss(1.1 * there[0], *there[1:], path)) > 5e-4


def test_gradients_lead_back_to_the_keypoints(clip):
    pose, track = clip
    rays, confidence = observed_rays(track, CAMERA)
    root = pose.positions_m[:, :1]
    body = torch.from_numpy(pose.positions_m - root).clone()
    wrist = LANDMARKS_41.index("l_wrist")
    body[:, wrist, 0] += 0.05
    body.requires_grad_()
    there = [torch.from_numpy(array).double() for array in (rays, confidence, root[:, 0])]
    reprojection_loss(torch_detector_sites(body), *there).backward()
    downhill = -body.grad[:, wrist]
    assert (downhill[:, 0] < 0).all()
    assert float(body.grad[:, wrist].norm()) > 0.5 * float(body.grad.norm())


def test_bones_that_change_or_differ_from_side_to_side_cost(clip):
    body = torch.from_numpy(clip[0].positions_m)
    assert float(constancy_loss(body)) < 1e-6 and float(bone_loss(body, body)) < 1e-9
    growing = body * torch.linspace(1.0, 1.1, len(body))[:, None, None]
    assert float(constancy_loss(growing)) > 1e-3 and float(bone_loss(body, growing)) > 1e-3
    longer = body.clone()
    arm = LANDMARKS_41.index("l_wrist")
    longer[:, arm] += 0.3 * (body[:, arm] - body[:, LANDMARKS_41.index("l_elbow")])
    assert float(constancy_loss(longer)) > 1e-3


def test_windows_end_where_a_frame_of_the_lifter_does(clip):
    _, track = clip
    fast = replace(track, time_s=track.time_s / 2)
    rays, confidence = observed_rays(fast, CAMERA)
    windows = windows_of_clip(small_lifter(), rays, confidence, fast.time_s)
    assert windows.inputs.shape == (60, 9, POINTS_IN, FEATURES_IN)
    np.testing.assert_allclose(windows.rays, rays[::2], atol=1e-6)


@pytest.mark.parametrize("seconds", [1.6, 4.0, 60.0])
def test_frames_are_held_out_in_blocks_with_a_margin(seconds):
    settings = AdaptSettings()
    time_s = np.arange(int(30 * seconds)) / 30
    rule = (settings.block_s, settings.held_out_part, settings.margin_s)
    span_s = (time_s[0], time_s[-1])
    held_out, learnt = held_out_at(time_s, span_s, *rule)
    assert held_out.mean() == pytest.approx(settings.held_out_part, abs=0.06)
    assert learnt.mean() > 0.4 and not (held_out & learnt).any()
    apart = np.abs(time_s[held_out][:, None] - time_s[learnt]).min()
    assert apart >= settings.margin_s - 1 / 30


def test_moments_of_another_rate_are_held_out_in_the_same_blocks():
    """939 frames at 25 a second end where a block more would fit, moments at 30 a second do not."""
    settings = AdaptSettings()
    rule = (settings.block_s, settings.held_out_part, settings.margin_s)
    time_s = np.arange(939) / 25
    moments_s = np.arange(int(time_s[-1] * 30 + 1e-6) + 1) / 30
    held_out, _ = held_out_at(time_s, (time_s[0], time_s[-1]), *rule)
    _, learnt = held_out_at(moments_s, (time_s[0], time_s[-1]), *rule)
    assert np.abs(time_s[held_out][:, None] - moments_s[learnt]).min() >= settings.margin_s - 1 / 25


def test_of_a_long_clip_the_part_in_which_most_is_seen_is_learnt_from():
    time_s = np.arange(6000) / 30
    confidence = np.full((6000, 21), 0.1)
    confidence[2000:3000] = 0.9
    rows = best_seen_part(confidence, time_s, 90.0)
    assert rows.start <= 2000 and rows.stop >= 3000 and time_s[rows][-1] - time_s[rows][0] <= 90.0
    assert best_seen_part(confidence, time_s, 1000.0) == slice(0, 6000)


def test_the_guards_motion_is_not_learnt_from(motion):
    anchor = read_anchor()
    learnt, guard = parts_of(anchor)
    assert not set(learnt.clip_name) & set(guard.clip_name)
    assert len(learnt.clip_name) + len(guard.clip_name) == len(anchor.clip_name) and len(guard.clip_name) >= 40
    assert [len(part.clip_name) for part in parts_of(motion)] == [1, 1]


def figures(held=(20.0, 15.0), plain=(100.0, 101.0), aligned=(60.0, 60.5)):
    return Figures(held, held, plain, aligned, 10, 1.0)


@pytest.mark.parametrize(
    ("found", "kept", "says"),
    [
        (figures(), True, "15.0 mm instead of 20.0"),
        (figures(held=(20.0, 19.9)), False, "no gain"),
        (figures(plain=(100.0, 110.0)), False, "known motion by 110.0 mm instead of 100.0"),
        (figures(aligned=(60.0, 66.0)), False, "known motion by 66.0 mm instead of 60.0"),
        (figures(aligned=(60.0, float("nan"))), False, "astray"),
    ],
)
def test_a_lifter_is_kept_when_both_say_so(found, kept, says):
    answer, reason = verdict(found, AdaptSettings())
    assert answer == kept and says in reason


def test_a_lifter_learns_from_a_clip_and_the_one_it_was_is_left_alone(clip, motion):
    lifter = small_lifter()
    before = {name: tensor.clone() for name, tensor in lifter.network.state_dict().items()}
    told = []

    def listen(done, total):
        told.append((done, total))
        return True

    found = adapt_to_clip(lifter, clip[1], CAMERA, settings=QUICK, motion=motion, progress=listen)
    assert found.adapted, found.reason
    held_before, held_after = found.figures.held_out_mm
    assert held_after < 0.8 * held_before and found.figures.steps == 60
    assert all(torch.equal(before[name], tensor) for name, tensor in lifter.network.state_dict().items())
    assert found.lifter.source.name == "small.safetensors+adapted"
    assert found.lifter.source.sha256 != lifter.source.sha256
    # Running statistics of batch norms are those of the weights that it came from.
    after = found.lifter.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if "running" in name)
    assert told[0] == (0, 60) and [done for done, _ in told] == sorted(done for done, _ in told)

    again = adapt_to_clip(lifter, clip[1], CAMERA, settings=QUICK, motion=motion)
    assert again.lifter.source.sha256 == found.lifter.source.sha256


def test_without_a_gain_the_old_lifter_goes_on(clip, motion):
    lifter = small_lifter()
    greedy = dataclasses.replace(QUICK, steps=3, least_gain=0.99)
    found = adapt_to_clip(lifter, clip[1], CAMERA, settings=greedy, motion=motion)
    assert not found.adapted and found.lifter is lifter and "no gain" in found.reason


def test_time_that_is_up_ends_it(clip, motion):
    found = adapt_to_clip(small_lifter(), clip[1], CAMERA, settings=QUICK, motion=motion, budget_s=0.0)
    assert found.figures.steps == 1


def test_clips_that_say_too_little_are_not_learnt_from(clip, motion):
    lifter, track = small_lifter(), clip[1]
    blind = replace(track, xy_px=np.where(np.arange(120)[:, None, None] < 100, np.nan, track.xy_px))
    short = filmed(walk(30, 30.0), CAMERA, camera_from_world())[1]
    for found, says in (
        (adapt_to_clip(lifter, blind, CAMERA, settings=QUICK, motion=motion), "17%"),
        (adapt_to_clip(lifter, short, CAMERA, settings=QUICK, motion=motion), "too short"),
        (adapt_to_clip(small_lifter(extras_out=45), track, CAMERA, settings=QUICK, motion=motion), "older kind"),
    ):
        assert not found.adapted and says in found.reason and found.figures is None


def test_it_can_be_stopped(clip, motion):
    with pytest.raises(Cancelled):
        adapt_to_clip(
            small_lifter(), clip[1], CAMERA, settings=QUICK, motion=motion, progress=lambda done, total: done < 2
        )
