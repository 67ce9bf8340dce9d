"""Chunks, subsets and losses of the paper's trainer, against the specification and against truths known beforehand."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.camera import project_screen
from keylift.core.errors import FileFormatError
from keylift.core.lifter.losses import bone_length_loss, mpjpe_loss, trajectory_loss
from keylift.core.skeletons import COCO_17_NAMES, H36M_17, mirrored_layout
from keylift.training.config import settings_from_table
from keylift.training.sequences.chunks import ChunkSet, ShuffledOrder, Windows, chunk_starts
from keylift.training.sequences.config import (
    MocapData,
    SemiSupervised,
    SequenceConfig,
    SequenceLoop,
    SequenceNetwork,
)
from keylift.training.sequences.data import read_split
from keylift.training.sequences.lesson import SequenceLesson
from keylift.training.sequences.sequence import FilmedSequence, deterministic_between, subset_frames
from keylift.training.sequences.synthetic_film import film, split_labelled
from training_runs import write_motion

MIRROR = mirrored_layout(H36M_17.names)
LENS = np.array([2.3, 2.3, 0.02, -0.01, -0.2, 0.2, 0.0, 0.001, -0.002])


def numbered(frames: int, subject: str = "S1", layout: int = 17, labelled: bool = True) -> FilmedSequence:
    """A sequence whose keypoints tell their frame (x) and point (y)."""
    keypoints = np.stack(np.meshgrid(np.arange(frames) + 1.0, np.arange(layout), indexing="ij"), axis=-1)
    positions = np.arange(frames)[:, None, None] + np.arange(17)[:, None] / 100 + np.array([1.0, 2.0, 3.0])
    return FilmedSequence(subject, "Walk", "c1", keypoints, positions if labelled else None, LENS, 50.0)


@pytest.mark.parametrize(
    ("length", "stride", "starts"),
    [
        (5, 1, [0, 1, 2, 3, 4]),
        (7, 3, [-1, 2, 5]),
        (6, 4, [-1, 3]),
        (1, 4, [-1]),
        (8, 4, [0, 4]),
        (3, 10, [-3]),
    ],
)
def test_chunks_cover_a_sequence_and_stick_out_alike_at_both_ends(length, stride, starts):
    assert chunk_starts(length, stride).tolist() == starts


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    stride=st.integers(1, 6),
    field=st.sampled_from([1, 3, 9, 27]),
    causal=st.booleans(),
)
def test_every_window_holds_the_frames_that_the_specification_says(lengths, stride, field, causal):
    sequences = [numbered(length, f"S{number}") for number, length in enumerate(lengths)]
    chunks = ChunkSet(sequences, Windows(field, causal, stride), MIRROR, MIRROR)
    batch = chunks.batch(np.arange(len(chunks)))
    pad, shift = (field - 1) // 2, (field - 1) // 2 if causal else 0
    number = 0
    for length in lengths:
        count = -(-length // stride)
        for k in range(count):
            start = k * stride - (count * stride - length) // 2
            window = [min(max(f, 0), length - 1) for f in range(start - pad - shift, start + stride + pad - shift)]
            answers = [min(max(f, 0), length - 1) for f in range(start, start + stride)]
            assert (batch.keypoints[number, :, 0, 0] - 1).tolist() == window
            assert (batch.positions_m[number, :, 0, 0] - 1).tolist() == pytest.approx(answers)
            assert (batch.keypoints[number, chunks.windows.output, 0, 0] - 1).tolist() == answers
            number += 1
    assert number == len(chunks)


def test_flipped_chunks_come_after_all_plain_ones_and_mirror_points_joints_and_lens():
    chunks = ChunkSet([numbered(4), numbered(3)], Windows(3), MIRROR, MIRROR, flip=True)
    assert len(chunks) == 14
    plain, flipped = chunks.batch(np.arange(7)), chunks.batch(np.arange(7, 14))
    assert np.array_equal(flipped.keypoints[..., 0], -plain.keypoints[..., 0])
    left, right = H36M_17.indices("left_wrist", "right_wrist")
    assert np.array_equal(flipped.keypoints[:, :, left, 1], plain.keypoints[:, :, right, 1])
    assert np.array_equal(flipped.positions_m[:, :, left, 1:], plain.positions_m[:, :, right, 1:])
    assert np.array_equal(flipped.positions_m[:, :, 0, 0], -plain.positions_m[:, :, 0, 0])
    assert np.array_equal(flipped.intrinsics, plain.intrinsics * [1, 1, -1, 1, 1, 1, 1, -1, 1])
    # What the lens sees of the mirrored body is the mirror image of what it sees of the body.
    points = np.random.default_rng(0).normal(size=(5, 3)) * [0.5, 0.5, 0.3] + [0, 0, 4]
    seen = project_screen(points, plain.intrinsics[0].astype(float))
    mirrored = project_screen(points * [-1, 1, 1], flipped.intrinsics[0].astype(float))
    assert np.allclose(mirrored, seen * [-1, 1], atol=1e-7)


def test_sequences_of_different_layouts_are_not_learnt_together():
    with pytest.raises(FileFormatError, match="S2/Walk/c1"):
        ChunkSet([numbered(4), numbered(4, "S2", layout=15)], Windows(3), MIRROR, MIRROR)


def test_the_order_is_a_new_permutation_each_pass_and_can_be_entered_anywhere():
    order = ShuffledOrder(10, 4, 1234)
    random = np.random.RandomState(1234)
    passes = [random.permutation(10) for _ in range(3)]
    assert [len(order.batch(number)) for number in range(3)] == [4, 4, 2]
    for number in (7, 0, 8, 3, 5):
        wanted = passes[number // 3][number % 3 * 4 : number % 3 * 4 + 4]
        assert order.batch(number).tolist() == wanted.tolist()
        assert ShuffledOrder(10, 4, 1234).batch(number).tolist() == wanted.tolist()


def test_a_chunk_that_would_be_alone_in_its_batch_joins_the_one_before():
    order = ShuffledOrder(9, 4, 1234)
    assert [len(order.batch(number)) for number in range(4)] == [4, 5, 4, 5]
    assert sorted(np.concatenate([order.batch(0), order.batch(1)])) == list(range(9))


@pytest.mark.parametrize(("length", "subset", "step"), [(1000, 0.1, 1), (1383, 0.01, 5), (50, 0.5, 5), (7, 0.1, 1)])
def test_a_subset_is_the_run_of_frames_that_the_specification_says(length, subset, step):
    kept = int(round(length // step * subset) * step)
    first = int.from_bytes(hashlib.sha256(str(length).encode()).digest()[:4], "little") / (2**32 - 1)
    start = int(first * (length - kept + 1 - 0)) + 0
    assert subset_frames(length, subset, step) == slice(start, start + kept, step)
    assert subset_frames(length, 1.0, step) == slice(None, None, step)
    assert deterministic_between(3, 4, "anything") == 3


TABLES = {
    "mocap": {"kind": "mocap", "train": "a", "valid": "b", "test": "c"},
    "human36m": {"kind": "human36m", "keypoints": "a"},
}


@pytest.mark.parametrize(
    ("kind", "table", "key", "value"),
    [
        ("human36m", "data", "downsample", 0),
        ("human36m", "data", "subset", 0.0),
        ("human36m", "data", "subset", 1.5),
        ("mocap", "data", "cameras", 0),
        ("mocap", "data", "fps", 0.0),
        ("mocap", "data", "fps", float("inf")),
        ("mocap", "data", "camera_seed", -1),
        ("mocap", "data", "label_seed", -1),
        ("mocap", "data", "labelled_part", 0.0),
        ("mocap", "data", "labelled_part", 1.1),
        ("mocap", "data.noise", "constant", -0.1),
        ("mocap", "data.noise", "smooth", -0.1),
        ("mocap", "data.noise", "jitter", -0.1),
        ("mocap", "data.noise", "memory_frames", -1.0),
        ("mocap", "network", "widths", [3, 4]),
        ("mocap", "network", "widths", [3, -3]),
        ("mocap", "network", "channels", 0),
        ("mocap", "network", "dropout", 1.0),
        ("mocap", "loop", "epochs", 0),
        ("mocap", "loop", "batch", 1),
        ("mocap", "loop", "stride", 0),
        ("mocap", "loop", "learning_rate", 0.0),
        ("mocap", "loop", "learning_rate", float("nan")),
        ("mocap", "loop", "learning_rate_decay", 0.0),
        ("mocap", "loop", "learning_rate_decay", 1.01),
        ("mocap", "loop", "steps_per_epoch", -1),
        ("mocap", "loop", "validate_every", 0),
        ("mocap", "loop", "checkpoint_every_s", -1.0),
        ("mocap", "loop", "precision", "float16"),
        ("mocap", "semi_supervised", "warm_up_epochs", -1),
        ("mocap", "semi_supervised", "bone_weight", -1.0),
    ],
)
def test_a_setting_out_of_its_range_is_named(kind: str, table: str, key: str, value: object) -> None:
    settings = {"name": "x", "method": "sequences", "data": dict(TABLES[kind])}
    settings_from_table(SequenceConfig, settings)
    place = settings
    for name in table.split("."):
        place = place.setdefault(name, {})
    place[key] = value
    with pytest.raises(FileFormatError, match=rf"^{key} in \[{table}\] must be "):
        settings_from_table(SequenceConfig, settings)


def test_a_part_too_small_for_a_single_frame_is_named(tmp_path) -> None:
    write_motion(tmp_path / "walk.npz")
    data = MocapData("mocap", *["walk.npz"] * 3, labelled_part=0.001)
    for split in ("train", "unlabelled"):
        with pytest.raises(FileFormatError, match="labelled_part .* is 0.001, which is not a single frame"):
            read_split(data, tmp_path, split)
    assert len(read_split(replace(data, labelled_part=0.01), tmp_path, "train").sequences[0]) == 2


def config(semi: SemiSupervised | None = None, causal: bool = False, **loop) -> SequenceConfig:
    return SequenceConfig(
        "x",
        "sequences",
        MocapData("mocap", "", "", ""),
        SequenceNetwork((3, 3), 16, 0.0, causal),
        SequenceLoop(**{"epochs": 2, "batch": 8, **loop}),
        semi or SemiSupervised(),
    )


def looking_at(frames: int = 20, labelled: bool = True, seed: int = 0, layout: str = "h36m17") -> FilmedSequence:
    """A body that wiggles before a camera, and its true keypoints."""
    rng = np.random.default_rng(seed)
    body = rng.normal(0, 0.3, (1, 17, 3)) + 0.02 * rng.normal(size=(frames, 17, 3)).cumsum(axis=0) * 0.1
    body[:, 0] = 0
    root = np.array([0.2, 0.1, 4.0]) + 0.05 * np.arange(frames)[:, None] * np.array([0.1, 0, 0.2])
    seen = project_screen(body + root[:, None], LENS)
    if layout == "coco17":
        coco = np.zeros((frames, 17, 2))
        for point, joint in [(5, 11), (6, 14), (7, 12), (8, 15), (9, 13), (10, 16), (11, 4), (12, 1)]:
            coco[:, point] = seen[:, joint]
        for point, joint in [(13, 5), (14, 2), (15, 6), (16, 3)]:
            coco[:, point] = seen[:, joint]
        coco[:, :5] = 7.0
        seen = coco
    positions = body.copy()
    positions[:, 0] = root
    return FilmedSequence("S1", "Walk", "c1", seen, positions if labelled else None, LENS, 50.0)


class Answers(torch.nn.Module):
    """Stands in for a network: gives the truth that belongs to a window's output frames."""

    def __init__(self, network, truth, windows):
        super().__init__()
        self.config, self.shrink, self.truth, self.windows = network.config, network.shrink, truth, windows

    def forward_window(self, keypoints):
        # The truth is found by its picture; flipped windows are not made in these tests.
        wanted = keypoints[:, self.windows.output.start].flatten(1)
        index = torch.cdist(wanted, self.truth[0].flatten(1)).argmin(dim=1)
        return self.truth[1][index][:, None]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("layout", ["h36m17", "coco17"])
