"""Fewer keys: smooth curves through some of the frames that stay within a bound of the motion keyed on every frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.progress import Progress, report, silent
from ..core.rotations import angle_between_rad, inverse, multiply, to_rotation_vector
from .bone_motion import BoneMotion, fk, location_axes
from .hermite_curves import KeyedCurves, corners, hermite, smooth_slopes, straight_between
from .rest_pose import RestPose
from .rotation_channels import from_channels, rotation_channels

# A planted foot may be off by this part of what other joints may.
_PLANTED_SHARE = 0.2
# Half-way between frames nothing was seen. A key on every frame draws straight lines with corners; someone who moves
# draws curves. A curve may part from the lines by this much; and a reduced motion may be off from the lines as far as
# anywhere, or this part of it from the curve.
_CORNER_RAD = np.radians(0.25)
_CORNER_M = 0.0025
_SMOOTH_SHARE = 0.5
# Errors are driven a hair below the bound, so that 32-bit curves in Blender keep it too.
_MARGIN = 0.99
# Below this, rounding has a say.
_SMALLEST_TOLERANCE = 1e-3
_SMALLEST_TURN_RAD = 1e-6
_UNCHANGED = 1e-9
_WIDEST_CHANNEL = 4
_REMOVAL_PASSES = 6
_GENTLE_ROUNDS = 20
# The matrices of all bones at all samples of a long take would not fit in memory.
_SAMPLES_AT_ONCE = 4096
# Half-way between two keyed frames a bone's slopes can be at fault, which takes more than one key to mend. As long as
# a key of another bone mends this part of the error, it gets one first.
_WORTH_A_KEY = 0.2


@dataclass(frozen=True)
class KeyTolerance:
    """How far a reduced motion may be from the full one, at frames and half-way between them.

    angle_deg:   of any bone, in its own turn against its parent
    distance_mm: of any joint (head or tail of a keyed or moved bone) in the world; of a planted foot a fifth of it

    Between frames the full motion is where straight lines from key to key lead, or a smooth curve through all frames
    that stays within a quarter of a degree and 2.5 mm of them: neither is known to be right.
    """

    angle_deg: float = 0.5
    distance_mm: float = 5.0

    def __post_init__(self) -> None:
        if not (self.angle_deg >= _SMALLEST_TOLERANCE and self.distance_mm >= _SMALLEST_TOLERANCE):
            raise ValueError(f"KeyTolerance needs an angle and a distance of at least {_SMALLEST_TOLERANCE}.")


@dataclass(frozen=True, eq=False)
class SparseChannel:
    """The keys of one property of one bone.

    bone:   index into ``RestPose.names``
    path:   rotation_quaternion, rotation_euler, rotation_axis_angle or location
    keys:   (K,) which frames keep a key, by index, rising
    values: (K, C)
    slopes: (K, C) a unit of the timeline, the same on both sides of a key: a Bezier handle a third of the way to the
            neighbouring key at time t lies at value + slope * (t - time of the key) / 3
    """

    bone: int
    path: str
    keys: np.ndarray
    values: np.ndarray
    slopes: np.ndarray


def reduce_keys(
    rest: RestPose,
    motion: BoneMotion,
    frames: np.ndarray,
    tolerance: KeyTolerance,
    kept: np.ndarray | None = None,
    planted: dict[int, np.ndarray] | None = None,
    progress: Progress = silent,
) -> list[SparseChannel]:
    """The fewest keys found whose curves stay within ``tolerance`` of ``motion`` keyed on every frame.

    frames:  (F,) rising places on the timeline, fractions allowed
    kept:    (F,) True where every channel must keep a key: a contact begins or ends
    planted: bone -> (F,) True while the bone's head must stay where it is
    progress: hears how many rounds of adding keys there were, not of how many

    The rotation of each keyed bone comes first, then the location of each moved one. First and last frame always keep
    their keys.
    """
    if len(frames) != len(motion) or not (np.diff(frames) > 0).all():
        raise ValueError("reduce_keys needs a place on the timeline for every frame, in rising order.")
    report(progress, 0, None)
    full = _FullMotion(rest, motion, frames)
    if len(frames) == 1:
        keyed = np.ones((len(full.tracks), 1), dtype=bool)
        return full.channels(keyed, np.zeros((*keyed.shape, _WIDEST_CHANNEL)))
    keyed = np.zeros((len(full.tracks), len(frames)), dtype=bool)
    if kept is not None:
        keyed |= kept
    curves = KeyedCurves(full.places, full.smooth, full.slopes, keyed)
    must_keep = curves.keyed.copy()
    bounds = _Bounds(full, tolerance, planted or {})
    curves.fit(np.arange(len(full.tracks)))
    _add_keys_until_bones_hold(curves, bounds, np.arange(len(full.tracks)))
    _drop_spare_keys(curves, bounds, must_keep)
    _add_keys_until_the_rig_holds(curves, bounds, progress)
    return full.channels(curves.keyed, curves.slopes)


@dataclass(frozen=True)
class _Track:
    """One property of one bone, with how many components."""

    bone: int
    path: str
    width: int


class _FullMotion:
    """The motion as a key on every frame gives it, at the frames and half-way between them.

    places:   (T,) on the timeline, T = 2 F - 1
    straight: (N, T, 4) channel values, narrow channels filled up with 0; rotations come first
    smooth:   (N, T, 4) the same, but on curves with these slopes:
    slopes:   (N, F, 4) a unit of the timeline
    """

    def __init__(self, rest: RestPose, motion: BoneMotion, frames: np.ndarray) -> None:
        self.rest, self.motion = rest, motion
        self.frames = np.asarray(frames, dtype=float)
        self.places = straight_between(self.frames)
        self.tracks: list[_Track] = []
        curves = len(motion.keyed) + len(motion.moved)
        self.straight = np.zeros((curves, len(self.places), _WIDEST_CHANNEL))
        self.slopes = np.zeros((curves, len(frames), _WIDEST_CHANNEL))
        self.modes = np.array([rest.rotation_modes[bone] for bone in motion.keyed])
        for row, (bone, mode) in enumerate(zip(motion.keyed, self.modes, strict=True)):
            self._add(bone, *rotation_channels(mode, motion.rotations_wxyz[:, row]))
        for row, bone in enumerate(motion.moved):
            self._add(bone, "location", motion.locations[:, row])
        self._bend_gently()

    def _add(self, bone: int, path: str, values: np.ndarray) -> None:
        row, width = len(self.tracks), values.shape[1]
        self.straight[row, :, :width] = straight_between(values)
        self.slopes[row, :, :width] = smooth_slopes(self.frames, values)
        self.tracks.append(_Track(bone, path, width))

    def _bend_gently(self) -> None:
        """Where curves would part too far from straight lines, as at sudden jumps, make their slopes less steep."""
        rounds = 0
        while True:
            self.smooth = self.straight.copy()
            self.smooth[:, 1::2] += corners(self.frames, self.slopes)
            parted = self._corner_shares()
            if not (parted > 1).any():
                return
            # Less steep here may be too far there, so it can take a few rounds. Without slopes nothing parts.
            rounds += 1
            less = 0.95 / np.maximum(parted, 0.95) if rounds < _GENTLE_ROUNDS else np.where(parted > 1, 0.0, 1.0)
            self.slopes[:, :-1] *= less[..., None]
            self.slopes[:, 1:] *= less[..., None]

    def _corner_shares(self) -> np.ndarray:
        """(N, F - 1) how far the curves cut corners, as a share of what they may."""
        rotations = np.arange(len(self.modes))
        straight, smooth = self.straight[:, 1::2], self.smooth[:, 1::2]
        turned = _angle_rad(self.turns_of(straight, rotations), self.turns_of(smooth, rotations))
        moved = np.linalg.norm(straight[len(rotations) :] - smooth[len(rotations) :], axis=-1)
        return np.concatenate([turned / _CORNER_RAD, moved * self.rest.scale / _CORNER_M])

    def turns_of(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """(n, T, 4) what Blender makes of channel values (n, T, 4) of the rotations ``rows`` (n,)."""
        values = values[: len(rows)]
        turns = np.empty_like(values)
        for mode in sorted(set(self.modes)):
            mine = self.modes[rows] == mode
            turns[mine] = from_channels(mode, values[mine])
        return turns

    def posed(self, values: np.ndarray, bones: list[int]) -> np.ndarray:
        """(T, B, 4, 4) armature space: where channel values (N, T, 4) bring bones, as Blender does it."""
        rotations = len(self.modes)
        turns = np.moveaxis(self.turns_of(values, np.arange(rotations)), 0, 1)
        locations = np.moveaxis(values[rotations:, :, :3], 0, 1)
        motion, nowhen = self.motion, np.zeros(len(turns), dtype=int)
        sampled = BoneMotion(
            keyed=motion.keyed,
            rotations_wxyz=turns,
            moved=motion.moved,
            locations=locations,
            world_scale=motion.world_scale,
            time_s=nowhen.astype(float),
            frame_index=nowhen,
            fps=motion.fps,
            bone_map=motion.bone_map,
        )
        return fk(self.rest, sampled, bones)

    def joints(self, values: np.ndarray, bones: list[int]) -> np.ndarray:
        """(T, 2 B, 3) heads, then tails of bones, armature space, where channel values (N, T, 4) bring them."""
        joints = np.empty((values.shape[1], 2 * len(bones), 3))
        for start in range(0, len(joints), _SAMPLES_AT_ONCE):
            part = slice(start, start + _SAMPLES_AT_ONCE)
            joints[part] = _heads_and_tails(self.rest, bones, self.posed(values[:, part], bones))
        return joints

    def channels(self, keyed: np.ndarray, slopes: np.ndarray) -> list[SparseChannel]:
        """What was found, as it travels. keyed: (N, F), slopes: (N, F, 4)"""
        found = []
        for row, track in enumerate(self.tracks):
            keys = np.flatnonzero(keyed[row])
            values = self.straight[row, 2 * keys, : track.width]
            found.append(SparseChannel(track.bone, track.path, keys, values, slopes[row, keys, : track.width]))
        return found


class _Bounds:
    """Where curves are further from the full motion than they may be, and which bone's keys can mend it."""

    def __init__(self, full: _FullMotion, tolerance: KeyTolerance, planted: dict[int, np.ndarray]) -> None:
        rest, motion = full.rest, full.motion
        keyed, moved = list(motion.keyed), list(motion.moved)
        self.full, self.rotations = full, len(keyed)
        self.bones = keyed + moved + sorted(set(planted) - {*keyed, *moved})
        # From here on, R rotations and M locations make N curves.
        parents = [max(rest.parents[bone], 0) for bone in moved]
        posed = full.posed(full.smooth, self.bones + parents)
        # How each keyed bone stands, where it turns, and along which axes each moved one goes.
        self.standing, self.heads = posed[:, : len(keyed), :3, :3], posed[:, : len(keyed), :3, 3]
        self.axes = [
            location_axes(rest, bone, posed[:, len(self.bones) + column, :3, :3] if rest.parents[bone] >= 0 else None)
            for column, bone in enumerate(moved)
        ]
        rotations = np.arange(len(keyed))
        self.turns, self.straight_turns = (full.turns_of(values, rotations) for values in (full.smooth, full.straight))
        self.joints = _heads_and_tails(rest, self.bones, posed[:, : len(self.bones)])
        self.straight_joints = full.joints(full.straight, self.bones)
        # As last looked at: most curves stay as they are from one round of adding keys to the next.
        self.seen, self.joints_seen = full.smooth.copy(), self.joints.copy()
        self.smooth_share = np.where(np.arange(len(full.places)) % 2 == 0, 1.0, _SMOOTH_SHARE)
        carriers = [set(rest.ancestors(bone)) for bone in self.bones]
        self.carried_by = np.array([[bone in line for bone in keyed + moved] for line in carriers * 2])
        self._allow(tolerance, planted)

    def _allow(self, tolerance: KeyTolerance, planted: dict[int, np.ndarray]) -> None:
        """may_turn (R, T) radians; may_move (M, T) and, for joints, may_be_off (T, 2 B), armature units."""
        samples = len(self.full.places)
        angle_rad = np.radians(tolerance.angle_deg) * _MARGIN
        distance = tolerance.distance_mm * _MARGIN / (1000 * self.full.rest.scale)
        self.may_turn = np.full((self.rotations, samples), angle_rad)
        self.may_move = np.full((len(self.full.tracks) - self.rotations, samples), distance)
        self.may_be_off = np.full((samples, self.joints.shape[1]), distance)
        for joint, bone in enumerate(self.bones):
            if bone not in planted:
                continue
            stands = straight_between(planted[bone].astype(float)) == 1.0
            close = distance * _PLANTED_SHARE
            self.may_be_off[stands, joint] = close
            # Half-way, all of them follow the same curve or none does.
            stands[1::2] = False
            # No bone above it may spoil it all by itself: known from the start, that costs fewer keys than found later.
            for row in np.flatnonzero(self.carried_by[joint]):
                if row < self.rotations:
                    arm = np.linalg.norm(self.joints[stands, joint] - self.heads[stands, row], axis=-1)
                    may_turn = np.maximum(close / np.maximum(arm, close), _SMALLEST_TURN_RAD)
                    self.may_turn[row, stands] = np.minimum(self.may_turn[row, stands], may_turn)
                else:
                    self.may_move[row - self.rotations, stands] = close

    def own(self, curves: KeyedCurves, rows: np.ndarray) -> np.ndarray:
        """(n, T) how far curves are off in themselves, as a share of what they may be. rows: (n,) rising"""
        turning, moving = rows[rows < self.rotations], rows[rows >= self.rotations]
        turns = self.full.turns_of(curves.curves[turning], turning)
        turned = np.minimum(
            _angle_rad(turns, self.straight_turns[turning]), _angle_rad(turns, self.turns[turning]) / self.smooth_share
        )
        moved = np.minimum(
            np.linalg.norm(curves.curves[moving] - self.full.straight[moving], axis=-1),
            np.linalg.norm(curves.curves[moving] - self.full.smooth[moving], axis=-1) / self.smooth_share,
        )
        return np.concatenate([turned / self.may_turn[turning], moved / self.may_move[moving - self.rotations]])

    def at_fault(self, curves: KeyedCurves, all_carriers: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of joints that are too far off in the world: (V,) curves to blame, (V,) at which sample, (V,) how far the
        joint is off there, as a share of what it may be.

        For each such joint, where it is worst, it is the curve whose error has most to do with it, or else all those of
        the bones that carry it.
        """
        self._look_at(curves)
        off = np.linalg.norm(self.joints_seen - self.joints, axis=-1) / self.smooth_share[:, None]
        off = np.minimum(off, np.linalg.norm(self.joints_seen - self.straight_joints, axis=-1)) / self.may_be_off
        # One joint a sample: mostly the others are off for the same reason, and where not, it is their turn next.
        joint = np.argmax(off, axis=1)
        off = off[np.arange(len(off)), joint]
        around = np.pad(off, 1)
        time = np.flatnonzero((off > 1) & (off >= around[:-2]) & (off >= around[2:]))
        off, joint = off[time], joint[time]
        if all_carriers:
            which, rows = np.nonzero(self.carried_by[joint])
            return rows, time[which], off[which]
        shares = np.where(self.carried_by[joint], self._shares(curves, time, joint), -np.inf)
        no_frame_left = (curves.keyed[:, time // 2] & curves.keyed[:, (time + 1) // 2]).T
        with_a_frame = np.where(no_frame_left, -np.inf, shares)
        worth = with_a_frame.max(axis=1, keepdims=True, initial=-np.inf) > _WORTH_A_KEY
        return np.argmax(np.where(worth, with_a_frame, shares), axis=1), time, off

    def _look_at(self, curves: KeyedCurves) -> None:
        """Bring ``joints_seen`` up to date where curves have changed."""
        changed = np.flatnonzero((np.abs(curves.curves - self.seen) > _UNCHANGED).any(axis=(0, 2)))
        now = curves.curves[:, changed]
        self.seen[:, changed] = now
        self.joints_seen[changed] = self.full.joints(now, self.bones)

    def _shares(self, curves: KeyedCurves, time: np.ndarray, joint: np.ndarray) -> np.ndarray:
        """(V, N) which part of the error of a joint (V,) at a sample (V,) each curve makes, to first order."""
        rotations = np.arange(self.rotations)
        wanted, values = self.turns[:, time], curves.curves[:, time]
        wrong_turn = to_rotation_vector(multiply(inverse(wanted), self.full.turns_of(values, rotations)))
        about = (self.standing[time] @ np.moveaxis(wrong_turn, 0, 1)[..., None])[..., 0]
        shifts = np.empty((len(time), len(values), 3))
        shifts[:, rotations] = np.cross(about, self.joints[time, joint][:, None] - self.heads[time])
        for row, axes in enumerate(self.axes, start=self.rotations):
            wrong_place = values[row, :, :3] - self.full.smooth[row, time, :3]
            along = np.broadcast_to(axes, (len(self.full.places), 3, 3))[time]
            shifts[:, row] = (along @ wrong_place[..., None])[..., 0]
        error = self.joints_seen[time, joint] - self.joints[time, joint]
        return np.sum(shifts * error[:, None], axis=-1) / np.sum(error**2, axis=-1, keepdims=True)


def _angle_rad(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of the turn between (..., 4) unit quaternions, to some 1e-8 radians: that is enough here, and quick."""
    return 2 * np.arccos(np.minimum(np.abs(np.einsum("...c,...c->...", a, b)), 1.0))


def _heads_and_tails(rest: RestPose, bones: list[int], posed: np.ndarray) -> np.ndarray:
    """(T, 2 B, 3) of bones posed as (T, B, 4, 4), armature space."""
    heads = posed[..., :3, 3]
    return np.concatenate([heads, heads + posed[..., :3, 1] * rest.lengths[bones][:, None]], axis=1)


def _add_keys_until_bones_hold(curves: KeyedCurves, bounds: _Bounds, rows: np.ndarray) -> None:
    """Add a key at the worst place of every stretch that is off by too much in itself, until there is none."""
    while len(rows):
        off = bounds.own(curves, rows)
        row, time = np.nonzero(off > 1)
        rows = _add_keys(curves, rows[row], time, off[row, time])
        curves.fit(rows)


def _add_keys_until_the_rig_holds(curves: KeyedCurves, bounds: _Bounds, progress: Progress) -> None:
    """Add keys to the bones that are to blame for joints that are too far off in the world, until there are none."""
    rounds, all_carriers = 0, False
    while True:
        rows, times, off = bounds.at_fault(curves, all_carriers)
        if not len(rows):
            return
        rounds += 1
        report(progress, rounds, None)
        changed = _add_keys(curves, rows, times, off)
        # The blame goes by first order. Should it fall on bones with all keys there are, all that carry the joint get
        # some; with keys on every frame the motion is the full one.
        if not len(changed) and all_carriers:
            return
        all_carriers = not len(changed)
        curves.fit(changed)
        _add_keys_until_bones_hold(curves, bounds, changed)


def _add_keys(curves: KeyedCurves, rows: np.ndarray, times: np.ndarray, off: np.ndarray) -> np.ndarray:
    """Of curves (V,) too far ``off`` at samples ``times``: give each stretch between keys another where it is worst.

    Half-way between two frames with keys there is no place left for one: there the nearest frames without get theirs.
    Returns which curves were changed.
    """
    stretch = np.cumsum(curves.keyed, axis=1)[rows, times // 2]
    order = np.lexsort((-off, stretch, rows))
    rows, times, stretch = rows[order], times[order], stretch[order]
    worst = (np.diff(rows, prepend=-1) != 0) | (np.diff(stretch, prepend=-1) != 0)
    rows, times = rows[worst], times[worst]
    earlier, later = _nearest_without_key(curves.keyed)
    before, after = times // 2, (times + 1) // 2
    no_place = curves.keyed[rows, before] & curves.keyed[rows, after]
    add = np.concatenate(
        [
            np.stack([rows, np.where(curves.keyed[rows, before], after, before)])[:, ~no_place],
            np.stack([rows, earlier[rows, before]])[:, no_place],
            np.stack([rows, later[rows, after]])[:, no_place],
        ],
        axis=1,
    )
    row, frame = add[:, (add[1] >= 0) & (add[1] < curves.keyed.shape[1])]
    curves.keyed[row, frame] = True
    return np.unique(row)


def _nearest_without_key(keyed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, F) for each frame the last one up to it without a key, -1 = none, and the first one from it, F = none."""
    frames = np.arange(keyed.shape[1])
    earlier = np.maximum.accumulate(np.where(keyed, -1, frames), axis=1)
    later = np.minimum.accumulate(np.where(keyed, len(frames), frames)[:, ::-1], axis=1)[:, ::-1]
    return earlier, later


def _drop_spare_keys(curves: KeyedCurves, bounds: _Bounds, must_keep: np.ndarray) -> None:
    """Take away keys without which the bones hold as well: those that were added early may have lost their use."""
    rows = np.arange(len(must_keep))
    for number in range(_REMOVAL_PASSES):
        keyed = curves.keyed.copy()
        spare = keyed & ~must_keep
        # Not neighbours at once: each is judged with the keys next to it in place.
        dropped = spare & ((np.cumsum(spare, axis=1) + number) % 3 == 0)
        curves.keyed &= ~dropped
        curves.fit(rows)
        missed = curves.worst_of_stretch(bounds.own(curves, rows)) > 1
        curves.keyed |= dropped & missed[:, ::2]
        curves.fit(rows)
        _add_keys_until_bones_hold(curves, bounds, rows)
        no_fewer = curves.keyed.sum(axis=1) >= keyed.sum(axis=1)
        curves.keyed[no_fewer] = keyed[no_fewer]
        curves.fit(rows[no_fewer])


def evaluate(channel: SparseChannel, frames: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(A, C) what Blender's F-curves make of the keys at the places ``at`` (A,) of the timeline.

    frames: (F,) where the frames of the motion lie on it, as given to ``reduce_keys``
    """
    places = np.asarray(frames, dtype=float)[channel.keys]
    return hermite(places, channel.values, channel.slopes, np.asarray(at, dtype=float))


def largest_errors(
    rest: RestPose, motion: BoneMotion, frames: np.ndarray, channels: list[SparseChannel]
) -> tuple[float, float]:
    """How far the reduced motion is from the full one at most, at frames and half-way: (degrees of any bone's own turn,
    millimetres of any joint in the world)."""
    full = _FullMotion(rest, motion, frames)
    values = np.zeros_like(full.smooth)
    for row, channel in enumerate(channels):
        values[row, :, : channel.values.shape[1]] = evaluate(channel, frames, full.places)
    rotations, bones = np.arange(len(motion.keyed)), [*motion.keyed, *motion.moved]
    turns, joints = full.turns_of(values, rotations), full.joints(values, bones)
    angles_rad, distances = (
        np.minimum(*errors)
        for errors in zip(
            *(
                (
                    angle_between_rad(turns, full.turns_of(course, rotations)),
                    np.linalg.norm(joints - full.joints(course, bones), axis=-1),
                )
                for course in (full.straight, full.smooth)
            ),
            strict=True,
        )
    )
    return float(np.degrees(angles_rad.max())), float(distances.max() * rest.scale * 1000)


def share_of_keys(channels: list[SparseChannel], frames: np.ndarray) -> float:
    """Keys that are left, as a part of a key for every channel on every frame."""
    components = sum(channel.values.size for channel in channels)
    return components / sum(channel.values.shape[1] * len(frames) for channel in channels)
