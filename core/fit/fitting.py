"""The fitting story: a first guess, the bones of this person, the motion, and then the floor that it stands on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits

from ..detector_sites import detector_sites
from ..progress import Progress, report, silent
from ..root_path import solve_root_path
from ..rotations import from_rotation_vector, inverse, multiply, normalised, to_rotation_vector
from ..segments import SEGMENTS, segment_rotations
from ..skeletons import LANDMARKS_41, LIFTER_21_NAMES
from .articulated_body import (
    BONE_GROUP,
    BONE_GROUPS,
    BodyState,
    as_hinged,
    landmarks,
    local_turns,
    stature_m,
)
from .evidence import Evidence
from .least_squares import solve_over_time, solve_with_bones
from .normal_equations import NormalEquations, gather, gather_with_bones
from .settings import FitSettings

# The bones are found from so many frames, spread over the clip.
_FRAMES_FOR_BONES = 120
_ROUNDS_FOR_BONES = 4
# A longer clip is solved in windows. Each begins with frames that are solved already and stay, and the last frames of
# each are solved again with what comes after them in view.
WINDOW = 600
HELD, _UNSETTLED = 8, 32
# A joint is not turned by more than this in one round.
_LARGEST_STEP_RAD = 0.6
_FEWER_ROUNDS = 3
# So many frames a second show where somebody goes.
_ROUGH_FPS = 15.0
# What is done to each frame by itself is done to so many at a time: an hour of them needs little room.
_BLOCK = 2048
# Nobody sees a change of two thousandths of a radian or two millimetres.
_SETTLED = 0.002

FloorOf = Callable[[np.ndarray], tuple[np.ndarray, float]]


@dataclass(frozen=True, eq=False)
class FittedBody:
    """positions_m (F, 41, 3) and segment turns (F, S, 4), in the space of the evidence; lengths_m (G,) of the bones."""

    positions_m: np.ndarray
    segments_wxyz: np.ndarray
    lengths_m: np.ndarray


def fit_body(
    evidence: Evidence,
    settings: FitSettings | None = None,
    *,
    floor_of: FloorOf | None = None,
    height_m: float | None = None,
    progress: Progress = silent,
) -> FittedBody:
    """Turn and move one skeleton of constant, symmetric bones until it agrees with what was seen.

    evidence: of every frame; its ``floor`` is not used
    height_m: how tall the person stands, where it is known; None = as tall as the lifter thinks
    floor_of: tells up (3,) and the floor's height along it from positions (F, 41, 3); None = feet may be anywhere

    Minimises confidence-weighted robust reprojection, the distance to the lifted pose by its uncertainty,
    accelerations, the speed of feet in contact and their height over the floor: the back-projection of "3D human pose
    estimation in video with temporal convolutions and semi-supervised training" at test time, on a skeleton with
    joint limits. Gauss-Newton, all frames of a window at once.
    """
    settings = settings or FitSettings()
    evidence = replace(evidence, floor=None)
    frames = len(evidence.time_s)
    passes = 1 if floor_of is None else 2

    def told(before: int) -> Callable[[int], None]:
        return lambda done: report(progress, before + done, frames * passes)

    # The matrices are small, and threads that wait for each other on a busy machine take forty times as long.
    with threadpool_limits(1, user_api="blas"):
        state = first_guess(evidence)
        lengths = _bones(state, evidence, settings)
        if height_m is not None:
            larger = height_m / stature_m(lengths)
            lengths = lengths * larger
            evidence = replace(evidence, lifted_m=evidence.lifted_m * larger)
            state = first_guess(evidence)
        state = replace(state, lengths_m=lengths)
        if floor_of is not None:
            # What comes next goes on from here, so this need not settle, and needs no more than every so many frames.
            state = _roughly_settled(state, evidence, settings, told(0))
            evidence = replace(evidence, floor=floor_of(landmarks(state)))
        state = _settled(state, evidence, settings, settings.rounds, told(frames * (passes - 1)))
    return FittedBody(landmarks(state), state.segments(), state.lengths_m)


def first_guess(evidence: Evidence) -> BodyState:
    """The lifted body made to a skeleton, at the place where it covers the keypoints best."""
    frames = len(evidence.time_s)
    lengths = _lifted_lengths(evidence)
    turn, move = evidence.camera_from_space[:, :, :3], evidence.camera_from_space[:, :, 3]
    local, sites = np.empty((frames, len(SEGMENTS), 4)), np.empty((frames, len(LIFTER_21_NAMES), 3))
    for rows in _blocks(frames):
        local[rows] = as_hinged(local_turns(segment_rotations(evidence.lifted_m[rows])))
        here = BodyState(np.zeros((len(local[rows]), 3)), local[rows], lengths)
        sites[rows] = detector_sites(landmarks(here)) @ turn[rows].swapaxes(1, 2)
    in_camera = solve_root_path(sites, evidence.rays, evidence.confidence, evidence.time_s)
    return BodyState(np.einsum("fji,fj->fi", turn, in_camera - move), local, lengths)


def _blocks(frames: int) -> list[slice]:
    return [slice(first, min(first + _BLOCK, frames)) for first in range(0, frames, _BLOCK)]


def _lifted_lengths(evidence: Evidence) -> np.ndarray:
    """(G,) weighted medians of the lengths that the lifter gives its bones, both sides together."""
    trust = 1 / np.maximum(evidence.expected_error_m, 0.005)
    lengths = np.zeros(len(BONE_GROUPS))
    for group in range(len(BONE_GROUPS)):
        found, weight = [], []
        for joint in np.flatnonzero(group == BONE_GROUP):
            parent = LANDMARKS_41.parents[joint]
            found.append(np.linalg.norm(evidence.lifted_m[:, joint] - evidence.lifted_m[:, parent], axis=-1))
            weight.append(np.minimum(trust[:, joint], trust[:, parent]))
        distance, share = np.concatenate(found), np.concatenate(weight)
        order = np.argsort(distance)
        lengths[group] = distance[order][np.searchsorted(np.cumsum(share[order]), share.sum() / 2)]
    return lengths


def _bones(state: BodyState, evidence: Evidence, settings: FitSettings) -> np.ndarray:
    """(G,) lengths that agree best with a part of the frames, each by itself."""
    rows = np.unique(np.linspace(0, len(evidence.time_s) - 1, _FRAMES_FOR_BONES).astype(int))
    part = state.of(rows)
    seen, first = evidence.of(rows), state.lengths_m
    # As many frames as there are seconds speak for themselves: errors of neighbours are alike.
    independent = max(1.0, min(len(rows), 2 * (evidence.time_s[-1] - evidence.time_s[0])))
    sure = len(rows) / independent / (settings.growth * first) ** 2
    for _ in range(_ROUNDS_FOR_BONES):
        equations = gather_with_bones(part, seen, settings)
        change, growth = solve_with_bones(equations, sure, part.lengths_m - first)
        part = part.moved(_bounded(change), growth)
    return part.lengths_m


def _bounded(change: np.ndarray) -> np.ndarray:
    return np.concatenate([change[:, :3], np.clip(change[:, 3:], -_LARGEST_STEP_RAD, _LARGEST_STEP_RAD)], axis=1)


def fit_between(
    state: BodyState,
    evidence: Evidence,
    held: tuple[int, int],
    settings: FitSettings | None = None,
    progress: Progress = silent,
) -> FittedBody:
    """Fit a stretch of a longer motion: its bones, and so many frames at both of its ends, are as they were.

    state: the ends as they were, and between them any guess; evidence: of the stretch, its ``floor`` where it is known
    """
    settings = settings or FitSettings()
    frames = len(state.root_m)
    with threadpool_limits(1, user_api="blas"):
        state = _settled(
            state, evidence, settings, settings.rounds, lambda done: report(progress, done, frames), held=held
        )
    return FittedBody(landmarks(state), state.segments(), state.lengths_m)


def _roughly_settled(
    state: BodyState, evidence: Evidence, settings: FitSettings, told: Callable[[int], None]
) -> BodyState:
    """``state`` as it settles in a few rounds of some of the frames; those between change as their neighbours do."""
    frames = len(evidence.time_s)
    rows = np.unique([*range(0, frames, _every(evidence.time_s)), frames - 1])
    begun = state.of(rows)
    found = _settled(
        begun, evidence.of(rows), settings, _FEWER_ROUNDS, lambda done: told(round(frames * done / len(rows)))
    )
    if len(rows) == frames:
        return found
    root, local = np.empty_like(state.root_m), np.empty_like(state.local)
    for block in _blocks(frames):
        # The known frames around the block.
        first = np.searchsorted(rows, block.start, "right") - 1
        near = slice(first, np.searchsorted(rows, block.stop - 1) + 1)
        before, after = begun.of(near), found.of(near)
        moved = after.root_m - before.root_m
        turned = to_rotation_vector(multiply(inverse(before.local), after.local))
        root[block] = state.root_m[block] + _between(moved, rows[near], block)
        turns = multiply(state.local[block], from_rotation_vector(_between(turned, rows[near], block)))
        local[block] = as_hinged(normalised(turns))
    return BodyState(root, local, state.lengths_m)


def _every(time_s: np.ndarray) -> int:
    """Of how many frames one is looked at at first."""
    return max(1, round(1 / (_ROUGH_FPS * float(np.median(np.diff(time_s)))))) if len(time_s) > 1 else 1


def _between(values: np.ndarray, rows: np.ndarray, block: slice) -> np.ndarray:
    """(F, ...) of what is known at ``rows``, interpolated over the frames of ``block``."""
    columns = values.reshape(len(rows), -1).T
    frames = np.arange(block.start, block.stop)
    return np.stack([np.interp(frames, rows, column) for column in columns], axis=-1).reshape(
        len(frames), *values.shape[1:]
    )


def _settled(
    state: BodyState,
    evidence: Evidence,
    settings: FitSettings,
    rounds: int,
    told: Callable[[int], None],
    held: tuple[int, int] = (0, 0),
) -> BodyState:
    """The motion that agrees with the evidence over time, the bones and ``held`` frames at both ends as they are."""
    frames = len(state.root_m)
    root, local = state.root_m.copy(), state.local.copy()
    first, held_after = held
    while True:
        before = min(first, HELD)
        rows = slice(first - before, min(first + WINDOW, frames))
        # Those at the end may reach into the last window but one.
        after = max(rows.stop - (frames - held_after), 0)
        part, seen = BodyState(root[rows], local[rows], state.lengths_m), evidence.of(rows)
        equations = NormalEquations.room_for(len(part.root_m))
        for _ in range(rounds):
            gather(part, seen, settings, equations)
            change = _bounded(solve_over_time(equations, before, after))
            part = part.moved(change, np.zeros(len(BONE_GROUPS)))
            if np.abs(change).max() < _SETTLED:
                break
        root[rows], local[rows] = part.root_m, part.local
        told(rows.stop)
        if rows.stop == frames:
            return BodyState(root, local, state.lengths_m)
        first = rows.stop - _UNSETTLED