def test_true_poses_lose_nothing_in_any_term(causal, layout):
    """The projection is compared with the output frame (the last, if causal) and with the joints that both have."""
    sequence = looking_at(layout=layout)
    lesson = SequenceLesson(
        config(SemiSupervised(True, 0), causal, flip=False), [sequence], [sequence.without_labels()], layout, H36M_17
    )
    pictures = torch.from_numpy(sequence.keypoints.astype(np.float32))
    body = torch.from_numpy(sequence.positions_m.astype(np.float32))
    roots = body[:, :1].clone()
    body[:, 0] = 0
    lesson.lifter = Answers(lesson.lifter, (pictures, body), lesson.windows)
    lesson.trajectory = Answers(lesson.trajectory, (pictures, roots), lesson.windows)
    parts = lesson(lesson.batch(0))
    assert set(parts) == {"loss", "pose", "trajectory", "projection", "bones"}
    # Labelled and unlabelled batches are different frames, so that the bones of this wiggly body differ a little.
    assert all(float(parts[name]) < 1e-5 for name in ("pose", "trajectory", "projection"))


def test_losses_are_what_they_are_by_hand():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 1, 17, 3))
    loss = float(mpjpe_loss(torch.tensor(a), torch.tensor(b)))
    assert loss == pytest.approx(np.sqrt(((a - b) ** 2).sum(-1)).mean(), rel=1e-12)
    root, said = rng.normal(size=(4, 1, 3)) + [0, 0, 5], rng.normal(size=(4, 1, 3))
    wanted = np.mean(np.linalg.norm(root - said, axis=-1) / root[..., 2])
    assert float(trajectory_loss(torch.tensor(said), torch.tensor(root))) == pytest.approx(wanted, rel=1e-12)
    lengths = [
        np.linalg.norm(x[:, :, 1:] - x[:, :, list(H36M_17.parents[1:])], axis=-1).mean(axis=(0, 1)) for x in (a, b[:3])
    ]
    found = float(bone_length_loss(torch.tensor(a), torch.tensor(b[:3]), H36M_17.parents))
    assert found == pytest.approx(np.abs(lengths[0] - lengths[1]).mean(), rel=1e-12)


