"""Synthetic views: windows of motion on varied bodies, filmed by varied cameras, seen by an imperfect detector."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...core.detector_sites import detector_sites
from ...core.errors import FileFormatError
from ...core.lifter.ray_windows import MIRRORED_POINTS, box_of, normalise_windows
from ...core.skeletons import LANDMARKS_41
from ..motion.motion_set import MotionSet
from .body_variation import mix_arms, mix_bodies, reshape_bodies, turn_joints
from .detector_noise import NoiseSettings, observe

LIFTER_FPS = 30.0

_MIRROR = LANDMARKS_41.mirrored_order()


@dataclass(frozen=True)
class ViewSettings:
    """How bodies and cameras vary. Angles in degrees, lengths in metres; pairs are (low, high) or (mean, deviation)."""

    frames: int = 27
    output_frame: int = 13
    speed: tuple[float, float] = (0.6, 1.5)
    bone_deviation: float = 0.06
    height_deviation: float = 0.06
    mix_chance: float = 0.25
    arm_mix_chance: float = 0.0
    turn_chance: float = 0.0
    leg_turn_chance: float = 0.0
    pitch_deg: tuple[float, float] = (5.0, 15.0)
    steep_chance: float = 0.08
    roll_deg: float = 12.0
    any_roll_chance: float = 0.04
    distance_m: tuple[float, float] = (1.5, 9.0)
    field_of_view_deg: tuple[float, float] = (25.0, 90.0)
    focal_error: float = 0.13
    noise: NoiseSettings = field(default_factory=NoiseSettings)


@dataclass(frozen=True, eq=False)
class ViewBatch:
    """What the lifter sees and should answer.

    inputs:    (B, T, 22, 3) float32
    targets_m: (B, 41, 3) float32 landmarks of the output frame, pelvis at 0, in the lifter's axes
    contact:   (B, 4) float32, NaN where nobody knows
    up:        (B, 3) float32 against gravity, in the lifter's axes
    """

    inputs: np.ndarray
    targets_m: np.ndarray
    contact: np.ndarray
    up: np.ndarray

    def of(self, rows: np.ndarray | slice) -> ViewBatch:
        """Some of the windows."""
        return ViewBatch(self.inputs[rows], self.targets_m[rows], self.contact[rows], self.up[rows])

    def mirrored(self, rows: np.ndarray) -> ViewBatch:
        """The batch with those of its windows mirrored that ``rows`` (B,) names."""
        inputs, targets, contact, up = self.inputs.copy(), self.targets_m.copy(), self.contact.copy(), self.up.copy()
        inputs[rows] = inputs[rows][:, :, MIRRORED_POINTS] * np.array([-1, 1, 1], np.float32)
        targets[rows] = targets[rows][:, _MIRROR] * np.array([-1, 1, 1], np.float32)
        contact[rows] = contact[rows][:, [2, 3, 0, 1]]
        up[rows, 0] *= -1
        return ViewBatch(inputs, targets, contact, up)


class ViewMaker:
    """Makes batches of synthetic views; batch ``number`` of a ``seed`` is always the same, whatever came before."""

    def __init__(self, motion: MotionSet, settings: ViewSettings, seed: int) -> None:
        self.motion, self.settings, self.seed = motion, settings, seed
        # Motion is much repeated within a subject, so weight subjects and clips by the root of what they hold.
        lengths = motion.clip_lengths.astype(float)
        subject_frames = {name: lengths[motion.subject == name].sum() for name in np.unique(motion.subject)}
        weight = lengths / np.sqrt([subject_frames[name] for name in motion.subject])
        # A window at the fastest speed must fit.
        longest = (settings.frames - 1) * settings.speed[1] * motion.fps / LIFTER_FPS + 2
        weight[lengths < longest] = 0
        if not weight.any():
            raise FileFormatError(f"No clip of the motion is as long as a window of {settings.frames} frames.")
        self._clip_chance = weight / weight.sum()

    def _windows(self, rng: np.random.Generator, batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions (B, T, 41, 3) y up and contacts (B, 4) of windows at varied speed, not yet changed."""
        motion, settings = self.motion, self.settings
        clip = rng.choice(len(self._clip_chance), size=batch, p=self._clip_chance)
        step = rng.uniform(*settings.speed, batch) * motion.fps / LIFTER_FPS
        span = step * (settings.frames - 1)
        start = motion.clip_start[clip] + rng.random(batch) * (motion.clip_lengths[clip] - 1 - span)
        times = start[:, None] + step[:, None] * np.arange(settings.frames)
        low = np.floor(times).astype(np.int64)
        part = (times - low).astype(np.float32)[..., None, None]
        positions = motion.positions_m[low]
        positions += part * (motion.positions_m[low + 1] - positions)
        middle = np.round(times[:, settings.output_frame]).astype(np.int64)
        return positions, motion.contact[middle].astype(np.float32)

    def batch(self, number: int, size: int) -> ViewBatch:
        """Batch ``number`` with ``size`` windows."""
        settings = self.settings
        rng = np.random.default_rng((self.seed, number))
        positions, contact = self._windows(rng, size)
        mix_bodies(rng, positions, settings.output_frame, settings.mix_chance)
        mix_arms(rng, positions, settings.arm_mix_chance)
        contact[turn_joints(rng, positions, settings.turn_chance, settings.leg_turn_chance)] = np.nan
        reshape_bodies(rng, positions, settings.bone_deviation, settings.height_deviation)

        camera, up = self._film(rng, positions)
        sites = detector_sites(camera)
        depth = np.maximum(sites[..., 2:], 0.2)
        rays = sites[..., :2] / depth
        _, box = box_of(rays[:, settings.output_frame], np.ones(rays[:, 0].shape[:2], bool))
        behind_m = sites[..., 2] - sites[..., 2].mean(axis=2, keepdims=True)
        rays, confidence = observe(rng, rays, behind_m, box.astype(np.float32), settings.noise)
        # The lens is guessed, so the rays are wrong by a factor.
        rays *= np.exp(rng.normal(0, settings.focal_error, (size, 1, 1, 1))).astype(np.float32)
        inputs, camera_from_lifter = normalise_windows(rays, confidence, settings.output_frame)
        pose = camera[:, settings.output_frame]
        targets = (pose - pose[:, :1]) @ camera_from_lifter.astype(np.float32)
        up = np.einsum("bi,bij->bj", up, camera_from_lifter)
        views = ViewBatch(inputs, targets.astype(np.float32), contact, up.astype(np.float32))
        return views.mirrored(np.nonzero(rng.random(size) < 0.5)[0])

    def _film(self, rng: np.random.Generator, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(B, T, 41, 3) y-up positions into the space of one camera a window (x right, y down, z forward).

        Also (B, 3): which way is up there.
        """
        size, settings = len(positions), self.settings
        yaw = rng.uniform(-np.pi, np.pi, size)
        pitch = rng.normal(*settings.pitch_deg, size)
        steep = rng.random(size) < settings.steep_chance
        pitch = np.radians(np.where(steep, rng.uniform(-40, 70, size), pitch))
        roll = rng.normal(0, settings.roll_deg, size)
        roll = np.where(rng.random(size) < settings.any_roll_chance, rng.uniform(-180, 180, size), roll)
        roll = np.radians(roll)

        def about(axis: int, angle: np.ndarray) -> np.ndarray:
            m = np.zeros((size, 3, 3))
            i, j = (axis + 1) % 3, (axis + 2) % 3
            m[:, axis, axis] = 1
            m[:, i, i] = m[:, j, j] = np.cos(angle)
            m[:, i, j], m[:, j, i] = -np.sin(angle), np.sin(angle)
            return m

        # y up to y down is half a turn about x; positive pitch looks down.
        camera_from_body = about(2, roll) @ about(0, np.pi + pitch) @ about(1, yaw)
        relative = positions - positions[:, [settings.output_frame], :1]
        shape = relative.shape
        turn = np.swapaxes(camera_from_body, 1, 2).astype(np.float32)
        relative = np.matmul(relative.reshape(size, -1, 3), turn).reshape(shape)
        low, high = np.log(settings.distance_m)
        distance = np.exp(rng.uniform(low, high, size))
        half = np.tan(np.radians(rng.uniform(*settings.field_of_view_deg, size)) / 2)
        # Off the middle of the picture, but with most of the person in it.
        reach = np.maximum(half - 0.5 / distance, 0.05 * half)
        at = rng.uniform(-1, 1, (size, 2)) * reach[:, None] * np.array([1.0, 0.6])
        root = np.concatenate([at, np.ones((size, 1))], axis=1) * distance[:, None]
        # Nobody walks through the lens.
        nearest = (relative[..., 2].min(axis=(1, 2)) + root[:, 2]).astype(float)
        root *= np.maximum(1.0, (root[:, 2] + np.maximum(0.5 - nearest, 0)) / root[:, 2])[:, None]
        return relative + root[:, None, None].astype(np.float32), camera_from_body[:, :, 1]
