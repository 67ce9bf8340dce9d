"""Corrected keypoints, lifted anew where they have a say and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.camera_motion import CameraMotion
from keylift.core.errors import Cancelled, FileFormatError
from keylift.core.keypoint_repair import repair
from keylift.core.lift import lift, pinned_points
from keylift.core.lifter.lifting import RayLifter, load_ray_lifter
from keylift.core.lifter.side_check import check_sides
from keylift.core.relifting import Relifted, affected_frames, changed_frames, relift, sides_checked
from keylift.core.skeletons import LANDMARKS_41, LIFTER_21_NAMES, mirrored_layout
from keylift.core.source import Source
from keylift.core.track_files import read_keypoints, read_pose, write_keypoints, write_pose
from keylift.core.tracks import Change, KeypointTrack, PoseTrack
from keylift.core.weights import find_weights
from keylift.core.world_alignment import floor_height
from walker import camera_from_world, filmed, walk

FRAMES = 240
BAD = slice(120, 126)
ARM = [LIFTER_21_NAMES.index(f"l_{part}") for part in ("elbow", "wrist", "knuckle")]
FEET = LANDMARKS_41.indices("l_heel", "l_toe_base", "r_heel", "r_toe_base")
WRIST = LANDMARKS_41.index("l_wrist")


@pytest.fixture(scope="module")
def lifter() -> RayLifter:
    return load_ray_lifter(find_weights("default"), "cpu")


@pytest.fixture(scope="module")
def right() -> KeypointTrack:
    """As a person walks, all of it seen."""
    away = walk(FRAMES, heading_rad=3.1)
    return filmed(away, Camera.guessed((1280, 720)), camera_from_world(distance_m=8.0))[1]


@pytest.fixture(scope="module")
def wrong(right: KeypointTrack) -> KeypointTrack:
    """The same with an arm thrown off for a few frames."""
    xy_px = right.xy_px.copy()
    xy_px[BAD, ARM] += [30.0, -40.0]
    return replace(right, xy_px=xy_px)


@pytest.fixture(scope="module")
def corrected(right: KeypointTrack, wrong: KeypointTrack) -> KeypointTrack:
    """The same with the arm put back by an artist."""
    changes, confidence = wrong.changes.copy(), wrong.confidence.copy()
    changes[BAD, ARM], confidence[BAD, ARM] = Change.CORRECTED, 1.0
    return replace(right, changes=changes, confidence=confidence)


def lifted(track: KeypointTrack, lifter: RayLifter, **options) -> PoseTrack:  # type: ignore[no-untyped-def]
    return replace(lift(track, lifter=lifter, **options), lifted_from=track.fingerprints())


@pytest.fixture(scope="module")
def previous(wrong: KeypointTrack, lifter: RayLifter) -> PoseTrack:
    return lifted(wrong, lifter)


def off_mm(pose: PoseTrack, other: PoseTrack, rows: slice | np.ndarray = slice(None)) -> np.ndarray:
    """Of landmarks against the pelvis: eight metres away, a body a hair larger is centimetres further off."""
    one, two = (which.positions_m[rows] - which.positions_m[rows, :1] for which in (pose, other))
    return 1000 * np.linalg.norm(one - two, axis=-1)


def bones_m(pose: PoseTrack) -> np.ndarray:
    parents = np.array(LANDMARKS_41.parents[1:])
    return np.linalg.norm(pose.positions_m[:, 1:] - pose.positions_m[:, parents], axis=-1)


def assert_no_jump(anew: Relifted) -> None:
    steps = np.linalg.norm(np.diff(anew.pose.positions_m, 2, axis=0), axis=-1).max(axis=1)
    seams = np.flatnonzero(np.diff(anew.frames.astype(int)))
    assert len(seams) == 2
    elsewhere = np.percentile(steps, 95)
    for seam in seams:
        assert steps[seam - 2 : seam + 2].max() < 1.5 * elsewhere


def test_what_was_corrected_is_lifted_anew_and_all_else_is_as_it_was(
    right: KeypointTrack, corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter
) -> None:
    changed = changed_frames(corrected, previous)
    assert np.flatnonzero(changed).tolist() == list(range(BAD.start, BAD.stop))
    anew = relift(corrected, previous, changed, lifter=lifter)
    assert changed[anew.frames].sum() == changed.sum() and anew.frames.mean() < 0.5
    beside = ~anew.frames
    for name in ("positions_m", "rotations_wxyz", "confidence", "contact"):
        assert getattr(anew.pose, name)[beside].tobytes() == getattr(previous, name)[beside].tobytes(), name
    truth = lifted(right, lifter)
    before, after = off_mm(previous, truth, BAD)[:, WRIST].mean(), off_mm(anew.pose, truth, BAD)[:, WRIST].mean()
    assert before > 60 and after < 0.2 * before


def test_it_agrees_with_lifting_everything(corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter) -> None:
    anew = relift(corrected, previous, changed_frames(corrected, previous), lifter=lifter)
    whole = lifted(corrected, lifter)
    assert off_mm(anew.pose, whole, anew.frames).mean() < 10
    assert np.ptp(bones_m(anew.pose), axis=0).max() < 1e-4, "one skeleton throughout"


def test_nothing_jumps_where_old_and_new_meet(corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter) -> None:
    anew = relift(corrected, previous, changed_frames(corrected, previous), lifter=lifter)
    assert_no_jump(anew)


def test_a_corrected_keypoint_is_covered(corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter) -> None:
    anew = relift(corrected, previous, changed_frames(corrected, previous), lifter=lifter)
    shown = previous.camera.project(anew.pose.positions_m[BAD, WRIST])
    wrist = LIFTER_21_NAMES.index("l_wrist")
    assert np.linalg.norm(shown - corrected.xy_px[BAD, wrist], axis=-1).max() < 3.0


def test_an_impossible_correction_is_followed_further_than_a_detection(
    right: KeypointTrack, lifter: RayLifter, previous: PoseTrack
) -> None:
    wrist = LIFTER_21_NAMES.index("l_wrist")
    xy_px, changes = right.xy_px.copy(), right.changes.copy()
    xy_px[BAD, wrist] += [20.0, -20.0]
    detected = replace(right, xy_px=xy_px)
    changes[BAD, wrist] = Change.CORRECTED
    put = replace(detected, changes=changes)
    off = {}
    for name, track in (("detected", detected), ("put", put)):
        pose = relift(track, previous, changed_frames(track, previous), lifter=lifter).pose
        off[name] = np.linalg.norm(
            pose.camera.project(pose.positions_m[BAD, WRIST]) - xy_px[BAD, wrist], axis=-1
        ).mean()
    assert off["put"] < 0.5 * off["detected"]


def test_what_an_artist_exchanged_is_as_sure_as_it_was_detected(corrected: KeypointTrack) -> None:
    wrist = LIFTER_21_NAMES.index("l_wrist")
    confidence = corrected.confidence.copy()
    confidence[BAD.start, wrist] = 0.97
    pinned = pinned_points(replace(corrected, confidence=confidence))
    assert pinned is not None and pinned.sum() == len(ARM) * (BAD.stop - BAD.start) - 1
    assert not pinned[BAD.start, wrist]
    assert pinned_points(replace(corrected, confidence=np.full_like(confidence, 0.97))) is None


def test_a_correction_taken_back_is_lifted_back(
    wrong: KeypointTrack, corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter
) -> None:
    once = relift(corrected, previous, changed_frames(corrected, previous), lifter=lifter)
    once_pose = replace(once.pose, lifted_from=corrected.fingerprints())
    changed = changed_frames(wrong, once_pose)
    assert changed.sum() == BAD.stop - BAD.start
    back = relift(wrong, once_pose, changed, lifter=lifter)
    assert off_mm(back.pose, previous).mean() < 5


def test_it_tells_how_far_it_is_and_can_be_stopped(
    corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter
) -> None:
    changed, told = changed_frames(corrected, previous), []

    def listen(done: int, total: int | None) -> bool:
        told.append((done, total))
        return True

    frames = int(relift(corrected, previous, changed, lifter=lifter, progress=listen).frames.sum())
    assert told == sorted(told) and told[-1] == (frames, frames) and len(told) > 2
    with pytest.raises(Cancelled):
        relift(corrected, previous, changed, lifter=lifter, progress=lambda done, total: False)


def test_nothing_changed_is_nothing_done(wrong: KeypointTrack, previous: PoseTrack, lifter: RayLifter) -> None:
    same = relift(wrong, previous, changed_frames(wrong, previous), lifter=lifter)
    assert same.pose is previous and not same.frames.any()


def test_keypoints_taken_away_first_and_last_frame_and_a_whole_body(
    right: KeypointTrack, previous: PoseTrack, lifter: RayLifter
) -> None:
    xy_px, confidence, changes = right.xy_px.copy(), right.confidence.copy(), right.changes.copy()
    for rows, points in ((slice(0, 1), ARM), (slice(FRAMES - 1, FRAMES), ARM), (slice(110, 113), slice(None))):
        xy_px[rows, points], confidence[rows, points], changes[rows, points] = np.nan, 0.0, Change.CORRECTED
    gone = replace(right, xy_px=xy_px, confidence=confidence, changes=changes)
    base = lifted(right, lifter)
    anew = relift(gone, base, changed_frames(gone, base), lifter=lifter)
    assert np.isfinite(anew.pose.positions_m).all()
    assert anew.frames[0] and anew.frames[-1] and not anew.frames.all()
    assert (anew.pose.confidence[110:113] == 0).all(), "nobody is seen there any more"


def test_where_nobody_is_left_the_pose_is_carried_over(
    right: KeypointTrack, wrong: KeypointTrack, lifter: RayLifter
) -> None:
    # Somebody seen for three frames of a long absence, whom an artist takes away.
    away, visit = slice(60, 180), slice(118, 121)
    xy_px, confidence = right.xy_px.copy(), right.confidence.copy()
    xy_px[away], confidence[away] = np.nan, 0.0
    changes = right.changes.copy()
    changes[visit] = Change.CORRECTED
    gone = replace(right, xy_px=xy_px.copy(), confidence=confidence.copy(), changes=changes)
    xy_px[visit], confidence[visit] = right.xy_px[visit], 1.0
    for fit in (True, False):
        base = lifted(replace(right, xy_px=xy_px, confidence=confidence), lifter, fit=fit)
        anew = relift(gone, base, changed_frames(gone, base), lifter=lifter)
        rows = np.flatnonzero(anew.frames)
        assert away.start < rows[0] and rows[-1] < away.stop - 1
        assert not anew.pose.confidence[rows].any() and not anew.pose.contact[rows].any()
        root_m = anew.pose.positions_m[:, 0]
        before, after = root_m[rows[0] - 1], root_m[rows[-1] + 1]
        assert root_m[119] == pytest.approx(before + (after - before) * (120 - rows[0]) / (len(rows) + 1), abs=1e-3)
        assert np.ptp(bones_m(anew.pose), axis=0).max() < 1e-4


def test_windows_that_nearly_meet_are_one(right: KeypointTrack, lifter: RayLifter) -> None:
    def affected(*at: int) -> np.ndarray:
        changed = np.zeros(FRAMES, bool)
        changed[list(at)] = True
        return affected_frames(changed, right.time_s, lifter)

    reach = int(np.flatnonzero(affected(100)).max()) - 100
    near, far = 100 + 2 * reach + 10, 100 + 2 * reach + 30
    assert (np.diff(np.flatnonzero(affected(100, near))) == 1).all()
    assert (np.diff(np.flatnonzero(affected(100, far))) > 1).sum() == 1
    # What is at an end of the clip is held on to.
    assert not affected(reach + 3)[0] and not affected(FRAMES - 1 - reach - 3)[-1]


def test_a_clip_shorter_than_the_lifter_looks_is_lifted_as_a_whole(
    right: KeypointTrack, corrected: KeypointTrack, lifter: RayLifter
) -> None:
    for frames in (1, 2, 12):
        short = corrected.of(slice(BAD.start, BAD.start + frames))
        base = lifted(right.of(slice(BAD.start, BAD.start + frames)), lifter)
        moved = replace(short, xy_px=short.xy_px + 1.0)
        anew = relift(moved, base, changed_frames(moved, base), lifter=lifter)
        assert anew.frames.all() and np.isfinite(anew.pose.positions_m).all()


def test_changes_all_over_the_clip_are_lifted_as_a_whole(
    right: KeypointTrack, previous: PoseTrack, lifter: RayLifter
) -> None:
    anew = relift(right, previous, np.ones(FRAMES, bool), lifter=lifter)
    assert anew.frames.all()
    assert anew.pose.world_from_camera[2, :3] == pytest.approx(previous.world_from_camera[2, :3], abs=1e-6)


def test_a_pose_without_the_fit_is_made_anew_without_it(
    right: KeypointTrack, wrong: KeypointTrack, corrected: KeypointTrack, lifter: RayLifter
) -> None:
    base = lifted(wrong, lifter, fit=False)
    anew = relift(corrected, base, changed_frames(corrected, base), lifter=lifter)
    beside = ~anew.frames
    assert 0 < anew.frames.mean() < 0.5
    for name in ("positions_m", "rotations_wxyz", "confidence", "contact"):
        assert getattr(anew.pose, name)[beside].tobytes() == getattr(base, name)[beside].tobytes(), name
    truth = lifted(right, lifter, fit=False)
    assert off_mm(anew.pose, truth, BAD)[:, WRIST].mean() < 0.2 * off_mm(base, truth, BAD)[:, WRIST].mean()
    assert np.ptp(bones_m(anew.pose), axis=0).max() < 1e-6, "one skeleton throughout"
    assert_no_jump(anew)
    assert relift(right, base, np.ones(FRAMES, bool), lifter=lifter).frames.all()


@pytest.mark.parametrize("fit", [True, False])
def test_nothing_jumps_where_the_new_depth_would_be_another(
    wrong: KeypointTrack, corrected: KeypointTrack, lifter: RayLifter, fit: bool
) -> None:
    base = lifted(wrong, lifter, fit=fit)
    further = replace(base, positions_m=base.positions_m + [0.0, 0.0, 0.06])
    assert_no_jump(relift(corrected, further, changed_frames(corrected, further), lifter=lifter))


def test_a_pose_by_other_weights_is_refused(corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter) -> None:
    changed = changed_frames(corrected, previous)
    for name, told in (("other", "with the weights 'other', not with 'default'"), ("default", "another version")):
        with pytest.raises(FileFormatError, match=told):
            relift(corrected, replace(previous, weights=Source(name, "0" * 64)), changed, lifter=lifter)
    adapted = replace(previous, weights=Source("default+adapted", "0" * 64))
    assert not relift(corrected, adapted, changed, lifter=lifter).frames.all(), "its copy of the weights is gone"


def test_a_pose_of_other_footage_is_refused(corrected: KeypointTrack, previous: PoseTrack, lifter: RayLifter) -> None:
    with pytest.raises(FileFormatError, match="was not lifted from these"):
        changed_frames(corrected.of(slice(0, 100)), previous)
    later = replace(corrected, time_s=corrected.time_s + 1.0)
    with pytest.raises(FileFormatError, match="without --update"):
        relift(later, previous, np.ones(FRAMES, bool), lifter=lifter)
    one, other = (Source(name, name[0] * 64) for name in ("a.mp4", "b.mp4"))
    with pytest.raises(FileFormatError, match="is of 'b.mp4' and the keypoints are of 'a.mp4'"):
        changed_frames(replace(corrected, source=one), replace(previous, source=other))
    elsewhere = replace(corrected, xy_px=corrected.xy_px + [200.0, 0.0])
    with pytest.raises(FileFormatError, match="of somebody else"):
        relift(elsewhere, previous, changed_frames(elsewhere, previous), lifter=lifter)


def panned(time_s: np.ndarray, widest_rad: float, height_m: float) -> CameraMotion:
    """A camera that turns to and fro about up: x right, y into the scene, z up."""
    angle = widest_rad * np.sin(time_s)
    world = np.tile(np.eye(4), (len(time_s), 1, 1))
    about_up = world[:, :3, :3].copy()
    about_up[:, 0, :2] = np.stack([np.cos(angle), -np.sin(angle)], -1)
    about_up[:, 1, :2] = np.stack([np.sin(angle), np.cos(angle)], -1)
    world[:, :3, :3] = about_up @ np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    world[:, 2, 3] = height_m
    return CameraMotion(world, time_s)


def test_a_moving_camera_stays_where_it_was_solved(right: KeypointTrack, lifter: RayLifter) -> None:
    motion = panned(right.time_s, 0.1, 1.5)
    base = lifted(right, lifter, camera_motion=motion)
    xy_px, changes = right.xy_px.copy(), right.changes.copy()
    xy_px[BAD, ARM] += 5.0
    changes[BAD, ARM] = Change.CORRECTED
    touched = replace(right, xy_px=xy_px, changes=changes)
    anew = relift(touched, base, changed_frames(touched, base), lifter=lifter, camera_motion=motion)
    whole = lifted(touched, lifter, camera_motion=motion)
    assert not anew.frames.all() and off_mm(anew.pose, whole, anew.frames).mean() < 15
    assert (anew.pose.world_from_camera == base.world_from_camera).all()


def test_the_floor_of_a_moving_camera_is_where_its_feet_stood(right: KeypointTrack, lifter: RayLifter) -> None:
    # Nobody says that the floor of a solve is at z = 0: here it is a hand's breadth off.
    somewhere = lifted(right, lifter, camera_motion=panned(right.time_s, 0.1, 1.5))
    up = somewhere.world_from_camera[2, :3]
    floor_m = 1.5 + floor_height(somewhere.positions_m, somewhere.contact, somewhere.time_s, up)
    motion = panned(right.time_s, 0.1, 1.5 - floor_m + 0.07)
    base = lifted(right, lifter, camera_motion=motion)
    xy_px, changes = right.xy_px.copy(), right.changes.copy()
    xy_px[BAD, ARM] += 5.0
    changes[BAD, ARM] = Change.CORRECTED
    touched = replace(right, xy_px=xy_px, changes=changes)
    anew = relift(touched, base, changed_frames(touched, base), lifter=lifter, camera_motion=motion)
    feet_m = [pose.positions_world_m()[anew.frames][:, FEET, 2] for pose in (base, anew.pose)]
    assert np.abs(feet_m[1] - feet_m[0]).mean() < 0.003


def test_a_camera_motion_that_was_not_told_is_missed(
    right: KeypointTrack, previous: PoseTrack, lifter: RayLifter
) -> None:
    motion = panned(right.time_s, 0.4, 1.5)
    base = lifted(right, lifter, camera_motion=motion)
    changed = np.zeros(FRAMES, bool)
    changed[BAD] = True
    with pytest.raises(FileFormatError, match="lifted with a --camera-motion"):
        relift(right, base, changed, lifter=lifter)
    with pytest.raises(FileFormatError, match="another --camera-motion, or none"):
        relift(right, previous, changed, lifter=lifter, camera_motion=motion)
    unfitted = lifted(right, lifter, fit=False)
    with pytest.raises(FileFormatError, match="moving camera"):
        relift(right, unfitted, changed, lifter=lifter, camera_motion=panned(right.time_s, 0.01, 1.5))


def test_frames_are_affected_as_far_as_the_lifter_looks(lifter: RayLifter, right: KeypointTrack) -> None:
    changed = np.zeros(FRAMES, bool)
    changed[BAD.start] = True
    affected = np.flatnonzero(affected_frames(changed, right.time_s, lifter))
    reach = lifter.output_frame / lifter.fps
    assert right.time_s[BAD.start] - right.time_s[affected[0]] >= reach
    assert right.time_s[affected[-1]] - right.time_s[BAD.start] >= reach
    assert (np.diff(affected) == 1).all()
    causal = load_ray_lifter(find_weights("causal"), "cpu")
    behind = np.flatnonzero(affected_frames(changed, right.time_s, causal))
    assert right.time_s[BAD.start] - right.time_s[behind[0]] < 0.3, "it looks at no later frame"
    assert right.time_s[behind[-1]] - right.time_s[BAD.start] >= causal.output_frame / causal.fps


def test_corrected_keypoints_are_not_repaired_and_their_sides_not_exchanged(
    corrected: KeypointTrack, lifter: RayLifter
) -> None:
    assert repair(corrected) is corrected
    order = mirrored_layout(LIFTER_21_NAMES)
    exchanged = replace(corrected, xy_px=corrected.xy_px[:, order], changes=np.zeros_like(corrected.changes))
    assert check_sides(exchanged, None, lifter).changes.any()
    changes = exchanged.changes.copy()
    changes[BAD, ARM] = Change.CORRECTED
    told = check_sides(replace(exchanged, changes=changes), None, lifter)
    assert (told.xy_px[BAD] == exchanged.xy_px[BAD]).all() and (told.changes[BAD][:, ARM] == Change.CORRECTED).all()


def test_sides_stay_as_the_pose_has_them_where_nothing_changed(right: KeypointTrack, lifter: RayLifter) -> None:
    order = mirrored_layout(LIFTER_21_NAMES)
    rows = slice(40, 200)
    xy_px = right.xy_px.copy()
    xy_px[rows] = xy_px[rows][:, order]
    found = replace(right, xy_px=xy_px)
    base = replace(lift(check_sides(found, None, lifter), lifter=lifter), lifted_from=found.fingerprints())
    moved, changes = xy_px.copy(), right.changes.copy()
    # Of whole bodies that artists touched, they say which side is which; the nose says nothing.
    nose = LIFTER_21_NAMES.index("nose")
    moved[BAD, nose] += 1.0
    changes[BAD, nose] = Change.CORRECTED
    touched = replace(found, xy_px=moved, changes=changes)
    changed = changed_frames(touched, base)
    checked = sides_checked(touched, changed, base, lifter)
    anew = relift(checked, base, changed, lifter=lifter)
    sides = np.array(order) != np.arange(len(order))
    seen_from = np.flatnonzero(anew.frames)
    assert np.abs(checked.xy_px[seen_from][:, sides] - right.xy_px[seen_from][:, sides]).max() < 1e-9
    assert (checked.changes[seen_from][:, sides] == Change.BODY_EXCHANGED).all()
    assert off_mm(anew.pose, base).max() < 30 and (checked.xy_px[rows.start] == found.xy_px[rows.start]).all()


def test_sides_that_were_not_checked_before_are_left_to_the_changed_frames(
    right: KeypointTrack, lifter: RayLifter
) -> None:
    order = mirrored_layout(LIFTER_21_NAMES)
    found = replace(right, xy_px=right.xy_px[:, order])
    base = lifted(found, lifter)
    changed = np.zeros(FRAMES, bool)
    changed[BAD] = True
    checked = sides_checked(found, changed, base, lifter)
    assert (checked.xy_px[~changed] == found.xy_px[~changed]).all(), "as with --no-repair, where the pose is of these"


def test_both_files_keep_what_was_corrected_and_lifted_from(
    corrected: KeypointTrack, previous: PoseTrack, tmp_path: Path
) -> None:
    write_keypoints(tmp_path / "x.keypoints.npz", corrected)
    write_pose(tmp_path / "x.pose.npz", previous)
    again, pose = read_keypoints(tmp_path / "x.keypoints.npz"), read_pose(tmp_path / "x.pose.npz")
    assert (again.changes == corrected.changes).all() and (pose.lifted_from == previous.lifted_from).all()
    assert changed_frames(again, pose).sum() == BAD.stop - BAD.start, "single precision makes no difference"


def test_poses_of_older_versions_are_lifted_anew_where_an_artist_was(
    corrected: KeypointTrack, previous: PoseTrack
) -> None:
    older = replace(previous, lifted_from=np.zeros(0, np.uint64))
    assert changed_frames(corrected, older).sum() == BAD.stop - BAD.start