def test_the_bone_term_teaches_through_both_halves():
    a, b = (torch.randn(4, 1, 17, 3, requires_grad=True) for _ in range(2))
    bone_length_loss(a, b, H36M_17.parents).backward()
    assert a.grad.abs().sum() > 0 and b.grad.abs().sum() > 0


def test_warm_up_sees_labelled_chunks_alone_and_ablations_leave_their_term_out():
    labelled, unlabelled = looking_at(), looking_at(seed=1).without_labels()

    def parts(step: int, **settings) -> set[str]:
        lesson = SequenceLesson(config(SemiSupervised(True, **settings)), [labelled], [unlabelled], "h36m17", H36M_17)
        return set(lesson(lesson.batch(step))) - {"loss"}

    assert parts(0) == {"pose", "trajectory"} == parts(4)
    assert parts(5) == {"pose", "trajectory", "projection", "bones"}
    assert parts(5, projection=False) == {"pose", "trajectory", "bones"}
    assert parts(5, bone_term=False) == {"pose", "trajectory", "projection"}


def test_labelled_and_unlabelled_chunks_share_batch_statistics():
    lesson = SequenceLesson(
        config(SemiSupervised(True, 0)), [looking_at()], [looking_at(seed=1).without_labels()], "h36m17", H36M_17
    ).train()
    seen = []
    lesson.lifter.expand_bn.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    lesson(lesson.batch(0))
    assert seen == [2 * 8 * 3]


def test_momentum_and_rate_follow_the_epoch():
    lesson = SequenceLesson(config(epochs=4, batch=10), [looking_at()], [], "h36m17", H36M_17)
    optimiser = lesson.make_optimiser()
    assert lesson.steps_per_epoch == 4
    for step, epoch in [(0, 0), (3, 0), (4, 1), (15, 3)]:
        lesson.prepare_step(step, optimiser)
        assert lesson.lifter.expand_bn.momentum == pytest.approx(0.1 * 0.01 ** (epoch / 4))
        assert optimiser.param_groups[0]["lr"] == pytest.approx(1e-3 * 0.95**epoch)
    assert optimiser.param_groups[0]["amsgrad"]


def test_unlabelled_film_without_a_camera_is_refused():
    film_only = FilmedSequence("S2", "Walk", "c", looking_at().keypoints, None, None, 50.0)
    with pytest.raises(FileFormatError, match="camera"):
        SequenceLesson(config(SemiSupervised(True)), [looking_at()], [film_only], "h36m17", H36M_17)
    with pytest.raises(FileFormatError, match="unlabelled"):
        SequenceLesson(config(SemiSupervised(True)), [looking_at()], [], "h36m17", H36M_17)
    scored = FilmedSequence("S3", "Walk", "c", np.ones((20, 17, 3)), None, LENS, 50.0)
    with pytest.raises(FileFormatError, match="17 of 3"):
        SequenceLesson(config(SemiSupervised(True)), [looking_at()], [scored], "h36m17", H36M_17)


def test_synthetic_film_shows_the_whole_person_and_matches_its_labels(walking_motion):
    data = MocapData("mocap", "", "", "", cameras=3)
    quiet = MocapData("mocap", "", "", "", cameras=3, noise=type(data.noise)(0, 0, 0))
    sequences = film(walking_motion, quiet, 1)
    assert len(sequences) == 3 * len(walking_motion.clip_name)
    for sequence in sequences:
        absolute = sequence.positions_m.astype(float)
        absolute[:, 1:] += absolute[:, :1]
        assert np.allclose(project_screen(absolute, sequence.intrinsics), sequence.keypoints, atol=1e-5)
        assert np.abs(sequence.keypoints).max() < 1 and absolute[..., 2].min() > 1.5
        # Heads are up, and up is -y.
        assert (absolute[:, 10, 1] < absolute[:, 0, 1]).mean() > 0.95
    noisy = film(walking_motion, data, 1)
    error = np.linalg.norm(noisy[0].keypoints - sequences[0].keypoints, axis=-1)
    assert 0.002 < error.mean() < 0.05
    again = film(walking_motion, data, 1)
    assert np.array_equal(noisy[1].keypoints, again[1].keypoints)


@pytest.mark.parametrize("part", [0.01, 0.3, 1.0])
def test_exactly_the_wanted_part_is_labelled_and_nothing_is_lost(part, walking_motion):
    data = MocapData("mocap", "", "", "", cameras=2)
    sequences = film(walking_motion, data, 1)
    labelled, unlabelled = split_labelled(sequences, part, 2, 7)
    total = sum(map(len, sequences))
    assert sum(map(len, labelled)) == 2 * round(part * total / 2)
    assert sum(map(len, labelled)) + sum(map(len, unlabelled)) == total
    assert all(sequence.positions_m is None for sequence in unlabelled)
    assert {sequence.camera for sequence in labelled} == {"camera1", "camera2"}


def test_names_are_mirrored_by_anatomy():
    order = mirrored_layout(COCO_17_NAMES)
    assert [COCO_17_NAMES[i] for i in order][5:7] == ["right_shoulder", "left_shoulder"] and order[0] == 0
